//! What goes wrong in memory, and when.

/// A request to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`crate::Provider::create`].
    Create,
    /// [`crate::Provider::confirm`].
    Confirm,
    /// [`crate::Provider::capture`].
    Capture,
    /// [`crate::Provider::cancel`].
    Cancel,
    /// [`crate::Provider::retrieve`].
    Retrieve,
    /// [`crate::Provider::search`].
    Search,
    /// [`crate::Provider::refund`].
    Refund,
    /// [`crate::Provider::refunds`].
    Refunds,
    /// [`crate::Provider::settlements`].
    Settlements,
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It arrives and is done, but there is no answer.
    DoneUnanswered,
    /// It does not arrive, and there is no answer.
    Lost,
    /// It is done and never returns: for a caller that dies meanwhile.
    DoneHangs,
    /// It does not arrive and never returns.
    LostHangs,
    /// It is not done, and a fault is kept as the answer under its key. Only for requests with a key.
    FaultKept,
    /// It is done, and a fault is kept as the answer under its key. Only for requests with a key.
    DoneFaultKept,
    /// It is refused, and not done. Only for requests with a key.
    Refused,
    /// It is turned away as one too many.
    TurnedAway,
    /// It is not answered, its key stays in flight, and [`super::Memory::arrive`] does it. Only for requests with a key.
    Late,
}
