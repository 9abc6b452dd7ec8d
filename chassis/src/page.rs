//! Pages of a list: `?limit=50&after=ID`.

use std::collections::HashMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::problem::Problem;

/// Entries of a page when the client does not say.
pub const LIMIT_DEFAULT: i64 = 50;

/// The most entries of a page.
pub const LIMIT_MAX: i64 = 200;

/// Which part of a list is wanted. An extractor: a value that can't be read or is out of range is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<Id> {
    /// How many entries, 1 to [`LIMIT_MAX`]; [`LIMIT_DEFAULT`] when the client does not say.
    pub limit: i64,
    /// The last entry of the page before; the first page has none.
    pub after: Option<Id>,
}

impl<Id> Page<Id> {
    /// The cursor of the next page: the last entry of this one, unless the list ended here.
    pub fn next<T, Next>(&self, entries: &[T], id: impl Fn(&T) -> Next) -> Option<Next> {
        let full = usize::try_from(self.limit).is_ok_and(|limit| entries.len() >= limit);
        entries.last().filter(|_| full).map(id)
    }
}

impl<Id: FromStr, S: Send + Sync> FromRequestParts<S> for Page<Id> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::<HashMap<String, String>>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::malformed(rejection.body_text()))?;
        Ok(Self { limit: limit(query.get("limit"))?, after: after(query.get("after"))? })
    }
}

fn limit(text: Option<&String>) -> Result<i64, Problem> {
    let Some(text) = text else { return Ok(LIMIT_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| Problem::malformed(format!("limit must be a whole number from 1 to {LIMIT_MAX}")))
}

fn after<Id: FromStr>(text: Option<&String>) -> Result<Option<Id>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let id = text.parse().map_err(|_| Problem::malformed("after must be `next` of the page before"))?;
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn page(query: &str) -> Result<Page<u32>, String> {
        let (mut parts, ()) = Request::get(format!("/list{query}")).body(()).unwrap().into_parts();
        Page::from_request_parts(&mut parts, &()).await.map_err(|problem| problem.detail.into_owned())
    }

    #[tokio::test]
    async fn a_page_is_bounded_and_says_what_follows() {
        assert_eq!(page("").await, Ok(Page { limit: LIMIT_DEFAULT, after: None }));
        let second = page("?limit=2&after=7").await.unwrap();
        assert_eq!(second, Page { limit: 2, after: Some(7) });
        assert_eq!(second.next(&[8, 9], |n| *n), Some(9));
        assert_eq!(second.next(&[8], |n| *n), None);
        for wrong in ["?limit=0", "?limit=201", "?limit=many"] {
            assert_eq!(
                page(wrong).await,
                Err("limit must be a whole number from 1 to 200".into()),
                "{wrong}"
            );
        }
        assert_eq!(page("?after=x").await, Err("after must be `next` of the page before".into()));
    }
}
