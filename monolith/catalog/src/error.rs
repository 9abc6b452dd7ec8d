//! What can go wrong.

use proto::MoneyError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More products were asked for at once than [`crate::BATCH_MAX`].
    #[error("{0} products were asked for at once; at most {max} are allowed", max = crate::BATCH_MAX)]
    TooMany(usize),
    /// A stored price is not money; the schema's checks should have refused it.
    #[error("a stored price is broken")]
    Price(#[from] MoneyError),
    /// The database failed.
    #[error("the catalog's database failed")]
    Database(#[from] sqlx::Error),
}
