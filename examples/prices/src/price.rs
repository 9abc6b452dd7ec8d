//! The record of a price. Each carries the whole state, so a copy may begin or go on from any of them.

use outbox::{Event, Json, Topic};
use serde::{Deserialize, Serialize};
use strangler::{Epoch, Home};

/// The stream of prices: public events, and the feed in both directions.
pub const PRICES: Topic = Topic::new("prices.v1");

/// A price, and why it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The key.
    pub sku: String,
    /// Whose price it is.
    pub tenant: String,
    /// In minor units of the tenant's currency.
    pub minor: i64,
    /// Why it is told.
    pub why: Why,
}

/// Why the whole of a price is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It is new, and this home's to write since this epoch.
    Born(Home, Epoch),
    /// It was changed, or its owner repeats what it is.
    Stated,
    /// Its owner gives it up at this epoch: an offer of the source's, a release of the target's.
    Given(Epoch),
}

impl Event for Price {
    const TOPIC: Topic = PRICES;
    const KIND: &'static str = "com.example.price.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.sku
    }
}
