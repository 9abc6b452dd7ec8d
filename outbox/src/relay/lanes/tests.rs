//! When a lane that is down is tried, and when it is told.

use super::*;

const STALL: Duration = Duration::from_secs(2);
const DELAY: Duration = Duration::from_millis(100);

/// A lane that has failed once.
fn failed() -> Lanes {
    let mut lanes = Lanes::new(STALL, (DELAY, DELAY));
    lanes.took_off(1, 6, 0);
    lanes.landed(1, 0, false);
    lanes.outage(1, "notes.v1", "it is away");
    lanes
}

fn back(at: &mut Instant, by: Duration) {
    *at -= by;
}

#[test]
fn a_lane_that_is_being_tried_is_not_due() {
    let mut lanes = failed();
    lanes.hold(1, 7);
    lanes.hold(1, 8);
    assert!(lanes.next_trial().is_some_and(|at| at > Instant::now()), "it rests");
    let lane = lanes.lanes.get_mut(&1).unwrap();
    back(&mut lane.down.as_mut().unwrap().0, DELAY);
    assert!(lanes.next_trial().is_some_and(|at| at <= Instant::now()));
    assert_eq!(lanes.trials().positions, [8]);
    // It is being fetched; or lost, then another is tried.
    assert!(lanes.next_trial().is_some_and(|at| at > Instant::now() + STALL / 2));
    assert!(lanes.trials().positions.is_empty());
    back(lanes.lanes.get_mut(&1).unwrap().tried.as_mut().unwrap(), STALL);
    assert!(lanes.next_trial().is_some_and(|at| at <= Instant::now()));
    assert_eq!(lanes.trials().positions, [7]);
}

#[test]
fn a_lane_whose_record_went_by_another_holds_nothing_back() {
    let mut lanes = failed();
    (7..=9).for_each(|position| lanes.hold(1, position));
    lanes.drop(1, 10);
    back(&mut lanes.lanes.get_mut(&1).unwrap().down.as_mut().unwrap().0, DELAY);
    assert_eq!(lanes.trials().positions, [9]);
    // Its topic's partitions have become known meanwhile.
    lanes.took_off(2, 9, 0);
    let left = lanes.trials();
    assert_eq!((left.positions, left.dropped), (vec![7, 8], true));
    assert!(lanes.trials().positions.is_empty());
    assert_eq!(lanes.next_trial(), None);
    // The other one is down as well: they are tried there, one by one.
    lanes.landed(2, 0, false);
    [9, 8, 7].iter().for_each(|position| lanes.hold(2, *position));
    back(&mut lanes.lanes.get_mut(&2).unwrap().down.as_mut().unwrap().0, DELAY);
    assert_eq!(lanes.trials().positions, [7]);
}

#[test]
fn an_outage_is_told_when_it_lasts_and_until_another_report() {
    const LEASE: Duration = Duration::from_secs(10);
    let told =
        |lanes: &Lanes| lanes.silent(LEASE).map(|(topic, why)| format!("{topic} {why}")).collect::<Vec<_>>();
    let mut lanes = failed();
    assert!(told(&lanes).is_empty());
    back(&mut lanes.lanes.get_mut(&1).unwrap().outage.as_mut().unwrap().since, LEASE);
    assert_eq!(told(&lanes), ["notes.v1 it is away"]);
    back(&mut lanes.lanes.get_mut(&1).unwrap().outage.as_mut().unwrap().last, TOLD_FOR);
    assert!(told(&lanes).is_empty(), "nobody tries it");
    lanes.took_off(1, 6, 0);
    assert_eq!(told(&lanes).len(), 1, "it is being tried");
    assert!(lanes.landed(1, 0, true).outage);
    assert!(told(&lanes).is_empty());
}
