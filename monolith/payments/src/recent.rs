//! What this home's tables tell of all payments: which were written last, and whether the books balance.

use proto::PaymentId;
use sqlx::PgPool;

use crate::{Error, store};

/// The payments that were written last in this home's database, by it or by its replica, with the versions they are at:
/// what a feed between the homes is measured by. At most `limit`.
///
/// # Errors
/// [`Error::Database`].
pub async fn recent(pool: &PgPool, limit: i64) -> Result<Vec<(PaymentId, i64)>, Error> {
    let rows = store::recent(pool, limit).await?;
    Ok(rows.into_iter().map(|(id, version)| (PaymentId::from_uuid(id), version)).collect())
}

/// A currency in which the books of all tenants together do not balance, with the sum in minor units. The database refuses each
/// booking that does not; so one has been made around its rules.
///
/// # Errors
/// [`Error::Unavailable`] when it takes over 5 s; [`Error::Database`].
pub async fn unbalanced(pool: &PgPool) -> Result<Option<(String, String)>, Error> {
    store::unbalanced(pool).await
}
