//! Schemas, login roles and their rights, the topic.

use anyhow::Context as _;
use chassis::database::{PoolOptions, pool};
use chassis::migrations::{Migrations, exclusively};
use chassis::role::{ensure_member, ensure_role};
use outbox::kafka::create_topics;
use proto::PAYMENTS;
use proto::homes::PARTITIONS;
use sqlx::PgPool;
use sqlx::migrate::Migrator;

use crate::{Databases, MigrateConfig};

/// The origin of what this home publishes, and the module whose events its replica does not apply.
pub(crate) const ORIGIN: &str = "payments-service";

static STRANGLER: Migrator = strangler::TARGET_MIGRATOR;

/// All schemas of this database, in the order in which they are made.
pub(crate) fn schemas() -> [Migrations; 3] {
    [
        Migrations::new("outbox", &outbox::MIGRATOR),
        Migrations::new("strangler", &STRANGLER),
        Migrations::new("payments", &payments::MIGRATOR),
    ]
}

/// Brings everything up to date. May be repeated, and run twice at once.
///
/// # Errors
/// What can't be made, and why. What was made before stays.
pub async fn migrate(config: &MigrateConfig) -> anyhow::Result<()> {
    let admin = pool(&config.admin, &PoolOptions::new("payments-service.migrate", 2))?;
    exclusively(&admin, database(&admin, &config.databases)).await??;
    admin.close().await;
    create_topics(&config.kafka, &[PAYMENTS], PARTITIONS).await.context("the topic could not be made")?;
    tracing::info!("schemas, roles and the topic are up to date");
    Ok(())
}

pub(crate) async fn database(admin: &PgPool, databases: &Databases) -> anyhow::Result<()> {
    for schema in schemas() {
        schema.apply(admin).await?;
    }
    // The log's days too: nobody may have looked after them for weeks.
    outbox::migrate(admin).await?;
    for url in [&databases.payments, &databases.outbox, &databases.housekeeper] {
        ensure_role(admin, url).await?;
    }
    grant(admin, databases).await
}

/// The module's role may use its own tables and call the functions of the others; the relay's works on the queue, and
/// gives from the log what the source misses.
async fn grant(admin: &PgPool, databases: &Databases) -> anyhow::Result<()> {
    let (module, relay) = (databases.payments.username(), databases.outbox.username());
    let housekeeper = databases.housekeeper.username();
    payments::grant(admin, &module).await?;
    outbox::grant_module(admin, &module, ORIGIN, &[PAYMENTS]).await?;
    outbox::grant_replica(admin, &module).await?;
    strangler::grant_home(admin, &module).await?;
    outbox::grant_relay(admin, &relay).await?;
    outbox::grant_refill(admin, &relay).await?;
    ensure_member(admin, &housekeeper).await?;
    outbox::grant_housekeeper(admin, &housekeeper).await?;
    for schema in schemas() {
        let reader = if schema.schema() == "outbox" { &relay } else { &module };
        schema.readable_by(admin, reader).await?;
    }
    Ok(())
}
