//! The bodies of payments' routes.

use chassis::Problem;
use chassis::problem::FieldError;
use payments::{Payment, Status};
use proto::{Currency, Money};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};
use time::OffsetDateTime;
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

/// How much, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Amount {
    /// Minor units of the payment's currency; left out: all there is. `null` is refused.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = i64, minimum = 1, example = 1290)]
    pub(super) amount_minor: Option<Minor>,
    /// ISO 4217. Left out, or the payment's.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub(super) currency: Option<String>,
    /// Kept in the audit. A repeated request may say something else.
    #[schema(min_length = 1, max_length = 255, example = "two of three came")]
    pub(super) reason: Option<String>,
}

/// A whole number of minor units, or the code of what else was sent in its place.
#[derive(Debug)]
pub(super) struct Minor(Result<i64, &'static str>);

impl Amount {
    /// The minor units that were asked for.
    pub(super) fn minor(&self) -> Result<Option<i64>, Problem> {
        const WHOLE: &str = "must be a whole number of minor units in 64 bits, such as 1050 for 10.50 EUR";
        let read = self.amount_minor.as_ref().map(|minor| minor.0).transpose();
        read.map_err(|code| Problem::validation([FieldError::new("/amount_minor", WHOLE).coded(code)]))
    }

    /// The currency that they were asked for in.
    pub(super) fn currency(&self) -> Result<Option<Currency>, Problem> {
        let read = self.currency.as_deref().map(str::parse::<Currency>).transpose();
        read.map_err(|error| {
            let wrong = FieldError::new("/currency", error.to_string());
            Problem::validation([wrong.coded("currency-unknown")])
        })
    }
}

impl<'de> Deserialize<'de> for Minor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_i64().ok_or_else(|| not_whole(&number)),
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                Err("amount-malformed")
            }
        };
        Ok(Self(read))
    }
}

/// What is there counts, and `null` is there: it is what becomes of a client's `NaN`, and must not mean all there is.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Minor>, D::Error> {
    Minor::deserialize(deserializer).map(Some)
}

/// Why a number is no whole one of 64 bits.
fn not_whole(number: &Number) -> &'static str {
    let too_large = number.as_f64().is_none_or(|number| number.abs() >= 2_f64.powi(63));
    if too_large { "amount-overflow" } else { "amount-precision" }
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    /// Kept in the audit. A repeated request may say something else.
    #[schema(min_length = 1, max_length = 255, example = "the customer called it off")]
    pub(super) reason: Option<String>,
}

/// A payment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Payment)]
pub(super) struct PaymentBody {
    id: Uuid,
    order_id: Uuid,
    status: StatusBody,
    amount: MoneyBody,
    /// Minor units reserved, or taken, at the provider.
    authorized_minor: i64,
    /// Minor units taken.
    captured_minor: i64,
    /// Minor units returned.
    refunded_minor: i64,
    #[serde(with = "time::serde::rfc3339")]
    requested_at: OffsetDateTime,
    /// Grows with each change.
    version: i64,
    /// A command was accepted whose outcome is not known yet.
    outcome_pending: bool,
}

/// How far a payment is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PaymentStatus)]
enum StatusBody {
    Requested,
    Authorized,
    Captured,
    Declined,
    Voided,
    Refunded,
}

/// An amount in minor units of a currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Money)]
struct MoneyBody {
    /// Minor units: cents for EUR.
    #[schema(example = 1290)]
    minor: i64,
    /// ISO 4217.
    #[schema(example = "EUR")]
    currency: String,
}

/// A page of payments.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentPage {
    pub(super) payments: Vec<PaymentBody>,
    /// Send it as `after` for the next page; `null` on the last one.
    pub(super) next: Option<Uuid>,
}

/// What a command is answered with; for the description only.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes the answers, is none")]
pub(super) enum CommandAnswers {
    /// done
    #[response(status = 200)]
    Done(PaymentBody),
    /// accepted; the provider's answer is not known yet, read the payment later
    #[response(status = 202)]
    Pending(PaymentBody),
    /// broken JSON, wrong types, no key
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// no valid token
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(Problem),
    /// needs the role merchant
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// no such payment, or another tenant's
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// its state does not allow it, or the first request with this key is in flight
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// the body is over 64 KiB
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// not JSON
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Problem),
    /// a rule is broken, or the key belongs to another request
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// try again
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

impl From<Payment> for PaymentBody {
    fn from(payment: Payment) -> Self {
        Self {
            id: payment.id.uuid(),
            order_id: payment.order.uuid(),
            status: payment.status.into(),
            amount: payment.amount.into(),
            authorized_minor: payment.authorized_minor,
            captured_minor: payment.captured_minor,
            refunded_minor: payment.refunded_minor,
            requested_at: payment.requested_at,
            version: payment.version,
            outcome_pending: payment.outcome_pending,
        }
    }
}

impl From<Status> for StatusBody {
    fn from(status: Status) -> Self {
        match status {
            Status::Requested => Self::Requested,
            Status::Authorized => Self::Authorized,
            Status::Captured => Self::Captured,
            Status::Declined => Self::Declined,
            Status::Voided => Self::Voided,
            Status::Refunded => Self::Refunded,
        }
    }
}

impl From<Money> for MoneyBody {
    fn from(money: Money) -> Self {
        Self { minor: money.minor, currency: money.currency.to_string() }
    }
}
