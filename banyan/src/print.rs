//! Answers as an operator reads them.

use crate::answers::{
    Approval, Approved, Back, Backfill, Change, Feed, Gate, Held, Keys, Parity, Pinned, Plan, Problem,
    Refusal, Repaired, Status, Step, Why,
};

/// Between two columns.
const GAP: usize = 3;

/// An answer that can be printed.
pub(crate) trait Print {
    /// Its lines, each ended.
    fn print(&self) -> String;

    /// Whether it says that something is not allowed.
    fn refused(&self) -> bool {
        false
    }
}

impl Print for Status {
    fn print(&self) -> String {
        let stage = stage(&self.stage, self.percent, &self.tenants);
        let keys = format!("{} / {}", grouped(self.keys.source), grouped(self.keys.target));
        let gate = self.next.as_ref().map_or_else(
            || "none left".to_owned(),
            |next| format!("{} `{}` of {}: {}", next.verdict, next.gate, next.stage, next.found),
        );
        let mut text = table(&[
            ("migration", self.migration.clone()),
            ("stage", stage),
            ("since", duration(self.since_seconds)),
            ("keys source/target", keys),
            ("feed", feed(self.feed.as_ref())),
            ("reverse feed", feed(self.reverse_feed.as_ref())),
            ("gate to next", gate),
        ]);
        if let Some(held) = &self.held {
            text.push_str(&format!("held: {held} (`banyan advance --resume` lifts it)\n"));
        }
        if self.draining {
            text.push_str("draining: rolled back, while keys are still at the target\n");
        }
        text.push_str(&under_way(&self.keys));
        if let Some(backfill) = self.backfill.as_ref().filter(|backfill| backfill.done_at.is_none()) {
            text.push_str(&backfill.print());
        }
        if self.pinned > 0 {
            text.push_str(&format!(
                "pinned: {} keys can't move now (`banyan pinned` says why)\n",
                grouped(self.pinned)
            ));
        }
        if self.came_back > 0 {
            text.push_str(&format!(
                "came back: {} keys, whose offers the target had not applied in time; few leave at once until it takes one\n",
                grouped(self.came_back)
            ));
        }
        if let Some(metric) = &self.metric {
            text.push_str(&format!("must improve: {metric}\n"));
        }
        if let Some(plan) = &self.plan {
            let overdue = if plan.overdue { ", which is past: no step forward is taken" } else { "" };
            text.push_str(&format!("decide by {}{overdue}; owner: {}\n", plan.decide_by, plan.owner));
        }
        text.push_str(&approvals(&self.approvals));
        text.push_str(&format!("target: {}\n", self.target));
        match &self.controller {
            Some(name) => text.push_str(&format!("controller: {name}\n")),
            None => text.push_str("controller: none acts now\n"),
        }
        text
    }
}

impl Print for Pinned {
    fn print(&self) -> String {
        let mut text = match self.count {
            0 => "no key is pinned\n".to_owned(),
            count => format!("{} keys can't move now\n", grouped(count)),
        };
        for key in &self.keys {
            text.push_str(&format!("{}   {}   since {}, {} tries\n", key.key, key.why, key.since, key.tries));
        }
        text
    }
}

impl Print for Backfill {
    fn print(&self) -> String {
        let Self { walk, rate, .. } = self;
        let (done, of, published) = (grouped(self.done), grouped(self.of), grouped(self.published));
        if let Some(done_at) = &self.done_at {
            return format!(
                "backfill: done at {done_at}; {published} keys were published, and a walk over {done} found none lacking\n"
            );
        }
        let left = self.eta_seconds.map_or_else(String::new, |eta| format!(", {} left", duration(eta)));
        let mut text =
            format!("backfill: walk {walk}, {done} of {of} keys, {rate}/s{left}; {published} published\n");
        if let Some(waits) = &self.waits {
            text.push_str(&format!("backfill waits for {waits}\n"));
        }
        text
    }
}

impl Print for Parity {
    fn print(&self) -> String {
        let mut text = format!("{}: {}\n", self.verdict, self.found);
        for (named, what) in [
            (&self.different, "differ"),
            (&self.missing_at_target, "are missing at the target"),
            (&self.missing_at_source, "are missing at the source"),
            (&self.unsettled, "did not come to rest"),
        ] {
            if named.count > 0 {
                text.push_str(&format!("{} {what}:\n", grouped(named.count)));
                named.keys.iter().for_each(|key| text.push_str(&format!("  {key}\n")));
            }
        }
        text
    }

    fn refused(&self) -> bool {
        self.verdict != "pass"
    }
}

impl Print for Repaired {
    fn print(&self) -> String {
        let mut text = format!("{} keys were published by their owners\n", self.published.len());
        for left in &self.left {
            text.push_str(&format!("not {}: {}\n", left.key, left.why));
        }
        text
    }

    fn refused(&self) -> bool {
        !self.left.is_empty()
    }
}

impl Print for Plan {
    fn print(&self) -> String {
        let now = stage(&self.policy.stage, self.policy.percent, &self.policy.tenants);
        format!("now: {now}   way back: {}\n{}", self.way_back, self.next.print())
    }
}

impl Print for Step {
    fn print(&self) -> String {
        let verb = if self.entered { "entered" } else { "would enter" };
        let columns =
            [format!("{verb}: {}", of(&self.to)), self.moves.clone(), format!("way back: {}", self.way_back)];
        let mut text = columns.join("   ") + "\n";
        if self.seeded > 0 {
            text.push_str(&format!("seeded: {} keys got an owner\n", grouped(self.seeded)));
        }
        text.push_str(&gates(&self.gates));
        if let Some(refusal) = &self.refused {
            text.push_str(&refused(refusal));
        }
        text
    }

    fn refused(&self) -> bool {
        self.refused.is_some()
    }
}

impl Print for Back {
    fn print(&self) -> String {
        format!("rolled back: {} -> {}\n{}\n", of(&self.from), of(&self.to), self.says)
    }
}

impl Print for Held {
    fn print(&self) -> String {
        format!("held: {} (`banyan advance --resume` lifts it)\n", self.held)
    }
}

impl Print for Approved {
    fn print(&self) -> String {
        let count = self.approvals.len();
        format!(
            "stage {}: {count} of {} people are for it\n{}",
            self.stage,
            self.needed,
            approvals(&self.approvals)
        )
    }
}

impl Print for Why {
    fn print(&self) -> String {
        let phase = if self.phase == "settled" { String::new() } else { format!(", {}", self.phase) };
        let version =
            |version: Option<i64>| version.map_or_else(|| "unknown".to_owned(), |n| format!("version {n}"));
        let mut lines = vec![
            format!("{} is the {}'s{phase}, epoch {}", self.key, self.owner, self.epoch),
            format!("because: {}", self.because),
            format!("would be born now: {}", self.would_be_born),
            format!(
                "applied: source {}, target {}",
                version(self.applied_at_source),
                version(self.applied_at_target)
            ),
            format!(
                "last heartbeat: at the source {}, at the target {}",
                heartbeat(self.heartbeat_age_ms_at_source),
                heartbeat(self.heartbeat_age_ms_at_target)
            ),
        ];
        if let (Some(tenant), Some(born_at)) = (&self.tenant, &self.born_at) {
            lines.insert(1, format!("tenant {tenant}, since {born_at}"));
        }
        lines.extend(self.lag.iter().map(|lag| format!("behind: {lag}")));
        lines.join("\n") + "\n"
    }
}

/// A refusal with its rule and the way on, or what the API said instead.
pub(crate) fn problem(problem: &Problem) -> String {
    if let Some(refusal) = &problem.refusal {
        return gates(&refusal.gates) + &refused(refusal);
    }
    let mut text = match problem.detail.as_str() {
        "" => format!("refused: {}\n", problem.title),
        detail => format!("refused: {detail}\n"),
    };
    for error in &problem.errors {
        text.push_str(&format!("  {}: {}\n", error.pointer.trim_start_matches('/'), error.detail));
    }
    text
}

fn refused(refusal: &Refusal) -> String {
    format!("refused: {}\nway on: {}\n", refusal.rule, refusal.way_on)
}

fn gates(gates: &[Gate]) -> String {
    let widest = gates.iter().map(|gate| gate.name.len()).max().unwrap_or(0);
    let lines =
        gates.iter().map(|gate| format!("{:12}  {:widest$}  {}\n", gate.verdict, gate.name, gate.found));
    lines.collect()
}

fn of(change: &Change) -> String {
    stage(&change.stage, change.percent, &change.tenants)
}

fn approvals(approvals: &[Approval]) -> String {
    let lines = approvals.iter().map(|it| format!("approved by {} at {}: {}\n", it.by, it.at, it.reason));
    lines.collect()
}

fn stage(stage: &str, percent: i64, tenants: &[String]) -> String {
    match (stage, tenants) {
        ("reading" | "ramping", []) => format!("{stage} {percent} %"),
        ("reading" | "ramping", tenants) => format!("{stage} {percent} % + {}", tenants.join(", ")),
        (other, _) => other.to_owned(),
    }
}

/// Keys between the homes, if any.
fn under_way(keys: &Keys) -> String {
    let parts: Vec<String> = [
        (keys.moving, "on their way to the target"),
        (keys.recalling, "on their way back"),
        (keys.granting, "not yet confirmed by the target"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", grouped(number)))
    .collect();
    if parts.is_empty() { String::new() } else { format!("keys: {}\n", parts.join(", ")) }
}

fn feed(feed: Option<&Feed>) -> String {
    let Some(feed) = feed else { return "unknown".to_owned() };
    let mut text = format!("{} of {} behind", grouped(feed.behind), grouped(feed.sampled));
    for (number, what) in [(feed.parked, "parked"), (feed.awaiting, "awaiting")] {
        if number > 0 {
            text.push_str(&format!(", {} {what}", grouped(number)));
        }
    }
    text + ", heartbeat " + &heartbeat(feed.heartbeat_age_ms)
}

/// None known is not an age of 0.
fn heartbeat(age_ms: Option<i64>) -> String {
    age_ms.map_or_else(|| "unknown".to_owned(), |ms| format!("{} ago", duration(ms / 1_000)))
}

fn duration(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `48 120`: digits in threes.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) && !text.ends_with('-') {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// One row under its heads; the last column is as wide as it is.
fn table(columns: &[(&str, String)]) -> String {
    let (mut heads, mut row) = (String::new(), String::new());
    for (head, cell) in columns {
        let width = head.chars().count().max(cell.chars().count()) + GAP;
        heads.push_str(&format!("{head:width$}"));
        row.push_str(&format!("{cell:width$}"));
    }
    format!("{}\n{}\n", heads.trim_end(), row.trim_end())
}

#[cfg(test)]
mod tests;
