//! What can go wrong.

/// Why a webhook is not taken. Nothing of it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Without its header nobody says who sent it.
    #[error("send Stripe-Signature, once")]
    Unsigned,
    /// The header is not `t=..,v1=..`.
    #[error("Stripe-Signature must be t=SECONDS,v1=HEX, with one or more v1, in at most 1024 bytes")]
    MalformedSignature,
    /// Several times, of which only one can have been signed.
    #[error("Stripe-Signature must have one t")]
    SeveralTimestamps,
    /// No secret of ours signed these bytes.
    #[error("no v1 fits the time and the bytes of the body")]
    WrongSignature,
    /// Signed too long ago; a replay, or a clock that is wrong.
    #[error("it was signed too long ago")]
    Stale,
    /// Signed too far in the future.
    #[error("it was signed in the future")]
    FromTheFuture,
    /// More bytes than a webhook has.
    #[error("the body is too large")]
    TooLarge,
    /// The sender went away, or took too long, in the middle of it.
    #[error("the body did not come whole")]
    CutOff,
    /// Not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// JSON, but nothing that could be stored under its name.
    #[error("an event has an id and a type, each of 1 to 255 visible ASCII characters")]
    NotAnEvent,
    /// The event's id is stored already, and that event said something else.
    #[error("another event with this id was taken before")]
    IdReused,
}

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sender's fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many notices are open. Nothing was stored; the provider sends again.
    #[error("too many notices are open")]
    Full,
    /// The database failed.
    #[error("the webhooks' database failed")]
    Database(#[from] sqlx::Error),
    /// A row that this version can't read.
    #[error("notice {0} can't be read")]
    Corrupt(String),
    /// An operator named a notice that is not there, or is at its end.
    #[error("no open notice has this id")]
    NotOpen,
    /// An operator's text is empty or too long.
    #[error("{0}")]
    Invalid(&'static str),
}

impl Refusal {
    /// Ends the problem's `type`; stays as it is for ever.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unsigned => "webhook-unsigned",
            Self::MalformedSignature => "webhook-signature-malformed",
            Self::SeveralTimestamps => "webhook-timestamps",
            Self::WrongSignature => "webhook-signature-wrong",
            Self::Stale => "webhook-stale",
            Self::FromTheFuture => "webhook-from-the-future",
            Self::TooLarge => "body-too-large",
            Self::CutOff => "webhook-cut-off",
            Self::NotJson => "webhook-not-json",
            Self::NotAnEvent => "webhook-not-an-event",
            Self::IdReused => "webhook-id-reused",
        }
    }
}
