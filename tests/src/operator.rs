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
                _ if wants_parity(&answer.body) => {
                    let parity = self.parity().await?;
                    bail!("{}; then: {}", said(&answer), parity["found"]);
                }
                _ => bail!("{}", said(&answer)),
            }
        })
        .await
    }

    /// Compares the copies of both homes.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub async fn parity(&self) -> Result<Value> {
        self.post("parity", &json!({})).await
    }

    /// Has the owners of these keys publish their state.
    ///
    /// # Errors
    /// When the controller does not answer, or refuses.
    pub async fn repair(&self, keys: &[&str]) -> Result<Value> {
        self.post("repair", &json!({ "keys": keys })).await
    }

    /// Begins a backfill in place of the one that is there.
    ///
    /// # Errors
    /// When the controller does not answer, or refuses.
    pub async fn backfill_again(&self) -> Result<Value> {
        self.post("backfill", &json!({ "again": true })).await
    }

    /// Where the migration stands.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub async fn status(&self) -> Result<Value> {
        self.get("/admin/migrations/payments").await
    }

    /// What could come next, with its gates.
    ///
    /// # Errors
    /// When the controller does not answer.
    pub async fn plan(&self) -> Result<Value> {
        self.get("/admin/migrations/payments/plan").await
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

    async fn post(&self, what: &str, body: &Value) -> Result<Value> {
        let answer = self.0.post(&format!("/admin/migrations/payments/{what}"), &key(), body).await?;
        if answer.status != 200 {
            bail!("{what}: {}", said(&answer));
        }
        Ok(answer.body)
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

/// Whether only a comparison of the copies is wanting: before the backfill is done it would show nothing.
fn wants_parity(body: &Value) -> bool {
    let gates = body.get("gates").and_then(Value::as_array);
    let passed = |name: &str| {
        let gate = gates.and_then(|gates| gates.iter().find(|gate| gate["name"] == name));
        gate.map(|gate| gate["verdict"] == "pass")
    };
    passed("backfill") == Some(true) && passed("parity") == Some(false)
}

/// The refusal's own words if there are any.
fn said(answer: &Answer) -> String {
    let refused = answer.body.get("refused").filter(|refused| !refused.is_null());
    format!("{} {}", answer.status, refused.unwrap_or(&answer.body))
}
