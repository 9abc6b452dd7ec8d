//! The gates by reads go by what this build counted lately, and by what speaks against the target as long as the stage lasts.

use strangler::{Advance, Controller, Gate, Stage, Verdict};

use crate::world::{World, gate, refusal};

const COMPARED: [&str; 2] = ["equal", "mutant_caught"];

/// Where a gate of the step to a stage stands.
async fn found(controller: &Controller, to: Stage, name: &str) -> Gate {
    let look = Advance { dry_run: true, ..Advance::to(to) };
    gate(&controller.advance(&look, "a test").await.unwrap(), name).clone()
}

async fn reads(controller: &Controller) -> Verdict {
    found(controller, Stage::Reading, "reads").await.verdict
}

/// All that was counted is from so long before.
async fn age(world: &World, sql: &'static str) {
    assert!(world.execute(sql).await > 0);
}

const A_DAY: &str = "update strangler.read_comparison set hour = hour - interval '25 hours'";
const COPIES_A_DAY: &str =
    "update strangler.read_comparison set hour = hour - interval '25 hours' where class = 'copy'";
const NINE_DAYS: &str = "update strangler.read_comparison set hour = hour - interval '9 days'";

#[tokio::test]
async fn what_another_build_found_counts_only_against_the_target_and_until_the_stage_is_entered_anew() {
    let world = World::new().await;
    let controller = world.controller();
    world.follow(&controller).await;
    let shadowing = Advance::to(Stage::Shadowing);
    controller.advance(&shadowing, "a test").await.unwrap();
    world.note_reads_of("another build", &COMPARED).await;
    let unshown = found(&controller, Stage::Reading, "reads").await;
    assert_eq!(unshown.verdict, Verdict::Inconclusive);
    assert!(unshown.found.contains("no read was compared yet; only reads by build"), "{}", unshown.found);
    world.note_reads(&COMPARED).await;
    assert_eq!(reads(&controller).await, Verdict::Pass);

    for class in ["money", "structure", "mutant_missed"] {
        world.note_reads_of("another build", &[class]).await;
        // More reads change nothing.
        world.note_reads(&COMPARED).await;
        let said = refusal(controller.advance(&Advance::to(Stage::Reading), "a test").await);
        assert!(said.contains("gate `reads` of stage reading failed"), "{said}");
        assert!(said.contains("`banyan rollback` and enter shadowing again"), "{said}");
        controller.rollback(None, "a test").await.unwrap();
        controller.advance(&shadowing, "a test").await.unwrap();
        assert_eq!(reads(&controller).await, Verdict::Inconclusive, "{class}: nothing is counted yet");
        world.note_reads(&COMPARED).await;
        assert_eq!(reads(&controller).await, Verdict::Pass, "{class}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_was_read_long_ago_shows_nothing_whatever_was_counted_since() {
    let world = World::new().await;
    let controller = world.controller();
    world.shadow(&controller).await;
    assert_eq!(reads(&controller).await, Verdict::Pass);
    age(&world, A_DAY).await;
    world.note_reads(&["dropped"]).await;
    assert_eq!(reads(&controller).await, Verdict::Inconclusive);
    world.note_reads(&COMPARED).await;
    controller.advance(&Advance::to(Stage::Reading), "a test").await.unwrap();

    world.note_reads(&["copy"]).await;
    let stale = async || found(&controller, Stage::Ramping, "stale_reads").await.verdict;
    assert_eq!(stale().await, Verdict::Pass);
    age(&world, COPIES_A_DAY).await;
    world.note_reads(&["not_found", "ahead"]).await;
    assert_eq!(stale().await, Verdict::Inconclusive);
    world.end().await;
}

#[tokio::test]
async fn a_difference_of_any_age_fails() {
    let world = World::new().await;
    let controller = world.controller();
    world.shadow(&controller).await;
    world.note_reads(&["structure"]).await;
    age(&world, NINE_DAYS).await;
    world.note_reads(&COMPARED).await;
    assert_eq!(reads(&controller).await, Verdict::Fail);
    world.end().await;
}

#[tokio::test]
async fn counts_are_a_row_an_hour_and_what_no_gate_looks_at_is_deleted() {
    let world = World::new().await;
    let controller = world.controller();
    world.shadow(&controller).await;
    world.note_reads(&COMPARED).await;
    let beside = "select count(*) - 2 * count(distinct hour) from strangler.read_comparison";
    assert_eq!(world.number(beside).await, 0, "one of each class");

    world.note_reads(&["money"]).await;
    age(&world, NINE_DAYS).await;
    world.note_reads(&COMPARED).await;
    let old = "select count(*) from strangler.read_comparison where hour < now() - interval '8 days'";
    let against = "select count(*) from strangler.read_comparison where class = 'money'";
    assert_eq!((world.number(old).await, world.number(against).await), (1, 1));
    controller.rollback(None, "a test").await.unwrap();
    controller.advance(&Advance::to(Stage::Shadowing), "a test").await.unwrap();
    world.note_reads(&COMPARED).await;
    assert_eq!((world.number(old).await, world.number(against).await), (0, 0), "that stage was left");
    world.end().await;
}
