//! Composition: which parts a process runs, what each gets, and how all end together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chassis::database::{PoolOptions, pool};
use chassis::health::Readiness;
use chassis::listening::Listening;
use chassis::telemetry::Requests;
use chassis::token::Verifier;
use chassis::{Shutdown, Tasks, Telemetry, VERSION, admin, never_fails, server};
use outbox::kafka::KafkaSink;
use outbox::retention::Housekeeping;
use outbox::{
    DatabaseRefill, InboxOptions, Metrics, RefillOptions, Relay, RelayOptions, Replica, Tracer, Wake, kafka,
};
use payments::shadow::Shadow;
use payments::{Engine, Home, Limits, Local, ReconcileMetrics, Reconciler, Replicate, Work};
use sqlx::PgPool;
use strangler::Target;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::evidence::Kept;
use crate::granting::Granting;
use crate::grpc::{self, Server};
use crate::migrate::ORIGIN;
use crate::movable::Payments;
use crate::provider::OnlyForOwn;
use crate::{AUDIENCE, AtTarget, Config, ISSUER, MIGRATION, Roles, readiness};

/// How often gauges are read.
const OBSERVE_EVERY: Duration = Duration::from_secs(5);
/// Housekeeping uses one connection at a time.
const HOUSEKEEPER_MAX: u32 = 1;
/// How long one statement of it may run: while a handler lacks an event, a whole day of the log is read before it is dropped.
const HOUSEKEEPER_TIMEOUT: Duration = Duration::from_secs(1800);

/// Runs the parts of `roles` until a signal, or until one of them ends.
///
/// # Errors
/// The first part that failed, or what could not be started or did not end in time.
pub async fn run(config: &Config, roles: Roles, telemetry: Telemetry) -> anyhow::Result<()> {
    let shutdown = Shutdown::listen(config.grace)?;
    let open = |url, part: &str, most| pool(url, &PoolOptions::new(format!("{ORIGIN}.{part}"), most));
    let module = open(&config.databases.payments, "payments", config.pool_max)?;
    let relay = open(&config.databases.outbox, "outbox", config.pool_max)?;
    let housekeeping = PoolOptions {
        statement_timeout: HOUSEKEEPER_TIMEOUT,
        ..PoolOptions::new(format!("{ORIGIN}.housekeeper"), HOUSEKEEPER_MAX)
    };
    let housekeeper = pool(&config.databases.housekeeper, &housekeeping)?;
    let wake = Wake::default();
    // Money transactions that outlive their request.
    let work = TaskTracker::new();
    let authority = Arc::new(AtTarget(strangler::Authority::new(MIGRATION)));
    let counted = payments::Metrics::new(&telemetry.meter());
    let home = home(config, (&module, &wake, &counted), authority.clone());
    let metrics = Metrics::new(&telemetry.meter());
    let tracer = telemetry.tracers().map_or_else(Tracer::noop, Tracer::new);
    let readiness = Readiness::new();
    readiness::databases(&readiness, &module, &relay);
    readiness::kafka(&readiness, Arc::new(kafka::sink(&config.kafka)?));

    let mut tasks = Tasks::new(shutdown.token());
    let mut listening = Listening::default();
    if roles.serve {
        let listener = listen("PAYMENTS_GRPC_LISTEN", config.grpc_listen).await?;
        listening = listening.at("grpc", listener.local_addr()?);
        let verifier = Verifier::new(ISSUER, AUDIENCE, &config.token_key);
        let target = target(&home, &authority).shown(&telemetry.meter());
        let desk = desk(&home, &target, (&work, &counted));
        let requests = telemetry.grpc();
        let evidence = kept(&relay, &module, &authority);
        let services = Services { desk, target, evidence, verifier, requests };
        services.serve(listener, readiness.clone(), &mut tasks).await?;
    }
    if roles.relay {
        let observe =
            outbox::metrics::observe(relay.clone(), metrics.clone(), OBSERVE_EVERY, shutdown.token());
        tasks.spawn("outbox gauges", never_fails(observe));
        let sending = send(config, (relay.clone(), housekeeper.clone()))?
            .woken_by(wake)
            .metrics(metrics.clone())
            .tracer(tracer.clone());
        if !roles.serve {
            readiness::relay(&readiness, sending.status());
        }
        tasks.spawn("relay", sending.run(shutdown.token()));
    }
    if roles.inbox {
        let shadow = shadow(&module, &mut tasks);
        let replicate = Replicate::new(home.clone(), authority).metrics(counted.clone()).shadow(shadow);
        let source = kafka::source(&config.kafka, ORIGIN)?;
        // What the topic has lost of this home's own events, it has itself; but not what the source wrote, so nothing is dropped for it.
        let log = Arc::new(DatabaseRefill(relay.clone()));
        let refill = RefillOptions { parked_per_key_max: None, ..RefillOptions::default() };
        let replica = Replica::new(module.clone(), source, ORIGIN, replicate).refill(log);
        let replica = replica.with(InboxOptions { refill, ..InboxOptions::default() });
        tasks.spawn("replica", replica.metrics(metrics).tracer(tracer).run(shutdown.token()));
        let reconciler = Reconciler::new(home.clone(), config.reconcile.clone());
        act(home, counted, &mut tasks);
        reconcile(reconciler, &telemetry, &mut tasks);
    }
    let listener = listen("PAYMENTS_ADMIN_LISTEN", config.admin_listen).await?;
    listening = listening.at("admin", listener.local_addr()?);
    let admin = admin::router(readiness, telemetry.routes());
    tasks.spawn("admin", server::serve(listener, admin, shutdown.token()));
    listening.announce()?;
    Ok(shutdown.run(ended(tasks, work, [module, relay, housekeeper])).await??)
}

/// Waits for the parts, then for transactions whose clients have gone, then for the connections.
async fn ended(mut tasks: Tasks, work: TaskTracker, pools: [PgPool; 3]) -> Result<(), chassis::tasks::Ended> {
    let ended = tasks.join().await;
    work.close();
    work.wait().await;
    for pool in pools {
        pool.close().await;
    }
    ended
}

/// A listener at the address of a setting.
async fn listen(setting: &str, at: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(at).await.with_context(|| format!("{setting}={at}"))
}

pub(crate) fn home(
    config: &Config,
    (pool, wake, metrics): (&PgPool, &Wake, &payments::Metrics),
    authority: Arc<AtTarget>,
) -> Home {
    let (pool, wake) = (pool.clone(), wake.clone());
    let (own, config_of) = (authority.0.clone(), config.provider.clone());
    let provider = Arc::new(OnlyForOwn::new(own, pool.clone(), config_of, metrics.clone()));
    let work = Work::default();
    Home { name: "target", pool, authority, provider, wake, work, crash: config.crash }
}

fn desk(home: &Home, target: &Target, (work, metrics): (&TaskTracker, &payments::Metrics)) -> Server {
    let local = Local::new(home.clone(), work.clone()).metrics(metrics.clone());
    Server::new(Arc::new(Granting::new(Arc::new(local), target.clone(), work.clone())))
}

/// What the migration's controller asks of this home's payments.
pub(crate) fn target(home: &Home, authority: &AtTarget) -> Target {
    let payments = Payments { pool: home.pool.clone(), wake: home.wake.clone() };
    Target::new(authority.0.clone(), Arc::new(payments))
}

fn kept(relay: &PgPool, module: &PgPool, authority: &AtTarget) -> Kept {
    Kept { relay: relay.clone(), module: module.clone(), authority: authority.0.clone() }
}

/// What the replica decides again, and the task that writes how that compares.
fn shadow(module: &PgPool, tasks: &mut Tasks) -> Shadow {
    let shadow = Shadow::new(VERSION);
    tasks.spawn("shadow", never_fails(shadow.clone().run(module.clone(), tasks.shutdown())));
    shadow
}

fn reconcile(reconciler: Reconciler, telemetry: &Telemetry, tasks: &mut Tasks) {
    let reconciler = reconciler.metrics(ReconcileMetrics::new(&telemetry.meter()));
    tasks.spawn("reconciler", never_fails(reconciler.run(tasks.shutdown())));
}

/// The engine, and the gauges of what it has before it.
fn act(home: Home, metrics: payments::Metrics, tasks: &mut Tasks) {
    let observe = payments::observe(home.pool.clone(), metrics, OBSERVE_EVERY, tasks.shutdown());
    tasks.spawn("payments gauges", never_fails(observe));
    tasks.spawn("engine", never_fails(Engine::new(home, Limits::default()).run(tasks.shutdown())));
}

/// The relay; `pools`: as itself, and as the owner of the logs.
fn send(config: &Config, pools: (PgPool, PgPool)) -> anyhow::Result<Relay<KafkaSink>> {
    let mut options = RelayOptions::default();
    if let Some(poll) = config.relay_poll {
        (options.poll_min, options.poll_max) = (poll, poll);
    }
    let relay = Relay::new(pools.0, kafka::sink(&config.kafka)?);
    Ok(relay.with(options).housekeeping(Housekeeping::new(pools.1)))
}

/// What is served over gRPC.
struct Services {
    desk: Server,
    target: Target,
    evidence: Kept,
    verifier: Verifier,
    requests: Requests,
}

impl Services {
    async fn serve(
        self,
        listener: TcpListener,
        readiness: Readiness,
        tasks: &mut Tasks,
    ) -> anyhow::Result<()> {
        let (health, probes) = tonic_health::server::health_reporter();
        // Nobody is told that it serves before the first report says so.
        readiness::say(&health, tonic_health::ServingStatus::NotServing).await;
        let control = (Arc::new(self.evidence), self.target);
        let services = grpc::services(self.desk, control, self.verifier, probes)?;
        tasks.spawn("health", never_fails(readiness::report(readiness, health, tasks.shutdown())));
        tasks.spawn("grpc", grpc::serve(listener, services, self.requests, tasks.shutdown()));
        Ok(())
    }
}
