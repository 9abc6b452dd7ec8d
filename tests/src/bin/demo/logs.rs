//! The logs of the last runs, in `target/demo`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Runs whose logs stay, this one included.
const RUNS_MAX: usize = 5;

/// A run's folder, by its name `<time>-<process>`.
struct Run {
    seconds: u64,
    pid: u32,
    path: PathBuf,
}

/// `target/demo/<time>-<process>`: logs stay there, for whoever wants to read them afterwards. Those of the oldest runs go.
pub(crate) fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find the running program")?;
    let target = program.parent().and_then(Path::parent).context("the running program is in no folder")?;
    let demo = target.join("demo");
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let folder = demo.join(format!("{seconds}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    prune(&demo, RUNS_MAX, |pid| Path::new("/proc").join(pid.to_string()).exists())
        .with_context(|| format!("delete old logs in {}", demo.display()))?;
    Ok(folder)
}

/// Deletes the oldest runs but the last `kept`; one whose process is alive stays, and so does what is no run.
fn prune(demo: &Path, kept: usize, alive: impl Fn(u32) -> bool) -> std::io::Result<()> {
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(demo)? {
        runs.extend(Run::of(&entry?.path()));
    }
    runs.sort_by_key(|run| std::cmp::Reverse((run.seconds, run.pid)));
    for run in runs.iter().skip(kept).filter(|run| !alive(run.pid)) {
        match std::fs::remove_dir_all(&run.path) {
            // Another demo that starts now was faster.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

impl Run {
    fn of(path: &Path) -> Option<Self> {
        let (seconds, pid) = path.file_name()?.to_str()?.split_once('-')?;
        Some(Self { seconds: seconds.parse().ok()?, pid: pid.parse().ok()?, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_runs_stay_and_those_that_run_still() {
        let demo = tempfile::tempdir().unwrap();
        // By time, not by name: a run of the year 2001 is older than the others.
        for run in ["999999999-7", "1700000001-8", "1700000002-9", "1700000003-10", "notes"] {
            std::fs::create_dir(demo.path().join(run)).unwrap();
            std::fs::write(demo.path().join(run).join("relay.log"), "started\n").unwrap();
        }
        prune(demo.path(), 2, |pid| pid == 8).unwrap();
        let left = std::fs::read_dir(demo.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["1700000001-8", "1700000002-9", "1700000003-10", "notes"]);
    }
}
