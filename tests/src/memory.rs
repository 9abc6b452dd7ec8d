//! How much memory a run takes: the proportional set size of all its processes together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// The most that was seen, in kilobytes.
#[derive(Debug, Default)]
pub struct Peak(AtomicU64);

impl Peak {
    /// Measures these processes and all their descendants now. Proportional: memory that processes share is counted once
    /// in sum. A process that may not be read (another user's) counts nothing.
    pub fn sample(&self, roots: &[u32]) {
        let sum = with_descendants(roots).into_iter().map(pss_kb).sum();
        self.0.fetch_max(sum, Ordering::Relaxed);
    }

    /// The most that was seen, in megabytes of 2^20 bytes, rounded.
    pub fn mb(&self) -> u64 {
        (self.0.load(Ordering::Relaxed) + 512) / 1024
    }
}

/// Field `Pss` of `/proc/PID/smaps_rollup`, in kilobytes.
fn pss_kb(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn with_descendants(roots: &[u32]) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (BTreeSet::new(), roots.to_vec());
    while let Some(pid) = next.pop() {
        if found.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// Field 4 of `/proc/PID/stat`; the second field may hold blanks and brackets.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory() {
        let peak = Peak::default();
        peak.sample(&[std::process::id()]);
        let kb = peak.0.load(Ordering::Relaxed);
        assert!(kb > 500, "{kb} kB");
    }

    #[test]
    fn a_process_is_found_by_its_parent() {
        let own = std::process::id();
        assert!(with_descendants(&[parent(own).unwrap()]).contains(&own));
    }
}
