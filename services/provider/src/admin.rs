//! The ground truth for tests and the checker: every movement of money.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::book::{Book, Entry};
use crate::failure::Failure;
use crate::provider::Provider;

/// `GET /admin/journal`. Whole, not paged: the reader wants one state, and runs are short.
pub(crate) fn router(provider: Provider) -> Router {
    Router::new().route("/admin/journal", get(journal)).with_state(provider)
}

/// The movements in the order of the journal.
#[derive(Serialize)]
struct Journal {
    movements: Vec<Entry>,
    /// What was taken, by `metadata.payment_id`: the sum of charges and captures, refunds not counted.
    charged: BTreeMap<String, i64>,
}

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
