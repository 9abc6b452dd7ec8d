//! A provider in memory, with faults on demand, for tests of whatever stands on [`Provider`].

mod dashboard;
mod fault;
mod settled;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use proto::PaymentId;
use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use self::settled::Settled;
use super::{
    Failure, Move, NewIntent, Object, ObjectStatus, Provider, RefundObject, RefundStatus, SettlementPage,
};
use crate::{CaptureMethod, Operation};

pub use fault::{Call, Fault};

/// The payment method that is declined.
const DECLINED: &str = "pm_card_declined";
/// The payment method whose owner must do something.
const REQUIRES_ACTION: &str = "pm_requires_action";

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
    /// Newest last, each with its payment intent.
    refunds: Vec<(String, RefundObject)>,
    answers: HashMap<String, Result<Answer, Failure>>,
    /// Keys in flight, with what is done when it arrives.
    late: Vec<(String, Request)>,
    journal: Vec<Movement>,
    settled: Settled,
    faults: VecDeque<(Call, Fault)>,
    search_lags: bool,
}

/// A request that has a key.
#[derive(Debug, Clone)]
enum Request {
    Create(NewIntent),
    Confirm(String),
    Capture(Move),
    Cancel(String),
    Refund(Move),
}

#[derive(Debug, Clone)]
enum Answer {
    Object(Object),
    Refund(RefundObject),
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

    /// Does what was [`Fault::Late`]. Returns how many requests that were.
    pub fn arrive(&self) -> usize {
        let mut state = self.state();
        let late = std::mem::take(&mut state.late);
        for (key, request) in &late {
            let answer = state.perform(request);
            state.answers.insert(key.clone(), answer);
        }
        late.len()
    }

    /// Forgets all keys, as the provider does after their lifetime.
    pub fn forget_keys(&self) {
        self.state().answers.clear();
    }

    /// From now on the search finds nothing, or all again.
    pub fn lag_search(&self, lags: bool) {
        self.state().search_lags = lags;
    }

    /// Somebody else, or time, does this to a payment's payment intents.
    pub fn turn(&self, payment: PaymentId, status: ObjectStatus) {
        for (new, object) in self.state().intents.values_mut() {
            if new.tag.payment == payment {
                object.status = status;
            }
        }
    }

    /// How many payment intents were made.
    pub fn intents(&self) -> usize {
        self.state().intents.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that changes something, once for each key.
    async fn change(&self, call: Call, key: &str, request: Request) -> Result<Answer, Failure> {
        let fault = {
            let mut state = self.state();
            let fault = state.fault(call);
            match fault {
                Some(Fault::FaultKept) => state.keep_fault(key),
                Some(Fault::DoneFaultKept) => {
                    drop(state.once(key, &request));
                    state.keep_fault(key);
                }
                Some(Fault::Late) => state.late.push((key.to_owned(), request.clone())),
                Some(
                    Fault::DoneUnanswered
                    | Fault::Lost
                    | Fault::DoneHangs
                    | Fault::LostHangs
                    | Fault::Refused
                    | Fault::TurnedAway,
                )
                | None => {}
            }
            fault
        };
        self.serve(fault, |state| state.once(key, &request)).await
    }

    async fn read<T>(
        &self,
        call: Call,
        read: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let fault = self.state().fault(call);
        self.serve(fault, read).await
    }

    async fn serve<T>(
        &self,
        fault: Option<Fault>,
        request: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let unknown = |why: &str| Err(Failure::Unknown(why.to_owned()));
        match fault {
            None => request(&mut self.state()),
            Some(Fault::Lost) => unknown("lost on the way"),
            Some(Fault::Late) => unknown("not answered"),
            Some(Fault::FaultKept | Fault::DoneFaultKept) => unknown("a fault"),
            Some(Fault::Refused) => {
                Err(Failure::Refused { code: "parameter_invalid".to_owned(), message: String::new() })
            }
            Some(Fault::TurnedAway) => {
                Err(Failure::NotNow { why: "too many requests".to_owned(), after: Duration::from_secs(1) })
            }
            Some(Fault::DoneUnanswered) => {
                drop(request(&mut self.state()));
                unknown("done, but not answered")
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
    fn fault(&mut self, call: Call) -> Option<Fault> {
        let at = self.faults.iter().position(|(planned, _)| *planned == call);
        at.and_then(|at| self.faults.remove(at)).map(|(_, fault)| fault)
    }

    fn keep_fault(&mut self, key: &str) {
        self.answers.insert(key.to_owned(), Err(Failure::Kept("a fault".to_owned())));
    }

    /// Answers a key as before, or does the request and keeps the answer.
    fn once(&mut self, key: &str, request: &Request) -> Result<Answer, Failure> {
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

    fn perform(&mut self, request: &Request) -> Result<Answer, Failure> {
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

fn missing(object: &str) -> Failure {
    Failure::Unknown(format!("no payment intent {object}"))
}

fn movement(new: &NewIntent, operation: Operation, amount_minor: i64) -> Option<Movement> {
    Some(Movement { payment: new.tag.payment, operation, amount_minor })
}

impl Answer {
    fn object(self) -> Result<Object, Failure> {
        match self {
            Answer::Object(object) => Ok(object),
            Answer::Refund(refund) => Err(Failure::Unknown(format!("the key has refund {}", refund.id))),
        }
    }

    fn refund(self) -> Result<RefundObject, Failure> {
        match self {
            Answer::Refund(refund) => Ok(refund),
            Answer::Object(object) => Err(Failure::Unknown(format!("the key has {}", object.id))),
        }
    }
}

#[async_trait]
impl Provider for Memory {
    async fn create(&self, key: &str, intent: &NewIntent) -> Result<Object, Failure> {
        self.change(Call::Create, key, Request::Create(intent.clone())).await?.object()
    }

    async fn confirm(&self, key: &str, object: &str) -> Result<Object, Failure> {
        self.change(Call::Confirm, key, Request::Confirm(object.to_owned())).await?.object()
    }

    async fn capture(&self, key: &str, capture: &Move) -> Result<Object, Failure> {
        self.change(Call::Capture, key, Request::Capture(capture.clone())).await?.object()
    }

    async fn cancel(&self, key: &str, object: &str) -> Result<Object, Failure> {
        self.change(Call::Cancel, key, Request::Cancel(object.to_owned())).await?.object()
    }

    async fn retrieve(&self, object: &str) -> Result<Object, Failure> {
        let read = |state: &mut State| state.intents.get(object).map(|(_, found)| found.clone());
        self.read(Call::Retrieve, |state| read(state).ok_or_else(|| missing(object))).await
    }

    async fn search(&self, command: Uuid) -> Result<Vec<Object>, Failure> {
        self.read(Call::Search, |state| {
            let of_it = state.intents.values().filter(|(new, _)| new.tag.command == command);
            let found = of_it.filter(|_| !state.search_lags).map(|(_, object)| object.clone());
            Ok(found.collect())
        })
        .await
    }

    async fn refund(&self, key: &str, refund: &Move) -> Result<RefundObject, Failure> {
        self.change(Call::Refund, key, Request::Refund(refund.clone())).await?.refund()
    }

    async fn refunds(&self, object: &str) -> Result<Vec<RefundObject>, Failure> {
        self.read(Call::Refunds, |state| {
            let of_it = state.refunds.iter().rev().filter(|(intent, _)| intent == object);
            Ok(of_it.map(|(_, refund)| refund.clone()).collect())
        })
        .await
    }

    async fn settlements(
        &self,
        within: Range<OffsetDateTime>,
        after: Option<&str>,
    ) -> Result<SettlementPage, Failure> {
        self.read(Call::Settlements, |state| Ok(state.settled.page(&within, after))).await
    }
}
