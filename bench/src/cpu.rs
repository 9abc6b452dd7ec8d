//! Processor time and memory of processes, from `/proc`.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result};
use stack::Stack;

use crate::{ground::Ground, process::Process};

/// Ticks a second in `/proc`: fixed in the kernel's interface for all common machines.
const TICKS: f64 = 100.0;

/// CPU seconds used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) relay: f64,
    /// The server with all its sessions, those that ended too; not a number when it runs elsewhere.
    pub(crate) postgres: f64,
    pub(crate) kafka: f64,
    /// All cores, idle.
    pub(crate) idle: f64,
    at: Instant,
}

/// CPU seconds between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) relay: f64,
    pub(crate) postgres: f64,
    pub(crate) kafka: f64,
    pub(crate) idle: f64,
    pub(crate) seconds: f64,
}

impl Usage {
    /// Now, for one relay and the servers below it.
    pub(crate) fn now(ground: &Ground, relay: &Process) -> Result<Self> {
        let (postgres, kafka) = servers(&ground.stack)?;
        let relay = own(relay.pid())?;
        Ok(Self { relay, postgres, kafka, idle: cores()?.1, at: Instant::now() })
    }

    /// What was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> Used {
        Used {
            relay: self.relay - before.relay,
            postgres: self.postgres - before.postgres,
            kafka: self.kafka - before.kafka,
            idle: self.idle - before.idle,
            seconds: (self.at - before.at).as_secs_f64(),
        }
    }
}

/// CPU seconds that PostgreSQL with all its sessions, and Kafka, have used so far; not a number when they run elsewhere.
pub(crate) fn servers(stack: &Stack) -> Result<(f64, f64)> {
    let (mut postgres, mut kafka) = (f64::NAN, f64::NAN);
    for pid in stack.pids() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        match name.trim() {
            "postgres" => postgres = family(pid)?,
            "java" => kafka = own(pid)?,
            _ => {}
        }
    }
    Ok((postgres, kafka))
}

/// CPU seconds that a process has used so far, without its children.
pub(crate) fn own(pid: u32) -> Result<f64> {
    Ok(Stat::of(pid)?.own)
}

struct Stat {
    parent: u32,
    own: f64,
    /// Of children that have ended and were waited for.
    reaped: f64,
}

impl Stat {
    fn of(pid: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("a process's times")?;
        // The name in parentheses may hold anything; the fields after it are numbers.
        let fields: Vec<&str> =
            text.rsplit_once(')').context("a process's times")?.1.split_whitespace().collect();
        let ticks = |n: usize| -> Result<f64> { Ok(fields.get(n).context("a field of stat")?.parse()?) };
        let own = (ticks(11)? + ticks(12)?) / TICKS;
        let reaped = (ticks(13)? + ticks(14)?) / TICKS;
        Ok(Self { parent: fields.get(1).context("a field of stat")?.parse()?, own, reaped })
    }
}

/// A process with its children, ended ones too.
fn family(pid: u32) -> Result<f64> {
    let main = Stat::of(pid)?;
    let mut all = main.own + main.reaped;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that ends between the two looks is counted among the reaped the next time.
        if let Ok(stat) = Stat::of(child)
            && stat.parent == pid
        {
            all += stat.own;
        }
    }
    Ok(all)
}

/// Seconds that all cores together were busy, and idle, since the machine started.
pub(crate) fn cores() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest times are within user.
    let idle = ticks.iter().skip(3).take(2).sum::<f64>();
    let all = ticks.iter().take(8).sum::<f64>();
    Ok(((all - idle) / TICKS, idle / TICKS))
}

/// The most memory a process has had resident so far, in MB (10^6 bytes).
pub(crate) fn peak_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(Path::new(&path)).context("a process's memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM is missing")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}
