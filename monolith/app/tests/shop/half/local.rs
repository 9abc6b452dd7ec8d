//! A home, with a provider in memory.

use std::future::{Ready, ready};
use std::sync::Arc;

use ::payments::provider::Memory;
use ::payments::{Crash, Desk, Home, Local, Work};
use app::{AtSource, MIGRATION, MovingPayments, Pools};
use orders::Orders;
use outbox::Wake;
use sqlx::PgPool;
use strangler::{Owners, ReadMetrics, ReadSettings, Reads};
use tokio_util::task::TaskTracker;

/// What the desk of both homes is made with.
pub(crate) struct Half {
    /// What reads know of the policy, once a test has let them look.
    pub(crate) reads: Reads,
}

impl Half {
    /// The epoch that a command carries to the service: the owner's.
    pub(crate) const EPOCH: i64 = 1;

    /// An empty database will do.
    pub(crate) fn prepare(_: &PgPool) -> Ready<anyhow::Result<()>> {
        ready(Ok(()))
    }

    pub(crate) fn new(pools: &Pools) -> Self {
        let settings = ReadSettings::default();
        Self { reads: Reads::new(MIGRATION, pools.payments.clone(), settings, ReadMetrics::noop()) }
    }

    /// Sets where new payments are born; gates are the controller's matter.
    pub(crate) async fn births(&self, admin: &PgPool, percent: i16) -> anyhow::Result<()> {
        let sql = "update strangler.migration set stage = 'ramping', percent = $1, revision = revision + 1";
        sqlx::query(sql).bind(percent).execute(admin).await?;
        Ok(())
    }

    pub(crate) fn desk(
        &self,
        pools: &Pools,
        remote: Arc<dyn Desk>,
        (orders, tasks): (&Orders, &TaskTracker),
    ) -> Arc<dyn Desk> {
        let owners = Owners::new(MIGRATION, pools.payments.clone());
        let home = Home {
            name: "source",
            pool: pools.payments.clone(),
            authority: Arc::new(AtSource(owners.clone())),
            provider: Arc::new(Memory::default()),
            wake: Wake::default(),
            work: Work::default(),
            crash: Crash::none(),
        };
        let local = Arc::new(Local::new(home, tasks.clone()));
        let payments = MovingPayments::new(owners, local, remote, orders.clone());
        Arc::new(payments.reads(self.reads.clone()))
    }
}
