//! A payment, and the small types around it.

use std::{fmt, str::FromStr};

use proto::{Money, OrderId, PaymentId};
use time::OffsetDateTime;

use crate::{Error, Violation};

/// The longest tenant and the longest idempotency key, in bytes.
const NAME_MAX: usize = 255;

/// Whose payment it is: 1 to 255 visible ASCII characters. Every row is read and written under one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(String);

/// Names a command, so that repeating it is safe: 1 to 255 visible ASCII characters, scoped to tenant, payment and operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Grows with each change of a payment's owner. 0: the caller does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i64);

impl Epoch {
    /// Of a caller who leaves it to the desk to find out, or for whom it changes no more.
    pub const UNKNOWN: Self = Self(0);
}

/// When the money is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureMethod {
    /// At once.
    Automatic,
    /// Reserved at first; a merchant captures or voids it.
    Manual,
}

/// How far a payment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Its owner will charge or authorize it.
    Requested,
    /// The amount is reserved.
    Authorized,
    /// Money was taken; a part of it may have been returned.
    Captured,
    /// The provider said no. Final.
    Declined,
    /// The reservation was released. Final.
    Voided,
    /// All captured money was returned. Final.
    Refunded,
}

/// A payment's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its id, the key of its stream.
    pub id: PaymentId,
    /// Whose it is.
    pub tenant: Tenant,
    /// What it pays.
    pub order: OrderId,
    /// What was asked for.
    pub amount: Money,
    /// When the money is taken.
    pub capture_method: CaptureMethod,
    /// The provider's token for the card or account.
    pub payment_method: String,
    /// How far it is.
    pub status: Status,
    /// Minor units reserved, or taken, at the provider.
    pub authorized_minor: i64,
    /// Minor units taken.
    pub captured_minor: i64,
    /// Minor units returned.
    pub refunded_minor: i64,
    /// The provider's payment intent; `None` until one was confirmed.
    pub provider_ref: Option<String>,
    /// The version of the stream that this is the result of.
    pub version: i64,
    /// When the order asked for it; whole milliseconds.
    pub requested_at: OffsetDateTime,
    /// A command was accepted whose outcome is not known yet.
    pub outcome_pending: bool,
}

macro_rules! visible_text {
    ($name:ident, $field:literal) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
                if visible && (1..=NAME_MAX).contains(&text.len()) {
                    return Ok(Self(text.to_owned()));
                }
                Err(Error::Invalid(vec![Violation::new(
                    $field,
                    "1 to 255 visible ASCII characters are needed",
                )]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

visible_text!(Tenant, "tenant");
visible_text!(IdempotencyKey, "idempotency_key");

/// A text that is none of an enum's words.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a known word")]
pub(crate) struct UnknownWord(String);

macro_rules! words {
    ($name:ty { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its stable word, as in the database.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            pub(crate) fn from_word(word: &str) -> Result<Self, $crate::payment::UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    other => Err($crate::payment::UnknownWord::new(other)),
                }
            }
        }
    };
}
pub(crate) use words;

impl UnknownWord {
    pub(crate) fn new(word: &str) -> Self {
        Self(word.chars().take(64).collect())
    }
}

words!(CaptureMethod { Automatic = "automatic", Manual = "manual" });
words!(Status {
    Requested = "requested",
    Authorized = "authorized",
    Captured = "captured",
    Declined = "declined",
    Voided = "voided",
    Refunded = "refunded",
});

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Payment {
    /// Minor units that can still be returned.
    pub fn refundable_minor(&self) -> i64 {
        self.captured_minor.saturating_sub(self.refunded_minor)
    }
}
