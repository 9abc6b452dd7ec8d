//! The whole half: the seam's local desk, replica, engine, reconciler, and the schema.

mod operator;

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use ::payments::{
    Desk, Engine, Home, Limits, Local, ReconcileConfig, ReconcileMetrics, Reconciler, Replicate, Stripe,
    StripeConfig, Work,
};
use chassis::health::Readiness;
use chassis::migrations::Migrations;
use chassis::{Reader, Tasks, Telemetry, never_fails};
use orders::Orders;
use outbox::{Metrics, Refill, Replica, Tracer, Wake, kafka};
use proto::PAYMENTS;
use sqlx::PgPool;
use strangler::{Domain, Owners, ReadMetrics, ReadSettings, Reads};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::operator::operate;
use crate::{
    AtSource, Config, Databases, MIGRATION, MovingPayments, PaymentsDomain, Pools, Remote, readiness,
};

/// How often gauges are read.
const OBSERVE_EVERY: Duration = Duration::from_secs(5);

/// What only this half is told.
#[derive(Debug, Clone)]
pub struct HalfConfig {
    /// `PROVIDER_*`.
    pub provider: StripeConfig,
    /// `RECONCILE_*`.
    pub reconcile: ReconcileConfig,
}

/// What its parts share.
pub(crate) struct Half {
    home: Home,
    counted: ::payments::Metrics,
    /// What the reads of this process know of the migration's policy, and have found.
    reads: Reads,
}

impl HalfConfig {
    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        let provider = StripeConfig::read(reader);
        let reconcile = ReconcileConfig::read(reader);
        Some(Self { provider: provider?, reconcile })
    }
}

impl Half {
    pub(crate) fn new(
        config: &Config,
        pools: &Pools,
        wake: &Wake,
        telemetry: &Telemetry,
    ) -> anyhow::Result<Self> {
        let counted = ::payments::Metrics::new(&telemetry.meter());
        let home = home(config, (&pools.payments, wake, &counted))?;
        let reads = reads(config, pools.payments.clone(), ReadMetrics::new(&telemetry.meter()));
        Ok(Self { home, counted, reads })
    }

    /// It fits every stage.
    pub(crate) fn may_start(&self, _: &CancellationToken) -> Ready<anyhow::Result<bool>> {
        ready(Ok(true))
    }

    /// Ready when its schema is exactly what this program was built for.
    pub(crate) fn readiness(&self, readiness: &Readiness) {
        if let Some(migrations) = schema() {
            readiness::database(readiness, "database.payments", migrations, &self.home.pool);
        }
    }

    /// Payments at whichever home.
    pub(crate) fn desk(&self, remote: Remote, orders: Orders, work: TaskTracker) -> Arc<dyn Desk> {
        let local = Arc::new(Local::new(self.home.clone(), work).metrics(self.counted.clone()));
        let owners = Owners::new(MIGRATION, self.home.pool.clone());
        Arc::new(MovingPayments::new(owners, local, Arc::new(remote), orders).reads(self.reads.clone()))
    }

    /// What the migration's controller asks.
    pub(crate) fn domain(&self, orders: Orders, pools: &Pools, work: TaskTracker) -> Arc<dyn Domain> {
        Arc::new(PaymentsDomain::new(
            orders,
            self.home.pool.clone(),
            pools.outbox.clone(),
            work,
            self.home.wake.clone(),
        ))
    }

    /// What runs beside the API.
    pub(crate) fn web(&self, tasks: &mut Tasks) {
        tasks.spawn("reads", never_fails(self.reads.clone().run(tasks.shutdown())));
    }

    /// What runs beside the modules' handlers. It works on this home's tables, so it ends when they are sealed; the process goes on.
    /// What the replica misses comes from `logs`.
    pub(crate) fn inbox(
        &self,
        config: &Config,
        logs: Arc<dyn Refill>,
        (telemetry, metrics, tracer): (&Telemetry, &Metrics, &Tracer),
        tasks: &mut Tasks,
    ) -> anyhow::Result<()> {
        let (shutdown, pool) = (tasks.shutdown(), &self.home.pool);
        let births = AtSource(Owners::new(MIGRATION, pool.clone()));
        let seal = births.0.seal();
        let replicate = Replicate::new(self.home.clone(), Arc::new(births)).metrics(self.counted.clone());
        let source = kafka::source(&config.kafka, "monolith.payments")?;
        let replica = Replica::new(pool.clone(), source, "monolith.payments", replicate)
            .refill(logs)
            .metrics(metrics.clone())
            .tracer(tracer.clone());
        let replica = |stop| replica.run(stop);
        tasks.spawn("payments replica", seal.clone().until_set(shutdown.clone(), "replica", replica));
        let engine = Engine::new(self.home.clone(), Limits::default());
        let engine = |stop| never_fails(engine.run(stop));
        tasks.spawn("payments engine", seal.clone().until_set(shutdown.clone(), "engine", engine));
        let (pool, counted) = (pool.clone(), self.counted.clone());
        let gauges = |stop| never_fails(::payments::observe(pool, counted, OBSERVE_EVERY, stop));
        tasks.spawn("payments gauges", seal.clone().until_set(shutdown.clone(), "gauges", gauges));
        let reconciler = Reconciler::new(self.home.clone(), config.half.reconcile.clone());
        let reconciler = reconciler.metrics(ReconcileMetrics::new(&telemetry.meter()));
        let reconciler = |stop| never_fails(reconciler.run(stop));
        tasks.spawn("payments reconciler", seal.until_set(shutdown, "reconciler", reconciler));
        Ok(())
    }
}

/// The source: payments inside this process.
fn home(
    config: &Config,
    (pool, wake, metrics): (&PgPool, &Wake, &::payments::Metrics),
) -> anyhow::Result<Home> {
    Ok(Home {
        name: "source",
        pool: pool.clone(),
        authority: Arc::new(AtSource(Owners::new(MIGRATION, pool.clone()))),
        provider: Arc::new(Stripe::new(config.half.provider.clone(), metrics.clone())?),
        wake: wake.clone(),
        work: Work::default(),
        crash: config.crash,
    })
}

/// Comparisons read here, too: they get a quarter of the connections, so that no caller waits for one.
fn reads(config: &Config, pool: PgPool, metrics: ReadMetrics) -> Reads {
    let settings = ReadSettings::default();
    let compared_max = usize::try_from(config.pool_max / 4).unwrap_or(1).clamp(1, settings.compared_max);
    // The controller counts what its own build has read.
    let version = chassis::VERSION.to_owned();
    Reads::new(MIGRATION, pool, ReadSettings { version, compared_max, ..settings }, metrics)
}

/// What this half adds to the schemas.
pub(crate) fn schema() -> Option<Migrations> {
    Some(Migrations::new("payments", &payments::MIGRATOR))
}

/// It fits every stage.
pub(crate) fn may_migrate(_: &PgPool) -> Ready<anyhow::Result<()>> {
    ready(Ok(()))
}

/// What the module's role may do.
pub(crate) async fn grant(admin: &PgPool, databases: &Databases) -> anyhow::Result<()> {
    let role = &databases.payments.username();
    payments::grant(admin, role).await?;
    outbox::grant_module(admin, role, "monolith.payments", &[PAYMENTS]).await?;
    outbox::grant_replica(admin, role).await?;
    strangler::grant_writer(admin, role).await?;
    strangler::grant_mover(admin, role).await?;
    strangler::grant_observer(admin, role).await?;
    // Last: in a migration that is sealed it takes back what was granted above.
    strangler::sealable(admin, MIGRATION, role, "payments").await?;
    if let Some(migrations) = schema() {
        migrations.readable_by(admin, role).await?;
    }
    Ok(())
}
