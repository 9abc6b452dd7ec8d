//! Asking the provider. No transaction is open here, and the future outlives the request that caused it.
//!
//! Every request of an intent is sent under a key made of the intent alone, so whoever takes the intent up again, after a crash
//! or for want of an answer, repeats the same request and it is done once. No answer is not an answer: `unknown`.

mod intend;
mod settle;

use std::time::Duration;

use crate::provider::{Failure, Move, NewIntent, Object, ObjectStatus, Tag};
use crate::{Error, Home, Operation, Outcome, Point, store};

use settle::settle;

pub use intend::PROVIDER_TIMEOUTS;
pub(crate) use intend::{CLAIM, Intended, Intent, Request, intend, intend_requested, replay};
pub(crate) use settle::Settled;

/// The first pause before an unanswered intent is taken up again.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Tries without an answer from which on each is an alarm.
const TRIES_ALARM: i32 = 12;

/// How far one try came.
#[derive(Debug)]
pub(crate) enum Ran {
    /// The definite answer is committed.
    Settled(Settled),
    /// There is none; an engine asks again.
    Unknown,
}

/// A definite answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The command has an outcome that [`crate::decide`] understands.
    Outcome(Outcome),
    /// The provider refuses the command and the payment stays as it is.
    Refused(String),
}

/// Where a payment intent stands in view of a command.
enum Standing {
    /// It says how the command ended.
    Definite(Verdict),
    /// The command has not had its effect.
    Undone,
    /// Nothing can be said.
    Unknown(String),
}

/// One try at an intent that the caller has claimed.
pub(crate) async fn run(home: &Home, intent: &Intent) -> Result<Ran, Error> {
    let ran = match ask(home, intent).await {
        Ok(Ok(verdict)) => settle(home, intent, &verdict).await.map(Ran::Settled),
        Ok(Err(why)) => return unknown(home, intent, &why).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &ran {
        tracing::warn!(payment = %intent.payment.id, command = %intent.command.id, %error, "an answer could not be committed");
        store::release(&home.pool, intent.command.id, backoff(intent.tries)).await?;
    }
    ran
}

async fn unknown(home: &Home, intent: &Intent, why: &str) -> Result<Ran, Error> {
    let (payment, command, tries) = (intent.payment.id, intent.command.id, intent.tries);
    if tries < TRIES_ALARM {
        tracing::info!(%payment, %command, tries, why, "the provider gave no definite answer");
    } else {
        tracing::error!(%payment, %command, tries, why, "the provider still gives no definite answer");
    }
    store::defer(&home.pool, command, why, backoff(tries)).await?;
    home.crash.point(Point::UnknownCommitted);
    Ok(Ran::Unknown)
}

fn backoff(tries: i32) -> Duration {
    let doublings = u32::try_from(tries.clamp(0, 10)).unwrap_or_default();
    BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

/// Inner error: why there is no definite answer.
async fn ask(home: &Home, intent: &Intent) -> Result<Result<Verdict, String>, Error> {
    if intent.command.operation == Operation::Refund {
        return Ok(refund(home, intent).await);
    }
    let object = match object(home, intent).await? {
        Ok(object) => object,
        Err(Failure::Unknown(why)) => return Ok(Err(why)),
        // No payment intent, so nothing can have moved.
        Err(Failure::Declined { code } | Failure::Refused { code, .. }) => {
            let outcome = Outcome::Declined { object: String::new(), code };
            return Ok(Ok(Verdict::Outcome(outcome)));
        }
    };
    Ok(act(home, intent, &object).await)
}

/// The intent's payment intent; made, and its id committed, if there is none yet.
async fn object(home: &Home, intent: &Intent) -> Result<Result<String, Failure>, Error> {
    if let Some(object) = &intent.object {
        return Ok(Ok(object.clone()));
    }
    if !intent.repeatable {
        return Ok(Err(expired()));
    }
    let new = NewIntent {
        amount: intent.payment.amount,
        capture_method: intent.payment.capture_method,
        payment_method: intent.payment.payment_method.clone(),
        tag: tag(intent),
    };
    let created = match home.provider.create(&format!("{}:create", key(intent)), &new).await {
        Ok(created) => created,
        Err(failure) => return Ok(Err(failure)),
    };
    home.crash.point(Point::ObjectMade);
    store::set_object(&home.pool, intent.command.id, &created.id).await?;
    home.crash.point(Point::ObjectCommitted);
    Ok(Ok(created.id))
}

/// Asks how the payment intent stands, unless this is the first try, and does what is not done.
async fn act(home: &Home, intent: &Intent, object: &str) -> Result<Verdict, String> {
    if intent.tries > 0 {
        match look(home, intent, object).await {
            Standing::Definite(verdict) => return Ok(verdict),
            Standing::Unknown(why) => return Err(why),
            Standing::Undone if !intent.repeatable => return Err(expired().to_string()),
            Standing::Undone => {}
        }
    }
    match request(home, intent, object).await {
        Ok(answer) => match standing(intent, &answer) {
            Standing::Definite(verdict) => Ok(verdict),
            Standing::Undone => Err(format!("the payment intent is {:?} after the request", answer.status)),
            Standing::Unknown(why) => Err(why),
        },
        Err(Failure::Declined { code }) => Ok(no(intent, object, code)),
        // It may refuse because an earlier request had its effect, so look before believing it.
        Err(Failure::Refused { code, message }) => match look(home, intent, object).await {
            Standing::Definite(verdict) => Ok(verdict),
            Standing::Undone => {
                tracing::warn!(payment = %intent.payment.id, code, message, "the provider refused a command");
                Ok(no(intent, object, code))
            }
            Standing::Unknown(why) => Err(why),
        },
        Err(Failure::Unknown(why)) => Err(why),
    }
}

async fn request(home: &Home, intent: &Intent, object: &str) -> Result<Object, Failure> {
    let (provider, key) = (&home.provider, key(intent));
    home.crash.point(Point::BeforeMove);
    let answer = match intent.command.operation {
        Operation::Charge | Operation::Authorize => provider.confirm(&key, object).await,
        Operation::Capture => provider.capture(&key, &movement(intent, object)).await,
        Operation::Void => provider.cancel(&key, object).await,
        Operation::Refund => Err(Failure::Unknown("a refund is not a step of a payment intent".to_owned())),
    };
    home.crash.point(Point::Answered);
    answer
}

async fn look(home: &Home, intent: &Intent, object: &str) -> Standing {
    match home.provider.retrieve(object).await {
        Ok(object) => standing(intent, &object),
        Err(failure) => Standing::Unknown(failure.to_string()),
    }
}

fn standing(intent: &Intent, object: &Object) -> Standing {
    let id = object.id.clone();
    let amount = intent.command.amount_minor;
    let definite = |outcome| Standing::Definite(Verdict::Outcome(outcome));
    let refused = |code: &str| Standing::Definite(Verdict::Refused(code.to_owned()));
    let odd = || {
        Standing::Unknown(format!(
            "the payment intent is {:?}, {} received",
            object.status, object.received_minor
        ))
    };
    match (intent.command.operation, object.status) {
        (_, ObjectStatus::Processing | ObjectStatus::RequiresAction) => odd(),
        (Operation::Charge | Operation::Capture, ObjectStatus::Succeeded)
            if object.received_minor == amount =>
        {
            definite(Outcome::Succeeded { object: id })
        }
        (Operation::Authorize, ObjectStatus::RequiresCapture) => {
            definite(Outcome::RequiresCapture { object: id })
        }
        (Operation::Charge | Operation::Authorize, ObjectStatus::RequiresConfirmation)
        | (Operation::Capture | Operation::Void, ObjectStatus::RequiresCapture) => Standing::Undone,
        (Operation::Charge | Operation::Authorize, ObjectStatus::RequiresPaymentMethod) => {
            definite(Outcome::Declined { object: id, code: object.decline_code.clone() })
        }
        (Operation::Charge | Operation::Authorize, ObjectStatus::Canceled) => {
            definite(Outcome::Declined { object: id, code: "canceled".to_owned() })
        }
        (Operation::Void, ObjectStatus::Canceled) => definite(Outcome::Canceled { object: id }),
        (Operation::Void, ObjectStatus::Succeeded) => refused("already_captured"),
        (Operation::Capture, ObjectStatus::Canceled) => refused("already_canceled"),
        // Nothing that this command can have led to: someone else used the provider's object.
        (
            Operation::Charge
            | Operation::Authorize
            | Operation::Capture
            | Operation::Void
            | Operation::Refund,
            ObjectStatus::Succeeded
            | ObjectStatus::RequiresCapture
            | ObjectStatus::RequiresConfirmation
            | ObjectStatus::RequiresPaymentMethod
            | ObjectStatus::Canceled,
        ) => odd(),
    }
}

/// A refund has no steps: the same request under the same key until there is an answer.
async fn refund(home: &Home, intent: &Intent) -> Result<Verdict, String> {
    let Some(object) = intent.object.clone() else {
        return Err("the payment has no payment intent".to_owned());
    };
    if !intent.repeatable {
        return Err(expired().to_string());
    }
    home.crash.point(Point::BeforeMove);
    let answer = home.provider.refund(&key(intent), &movement(intent, &object)).await;
    home.crash.point(Point::Answered);
    match answer {
        Ok(refund) => Ok(Verdict::Outcome(Outcome::Refunded { object: refund.id })),
        Err(Failure::Declined { code } | Failure::Refused { code, .. }) => Ok(Verdict::Refused(code)),
        Err(Failure::Unknown(why)) => Err(why),
    }
}

fn no(intent: &Intent, object: &str, code: String) -> Verdict {
    match intent.command.operation {
        Operation::Charge | Operation::Authorize => {
            Verdict::Outcome(Outcome::Declined { object: object.to_owned(), code })
        }
        Operation::Capture | Operation::Void | Operation::Refund => Verdict::Refused(code),
    }
}

/// Past the key lifetime a repetition could be done twice; what reading does not decide, a person must.
fn expired() -> Failure {
    Failure::Unknown("the provider's key has expired: look the command up there by its metadata".to_owned())
}

/// `payment:operation:command:attempt`: the same for every repetition of an intent, on every machine.
fn key(intent: &Intent) -> String {
    let command = &intent.command;
    format!("{}:{}:{}:{}", intent.payment.id, command.operation, command.id, command.attempt)
}

fn movement(intent: &Intent, object: &str) -> Move {
    Move { object: object.to_owned(), amount_minor: intent.command.amount_minor, tag: tag(intent) }
}

fn tag(intent: &Intent) -> Tag {
    Tag {
        tenant: intent.payment.tenant.clone(),
        payment: intent.payment.id,
        operation: intent.command.operation,
        command: intent.command.id,
    }
}
