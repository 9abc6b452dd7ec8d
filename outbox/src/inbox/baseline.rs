//! Where a handler begins.

/// Where a handler begins in its topic, the first time. It is noted in `outbox.baseline` then, and what a later start says
/// changes nothing: neither what was applied nor what was left out is touched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Baseline {
    /// At the beginning of the topic. A key whose first events the topic no longer has waits.
    #[default]
    Earliest,
    /// At the beginning of the topic too; what it no longer has of a key comes from the producing home's log, so the inbox
    /// needs a refill.
    Log,
    /// At the end of the topic: earlier events are left out, and `because` says why that is right. A key that has no cursor
    /// begins with whichever event of it is met first, at any version and for good, so the loss of a new key's first
    /// events goes unnoticed. Where the end was is kept, so another group or other handlers beside it change nothing.
    /// Partitions added later are read from their beginning. What a replay to Kafka sends begins no key.
    Now {
        /// Kept with the baseline.
        because: &'static str,
    },
}

impl Baseline {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Log => "log",
            Self::Now { .. } => "now",
        }
    }

    pub(super) fn because(self) -> Option<&'static str> {
        match self {
            Self::Earliest | Self::Log => None,
            Self::Now { because } => Some(because),
        }
    }
}
