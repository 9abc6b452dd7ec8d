//! Compares the copies of all keys at both homes, by a checksum for each page and then, where that differs, by rows.

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};

use super::seal::needs_source;
use super::{Controller, Inner};
use crate::copies::Checksum;
use crate::parity::{Comparison, pairs};
use crate::peer::COPIES_MAX;
use crate::store::evidence as store;
use crate::{Error, Gate, KeyCopy, Parity, Verdict};

/// The gate that it is evidence for.
const GATE: &str = "parity";
/// How often a key that is on its way is looked at again.
const LOOKS_MAX: u32 = 5;
/// The pause before the first of these looks; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The most keys that are looked at again.
const OPEN_MAX: usize = 10_000;

impl Controller {
    /// Compares all copies, within `parity_timeout`, and keeps what was found as evidence, by default for 24 hours. A target or
    /// domain that can't be asked is part of the answer.
    ///
    /// # Errors
    /// [`Error::UnknownMigration`]; [`Error::Refused`] once the source is sealed; the database's failure.
    pub async fn parity(&self, by: &str) -> Result<Parity, Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        needs_source(&self.policy().await?)?;
        let began_at = store::now(pool).await?;
        let mut comparison = Comparison::default();
        let cut_short = match timeout(settings.parity_timeout, Box::pin(self.compare(&mut comparison))).await
        {
            Ok(Ok(cut_short)) => cut_short,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("not within {} ms", settings.parity_timeout.as_millis())),
        };
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

    /// The last comparison, as a gate.
    pub(super) async fn compared(&self) -> Gate {
        let never = || Gate::new(GATE, Verdict::Inconclusive, "the copies were never compared");
        self.kept(GATE).await.unwrap_or_else(never)
    }

    /// Looks at all keys, and again at those on their way. Returns why it stopped before that, if it did.
    async fn compare(&self, comparison: &mut Comparison) -> Result<Option<String>, Error> {
        let mut after: Option<String> = None;
        loop {
            after = self.compare_page(after.as_deref(), comparison).await?;
            if comparison.open_keys() > OPEN_MAX {
                return Ok(Some(format!("more than {OPEN_MAX} keys are missing or on their way")));
            }
            if after.is_none() {
                break;
            }
        }
        for look in 0..LOOKS_MAX {
            if comparison.open_keys() == 0 {
                break;
            }
            sleep(PAUSE * 2_u32.pow(look)).await;
            self.look_again(comparison).await?;
        }
        Ok(None)
    }

    /// Compares the next keys and returns the last of them; none at the end.
    async fn compare_page(
        &self,
        after: Option<&str>,
        comparison: &mut Comparison,
    ) -> Result<Option<String>, Error> {
        let peer = &self.0.peer;
        let mut here = self.copies_here(after, None).await?;
        let mut upto = last_of_full(&here);
        let checksum = self.ask(peer.checksum(after, upto.as_deref(), COPIES_MAX)).await?;
        if checksum == Checksum::of(&here) {
            comparison.equal += checksum.count;
            return Ok(upto);
        }
        let there = self.ask(peer.copies(after, upto.as_deref(), COPIES_MAX)).await?;
        // The target has more keys there than fit into an answer: those after its last one are the next page's.
        if let Some(last) = last_of_full(&there) {
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
            let after = stretch.after.as_deref();
            let here = self.copies_here(after, Some(upto)).await?;
            let there = self.ask(self.0.peer.copies(after, Some(upto), COPIES_MAX)).await?;
            comparison.look_again(index, &pairs(&here, &there));
        }
        Ok(())
    }

    async fn copies_here(&self, after: Option<&str>, upto: Option<&str>) -> Result<Vec<KeyCopy>, Error> {
        let bound = self.0.settings.ask_timeout;
        match timeout(bound, self.0.domain.copies(after, upto, COPIES_MAX)).await {
            Ok(copies) => copies.map_err(|error| Error::Domain(error.to_string())),
            Err(_) => Err(Error::Domain(format!("its copies did not come within {} ms", bound.as_millis()))),
        }
    }
}

/// The last key of as many copies as fit into an answer: there may be more.
fn last_of_full(copies: &[KeyCopy]) -> Option<String> {
    let full = i64::try_from(copies.len()).is_ok_and(|count| count >= COPIES_MAX);
    copies.last().filter(|_| full).map(|copy| copy.key.clone())
}
