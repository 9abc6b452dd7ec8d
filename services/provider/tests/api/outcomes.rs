//! Every outcome of every operation, chosen by the payment method and by admin call: what the client hears, what has
//! happened by then, and what the same key is answered later.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{ANSWER, Answer, Client, Home};

const OPERATIONS: [&str; 5] = ["create", "confirm", "capture", "cancel", "refund"];

/// Patience of a client that hears nothing is well below.
const LATE_BY: &str = "4s";

/// What a client hears: a status, and whether it is an earlier answer. `None`: nothing.
type Heard = Option<(u16, bool)>;

/// One outcome: what is heard at first and under the same key afterwards, and how often the effect has happened by then.
struct Outcome {
    name: &'static str,
    first: (Heard, usize),
    again: (Heard, usize),
    /// What another key hears where the first one leads nowhere, and the effect in the end.
    other: (Heard, usize),
}

const DONE: (Heard, usize) = (Some((200, false)), 1);
const DONE_BEFORE: (Heard, usize) = (Some((200, true)), 1);
const NOTHING: (Heard, usize) = (None, 0);
const NOT_ASKED: (Heard, usize) = (None, 1);

const OUTCOMES: [Outcome; 7] = [
    Outcome { name: "slow", first: DONE, again: DONE_BEFORE, other: NOT_ASKED },
    Outcome { name: "charged_no_answer", first: (None, 1), again: DONE_BEFORE, other: NOT_ASKED },
    Outcome { name: "lost_once", first: NOTHING, again: DONE, other: NOT_ASKED },
    Outcome { name: "late", first: NOTHING, again: (Some((409, false)), 0), other: NOT_ASKED },
    Outcome {
        name: "error_after",
        first: (Some((500, false)), 1),
        again: (Some((500, true)), 1),
        other: NOT_ASKED,
    },
    Outcome {
        name: "error_before",
        first: (Some((500, false)), 0),
        again: (Some((500, true)), 0),
        other: DONE,
    },
    Outcome { name: "rate_limited", first: (Some((429, false)), 0), again: DONE, other: NOT_ASKED },
];

/// A request that is ready to be made: everything before it went well.
struct Ready {
    client: Client,
    operation: &'static str,
    payment: String,
    path: String,
    form: Vec<(&'static str, String)>,
}

impl Ready {
    async fn new(client: Client, operation: &'static str, payment: String, method: &str) -> Self {
        let owned =
            |form: &[(&'static str, &str)]| form.iter().map(|(name, it)| (*name, (*it).to_owned())).collect();
        let (path, form) = if operation == "create" {
            let form = [
                ("amount", "1000"),
                ("currency", "eur"),
                ("payment_method", method),
                ("metadata[payment_id]", payment.as_str()),
            ];
            ("payment_intents".to_owned(), owned(&form))
        } else {
            let capture = if ["capture", "cancel"].contains(&operation) { "manual" } else { "automatic" };
            let intent = client.intent(&payment, method, capture).await;
            if operation != "confirm" {
                let made =
                    client.post(&format!("{intent}/confirm"), &format!("confirm-{payment}"), &[]).await;
                assert_eq!(made.status, 200, "{payment}: {made:?}");
            }
            let id = intent.trim_start_matches("payment_intents/");
            if operation == "refund" {
                ("refunds".to_owned(), owned(&[("payment_intent", id), ("amount", "300")]))
            } else {
                (format!("{intent}/{operation}"), Vec::new())
            }
        };
        Self { client, operation, payment, path, form }
    }

    async fn ask(&self, key: &str) -> Option<Answer> {
        let form: Vec<(&str, &str)> = self.form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let patience = Duration::from_millis(if self.payment.contains("slow") { 10_000 } else { 700 });
        self.client.try_post(&self.path, &format!("{key}-{}", self.payment), &form, patience).await
    }

    async fn heard(&self, key: &str) -> (Heard, usize) {
        let answer = self.ask(key).await.map(|answer| (answer.status, answer.replayed));
        (answer, self.effects().await)
    }

    /// How often the operation has moved something for this payment.
    async fn effects(&self) -> usize {
        if self.operation == "create" {
            let made = self.client.listed("payment_intents?limit=100", "metadata").await;
            return made.iter().filter(|metadata| metadata["payment_id"] == *self.payment).count();
        }
        let kind = if self.operation == "confirm" { "charge" } else { self.operation };
        let journal = self.client.journal().await;
        let movements = journal["movements"].as_array().expect("movements").iter();
        movements.filter(|it| it["kind"] == kind && it["metadata"]["payment_id"] == *self.payment).count()
    }
}

/// Both ways to choose an outcome.
async fn scripted(client: &Client, operation: &'static str, outcome: &str, way: &str) -> Ready {
    let payment = format!("{operation}-{outcome}-{way}");
    if way == "order" {
        let order = json!({ "operation": operation, "payment_id": payment, "outcome": outcome });
        let told = client.order("script", &order).await;
        assert_eq!(told.status, 200, "{told:?}");
        return Ready::new(client.clone(), operation, payment, "pm_card_visa").await;
    }
    Ready::new(client.clone(), operation, payment, &format!("pm_{operation}_{outcome}")).await
}

async fn meets(ready: Ready, outcome: &Outcome) {
    let payment = &ready.payment;
    assert_eq!(ready.heard("k").await, outcome.first, "{payment}: the first request");
    if outcome.name == "late" && ready.operation == "confirm" {
        let intent = ready.client.get(ready.path.trim_end_matches("/confirm")).await;
        assert_eq!(intent.text("status"), "processing");
    }
    assert_eq!(ready.heard("k").await, outcome.again, "{payment}: the same key");
    if outcome.name == "late" {
        let began = Instant::now();
        while ready.effects().await == 0 {
            assert!(began.elapsed() < ANSWER, "{payment}: it is done in the end");
        }
        assert_eq!(ready.heard("k").await, DONE_BEFORE, "{payment}: the same key once it is done");
    }
    let (heard, effects) = outcome.other;
    match heard {
        Some(_) => assert_eq!(ready.heard("other").await, outcome.other, "{payment}: another key"),
        None => assert_eq!(ready.effects().await, effects, "{payment}: in the end"),
    }
}

#[tokio::test]
async fn every_outcome_of_every_operation_is_what_the_table_says() {
    let stand = Home::new().with("PROVIDER_LATE_BY", LATE_BY).start().await;
    let mut cases = JoinSet::new();
    for operation in OPERATIONS {
        for outcome in &OUTCOMES {
            for way in ["method", "order"] {
                let client = stand.client.clone();
                cases.spawn(async move {
                    meets(scripted(&client, operation, outcome.name, way).await, outcome).await;
                });
            }
        }
    }
    assert_eq!(cases.join_all().await.len(), 70);
    stand.stop().await;
}

#[tokio::test]
async fn what_is_declined_is_refused_for_good_and_leaves_the_object_as_it_was() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    for (operation, refused, after) in [
        ("create", (400, "invalid_request_error payment_method_unactivated"), ""),
        ("confirm", (402, "card_error card_declined"), "requires_payment_method"),
        ("capture", (400, "invalid_request_error charge_expired_for_capture"), "requires_capture"),
        ("cancel", (400, "invalid_request_error payment_intent_unexpected_state"), "requires_capture"),
    ] {
        for way in ["method", "order"] {
            let ready = scripted(client, operation, "declined", way).await;
            for (key, replayed) in [("k-1", false), ("k-1", true)] {
                let answer = ready.ask(key).await.expect("an answer");
                assert_eq!(answer.error(), (refused.0, refused.1.to_owned()), "{operation} by {way}");
                assert_eq!(answer.replayed, replayed, "{operation} by {way}");
            }
            assert_eq!(ready.effects().await, 0, "{operation} by {way}");
            if !after.is_empty() {
                let intent = client.get(ready.path.trim_end_matches(&format!("/{operation}"))).await;
                assert_eq!(intent.text("status"), after, "{operation} by {way}");
            }
            // A payment method declines each time, an order once.
            let next = ready.ask("k-2").await.expect("an answer");
            assert_eq!(next.status == 200, way == "order", "{operation} by {way}: {next:?}");
        }
    }
    stand.stop().await;
}

#[tokio::test]
async fn a_declined_refund_is_an_object_that_failed() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let ready = scripted(client, "refund", "declined", "order").await;
    let failed = ready.ask("k-1").await.expect("an answer");
    assert_eq!((failed.status, failed.text("status")), (200, "failed".into()));
    assert_eq!(failed.body["failure_reason"], "expired_or_canceled_card");
    assert_eq!(ready.effects().await, 0);
    let next = ready.ask("k-2").await.expect("an answer");
    assert_eq!((next.text("status"), &next.body["amount"]), ("succeeded".into(), &json!(300)));
    let intent = failed.text("payment_intent");
    let list = client.listed(&format!("refunds?payment_intent={intent}"), "status").await;
    assert_eq!(list, ["succeeded", "failed"], "newest first");
    assert_eq!(client.listed("balance_transactions?type=refund", "amount").await, [-300]);
    stand.stop().await;
}

#[tokio::test]
async fn an_order_counts_for_its_payment_and_its_times_also_after_a_restart() {
    let home = Home::new();
    let stand = home.start().await;
    let order = json!({ "operation": "confirm", "payment_id": "p-1", "outcome": "declined", "times": 2 });
    stand.client.order("script", &order).await;
    let path = stand.client.intent("p-1", "pm_card_visa", "automatic").await;
    let confirm = format!("{path}/confirm");
    stand.client.paid("p-2").await;
    assert_eq!(stand.client.post(&confirm, "k-1", &[]).await.status, 402);
    stand.stop().await;

    let stand = home.start().await;
    let client = &stand.client;
    assert_eq!(client.post(&confirm, "k-2", &[]).await.status, 402);
    assert_eq!(client.post(&confirm, "k-3", &[]).await.status, 200, "both times are used up");

    // A request that is refused for its state uses up nothing, and an order goes before the payment method.
    client.order("script", &json!({ "operation": "confirm", "outcome": "charged" })).await;
    assert_eq!(client.post(&confirm, "k-4", &[]).await.status, 400);
    let path = client.intent("p-3", "pm_card_declined", "automatic").await;
    assert_eq!(client.post(&format!("{path}/confirm"), "k-5", &[]).await.status, 200);
    for wrong in [
        json!({ "operation": "confirm", "outcome": "lost" }),
        json!({ "operation": "pay", "outcome": "late" }),
        json!({ "operation": "confirm", "outcome": "late", "times": 0 }),
        json!({ "operation": "confirm", "outcome": "late", "payment": "p-1" }),
    ] {
        assert_eq!(client.order("script", &wrong).await.status, 400, "{wrong}");
    }
    stand.stop().await;
}

#[tokio::test]
async fn what_is_late_comes_after_a_restart_and_not_at_all_when_something_came_first() {
    let home = Home::new().with("PROVIDER_LATE_BY", LATE_BY);
    let stand = home.start().await;
    let refund = scripted(&stand.client, "refund", "late", "method").await;
    assert_eq!(refund.heard("k").await, NOTHING);
    let capture = scripted(&stand.client, "capture", "late", "method").await;
    assert_eq!(capture.heard("k").await, NOTHING);
    let cancel = capture.path.replace("/capture", "/cancel");
    assert_eq!(stand.client.post(&cancel, "k-cancel", &[]).await.text("status"), "canceled");
    stand.stop().await;

    let stand = home.start().await;
    let refund = Ready { client: stand.client.clone(), ..refund };
    let capture = Ready { client: stand.client.clone(), ..capture };
    assert_eq!(capture.ask("k").await.expect("an answer").status, 409, "it is still to come");
    let began = Instant::now();
    while refund.effects().await == 0 || capture.ask("k").await.expect("an answer").status == 409 {
        assert!(began.elapsed() < ANSWER, "both end");
    }
    assert_eq!(refund.heard("k").await, DONE_BEFORE);
    let refused = capture.ask("k").await.expect("an answer");
    assert_eq!(refused.error(), (400, "invalid_request_error payment_intent_unexpected_state".into()));
    assert_eq!((refused.replayed, capture.effects().await), (false, 0));
    stand.stop().await;
}

#[tokio::test]
async fn what_nobody_asked_for_is_in_the_journal_without_a_command() {
    let stand = Home::new().start().await;
    let client = &stand.client;
    let form = [
        ("amount", "1000"),
        ("currency", "eur"),
        ("payment_method", "pm_card_visa"),
        ("capture_method", "manual"),
        ("metadata[payment_id]", "p-1"),
        ("metadata[tenant]", "t-1"),
        ("metadata[command_id]", "c-1"),
    ];
    let held = client.post("payment_intents", "k-1", &form).await.text("id");
    client.post(&format!("payment_intents/{held}/confirm"), "k-2", &[]).await;
    let canceled = client.order("cancel", &json!({ "payment_intent": held })).await;
    assert_eq!(canceled.text("status"), "canceled");
    let unasked = json!({ "payment_id": "p-1", "amount": 900, "currency": "eur" });
    let charged = client.order("charge", &unasked).await;
    assert_eq!((charged.text("status"), &charged.body["amount_received"]), ("succeeded".into(), &json!(900)));
    let intent = charged.text("id");
    let back = client.order("refund", &json!({ "payment_intent": intent, "amount": 200 })).await;
    assert_eq!((back.text("status"), &back.body["metadata"]), ("succeeded".into(), &json!({})));
    assert_eq!(client.order("refund", &json!({ "payment_intent": intent })).await.body["amount"], 700);
    let over = client.order("refund", &json!({ "payment_intent": intent })).await;
    assert_eq!(over.error(), (400, "invalid_request_error charge_already_refunded".into()));
    assert_eq!(client.order("cancel", &json!({ "payment_intent": intent })).await.status, 400);
    assert_eq!(client.order("refund", &json!({ "payment_intent": intent, "amount": 0 })).await.status, 400);

    let returned = client.order("refund_failure", &json!({ "refund": back.text("id") })).await;
    assert_eq!(returned.text("status"), "failed");
    let again = client.order("refund_failure", &json!({ "refund": back.text("id") })).await;
    assert_eq!(again.error(), (400, "invalid_request_error refund_failed".into()));
    let left = client.post("refunds", "k-3", &[("payment_intent", &intent), ("amount", "201")]).await;
    assert_eq!(left.error(), (400, "invalid_request_error amount_too_large".into()), "200 are left again");

    let told =
        ["authorization 1000", "cancel 1000", "charge 900", "refund 200", "refund 700", "refund_failure 200"];
    assert_eq!(client.movements().await, told);
    assert_eq!(client.listed("balance_transactions", "amount").await, [200, -700, -200, 900]);
    let kinds = ["refund_failure", "refund", "refund", "charge"];
    assert_eq!(client.listed("balance_transactions", "type").await, kinds);
    let journal = client.journal().await;
    assert_eq!(journal["charged"], json!({ "p-1": 900 }));
    for at in 1..6 {
        let movement = &journal["movements"][at];
        assert_eq!(movement["metadata"], json!({ "payment_id": "p-1", "tenant": "t-1" }), "{movement}");
        assert!(movement["idempotency_key"].is_null());
    }
    stand.stop().await;
}
