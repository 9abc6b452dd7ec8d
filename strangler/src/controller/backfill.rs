//! Gives the target what it lacks: the source publishes snapshots of its keys, in their order, a page at a time, until a walk over all of
//! them finds nothing lacking. Where it is stands in a table, so any controller goes on from there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::change::{BY_MAX, cut};
use super::seal::needs_source;
use super::{Controller, Inner};
use crate::policy::Policy;
use crate::store::backfill::{self as store, Page, Walk};
use crate::store::{owners, policy};
use crate::{Backfill, BoxError, Error, Gate, Pinned, Stage, Verdict};

/// The most keys in a page.
const PAGE_MAX: i64 = 200;
/// A page is never made smaller than this.
const PAGE_MIN: i64 = 8;
/// Between two questions whether a page has arrived.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// The longest key with its reason that is shown, in bytes.
const WAITS_BYTES_MAX: usize = 800;

/// What is remembered from one page to the next.
#[derive(Default)]
pub(super) struct Filling {
    /// What was published last and is not known to have arrived.
    sent: Vec<String>,
    since: Option<Instant>,
    /// How many keys go into a page now.
    page: Option<i64>,
}

impl Controller {
    /// Begins a backfill, up to the last key there is. One that is under way is left alone, unless `again`.
    ///
    /// # Errors
    /// [`Error::Refused`] in `local`, where the target need not follow, and once the source is sealed; the database's failure.
    pub async fn begin_backfill(&self, again: Again, by: &str) -> Result<Backfill, Error> {
        let Inner { migration, pool, .. } = &*self.0;
        let policy = self.policy().await?;
        needs_source(&policy)?;
        if policy.stage == Stage::Local {
            return Err(Error::refused(
                "in stage local no target follows: there is nothing to fill",
                "enter `following`, which begins a backfill",
            ));
        }
        let found = store::find(pool, migration).await?;
        if let (Some(found), Again::No) = (found, again) {
            return Ok(found);
        }
        store::begin(pool, migration, cut(by, BY_MAX)).await?;
        let begun = store::find(pool, migration).await?;
        begun.ok_or_else(|| Error::UnknownMigration(migration.clone()))
    }

    /// Whether a walk over all keys found that the target lacks none.
    pub(super) async fn backfilled(&self) -> Gate {
        let gate = |verdict, found: String| Gate::new("backfill", verdict, found);
        match store::find(&self.0.pool, &self.0.migration).await {
            Ok(None) => {
                gate(Verdict::Inconclusive, "none was begun: nobody knows what the target lacks".to_owned())
            }
            Ok(Some(backfill)) => {
                let Backfill { done_at, walk, done, of, published, .. } = &backfill;
                let (verdict, found) = match done_at {
                    Some(_) => (
                        Verdict::Pass,
                        format!("a walk over {done} keys found none lacking; {published} were published"),
                    ),
                    None => (Verdict::Inconclusive, format!("walk {walk} has looked at {done} of {of} keys")),
                };
                gate(verdict, found).with(json!({ "backfill": backfill }))
            }
            Err(error) => {
                tracing::warn!(%error, "the backfill could not be read");
                gate(Verdict::Inconclusive, "it could not be read; see the controller's log".to_owned())
            }
        }
    }

    /// Publishes page by page, for at most a tick's time and at most `backfill_rate_max` keys a second.
    pub(super) async fn fill(&self, policy: &Policy, filling: &mut Filling) -> Result<(), Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        if matches!(policy.stage, Stage::Local | Stage::Sealed | Stage::Removed) || policy.held.is_some() {
            return Ok(());
        }
        let until = Instant::now() + settings.tick;
        let mut allowed = settings.backfill_rate_max.saturating_mul(tick_ms(settings.tick)) / 1_000;
        loop {
            let walk = store::find_open(pool, migration).await?;
            let Some(walk) = walk.filter(|walk| !walk.rests) else { return Ok(()) };
            if !walk.counted {
                store::count(pool, migration, &walk).await?;
            }
            // The throttle by lag: a target that is behind gets no more than it can apply.
            if self.arrived(filling).await? {
                match self.page(&walk, filling).await? {
                    Some(published) => allowed -= published,
                    None => self.end_walk(&walk).await?,
                }
            } else {
                sleep(ASK_EVERY).await;
            }
            if allowed <= 0 || Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Whether the last page is applied, or has had its time: a later walk sees what became of it.
    async fn arrived(&self, filling: &mut Filling) -> Result<bool, Error> {
        let late = filling.since.is_none_or(|since| since.elapsed() > self.0.settings.feed_timeout);
        if !filling.sent.is_empty() && !late {
            let known: BTreeSet<String> =
                self.ask(self.0.peer.known(&filling.sent)).await?.into_iter().collect();
            filling.sent.retain(|key| !known.contains(key));
            return Ok(filling.sent.is_empty());
        }
        filling.sent.clear();
        Ok(true)
    }

    /// Looks at the next keys and publishes those that the target lacks. Returns how many; none at the walk's end.
    async fn page(&self, walk: &Walk, filling: &mut Filling) -> Result<Option<i64>, Error> {
        let Inner { migration, pool, peer, settings, .. } = &*self.0;
        let keys = store::next_page(pool, migration, walk, filling.page.unwrap_or(PAGE_MAX)).await?;
        let Some(last) = keys.last().cloned() else { return Ok(None) };
        let known: BTreeSet<String> = self.ask(peer.known(&keys)).await?.into_iter().collect();
        let lacking: Vec<String> = keys.iter().filter(|key| !known.contains(*key)).cloned().collect();
        let (sent, unsent) = match timeout(settings.ask_timeout, self.publish(&lacking)).await {
            Ok(published) => published?,
            Err(_) => {
                filling.slower();
                return Err(Error::Domain(format!("{} keys could not be published in time", lacking.len())));
            }
        };
        filling.faster();
        let page = Page {
            last,
            looked: number(keys.len()),
            lacking: number(lacking.len()),
            published: number(sent.len()),
            skipped: number(unsent.len()),
            waits: unsent
                .first()
                .map(|it| cut(&format!("{}: {}", it.key, it.why), WAITS_BYTES_MAX).to_owned()),
        };
        store::note_page(pool, migration, walk, &page).await?;
        (filling.sent, filling.since) = (sent, Some(Instant::now()));
        Ok(Some(page.published))
    }

    /// Publishes the state of keys of the source, in one transaction of the domain's. Returns those that were, and the others with the
    /// reason. The order matters: owner rows, then the domain's rows, then what is read to be published.
    pub(super) async fn publish(&self, keys: &[String]) -> Result<(Vec<String>, Vec<Pinned>), Error> {
        if keys.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let Inner { migration, domain, settings, .. } = &*self.0;
        let mut tx = domain.begin().await.map_err(failed)?;
        policy::limit_waits(&mut tx, settings.ask_timeout).await?;
        let claimed = owners::claim_to_publish(&mut tx, migration, keys).await?;
        let mut unsent = Vec::new();
        if !claimed.is_empty() {
            unsent = domain.snapshot(&mut tx, &claimed).await.map_err(failed)?;
        }
        tx.commit().await?;
        let left: BTreeSet<&str> = unsent.iter().map(|unsent| unsent.key.as_str()).collect();
        let sent: Vec<String> = claimed.iter().filter(|key| !left.contains(key.as_str())).cloned().collect();
        let moving = keys.iter().filter(|key| !claimed.contains(key));
        unsent.extend(moving.map(|key| Pinned { key: key.clone(), why: "it changes its owner".to_owned() }));
        Ok((sent, unsent))
    }

    async fn end_walk(&self, walk: &Walk) -> Result<(), Error> {
        let Inner { migration, pool, .. } = &*self.0;
        if walk.lacking > 0 {
            return Ok(store::walk_again(pool, migration, walk).await?);
        }
        if store::end(pool, migration, walk).await? > 0 {
            tracing::info!(
                migration,
                walk = walk.walk,
                "the backfill is done: a walk over all keys found none lacking"
            );
        }
        Ok(())
    }
}

/// Whether a backfill is begun in place of one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It is not.
    No,
    /// It is, from the first key.
    Yes,
}

impl Filling {
    /// After a page that ended in time.
    fn faster(&mut self) {
        self.page = self.page.map(|page| page.saturating_mul(2)).filter(|page| *page < PAGE_MAX);
    }

    /// After one that did not: smaller ones may.
    fn slower(&mut self) {
        self.page = Some((self.page.unwrap_or(PAGE_MAX) / 2).max(PAGE_MIN));
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn tick_ms(tick: Duration) -> i64 {
    i64::try_from(tick.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn failed(error: BoxError) -> Error {
    Error::Domain(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Filling, PAGE_MAX};

    #[test]
    fn a_page_that_is_too_slow_is_halved_and_grows_again() {
        let mut filling = Filling::default();
        for page in [100, 50, 25, 12, 8, 8] {
            filling.slower();
            assert_eq!(filling.page, Some(page));
        }
        for page in [16, 32, 64, 128, PAGE_MAX] {
            filling.faster();
            assert_eq!(filling.page.unwrap_or(PAGE_MAX), page);
        }
    }
}
