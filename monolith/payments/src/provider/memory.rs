//! A provider in memory, with faults on demand, for tests of whatever stands on [`Provider`].

mod settled;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use proto::PaymentId;
use time::OffsetDateTime;
use tokio::sync::Notify;

use self::settled::Settled;
use super::{Failure, Move, NewIntent, Object, ObjectStatus, Provider, RefundObject, SettlementPage};
use crate::{CaptureMethod, Operation};

/// The payment method that is declined.
const DECLINED: &str = "pm_card_declined";

/// A request to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Provider::create`].
    Create,
    /// [`Provider::confirm`].
    Confirm,
    /// [`Provider::capture`].
    Capture,
    /// [`Provider::cancel`].
    Cancel,
    /// [`Provider::retrieve`].
    Retrieve,
    /// [`Provider::refund`].
    Refund,
    /// [`Provider::settlements`].
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
}

/// Money that moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// For which payment.
    pub payment: PaymentId,
    /// By what.
    pub operation: Operation,
    /// How much, in minor units.
    pub amount_minor: i64,
}

/// The provider. Every request under a key it has seen is answered as before and does nothing.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
    hanging: Notify,
}

#[derive(Debug, Default)]
struct State {
    intents: HashMap<String, (NewIntent, Object)>,
    answers: HashMap<String, Result<Object, Failure>>,
    refunds: HashMap<String, RefundObject>,
    journal: Vec<Movement>,
    settled: Settled,
    faults: VecDeque<(Call, Fault)>,
}

impl Memory {
    /// A provider without a past.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next request of a kind fail. Several are queued.
    pub fn fail_next(&self, call: Call, fault: Fault) {
        self.state().faults.push_back((call, fault));
    }

    /// All movements, in order.
    pub fn journal(&self) -> Vec<Movement> {
        self.state().journal.clone()
    }

    /// Returns when a request hangs.
    pub async fn hangs(&self) {
        self.hanging.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve<T>(
        &self,
        call: Call,
        request: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let fault = {
            let mut state = self.state();
            let at = state.faults.iter().position(|(planned, _)| *planned == call);
            at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault)
        };
        match fault {
            None => request(&mut self.state()),
            Some(Fault::Lost) => Err(Failure::Unknown("lost on the way".to_owned())),
            Some(Fault::DoneUnanswered) => {
                drop(request(&mut self.state()));
                Err(Failure::Unknown("done, but not answered".to_owned()))
            }
            Some(Fault::DoneHangs) => {
                drop(request(&mut self.state()));
                self.hang().await
            }
            Some(Fault::LostHangs) => self.hang().await,
        }
    }

    async fn hang<T>(&self) -> Result<T, Failure> {
        self.hanging.notify_one();
        std::future::pending().await
    }
}

impl State {
    /// Answers a key as before, or changes the payment intent and keeps the answer.
    fn once(
        &mut self,
        key: &str,
        object: &str,
        change: impl FnOnce(&NewIntent, &mut Object) -> Result<Option<Movement>, Failure>,
    ) -> Result<Object, Failure> {
        if let Some(answer) = self.answers.get(key) {
            return answer.clone();
        }
        let Some((new, found)) = self.intents.get_mut(object) else { return Err(missing(object)) };
        let answer = change(new, found).map(|movement| {
            if let Some(movement) = movement {
                self.journal.push(movement);
                self.settled.charge(&new.tag, object, new.amount.currency, movement.amount_minor);
            }
            found.clone()
        });
        self.answers.insert(key.to_owned(), answer.clone());
        answer
    }
}

fn missing(object: &str) -> Failure {
    Failure::Unknown(format!("no payment intent {object}"))
}

fn unexpected(object: &Object) -> Failure {
    let message = format!("the payment intent is {:?}", object.status);
    Failure::Refused { code: "payment_intent_unexpected_state".to_owned(), message }
}

fn movement(new: &NewIntent, operation: Operation, amount_minor: i64) -> Option<Movement> {
    Some(Movement { payment: new.tag.payment, operation, amount_minor })
}

#[async_trait]
impl Provider for Memory {
    async fn create(&self, key: &str, intent: &NewIntent) -> Result<Object, Failure> {
        self.serve(Call::Create, |state| {
            let id = format!("pi_{}", state.intents.len() + 1);
            if let Some(answer) = state.answers.get(key) {
                return answer.clone();
            }
            let status = ObjectStatus::RequiresConfirmation;
            let object = Object { id: id.clone(), status, received_minor: 0, decline_code: String::new() };
            state.intents.insert(id, (intent.clone(), object.clone()));
            state.answers.insert(key.to_owned(), Ok(object.clone()));
            Ok(object)
        })
        .await
    }

    async fn confirm(&self, key: &str, object: &str) -> Result<Object, Failure> {
        self.serve(Call::Confirm, |state| {
            state.once(key, object, |new, found| {
                if found.status != ObjectStatus::RequiresConfirmation {
                    return Err(unexpected(found));
                }
                if new.payment_method == DECLINED {
                    found.status = ObjectStatus::RequiresPaymentMethod;
                    found.decline_code = "card_declined".to_owned();
                    return Err(Failure::Declined { code: "card_declined".to_owned() });
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
            })
        })
        .await
    }

    async fn capture(&self, key: &str, capture: &Move) -> Result<Object, Failure> {
        self.serve(Call::Capture, |state| {
            state.once(key, &capture.object, |new, found| {
                if found.status != ObjectStatus::RequiresCapture {
                    return Err(unexpected(found));
                }
                found.status = ObjectStatus::Succeeded;
                found.received_minor = capture.amount_minor;
                Ok(movement(new, Operation::Capture, capture.amount_minor))
            })
        })
        .await
    }

    async fn cancel(&self, key: &str, object: &str) -> Result<Object, Failure> {
        self.serve(Call::Cancel, |state| {
            state.once(key, object, |_, found| {
                if found.status != ObjectStatus::RequiresCapture {
                    return Err(unexpected(found));
                }
                found.status = ObjectStatus::Canceled;
                Ok(None)
            })
        })
        .await
    }

    async fn retrieve(&self, object: &str) -> Result<Object, Failure> {
        let read = |state: &mut State| state.intents.get(object).map(|(_, found)| found.clone());
        self.serve(Call::Retrieve, |state| read(state).ok_or_else(|| missing(object))).await
    }

    async fn refund(&self, key: &str, refund: &Move) -> Result<RefundObject, Failure> {
        self.serve(Call::Refund, |state| {
            let id = format!("re_{}", state.refunds.len() + 1);
            if let Some(answer) = state.refunds.get(key) {
                return Ok(answer.clone());
            }
            let (new, found) = state.intents.get(&refund.object).ok_or_else(|| missing(&refund.object))?;
            if found.status != ObjectStatus::Succeeded {
                return Err(unexpected(found));
            }
            state.journal.extend(movement(new, Operation::Refund, refund.amount_minor));
            state.settled.refund(
                &refund.tag,
                (&refund.object, &id),
                new.amount.currency,
                refund.amount_minor,
            );
            let answer = RefundObject { id };
            state.refunds.insert(key.to_owned(), answer.clone());
            Ok(answer)
        })
        .await
    }

    async fn settlements(
        &self,
        within: Range<OffsetDateTime>,
        after: Option<&str>,
    ) -> Result<SettlementPage, Failure> {
        self.serve(Call::Settlements, |state| Ok(state.settled.page(&within, after))).await
    }
}
