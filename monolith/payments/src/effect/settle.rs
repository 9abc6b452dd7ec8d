//! The last transaction of an effect: the definite answer, and all that follows from it, at once.

use sqlx::postgres::PgTransaction;

use super::{Intent, Verdict};
use crate::store::Ended;
use crate::{Audit, Error, Home, Outcome, Payment, Point, Refusal, decide, events, store};

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Settled {
    /// With this state.
    Payment(Box<Payment>),
    /// The provider refused it; nothing changed.
    Refused(Refusal),
}

/// Commits a definite answer: state, ledger, event, the key's answer and the end of the intent. Whoever comes second finds the
/// intent done and gets the first one's result. `decision`: a person's, told in the audit if it is what ends the intent. Lock order:
/// owner row, payment row, intent, head.
pub(crate) async fn settle(
    home: &Home,
    intent: &Intent,
    verdict: &Verdict,
    decision: Option<&Audit<'_>>,
) -> Result<Settled, Error> {
    let mut tx = home.pool.begin().await?;
    home.authority.lock_outcome(&mut tx, intent.payment.id).await?;
    let payment = store::lock(&mut tx, intent.payment.id).await?.ok_or(Error::NotFound)?;
    // The resolver does not rest meanwhile. Of a payment intent that a person has not seen nothing can be decided; none is kept
    // from here on, and what is not kept is not confirmed.
    if decision.is_some() && store::lock_gone_on(&mut tx, intent).await? {
        return Err(Error::Busy("the resolver has gone on with the command meanwhile"));
    }
    let settled = match verdict {
        Verdict::Outcome(outcome) => record(&mut tx, home, intent, &payment, outcome).await?,
        Verdict::Refused(code) => {
            let ended = store::finish(&mut tx, home.name, intent.command.id, Ended::Refused(code)).await?;
            ended.then(|| Settled::Refused(Refusal::Provider { code: code.clone() }))
        }
    };
    let Some(settled) = settled else {
        if decision.is_some() {
            return Err(Error::Busy("the command has ended by itself meanwhile"));
        }
        return settled_before(&mut tx, intent, payment).await;
    };
    if let Some(decision) = decision {
        decision.write(&mut tx, home).await?;
    }
    home.crash.point(Point::OutcomeWritten);
    tx.commit().await?;
    home.crash.point(match settled {
        Settled::Payment(_) => Point::OutcomeCommitted,
        Settled::Refused(_) => Point::RefusalCommitted,
    });
    home.wake.now();
    Ok(settled)
}

/// `None` when the intent is done already.
async fn record(
    tx: &mut PgTransaction<'_>,
    home: &Home,
    intent: &Intent,
    payment: &Payment,
    outcome: &Outcome,
) -> Result<Option<Settled>, Error> {
    let event = match decide(payment, &intent.command, outcome) {
        Ok(event) => event,
        Err(_) if !store::lock_open(tx, intent.command.id).await? => return Ok(None),
        Err(refusal) => {
            tracing::error!(payment = %payment.id, command = %intent.command.id, %refusal,
                "the provider did what the payment does not allow");
            return Err(refusal.into());
        }
    };
    let after = Payment { version: payment.version + 1, ..event.payment.clone() };
    if !store::finish(tx, home.name, intent.command.id, Ended::Outcome(outcome, &after)).await? {
        return Ok(None);
    }
    if let Some(transaction) = &event.ledger {
        store::insert_transactions(tx, &[(payment, transaction)]).await?;
    }
    let version = events::publish(tx, &event).await?;
    // Each change is exactly one event, so the row and the head of its stream move together or not at all.
    if version != after.version || !store::update(tx, &after, payment.version).await? {
        return Err(Error::Behind { here: payment.version, head: version - 1 });
    }
    Ok(Some(Settled::Payment(Box::new(after))))
}

async fn settled_before(
    tx: &mut PgTransaction<'_>,
    intent: &Intent,
    payment: Payment,
) -> Result<Settled, Error> {
    let Some(idempotency) = &intent.command.idempotency else {
        return Ok(Settled::Payment(Box::new(payment)));
    };
    let operation = intent.command.operation;
    let record = store::find_key(&mut **tx, &payment.tenant, payment.id, operation, idempotency).await?;
    match record.and_then(|record| record.answer) {
        Some(Err(code)) => Ok(Settled::Refused(Refusal::Provider { code })),
        Some(Ok(answer)) => Ok(Settled::Payment(Box::new(answer))),
        None => Ok(Settled::Payment(Box::new(payment))),
    }
}
