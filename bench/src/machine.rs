//! The circumstances: machine, build, servers; and the wait for an idle machine.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use anyhow::{Context, Result};
use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
};
use sqlx::PgPool;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{Instant, sleep};

use crate::{
    cpu, ground,
    ground::Ground,
    report::{Circumstances, Starts},
};

/// A machine with less than this share of its cores busy is idle.
const IDLE: f64 = 0.10;

/// How long each look at the cores takes.
const LOOK: Duration = Duration::from_millis(500);

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

type Facts = BTreeMap<String, String>;

/// Machine, servers, build and command of a run that begins now.
pub(crate) async fn circumstances(ground: &Ground, options: Facts) -> Result<Circumstances> {
    let database = ground.stack.database("facts").await?;
    let pool = PgPool::connect(database.url()).await?;
    let postgres = postgres(&pool).await?;
    pool.close().await;
    database.drop_now().await?;
    // Without paths of this machine.
    let word = |word: String| if word.contains('/') { "FILE".to_owned() } else { word };
    let command: Vec<String> = std::env::args().skip(1).map(word).collect();
    let mut circumstances = Circumstances {
        started: OffsetDateTime::now_utc().format(&Rfc3339)?,
        command: format!("cargo xtask bench {}", command.join(" ")),
        machine: machine()?,
        build: build(),
        postgres,
        kafka: kafka(ground).await?,
        options,
        ..Circumstances::default()
    };
    circumstances.machine.insert("stack".into(), ground.stack.source().to_owned());
    Ok(circumstances)
}

/// Waits until two looks in a row find the machine idle, at most `timeout`, and notes how it went.
pub(crate) async fn settle(starts: &mut Starts, timeout: Duration) -> Result<()> {
    let began = Instant::now();
    let mut quiet = 0;
    loop {
        let before = cpu::cores()?;
        sleep(LOOK).await;
        let after = cpu::cores()?;
        let (busy, idle) = (after.0 - before.0, after.1 - before.1);
        let share = busy / (busy + idle).max(f64::MIN_POSITIVE);
        quiet = if share < IDLE { quiet + 1 } else { 0 };
        let over = began.elapsed() > timeout;
        if quiet >= 2 || over {
            starts.count += 1;
            starts.not_idle += u32::from(quiet < 2);
            starts.busy_max = starts.busy_max.max(share * 100.0);
            starts.waited += began.elapsed().as_secs_f64();
            return Ok(());
        }
    }
}

/// Cores, memory, processor, kernel.
fn machine() -> Result<Facts> {
    let mut facts = Facts::new();
    let cores = std::thread::available_parallelism()?;
    facts.insert("cores".into(), cores.to_string());
    let find = |path: &str, name: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    if let Some(memory) = find("/proc/meminfo", "MemTotal") {
        facts.insert("memory".into(), memory);
    }
    if let Some(model) = find("/proc/cpuinfo", "model name") {
        facts.insert("processor".into(), model);
    }
    if let Ok(kernel) = fs::read_to_string("/proc/sys/kernel/osrelease") {
        let version = kernel.split(['-', '\n']).next().unwrap_or_default();
        facts.insert("kernel".into(), version.to_owned());
    }
    Ok(facts)
}

/// Profile and compiler.
fn build() -> Facts {
    let profile =
        if cfg!(debug_assertions) { "debug: these are not figures" } else { "release (opt-level 3, no LTO)" };
    let mut facts = Facts::from([("profile".to_owned(), profile.to_owned())]);
    if let Ok(output) = Command::new("rustc").arg("--version").output() {
        facts.insert("rustc".into(), String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    facts
}

/// PostgreSQL's version and the settings that matter here.
async fn postgres(pool: &PgPool) -> Result<Facts> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select name, current_setting(name) from pg_settings where name in
             ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'wal_sync_method',
              'shared_buffers', 'max_wal_size', 'checkpoint_timeout', 'autovacuum', 'jit', 'max_connections',
              'wal_compression', 'wal_sender_timeout', 'work_mem', 'effective_io_concurrency', 'plan_cache_mode',
              'shared_preload_libraries', 'pg_stat_statements.track', 'wal_keep_size')
         order by name",
    )
    .fetch_all(pool)
    .await
    .context("PostgreSQL's settings")?;
    Ok(rows.into_iter().collect())
}

/// Kafka's settings, and where this machine may look, its version and its JVM's flags.
async fn kafka(ground: &Ground) -> Result<Facts> {
    let admin: AdminClient<DefaultClientContext> = ground::client(ground.stack.kafka()).create()?;
    let asked = tokio::task::spawn_blocking(move || {
        let found = admin.inner().fetch_metadata(None, REQUEST_TIMEOUT)?;
        let broker = found.brokers().first().map(rdkafka::metadata::MetadataBroker::id);
        anyhow::Ok((admin, broker.context("a cluster without a broker")?))
    });
    let (admin, broker) = asked.await??;
    let mut facts = Facts::from([("brokers".to_owned(), "1".to_owned())]);
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let names = ["num.network.threads", "num.io.threads", "log.flush.interval.messages", "message.max.bytes"];
    for resource in admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options).await? {
        let resource = resource.map_err(|code| anyhow::anyhow!("Kafka's settings: {code}"))?;
        for name in names {
            if let Some(value) = resource.get(name).and_then(|entry| entry.value.clone()) {
                facts.insert(name.to_owned(), value);
            }
        }
    }
    for pid in ground.stack.pids() {
        facts.extend(jvm(pid));
    }
    Ok(facts)
}

/// Flags of a JVM, and the version of Kafka from the jars that it has open.
fn jvm(pid: u32) -> Facts {
    let mut facts = Facts::new();
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let flags: Vec<&str> = line.split('\0').filter(|word| word.starts_with("-X")).collect();
    if flags.is_empty() {
        return facts;
    }
    facts.insert("JVM flags".into(), flags.join(" "));
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Ok(path) = fs::read_link(entry.path()) else { continue };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = name.strip_prefix("kafka_2.13-").and_then(|rest| rest.strip_suffix(".jar"));
        if let Some(version) = version {
            facts.insert("version".into(), version.to_owned());
        }
    }
    facts
}
