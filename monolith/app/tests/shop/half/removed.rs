//! Nothing: the source is sealed.

use std::future::{Ready, ready};
use std::sync::Arc;

use ::payments::Desk;
use app::{MIGRATION, Pools, ServicePayments};
use chassis::migrations::Migrations;
use orders::Orders;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio_util::task::TaskTracker;

static STRANGLER: Migrator = strangler::SOURCE_MIGRATOR;

pub(crate) struct Half;

impl Half {
    /// The epoch that a command carries to the service: it is not known here, and changes no more.
    pub(crate) const EPOCH: i64 = 0;

    /// A migration that was sealed by a program before this one; gates are the controller's matter.
    pub(crate) async fn prepare(admin: &PgPool) -> anyhow::Result<()> {
        Migrations::new("outbox", &outbox::MIGRATOR).apply(admin).await?;
        Migrations::new("strangler", &STRANGLER).apply(admin).await?;
        strangler::define(admin, MIGRATION).await?;
        sqlx::query("update strangler.migration set stage = 'sealed', revision = revision + 1")
            .execute(admin)
            .await?;
        Ok(())
    }

    pub(crate) fn new(_: &Pools) -> Self {
        Self
    }

    /// All births are the service's.
    pub(crate) fn births(&self, _: &PgPool, _: i16) -> Ready<anyhow::Result<()>> {
        ready(Ok(()))
    }

    pub(crate) fn desk(
        &self,
        _: &Pools,
        remote: Arc<dyn Desk>,
        (orders, _): (&Orders, &TaskTracker),
    ) -> Arc<dyn Desk> {
        Arc::new(ServicePayments::new(remote, orders.clone()))
    }
}
