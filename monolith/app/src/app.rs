//! Composition: which parts a process runs, what each gets, and how all end together.

use std::sync::Arc;
use std::time::Duration;

use ::payments::{Crash, Desk, Point};
use anyhow::Context as _;
use catalog::Catalog;
use chassis::health::Readiness;
use chassis::listening::Listening;
use chassis::service_token::Bearer;
use chassis::token::{Issuer, Verifier};
use chassis::{Shutdown, Tasks, Telemetry, admin, never_fails, server};
use notifications::QueueReceipts;
use orders::{FollowPayment, Orders};
use outbox::retention::Housekeeping;
use outbox::{DatabaseRefill, Inbox, Metrics, Refill, Relay, RelayOptions, RelayStatus, Tracer, Wake, kafka};
use proto::homes::{ISSUER, MONOLITH, PAYMENTS_SERVICE};
use sqlx::PgPool;
use strangler::{Controller, FeedMetrics, Owners, Settings, control};
use tokio::net::TcpListener;
use tokio::sync::watch::Receiver;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};
use webhooks::{Dispatcher, Step, Watch};

use crate::half::Half;
use crate::refill::{Logs, ServiceLog};
use crate::{
    Config, DeliverNotices, MIGRATION, Pools, Remote, RequestPayments, Roles, Shop, controller, http, plan,
    readiness,
};

/// How long connecting to the payments service may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A service that is gone without a word is noticed after this pause ..
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// .. and this wait; then the next call connects anew.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often gauges are read.
const OBSERVE_EVERY: Duration = Duration::from_secs(5);

/// What every part may need, made once.
struct Parts {
    pools: Pools,
    /// Money transactions that outlive their request.
    work: TaskTracker,
    half: Half,
    crash: Crash,
    orders: Orders,
    channel: Channel,
    bearer: Bearer,
    verifier: Verifier,
    telemetry: Telemetry,
    metrics: Metrics,
    notices: webhooks::Metrics,
    tracer: Tracer,
    /// Of the relay in this process, if there is one: who commits an event that others wait for, wakes it.
    wake: Wake,
}

/// Runs the parts of `roles` until a signal, or until one of them ends.
///
/// # Errors
/// The first part that failed, or what could not be started or did not end in time.
pub async fn run(config: &Config, roles: Roles, telemetry: Telemetry) -> anyhow::Result<()> {
    let shutdown = Shutdown::listen(config.grace)?;
    let parts = Parts::make(config, telemetry)?;
    if !parts.half.may_start(&shutdown.token()).await? {
        return Ok(shutdown.run(parts.finish()).await?);
    }
    let mut tasks = Tasks::new(shutdown.token());
    let readiness = Readiness::new();
    readiness::databases(&readiness, &parts.pools);
    parts.half.readiness(&readiness);
    let mut listening = Listening::default();
    let mut admin_routes = parts.telemetry.routes();
    if roles.web {
        let listener = TcpListener::bind(config.http_listen).await.context("MONOLITH_HTTP_LISTEN")?;
        listening = listening.at("http", listener.local_addr()?);
        parts.web(config, listener, &mut tasks);
    }
    if roles.relay {
        let status = parts.relay(config, &mut tasks)?;
        if !roles.web {
            readiness::relay(&readiness, status);
        }
    }
    if roles.inbox {
        parts.inbox(config, &mut tasks)?;
        parts.dispatcher(config, &mut tasks);
    }
    if roles.controller {
        admin_routes = admin_routes.merge(parts.controller(config, &mut tasks)?);
    }
    // A process with the API serves while Kafka is away; one without it has nothing else to do.
    if !roles.web && (roles.relay || roles.inbox) {
        readiness::kafka(&readiness, Arc::new(kafka::sink(&config.kafka)?));
    }
    let listener = TcpListener::bind(config.admin_listen).await.context("MONOLITH_ADMIN_LISTEN")?;
    listening = listening.at("admin", listener.local_addr()?);
    tasks.spawn("admin", server::serve(listener, admin::router(readiness, admin_routes), shutdown.token()));
    listening.announce()?;
    let ended = async {
        let ended = tasks.join().await;
        parts.finish().await;
        ended
    };
    Ok(shutdown.run(ended).await??)
}

impl Parts {
    fn make(config: &Config, telemetry: Telemetry) -> anyhow::Result<Self> {
        let pools = Pools::open(&config.databases, config.pool_max)?;
        let work = TaskTracker::new();
        let requests = RequestPayments::new(Owners::new(MIGRATION, pools.orders.clone()));
        let catalog = Catalog::new(pools.catalog.clone());
        let wake = Wake::default();
        let orders = Orders::new(pools.orders.clone(), catalog, Arc::new(requests), work.clone());
        let half = Half::new(config, &pools, &wake, &telemetry)?;
        let service = Endpoint::from_shared(config.service.url.expose().to_owned())?;
        Ok(Self {
            pools,
            work,
            half,
            crash: config.crash,
            orders: orders.wakes(wake.clone()),
            wake,
            channel: service
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .connect_lazy(),
            bearer: Bearer::new(Issuer::new(ISSUER, &config.token_key), MONOLITH, PAYMENTS_SERVICE),
            verifier: Verifier::new(ISSUER, MONOLITH, &config.token_key),
            metrics: Metrics::new(&telemetry.meter()),
            notices: webhooks::Metrics::new(&telemetry.meter()),
            tracer: telemetry.tracers().map_or_else(Tracer::noop, Tracer::new),
            telemetry,
        })
    }

    /// The gauges are read beside the relay: it has the right, and one reader is enough.
    fn relay(&self, config: &Config, tasks: &mut Tasks) -> anyhow::Result<Receiver<RelayStatus>> {
        let mut options = RelayOptions::default();
        if let Some(poll) = config.relay_poll {
            (options.poll_min, options.poll_max) = (poll, poll);
        }
        let relay = Relay::new(self.pools.outbox.clone(), kafka::sink(&config.kafka)?)
            .with(options)
            .housekeeping(Housekeeping::new(self.pools.housekeeper.clone()))
            .woken_by(self.wake.clone())
            .metrics(self.metrics.clone())
            .tracer(self.tracer.clone());
        let status = relay.status();
        tasks.spawn("relay", relay.run(tasks.shutdown()));
        let pool = self.pools.outbox.clone();
        let observe = outbox::metrics::observe(pool, self.metrics.clone(), OBSERVE_EVERY, tasks.shutdown());
        tasks.spawn("outbox gauges", never_fails(observe));
        Ok(status)
    }

    /// Payments, wherever they are.
    fn payments(&self) -> Arc<dyn Desk> {
        let remote = Remote::new(self.channel.clone(), self.bearer.clone());
        self.half.desk(remote, self.orders.clone(), self.work.clone())
    }

    fn web(&self, config: &Config, listener: TcpListener, tasks: &mut Tasks) {
        let keys = config.webhooks.keys.clone();
        let receiver = webhooks::Receiver::new(self.pools.webhooks.clone(), keys, self.notices.clone());
        let shop = Shop {
            catalog: Catalog::new(self.pools.catalog.clone()),
            orders: self.orders.clone(),
            payments: self.payments(),
            webhooks: receiver.watched(self.watch()),
        };
        let router = http::router(shop, self.verifier.clone()).layer(self.telemetry.http());
        tasks.spawn("web", server::serve(listener, router, tasks.shutdown()));
        self.half.web(tasks);
    }

    /// One consumer group per module, so that none waits for another.
    fn inbox(&self, config: &Config, tasks: &mut Tasks) -> anyhow::Result<()> {
        let kafka = &config.kafka;
        let inbox = |pool: &PgPool, group: &str| -> anyhow::Result<_> {
            let inbox = Inbox::new(pool.clone(), kafka::source(kafka, group)?).refill(self.logs());
            Ok(inbox.metrics(self.metrics.clone()).tracer(self.tracer.clone()))
        };
        let orders = inbox(&self.pools.orders, "monolith.orders")?.register(FollowPayment);
        tasks.spawn("orders", orders.run(tasks.shutdown()));
        let receipts = inbox(&self.pools.notifications, "monolith.receipts")?.register(QueueReceipts);
        tasks.spawn("notifications", receipts.run(tasks.shutdown()));
        self.half.inbox(config, self.logs(), (&self.telemetry, &self.metrics, &self.tracer), tasks)
    }

    /// What both homes have published: each consumer here reads the stream of payments, to which both write.
    fn logs(&self) -> Arc<dyn Refill> {
        let service = ServiceLog::new(control::Client::new(self.channel.clone(), self.bearer.clone()));
        Arc::new(Logs { here: DatabaseRefill(self.pools.outbox.clone()), there: service })
    }

    /// Gives webhooks to the owners of their payments.
    fn dispatcher(&self, config: &Config, tasks: &mut Tasks) {
        let payments = Arc::new(DeliverNotices(self.payments()));
        let options = webhooks::Options {
            unplaced_after: config.webhooks.unplaced_after,
            ..webhooks::Options::default()
        };
        let dispatcher = Dispatcher::new(self.pools.webhooks.clone(), payments, self.notices.clone());
        let dispatcher = dispatcher.with(options).watched(self.watch());
        tasks.spawn("webhooks", never_fails(dispatcher.run(tasks.shutdown())));
    }

    /// The crash points of webhooks.
    fn watch(&self) -> Watch {
        let crash = self.crash;
        Watch::new(move |step| {
            crash.point(match step {
                Step::Stored => Point::WebhookStored,
                Step::Delivered => Point::WebhookDelivered,
                Step::Marked => Point::WebhookMarked,
            });
        })
    }

    fn controller(&self, config: &Config, tasks: &mut Tasks) -> anyhow::Result<axum::Router> {
        let domain = self.half.domain(self.orders.clone(), &self.pools, self.work.clone());
        let peer = Arc::new(control::Client::new(self.channel.clone(), self.bearer.clone()));
        let settings = Settings {
            plan: config.plan.as_deref().map(plan::read).transpose()?.map(Arc::new),
            version: chassis::VERSION.to_owned(),
            crash: config.controller_crash,
            metrics: FeedMetrics::new(&self.telemetry.meter()),
            ..Settings::default()
        };
        let controller = Controller::with(MIGRATION, self.pools.strangler.clone(), domain, peer, settings);
        tasks.spawn("controller", never_fails(controller.clone().run(tasks.shutdown())));
        Ok(controller::routes(controller, self.verifier.clone()))
    }

    /// Waits for transactions whose clients have gone, then for the connections.
    async fn finish(&self) {
        self.work.close();
        self.work.wait().await;
        self.pools.close().await;
    }
}
