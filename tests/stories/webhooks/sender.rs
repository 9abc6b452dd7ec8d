//! The provider's side: events, signed and sent.

use anyhow::{Result, ensure};
use chassis::Secret;
use serde_json::{Value, json};
use tests::Shop;
use uuid::Uuid;
use webhooks::{HEADER, sign};

/// The provider, as far as it sends webhooks.
pub(crate) struct Sender<'s> {
    pub(super) http: reqwest::Client,
    pub(super) url: String,
    secret: &'s Secret,
}

impl<'s> Sender<'s> {
    pub(crate) fn new(shop: &'s Shop<'_>) -> Self {
        Self { http: reqwest::Client::new(), url: shop.webhook_url(), secret: shop.webhook_secret() }
    }

    /// The status, and the end of the problem's type.
    pub(super) async fn tell(&self, event: &Value) -> Result<(u16, String)> {
        let body = event.to_string();
        self.post(&sign(self.secret, now(), body.as_bytes()), body).await
    }

    pub(super) async fn post(&self, signature: &str, body: String) -> Result<(u16, String)> {
        let request = self.http.post(&self.url).header(HEADER, signature);
        let answer = request.header("content-type", "application/json").body(body).send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        let problem: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let code = problem["type"].as_str().and_then(|kind| kind.rsplit('/').next());
        Ok((status, code.unwrap_or_default().to_owned()))
    }

    /// It must be taken.
    pub(crate) async fn taken(&self, event: &Value) -> Result<()> {
        let answer = self.tell(event).await?;
        ensure!(answer == (200, String::new()), "{answer:?} to {event}");
        Ok(())
    }
}

pub(super) fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc()
}

/// An event of one of acme's payments.
pub(crate) fn event(id: &str, kind: &str, payment: &str, object: &str) -> Value {
    json!({
        "id": id, "object": "event", "type": kind, "created": now().unix_timestamp(), "pending_webhooks": 1,
        "data": { "object": { "id": object, "status": "succeeded", "metadata": {
            "payment_id": payment, "tenant": "acme", "command_id": Uuid::now_v7(), "operation": "charge",
        } } },
    })
}
