//! What clients do: mostly plain purchases, some with cards that make trouble, some followed by a merchant's command.

use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Book, Client, Product};
use crate::checker::{Accepted, Ended};

/// How long a client keeps trying to place one order, or to give one command.
const PERSISTENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// One kind of customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Pays with this card, captured at once; ends as said.
    Card(&'static str, Ended),
    /// Authorized, then captured by the merchant.
    Captured,
    /// Authorized, then voided by the merchant.
    Voided,
    /// Paid, then returned: the whole, or half of it.
    Refunded {
        /// The whole amount.
        whole: bool,
    },
}

impl Scenario {
    /// Each with its share in percent.
    const SHARES: [(u32, Self); 11] = [
        (74, Self::Card("pm_card_visa", Ended::Paid)),
        (5, Self::Card("pm_card_declined", Ended::Cancelled)),
        (3, Self::Card("pm_charged_no_answer", Ended::Paid)),
        (2, Self::Card("pm_not_charged_no_answer", Ended::Paid)),
        (3, Self::Card("pm_500_after_charge", Ended::Paid)),
        (1, Self::Card("pm_slow", Ended::Paid)),
        (1, Self::Card("pm_charged_late", Ended::Paid)),
        (4, Self::Captured),
        (3, Self::Voided),
        (2, Self::Refunded { whole: true }),
        (2, Self::Refunded { whole: false }),
    ];

    /// One by its share.
    pub fn random() -> Self {
        let mut point = rand::rng().random_range(0..100);
        for (share, scenario) in Self::SHARES {
            if point < share {
                return scenario;
            }
            point -= share;
        }
        Self::Card("pm_card_visa", Ended::Paid)
    }

    fn card(self) -> &'static str {
        match self {
            Self::Card(card, _) => card,
            Self::Captured | Self::Voided | Self::Refunded { .. } => "pm_card_visa",
        }
    }

    fn capture_method(self) -> &'static str {
        match self {
            Self::Captured | Self::Voided => "manual",
            Self::Card(..) | Self::Refunded { .. } => "automatic",
        }
    }

    fn ends(self) -> Ended {
        match self {
            Self::Card(_, ends) => ends,
            Self::Voided => Ended::Cancelled,
            Self::Captured | Self::Refunded { .. } => Ended::Paid,
        }
    }
}

/// One client's visit, to its end.
pub(super) async fn shop(client: &Client, products: &[Product], scenario: Scenario, book: &Book) {
    let (product, quantity) = {
        let mut random = rand::rng();
        (&products[random.random_range(0..products.len())], random.random_range(1..=3))
    };
    let body = json!({
        "lines": [{ "product_id": product.id, "quantity": quantity }],
        "currency": product.price.currency,
        "payment_method": scenario.card(),
        "capture_method": scenario.capture_method(),
    });
    let started = Instant::now();
    let Some(answer) = insist(client, "/v1/orders", "POST /v1/orders", &body, 201, book).await else {
        return;
    };
    let accepted = Accepted {
        order: answer.text("id").to_owned(),
        payment: answer.text("payment_id").to_owned(),
        ends: scenario.ends(),
    };
    let payment = accepted.payment.clone();
    book.acknowledged(accepted, started.elapsed());
    let total = answer.body.pointer("/total/minor").and_then(Value::as_i64).unwrap_or(0);
    let (verb, body, status) = match scenario {
        Scenario::Card(..) => return,
        Scenario::Captured => ("capture", json!({}), "authorized"),
        Scenario::Voided => ("void", json!({}), "authorized"),
        Scenario::Refunded { whole: true } => ("refunds", json!({}), "captured"),
        Scenario::Refunded { whole: false } => ("refunds", json!({ "amount_minor": total / 2 }), "captured"),
    };
    if until_status(client, &payment, status, book).await {
        let path = format!("/v1/payments/{payment}/{verb}");
        insist(client, &path, &format!("POST /v1/payments/../{verb}"), &body, 200, book).await;
    }
}

/// Posts under one key until the wanted status comes back, over errors, refusals to wait and restarts.
async fn insist(
    client: &Client,
    path: &str,
    name: &str,
    body: &Value,
    wanted: u16,
    book: &Book,
) -> Option<Answer> {
    let (key, started, mut pause) = (Uuid::now_v7().to_string(), Instant::now(), RETRY_MIN);
    loop {
        let last = match client.post(path, &key, body).await {
            Ok(answer) => {
                book.answer(&format!("{name} {}", answer.status));
                if answer.status == wanted {
                    return Some(answer);
                }
                // In flight, accepted with an unknown outcome, too many, or broken: to be asked again under the same key.
                let again = matches!(answer.status, 202 | 408 | 409 | 425 | 429 | 500..=599);
                if !again
                    || ["/payment-refused", "/amount-too-large"]
                        .iter()
                        .any(|kind| answer.text("type").ends_with(kind))
                {
                    book.failed(format!("{name}: {} {}", answer.status, answer.body));
                    return None;
                }
                format!("{} {}", answer.status, answer.body)
            }
            Err(error) => {
                book.answer(&format!("{name} {}", no_answer(&error)));
                error.to_string()
            }
        };
        if started.elapsed() > PERSISTENCE {
            book.failed(format!("{name}: not within {} s, last: {last}", PERSISTENCE.as_secs()));
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Reads the payment until it has the status.
async fn until_status(client: &Client, payment: &str, status: &str, book: &Book) -> bool {
    let (path, started, mut pause) = (format!("/v1/payments/{payment}"), Instant::now(), RETRY_MIN);
    loop {
        match client.get(&path).await {
            Ok(answer) => {
                book.answer(&format!("GET /v1/payments/.. {}", answer.status));
                if answer.status == 200 && answer.text("status") == status {
                    return true;
                }
            }
            Err(error) => book.answer(&format!("GET /v1/payments/.. {}", no_answer(&error))),
        }
        if started.elapsed() > PERSISTENCE {
            book.failed(format!("payment {payment} was not {status} within {} s", PERSISTENCE.as_secs()));
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

fn no_answer(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_timeout() => "timed out",
        Some(error) if error.is_connect() => "not connected",
        _ => "no answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percents() {
        assert_eq!(Scenario::SHARES.iter().map(|(share, _)| share).sum::<u32>(), 100);
    }
}
