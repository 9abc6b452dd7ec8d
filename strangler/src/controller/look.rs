//! Where a migration stands.

use time::OffsetDateTime;

use super::Controller;
use super::handover::LATE;
use crate::gate::{Direction, Distance, Found, Gate, Verdict, millis};
use crate::policy::Policy;
use crate::store::{backfill, keys, moves, policy as store};
use crate::{Error, Feed, Home, NextGate, PinnedKeys, PolicyView, Stage, Status};

/// How many changes a status shows.
const HISTORY_MAX: i64 = 10;
/// The most pinned keys in an answer.
const PINNED_MAX: i64 = 1_000;

impl Controller {
    /// Where the migration stands, feeds and target as they are found now.
    ///
    /// # Errors
    /// [`Error::UnknownMigration`], or the database's failure. A target or domain that can't be asked is part of the answer.
    pub async fn status(&self) -> Result<Status, Error> {
        let (pool, migration) = (&self.0.pool, &self.0.migration);
        let policy = self.policy().await?;
        let probe = self.probe();
        // A sealed source follows nothing, and is not looked at: that would be a touch.
        let (healthy, (forward, there), (reverse, here)) = if policy.stage < Stage::Sealed {
            tokio::join!(
                probe.target_healthy(),
                probe.glance(Direction::Forward),
                probe.glance(Direction::Reverse)
            )
        } else {
            let still = |direction: Direction| {
                (Gate::new(direction.gate(), Verdict::Inconclusive, "the source is sealed"), None)
            };
            (probe.target_healthy().await, still(Direction::Forward), still(Direction::Reverse))
        };
        Ok(Status {
            migration: migration.clone(),
            since_seconds: (OffsetDateTime::now_utc() - policy.changed_at).whole_seconds().max(0),
            keys: keys::count(pool, migration).await?,
            pinned: moves::count_pinned(pool, migration).await?,
            came_back: moves::count_pinned_for(pool, migration, LATE).await?,
            backfill: backfill::find(pool, migration).await?,
            target: healthy.found.clone(),
            feed: there.map(|found| feed(found, policy.stage, Home::Source)),
            reverse_feed: here.map(|found| feed(found, policy.stage, Home::Target)),
            controller: store::leader(pool, migration).await?,
            plan: self.plan_view(),
            approvals: match policy.ahead(self.planned_tenants()) {
                Some(stage) => self.approvals(stage).await?,
                None => Vec::new(),
            },
            next: self.next_gate(&policy, vec![healthy, forward, reverse]).await,
            history: store::history(pool, migration, HISTORY_MAX).await?,
            policy: PolicyView::from(&policy),
        })
    }
}

impl Controller {
    /// The keys that can't move now and why, those pinned longest first, at most `limit` (1 to 1,000).
    ///
    /// # Errors
    /// [`Error::Invalid`] for another limit; the database's failure.
    pub async fn pinned(&self, limit: i64) -> Result<PinnedKeys, Error> {
        if !(1..=PINNED_MAX).contains(&limit) {
            let reason = format!("must be 1 to {PINNED_MAX}, not {limit}");
            return Err(Error::Invalid { field: "limit", reason });
        }
        let (pool, migration) = (&self.0.pool, &self.0.migration);
        let keys = moves::pinned(pool, migration, limit).await?;
        let count = moves::count_pinned(pool, migration).await?;
        Ok(PinnedKeys { migration: migration.clone(), count, keys })
    }
}

impl Controller {
    /// The worst gate before the next step, which is the one that a plan shows.
    async fn next_gate(&self, policy: &Policy, live: Vec<Gate>) -> Option<NextGate> {
        let step = policy.next_step(self.planned_tenants())?;
        let stage = step.to?;
        let gates = match (&policy.held, self.stepped(policy, &step)) {
            (Some(held), _) => {
                vec![Gate::new("held", Verdict::Fail, format!("the migration is held: {held}"))]
            }
            (None, Ok(next)) => Box::pin(self.gates_of(policy, &next, live)).await,
            (None, Err(error)) => vec![Gate::new("rules", Verdict::Fail, error.to_string())],
        };
        let worst = gates.into_iter().max_by_key(|gate| gate.verdict)?;
        Some(NextGate { stage, gate: worst.name, verdict: worst.verdict, found: worst.found })
    }
}

/// The feed that begins at a home. Where the stage has no heartbeats in it, the age of an earlier stage's last one would only alarm.
fn feed(Found { sampled, distance, heard }: Found, stage: Stage, from: Home) -> Feed {
    let Distance { behind, parked, awaiting } = distance;
    let heartbeat = heard.last().filter(|_| stage.beats(from));
    let heartbeat_age_ms = heartbeat.map(|heartbeat| millis(heartbeat.age));
    Feed { sampled, behind: behind.len(), parked, awaiting, heartbeat_age_ms }
}
