//! The guard: a shell that outlives us and takes down what we started.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Error;

/// What the shell does, and the lines it understands.
const SCRIPT: &str = include_str!("guard.sh");

/// A process may only begin once it is noted: what is killed between the two would leave it behind.
const HELD_BACK: &str = "until [ -e go ]; do sleep 0.01; done; cd \"$1\" && shift && exec \"$@\"";

/// Owns the run's folder, its processes and the names of its containers.
///
/// There is one way down, for an orderly close as for `kill -9`: the pipe closes and the shell cleans up. Its own
/// waits are bounded (5 s for processes, 20 s a container), and so is waiting for it.
pub(crate) struct Guard {
    folder: PathBuf,
    shell: Option<Child>,
    pipe: Mutex<Option<ChildStdin>>,
    children: Mutex<Vec<Child>>,
}

impl Guard {
    /// Makes a folder under the one for temporary files and starts the shell that watches over it.
    pub(crate) fn start() -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("banyan-stack-")
            .tempdir()
            .map_err(Error::io(format!("create a folder in {}", std::env::temp_dir().display())))?;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "banyan-stack-guard"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C at the terminal is for us, not for the guard.
            .process_group(0)
            .spawn()
            .map_err(Error::io("start /bin/sh"))?;
        let pipe = Mutex::new(shell.stdin.take());
        Ok(Self { folder: folder.keep(), shell: Some(shell), pipe, children: Mutex::default() })
    }

    /// The run's folder; it goes with the guard.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a server in a process group of its own, and has it stopped with `signal` in the end.
    pub(crate) fn spawn(&self, command: &mut Command, signal: &str) -> Result<u32, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().map_err(Error::io(format!("start {program}")))?;
        let pid = child.id();
        locked(&self.children).push(child);
        let start = start_time(pid).map_err(Error::io(format!("read /proc/{pid}/stat")))?;
        self.note(&format!("process {pid} {start} {signal}"))?;
        Ok(pid)
    }

    /// A command, to be given its arguments, that waits inside the run's folder, where the guard would find it, until [`Guard::let_begin`].
    pub(crate) fn held_back(&self, program: &OsStr) -> Result<Command, Error> {
        let there = std::env::current_dir().map_err(Error::io("tell the current folder"))?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", HELD_BACK, "banyan-stack-run"]).arg(there).arg(program).current_dir(&self.folder);
        Ok(shell)
    }

    /// Lets the command begin: it is noted.
    pub(crate) fn let_begin(&self) -> Result<(), Error> {
        let go = self.folder.join("go");
        std::fs::write(&go, "").map_err(Error::io(format!("write {}", go.display())))
    }

    /// How the process ended, if it did.
    pub(crate) fn exited(&self, pid: u32) -> Result<Option<ExitStatus>, Error> {
        let mut children = locked(&self.children);
        let Some(child) = children.iter_mut().find(|child| child.id() == pid) else { return Ok(None) };
        child.try_wait().map_err(Error::io(format!("wait for process {pid}")))
    }

    /// The processes that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut children = locked(&self.children);
        children
            .iter_mut()
            .filter_map(|child| matches!(child.try_wait(), Ok(None)).then(|| child.id()))
            .collect()
    }

    /// Has a process group ended that someone else waits for.
    pub(crate) fn watch_group(&self, group: u32) -> Result<(), Error> {
        self.note(&format!("group {group} TERM"))
    }

    /// Has a process ended that someone else waits for.
    pub(crate) fn watch_process(&self, pid: u32) -> Result<(), Error> {
        let start = start_time(pid).map_err(Error::io(format!("read /proc/{pid}/stat")))?;
        self.note(&format!("process {pid} {start} TERM"))
    }

    /// Has a container removed; to be told before it is created.
    pub(crate) fn watch_container(&self, engine: &str, name: &str) -> Result<(), Error> {
        self.note(&format!("engine {engine}"))?;
        self.note(&format!("container {name}"))
    }

    /// Takes everything down and waits until it is. Blocks for some seconds at most.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        drop(locked(&self.pipe).take());
        let Some(mut shell) = self.shell.take() else { return Ok(()) };
        let status = shell.wait().map_err(Error::io("wait for the guard"))?;
        for mut child in locked(&self.children).drain(..) {
            // Killed by the guard: this only takes the zombie away.
            let _ = child.wait();
        }
        if status.success() {
            return Ok(());
        }
        Err(Error::Left(format!(
            "{status}; look for containers named banyan-stack-* and for {}",
            self.folder.display()
        )))
    }

    fn note(&self, line: &str) -> Result<(), Error> {
        let mut pipe = locked(&self.pipe);
        let pipe = pipe.as_mut().ok_or_else(|| Error::Left("it ended already".to_owned()))?;
        writeln!(pipe, "{line}").and_then(|()| pipe.flush()).map_err(Error::io("write to the guard"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the stack was not taken down cleanly");
        }
    }
}

/// Field 22 of `/proc/PID/stat`. With the process id it names one process for good.
fn start_time(pid: u32) -> std::io::Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field may hold blanks and brackets; after its last bracket come fields 3 and on.
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    rest.split(' ').nth(19).map(str::to_owned).ok_or_else(|| std::io::Error::other("too few fields"))
}

/// A panic elsewhere must not keep the guard from cleaning up.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
