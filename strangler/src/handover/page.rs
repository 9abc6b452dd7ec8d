//! The tables as `docs/handover.md` shows them, and what must be so in any row.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::source::{self, STEPS as AT_SOURCE};
use super::target::{self, STEPS as AT_TARGET, Standing};
use super::{Facts, Guard};
use crate::{Epoch, Home, Phase};

const UPDATE: &str = "cargo test -p strangler --lib write_the_page -- --ignored";
const BEGIN: &str = "<!-- steps: begin -->\n";
const END: &str = "<!-- steps: end -->";
const FACTS: [Facts; 4] = [
    Facts { quiet: false, known: false },
    Facts { quiet: true, known: false },
    Facts { quiet: false, known: true },
    Facts { quiet: true, known: true },
];

/// Each row of the source's that its checks allow, with an epoch in the middle.
fn source_rows() -> impl Iterator<Item = source::Row> {
    let places = [
        (Home::Source, Phase::Settled),
        (Home::Source, Phase::Moving),
        (Home::Target, Phase::Settled),
        (Home::Target, Phase::Recalling),
    ];
    places
        .map(|(owner, phase)| source::Row { owner, phase, epoch: Epoch(5), granted_epoch: Epoch(3) })
        .into_iter()
}

fn target_rows() -> [Option<target::Row>; 5] {
    let row = |writable, recall_epoch| Some(target::Row { epoch: Epoch(5), writable, recall_epoch });
    [None, row(false, None), row(true, None), row(true, Some(Epoch(6))), row(true, Some(Epoch(7)))]
}

#[test]
fn one_step_at_most_fits_and_an_epoch_never_falls() {
    let mut met = 0;
    for row in source_rows() {
        for (message, epoch, facts) in all(&AT_SOURCE.map(|step| step.message)) {
            let fits = AT_SOURCE
                .iter()
                .filter(|step| step.from == (row.owner, row.phase) && step.message == message);
            let fits =
                fits.filter(|step| Guard::check_all(step.guards, epoch, row.epoch, None, facts).is_ok());
            let names: Vec<_> = fits.map(|step| step.name).collect();
            let stepped = row.step(message, epoch, facts).ok();
            assert_eq!(
                names,
                stepped.iter().map(|(_, step)| step.name).collect::<Vec<_>>(),
                "{row:?} {message:?}"
            );
            let Some((after, _)) = stepped else { continue };
            met += 1;
            assert!(after.epoch >= row.epoch && after.granted_epoch >= row.granted_epoch, "{after:?}");
            assert!(after.granted_epoch <= after.epoch, "{after:?}");
            // As the table's check has it.
            let settled = after.phase == Phase::Settled;
            assert!(settled || (after.phase == Phase::Moving) == (after.owner == Home::Source), "{after:?}");
            // Whoever saw the row before a change of owner or phase is told apart from who saw it after.
            let moved = (after.owner, after.phase) != (row.owner, row.phase);
            assert_eq!(moved, after.epoch > row.epoch, "{after:?}");
        }
    }
    assert!(met >= AT_SOURCE.len());
}

#[test]
fn one_step_at_most_fits_the_target_and_its_epoch_never_falls() {
    let mut met = 0;
    for row in target_rows() {
        let (standing, at) = (target::Row::standing(row), row.map_or(Epoch(0), |row| row.epoch));
        let recall = row.and_then(|row| row.recall_epoch);
        for (message, epoch, facts) in all(&AT_TARGET.map(|step| step.message)) {
            let fits = AT_TARGET.iter().filter(|step| step.from == standing && step.message == message);
            let fits = fits.filter(|step| Guard::check_all(step.guards, epoch, at, recall, facts).is_ok());
            let names: Vec<_> = fits.map(|step| step.name).collect();
            let stepped = target::Row::step(row, message, epoch, facts).ok();
            assert_eq!(
                names,
                stepped.iter().map(|(_, step)| step.name).collect::<Vec<_>>(),
                "{row:?} {message:?}"
            );
            let Some((after, step)) = stepped else { continue };
            met += 1;
            assert_eq!(target::Row::standing(after), step.to, "{row:?} {message:?}");
            let Some(after) = after else { continue };
            assert!(after.epoch >= at, "{after:?}");
            // As the table's check has it.
            assert!(after.recall_epoch.is_none_or(|recall| recall >= after.epoch), "{after:?}");
        }
    }
    assert!(met >= AT_TARGET.len());
}

/// Every message, with every epoch round the rows', and every fact.
fn all<M: Copy>(messages: &[M]) -> impl Iterator<Item = (M, Epoch, Facts)> {
    let epochs = (0..=8).map(Epoch);
    let asked = epochs.flat_map(|epoch| FACTS.map(|facts| (epoch, facts)));
    messages.iter().flat_map(move |message| asked.clone().map(|(epoch, facts)| (*message, epoch, facts)))
}

#[test]
fn who_is_fenced_neither_begins_nor_ends_anything() {
    let source: Vec<_> = source_rows().map(|row| (row.may_write(), row.may_settle())).collect();
    assert_eq!(source, [(true, true), (false, false), (false, false), (false, false)]);
    let target = target_rows().map(|row| (target::Row::may_write(row), target::Row::may_settle(row)));
    assert_eq!(target, [(false, false), (false, false), (true, true), (false, true), (false, true)]);
}

#[test]
fn the_names_of_steps_are_unique() {
    let mut names: Vec<_> =
        AT_SOURCE.map(|step| step.name).into_iter().chain(AT_TARGET.map(|step| step.name)).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

fn drawn() -> String {
    let mut page =
        "### The source's row\n| step | row | message | if | row after | and |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for source::Step { name, from, message, guards, to, sets, effect } in &AT_SOURCE {
        let after = match sets {
            source::Sets::Nothing => "-".to_owned(),
            source::Sets::NextEpoch => format!("{}, epoch + 1", place(*to)),
            source::Sets::GrantedEpoch => "`granted_epoch` = its epoch".to_owned(),
        };
        let (from, guards) = (place(*from), listed(guards));
        writeln!(page, "| {name} | {from} | `{message:?}` | {guards} | {after} | {effect} |").unwrap();
    }
    page += "\n### The target's row\n| step | row | message | if | row after | and |\n|---|---|---|---|---|---|\n";
    for target::Step { name, from, message, guards, to, sets, effect } in &AT_TARGET {
        let after = match sets {
            target::Sets::Nothing => "-".to_owned(),
            target::Sets::Epoch => format!("{}, `epoch` = its epoch", standing(*to)),
            target::Sets::RecallEpoch => "`recall_epoch` = its epoch".to_owned(),
        };
        let (from, guards) = (standing(*from), listed(guards));
        writeln!(page, "| {name} | {from} | `{message:?}` | {guards} | {after} | {effect} |").unwrap();
    }
    page
}

fn place((owner, phase): (Home, Phase)) -> String {
    format!("{owner}, {}", phase.name())
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Absent => "none",
        Standing::Fenced => "fenced",
        Standing::Writable => "writable",
        Standing::Recalled => "recalled",
    }
}

fn listed(guards: &[Guard]) -> String {
    if guards.is_empty() {
        return "-".to_owned();
    }
    guards.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn page() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/handover.md");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_page_shows_the_tables() {
    let (path, text) = page();
    let shown = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(shown, _)| shown);
    assert_eq!(shown, Some(&*drawn()), "{} is out of date: run `{UPDATE}`", path.display());
}

/// Writes what [`the_page_shows_the_tables`] compares.
#[test]
#[ignore = "writes docs/handover.md"]
fn write_the_page() {
    let (path, text) = page();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", drawn())).unwrap();
}
