//! Keys that the target was called about and that need no other call now.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::Epoch;

/// How long a key that the target has released is not asked for again. Its release is on its way through the feed, and the target could only
/// say the same once more. After it the key is asked for, so that no lost word keeps it for ever.
const RELEASE_WAIT: Duration = Duration::from_secs(5);

/// Each key at the epoch it was called about: at a later one it needs another call.
#[derive(Default)]
pub(super) struct Asked {
    /// In this look.
    look: Vec<(String, Epoch)>,
    /// Released by the target and perhaps not back yet, with the time it said so, the first first. Kept from look to look.
    released: VecDeque<(Instant, String, Epoch)>,
}

impl Asked {
    pub(super) fn begin_look(&mut self, now: Instant) {
        self.look.clear();
        while self.released.front().is_some_and(|(since, ..)| *since + RELEASE_WAIT <= now) {
            self.released.pop_front();
        }
    }

    pub(super) fn note(&mut self, keys: &[(String, Epoch)]) {
        self.look.extend_from_slice(keys);
    }

    /// Remembers at most `most` keys. Those that were released first are forgotten first: they are back, or are asked for sooner.
    pub(super) fn note_released(&mut self, keys: Vec<(String, Epoch)>, now: Instant, most: usize) {
        self.released.extend(keys.into_iter().map(|(key, epoch)| (now, key, epoch)));
        let over = self.released.len().saturating_sub(most);
        self.released.drain(..over);
    }

    /// All of them, as two columns. A key may be in them twice.
    pub(super) fn columns(&self) -> (Vec<&str>, Vec<i64>) {
        let look = self.look.iter().map(|(key, epoch)| (key.as_str(), epoch.get()));
        let released = self.released.iter().map(|(_, key, epoch)| (key.as_str(), epoch.get()));
        look.chain(released).unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Epoch, Instant, RELEASE_WAIT};

    fn keys(names: &[&str]) -> Vec<(String, Epoch)> {
        names.iter().map(|name| ((*name).to_owned(), Epoch(2))).collect()
    }

    fn names(asked: &Asked) -> Vec<&str> {
        asked.columns().0
    }

    #[test]
    fn what_was_asked_is_forgotten_with_the_look_and_what_was_released_after_a_while() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.note(&keys(&["busy"]));
        asked.note_released(keys(&["gone"]), now, 10);
        assert_eq!(asked.columns(), (vec!["busy", "gone"], vec![2, 2]));
        asked.begin_look(now + RELEASE_WAIT / 2);
        assert_eq!(names(&asked), ["gone"]);
        asked.note_released(keys(&["later"]), now + RELEASE_WAIT / 2, 10);
        asked.begin_look(now + RELEASE_WAIT);
        assert_eq!(names(&asked), ["later"], "a release that was lost is asked for again");
    }

    #[test]
    fn of_more_released_keys_than_may_be_remembered_the_last_are() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        asked.note_released(keys(&["a", "b"]), now, 3);
        asked.note_released(keys(&["c", "d"]), now, 3);
        assert_eq!(names(&asked), ["b", "c", "d"]);
        asked.note_released(keys(&["e"]), now, 0);
        assert!(names(&asked).is_empty());
    }
}
