//! A line of the journal: one change, whole or not at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::Call;
use crate::control::Control;
use crate::event::Event;
use crate::intent::Intent;
use crate::refund::Refund;
use crate::script::Mark;

/// One line. What moved money has the members of [`Movement`] at the top; what the change did to the
/// objects and which answer was given stand beside it, so that one line holds all of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    /// 1, 2, 3 ... without a gap.
    pub(crate) seq: u64,
    /// UTC, RFC 3339.
    pub(crate) at: String,
    #[serde(flatten)]
    pub(crate) movement: Option<Movement>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<Intent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refund: Option<Refund>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) control: Option<Control>,
    /// Who is told of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<Event>,
    /// Events that were delivered or given up, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) delivered: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) later: Option<Later>,
    /// The line of a later request that ends with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ends: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<Mark>,
}

/// A request that is done later, under the key that it came with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Later {
    /// When, in milliseconds since 1970.
    pub(crate) due_ms: i64,
    pub(crate) call: Call,
}

impl Line {
    /// The idempotency key of the request that caused it.
    pub(crate) fn key(&self) -> Option<&str> {
        let moved = self.movement.as_ref().and_then(|movement| movement.idempotency_key.as_deref());
        let answered = self.answer.as_ref().map(|answer| answer.key.as_str());
        let later = self.later.as_ref().and_then(|later| later.call.key.as_deref());
        moved.or(answered).or(later)
    }
}

/// What happened to money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Taken at once.
    Charge,
    /// Reserved.
    Authorization,
    /// Taken from what was reserved.
    Capture,
    /// The reservation released.
    Cancel,
    /// Given back.
    Refund,
    /// Given back, and come back: the payer's bank did not take it.
    RefundFailure,
    /// Refused; no money moved.
    Decline,
}

/// A movement of money, as tests and the checker read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Movement {
    pub(crate) kind: Kind,
    /// The charge or refund; for a decline the attempt.
    pub(crate) id: String,
    pub(crate) payment_intent: String,
    /// Minor units.
    pub(crate) amount: i64,
    pub(crate) currency: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Movement {
    /// Whether this took money from the payer.
    pub(crate) fn is_taking(&self) -> bool {
        matches!(self.kind, Kind::Charge | Kind::Capture)
    }
}

/// What was answered under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) key: String,
    pub(crate) fingerprint: String,
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// When the key was first used, in milliseconds since 1970; absent: when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since_ms: Option<i64>,
}
