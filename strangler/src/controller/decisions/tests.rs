use super::{Shown, caught, compared, covered, judged, provider_denied};
use crate::gate::Verdict;
use crate::{DecisionClass, DecisionCount, DecisionSample, Decisions, MutantCount, ProviderAccess};

fn count(class: DecisionClass, outcome: &str, count: u64) -> DecisionCount {
    DecisionCount { class, outcome: outcome.to_owned(), count }
}

fn mutant(name: &str, caught: u64, missed: u64, outcome: &str) -> MutantCount {
    MutantCount { name: name.to_owned(), caught, missed, outcomes: vec![outcome.to_owned()] }
}

fn equal(n: u64) -> Decisions {
    Decisions { counts: vec![count(DecisionClass::Equal, "paid", n)], ..Decisions::default() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn too_few_comparisons_show_nothing_and_enough_show_a_bound() {
    assert_eq!(compared(&Decisions::default(), 1).verdict, Verdict::Inconclusive);
    assert_eq!(compared(&Decisions::default(), 0).verdict, Verdict::Inconclusive);
    assert_eq!(compared(&equal(9), 10).verdict, Verdict::Inconclusive);
    let gate = compared(&equal(10), 10);
    assert_eq!(gate.verdict, Verdict::Pass);
    assert!(gate.found.contains("bound 3/10"), "{}", gate.found);
}

#[test]
fn what_could_not_be_compared_is_not_equal() {
    let counts =
        vec![count(DecisionClass::Undecidable, "paid", 1_000), count(DecisionClass::Equal, "paid", 9)];
    let found = Decisions { counts, ..Decisions::default() };
    let gate = compared(&found, 10);
    assert_eq!(gate.verdict, Verdict::Inconclusive);
    assert!(gate.found.contains("1000 could not be compared"), "{}", gate.found);
    let only =
        Decisions { counts: vec![count(DecisionClass::Undecidable, "paid", 1)], ..Decisions::default() };
    assert_eq!(covered(&only, Ok(&words(&["paid"]))).verdict, Verdict::Inconclusive);
}

#[test]
fn a_few_that_could_be_compared_of_many_show_nothing() {
    let with = |undecidable| {
        let mut found = equal(1_000);
        found.counts.push(count(DecisionClass::Undecidable, "paid", undecidable));
        compared(&found, 10)
    };
    assert_eq!(with(1_000).verdict, Verdict::Pass, "half of them");
    let gate = with(1_001);
    assert_eq!(gate.verdict, Verdict::Inconclusive);
    assert!(gate.found.contains("only 1000 of 2001 decisions"), "{}", gate.found);
    assert_eq!(with(u64::MAX).verdict, Verdict::Inconclusive);
}

#[test]
fn what_was_compared_before_a_hold_covers_nothing_and_a_missed_mutant_is_not_forgotten_by_one() {
    let mut before = equal(20);
    before.counts.push(count(DecisionClass::Money, "given_back", 1));
    before.mutants = vec![mutant("a", 20, 1, "paid")];
    let outcomes = Ok(words(&["paid", "given_back"]));
    let lately = Decisions { mutants: vec![mutant("a", 10, 0, "paid")], ..equal(10) };
    let [decisions, coverage, mutants] =
        judged(&Shown { found: Ok(before), lately: Ok(lately), outcomes }, 10);
    assert_eq!(decisions.verdict, Verdict::Pass);
    assert_eq!(coverage.verdict, Verdict::Inconclusive);
    assert!(coverage.found.ends_with(": given_back"), "{}", coverage.found);
    assert_eq!(mutants.verdict, Verdict::Fail);
}

#[test]
fn one_difference_fails_and_is_named() {
    for class in [DecisionClass::Money, DecisionClass::Structure] {
        let mut found = equal(1_000_000);
        found.counts.push(count(class, "paid", 1));
        let text = "paid_minor: decided 5, came 4".to_owned();
        found.samples = vec![DecisionSample { key: "k7".to_owned(), version: 3, class, text }];
        let gate = compared(&found, 10);
        assert_eq!(gate.verdict, Verdict::Fail, "{class:?}");
        assert!(gate.found.contains("k7 at version 3: paid_minor: decided 5, came 4"), "{}", gate.found);
    }
}

#[test]
fn each_outcome_of_the_source_must_have_been_compared() {
    let found = equal(10);
    assert_eq!(covered(&found, Ok(&[])).verdict, Verdict::Inconclusive);
    assert_eq!(covered(&found, Err(&"away".to_owned())).verdict, Verdict::Inconclusive);
    assert_eq!(covered(&found, Ok(&words(&["paid"]))).verdict, Verdict::Pass);
    let gate = covered(&found, Ok(&words(&["declined", "paid", "void"])));
    assert_eq!(gate.verdict, Verdict::Inconclusive);
    assert!(gate.found.contains("2 of 3") && gate.found.contains("declined, void"), "{}", gate.found);
}

#[test]
fn mutants_must_be_caught() {
    let with = |mutants| Decisions { mutants, ..equal(10) };
    let paid = words(&["paid"]);
    assert_eq!(caught(&with(Vec::new()), Ok(&paid)).verdict, Verdict::Inconclusive);
    let unseen = with(vec![mutant("a", 1, 0, "paid"), mutant("b", 0, 0, "paid")]);
    let gate = caught(&unseen, Ok(&paid));
    assert_eq!(gate.verdict, Verdict::Inconclusive);
    assert!(gate.found.ends_with(": b"), "{}", gate.found);
    let missed = with(vec![mutant("a", 1, 0, "paid"), mutant("b", 9, 1, "paid")]);
    assert_eq!(caught(&missed, Ok(&paid)).verdict, Verdict::Fail);
    let all = with(vec![mutant("a", 1, 0, "paid"), mutant("b", 2, 0, "paid")]);
    assert_eq!(caught(&all, Ok(&paid)).verdict, Verdict::Pass);
}

#[test]
fn a_mutant_is_spared_only_when_the_source_says_that_it_has_nothing_to_run_it_on() {
    let mutants = vec![mutant("a", 1, 0, "paid"), mutant("b", 0, 0, "given_back")];
    let found = Decisions { mutants, ..equal(10) };
    let gate = caught(&found, Ok(&words(&["paid"])));
    assert_eq!(gate.verdict, Verdict::Pass);
    assert!(gate.found.ends_with(": b"), "{}", gate.found);
    assert_eq!(caught(&found, Ok(&words(&["paid", "given_back"]))).verdict, Verdict::Inconclusive);
    assert_eq!(caught(&found, Err(&"away".to_owned())).verdict, Verdict::Inconclusive);
}

#[test]
fn a_provider_that_could_be_reached_fails_and_silence_shows_nothing() {
    assert_eq!(provider_denied(Ok(Some(ProviderAccess::Denied))).verdict, Verdict::Pass);
    assert_eq!(provider_denied(Ok(Some(ProviderAccess::Usable))).verdict, Verdict::Fail);
    assert_eq!(provider_denied(Ok(None)).verdict, Verdict::Inconclusive);
    assert_eq!(provider_denied(Err(&"away".to_owned())).verdict, Verdict::Inconclusive);
}
