//! The stack itself: the chain of sources, and what a user may ask of it.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::guard::Guard;
use crate::{Choice, Database, Error, database, docker, external, native, url};

/// Bringing one source up, a first download included, takes no longer than this.
const START_TIMEOUT: Duration = Duration::from_secs(420);

/// A running PostgreSQL and Kafka.
///
/// It owns what it started: [`Stack::close`], dropping it, or the end of the process in any way takes the servers
/// down and removes their folder. A guard process sees to that: it holds the other end of a pipe.
pub struct Stack {
    source: &'static str,
    postgres_url: String,
    kafka: String,
    detail: String,
    containers: Vec<u32>,
    guard: Option<Guard>,
}

/// What a source hands back once both servers answer.
pub(crate) struct Servers {
    pub(crate) postgres_url: String,
    pub(crate) kafka: String,
    /// Versions or images, for the line that says what was taken.
    pub(crate) detail: String,
    /// Main processes of containers, as this machine numbers them.
    pub(crate) containers: Vec<u32>,
    pub(crate) guard: Option<Guard>,
}

impl Stack {
    /// Brings a source up and waits until PostgreSQL and Kafka answer.
    ///
    /// [`Choice::Auto`] takes the first that works: external, Docker, native. Fails with one error that names each
    /// source, why it does not work and the command that helps.
    pub async fn start(choice: Choice) -> Result<Self, Error> {
        Self::start_with(choice, &Config::from_env()?).await
    }

    pub(crate) async fn start_with(choice: Choice, config: &Config) -> Result<Self, Error> {
        if choice != Choice::Auto {
            return Self::from_source(choice, config)
                .await
                .map_err(|error| Error::Unusable { choice, reason: error.to_string() });
        }
        let mut reasons = String::new();
        for choice in [Choice::External, Choice::Docker, Choice::Native] {
            match Self::from_source(choice, config).await {
                Ok(stack) => return Ok(stack),
                Err(error) => {
                    tracing::debug!(%choice, %error, "this source does not work");
                    reasons.push_str(&format!("\n  {choice}: {error}\n    to get it: {}", choice.remedy()));
                }
            }
        }
        Err(Error::Nothing(reasons))
    }

    async fn from_source(choice: Choice, config: &Config) -> Result<Self, Error> {
        let started = Instant::now();
        let starting = async {
            match choice {
                Choice::External | Choice::Auto => {
                    let (postgres_url, kafka) = external::find(config).await?;
                    let detail = "addresses from the environment".to_owned();
                    Ok(Servers { postgres_url, kafka, detail, containers: Vec::new(), guard: None })
                }
                Choice::Docker => Box::pin(docker::start(config)).await,
                Choice::Native => Box::pin(native::start(config)).await,
            }
        };
        let servers = tokio::time::timeout(START_TIMEOUT, starting).await.map_err(|_| Error::Timeout {
            what: format!("bringing up `{choice}`"),
            bound: START_TIMEOUT,
            last: String::new(),
        })??;
        let source = match choice {
            Choice::External => config.behind.unwrap_or_else(|| choice.name()),
            Choice::Auto | Choice::Docker | Choice::Native => choice.name(),
        };
        let Servers { postgres_url, kafka, detail, containers, guard } = servers;
        let stack = Self { source, postgres_url, kafka, detail, containers, guard };
        tracing::info!(elapsed_ms = started.elapsed().as_millis(), "{}", stack.describe());
        Ok(stack)
    }

    /// Takes down what was started and waits until it is gone.
    pub async fn close(mut self) -> Result<(), Error> {
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        match tokio::task::spawn_blocking(move || guard.close()).await {
            Ok(result) => result,
            Err(error) => Err(Error::Left(error.to_string())),
        }
    }

    /// A superuser's address of the database `postgres`, or of the one that `DATABASE_URL` names.
    pub fn postgres_url(&self) -> &str {
        &self.postgres_url
    }

    /// Kafka's bootstrap servers.
    pub fn kafka(&self) -> &str {
        &self.kafka
    }

    /// `external`, `docker` or `native`. Under `stack run` the source that it took, though this process sees two
    /// addresses only.
    pub fn source(&self) -> &str {
        self.source
    }

    /// One readable line: the source, what it is, both addresses.
    pub fn describe(&self) -> String {
        format!(
            "stack: {} ({}); PostgreSQL at {}, Kafka at {}",
            self.source,
            self.detail,
            url::masked(&self.postgres_url),
            self.kafka
        )
    }

    /// The servers' main processes as this machine numbers them, for accounting; empty for an external source.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = self.containers.clone();
        pids.extend(self.guard.as_ref().map(Guard::pids).unwrap_or_default());
        pids
    }

    /// Creates an empty database `banyan_<name>_<8 random hex digits>`.
    pub async fn database(&self, name: &str) -> Result<Database, Error> {
        Database::create(&self.postgres_url, name).await
    }

    /// `<name>-<8 random hex digits>.`, another one at each call.
    pub fn topic_prefix(&self, name: &str) -> String {
        format!("{name}-{}.", database::suffix())
    }

    /// A command to be spawned and then handed to [`Stack::adopt`], which lets it begin: so that whatever it starts
    /// ends with this stack, even when its owner is killed in between.
    pub fn command(&self, program: &OsStr, arguments: &[OsString]) -> Result<Command, Error> {
        let mut command = match &self.guard {
            Some(guard) => guard.held_back(program)?,
            None => Command::new(program),
        };
        command.args(arguments);
        Ok(command)
    }

    /// Has a process that [`Stack::command`] made, or with `group` its whole process group, ended when this stack goes
    /// down, however that happens, and lets it begin. The caller waits for it.
    pub fn adopt(&self, pid: u32, group: bool) -> Result<(), Error> {
        match &self.guard {
            None => Ok(()),
            Some(guard) => {
                if group {
                    guard.watch_group(pid)?;
                } else {
                    guard.watch_process(pid)?;
                }
                guard.let_begin()
            }
        }
    }
}
