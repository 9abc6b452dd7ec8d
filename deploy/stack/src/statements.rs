//! How many statements a test has sent to its database.

use std::cell::Cell;
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// Counts what sqlx says it has sent.
struct Count;

thread_local! {
    /// A test has one thread, and all that it awaits runs on it, servers included.
    static SENT: Cell<usize> = const { Cell::new(0) };
}

/// From now on this process counts. Before its first statement, for what a place in the code logs is decided once.
///
/// # Panics
/// When the process logs in another way already.
pub fn count() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let counting = tracing_subscriber::registry().with(Count);
        tracing::subscriber::set_global_default(counting).expect("no test logs in another way");
    });
}

/// Statements that this thread has sent since they are counted.
pub fn sent() -> usize {
    SENT.get()
}

/// The beginning of a statement.
#[derive(Default)]
struct Summary(String);

impl Visit for Summary {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "summary" {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut summary = Summary::default();
        event.record(&mut summary);
        // What the pool asks a connection that it lends again is not the caller's: a new connection is not asked.
        if event.metadata().target() == "sqlx::query" && !summary.0.contains("statement_timestamp()") {
            SENT.set(SENT.get() + 1);
        }
    }
}
