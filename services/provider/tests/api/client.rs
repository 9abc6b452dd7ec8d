//! A provider on free ports with a journal of its own, and a client that speaks Stripe's API.

use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use chassis::Reader;
use provider::{Config, Error, Running};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "sk_test_provider";

/// How long a test waits for an answer that should come.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);

/// How long a client of ours waits before it gives up.
const PATIENCE: Duration = Duration::from_millis(400);

/// A folder for one journal.
pub(crate) struct Home {
    folder: TempDir,
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// A running provider and its client.
pub(crate) struct Stand {
    pub(crate) running: Running,
    shutdown: CancellationToken,
    pub(crate) client: Client,
}

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) api: String,
    pub(crate) admin: String,
}

/// An answer: status, whether it was replayed, body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) replayed: bool,
    pub(crate) body: Value,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path().join("journal.jsonl").display().to_string();
        let settings = vec![
            ("PROVIDER_JOURNAL", journal),
            ("PROVIDER_SECRET_KEY", KEY.to_owned()),
            ("PROVIDER_LATE_BY", "4s".to_owned()),
        ];
        Self { folder, settings }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("journal.jsonl")
    }

    pub(crate) fn config(&self) -> Result<Config, chassis::config::Error> {
        chassis::config::read(Reader::from_pairs(self.settings.clone()), Config::read)
    }

    pub(crate) async fn try_start(&self) -> Result<Stand, Error> {
        choose_tls();
        let config = self.config().expect("good settings");
        let shutdown = CancellationToken::new();
        let running = provider::start(config, shutdown.clone()).await?;
        let client = Client::new(running.http().to_string(), running.admin().to_string());
        Ok(Stand { running, shutdown, client })
    }

    pub(crate) async fn start(&self) -> Stand {
        self.try_start().await.expect("the provider starts")
    }
}

impl Stand {
    /// Ends in order; the journal is complete and free afterwards.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(ANSWER, self.running.join()).await.expect("it ends").expect("it ends well");
    }
}

impl Client {
    pub(crate) fn new(api: String, admin: String) -> Self {
        choose_tls();
        Self { http: reqwest::Client::new(), api, admin }
    }

    pub(crate) async fn post(&self, path: &str, key: &str, form: &[(&str, &str)]) -> Answer {
        self.try_post(path, key, form, ANSWER).await.expect("an answer")
    }

    /// For requests that are never answered: `None` when patience ends.
    pub(crate) async fn post_in_vain(&self, path: &str, key: &str, form: &[(&str, &str)]) -> Option<Answer> {
        self.try_post(path, key, form, PATIENCE).await
    }

    /// `None` when there is no answer within the patience, or nobody to answer.
    pub(crate) async fn try_post(
        &self,
        path: &str,
        key: &str,
        form: &[(&str, &str)],
        patience: Duration,
    ) -> Option<Answer> {
        let request = self.http.post(format!("http://{}/v1/{path}", self.api)).bearer_auth(KEY).form(form);
        answer(request.header("idempotency-key", key).timeout(patience)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self.http.get(format!("http://{}/v1/{path}", self.api)).bearer_auth(KEY);
        answer(request.timeout(ANSWER)).await.expect("an answer")
    }

    pub(crate) async fn get_without_key(&self, path: &str) -> Answer {
        answer(self.http.get(format!("http://{}/v1/{path}", self.api))).await.expect("an answer")
    }

    /// A GET that names a version of the API: status, and the version that it was answered with.
    pub(crate) async fn version(&self, version: &str) -> (u16, Option<String>) {
        let request = self.http.get(format!("http://{}/v1/refunds", self.api)).bearer_auth(KEY);
        let response = request.header("stripe-version", version).send().await.expect("an answer");
        let told = response.headers().get("stripe-version").and_then(|value| value.to_str().ok());
        (response.status().as_u16(), told.map(str::to_owned))
    }

    /// The entries of a list that one member of each stands for.
    pub(crate) async fn listed(&self, path: &str, member: &str) -> Vec<Value> {
        let list = self.get(path).await;
        assert_eq!(list.status, 200, "{list:?}");
        list.body["data"].as_array().expect("a list").iter().map(|entry| entry[member].clone()).collect()
    }

    /// An admin call with a JSON body.
    pub(crate) async fn order(&self, call: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("http://{}/admin/{call}", self.admin)).json(body);
        answer(request.timeout(ANSWER)).await.expect("an answer")
    }

    pub(crate) async fn journal(&self) -> Value {
        self.admin("journal").await
    }

    /// What an admin call reads.
    pub(crate) async fn admin(&self, call: &str) -> Value {
        let request = self.http.get(format!("http://{}/admin/{call}", self.admin));
        answer(request.timeout(ANSWER)).await.expect("an answer").body
    }

    /// The journal as `kind amount` for each movement.
    pub(crate) async fn movements(&self) -> Vec<String> {
        let journal = self.journal().await;
        let movements = journal["movements"].as_array().expect("movements").iter();
        movements.map(|it| format!("{} {}", it["kind"].as_str().unwrap_or_default(), it["amount"])).collect()
    }

    /// Creates and confirms an intent over 1,000 with a good card, and returns its id.
    pub(crate) async fn paid(&self, payment: &str) -> String {
        let path = self.intent(payment, "pm_card_visa", "automatic").await;
        let paid = self.post(&format!("{path}/confirm"), &format!("confirm-{payment}"), &[]).await;
        assert_eq!(paid.text("status"), "succeeded", "{paid:?}");
        paid.text("id")
    }

    /// Creates an intent over 1,000 and returns its path.
    pub(crate) async fn intent(&self, payment: &str, method: &str, capture: &str) -> String {
        let form = [
            ("amount", "1000"),
            ("currency", "eur"),
            ("payment_method", method),
            ("capture_method", capture),
            ("metadata[payment_id]", payment),
        ];
        let made = self.post("payment_intents", &format!("create-{payment}"), &form).await;
        assert_eq!((made.status, made.text("status")), (200, "requires_confirmation".into()), "{made:?}");
        format!("payment_intents/{}", made.text("id"))
    }
}

impl Answer {
    /// A member of the body, as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_default().to_owned()
    }

    /// Type and code of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let error = &self.body["error"];
        let code = error["code"].as_str().map_or_else(String::new, |code| format!(" {code}"));
        (self.status, format!("{}{code}", error["type"].as_str().unwrap_or_default()))
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Option<Answer> {
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    Some(Answer { status, replayed, body: response.json().await.ok()? })
}

/// The TLS library of this process, as `main` chooses it.
fn choose_tls() {
    static TLS: Once = Once::new();
    TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}
