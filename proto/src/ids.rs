//! Identifiers.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// A text that is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: a UUID such as 0198c5f2-7d1a-7b3c-9a51-0e6a5d1f2b3c is needed")]
pub struct InvalidId {
    what: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one: a version 7 UUID, so that new rows come last in an index.
            #[expect(clippy::new_without_default, reason = "each call makes a different one")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The one with this UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Its UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = |_| InvalidId { what: $what, text: text.chars().take(64).collect() };
                text.parse().map(Self).map_err(invalid)
            }
        }
    };
}

id!(
    /// Identifies an order.
    OrderId,
    "order id"
);
id!(
    /// Identifies a payment; the key of its stream.
    PaymentId,
    "payment id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text() {
        let id = PaymentId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_bad_id_says_what_is_needed() {
        let error = "42".parse::<OrderId>().unwrap_err().to_string();
        assert!(error.starts_with("\"42\" is no order id: a UUID"), "{error}");
    }
}
