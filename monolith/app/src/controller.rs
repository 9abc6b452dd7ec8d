//! The admin API of the migration: what `banyan` talks to. Operators only, on the admin listener.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chassis::problem::FieldError;
use chassis::token::{Verifier, guard};
use chassis::{Caller, Json, Path, Problem, Role, fault};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use strangler::{
    Advance, Again, Approved, Back, Backfill, Controller, Error, Held, Parity, PinnedKeys, Plan, Refusal,
    Repaired, Stage, Status, Step, Why,
};

/// When an operator may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Pinned keys in an answer, when no limit is given.
const PINNED_DEFAULT: i64 = 100;

/// The routes. The path names the migration this process controls; no other is known.
pub(crate) fn routes(controller: Controller, verifier: Verifier) -> Router {
    let base = format!("/admin/migrations/{}", controller.migration());
    let routes = Router::new()
        .route(&base, get(status))
        .route(&format!("{base}/plan"), get(plan))
        .route(&format!("{base}/pinned"), get(pinned))
        .route(&format!("{base}/advance"), post(advance))
        .route(&format!("{base}/hold"), post(hold))
        .route(&format!("{base}/approve"), post(approve))
        .route(&format!("{base}/backfill"), post(backfill))
        .route(&format!("{base}/parity"), post(parity))
        .route(&format!("{base}/repair"), post(repair))
        .route(&format!("{base}/rollback"), post(rollback))
        .route(&format!("{base}/keys/{{key}}"), get(why))
        .with_state(controller);
    guard(routes, verifier)
}

/// Why an operator holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    reason: String,
}

/// What an operator is for, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    stage: Stage,
    reason: String,
}

/// From which revision an operator goes back; without one, from whichever is in force.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    revision: Option<i64>,
}

/// Whether an operator wants a backfill in place of the one that is there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fill {
    again: bool,
}

/// What an operator has mended, 1 to 100 keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mend {
    keys: Vec<String>,
}

/// How many pinned keys are shown, 1 to 1,000.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    limit: Option<i64>,
}

type Answer<T> = Result<axum::Json<T>, Failure>;

async fn status(State(controller): State<Controller>, caller: Caller) -> Answer<Status> {
    operator(&caller)?;
    Ok(axum::Json(controller.status().await?))
}

async fn plan(State(controller): State<Controller>, caller: Caller) -> Answer<Plan> {
    operator(&caller)?;
    Ok(axum::Json(Box::pin(controller.plan()).await?))
}

async fn pinned(
    State(controller): State<Controller>,
    caller: Caller,
    shown: Result<Query<Shown>, QueryRejection>,
) -> Answer<PinnedKeys> {
    operator(&caller)?;
    let Query(shown) = shown.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    Ok(axum::Json(controller.pinned(shown.limit.unwrap_or(PINNED_DEFAULT)).await?))
}

async fn advance(
    State(controller): State<Controller>,
    caller: Caller,
    Json(step): Json<Advance>,
) -> Answer<Step> {
    operator(&caller)?;
    Ok(axum::Json(Box::pin(controller.advance(&step, &caller.subject)).await?))
}

async fn hold(State(controller): State<Controller>, caller: Caller, Json(hold): Json<Hold>) -> Answer<Held> {
    operator(&caller)?;
    Ok(axum::Json(controller.hold(&hold.reason, &caller.subject).await?))
}

async fn approve(
    State(controller): State<Controller>,
    caller: Caller,
    Json(approve): Json<Approve>,
) -> Answer<Approved> {
    operator(&caller)?;
    Ok(axum::Json(controller.approve(approve.stage, &approve.reason, &caller.subject).await?))
}

async fn rollback(
    State(controller): State<Controller>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Back> {
    operator(&caller)?;
    let body = body.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    let back: Rollback = optional(&body)?;
    Ok(axum::Json(controller.rollback(back.revision, &caller.subject).await?))
}

async fn backfill(
    State(controller): State<Controller>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Backfill> {
    operator(&caller)?;
    let body = body.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    let fill: Fill = optional(&body)?;
    let again = if fill.again { Again::Yes } else { Again::No };
    Ok(axum::Json(controller.begin_backfill(again, &caller.subject).await?))
}

async fn parity(State(controller): State<Controller>, caller: Caller) -> Answer<Parity> {
    operator(&caller)?;
    Ok(axum::Json(Box::pin(controller.parity(&caller.subject)).await?))
}

async fn repair(
    State(controller): State<Controller>,
    caller: Caller,
    Json(mend): Json<Mend>,
) -> Answer<Repaired> {
    operator(&caller)?;
    Ok(axum::Json(Box::pin(controller.repair(&mend.keys, &caller.subject)).await?))
}

/// A body that may be left out.
fn optional<T: Default + DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Problem::malformed(format!("the body: {error}")))
}

async fn why(State(controller): State<Controller>, caller: Caller, Path(key): Path<String>) -> Answer<Why> {
    operator(&caller)?;
    Ok(axum::Json(controller.why(&key).await?))
}

fn operator(caller: &Caller) -> Result<(), Failure> {
    Ok(caller.require(&[Role::Operator])?)
}

/// A problem; a refused step's also says the rule, the way on and the gates.
#[derive(Debug)]
enum Failure {
    Problem(Problem),
    Refused(Refusal),
}

#[derive(Serialize)]
struct Refused {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    refusal: Refusal,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Refused(refusal) => Self::Refused(refusal),
            Error::Invalid { field, reason } => {
                Self::Problem(Problem::validation([FieldError::new(format!("/{field}"), reason)]))
            }
            Error::UnknownKey { .. } | Error::UnknownMigration(_) => Self::Problem(Problem::not_found(text)),
            Error::Changed(_) => Self::Problem(Problem::conflict(text)),
            Error::Busy(_) | Error::Moving { .. } | Error::Domain(_) => {
                Self::Problem(Problem::unavailable(text, RETRY_AFTER))
            }
            error => Self::Problem(fault::problem(&error)),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Problem(problem) => return problem.into_response(),
            Self::Refused(refusal) => refusal,
        };
        let detail = format!("{}; {}", refusal.rule, refusal.way_on);
        let problem = Problem::new(StatusCode::CONFLICT, "step-refused", "The step was refused", detail);
        let media = [("content-type", "application/problem+json")];
        (StatusCode::CONFLICT, media, axum::Json(Refused { problem, refusal })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::{Fill, Rollback, optional};

    #[test]
    fn a_rollback_needs_no_body_and_takes_a_revision() {
        for (body, revision) in [("", None), ("{}", None), (r#"{"revision":7}"#, Some(7))] {
            let back = optional(body.as_bytes());
            assert_eq!(back.map(|back: Rollback| back.revision).ok(), Some(revision), "{body}");
        }
        for body in ["{", r#"{"revison":7}"#, r#"{"revision":"7"}"#] {
            assert!(optional::<Rollback>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_backfill_is_begun_in_place_of_another_only_when_the_body_says_so() {
        for (body, again) in [("", false), ("{}", false), (r#"{"again":true}"#, true)] {
            let fill = optional(body.as_bytes());
            assert_eq!(fill.map(|fill: Fill| fill.again).ok(), Some(again), "{body}");
        }
    }
}
