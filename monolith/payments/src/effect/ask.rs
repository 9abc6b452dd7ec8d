//! Charges, reservations, captures and voids: steps of one payment intent, which can always be asked how it stands.
//!
//! A payment intent moves money once at most, whatever it is asked and under which key, so the care is about there being one.

use super::standing::{Standing, standing};
use super::{Open, Try, Verdict};
use crate::provider::{Failure, NewIntent, Object, ObjectStatus};
use crate::{Error, Operation, Outcome, Point, store};

/// The payment intent of a command, or why there is none.
enum Found {
    /// Its id is committed. `known`: before this try.
    Object { id: String, known: bool },
    /// The command has ended without one.
    Ended(Verdict),
    /// It can't be said.
    Open(Open),
}

impl Try<'_> {
    /// Inner error: why there is no definite answer.
    pub(super) async fn ask(&self) -> Result<Result<Verdict, Open>, Error> {
        let (id, known) = match self.intent.command.operation {
            Operation::Refund => return Ok(self.refund().await),
            Operation::Charge | Operation::Authorize => match self.object().await? {
                Found::Object { id, known } => (id, known),
                Found::Ended(verdict) => return Ok(Ok(verdict)),
                Found::Open(open) => return Ok(Err(open)),
            },
            Operation::Capture | Operation::Void => match &self.intent.object {
                Some(id) => (id.clone(), self.is_repeated()),
                None => return Ok(Err(Open::odd("the payment has no payment intent"))),
            },
        };
        Ok(self.act(&id, known).await)
    }

    /// The command's payment intent: known, found, or made. Its id is committed before anything can move through it, and only
    /// one ever is.
    async fn object(&self) -> Result<Found, Error> {
        if let Some(id) = &self.intent.object {
            return Ok(Found::Object { id: id.clone(), known: self.is_repeated() });
        }
        if !self.is_repeated() {
            return self.create().await;
        }
        match self.answer(self.home.provider.search(self.intent.command.id)).await {
            Ok(found) if found.is_empty() => {}
            Ok(found) => return self.adopt(&found).await,
            Err(failure @ Failure::NotNow { .. }) => return Ok(Found::Open(failure.into())),
            // A database that lost what it had committed may have lost the id of one that moved money.
            Err(failure @ (Failure::Unknown(_) | Failure::Kept(_))) if !self.intent.repeatable => {
                return Ok(Found::Open(failure.into()));
            }
            // The creation is safe to repeat, search or not.
            Err(failure) => tracing::debug!(%failure, "a payment intent could not be searched for"),
        }
        // However old the command is. For as long as the provider keeps the key, this gives the one that was made before. After
        // that it makes another one, and an earlier one that the search still misses may stand beside it: nobody ever confirms
        // that, for only one id is committed and only a committed one is confirmed. What is not confirmed moves nothing.
        self.create().await
    }

    /// Takes a payment intent that was made for this command, and whose id was not committed.
    async fn adopt(&self, found: &[Object]) -> Result<Found, Error> {
        let moved: Vec<_> = found.iter().filter(|object| has_moved(object.status)).collect();
        let object = match moved[..] {
            [] => found
                .iter()
                .find(|object| object.status == ObjectStatus::RequiresConfirmation)
                .or_else(|| found.first()),
            [moved] => Some(moved),
            [..] => None,
        };
        match object {
            Some(object) => self.keep(&object.id, true).await,
            None => {
                let (payment, command) = (self.intent.payment.id, self.intent.command.id);
                tracing::error!(%payment, %command, "more than one payment intent of a command has moved money");
                Ok(Found::Open(Open::odd("more than one payment intent has moved money: a person must look")))
            }
        }
    }

    async fn create(&self) -> Result<Found, Error> {
        let (payment, provider) = (&self.intent.payment, &self.home.provider);
        let new = NewIntent {
            amount: payment.amount,
            capture_method: payment.capture_method,
            payment_method: payment.payment_method.clone(),
            tag: self.tag(),
        };
        match self.answer(provider.create(&format!("{}:create", self.key()), &new)).await {
            Ok(created) => {
                self.home.crash.point(Point::ObjectMade);
                self.keep(&created.id, false).await
            }
            // No payment intent, so nothing can have moved.
            Err(Failure::Declined { code } | Failure::Refused { code, .. }) => {
                Ok(Found::Ended(self.no("", code)))
            }
            // The search found none, making one moves nothing, and one whose id is not committed is never confirmed: another
            // may be made.
            Err(Failure::Kept(why)) if self.is_repeated() => Ok(Found::Open(Open::over(why))),
            Err(failure) => Ok(Found::Open(failure.into())),
        }
    }

    async fn keep(&self, id: &str, known: bool) -> Result<Found, Error> {
        let command = &self.intent.command;
        if !store::set_object(&self.home.pool, command.id, command.attempt, id).await? {
            return Ok(Found::Open(Open::because("someone else has gone on with the command")));
        }
        self.home.crash.point(Point::ObjectCommitted);
        Ok(Found::Object { id: id.to_owned(), known })
    }

    /// Asks how the payment intent stands, unless nothing can have happened yet, and does what is not done.
    async fn act(&self, object: &str, known: bool) -> Result<Verdict, Open> {
        if known {
            match self.look(object).await? {
                Standing::Definite(verdict) => return Ok(verdict),
                Standing::Hopeless(code) => return self.call_off(object, code.to_owned()).await,
                Standing::Unknown(open) => return Err(open),
                // However old the command is: whatever key it is asked under, a payment intent moves money once.
                Standing::Undone => {}
            }
        }
        match self.request(object).await {
            Ok(answer) => match standing(self.intent, &answer) {
                Standing::Definite(verdict) => Ok(verdict),
                Standing::Hopeless(code) => self.call_off(object, code.to_owned()).await,
                Standing::Undone => {
                    Err(Open::because(format!("the payment intent is {:?} after the request", answer.status)))
                }
                Standing::Unknown(open) => Err(open),
            },
            Err(Failure::Declined { code }) => Ok(self.no(object, code)),
            // It may refuse because an earlier request had its effect, so look before believing it.
            Err(Failure::Refused { code, message }) => match self.look(object).await? {
                Standing::Definite(verdict) => Ok(verdict),
                Standing::Undone => self.refused(object, code, &message).await,
                Standing::Hopeless(code) => self.call_off(object, code.to_owned()).await,
                Standing::Unknown(open) => Err(open),
            },
            // The request is over; the payment intent says what came of it.
            Err(Failure::Kept(why)) => match self.look(object).await? {
                Standing::Definite(verdict) => Ok(verdict),
                Standing::Undone => Err(Open::over(why)),
                Standing::Hopeless(code) => self.call_off(object, code.to_owned()).await,
                Standing::Unknown(open) => Err(open),
            },
            Err(failure @ (Failure::Unknown(_) | Failure::NotNow { .. })) => Err(failure.into()),
        }
    }

    async fn request(&self, object: &str) -> Result<Object, Failure> {
        let (provider, key) = (&self.home.provider, self.key());
        self.home.crash.point(Point::BeforeMove);
        let answer = match self.intent.command.operation {
            Operation::Charge | Operation::Authorize => self.answer(provider.confirm(&key, object)).await,
            Operation::Capture => self.answer(provider.capture(&key, &self.movement(object))).await,
            Operation::Void => self.answer(provider.cancel(&key, object)).await,
            Operation::Refund => {
                Err(Failure::Unknown("a refund is not a step of a payment intent".to_owned()))
            }
        };
        self.home.crash.point(Point::Answered);
        answer
    }

    async fn look(&self, object: &str) -> Result<Standing, Open> {
        let object = self.answer(self.home.provider.retrieve(object)).await?;
        Ok(standing(self.intent, &object))
    }

    /// The provider will not do it. A charge's payment intent is called off before that is believed: a request of an earlier
    /// try may still be on its way.
    async fn refused(&self, object: &str, code: String, message: &str) -> Result<Verdict, Open> {
        tracing::warn!(payment = %self.intent.payment.id, code, message, "the provider refused a command");
        match self.intent.command.operation {
            Operation::Charge | Operation::Authorize => self.call_off(object, code).await,
            Operation::Capture | Operation::Void | Operation::Refund => Ok(self.no(object, code)),
        }
    }

    /// Cancels the payment intent of a charge, so that nothing can move through it any more.
    pub(super) async fn call_off(&self, object: &str, code: String) -> Result<Verdict, Open> {
        let key = format!("{}:cancel", self.key());
        let canceled = match self.answer(self.home.provider.cancel(&key, object)).await {
            Ok(answer) => answer,
            Err(Failure::Kept(why)) => return Err(Open::over(why)),
            Err(Failure::Refused { .. }) => self.answer(self.home.provider.retrieve(object)).await?,
            Err(failure) => return Err(failure.into()),
        };
        if canceled.status == ObjectStatus::Canceled {
            let object = object.to_owned();
            return Ok(Verdict::Outcome(Outcome::Declined { object, code }));
        }
        match standing(self.intent, &canceled) {
            Standing::Definite(verdict) => Ok(verdict),
            Standing::Undone | Standing::Hopeless(_) => Err(Open::because(format!(
                "the payment intent is {:?} after it was called off",
                canceled.status
            ))),
            Standing::Unknown(open) => Err(open),
        }
    }
}

fn has_moved(status: ObjectStatus) -> bool {
    match status {
        ObjectStatus::Processing | ObjectStatus::RequiresCapture | ObjectStatus::Succeeded => true,
        ObjectStatus::RequiresConfirmation
        | ObjectStatus::RequiresPaymentMethod
        | ObjectStatus::RequiresAction
        | ObjectStatus::Canceled => false,
    }
}
