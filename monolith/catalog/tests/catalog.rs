//! The catalog against PostgreSQL, under its own role.

use std::collections::HashSet;

use catalog::{Catalog, ProductId};
use chassis::database::{PoolOptions, pool};
use chassis::role::ensure_role;
use chassis::{Page, Url};
use sqlx::PgPool;

#[tokio::test]
async fn a_tenant_sees_its_own_products_only() -> anyhow::Result<()> {
    let (database, admin) = fresh().await?;
    let catalog = Catalog::new(module_pool(&database, &admin).await?);
    catalog::seed(&admin, "acme").await?;
    catalog::seed(&admin, "acme").await?;
    catalog::seed(&admin, "globex").await?;

    let ours = catalog.list("acme", Page { limit: 200, after: None }).await?;
    assert_eq!(ours.len(), 6, "seeding twice adds nothing");
    let theirs: Vec<ProductId> =
        catalog.list("globex", Page { limit: 200, after: None }).await?.into_iter().map(|p| p.id).collect();
    assert!(catalog.find("acme", &theirs).await?.is_empty());
    let ids: Vec<ProductId> = ours.iter().map(|product| product.id).collect();
    assert_eq!(catalog.find("acme", &ids).await?.len(), 6);

    admin.close().await;
    Ok(database.drop_now().await?)
}

#[tokio::test]
async fn pages_leave_no_product_out() -> anyhow::Result<()> {
    let (database, admin) = fresh().await?;
    let catalog = Catalog::new(module_pool(&database, &admin).await?);
    catalog::seed(&admin, "acme").await?;

    let mut seen = HashSet::new();
    let mut page = Page { limit: 4, after: None };
    for _ in 0..2 {
        let products = catalog.list("acme", page).await?;
        seen.extend(products.iter().map(|product| product.id));
        page.after = page.next(&products, |product| product.id);
    }
    assert_eq!((seen.len(), page.after), (6, None));

    admin.close().await;
    Ok(database.drop_now().await?)
}

async fn fresh() -> anyhow::Result<(stack::Database, PgPool)> {
    let database = stack::shared().await?.database("catalog").await?;
    let admin = PgPool::connect(database.url()).await?;
    catalog::migrations().apply(&admin).await?;
    Ok((database, admin))
}

async fn module_pool(database: &stack::Database, admin: &PgPool) -> anyhow::Result<PgPool> {
    let role = format!("{}_catalog", database.name());
    let authority = database.url().split_once('@').map(|(_, rest)| rest).unwrap_or_default();
    let url: Url = format!("postgres://{role}:secret@{authority}").parse()?;
    ensure_role(admin, &url).await?;
    catalog::grant(admin, &role).await?;
    Ok(pool(&url, &PoolOptions::new("catalog", 2))?)
}
