//! A world: servers, databases and topics of its own, and processes that can be killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chassis::listening::Listening;
use nix::sys::signal::Signal;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use stack::{Database, Stack};
use tokio::sync::Mutex;

use crate::guard::Guard;
use crate::kafka::Kafka;
use crate::{Process, Spec, store, until};

/// How long the outboxes may take to deliver what is left, once the story is told.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections of the superuser's pool to each database.
const CONNECTIONS_MAX: u32 = 6;

/// What one story, or the demo, has to itself. [`World::end`] takes it down in order; dropped instead (a panic, Ctrl-C) it
/// kills its processes and drops its databases.
pub struct World {
    // Processes first: fields are dropped in this order, and databases with sessions are slower to drop.
    processes: Mutex<BTreeMap<String, Process>>,
    databases: Mutex<Vec<(Database, PgPool)>>,
    kafka: Kafka,
    server: String,
    guard: Arc<Guard>,
    logs: PathBuf,
}

impl World {
    /// A world on a stack. Logs of its processes go to `logs`, a folder that exists.
    ///
    /// # Errors
    /// When the guard can't be started.
    pub fn new(stack: &Stack, name: &str, logs: &Path) -> Result<Self> {
        // Refused only when an earlier world has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let prefix = stack.topic_prefix(&topic_word(name));
        Ok(Self {
            processes: Mutex::default(),
            databases: Mutex::default(),
            kafka: Kafka::new(stack.kafka(), prefix),
            server: stack.postgres_url().to_owned(),
            guard: Arc::new(Guard::start()?),
            logs: logs.to_owned(),
        })
    }

    /// Kafka with this world's topics.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Where its processes log.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// An empty database, with a superuser's pool. It is dropped with the world.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn database(&self, stack: &Stack, name: &str) -> Result<(String, PgPool)> {
        ensure!(stack.postgres_url() == self.server, "a world's databases are on the stack it was made with");
        let database = stack.database(name).await?;
        let url = database.url().to_owned();
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect(&url).await?;
        self.databases.lock().await.push((database, pool.clone()));
        Ok((url, pool))
    }

    /// Starts a process and waits until it listens.
    ///
    /// # Errors
    /// When one of that name runs, or it does not come up.
    pub async fn start(&self, spec: Spec) -> Result<Listening> {
        let mut processes = self.processes.lock().await;
        ensure!(!processes.contains_key(&spec.name), "a process {} runs already", spec.name);
        let process = Process::start(&self.guard, &self.logs, spec).await?;
        let listening = process.listening().clone();
        processes.insert(process.spec().name.clone(), process);
        Ok(listening)
    }

    /// `kill -9`; returns how to start it again.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&self, name: &str) -> Result<Spec> {
        self.take(name).await?.kill().await
    }

    /// Stops a process by SIGTERM; it must drain and end by itself.
    ///
    /// # Errors
    /// When it does not run, or ends otherwise than with success.
    pub async fn stop(&self, name: &str) -> Result<Spec> {
        let process = self.take(name).await?;
        let (spec, tail) = (process.spec().clone(), process.tail());
        let status = process.terminate().await?;
        ensure!(status.success(), "{name} should end with success after SIGTERM, but: {status}; {tail}");
        Ok(spec)
    }

    /// Stops a process where it is, by SIGSTOP: its connections stay open and nobody is told.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn pause(&self, name: &str) -> Result<()> {
        self.signal(name, Signal::SIGSTOP).await
    }

    /// Lets a process go on that was paused.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn resume(&self, name: &str) -> Result<()> {
        self.signal(name, Signal::SIGCONT).await
    }

    async fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let processes = self.processes.lock().await;
        processes.get(name).with_context(|| format!("no process {name} runs"))?.signal(signal)
    }

    /// Waits until a process ends by itself.
    ///
    /// # Errors
    /// When it does not within `bound`.
    pub async fn ended(&self, name: &str, bound: Duration) -> Result<ExitStatus> {
        self.take(name).await?.wait(bound).await
    }

    async fn take(&self, name: &str) -> Result<Process> {
        self.processes.lock().await.remove(name).with_context(|| format!("no process {name} runs"))
    }

    /// The ids of all running processes, for accounting.
    pub async fn pids(&self) -> Vec<u32> {
        self.processes.lock().await.values().map(Process::pid).collect()
    }

    /// The id of a process that runs.
    ///
    /// # Errors
    /// When none of that name does.
    pub async fn pid(&self, name: &str) -> Result<u32> {
        let processes = self.processes.lock().await;
        processes.get(name).map(Process::pid).with_context(|| format!("no process {name} runs"))
    }

    /// The processes that run: name, where they listen, log file.
    pub async fn processes(&self) -> Vec<(String, Listening, PathBuf)> {
        let processes = self.processes.lock().await;
        let line = |process: &Process| {
            (process.spec().name.clone(), process.listening().clone(), process.log().to_owned())
        };
        processes.values().map(line).collect()
    }

    /// Fails when a process has ended by itself; the error shows its log's end.
    ///
    /// # Errors
    /// The first process that has ended.
    pub async fn all_alive(&self) -> Result<()> {
        for process in self.processes.lock().await.values_mut() {
            if let Some(status) = process.ended()? {
                bail!("a process ended by itself ({status}): {}", process.tail());
            }
        }
        Ok(())
    }

    /// The last lines of every process's log, for a failure.
    pub async fn tails(&self) -> String {
        let processes = self.processes.lock().await;
        processes.values().map(Process::tail).collect::<Vec<_>>().join("\n")
    }

    /// Waits until every outbox has delivered everything.
    ///
    /// # Errors
    /// When that takes longer than `bound`.
    pub async fn delivered(&self, bound: Duration) -> Result<()> {
        let pools = self.outboxes().await?;
        until("the outboxes to be empty", bound, async || {
            self.all_alive().await?;
            let mut left = 0;
            for pool in &pools {
                left += store::pending(pool).await?;
            }
            if left > 0 {
                bail!("{left} events are pending")
            }
            Ok(Some(()))
        })
        .await
    }

    /// Ends the world in order: outboxes drain, processes stop with success, nothing is parked, unreadable or in conflict,
    /// databases and topics go.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub async fn end(self) -> Result<()> {
        self.delivered(DRAIN_TIMEOUT).await?;
        let names: Vec<String> = self.processes.lock().await.keys().cloned().collect();
        for name in names {
            self.stop(&name).await?;
        }
        self.at_rest().await?;
        self.close().await
    }

    /// What must hold with all processes stopped.
    async fn at_rest(&self) -> Result<()> {
        for pool in self.outboxes().await? {
            let pending = store::pending(&pool).await?;
            ensure!(pending == 0, "{pending} events are pending after the processes stopped");
            let mut left = store::parked(&pool).await?;
            left.extend(store::conflicts(&pool).await?);
            left.extend(store::unreadable(&pool).await?);
            ensure!(left.is_empty(), "an inbox is not empty:\n  {}", left.join("\n  "));
        }
        Ok(())
    }

    /// Drops databases and topics; kills what still runs.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn close(self) -> Result<()> {
        self.processes.lock().await.clear();
        for (database, pool) in self.databases.lock().await.drain(..) {
            pool.close().await;
            database.drop_now().await?;
        }
        self.kafka.delete_all().await
    }

    async fn outboxes(&self) -> Result<Vec<PgPool>> {
        let mut pools = Vec::new();
        for (_, pool) in self.databases.lock().await.iter() {
            if store::has_outbox(pool).await? {
                pools.push(pool.clone());
            }
        }
        Ok(pools)
    }
}

/// A name that may start a topic's.
fn topic_word(name: &str) -> String {
    let word = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    word.take(60).collect()
}
