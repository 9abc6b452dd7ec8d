//! Numbers that equal what happened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
    data::{AggregatedMetrics, MetricData},
};
use outbox::{
    BoxError, Error, Inbox, MemoryRefill, Metrics, Record, Refill as _, RefillOptions, Refusal, Relay,
    RelayOptions, Sink, dead_letter, dead_letter::Place, kafka, metrics::observe,
};

use super::Answer;
use crate::{
    line::Scene,
    world::{Home, World, noted, until},
};

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
    // A day in the middle is missing: the days behind it don't count.
    assert!((numbers.counted("outbox.days_ahead", "")? - 14.0).abs() < f64::EPSILON);
    let fourth: String = sqlx::query_scalar(
        "select 'drop table outbox.event_' || to_char((clock_timestamp() at time zone 'UTC')::date + 4, 'YYYYMMDD')",
    )
    .fetch_one(&home.admin)
    .await?;
    sqlx::query(sqlx::AssertSqlSafe(fourth)).execute(&home.admin).await?;
    until(3.0, async || numbers.counted("outbox.days_ahead", "")).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_discarded_is_shown_no_more() -> Result<(), BoxError> {
    let world = World::new("discarded").await?;
    let home = Home::new(world.stack, "discarded", "test.notes").await?;
    let numbers = Numbers::new();
    let bad =
        "insert into outbox.unreadable (consumer_group, topic, partition, record_offset, error, headers)
               values ('g', 't', 0, 0, 'no', '{}')";
    sqlx::query(bad).execute(&home.admin).await?;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let every = Duration::from_millis(20);
    let observer =
        tokio::spawn(observe(home.relay.clone(), numbers.metrics.clone(), every, shutdown.clone()));
    until(Some(1.0), async || numbers.read("outbox.unreadable", "")).await?;
    let place = Place { group: "g".into(), topic: "t".into(), partition: 0, offset: 0 };
    assert!(dead_letter::discard_unreadable(&home.admin, &place, "ann", "seen").await?);
    until(Some(0.0), async || numbers.read("outbox.unreadable", "")).await?;
    shutdown.cancel();
    observer.await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_a_log_can_help_is_shown_until_it_is_helped() -> Result<(), BoxError> {
    let mut scene = Scene::new("helpless").await?;
    let numbers = Numbers::new();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (relay, every) = (scene.home.relay.clone(), Duration::from_millis(20));
    let observer = tokio::spawn(observe(relay, numbers.metrics.clone(), every, shutdown.clone()));
    scene.send("a", 1, "!1");
    // The log that is asked has nothing.
    let (log, soon) = (MemoryRefill::default(), Duration::from_millis(20));
    let bounds = RefillOptions {
        parked_per_key_max: Some(1),
        gap_after: soon,
        every: soon,
        delay_min: soon,
        delay_max: soon,
        ..RefillOptions::default()
    };
    scene.start(Some(Arc::new(log.clone())), bounds);
    let shown = async || {
        let read = |name| numbers.counted(name, "handler=test.judge");
        Ok((
            read("outbox.parked")?,
            read("outbox.dead")?,
            read("outbox.incomplete")?,
            read("outbox.awaiting")?,
        ))
    };
    scene.dead(1).await?;
    // The dead one has the only place.
    scene.send("a", 2, "2");
    scene.send("a", 3, "3");
    until((0.0, 1.0, 1.0, 0.0), shown).await?;
    scene.mend();
    let all = dead_letter::Filter::default();
    dead_letter::replay_all(&scene.home.admin, &all, "ann", "mended").await?;
    scene.effects(&["a:1:!1"]).await?;
    until((0.0, 0.0, 1.0, 0.0), shown).await?;
    // A replica would say this of a key that it met in the middle.
    sqlx::query("select outbox.await_snapshot('test.judge', 'notes.v1', 'b')")
        .execute(&scene.home.module)
        .await?;
    until((0.0, 0.0, 1.0, 1.0), shown).await?;
    sqlx::query("select outbox.jump('test.judge', 'notes.v1', 'b', 4, gen_random_uuid())")
        .execute(&scene.home.module)
        .await?;
    until((0.0, 0.0, 1.0, 0.0), shown).await?;
    for message in scene.log.events("notes.v1", "a", 0, 3, 10).await? {
        log.add(message);
    }
    scene.effects(&["a:1:!1", "a:2:2", "a:3:3"]).await?;
    until((0.0, 0.0, 0.0, 0.0), shown).await?;
    assert!(numbers.read("outbox.incomplete", "handler=test.judge")?.is_some());
    shutdown.cancel();
    observer.await?;
    scene.end().await
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
async fn a_question_that_is_not_answered_is_given_up_and_asked_again() -> Result<(), BoxError> {
    let world = World::new("unanswered").await?;
    let home = Home::new(world.stack, "unanswered", "test.notes").await?;
    let numbers = Numbers::new();
    let mut lock = home.admin.begin().await?;
    sqlx::query("lock table outbox.pending").execute(&mut *lock).await?;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let every = Duration::from_millis(20);
    let observer =
        tokio::spawn(observe(home.relay.clone(), numbers.metrics.clone(), every, shutdown.clone()));
    let asked = "select xact_start::text from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    let asked =
        async || Ok::<_, BoxError>(sqlx::query_scalar::<_, String>(asked).fetch_optional(&home.admin).await?);
    until(true, async || Ok(asked().await?.is_some())).await?;
    let first = asked().await?;
    until(true, async || Ok(asked().await?.is_some_and(|again| Some(&again) != first.as_ref()))).await?;
    lock.rollback().await?;
    until(Some(0.0), async || numbers.read("outbox.pending", "")).await?;
    shutdown.cancel();
    observer.await?;
    world.stop().await?;
    home.drop_now().await
}
