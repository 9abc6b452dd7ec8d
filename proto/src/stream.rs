//! Events of topic `payments.v1`, keyed by payment: the linear history of each payment, whichever home writes it.

use outbox::{BoxError, Event, Headers, Incoming, Protobuf, Topic};

use crate::events::{
    AuthorityOffered, AuthorityReleased, FeedHeartbeat, PaymentAdjusted, PaymentAuthorized, PaymentCaptured,
    PaymentDeclined, PaymentRefunded, PaymentRequested, PaymentSnapshot, PaymentState, PaymentVoided,
};

/// The topic of payments.
pub const PAYMENTS: Topic = Topic::new("payments.v1");

/// The keys of [`PAYMENTS`] that are no payments: the heartbeats of the source and of the target.
pub const HEARTBEAT_KEYS: [&str; 2] = ["heartbeat.source", "heartbeat.target"];

impl Event for PaymentRequested {
    const TOPIC: Topic = PAYMENTS;
    const KIND: &'static str = "com.banyan.payments.payment_requested.v1";
    type Codec = Protobuf;

    fn key(&self) -> &str {
        &self.payment_id
    }

    fn headers(&self, headers: &mut Headers) {
        headers.set("tenant", self.tenant.as_str());
    }
}

/// Events that carry the state after them. One without a state has an empty key, which the outbox refuses.
macro_rules! payment_event {
    ($message:ty, $kind:literal) => {
        impl Event for $message {
            const TOPIC: Topic = PAYMENTS;
            const KIND: &'static str = $kind;
            type Codec = Protobuf;

            fn key(&self) -> &str {
                key(self.state.as_ref())
            }

            fn headers(&self, headers: &mut Headers) {
                if let Some(state) = &self.state {
                    headers.set("tenant", state.tenant.as_str());
                }
            }
        }
    };
}

fn key(state: Option<&PaymentState>) -> &str {
    state.map_or("", |state| state.payment_id.as_str())
}

payment_event!(PaymentAuthorized, "com.banyan.payments.payment_authorized.v1");
payment_event!(PaymentCaptured, "com.banyan.payments.payment_captured.v1");
payment_event!(PaymentDeclined, "com.banyan.payments.payment_declined.v1");
payment_event!(PaymentVoided, "com.banyan.payments.payment_voided.v1");
payment_event!(PaymentRefunded, "com.banyan.payments.payment_refunded.v1");
payment_event!(PaymentAdjusted, "com.banyan.payments.payment_adjusted.v1");
payment_event!(PaymentSnapshot, "com.banyan.payments.payment_snapshot.v1");

/// Events by which a home gives a payment up, with the whole of it. An empty key without it, as above.
macro_rules! authority_event {
    ($message:ty, $kind:literal) => {
        impl Event for $message {
            const TOPIC: Topic = PAYMENTS;
            const KIND: &'static str = $kind;
            type Codec = Protobuf;

            fn key(&self) -> &str {
                self.whole.as_ref().map_or("", Event::key)
            }

            fn headers(&self, headers: &mut Headers) {
                if let Some(whole) = &self.whole {
                    whole.headers(headers);
                }
            }
        }
    };
}

authority_event!(AuthorityOffered, "com.banyan.payments.authority_offered.v1");
authority_event!(AuthorityReleased, "com.banyan.payments.authority_released.v1");

/// The keys are no payment ids, so that no payment can be taken for one. A home of another name has an empty key, as above.
impl Event for FeedHeartbeat {
    const TOPIC: Topic = PAYMENTS;
    const KIND: &'static str = "com.banyan.payments.feed_heartbeat.v1";
    type Codec = Protobuf;

    fn key(&self) -> &str {
        match self.home.as_str() {
            "source" => HEARTBEAT_KEYS[0],
            "target" => HEARTBEAT_KEYS[1],
            _ => "",
        }
    }
}

/// An event of a payment's stream. A new kind breaks the build of both homes, which must say what they do with it.
#[derive(Debug, Clone, PartialEq)]
pub enum PaymentStream {
    /// Version 1, always.
    Requested(PaymentRequested),
    /// The amount is reserved.
    Authorized(PaymentAuthorized),
    /// Money was taken.
    Captured(PaymentCaptured),
    /// The provider said no.
    Declined(PaymentDeclined),
    /// The reservation was released.
    Voided(PaymentVoided),
    /// Money was returned.
    Refunded(PaymentRefunded),
    /// The books were brought in line with the provider's; the state is as before.
    Adjusted(PaymentAdjusted),
    /// The whole state, for replicas.
    Snapshot(PaymentSnapshot),
    /// The source gives the payment up, with its whole state.
    Offered(AuthorityOffered),
    /// The target gives it back, with its whole state.
    Released(AuthorityReleased),
}

impl Incoming for PaymentStream {
    const TOPIC: Topic = PAYMENTS;

    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        None.or_else(|| Some(<PaymentRequested as Incoming>::decode(kind, payload)?.map(Self::Requested)))
            .or_else(|| Some(<PaymentAuthorized as Incoming>::decode(kind, payload)?.map(Self::Authorized)))
            .or_else(|| Some(<PaymentCaptured as Incoming>::decode(kind, payload)?.map(Self::Captured)))
            .or_else(|| Some(<PaymentDeclined as Incoming>::decode(kind, payload)?.map(Self::Declined)))
            .or_else(|| Some(<PaymentVoided as Incoming>::decode(kind, payload)?.map(Self::Voided)))
            .or_else(|| Some(<PaymentRefunded as Incoming>::decode(kind, payload)?.map(Self::Refunded)))
            .or_else(|| Some(<PaymentAdjusted as Incoming>::decode(kind, payload)?.map(Self::Adjusted)))
            .or_else(|| Some(<PaymentSnapshot as Incoming>::decode(kind, payload)?.map(Self::Snapshot)))
            .or_else(|| Some(<AuthorityOffered as Incoming>::decode(kind, payload)?.map(Self::Offered)))
            .or_else(|| Some(<AuthorityReleased as Incoming>::decode(kind, payload)?.map(Self::Released)))
    }
}

/// What comes to a home through the feed: a payment's event, or a sign of life of the other home. Only the homes read heartbeats; to
/// all others they are a kind that is not theirs.
#[derive(Debug, Clone, PartialEq)]
pub enum PaymentFeed {
    /// Of a payment.
    Payment(Box<PaymentStream>),
    /// Of none.
    Heartbeat(FeedHeartbeat),
}

impl From<PaymentStream> for PaymentFeed {
    fn from(event: PaymentStream) -> Self {
        Self::Payment(Box::new(event))
    }
}

impl Incoming for PaymentFeed {
    const TOPIC: Topic = PAYMENTS;

    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        None.or_else(|| Some(<PaymentStream as Incoming>::decode(kind, payload)?.map(Self::from)))
            .or_else(|| Some(<FeedHeartbeat as Incoming>::decode(kind, payload)?.map(Self::Heartbeat)))
    }
}

#[cfg(test)]
mod tests {
    use super::{FeedHeartbeat, HEARTBEAT_KEYS, PaymentFeed, PaymentStream};
    use outbox::{Event as _, Incoming as _};

    #[test]
    fn only_the_homes_read_heartbeats() {
        let kind = FeedHeartbeat::KIND;
        assert!(PaymentStream::decode(kind, &[]).is_none(), "a consumer of payments passes over it");
        let read = PaymentFeed::decode(kind, &[]).unwrap().unwrap();
        assert_eq!(read, PaymentFeed::Heartbeat(FeedHeartbeat::default()));
    }

    #[test]
    fn each_home_has_a_key_of_its_own_and_nobody_else_has_one() {
        let key = |home: &str| FeedHeartbeat { home: home.to_owned() }.key().to_owned();
        assert_eq!([key("source"), key("target")], HEARTBEAT_KEYS);
        assert_eq!(key("elsewhere"), "");
    }
}
