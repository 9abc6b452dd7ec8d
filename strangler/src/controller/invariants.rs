//! What must always hold: the brake that nobody has to pull.

use tokio::time::timeout;

use super::Controller;
use crate::policy::Policy;
use crate::{Error, Gate, Stage, Verdict};

impl Controller {
    /// Holds the migration when the domain finds an invariant broken. A domain that can't be asked is no reason to. A sealed source has
    /// nothing left that could be broken, and is not touched any more.
    pub(super) async fn hold_if_broken(&self, policy: &Policy) -> Result<(), Error> {
        if policy.stage == Stage::Local || policy.stage >= Stage::Sealed || policy.held.is_some() {
            return Ok(());
        }
        let Some(broken) = self.broken().await? else { return Ok(()) };
        tracing::error!(
            migration = self.0.migration,
            broken,
            "an invariant is broken: the migration is held"
        );
        self.hold(super::change::cut(&broken, super::rollback::REASON_MAX), "controller").await?;
        Ok(())
    }

    /// Whether the invariants hold now, as a gate.
    pub(super) async fn whole(&self) -> Gate {
        let gate = |verdict, found: String| Gate::new("invariants", verdict, found);
        match self.broken().await {
            Ok(None) => gate(Verdict::Pass, "the domain finds none broken".to_owned()),
            Ok(Some(broken)) => gate(Verdict::Fail, broken),
            Err(error) => gate(Verdict::Inconclusive, error.to_string()),
        }
    }

    async fn broken(&self) -> Result<Option<String>, Error> {
        let bound = self.0.settings.ask_timeout;
        match timeout(bound, self.0.domain.broken()).await {
            Ok(broken) => broken.map_err(|error| Error::Domain(error.to_string())),
            Err(_) => {
                Err(Error::Domain(format!("its invariants were not checked within {} ms", bound.as_millis())))
            }
        }
    }
}
