//! The rules, pure: which command a payment allows, and what its outcome makes of it.

use std::fmt;

use proto::{Money, MoneyError};
use uuid::Uuid;

use crate::payment::words;
use crate::transitions::{Transition, steps};
use crate::{Actor, IdempotencyKey, Payment, Status, Transaction};

/// What is done to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Take the money at once (the owner's engine).
    Charge,
    /// Reserve it (the owner's engine).
    Authorize,
    /// Take reserved money.
    Capture,
    /// Release reserved money.
    Void,
    /// Return taken money.
    Refund,
}

words!(Operation {
    Charge = "charge",
    Authorize = "authorize",
    Capture = "capture",
    Void = "void",
    Refund = "refund",
});

/// A caller's key and the fingerprint of the request that first used it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key.
    pub key: IdempotencyKey,
    /// SHA-256, hexadecimal.
    pub fingerprint: String,
}

/// What was asked of the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its id.
    pub id: Uuid,
    /// What is done.
    pub operation: Operation,
    /// How much.
    pub amount_minor: i64,
    /// `None` for the engine's own commands.
    pub idempotency: Option<Idempotency>,
    /// Grows only after a definite answer.
    pub attempt: i32,
    /// Who asked.
    pub actor: Actor,
    /// Why, in the caller's words.
    pub reason: Option<String>,
}

/// What kind of answer the provider definitely gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The amount was taken.
    Succeeded,
    /// It is reserved.
    RequiresCapture,
    /// No.
    Declined,
    /// The reservation is released.
    Canceled,
    /// The amount goes back.
    Refunded,
}

/// What the provider definitely answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command's amount was taken.
    Succeeded {
        /// The payment intent.
        object: String,
    },
    /// The command's amount is reserved.
    RequiresCapture {
        /// The payment intent.
        object: String,
    },
    /// No.
    Declined {
        /// The payment intent; empty when the provider made none.
        object: String,
        /// The provider's code.
        code: String,
    },
    /// The reservation is released.
    Canceled {
        /// The payment intent.
        object: String,
    },
    /// The command's amount goes back.
    Refunded {
        /// The refund.
        object: String,
    },
}

/// What changed; one kind of event each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The amount is reserved.
    Authorized,
    /// Money was taken.
    Captured,
    /// The provider said no.
    Declined,
    /// The reservation was released.
    Voided,
    /// Money was returned.
    Refunded,
}

/// A change with its cause: the state after it, the command, its outcome and the postings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// What changed.
    pub change: Change,
    /// The state after it. Its version is still the one before; publishing gives the new one.
    pub payment: Payment,
    /// What was asked.
    pub command: Command,
    /// What was answered.
    pub outcome: Outcome,
    /// What moved; `None` when no money did.
    pub ledger: Option<Transaction>,
}

/// Why a command is refused. Nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The payment's status does not allow it.
    #[error("a payment that is {status} does not allow {operation}")]
    IllegalTransition {
        /// Its status.
        status: Status,
        /// What was asked.
        operation: Operation,
    },
    /// More than there is.
    #[error("{asked} minor units were asked for, but only {available} are available")]
    AmountTooLarge {
        /// What was asked.
        asked: i64,
        /// What there is.
        available: i64,
    },
    /// Nothing, or a part of what goes only as a whole.
    #[error("{operation} of {asked} of {available} minor units is not possible")]
    AmountNotAllowed {
        /// What was to be done.
        operation: Operation,
        /// With how much.
        asked: i64,
        /// What there is.
        available: i64,
    },
    /// The provider refused; a decline is an outcome, this is not.
    #[error("the provider refused: {code}")]
    Provider {
        /// The provider's code.
        code: String,
    },
    /// An answer that does not belong to the command. Someone must look.
    #[error("the outcome {outcome} does not answer {operation}")]
    WrongOutcome {
        /// What was asked.
        operation: Operation,
        /// What was answered.
        outcome: &'static str,
    },
    /// An adjustment by nothing.
    #[error("an adjustment needs an amount that is not zero")]
    EmptyAdjustment,
    /// An amount left the range of 64 bits.
    #[error(transparent)]
    Money(#[from] MoneyError),
}

/// The amount that a command is about, if [`TRANSITIONS`](crate::TRANSITIONS) has a step for it. `amount_minor` `None`: all
/// there is.
///
/// # Errors
/// [`Refusal::IllegalTransition`], [`Refusal::AmountTooLarge`], [`Refusal::AmountNotAllowed`].
pub fn check(payment: &Payment, operation: Operation, amount_minor: Option<i64>) -> Result<i64, Refusal> {
    let mut steps = steps(payment.status, operation).peekable();
    if steps.peek().is_none() {
        return Err(Refusal::IllegalTransition { status: payment.status, operation });
    }
    let available = available(payment, operation);
    let asked = amount_minor.unwrap_or(available);
    if asked > available {
        return Err(Refusal::AmountTooLarge { asked, available });
    }
    if !steps.any(|step| step.share.fits(asked, available)) {
        return Err(Refusal::AmountNotAllowed { operation, asked, available });
    }
    Ok(asked)
}

/// What a command and its outcome make of a payment. The same input gives the same event in both homes.
///
/// # Errors
/// Everything of [`check`]; [`Refusal::WrongOutcome`].
pub fn decide(payment: &Payment, command: &Command, outcome: &Outcome) -> Result<PaymentEvent, Refusal> {
    let step = transition(payment, command, outcome)?;
    let moved = Money::new(command.amount_minor, payment.amount.currency);
    let ledger = match step.change {
        Change::Captured => Some(Transaction::capture(command.id, moved)?),
        Change::Refunded => Some(Transaction::refund(command.id, moved)?),
        Change::Authorized | Change::Declined | Change::Voided => None,
    };
    let payment = after(payment, step, command, outcome);
    let (command, outcome) = (command.clone(), outcome.clone());
    Ok(PaymentEvent { change: step.change, payment, command, outcome, ledger })
}

/// The state after an event, made anew from the state before it, the command and its outcome: the step of a fold over a stream.
///
/// # Errors
/// As [`decide`]: no such event can come next.
pub fn apply(payment: &Payment, event: &PaymentEvent) -> Result<Payment, Refusal> {
    let step = transition(payment, &event.command, &event.outcome)?;
    let after = after(payment, step, &event.command, &event.outcome);
    Ok(Payment { version: payment.version + 1, ..after })
}

/// Minor units that an operation can be about.
fn available(payment: &Payment, operation: Operation) -> i64 {
    match operation {
        Operation::Charge | Operation::Authorize => payment.amount.minor,
        Operation::Capture | Operation::Void => payment.authorized_minor,
        Operation::Refund => payment.refundable_minor(),
    }
}

fn transition(
    payment: &Payment,
    command: &Command,
    outcome: &Outcome,
) -> Result<&'static Transition, Refusal> {
    let operation = command.operation;
    let asked = check(payment, operation, Some(command.amount_minor))?;
    let (answer, available) = (outcome.answer(), available(payment, operation));
    steps(payment.status, operation)
        .find(|step| step.answer == answer && step.share.fits(asked, available))
        .ok_or_else(|| Refusal::WrongOutcome { operation, outcome: outcome.word() })
}

fn after(payment: &Payment, step: &Transition, command: &Command, outcome: &Outcome) -> Payment {
    let mut after = Payment { status: step.to, ..payment.clone() };
    let amount = command.amount_minor;
    match step.change {
        Change::Authorized => after.authorized_minor = amount,
        Change::Captured => {
            if command.operation == Operation::Charge {
                after.authorized_minor = amount;
            }
            after.captured_minor = amount;
        }
        Change::Declined | Change::Voided => {}
        // Not above what was captured: the step is for no more than that.
        Change::Refunded => after.refunded_minor += amount,
    }
    if let (Some(intent), None) = (outcome.payment_intent(), &after.provider_ref) {
        after.provider_ref = Some(intent.to_owned());
    }
    after
}

impl Answer {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Succeeded, Self::RequiresCapture, Self::Declined, Self::Canceled, Self::Refunded];

    /// Its stable word, as in events.
    pub const fn word(self) -> &'static str {
        match self {
            Answer::Succeeded => "succeeded",
            Answer::RequiresCapture => "requires_capture",
            Answer::Declined => "declined",
            Answer::Canceled => "canceled",
            Answer::Refunded => "refunded",
        }
    }
}

impl Outcome {
    /// Its kind.
    pub const fn answer(&self) -> Answer {
        match self {
            Outcome::Succeeded { .. } => Answer::Succeeded,
            Outcome::RequiresCapture { .. } => Answer::RequiresCapture,
            Outcome::Declined { .. } => Answer::Declined,
            Outcome::Canceled { .. } => Answer::Canceled,
            Outcome::Refunded { .. } => Answer::Refunded,
        }
    }

    /// Its stable word.
    pub const fn word(&self) -> &'static str {
        self.answer().word()
    }

    /// The provider's object: a payment intent, or a refund.
    pub fn object(&self) -> &str {
        match self {
            Outcome::Succeeded { object }
            | Outcome::RequiresCapture { object }
            | Outcome::Declined { object, .. }
            | Outcome::Canceled { object }
            | Outcome::Refunded { object } => object,
        }
    }

    fn payment_intent(&self) -> Option<&str> {
        match self {
            Outcome::Refunded { .. } => None,
            Outcome::Succeeded { object }
            | Outcome::RequiresCapture { object }
            | Outcome::Declined { object, .. }
            | Outcome::Canceled { object } => Some(object.as_str()).filter(|object| !object.is_empty()),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
