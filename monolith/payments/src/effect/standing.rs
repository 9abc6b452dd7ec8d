//! Where a payment intent stands in view of a command.

use super::{Intent, Open, Verdict};
use crate::provider::{Object, ObjectStatus};
use crate::{Operation, Outcome};

/// Where it stands.
pub(super) enum Standing {
    /// It says how the command ended.
    Definite(Verdict),
    /// The command has not had its effect.
    Undone,
    /// It waits for something that can't come; it is to be called off, with this code.
    Hopeless(&'static str),
    /// Nothing can be said, and why.
    Unknown(Open),
}

/// One table for all commands and statuses.
pub(super) fn standing(intent: &Intent, object: &Object) -> Standing {
    let id = object.id.clone();
    let amount = intent.command.amount_minor;
    let definite = |outcome| Standing::Definite(Verdict::Outcome(outcome));
    let refused = |code: &str| Standing::Definite(Verdict::Refused(code.to_owned()));
    let said = || format!("the payment intent is {:?}, {} received", object.status, object.received_minor);
    let odd = || Standing::Unknown(Open::odd(said()));
    match (intent.command.operation, object.status) {
        // Its outcome is on the way: only wait.
        (_, ObjectStatus::Processing) => Standing::Unknown(Open::under_way(said())),
        (Operation::Charge | Operation::Capture, ObjectStatus::Succeeded)
            if object.received_minor == amount =>
        {
            definite(Outcome::Succeeded { object: id })
        }
        // Captured since by someone else is authorized all the same.
        (Operation::Authorize, ObjectStatus::RequiresCapture | ObjectStatus::Succeeded) => {
            definite(Outcome::RequiresCapture { object: id })
        }
        (Operation::Charge | Operation::Authorize, ObjectStatus::RequiresConfirmation)
        | (Operation::Capture | Operation::Void, ObjectStatus::RequiresCapture) => Standing::Undone,
        (Operation::Charge | Operation::Authorize, ObjectStatus::RequiresPaymentMethod) => {
            definite(Outcome::Declined { object: id, code: object.decline_code.clone() })
        }
        // The payer is not here to act.
        (Operation::Charge | Operation::Authorize, ObjectStatus::RequiresAction) => {
            Standing::Hopeless("authentication_required")
        }
        (Operation::Charge | Operation::Authorize, ObjectStatus::Canceled) => {
            definite(Outcome::Declined { object: id, code: "canceled".to_owned() })
        }
        (Operation::Void, ObjectStatus::Canceled) => definite(Outcome::Canceled { object: id }),
        // It is captured once. By another amount it was someone else.
        (Operation::Void | Operation::Capture, ObjectStatus::Succeeded) => refused("already_captured"),
        // A reservation ends by itself after some days.
        (Operation::Capture, ObjectStatus::Canceled) => refused("already_canceled"),
        // Nothing that this command can have led to: someone else used the provider's object.
        (Operation::Charge | Operation::Refund, ObjectStatus::Succeeded | ObjectStatus::RequiresCapture)
        | (
            Operation::Capture | Operation::Void | Operation::Refund,
            ObjectStatus::RequiresConfirmation
            | ObjectStatus::RequiresPaymentMethod
            | ObjectStatus::RequiresAction,
        )
        | (Operation::Refund, ObjectStatus::Canceled) => odd(),
    }
}
