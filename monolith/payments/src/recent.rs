//! What was written last.

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
