//! The extraction of payments: the only file that knows both homes.
//!
//! A payment is born by [`RequestPayments`], inside the transaction of its order; [`AtSource`] locks its owner inside each
//! write of this home, and takes it back when the other home releases it; [`MovingPayments`] sends what callers ask to the home that
//! owns it. [`PaymentsDomain`] is what the migration's controller needs to know, and how payments are given up here.

use std::sync::Arc;

use ::payments::movable::{self, Record};
use ::payments::{
    Balance, Births, Capture, Delivered, Desk, Epoch, Error, Notice, Page, Payment, PaymentCopy, Refund,
    Replicate, Status, Tenant, Void,
};
use async_trait::async_trait;
use orders::{Order, Orders, PaymentRequest};
use outbox::{BoxError, StateTransfer as _};
use proto::{Money, PAYMENTS, PaymentId, events};
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use strangler::{
    Answer, Applied, Asked, Fallback, Home, Key, KeyCopy, Owners, Pinned, Reads, Seal, Seam, Taken,
};
use time::OffsetDateTime;

use crate::books::Books;
use crate::comparing::{Shown, read, version_shown};

/// The name of the migration.
pub const MIGRATION: &str = "payments";

/// Opens payments for orders.
#[derive(Debug, Clone)]
pub struct RequestPayments {
    owners: Owners,
}

/// Who may write a payment, as this home sees it: its owner row, locked until the writing transaction ends.
#[derive(Debug, Clone)]
pub struct AtSource(pub Owners);

/// The desk of both homes.
pub struct MovingPayments {
    seam: Seam<Desks>,
    local: Arc<dyn Desk>,
    remote: Arc<dyn Desk>,
    seal: Seal,
    orders: Orders,
}

/// Payments, as the migration's controller sees them here.
#[derive(Clone)]
pub struct PaymentsDomain {
    orders: Orders,
    payments: PgPool,
    /// Its role may read cursors.
    outbox: PgPool,
    books: Books,
}

/// What the seam needs to know of the two desks.
#[derive(Debug)]
struct Desks;

impl RequestPayments {
    /// The role of the owners' pool needs to assign owners and to publish.
    pub fn new(owners: Owners) -> Self {
        Self { owners }
    }
}

#[async_trait]
impl orders::Payments for RequestPayments {
    /// Decides and stores who owns the new payment, then opens its stream. Until the order's transaction ends the
    /// migration's policy can't change.
    async fn request(
        &self,
        tx: &mut PgTransaction<'_>,
        request: &PaymentRequest,
    ) -> Result<PaymentId, BoxError> {
        let payment = PaymentId::new();
        let owner = self.owners.assign(tx, &request.tenant, &payment.to_string()).await?;
        let version = outbox::publish(tx, &requested(payment, request, &owner)?).await?;
        if version != 1 {
            return Err(format!("the stream of the new payment {payment} begins at version {version}").into());
        }
        Ok(payment)
    }
}

fn requested(
    payment: PaymentId,
    request: &PaymentRequest,
    owner: &strangler::Ownership,
) -> Result<events::PaymentRequested, BoxError> {
    let capture_method = match request.capture_method {
        orders::CaptureMethod::Automatic => events::CaptureMethod::Automatic,
        orders::CaptureMethod::Manual => events::CaptureMethod::Manual,
    };
    let now_ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    Ok(events::PaymentRequested {
        payment_id: payment.to_string(),
        tenant: request.tenant.clone(),
        order_id: request.order.to_string(),
        amount: Some(request.amount.into()),
        capture_method: capture_method.into(),
        payment_method: request.payment_method.clone(),
        owner: owner.home.name().to_owned(),
        epoch: owner.epoch.get(),
        requested_at_ms: i64::try_from(now_ms)?,
    })
}

#[async_trait]
impl ::payments::Authority for AtSource {
    async fn lock(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Epoch, Error> {
        let epoch = self.0.lock(tx, &payment.to_string()).await.map_err(authority)?;
        Ok(Epoch(epoch.get()))
    }

    async fn owns(&self, tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<bool, Error> {
        self.0.holds(tx, &payment.to_string()).await.map_err(authority)
    }
}

/// The owner of a new payment is stored before its first event is published, and payments are given to this home by a release alone.
#[async_trait]
impl Births for AtSource {
    async fn born(&self, _: &mut PgTransaction<'_>, _: PaymentId, _: &str, _: i64) -> Result<(), Error> {
        Ok(())
    }

    async fn offered(&self, _: &mut PgTransaction<'_>, _: PaymentId, _: Epoch) -> Result<(), Error> {
        Err(Error::ForeignWrite)
    }

    async fn released(
        &self,
        tx: &mut PgTransaction<'_>,
        payment: PaymentId,
        epoch: Epoch,
    ) -> Result<bool, Error> {
        let taken = self.0.take_back(tx, &payment.to_string(), strangler::Epoch(epoch.0)).await;
        match taken.map_err(authority)? {
            Taken::Mine => Ok(true),
            Taken::Follow => Ok(false),
        }
    }
}

fn authority(error: strangler::Error) -> Error {
    match error {
        strangler::Error::NotOwner { .. } => Error::NotOwner,
        strangler::Error::ForeignWrite { .. } => Error::ForeignWrite,
        strangler::Error::Database(error) => Error::Database(error),
        error if error.is_retryable() => Error::Busy("it changes its owner"),
        error => Error::Authority(error.into()),
    }
}

impl strangler::Homes for Desks {
    type Desk = dyn Desk;
    type Error = Error;

    fn answer(error: &Error, _: Home) -> Answer {
        match error {
            Error::NotOwner => Answer::NotOwner,
            Error::Busy(_) | Error::Behind { .. } | Error::Parked => Answer::Moving,
            // `Unavailable` and the database's failures may come after the command was committed: the caller decides.
            _ => Answer::Final,
        }
    }

    fn unroutable(error: strangler::Error) -> Error {
        match error {
            strangler::Error::UnknownKey { .. } => Error::NotFound,
            error => authority(error),
        }
    }

    fn fallback(error: &Error) -> Fallback {
        match error {
            Error::Behind { .. } => Fallback::Lag,
            Error::NotFound => Fallback::NotFound,
            Error::Parked => Fallback::Parked,
            _ => Fallback::Error,
        }
    }
}

impl MovingPayments {
    /// The desks of both homes behind one. The role of the owners' pool may find owners.
    pub fn new(owners: Owners, local: Arc<dyn Desk>, remote: Arc<dyn Desk>, orders: Orders) -> Self {
        let seal = owners.seal();
        Self { seam: Seam::new(owners, Arc::clone(&local), Arc::clone(&remote)), local, remote, seal, orders }
    }

    /// Whoever has the payments of both homes: this one, until it is sealed.
    async fn whole(&self) -> Result<&dyn Desk, Error> {
        let sealed = self.seal.is_set().await.map_err(authority)?;
        Ok(if sealed { &*self.remote } else { &*self.local })
    }

    /// With reads that follow the policy; see [`Seam::reads`].
    #[must_use]
    pub fn reads(self, reads: Reads) -> Self {
        Self { seam: self.seam.reads(reads), ..self }
    }

    /// Notes what a command has shown its caller, who must not be shown less by a read after it.
    fn shown(&self, payment: PaymentId, answer: Result<Payment, Error>) -> Result<Payment, Error> {
        if let Some(version) = version_shown(&answer) {
            self.seam.shown(&payment.to_string(), version);
        }
        answer
    }

    /// The order of a payment. Every payment has one, so this tells a payment that does not exist, or is another tenant's,
    /// from one that a home does not know yet.
    async fn order(&self, tenant: &Tenant, payment: PaymentId) -> Result<Order, Error> {
        self.orders.find_by_payment(tenant.as_str(), payment).await.map_err(|error| match error {
            orders::Error::NotFound => Error::NotFound,
            orders::Error::Database(error) => Error::Database(error),
            error => Error::Unavailable(error.to_string()),
        })
    }
}

#[async_trait]
impl Desk for MovingPayments {
    async fn find(&self, tenant: &Tenant, id: PaymentId) -> Result<Payment, Error> {
        self.find_copy(tenant, id, 0).await
    }

    /// Asks the owner, or the copy that the policy names. A home that has not applied the payment's first event yet does not know
    /// it: then the replica here is asked, and at last the order's row.
    async fn find_copy(&self, tenant: &Tenant, id: PaymentId, at_least: i64) -> Result<Payment, Error> {
        let whose = tenant.clone();
        let run = move |home: Arc<dyn Desk>, reading| read(home, whose.clone(), id, reading);
        let key = id.to_string();
        let asked = Asked { tenant: tenant.as_str(), key: &key, at_least };
        let owner = self.seam.read_versioned(asked, run).await.map(|Shown(payment)| payment);
        if !matches!(owner, Err(Error::NotFound)) {
            return owner;
        }
        let order = self.order(tenant, id).await?;
        match self.whole().await?.find(tenant, id).await {
            Err(Error::NotFound) => Ok(not_applied(tenant.clone(), order)),
            found => found,
        }
    }

    /// From the replica here, which has the payments of both homes; once this home is sealed, from the service.
    async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error> {
        self.whole().await?.list(tenant, page).await
    }

    /// From the ledger here, which has the bookings of both homes; once this home is sealed, from the service.
    async fn trial_balance(&self, tenant: &Tenant) -> Result<Vec<Balance>, Error> {
        self.whole().await?.trial_balance(tenant).await
    }

    async fn quote_fee(&self, amount: Money) -> Result<Money, Error> {
        self.local.quote_fee(amount).await
    }

    async fn capture(&self, capture: &Capture, _: Epoch) -> Result<Payment, Error> {
        self.order(&capture.tenant, capture.payment).await?;
        let run =
            |home: Arc<dyn Desk>, epoch| async move { known(home.capture(capture, epoch_of(epoch)).await) };
        self.shown(capture.payment, self.seam.write(&capture.payment.to_string(), run).await)
    }

    async fn void(&self, void: &Void, _: Epoch) -> Result<Payment, Error> {
        self.order(&void.tenant, void.payment).await?;
        let run = |home: Arc<dyn Desk>, epoch| async move { known(home.void(void, epoch_of(epoch)).await) };
        self.shown(void.payment, self.seam.write(&void.payment.to_string(), run).await)
    }

    async fn refund(&self, refund: &Refund, _: Epoch) -> Result<Payment, Error> {
        self.order(&refund.tenant, refund.payment).await?;
        let run =
            |home: Arc<dyn Desk>, epoch| async move { known(home.refund(refund, epoch_of(epoch)).await) };
        self.shown(refund.payment, self.seam.write(&refund.payment.to_string(), run).await)
    }

    /// To the owner. A payment without one was never ordered here, or its order is about to be committed.
    async fn deliver(&self, notice: &Notice, _: Epoch) -> Result<Delivered, Error> {
        let run = |home: Arc<dyn Desk>, epoch| async move { home.deliver(notice, epoch_of(epoch)).await };
        match self.seam.write(&notice.payment.to_string(), run).await {
            Err(Error::NotFound) => Ok(Delivered::Early),
            answer => answer,
        }
    }
}

/// The payment exists, so a home that does not know it has not applied its first event yet.
fn known(answer: Result<Payment, Error>) -> Result<Payment, Error> {
    match answer {
        Err(Error::NotFound) => Err(Error::Busy("its owner has not got it yet")),
        answer => answer,
    }
}

fn epoch_of(epoch: strangler::Epoch) -> Epoch {
    Epoch(epoch.get())
}

/// A payment as its order asked for it.
fn not_applied(tenant: Tenant, order: Order) -> Payment {
    Payment {
        id: order.payment,
        tenant,
        order: order.id,
        amount: order.total,
        capture_method: match order.capture_method {
            orders::CaptureMethod::Automatic => ::payments::CaptureMethod::Automatic,
            orders::CaptureMethod::Manual => ::payments::CaptureMethod::Manual,
        },
        payment_method: order.payment_method,
        status: Status::Requested,
        authorized_minor: 0,
        captured_minor: 0,
        refunded_minor: 0,
        provider_ref: None,
        version: 1,
        requested_at: order.placed_at,
        outcome_pending: false,
    }
}

impl PaymentsDomain {
    /// `payments` is the module's own pool, `outbox` one whose role may read cursors.
    pub fn new(orders: Orders, payments: PgPool, outbox: PgPool) -> Self {
        Self { orders, payments, outbox, books: Books::default() }
    }
}

#[async_trait]
impl strangler::Movable for PaymentsDomain {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        Ok(self.payments.begin().await?)
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        let pinned = movable::pinned(tx, &ids(keys)?).await?;
        Ok(pinned.into_iter().map(|(id, why)| Pinned { key: id.to_string(), why }).collect())
    }

    async fn give(
        &self,
        tx: &mut PgTransaction<'_>,
        keys: &[(String, strangler::Epoch)],
    ) -> Result<(), BoxError> {
        let given = keys.iter().map(|(key, epoch)| key.parse().map(|id: PaymentId| (id, epoch_of(*epoch))));
        let given = given.collect::<Result<Vec<_>, proto::InvalidId>>()?;
        Ok(movable::give(tx, &given, Record::Offer).await?)
    }

    async fn gained(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), BoxError> {
        Ok(movable::gained(tx, &ids(keys)?).await?)
    }

    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>, BoxError> {
        let known = movable::known(tx, &ids(keys)?).await?;
        Ok(known.iter().map(PaymentId::to_string).collect())
    }

    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        let left = movable::snapshot(tx, &ids(keys)?).await?;
        Ok(left.into_iter().map(|(id, why)| Pinned { key: id.to_string(), why }).collect())
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        let after = after.map(str::parse::<PaymentId>).transpose()?;
        let upto = upto.map(str::parse::<PaymentId>).transpose()?;
        let copies = ::payments::copies(&self.payments, after, upto, limit).await?;
        let copy =
            |PaymentCopy { payment, version, hash }| KeyCopy { key: payment.to_string(), version, hash };
        Ok(copies.into_iter().map(copy).collect())
    }
}

fn ids(keys: &[String]) -> Result<Vec<PaymentId>, proto::InvalidId> {
    keys.iter().map(|key| key.parse()).collect()
}

#[async_trait]
impl strangler::Domain for PaymentsDomain {
    /// From the orders: they name payments whose first event is not applied yet, too.
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError> {
        let after = after.map(str::parse).transpose()?;
        let payments = self.orders.payments(after, limit).await?;
        Ok(payments.into_iter().map(|(tenant, id)| Key { tenant, key: id.to_string() }).collect())
    }

    async fn versions(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        let recent = ::payments::recent(&self.payments, limit).await?;
        Ok(recent.into_iter().map(|(id, version)| (id.to_string(), version)).collect())
    }

    async fn reverse_feed(&self, keys: &[String]) -> Result<Applied, BoxError> {
        let progress = outbox::progress(&self.outbox, Replicate::NAME, PAYMENTS, keys).await?;
        Ok(Applied { versions: progress.versions, parked: progress.parked, awaiting: progress.awaiting })
    }

    /// The replica's books are here too, so a booking of either home that does not balance is found.
    async fn broken(&self) -> Result<Option<String>, BoxError> {
        Ok(self.books.broken(&self.payments).await?)
    }

    async fn outcomes(&self) -> Result<Vec<String>, BoxError> {
        Ok(::payments::shadow::outcomes(&self.payments).await?)
    }
}
