//! The number in every place of every route that the API describes, and of the admin APIs.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tests::load::Client;
use tests::{Shop, World};
use uuid::Uuid;

use super::{CARD, escaped, groups_of_four, in_percent, wide};

/// Sends requests and counts those that were refused as they must be.
struct Planter {
    client: Client,
    refused: usize,
}

/// Plants it everywhere; returns how many requests were refused.
pub(super) async fn refused(shop: &Shop<'_>, world: &World) -> Result<usize> {
    let client = shop.client("acme")?;
    let api = client.get("/openapi.json").await?.body;
    let mut planter = Planter { client, refused: 0 };
    for (path, operations) in api["paths"].as_object().context("no paths")? {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            planter.route(&api, path, method, operation).await?;
        }
    }
    planter.refused(&Method::GET, &format!("/nowhere/{CARD}"), |it| it).await?;
    planter.refused(&Method::from_bytes(CARD.as_bytes())?, "/v1/orders", |it| it).await?;
    let operator = shop.operator_client()?;
    let mut admin = Planter { client: operator, refused: planter.refused };
    admin.migration().await?;
    let mut refused = admin.refused;
    for (name, listening, _) in world.processes().await {
        let address = listening.get("admin").with_context(|| format!("{name} has no admin address"))?;
        for path in [format!("livez/{CARD}"), format!("readyz?{CARD}"), format!("metrics?x={CARD}")] {
            told(reqwest::get(format!("http://{address}/{path}")).await?).await?;
            refused += 1;
        }
    }
    Ok(refused)
}

impl Planter {
    async fn route(&mut self, api: &Value, path: &str, method: &str, operation: &Value) -> Result<()> {
        let method: Method = method.to_uppercase().parse()?;
        let filled = path.replace("{id}", &Uuid::now_v7().to_string());
        ensure!(!filled.contains('{'), "{path} has a parameter that nobody plants");
        for form in
            [CARD.to_owned(), groups_of_four(CARD, "-"), in_percent(CARD), groups_of_four(CARD, "%20")]
        {
            self.refused(&method, &path.replace("{id}", &form), |it| it).await.or_else(|error| {
                // A route without a parameter has none to plant it in.
                if path.contains('{') { Err(error) } else { Ok(()) }
            })?;
            self.refused(&method, &format!("{filled}/{form}"), |it| it).await?;
            self.refused(&method, &format!("{filled}?anything={form}"), |it| it).await?;
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default();
            match parameter["in"].as_str() {
                Some("query") => self.refused(&method, &format!("{filled}?{name}={CARD}"), |it| it).await?,
                Some("header") => {
                    let card = groups_of_four(CARD, "-");
                    self.refused(&method, &filled, |it| it.header(name, card).json(&json!({}))).await?;
                }
                _ => {}
            }
        }
        let content = &operation["requestBody"]["content"]["application/json"];
        // Signed bytes are kept as they are.
        if content.is_object() && !operation["security"].is_null() {
            for body in bodies(api, &content["schema"]) {
                let request = |it: RequestBuilder| {
                    it.header("content-type", "application/json").header("idempotency-key", "k").body(body)
                };
                self.refused(&method, &filled, request).await?;
            }
        }
        Ok(())
    }

    /// The migration's routes, which no description lists.
    async fn migration(&mut self) -> Result<()> {
        let base = "/admin/migrations/payments";
        for path in ["", "/plan", "/keys"] {
            self.refused(&Method::GET, &format!("{base}{path}/{CARD}"), |it| it).await?;
        }
        let bodies = [
            ("advance", json!({ "to": CARD })),
            ("advance", json!({ "to": "ramping", "percent": 4_111_111_111_111_111_i64, "tenants": [] })),
            ("advance", json!({ "to": "ramping", "percent": 1, "tenants": [CARD] })),
            ("hold", json!({ "reason": groups_of_four(CARD, " ") })),
            ("repair", json!({ "keys": [CARD] })),
            ("rollback", json!({ "revision": 4_111_111_111_111_111_i64 })),
        ];
        for (step, body) in bodies {
            self.refused(&Method::POST, &format!("{base}/{step}"), |it| it.json(&body)).await?;
        }
        Ok(())
    }

    async fn refused(
        &mut self,
        method: &Method,
        path: &str,
        shape: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<()> {
        let answer = shape(self.client.request(method.clone(), path)).send().await?;
        told(answer).await.with_context(|| format!("{method} {path}"))?;
        self.refused += 1;
        Ok(())
    }
}

/// Refused by its own code, and not repeated.
async fn told(answer: reqwest::Response) -> Result<()> {
    let (status, body) = (answer.status().as_u16(), answer.text().await?);
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    ensure!(status == 422 && problem["type"] == "https://banyan.dev/problems/card-number", "{status} {body}");
    ensure!(!body.contains("1111"), "repeated: {body}");
    Ok(())
}

/// Bodies with the number in one place each, whatever that place is for; and broken ones.
fn bodies(api: &Value, schema: &Value) -> Vec<String> {
    let mut bodies: Vec<String> = planted(api, schema).iter().map(Value::to_string).collect();
    bodies.extend([
        json!({ CARD: 1 }).to_string(),
        json!({ "note": groups_of_four(CARD, " ") }).to_string(),
        format!("{{\"note\":\"{}\"}}", escaped(CARD)),
        format!("{{\"note\":\"{}\"}}", wide(CARD)),
        format!("{{\"note\": \"{CARD}"),
        format!("{{\"amount_minor\": {CARD}.0}}"),
        CARD.to_owned(),
    ]);
    bodies
}

/// Values of the schema's shape, each with the number in one of its leaves.
fn planted(api: &Value, schema: &Value) -> Vec<Value> {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return planted(api, &api["components"]["schemas"][name]);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let of = |(name, schema): (&String, &Value)| {
            let inner = planted(api, schema).into_iter();
            inner.map(|value| json!({ name.clone(): value })).collect::<Vec<_>>()
        };
        return properties.iter().flat_map(of).collect();
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        if let Some(schemas) = schema[several].as_array() {
            return schemas.iter().flat_map(|schema| planted(api, schema)).collect();
        }
    }
    if schema["items"].is_object() {
        return planted(api, &schema["items"]).into_iter().map(|value| json!([value])).collect();
    }
    vec![json!(CARD), json!(groups_of_four(CARD, "-")), json!(4_111_111_111_111_111_i64)]
}
