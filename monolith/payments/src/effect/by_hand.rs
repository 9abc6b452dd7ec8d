//! A person's decision on a command whose outcome nobody can find out any more. The provider is asked first, and what it
//! contradicts is refused.

use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::refund::counts;
use super::standing::{Standing, standing};
use super::{Open, Settled, TRY_MAX, Try, Verdict, settle};
use crate::audit::bad_reason;
use crate::provider::{Failure, Object, ObjectStatus};
use crate::{Actor, Audit, Error, Home, Operation, Outcome, Payment, Violation, store};

/// Why a command that a person says was not done counts as refused.
const NOT_DONE: &str = "not_done";
/// The same of a charge whose payment intent took something else than was asked for.
const OTHER_AMOUNT: &str = "other_amount";

/// What a person decided.
#[derive(Debug, Clone)]
pub(crate) struct Resolution {
    pub(crate) command: Uuid,
    /// The payment intent, or the refund, that shows that it was done. `None`: it was not.
    pub(crate) done: Option<String>,
    pub(crate) by: Actor,
    pub(crate) reason: String,
}

/// Ends a command by a person's decision, which the audit tells with the outcome.
///
/// # Errors
/// [`Error::NotFound`] for a command that is not open; [`Error::Busy`] while the resolver may still do it, or has gone on;
/// [`Error::Invalid`] when the provider contradicts; [`Error::Unavailable`] when it can't be asked; [`Error::NotOwner`].
pub(crate) async fn resolve(home: &Home, resolution: &Resolution) -> Result<Payment, Error> {
    let intent = store::find_open(&home.pool, resolution.command).await?.ok_or(Error::NotFound)?;
    if intent.repeatable {
        return Err(Error::Busy(
            "the command is young enough for the resolver, which asks the provider by itself",
        ));
    }
    if let Some(violation) = bad_reason(Some(&resolution.reason)) {
        return Err(Error::Invalid(vec![violation]));
    }
    let this = Try { home, intent: &intent, until: Instant::now() + TRY_MAX };
    let verdict = match (&resolution.done, intent.command.operation) {
        (Some(object), Operation::Refund) => this.refund_done(object).await?,
        (None, Operation::Refund) => this.refund_not_done().await?,
        (Some(object), Operation::Charge | Operation::Authorize | Operation::Capture | Operation::Void) => {
            this.done(object).await?
        }
        (None, Operation::Charge | Operation::Authorize | Operation::Capture | Operation::Void) => {
            this.not_done().await?
        }
    };
    let decision = Audit {
        payment: Some((&intent.payment.tenant, intent.payment.id)),
        command: Some(intent.command.id),
        actor: &resolution.by,
        action: if resolution.done.is_some() { "decided: done" } else { "decided: not done" },
        reason: Some(&resolution.reason),
        detail: json!({ "object": resolution.done, "code": code(&verdict) }),
    };
    match settle(home, &intent, &verdict, Some(&decision)).await? {
        Settled::Payment(payment) => Ok(*payment),
        Settled::Refused(_) => {
            store::find(&home.pool, &intent.payment.tenant, intent.payment.id).await?.ok_or(Error::NotFound)
        }
    }
}

impl Try<'_> {
    /// The object must be this command's, and say that it had its effect.
    async fn done(&self, object: &str) -> Result<Verdict, Error> {
        let ours = match &self.intent.object {
            Some(ours) => ours == object,
            None => self.searched().await?.iter().any(|found| found.id == object),
        };
        if !ours {
            return Err(contradicted("the provider does not know this payment intent as the command's"));
        }
        let found = self.answer(self.home.provider.retrieve(object)).await.map_err(away)?;
        match standing(self.intent, &found) {
            Standing::Definite(verdict @ Verdict::Outcome(_)) if !is_no(&verdict) => Ok(verdict),
            Standing::Definite(_) | Standing::Undone | Standing::Hopeless(_) => {
                Err(contradicted(format!("the payment intent is {:?}: it was not done", found.status)))
            }
            Standing::Unknown(open) => Err(contradicted(open.why)),
        }
    }

    /// No object of the command may say that it had its effect, and none may have it later.
    async fn not_done(&self) -> Result<Verdict, Error> {
        let objects = match &self.intent.object {
            Some(object) => vec![self.answer(self.home.provider.retrieve(object)).await.map_err(away)?],
            None => self.searched().await?,
        };
        let mut verdict = self.no("", NOT_DONE.to_owned());
        for object in &objects {
            verdict = match standing(self.intent, object) {
                Standing::Definite(definite) if is_no(&definite) => definite,
                Standing::Definite(_) => {
                    return Err(contradicted(format!("payment intent {} says that it was done", object.id)));
                }
                Standing::Undone | Standing::Hopeless(_) => self.given_up(object).await?,
                Standing::Unknown(open) => self.odd(object, open).await?,
            };
        }
        Ok(verdict)
    }

    /// A charge's payment intent did something else, since somebody changed it at the provider. The charge ends without it: a
    /// reservation is released, and what was taken is a charge that nobody asked for, which reconciliation books.
    async fn odd(&self, object: &Object, open: Open) -> Result<Verdict, Error> {
        if self.intent.command.operation != Operation::Charge {
            return Err(contradicted(open.why));
        }
        match object.status {
            ObjectStatus::Succeeded => Ok(self.no(&object.id, OTHER_AMOUNT.to_owned())),
            ObjectStatus::RequiresCapture => self.given_up(object).await,
            ObjectStatus::RequiresConfirmation
            | ObjectStatus::RequiresPaymentMethod
            | ObjectStatus::RequiresAction
            | ObjectStatus::Processing
            | ObjectStatus::Canceled => Err(contradicted(open.why)),
        }
    }

    /// Nothing may move through a charge's payment intent any more. A capture or a void can't be kept from being done by a try
    /// that is under way; whoever does not want it cancels, or captures, the payment intent at the provider.
    async fn given_up(&self, object: &Object) -> Result<Verdict, Error> {
        match self.intent.command.operation {
            Operation::Charge | Operation::Authorize => {
                let called_off = self.call_off(&object.id, NOT_DONE.to_owned()).await;
                match called_off.map_err(|open| Error::Unavailable(open.why))? {
                    verdict if is_no(&verdict) => Ok(verdict),
                    _ => Err(contradicted(format!("payment intent {} says that it was done", object.id))),
                }
            }
            Operation::Capture | Operation::Void | Operation::Refund => {
                Err(Error::Busy("it is not done yet, and the resolver goes on with it by itself"))
            }
        }
    }

    async fn refund_done(&self, refund: &str) -> Result<Verdict, Error> {
        let (command, amount) = (self.intent.command.id, self.intent.command.amount_minor);
        let listed = self.listed().await?;
        let ours = listed.iter().find(|made| made.id == refund && made.command == Some(command));
        match ours {
            Some(made) if made.amount_minor == amount && counts(made.status) => {
                Ok(Verdict::Outcome(Outcome::Refunded { object: made.id.clone() }))
            }
            Some(made) => {
                Err(contradicted(format!("the refund is {:?}, of {}", made.status, made.amount_minor)))
            }
            None => Err(contradicted("the provider does not know this refund as the command's")),
        }
    }

    async fn refund_not_done(&self) -> Result<Verdict, Error> {
        let command = self.intent.command.id;
        let listed = self.listed().await?;
        match listed.iter().find(|made| made.command == Some(command) && counts(made.status)) {
            Some(made) => Err(contradicted(format!("refund {} was made by the command", made.id))),
            None => Ok(Verdict::Refused(NOT_DONE.to_owned())),
        }
    }

    async fn searched(&self) -> Result<Vec<Object>, Error> {
        self.answer(self.home.provider.search(self.intent.command.id)).await.map_err(away)
    }

    async fn listed(&self) -> Result<Vec<crate::provider::RefundObject>, Error> {
        let object = self.intent.object.as_deref().unwrap_or_default();
        self.answer(self.home.provider.refunds(object)).await.map_err(away)
    }
}

/// Why it counts as not done, for the audit.
fn code(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Refused(code) | Verdict::Outcome(Outcome::Declined { code, .. }) => Some(code.as_str()),
        Verdict::Outcome(
            Outcome::Succeeded { .. }
            | Outcome::RequiresCapture { .. }
            | Outcome::Canceled { .. }
            | Outcome::Refunded { .. },
        ) => None,
    }
}

/// Whether a verdict says that the command had no effect.
fn is_no(verdict: &Verdict) -> bool {
    code(verdict).is_some()
}

fn contradicted(why: impl Into<String>) -> Error {
    Error::Invalid(vec![Violation::new("decision", format!("the provider contradicts: {}", why.into()))])
}

fn away(failure: Failure) -> Error {
    Error::Unavailable(format!("the provider can't be asked: {failure}"))
}
