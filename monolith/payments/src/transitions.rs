//! The legal transitions of a payment, all of them. [`crate::check`], [`crate::decide`] and [`crate::apply`] go by this table
//! and know no other; `docs/payments.md` shows it, drawn from here.

use crate::{Answer, Change, Operation, Status};

/// How much of what there is a command is about; see [`Transition::share`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// Less than all of it.
    Part,
    /// All of it, or less.
    Any,
}

/// A legal step: what a command may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The status before.
    pub from: Status,
    /// What was asked of the provider.
    pub operation: Operation,
    /// What it answered.
    pub answer: Answer,
    /// Of the amount (charge, authorize), of what is reserved (capture, void), of what was taken and not returned (refund).
    pub share: Share,
    /// The status after.
    pub to: Status,
    /// The event.
    pub change: Change,
}

/// Whatever is not here is refused and changes nothing. A status that no row begins with is final.
pub const TRANSITIONS: [Transition; 8] = {
    use Operation::{Authorize, Capture, Charge, Refund, Void};
    use Share::{Any, Part, Whole};
    use {Answer as A, Change as C, Status as S};
    [
        step(S::Requested, Charge, A::Succeeded, Whole, S::Captured, C::Captured),
        step(S::Requested, Charge, A::Declined, Whole, S::Declined, C::Declined),
        step(S::Requested, Authorize, A::RequiresCapture, Whole, S::Authorized, C::Authorized),
        step(S::Requested, Authorize, A::Declined, Whole, S::Declined, C::Declined),
        step(S::Authorized, Capture, A::Succeeded, Any, S::Captured, C::Captured),
        step(S::Authorized, Void, A::Canceled, Whole, S::Voided, C::Voided),
        step(S::Captured, Refund, A::Refunded, Part, S::Captured, C::Refunded),
        step(S::Captured, Refund, A::Refunded, Whole, S::Refunded, C::Refunded),
    ]
};

const fn step(
    from: Status,
    operation: Operation,
    answer: Answer,
    share: Share,
    to: Status,
    change: Change,
) -> Transition {
    Transition { from, operation, answer, share, to, change }
}

impl Share {
    /// Whether `asked` of `available` minor units is this much. Nothing, and less than nothing, never is.
    pub const fn fits(self, asked: i64, available: i64) -> bool {
        let some = 0 < asked && asked <= available;
        match self {
            Share::Whole => some && asked == available,
            Share::Part => some && asked < available,
            Share::Any => some,
        }
    }
}

/// What an operation may come to in a status; nothing if that does not allow it.
pub(crate) fn steps(from: Status, operation: Operation) -> impl Iterator<Item = &'static Transition> {
    TRANSITIONS.iter().filter(move |step| step.from == from && step.operation == operation)
}
