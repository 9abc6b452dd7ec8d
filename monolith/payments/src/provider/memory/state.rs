//! What the provider in memory does with a request.

use super::{Answer, Call, Fault, Movement, Request, State};
use crate::provider::{Failure, Move, NewIntent, Object, ObjectStatus, RefundObject, RefundStatus};
use crate::{CaptureMethod, Operation};

/// The payment method that is declined.
const DECLINED: &str = "pm_card_declined";
/// The payment method whose owner must do something.
const REQUIRES_ACTION: &str = "pm_requires_action";

impl State {
    pub(super) fn fault(&mut self, call: Call) -> Option<Fault> {
        let at = self.faults.iter().position(|(planned, _)| *planned == call);
        at.and_then(|at| self.faults.remove(at)).map(|(_, fault)| fault)
    }

    pub(super) fn keep_fault(&mut self, key: &str) {
        self.answers.insert(key.to_owned(), Err(Failure::Kept("a fault".to_owned())));
    }

    /// Answers a key as before, or does the request and keeps the answer.
    pub(super) fn once(&mut self, key: &str, request: &Request) -> Result<Answer, Failure> {
        if self.late.iter().any(|(late, _)| late == key) {
            return Err(Failure::Unknown("the key is in flight".to_owned()));
        }
        if let Some(answer) = self.answers.get(key) {
            return answer.clone();
        }
        let answer = self.perform(request);
        self.answers.insert(key.to_owned(), answer.clone());
        answer
    }

    pub(super) fn perform(&mut self, request: &Request) -> Result<Answer, Failure> {
        match request {
            Request::Create(new) => Ok(Answer::Object(self.create(new))),
            Request::Confirm(object) => self.step(object, confirm),
            Request::Capture(capture) => self.step(&capture.object, |new, found| {
                demand(found, &[ObjectStatus::RequiresCapture])?;
                found.status = ObjectStatus::Succeeded;
                found.received_minor = capture.amount.minor;
                Ok(movement(new, Operation::Capture, capture.amount.minor))
            }),
            Request::Cancel(object) => self.step(object, cancel),
            Request::Refund(refund) => self.refund(refund).map(Answer::Refund),
        }
    }

    fn create(&mut self, new: &NewIntent) -> Object {
        let id = format!("pi_{}", self.intents.len() + 1);
        let status = ObjectStatus::RequiresConfirmation;
        let object = Object { id: id.clone(), status, received_minor: 0, decline_code: String::new() };
        self.intents.insert(id, (new.clone(), object.clone()));
        object
    }

    fn step(
        &mut self,
        object: &str,
        change: impl FnOnce(&NewIntent, &mut Object) -> Result<Option<Movement>, Failure>,
    ) -> Result<Answer, Failure> {
        let Some((new, found)) = self.intents.get_mut(object) else { return Err(missing(object)) };
        if let Some(movement) = change(new, found)? {
            self.journal.push(movement);
            self.settled.charge(&new.tag, object, new.amount.currency, movement.amount_minor);
        }
        Ok(Answer::Object(found.clone()))
    }

    fn refund(&mut self, refund: &Move) -> Result<RefundObject, Failure> {
        let id = format!("re_{}", self.refunds.len() + 1);
        let (new, found) = self.intents.get(&refund.object).ok_or_else(|| missing(&refund.object))?;
        demand(found, &[ObjectStatus::Succeeded])?;
        let amount = refund.amount.minor;
        self.journal.extend(movement(new, Operation::Refund, amount));
        self.settled.refund(&refund.tag, (&refund.object, &id), new.amount.currency, amount);
        let (command, status) = (Some(refund.tag.command), RefundStatus::Succeeded);
        let made = RefundObject { id, command, amount_minor: amount, status };
        self.refunds.push((refund.object.clone(), made.clone()));
        Ok(made)
    }
}

fn confirm(new: &NewIntent, found: &mut Object) -> Result<Option<Movement>, Failure> {
    demand(found, &[ObjectStatus::RequiresConfirmation])?;
    if new.payment_method == DECLINED {
        found.status = ObjectStatus::RequiresPaymentMethod;
        found.decline_code = "card_declined".to_owned();
        return Err(Failure::Declined { code: "card_declined".to_owned() });
    }
    if new.payment_method == REQUIRES_ACTION {
        found.status = ObjectStatus::RequiresAction;
        return Ok(None);
    }
    match new.capture_method {
        CaptureMethod::Manual => {
            found.status = ObjectStatus::RequiresCapture;
            Ok(None)
        }
        CaptureMethod::Automatic => {
            found.status = ObjectStatus::Succeeded;
            found.received_minor = new.amount.minor;
            Ok(movement(new, Operation::Charge, new.amount.minor))
        }
    }
}

fn cancel(_: &NewIntent, found: &mut Object) -> Result<Option<Movement>, Failure> {
    let open = [
        ObjectStatus::RequiresConfirmation,
        ObjectStatus::RequiresPaymentMethod,
        ObjectStatus::RequiresAction,
        ObjectStatus::RequiresCapture,
    ];
    demand(found, &open)?;
    found.status = ObjectStatus::Canceled;
    Ok(None)
}

fn demand(object: &Object, allowed: &[ObjectStatus]) -> Result<(), Failure> {
    if allowed.contains(&object.status) {
        return Ok(());
    }
    let message = format!("the payment intent is {:?}", object.status);
    Err(Failure::Refused { code: "payment_intent_unexpected_state".to_owned(), message })
}

pub(super) fn missing(object: &str) -> Failure {
    Failure::Unknown(format!("no payment intent {object}"))
}

fn movement(new: &NewIntent, operation: Operation, amount_minor: i64) -> Option<Movement> {
    Some(Movement { payment: new.tag.payment, operation, amount_minor })
}

impl Answer {
    pub(super) fn object(self) -> Result<Object, Failure> {
        match self {
            Answer::Object(object) => Ok(object),
            Answer::Refund(refund) => Err(Failure::Unknown(format!("the key has refund {}", refund.id))),
        }
    }

    pub(super) fn refund(self) -> Result<RefundObject, Failure> {
        match self {
            Answer::Refund(refund) => Ok(refund),
            Answer::Object(object) => Err(Failure::Unknown(format!("the key has {}", object.id))),
        }
    }
}
