//! What stands before every route: the secret key, the version of the API, the latency.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chassis::Secret;
use time::{Date, Month};

use crate::failure::Failure;

/// The version that a client speaks which names none.
pub(crate) const API_VERSION: &str = "2022-11-15";

const VERSION: HeaderName = HeaderName::from_static("stripe-version");

#[derive(Clone)]
pub(super) struct Edge {
    pub(super) key: Secret,
    pub(super) latency: Duration,
}

/// Lets a request with a key and a version through, slowly where that is asked for, and answers with its version.
pub(super) async fn pass(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if sent.and_then(|value| value.strip_prefix("Bearer ")) != Some(edge.key.expose()) {
        return Failure::unauthorized().into_response();
    }
    let version = match version(request.headers()) {
        Ok(version) => version,
        Err(failure) => return failure.into_response(),
    };
    tokio::time::sleep(edge.latency).await;
    let mut response = next.run(request).await;
    response.headers_mut().insert(VERSION, version);
    response
}

/// A date, and since 2024 a name after it: `2022-11-15`, `2025-03-31.basil`.
fn version(headers: &HeaderMap) -> Result<HeaderValue, Failure> {
    let Some(value) = headers.get(VERSION) else { return Ok(HeaderValue::from_static(API_VERSION)) };
    let text = value.to_str().unwrap_or_default();
    if is_version(text) { Ok(value.clone()) } else { Err(Failure::version(text)) }
}

fn is_version(text: &str) -> bool {
    let (date, name) = text.split_once('.').unwrap_or((text, "name"));
    let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    named && date.len() == 10 && day(date).is_some()
}

fn day(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_date_with_or_without_a_name() {
        for good in ["2022-11-15", "2020-02-29", "2025-03-31.basil"] {
            assert!(is_version(good), "{good}");
        }
        for wrong in
            ["", "latest", "2022-13-01", "2021-02-29", "2022-1-15", "2022-11-15.", "2022-11-15.Basil1"]
        {
            assert!(!is_version(wrong), "{wrong}");
        }
    }
}
