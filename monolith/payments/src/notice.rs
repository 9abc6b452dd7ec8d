//! What the provider tells of a payment without being asked. A notice is a hint: it never moves money and never changes a
//! payment. It has the resolver look at what is open, or says that the books don't have what it tells.

use proto::PaymentId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Epoch, Error, Home, Operation, Payment, Status, Tenant, Violation, store};

/// What the provider tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The provider's id of the event.
    pub id: String,
    /// The provider's word for what happened: `payment_intent.succeeded`.
    pub kind: String,
    /// The provider's id of the payment intent or refund.
    pub object: String,
    /// How that object stood, in the provider's words; empty when it was not said.
    pub status: String,
    /// The payment that the object is for.
    pub payment: PaymentId,
    /// Whose payment it is.
    pub tenant: Tenant,
    /// The command that made or last moved the object.
    pub command: Option<Uuid>,
    /// When it happened, by the provider's clock.
    pub created: OffsetDateTime,
}

/// What the payment's owner says to a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// Taken: the books agree, or what is open is looked at now.
    Applied,
    /// The books don't have what it tells, and nothing is open that could explain it.
    Surprise(String),
    /// This home does not know the payment, or not yet.
    Early,
}

/// A command without a definite answer, as far as a notice can be about it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) command: Uuid,
    pub(crate) operation: Operation,
    pub(crate) object: Option<String>,
}

/// What a kind says of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Taken,
    Reserved,
    Released,
    NothingMoved,
    Returned,
    NotReturned,
}

/// Takes a notice as the payment's owner. Lock order: owner row, payment row, intent.
pub(crate) async fn deliver(home: &Home, notice: &Notice, epoch: Epoch) -> Result<Delivered, Error> {
    let told = told(notice)?;
    // Before its first event a payment has no row here, and may have no authority to lock.
    if store::find(&home.pool, &notice.tenant, notice.payment).await?.is_none() {
        return Ok(Delivered::Early);
    }
    let mut tx = home.pool.begin().await?;
    let held = home.authority.lock_outcome(&mut tx, notice.payment).await?;
    if epoch > held {
        return Err(Error::Busy("its latest change of owner has not arrived here"));
    }
    let Some(payment) = store::lock_now(&mut tx, notice.payment).await? else {
        return Err(Error::Busy("another transaction has it"));
    };
    let payment = payment.ok_or(Error::NotFound)?;
    let open = store::hasten(&mut tx, payment.id).await?;
    let booked = match notice.command {
        Some(command) => store::booked(&mut tx, command).await? == Some(payment.id),
        None => false,
    };
    let judged = judge(told, notice, &payment, open.as_ref(), booked)?;
    let followed = match told.delta() {
        Some(sign) if matches!(judged, Delivered::Surprise(_)) => {
            store::adjusted(&mut tx, payment.id, &notice.object, sign).await?
        }
        _ => false,
    };
    tx.commit().await?;
    Ok(if followed { Delivered::Applied } else { judged })
}

impl Told {
    /// The sign of what reconciliation books when nobody here asked for it.
    fn delta(self) -> Option<i64> {
        match self {
            Told::Taken | Told::NotReturned => Some(1),
            Told::Returned => Some(-1),
            Told::Reserved | Told::Released | Told::NothingMoved => None,
        }
    }
}

fn told(notice: &Notice) -> Result<Told, Error> {
    match notice.kind.as_str() {
        "payment_intent.succeeded" => Ok(Told::Taken),
        "payment_intent.amount_capturable_updated" => Ok(Told::Reserved),
        "payment_intent.canceled" => Ok(Told::Released),
        "payment_intent.payment_failed" | "payment_intent.processing" => Ok(Told::NothingMoved),
        "refund.failed" => Ok(Told::NotReturned),
        "refund.created" | "refund.updated" => match notice.status.as_str() {
            "failed" | "canceled" => Ok(Told::NotReturned),
            _ => Ok(Told::Returned),
        },
        kind => Err(Error::Invalid(vec![Violation::new("kind", format!("{kind} is not known here"))])),
    }
}

/// `booked`: the ledger has a transaction of the notice's command.
fn judge(
    told: Told,
    notice: &Notice,
    payment: &Payment,
    open: Option<&Open>,
    booked: bool,
) -> Result<Delivered, Error> {
    let surprise = |what: String| Ok(Delivered::Surprise(what));
    let Notice { kind, object, .. } = notice;
    match told {
        Told::Returned if booked => Ok(Delivered::Applied),
        Told::Returned if open.is_some_and(|open| Some(open.command) == notice.command) => {
            Ok(Delivered::Applied)
        }
        Told::Returned => surprise(format!("{kind}: the books have no refund {object}")),
        Told::NotReturned if booked => {
            surprise(format!("{kind}: the books have refund {object}, which did not happen"))
        }
        Told::NotReturned => Ok(Delivered::Applied),
        Told::Taken | Told::Reserved | Told::Released | Told::NothingMoved => {
            let own = open.and_then(|open| open.object.as_ref()).or(payment.provider_ref.as_ref());
            let moved = told == Told::Taken || told == Told::Reserved;
            match own {
                Some(own) if own == object && agrees(told, payment.status, open) => Ok(Delivered::Applied),
                Some(own) if own == object => surprise(format!("{kind}: the payment is {}", payment.status)),
                // Another payment intent that moved nothing, such as one that was made twice.
                Some(_) | None if !moved => Ok(Delivered::Applied),
                Some(own) => surprise(format!("{kind}: {object} is not the payment's, which is {own}")),
                None if open.is_some() => Err(Error::Busy("its payment intent is not known yet")),
                None => surprise(format!("{kind}: nobody asked for {object}")),
            }
        }
    }
}

/// Whether the payment has come to what was told, or to something that follows from it, or an open command explains it.
fn agrees(told: Told, status: Status, open: Option<&Open>) -> bool {
    let explained = match open.map(|open| open.operation) {
        Some(Operation::Charge | Operation::Authorize) => true,
        Some(Operation::Capture) => told == Told::Taken,
        Some(Operation::Void) => told == Told::Released,
        Some(Operation::Refund) | None => false,
    };
    explained
        || match told {
            Told::Taken => matches!(status, Status::Captured | Status::Refunded),
            Told::Reserved => {
                matches!(status, Status::Authorized | Status::Captured | Status::Voided | Status::Refunded)
            }
            Told::Released => matches!(status, Status::Voided | Status::Declined),
            Told::NothingMoved => status != Status::Requested,
            Told::Returned | Told::NotReturned => false,
        }
}

#[cfg(test)]
mod tests {
    use proto::{Money, OrderId};

    use super::*;
    use crate::CaptureMethod;

    const OWN: &str = "pi_own";

    fn payment(status: Status) -> Payment {
        Payment {
            id: PaymentId::new(),
            tenant: "acme".parse().unwrap(),
            order: OrderId::new(),
            amount: Money::new(900, "EUR".parse().unwrap()),
            capture_method: CaptureMethod::Automatic,
            payment_method: "pm_card_visa".to_owned(),
            status,
            authorized_minor: 0,
            captured_minor: 0,
            refunded_minor: 0,
            provider_ref: (status != Status::Requested).then(|| OWN.to_owned()),
            version: 2,
            requested_at: OffsetDateTime::UNIX_EPOCH,
            outcome_pending: false,
        }
    }

    fn judged(kind: &str, object: &str, status: Status, open: Option<Operation>, booked: bool) -> String {
        let payment = payment(status);
        let command = Uuid::from_u128(7);
        let notice = Notice {
            id: "evt_1".to_owned(),
            kind: kind.to_owned(),
            object: object.to_owned(),
            status: String::new(),
            payment: payment.id,
            tenant: payment.tenant.clone(),
            command: Some(command),
            created: OffsetDateTime::UNIX_EPOCH,
        };
        let open = open.map(|operation| Open { command, operation, object: Some(OWN.to_owned()) });
        match judge(told(&notice).unwrap(), &notice, &payment, open.as_ref(), booked) {
            Ok(Delivered::Applied) => "applied".to_owned(),
            Ok(Delivered::Surprise(what)) => what,
            Ok(Delivered::Early) => "early".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_the_books_have_or_an_open_command_explains_is_taken() {
        use Operation::{Capture, Charge, Refund, Void};
        for (kind, object, status, open, booked) in [
            ("payment_intent.succeeded", OWN, Status::Captured, None, false),
            ("payment_intent.succeeded", OWN, Status::Refunded, None, false),
            ("payment_intent.succeeded", OWN, Status::Requested, Some(Charge), false),
            ("payment_intent.succeeded", OWN, Status::Authorized, Some(Capture), false),
            ("payment_intent.canceled", OWN, Status::Authorized, Some(Void), false),
            // Late, when later things have happened.
            ("payment_intent.amount_capturable_updated", OWN, Status::Voided, None, false),
            ("payment_intent.processing", OWN, Status::Captured, None, false),
            ("payment_intent.payment_failed", OWN, Status::Declined, None, false),
            ("payment_intent.payment_failed", "pi_other", Status::Captured, None, false),
            ("refund.created", "re_1", Status::Captured, None, true),
            ("refund.created", "re_1", Status::Captured, Some(Refund), false),
            ("refund.failed", "re_1", Status::Captured, None, false),
        ] {
            assert_eq!(judged(kind, object, status, open, booked), "applied", "{kind} {object} {status}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_a_surprise() {
        use Operation::Refund;
        for (kind, object, status, open, booked, what) in [
            ("payment_intent.succeeded", OWN, Status::Authorized, None, false, "the payment is authorized"),
            (
                "payment_intent.canceled",
                OWN,
                Status::Captured,
                Some(Refund),
                false,
                "the payment is captured",
            ),
            (
                "payment_intent.succeeded",
                "pi_2",
                Status::Captured,
                None,
                false,
                "pi_2 is not the payment's, which is pi_own",
            ),
            ("payment_intent.succeeded", "pi_2", Status::Requested, None, false, "nobody asked for pi_2"),
            ("refund.created", "re_1", Status::Captured, None, false, "the books have no refund re_1"),
            (
                "refund.failed",
                "re_1",
                Status::Captured,
                None,
                true,
                "the books have refund re_1, which did not happen",
            ),
        ] {
            assert_eq!(judged(kind, object, status, open, booked), format!("{kind}: {what}"));
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_not_taken() {
        let payment = payment(Status::Captured);
        let notice = Notice {
            id: "evt_1".to_owned(),
            kind: "payment_intent.exploded".to_owned(),
            object: OWN.to_owned(),
            status: String::new(),
            payment: payment.id,
            tenant: payment.tenant,
            command: None,
            created: OffsetDateTime::UNIX_EPOCH,
        };
        assert!(matches!(told(&notice), Err(Error::Invalid(_))));
    }
}
