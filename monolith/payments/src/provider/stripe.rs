//! A provider that speaks Stripe's API: payment intents and refunds over HTTP, form encoded.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use chassis::{Reader, Secret, Url};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use time::OffsetDateTime;

use super::settlement::{self, SettlementPage};
use super::{Failure, Move, NewIntent, Object, ObjectStatus, Provider, RefundObject, Tag};
use crate::{CaptureMethod, Error, PROVIDER_TIMEOUTS};

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long a page of the settlement list may take; no caller waits for it.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Idle connections that are kept for the next request.
const IDLE_MAX: usize = 32;
/// The version of the API that this client was written for; from the next one on, intents ask for redirects by default.
const API_VERSION: &str = "2022-11-15";

/// Where the provider is.
#[derive(Debug, Clone)]
pub struct StripeConfig {
    /// Its base URL, such as `https://api.stripe.com`.
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

/// The client. Uses the process' rustls provider, which `main` installs.
pub struct Stripe {
    client: reqwest::Client,
    base: String,
    secret_key: Secret,
}

impl Stripe {
    /// A client; connects at the first request.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the HTTP client can't be set up.
    pub fn new(config: StripeConfig) -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .timeout(config.timeout)
            .pool_max_idle_per_host(IDLE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Unavailable(format!("the provider's client can't be set up: {error}")))?;
        let base = config.url.expose().trim_end_matches('/').to_owned();
        Ok(Self { client, base, secret_key: config.secret_key })
    }

    async fn post<T: for<'a> Deserialize<'a>>(
        &self,
        key: &str,
        path: &str,
        form: &[(&str, String)],
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).header("idempotency-key", key).form(form);
        send(request).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        request.bearer_auth(self.secret_key.expose()).header("stripe-version", API_VERSION)
    }
}

#[async_trait]
impl Provider for Stripe {
    async fn create(&self, key: &str, intent: &NewIntent) -> Result<Object, Failure> {
        let mut form = vec![
            ("amount", intent.amount.minor.to_string()),
            ("currency", intent.amount.currency.to_string().to_lowercase()),
            (
                "capture_method",
                match intent.capture_method {
                    CaptureMethod::Automatic => "automatic".to_owned(),
                    CaptureMethod::Manual => "manual".to_owned(),
                },
            ),
            ("payment_method", intent.payment_method.clone()),
            ("confirm", "false".to_owned()),
        ];
        form.extend(metadata(&intent.tag));
        self.post::<PaymentIntent>(key, "/v1/payment_intents", &form).await?.try_into()
    }

    async fn confirm(&self, key: &str, object: &str) -> Result<Object, Failure> {
        let path = format!("/v1/payment_intents/{object}/confirm");
        self.post::<PaymentIntent>(key, &path, &[]).await?.try_into()
    }

    async fn capture(&self, key: &str, capture: &Move) -> Result<Object, Failure> {
        let path = format!("/v1/payment_intents/{}/capture", capture.object);
        let mut form = vec![("amount_to_capture", capture.amount_minor.to_string())];
        form.extend(metadata(&capture.tag));
        self.post::<PaymentIntent>(key, &path, &form).await?.try_into()
    }

    async fn cancel(&self, key: &str, object: &str) -> Result<Object, Failure> {
        let path = format!("/v1/payment_intents/{object}/cancel");
        self.post::<PaymentIntent>(key, &path, &[]).await?.try_into()
    }

    async fn retrieve(&self, object: &str) -> Result<Object, Failure> {
        let request = self.request(Method::GET, &format!("/v1/payment_intents/{object}"));
        send::<PaymentIntent>(request).await?.try_into()
    }

    async fn refund(&self, key: &str, refund: &Move) -> Result<RefundObject, Failure> {
        let mut form =
            vec![("payment_intent", refund.object.clone()), ("amount", refund.amount_minor.to_string())];
        form.extend(metadata(&refund.tag));
        self.post::<StripeRefund>(key, "/v1/refunds", &form).await?.try_into()
    }

    async fn settlements(
        &self,
        within: Range<OffsetDateTime>,
        after: Option<&str>,
    ) -> Result<SettlementPage, Failure> {
        let request = self.request(Method::GET, "/v1/balance_transactions");
        let request = request.query(&settlement::query(&within, after)).timeout(PAGE_TIMEOUT);
        send_up_to::<settlement::List>(request, settlement::PAGE_BYTES_MAX).await?.try_into()
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

async fn send<T: for<'a> Deserialize<'a>>(request: reqwest::RequestBuilder) -> Result<T, Failure> {
    send_up_to(request, ANSWER_BYTES_MAX).await
}

async fn send_up_to<T: for<'a> Deserialize<'a>>(
    request: reqwest::RequestBuilder,
    bytes_max: usize,
) -> Result<T, Failure> {
    let lost = |error: reqwest::Error| Failure::Unknown(error.without_url().to_string());
    let mut response = request.send().await.map_err(lost)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Failure::Unknown(format!("an answer of more than {bytes_max} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| unreadable(status, &error));
    }
    Err(refusal(status, &body))
}

/// Which answers are definite. Everything else is not, a missing object included: absence decides nothing.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let error = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(error) => return unreadable(status, &error),
    };
    let code =
        || error.decline_code.clone().or_else(|| error.code.clone()).unwrap_or_else(|| error.kind.clone());
    match (status.as_u16(), error.kind.as_str()) {
        (402, "card_error") => Failure::Declined { code: code() },
        (400 | 402, "invalid_request_error") => {
            Failure::Refused { code: code(), message: error.message.unwrap_or_default() }
        }
        (status, kind) => {
            Failure::Unknown(format!("status {status}, {kind}: {}", error.message.unwrap_or_default()))
        }
    }
}

fn unreadable(status: StatusCode, error: &serde_json::Error) -> Failure {
    Failure::Unknown(format!("status {status} with a body that can't be read: {error}"))
}

#[derive(Deserialize)]
struct PaymentIntent {
    id: String,
    status: String,
    #[serde(default)]
    amount_received: i64,
    #[serde(default)]
    last_payment_error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct StripeRefund {
    id: String,
    status: Option<String>,
    #[serde(default)]
    failure_reason: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorObject,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(rename = "type", default)]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    message: Option<String>,
}

impl TryFrom<PaymentIntent> for Object {
    type Error = Failure;

    fn try_from(intent: PaymentIntent) -> Result<Self, Failure> {
        let status = match intent.status.as_str() {
            "requires_confirmation" => ObjectStatus::RequiresConfirmation,
            "requires_payment_method" => ObjectStatus::RequiresPaymentMethod,
            "requires_action" => ObjectStatus::RequiresAction,
            "processing" => ObjectStatus::Processing,
            "requires_capture" => ObjectStatus::RequiresCapture,
            "succeeded" => ObjectStatus::Succeeded,
            "canceled" => ObjectStatus::Canceled,
            other => return Err(Failure::Unknown(format!("payment intent status {other:?}"))),
        };
        let error = intent.last_payment_error;
        let decline_code = error.and_then(|error| error.decline_code.or(error.code)).unwrap_or_default();
        Ok(Object { id: intent.id, status, received_minor: intent.amount_received, decline_code })
    }
}

impl TryFrom<StripeRefund> for RefundObject {
    type Error = Failure;

    fn try_from(refund: StripeRefund) -> Result<Self, Failure> {
        match refund.status.as_deref() {
            Some("succeeded" | "pending") | None => Ok(RefundObject { id: refund.id }),
            Some("failed" | "canceled") => {
                let code = refund.failure_reason.unwrap_or_else(|| "refund_failed".to_owned());
                Err(Failure::Refused { code, message: "the refund failed".to_owned() })
            }
            Some(other) => Err(Failure::Unknown(format!("refund status {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Failure {
        refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn only_a_decline_and_a_bad_request_are_definite() {
        let body =
            r#"{"error":{"type":"card_error","code":"card_declined","decline_code":"insufficient_funds"}}"#;
        assert_eq!(read(402, body), Failure::Declined { code: "insufficient_funds".into() });
        let body =
            r#"{"error":{"type":"invalid_request_error","code":"amount_too_small","message":"too small"}}"#;
        assert_eq!(
            read(400, body),
            Failure::Refused { code: "amount_too_small".into(), message: "too small".into() }
        );
        for (status, kind) in [
            (401, "invalid_request_error"),
            (404, "invalid_request_error"),
            (400, "idempotency_error"),
            (409, "idempotency_error"),
            (429, "rate_limit"),
            (500, "api_error"),
        ] {
            let body = format!(r#"{{"error":{{"type":"{kind}"}}}}"#);
            assert!(matches!(read(status, &body), Failure::Unknown(_)), "{status} {kind}");
        }
        assert!(matches!(read(502, "<html>"), Failure::Unknown(_)));
    }

    #[test]
    fn an_object_says_how_far_it_is() {
        let body = r#"{"id":"pi_1","status":"requires_payment_method","last_payment_error":{"type":"card_error","code":"card_declined"}}"#;
        let object: Object = serde_json::from_str::<PaymentIntent>(body).unwrap().try_into().unwrap();
        assert_eq!(
            (object.status, object.decline_code.as_str()),
            (ObjectStatus::RequiresPaymentMethod, "card_declined")
        );
        let odd = serde_json::from_str::<PaymentIntent>(r#"{"id":"pi_1","status":"levitating"}"#).unwrap();
        assert!(matches!(Object::try_from(odd), Err(Failure::Unknown(_))));
    }
}
