//! The true rules hold.

use strangler::Home;
use strangler::handover::{source, target};

use crate::check::{Bounds, holds};
use crate::rules::Rules;

const EITHER: &[Home] = &[Home::Source, Home::Target];
/// Forward, back and forward again, with the target emptied in between.
const ROUND: Bounds =
    Bounds { keys: 1, births: EITHER, epoch_max: 6, writes: 1, snapshots: 0, empties: 1, skips: 0 };

#[test]
fn a_key_goes_forward_and_back_and_the_target_is_emptied() {
    holds("one key, emptied", ROUND, Rules::TRUE);
}

#[test]
fn a_key_is_written_at_both_homes() {
    holds("one key, two writes", Bounds { writes: 2, empties: 0, ..ROUND }, Rules::TRUE);
}

#[test]
fn a_key_is_repaired_at_any_time() {
    holds("one key, repaired", Bounds { epoch_max: 4, snapshots: 1, ..ROUND }, Rules::TRUE);
}

#[test]
fn a_record_that_its_home_gives_up_is_made_up_for_by_the_owner() {
    holds("one key, skipped", Bounds { empties: 0, skips: 1, ..ROUND }, Rules::TRUE);
}

#[test]
fn two_keys_share_a_log_and_are_emptied_together() {
    holds("two keys, emptied", Bounds { keys: 2, epoch_max: 3, writes: 0, ..ROUND }, Rules::TRUE);
}

#[test]
fn two_keys_are_written() {
    holds("two keys, written", Bounds { keys: 2, epoch_max: 2, empties: 0, ..ROUND }, Rules::TRUE);
}

/// A step that no run takes was never checked.
#[test]
fn every_step_is_taken() {
    let mut taken = holds("one key, plain", Bounds { empties: 0, ..ROUND }, Rules::TRUE);
    taken.extend(holds("one key, read only", Bounds { writes: 0, snapshots: 1, ..ROUND }, Rules::TRUE));
    // The gate and the cursors keep a second first event away. Should they not, the row stays as it is.
    assert!(taken.insert("born here before"), "it is reached by now: it needs no exemption");
    let names = source::STEPS.iter().map(|step| step.name).chain(target::STEPS.iter().map(|step| step.name));
    let never: Vec<_> = names.filter(|name| !taken.contains(name)).collect();
    assert!(never.is_empty(), "{never:?}");
}

#[test]
#[ignore = "takes minutes"]
fn longer() {
    holds("one key, long", Bounds { writes: 2, snapshots: 1, ..ROUND }, Rules::TRUE);
    holds("one key, three writes", Bounds { epoch_max: 7, writes: 3, empties: 0, ..ROUND }, Rules::TRUE);
    holds("two keys, long", Bounds { keys: 2, epoch_max: 3, empties: 0, ..ROUND }, Rules::TRUE);
    holds(
        "two keys, forward and back",
        Bounds { keys: 2, epoch_max: 4, writes: 0, empties: 0, ..ROUND },
        Rules::TRUE,
    );
}
