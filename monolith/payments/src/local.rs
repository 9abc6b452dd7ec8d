//! The desk of this home.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use chassis::fingerprint::fingerprint;
use proto::{Money, PAYMENTS, PaymentId};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::effect::{self, Intended, Intent, Ran, Request, Settled, intend, replay};
use crate::turns::Turns;
use crate::{
    Balance, Capture, Delivered, Desk, Epoch, Error, Home, Idempotency, IdempotencyKey, Metrics, Notice,
    Operation, Page, Payment, Refund, Tenant, Violation, Void, fee, notice, store,
};

/// How long a caller waits for an outcome by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Commands at once that are tried, or whose callers wait for their outcome; more are refused and may be sent again. Half of them
/// for a tenant, as with the bounds below: one whose commands hang at the provider leaves the others theirs.
const COMMANDS_MAX: usize = 256;
/// Looks at once for the answers of keys whose commands found no turn. A refusal must not cost a connection each.
const REPEATS_MAX: usize = 8;
/// Trial balances at once, each of which adds up all lines of a tenant on a connection of those who move money.
const BALANCES_MAX: usize = 2;
/// How often a caller that waits looks whether an engine has got the outcome.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Does callers' commands in tasks of their own: a caller that leaves, or does not wait long enough, stops nothing.
#[derive(Debug, Clone)]
pub struct Local {
    home: Home,
    tasks: TaskTracker,
    commands: Turns,
    repeats: Turns,
    balances: Turns,
    answer_within: Duration,
    metrics: Metrics,
}

impl Local {
    /// The desk of a home. The process waits for `tasks` before it ends.
    pub fn new(home: Home, tasks: TaskTracker) -> Self {
        Self {
            home,
            tasks,
            commands: Turns::new(COMMANDS_MAX),
            repeats: Turns::new(REPEATS_MAX),
            balances: Turns::new(BALANCES_MAX),
            answer_within: ANSWER_WITHIN,
            metrics: Metrics::noop(),
        }
    }

    /// Answers [`Error::OutcomePending`] after another time than 10 s.
    #[must_use]
    pub fn answer_within(mut self, answer_within: Duration) -> Self {
        self.answer_within = answer_within;
        self
    }

    /// Counts commands in flight.
    #[must_use]
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// With so many turns for commands.
    #[cfg(test)]
    pub(crate) fn commands_max(mut self, max: usize) -> Self {
        self.commands = Turns::new(max);
        self
    }

    async fn perform(&self, request: Request) -> Result<Payment, Error> {
        let Some(turn) = self.commands.take(&request.tenant) else { return self.repeat(&request).await };
        let until = Instant::now() + self.answer_within;
        let committed = Arc::new(OnceLock::new());
        let (home, known) = (self.home.clone(), committed.clone());
        // The task's while it tries, and the caller's while it waits: what is open afterwards is the engine's.
        let place = Arc::new((turn, self.metrics.command()));
        let tries = place.clone();
        let work = async move {
            let tried = perform(home, request, known).await;
            drop(tries);
            tried
        };
        let answer = match tokio::time::timeout_at(until, chassis::shield(&self.tasks, work)).await {
            Ok(Ok(Ok(Intended::Answered(payment)))) => Ok(*payment),
            Ok(Ok(Ok(Intended::Open(intent)))) => self.outcome(&intent, until).await,
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(lost)) => Err(Error::Unavailable(lost.to_string())),
            Err(_) => match committed.get() {
                Some(payment) => Err(pending(payment)),
                None => Err(Error::Unavailable("the command could not be committed in time".to_owned())),
            },
        };
        drop(place);
        answer
    }

    /// Waits until then for an engine to get the outcome, and no longer than its caller does.
    async fn outcome(&self, intent: &Intent, until: Instant) -> Result<Payment, Error> {
        let (payment, command) = (&intent.payment, &intent.command);
        let Some(idempotency) = &command.idempotency else { return Err(pending(payment)) };
        let pool = &self.home.pool;
        let record = tokio::time::timeout_at(until, async {
            while !store::is_done(pool, command.id).await? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            store::find_key(pool, &payment.tenant, payment.id, command.operation, idempotency).await
        });
        let Ok(Ok(record)) = record.await else { return Err(pending(payment)) };
        match replay(record, idempotency)? {
            Intended::Answered(payment) => Ok(*payment),
            Intended::Open(intent) => Err(pending(&intent.payment)),
        }
    }

    /// What a command is answered that found no turn: what its key was answered before, which is read without the owner's lock,
    /// for an answer that was given stays.
    async fn repeat(&self, request: &Request) -> Result<Payment, Error> {
        let (tenant, idempotency) = (&request.tenant, &request.idempotency);
        if let Some(_turn) = self.repeats.take(tenant) {
            let pool = &self.home.pool;
            let record =
                store::find_key(pool, tenant, request.payment, request.operation, idempotency).await?;
            if record.as_ref().is_some_and(|record| record.answer.is_some())
                && let Intended::Answered(payment) = replay(record, idempotency)?
            {
                return Ok(*payment);
            }
        }
        let (all, of_tenant) = (self.commands.max(), self.commands.of_tenant_max());
        tracing::error!(%tenant, all, of_tenant, "a command was refused: so many are open of its tenant, or of all");
        Err(Error::Unavailable("too many commands are open".to_owned()))
    }
}

/// The first transaction and the first try. Ends by itself, for every step is bounded; what is open afterwards, an engine goes on
/// with.
async fn perform(home: Home, request: Request, committed: Arc<OnceLock<Payment>>) -> Result<Intended, Error> {
    let intent = match intend(&home, &request).await? {
        Intended::Open(intent) => intent,
        answered @ Intended::Answered(_) => return Ok(answered),
    };
    let payment = committed.get_or_init(|| intent.payment.clone());
    match effect::run(&home, &intent).await {
        Ok(Ran::Settled(settled)) => {
            let answer: Result<Payment, Error> = settled.into();
            answer.map(|payment| Intended::Answered(Box::new(payment)))
        }
        Ok(Ran::Unknown) => Ok(Intended::Open(intent)),
        // The command is committed; what failed is this try.
        Err(error) => {
            tracing::warn!(payment = %payment.id, error = &error as &dyn std::error::Error, "a command has to be tried again");
            Ok(Intended::Open(intent))
        }
    }
}

fn pending(payment: &Payment) -> Error {
    Error::OutcomePending(Box::new(Payment { outcome_pending: true, ..payment.clone() }))
}

#[async_trait]
impl Desk for Local {
    async fn find(&self, tenant: &Tenant, id: PaymentId) -> Result<Payment, Error> {
        store::find(&self.home.pool, tenant, id).await?.ok_or(Error::NotFound)
    }

    /// What waits is asked in a transaction, so in a task of its own: a caller that leaves must not break off its beginning.
    async fn find_copy(&self, tenant: &Tenant, id: PaymentId, at_least: i64) -> Result<Payment, Error> {
        let pool = self.home.pool.clone();
        let work = async move {
            let mut tx = pool.begin().await?;
            let held = outbox::held(&mut tx, PAYMENTS, &[id.to_string()]).await?;
            tx.commit().await?;
            Ok::<_, Error>(!held.is_empty())
        };
        let waits = chassis::shield(&self.tasks, work)
            .await
            .unwrap_or_else(|lost| Err(Error::Unavailable(lost.to_string())))?;
        let payment = self.find(tenant, id).await?;
        if waits {
            return Err(Error::Parked);
        }
        if payment.version < at_least {
            return Err(Error::Behind { here: payment.version, head: at_least });
        }
        Ok(payment)
    }

    async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error> {
        if !(1..=Page::SIZE_MAX).contains(&page.size) {
            return Err(Error::Invalid(vec![Violation::new("page_size", "1 to 200 is allowed")]));
        }
        store::list(&self.home.pool, tenant, page).await
    }

    /// In a task of its own: the statement of a caller that leaves goes on, and must keep its turn.
    async fn trial_balance(&self, tenant: &Tenant) -> Result<Vec<Balance>, Error> {
        let Some(turn) = self.balances.take(tenant) else {
            return Err(Error::Unavailable("other trial balances are being added up".to_owned()));
        };
        let (pool, tenant) = (self.home.pool.clone(), tenant.clone());
        let work = async move {
            let balances = store::trial_balance(&pool, &tenant).await;
            drop(turn);
            balances
        };
        chassis::shield(&self.tasks, work)
            .await
            .unwrap_or_else(|lost| Err(Error::Unavailable(lost.to_string())))
    }

    async fn quote_fee(&self, amount: Money) -> Result<Money, Error> {
        if let Some(violation) = Violation::of_amount("amount", amount.minor) {
            return Err(Error::Invalid(vec![violation]));
        }
        fee(amount).map_err(|error| Error::Refused(error.into()))
    }

    async fn capture(&self, capture: &Capture, epoch: Epoch) -> Result<Payment, Error> {
        let idempotency =
            idempotency(&capture.key, Operation::Capture, capture.payment, capture.amount_minor);
        self.perform(Request {
            tenant: capture.tenant.clone(),
            payment: capture.payment,
            operation: Operation::Capture,
            amount_minor: capture.amount_minor,
            idempotency,
            actor: capture.by.clone(),
            reason: capture.reason.clone(),
            epoch,
        })
        .await
    }

    async fn void(&self, void: &Void, epoch: Epoch) -> Result<Payment, Error> {
        self.perform(Request {
            tenant: void.tenant.clone(),
            payment: void.payment,
            operation: Operation::Void,
            amount_minor: None,
            idempotency: idempotency(&void.key, Operation::Void, void.payment, None),
            actor: void.by.clone(),
            reason: void.reason.clone(),
            epoch,
        })
        .await
    }

    async fn refund(&self, refund: &Refund, epoch: Epoch) -> Result<Payment, Error> {
        let idempotency = idempotency(&refund.key, Operation::Refund, refund.payment, refund.amount_minor);
        self.perform(Request {
            tenant: refund.tenant.clone(),
            payment: refund.payment,
            operation: Operation::Refund,
            amount_minor: refund.amount_minor,
            idempotency,
            actor: refund.by.clone(),
            reason: refund.reason.clone(),
            epoch,
        })
        .await
    }

    /// In a task of its own too: its transaction must not be dropped with the call.
    async fn deliver(&self, notice: &Notice, epoch: Epoch) -> Result<Delivered, Error> {
        let (home, notice) = (self.home.clone(), notice.clone());
        let work = async move { notice::deliver(&home, &notice, epoch).await };
        chassis::shield(&self.tasks, work)
            .await
            .unwrap_or_else(|lost| Err(Error::Unavailable(lost.to_string())))
    }
}

/// The fingerprint is of the command itself, so it is the same whichever way the command came and whichever home it meets.
fn idempotency(
    key: &IdempotencyKey,
    operation: Operation,
    payment: PaymentId,
    amount_minor: Option<i64>,
) -> Idempotency {
    let amount = amount_minor.map(|amount| amount.to_string()).unwrap_or_default();
    let fingerprint = fingerprint(operation.word(), &payment.to_string(), amount.as_bytes());
    Idempotency { key: key.clone(), fingerprint }
}

impl From<Settled> for Result<Payment, Error> {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Payment(payment) => Ok(*payment),
            Settled::Refused(refusal) => Err(Error::Refused(refusal)),
        }
    }
}
