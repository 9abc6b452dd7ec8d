//! Writes docs/performance.md, docs/performance-payments.md and docs/performance-migration.md from what a run found.

mod parts;

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context, Result, ensure};

use crate::report::{Bench, Claim, Delivery, Figure, Report, SCHEMA, Wanted, median, spread};

/// Statements shown of each way.
const STATEMENTS_MAX: usize = 15;

/// Reads a report.
pub(crate) fn from_json(path: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let report: Report =
        serde_json::from_str(&text).context("not the JSON of `cargo xtask bench .. --json`")?;
    ensure!(report.schema == SCHEMA, "the JSON has schema {}, this program reads {SCHEMA}", report.schema);
    Ok(report)
}

impl Report {
    /// Where its page is.
    pub(crate) fn page_path(&self) -> &'static str {
        match self.bench {
            Bench::Outbox => "docs/performance.md",
            Bench::Payments => "docs/performance-payments.md",
            Bench::Migration => "docs/performance-migration.md",
        }
    }

    /// The whole page.
    pub(crate) fn page(&self) -> String {
        let c = &self.circumstances;
        let (title, beside) = match self.bench {
            Bench::Outbox => ("Performance", "a limit, or its peers,"),
            Bench::Payments => ("Performance of a paid order", "a limit"),
            Bench::Migration => ("Performance of a migration", "a limit, or the same without it,"),
        };
        let mut page = format!("# {title}\n");
        if self.is_debug() {
            page.push_str("**Of a build for debugging: these are not figures.**\n\n");
        }
        let _ = writeln!(
            page,
            "Written by `cargo xtask bench report FILE` from the JSON of one run; nothing here is typed by hand.\n\n\
             ```\n{}\n```\nStarted {}, {} s. Each figure stands beside {beside} measured in the same run in \
             turn; one round before the first warms up and does not count. A figure is the median of its rounds. A \
             spread (largest minus smallest, over the median) of more than 25 % concludes nothing, unless every round \
             misses the bound.\n",
            c.command, c.started, c.seconds
        );
        self.claims(&mut page);
        for (row, title, words) in parts::of(self.bench) {
            let figures: Vec<&Figure> = self.figures.iter().filter(|figure| figure.row == *row).collect();
            part(&mut page, title, words, &figures);
        }
        self.deliveries(&mut page);
        self.statements(&mut page);
        self.profile(&mut page);
        self.circumstances(&mut page);
        page
    }

    /// The claims and the verifier's counts, for the end of a run.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        for figure in &self.figures {
            let _ = writeln!(text, "{:<66} {:>10} {}", figure.name, number(figure.median()), figure.unit);
        }
        self.claims(&mut text);
        self.deliveries(&mut text);
        self.statements(&mut text);
        text
    }

    fn claims(&self, page: &mut String) {
        if self.claims.is_empty() {
            return;
        }
        page.push_str(
            "## What was to be reached\n| figure | wanted | median | spread | |\n|---|---|---|---|---|\n",
        );
        for claim in &self.claims {
            let Claim { row, name, unit, wanted, values } = claim;
            let (wanted, spread) = match wanted {
                Wanted::AtLeast(n) => (format!("at least {}", number(*n)), percent(spread(values))),
                Wanted::AtMost(n) => (format!("at most {}", number(*n)), percent(spread(values))),
                Wanted::EachAtMost(n) => {
                    (format!("each round at most {}", number(*n)), percent(spread(values)))
                }
                Wanted::Exactly(n) => (format!("exactly {}", number(*n)), String::new()),
            };
            let middle = number(median(values));
            let unit = if unit == "x" { String::new() } else { format!(" {unit}") };
            let verdict = claim.verdict().words();
            let _ = writeln!(page, "| {row}: {name} | {wanted}{unit} | {middle} | {spread} | {verdict} |");
        }
        page.push('\n');
    }

    fn deliveries(&self, page: &mut String) {
        if self.deliveries.is_empty() {
            return;
        }
        page.push_str(
            "## What arrived\nThe same verifier for all: it reads the topic from its beginning and compares payloads with the \
             business rows. *Out of order*: first deliveries that came after a later version of their key. All rounds together.\n\n\
             | scene | contender | kills | committed | records | lost | repeated | out of order | never committed |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for line in &self.deliveries {
            let Delivery { scene, contender, kills, committed, records, .. } = line;
            let Delivery { lost, repeated, inverted, unknown, .. } = line;
            let _ = writeln!(
                page,
                "| {scene} | {contender} | {kills} | {committed} | {records} | {lost} | {repeated} | {inverted} | {unknown} |"
            );
        }
        page.push('\n');
        for line in self.deliveries.iter().filter(|line| !line.examples.is_empty()) {
            let _ = writeln!(page, "- {}, {}: {}.", line.contender, line.scene, line.examples.join("; "));
        }
    }

    fn statements(&self, page: &mut String) {
        if self.statements.is_empty() {
            return;
        }
        page.push_str(
            "## What the databases were asked\nThe 15 most frequent statements of the last round's closed loop, as \
             `pg_stat_statements` counts what clients send; what a function does inside counts to its call. Milliseconds are \
             the server's, waits for locks included.\n\n\
             | payments | who | statement | calls per paid order | ms per paid order |\n|---|---|---|---|---|\n",
        );
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &self.statements {
            let shown = shown.entry(&line.way).or_default();
            *shown += 1;
            if *shown > STATEMENTS_MAX {
                continue;
            }
            let (text, calls, ms) = (line.text.replace('|', "\\|"), number(line.calls), number(line.ms));
            let _ = writeln!(page, "| {} | {} | `{text}` | {calls} | {ms} |", line.way, line.role);
        }
        page.push('\n');
    }

    fn profile(&self, page: &mut String) {
        if self.profile.is_empty() {
            return;
        }
        page.push_str(
            "## Where the time goes\nCPU seconds of each process during the last round of a drain, from `/proc`; with \
             `--profile` also what PostgreSQL's sessions were seen doing and the relay's functions, in a round that does not \
             count.\n\n| scene | who | | |\n|---|---|---|---|\n",
        );
        for share in &self.profile {
            let who = share.who.replace('|', "/");
            let _ = writeln!(page, "| {} | {who} | {} | {} |", share.scene, number(share.value), share.unit);
        }
        page.push('\n');
    }

    fn circumstances(&self, page: &mut String) {
        let c = &self.circumstances;
        page.push_str("## Circumstances\n| | |\n|---|---|\n");
        let starts = &c.starts;
        let _ = writeln!(
            page,
            "| rounds started on an idle machine | {} of {}; the busiest start had {} % of the cores busy; {} s of waiting |",
            starts.count - starts.not_idle,
            starts.count,
            number(starts.busy_max),
            number(starts.waited)
        );
        for (what, facts) in [("machine", &c.machine), ("build", &c.build), ("options", &c.options)] {
            let _ = writeln!(page, "| {what} | {} |", joined(facts));
        }
        for (what, facts) in [("PostgreSQL", &c.postgres), ("Kafka", &c.kafka)] {
            let _ = writeln!(page, "| {what} | {} |", joined(facts));
        }
        for (who, settings) in &c.contenders {
            let _ = writeln!(page, "| {who} | {settings} |");
        }
        page.push_str(parts::end(self.bench));
    }
}

fn part(page: &mut String, title: &str, words: &str, figures: &[&Figure]) {
    if figures.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "## {title}\n{words}\n\n| figure | median | least | most | spread |\n|---|---|---|---|---|\n"
    );
    for figure in figures {
        let least = figure.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figure.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let _ = writeln!(
            page,
            "| {} | {} {} | {} | {} | {} |",
            figure.name,
            number(figure.median()),
            figure.unit,
            number(least),
            number(most),
            percent(spread(&figure.values))
        );
    }
    page.push('\n');
}

fn joined(facts: &BTreeMap<String, String>) -> String {
    facts.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join("; ")
}

/// Three or so digits, with thousands apart.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "none".into();
    }
    if value.abs() < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.0} %", share * 100.0) } else { "none".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let all = [0.5, 9.876, 54.321, 999.9, 43_210.0, 1_234_567.0, f64::NAN].map(number);
        assert_eq!(all, ["0.50", "9.88", "54.3", "1,000", "43,210", "1,234,567", "none"]);
    }

    /// Made up; it shows the shape of the JSON and the page that comes of it.
    #[test]
    fn a_page_is_written_from_its_json() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/outbox.json"));
        insta::assert_snapshot!(from_json(path).unwrap().page());
    }

    /// Made up, as well.
    #[test]
    fn a_page_of_payments_is_written_from_its_json() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/payments.json"));
        let report = from_json(path).unwrap();
        assert_eq!((report.page_path(), report.is_debug()), ("docs/performance-payments.md", false));
        insta::assert_snapshot!(report.page());
    }

    /// Made up, too.
    #[test]
    fn a_page_of_a_migration_is_written_from_its_json() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/migration.json"));
        let report = from_json(path).unwrap();
        assert_eq!((report.page_path(), report.is_debug()), ("docs/performance-migration.md", false));
        let page = report.page();
        for figure in &report.figures {
            assert!(
                page.contains(&format!("| {} | ", figure.name)),
                "{} has no part on the page",
                figure.name
            );
        }
        // A cost of about nothing has a wide spread, and holds all the same when no round is over its bound.
        let claim = "| seam and lock: the owner's lock on a write: its time over what is allowed | each round at most 1 | 0.02 | 900 % | holds |";
        assert!(page.contains(claim), "{page}");
    }

    #[test]
    fn another_schema_is_refused() {
        let path = std::env::temp_dir().join(format!("bench-{}.json", std::process::id()));
        let report = Report { schema: SCHEMA + 1, ..Report::default() };
        std::fs::write(&path, serde_json::to_string(&report).unwrap()).unwrap();
        let refused = from_json(&path).map(|_| ()).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(refused, "the JSON has schema 2, this program reads 1");
    }
}
