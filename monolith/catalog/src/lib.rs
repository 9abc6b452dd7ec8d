//! What the shop sells: products and their prices, per tenant.
//!
//! Owns schema `catalog`. Other modules ask [`Catalog`], which has a pool of its own; their roles can't read its tables.

mod catalog;
mod error;
mod http;
mod product;
mod schema;
mod seed;
mod store;

pub use catalog::{BATCH_MAX, Catalog};
pub use error::Error;
pub use http::router;
pub use product::{Product, ProductId};
pub use schema::{grant, migrations};
pub use seed::seed;
