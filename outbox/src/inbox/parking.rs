//! What waits in front of a gate: for an earlier version, for its handler, for an operator.

use std::time::Duration;

use uuid::Uuid;

use super::{Attempt, Dealt, Gate, Kind, attempt::Came};
use crate::{
    Error,
    envelope::Envelope,
    store::{self, ParkedRow, Parking},
};

impl Gate {
    /// Marks a key that a replica met in the middle. Not when its beginning is only parked.
    pub(super) async fn awaits_snapshot(&self, event: &Envelope) -> Result<bool, Error> {
        if matches!(self.kind, Kind::Handler) {
            return Ok(false);
        }
        let marked =
            self.database.with(async |db| store::await_snapshot(db, self.name(), event).await).await?;
        if marked {
            tracing::error!(
                handler = self.name(),
                key = event.key,
                version = event.version,
                "the replica does not know what came before; the key waits for a snapshot"
            );
        }
        Ok(marked)
    }

    /// Stores an event in front of its cursor. `None`: its turn has come meanwhile.
    pub(super) async fn park(
        &self,
        event: &Envelope,
        why: (&'static str, Option<String>),
    ) -> Result<Option<Dealt>, Error> {
        let answer = self.store(event, why).await?;
        Ok(self.kept(event, &answer))
    }

    /// Gives an event up at its first attempt, if there is room for it. `None`: it was applied meanwhile.
    pub(super) async fn give_up(&self, event: &Envelope, error: String) -> Result<Option<Dealt>, Error> {
        let answer = self.store(event, ("refused", Some(error.clone()))).await?;
        let kept = self.kept(event, &answer);
        if !matches!(answer.as_str(), "parked" | "again") {
            return Ok(kept);
        }
        let dead = self.bury(event, &error, 1).await?;
        // A repeat is counted as one, whatever becomes of the event.
        Ok(if answer == "again" { kept } else { dead })
    }

    async fn store(
        &self,
        event: &Envelope,
        (reason, error): (&'static str, Option<String>),
    ) -> Result<String, Error> {
        if let Some(error) = &error {
            tracing::error!(
                handler = self.name(),
                key = event.key,
                version = event.version,
                reason,
                error,
                "an event was not applied; its key waits, others go on"
            );
        }
        let parked_max = self.options.parked_max;
        let per_key_max = self.refilling.as_ref().and_then(|refilling| refilling.options.parked_per_key_max);
        let parking = Parking { reason, error: error.as_deref(), parked_max, per_key_max };
        let answer =
            self.database.with(async |db| store::park(db, self.name(), event, parking).await).await?;
        if answer == "full" {
            return Err(Error::ParkedFull { handler: self.name().to_owned(), parked_max });
        }
        Ok(answer)
    }

    /// Gives an event up that was refused `attempts` times. `None`: it was applied meanwhile.
    pub(super) async fn bury(
        &self,
        event: &Envelope,
        error: &str,
        attempts: i32,
    ) -> Result<Option<Dealt>, Error> {
        let answer = self
            .database
            .with(async |db| store::bury(db, self.name(), event, (error, attempts)).await)
            .await?;
        let (handler, key, version) = (self.name(), &event.key, event.version);
        tracing::error!(
            handler,
            key,
            version,
            error,
            attempts,
            "an event is a dead letter now; its key waits"
        );
        Ok(self.kept(event, &answer))
    }

    /// What it means for a record that its event was to be kept.
    fn kept(&self, event: &Envelope, answer: &str) -> Option<Dealt> {
        match answer {
            "parked" | "overflow" => Some(Dealt::Parked),
            "dead" => Some(Dealt::Dead),
            "again" | "known" => Some(Dealt::Again),
            // `ready` or `passed`: the gate tells.
            "ready" | "passed" => None,
            conflict => {
                let other = conflict.strip_prefix("conflict ").and_then(|id| id.parse().ok());
                self.alarm(event, other);
                Some(Dealt::Conflict)
            }
        }
    }

    /// Applies parked events of a key whose turn has come, at most `drain_max`.
    pub(crate) async fn drain(&self, topic: &str, key: &str) -> Result<(), Error> {
        for _ in 0..self.options.drain_max {
            let next = self.database.with(async |db| store::next_parked(db, self.name(), topic, key).await);
            let Some(row) = next.await? else { return Ok(()) };
            if !self.try_again(row).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tries a parked event. False when its key still waits.
    async fn try_again(&self, row: ParkedRow) -> Result<bool, Error> {
        let (attempts, tries) = (row.attempts, row.tries);
        let read =
            Envelope::read(row.topic.clone(), row.key.clone(), row.payload.clone(), row.headers.0.clone());
        let event = match read {
            Ok(event) if (event.version, event.id) == (row.version, row.id) => event,
            // Someone has edited it.
            Ok(_) => return self.bury_row(&row, "the headers are those of another event").await,
            Err(error) => return self.bury_row(&row, &error).await,
        };
        let came = if row.replaced && event.is_skipped() { Came::Discarded } else { Came::Kept };
        let (reason, error) = match self.attempt(&event, came).await? {
            Attempt::Dealt(..) => return Ok(true),
            Attempt::Conflict(applied, _) => {
                self.alarm(&event, applied);
                return Ok(true);
            }
            Attempt::Early => ("early", String::new()),
            Attempt::Hopeless(error) => {
                self.bury(&event, &error, attempts + 1).await?;
                return Ok(false);
            }
            Attempt::Refused(error) if attempts + 1 >= self.options.attempts_max => {
                self.bury(&event, &error, attempts + 1).await?;
                return Ok(false);
            }
            Attempt::Refused(error) => ("refused", error),
            Attempt::Passing(error) | Attempt::Unknown(error) => ("failed", error),
        };
        tracing::error!(
            handler = self.name(),
            key = event.key,
            version = event.version,
            reason,
            error,
            tries = tries + 1,
            "a parked event was not applied; its key waits, others go on"
        );
        let delay = self.retry_delay(tries);
        let why = (reason, error.as_str());
        self.database.with(async |db| store::retry_later(db, self.name(), &event, why, delay).await).await?;
        Ok(false)
    }

    async fn bury_row(&self, row: &ParkedRow, error: &str) -> Result<bool, Error> {
        self.database.with(async |db| store::bury_parked(db, self.name(), row, error).await).await?;
        let (handler, key, version) = (self.name(), &row.key, row.version);
        tracing::error!(
            handler,
            key,
            version,
            error,
            "a parked event can't be read; it is a dead letter now"
        );
        Ok(false)
    }

    /// Two owners wrote one version. Both ids are in `outbox.conflict`.
    pub(super) fn alarm(&self, event: &Envelope, applied: Option<Uuid>) {
        let applied = applied.map(tracing::field::display);
        tracing::error!(
            handler = self.name(),
            key = event.key,
            version = event.version,
            id = %event.id,
            applied,
            "CONFLICT: two events with one version (see outbox.conflict)"
        );
    }

    fn retry_delay(&self, tries: i32) -> Duration {
        let doublings = u32::try_from((tries - 1).clamp(0, 16)).unwrap_or(0);
        (self.options.retry_delay_min * 2u32.pow(doublings)).min(self.options.retry_delay_max)
    }
}
