//! The whole of a payment as a message, and a hash of it.

use prost::Message as _;
use proto::events as wire;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::{Error, Payment, events, store};

/// What these payments are, in the order given, with their books, adjustments, kept answers and accepted differences. Their rows and heads are locked, and
/// these statements come after that: what they see is not older than the locks.
pub(crate) async fn wholes(
    tx: &mut PgTransaction<'_>,
    payments: &[Payment],
) -> Result<Vec<wire::PaymentSnapshot>, Error> {
    let ids: Vec<Uuid> = payments.iter().map(|payment| payment.id.uuid()).collect();
    let mut ledger = store::load_transactions(tx, &ids).await?;
    let mut answers = store::load_answers(tx, payments).await?;
    let mut adjustments = store::load_adjustments(tx, &ids).await?;
    let mut accepted = store::load_accepted(tx, &ids).await?;
    let whole = |payment: &Payment| {
        let id = payment.id.uuid();
        let (ledger, answers) = (ledger.remove(&id), answers.remove(&id));
        let (adjustments, accepted) = (adjustments.remove(&id), accepted.remove(&id));
        wire::PaymentSnapshot {
            state: Some(events::state(payment)),
            ledger: ledger.unwrap_or_default().iter().map(events::transaction).collect(),
            idempotency: answers.unwrap_or_default().into_iter().map(events::answer).collect(),
            adjustments: adjustments.unwrap_or_default().iter().map(events::adjustment).collect(),
            accepted: accepted.unwrap_or_default().into_iter().map(events::accepted).collect(),
        }
    };
    Ok(payments.iter().map(whole).collect())
}

/// The hashes of these payments, in the order given. What is read is of the moment of `tx`.
pub(crate) async fn hashes(tx: &mut PgTransaction<'_>, payments: &[Payment]) -> Result<Vec<Vec<u8>>, Error> {
    let ids: Vec<Uuid> = payments.iter().map(|payment| payment.id.uuid()).collect();
    let mut ledger = store::load_transactions(tx, &ids).await?;
    let one = |payment: &Payment| {
        let booked = ledger.remove(&payment.id.uuid()).unwrap_or_default();
        hash(&wire::PaymentSnapshot {
            state: Some(events::state(payment)),
            ledger: booked.iter().map(events::transaction).collect(),
            ..Default::default()
        })
    };
    Ok(payments.iter().map(one).collect())
}

/// SHA-256 over state and ledger, by which the homes compare their copies: over the encoded state, then each encoded transaction in
/// the order of their ids, its lines in the order of their accounts, each part led by its length (64 bit, big endian). The version
/// is no part of it, nor are kept answers and accepted differences: those of a home that was given them later are as good.
pub(crate) fn hash(whole: &wire::PaymentSnapshot) -> Vec<u8> {
    let mut ledger = whole.ledger.clone();
    for transaction in &mut ledger {
        transaction.postings.sort_by(|a, b| a.account.cmp(&b.account));
    }
    ledger.sort_by(|a, b| a.transaction_id.cmp(&b.transaction_id));
    let state = whole.state.as_ref().map(wire::PaymentState::encode_to_vec).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in std::iter::once(state).chain(ledger.iter().map(wire::LedgerTransaction::encode_to_vec)) {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(account: &str, minor: i64) -> wire::Posting {
        let amount = Some(wire::Money { minor, currency: "EUR".to_owned() });
        wire::Posting { account: account.to_owned(), amount }
    }

    fn booked(id: &str, postings: &[wire::Posting]) -> wire::LedgerTransaction {
        wire::LedgerTransaction { transaction_id: id.to_owned(), postings: postings.to_vec() }
    }

    fn captured(captured_minor: i64, ledger: &[wire::LedgerTransaction]) -> wire::PaymentSnapshot {
        let state = Some(wire::PaymentState { captured_minor, ..Default::default() });
        wire::PaymentSnapshot { state, ledger: ledger.to_vec(), ..Default::default() }
    }

    #[test]
    fn the_hash_is_of_what_is_there_and_not_of_its_order() {
        let (debit, credit) = (line("clearing", 5), line("payable", -5));
        let (one, two) =
            (booked("1", &[debit.clone(), credit.clone()]), booked("2", std::slice::from_ref(&debit)));
        let known = hash(&captured(5, &[one.clone(), two.clone()]));
        assert_eq!(known.len(), 32);
        assert_eq!(hash(&captured(5, &[two.clone(), booked("1", &[credit.clone(), debit.clone()])])), known);
        let answered = wire::IdempotencyRecord::default();
        let mut later = captured(5, &[one.clone(), two.clone()]);
        later.idempotency.push(answered);
        assert_eq!(hash(&later), known);
        for other in [
            captured(6, &[one.clone(), two.clone()]),
            captured(5, std::slice::from_ref(&one)),
            captured(5, &[booked("1", std::slice::from_ref(&debit)), booked("2", &[credit, debit])]),
            wire::PaymentSnapshot { state: None, ..captured(5, &[one, two]) },
        ] {
            assert_ne!(hash(&other), known, "{other:?}");
        }
    }
}
