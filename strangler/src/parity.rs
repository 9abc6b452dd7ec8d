//! What two lists of copies say of each key, and what all of it comes to. No I/O.

use std::collections::BTreeMap;

use crate::{Home, KeyCopy, Named, Parity, Verdict};

/// How many keys of a kind are named.
const NAMED_MAX: usize = 100;

/// What the two copies of a key say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pair {
    /// The same version and state.
    Equal,
    /// The same version, another state.
    Different,
    /// Other versions: it is on its way.
    OnItsWay,
    /// This home has none.
    MissingAt(Home),
}

/// Keys of one stretch that were not settled when they were looked at last.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// They come after this key.
    pub(crate) after: Option<String>,
    pub(crate) keys: BTreeMap<String, Pair>,
}

/// How far a comparison is.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) equal: i64,
    different: Named,
    pub(crate) open: Vec<Stretch>,
}

/// Each key of either list.
pub(crate) fn pairs(source: &[KeyCopy], target: &[KeyCopy]) -> BTreeMap<String, Pair> {
    let there: BTreeMap<&str, &KeyCopy> = target.iter().map(|copy| (copy.key.as_str(), copy)).collect();
    let mut pairs: BTreeMap<String, Pair> =
        target.iter().map(|copy| (copy.key.clone(), Pair::MissingAt(Home::Source))).collect();
    for copy in source {
        let pair = match there.get(copy.key.as_str()) {
            None => Pair::MissingAt(Home::Target),
            Some(other) if other.version != copy.version => Pair::OnItsWay,
            Some(other) if other.hash != copy.hash => Pair::Different,
            Some(_) => Pair::Equal,
        };
        pairs.insert(copy.key.clone(), pair);
    }
    pairs
}

impl Named {
    fn note(&mut self, key: String) {
        self.count += 1;
        if self.keys.len() < NAMED_MAX {
            self.keys.push(key);
        }
    }
}

impl Comparison {
    /// Notes keys after `after`; those that are not settled are looked at again.
    pub(crate) fn note(&mut self, after: Option<&str>, pairs: BTreeMap<String, Pair>) {
        let mut keys = BTreeMap::new();
        for (key, pair) in pairs {
            match pair {
                Pair::Equal => self.equal += 1,
                Pair::Different => self.different.note(key),
                Pair::OnItsWay | Pair::MissingAt(_) => {
                    keys.insert(key, pair);
                }
            }
        }
        if !keys.is_empty() {
            self.open.push(Stretch { after: after.map(str::to_owned), keys });
        }
    }

    /// Takes the answer of another look at a stretch: keys that are not in it stay as they were.
    pub(crate) fn look_again(&mut self, index: usize, pairs: &BTreeMap<String, Pair>) {
        let Some(stretch) = self.open.get_mut(index) else { return };
        let (equal, different) = (&mut self.equal, &mut self.different);
        stretch.keys.retain(|key, last| {
            match pairs.get(key) {
                Some(Pair::Equal) => *equal += 1,
                Some(Pair::Different) => different.note(key.clone()),
                Some(pair @ (Pair::OnItsWay | Pair::MissingAt(_))) => {
                    *last = *pair;
                    return true;
                }
                None => return true,
            }
            false
        });
    }

    /// How many keys are not settled.
    pub(crate) fn open_keys(&self) -> usize {
        self.open.iter().map(|stretch| stretch.keys.len()).sum()
    }

    /// The keys that are not settled.
    pub(crate) fn open_names(&self) -> Vec<String> {
        self.open.iter().flat_map(|stretch| stretch.keys.keys().cloned()).collect()
    }

    /// Says nothing of these keys.
    pub(crate) fn leave_out(&mut self, keys: &[String]) {
        for stretch in &mut self.open {
            stretch.keys.retain(|key, _| !keys.contains(key));
        }
    }

    /// What it comes to. `cut_short` says why not all keys were looked at, or not often enough: then none is called missing.
    pub(crate) fn result(self, migration: &str, cut_short: Option<String>) -> Parity {
        let Self { equal, different, open } = self;
        let [mut unsettled, mut missing_at_source, mut missing_at_target] = <[Named; 3]>::default();
        for (key, pair) in open.into_iter().flat_map(|stretch| stretch.keys) {
            match pair {
                Pair::MissingAt(Home::Source) if cut_short.is_none() => missing_at_source.note(key),
                Pair::MissingAt(Home::Target) if cut_short.is_none() => missing_at_target.note(key),
                Pair::Equal | Pair::Different | Pair::OnItsWay | Pair::MissingAt(_) => unsettled.note(key),
            }
        }
        let compared = equal + different.count;
        let mut parity = Parity {
            migration: migration.to_owned(),
            verdict: Verdict::Inconclusive,
            found: String::new(),
            bound: (different.count == 0 && compared > 0).then(|| bound(compared)),
            compared,
            equal,
            different,
            unsettled,
            missing_at_source,
            missing_at_target,
            complete: cut_short.is_none(),
        };
        (parity.verdict, parity.found) = judge(&parity, cut_short);
        parity
    }
}

/// What none in so many leaves possible.
fn bound(compared: i64) -> f64 {
    3.0 / compared as f64
}

fn judge(parity: &Parity, cut_short: Option<String>) -> (Verdict, String) {
    let Parity { compared, different, unsettled, missing_at_source, missing_at_target, .. } = parity;
    let missing = missing_at_source.count + missing_at_target.count;
    if different.count + missing > 0 {
        let first =
            [different, missing_at_target, missing_at_source].into_iter().find_map(|it| it.keys.first());
        let found = format!(
            "{} of {compared} keys differ, {} are missing at the target and {} at the source, such as {}",
            different.count,
            missing_at_target.count,
            missing_at_source.count,
            first.map_or("", String::as_str)
        );
        return (Verdict::Fail, found);
    }
    let found = match (cut_short, unsettled.keys.first()) {
        (Some(why), _) => format!("it came as far as {compared} keys, of which none differs: {why}"),
        (None, Some(key)) => format!(
            "{} keys did not come to rest, such as {key}; of {compared} others none differs",
            unsettled.count
        ),
        (None, None) if *compared == 0 => {
            "there was no key to compare: nothing shows that copies are equal".to_owned()
        }
        (None, None) => {
            return (Verdict::Pass, format!("{compared} keys compared, none differs (bound 3/{compared})"));
        }
    };
    (Verdict::Inconclusive, found)
}

#[cfg(test)]
mod tests;
