//! Whether the books of all tenants balance together.

use sqlx::PgPool;

use crate::{Error, store};

/// A currency in which the books of all tenants together do not balance, with the sum in minor units. The database refuses each
/// booking that does not; so one has been made around its rules.
///
/// # Errors
/// [`Error::Unavailable`] when it takes over 5 s; [`Error::Database`].
pub async fn unbalanced(pool: &PgPool) -> Result<Option<(String, String)>, Error> {
    store::unbalanced(pool).await
}
