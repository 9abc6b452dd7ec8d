//! One process of ours: started, watched, killed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use chassis::listening::Listening;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::config::Config;
use crate::guard::Guard;
use crate::until;

/// How long a process may take to say where it listens.
const LISTENING_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a process may take to drain and end after SIGTERM; longer than its own bound.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(45);
/// How many lines of a log an error shows.
const TAIL_LINES: usize = 15;

/// How to start a process.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name among the processes of a world, and its log file's.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment, but for `PATH` and `RUST_LOG`: a developer's own settings must not leak in.
    pub env: Vec<(String, String)>,
}

/// A running process in a process group of its own. Dropped, it is killed with the group.
pub struct Process {
    spec: Spec,
    child: Child,
    pid: u32,
    log: PathBuf,
    listening: Listening,
    guard: Arc<Guard>,
}

impl Process {
    /// Starts it and waits for its `listening` line. Both outputs go to `folder/NAME.log`, behind what is there already.
    ///
    /// # Errors
    /// When it ends before, or does not say the line in time; the error names the log and shows its end.
    pub(crate) async fn start(guard: &Arc<Guard>, folder: &Path, spec: Spec) -> Result<Self> {
        let log = folder.join(format!("{}.log", spec.name));
        let (out, before) = open_log(&log)?;
        let mut command = Self::command(&spec);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("start {}", spec.program.display()))?;
        let pid = child.id().context("a process that has just been started has an id")?;
        guard.started(pid)?;
        let mut process =
            Self { spec, child, pid, log, listening: Listening::default(), guard: Arc::clone(guard) };
        process.listening = process.await_listening(before).await?;
        Ok(process)
    }

    /// Runs a program to its end and returns its exit status and both outputs, for subcommands and failing starts.
    ///
    /// # Errors
    /// When it can't be started or does not end within `bound`.
    pub async fn run(spec: &Spec, bound: Duration) -> Result<(ExitStatus, String)> {
        let mut command = Self::command(spec);
        let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(bound, running)
            .await
            .map_err(|_| anyhow!("{} {:?} did not end within {} s", spec.name, spec.args, bound.as_secs()))?
            .with_context(|| format!("start {}", spec.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Ok((output.status, text.into_owned()))
    }

    fn command(spec: &Spec) -> Command {
        let config = Config::from_env();
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).env_clear().env("PATH", config.path).env("RUST_LOG", config.log);
        command.envs(spec.env.iter().map(|(name, value)| (name, value))).process_group(0);
        command
    }

    async fn await_listening(&mut self, before: u64) -> Result<Listening> {
        let name = self.spec.name.clone();
        let what = format!("{name} to listen");
        let found = until(&what, LISTENING_TIMEOUT, async || {
            let ended = self.child.try_wait()?;
            if let Some(line) = line_after(&self.log, before)? {
                return Ok(Some(Ok(line)));
            }
            Ok(ended.map(Err))
        })
        .await;
        match found {
            Ok(Ok(listening)) => Ok(listening),
            Ok(Err(status)) => bail!("{name} ended ({status}) before it listened; {}", self.tail()),
            Err(error) => Err(error.context(self.tail())),
        }
    }

    /// Its process id, which is its group's too.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it listens, as it said.
    pub fn listening(&self) -> &Listening {
        &self.listening
    }

    /// How it is started.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The name of its log and the last lines in it.
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
        format!("{} (log {}), last lines:\n  {last}", self.spec.name, self.log.display())
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal to it and its group, and waits for nothing.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        killpg(group(self.pid)?, signal).with_context(|| format!("{signal} to {}", self.spec.name))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it ended in another way before.
    pub async fn kill(mut self) -> Result<Spec> {
        killpg(group(self.pid)?, Signal::SIGKILL).with_context(|| format!("kill -9 {}", self.spec.name))?;
        let status = self.child.wait().await?;
        self.guard.ended(self.pid)?;
        if status.signal() != Some(Signal::SIGKILL as i32) {
            bail!("{} was already gone ({status}); {}", self.spec.name, self.tail());
        }
        Ok(self.spec.clone())
    }

    /// SIGTERM, and waits until it has drained and ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn terminate(mut self) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            killpg(group(self.pid)?, Signal::SIGTERM).with_context(|| format!("stop {}", self.spec.name))?;
        }
        let status = self.wait(DRAIN_TIMEOUT).await?;
        self.guard.ended(self.pid)?;
        Ok(status)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not within `bound`.
    pub async fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        match tokio::time::timeout(bound, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("it did not end within {} s: {}", bound.as_secs(), self.tail()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let (Ok(None), Ok(group)) = (self.child.try_wait(), group(self.pid)) {
            // It is being thrown away: nobody wants to hear that it was gone.
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.child.try_wait();
        }
    }
}

fn group(pid: u32) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

/// Opens for appending and tells how long the file was.
fn open_log(path: &Path) -> Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    let before = file.metadata()?.len();
    Ok((file, before))
}

/// The first whole `listening` line behind an offset.
fn line_after(path: &Path, before: u64) -> Result<Option<Listening>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(before))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(whole.lines().find_map(|line| line.parse().ok()))
}
