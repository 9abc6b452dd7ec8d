//! Orders and their rules.

use std::collections::HashMap;

use catalog::{Product, ProductId};
use proto::{Currency, Money, OrderId, PaymentId, events};
use time::OffsetDateTime;

use crate::Violation;

/// The most lines of an order.
pub const LINES_MAX: usize = catalog::BATCH_MAX;

/// The largest quantity of one line.
pub const QUANTITY_MAX: i64 = 10_000;

/// What a customer asks for.
#[derive(Debug, Clone)]
pub struct NewOrder {
    /// Whose order it is.
    pub tenant: String,
    /// The client's `Idempotency-Key`, unique per tenant.
    pub key: String,
    /// The fingerprint of the request, which the key is bound to.
    pub fingerprint: String,
    /// At least one, at most [`LINES_MAX`].
    pub lines: Vec<NewLine>,
    /// The currency that all prices must have.
    pub currency: Currency,
    /// When the money is taken.
    pub capture_method: CaptureMethod,
    /// The provider's token for the card or account.
    pub payment_method: String,
}

/// A product and how many of it.
#[derive(Debug, Clone)]
pub struct NewLine {
    /// The product; it may not exist.
    pub product: ProductId,
    /// As the client sent it.
    pub quantity: i64,
}

/// When the money of a payment is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureMethod {
    /// At once.
    Automatic,
    /// When the merchant captures it.
    Manual,
}

/// An accepted order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub tenant: String,
    /// Its payment.
    pub payment: PaymentId,
    /// What became of it.
    pub status: Status,
    /// At least one.
    pub lines: Vec<Line>,
    /// The sum of its lines.
    pub total: Money,
    /// When the money is taken.
    pub capture_method: CaptureMethod,
    /// The provider's token for the card or account.
    pub payment_method: String,
    /// When it was accepted, by the database.
    pub placed_at: OffsetDateTime,
}

/// A line with the price it was accepted at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The product.
    pub product: ProductId,
    /// How many, 1 to [`QUANTITY_MAX`].
    pub quantity: i32,
    /// The price of one.
    pub unit_price: Money,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Accepted; its payment is not through.
    Placed,
    /// Its payment was captured.
    Paid,
    /// It ended without a payment.
    Cancelled,
}

impl Status {
    /// The word for it, stored and shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
        }
    }
}

impl CaptureMethod {
    /// The word for it, stored and shown.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

/// Puts prices to the lines and sums them up.
pub(crate) fn price(
    order: &NewOrder,
    products: &HashMap<ProductId, Product>,
) -> Result<(Vec<Line>, Money), Vec<Violation>> {
    let mut violations = shape(order);
    let mut lines = Vec::with_capacity(order.lines.len());
    for (n, line) in order.lines.iter().enumerate() {
        match price_line(line, order.currency, products.get(&line.product)) {
            Ok(line) => lines.push(line),
            Err((field, detail)) => violations.push(Violation::new(format!("/lines/{n}/{field}"), detail)),
        }
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let total = lines.iter().try_fold(Money::new(0, order.currency), |sum, line| {
        sum.plus(line.unit_price.times(line.quantity.into())?)
    });
    match total {
        Ok(total) => Ok((lines, total)),
        Err(error) => Err(vec![Violation::new("/lines", error.to_string())]),
    }
}

fn shape(order: &NewOrder) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !(1..=LINES_MAX).contains(&order.lines.len()) {
        violations.push(Violation::new("/lines", format!("an order has 1 to {LINES_MAX} lines")));
    }
    let method = &order.payment_method;
    if !(1..=255).contains(&method.len()) || !method.bytes().all(|byte| byte.is_ascii_graphic()) {
        violations.push(Violation::new("/payment_method", "1 to 255 visible ASCII characters are needed"));
    }
    violations
}

fn price_line(
    line: &NewLine,
    currency: Currency,
    product: Option<&Product>,
) -> Result<Line, (&'static str, String)> {
    let quantity = i32::try_from(line.quantity).ok().filter(|_| (1..=QUANTITY_MAX).contains(&line.quantity));
    let quantity = quantity.ok_or_else(|| ("quantity", format!("must be from 1 to {QUANTITY_MAX}")))?;
    let product = product.ok_or_else(|| ("product_id", "there is no such product".to_owned()))?;
    if product.price.currency != currency {
        let detail = format!("is sold in {}, the order is in {currency}", product.price.currency);
        return Err(("product_id", detail));
    }
    Ok(Line { product: line.product, quantity, unit_price: product.price })
}

impl From<&Order> for events::OrderPlaced {
    fn from(order: &Order) -> Self {
        let line = |line: &Line| events::OrderLine {
            product_id: line.product.to_string(),
            quantity: line.quantity,
            unit_price: Some(line.unit_price.into()),
        };
        Self {
            order_id: order.id.to_string(),
            tenant: order.tenant.clone(),
            payment_id: order.payment.to_string(),
            total: Some(order.total.into()),
            lines: order.lines.iter().map(line).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn product(price_minor: i64, currency: &str) -> Product {
        let price = Money::new(price_minor, currency.parse().unwrap());
        Product { id: ProductId::from_uuid(Uuid::now_v7()), sku: "tea".into(), name: "Tea".into(), price }
    }

    fn order(lines: &[(&Product, i64)]) -> NewOrder {
        NewOrder {
            tenant: "acme".into(),
            key: "k-1".into(),
            fingerprint: "f".into(),
            lines: lines
                .iter()
                .map(|(it, quantity)| NewLine { product: it.id, quantity: *quantity })
                .collect(),
            currency: "EUR".parse().unwrap(),
            capture_method: CaptureMethod::Automatic,
            payment_method: "pm_card_visa".into(),
        }
    }

    fn shelf(products: &[&Product]) -> HashMap<ProductId, Product> {
        products.iter().map(|product| (product.id, (*product).clone())).collect()
    }

    #[test]
    fn the_total_is_the_sum_of_the_lines() {
        let (tea, pot) = (product(250, "EUR"), product(4_900, "EUR"));
        let (lines, total) =
            price(&order(&[(&tea, 2), (&pot, 1), (&tea, 1)]), &shelf(&[&tea, &pot])).unwrap();
        assert_eq!((lines.len(), total.minor), (3, 5_650));
    }

    #[test]
    fn every_broken_rule_is_named_at_its_place() {
        let (tea, tray, gone) = (product(250, "EUR"), product(3_575, "USD"), product(1, "EUR"));
        let mut order = order(&[(&tea, 0), (&tea, -1), (&gone, 1), (&tray, 1), (&tea, QUANTITY_MAX + 1)]);
        order.payment_method = String::new();
        let violations = price(&order, &shelf(&[&tea, &tray])).unwrap_err();
        let pointers: Vec<&str> = violations.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/payment_method",
                "/lines/0/quantity",
                "/lines/1/quantity",
                "/lines/2/product_id",
                "/lines/3/product_id",
                "/lines/4/quantity"
            ]
        );
    }

    #[test]
    fn an_order_has_lines_and_a_sum_that_fits() {
        let gold = product(i64::MAX / 2, "EUR");
        assert_eq!(price(&order(&[]), &HashMap::new()).unwrap_err()[0].pointer, "/lines");
        let too_much = price(&order(&[(&gold, 3)]), &shelf(&[&gold])).unwrap_err();
        assert_eq!(too_much, [Violation::new("/lines", "the amount is too large")]);
    }
}
