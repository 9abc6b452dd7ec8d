//! A gate that fails, and what mends it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::until;
use uuid::Uuid;

use crate::past::Past;
use crate::store;
use crate::walk::Walk;

/// How long a gate may take to say so, and a copy to be mended.
const GATE_TIMEOUT: Duration = Duration::from_secs(60);

impl Walk<'_> {
    /// Alters one copy at the target by hand, shows that nobody may ramp with it, and mends it.
    pub(crate) async fn mended(&self, past: &Past) -> Result<()> {
        let altered = past.some(past.count() / 2, 1).next().context("there is no old payment")?.payment_id;
        self.progress.begin("altering one copy at the target by hand");
        ensure!(store::alter(&self.shop.target, altered).await?, "{altered} has no copy at the target");
        self.progress.say(&format!("the target's copy of {altered} was altered by hand"));
        let parity = self.operator.parity().await?;
        ensure!(
            parity["verdict"] == "fail" && names(&parity, altered),
            "parity does not name {altered}: {parity}"
        );
        self.progress.say(&format!("parity: {}", text(&parity, "found")));
        let refused = self.refused().await?;
        self.progress.say(&format!("ramping was refused: {refused}"));

        self.progress.begin("repairing it");
        let repaired = self.operator.repair(&[altered.to_string().as_str()]).await?;
        ensure!(repaired["published"] == json!([altered]), "{repaired}");
        let parity = until("all copies to be equal", GATE_TIMEOUT, async || {
            let parity = self.operator.parity().await?;
            ensure!(parity["verdict"] == "pass", "{parity}");
            Ok(Some(parity))
        });
        let found = parity.await?;
        self.progress.say(&format!("repaired; parity: {}", text(&found, "found")));
        Ok(())
    }

    /// Asks to ramp, once the other gates have something to say, and returns the gate's own words.
    async fn refused(&self) -> Result<String> {
        let operator = self.shop.operator_client()?;
        let step = json!({ "to": "ramping", "percent": 0, "tenants": [] });
        let answer = until("the gate `parity` to refuse", GATE_TIMEOUT, async || {
            let key = Uuid::now_v7().to_string();
            let answer = operator.post("/admin/migrations/payments/advance", &key, &step).await?;
            // Refused, or entered: each is an answer.
            ensure!([200, 409].contains(&answer.status), "{} {}", answer.status, answer.body);
            Ok(Some(answer))
        });
        let answer = answer.await?;
        let gates = answer.body.get("gates").and_then(Value::as_array);
        let parity = gates.and_then(|gates| gates.iter().find(|gate| gate["name"] == "parity"));
        match parity {
            Some(gate) if answer.status == 409 && gate["verdict"] == "fail" => {
                Ok(format!("gate `parity` failed: {}", text(gate, "found")))
            }
            _ => bail!("a copy differs, and `parity` did not refuse: {} {}", answer.status, answer.body),
        }
    }
}

/// Whether a comparison names a payment as different.
fn names(parity: &Value, payment: Uuid) -> bool {
    let keys = parity.pointer("/different/keys").and_then(Value::as_array);
    keys.is_some_and(|keys| keys.contains(&json!(payment)))
}

fn text<'a>(body: &'a Value, field: &str) -> &'a str {
    body.get(field).and_then(Value::as_str).unwrap_or_default()
}
