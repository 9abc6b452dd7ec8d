//! The shared language of the house: ids, money, events and the gRPC messages. No I/O.

mod ids;
mod money;
mod orders;
mod stream;

/// The events of `banyan.events.v1`, as generated.
#[expect(missing_docs, reason = "documented in the .proto files; prost does not document enums' methods")]
pub mod events {
    tonic::include_proto!("banyan.events.v1");
}

/// The service `payments.v1`, as generated.
#[expect(missing_docs, reason = "documented in the .proto files; tonic does not document each item")]
pub mod payments {
    tonic::include_proto!("payments.v1");
}

pub use ids::{InvalidId, OrderId, PaymentId};
pub use money::{Currency, Money, MoneyError};
pub use orders::{ORDERS, OrderStream};
pub use stream::{PAYMENTS, PaymentStream};

/// The descriptors of all `.proto` files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
