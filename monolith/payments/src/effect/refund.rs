//! Refunds. Each is an object of its own, so a payment intent does not keep one from being made twice: the key does, and the
//! list of the payment intent's refunds.

use std::time::Duration;

use super::{Open, Try, Verdict};
use crate::provider::{Failure, RefundObject, RefundStatus};
use crate::{Outcome, Point};

/// How long a key must have kept a fault until a refund that the list still misses counts as not made.
const SURE_AFTER: Duration = Duration::from_secs(20);

impl Try<'_> {
    /// Looks the refund up before it is repeated.
    pub(super) async fn refund(&self) -> Result<Verdict, Open> {
        let Some(object) = self.intent.object.as_deref() else {
            return Err(Open::odd("the payment has no payment intent"));
        };
        if self.is_repeated()
            && let Some(found) = self.find_refund(object).await?.0
        {
            return judged(found);
        }
        if !self.intent.repeatable {
            return Err(Open::expired());
        }
        self.home.crash.point(Point::BeforeMove);
        let answer = self.answer(self.home.provider.refund(&self.key(), &self.movement(object))).await;
        self.home.crash.point(Point::Answered);
        match answer {
            Ok(refund) => judged(refund),
            // It may refuse because an earlier request had its effect, so look before believing it.
            Err(Failure::Declined { code } | Failure::Refused { code, .. }) => {
                match self.find_refund(object).await?.0 {
                    Some(found) => judged(found),
                    None => Ok(Verdict::Refused(code)),
                }
            }
            Err(Failure::Kept(why)) => match self.find_refund(object).await? {
                (Some(found), _) => judged(found),
                (None, returned) if self.is_sure(returned) => Err(Open::over(why)),
                (None, _) => Err(Open::kept(why)),
            },
            Err(failure @ (Failure::Unknown(_) | Failure::NotNow { .. })) => Err(failure.into()),
        }
    }

    /// The command's refund, if the provider lists it, and the sum of all that were made of the payment intent.
    async fn find_refund(&self, object: &str) -> Result<(Option<RefundObject>, i64), Open> {
        let refunds = self.answer(self.home.provider.refunds(object)).await?;
        let returned =
            refunds.iter().filter(|refund| counts(refund.status)).map(|refund| refund.amount_minor);
        let returned = returned.fold(0_i64, i64::saturating_add);
        let command = self.intent.command.id;
        let ours: Vec<_> = refunds.into_iter().filter(|refund| refund.command == Some(command)).collect();
        if ours.iter().filter(|refund| counts(refund.status)).count() > 1 {
            tracing::error!(payment = %self.intent.payment.id, %command, "more than one refund was made for a command");
            return Err(Open::odd("more than one refund was made: a person must look"));
        }
        let made = ours.iter().find(|refund| counts(refund.status)).or_else(|| ours.first()).cloned();
        Ok((made, returned))
    }

    /// The request is over, and the list has what the books have and nothing more.
    fn is_sure(&self, returned: i64) -> bool {
        self.intent.kept_for.is_some_and(|kept| kept >= SURE_AFTER)
            && returned == self.intent.payment.refunded_minor
    }
}

/// Whether money went back, or is on its way.
pub(super) fn counts(status: RefundStatus) -> bool {
    match status {
        RefundStatus::Pending | RefundStatus::RequiresAction | RefundStatus::Succeeded => true,
        RefundStatus::Failed | RefundStatus::Canceled => false,
    }
}

/// A pending refund is accepted: the money is on its way. One that fails later is told by a webhook and by the settlement list.
fn judged(refund: RefundObject) -> Result<Verdict, Open> {
    match refund.status {
        RefundStatus::Succeeded | RefundStatus::Pending => {
            Ok(Verdict::Outcome(Outcome::Refunded { object: refund.id }))
        }
        RefundStatus::Failed => Ok(Verdict::Refused("refund_failed".to_owned())),
        RefundStatus::Canceled => Ok(Verdict::Refused("refund_canceled".to_owned())),
        RefundStatus::RequiresAction => Err(Open::odd("the refund waits for someone to act")),
    }
}
