//! The ground truth for tests and the checker, every movement of money, and what tests tell the provider to do wrong.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};

use crate::book::{Book, Entry};
use crate::control::{Control, Lies, Mischief};
use crate::failure::Failure;
use crate::provider::{Canceled, Provider, Refunded, SentBack, Unasked};
use crate::script::Order;
use crate::webhook::Count;

/// What an admin call says.
type Told<T> = Result<Json<T>, JsonRejection>;

/// What an admin call is answered.
type Answer = Result<Json<Value>, Failure>;

pub(crate) fn router(provider: Provider) -> Router {
    Router::new()
        .route("/admin/journal", get(journal))
        .route("/admin/webhooks", get(waiting).post(webhooks))
        .route("/admin/settlements", post(settlements))
        .route("/admin/script", post(script))
        .route("/admin/charge", post(charge))
        .route("/admin/refund", post(refund))
        .route("/admin/refund_failure", post(refund_failure))
        .route("/admin/cancel", post(cancel))
        .with_state(provider)
}

/// The movements in the order of the journal.
#[derive(Serialize)]
struct Journal {
    movements: Vec<Entry>,
    /// What was taken, by `metadata.payment_id`: the sum of charges and captures, refunds not counted.
    charged: BTreeMap<String, i64>,
}

/// Whole, not paged: the reader wants one state, and runs are short.
async fn journal(State(provider): State<Provider>) -> Result<Json<Journal>, Failure> {
    provider
        .read(|book| Journal { movements: book.movements().to_vec(), charged: charged(book) })
        .await
        .map(Json)
}

fn charged(book: &Book) -> BTreeMap<String, i64> {
    let mut charged = BTreeMap::new();
    for Entry { movement, .. } in book.movements() {
        if let Some(payment) = movement.metadata.get("payment_id").filter(|_| movement.is_taking()) {
            let sum: &mut i64 = charged.entry(payment.clone()).or_default();
            *sum = sum.saturating_add(movement.amount);
        }
    }
    charged
}

async fn waiting(State(provider): State<Provider>) -> Result<Json<Count>, Failure> {
    provider.read(|book| book.webhooks.count()).await.map(Json)
}

async fn webhooks(State(provider): State<Provider>, told: Told<Mischief>) -> Answer {
    let mischief = read(told)?;
    mischief.check()?;
    provider.order(Control::Webhooks(mischief)).await.map(|()| Json(json!({})))
}

async fn settlements(State(provider): State<Provider>, told: Told<Lies>) -> Answer {
    provider.order(Control::Settlements(read(told)?)).await.map(|()| Json(json!({})))
}

async fn script(State(provider): State<Provider>, told: Told<Order>) -> Answer {
    let order = read(told)?;
    provider.read(|book| book.orders().check(&order)).await??;
    provider.order(Control::Script(order)).await.map(|()| Json(json!({})))
}

async fn charge(State(provider): State<Provider>, told: Told<Unasked>) -> Answer {
    provider.charge_unasked(read(told)?).await.map(Json)
}

async fn refund(State(provider): State<Provider>, told: Told<Refunded>) -> Answer {
    provider.refund_by_hand(read(told)?).await.map(Json)
}

async fn refund_failure(State(provider): State<Provider>, told: Told<SentBack>) -> Answer {
    provider.send_refund_back(read(told)?).await.map(Json)
}

async fn cancel(State(provider): State<Provider>, told: Told<Canceled>) -> Answer {
    provider.cancel_by_hand(read(told)?).await.map(Json)
}

fn read<T>(told: Told<T>) -> Result<T, Failure> {
    told.map(|Json(told)| told).map_err(|error| Failure::state("parameter_invalid", error.body_text()))
}
