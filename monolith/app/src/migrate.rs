//! Schemas, login roles and their rights, topics.

use anyhow::Context as _;
use chassis::Url;
use chassis::database::{PoolOptions, pool};
use chassis::migrations::{Migrations, exclusively};
use chassis::role::{ensure_member, ensure_role};
use outbox::Topic;
use outbox::kafka::create_topics;
use proto::homes::PARTITIONS;
use proto::{ORDERS, PAYMENTS};
use sqlx::PgPool;
use sqlx::migrate::Migrator;

use crate::{Databases, MIGRATION, MigrateConfig, half};

static STRANGLER: Migrator = strangler::SOURCE_MIGRATOR;

/// The schemas of this database that are there with and without the half of payments, in the order in which they are made.
pub(crate) fn schemas() -> [Migrations; 6] {
    [
        Migrations::new("outbox", &outbox::MIGRATOR),
        Migrations::new("strangler", &STRANGLER),
        catalog::migrations(),
        orders::migrations(),
        notifications::migrations(),
        webhooks::migrations(),
    ]
}

/// Brings everything up to date, and gives the tenants in `seed` the demo products. May be repeated, and run
/// twice at once.
///
/// # Errors
/// What can't be made, and why. What was made before stays.
pub async fn migrate(config: &MigrateConfig, seed: &[String]) -> anyhow::Result<()> {
    let admin = pool(&config.admin, &PoolOptions::new("monolith.migrate", 2))?;
    exclusively(&admin, Box::pin(database(&admin, &config.databases, seed))).await??;
    admin.close().await;
    create_topics(&config.kafka, &[ORDERS, PAYMENTS], PARTITIONS)
        .await
        .context("the topics could not be made")?;
    tracing::info!("schemas, roles and topics are up to date");
    Ok(())
}

async fn database(admin: &PgPool, databases: &Databases, seed: &[String]) -> anyhow::Result<()> {
    half::may_migrate(admin).await?;
    for schema in schemas().into_iter().chain(half::schema()) {
        schema.apply(admin).await?;
    }
    // The log's days too: nobody may have looked after them for weeks.
    outbox::migrate(admin).await?;
    strangler::define(admin, MIGRATION).await?;
    for url in databases.urls() {
        ensure_role(admin, url).await?;
    }
    grant(admin, databases).await?;
    for tenant in seed {
        catalog::seed(admin, tenant).await.with_context(|| format!("tenant {tenant} got no products"))?;
    }
    Ok(())
}

/// A module's role may use its own tables and call the functions named here; nothing else.
async fn grant(admin: &PgPool, databases: &Databases) -> anyhow::Result<()> {
    let Databases { catalog, orders, notifications, outbox, housekeeper, strangler, webhooks, .. } =
        databases;
    let [catalog, orders, notifications, relay, housekeeper, controller, webhooks] =
        [catalog, orders, notifications, outbox, housekeeper, strangler, webhooks].map(Url::username);
    catalog::grant(admin, &catalog).await?;
    orders::grant(admin, &orders).await?;
    notifications::grant(admin, &notifications).await?;
    webhooks::grant(admin, &webhooks).await?;
    // The order's transaction opens the payment's stream, so orders publish to both.
    let publishers: [(&String, &str, &[Topic]); 3] = [
        (&catalog, "monolith.catalog", &[]),
        (&orders, "monolith.orders", &[ORDERS, PAYMENTS]),
        (&notifications, "monolith.notifications", &[]),
    ];
    for (role, origin, topics) in publishers {
        outbox::grant_module(admin, role, origin, topics).await?;
    }
    outbox::grant_relay(admin, &relay).await?;
    outbox::grant_refill(admin, &relay).await?;
    ensure_member(admin, &housekeeper).await?;
    outbox::grant_housekeeper(admin, &housekeeper).await?;
    strangler::grant_assigner(admin, &orders).await?;
    strangler::grant_controller(admin, &controller).await?;
    readable(admin, &[("outbox", &relay), ("strangler", &controller)]).await?;
    half::grant(admin, databases).await
}

/// The bookkeeping of these schemas, for readiness; the others' `grant` includes it.
async fn readable(admin: &PgPool, roles: &[(&str, &String)]) -> anyhow::Result<()> {
    for schema in schemas() {
        for (_, role) in roles.iter().filter(|(name, _)| *name == schema.schema()) {
            schema.readable_by(admin, role).await?;
        }
    }
    Ok(())
}
