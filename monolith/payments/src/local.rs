//! The desk of this home.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use chassis::fingerprint::fingerprint;
use proto::{Money, PaymentId};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::effect::{self, Intended, Intent, Ran, Request, Settled, intend, replay};
use crate::{
    Balance, Capture, Delivered, Desk, Epoch, Error, Home, Idempotency, IdempotencyKey, Metrics, Notice,
    Operation, Page, Payment, Refund, Tenant, Violation, Void, fee, notice, store,
};

/// How long a caller waits for an outcome by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Commands at once, those whose callers have left included; more are refused and may be sent again.
const COMMANDS_MAX: usize = 256;
/// How often a caller that waits looks whether an engine has got the outcome.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Does callers' commands in tasks of their own: a caller that leaves, or does not wait long enough, stops nothing.
#[derive(Debug, Clone)]
pub struct Local {
    home: Home,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    answer_within: Duration,
    metrics: Metrics,
}

impl Local {
    /// The desk of a home. The process waits for `tasks` before it ends.
    pub fn new(home: Home, tasks: TaskTracker) -> Self {
        let permits = Arc::new(Semaphore::new(COMMANDS_MAX));
        Self { home, tasks, permits, answer_within: ANSWER_WITHIN, metrics: Metrics::noop() }
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

    async fn perform(&self, request: Request) -> Result<Payment, Error> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            tracing::error!(commands_max = COMMANDS_MAX, "a command was refused: too many are open");
            return Err(Error::Unavailable("too many commands are open".to_owned()));
        };
        let committed = Arc::new(OnceLock::new());
        let (home, known) = (self.home.clone(), committed.clone());
        let in_flight = self.metrics.command();
        let work = async move {
            let answer = perform(home, request, known).await;
            drop((permit, in_flight));
            answer
        };
        let waiting = chassis::shield(&self.tasks, work);
        match tokio::time::timeout(self.answer_within, waiting).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(lost)) => Err(Error::Unavailable(lost.to_string())),
            Err(_) => match committed.get() {
                Some(payment) => Err(pending(payment)),
                None => Err(Error::Unavailable("the command could not be committed in time".to_owned())),
            },
        }
    }
}

/// From the first transaction to the outcome. Ends by itself: every step is bounded, and without an outcome an engine goes on.
async fn perform(home: Home, request: Request, committed: Arc<OnceLock<Payment>>) -> Result<Payment, Error> {
    let intent = match intend(&home, &request).await? {
        Intended::Answered(payment) => return Ok(*payment),
        Intended::Open(intent) => intent,
    };
    let payment = committed.get_or_init(|| intent.payment.clone());
    match effect::run(&home, &intent).await {
        Ok(Ran::Settled(settled)) => settled.into(),
        Ok(Ran::Unknown) => outcome(&home, &intent).await,
        // The command is committed; what failed is this try.
        Err(error) => {
            tracing::warn!(payment = %payment.id, error = &error as &dyn std::error::Error, "a command has to be tried again");
            outcome(&home, &intent).await
        }
    }
}

/// Waits for an engine to get the outcome, as long as a caller would.
async fn outcome(home: &Home, intent: &Intent) -> Result<Payment, Error> {
    let waited = tokio::time::timeout(ANSWER_WITHIN, async {
        while !store::is_done(&home.pool, intent.command.id).await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok::<_, Error>(())
    });
    let (Ok(Ok(())), Some(idempotency)) = (waited.await, &intent.command.idempotency) else {
        return Err(pending(&intent.payment));
    };
    let payment = &intent.payment;
    let record =
        store::find_key(&home.pool, &payment.tenant, payment.id, intent.command.operation, idempotency)
            .await?;
    match replay(record, idempotency)? {
        Intended::Answered(payment) => Ok(*payment),
        Intended::Open(intent) => Err(pending(&intent.payment)),
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

    async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error> {
        if !(1..=Page::SIZE_MAX).contains(&page.size) {
            return Err(Error::Invalid(vec![Violation::new("page_size", "1 to 200 is allowed")]));
        }
        store::list(&self.home.pool, tenant, page).await
    }

    async fn trial_balance(&self, tenant: &Tenant) -> Result<Vec<Balance>, Error> {
        store::trial_balance(&self.home.pool, tenant).await
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
