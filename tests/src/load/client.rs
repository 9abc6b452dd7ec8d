//! A tenant's client of the shop's HTTP interface.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// How long a client waits for an answer before it tries again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Speaks for one tenant. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    tenant: String,
    token: String,
}

/// Something to order.
#[derive(Clone, Debug, Deserialize)]
pub struct Product {
    /// Its id.
    pub id: String,
    /// Its price.
    pub price: Price,
}

/// A price.
#[derive(Clone, Debug, Deserialize)]
pub struct Price {
    /// Minor units.
    pub minor: i64,
    /// The currency.
    pub currency: String,
}

/// A status and a body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null when it was not JSON.
    pub body: Value,
}

fn http(timeout: Duration) -> Result<reqwest::Client> {
    reqwest::Client::builder().timeout(timeout).build().context("build an HTTP client")
}

impl Client {
    /// A client of the monolith at `base`, with a merchant's token of the tenant.
    ///
    /// # Errors
    /// When the HTTP client can't be built.
    pub fn new(base: impl Into<String>, tenant: impl Into<String>, token: impl Into<String>) -> Result<Self> {
        let http = http(ANSWER_TIMEOUT)?;
        Ok(Self { http, base: base.into(), tenant: tenant.into(), token: token.into() })
    }

    /// The same client, which waits this long for an answer.
    ///
    /// # Errors
    /// When the HTTP client can't be built.
    pub fn answer_within(self, timeout: Duration) -> Result<Self> {
        Ok(Self { http: http(timeout)?, ..self })
    }

    /// Whose.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    /// Reads a path.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    /// Posts JSON under an idempotency key.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.base)).header("idempotency-key", key);
        self.send(request.json(body)).await
    }

    /// A request with this client's token, to be shaped by the caller.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let response = request.bearer_auth(&self.token).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }

    /// What the tenant sells in euro.
    ///
    /// # Errors
    /// When no answer came or it was not a list of products.
    pub async fn products(&self) -> Result<Vec<Product>> {
        let answer = self.get("/v1/products").await?;
        ensure!(answer.status == 200, "GET /v1/products: {} {}", answer.status, answer.body);
        let list = answer.body.get("products").cloned().unwrap_or_default();
        let products: Vec<Product> = serde_json::from_value(list).context("read the products")?;
        Ok(products.into_iter().filter(|product| product.price.currency == "EUR").collect())
    }
}

impl Answer {
    /// A text in the body, empty when missing.
    pub fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}
