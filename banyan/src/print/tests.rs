use serde_json::json;

use super::{Print, grouped, problem};
use crate::answers::{Approved, Back, Backfill, Parity, Pinned, Plan, Problem, Repaired, Status, Step, Why};

fn status(patch: serde_json::Value) -> String {
    let mut answer = json!({
        "migration": "payments", "stage": "ramping", "percent": 25, "tenants": [], "draining": false, "held": null,
        "metric": "p99 of checkout", "revision": 4, "since": "2026-01-01T00:00:00Z", "since_seconds": 870,
        "keys": { "source": 48_120, "target": 1_604, "moving": 0 },
        "target": "the target serves",
        "feed": { "sampled": 1_000, "behind": 2, "parked": 0, "awaiting": 0 },
        "reverse_feed": null, "controller": "77-ab",
        "next": { "stage": "ramping", "gate": "feed", "verdict": "inconclusive", "found": "2 of 1000 keys behind" },
        "history": [],
    });
    for (name, value) in patch.as_object().unwrap() {
        answer[name] = value.clone();
    }
    serde_json::from_value::<Status>(answer).unwrap().print()
}

fn step(refused: serde_json::Value) -> serde_json::Value {
    json!({
        "migration": "payments", "entered": false,
        "from": { "stage": "ramping", "percent": 25, "tenants": [] },
        "to": { "stage": "ramping", "percent": 50, "tenants": ["pilot"] },
        "moves": "births only; moves no key",
        "way_back": "banyan rollback (births to source at once; 1604 keys are called back)",
        "gates": [
            { "name": "target_healthy", "verdict": "pass", "found": "the target serves", "evidence": null },
            { "name": "feed", "verdict": "inconclusive", "found": "no key was written yet", "evidence": {} },
        ],
        "refused": refused, "seeded": 0, "revision": 4,
    })
}

fn refusal() -> serde_json::Value {
    json!({ "rule": "gate `feed` is inconclusive: no key was written yet", "way_on": "let it catch up" })
}

#[test]
fn a_status_is_one_row_and_what_needs_a_word() {
    assert_eq!(
        status(json!({})),
        "\
migration   stage          since    keys source/target   feed                                   reverse feed   gate to next
payments    ramping 25 %   14 min   48 120 / 1 604       2 of 1 000 behind, heartbeat unknown   unknown        inconclusive `feed` of ramping: 2 of 1000 keys behind
must improve: p99 of checkout
target: the target serves
controller: 77-ab
"
    );
    let feed =
        json!({ "sampled": 1_000, "behind": 0, "parked": 0, "awaiting": 0, "heartbeat_age_ms": 3_400 });
    let alive = status(json!({ "reverse_feed": feed }));
    assert!(alive.contains("0 of 1 000 behind, heartbeat 3 s ago"), "{alive}");
    let held =
        status(json!({ "held": "numbers look odd", "draining": true, "controller": null, "next": null }));
    assert!(held.contains("held: numbers look odd (`banyan advance --resume` lifts it)\n"), "{held}");
    assert!(!held.contains("pinned:"), "{held}");
    let moving = status(json!({
        "keys": { "source": 1, "target": 2, "moving": 0, "recalling": 1_500, "granting": 3 }, "pinned": 2,
        "came_back": 1,
    }));
    let keys = "keys: 1 500 on their way back, 3 not yet confirmed by the target\n";
    assert!(moving.contains(keys), "{moving}");
    assert!(moving.contains("pinned: 2 keys can't move now (`banyan pinned` says why)\n"), "{moving}");
    assert!(moving.contains("came back: 1 keys, whose offers") && !held.contains("came back"), "{moving}");
    assert!(held.contains("draining: rolled back") && held.contains("controller: none acts now"), "{held}");
}

#[test]
fn pinned_keys_come_with_their_reasons() {
    let key = json!({ "key": "k", "why": "a refund is under way", "since": "2026-01-01T00:00:00Z",
                      "looked_at": "2026-01-01T00:00:05Z", "tries": 3 });
    let pinned = json!({ "migration": "payments", "count": 1, "keys": [key] });
    let pinned: Pinned = serde_json::from_value(pinned).unwrap();
    assert_eq!(
        pinned.print(),
        "1 keys can't move now\nk   a refund is under way   since 2026-01-01T00:00:00Z, 3 tries\n"
    );
    let none: Pinned = serde_json::from_value(json!({ "count": 0, "keys": [] })).unwrap();
    assert_eq!(none.print(), "no key is pinned\n");
}

#[test]
fn a_dry_run_says_what_would_be_and_why_not() {
    let answer: Step = serde_json::from_value(step(refusal())).unwrap();
    assert!(answer.refused());
    assert_eq!(
        answer.print(),
        "\
would enter: ramping 50 % + pilot   births only; moves no key   way back: banyan rollback (births to source at once; 1604 keys are called back)
pass          target_healthy  the target serves
inconclusive  feed            no key was written yet
refused: gate `feed` is inconclusive: no key was written yet
way on: let it catch up
"
    );
}

#[test]
fn a_plan_shows_the_present_and_the_next_step() {
    let policy = json!({ "stage": "following", "percent": 0, "tenants": [], "revision": 2 });
    let plan =
        json!({ "policy": policy, "next": step(json!(null)), "way_back": "banyan rollback (to local)" });
    let plan: Plan = serde_json::from_value(plan).unwrap();
    let text = plan.print();
    assert!(
        text.starts_with("now: following   way back: banyan rollback (to local)\nwould enter: ramping 50 %"),
        "{text}"
    );
    assert!(!plan.refused());
}

#[test]
fn a_rollback_says_what_stays() {
    let back = json!({
        "from": { "stage": "ramping", "percent": 25, "tenants": [] },
        "to": { "stage": "ramping", "percent": 0, "tenants": [] },
        "says": "births are the source's; 3 keys stay",
    });
    let back: Back = serde_json::from_value(back).unwrap();
    assert_eq!(
        back.print(),
        "rolled back: ramping 25 % -> ramping 0 %\nbirths are the source's; 3 keys stay\n"
    );
}

#[test]
fn why_names_owner_rule_and_versions() {
    let why = json!({
        "migration": "payments", "key": "k", "tenant": "a", "owner": "target", "phase": "settled", "epoch": 1,
        "granted_epoch": 0, "born_at": "2026-01-01T00:00:00Z", "share": 13, "because": "its share 13 is below 25",
        "would_be_born": "source", "applied_at_target": 3, "applied_at_source": null,
        "heartbeat_age_ms_at_target": 4_200, "heartbeat_age_ms_at_source": null,
        "lag": "none of the 3 keys written after it has arrived",
    });
    let why: Why = serde_json::from_value(why).unwrap();
    assert_eq!(
        why.print(),
        "\
k is the target's, epoch 1
tenant a, since 2026-01-01T00:00:00Z
because: its share 13 is below 25
would be born now: source
applied: source unknown, target version 3
last heartbeat: at the source unknown, at the target 4 s ago
behind: none of the 3 keys written after it has arrived
"
    );
}

#[test]
fn a_problem_is_printed_with_the_rule_or_its_fields() {
    let refused =
        json!({ "title": "The step was refused", "detail": "..", "rule": "held", "way_on": "see to it" });
    let refused: Problem = serde_json::from_value(refused).unwrap();
    assert_eq!(problem(&refused), "refused: held\nway on: see to it\n");
    let invalid = json!({ "title": "Invalid", "detail": "a field is wrong", "errors": [{ "pointer": "/metric", "detail": "too long" }] });
    let invalid: Problem = serde_json::from_value(invalid).unwrap();
    assert_eq!(problem(&invalid), "refused: a field is wrong\n  metric: too long\n");
}

#[test]
fn digits_stand_in_threes() {
    assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
}

#[test]
fn a_backfill_tells_how_far_it_is_or_that_it_is_done() {
    let backfill = json!({ "walk": 1, "done": 1_200, "of": 20_000, "rate": 400, "eta_seconds": 47, "published": 1_199,
                           "waits": "k: another transaction has its row", "done_at": null });
    let under_way: Backfill = serde_json::from_value(backfill.clone()).unwrap();
    let lines = "backfill: walk 1, 1 200 of 20 000 keys, 400/s, 47 s left; 1 199 published\n\
                 backfill waits for k: another transaction has its row\n";
    assert_eq!(under_way.print(), lines);
    assert!(status(json!({ "backfill": backfill })).contains(lines));
    let done = json!({ "walk": 2, "done": 5, "of": 5, "rate": 0, "eta_seconds": null, "published": 4, "waits": null,
                       "done_at": "2026-01-01T00:00:00Z" });
    assert!(!status(json!({ "backfill": done.clone() })).contains("backfill"));
    let done: Backfill = serde_json::from_value(done).unwrap();
    assert_eq!(
        done.print(),
        "backfill: done at 2026-01-01T00:00:00Z; 4 keys were published, and a walk over 5 found none lacking\n"
    );
}

#[test]
fn a_comparison_names_the_keys_and_only_a_pass_exits_with_0() {
    let none = json!({ "count": 0, "keys": [] });
    let mut parity = json!({
        "verdict": "fail", "found": "1 of 3 keys differ", "different": { "count": 1, "keys": ["k"] }, "unsettled": none,
        "missing_at_source": none, "missing_at_target": { "count": 2, "keys": ["l", "m"] },
    });
    let failed: Parity = serde_json::from_value(parity.clone()).unwrap();
    assert!(failed.refused());
    assert_eq!(
        failed.print(),
        "fail: 1 of 3 keys differ\n1 differ:\n  k\n2 are missing at the target:\n  l\n  m\n"
    );
    parity["verdict"] = json!("pass");
    assert!(!serde_json::from_value::<Parity>(parity).unwrap().refused());
}

#[test]
fn a_repair_names_what_was_not_published() {
    let repaired = json!({ "published": ["a", "b"], "left": [{ "key": "c", "why": "it has no owner" }] });
    let repaired: Repaired = serde_json::from_value(repaired).unwrap();
    assert_eq!(repaired.print(), "2 keys were published by their owners\nnot c: it has no owner\n");
    assert!(repaired.refused());
}

#[test]
fn approvals_and_the_last_day_are_shown() {
    let ada = json!({ "id": "1", "by": "ada", "at": "2026-01-01T00:00:00Z", "reason": "it is time" });
    let plan = json!({ "metric": "m", "decide_by": "2026-03-31", "owner": "us", "overdue": true });
    let text = status(json!({ "plan": plan, "approvals": [ada], "stage": "reading" }));
    assert!(text.contains("reading 25 %"), "{text}");
    assert!(
        text.contains("decide by 2026-03-31, which is past: no step forward is taken; owner: us\n"),
        "{text}"
    );
    let line = "approved by ada at 2026-01-01T00:00:00Z: it is time\n";
    assert!(text.contains(line), "{text}");
    let approved: Approved =
        serde_json::from_value(json!({ "stage": "sealed", "approvals": [ada], "needed": 2 })).unwrap();
    assert_eq!(approved.print(), format!("stage sealed: 1 of 2 people are for it\n{line}"));
}
