//! What can go wrong.

use chassis::shield::Lost;
use outbox::BoxError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The order breaks rules; nothing was stored, not even the key.
    #[error("the order breaks {} rules", .0.len())]
    Invalid(Vec<Violation>),
    /// The first request under this key has not ended.
    #[error("a request with this key is in flight")]
    InFlight,
    /// The key belongs to another request.
    #[error("the key was used for another request")]
    KeyReused,
    /// No such order, or another tenant's.
    #[error("there is no such order")]
    NotFound,
    /// [`crate::PLACING_MAX`] orders are being placed already.
    #[error("too many orders are being placed")]
    Full,
    /// Payments could not take the request; nothing was stored.
    #[error("payments could not take the request")]
    Payments(#[source] BoxError),
    /// The catalog could not be asked.
    #[error("the catalog could not be asked")]
    Catalog(#[from] catalog::Error),
    /// An event could not be published; nothing was stored.
    #[error("an event could not be published")]
    Outbox(#[from] outbox::Error),
    /// A stored row is not an order; the schema's checks should have refused it.
    #[error("a stored order is broken: {0}")]
    Broken(String),
    /// The work was lost; whether the order was stored is unknown. Repeating the request with its key tells.
    #[error("the work was lost")]
    Lost(#[from] Lost),
    /// The database failed.
    #[error("the orders' database failed")]
    Database(#[from] sqlx::Error),
}

/// A rule that an order breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer to the place: `/lines/0/quantity`.
    pub pointer: String,
    /// The rule.
    pub detail: String,
}

impl Violation {
    /// A rule broken at a place.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}
