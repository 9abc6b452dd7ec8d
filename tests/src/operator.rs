//! An operator: walks the migration by its admin API.

use std::time::Duration;

use crate::load::{Answer, Client};
use crate::until;
use anyhow::{Result, bail};
use chassis::Role;
use chassis::token::Issuer;
use serde_json::{Value, json};
use sqlx::PgPool;

/// How long a gate may stay inconclusive: a feed that was just started has to catch up.
const GATE_TIMEOUT: Duration = Duration::from_secs(90);

/// The most payments that are read to give a gate something to judge by.
const READS: i64 = 20;
/// How long a tenant's token lasts.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

/// Walks the migration of payments.
pub struct Operator {
    client: Client,
    readers: Readers,
}

/// Reads payments as their tenants do: what was never read was never compared.
pub(crate) struct Readers {
    /// Where payments and their tenants are found.
    pub(crate) source: PgPool,
    /// The monolith's HTTP API.
    pub(crate) base: String,
    pub(crate) issuer: Issuer,
    pub(crate) audience: &'static str,
}

impl Readers {
    async fn read(&self) -> Result<()> {
        let sql = "select tenant, id::text from payments.payment order by id desc limit $1";
        let found: Vec<(String, String)> = sqlx::query_as(sql).bind(READS).fetch_all(&self.source).await?;
        for (tenant, payment) in found {
            let roles = [Role::Customer, Role::Merchant];
            let token = self.issuer.issue("tests", &tenant, &roles, self.audience, TOKEN_LIFETIME)?;
            let client = Client::new(self.base.clone(), &tenant, token)?;
            client.get(&format!("/v1/payments/{payment}")).await?;
        }
        Ok(())
    }
}

impl Operator {
    /// Asks with an operator's token.
    pub(crate) fn new(client: Client, readers: Readers) -> Self {
        Self { client, readers }
    }

    /// Enters `following`, as soon as its gates pass. The plan names the metric.
    ///
    /// # Errors
    /// When they don't in time; the error says which.
    pub async fn follow(&self) -> Result<()> {
        self.advance(json!({ "to": "following" })).await
    }

    /// Enters `shadowing`, as soon as its gates pass.
    ///
    /// # Errors
    /// When they don't in time; the error says which.
    pub async fn shadow(&self) -> Result<()> {
        self.advance(json!({ "to": "shadowing" })).await
    }

    /// Enters `reading` at this percent, or changes it, as soon as its gates pass. From `following` by way of `shadowing`.
    ///
    /// # Errors
    /// When they don't in time; the error says which.
    pub async fn read(&self, percent: u8) -> Result<()> {
        if self.stage().await? == "following" {
            self.shadow().await?;
        }
        self.advance(json!({ "to": "reading", "percent": percent, "tenants": [] })).await
    }

    /// Enters `ramping` at this percent, or changes it, as soon as its gates pass. From earlier stages by way of those between.
    ///
    /// # Errors
    /// When they don't in time; the error says which.
    pub async fn ramp(&self, percent: u8) -> Result<()> {
        self.ramp_to(&json!({ "to": "ramping", "percent": percent, "tenants": [] })).await
    }

    /// Drills a rollback: ramps to one tenant, lets `birth` give it a payment, goes back, and waits until all is home.
    ///
    /// # Errors
    /// When a gate does not pass in time, `birth` fails, or the keys don't come home.
    pub async fn drill<T>(&self, tenant: &str, birth: impl Future<Output = Result<T>>) -> Result<T> {
        self.ramp_to(&json!({ "to": "ramping", "percent": 0, "tenants": [tenant] })).await?;
        let born = birth.await?;
        self.rollback().await?;
        until("the keys of the drill to be home", GATE_TIMEOUT, async || {
            Ok((self.stage().await? == "following").then_some(()))
        })
        .await?;
        Ok(born)
    }

    /// A rollback may end while this looks: so it looks again each time where the migration is. On the way all reads go to the
    /// target.
    async fn ramp_to(&self, body: &Value) -> Result<()> {
        until(&format!("to advance to {body}"), GATE_TIMEOUT, async || {
            if let "following" | "shadowing" = self.stage().await?.as_str() {
                self.read(100).await?;
            }
            self.try_advance(body).await
        })
        .await
    }

    /// Approves the next stage, as the person of the client's token.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn approve(&self, stage: &str, reason: &str) -> Result<Value> {
        self.post("approve", &json!({ "stage": stage, "reason": reason })).await
    }

    async fn stage(&self) -> Result<String> {
        let status = self.status().await?;
        Ok(status.get("stage").and_then(Value::as_str).unwrap_or_default().to_owned())
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
        until(&format!("to advance to {body}"), GATE_TIMEOUT, async || self.try_advance(&body).await).await
    }

    /// Asks once; gives a gate what it wants if this can.
    async fn try_advance(&self, body: &Value) -> Result<Option<()>> {
        let answer = self.client.post("/admin/migrations/payments/advance", &key(), body).await?;
        let entered = answer.body.get("entered").and_then(Value::as_bool).unwrap_or(false);
        match answer.status {
            200 if entered => Ok(Some(())),
            _ if wants_parity(&answer.body) => {
                let parity = self.parity().await?;
                bail!("{}; then: {}", said(&answer), parity["found"]);
            }
            _ if wants_reads(&answer.body) => {
                self.readers.read().await?;
                bail!("{}; then payments were read", said(&answer));
            }
            _ => bail!("{}", said(&answer)),
        }
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
        let answer = self.client.post(&format!("/admin/migrations/payments/{what}"), &key(), body).await?;
        if answer.status != 200 {
            bail!("{what}: {}", said(&answer));
        }
        Ok(answer.body)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.client.get(path).await?;
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
        let answer = self.client.post("/admin/migrations/payments/rollback", &key(), &json!({})).await?;
        if answer.status != 200 {
            bail!("rollback was refused: {}", said(&answer));
        }
        Ok(answer.text("says").to_owned())
    }
}

fn key() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Whether reads are wanting: the gates by them are judged by what clients read.
fn wants_reads(body: &Value) -> bool {
    let gates = body.get("gates").and_then(Value::as_array);
    let wants = |gate: &Value| {
        ["reads", "stale_reads"].iter().any(|name| gate["name"] == *name) && gate["verdict"] != "pass"
    };
    gates.is_some_and(|gates| gates.iter().any(wants))
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
