//! Traces that cross the outbox.

use opentelemetry::{
    Context, SpanId,
    trace::{FutureExt as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use outbox::{BoxError, Event, Headers, Inbox, InboxOptions, Json, Relay, Topic, Tracer, kafka};
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, instrument::WithSubscriber as _};
use tracing_subscriber::layer::SubscriberExt as _;

use super::Answer;
use crate::world::{Home, NOTES, Noted, World, noted, until};

/// An in-memory collector of spans.
struct Spans {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
}

impl Spans {
    fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { exporter, provider }
    }

    fn tracer(&self) -> Tracer {
        Tracer::new(&self.provider)
    }

    fn named(&self, name: &str) -> Result<Vec<SpanData>, BoxError> {
        Ok(self.exporter.get_finished_spans()?.into_iter().filter(|span| span.name == name).collect())
    }

    fn one(&self, name: &str) -> Result<SpanData, BoxError> {
        let mut spans = self.named(name)?;
        let (Some(span), true) = (spans.pop(), spans.is_empty()) else {
            return Err(format!("not one span {name}").into());
        };
        Ok(span)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_crosses_the_outbox() -> Result<(), BoxError> {
    let mut world = World::new("traced").await?;
    let home = Home::new(world.stack, "traced", "test.notes").await?;
    let spans = Spans::new();
    let layer = tracing_opentelemetry::layer().with_tracer(spans.provider.tracer("story"));
    async { home.publish(&noted("a", "well?")).instrument(tracing::info_span!("place")).await }
        .with_subscriber(tracing_subscriber::registry().with(layer))
        .await?;
    let relay = Relay::new(home.relay.clone(), kafka::sink(&world.kafka)?).tracer(spans.tracer());
    world.spawn(|shutdown| relay.run(shutdown));
    let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?)
        .register(Answer)
        .tracer(spans.tracer());
    world.spawn(|shutdown| inbox.run(shutdown));
    until(2, async || Ok(home.effects().await?.len())).await?;
    until(2, async || Ok(spans.named("handle notes.v1")?.len())).await?;
    world.stop().await?;

    let (place, publish) = (spans.one("place")?, spans.one("publish notes.v1")?);
    assert_eq!(place.parent_span_id, SpanId::INVALID);
    assert_eq!(publish.parent_span_id, place.span_context.span_id());
    assert_eq!(publish.span_kind, SpanKind::Producer);
    let sends = spans.named("send notes.v1")?;
    let handles = spans.named("handle notes.v1")?;
    assert_eq!((sends.len(), handles.len()), (2, 2));
    for span in sends.iter().chain(&handles) {
        assert_eq!(span.span_context.trace_id(), place.span_context.trace_id(), "{}", span.name);
    }
    // The note's own, under its publish; and the answer's, under the handling that published it.
    for under in [publish.span_context.span_id(), handles[0].span_context.span_id()] {
        assert_eq!(sends.iter().filter(|send| send.parent_span_id == under).count(), 1);
        assert_eq!(handles.iter().filter(|handle| handle.parent_span_id == under).count(), 1);
    }
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_handled_together_stay_in_their_traces() -> Result<(), BoxError> {
    const EVENTS: usize = 40;
    let mut world = World::new("together").await?;
    let home = Home::new(world.stack, "together", "test.notes").await?;
    let spans = Spans::new();
    let tracer = spans.provider.tracer("story");
    let place = Context::new().with_span(tracer.start("place"));
    let publish = async {
        for n in 0..EVENTS {
            home.publish(&noted(&n.to_string(), "well?")).await?;
        }
        Ok::<(), BoxError>(())
    };
    publish.with_context(place.clone()).await?;
    let relay = Relay::new(home.relay.clone(), kafka::sink(&world.kafka)?);
    world.spawn(|shutdown| relay.run(shutdown));
    until(0, || home.pending()).await?;
    // All of them are there before anyone reads.
    let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?)
        .register(Answer)
        .tracer(spans.tracer());
    world.spawn(|shutdown| inbox.run(shutdown));
    until(2 * EVENTS, async || Ok(home.effects().await?.len())).await?;
    until(true, async || Ok(spans.named("handle notes.v1")?.len() >= 2 * EVENTS)).await?;
    world.stop().await?;

    let trace = place.span().span_context().trace_id();
    let batches = spans.named("batch notes.v1")?;
    assert!(!batches.is_empty(), "some were handled together");
    for handle in spans.named("handle notes.v1")? {
        assert_eq!(handle.span_context.trace_id(), trace, "notes and answers alike");
        for link in handle.links.iter() {
            let batch =
                batches.iter().find(|batch| batch.span_context.span_id() == link.span_context.span_id());
            let back =
                batch.is_some_and(|batch| batch.links.iter().all(|l| l.span_context.trace_id() == trace));
            assert!(back, "a batch and the publishers of its events are linked");
        }
    }
    assert!(spans.named("handle notes.v1")?.iter().any(|handle| !handle.links.is_empty()));
    home.drop_now().await
}

/// A note that names its trace itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Misnamed(Noted);

impl Event for Misnamed {
    const TOPIC: Topic = NOTES;
    const KIND: &'static str = Noted::KIND;
    type Codec = Json;

    fn key(&self) -> &str {
        &self.0.key
    }

    fn headers(&self, headers: &mut Headers) {
        headers.set("traceparent", "00-somewhere-else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_readable_trace_flows_all_the_same() -> Result<(), BoxError> {
    let mut world = World::new("untraced").await?;
    let home = Home::new(world.stack, "untraced", "test.notes").await?;
    let spans = Spans::new();
    home.publish(&noted("a", 1)).await?;
    let mut tx = home.module.begin().await?;
    outbox::publish(&mut tx, &Misnamed(noted("b", 1))).await?;
    tx.commit().await?;
    let headers: Vec<Option<String>> =
        sqlx::query_scalar("select headers->>'traceparent' from outbox.event order by position")
            .fetch_all(&home.admin)
            .await?;
    assert_eq!(headers, [None, Some("00-somewhere-else".to_owned())]);
    let relay = Relay::new(home.relay.clone(), kafka::sink(&world.kafka)?).tracer(spans.tracer());
    world.spawn(|shutdown| relay.run(shutdown));
    let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?)
        .register(Answer)
        // In a batch they would show in the batch's span alone.
        .with(InboxOptions { batch_max: 1, ..InboxOptions::default() })
        .tracer(spans.tracer());
    world.spawn(|shutdown| inbox.run(shutdown));
    until(2, async || Ok(spans.named("handle notes.v1")?.len())).await?;
    until(2, async || Ok(home.effects().await?.len())).await?;
    for handle in spans.named("handle notes.v1")? {
        assert_eq!(handle.parent_span_id, SpanId::INVALID, "a trace of its own");
    }
    assert!(spans.named("send notes.v1")?.is_empty());
    world.stop().await?;
    home.drop_now().await
}
