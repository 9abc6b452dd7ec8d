//! What goes wrong, in the shape of Stripe's error objects.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// A request that changes nothing. Not stored under the idempotency key, so that a repeated request is
/// judged anew, as Stripe has it for what fails before the work begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    /// The object as it is.
    payment_intent: Option<Box<Value>>,
}

impl Failure {
    /// 400: a parameter is missing, malformed or not known.
    pub(crate) fn param(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::invalid(Some(code), message) }
    }

    /// 400: the object's state does not allow it.
    pub(crate) fn state(code: &'static str, message: impl Into<String>) -> Self {
        Self::invalid(Some(code), message)
    }

    /// 401: no key, or not ours.
    pub(crate) fn unauthorized() -> Self {
        let message = "Invalid API key: send it as Authorization: Bearer sk_...";
        Self { status: StatusCode::UNAUTHORIZED, ..Self::invalid(None, message) }
    }

    /// 400: not a version of the API.
    pub(crate) fn version(version: &str) -> Self {
        Self::invalid(None, format!("Invalid Stripe API version: {version}"))
    }

    /// 404: no such object.
    pub(crate) fn missing(object: &str, id: &str) -> Self {
        let failure = Self::param("resource_missing", "id", format!("No such {object}: '{id}'"));
        Self { status: StatusCode::NOT_FOUND, ..failure }
    }

    /// 404 or 405: no such route.
    pub(crate) fn route(status: StatusCode, method: &str, path: &str) -> Self {
        Self { status, ..Self::invalid(None, format!("Unrecognized request URL ({method}: {path})")) }
    }

    /// 413: more than a form of ours can have.
    pub(crate) fn too_large() -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::invalid(None, "The request body is too large") }
    }

    /// 400: the key was used with other parameters.
    pub(crate) fn key_reused(key: &str) -> Self {
        let message =
            format!("Keys for idempotent requests can only be used with the same parameters: '{key}'");
        Self { kind: "idempotency_error", ..Self::invalid(None, message) }
    }

    /// 409: the first request under the key has not ended.
    pub(crate) fn key_in_use(key: &str) -> Self {
        let message = format!("There is another request in progress under this idempotency key: '{key}'");
        let failure = Self::invalid(Some("idempotency_key_in_use"), message);
        Self { kind: "idempotency_error", status: StatusCode::CONFLICT, ..failure }
    }

    /// 429: too many requests at once.
    pub(crate) fn rate_limited() -> Self {
        let failure = Self::invalid(Some("rate_limit"), "Too many requests hit the API too quickly");
        Self { status: StatusCode::TOO_MANY_REQUESTS, ..failure }
    }

    /// 500: the provider itself failed.
    pub(crate) fn api(message: impl Into<String>) -> Self {
        let failure = Self::invalid(None, message);
        Self { kind: "api_error", status: StatusCode::INTERNAL_SERVER_ERROR, ..failure }
    }

    /// The same, with the payment intent that it is about.
    pub(crate) fn about(self, payment_intent: Value) -> Self {
        Self { payment_intent: Some(Box::new(payment_intent)), ..self }
    }

    pub(crate) fn body(&self) -> Value {
        let mut error = json!({ "type": self.kind, "message": self.message });
        if let Some(code) = self.code {
            error["code"] = code.into();
            error["doc_url"] = doc_url(code).into();
        }
        if let Some(param) = &self.param {
            error["param"] = param.as_str().into();
        }
        if let Some(intent) = &self.payment_intent {
            error["payment_intent"] = intent.as_ref().clone();
        }
        json!({ "error": error })
    }

    fn invalid(code: Option<&'static str>, message: impl Into<String>) -> Self {
        let kind = "invalid_request_error";
        Self {
            status: StatusCode::BAD_REQUEST,
            kind,
            code,
            param: None,
            message: message.into(),
            payment_intent: None,
        }
    }
}

/// Where Stripe tells more about a code.
pub(crate) fn doc_url(code: &str) -> String {
    format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-"))
}
