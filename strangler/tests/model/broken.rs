//! Each rule broken by itself: the checker must find where that leads, or it would not see it in the code either. A broken rule
//! is a function round the tables' step that asks it something else; nothing is written anew.

use strangler::handover::{Facts, Refusal, source, target};
use strangler::{Epoch, Home};

use crate::check::{Bounds, finds};
use crate::property::{ALL_APPLIED, DENSE, ENDS, HANDED_OVER, NO_ALARM, ONE_WRITER};
use crate::rules::Rules;

type AtSource = Result<(source::Row, &'static source::Step), Refusal>;
type AtTarget = Result<(Option<target::Row>, &'static target::Step), Refusal>;

const ROUND: Bounds =
    Bounds { keys: 1, births: &[Home::Source], epoch_max: 5, writes: 2, snapshots: 0, empties: 0, skips: 0 };
const AT_TARGET: Bounds = Bounds { births: &[Home::Target], ..ROUND };
const EMPTIED: Bounds =
    Bounds { births: &[Home::Source, Home::Target], epoch_max: 6, empties: 1, writes: 1, ..ROUND };

#[test]
fn a_write_that_trusts_a_cached_owner_makes_two_writers() {
    fn step(row: source::Row, message: source::Message, epoch: Epoch, facts: Facts) -> AtSource {
        match message {
            source::Message::Intent | source::Message::Outcome => {
                let (_, step) = source::Row::born(Home::Source).step(message, epoch, facts)?;
                Ok((row, step))
            }
            _ => row.step(message, epoch, facts),
        }
    }
    finds("cached owner", ROUND, Rules { source: step, ..Rules::TRUE }, ONE_WRITER);
}

#[test]
fn an_offer_read_before_a_running_write_ended_leaves_that_out() {
    fn step(row: source::Row, message: source::Message, epoch: Epoch, facts: Facts) -> AtSource {
        let quiet = facts.quiet || message == source::Message::Fence;
        row.step(message, epoch, Facts { quiet, ..facts })
    }
    finds("early position", ROUND, Rules { source: step, ..Rules::TRUE }, HANDED_OVER);
    finds("early position", ROUND, Rules { source: step, ..Rules::TRUE }, ALL_APPLIED);
}

#[test]
fn a_ready_without_its_epoch_decides_for_an_old_state() {
    fn step(row: source::Row, message: source::Message, epoch: Epoch, facts: Facts) -> AtSource {
        let epoch = if message == source::Message::Ready { row.epoch } else { epoch };
        row.step(message, epoch, facts)
    }
    finds("ready without epoch", ROUND, Rules { source: step, ..Rules::TRUE }, ALL_APPLIED);
}

#[test]
fn a_late_grant_that_is_obeyed_makes_two_writers() {
    fn step(row: Option<target::Row>, message: target::Message, epoch: Epoch, facts: Facts) -> AtTarget {
        let forgetful = row.map(|row| target::Row { epoch: Epoch(0), recall_epoch: None, ..row });
        let asked = if message == target::Message::Grant { forgetful } else { row };
        let (after, step) = target::Row::step(asked, message, epoch, facts)?;
        let highest = |after: target::Row| after.epoch.max(row.map_or(Epoch(0), |row| row.epoch));
        Ok((after.map(|after| target::Row { epoch: highest(after), ..after }), step))
    }
    finds("late grant", ROUND, Rules { target: step, ..Rules::TRUE }, ONE_WRITER);
}

/// The step of a row as if the key were known here, for one message.
fn as_if_known(
    only: target::Message,
    row: Option<target::Row>,
    message: target::Message,
    epoch: Epoch,
    facts: Facts,
) -> AtTarget {
    if message != only {
        return target::Row::step(row, message, epoch, facts);
    }
    let made = row.unwrap_or(target::Row { epoch: Epoch(0), writable: false, recall_epoch: None });
    target::Row::step(Some(made), message, epoch, Facts { known: true, ..facts })
}

#[test]
fn a_recall_of_an_unknown_key_that_is_obeyed_writes_a_version_twice() {
    fn step(row: Option<target::Row>, message: target::Message, epoch: Epoch, facts: Facts) -> AtTarget {
        as_if_known(target::Message::Recall, row, message, epoch, facts)
    }
    finds("recall of an unknown key", AT_TARGET, Rules { target: step, ..Rules::TRUE }, DENSE);
}

#[test]
fn a_grant_of_an_unknown_key_that_is_obeyed_writes_on_nothing() {
    fn step(row: Option<target::Row>, message: target::Message, epoch: Epoch, facts: Facts) -> AtTarget {
        as_if_known(target::Message::Grant, row, message, epoch, facts)
    }
    finds("grant of an unknown key", AT_TARGET, Rules { target: step, ..Rules::TRUE }, ALL_APPLIED);
}

#[test]
fn a_release_taken_without_its_epoch_makes_two_writers() {
    fn step(row: source::Row, message: source::Message, epoch: Epoch, facts: Facts) -> AtSource {
        let epoch = if message == source::Message::Released { row.epoch } else { epoch };
        row.step(message, epoch, facts)
    }
    finds("release without epoch", AT_TARGET, Rules { source: step, ..Rules::TRUE }, ONE_WRITER);
}

#[test]
fn a_home_that_is_emptied_and_forgets_its_epochs_obeys_an_old_recall() {
    fn step(row: Option<target::Row>, message: target::Message, epoch: Epoch, facts: Facts) -> AtTarget {
        let (after, step) = target::Row::step(row, message, epoch, facts)?;
        let forgets = message == target::Message::Empty;
        Ok((after.map(|row| if forgets { target::Row { epoch: Epoch(0), ..row } } else { row }), step))
    }
    finds("emptied, epochs forgotten", EMPTIED, Rules { target: step, ..Rules::TRUE }, ALL_APPLIED);
}

#[test]
fn a_home_that_is_emptied_with_its_rows_and_cursors_is_born_again() {
    fn step(row: Option<target::Row>, message: target::Message, epoch: Epoch, facts: Facts) -> AtTarget {
        let (after, step) = target::Row::step(row, message, epoch, facts)?;
        Ok((after.filter(|_| message != target::Message::Empty), step))
    }
    let rules = Rules { target: step, cursors_stay: false, ..Rules::TRUE };
    finds("emptied, rows forgotten", EMPTIED, rules, ONE_WRITER);
}

#[test]
fn a_home_that_is_emptied_and_forgets_its_cursors_takes_itself_for_another_owner() {
    let rules = Rules { cursors_stay: false, ..Rules::TRUE };
    finds("emptied, cursors forgotten", EMPTIED, rules, NO_ALARM);
}

#[test]
fn a_home_that_is_emptied_in_the_middle_of_a_move_never_writes() {
    let rules = Rules { emptied_at_rest: false, ..Rules::TRUE };
    finds("emptied while moving", EMPTIED, rules, ENDS);
}

#[test]
fn a_recall_that_does_not_wait_for_what_is_under_way_strands_it() {
    fn step(row: Option<target::Row>, message: target::Message, epoch: Epoch, facts: Facts) -> AtTarget {
        let quiet = facts.quiet || message == target::Message::Recall;
        target::Row::step(row, message, epoch, Facts { quiet, ..facts })
    }
    finds("no drain", AT_TARGET, Rules { target: step, ..Rules::TRUE }, ENDS);
    finds("no drain", AT_TARGET, Rules { target: step, ..Rules::TRUE }, HANDED_OVER);
}

#[test]
fn a_recall_that_refuses_outcomes_too_is_busy_for_ever() {
    fn step(row: Option<target::Row>, message: target::Message, epoch: Epoch, facts: Facts) -> AtTarget {
        if message == target::Message::Outcome && target::Row::standing(row) == target::Standing::Recalled {
            return Err(Refusal::Moving);
        }
        target::Row::step(row, message, epoch, facts)
    }
    finds("outcomes refused", AT_TARGET, Rules { target: step, ..Rules::TRUE }, ENDS);
}

#[test]
fn a_recall_that_only_a_writer_obeys_never_ends_when_the_grant_was_lost() {
    fn step(row: Option<target::Row>, message: target::Message, epoch: Epoch, facts: Facts) -> AtTarget {
        let known = facts.known && message != target::Message::Recall;
        target::Row::step(row, message, epoch, Facts { known, ..facts })
    }
    finds("recall of a key never granted", ROUND, Rules { target: step, ..Rules::TRUE }, ENDS);
}

#[test]
fn a_cancel_without_a_new_epoch_can_not_be_granted() {
    fn step(row: source::Row, message: source::Message, epoch: Epoch, facts: Facts) -> AtSource {
        let (after, step) = row.step(message, epoch, facts)?;
        let epoch = if message == source::Message::Cancel { row.epoch } else { after.epoch };
        Ok((source::Row { epoch, ..after }, step))
    }
    finds("cancel keeps the epoch", AT_TARGET, Rules { source: step, ..Rules::TRUE }, ENDS);
}

#[test]
fn a_write_that_carries_the_epoch_of_a_recall_stops_it() {
    let rules = Rules { settled_epochs: false, ..Rules::TRUE };
    finds("unsettled epoch shown", AT_TARGET, rules, ENDS);
}

#[test]
fn a_repeat_that_is_applied_again_doubles() {
    let rules = Rules { gated: false, ..Rules::TRUE };
    finds("no gate", ROUND, rules, HANDED_OVER);
}

#[test]
fn a_filler_that_is_passed_over_leaves_out_what_it_replaced() {
    let rules = Rules { fillers_count: false, ..Rules::TRUE };
    finds("filler passed over", Bounds { skips: 1, ..AT_TARGET }, rules, HANDED_OVER);
}
