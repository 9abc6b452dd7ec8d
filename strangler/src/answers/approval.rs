//! What a controller answers of plan and approvals.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::Stage;
use crate::plan_file::Business;

/// Someone is for a step that can't be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// Who.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why.
    pub reason: String,
}

/// The approvals of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// The migration.
    pub migration: String,
    /// The stage.
    pub stage: Stage,
    /// Those that count, one for each person.
    pub approvals: Vec<Approval>,
    /// How many it needs.
    pub needed: usize,
}

/// What the migration is for, by its plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// The business part of the plan.
    #[serde(flatten)]
    pub business: Business,
    /// Whether the last day for a step forward is over.
    pub overdue: bool,
}
