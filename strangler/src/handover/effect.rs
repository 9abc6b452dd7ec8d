//! What a step does besides changing its row.

use std::fmt;

/// What a step does in the transaction that changes its row. Replies and calls leave after that has committed; they may be lost
/// or come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// The domain's write: an intent, or the outcome of one with its event.
    Write,
    /// The record is applied to this home's copy of the key, and its head follows.
    Apply,
    /// The key's whole state is published with the step's epoch, for the target to go on from.
    PublishOffer,
    /// The key's whole state is published with the step's epoch, for the source to go on from.
    PublishRelease,
    /// The key's whole state is published, for a copy that is incomplete.
    PublishSnapshot,
    /// The controller calls `Grant` with the row's epoch, again and again until the reply is noted.
    SendGrant,
    /// The controller calls `Recall` with the row's epoch, again and again until the release is applied.
    SendRecall,
    /// The target has applied the offer.
    ReplyReady,
    /// The target may write.
    ReplyGranted,
    /// Work is under way; no new work begins. Ask again.
    ReplyBusy,
    /// The release is published.
    ReplyReleased,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "-",
            Self::Write => "write",
            Self::Apply => "apply the record",
            Self::PublishOffer => "publish `AuthorityOffered`",
            Self::PublishRelease => "publish `AuthorityReleased`",
            Self::PublishSnapshot => "publish a snapshot",
            Self::SendGrant => "call `Grant`",
            Self::SendRecall => "call `Recall`",
            Self::ReplyReady => "reply ready",
            Self::ReplyGranted => "reply granted",
            Self::ReplyBusy => "reply busy",
            Self::ReplyReleased => "reply released",
        })
    }
}
