//! The way back, and the brake.

use serde_json::json;

use super::Controller;
use crate::policy::Policy;
use crate::store::{keys, policy::Entry};
use crate::{Back, Change, Error, Held};

/// The longest reason of a hold, in bytes.
pub(super) const REASON_MAX: usize = 500;

impl Controller {
    /// Goes back: births are the source's as soon as this returns. From `following` to `local`. From `shadowing` and `reading` to
    /// `following`, at once: no key has left. From `ramping` or `primary` to `following`, when no key is at the target; else
    /// the stage stays, marked as draining, with percent 0, until the controller has called the last key back. A way back that
    /// was gone to its end is evidence for the gate `drill`.
    ///
    /// With `expected`, only from that revision: so a rollback whose answer was lost may be sent again and takes no second
    /// step.
    ///
    /// # Errors
    /// [`Error::Changed`] when the policy is at another revision than expected; [`Error::Refused`] in `local`,
    /// and in `sealed` and `removed`, from which no step leads back; [`Error::Busy`] may be tried again.
    pub async fn rollback(&self, expected: Option<i64>, by: &str) -> Result<Back, Error> {
        let (from, next, away) = self.go_back(expected, by, "").await?;
        Ok(Back {
            migration: self.0.migration.clone(),
            draining: next.draining,
            at_target: away,
            says: says(&next, away),
            revision: next.revision,
            from: Change::from(&from),
            to: Change::from(&next),
        })
    }

    /// Stops all steps forward until one comes with `resume`. Births go on as the policy says; going back stays allowed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no reason or one over 500 bytes; [`Error::Busy`] may be tried again.
    pub async fn hold(&self, reason: &str, by: &str) -> Result<Held, Error> {
        let reason = reason.trim();
        if !(1..=REASON_MAX).contains(&reason.len()) {
            let reason = format!("must be 1 to {REASON_MAX} bytes long");
            return Err(Error::Invalid { field: "reason", reason });
        }
        let (tx, from) = self.begin().await?;
        let next = Policy { held: Some(reason.to_owned()), ..from.clone() };
        let entry = Entry { action: "hold", by, reason, evidence: &json!({}) };
        let next = self.commit(tx, &from, next, entry).await?;
        let migration = self.0.migration.clone();
        Ok(Held { migration, held: reason.to_owned(), revision: next.revision })
    }

    /// Enters the lower stage once the last key has left the target, unless someone changed the policy since `seen`.
    pub(super) async fn finish_draining(&self, seen: i64) -> Result<(), Error> {
        if keys::any_away(&self.0.pool, &self.0.migration).await? {
            return Ok(());
        }
        match self.go_back(Some(seen), "controller", "the last key left the target").await {
            // The next look decides again, by the policy as it is then.
            Ok(_) | Err(Error::Changed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn go_back(
        &self,
        expected: Option<i64>,
        by: &str,
        reason: &str,
    ) -> Result<(Policy, Policy, i64), Error> {
        let (mut tx, from) = self.begin().await?;
        if expected.is_some_and(|revision| revision != from.revision) {
            return Err(Error::Changed(self.0.migration.clone()));
        }
        // Counted while births are at a halt: none can land at the target after this.
        let away = keys::count_away(&mut *tx, &self.0.migration).await?;
        let next = from.back(away)?;
        if from.draining && !next.draining {
            self.note_drill(&mut tx).await?;
        }
        let entry = Entry { action: "rollback", by, reason, evidence: &json!({ "at_target": away }) };
        let next = self.commit(tx, &from, next, entry).await?;
        Ok((from, next, away))
    }
}

fn says(next: &Policy, away: i64) -> String {
    match (next.stage, next.draining) {
        (stage, true) => format!(
            "births are the source's; {away} keys are not there yet and are called back, each once it is quiet; until the last \
             one is, the stage is {stage}"
        ),
        (stage, false) => format!("births are the source's; no key is at the target; the stage is {stage}"),
    }
}
