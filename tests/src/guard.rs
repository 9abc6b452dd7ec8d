//! A shell that outlives us and kills what we started.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

const SCRIPT: &str = include_str!("guard.sh");

/// Knows the process groups that must not outlive this process.
pub(crate) struct Guard {
    shell: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Guard {
    /// Starts the shell, in a group of its own: Ctrl-C at the terminal is not for it.
    pub(crate) fn start() -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "banyan-test-guard"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start /bin/sh as a guard")?;
        let pipe = Mutex::new(shell.stdin.take());
        Ok(Self { shell, pipe })
    }

    /// Watches a process group.
    pub(crate) fn started(&self, group: u32) -> Result<()> {
        self.note(&format!("start {group}"))
    }

    /// Forgets a process group that has ended: its number may be given to a stranger.
    pub(crate) fn ended(&self, group: u32) -> Result<()> {
        self.note(&format!("end {group}"))
    }

    fn note(&self, line: &str) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = pipe.as_mut().context("the guard has ended")?;
        writeln!(pipe, "{line}").and_then(|()| pipe.flush()).context("write to the guard")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        // It ends at once: it only sends signals.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").process_group(0).spawn().unwrap()
    }

    #[tokio::test]
    async fn what_was_started_and_not_ended_goes_with_the_guard() {
        let (mut forgotten, mut ended) = (sleeper(), sleeper());
        let guard = Guard::start().unwrap();
        guard.started(forgotten.id()).unwrap();
        guard.started(ended.id()).unwrap();
        guard.ended(ended.id()).unwrap();
        drop(guard);
        crate::until("the forgotten process to die", Duration::from_secs(5), async || {
            Ok(forgotten.try_wait()?)
        })
        .await
        .unwrap();
        assert!(ended.try_wait().unwrap().is_none(), "what had ended is a stranger's by now");
        ended.kill().unwrap();
        ended.wait().unwrap();
    }
}
