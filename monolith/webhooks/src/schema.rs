//! The schema and who may use it.

use chassis::migrations::Migrations;
use sqlx::PgPool;
use sqlx::migrate::Migrator;

use crate::store;

static MIGRATOR: Migrator = sqlx::migrate!();

/// The migrations of schema `webhooks`.
pub fn migrations() -> Migrations {
    Migrations::new("webhooks", &MIGRATOR)
}

/// Lets a login role work as this module: its own table, and the bookkeeping to read. Run it as the database's owner after
/// the migrations.
///
/// # Errors
/// When the role or the schema is missing.
pub async fn grant(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    migrations().readable_by(admin, role).await?;
    store::grant_tables(admin, role).await
}
