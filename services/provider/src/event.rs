//! Events: what the provider tells of its own accord, in Stripe's words.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::journaled_ms;
use crate::http::API_VERSION;
use crate::line::Line;

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Topic {
    #[serde(rename = "payment_intent.succeeded")]
    Succeeded,
    #[serde(rename = "payment_intent.payment_failed")]
    PaymentFailed,
    #[serde(rename = "payment_intent.canceled")]
    Canceled,
    #[serde(rename = "payment_intent.amount_capturable_updated")]
    AmountCapturable,
    #[serde(rename = "payment_intent.processing")]
    Processing,
    #[serde(rename = "refund.created")]
    RefundCreated,
    #[serde(rename = "refund.updated")]
    RefundUpdated,
    #[serde(rename = "refund.failed")]
    RefundFailed,
}

/// An event as the journal keeps it. The object that it is about stands in the same line, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    #[serde(rename = "type")]
    topic: Topic,
}

impl Event {
    pub(crate) fn new(topic: Topic) -> Self {
        Self { id: format!("evt_{}", Uuid::now_v7().simple()), topic }
    }

    /// The body that is sent, the same at each attempt.
    pub(crate) fn body(&self, line: &Line) -> Value {
        let created = journaled_ms(&line.at) / 1_000;
        json!({
            "id": self.id,
            "object": "event",
            "api_version": API_VERSION,
            "created": created,
            "data": { "object": self.object(line) },
            "livemode": false,
            "pending_webhooks": 1,
            "request": { "id": null, "idempotency_key": line.key() },
            "type": self.topic,
        })
    }

    fn object(&self, line: &Line) -> Value {
        let intent = line.intent.as_ref().map(crate::intent::Intent::object);
        let refund = line.refund.as_ref().map(crate::refund::Refund::object);
        let object = match self.topic {
            Topic::Succeeded
            | Topic::PaymentFailed
            | Topic::Canceled
            | Topic::AmountCapturable
            | Topic::Processing => intent,
            Topic::RefundCreated | Topic::RefundUpdated | Topic::RefundFailed => refund,
        };
        object.unwrap_or_default()
    }
}
