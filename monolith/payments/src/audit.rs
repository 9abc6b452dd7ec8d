//! Who did what, when, why, and through which home. The table can only grow.
//!
//! Commands tell of themselves: the statements that commit an intent and that end it write their line too. [`Audit`] is for
//! everything else.

use std::{fmt, str::FromStr};

use chassis::card;
use proto::PaymentId;
use serde_json::Value;
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::{Error, Home, Tenant, Violation, store};

/// The longest name of an actor, in bytes.
const ACTOR_MAX: usize = 255;
/// The longest reason, in characters.
const REASON_MAX: usize = 255;
/// What a home does by itself. No caller can have this name.
const ENGINE: &str = "engine";

/// Who acts: 1 to 255 visible ASCII characters without a card number, such as the subject of a caller's token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor(String);

/// One line: someone did something to a payment, beside the commands, which write their own lines.
#[derive(Debug, Clone)]
pub struct Audit<'a> {
    /// Whose payment and which; `None` for what belongs to no payment of ours.
    pub payment: Option<(&'a Tenant, PaymentId)>,
    /// The command that it is about.
    pub command: Option<Uuid>,
    /// Who.
    pub actor: &'a Actor,
    /// What, in a few words: `capture requested`.
    pub action: &'a str,
    /// Why.
    pub reason: Option<&'a str>,
    /// Facts for programs: an object.
    pub detail: Value,
}

impl Actor {
    /// A home's engine, which no caller can call itself.
    pub fn engine() -> Self {
        Self(ENGINE.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a row or an event has it. Those from before there were actors name none.
    pub(crate) fn stored(name: String) -> Self {
        if name.is_empty() { Self("unknown".to_owned()) } else { Self(name) }
    }
}

impl FromStr for Actor {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let visible = name.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = visible && (1..=ACTOR_MAX).contains(&name.len()) && name != ENGINE;
        if fits && !card::is_in(name.as_bytes()) {
            return Ok(Self(name.to_owned()));
        }
        let rule = "1 to 255 visible ASCII characters are needed, other than `engine` and no card number";
        Err(Error::Invalid(vec![Violation::new("actor", rule)]))
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Audit<'_> {
    /// Writes the line, in the transaction that does what it tells.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a reason that is none; [`Error::Database`].
    pub async fn write(&self, tx: &mut PgTransaction<'_>, home: &Home) -> Result<(), Error> {
        if let Some(violation) = bad_reason(self.reason) {
            return Err(Error::Invalid(vec![violation]));
        }
        store::insert_audit(tx, home.name, self).await
    }
}

/// What is wrong with a reason: it has 1 to 255 characters, none of them a control character, and no card number. Both edges look
/// for those too, but an operator's words come past them.
pub(crate) fn bad_reason(reason: Option<&str>) -> Option<Violation> {
    let reason = reason?;
    let short = (1..=REASON_MAX).contains(&reason.chars().count());
    let bad = !short || reason.chars().any(char::is_control);
    if bad {
        return Some(Violation::new("reason", "1 to 255 characters are allowed, without control characters"));
    }
    let card = card::is_in(reason.as_bytes());
    card.then(|| Violation::new("reason", "something in it looks like a card number, which is never kept"))
}
