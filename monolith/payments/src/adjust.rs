//! Adjustments: the provider moved money that no command explains, so the books follow it, with a reason.

use proto::{Money, PaymentId};
use serde_json::json;
use uuid::Uuid;

use crate::{Actor, Audit, Error, Home, Payment, Point, Refusal, Transaction, events, store};

/// A difference with the provider that is explained and gets booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// Names it and its ledger transaction: booked once, however often it is recorded.
    pub id: Uuid,
    /// The provider's minor units less the books', in the payment's currency; never 0.
    pub delta_minor: i64,
    /// The provider's object that explains it.
    pub object: String,
    /// The provider's payment intent, when `object` is one of its charges or refunds.
    pub payment_intent: Option<String>,
    /// Why, for whoever reads the books.
    pub reason: String,
}

/// An adjustment and what it books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdjustedEvent {
    /// The state, which an adjustment leaves as it is. Its version is still the one before; publishing gives the new one.
    pub payment: Payment,
    /// What was adjusted, and why.
    pub adjustment: Adjustment,
    /// Clearing against receivable.
    pub ledger: Transaction,
}

/// What an adjustment makes of a payment in any status: clearing follows the provider, receivable keeps the difference open.
///
/// # Errors
/// [`Refusal::EmptyAdjustment`], [`Refusal::Money`].
pub fn adjust(payment: &Payment, adjustment: &Adjustment) -> Result<AdjustedEvent, Refusal> {
    if adjustment.delta_minor == 0 {
        return Err(Refusal::EmptyAdjustment);
    }
    let delta = Money::new(adjustment.delta_minor, payment.amount.currency);
    let ledger = Transaction::adjustment(adjustment.id, delta)?;
    Ok(AdjustedEvent { payment: payment.clone(), adjustment: adjustment.clone(), ledger })
}

/// Books an adjustment of a payment that this home owns, and publishes it. One that is booked already changes nothing. `version`: of
/// the payment whose books were compared. Lock order: owner row, payment row, head.
///
/// # Errors
/// [`Error::Behind`] when the payment is at another version: what was compared is not what the books are now;
/// [`Error::Busy`] while a command on the payment has no outcome, which may be the very difference; [`Error::Refused`];
/// [`Error::NotFound`]; [`Error::Invalid`] for a bad name in `by` or a bad reason; those of [`crate::Authority::lock`].
pub(crate) async fn record_adjustment(
    home: &Home,
    payment: PaymentId,
    version: i64,
    adjustment: &Adjustment,
    by: &str,
) -> Result<Payment, Error> {
    let by: Actor = by.parse()?;
    let mut tx = home.pool.begin().await?;
    home.authority.lock(&mut tx, payment).await?;
    let before = store::lock(&mut tx, payment).await?.ok_or(Error::NotFound)?;
    match store::booked(&mut tx, adjustment.id).await? {
        Some(booked) if booked == payment => return Ok(before),
        Some(_) => return Err(Error::corrupt("an adjustment", "its id is booked for another payment")),
        None => {}
    }
    if before.version != version {
        return Err(Error::Behind { here: version, head: before.version });
    }
    if store::has_open(&mut tx, payment).await? {
        return Err(Error::Busy("a command on it has no outcome yet"));
    }
    let event = adjust(&before, adjustment)?;
    store::insert_transactions(&mut tx, &[(&before, &event.ledger)]).await?;
    store::insert_adjustments(&mut tx, &[(payment, adjustment)]).await?;
    let version = events::publish_adjusted(&mut tx, &event).await?;
    let after = Payment { version, ..event.payment };
    if version != before.version + 1 || !store::update(&mut tx, &after, before.version).await? {
        return Err(Error::Behind { here: before.version, head: version - 1 });
    }
    audit(&after, adjustment, &by).write(&mut tx, home).await?;
    home.crash.point(Point::AdjustmentWritten);
    tx.commit().await?;
    home.crash.point(Point::AdjustmentCommitted);
    home.wake.now();
    let Adjustment { id, delta_minor, object, reason, .. } = adjustment;
    tracing::warn!(%payment, adjustment = %id, delta_minor, object, reason, %by, "the books were adjusted to the provider's");
    Ok(after)
}

fn audit<'a>(payment: &'a Payment, adjustment: &'a Adjustment, by: &'a Actor) -> Audit<'a> {
    Audit {
        payment: Some((&payment.tenant, payment.id)),
        command: None,
        actor: by,
        action: "adjusted",
        reason: Some(&adjustment.reason),
        detail: json!({
            "adjustment": adjustment.id,
            "delta_minor": adjustment.delta_minor,
            "object": adjustment.object,
            "payment_intent": adjustment.payment_intent,
            "version": payment.version,
        }),
    }
}
