//! The admin API.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, Method, StatusCode, Url};
use serde::Serialize;

use crate::answers::Problem;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: a gate waits for the feeds, and entering `following` seeds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// One migration's part of the API.
pub(crate) struct Api {
    client: Client,
    base: Url,
    token: String,
}

/// What came back.
pub(crate) enum Answer {
    /// The body.
    Done(String),
    /// Asked and refused: the body, and what it says.
    Refused(String, Problem),
}

impl Api {
    pub(crate) fn new(url: &str, token: String, migration: &str) -> anyhow::Result<Self> {
        let mut base = Url::parse(url).with_context(|| format!("--url {url}: http://HOST:PORT is needed"))?;
        let Ok(mut path) = base.path_segments_mut() else { bail!("--url {url}: http://HOST:PORT is needed") };
        path.pop_if_empty().extend(["admin", "migrations", migration]);
        drop(path);
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build()?;
        Ok(Self { client, base, token })
    }

    pub(crate) async fn get(&self, path: &[&str]) -> anyhow::Result<Answer> {
        self.call(Method::GET, self.url(path), None::<&()>).await
    }

    pub(crate) async fn pinned(&self, limit: i64) -> anyhow::Result<Answer> {
        let mut url = self.url(&["pinned"]);
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        self.call(Method::GET, url, None::<&()>).await
    }

    pub(crate) async fn post(&self, path: &[&str], body: Option<&impl Serialize>) -> anyhow::Result<Answer> {
        self.call(Method::POST, self.url(path), body).await
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        url
    }

    async fn call(&self, method: Method, url: Url, body: Option<&impl Serialize>) -> anyhow::Result<Answer> {
        let mut request = self.client.request(method, url.clone()).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("nobody answered at {url}"))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("the answer of {url} was cut off"))?;
        if status.is_success() {
            return Ok(Answer::Done(text));
        }
        let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
        match status {
            StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::NOT_FOUND
                if !problem.title.is_empty() =>
            {
                Ok(Answer::Refused(text, problem))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                bail!("the token was not accepted ({status}): a token with the role operator is needed")
            }
            _ => bail!("{url} answered {status}: {}", said(&problem)),
        }
    }
}

fn said(problem: &Problem) -> &str {
    match (problem.detail.as_str(), problem.title.as_str()) {
        ("", "") => "is it the admin address of a process with the role controller?",
        ("", title) => title,
        (detail, _) => detail,
    }
}
