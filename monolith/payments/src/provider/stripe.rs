//! A provider that speaks Stripe's API: payment intents and refunds over HTTP, form encoded.

mod amount;
mod answer;

use std::ops::Range;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chassis::{Reader, Secret, Url};
use reqwest::{Method, RequestBuilder, header};
use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

use self::amount::to_stripe;
use self::answer::{Answer, List, PaymentIntent, Refund};
use super::circuit::Circuit;
use super::settlement::{self, SettlementPage};
use super::{Failure, Move, NewIntent, Object, Provider, RefundObject, Tag};
use crate::{CaptureMethod, Error, Metrics, PROVIDER_TIMEOUTS};

pub(super) use self::amount::from_stripe;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long a page of the settlement list may take; no caller waits for it.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Idle connections that are kept for the next request.
const IDLE_MAX: usize = 32;
/// The version of the API that this client was written for; from the next one on, intents ask for redirects by default.
const API_VERSION: &str = "2022-11-15";
/// Entries of a page of a list: Stripe's bound.
const LIST_MAX: usize = 100;
/// Pages that are read of a payment's refunds. One that has more is beyond what this client can judge.
const PAGES_MAX: usize = 10;

/// Where the provider is.
#[derive(Debug, Clone)]
pub struct StripeConfig {
    /// Its base URL, such as `https://api.stripe.com`; a path in it stands before the API's own.
    pub url: Url,
    /// The secret key (`sk_..`).
    pub secret_key: Secret,
    /// How long one request may take, connecting included; no answer by then is [`Failure::Unknown`].
    pub timeout: Duration,
}

impl StripeConfig {
    /// Reads `PROVIDER_URL`, `PROVIDER_SECRET_KEY` and `PROVIDER_TIMEOUT` (default 2 s).
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let url = reader.url("PROVIDER_URL", &["http", "https"], "a URL such as https://api.stripe.com");
        let secret_key = reader.secret("PROVIDER_SECRET_KEY", "the provider's secret key (sk_..)");
        let timeout = reader.duration("PROVIDER_TIMEOUT", Duration::from_secs(2), PROVIDER_TIMEOUTS);
        Some(Self { url: url?, secret_key: secret_key?, timeout })
    }
}

/// The client, behind a circuit breaker. Uses the process' rustls provider, which `main` installs.
pub struct Stripe {
    client: reqwest::Client,
    base: String,
    secret_key: Secret,
    circuit: Circuit,
    metrics: Metrics,
}

impl Stripe {
    /// A client; connects at the first request.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the HTTP client can't be set up.
    pub fn new(config: StripeConfig, metrics: Metrics) -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .timeout(config.timeout)
            .pool_max_idle_per_host(IDLE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Unavailable(format!("the provider's client can't be set up: {error}")))?;
        let base = config.url.expose().trim_end_matches('/').to_owned();
        let circuit = Circuit::new(metrics.lamp());
        Ok(Self { client, base, secret_key: config.secret_key, circuit, metrics })
    }

    async fn post<T: for<'a> Deserialize<'a>>(
        &self,
        operation: &'static str,
        key: &str,
        path: &str,
        form: &[(&str, String)],
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).header("idempotency-key", key).form(form);
        self.send(operation, request, ANSWER_BYTES_MAX).await
    }

    async fn get<T: for<'a> Deserialize<'a>>(
        &self,
        operation: &'static str,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        self.send(operation, self.request(Method::GET, path).query(query), ANSWER_BYTES_MAX).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        request.bearer_auth(self.secret_key.expose()).header("stripe-version", API_VERSION)
    }

    /// Sends a request, unless the circuit holds it back, and counts it.
    async fn send<T: for<'a> Deserialize<'a>>(
        &self,
        operation: &'static str,
        request: RequestBuilder,
        bytes_max: usize,
    ) -> Result<T, Failure> {
        let _admitted = self.circuit.admit().inspect_err(|_| self.metrics.held_back(operation))?;
        let began = Instant::now();
        let answer = exchange(request, bytes_max).await;
        self.circuit.answered(answer.as_ref().is_ok_and(Answer::is_sound));
        let read = answer.and_then(|answer| answer.read());
        if let Err(Failure::NotNow { after, .. }) = &read {
            self.circuit.hold(*after);
        }
        self.metrics.called(operation, read.as_ref().map_or_else(Failure::word, |_| "ok"), began.elapsed());
        read
    }
}

/// What a server answered, whole. No answer within the request's time is an error.
async fn exchange(request: RequestBuilder, bytes_max: usize) -> Result<Answer, Failure> {
    let lost = |error: reqwest::Error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::Unknown(format!("{}{cause}", error.without_url()))
    };
    let mut response = request.send().await.map_err(lost)?;
    let said = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let replayed = said("idempotent-replayed") == Some("true");
    let retry_after = said(header::RETRY_AFTER.as_str()).and_then(|seconds| seconds.trim().parse().ok());
    let mut answer = Answer {
        status: response.status(),
        replayed,
        retry_after: retry_after.map(Duration::from_secs),
        body: Vec::new(),
    };
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if answer.body.len() + chunk.len() > bytes_max {
            return Err(Failure::Unknown(format!("an answer of more than {bytes_max} bytes")));
        }
        answer.body.extend_from_slice(&chunk);
    }
    Ok(answer)
}

#[async_trait]
impl Provider for Stripe {
    async fn create(&self, key: &str, intent: &NewIntent) -> Result<Object, Failure> {
        let capture_method = match intent.capture_method {
            CaptureMethod::Automatic => "automatic",
            CaptureMethod::Manual => "manual",
        };
        let mut form = vec![
            ("amount", to_stripe(intent.amount)?.to_string()),
            ("currency", intent.amount.currency.to_string().to_lowercase()),
            ("capture_method", capture_method.to_owned()),
            ("payment_method", intent.payment_method.clone()),
            ("confirm", "false".to_owned()),
        ];
        form.extend(metadata(&intent.tag));
        self.post::<PaymentIntent>("create", key, "/v1/payment_intents", &form).await?.try_into()
    }

    async fn confirm(&self, key: &str, object: &str) -> Result<Object, Failure> {
        let path = format!("/v1/payment_intents/{object}/confirm");
        self.post::<PaymentIntent>("confirm", key, &path, &[]).await?.try_into()
    }

    async fn capture(&self, key: &str, capture: &Move) -> Result<Object, Failure> {
        let path = format!("/v1/payment_intents/{}/capture", capture.object);
        let mut form = vec![("amount_to_capture", to_stripe(capture.amount)?.to_string())];
        form.extend(metadata(&capture.tag));
        self.post::<PaymentIntent>("capture", key, &path, &form).await?.try_into()
    }

    async fn cancel(&self, key: &str, object: &str) -> Result<Object, Failure> {
        let path = format!("/v1/payment_intents/{object}/cancel");
        self.post::<PaymentIntent>("cancel", key, &path, &[]).await?.try_into()
    }

    async fn retrieve(&self, object: &str) -> Result<Object, Failure> {
        let path = format!("/v1/payment_intents/{object}");
        self.get::<PaymentIntent>("retrieve", &path, &[]).await?.try_into()
    }

    async fn search(&self, command: Uuid) -> Result<Vec<Object>, Failure> {
        let query =
            [("query", format!("metadata['command_id']:'{command}'")), ("limit", LIST_MAX.to_string())];
        let found: List<PaymentIntent> = self.get("search", "/v1/payment_intents/search", &query).await?;
        if found.has_more {
            return Err(Failure::Unknown(format!("more than {LIST_MAX} payment intents of one command")));
        }
        found.data.into_iter().map(Object::try_from).collect()
    }

    async fn refund(&self, key: &str, refund: &Move) -> Result<RefundObject, Failure> {
        let mut form = vec![
            ("payment_intent", refund.object.clone()),
            ("amount", to_stripe(refund.amount)?.to_string()),
        ];
        form.extend(metadata(&refund.tag));
        self.post::<Refund>("refund", key, "/v1/refunds", &form).await?.try_into()
    }

    async fn refunds(&self, object: &str) -> Result<Vec<RefundObject>, Failure> {
        let mut refunds: Vec<RefundObject> = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut query = vec![("payment_intent", object.to_owned()), ("limit", LIST_MAX.to_string())];
            query.extend(refunds.last().map(|last| ("starting_after", last.id.clone())));
            let page: List<Refund> = self.get("refunds", "/v1/refunds", &query).await?;
            for refund in page.data {
                refunds.push(refund.try_into()?);
            }
            if !page.has_more {
                return Ok(refunds);
            }
        }
        Err(Failure::Unknown(format!("a payment intent with more than {} refunds", LIST_MAX * PAGES_MAX)))
    }

    async fn settlements(
        &self,
        within: Range<OffsetDateTime>,
        after: Option<&str>,
    ) -> Result<Option<SettlementPage>, Failure> {
        let request = self.request(Method::GET, "/v1/balance_transactions");
        let request = request.query(&settlement::query(&within, after)).timeout(PAGE_TIMEOUT);
        let list = self.send::<settlement::List>("settlements", request, settlement::PAGE_BYTES_MAX).await?;
        SettlementPage::try_from(list).map(Some)
    }
}

fn metadata(tag: &Tag) -> [(&'static str, String); 4] {
    [
        ("metadata[payment_id]", tag.payment.to_string()),
        ("metadata[tenant]", tag.tenant.to_string()),
        ("metadata[operation]", tag.operation.to_string()),
        ("metadata[command_id]", tag.command.to_string()),
    ]
}

#[cfg(test)]
mod tests;
