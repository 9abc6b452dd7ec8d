//! What other modules ask of the catalog.

use std::collections::HashMap;

use chassis::Page;
use sqlx::PgPool;

use crate::{Error, Product, ProductId, store};

/// The most products that one call looks up.
pub const BATCH_MAX: usize = 100;

/// The catalog, over a pool of its own role. Clones share the pool.
#[derive(Debug, Clone)]
pub struct Catalog {
    pool: PgPool,
}

impl Catalog {
    /// A catalog over the pool of its role.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The tenant's products with these ids and their prices now. Unknown ids, and those of another tenant, are left out.
    ///
    /// # Errors
    /// [`Error::TooMany`] above [`BATCH_MAX`], [`Error::Database`].
    pub async fn find(&self, tenant: &str, ids: &[ProductId]) -> Result<HashMap<ProductId, Product>, Error> {
        if ids.len() > BATCH_MAX {
            return Err(Error::TooMany(ids.len()));
        }
        let products = store::find_all(&self.pool, tenant, ids).await?;
        Ok(products.into_iter().map(|product| (product.id, product)).collect())
    }

    /// A page of the tenant's products, ordered by id.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn list(&self, tenant: &str, page: Page<ProductId>) -> Result<Vec<Product>, Error> {
        store::list(&self.pool, tenant, page).await
    }
}
