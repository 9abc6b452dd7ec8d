//! What relays and inboxes say about themselves.

mod numbers;
mod traces;

use outbox::{BoxError, Handler, Received};
use sqlx::postgres::PgTransaction;

use crate::world::{Noted, effect, noted};

/// Notes an effect, and answers a question with an event of its own.
struct Answer;

impl Handler for Answer {
    const NAME: &'static str = "test.answer";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        if event.event.text.ends_with('?') {
            outbox::publish(tx, &noted("answer", "yes")).await?;
        }
        effect(tx, &event.event.key, event.meta.version, &event.event.text).await
    }
}
