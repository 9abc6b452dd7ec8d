//! Where the time of a drain goes: processor time by process, sessions by what they wait for, the relay by function.

use std::{collections::HashMap, process::Stdio, time::Duration};

use anyhow::Result;
use sqlx::PgPool;
use tokio::{process::Command, task::JoinHandle, time::interval};
use tokio_util::sync::CancellationToken;

use super::drive::Drained;
use crate::{cpu::Used, ground::Ground, report::Share};

/// How often sessions are looked at: rarely, since looking costs processor time itself.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Samples a second of `perf`.
const PERF_RATE: &str = "499";

/// Functions shown.
const FUNCTIONS_MAX: usize = 15;

/// CPU seconds per million events, by process.
pub(crate) fn shares(scene: &str, drained: &Drained) -> Vec<Share> {
    let Used { relay, postgres, kafka, idle, seconds } = drained.used;
    let million = 1.0 / crate::limits::per_second(drained.events, 1e6);
    let all = [
        ("relay", relay),
        ("PostgreSQL", postgres),
        ("Kafka", kafka),
        ("idle cores", idle),
        ("wall clock", seconds),
    ];
    let share = |(who, value): (&str, f64)| Share {
        scene: scene.into(),
        who: who.into(),
        value: value * million,
        unit: "s per million events".into(),
    };
    all.into_iter().filter(|(_, value)| value.is_finite()).map(share).collect()
}

/// Looks at the sessions of a database until it is stopped.
pub(crate) struct Sessions {
    stop: CancellationToken,
    task: JoinHandle<Result<HashMap<String, u32>>>,
}

impl Sessions {
    pub(crate) fn start(pool: &PgPool) -> Self {
        let (stop, pool) = (CancellationToken::new(), pool.clone());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut seen = HashMap::new();
            let mut tick = interval(LOOK_EVERY);
            while !stopped.is_cancelled() {
                tick.tick().await;
                let now: Vec<(String, String)> = sqlx::query_as(
                    "select coalesce(wait_event_type || ': ' || wait_event, 'on the processor'),
                            regexp_replace(left(query, 60), '\\s+', ' ', 'g')
                     from pg_stat_activity
                     where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'",
                )
                .fetch_all(&pool)
                .await?;
                if now.is_empty() {
                    *seen.entry("no session at work".to_owned()).or_insert(0) += 1;
                }
                for (wait, query) in now {
                    *seen.entry(format!("{wait} | {query}")).or_insert(0) += 1;
                }
            }
            Ok(seen)
        });
        Self { stop, task }
    }

    /// What was seen, the most frequent first, as percentages of the looks.
    pub(crate) async fn stop(self, scene: &str) -> Result<Vec<Share>> {
        self.stop.cancel();
        let mut seen: Vec<(String, u32)> = self.task.await??.into_iter().collect();
        seen.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let all = f64::from(seen.iter().map(|(_, times)| times).sum::<u32>().max(1));
        let share = |(who, times): (String, u32)| Share {
            scene: scene.into(),
            who,
            value: f64::from(times) / all * 100.0,
            unit: "% of looks at sessions".into(),
        };
        Ok(seen.into_iter().take(FUNCTIONS_MAX).map(share).collect())
    }
}

/// The relay by function, if `perf` works here: started beside a drain, it follows the relay until that ends.
pub(crate) struct Perf {
    child: tokio::process::Child,
    data: std::path::PathBuf,
}

impl Perf {
    /// None when there is no `perf`, or it may not look.
    pub(crate) fn start(ground: &Ground, pid: u32) -> Option<Self> {
        let data = ground.folder.path().join("relay.perf");
        let mut record = Command::new("perf");
        record.args(["record", "-F", PERF_RATE, "-g", "-p", &pid.to_string(), "-o"]).arg(&data);
        record.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Some(Self { child: record.spawn().ok()?, data })
    }

    /// The functions with most samples, after the relay has ended.
    pub(crate) async fn stop(mut self, scene: &str) -> Result<Vec<Share>> {
        tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await??;
        let mut report = Command::new("perf");
        report
            .args(["report", "--stdio", "--no-children", "-g", "none", "-F", "overhead,dso,sym", "-i"])
            .arg(&self.data);
        let output = report.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(|line| function(scene, line)).take(FUNCTIONS_MAX).collect())
    }
}

/// A line such as `    12.34%  lone-relay  [.] function`.
fn function(scene: &str, line: &str) -> Option<Share> {
    let (percent, who) = line.trim().split_once('%')?;
    let who = who.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(Share {
        scene: scene.into(),
        who,
        value: percent.parse().ok()?,
        unit: "% of the relay's samples".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_perf_is_read() {
        let share = function("s", "    12.34%  lone-relay         [.] memcpy").unwrap();
        assert_eq!((share.who.as_str(), share.value), ("lone-relay [.] memcpy", 12.34));
        assert!(function("s", "# Overhead  Shared Object").is_none());
    }
}
