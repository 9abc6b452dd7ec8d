//! How fast an inbox applies.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use outbox::{BoxError, Event, Handler, Inbox, Json, Received, Topic, kafka};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgTransaction;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    ground::{Scene, TOPIC},
    limits::{self, UPSERT, per_second},
    outbox::{
        contender::Contender,
        drive::{self, Look},
        run::Run,
        workload::{self, ACCOUNTS},
    },
    report::{Figure, Wanted},
};

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(600);

const LOOK_EVERY: Duration = Duration::from_millis(50);

const COUNTER: &str =
    "create table bench.counter (key text primary key, n bigint not null) with (fillfactor = 70)";

#[derive(Debug, Serialize, Deserialize)]
struct Booked {
    key: String,
    version: i64,
    pad: String,
}

impl Event for Booked {
    const TOPIC: Topic = TOPIC;
    const KIND: &'static str = "bench.booked.v1";
    type Codec = Json;

    fn key(&self) -> &str {
        &self.key
    }
}

/// Counts events by key; notes when the first came.
struct Count {
    began: Arc<OnceLock<Instant>>,
}

impl Handler for Count {
    const NAME: &'static str = "bench.count";
    type Event = Booked;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Booked>) -> Result<(), BoxError> {
        self.began.get_or_init(Instant::now);
        sqlx::query(UPSERT).bind(&event.event.key).execute(&mut **tx).await?;
        Ok(())
    }
}

/// Alternates with the same upserts alone.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let events = run.options.inbox_events;
    let scene = run.scene(Contender::Banyan, "inbox").await?;
    sqlx::query(COUNTER).execute(&scene.pool).await?;
    workload::fill(&scene, 0, events, ACCOUNTS).await?;
    let relay = scene.start(&run.ground).await?;
    drive::drain(&run.ground, &scene, relay, HashMap::new(), Look::Away).await?;
    let mut inbox = Figure::new("inbox", "inbox applying to a counter table", "events/s");
    let mut upsert =
        Figure::new("inbox", "limit: one prepared upsert an event, 500 a transaction", "events/s");
    for round in run.rounds() {
        reset(&scene).await?;
        run.settle().await?;
        let limit = limits::upsert(&scene, events, ACCOUNTS).await?;
        reset(&scene).await?;
        run.settle().await?;
        let rate = apply(run, &scene, &format!("round-{round}"), events).await?;
        if round > 0 {
            upsert.values.push(limit);
            inbox.values.push(rate);
        }
        eprintln!("inbox: round {round} of {}", run.options.rounds);
    }
    run.claim(inbox.over(&upsert, "inbox / the same upserts alone", Wanted::AtLeast(0.6)));
    run.figures([inbox, upsert]);
    scene.drop(&run.ground).await
}

/// Forgets what was applied.
async fn reset(scene: &Scene) -> Result<()> {
    sqlx::query("truncate outbox.cursor, outbox.parked, bench.counter cascade").execute(&scene.pool).await?;
    workload::rest(&scene.pool).await
}

/// Events a second, from the first that a handler got until all are counted and committed.
async fn apply(run: &Run, scene: &Scene, group: &str, events: u64) -> Result<f64> {
    let config = kafka::Config {
        bootstrap_servers: run.ground.stack.kafka().to_owned(),
        topic_prefix: scene.prefix.clone(),
        instance_id: None,
        client_id: "bench".into(),
    };
    let (began, shutdown) = (Arc::new(OnceLock::new()), CancellationToken::new());
    let inbox = Inbox::new(scene.pool.clone(), kafka::source(&config, group)?);
    let inbox = inbox.register(Count { began: began.clone() });
    let mut running = tokio::spawn(Box::pin(inbox.run(shutdown.clone())));
    let counted = tokio::select! {
        counted = all_counted(scene, events) => counted,
        ended = &mut running => bail!("the inbox ended: {:?}", ended?),
    };
    let ended = Instant::now();
    shutdown.cancel();
    running.await??;
    counted?;
    let began = began.get().context("no event was handled")?;
    Ok(per_second(events, (ended - *began).as_secs_f64()))
}

/// Waits until each event is counted, and none twice.
async fn all_counted(scene: &Scene, events: u64) -> Result<()> {
    let began = Instant::now();
    let wanted = i64::try_from(events)?;
    loop {
        let counted: i64 = sqlx::query_scalar("select coalesce(sum(n), 0)::bigint from bench.counter")
            .fetch_one(&scene.pool)
            .await?;
        ensure!(counted <= wanted, "{counted} of {wanted} events were counted: some were applied twice");
        if counted == wanted {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{counted} of {wanted} events after {} s", PATIENCE.as_secs());
        sleep(LOOK_EVERY).await;
    }
}
