//! What `outbox.publish` costs a commit.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use sqlx::{PgPool, postgres::PgPoolOptions};
use stack::{Choice, Stack};

use crate::rounds::Figure;

/// Rows of the business table; each transaction updates one of them.
const ACCOUNTS: i64 = 10_000;

/// Bytes of a payload.
const PAYLOAD: usize = 256;

#[derive(Args)]
pub(crate) struct Options {
    /// Rounds of each variant, alternating.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds a variant runs in a round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Concurrent clients.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// Where PostgreSQL and Kafka come from.
    #[arg(long, value_enum, default_value = "auto")]
    stack: Choice,
    /// Also writes the figures here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What a transaction does after its business update.
#[derive(Clone, Copy)]
enum Variant {
    Publish,
    ThreeStatements,
    BareInsert,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let stack = Stack::start(options.stack).await?;
    eprintln!("{}", stack.describe());
    let database = stack.database("bench").await?;
    let pool = PgPoolOptions::new().max_connections(options.clients).connect(database.url()).await?;
    prepare(&pool).await.context("the benchmark's tables")?;
    let variants = [
        (Variant::Publish, Figure::new("update + outbox.publish, commits/s")),
        (Variant::ThreeStatements, Figure::new("update + three prepared statements, commits/s")),
        (Variant::BareInsert, Figure::new("update + one bare insert, commits/s")),
    ];
    let (kinds, mut figures): (Vec<Variant>, Vec<Figure>) = variants.into_iter().unzip();
    for round in 1..=options.rounds {
        for (kind, figure) in kinds.iter().zip(&mut figures) {
            sqlx::query("truncate outbox.pending, outbox.event, bench.bare").execute(&pool).await?;
            sqlx::query("checkpoint").execute(&pool).await?;
            figure.values.push(measure(&pool, *kind, &options).await?);
        }
        eprintln!("round {round} of {}", options.rounds);
    }
    let [publish, three, bare] = figures.as_slice() else { unreachable!("three variants") };
    let all =
        [publish.over(three, "publish / three statements"), publish.over(bare, "publish / bare insert")];
    figures.iter().chain(&all).for_each(|figure| println!("{}", figure.line()));
    if let Some(path) = &options.json {
        let rows = figures.iter().chain(&all);
        let rows: Vec<_> = rows
            .map(|f| serde_json::json!({"figure": f.name, "median": f.median(), "spread": f.spread(), "rounds": f.values}))
            .collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)
            .with_context(|| path.display().to_string())?;
    }
    pool.close().await;
    database.drop_now().await?;
    Ok(stack.close().await?)
}

async fn prepare(pool: &PgPool) -> Result<()> {
    outbox::migrate(pool).await?;
    let role: String = sqlx::query_scalar("select session_user::text").fetch_one(pool).await?;
    outbox::grant_module(pool, &role, "bench.accounts", &[outbox::Topic::new("bench.v1")]).await?;
    let tables = "create schema bench;
        create table bench.account (id bigint primary key, balance bigint not null) with (fillfactor = 70);
        create table bench.bare (id uuid primary key default gen_random_uuid(), key text, kind text, payload bytea);";
    sqlx::raw_sql(tables).execute(pool).await?;
    sqlx::query("insert into bench.account select n, 0 from generate_series(1, $1) n")
        .bind(ACCOUNTS)
        .execute(pool)
        .await?;
    Ok(())
}

/// Commits per second of all clients together.
async fn measure(pool: &PgPool, variant: Variant, options: &Options) -> Result<f64> {
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let started = Instant::now();
    let clients: Vec<_> = (0..options.clients)
        .map(|client| {
            let pool = pool.clone();
            tokio::spawn(async move { client_loop(&pool, variant, i64::from(client), until).await })
        })
        .collect();
    let mut commits = 0u32;
    for client in clients {
        commits += client.await??;
    }
    Ok(f64::from(commits) / started.elapsed().as_secs_f64())
}

async fn client_loop(pool: &PgPool, variant: Variant, client: i64, until: Instant) -> Result<u32> {
    let (mut commits, mut at) = (0, client * 1_237);
    let payload = vec![7u8; PAYLOAD];
    while Instant::now() < until {
        // A stride that is prime to the number of accounts visits them evenly.
        at = (at + 7_919) % ACCOUNTS;
        transaction(pool, variant, at + 1, &payload).await?;
        commits += 1;
    }
    Ok(commits)
}

async fn transaction(pool: &PgPool, variant: Variant, account: i64, payload: &[u8]) -> Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query("update bench.account set balance = balance + 1 where id = $1")
        .bind(account)
        .execute(&mut *tx)
        .await?;
    let key = account.to_string();
    match variant {
        Variant::Publish => {
            sqlx::query("select outbox.publish('bench.v1', $1, 'bench.booked.v1', $2)")
                .bind(&key)
                .bind(payload)
                .execute(&mut *tx)
                .await?;
        }
        Variant::ThreeStatements => three_statements(&mut tx, &key, payload).await?,
        Variant::BareInsert => {
            sqlx::query("insert into bench.bare (key, kind, payload) values ($1, 'bench.booked.v1', $2)")
                .bind(&key)
                .bind(payload)
                .execute(&mut *tx)
                .await?;
        }
    }
    Ok(tx.commit().await?)
}

/// What `outbox.publish` does, sent one by one.
async fn three_statements(
    tx: &mut sqlx::postgres::PgTransaction<'_>,
    key: &str,
    payload: &[u8],
) -> Result<()> {
    let (version, position, previous, id): (i64, i64, Option<i64>, uuid::Uuid) = sqlx::query_as(
        "insert into outbox.head as h (topic, key, version, last_id, position)
         values ('bench.v1', $1, 1, outbox.uuid_v7(clock_timestamp()), nextval('outbox.position'))
         on conflict on constraint head_pkey do update
         set version = h.version + 1, last_id = excluded.last_id, previous = h.position,
             position = nextval('outbox.position')
         returning version, position, previous, last_id",
    )
    .bind(key)
    .fetch_one(&mut **tx)
    .await?;
    let (bucket, at): (i16, time::OffsetDateTime) = sqlx::query_as(
        "insert into outbox.event
             (position, created_at, id, bucket, topic, key, version, kind, origin, payload, headers)
         values ($1, clock_timestamp(), $2, outbox.bucket($3), 'bench.v1', $3, $4, 'bench.booked.v1',
                 'bench.accounts', $5, '{}')
         returning bucket, created_at",
    )
    .bind(position)
    .bind(id)
    .bind(key)
    .bind(version)
    .bind(payload)
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
