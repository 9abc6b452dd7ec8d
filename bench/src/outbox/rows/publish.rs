//! What `outbox.publish` costs a commit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use sqlx::{PgPool, postgres::PgTransaction};
use tokio::task::JoinSet;

use crate::{
    limits::per_second,
    outbox::{
        contender::Contender,
        run::Run,
        workload::{self, ACCOUNTS},
    },
    report::{Figure, Wanted},
};

/// What a transaction does after its business update.
#[derive(Clone, Copy)]
enum Variant {
    Publish,
    ThreeStatements,
    BareInsert,
}

const BARE: &str =
    "create table bench.bare (id uuid primary key default gen_random_uuid(), key text, kind text,
    payload bytea)";

/// How long a variant runs before it is the next one's turn: the machine's moods last longer, and meet all three.
const SLICE: Duration = Duration::from_secs(1);

/// Alternates the three variants, a second each, for as many seconds of each as a round has.
pub(crate) async fn run(run: &mut Run) -> Result<()> {
    let scene = run.scene(Contender::Banyan, "publish").await?;
    sqlx::query(BARE).execute(&scene.pool).await?;
    let unit = "commits/s";
    let mut variants = [
        (Variant::Publish, Figure::new("publish", "update + outbox.publish", unit)),
        (Variant::ThreeStatements, Figure::new("publish", "update + the three statements, prepared", unit)),
        (Variant::BareInsert, Figure::new("publish", "update + one bare prepared insert", unit)),
    ];
    for round in run.rounds() {
        sqlx::query("truncate outbox.pending, outbox.event, bench.bare").execute(&scene.pool).await?;
        workload::rest(&scene.pool).await?;
        run.settle().await?;
        let mut done = [Done::default(); 3];
        for _ in 0..run.options.seconds {
            for ((variant, _), done) in variants.iter().zip(&mut done) {
                let slice = clients(&scene.pool, *variant, run.options.clients).await?;
                done.commits += slice.commits;
                done.seconds += slice.seconds;
            }
        }
        for ((_, figure), done) in variants.iter_mut().zip(done).filter(|_| round > 0) {
            figure.values.push(per_second(done.commits, done.seconds));
        }
        eprintln!("publish: round {round} of {}", run.options.rounds);
    }
    let [publish, three, bare] = variants.map(|(_, figure)| figure);
    run.claim(publish.over(&three, "publish / the three statements sent one by one", Wanted::AtLeast(1.0)));
    run.claim(publish.over(&bare, "publish / one bare insert", Wanted::AtLeast(0.6)));
    run.figures([publish, three, bare]);
    scene.drop(&run.ground).await
}

/// What was done, in how long.
#[derive(Clone, Copy, Default)]
struct Done {
    commits: u64,
    seconds: f64,
}

/// A slice of all clients together.
async fn clients(pool: &PgPool, variant: Variant, clients: u32) -> Result<Done> {
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let until = started + SLICE;
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (pool, next) = (pool.clone(), next.clone());
        tasks.spawn(async move {
            let mut commits = 0u64;
            while Instant::now() < until {
                let account = workload::account(next.fetch_add(1, Ordering::Relaxed), ACCOUNTS);
                transaction(&pool, variant, account).await?;
                commits += 1;
            }
            anyhow::Ok(commits)
        });
    }
    let mut commits = 0;
    while let Some(done) = tasks.join_next().await {
        commits += done??;
    }
    Ok(Done { commits, seconds: started.elapsed().as_secs_f64() })
}

async fn transaction(pool: &PgPool, variant: Variant, account: i64) -> Result<()> {
    let mut tx = pool.begin().await?;
    let version = workload::update(&mut tx, account).await?;
    let key = account.to_string();
    let payload = workload::payload(&key, version);
    match variant {
        Variant::Publish => {
            sqlx::query(Contender::Banyan.insert()).bind(&key).bind(&payload).execute(&mut *tx).await?;
        }
        Variant::ThreeStatements => three_statements(&mut tx, &key, &payload).await?,
        Variant::BareInsert => {
            sqlx::query("insert into bench.bare (key, kind, payload) values ($1, 'bench.booked.v1', $2)")
                .bind(&key)
                .bind(&payload)
                .execute(&mut *tx)
                .await?;
        }
    }
    Ok(tx.commit().await?)
}

/// What `outbox.publish` does, sent one by one, each prepared.
async fn three_statements(tx: &mut PgTransaction<'_>, key: &str, payload: &[u8]) -> Result<()> {
    let (version, position, previous, id) = match next_of(tx, key).await? {
        Some(next) => next,
        None => first_of(tx, key).await?,
    };
    let (bucket, at): (i16, time::OffsetDateTime) = sqlx::query_as(
        "insert into outbox.event
             (position, created_at, id, bucket, topic, key, version, kind, origin, payload, headers, previous)
         values ($1, clock_timestamp(), $2, outbox.bucket($3), 'bench.v1', $3, $4, 'bench.booked.v1',
                 'bench.accounts', $5, '{}', $6)
         returning bucket, created_at",
    )
    .bind(position)
    .bind(id)
    .bind(key)
    .bind(version)
    .bind(payload)
    .bind(previous)
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query(
        "insert into outbox.pending (bucket, position, created_at, previous) values ($1, $2, $3, $4)",
    )
    .bind(bucket)
    .bind(position)
    .bind(at)
    .bind(previous)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Version and position of the next event, the position of the one before, and an id.
type Next = (i64, i64, Option<i64>, uuid::Uuid);

async fn next_of(tx: &mut PgTransaction<'_>, key: &str) -> sqlx::Result<Option<Next>> {
    sqlx::query_as(
        "update outbox.head h
         set version = h.version + 1, last_id = outbox.uuid_v7(clock_timestamp()), previous = h.position,
             position = nextval('outbox.position')
         where h.topic = 'bench.v1' and h.key = $1
         returning version, position, previous, last_id",
    )
    .bind(key)
    .fetch_optional(&mut **tx)
    .await
}

async fn first_of(tx: &mut PgTransaction<'_>, key: &str) -> sqlx::Result<Next> {
    sqlx::query_as(
        "insert into outbox.head as h (topic, key, version, last_id, position)
         values ('bench.v1', $1, 1, outbox.uuid_v7(clock_timestamp()), nextval('outbox.position'))
         on conflict on constraint head_pkey do update
         set version = h.version + 1, last_id = excluded.last_id, previous = h.position,
             position = nextval('outbox.position')
         returning version, position, previous, last_id",
    )
    .bind(key)
    .fetch_one(&mut **tx)
    .await
}
