//! What a request does to the objects: pure, so that the journal is the only place where things happen.

mod intent;
mod refund;

use axum::http::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use crate::book::Book;
use crate::call::{Call, Command};
use crate::control::Control;
use crate::event::Topic;
use crate::failure::Failure;
use crate::intent::Intent;
use crate::line::{Kind, Later, Movement};
use crate::refund::Refund;
use crate::script::Mark;

pub(crate) use intent::{charge, create};
pub(crate) use refund::send_back;

/// A decision: what moves, what the objects are afterwards, who is told, and what the client hears.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) movement: Option<Movement>,
    pub(crate) intent: Option<Intent>,
    pub(crate) refund: Option<Refund>,
    pub(crate) topics: Vec<Topic>,
    /// Events that are through.
    pub(crate) delivered: Vec<String>,
    /// A request that is done later.
    pub(crate) later: Option<Later>,
    /// The line of a later request that ends with this change.
    pub(crate) ends: Option<u64>,
    pub(crate) mark: Option<Mark>,
    pub(crate) control: Option<Control>,
    /// `None`: the client hears nothing, and nothing is kept under its key.
    pub(crate) reply: Option<Reply>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

/// Does what is asked.
pub(crate) fn decide(book: &Book, call: &Call) -> Result<Change, Failure> {
    match &call.command {
        Command::Create { .. } => create(call),
        Command::Confirm { intent, payment_method } => {
            let intent = intent::confirmable(book.intent(intent)?, payment_method.as_deref())?;
            Ok(charge(&intent, call))
        }
        Command::Capture { intent, amount } => intent::capture(book.intent(intent)?, *amount, call),
        Command::Cancel { intent, reason } => intent::cancel(book.intent(intent)?, reason.as_deref(), call),
        Command::Refund { intent, amount, reason } => {
            refund::refund(book.intent(intent)?, *amount, reason.as_deref(), call)
        }
    }
}

/// Refuses for good what could have been done.
pub(crate) fn refuse(book: &Book, call: &Call) -> Result<Change, Failure> {
    match &call.command {
        Command::Create { .. } => {
            let message = "The payment method has not been activated";
            Ok(Change::refused(&Failure::state("payment_method_unactivated", message)))
        }
        Command::Confirm { intent, payment_method } => {
            let intent = intent::confirmable(book.intent(intent)?, payment_method.as_deref())?;
            Ok(intent::decline(&intent, call))
        }
        Command::Capture { intent, .. } => {
            let message = "The charge can't be captured: its authorization has expired";
            let failure = Failure::state("charge_expired_for_capture", message);
            Ok(Change::refused(&failure.about(book.intent(intent)?.object())))
        }
        Command::Cancel { intent, .. } => {
            let message = "This PaymentIntent could not be canceled: the bank does not release it";
            let failure = Failure::state("payment_intent_unexpected_state", message);
            Ok(Change::refused(&failure.about(book.intent(intent)?.object())))
        }
        Command::Refund { intent, amount, reason } => {
            refund::fail(book.intent(intent)?, *amount, reason.as_deref(), call)
        }
    }
}

/// Puts off what could be done now, until `due_ms`. An intent that is being confirmed says so; nothing else shows.
pub(crate) fn postpone(book: &Book, call: &Call, due_ms: i64) -> Result<Change, Failure> {
    decide(book, call)?;
    let later = Later { due_ms, call: call.clone() };
    let change = match &call.command {
        Command::Confirm { intent, payment_method } => {
            intent::process(&intent::confirmable(book.intent(intent)?, payment_method.as_deref())?)
        }
        Command::Create { .. }
        | Command::Capture { .. }
        | Command::Cancel { .. }
        | Command::Refund { .. } => Change::default(),
    };
    Ok(Change { later: Some(later), ..change })
}

/// Does what was put off, if it can still be done.
pub(crate) fn catch_up(book: &Book, call: &Call) -> Result<Change, Failure> {
    match &call.command {
        Command::Confirm { intent, .. } => Ok(charge(book.intent(intent)?, call)),
        Command::Create { .. }
        | Command::Capture { .. }
        | Command::Cancel { .. }
        | Command::Refund { .. } => decide(book, call),
    }
}

impl Change {
    /// Nothing but an error, kept under the request's key.
    pub(crate) fn refused(failure: &Failure) -> Self {
        Self::default().answered(failure)
    }

    /// The same change, answered with an error.
    pub(crate) fn answered(self, failure: &Failure) -> Self {
        Self { reply: Some(Reply { status: failure.status, body: failure.body() }), ..self }
    }

    /// The intent as it is now, answered with itself.
    fn of(intent: Intent) -> Self {
        let reply = Some(Reply { status: StatusCode::OK, body: intent.object() });
        Self { intent: Some(intent), reply, ..Self::default() }
    }

    /// The same, told of.
    fn told(self, movement: Movement, topic: Topic) -> Self {
        Self { movement: Some(movement), topics: vec![topic], ..self }
    }
}

fn movement(kind: Kind, id: String, amount: i64, intent: &Intent, call: &Call) -> Movement {
    // What the request says goes before what the intent was made with: a capture has a command of its own.
    let mut metadata = intent.metadata.clone();
    metadata.extend(call.metadata.clone());
    let (currency, idempotency_key) = (intent.currency.clone(), call.key.clone());
    Movement { kind, id, payment_intent: intent.id.clone(), amount, currency, idempotency_key, metadata }
}

/// `pi_..`, `ch_..`, `re_..`: later ones sort after earlier ones.
fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}
