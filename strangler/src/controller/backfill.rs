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
use crate::{Backfill, BoxError, Error, Gate, Pinned, Point, Stage, Verdict};

/// The most keys in a page.
const PAGE_MAX: i64 = 200;
/// The most keys in a page for a target that has applied none of the last one in time.
const PROBE_MAX: i64 = 8;
/// How many times `feed_timeout` the first of these pages is waited with.
const STILL_TIMES: u32 = 6;
/// What is shown of such a target.
const STILL: &str = "the target has not applied what was published";
/// Between two questions whether a page has arrived.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// The longest key with its reason that is shown, in bytes.
const WAITS_BYTES_MAX: usize = 800;

/// What is remembered from one page to the next.
#[derive(Default)]
pub(super) struct Filling {
    /// What was published last and is not known to have arrived.
    sent: Vec<String>,
    since: Option<Instant>,
    /// Some of that page has arrived.
    some: bool,
    /// The target stands still: none of the last page arrived in time.
    still: bool,
    /// The backfill says so.
    told: bool,
    /// How many keys go into a page now.
    page: Option<i64>,
}

/// What became of the last page.
enum Arrival {
    /// It is applied, or it has had its time and some of it is: a later walk sees what became of the rest.
    Done,
    /// It may still come.
    OnItsWay,
    /// None of it came in time: nothing more is published until some has come, or a long time has passed.
    Still,
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
            // The throttle by lag: a target that is behind gets no more than it can apply, and one that applies nothing gets nothing.
            match self.arrived(filling).await? {
                Arrival::Done => {
                    if std::mem::take(&mut filling.told) {
                        store::note_waits(pool, migration, &walk, None).await?;
                    }
                    match self.page(&walk, filling).await? {
                        Some(published) => allowed -= published,
                        None => self.end_walk(&walk).await?,
                    }
                }
                Arrival::OnItsWay => sleep(ASK_EVERY).await,
                Arrival::Still => {
                    filling.told = true;
                    return Ok(store::note_waits(pool, migration, &walk, Some(STILL)).await?);
                }
            }
            if allowed <= 0 || Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// What became of the last page.
    async fn arrived(&self, filling: &mut Filling) -> Result<Arrival, Error> {
        let Some(since) = filling.since.filter(|_| !filling.sent.is_empty()) else {
            return Ok(Arrival::Done);
        };
        let known: BTreeSet<String> = self.ask(self.0.peer.known(&filling.sent)).await?.into_iter().collect();
        filling.sent.retain(|key| !known.contains(key));
        if !known.is_empty() {
            (filling.some, filling.still) = (true, false);
        }
        Ok(filling.judge(since.elapsed(), self.0.settings.feed_timeout))
    }

    /// Looks at the next keys and publishes those that the target lacks. Returns how many; none at the walk's end.
    async fn page(&self, walk: &Walk, filling: &mut Filling) -> Result<Option<i64>, Error> {
        let Inner { migration, pool, peer, settings, .. } = &*self.0;
        let keys = store::next_page(pool, migration, walk, filling.page()).await?;
        let Some(last) = keys.last().cloned() else { return Ok(None) };
        let known: BTreeSet<String> = self.ask(peer.known(&keys)).await?.into_iter().collect();
        let lacking: Vec<String> = keys.iter().filter(|key| !known.contains(*key)).cloned().collect();
        let (sent, unsent) = match (self.publish_in_time(&lacking).await, lacking.as_slice()) {
            (Ok(published), _) => {
                filling.faster();
                published
            }
            // The one key whose state can't be published is left out and named, for the others' sake.
            (Err(error), [key]) => {
                tracing::warn!(migration, key, %error, "a key could not be published: the backfill goes on without it");
                (Vec::new(), vec![Pinned { key: key.clone(), why: error.to_string() }])
            }
            (Err(error), _) => {
                filling.slower();
                return Err(error);
            }
        };
        if !sent.is_empty() {
            settings.crash.point(Point::PagePublished);
        }
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
        settings.crash.point(Point::PageNoted);
        (filling.sent, filling.since, filling.some) = (sent, Some(Instant::now()), false);
        Ok(Some(page.published))
    }

    /// [`Controller::publish`], within `ask_timeout`.
    pub(super) async fn publish_in_time(&self, keys: &[String]) -> Result<(Vec<String>, Vec<Pinned>), Error> {
        let late = || Error::Domain(format!("{} keys could not be published in time", keys.len()));
        timeout(self.0.settings.ask_timeout, self.publish(keys)).await.map_err(|_| late())?
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
        // Nobody waits for an answer that comes later.
        policy::limit_statements(&mut tx, settings.ask_timeout).await?;
        let claimed = owners::claim_to_publish(&mut tx, migration, keys).await?;
        let mut unsent = Vec::new();
        if !claimed.is_empty() {
            unsent = domain.snapshot(&mut tx, &claimed).await.map_err(failed)?;
        }
        tx.commit().await?;
        domain.committed();
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

    /// After one that did not: smaller ones may, at last each key alone.
    fn slower(&mut self) {
        self.page = Some((self.page() / 2).max(1));
    }

    fn page(&self) -> i64 {
        self.page.unwrap_or(PAGE_MAX).min(if self.still { PROBE_MAX } else { PAGE_MAX })
    }

    fn judge(&mut self, waited: Duration, bound: Duration) -> Arrival {
        if !self.sent.is_empty() && waited <= bound {
            return Arrival::OnItsWay;
        }
        if !self.sent.is_empty() && !self.some {
            self.still = true;
            if waited <= bound * STILL_TIMES {
                return Arrival::Still;
            }
        }
        self.sent.clear();
        Arrival::Done
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
    use std::time::Duration;

    use super::{Arrival, Filling, PAGE_MAX, PROBE_MAX};

    #[test]
    fn a_page_that_is_too_slow_is_halved_down_to_one_key_and_grows_again() {
        let mut filling = Filling::default();
        for page in [100, 50, 25, 12, 6, 3, 1, 1] {
            filling.slower();
            assert_eq!(filling.page(), page);
        }
        for page in [2, 4, 8, 16, 32, 64, 128, PAGE_MAX] {
            filling.faster();
            assert_eq!(filling.page(), page);
        }
    }

    #[test]
    fn a_target_that_applies_nothing_gets_nothing_and_later_a_few() {
        let sent = || vec!["k".to_owned()];
        let mut filling = Filling { sent: sent(), ..Filling::default() };
        let seconds = Duration::from_secs;
        assert!(matches!(filling.judge(seconds(10), seconds(10)), Arrival::OnItsWay));
        assert!(matches!(filling.judge(seconds(11), seconds(10)), Arrival::Still));
        assert!(matches!(filling.judge(seconds(60), seconds(10)), Arrival::Still));
        assert!(matches!(filling.judge(seconds(61), seconds(10)), Arrival::Done));
        assert_eq!(filling.page(), PROBE_MAX);

        // Some of it came: the rest is a later walk's.
        let mut filling = Filling { sent: sent(), some: true, ..Filling::default() };
        assert!(matches!(filling.judge(seconds(11), seconds(10)), Arrival::Done));
        assert_eq!(filling.page(), PAGE_MAX);
    }
}
