//! Who is measured: ours and the peers, each in the way its own documentation shows.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use sqlx::PgPool;

use crate::ground::{Ground, Scene, TOPIC};

/// One way to carry events from PostgreSQL to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// This repository's.
    Banyan,
    /// `outbox-core` 0.6 with `outbox-postgres` 0.3 and `outbox-kafka` 0.2.
    OutboxCore,
    /// The Debezium 3.6 embedded engine with its outbox event router.
    Debezium,
}

/// As migration `20260213152819_init` of outbox-postgres 0.3.0 makes it.
const OUTBOX_CORE_SCHEMA: &str = include_str!("../../peers/outbox-core/schema.sql");

/// The columns that the event router's documentation names; rows stay, as ours do.
const DEBEZIUM_SCHEMA: &str = "create table public.outbox (id uuid primary key, aggregatetype text not null,
    aggregateid text not null, type text not null, payload text not null)";

impl Contender {
    pub(crate) const ALL: [Self; 3] = [Self::Banyan, Self::OutboxCore, Self::Debezium];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Banyan => "banyan",
            Self::OutboxCore => "outbox-core",
            Self::Debezium => "debezium",
        }
    }

    /// Its settings, in words.
    pub(crate) fn settings(self) -> &'static str {
        match self {
            Self::Banyan => {
                "default options: adaptive poll of 1 to 50 ms (the relay is a process of its own, so nobody wakes it), \
                 linger 0, acks=all, idempotent producer, one record per key in flight; its deletions don't wait for the \
                 disk, since a lost one is repeated"
            }
            Self::OutboxCore => {
                "outbox-core 0.6.0, outbox-postgres 0.3.0, outbox-kafka 0.2.1: batches of 500, linger 0 (it awaits each \
                 record before the next, so a linger would only slow it), acks=all, idempotent producer, locks of 1 min \
                 (the shortest), woken by its NOTIFY trigger, else a poll each second (the shortest)"
            }
            Self::Debezium => {
                "Debezium 3.6.0.Final embedded engine, pgoutput, outbox event router: batches of up to 2,048 and a queue \
                 of 8,192 (defaults), poll 5 ms, linger 1 ms, acks=all, idempotent producer, records of a batch in flight \
                 together and awaited before the batch is marked, offsets flushed each second, heap at most 512 MB"
            }
        }
    }

    /// Publishes one event: `$1` is the key as text, `$2` the payload as bytes.
    pub(crate) fn insert(self) -> &'static str {
        match self {
            Self::Banyan => "select outbox.publish('bench.v1', $1, 'bench.booked.v1', $2)",
            // It has no column for the key: that is in the payload. The condition only makes the statement take it.
            Self::OutboxCore => {
                "insert into outbox_events (id, idempotency_token, event_type, payload, status, created_at, locked_until)
                 select gen_random_uuid(), null, 'bench.booked.v1', convert_from($2, 'UTF8')::jsonb, 'Pending'::status,
                        now(), to_timestamp(0)
                 where $1::text is not null"
            }
            Self::Debezium => {
                "insert into public.outbox (id, aggregatetype, aggregateid, type, payload)
                 values (gen_random_uuid(), 'account', $1, 'bench.booked.v1', convert_from($2, 'UTF8'))"
            }
        }
    }

    /// Makes its schema in an empty database.
    pub(crate) async fn prepare(self, pool: &PgPool) -> Result<()> {
        match self {
            Self::Banyan => {
                outbox::migrate(pool).await?;
                let role: String = sqlx::query_scalar("select session_user::text").fetch_one(pool).await?;
                outbox::grant_module(pool, &role, "bench.accounts", &[TOPIC]).await?;
            }
            Self::OutboxCore => {
                sqlx::raw_sql(OUTBOX_CORE_SCHEMA).execute(pool).await?;
            }
            Self::Debezium => {
                let level: String = sqlx::query_scalar("show wal_level").fetch_one(pool).await?;
                ensure!(
                    level == "logical",
                    "Debezium needs wal_level=logical and it is {level}: run `cargo xtask bench outbox --peers`, or set \
                     BANYAN_POSTGRES_SETTINGS=wal_level=logical"
                );
                sqlx::raw_sql(DEBEZIUM_SCHEMA).execute(pool).await?;
            }
        }
        Ok(())
    }

    /// Its relay's program and arguments.
    pub(crate) fn command(self, ground: &Ground, scene: &Scene) -> Result<(PathBuf, Vec<OsString>)> {
        let mut arguments: Vec<OsString> = Vec::new();
        let program = match self {
            Self::Banyan => ground.lone_relay(),
            Self::OutboxCore => ground.peers().join("release/peer-outbox-core"),
            Self::Debezium => {
                let (jar, libraries) = ("debezium/peer-debezium-1.jar", "debezium/lib");
                ensure!(
                    ground.peers().join(jar).is_file(),
                    "Debezium is not built: run with --peers by cargo xtask"
                );
                let mut path = ground.peers().join(jar).into_os_string();
                path.push(":");
                path.push(ground.peers().join(libraries).join("*"));
                let flags =
                    ["-Xmx512m", "-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"];
                arguments.extend(flags.map(OsString::from));
                arguments.extend([path, "peers.Peer".into(), "--slot".into(), scene.database().into()]);
                let folder = ground.folder.path().join(scene.database());
                std::fs::create_dir_all(&folder)?;
                arguments.extend(["--folder".into(), folder.into_os_string()]);
                "java".into()
            }
        };
        let common = [
            ("--database-url", scene.url()),
            ("--bootstrap-servers", ground.stack.kafka()),
            ("--topic-prefix", scene.prefix.as_str()),
        ];
        arguments.extend(common.into_iter().flat_map(|(name, value)| [name.into(), value.into()]));
        Ok((program, arguments))
    }

    /// Whether something is undelivered; `None` when its database does not know.
    pub(crate) async fn undelivered(self, pool: &PgPool) -> Result<Option<bool>> {
        let look = match self {
            Self::Banyan => "select exists (select from outbox.pending)",
            Self::OutboxCore => {
                "select exists (select from outbox_events where status in ('Pending', 'Processing'))"
            }
            Self::Debezium => return Ok(None),
        };
        Ok(Some(sqlx::query_scalar(look).fetch_one(pool).await?))
    }

    /// Removes what would outlive its database.
    pub(crate) async fn clean(self, scene: &Scene) -> Result<()> {
        match self {
            Self::Banyan | Self::OutboxCore => {}
            Self::Debezium => {
                sqlx::query(
                    "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                     where slot_name = current_database() and not active",
                )
                .execute(&scene.pool)
                .await?;
            }
        }
        Ok(())
    }
}
