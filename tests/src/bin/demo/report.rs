//! The result: a table for people, JSON for programs.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use tests::checker::Findings;

/// What the demo came to. The field names are a contract.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    accepted: usize,
    /// Of these, those that were there before anything began.
    old: usize,
    /// Payments that the target had written when it was rolled back.
    written_at_target: i64,
    paid: usize,
    /// Ended without money: declined by the provider, or voided by the merchant.
    declined: usize,
    open: usize,
    lost: usize,
    charged_twice: usize,
    events_lost: usize,
    events_out_of_order: usize,
    books_balanced: bool,
    /// From the first process to the checker's last word.
    seconds: f64,
    /// `external`, `docker` or `native`.
    stack: String,
    /// All processes together, proportional set size, 2^20 bytes.
    peak_pss_mb: u64,
    stages: Vec<Stage>,
}

/// What the walk did.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) stages: Vec<Stage>,
    pub(crate) old: usize,
    pub(crate) written_at_target: i64,
}

/// One stage of the walk.
#[derive(Debug, Serialize)]
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    /// Orders acknowledged while it lasted.
    pub(crate) accepted: usize,
    /// Payments born at each home while it lasted.
    pub(crate) born_at_source: i64,
    pub(crate) born_at_target: i64,
    /// Payments that are the target's at its end.
    pub(crate) at_target: i64,
    /// What was done to it.
    pub(crate) faults: Vec<String>,
}

impl Report {
    pub(crate) fn new(
        findings: &Findings,
        walked: Walked,
        seconds: f64,
        stack: &str,
        peak_pss_mb: u64,
    ) -> Self {
        Self {
            accepted: findings.accepted,
            old: walked.old,
            written_at_target: walked.written_at_target,
            paid: findings.paid,
            declined: findings.declined,
            open: findings.open.count(),
            lost: findings.lost.count(),
            charged_twice: findings.charged_twice.count(),
            events_lost: findings.events_lost.count(),
            events_out_of_order: findings.events_out_of_order.count(),
            books_balanced: findings.books_balanced(),
            seconds: (seconds * 10.0).round() / 10.0,
            stack: stack.to_owned(),
            peak_pss_mb,
            stages: walked.stages,
        }
    }

    /// The stages as a table.
    pub(crate) fn stages(&self) -> String {
        let head = format!(
            "  {:<22} {:>8} {:>9} {:>14} {:>14} {:>9}  faults\n",
            "stage", "seconds", "accepted", "born at source", "born at target", "at target"
        );
        let rows = self.stages.iter().map(|stage| {
            format!(
                "  {:<22} {:>8.1} {:>9} {:>14} {:>14} {:>9}  {}\n",
                stage.name,
                stage.seconds,
                stage.accepted,
                stage.born_at_source,
                stage.born_at_target,
                stage.at_target,
                stage.faults.join(", ")
            )
        });
        head + &rows.collect::<String>()
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "  {} s on the stack `{}`, at most {} MB of memory together",
            self.seconds, self.stack, self.peak_pss_mb
        )
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}
