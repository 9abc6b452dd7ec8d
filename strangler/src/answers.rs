//! What a controller answers. The fields are the admin API's JSON; `docs/migration.md` shows each.

mod approval;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use self::approval::{Approval, Approved, PlanView};
use crate::{Epoch, Gate, Home, Phase, Refusal, Stage, Verdict, policy::Policy};

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// The stage.
    pub stage: Stage,
    /// Of all new keys, how many are born at the target.
    pub percent: i16,
    /// Tenants whose new keys are all born at the target.
    pub tenants: Vec<String>,
    /// Rolled back, while keys are still at the target.
    pub draining: bool,
    /// Why nobody may advance.
    pub held: Option<String>,
    /// The business metric that must improve.
    pub metric: Option<String>,
    /// Grows with each change.
    pub revision: i64,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// The part of a policy that a step changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The stage.
    pub stage: Stage,
    /// Of all new keys, how many are born at the target.
    pub percent: i16,
    /// Tenants whose new keys are all born at the target.
    pub tenants: Vec<String>,
}

/// A step forward: taken, or only looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The migration.
    pub migration: String,
    /// Whether the policy was changed.
    pub entered: bool,
    /// The policy before.
    pub from: Change,
    /// The policy after, or as it would be.
    pub to: Change,
    /// What it does to keys, in a phrase.
    pub moves: String,
    /// How to go back, in a phrase.
    pub way_back: String,
    /// The gates that were asked. None for a step that lets fewer keys be born at the target.
    pub gates: Vec<Gate>,
    /// Why it would be refused. Always absent for a step that was taken.
    pub refused: Option<Refusal>,
    /// How many keys got an owner row by this step.
    pub seeded: i64,
    /// The policy's revision now.
    pub revision: i64,
}

/// What could come next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The migration.
    pub migration: String,
    /// The policy in force.
    pub policy: PolicyView,
    /// The next step, with its gates as they are found now.
    pub next: Step,
    /// What `rollback` would do.
    pub way_back: String,
}

/// A rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// The migration.
    pub migration: String,
    /// The policy before.
    pub from: Change,
    /// The policy now.
    pub to: Change,
    /// Keys are still at the target, so the lower stage is not entered yet.
    pub draining: bool,
    /// How many.
    pub at_target: i64,
    /// What that means, in a sentence.
    pub says: String,
    /// The policy's revision now.
    pub revision: i64,
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The migration.
    pub migration: String,
    /// Why.
    pub held: String,
    /// The policy's revision now.
    pub revision: i64,
}

/// How many keys live where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Keys {
    /// Settled at the source.
    pub source: i64,
    /// Settled at the target.
    pub target: i64,
    /// On their way from the source to the target.
    pub moving: i64,
    /// On their way back.
    #[serde(default)]
    pub recalling: i64,
    /// Of those at the target, how many it has not confirmed since they were handed over.
    #[serde(default)]
    pub granting: i64,
}

/// A key that can't move now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct PinnedKey {
    /// The key.
    pub key: String,
    /// Why.
    pub why: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// When it was looked at last.
    #[serde(with = "time::serde::rfc3339")]
    pub looked_at: OffsetDateTime,
    /// How often.
    pub tries: i32,
}

/// Keys that can't move now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedKeys {
    /// The migration.
    pub migration: String,
    /// How many there are.
    pub count: i64,
    /// Those pinned longest, as many as were asked for.
    pub keys: Vec<PinnedKey>,
}

/// How far a backfill is: the walk over the source's keys that publishes what the target lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Backfill {
    /// Which walk this is. A walk that finds nothing lacking is the last.
    pub walk: i32,
    /// How many keys this walk has looked at.
    pub done: i64,
    /// Of how many, about: keys leave the source meanwhile. 0 until they are counted.
    pub of: i64,
    /// Keys a second, in this walk.
    pub rate: i64,
    /// How long this walk will take; absent when it is not moving.
    pub eta_seconds: Option<i64>,
    /// Snapshots published, in all walks.
    pub published: i64,
    /// Keys that could not be published when they were looked at, in all walks.
    pub skipped: i64,
    /// The last of them, with the reason; absent when it is done.
    pub waits: Option<String>,
    /// Who began it.
    pub asked_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub begun_at: OffsetDateTime,
    /// When it was done; absent while it is under way.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub done_at: Option<OffsetDateTime>,
}

/// Some keys, by name as far as they are few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// How many.
    pub count: i64,
    /// The first 100 of them.
    pub keys: Vec<String>,
}

/// A comparison of all copies at both homes. A key is compared when both are at the same version; one that is on its way is looked
/// at again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// The migration.
    pub migration: String,
    /// `pass` when some keys were compared, none differs, and none is missing or unsettled.
    pub verdict: Verdict,
    /// What was found, in a sentence.
    pub found: String,
    /// Keys with both copies at the same version.
    pub compared: i64,
    /// Of these, those with the same state.
    pub equal: i64,
    /// Of these, those with another state.
    pub different: Named,
    /// Keys whose versions differed each time they were looked at, or that were not looked at often enough.
    pub unsettled: Named,
    /// Keys that only the target has.
    pub missing_at_source: Named,
    /// Keys that only the source has.
    pub missing_at_target: Named,
    /// When none differs: the share of differing keys that these numbers leave possible, 3 divided by the number compared (95 %
    /// confidence).
    pub bound: Option<f64>,
    /// Whether all keys were looked at.
    pub complete: bool,
}

/// Keys whose owner was told to publish their state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// The migration.
    pub migration: String,
    /// Those that were published: the other home's copy is its owner's once it has applied that.
    pub published: Vec<String>,
    /// The others.
    pub left: Vec<Unrepaired>,
    /// The policy's revision, of the line of history that notes it.
    pub revision: i64,
}

/// A key that could not be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrepaired {
    /// The key.
    pub key: String,
    /// Why.
    pub why: String,
}

/// How far a feed is, measured by the keys written last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// How many keys were looked at.
    pub sampled: usize,
    /// How many of them are behind.
    pub behind: usize,
    /// Events that wait for an earlier one or were refused.
    pub parked: i64,
    /// Keys that can't go on without a snapshot.
    pub awaiting: i64,
    /// Milliseconds since the last heartbeat came through it; absent when none has, or when the stage has none in it.
    #[serde(default)]
    pub heartbeat_age_ms: Option<u64>,
}

/// The gate that stands in the way of the next stage, or the last of those that pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextGate {
    /// The stage it is the gate of.
    pub stage: Stage,
    /// Its name.
    pub gate: String,
    /// Its answer.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
}

/// One change of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct History {
    /// The policy's revision after it.
    pub revision: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `define`, `advance`, `rollback`, `hold` or `repair`.
    pub action: String,
    /// The stage before; absent for the first.
    pub from_stage: Option<String>,
    /// The stage after.
    pub to_stage: String,
    /// The percent after.
    pub percent: i16,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The ids of the evidence and the approvals it was passed by.
    #[serde(default)]
    pub cites: Vec<String>,
}

/// Where a migration stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The migration.
    pub migration: String,
    /// The policy in force.
    #[serde(flatten)]
    pub policy: PolicyView,
    /// For how long.
    pub since_seconds: i64,
    /// How many keys live where.
    pub keys: Keys,
    /// How many keys can't move now; [`crate::Controller::pinned`] says why.
    pub pinned: i64,
    /// Of these, keys that came back within the last minute, for the target had not applied their offers in time. While it takes none, at most 8
    /// keys at once are on their way to it.
    #[serde(default)]
    pub came_back: i64,
    /// The last backfill; absent before the first.
    #[serde(default)]
    pub backfill: Option<Backfill>,
    /// The target's health, in a phrase.
    pub target: String,
    /// The feed from source to target; absent when it can't be measured.
    pub feed: Option<Feed>,
    /// The feed from target to source; absent when it can't be measured.
    pub reverse_feed: Option<Feed>,
    /// The controller that acts; absent when none does.
    pub controller: Option<String>,
    /// The plan; absent when there is none.
    #[serde(default)]
    pub plan: Option<PlanView>,
    /// The approvals of the next stage that count; none where it needs none.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// What stands before the next step; absent when no stage is left.
    pub next: Option<NextGate>,
    /// The last changes, newest first.
    pub history: Vec<History>,
}

/// Why a key is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The migration.
    pub migration: String,
    /// The key.
    pub key: String,
    /// Its tenant; absent before seeding.
    pub tenant: Option<String>,
    /// Its owner.
    pub owner: Home,
    /// Whether it stays there.
    pub phase: Phase,
    /// Since which change of its owner.
    pub epoch: Epoch,
    /// The last epoch that the target is known to have been granted; 0: none.
    pub granted_epoch: i64,
    /// When it was born, or seeded.
    #[serde(with = "time::serde::rfc3339::option")]
    pub born_at: Option<OffsetDateTime>,
    /// Its share of the hash, 0 to 99: born at the target below the percent.
    pub share: u8,
    /// The rule that decided, in a sentence.
    pub because: String,
    /// Where the policy in force would let it be born.
    pub would_be_born: Home,
    /// The last version applied by the target; absent when it knows none or can't be asked.
    pub applied_at_target: Option<i64>,
    /// The last version consumed by the source's replica; absent when it knows none or can't be asked.
    pub applied_at_source: Option<i64>,
    /// Milliseconds since the source's last heartbeat came to the target; absent when none is known, or the stage has none.
    pub heartbeat_age_ms_at_target: Option<u64>,
    /// The same of the target's last heartbeat that came to the source.
    pub heartbeat_age_ms_at_source: Option<u64>,
    /// Whether the whole feed is behind or only this key's part of it, in a sentence; absent when the key is not known to be behind.
    pub lag: Option<String>,
}

impl From<&Policy> for PolicyView {
    fn from(policy: &Policy) -> Self {
        Self {
            stage: policy.stage,
            percent: policy.percent,
            tenants: policy.tenants.clone(),
            draining: policy.draining,
            held: policy.held.clone(),
            metric: policy.metric.clone(),
            revision: policy.revision,
            since: policy.changed_at,
        }
    }
}

impl From<&Policy> for Change {
    fn from(policy: &Policy) -> Self {
        Self { stage: policy.stage, percent: policy.percent, tenants: policy.tenants.clone() }
    }
}
