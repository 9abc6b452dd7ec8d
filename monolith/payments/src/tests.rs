//! Stories against a real PostgreSQL and a provider in memory.

mod adjust;
mod audit;
mod books;
mod by_hand;
mod commands;
mod copies;
mod crash;
mod fair;
mod heartbeat;
mod keys;
mod moving;
mod notice;
mod reads;
mod reconcile;
mod replay;
mod resolve;
mod rules;
mod shadow;
mod snapshot;
mod stream;
mod transitions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use outbox::{Incoming, Meta, Received, StateTransfer as _, Wake};
use proto::{PAYMENTS, PaymentId, PaymentStream, events as wire};
use sqlx::PgPool;
use sqlx::postgres::{PgPoolOptions, PgTransaction};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::adjust::record_adjustment;
use crate::movable::Record;
use crate::provider::Memory;
use crate::{
    Actor, Adjustment, Authority, Births, Capture, Crash, Desk as _, Engine, Epoch, Error, Home,
    IdempotencyKey, Limits, Local, Payment, Provider as _, Refund, Refusal, Replicate, Status, Tenant, Void,
    Work, movable, store,
};

/// A bound for everything that a story waits for.
const SOON: Duration = Duration::from_secs(20);

/// Owns every payment, or none; and whether they are on their way back: at the home that has them nothing new begins, to the one
/// that has them not a release gives them.
#[derive(Debug)]
struct All(AtomicBool, AtomicBool);

impl All {
    fn owned(&self) -> Result<Epoch, Error> {
        if self.0.load(Ordering::SeqCst) { Ok(Epoch(1)) } else { Err(Error::NotOwner) }
    }
}

#[async_trait]
impl Authority for All {
    async fn lock(&self, _: &mut PgTransaction<'_>, _: PaymentId) -> Result<Epoch, Error> {
        let epoch = self.owned()?;
        if self.1.load(Ordering::SeqCst) { Err(Error::Busy("it changes its owner")) } else { Ok(epoch) }
    }

    async fn lock_outcome(&self, _: &mut PgTransaction<'_>, _: PaymentId) -> Result<Epoch, Error> {
        self.owned()
    }

    async fn owns(&self, _: &mut PgTransaction<'_>, _: PaymentId) -> Result<bool, Error> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Births for All {
    async fn born(&self, _: &mut PgTransaction<'_>, _: PaymentId, _: &str, _: i64) -> Result<(), Error> {
        Ok(())
    }

    async fn offered(&self, _: &mut PgTransaction<'_>, _: &[(PaymentId, Epoch)]) -> Result<(), Error> {
        if self.0.load(Ordering::SeqCst) { Err(Error::ForeignWrite) } else { Ok(()) }
    }

    async fn released(
        &self,
        _: &mut PgTransaction<'_>,
        payments: &[(PaymentId, Epoch)],
    ) -> Result<Vec<PaymentId>, Error> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Error::ForeignWrite);
        }
        let mine = self.1.swap(false, Ordering::SeqCst);
        self.0.store(mine, Ordering::SeqCst);
        Ok(payments.iter().map(|(payment, _)| *payment).filter(|_| mine).collect())
    }
}

/// A home with a database and a role of its own.
struct World {
    database: stack::Database,
    admin: PgPool,
    home: Home,
    owns: Arc<All>,
    provider: Arc<Memory>,
}

impl World {
    async fn new(name: &str) -> World {
        let database = stack::shared().await.unwrap().database(name).await.unwrap();
        let admin = PgPoolOptions::new().max_connections(4).connect(database.url()).await.unwrap();
        outbox::migrate(&admin).await.unwrap();
        crate::MIGRATOR.run(&admin).await.unwrap();
        let role = format!("{}_payments", database.name());
        let (_, address) = database.url().rsplit_once('@').unwrap();
        let url = format!("postgres://{role}:secret@{address}");
        chassis::role::ensure_role(&admin, &url.parse().unwrap()).await.unwrap();
        crate::grant(&admin, &role).await.unwrap();
        outbox::grant_module(&admin, &role, name, &[PAYMENTS]).await.unwrap();
        outbox::grant_replica(&admin, &role).await.unwrap();
        // As the homes open theirs: a look that is dropped must not leave its transaction to the next one.
        let pool = chassis::database::pool(
            &url.parse().unwrap(),
            &chassis::database::PoolOptions::new("payments.tests", 24),
        )
        .unwrap();
        let owns = Arc::new(All(AtomicBool::new(true), AtomicBool::new(false)));
        let provider = Arc::new(Memory::new());
        let home = Home {
            name: "source",
            pool,
            authority: owns.clone(),
            provider: provider.clone(),
            wake: Wake::default(),
            work: Work::default(),
            crash: Crash::none(),
        };
        World { database, admin, home, owns, provider }
    }

    async fn end(self) {
        self.home.pool.close().await;
        self.admin.close().await;
        self.database.drop_now().await.unwrap();
    }

    fn engine(&self) -> Engine {
        Engine::new(self.home.clone(), Limits::default())
    }

    fn desk(&self) -> Local {
        Local::new(self.home.clone(), TaskTracker::new())
    }

    /// Publishes a payment's first event as the orders module would, and applies it.
    async fn request(&self, method: &str, manual: bool) -> PaymentId {
        let id = PaymentId::new();
        let event = requested(id, method, manual);
        let mut tx = self.home.pool.begin().await.unwrap();
        outbox::publish(&mut tx, &event).await.unwrap();
        tx.commit().await.unwrap();
        self.apply(id, 1, PaymentStream::Requested(event)).await.unwrap();
        id
    }

    /// Applies an event as the replica would after its gate.
    async fn apply(&self, id: PaymentId, version: i64, event: PaymentStream) -> Result<(), outbox::BoxError> {
        self.apply_by(Replicate::new(self.home.clone(), self.owns.clone()), id, version, event).await
    }

    /// The same by a replica that is set up otherwise.
    async fn apply_by(
        &self,
        replicate: Replicate,
        id: PaymentId,
        version: i64,
        event: PaymentStream,
    ) -> Result<(), outbox::BoxError> {
        let mut tx = self.home.pool.begin().await?;
        outbox::follow(&mut tx, PAYMENTS, &id.to_string(), version, Uuid::now_v7()).await?;
        replicate.apply(&mut tx, Received { event: event.into(), meta: meta(id, version) }).await?;
        Ok(tx.commit().await?)
    }

    /// A captured payment of 1,000.
    async fn captured(&self) -> PaymentId {
        let id = self.request("pm_card_visa", false).await;
        self.engine().once().await.unwrap();
        assert_eq!(self.payment(id).await.status, Status::Captured);
        id
    }

    /// A payment whose capture the provider refused: someone released the money there.
    async fn refused_capture(&self, name: &str) -> PaymentId {
        let id = self.request("pm_card_visa", true).await;
        self.engine().once().await.unwrap();
        let object = self.payment(id).await.provider_ref.unwrap();
        self.provider.cancel("elsewhere", &object).await.unwrap();
        let refused = self.desk().capture(&capture(id, None, name), Epoch(0)).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::Provider { .. }))), "{refused:?}");
        id
    }

    /// Books an adjustment of the payment as it is.
    async fn adjust(&self, id: PaymentId, adjustment: &Adjustment, by: &str) -> Result<Payment, Error> {
        let version = self.payment(id).await.version;
        record_adjustment(&self.home, id, version, adjustment, by).await
    }

    /// Gives a payment up, if nothing keeps it here.
    async fn give(&self, id: PaymentId, record: Record) -> Result<Payment, Error> {
        let mut tx = self.home.pool.begin().await?;
        if !movable::pinned(&mut tx, &named(&[id])).await?.is_empty() {
            return Err(Error::Busy("it can't move now"));
        }
        movable::give(&mut tx, &[(id.to_string().as_str(), Epoch(2))], record).await?;
        tx.commit().await?;
        Ok(self.payment(id).await)
    }

    async fn payment(&self, id: PaymentId) -> Payment {
        store::find(&self.home.pool, &tenant(), id).await.unwrap().unwrap()
    }

    /// Looks at the tables until nothing is open. Time is not waited for but put forward.
    async fn work(&self) {
        for _ in 0..20 {
            self.hurry().await;
            if self.engine().once().await.unwrap() == 0 {
                return;
            }
        }
        panic!("work is still open after 20 looks");
    }

    /// Lets all claims expire and all pauses end.
    async fn hurry(&self) {
        let sql = "update payments.intent set claimed_until = now(), next_at = now(), kept_at = kept_at - interval '1 minute'
                   where state <> 'done'";
        sqlx::query(sql).execute(&self.admin).await.unwrap();
        let sql = "update payments.payment set look_at = now() where status = 'requested'";
        sqlx::query(sql).execute(&self.admin).await.unwrap();
    }

    /// Versions of what was published of a payment.
    async fn versions(&self, id: PaymentId) -> Vec<i64> {
        let sql = "select version from outbox.event where key = $1 order by position";
        sqlx::query_scalar(sql).bind(id.to_string()).fetch_all(&self.admin).await.unwrap()
    }

    /// Account and balance of a payment.
    async fn balances(&self, id: PaymentId) -> Vec<(String, i64)> {
        let sql = "select account, sum(amount_minor)::bigint from payments.ledger_entry where payment_id = $1
                   group by account order by account";
        sqlx::query_as(sql).bind(id.uuid()).fetch_all(&self.admin).await.unwrap()
    }
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn ada() -> Actor {
    "ada".parse().unwrap()
}

/// Payments as a migration names them.
fn named(payments: &[PaymentId]) -> Vec<String> {
    payments.iter().map(PaymentId::to_string).collect()
}

fn key(text: &str) -> IdempotencyKey {
    text.parse().unwrap()
}

fn refund(payment: PaymentId, amount_minor: Option<i64>, name: &str) -> Refund {
    Refund { tenant: tenant(), payment, amount_minor, key: key(name), by: ada(), reason: None }
}

fn capture(payment: PaymentId, amount_minor: Option<i64>, name: &str) -> Capture {
    Capture { tenant: tenant(), payment, amount_minor, key: key(name), by: ada(), reason: None }
}

fn void(payment: PaymentId, name: &str) -> Void {
    Void { tenant: tenant(), payment, key: key(name), by: ada(), reason: None }
}

fn requested(id: PaymentId, method: &str, manual: bool) -> wire::PaymentRequested {
    let capture_method = if manual { wire::CaptureMethod::Manual } else { wire::CaptureMethod::Automatic };
    wire::PaymentRequested {
        payment_id: id.to_string(),
        tenant: "acme".into(),
        order_id: Uuid::now_v7().to_string(),
        amount: Some(wire::Money { minor: 1_000, currency: "EUR".into() }),
        capture_method: capture_method.into(),
        payment_method: method.into(),
        owner: "source".into(),
        epoch: 1,
        requested_at_ms: 1_760_000_000_123,
    }
}

fn meta(id: PaymentId, version: i64) -> Meta {
    Meta {
        topic: PaymentStream::TOPIC.name().into(),
        key: id.to_string(),
        version,
        id: Uuid::now_v7(),
        kind: "story".into(),
        origin: "elsewhere".into(),
        time: time::OffsetDateTime::now_utc(),
        headers: outbox::Headers::default(),
    }
}
