//! Products to try the shop with.

use proto::{Currency, Money};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{Error, Product, ProductId, store};

/// sku, name, price in minor units, currency.
const PRODUCTS: [(&str, &str, i64, &str); 6] = [
    ("tea-100", "Oolong tea, 100 g", 1_290, "EUR"),
    ("pot-1", "Tea pot, 1 l", 4_900, "EUR"),
    ("cup-2", "Two cups", 2_350, "EUR"),
    ("book-1", "The book of tea", 1_800, "EUR"),
    ("tray-1", "Bamboo tray", 3_575, "USD"),
    ("whisk-1", "Matcha whisk", 2_200, "JPY"),
];

/// Gives a tenant the demo products. Their ids follow from tenant and sku (a version 5 UUID), so that every run and every
/// database has the same ones; what is there already stays as it is.
///
/// # Errors
/// [`Error::Database`].
pub async fn seed(pool: &PgPool, tenant: &str) -> Result<(), Error> {
    for (sku, name, minor, currency) in PRODUCTS {
        let price = Money::new(minor, currency.parse::<Currency>()?);
        let product = Product { id: id(tenant, sku), sku: sku.to_owned(), name: name.to_owned(), price };
        store::insert(pool, tenant, &product).await?;
    }
    Ok(())
}

fn id(tenant: &str, sku: &str) -> ProductId {
    // The line break keeps ("a", "bc") and ("ab", "c") apart; no tenant has one.
    ProductId::from_uuid(Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{tenant}\n{sku}").as_bytes()))
}
