//! Retiring the source's copy.

use sqlx::postgres::{PgDatabaseError, PgTransaction};

use super::Controller;
use crate::error::{LOCKED, code};
use crate::policy::Policy;
use crate::store::sealed as store;
use crate::{Error, Stage};

/// Refused once the source is sealed: what would publish from its copy, or compare it. That would touch it, and find it old.
pub(super) fn needs_source(policy: &Policy) -> Result<(), Error> {
    if policy.stage < Stage::Sealed {
        return Ok(());
    }
    Err(Error::refused(
        format!(
            "in stage {} the source's copy is retired: it is not filled from, compared or mended",
            policy.stage
        ),
        "ask the target: what it has is all there is",
    ))
}

/// `object_not_in_prerequisite_state`: what `strangler.seal` raises when the source can't be sealed.
const NOT_READY: &str = "55000";

impl Controller {
    /// Ends the source's rights, in the transaction that enters `sealed`: all keys must be settled at the target.
    pub(super) async fn seal(&self, tx: &mut PgTransaction<'static>) -> Result<(), Error> {
        let migration = &self.0.migration;
        let revoked = store::seal(tx, migration).await.map_err(|error| self.not_sealed(error))?;
        tracing::info!(migration, revoked, "the source's roles lose their rights");
        Ok(())
    }

    fn not_sealed(&self, error: sqlx::Error) -> Error {
        match code(&error).as_deref() {
            Some(LOCKED) => Error::Busy(self.0.migration.clone()),
            Some(NOT_READY) => match error.as_database_error() {
                Some(database) => {
                    let hint = database.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::hint);
                    Error::refused(database.message(), hint.unwrap_or("see to it, then advance again"))
                }
                None => error.into(),
            },
            _ => error.into(),
        }
    }
}
