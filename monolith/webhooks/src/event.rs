//! The body of a webhook: an event of the provider's, as far as it is read here.

use proto::PaymentId;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Notice, Refusal};

/// The longest id, kind, tenant and status, in bytes.
const NAME_MAX: usize = 255;

/// The one member of an event that differs between two deliveries of it: how many are still to come.
const COUNTDOWN: &str = "pending_webhooks";

/// What payments are told of. Everything else is stored and left alone.
const KINDS: [&str; 8] = [
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.amount_capturable_updated",
    "payment_intent.processing",
    "refund.created",
    "refund.updated",
    "refund.failed",
];

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) happened_at: OffsetDateTime,
    /// SHA-256 of what it says, whichever delivery of it this is.
    pub(crate) fingerprint: [u8; 32],
    /// What payments are told; `None` when this is nothing of theirs.
    pub(crate) notice: Option<Notice>,
}

impl Event {
    /// Reads a body that is known to be the provider's.
    pub(crate) fn parse(body: &[u8], now: OffsetDateTime) -> Result<Self, Refusal> {
        let mut value: Value = serde_json::from_slice(body).map_err(|_| Refusal::NotJson)?;
        let (id, kind) = (name(&value["id"]), name(&value["type"]));
        let (Some(id), Some(kind)) = (id, kind) else { return Err(Refusal::NotAnEvent) };
        let created = value["created"].as_i64();
        let created = created.and_then(|created| OffsetDateTime::from_unix_timestamp(created).ok());
        let happened_at = created.unwrap_or(now);
        let notice = notice(&id, &kind, happened_at, &value["data"]["object"]);
        let fingerprint = fingerprint(&mut value);
        Ok(Self { id, kind, happened_at, fingerprint, notice })
    }
}

/// `None` for a kind that payments are not told of, and for an object without the metadata that ours have.
fn notice(id: &str, kind: &str, happened_at: OffsetDateTime, object: &Value) -> Option<Notice> {
    let metadata = &object["metadata"];
    let payment: Uuid = metadata["payment_id"].as_str()?.parse().ok()?;
    KINDS.contains(&kind).then_some(())?;
    Some(Notice {
        id: id.to_owned(),
        kind: kind.to_owned(),
        object: name(&object["id"])?,
        status: name(&object["status"]).unwrap_or_default(),
        payment: PaymentId::from_uuid(payment),
        tenant: name(&metadata["tenant"])?,
        command: metadata["command_id"].as_str().and_then(|command| command.parse().ok()),
        happened_at,
    })
}

/// 1 to 255 visible ASCII characters.
fn name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    ((1..=NAME_MAX).contains(&text.len()) && visible).then(|| text.to_owned())
}

fn fingerprint(value: &mut Value) -> [u8; 32] {
    if let Some(event) = value.as_object_mut() {
        event.remove(COUNTDOWN);
    }
    Sha256::digest(value.to_string().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Value {
        json!({
            "id": "evt_1", "object": "event", "type": "refund.created", "created": 1_700_000_000,
            "pending_webhooks": 1,
            "data": { "object": { "id": "re_1", "object": "refund", "status": "succeeded", "metadata": {
                "payment_id": "0198c5f2-7d1a-7b3c-9a51-0e6a5d1f2b3c", "tenant": "acme",
                "command_id": "0198c5f2-7d1a-7b3c-9a51-000000000001", "operation": "refund",
            } } },
        })
    }

    fn parse(value: &Value) -> Result<Event, Refusal> {
        Event::parse(value.to_string().as_bytes(), OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn an_object_of_ours_becomes_a_notice() {
        let event = parse(&event()).unwrap();
        assert_eq!((event.id.as_str(), event.happened_at.unix_timestamp()), ("evt_1", 1_700_000_000));
        let notice = event.notice.unwrap();
        assert_eq!((notice.object.as_str(), notice.status.as_str()), ("re_1", "succeeded"));
        assert_eq!((notice.tenant.as_str(), notice.command.is_some()), ("acme", true));
    }

    #[test]
    fn anything_else_is_no_notice_and_still_an_event() {
        for (pointer, other) in [
            ("/type", json!("charge.dispute.created")),
            ("/data/object/metadata", json!({})),
            ("/data/object/metadata/payment_id", json!("42")),
            ("/data/object/metadata/tenant", json!("a\u{0}b")),
            ("/data/object/id", json!(null)),
            ("/data", json!([])),
        ] {
            let mut event = event();
            *event.pointer_mut(pointer).unwrap() = other;
            assert!(parse(&event).unwrap().notice.is_none(), "{pointer}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for (pointer, other) in
            [("/id", json!(7)), ("/id", json!("")), ("/id", json!("e".repeat(256))), ("/type", json!(null))]
        {
            let mut event = event();
            *event.pointer_mut(pointer).unwrap() = other;
            assert_eq!(parse(&event).unwrap_err(), Refusal::NotAnEvent, "{pointer}");
        }
        assert_eq!(parse(&json!([event()])).unwrap_err(), Refusal::NotAnEvent);
        let broken = Event::parse(b"{\"id\":", OffsetDateTime::UNIX_EPOCH);
        assert_eq!(broken.unwrap_err(), Refusal::NotJson);
    }

    #[test]
    fn a_repeat_may_count_down_and_say_nothing_else_new() {
        let first = parse(&event()).unwrap().fingerprint;
        let mut again = event();
        again["pending_webhooks"] = json!(0);
        assert_eq!(parse(&again).unwrap().fingerprint, first);
        again["data"]["object"]["status"] = json!("failed");
        assert_ne!(parse(&again).unwrap().fingerprint, first);
    }
}
