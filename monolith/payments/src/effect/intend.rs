//! The first transaction of an effect: commit what will be asked of the provider, before it is asked.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use proto::PaymentId;
use uuid::Uuid;

use crate::audit::bad_reason;
use crate::{
    Actor, CaptureMethod, Command, Epoch, Error, Home, Idempotency, Operation, Payment, Point, Refusal,
    Status, Tenant, Violation, check, store,
};

/// How long whoever took an intent may work on it before another may. Longer than the few provider calls of one try.
pub(crate) const CLAIM: Duration = Duration::from_secs(15);

/// What a provider's answer may take: one try makes up to four requests, and has its intent to itself for 15 s.
pub const PROVIDER_TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3);

/// How long a command waits for a payment's row that another transaction has; transactions are short.
const ROW_WAIT: Duration = Duration::from_secs(1);
/// The first pause before it looks again.
const ROW_PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest.
const ROW_PAUSE_MAX: Duration = Duration::from_millis(100);

/// A caller's command.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) tenant: Tenant,
    pub(crate) payment: PaymentId,
    pub(crate) operation: Operation,
    pub(crate) amount_minor: Option<i64>,
    pub(crate) idempotency: Idempotency,
    pub(crate) actor: Actor,
    pub(crate) reason: Option<String>,
    pub(crate) epoch: Epoch,
}

/// A committed command without a definite answer yet.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) command: Command,
    /// As it was when the intent was committed or claimed; only what never changes of it is used.
    pub(crate) payment: Payment,
    /// The provider's payment intent, once one exists.
    pub(crate) object: Option<String>,
    /// How often someone took it up again.
    pub(crate) tries: i32,
    /// Within the provider's key lifetime: the same request under the same key is done once.
    pub(crate) repeatable: bool,
    /// How long the provider has kept a fault under the attempt's key.
    pub(crate) kept_for: Option<Duration>,
}

/// What a caller's command came to.
#[derive(Debug)]
pub(crate) enum Intended {
    /// Committed, and without a definite answer.
    Open(Box<Intent>),
    /// The key's stored answer.
    Answered(Box<Payment>),
}

/// Commits the intent of a caller's command, or answers from what is stored under its key. While another transaction has the
/// payment's row it waits outside of its own, so that it holds no connection, and for a bounded time. A payment that begins nothing
/// new now, such as one that is called back, still has the answers that were given: its repeats get theirs.
pub(crate) async fn intend(home: &Home, request: &Request) -> Result<Intended, Error> {
    valid(request)?;
    let (started, mut pause) = (Instant::now(), ROW_PAUSE_MIN);
    loop {
        let busy = match try_intend(home, request).await {
            Ok(Some(intended)) => return Ok(intended),
            Ok(None) => None,
            Err(Error::Busy(why)) => Some(why),
            Err(error) => return Err(error),
        };
        // It may be another request with this key that has the row, and may have had its answer by now.
        let (tenant, idempotency) = (&request.tenant, &request.idempotency);
        let record =
            store::find_key(&home.pool, tenant, request.payment, request.operation, idempotency).await?;
        if record.is_some() {
            return replay(record, idempotency);
        }
        if let Some(why) = busy {
            return Err(Error::Busy(why));
        }
        if started.elapsed() >= ROW_WAIT {
            return Err(Error::Busy("another transaction has it"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ROW_PAUSE_MAX);
    }
}

fn valid(request: &Request) -> Result<(), Error> {
    let amount = request.amount_minor.and_then(|minor| Violation::of_amount("amount_minor", minor));
    let violations: Vec<_> = amount.into_iter().chain(bad_reason(request.reason.as_deref())).collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

/// Lock order: owner row, payment row. `None` when another transaction has the payment's row. Everyone who writes a key has that
/// row, so that claiming one does not wait for anybody.
async fn try_intend(home: &Home, request: &Request) -> Result<Option<Intended>, Error> {
    let mut tx = home.pool.begin().await?;
    let epoch = home.authority.lock(&mut tx, request.payment).await?;
    if request.epoch > epoch {
        return Err(Error::Busy("its latest change of owner has not arrived here"));
    }
    let Some(payment) = store::lock_now(&mut tx, request.payment).await? else { return Ok(None) };
    let payment = payment.filter(|payment| payment.tenant == request.tenant).ok_or(Error::NotFound)?;
    let mut command = Command {
        id: Uuid::now_v7(),
        operation: request.operation,
        amount_minor: 0,
        idempotency: Some(request.idempotency.clone()),
        attempt: 1,
        actor: request.actor.clone(),
        reason: request.reason.clone(),
    };
    if !store::claim_key(&mut tx, &payment, &command, &request.idempotency).await? {
        let (tenant, idempotency) = (&request.tenant, &request.idempotency);
        let record = store::find_key(&mut *tx, tenant, payment.id, request.operation, idempotency).await?;
        return if record.is_some() { replay(record, idempotency).map(Some) } else { Err(full()) };
    }
    command.amount_minor = check(&payment, request.operation, request.amount_minor)?;
    let object = payment.provider_ref.clone();
    let intent = Intent { command, payment, object, tries: 0, repeatable: true, kept_for: None };
    if !store::insert_intent(&mut tx, home.name, &intent).await? {
        return Err(Error::Busy("another command on it has no outcome yet"));
    }
    tx.commit().await?;
    home.crash.point(Point::IntentCommitted);
    Ok(Some(Intended::Open(Box::new(intent))))
}

/// A payment moves between homes as one event, which its keys and lines must fit into.
fn full() -> Error {
    let reason = "the payment has as many commands as it takes: repeat one that was answered, or come again when its keys of the \
                  last 7 days are fewer";
    Error::Invalid(vec![Violation::new("idempotency_key", reason)])
}

/// Commits the engine's own command for a requested payment. `None` when there is nothing to do any more.
pub(crate) async fn intend_requested(home: &Home, id: PaymentId) -> Result<Option<Intent>, Error> {
    let mut tx = home.pool.begin().await?;
    home.authority.lock(&mut tx, id).await?;
    let Some(payment) = store::lock(&mut tx, id).await? else { return Ok(None) };
    if payment.status != Status::Requested {
        return Ok(None);
    }
    let operation = match payment.capture_method {
        CaptureMethod::Automatic => Operation::Charge,
        CaptureMethod::Manual => Operation::Authorize,
    };
    let amount_minor = check(&payment, operation, None)?;
    let command = Command {
        id: Uuid::now_v7(),
        operation,
        amount_minor,
        idempotency: None,
        attempt: 1,
        actor: Actor::engine(),
        reason: None,
    };
    let intent = Intent { command, payment, object: None, tries: 0, repeatable: true, kept_for: None };
    if !store::insert_intent(&mut tx, home.name, &intent).await? {
        return Ok(None);
    }
    tx.commit().await?;
    home.crash.point(Point::IntentCommitted);
    Ok(Some(intent))
}

/// What a used key answers.
pub(crate) fn replay(record: Option<store::Record>, idempotency: &Idempotency) -> Result<Intended, Error> {
    // The claim conflicted with a committed row, and rows are not deleted while a request can see them.
    let record = record.ok_or(Error::InFlight)?;
    if record.fingerprint != idempotency.fingerprint {
        return Err(Error::KeyReused);
    }
    match record.answer {
        None => Err(Error::InFlight),
        Some(Ok(payment)) => Ok(Intended::Answered(Box::new(payment))),
        Some(Err(code)) => Err(Error::Refused(Refusal::Provider { code })),
    }
}
