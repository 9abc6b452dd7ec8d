//! Stories over real gRPC and a real PostgreSQL, with a provider in memory.

mod amounts;
mod commands;
mod copies;
mod decisions;
mod edge;
mod heartbeats;
mod moving;
mod notices;
mod refill;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use chassis::service_token::{Bearer, set_tenant};
use chassis::token::{Issuer, Verifier};
use chassis::{Secret, Url, database};
use outbox::{Meta, Received, StateTransfer as _, Wake};
use payments::provider::Memory;
use payments::{Crash, Engine, Home, Limits, Local, Replicate, Work};
use proto::payments as v1;
use proto::payments::payments_service_client::PaymentsServiceClient;
use proto::{PAYMENTS, PaymentId, PaymentStream, events};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::app::target;
use crate::evidence::Kept;
use crate::granting::Granting;
use crate::{AUDIENCE, AtTarget, Databases, ISSUER, MIGRATION, Server, grpc, migrate};

/// A bound for everything that a story waits for.
const SOON: Duration = Duration::from_secs(20);

type Client = PaymentsServiceClient<InterceptedService<Channel, Bearer>>;

/// A service that listens.
struct World {
    database: stack::Database,
    admin: sqlx::PgPool,
    home: Home,
    authority: Arc<AtTarget>,
    provider: Arc<Memory>,
    channel: Channel,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

fn key() -> Secret {
    Secret::new("a key of thirty-two bytes at least")
}

fn bearer(audience: &str) -> Bearer {
    Bearer::new(Issuer::new(ISSUER, &key()), "monolith", audience)
}

impl World {
    /// With its engine.
    async fn new(name: &str) -> World {
        let world = World::without_engine(name).await;
        let engine = Engine::new(world.home.clone(), Limits::default());
        world.tasks.spawn(engine.run(world.shutdown.clone()));
        world
    }

    async fn without_engine(name: &str) -> World {
        stack::statements::count();
        let database = stack::shared().await.unwrap().database(name).await.unwrap();
        let (_, address) = database.url().rsplit_once('@').unwrap();
        let login = |role: &str| -> Url {
            format!("postgres://{}_{role}:secret@{address}", database.name()).parse().unwrap()
        };
        let databases = Databases {
            payments: login("payments"),
            outbox: login("relay"),
            housekeeper: login("housekeeper"),
        };
        let open = |url: &Url| database::pool(url, &database::PoolOptions::new("story", 8)).unwrap();
        let admin = open(&database.url().parse().unwrap());
        migrate::database(&admin, &databases).await.unwrap();

        let authority = Arc::new(AtTarget(strangler::Authority::new(MIGRATION)));
        let provider = Arc::new(Memory::new());
        let pool = open(&databases.payments);
        let home = Home {
            name: "target",
            pool,
            authority: authority.clone(),
            provider: provider.clone(),
            wake: Wake::default(),
            work: Work::default(),
            crash: Crash::none(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let (_, probes) = tonic_health::server::health_reporter();
        let target = target(&home, &authority);
        let (relay, module) = (open(&databases.outbox), home.pool.clone());
        let evidence = Kept { relay, module, authority: authority.0.clone() };
        let local = Arc::new(Local::new(home.clone(), tasks.clone()));
        let services = grpc::services(
            Server::new(Arc::new(Granting::new(local, target.clone(), tasks.clone()))),
            (Arc::new(evidence), target),
            Verifier::new(ISSUER, AUDIENCE, &key()),
            probes,
        );
        let requests = chassis::Telemetry::new("tests", None).unwrap().grpc();
        tasks.spawn(grpc::serve(listener, services.unwrap(), requests, shutdown.clone()));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        World { database, admin, home, authority, provider, channel, shutdown, tasks }
    }

    fn client(&self) -> Client {
        PaymentsServiceClient::with_interceptor(self.channel.clone(), bearer(AUDIENCE))
    }

    /// Applies a payment's first event, as the replica would after its gate.
    async fn born(&self, owner: &str) -> PaymentId {
        let id = PaymentId::new();
        let replicate = Replicate::new(self.home.clone(), self.authority.clone());
        let mut tx = self.home.pool.begin().await.unwrap();
        outbox::follow(&mut tx, PAYMENTS, &id.to_string(), 1, Uuid::now_v7()).await.unwrap();
        let event = PaymentStream::Requested(requested(id, owner));
        replicate.apply(&mut tx, Received { event: event.into(), meta: meta(id) }).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    async fn captured(&self) -> PaymentId {
        let id = self.born("target").await;
        let captured = async {
            while self.get(id).await.status() != v1::PaymentStatus::Captured {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, captured).await.unwrap();
        id
    }

    async fn get(&self, id: PaymentId) -> v1::Payment {
        let request = for_acme(v1::GetPaymentRequest { payment_id: id.to_string() });
        self.client().get_payment(request).await.unwrap().into_inner().payment.unwrap()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.tasks.close();
        tokio::time::timeout(SOON, self.tasks.wait()).await.unwrap();
        self.admin.close().await;
        self.database.drop_now().await.unwrap();
    }
}

fn requested(id: PaymentId, owner: &str) -> events::PaymentRequested {
    events::PaymentRequested {
        payment_id: id.to_string(),
        tenant: "acme".into(),
        order_id: Uuid::now_v7().to_string(),
        amount: Some(events::Money { minor: 1_000, currency: "EUR".into() }),
        capture_method: events::CaptureMethod::Automatic.into(),
        payment_method: "pm_card_visa".into(),
        owner: owner.into(),
        epoch: 1,
        requested_at_ms: 1_760_000_000_123,
    }
}

fn meta(id: PaymentId) -> Meta {
    Meta {
        topic: PAYMENTS.name().into(),
        key: id.to_string(),
        version: 1,
        id: Uuid::now_v7(),
        kind: "story".into(),
        origin: "monolith.orders".into(),
        time: time::OffsetDateTime::now_utc(),
        headers: outbox::Headers::default(),
    }
}

fn for_acme<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    set_tenant(&mut request, "acme").unwrap();
    request
}

fn refund(id: PaymentId, amount_minor: i64, key: &str) -> Request<v1::RefundPaymentRequest> {
    for_acme(v1::RefundPaymentRequest {
        payment_id: id.to_string(),
        amount_minor: Some(amount_minor),
        idempotency_key: key.into(),
        reason: None,
        currency: None,
    })
}

/// The code of a refusal and its stable reason.
fn told<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let reason = status.get_error_details().error_info().map(|it| it.reason.clone());
    (status.code(), reason.unwrap_or_default())
}
