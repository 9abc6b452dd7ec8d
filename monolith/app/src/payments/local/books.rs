//! The books of this home, added up now and then for the migration's controller.

use std::sync::Arc;
use std::time::Duration;

use ::payments::Error;
use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How old a sum may be that was in order. It reads the whole ledger, by an index.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What was found last. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Books(Arc<Mutex<Looked>>);

#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    broken: Option<String>,
}

impl Books {
    /// What is wrong with them, if anything. Books that were found wrong are added up again each time.
    pub(crate) async fn broken(&self, pool: &PgPool) -> Result<Option<String>, Error> {
        let mut looked = self.0.lock().await;
        let old = looked.at.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        if old || looked.broken.is_some() {
            let unbalanced = ::payments::unbalanced(pool).await?;
            looked.broken = unbalanced.map(|(currency, minor)| {
                format!("the books in {currency} do not balance: {minor} minor units too much")
            });
            looked.at = Some(Instant::now());
        }
        Ok(looked.broken.clone())
    }
}
