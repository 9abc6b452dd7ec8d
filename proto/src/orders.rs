//! Events of topic `orders.v1`, keyed by order.

use outbox::{BoxError, Event, Headers, Incoming, Protobuf, Topic};

use crate::events::{OrderCancelled, OrderPaid, OrderPlaced};

/// The topic of orders.
pub const ORDERS: Topic = Topic::new("orders.v1");

macro_rules! order_event {
    ($message:ty, $kind:literal) => {
        impl Event for $message {
            const TOPIC: Topic = ORDERS;
            const KIND: &'static str = $kind;
            type Codec = Protobuf;

            fn key(&self) -> &str {
                &self.order_id
            }

            fn headers(&self, headers: &mut Headers) {
                headers.set("tenant", self.tenant.as_str());
            }
        }
    };
}

order_event!(OrderPlaced, "com.banyan.orders.order_placed.v1");
order_event!(OrderPaid, "com.banyan.orders.order_paid.v1");
order_event!(OrderCancelled, "com.banyan.orders.order_cancelled.v1");

/// An event of an order's stream.
#[derive(Debug, Clone, PartialEq)]
pub enum OrderStream {
    /// Version 1.
    Placed(OrderPlaced),
    /// Its payment was captured.
    Paid(OrderPaid),
    /// It ended without a payment.
    Cancelled(OrderCancelled),
}

impl Incoming for OrderStream {
    const TOPIC: Topic = ORDERS;

    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        None.or_else(|| Some(<OrderPlaced as Incoming>::decode(kind, payload)?.map(Self::Placed)))
            .or_else(|| Some(<OrderPaid as Incoming>::decode(kind, payload)?.map(Self::Paid)))
            .or_else(|| Some(<OrderCancelled as Incoming>::decode(kind, payload)?.map(Self::Cancelled)))
    }
}
