//! The source's half of payments, and the seam between the homes.
//!
//! [`AtSource`] locks a payment's owner inside each write of this home, and takes it back when the other home releases it;
//! [`MovingPayments`] sends what callers ask to the home that owns it. [`PaymentsDomain`] is what the migration's controller needs to
//! know, and how payments are given up here.

mod books;
mod comparing;
mod domain;

use std::collections::HashSet;
use std::sync::Arc;

use ::payments::{
    Balance, Births, Capture, Delivered, Desk, Epoch, Error, Notice, Page, Payment, Refund, Tenant, Void,
};
use async_trait::async_trait;
use orders::Orders;
use proto::{Money, PaymentId};
use sqlx::postgres::PgTransaction;
use strangler::{Answer, Asked, Fallback, Home, Owners, Reads, Seal, Seam};

use self::comparing::{Shown, read, version_shown};
pub use self::domain::PaymentsDomain;
use super::{known, not_applied, order_of};

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

/// What the seam needs to know of the two desks.
#[derive(Debug)]
struct Desks;

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

    async fn offered(&self, _: &mut PgTransaction<'_>, _: &[(PaymentId, Epoch)]) -> Result<(), Error> {
        Err(Error::ForeignWrite)
    }

    async fn released(
        &self,
        tx: &mut PgTransaction<'_>,
        payments: &[(PaymentId, Epoch)],
    ) -> Result<Vec<PaymentId>, Error> {
        let release =
            |(payment, epoch): &(PaymentId, Epoch)| (payment.to_string(), strangler::Epoch(epoch.0));
        let releases: Vec<_> = payments.iter().map(release).collect();
        let mine: HashSet<String> =
            self.0.take_all_back(tx, &releases).await.map_err(authority)?.into_iter().collect();
        let taken = payments.iter().zip(releases).filter(|(_, (key, _))| mine.contains(key));
        Ok(taken.map(|((payment, _), _)| *payment).collect())
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
        let order = order_of(&self.orders, tenant, id).await?;
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
        order_of(&self.orders, &capture.tenant, capture.payment).await?;
        let run =
            |home: Arc<dyn Desk>, epoch| async move { known(home.capture(capture, epoch_of(epoch)).await) };
        self.shown(capture.payment, self.seam.write(&capture.payment.to_string(), run).await)
    }

    async fn void(&self, void: &Void, _: Epoch) -> Result<Payment, Error> {
        order_of(&self.orders, &void.tenant, void.payment).await?;
        let run = |home: Arc<dyn Desk>, epoch| async move { known(home.void(void, epoch_of(epoch)).await) };
        self.shown(void.payment, self.seam.write(&void.payment.to_string(), run).await)
    }

    async fn refund(&self, refund: &Refund, _: Epoch) -> Result<Payment, Error> {
        order_of(&self.orders, &refund.tenant, refund.payment).await?;
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

fn epoch_of(epoch: strangler::Epoch) -> Epoch {
    Epoch(epoch.get())
}
