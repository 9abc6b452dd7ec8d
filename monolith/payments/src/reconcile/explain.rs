//! Closing a difference by a posting: only after the provider's own object was read and says the same as the line.

use super::books::{ADJUSTMENTS_MAX, adjustment_id};
use super::found::line_subject;
use super::{BY, Books, Found};
use crate::adjust::record_adjustment;
use crate::provider::{Failure, LineKind, ObjectStatus, RefundStatus, SettlementLine};
use crate::{Adjustment, Error, Home, Payment, store};

/// Books what a line has more or less than the books, if the provider's object confirms the line, and returns the payment as it is
/// then. What is not confirmed stays open; so does the charge of a reservation that is not captured here: the capture, when it is
/// asked for, finds and books it.
pub(super) async fn explain(
    home: &Home,
    line: &SettlementLine,
    found: &Found,
    books: &Books,
) -> Result<Option<Payment>, Error> {
    let own = line.kind == LineKind::Charge && line.payment_intent == books.intent;
    if books.currency != line.amount.currency || (books.authorized && own) {
        return Ok(None);
    }
    match confirmed(home, line).await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(failure) => {
            tracing::warn!(line = line.id, %failure, "the provider's object can't be read; the difference stays open");
            return Ok(None);
        }
    }
    let nth = u32::try_from(books.adjustments(line).len()).unwrap_or(ADJUSTMENTS_MAX);
    let delta_minor = line.amount.minor.checked_sub(found.here_minor.unwrap_or_default());
    let (true, Some(delta_minor)) = (nth < ADJUSTMENTS_MAX, delta_minor) else { return Ok(None) };
    let adjustment = Adjustment {
        id: adjustment_id(books.payment, &line.id, nth),
        delta_minor,
        object: line.object.clone(),
        payment_intent: line.payment_intent.clone(),
        reason: reason(line),
    };
    match record_adjustment(home, books.payment, books.version, &adjustment, BY).await {
        Ok(after) => {
            store::close(&home.pool, BY, &[(line_subject(&line.id), reason(line))]).await?;
            Ok(Some(after))
        }
        // A command came, the payment moves or its replica lags; the next run looks again.
        Err(Error::Busy(_) | Error::NotOwner | Error::Behind { .. }) => Ok(None),
        Err(error) if error.is_retryable() => Err(error),
        Err(error) => {
            tracing::error!(
                line = line.id,
                error = &error as &dyn std::error::Error,
                "an adjustment was refused"
            );
            Ok(None)
        }
    }
}

/// Why the books followed a line.
pub(super) fn reason(line: &SettlementLine) -> String {
    let what = match line.kind {
        LineKind::Charge => "the provider took this by",
        LineKind::Refund => "the provider returned this by",
        LineKind::RefundFailure | LineKind::Other => "this came back to the provider by",
    };
    format!("{what} {}, and its object confirms it", line.object)
}

/// Whether the provider's own object says what the line says.
async fn confirmed(home: &Home, line: &SettlementLine) -> Result<bool, Failure> {
    let Some(intent) = &line.payment_intent else { return Ok(false) };
    match line.kind {
        LineKind::Charge => {
            let object = home.provider.retrieve(intent).await?;
            Ok(object.status == ObjectStatus::Succeeded && object.received_minor == line.amount.minor)
        }
        LineKind::Refund => {
            refunded(home, intent, line, -line.amount.minor, |status| match status {
                RefundStatus::Pending
                | RefundStatus::RequiresAction
                | RefundStatus::Succeeded
                | RefundStatus::Failed => true,
                RefundStatus::Canceled => false,
            })
            .await
        }
        LineKind::RefundFailure => {
            refunded(home, intent, line, line.amount.minor, |status| match status {
                RefundStatus::Failed => true,
                RefundStatus::Pending
                | RefundStatus::RequiresAction
                | RefundStatus::Succeeded
                | RefundStatus::Canceled => false,
            })
            .await
        }
        LineKind::Other => Ok(false),
    }
}

async fn refunded(
    home: &Home,
    intent: &str,
    line: &SettlementLine,
    amount_minor: i64,
    fits: fn(RefundStatus) -> bool,
) -> Result<bool, Failure> {
    let refunds = home.provider.refunds(intent).await?;
    let refund = refunds.iter().find(|refund| refund.id == line.object);
    Ok(refund.is_some_and(|refund| refund.amount_minor == amount_minor && fits(refund.status)))
}
