//! The bodies of orders' routes.

use catalog::ProductId;
use chassis::Idempotent;
use proto::Money;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{CaptureMethod, Line, NewLine, NewOrder, Order, Status, Violation};

/// What to order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceOrder {
    #[schema(min_items = 1, max_items = 100)]
    pub(super) lines: Vec<PlaceLine>,
    /// ISO 4217; all products must be sold in it.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub(super) currency: String,
    /// The provider's token for the card or account.
    #[schema(example = "pm_card_visa", min_length = 1, max_length = 255)]
    pub(super) payment_method: String,
    #[serde(default)]
    pub(super) capture_method: CaptureMethodBody,
}

/// A product and how many of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceLine {
    #[schema(format = Uuid)]
    pub(super) product_id: String,
    #[schema(minimum = 1, maximum = 10_000)]
    pub(super) quantity: i64,
}

/// When the money is taken: at once, or when the merchant captures it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CaptureMethod)]
pub(super) enum CaptureMethodBody {
    #[default]
    Automatic,
    Manual,
}

/// An order. `placed` becomes `paid` or `cancelled` as its payment ends.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderBody {
    pub(super) id: Uuid,
    pub(super) status: StatusBody,
    pub(super) payment_id: Uuid,
    pub(super) total: MoneyBody,
    pub(super) lines: Vec<LineBody>,
    pub(super) capture_method: CaptureMethodBody,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) placed_at: OffsetDateTime,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrderStatus)]
pub(super) enum StatusBody {
    Placed,
    Paid,
    Cancelled,
}

/// A line with the price it was accepted at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderLine)]
pub(super) struct LineBody {
    pub(super) product_id: Uuid,
    pub(super) quantity: i32,
    pub(super) unit_price: MoneyBody,
}

/// An amount in minor units of a currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Money)]
pub(super) struct MoneyBody {
    /// Minor units: cents for EUR.
    #[schema(example = 1290)]
    pub(super) minor: i64,
    /// ISO 4217.
    #[schema(example = "EUR")]
    pub(super) currency: String,
}

/// A page of orders.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderPage {
    pub(super) orders: Vec<OrderBody>,
    /// Send it as `after` for the next page; `null` on the last one.
    pub(super) next: Option<Uuid>,
}

/// Reads what was sent. The rules that need products are checked when the order is placed.
pub(super) fn parse(tenant: String, request: Idempotent<PlaceOrder>) -> Result<NewOrder, Vec<Violation>> {
    let body = request.body;
    let mut violations = Vec::new();
    let currency = body.currency.parse().map_err(|error: proto::MoneyError| {
        violations.push(Violation::new("/currency", error.to_string()));
    });
    let mut lines = Vec::with_capacity(body.lines.len());
    for (n, line) in body.lines.into_iter().enumerate() {
        match line.product_id.parse::<ProductId>() {
            Ok(product) => lines.push(NewLine { product, quantity: line.quantity }),
            Err(_) => {
                violations.push(Violation::new(format!("/lines/{n}/product_id"), "there is no such product"));
            }
        }
    }
    match currency {
        Ok(currency) if violations.is_empty() => Ok(NewOrder {
            tenant,
            key: request.key.0,
            fingerprint: request.fingerprint,
            lines,
            currency,
            capture_method: body.capture_method.into(),
            payment_method: body.payment_method,
        }),
        _ => Err(violations),
    }
}

impl From<Order> for OrderBody {
    fn from(order: Order) -> Self {
        Self {
            id: order.id.uuid(),
            status: match order.status {
                Status::Placed => StatusBody::Placed,
                Status::Paid => StatusBody::Paid,
                Status::Cancelled => StatusBody::Cancelled,
            },
            payment_id: order.payment.uuid(),
            total: order.total.into(),
            lines: order.lines.into_iter().map(LineBody::from).collect(),
            capture_method: match order.capture_method {
                CaptureMethod::Automatic => CaptureMethodBody::Automatic,
                CaptureMethod::Manual => CaptureMethodBody::Manual,
            },
            placed_at: order.placed_at,
        }
    }
}

impl From<Line> for LineBody {
    fn from(line: Line) -> Self {
        Self { product_id: line.product.uuid(), quantity: line.quantity, unit_price: line.unit_price.into() }
    }
}

impl From<Money> for MoneyBody {
    fn from(money: Money) -> Self {
        Self { minor: money.minor, currency: money.currency.to_string() }
    }
}

impl From<CaptureMethodBody> for CaptureMethod {
    fn from(method: CaptureMethodBody) -> Self {
        match method {
            CaptureMethodBody::Automatic => Self::Automatic,
            CaptureMethodBody::Manual => Self::Manual,
        }
    }
}
