use super::{Comparison, Pair, pairs};
use crate::{Home, KeyCopy, Verdict};

fn copy(key: &str, version: i64, first: u8) -> KeyCopy {
    let mut hash = [0; 32];
    hash[0] = first;
    KeyCopy { key: key.to_owned(), version, hash }
}

fn compared(source: &[KeyCopy], target: &[KeyCopy]) -> Comparison {
    let mut comparison = Comparison::default();
    comparison.note(None, pairs(source, target));
    comparison
}

#[test]
fn each_key_of_either_home_is_told() {
    let source = [copy("equal", 2, 0), copy("late", 3, 0), copy("other", 1, 1), copy("young", 1, 0)];
    let target = [copy("equal", 2, 0), copy("late", 2, 0), copy("old", 1, 0), copy("other", 1, 2)];
    let told: Vec<_> = pairs(&source, &target).into_iter().collect();
    let pair = |key: &str, pair| (key.to_owned(), pair);
    assert_eq!(
        told,
        [
            pair("equal", Pair::Equal),
            pair("late", Pair::OnItsWay),
            pair("old", Pair::MissingAt(Home::Source)),
            pair("other", Pair::Different),
            pair("young", Pair::MissingAt(Home::Target)),
        ]
    );
}

#[test]
fn no_data_is_no_success() {
    let parity = compared(&[], &[]).result("m", None);
    assert_eq!((parity.verdict, parity.bound), (Verdict::Inconclusive, None));
    assert!(parity.found.contains("no key to compare"), "{}", parity.found);
}

#[test]
fn none_that_differs_in_n_leaves_three_in_n() {
    let copies: Vec<_> = (0..60).map(|n| copy(&format!("{n:02}"), 1, 0)).collect();
    let parity = compared(&copies, &copies).result("m", None);
    assert_eq!((parity.verdict, parity.compared, parity.bound), (Verdict::Pass, 60, Some(0.05)));
    assert_eq!(parity.found, "60 keys compared, none differs (bound 3/60)");
}

#[test]
fn one_that_differs_or_is_missing_fails_and_is_named() {
    let parity = compared(&[copy("a", 1, 0)], &[copy("a", 1, 9)]).result("m", None);
    assert_eq!(
        (parity.verdict, parity.bound, parity.different.keys.as_slice()),
        (Verdict::Fail, None, &["a".to_owned()][..])
    );
    let parity = compared(&[copy("a", 1, 0), copy("b", 1, 0)], &[copy("a", 1, 0)]).result("m", None);
    assert_eq!((parity.verdict, parity.missing_at_target.count), (Verdict::Fail, 1));
    assert!(parity.found.ends_with("such as b"), "{}", parity.found);
}

#[test]
fn one_on_its_way_is_looked_at_again_and_unsettled_at_last() {
    let mut comparison = compared(&[copy("a", 2, 0), copy("b", 2, 0)], &[copy("a", 1, 0)]);
    assert_eq!(comparison.open_keys(), 2);
    comparison.look_again(0, &pairs(&[copy("b", 2, 0)], &[copy("b", 2, 0)]));
    assert_eq!((comparison.open_keys(), comparison.equal), (1, 1));
    let parity = comparison.result("m", None);
    assert_eq!(
        (parity.verdict, parity.unsettled.keys.as_slice()),
        (Verdict::Inconclusive, &["a".to_owned()][..])
    );
}

#[test]
fn what_was_cut_short_calls_none_missing() {
    let parity = compared(&[copy("a", 1, 0), copy("b", 1, 0)], &[copy("a", 1, 0)])
        .result("m", Some("late".to_owned()));
    assert_eq!(
        (parity.verdict, parity.missing_at_target.count, parity.unsettled.count),
        (Verdict::Inconclusive, 0, 1)
    );
    assert!(!parity.complete && parity.found.contains("as far as 1 keys"), "{}", parity.found);
}

#[test]
fn a_hundred_are_named_and_all_are_counted() {
    let source: Vec<_> = (0..150).map(|n| copy(&format!("{n:03}"), 1, 1)).collect();
    let target: Vec<_> = (0..150).map(|n| copy(&format!("{n:03}"), 1, 2)).collect();
    let different = compared(&source, &target).result("m", None).different;
    assert_eq!((different.count, different.keys.len()), (150, 100));
}
