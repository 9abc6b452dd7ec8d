//! What clients do on one day: given by its seed, and always the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tests::checker::{Accepted, Ended};
use tests::load::{Client, Product};
use tests::until;

use crate::orders::place;

/// How long a client waits for one step, over deaths and moves.
const PATIENCE: Duration = Duration::from_secs(90);
/// The largest part, in minor units. Two of them are less than the cheapest product.
const PART_MAX: i64 = 600;

/// What becomes of an order. The provider's part is scripted by the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Paid at once.
    Paid,
    /// The provider says no.
    Declined,
    /// It charges and does not answer.
    NoAnswer,
    /// It loses the first request.
    Lost,
    /// It charges and answers with a fault, again and again.
    Fault,
    /// Reserved, and captured later.
    Captured,
    /// Reserved, and a part of it captured later.
    CapturedInPart,
    /// Reserved, and released later.
    Voided,
    /// Paid, and returned.
    Returned,
    /// Paid, and returned in two parts.
    ReturnedInParts,
    /// Paid; the provider refuses to return it.
    ReturnRefused,
    /// Paid; it returns a part and does not answer.
    ReturnNoAnswer,
}

/// A day has one of each.
const KINDS: [Kind; 12] = [
    Kind::Paid,
    Kind::Declined,
    Kind::NoAnswer,
    Kind::Lost,
    Kind::Fault,
    Kind::Captured,
    Kind::CapturedInPart,
    Kind::Voided,
    Kind::Returned,
    Kind::ReturnedInParts,
    Kind::ReturnRefused,
    Kind::ReturnNoAnswer,
];

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Case {
    /// Its idempotency key, and the beginning of its commands'.
    label: String,
    kind: Kind,
    /// Which of the products; counted over when there are fewer.
    product: usize,
    quantity: u32,
    parts: [i64; 2],
}

/// All orders of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Day {
    /// The seed.
    pub(super) seed: u64,
    cases: Vec<Case>,
}

/// An order as its client knows it in the end.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The same in each run.
    pub(super) label: String,
    /// Its ids and its end.
    pub(super) accepted: Accepted,
    /// What each command was answered, and the payment's last state.
    pub(super) answers: Vec<String>,
}

impl Kind {
    fn card(self) -> &'static str {
        match self {
            Self::Declined => "pm_card_declined",
            Self::NoAnswer => "pm_charged_no_answer",
            Self::Lost => "pm_not_charged_no_answer",
            Self::Fault => "pm_500_after_charge",
            Self::ReturnRefused => "pm_refund_declined",
            Self::ReturnNoAnswer => "pm_refund_charged_no_answer",
            Self::Paid
            | Self::Captured
            | Self::CapturedInPart
            | Self::Voided
            | Self::Returned
            | Self::ReturnedInParts => "pm_card_visa",
        }
    }

    /// How it is captured, and the status that the engine brings it to.
    fn begins(self) -> (&'static str, &'static str) {
        match self {
            Self::Captured | Self::CapturedInPart | Self::Voided => ("manual", "authorized"),
            Self::Declined => ("automatic", "declined"),
            Self::Paid
            | Self::NoAnswer
            | Self::Lost
            | Self::Fault
            | Self::Returned
            | Self::ReturnedInParts
            | Self::ReturnRefused
            | Self::ReturnNoAnswer => ("automatic", "captured"),
        }
    }

    /// Its last status.
    fn ends(self) -> (&'static str, Ended) {
        match self {
            Self::Declined => ("declined", Ended::Cancelled),
            Self::Voided => ("voided", Ended::Cancelled),
            Self::Returned => ("refunded", Ended::Paid),
            Self::Paid
            | Self::NoAnswer
            | Self::Lost
            | Self::Fault
            | Self::Captured
            | Self::CapturedInPart
            | Self::ReturnedInParts
            | Self::ReturnRefused
            | Self::ReturnNoAnswer => ("captured", Ended::Paid),
        }
    }
}

impl Case {
    /// The merchant's commands, one after the other.
    fn commands(&self) -> Vec<(&'static str, Value)> {
        let part = |minor: i64| json!({ "amount_minor": minor });
        match self.kind {
            Kind::Paid | Kind::Declined | Kind::NoAnswer | Kind::Lost | Kind::Fault => Vec::new(),
            Kind::Captured => vec![("capture", json!({}))],
            Kind::CapturedInPart => vec![("capture", part(self.parts[0]))],
            Kind::Voided => vec![("void", json!({}))],
            Kind::Returned => vec![("refunds", json!({}))],
            Kind::ReturnedInParts => {
                vec![("refunds", part(self.parts[0])), ("refunds", part(self.parts[1]))]
            }
            Kind::ReturnRefused | Kind::ReturnNoAnswer => vec![("refunds", part(self.parts[0]))],
        }
    }

    async fn live(&self, client: &Client, products: &[Product], answered: &AtomicUsize) -> Result<Told> {
        let product =
            products.get(self.product % products.len().max(1)).context("the tenant sells nothing")?;
        let ((method, begun), (ended, ends)) = (self.kind.begins(), self.kind.ends());
        let body = json!({
            "lines": [{ "product_id": product.id, "quantity": self.quantity }],
            "currency": product.price.currency,
            "payment_method": self.kind.card(),
            "capture_method": method,
        });
        let accepted = place(client, &self.label, &body, ends).await?;
        answered.fetch_add(1, Ordering::Relaxed);
        until_at(client, &accepted.payment, begun).await?;
        answered.fetch_add(1, Ordering::Relaxed);
        let mut answers = Vec::new();
        for (n, (verb, body)) in self.commands().into_iter().enumerate() {
            let key = format!("{}-{n}", self.label);
            answers.push(give(client, &accepted.payment, verb, &key, &body).await?);
            answered.fetch_add(1, Ordering::Relaxed);
        }
        answers.push(until_at(client, &accepted.payment, ended).await?);
        Ok(Told { label: self.label.clone(), accepted, answers })
    }
}

impl Day {
    /// The day of a seed.
    pub(super) fn of(seed: u64) -> Self {
        Self::drawn(seed, &format!("day-{seed}"), &mut StdRng::seed_from_u64(seed))
    }

    /// More orders of that day, which nobody compares: there is traffic while the migration takes its step.
    pub(super) fn more(&self, n: u64) -> Self {
        let name = format!("more-{}-{n}", self.seed);
        Self::drawn(self.seed, &name, &mut StdRng::seed_from_u64(self.seed ^ ((n + 1) << 32)))
    }

    fn drawn(seed: u64, name: &str, random: &mut StdRng) -> Self {
        let mut kinds = KINDS;
        kinds.shuffle(random);
        let case = |(n, kind): (usize, Kind)| Case {
            label: format!("{name}-{n}"),
            kind,
            product: random.random_range(0..100),
            quantity: random.random_range(1..=3),
            parts: [random.random_range(1..=PART_MAX), random.random_range(1..=PART_MAX)],
        };
        Self { seed, cases: kinds.into_iter().enumerate().map(case).collect() }
    }

    /// Lives through it, all orders at the same time. `answered` counts the steps.
    pub(super) async fn live(
        &self,
        client: &Client,
        products: &[Product],
        answered: &AtomicUsize,
    ) -> Result<Vec<Told>> {
        let lives = self.cases.iter().map(|case| async move {
            let told = case.live(client, products, answered).await;
            told.with_context(|| format!("{}, {:?}", case.label, case.kind))
        });
        try_join_all(lives).await
    }
}

/// Gives a command under one key until the provider has done or refused it.
async fn give(client: &Client, payment: &str, verb: &str, key: &str, body: &Value) -> Result<String> {
    let path = format!("/v1/payments/{payment}/{verb}");
    until(&format!("{verb} of {payment}"), PATIENCE, async || {
        let answer = client.post(&path, key, body).await?;
        let refused = answer.status == 409 && answer.text("type").ends_with("/payment-refused");
        ensure!(answer.status == 200 || refused, "{} {}", answer.status, answer.body);
        let said = if refused { "refused".to_owned() } else { state(&answer.body) };
        Ok(Some(format!("{verb}: {} {said}", answer.status)))
    })
    .await
}

/// Reads the payment until it is there and nothing of it is under way.
async fn until_at(client: &Client, payment: &str, status: &str) -> Result<String> {
    until(&format!("payment {payment} to be {status}"), PATIENCE, async || {
        let answer = client.get(&format!("/v1/payments/{payment}")).await?;
        let ended = answer.text("status") == status && answer.body["outcome_pending"] == json!(false);
        ensure!(answer.status == 200 && ended, "{} {}", answer.status, answer.body);
        Ok(Some(state(&answer.body)))
    })
    .await
}

/// What a client sees of a payment's state, without what differs from run to run.
fn state(body: &Value) -> String {
    let [status, captured, refunded] =
        ["status", "captured_minor", "refunded_minor"].map(|field| body[field].to_string());
    format!("{status} captured {captured} refunded {refunded}")
}

#[test]
fn a_seed_is_always_the_same_day_with_one_order_of_each_kind() {
    assert_eq!(Day::of(7), Day::of(7));
    assert_ne!(Day::of(7), Day::of(8));
    assert_ne!(Day::of(7).more(0), Day::of(7).more(1));
    for seed in 0..50 {
        let day = Day::of(seed);
        for kind in KINDS {
            assert_eq!(
                day.cases.iter().filter(|case| case.kind == kind).count(),
                1,
                "{kind:?} on day {seed}"
            );
        }
    }
}
