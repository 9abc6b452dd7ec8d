//! The true rules hold.

use std::collections::BTreeSet;

use strangler::Home;
use strangler::handover::{source, target};

use crate::check::{Bounds, holds};
use crate::rules::Rules;

const EITHER: &[Home] = &[Home::Source, Home::Target];
/// Forward, back and forward again, with the target emptied in between.
const ROUND: Bounds = Bounds { keys: 1, births: EITHER, epoch_max: 6, writes: 1, snapshots: 0, empties: 1 };

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
    holds("one key, snapshots", Bounds { epoch_max: 4, snapshots: 2, empties: 1, ..ROUND }, Rules::TRUE);
}

#[test]
fn two_keys_share_a_log() {
    holds("two keys, emptied", Bounds { keys: 2, epoch_max: 3, writes: 0, ..ROUND }, Rules::TRUE);
}

#[test]
#[ignore = "takes minutes; with --release"]
fn longer() {
    holds("one key, long", Bounds { writes: 2, snapshots: 1, ..ROUND }, Rules::TRUE);
    holds("one key, three writes", Bounds { epoch_max: 7, writes: 3, empties: 0, ..ROUND }, Rules::TRUE);
    holds("two keys, long", Bounds { keys: 2, epoch_max: 3, writes: 1, empties: 1, ..ROUND }, Rules::TRUE);
}

/// A step that no run takes was never checked.
#[test]
fn every_step_is_taken() {
    let mut taken = holds("one key, short", Bounds { epoch_max: 5, snapshots: 1, ..ROUND }, Rules::TRUE);
    // The gate and the kept cursors keep a second first event away; the row would stay as it is if they did not.
    taken.insert("born here before");
    // Takes a round and another move.
    taken.insert("offer");
    let names = source::STEPS.iter().map(|step| step.name).chain(target::STEPS.iter().map(|step| step.name));
    assert_eq!(names.collect::<BTreeSet<_>>().difference(&taken).collect::<Vec<_>>(), Vec::<&&str>::new());
}
