use time::OffsetDateTime;

use super::{Advance, Policy};
use crate::{Error, Stage};

fn policy(stage: Stage) -> Policy {
    Policy {
        stage,
        percent: 0,
        tenants: Vec::new(),
        salt: "s".to_owned(),
        metric: None,
        draining: false,
        held: None,
        revision: 1,
        changed_at: OffsetDateTime::UNIX_EPOCH,
    }
}

fn refused(result: Result<Policy, Error>) -> String {
    match result {
        Err(error @ (Error::Refused(_) | Error::Invalid { .. })) => error.to_string(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn the_walk_takes_each_stage_in_order() {
    let following = policy(Stage::Local).advanced(&Advance::to(Stage::Following), &[]).unwrap();
    let shadowing = following.advanced(&Advance::to(Stage::Shadowing), &[]).unwrap();
    let half = Advance { percent: Some(50), ..Advance::to(Stage::Reading) };
    let reading = shadowing.advanced(&half, &[]).unwrap();
    assert_eq!((reading.stage, reading.percent), (Stage::Reading, 50));
    assert_eq!((reading.ahead(&[]), shadowing.ahead(&[])), (Some(Stage::Reading), Some(Stage::Reading)));
    let ramping = reading.advanced(&Advance::to(Stage::Ramping), &[]).unwrap();
    assert_eq!(ramping.percent, 0, "half of the reads is not half of the births");
    let quarter = ramping.advanced(&Advance::ramp(25), &[]).unwrap();
    assert_eq!((quarter.stage, quarter.percent), (Stage::Ramping, 25));
    assert!(ramping.widens(&quarter));
    assert!(!quarter.widens(&ramping));
    let full = quarter.advanced(&Advance::ramp(100), &[]).unwrap();
    let primary = full.advanced(&Advance::to(Stage::Primary), &[]).unwrap();
    assert!(primary.hands_over() && full.widens(&primary) && !full.hands_over());
    let sealed = primary.advanced(&Advance::to(Stage::Sealed), &[]).unwrap();
    let removed = sealed.advanced(&Advance::to(Stage::Removed), &[]).unwrap();
    assert_eq!((sealed.ahead(&[]), removed.ahead(&[])), (Some(Stage::Removed), None));
    for last in [&sealed, &removed] {
        assert!(!last.hands_over());
        assert!(refused(last.back(0)).contains("is not rolled back: the source has lost its rights"));
    }
}

#[test]
fn a_ramp_is_whole_with_all_tenants_of_the_plan() {
    let planned = ["a".to_owned(), "b".to_owned()];
    let some = Policy { tenants: vec!["a".to_owned()], ..policy(Stage::Ramping) };
    let said = refused(some.advanced(&Advance::to(Stage::Primary), &planned));
    assert!(said.contains("a ramp of 100 % or of the plan's tenants (a, b)"), "{said}");
    let all = Policy { tenants: planned.to_vec(), ..some };
    assert_eq!(all.advanced(&Advance::to(Stage::Primary), &planned).unwrap().stage, Stage::Primary);
    refused(all.advanced(&Advance::to(Stage::Primary), &[]));
}

#[test]
fn primary_that_is_rolled_back_drains_and_may_be_entered_again() {
    let draining = policy(Stage::Primary).back(3).unwrap();
    assert_eq!((draining.stage, draining.percent, draining.draining), (Stage::Primary, 0, true));
    assert!(!draining.hands_over());
    assert_eq!(draining.back(0).unwrap().stage, Stage::Following);
    let again = draining.advanced(&Advance::to(Stage::Primary), &[]).unwrap();
    assert!(again.hands_over() && draining.widens(&again), "its gates are asked again");
    refused(again.advanced(&Advance::to(Stage::Primary), &[]));
}

#[test]
fn each_illegal_step_names_its_rule_and_the_way_on() {
    let cases = [
        (
            Stage::Local,
            Advance::ramp(5),
            "refused: stage ramping is not entered from local; the next stage is following",
        ),
        (
            Stage::Following,
            Advance::to(Stage::Following),
            "it is in stage following already; the next stage is shadowing",
        ),
        (
            Stage::Ramping,
            Advance::to(Stage::Following),
            "stage following is before ramping; go back with `banyan rollback`",
        ),
        (Stage::Ramping, Advance::to(Stage::Ramping), "with this percent and these tenants already"),
        (
            Stage::Ramping,
            Advance::to(Stage::Primary),
            "entered from a ramp of 100 %, not of 0 %; ramp further",
        ),
        (Stage::Primary, Advance::to(Stage::Removed), "stage removed is not entered from primary"),
        (Stage::Following, Advance::ramp(1), "stage ramping is not entered from following"),
        (Stage::Removed, Advance::to(Stage::Removed), "it is the last stage"),
        (Stage::Following, Advance::ramp(101), "percent: 101 is not 0 to 100"),
        (Stage::Following, Advance::ramp(-1), "percent: -1 is not 0 to 100"),
        (
            Stage::Local,
            Advance { percent: Some(5), ..Advance::to(Stage::Following) },
            "percent: only stages reading and ramping",
        ),
        (
            Stage::Local,
            Advance { metric: Some(" ".into()), ..Advance::to(Stage::Following) },
            "metric: must be 1",
        ),
        (
            Stage::Following,
            Advance { tenants: Some(vec![String::new()]), ..Advance::ramp(1) },
            "tenants: each must",
        ),
    ];
    for (stage, step, text) in cases {
        let said = refused(policy(stage).advanced(&step, &[]));
        assert!(said.contains(text), "{said:?} lacks {text:?}");
    }
}

#[test]
fn a_hold_stops_each_step_until_it_is_lifted() {
    let held = Policy { held: Some("numbers look odd".to_owned()), ..policy(Stage::Ramping) };
    assert!(refused(held.advanced(&Advance::ramp(1), &[])).contains("numbers look odd"));
    let resumed = held.advanced(&Advance { resume: true, ..Advance::ramp(1) }, &[]).unwrap();
    assert_eq!(resumed.held, None);
}

#[test]
fn a_hold_is_lifted_in_each_stage_and_nothing_else_changes() {
    for stage in Stage::ALL {
        let free = Policy { percent: 25, tenants: vec!["t".to_owned()], ..policy(stage) };
        for draining in [false, true] {
            let held = Policy { held: Some("numbers look odd".to_owned()), draining, ..free.clone() };
            let lifted = held.advanced(&Advance::resume(), &[]).unwrap();
            assert_eq!(lifted, Policy { held: None, ..held.clone() });
            assert!(!held.widens(&lifted), "no gate is asked");
            // Naming the stage does as much, and enters again what is being rolled back.
            assert!(refused(held.advanced(&Advance::to(stage), &[])).contains("numbers look odd"));
            let named = Advance { resume: true, ..Advance::to(stage) };
            let lifted = held.advanced(&named, &[]).unwrap();
            assert_eq!(lifted, Policy { held: None, draining: false, ..held.clone() });
            assert_eq!(held.widens(&lifted), draining);
        }
        assert!(refused(free.advanced(&Advance::resume(), &[])).contains("is not held"));
    }
}

#[test]
fn only_a_hold_is_lifted_without_naming_a_stage() {
    let held = Policy { held: Some("numbers look odd".to_owned()), ..policy(Stage::Ramping) };
    let tenants = Some(Vec::new());
    for (step, text) in [
        (Advance { resume: false, ..Advance::resume() }, "to: name the stage"),
        (Advance { percent: Some(5), ..Advance::resume() }, "percent: only stages reading and ramping"),
        (Advance { tenants, ..Advance::resume() }, "tenants: only stages reading and ramping"),
    ] {
        let said = refused(held.advanced(&step, &[]));
        assert!(said.contains(text), "{said:?} lacks {text:?}");
    }
}

#[test]
fn the_next_step_doubles_a_cohort_and_begins_the_next_one_at_nothing() {
    let of = |percent| Policy { percent, ..policy(Stage::Ramping) };
    for (from, percent) in [(0, 1), (1, 2), (30, 60), (60, 100)] {
        let step = of(from).next_step(&[]).unwrap();
        assert_eq!((step.to, step.percent), (Some(Stage::Ramping), Some(percent)));
    }
    let step = of(100).next_step(&[]).unwrap();
    assert_eq!((step.to, step.percent), (Some(Stage::Primary), None));
    let reading = Policy { percent: 100, ..policy(Stage::Reading) };
    let ramping = reading.advanced(&reading.next_step(&[]).unwrap(), &[]).unwrap();
    assert_eq!((ramping.stage, ramping.percent), (Stage::Ramping, 0));
    assert_eq!(policy(Stage::Removed).next_step(&[]), None);
}

#[test]
fn a_rollback_stops_births_at_once_and_lowers_the_stage_only_when_no_key_is_away() {
    let ramping = Policy { percent: 50, tenants: vec!["t".to_owned()], ..policy(Stage::Ramping) };
    let draining = ramping.back(3).unwrap();
    assert_eq!((draining.stage, draining.percent, draining.draining), (Stage::Ramping, 0, true));
    assert!(draining.tenants.is_empty());
    assert_eq!(draining.back(0).unwrap().stage, Stage::Following);
    assert!(!draining.advanced(&Advance::ramp(10), &[]).unwrap().draining);
    assert_eq!(policy(Stage::Following).back(0).unwrap().stage, Stage::Local);
    refused(policy(Stage::Following).back(1));
    refused(policy(Stage::Local).back(0));
}
