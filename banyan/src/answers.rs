//! What the admin API answers, as far as it is printed. Unknown fields are ignored, so an older `banyan` can read a newer API.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) migration: String,
    pub(crate) stage: String,
    pub(crate) percent: i64,
    pub(crate) tenants: Vec<String>,
    pub(crate) draining: bool,
    pub(crate) held: Option<String>,
    pub(crate) metric: Option<String>,
    pub(crate) revision: i64,
    pub(crate) since_seconds: i64,
    pub(crate) keys: Keys,
    #[serde(default)]
    pub(crate) pinned: i64,
    #[serde(default)]
    pub(crate) came_back: i64,
    #[serde(default)]
    pub(crate) backfill: Option<Backfill>,
    pub(crate) target: String,
    pub(crate) feed: Option<Feed>,
    pub(crate) reverse_feed: Option<Feed>,
    pub(crate) controller: Option<String>,
    pub(crate) next: Option<NextGate>,
    #[serde(default)]
    pub(crate) plan: Option<PlanView>,
    #[serde(default)]
    pub(crate) approvals: Vec<Approval>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PlanView {
    pub(crate) decide_by: String,
    pub(crate) owner: String,
    pub(crate) overdue: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Approved {
    pub(crate) stage: String,
    pub(crate) approvals: Vec<Approval>,
    pub(crate) needed: usize,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Approval {
    pub(crate) by: String,
    pub(crate) at: String,
    pub(crate) reason: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Keys {
    pub(crate) source: i64,
    pub(crate) target: i64,
    pub(crate) moving: i64,
    #[serde(default)]
    pub(crate) recalling: i64,
    #[serde(default)]
    pub(crate) granting: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Pinned {
    pub(crate) count: i64,
    pub(crate) keys: Vec<PinnedKey>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PinnedKey {
    pub(crate) key: String,
    pub(crate) why: String,
    pub(crate) since: String,
    pub(crate) tries: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Backfill {
    pub(crate) walk: i64,
    pub(crate) done: i64,
    pub(crate) of: i64,
    pub(crate) rate: i64,
    pub(crate) eta_seconds: Option<i64>,
    pub(crate) published: i64,
    pub(crate) waits: Option<String>,
    pub(crate) done_at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) count: i64,
    pub(crate) keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Parity {
    pub(crate) verdict: String,
    pub(crate) found: String,
    pub(crate) different: Named,
    pub(crate) unsettled: Named,
    pub(crate) missing_at_source: Named,
    pub(crate) missing_at_target: Named,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Repaired {
    pub(crate) published: Vec<String>,
    pub(crate) left: Vec<Unrepaired>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Unrepaired {
    pub(crate) key: String,
    pub(crate) why: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Feed {
    pub(crate) sampled: i64,
    pub(crate) behind: i64,
    pub(crate) parked: i64,
    pub(crate) awaiting: i64,
    #[serde(default)]
    pub(crate) heartbeat_age_ms: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NextGate {
    pub(crate) stage: String,
    pub(crate) gate: String,
    pub(crate) verdict: String,
    pub(crate) found: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Change {
    pub(crate) stage: String,
    pub(crate) percent: i64,
    pub(crate) tenants: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Gate {
    pub(crate) name: String,
    pub(crate) verdict: String,
    pub(crate) found: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) rule: String,
    pub(crate) way_on: String,
    #[serde(default)]
    pub(crate) gates: Vec<Gate>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) entered: bool,
    pub(crate) to: Change,
    pub(crate) moves: String,
    pub(crate) way_back: String,
    pub(crate) gates: Vec<Gate>,
    pub(crate) refused: Option<Refusal>,
    pub(crate) seeded: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Plan {
    pub(crate) policy: Change,
    pub(crate) next: Step,
    pub(crate) way_back: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Back {
    pub(crate) from: Change,
    pub(crate) to: Change,
    pub(crate) says: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Held {
    pub(crate) held: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Why {
    pub(crate) key: String,
    pub(crate) tenant: Option<String>,
    pub(crate) owner: String,
    pub(crate) phase: String,
    pub(crate) epoch: i64,
    pub(crate) born_at: Option<String>,
    pub(crate) because: String,
    pub(crate) would_be_born: String,
    pub(crate) applied_at_target: Option<i64>,
    pub(crate) applied_at_source: Option<i64>,
    pub(crate) heartbeat_age_ms_at_target: Option<i64>,
    pub(crate) heartbeat_age_ms_at_source: Option<i64>,
    pub(crate) lag: Option<String>,
}

/// A problem (RFC 9457). A refused step's also has a rule and the way on.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) detail: String,
    #[serde(default)]
    pub(crate) errors: Vec<FieldError>,
    #[serde(flatten)]
    pub(crate) refusal: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FieldError {
    pub(crate) pointer: String,
    pub(crate) detail: String,
}
