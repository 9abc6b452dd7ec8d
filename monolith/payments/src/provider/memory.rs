//! A provider in memory, with faults on demand, for tests of whatever stands on [`crate::Provider`].

mod api;
mod dashboard;
mod fault;
mod settled;
mod state;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::PaymentId;
use tokio::sync::Notify;

use self::settled::Settled;
use super::{Failure, Move, NewIntent, Object, ObjectStatus, RefundObject};
use crate::Operation;

pub use fault::{Call, Fault};

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
    list_denied: bool,
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

    /// From now on there is no settlement list, as for a home that owns no payment.
    pub fn deny_list(&self) {
        self.state().list_denied = true;
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
