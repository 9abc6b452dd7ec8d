//! What the target decided in the source's shadow is asked for before it may read.

use strangler::{
    Advance, Controller, DecisionClass, DecisionCount, DecisionSample, Decisions, Gate, Health, Memory,
    MutantCount, Peer, ProviderAccess, Stage, Verdict,
};
use time::{Duration, OffsetDateTime};

use crate::control::{TOKEN, client, serving};
use crate::world::{MIGRATION, World, decided, refusal};

/// Where the gates out of a stage stand.
async fn gates(controller: &Controller, to: Stage) -> Vec<Gate> {
    let asked = Advance { dry_run: true, ..Advance::to(to) };
    controller.advance(&asked, "a test").await.unwrap().gates
}

async fn gate(controller: &Controller, to: Stage, name: &str) -> Gate {
    let gates = gates(controller, to).await;
    let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
    let found = gates.iter().find(|gate| gate.name == name);
    found.unwrap_or_else(|| panic!("{name} is not among {names:?}")).clone()
}

async fn shadowing(world: &World) -> Controller {
    let controller = world.controller();
    world.follow(&controller).await;
    controller.advance(&Advance::to(Stage::Shadowing), "a test").await.unwrap();
    controller
}

fn with(class: DecisionClass, outcome: &str) -> Decisions {
    let mut found = decided();
    found.counts.push(DecisionCount { class, outcome: outcome.to_owned(), count: 1 });
    found
}

#[tokio::test]
async fn shadowing_needs_a_target_that_can_have_no_effect_outside() {
    let world = World::new().await;
    let controller = world.controller();
    world.follow(&controller).await;
    let asked = async |provider| {
        world.target.set_decisions(Decisions { provider, ..decided() });
        gate(&controller, Stage::Shadowing, "provider_denied").await.verdict
    };
    assert_eq!(asked(Some(ProviderAccess::Usable)).await, Verdict::Fail);
    assert_eq!(asked(None).await, Verdict::Inconclusive);
    assert_eq!(asked(Some(ProviderAccess::Denied)).await, Verdict::Pass);
    world.target.set_health(None);
    assert_eq!(gate(&controller, Stage::Shadowing, "provider_denied").await.verdict, Verdict::Inconclusive);
    world.end().await;
}

#[tokio::test]
async fn reading_needs_decisions_that_were_compared_and_are_the_same() {
    let world = World::new().await;
    let controller = shadowing(&world).await;
    for name in ["decisions", "coverage", "mutants", "provider_denied"] {
        assert_eq!(gate(&controller, Stage::Reading, name).await.verdict, Verdict::Pass, "{name}");
    }
    let found = gate(&controller, Stage::Reading, "decisions").await.found;
    assert!(found.contains("none differs (bound 3/5000)"), "{found}");

    let mut cent = with(DecisionClass::Money, "paid");
    let text = "captured_minor: decided 5, came 4".to_owned();
    let key = "first".to_owned();
    cent.samples = vec![DecisionSample { key, version: 2, class: DecisionClass::Money, text }];
    world.target.set_decisions(cent);
    let failed = gate(&controller, Stage::Reading, "decisions").await;
    assert_eq!(failed.verdict, Verdict::Fail);
    assert!(failed.found.contains("first at version 2: captured_minor"), "{}", failed.found);

    world.target.set_decisions(Decisions { provider: Some(ProviderAccess::Denied), ..Decisions::default() });
    for name in ["decisions", "coverage", "mutants"] {
        let verdict = gate(&controller, Stage::Reading, name).await.verdict;
        assert_eq!(verdict, Verdict::Inconclusive, "{name}: no data is never success");
    }
    world.end().await;
}

#[tokio::test]
async fn each_gate_that_fails_says_what_makes_it_count_anew() {
    let world = World::new().await;
    let controller = world.controller();
    world.shadow(&controller).await;
    let reading = Advance::to(Stage::Reading);
    world.target.set_decisions(with(DecisionClass::Money, "paid"));
    let said = refusal(controller.advance(&reading, "a test").await);
    assert!(said.contains("`banyan hold` and `banyan advance --resume` begin to count anew"), "{said}");

    // The comparison itself sees too little: no hold changes that.
    let blind =
        MutantCount { name: "idle".to_owned(), caught: 9, missed: 1, outcomes: vec!["paid".to_owned()] };
    world.target.set_decisions(Decisions { mutants: vec![blind], ..decided() });
    let said = refusal(controller.advance(&reading, "a test").await);
    assert!(said.contains("another build of it counts anew") && !said.contains("hold"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn what_was_found_comes_over_grpc_and_a_time_before_1970_is_refused() {
    let memory = Memory::default();
    memory.set_health(Some(Health::Serving));
    let found = with(DecisionClass::Undecidable, "void");
    memory.set_decisions(found.clone());
    let nowhere = crate::control::nowhere(MIGRATION);
    let (port, _reporter, running) = serving(&memory, nowhere).await;
    let now = OffsetDateTime::now_utc();
    assert_eq!(client(port, TOKEN).decisions(now).await.unwrap(), found);
    let early = OffsetDateTime::UNIX_EPOCH - Duration::hours(1);
    let refused = client(port, TOKEN).decisions(early).await.unwrap_err().to_string();
    assert!(refused.contains("since_ms: must be milliseconds since 1970"), "{refused}");
    let refused = client(port, "another").decisions(now).await.unwrap_err().to_string();
    assert!(refused.contains("a token is needed"), "{refused}");
    running.abort();
}
