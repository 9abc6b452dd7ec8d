//! Orders against PostgreSQL, under their own role, with payments in memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use catalog::{Catalog, Product};
use chassis::database::{PoolOptions, pool};
use chassis::migrations::Migrations;
use chassis::role::ensure_role;
use chassis::{Page, Url};
use orders::{
    CaptureMethod, Error, FollowPayment, NewLine, NewOrder, Order, Orders, PaymentRequest, Payments, Placed,
    Status,
};
use outbox::{BoxError, Event, Handler as _, Headers, Meta, Received};
use proto::events::{self, PaymentState, PaymentStatus};
use proto::{OrderId, PaymentId, PaymentStream};
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_repeat_answers_as_before_and_another_request_does_not() -> anyhow::Result<()> {
    let shop = Shop::open(Fake::default()).await?;
    let Placed::New(order) = shop.orders.place(shop.order("k-1", "f-1")).await? else { panic!("not new") };
    assert_eq!((order.total.minor, order.lines.len()), (2 * 1_290, 1));
    assert_eq!(shop.kinds().await?, ["com.banyan.orders.order_placed.v1"]);

    shop.apply(&order, PaymentStatus::Captured).await?;
    let again = shop.orders.place(shop.order("k-1", "f-1")).await?;
    assert_eq!(again, Placed::Replayed(order.clone()), "as it was accepted, though it is paid by now");
    let other = shop.orders.place(shop.order("k-1", "f-2")).await;
    assert!(matches!(other, Err(Error::KeyReused)), "{other:?}");
    let gone = vec![NewLine { product: catalog::ProductId::from_uuid(Uuid::now_v7()), quantity: 2 }];
    let gone = NewOrder { lines: gone, ..shop.order("k-1", "f-1") };
    assert_eq!(
        shop.orders.place(gone).await?,
        Placed::Replayed(order.clone()),
        "its product is not on sale any more"
    );
    let theirs = NewOrder { tenant: "globex".into(), ..shop.order("k-1", "f-1") };
    let theirs = shop.orders.place(theirs).await;
    assert!(
        matches!(theirs, Err(Error::Invalid(_))),
        "another tenant's key, and not its product: {theirs:?}"
    );
    shop.close().await
}

#[tokio::test]
async fn a_key_in_flight_is_refused_and_a_dropped_caller_stops_nothing() -> anyhow::Result<()> {
    let gate = Arc::new(Semaphore::new(0));
    let shop = Shop::open(Fake { gate: Some(gate.clone()), fails: false }).await?;
    let begun = tokio::time::timeout(Duration::from_millis(500), shop.orders.place(shop.order("k-1", "f-1")));
    assert!(begun.await.is_err(), "it waits for payments");
    let second = shop.orders.place(shop.order("k-1", "f-1")).await;
    assert!(matches!(second, Err(Error::InFlight)), "{second:?}");

    gate.add_permits(1);
    shop.settled().await?;
    let third = shop.orders.place(shop.order("k-1", "f-1")).await?;
    assert!(matches!(third, Placed::Replayed(_)), "the first was not lost with its caller: {third:?}");
    shop.close().await
}

#[tokio::test]
async fn without_its_payment_no_order_is_stored() -> anyhow::Result<()> {
    let shop = Shop::open(Fake { gate: None, fails: true }).await?;
    let refused = shop.orders.place(shop.order("k-1", "f-1")).await;
    assert!(matches!(refused, Err(Error::Payments(_))), "{refused:?}");
    assert!(shop.orders.list("acme", Page { limit: 10, after: None }).await?.is_empty());
    assert!(shop.kinds().await?.is_empty());
    shop.close().await
}

#[tokio::test]
async fn an_order_follows_its_payment_whatever_it_is_told() -> anyhow::Result<()> {
    let shop = Shop::open(Fake::default()).await?;
    let (paid, gone) = (shop.place("k-1").await?, shop.place("k-2").await?);
    for status in [PaymentStatus::Requested, PaymentStatus::Authorized, PaymentStatus::Captured] {
        shop.apply(&paid, status).await?;
    }
    shop.apply(&paid, PaymentStatus::Captured).await?;
    shop.apply(&paid, PaymentStatus::Refunded).await?;
    shop.apply(&gone, PaymentStatus::Declined).await?;
    assert_eq!(shop.orders.find("acme", paid.id).await?.status, Status::Paid);
    assert_eq!(shop.orders.find("acme", gone.id).await?.status, Status::Cancelled);
    let told: Vec<String> = shop.kinds().await?.into_iter().skip(2).collect();
    assert_eq!(
        told,
        ["com.banyan.orders.order_paid.v1", "com.banyan.orders.order_cancelled.v1"],
        "each once"
    );

    let contradiction = shop.apply(&paid, PaymentStatus::Voided).await.unwrap_err().to_string();
    assert!(contradiction.contains("is paid, but the payment says it must be cancelled"), "{contradiction}");
    let stranger = Order { payment: PaymentId::new(), ..paid.clone() };
    let unknown = shop.apply(&stranger, PaymentStatus::Captured).await.unwrap_err().to_string();
    assert_eq!(unknown, "there is no such order", "its key must stop, not vanish");
    shop.close().await
}

#[tokio::test]
async fn another_tenants_order_is_not_there() -> anyhow::Result<()> {
    let shop = Shop::open(Fake::default()).await?;
    let order = shop.place("k-1").await?;
    assert_eq!(shop.orders.find_by_payment("acme", order.payment).await?, order);
    for (tenant, id) in [("globex", order.id), ("acme", OrderId::new())] {
        assert!(matches!(shop.orders.find(tenant, id).await, Err(Error::NotFound)), "{tenant}");
    }
    assert!(matches!(shop.orders.find_by_payment("globex", order.payment).await, Err(Error::NotFound)));
    assert!(shop.orders.list("globex", Page { limit: 10, after: None }).await?.is_empty());
    shop.close().await
}

/// Payments that give ids; waits for a permit of the gate, or fails, when told to.
#[derive(Default)]
struct Fake {
    gate: Option<Arc<Semaphore>>,
    fails: bool,
}

#[async_trait]
impl Payments for Fake {
    async fn request(&self, _: &mut PgTransaction<'_>, _: &PaymentRequest) -> Result<PaymentId, BoxError> {
        if let Some(gate) = &self.gate {
            gate.acquire().await?.forget();
        }
        if self.fails { Err("payments refuse".into()) } else { Ok(PaymentId::new()) }
    }
}

struct Shop {
    database: stack::Database,
    admin: PgPool,
    pool: PgPool,
    orders: Orders,
    tasks: TaskTracker,
    product: Product,
}

impl Shop {
    async fn open(payments: Fake) -> anyhow::Result<Self> {
        let database = stack::shared().await?.database("orders").await?;
        let admin = PgPool::connect(database.url()).await?;
        for schema in
            [Migrations::new("outbox", &outbox::MIGRATOR), catalog::migrations(), orders::migrations()]
        {
            schema.apply(&admin).await?;
        }
        catalog::seed(&admin, "acme").await?;
        let pool = module_pool(&database, &admin, "orders").await?;
        let shelf = Catalog::new(module_pool(&database, &admin, "catalog").await?);
        let products = shelf.list("acme", Page { limit: 50, after: None }).await?;
        let product = products.into_iter().find(|product| product.sku == "tea-100").context("no tea")?;
        let tasks = TaskTracker::new();
        let orders = Orders::new(pool.clone(), shelf, Arc::new(payments), tasks.clone());
        Ok(Self { database, admin, pool, orders, tasks, product })
    }

    fn order(&self, key: &str, fingerprint: &str) -> NewOrder {
        NewOrder {
            tenant: "acme".into(),
            key: key.into(),
            fingerprint: fingerprint.into(),
            lines: vec![NewLine { product: self.product.id, quantity: 2 }],
            currency: self.product.price.currency,
            capture_method: CaptureMethod::Automatic,
            payment_method: "pm_card_visa".into(),
        }
    }

    async fn place(&self, key: &str) -> anyhow::Result<Order> {
        match self.orders.place(self.order(key, "f")).await? {
            Placed::New(order) => Ok(order),
            Placed::Replayed(order) => anyhow::bail!("{order:?} was there before"),
        }
    }

    /// Runs the handler as the inbox would, once, without its gate.
    async fn apply(&self, order: &Order, status: PaymentStatus) -> anyhow::Result<()> {
        let mut tx = self.pool.begin().await?;
        let handled = FollowPayment.handle(&mut tx, told(order, status)).await;
        handled.map_err(|error| anyhow::anyhow!(error.to_string()))?;
        Ok(tx.commit().await?)
    }

    /// What was published, oldest first.
    async fn kinds(&self) -> anyhow::Result<Vec<String>> {
        let kinds = sqlx::query_scalar("select kind from outbox.event order by position");
        Ok(kinds.fetch_all(&self.admin).await?)
    }

    async fn settled(&self) -> anyhow::Result<()> {
        self.tasks.close();
        Ok(tokio::time::timeout(BOUND, self.tasks.wait()).await?)
    }

    async fn close(self) -> anyhow::Result<()> {
        self.settled().await?;
        self.admin.close().await;
        Ok(self.database.drop_now().await?)
    }
}

async fn module_pool(database: &stack::Database, admin: &PgPool, module: &str) -> anyhow::Result<PgPool> {
    let role = format!("{}_{module}", database.name());
    let authority = database.url().split_once('@').map(|(_, rest)| rest).unwrap_or_default();
    let url: Url = format!("postgres://{role}:secret@{authority}").parse()?;
    ensure_role(admin, &url).await?;
    match module {
        "catalog" => catalog::grant(admin, &role).await?,
        _ => orders::grant(admin, &role).await?,
    }
    outbox::grant_module(admin, &role, &format!("monolith.{module}"), &[proto::ORDERS]).await?;
    Ok(pool(&url, &PoolOptions::new(module, 4))?)
}

fn told(order: &Order, status: PaymentStatus) -> Received<PaymentStream> {
    let state = Some(PaymentState {
        payment_id: order.payment.to_string(),
        tenant: order.tenant.clone(),
        order_id: order.id.to_string(),
        amount: Some(order.total.into()),
        status: status.into(),
        captured_minor: order.total.minor,
        ..PaymentState::default()
    });
    let (event, kind) = match status {
        PaymentStatus::Requested | PaymentStatus::Unspecified => {
            (PaymentStream::Requested(events::PaymentRequested::default()), events::PaymentRequested::KIND)
        }
        PaymentStatus::Authorized => {
            let event = events::PaymentAuthorized { state, ..Default::default() };
            (PaymentStream::Authorized(event), events::PaymentAuthorized::KIND)
        }
        PaymentStatus::Captured => {
            let event = events::PaymentCaptured { state, ..Default::default() };
            (PaymentStream::Captured(event), events::PaymentCaptured::KIND)
        }
        PaymentStatus::Declined => {
            let event = events::PaymentDeclined { state, ..Default::default() };
            (PaymentStream::Declined(event), events::PaymentDeclined::KIND)
        }
        PaymentStatus::Voided => {
            let event = events::PaymentVoided { state, ..Default::default() };
            (PaymentStream::Voided(event), events::PaymentVoided::KIND)
        }
        PaymentStatus::Refunded => {
            let event = events::PaymentRefunded { state, ..Default::default() };
            (PaymentStream::Refunded(event), events::PaymentRefunded::KIND)
        }
    };
    let meta = Meta {
        topic: proto::PAYMENTS.name().into(),
        key: order.payment.to_string(),
        version: 2,
        id: Uuid::now_v7(),
        kind: kind.into(),
        origin: "payments-service".into(),
        time: OffsetDateTime::now_utc(),
        headers: Headers::default(),
    };
    Received { event, meta }
}
