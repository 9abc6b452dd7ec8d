//! What relays and inboxes say about themselves: numbers that equal what happened, and traces that cross the outbox.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry::{
    Context, KeyValue, SpanId,
    metrics::MeterProvider as _,
    trace::{FutureExt as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    metrics::{
        InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
        data::{AggregatedMetrics, MetricData},
    },
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use outbox::{
    BoxError, Error, Event, Handler, Headers, Inbox, InboxOptions, Json, Metrics, Received, Record, Refusal,
    Relay, RelayOptions, Sink, Topic, Tracer, kafka, metrics::observe,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgTransaction;
use tracing::{Instrument as _, instrument::WithSubscriber as _};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::world::{Home, NOTES, Noted, World, effect, noted, until};

/// An in-memory collector of numbers.
struct Numbers {
    exporter: InMemoryMetricExporter,
    provider: SdkMeterProvider,
    metrics: Metrics,
}

impl Numbers {
    fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        // Read when the story asks, not by the clock.
        let reader =
            PeriodicReader::builder(exporter.clone()).with_interval(Duration::from_secs(3600)).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let metrics = Metrics::new(&provider.meter("story"));
        Self { exporter, provider, metrics }
    }

    /// The sum over all series of `name` that carry `label`; of a histogram, the count. `None` when there is no series.
    fn read(&self, name: &str, label: &str) -> Result<Option<f64>, BoxError> {
        self.exporter.reset();
        self.provider.force_flush()?;
        let mut found = Vec::new();
        for all in self.exporter.get_finished_metrics()? {
            for metric in all.scope_metrics().flat_map(|scope| scope.metrics()) {
                if metric.name() == name {
                    found.extend(points(metric.data(), label));
                }
            }
        }
        Ok((!found.is_empty()).then(|| found.iter().sum()))
    }

    fn counted(&self, name: &str, label: &str) -> Result<f64, BoxError> {
        Ok(self.read(name, label)?.unwrap_or(0.0))
    }
}

fn points(data: &AggregatedMetrics, label: &str) -> Vec<f64> {
    let has = |labels: Vec<KeyValue>| {
        label.is_empty() || labels.iter().any(|kv| format!("{}={}", kv.key, kv.value) == label)
    };
    match data {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            let points = sum.data_points().filter(|point| has(labels(point.attributes())));
            points.map(|point| small(point.value())).collect()
        }
        AggregatedMetrics::I64(MetricData::Gauge(gauge)) => {
            let points = gauge.data_points().filter(|point| has(labels(point.attributes())));
            points.map(|point| small(point.value())).collect()
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            let points = gauge.data_points().filter(|point| has(labels(point.attributes())));
            points.map(|point| point.value()).collect()
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            let points = histogram.data_points().filter(|point| has(labels(point.attributes())));
            points.map(|point| small(point.count())).collect()
        }
        other => panic!("no reading of {other:?}"),
    }
}

fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Vec<KeyValue> {
    attributes.cloned().collect()
}

/// The stories' numbers are small.
fn small(number: impl TryInto<u32>) -> f64 {
    f64::from(number.try_into().unwrap_or(u32::MAX))
}

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

/// Kafka, but it can be away, and refuses each text that starts with `!` a number of times.
struct Moody {
    kafka: kafka::KafkaSink,
    away: Arc<AtomicBool>,
    refusals: AtomicUsize,
}

#[async_trait]
impl Sink for Moody {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Refusal::Outage("as the story wants it".into()));
        }
        let shouts = String::from_utf8_lossy(&record.payload).contains("\"!");
        let left = |left: usize| left.checked_sub(1);
        if shouts && self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok() {
            return Err(Refusal::Record("it shouts".into()));
        }
        self.kafka.send(record).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.kafka.check().await
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn counters_equal_what_happened() -> Result<(), BoxError> {
    let mut world = World::new("counted").await?;
    let home = Home::new(world.stack, "counted", "test.notes").await?;
    let numbers = Numbers::new();
    let texts = ["1", "2", "!3", "4", "5"];
    for text in texts {
        home.publish(&noted(text, text)).await?;
    }
    let sink =
        Moody { kafka: kafka::sink(&world.kafka)?, away: Arc::default(), refusals: AtomicUsize::new(2) };
    let options = RelayOptions {
        refusal_delay_min: Duration::from_millis(50),
        refused_every: Duration::from_millis(20),
        ..RelayOptions::default()
    };
    let relay = Relay::new(home.relay.clone(), sink).with(options).metrics(numbers.metrics.clone());
    world.spawn(|shutdown| relay.run(shutdown));
    for group in ["first", "again"] {
        let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, group)?)
            .register(Answer)
            .metrics(numbers.metrics.clone());
        world.spawn(|shutdown| inbox.run(shutdown));
    }
    until((5.0, 2.0), async || {
        Ok((numbers.counted("outbox.sent", "topic=notes.v1")?, numbers.counted("outbox.refused", "")?))
    })
    .await?;
    until((5.0, 5.0), async || {
        let verdict = |verdict| numbers.counted("outbox.dealt", verdict);
        Ok((verdict("verdict=applied")?, verdict("verdict=duplicate")?))
    })
    .await?;
    assert_eq!(numbers.counted("outbox.commit_to_broker", "topic=notes.v1")?, 5.0);
    // Events that are handled together are one run.
    assert!((1.0..=5.0).contains(&numbers.counted("outbox.handler.duration", "handler=test.answer")?));
    assert_eq!(home.effects().await?.len(), texts.len());
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_shows_in_the_age_of_the_oldest_event() -> Result<(), BoxError> {
    let mut world = World::new("outage").await?;
    let home = Home::new(world.stack, "outage", "test.notes").await?;
    let numbers = Numbers::new();
    let away = Arc::new(AtomicBool::new(true));
    let sink = Moody { kafka: kafka::sink(&world.kafka)?, away: away.clone(), refusals: AtomicUsize::new(0) };
    let relay = Relay::new(home.relay.clone(), sink).metrics(numbers.metrics.clone());
    world.spawn(|shutdown| relay.run(shutdown));
    let (pool, metrics) = (home.relay.clone(), numbers.metrics.clone());
    world.spawn(|shutdown| async {
        observe(pool, metrics, Duration::from_millis(50), shutdown).await;
        Ok(())
    });
    home.publish(&noted("a", 1)).await?;
    home.publish(&noted("b", 1)).await?;
    let age = || numbers.counted("outbox.oldest_undelivered_age", "");
    until((true, 2.0, true), async || {
        Ok((
            age()? >= 1.0,
            numbers.counted("outbox.pending", "")?,
            numbers.counted("outbox.outages", "")? > 0.0,
        ))
    })
    .await?;
    away.store(false, Ordering::SeqCst);
    until((0.0, 0.0), async || Ok((age()?, numbers.counted("outbox.pending", "")?))).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_ages_go_on_growing() -> Result<(), BoxError> {
    let world = World::new("ages").await?;
    let home = Home::new(world.stack, "ages", "test.notes").await?;
    let numbers = Numbers::new();
    home.publish(&noted("a", 1)).await?;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let every = Duration::from_millis(20);
    let observer =
        tokio::spawn(observe(home.relay.clone(), numbers.metrics.clone(), every, shutdown.clone()));
    assert_eq!(numbers.read("outbox.parked", "")?, None, "no handler, no series");
    until(Some(1.0), async || numbers.read("outbox.pending", "")).await?;
    home.relay.close().await;
    let (oldest, unread) = ("outbox.oldest_undelivered_age", "outbox.observation_age");
    let before = numbers.counted(oldest, "")?;
    until((true, true), async || {
        Ok((numbers.counted(oldest, "")? > before + 0.5, numbers.counted(unread, "")? > 0.5))
    })
    .await?;
    shutdown.cancel();
    observer.await?;
    world.stop().await?;
    home.drop_now().await
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
