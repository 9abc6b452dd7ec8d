//! Stories over real gRPC and a real PostgreSQL, with a provider in memory.

mod statements;

use std::sync::Arc;
use std::time::Duration;

use chassis::service_token::{Bearer, set_tenant};
use chassis::token::{Issuer, Verifier};
use chassis::{Secret, Url, database};
use outbox::{Meta, Received, StateTransfer as _, Wake};
use payments::provider::{Call, Fault, Memory};
use payments::{Crash, Engine, Home, Limits, Local, Replicate, Work};
use proto::payments as v1;
use proto::payments::payments_service_client::PaymentsServiceClient;
use proto::{PAYMENTS, PaymentId, PaymentStream, events};
use strangler::control::v1::{EvidenceRequest, control_client::ControlClient};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::evidence::Cursors;
use crate::grpc::{self, AUDIENCE, ISSUER};
use crate::{AtTarget, Databases, MIGRATION, Server, migrate};

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
        let services = grpc::services(
            Server::new(Arc::new(Local::new(home.clone(), tasks.clone()))),
            Arc::new(Cursors(open(&databases.outbox))),
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
        replicate.apply(&mut tx, Received { event, meta: meta(id) }).await.unwrap();
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

#[tokio::test]
async fn a_payment_born_here_is_charged_and_refunded_once() {
    let world = World::new("served").await;
    let id = world.captured().await;
    let mut client = world.client();
    let first = client.refund_payment(refund(id, 400, "r1")).await.unwrap().into_inner().payment.unwrap();
    let again = client.refund_payment(refund(id, 400, "r1")).await.unwrap().into_inner().payment.unwrap();
    assert_eq!((first.refunded_minor, first.version, first.outcome_pending), (400, 3, false));
    assert_eq!(first, again);
    assert_eq!(world.provider.journal().len(), 2);

    // What the controller measures the feed back by, read from the log as the relay's role.
    let peer = strangler::control::Client::new(world.channel.clone(), bearer(AUDIENCE));
    let published = strangler::Peer::published(&peer, 10).await.unwrap();
    assert_eq!(published, [(id.to_string(), 3)]);

    let request = for_acme(v1::ListPaymentsRequest { page_size: 1, page_token: String::new() });
    let page = client.list_payments(request).await.unwrap().into_inner();
    assert_eq!((page.payments.len(), page.next_page_token.as_str()), (1, id.to_string().as_str()));
    let request = for_acme(v1::ListPaymentsRequest { page_size: 1, page_token: page.next_page_token });
    assert_eq!(client.list_payments(request).await.unwrap().into_inner().payments, []);
    let amount = Some(v1::Money { minor: 10_000, currency: "EUR".into() });
    let fee = client.quote_fee(v1::QuoteFeeRequest { amount }).await.unwrap().into_inner().fee.unwrap();
    assert_eq!(fee.minor, 150);

    let request = for_acme(v1::GetTrialBalanceRequest {});
    let balances = client.get_trial_balance(request).await.unwrap().into_inner().balances;
    let told = |it: v1::AccountBalance| {
        (it.account, it.currency, it.debits_minor, it.credits_minor, it.balance_minor)
    };
    let row = |account: &str, debits: &str, credits: &str, balance: &str| {
        (account.to_owned(), "EUR".to_owned(), debits.to_owned(), credits.to_owned(), balance.to_owned())
    };
    assert_eq!(
        balances.into_iter().map(told).collect::<Vec<_>>(),
        [
            row("clearing", "1000", "400", "600"),
            row("payable", "400", "985", "-585"),
            row("fees", "0", "15", "-15")
        ]
    );
    world.end().await;
}

#[tokio::test]
async fn a_payment_born_at_the_source_is_only_read_here() {
    let world = World::new("follows").await;
    let id = world.born("source").await;
    assert_eq!(world.get(id).await.status(), v1::PaymentStatus::Requested);
    let answer = world.client().refund_payment(refund(id, 1, "r1")).await;
    assert_eq!(told(answer), (Code::FailedPrecondition, "NOT_OWNER".into()));
    assert_eq!(world.provider.journal(), []);
    world.end().await;
}

#[tokio::test]
async fn each_refusal_has_its_code_and_reason() {
    let world = World::new("refusals").await;
    let id = world.captured().await;
    let mut client = world.client();
    let too_much = client.refund_payment(refund(id, 1_001, "r1")).await;
    assert_eq!(told(too_much), (Code::FailedPrecondition, "AMOUNT_TOO_LARGE".into()));
    let void =
        v1::VoidPaymentRequest { payment_id: id.to_string(), idempotency_key: "v1".into(), reason: None };
    let late = client.void_payment(for_acme(void)).await;
    assert_eq!(told(late), (Code::FailedPrecondition, "ILLEGAL_TRANSITION".into()));
    client.refund_payment(refund(id, 1, "r2")).await.unwrap();
    let reused = client.refund_payment(refund(id, 2, "r2")).await;
    assert_eq!(told(reused), (Code::InvalidArgument, "KEY_REUSED".into()));

    let mut stranger = Request::new(v1::GetPaymentRequest { payment_id: id.to_string() });
    assert_eq!(
        client.get_payment(Request::new(stranger.get_ref().clone())).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    set_tenant(&mut stranger, "other").unwrap();
    assert_eq!(client.get_payment(stranger).await.unwrap_err().code(), Code::NotFound);

    let bad = v1::CapturePaymentRequest {
        payment_id: "42".into(),
        idempotency_key: "two words".into(),
        amount_minor: None,
        reason: None,
        currency: None,
    };
    let status = client.capture_payment(for_acme(bad)).await.unwrap_err();
    let details = status.get_error_details();
    let fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|it| it.field.as_str()).collect();
    assert_eq!((status.code(), fields), (Code::InvalidArgument, vec!["payment_id", "idempotency_key"]));
    let mut wrong_epoch = refund(id, 1, "r3");
    wrong_epoch.metadata_mut().insert("x-authority-epoch", "soon".parse().unwrap());
    assert_eq!(client.refund_payment(wrong_epoch).await.unwrap_err().code(), Code::InvalidArgument);
    world.end().await;
}

#[tokio::test]
async fn a_notice_is_taken_by_its_owner_and_moves_no_money() {
    let world = World::new("notices").await;
    let id = world.captured().await;
    let before = world.get(id).await;
    let mut client = world.client();
    let notice = |payment: PaymentId, kind: &str, object: &str| {
        for_acme(v1::DeliverWebhookRequest {
            event_id: "evt_1".into(),
            kind: kind.into(),
            object: object.into(),
            status: "succeeded".into(),
            payment_id: payment.to_string(),
            command_id: String::new(),
            created_ms: 1_700_000_000_000,
        })
    };
    let (own, succeeded) = (before.provider_ref.clone(), "payment_intent.succeeded");
    let applied = client.deliver_webhook(notice(id, succeeded, &own)).await.unwrap().into_inner();
    assert_eq!((applied.delivery(), applied.surprise.as_str()), (v1::Delivery::Applied, ""));
    let surprise = client.deliver_webhook(notice(id, succeeded, "pi_other")).await.unwrap().into_inner();
    assert_eq!(surprise.delivery(), v1::Delivery::Surprise);
    assert!(surprise.surprise.contains("pi_other is not the payment's"), "{}", surprise.surprise);
    let early = client.deliver_webhook(notice(PaymentId::new(), succeeded, "pi_1")).await.unwrap();
    assert_eq!(early.into_inner().delivery(), v1::Delivery::Early);
    let foreign = world.born("source").await;
    let refused = client.deliver_webhook(notice(foreign, succeeded, "pi_1")).await;
    assert_eq!(told(refused), (Code::FailedPrecondition, "NOT_OWNER".into()));

    let mut bad = notice(id, "payment_intent.exploded", "");
    bad.get_mut().command_id = "42".into();
    let status = client.deliver_webhook(bad).await.unwrap_err();
    let details = status.get_error_details();
    let fields: Vec<&str> =
        details.bad_request().unwrap().field_violations.iter().map(|it| it.field.as_str()).collect();
    assert_eq!((status.code(), fields), (Code::InvalidArgument, vec!["object", "command_id"]));
    assert_eq!(world.get(id).await, before);
    world.end().await;
}

#[tokio::test]
async fn who_asks_and_why_is_kept() {
    let world = World::new("audit").await;
    let id = world.captured().await;
    let mut client = world.client();
    let mut by_ada = refund(id, 1, "r1");
    by_ada.metadata_mut().insert("x-actor", "ada".parse().unwrap());
    by_ada.get_mut().reason = Some("broken".into());
    client.refund_payment(by_ada).await.unwrap();
    client.refund_payment(refund(id, 2, "r2")).await.unwrap();
    // Sent again by someone else it is the same command, and its answer is the one of then.
    let again = client.refund_payment(refund(id, 1, "r1")).await.unwrap().into_inner().payment.unwrap();
    assert_eq!((again.refunded_minor, again.version), (1, 3));
    for (actor, reason, field) in
        [("engine", None, "actor"), ("", None, "actor"), ("ada", Some(""), "reason")]
    {
        let mut bad = refund(id, 3, "r3");
        bad.metadata_mut().insert("x-actor", actor.parse().unwrap());
        bad.get_mut().reason = reason.map(Into::into);
        let status = client.refund_payment(bad).await.unwrap_err();
        let named = status.get_error_details().bad_request().unwrap().field_violations[0].field.clone();
        assert_eq!((status.code(), named.as_str()), (Code::InvalidArgument, field), "{actor:?} {reason:?}");
    }
    let sql = "select actor, reason, home from payments.audit where payment_id = $1 and action = 'refund done' order by id";
    let told: Vec<(String, Option<String>, String)> =
        sqlx::query_as(sql).bind(id.uuid()).fetch_all(&world.home.pool).await.unwrap();
    let line = |actor: &str, why: Option<&str>| (actor.into(), why.map(Into::into), "target".into());
    assert_eq!(told, [line("ada", Some("broken")), line("monolith", None)]);
    world.end().await;
}

/// Every row of every table, as the database has it: another row, or another version of one, shows. But for leases, which are
/// renewed.
async fn rows(world: &World) -> Vec<String> {
    let tables = "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'r' and n.nspname in ('payments', 'outbox', 'strangler') and c.relname not like '%lease%'
        order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&world.admin).await.unwrap();
    assert!(tables.iter().any(|table| table == "payments.intent"), "{tables:?}");
    let mut rows = Vec::new();
    for table in tables {
        let sql =
            format!("select '{table} ' || t.xmin::text || ' ' || md5(t::text) from {table} t order by 1");
        let more = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql)).fetch_all(&world.admin).await;
        rows.extend(more.unwrap());
    }
    rows
}

#[tokio::test]
async fn each_bad_amount_has_its_code_and_changes_no_row() {
    let world = World::new("amounts").await;
    let id = world.captured().await;
    let before = rows(&world).await;
    let client = world.client();
    let with = |amount_minor, currency: Option<&str>| {
        let mut request = refund(id, amount_minor, "r1");
        request.get_mut().currency = currency.map(Into::into);
        request
    };
    let mut foreign = with(1, None);
    set_tenant(&mut foreign, "globex").unwrap();
    for (request, code, reason, field) in [
        (with(0, None), Code::InvalidArgument, "AMOUNT_ZERO", "amount_minor"),
        (with(-1, None), Code::InvalidArgument, "AMOUNT_NEGATIVE", "amount_minor"),
        (with(i64::MIN, None), Code::InvalidArgument, "AMOUNT_NEGATIVE", "amount_minor"),
        (with(i64::MAX, None), Code::FailedPrecondition, "AMOUNT_TOO_LARGE", ""),
        (with(1_001, Some("EUR")), Code::FailedPrecondition, "AMOUNT_TOO_LARGE", ""),
        (with(1, Some("USD")), Code::InvalidArgument, "CURRENCY_MISMATCH", "currency"),
        (with(1, Some("XXX")), Code::InvalidArgument, "CURRENCY_UNKNOWN", "currency"),
        (with(1, Some("eur")), Code::InvalidArgument, "CURRENCY_UNKNOWN", "currency"),
        (refund(PaymentId::new(), 1, "r1"), Code::FailedPrecondition, "NOT_OWNER", ""),
        (foreign, Code::NotFound, "NOT_FOUND", ""),
    ] {
        let what = format!("{:?}", request.get_ref());
        let status = client.clone().refund_payment(request).await.unwrap_err();
        let details = status.get_error_details();
        let fields = details.bad_request().map(|it| it.field_violations.as_slice()).unwrap_or_default();
        let named = fields.first().map(|it| it.field.as_str()).unwrap_or_default();
        // The whole call's reason, or what is wrong with the field.
        let wrong = fields.first().map(|it| it.reason.as_str()).unwrap_or_default();
        let told = details.error_info().map_or(wrong, |it| it.reason.as_str());
        assert_eq!((status.code(), told, named), (code, reason, field), "{what}");
    }
    for (minor, currency, reason) in [
        (0, "EUR", "AMOUNT_ZERO"),
        (-1, "EUR", "AMOUNT_NEGATIVE"),
        (1, "ZZZ", "CURRENCY_UNKNOWN"),
        (1, "", "CURRENCY_UNKNOWN"),
    ] {
        let amount = Some(v1::Money { minor, currency: currency.into() });
        let status = client.clone().quote_fee(v1::QuoteFeeRequest { amount }).await.unwrap_err();
        let details = status.get_error_details();
        let field = &details.bad_request().unwrap().field_violations[0];
        let told = (status.code(), field.field.as_str(), field.reason.as_str());
        assert_eq!(told, (Code::InvalidArgument, "amount", reason), "{minor} {currency}");
    }
    assert_eq!(rows(&world).await, before);
    assert_eq!(world.get(id).await.refunded_minor, 0);
    let touched = "update payments.payment set updated_at = updated_at where id = $1";
    sqlx::query(touched).bind(id.uuid()).execute(&world.admin).await.unwrap();
    assert_ne!(rows(&world).await, before, "a row that is written again shows");
    client.clone().refund_payment(with(1, Some("EUR"))).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_card_number_is_refused_in_any_field_and_in_metadata() {
    const CARD: &str = "4111 1111 1111 1111";
    let world = World::new("cards").await;
    let id = world.captured().await;
    let refused = (Code::InvalidArgument, "CARD_NUMBER".to_owned());
    let mut client = world.client();
    assert_eq!(told(client.refund_payment(refund(id, 1, CARD)).await), refused);
    assert_eq!(told(client.refund_payment(refund(id, 4_111_111_111_111_111, "r1")).await), refused);
    let get = || v1::GetPaymentRequest { payment_id: id.to_string() };
    let mut foreign = Request::new(get());
    set_tenant(&mut foreign, "4111111111111111").unwrap();
    assert_eq!(told(client.get_payment(foreign).await), refused);
    let mut epoch = for_acme(get());
    epoch.metadata_mut().insert("x-authority-epoch", "4111111111111111".parse().unwrap());
    let status = client.get_payment(epoch).await.unwrap_err();
    assert!(!status.message().contains("1111"), "{status:?}");
    assert_eq!(told(Err::<(), _>(status)), refused);
    let amount = Some(v1::Money { minor: 1, currency: CARD.into() });
    assert_eq!(
        told(client.quote_fee(v1::QuoteFeeRequest { amount }).await),
        refused,
        "a message in a message"
    );
    let mut control = ControlClient::with_interceptor(world.channel.clone(), bearer(AUDIENCE));
    let keys = vec![id.to_string(), CARD.to_owned()];
    assert_eq!(told(control.evidence(EvidenceRequest { keys }).await), refused);

    let long = v1::GetPaymentRequest { payment_id: "x".repeat(70_000) };
    assert_eq!(client.get_payment(for_acme(long)).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(world.get(id).await.refunded_minor, 0);
    world.end().await;
}

#[tokio::test]
async fn a_deadline_ends_the_waiting_and_not_the_command() {
    let world = World::new("deadline").await;
    let id = world.captured().await;
    world.provider.fail_next(Call::Refund, Fault::DoneUnanswered);
    let mut request = refund(id, 400, "r1");
    request.set_timeout(Duration::from_millis(250));
    // Told by the service before the client's own clock ends the call.
    let status = world.client().refund_payment(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let refunded = async {
        while world.get(id).await.refunded_minor != 400 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, refunded).await.unwrap();
    let again = world.client().refund_payment(refund(id, 400, "r1")).await.unwrap().into_inner();
    assert_eq!(again.payment.unwrap().refunded_minor, 400);
    assert_eq!(world.provider.journal().len(), 2);
    world.end().await;
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_for_this_service() {
    let world = World::new("tokens").await;
    let message = || for_acme(v1::GetPaymentRequest { payment_id: PaymentId::new().to_string() });
    let mut bare = PaymentsServiceClient::new(world.channel.clone());
    assert_eq!(bare.get_payment(message()).await.unwrap_err().code(), Code::Unauthenticated);
    let mut foreign = PaymentsServiceClient::with_interceptor(world.channel.clone(), bearer("monolith"));
    assert_eq!(foreign.get_payment(message()).await.unwrap_err().code(), Code::Unauthenticated);
    let mut control = ControlClient::new(world.channel.clone());
    let keys = vec!["k".to_owned()];
    let refused = control.evidence(EvidenceRequest { keys: keys.clone() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut control = ControlClient::with_interceptor(world.channel.clone(), bearer(AUDIENCE));
    let evidence = control.evidence(EvidenceRequest { keys }).await.unwrap().into_inner();
    assert_eq!((evidence.applied.len(), evidence.parked, evidence.awaiting), (0, 0, 0));
    world.end().await;
}

#[tokio::test]
async fn health_and_both_reflections_answer_anyone() {
    let world = World::new("reflects").await;
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(world.channel.clone()).check(request).await.unwrap();

    let expected = ["grpc.health.v1.Health", "payments.v1.PaymentsService", "strangler.v1.Control"];
    {
        use tonic_reflection::pb::v1::ServerReflectionRequest;
        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let answers = ServerReflectionClient::new(world.channel.clone());
        let mut answers =
            { answers }.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
        let names: Vec<_> = list.service.into_iter().map(|it| it.name).collect();
        assert!(expected.iter().all(|name| names.iter().any(|it| it == name)), "{names:?}");
    }
    {
        use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
        use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
        let symbol = "payments.v1.PaymentsService".to_owned();
        let message_request = Some(MessageRequest::FileContainingSymbol(symbol));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let answers = ServerReflectionClient::new(world.channel.clone());
        let mut answers =
            { answers }.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
    }
    world.end().await;
}
