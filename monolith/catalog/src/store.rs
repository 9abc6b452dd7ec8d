//! The SQL of schema `catalog`.

use chassis::Page;
use chassis::role::quoted;
use proto::Money;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::{Error, Product, ProductId};

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    sku: String,
    name: String,
    price_minor: i64,
    currency: String,
}

impl TryFrom<Row> for Product {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let price = Money::new(row.price_minor, row.currency.parse()?);
        Ok(Self { id: ProductId::from_uuid(row.id), sku: row.sku, name: row.name, price })
    }
}

pub(crate) async fn find_all(pool: &PgPool, tenant: &str, ids: &[ProductId]) -> Result<Vec<Product>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows: Vec<Row> = sqlx::query_as(
        "select id, sku, name, price_minor, currency from catalog.product where tenant = $1 and id = any($2)",
    )
    .bind(tenant)
    .bind(ids)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Product::try_from).collect()
}

pub(crate) async fn list(pool: &PgPool, tenant: &str, page: Page<ProductId>) -> Result<Vec<Product>, Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, sku, name, price_minor, currency from catalog.product
         where tenant = $1 and ($2::uuid is null or id > $2) order by id limit $3",
    )
    .bind(tenant)
    .bind(page.after.map(ProductId::uuid))
    .bind(page.limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Product::try_from).collect()
}

/// Adds a product, or does nothing when the tenant has one with this id or sku.
pub(crate) async fn insert(pool: &PgPool, tenant: &str, product: &Product) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into catalog.product (id, tenant, sku, name, price_minor, currency) values ($1, $2, $3, $4, $5, $6)
         on conflict do nothing",
    )
    .bind(product.id.uuid())
    .bind(tenant)
    .bind(&product.sku)
    .bind(&product.name)
    .bind(product.price.minor)
    .bind(product.price.currency.code())
    .execute(pool)
    .await
    .map(drop)
}

pub(crate) async fn grant_tables(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    let sql = format!("grant select, insert, update, delete on catalog.product to {}", quoted(role));
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.map(drop)
}
