//! The ground truth for tests and the checker, every movement of money, and what tests tell the provider to do wrong.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};

use crate::book::{Book, Entry};
use crate::control::{Control, Lies};
use crate::failure::Failure;
use crate::provider::Provider;

/// What an admin call says.
type Order<T> = Result<Json<T>, JsonRejection>;

pub(crate) fn router(provider: Provider) -> Router {
    Router::new()
        .route("/admin/journal", get(journal))
        .route("/admin/settlements", post(settlements))
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

async fn settlements(State(provider): State<Provider>, order: Order<Lies>) -> Result<Json<Value>, Failure> {
    provider.order(Control::Settlements(read(order)?)).await.map(|()| Json(json!({})))
}

fn read<T>(order: Order<T>) -> Result<T, Failure> {
    order.map(|Json(order)| order).map_err(|error| Failure::state("parameter_invalid", error.body_text()))
}
