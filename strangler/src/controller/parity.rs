//! Compares the copies of all keys at both homes, by a checksum for each page and then, where that differs, by rows.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use super::seal::needs_source;
use super::{Controller, Inner};
use crate::copies::Checksum;
use crate::parity::{Comparison, pairs};
use crate::peer::COPIES_MAX;
use crate::store::{evidence as store, keys};
use crate::{Error, Gate, KeyCopy, Parity, Verdict};

/// The gate that it is evidence for.
const GATE: &str = "parity";
/// The pause before keys that are on their way are looked at again; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// A key is called missing after this many looks, not before.
const LOOKS_MIN: u32 = 3;
/// The longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// The most keys that are looked at again.
const OPEN_MAX: usize = 10_000;

impl Controller {
    /// Compares all copies, within `parity_timeout`, and keeps what was found as evidence, by default for 24 hours. A target or
    /// domain that can't be asked is part of the answer. One whose process dies is not resumed: its gate says that it has no result.
    ///
    /// # Errors
    /// [`Error::UnknownMigration`]; [`Error::Refused`] once the source is sealed; the database's failure.
    pub async fn parity(&self, by: &str) -> Result<Parity, Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        needs_source(&self.policy().await?)?;
        let began_at = store::now(pool).await?;
        self.note_begun(by, began_at).await?;
        let mut comparison = Comparison::default();
        let cut_short = match timeout(settings.parity_timeout, Box::pin(self.compare(&mut comparison))).await
        {
            Ok(Ok(cut_short)) => cut_short,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("not within {} ms", settings.parity_timeout.as_millis())),
        };
        // One that was born meanwhile may be on its way to either home; the next comparison has it.
        let young = keys::born_after(pool, migration, &comparison.open_names(), began_at).await?;
        comparison.leave_out(&young);
        let parity = comparison.result(migration, cut_short);
        let inputs = json!({ "version": settings.version, "asked_by": by, "parity": parity });
        let gate = Gate::new(GATE, parity.verdict, parity.found.as_str()).with(inputs);
        store::keep(pool, migration, &gate, Some(began_at), self.evidence_lifetime()).await?;
        tracing::info!(
            migration,
            verdict = parity.verdict.name(),
            found = parity.found,
            by,
            "the copies were compared"
        );
        Ok(parity)
    }

    /// Until there is a result this is the last word, so that no older one stands for a comparison that never ended. Evidence is never
    /// changed: the result is a line of its own.
    async fn note_begun(&self, by: &str, began_at: OffsetDateTime) -> Result<(), Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        let inputs = json!({ "version": settings.version, "asked_by": by, "unfinished": true });
        let found = format!("the comparison that {by} asked for has no result");
        let gate = Gate::new(GATE, Verdict::Inconclusive, found).with(inputs);
        // It can't be under way for longer.
        let most = settings.parity_timeout.saturating_add(settings.ask_timeout);
        store::keep(pool, migration, &gate, Some(began_at), most).await
    }

    /// The last comparison, as a gate.
    pub(super) async fn compared(&self) -> Gate {
        let never = || Gate::new(GATE, Verdict::Inconclusive, "the copies were never compared");
        self.kept(GATE).await.unwrap_or_else(never)
    }

    /// Looks at all keys, and again at those on their way. Returns why it stopped before that, if it did.
    async fn compare(&self, comparison: &mut Comparison) -> Result<Option<String>, Error> {
        let began = Instant::now();
        let mut after: Option<String> = None;
        let mut page = COPIES_MAX;
        loop {
            after = match self.compare_page(after.as_deref(), page, comparison).await {
                Ok(last) => {
                    page = page.saturating_mul(2).min(COPIES_MAX);
                    last
                }
                // A page that takes too long, or that one row spoils: smaller ones come as far as can be.
                Err(_) if page > 1 => {
                    page /= 2;
                    continue;
                }
                Err(error) => return Ok(Some(stopped(after.as_deref(), &error))),
            };
            if comparison.open_keys() > OPEN_MAX {
                return Ok(Some(format!("more than {OPEN_MAX} keys are missing or on their way")));
            }
            if after.is_none() {
                break;
            }
        }
        let (mut pause, mut looks) = (PAUSE, 0);
        // Half of the time is for the walk, however long the rest takes.
        while comparison.open_keys() > 0 && began.elapsed() + pause < self.0.settings.parity_timeout / 2 {
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            self.look_again(comparison).await?;
            looks += 1;
        }
        let is_told = comparison.open_keys() == 0 || looks >= LOOKS_MIN;
        Ok((!is_told).then(|| "no time was left to look again at keys that are on their way".to_owned()))
    }

    /// Compares the next keys and returns the last of them; none at the end.
    async fn compare_page(
        &self,
        after: Option<&str>,
        page: i64,
        comparison: &mut Comparison,
    ) -> Result<Option<String>, Error> {
        let peer = &self.0.peer;
        let mut here = self.copies_here(after, None, page).await?;
        let mut upto = last_of_full(&here, page);
        let checksum = self.ask(peer.checksum(after, upto.as_deref(), page)).await?;
        if checksum == Checksum::of(&here) {
            comparison.equal += checksum.count;
            return Ok(upto);
        }
        let there = self.ask(peer.copies(after, upto.as_deref(), page)).await?;
        // The target has more keys there than fit into an answer: those after its last one are the next page's.
        if let Some(last) = last_of_full(&there, page) {
            here.retain(|copy| copy.key <= last);
            upto = Some(last);
        }
        comparison.note(after, pairs(&here, &there));
        Ok(upto)
    }

    async fn look_again(&self, comparison: &mut Comparison) -> Result<(), Error> {
        for index in 0..comparison.open.len() {
            let Some(stretch) = comparison.open.get(index) else { break };
            let Some(upto) = stretch.keys.keys().next_back().map(String::as_str) else { continue };
            let (mut after, upto) = (stretch.after.clone(), upto.to_owned());
            loop {
                let mut here = self.copies_here(after.as_deref(), Some(&upto), COPIES_MAX).await?;
                let there = self.0.peer.copies(after.as_deref(), Some(&upto), COPIES_MAX);
                let mut there = self.ask(there).await?;
                let last = cut_alike(&mut here, &mut there, COPIES_MAX);
                comparison.look_again(index, &pairs(&here, &there));
                match last {
                    Some(last) if last < upto => after = Some(last),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    async fn copies_here(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, Error> {
        let bound = self.0.settings.ask_timeout;
        match timeout(bound, self.0.domain.copies(after, upto, limit)).await {
            Ok(copies) => copies.map_err(|error| Error::Domain(error.to_string())),
            Err(_) => Err(Error::Domain(format!("its copies did not come within {} ms", bound.as_millis()))),
        }
    }
}

/// The last key of as many copies as were asked for: there may be more.
fn last_of_full(copies: &[KeyCopy], limit: i64) -> Option<String> {
    let full = i64::try_from(copies.len()).is_ok_and(|count| count >= limit);
    copies.last().filter(|_| full).map(|copy| copy.key.clone())
}

/// Lets two lists end at the same key, when one of them may go on: a key after the end of one list is not missing there. Returns that key;
/// those after it are to be asked for.
fn cut_alike(here: &mut Vec<KeyCopy>, there: &mut Vec<KeyCopy>, limit: i64) -> Option<String> {
    let last = [last_of_full(here, limit), last_of_full(there, limit)].into_iter().flatten().min()?;
    here.retain(|copy| copy.key <= last);
    there.retain(|copy| copy.key <= last);
    Some(last)
}

fn stopped(after: Option<&str>, error: &Error) -> String {
    match after {
        Some(after) => format!("it stopped after key {after}: {error}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{cut_alike, pairs};
    use crate::KeyCopy;
    use crate::parity::Pair;

    fn copies(keys: &[&str]) -> Vec<KeyCopy> {
        keys.iter().map(|key| KeyCopy { key: (*key).to_owned(), version: 1, hash: [0; 32] }).collect()
    }

    #[test]
    fn a_key_after_the_end_of_one_list_is_not_missing_there() {
        // `b` was born between the two questions, so that one list ends before `d`.
        let (mut here, mut there) = (copies(&["a", "b", "c"]), copies(&["a", "c", "d"]));
        assert_eq!(cut_alike(&mut here, &mut there, 3).as_deref(), Some("c"));
        let pairs = pairs(&here, &there);
        assert!(!pairs.contains_key("d"));
        assert_eq!(pairs.get("c"), Some(&Pair::Equal));

        let (mut here, mut there) = (copies(&["a"]), copies(&["a", "d"]));
        assert_eq!(cut_alike(&mut here, &mut there, 3), None, "both lists are whole");
        assert_eq!((here.len(), there.len()), (1, 2));
    }
}
