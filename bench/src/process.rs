//! A relay in a process of its own: started, measured, stopped, killed.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::ground::Ground;

/// How long a relay may take until it says `ready`; a JVM on a busy machine takes its time.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// How long it may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Lines of its log that an error shows.
const TAIL_LINES: usize = 20;

/// A running relay. Dropped, it is killed; so it is when the benchmark dies.
pub(crate) struct Process {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts a program and waits for its line `ready`.
    pub(crate) async fn start(
        ground: &Ground,
        name: &str,
        program: &Path,
        arguments: Vec<OsString>,
    ) -> Result<Self> {
        let log = ground.folder.path().join(format!("{name}.log"));
        let errors = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::from(ground.stack.command(program.as_os_str(), &arguments)?);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let pid = child.id().context("a process that has just been started has an id")?;
        ground.stack.adopt(pid, false)?;
        let lines = child.stdout.take().context("its output is a pipe")?;
        let process = Self { child, pid, log };
        let mut lines = BufReader::new(lines).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line == "ready" {
                    return Ok(());
                }
            }
            bail!("it ended before it was ready")
        };
        let ready = tokio::time::timeout(READY_TIMEOUT, ready).await;
        let ready = ready.unwrap_or_else(|_| Err(anyhow!("not ready within {} s", READY_TIMEOUT.as_secs())));
        ready.with_context(|| format!("{name}; {}", process.tail()))?;
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails with its last words when it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("a relay ended ({status}); {}", self.tail()),
        }
    }

    /// Holds it where it is, until [`Process::resume`].
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on; one that was not held does not notice.
    pub(crate) fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.check()?;
        self.signal(Signal::SIGTERM)?;
        tokio::time::timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .with_context(|| format!("it did not stop; {}", self.tail()))??;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), signal).context("signal a relay")
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("its last words:\n{}", lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
    }
}
