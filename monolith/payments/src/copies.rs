//! What a home has, to be compared with the other one.

use proto::PaymentId;
use sqlx::PgPool;

use crate::movable::payment;
use crate::whole::hashes;
use crate::{Error, store};

/// What is said of a payment is of one moment, and the comparison never keeps a connection for long.
const ONE_MOMENT: &str =
    "begin isolation level repeatable read read only; set local statement_timeout = '5s'";

/// This home's copy of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentCopy {
    /// The payment's key.
    pub key: String,
    /// Its version here.
    pub version: i64,
    /// SHA-256 over state and ledger: equal at both homes at equal versions. The version is no part of it.
    pub hash: [u8; 32],
}

/// The payments after one up to another, in the order of their ids, at most `limit`.
///
/// # Errors
/// [`Error::Database`]; [`Error::Corrupt`] for a row that can't be read, or a key that is no payment's.
pub async fn copies(
    pool: &PgPool,
    after: Option<&str>,
    upto: Option<&str>,
    limit: i64,
) -> Result<Vec<PaymentCopy>, Error> {
    let bound = |key: Option<&str>| Ok::<_, Error>(key.map(payment).transpose()?.map(PaymentId::uuid));
    let (after, upto) = (bound(after)?, bound(upto)?);
    let mut tx = pool.begin_with(ONE_MOMENT).await?;
    let payments = store::between(&mut tx, after, upto, limit).await?;
    let hashes = hashes(&mut tx, &payments).await?;
    tx.commit().await?;
    let copy = |(payment, hash): (&crate::Payment, Vec<u8>)| {
        // SHA-256 has 32 bytes.
        let hash = hash.try_into().unwrap_or([0; 32]);
        PaymentCopy { key: payment.id.to_string(), version: payment.version, hash }
    };
    Ok(payments.iter().zip(hashes).map(copy).collect())
}
