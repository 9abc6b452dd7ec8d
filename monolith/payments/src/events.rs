//! Between the domain and its messages.

use outbox::BoxError;
use proto::{Money, PaymentId, events as wire};
use sqlx::postgres::PgTransaction;
use time::OffsetDateTime;

use crate::reconcile::{Accepted, DifferenceKind, Found};
use crate::store::Kept;
use crate::{
    Account, Actor, AdjustedEvent, Adjustment, Answer, CaptureMethod, Change, Command, Error, Idempotency,
    Operation, Outcome, Payment, PaymentEvent, Posting, Status, Transaction,
};

/// Publishes a change in `tx` and returns its version.
pub(crate) async fn publish(tx: &mut PgTransaction<'_>, event: &PaymentEvent) -> Result<i64, Error> {
    let state = Some(state(&event.payment));
    let command = Some(command(&event.command));
    let outcome = Some(outcome(&event.outcome));
    let ledger: Vec<_> = event.ledger.iter().map(transaction).collect();
    let version = match event.change {
        Change::Authorized => {
            outbox::publish(tx, &wire::PaymentAuthorized { state, command, outcome, ledger }).await
        }
        Change::Captured => {
            outbox::publish(tx, &wire::PaymentCaptured { state, command, outcome, ledger }).await
        }
        Change::Declined => {
            outbox::publish(tx, &wire::PaymentDeclined { state, command, outcome, ledger }).await
        }
        Change::Voided => outbox::publish(tx, &wire::PaymentVoided { state, command, outcome, ledger }).await,
        Change::Refunded => {
            outbox::publish(tx, &wire::PaymentRefunded { state, command, outcome, ledger }).await
        }
    };
    Ok(version?)
}

/// Publishes an adjustment in `tx` and returns its version.
pub(crate) async fn publish_adjusted(
    tx: &mut PgTransaction<'_>,
    event: &AdjustedEvent,
) -> Result<i64, Error> {
    let adjusted = wire::PaymentAdjusted {
        state: Some(state(&event.payment)),
        adjustment: Some(adjustment(&event.adjustment)),
        ledger: vec![transaction(&event.ledger)],
    };
    Ok(outbox::publish(tx, &adjusted).await?)
}

/// A payment as a message.
pub(crate) fn state(payment: &Payment) -> wire::PaymentState {
    wire::PaymentState {
        payment_id: payment.id.to_string(),
        tenant: payment.tenant.to_string(),
        order_id: payment.order.to_string(),
        amount: Some(payment.amount.into()),
        capture_method: match payment.capture_method {
            CaptureMethod::Automatic => wire::CaptureMethod::Automatic.into(),
            CaptureMethod::Manual => wire::CaptureMethod::Manual.into(),
        },
        payment_method: payment.payment_method.clone(),
        status: match payment.status {
            Status::Requested => wire::PaymentStatus::Requested.into(),
            Status::Authorized => wire::PaymentStatus::Authorized.into(),
            Status::Captured => wire::PaymentStatus::Captured.into(),
            Status::Declined => wire::PaymentStatus::Declined.into(),
            Status::Voided => wire::PaymentStatus::Voided.into(),
            Status::Refunded => wire::PaymentStatus::Refunded.into(),
        },
        authorized_minor: payment.authorized_minor,
        captured_minor: payment.captured_minor,
        refunded_minor: payment.refunded_minor,
        provider_ref: payment.provider_ref.clone().unwrap_or_default(),
        requested_at_ms: to_millis(payment.requested_at),
    }
}

/// A command as a message.
pub(crate) fn command(command: &Command) -> wire::PaymentCommand {
    let (key, fingerprint) = match &command.idempotency {
        Some(Idempotency { key, fingerprint }) => (key.to_string(), fingerprint.clone()),
        None => Default::default(),
    };
    wire::PaymentCommand {
        command_id: command.id.to_string(),
        operation: command.operation.word().to_owned(),
        amount_minor: command.amount_minor,
        idempotency_key: key,
        fingerprint,
        attempt: command.attempt,
        actor: command.actor.to_string(),
        reason: command.reason.clone().unwrap_or_default(),
    }
}

/// The provider's answer as a message.
pub(crate) fn outcome(outcome: &Outcome) -> wire::ProviderOutcome {
    let decline_code = match outcome {
        Outcome::Declined { code, .. } => code.clone(),
        Outcome::Succeeded { .. }
        | Outcome::RequiresCapture { .. }
        | Outcome::Canceled { .. }
        | Outcome::Refunded { .. } => String::new(),
    };
    wire::ProviderOutcome {
        result: outcome.word().to_owned(),
        object: outcome.object().to_owned(),
        decline_code,
    }
}

/// An adjustment as a message.
pub(crate) fn adjustment(adjustment: &Adjustment) -> wire::Adjustment {
    let Adjustment { id, delta_minor, object, payment_intent, reason } = adjustment.clone();
    let (adjustment_id, payment_intent) = (id.to_string(), payment_intent.unwrap_or_default());
    wire::Adjustment { adjustment_id, delta_minor, object, reason, payment_intent }
}

pub(crate) fn transaction(transaction: &Transaction) -> wire::LedgerTransaction {
    let line = |posting: &Posting| wire::Posting {
        account: posting.account.word().to_owned(),
        amount: Some(posting.amount.into()),
    };
    wire::LedgerTransaction {
        transaction_id: transaction.id.to_string(),
        postings: transaction.postings.iter().map(line).collect(),
    }
}

/// A message as a payment at `version`.
pub(crate) fn read_state(state: wire::PaymentState, version: i64) -> Result<Payment, BoxError> {
    let status = match state.status() {
        wire::PaymentStatus::Unspecified => return Err("the payment has no status".into()),
        wire::PaymentStatus::Requested => Status::Requested,
        wire::PaymentStatus::Authorized => Status::Authorized,
        wire::PaymentStatus::Captured => Status::Captured,
        wire::PaymentStatus::Declined => Status::Declined,
        wire::PaymentStatus::Voided => Status::Voided,
        wire::PaymentStatus::Refunded => Status::Refunded,
    };
    Ok(Payment {
        id: state.payment_id.parse()?,
        tenant: state.tenant.parse()?,
        order: state.order_id.parse()?,
        amount: money(state.amount.clone())?,
        capture_method: read_capture_method(state.capture_method())?,
        status,
        payment_method: state.payment_method,
        authorized_minor: state.authorized_minor,
        captured_minor: state.captured_minor,
        refunded_minor: state.refunded_minor,
        provider_ref: Some(state.provider_ref).filter(|reference| !reference.is_empty()),
        version,
        requested_at: from_millis(state.requested_at_ms)?,
        outcome_pending: false,
    })
}

/// The stream's first event as a payment.
pub(crate) fn read_requested(event: wire::PaymentRequested, version: i64) -> Result<Payment, BoxError> {
    Ok(Payment {
        id: event.payment_id.parse()?,
        tenant: event.tenant.parse()?,
        order: event.order_id.parse()?,
        amount: money(event.amount.clone())?,
        capture_method: read_capture_method(event.capture_method())?,
        payment_method: event.payment_method,
        status: Status::Requested,
        authorized_minor: 0,
        captured_minor: 0,
        refunded_minor: 0,
        provider_ref: None,
        version,
        requested_at: from_millis(event.requested_at_ms)?,
        outcome_pending: false,
    })
}

/// The command of a foreign event, when it has a caller's key. A key without its fingerprint can't be compared: an error.
pub(crate) fn read_keyed(command: Option<wire::PaymentCommand>) -> Result<Option<Command>, BoxError> {
    let command = command.ok_or("the event has no command")?;
    if command.idempotency_key.is_empty() {
        return Ok(None);
    }
    if command.fingerprint.is_empty() {
        return Err("the command has a key, but no fingerprint".into());
    }
    Ok(Some(read_command(command)?))
}

/// A message as a command, whoever asked.
pub(crate) fn read_command(command: wire::PaymentCommand) -> Result<Command, BoxError> {
    let idempotency = match command.idempotency_key.as_str() {
        "" => None,
        key => Some(Idempotency { key: key.parse()?, fingerprint: command.fingerprint }),
    };
    Ok(Command {
        id: command.command_id.parse()?,
        operation: Operation::from_word(&command.operation)?,
        amount_minor: command.amount_minor,
        idempotency,
        attempt: command.attempt,
        actor: Actor::stored(command.actor),
        reason: Some(command.reason).filter(|reason| !reason.is_empty()),
    })
}

/// A message as the provider's answer.
pub(crate) fn read_outcome(outcome: wire::ProviderOutcome) -> Result<Outcome, BoxError> {
    let wire::ProviderOutcome { result, object, decline_code } = outcome;
    let answer = Answer::ALL.iter().find(|answer| answer.word() == result);
    Ok(match answer.ok_or("the outcome is none that this version knows")? {
        Answer::Succeeded => Outcome::Succeeded { object },
        Answer::RequiresCapture => Outcome::RequiresCapture { object },
        Answer::Declined => Outcome::Declined { object, code: decline_code },
        Answer::Canceled => Outcome::Canceled { object },
        Answer::Refunded => Outcome::Refunded { object },
    })
}

/// An accepted difference as a message.
pub(crate) fn accepted(accepted: Accepted) -> wire::AcceptedDifference {
    let Accepted { found, by, reason } = accepted;
    wire::AcceptedDifference {
        subject: found.subject,
        kind: found.kind.word().to_owned(),
        object: found.object,
        here_minor: found.here_minor,
        there_minor: found.there_minor,
        currency: found.currency.map(|currency| currency.to_string()).unwrap_or_default(),
        detail: found.detail,
        at_ms: to_millis(found.at),
        by,
        reason,
    }
}

/// A message as an accepted difference of this payment. `None`: it is of a kind that is not known here.
pub(crate) fn read_accepted(
    accepted: wire::AcceptedDifference,
    payment: &Payment,
) -> Result<Option<Accepted>, BoxError> {
    let Ok(kind) = DifferenceKind::from_word(&accepted.kind) else { return Ok(None) };
    let currency = Some(accepted.currency).filter(|currency| !currency.is_empty());
    let found = Found {
        subject: accepted.subject,
        kind,
        payment: Some((payment.id, payment.tenant.clone())),
        object: accepted.object,
        here_minor: accepted.here_minor,
        there_minor: accepted.there_minor,
        currency: currency.map(|currency| currency.parse()).transpose()?,
        detail: accepted.detail,
        at: from_millis(accepted.at_ms)?,
    };
    Ok(Some(Accepted { found, by: accepted.by, reason: accepted.reason }))
}

/// A message as an adjustment.
pub(crate) fn read_adjustment(adjustment: wire::Adjustment) -> Result<Adjustment, BoxError> {
    let wire::Adjustment { adjustment_id, delta_minor, object, reason, payment_intent } = adjustment;
    let payment_intent = Some(payment_intent).filter(|intent| !intent.is_empty());
    Ok(Adjustment { id: adjustment_id.parse()?, delta_minor, object, payment_intent, reason })
}

/// Ledger transactions of a foreign event.
pub(crate) fn read_ledger(ledger: Vec<wire::LedgerTransaction>) -> Result<Vec<Transaction>, BoxError> {
    ledger.into_iter().map(read_transaction).collect()
}

fn read_transaction(transaction: wire::LedgerTransaction) -> Result<Transaction, BoxError> {
    let line = |posting: wire::Posting| -> Result<Posting, BoxError> {
        Ok(Posting { account: Account::from_word(&posting.account)?, amount: money(posting.amount)? })
    };
    Ok(Transaction {
        id: transaction.transaction_id.parse()?,
        postings: transaction.postings.into_iter().map(line).collect::<Result<_, _>>()?,
    })
}

fn read_capture_method(method: wire::CaptureMethod) -> Result<CaptureMethod, BoxError> {
    match method {
        wire::CaptureMethod::Unspecified => Err("the payment has no capture method".into()),
        wire::CaptureMethod::Automatic => Ok(CaptureMethod::Automatic),
        wire::CaptureMethod::Manual => Ok(CaptureMethod::Manual),
    }
}

fn money(amount: Option<wire::Money>) -> Result<Money, BoxError> {
    Ok(amount.ok_or(proto::MoneyError::Missing)?.try_into()?)
}

/// A kept answer as a message.
pub(crate) fn answer(kept: Kept) -> wire::IdempotencyRecord {
    let (answer, answer_version, refusal) = match kept.answer {
        Ok(payment) => (Some(state(&payment)), payment.version, String::new()),
        Err(code) => (None, 0, code),
    };
    wire::IdempotencyRecord {
        operation: kept.operation.word().to_owned(),
        key: kept.idempotency.key.to_string(),
        fingerprint: kept.idempotency.fingerprint,
        command_id: kept.command.to_string(),
        created_at_ms: to_millis(kept.at),
        answer,
        answer_version,
        refusal,
    }
}

/// A message as a kept answer.
pub(crate) fn read_answer(record: wire::IdempotencyRecord) -> Result<Kept, BoxError> {
    if record.fingerprint.is_empty() {
        return Err("an idempotency record has no fingerprint".into());
    }
    let answer = match record.answer {
        Some(_) if !record.refusal.is_empty() => return Err("a command was answered and refused".into()),
        Some(_) if record.answer_version < 1 => return Err("an answer has no version".into()),
        Some(state) => Ok(read_state(state, record.answer_version)?),
        None => Err(record.refusal),
    };
    Ok(Kept {
        operation: Operation::from_word(&record.operation)?,
        idempotency: Idempotency { key: record.key.parse()?, fingerprint: record.fingerprint },
        command: record.command_id.parse()?,
        answer,
        at: from_millis(record.created_at_ms)?,
    })
}

/// The payment that a key names.
pub(crate) fn read_key(key: &str) -> Result<PaymentId, BoxError> {
    Ok(key.parse()?)
}

/// Milliseconds since the Unix epoch; a time outside of 64 bits of them can't come from the database.
pub(crate) fn to_millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

pub(crate) fn from_millis(ms: i64) -> Result<OffsetDateTime, BoxError> {
    Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)?)
}
