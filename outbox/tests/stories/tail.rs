//! What cursors have not reached.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use outbox::{BoxError, Inbox, InboxOptions, compare};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    instrument::WithSubscriber as _,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

use crate::{
    scripted::Scripted,
    shelf::Keep,
    world::{Home, NOTES, World, until},
};

/// The fields of each event of the log, as `name=value`.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Vec<String>>>>);

#[derive(Default)]
struct Fields(Vec<String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push(format!("{}={value:?}", field.name()));
    }
}

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fields.0);
    }
}

impl Told {
    /// The first one with this word.
    fn find(&self, word: &str) -> Option<Vec<String>> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().find(|fields| fields.iter().any(|field| field.contains(word))).cloned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_behind_are_counted_up_to_a_bound() -> Result<(), BoxError> {
    let mut world = World::new("tail").await?;
    let home = Home::new(world.stack, "tail", "test.notes").await?;
    // Delivered long ago, and no longer in the log.
    let heads = "insert into outbox.head (topic, key, version, last_id, position)
                 select $1, 'key-' || lpad(n::text, 5, '0'), 1, gen_random_uuid(), 1 from generate_series(1, 12500) n";
    sqlx::query(heads).bind(NOTES.name()).execute(&home.admin).await?;
    let told = Told::default();
    let options = InboxOptions { compare_every: Duration::from_millis(50), ..InboxOptions::default() };
    let inbox = Inbox::new(home.module.clone(), Scripted::default()).register(Keep).with(options);
    let log = tracing_subscriber::registry().with(told.clone());
    world.spawn(|shutdown| inbox.run(shutdown).with_subscriber(log));
    let word = "delivered long ago";
    until(true, async || Ok(told.find(word).is_some())).await?;
    let fields = told.find(word).unwrap_or_default();
    for field in ["keys_at_least=10000", "key=\"key-00001\"", "head=1", "applied=0"] {
        assert!(fields.iter().any(|told| told == field), "{field} of {fields:?}");
    }
    let handler = <Keep as outbox::Handler>::NAME;
    assert_eq!(compare(&home.module, handler, NOTES, Duration::ZERO).await?.len(), 10_000);
    world.stop().await?;
    home.drop_now().await
}
