//! An operator: walks the migration by its admin API.

use std::time::Duration;

use crate::load::{Answer, Client};
use crate::until;
use anyhow::{Result, bail};
use serde_json::{Value, json};

/// How long a gate may stay inconclusive: a feed that was just started has to catch up.
const GATE_TIMEOUT: Duration = Duration::from_secs(90);

/// Walks the migration of payments.
pub struct Operator(Client);

impl Operator {
    /// Asks with an operator's token.
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// Enters `following`, as soon as its gates pass.
    ///
    /// # Errors
    /// When they don't in time; the error says which.
    pub async fn follow(&self) -> Result<()> {
        self.advance(json!({ "to": "following", "metric": "p99 of POST /v1/orders" })).await
    }

    /// Enters `ramping` at this percent, as soon as its gates pass.
    ///
    /// # Errors
    /// When they don't in time; the error says which.
    pub async fn ramp(&self, percent: u8) -> Result<()> {
        self.advance(json!({ "to": "ramping", "percent": percent, "tenants": [] })).await
    }

    /// Enters `primary`, as soon as its gates pass.
    ///
    /// # Errors
    /// When they don't in time; the error says which.
    pub async fn primary(&self) -> Result<()> {
        self.advance(json!({ "to": "primary" })).await
    }

    /// Asks until the gates pass.
    async fn advance(&self, body: Value) -> Result<()> {
        until(&format!("to advance to {body}"), GATE_TIMEOUT, async || {
            let answer = self.0.post("/admin/migrations/payments/advance", &key(), &body).await?;
            let entered = answer.body.get("entered").and_then(Value::as_bool).unwrap_or(false);
            match answer.status {
                200 if entered => Ok(Some(())),
                _ => bail!("{}", said(&answer)),
            }
        })
        .await
    }

    /// Where the migration stands.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub async fn status(&self) -> Result<Value> {
        self.get("/admin/migrations/payments").await
    }

    /// Why a key is where it is.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub async fn why(&self, key: &str) -> Result<Value> {
        self.get(&format!("/admin/migrations/payments/keys/{key}")).await
    }

    /// The keys that can't move now, each with the reason.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub async fn pinned(&self) -> Result<Value> {
        self.get("/admin/migrations/payments/pinned").await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.0.get(path).await?;
        if answer.status != 200 {
            bail!("GET {path}: {}", said(&answer));
        }
        Ok(answer.body)
    }

    /// Lets new keys be born at the source again; returns what the controller says to it.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn rollback(&self) -> Result<String> {
        let answer = self.0.post("/admin/migrations/payments/rollback", &key(), &json!({})).await?;
        if answer.status != 200 {
            bail!("rollback was refused: {}", said(&answer));
        }
        Ok(answer.text("says").to_owned())
    }
}

fn key() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The refusal's own words if there are any.
fn said(answer: &Answer) -> String {
    let refused = answer.body.get("refused").filter(|refused| !refused.is_null());
    format!("{} {}", answer.status, refused.unwrap_or(&answer.body))
}
