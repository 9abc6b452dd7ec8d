//! No half any more: the source is sealed, and the service owns every payment.

use std::future::{Ready, ready};
use std::sync::Arc;

use ::payments::Desk;
use anyhow::{Context as _, ensure};
use chassis::health::Readiness;
use chassis::migrations::Migrations;
use chassis::{Reader, Tasks, Telemetry};
use orders::Orders;
use outbox::{Metrics, Refill, Tracer, Wake};
use sqlx::PgPool;
use strangler::{Domain, Seal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Config, Databases, MIGRATION, Pools, Remote, RetiredDomain, ServicePayments};

/// Why this program does nothing before.
const TOO_EARLY: &str = "this program was built without its half of payments, and the migration is not sealed: go on with the one \
                         that has it, until `banyan advance --to sealed` is done";

/// What only this half is told: nothing.
#[derive(Debug, Clone)]
pub struct HalfConfig;

/// What remains.
pub(crate) struct Half(Seal);

impl HalfConfig {
    pub(crate) fn read(_: &mut Reader) -> Option<Self> {
        Some(Self)
    }
}

impl Half {
    pub(crate) fn new(_: &Config, pools: &Pools, _: &Wake, _: &Telemetry) -> anyhow::Result<Self> {
        Ok(Self(Seal::new(MIGRATION, pools.strangler.clone())))
    }

    /// Not before the source is sealed: a payment that is the source's would find no engine here, and the controller's lease would be
    /// kept from a program that can use it. While nobody can tell, nothing of this process runs. False when the shutdown comes first.
    pub(crate) async fn may_start(&self, shutdown: &CancellationToken) -> anyhow::Result<bool> {
        let Some(sealed) = self.0.told(shutdown).await else { return Ok(false) };
        ensure!(sealed, TOO_EARLY);
        Ok(true)
    }

    /// It has started, so the source is sealed, and nothing leads back from that.
    pub(crate) fn readiness(&self, _: &Readiness) {}

    /// Payments at the service.
    pub(crate) fn desk(&self, remote: Remote, orders: Orders, _: TaskTracker) -> Arc<dyn Desk> {
        Arc::new(ServicePayments::new(Arc::new(remote), orders))
    }

    /// What the migration's controller asks.
    pub(crate) fn domain(&self, orders: Orders, _: &Pools, _: TaskTracker) -> Arc<dyn Domain> {
        Arc::new(RetiredDomain::new(orders))
    }

    /// Nothing runs beside the API.
    pub(crate) fn web(&self, _: &mut Tasks) {}

    /// Nothing runs beside the modules' handlers.
    pub(crate) fn inbox(
        &self,
        _: &Config,
        _: Arc<dyn Refill>,
        _: (&Telemetry, &Metrics, &Tracer),
        _: &mut Tasks,
    ) -> anyhow::Result<()> {
        Ok(())
    }
}

/// It has none: what is left of it is `removed`'s to allow, and an administrator's to drop.
pub(crate) fn schema() -> Option<Migrations> {
    None
}

/// Not before the source is sealed. Asked before anything is changed, so a database without a migration is refused, too.
pub(crate) async fn may_migrate(admin: &PgPool) -> anyhow::Result<()> {
    let sealed = Seal::new(MIGRATION, admin.clone()).is_set().await.context(TOO_EARLY)?;
    ensure!(sealed, TOO_EARLY);
    Ok(())
}

/// There is no role of it to grant anything.
pub(crate) fn grant(_: &PgPool, _: &Databases) -> Ready<anyhow::Result<()>> {
    ready(Ok(()))
}
