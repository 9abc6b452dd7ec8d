//! Reads during a migration: compared in the background in `shadowing`, and sent to the target's copy for a cohort in `reading`.

mod compare;
mod metrics;
mod policy;
mod tally;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::compare::{Class, Comparable, Difference};
use self::compare::{Found, judge};
pub use self::metrics::ReadMetrics;
pub(crate) use self::policy::ReadPolicy;
use self::policy::Seen;
pub(crate) use self::tally::Batch;
use self::tally::{Sample, Tally};
pub(crate) use self::versions::OWNER_ONLY;
use self::versions::Versions;
use crate::store::reads as store;
use crate::{Error, Home};

/// Between two looks at the policy, and between two writes of the counts.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long such a look, and such a write, may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// A read that found a copy of another version is looked at again after these pauses.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];

/// How a call is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// By the home that owns the key.
    Owner,
    /// By a home that follows the owner: only when its copy is whole, nothing waits in front of it, and it is not older than this.
    Copy {
        /// The version that the caller must see at least; 0: any.
        at_least: i64,
    },
}

/// Why a copy did not answer a read. The source answers it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The copy is older than what the caller must see.
    Lag,
    /// The caller asked for a version that the key has not reached at the source either. Nobody's fault but the caller's.
    Ahead,
    /// The copy is not there.
    NotFound,
    /// Events of the key wait at the target, so its copy is not whole.
    Parked,
    /// The target could not answer.
    Error,
    /// Not within [`ReadSettings::copy_timeout`].
    Timeout,
}

/// The bounds of reads.
#[derive(Debug, Clone)]
pub struct ReadSettings {
    /// The build of the program that reads. The gates count those of the controller's own, [`crate::Settings::version`]; of another one
    /// only what speaks against the target. 1 to 100 bytes. Default this crate's version.
    pub version: String,
    /// Of all reads in `shadowing`, how many are compared: 0 to 100; more is 100. Default 100.
    pub compared_percent: u8,
    /// How many are compared at once; what finds no place is not compared, and counted. Default 16.
    pub compared_max: usize,
    /// How long a comparison may take, looking again included. Default 1 s.
    pub compare_timeout: Duration,
    /// How long the target's copy may take to answer in `reading`. Default 250 ms.
    pub copy_timeout: Duration,
    /// How long an answered version is remembered, so that no later read of this program shows an older one. Default 10 s.
    pub remembered: Duration,
    /// The policy counts for so long without being seen again; then reads go to the owner. Default 5 s.
    pub policy_age_max: Duration,
}

/// What the reads of one program share. Clones are the same; [`Reads::run`] must run, else every read goes to the key's owner.
#[derive(Clone)]
pub struct Reads(Arc<Inner>);

struct Inner {
    migration: String,
    pool: PgPool,
    settings: ReadSettings,
    metrics: ReadMetrics,
    policy: Seen,
    turns: Arc<Semaphore>,
    tally: Tally,
    versions: Versions,
    tasks: TaskTracker,
}

impl Fallback {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lag, Self::Ahead, Self::NotFound, Self::Parked, Self::Error, Self::Timeout];

    /// Its name, as counted.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Ahead => "ahead",
            Self::NotFound => "not_found",
            Self::Parked => "parked",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }

    /// What a comparison makes of a target that did not answer.
    const fn class(self) -> Class {
        match self {
            Self::Lag | Self::Ahead | Self::Parked => Class::Stale,
            Self::NotFound => Class::Missing,
            Self::Error | Self::Timeout => Class::Error,
        }
    }
}

impl Reads {
    /// Of a migration, over a pool whose role has [`crate::grant_observer`].
    pub fn new(migration: &str, pool: PgPool, settings: ReadSettings, metrics: ReadMetrics) -> Self {
        Self(Arc::new(Inner {
            migration: migration.to_owned(),
            pool,
            metrics,
            policy: Seen::new(settings.policy_age_max),
            turns: Arc::new(Semaphore::new(settings.compared_max.min(Semaphore::MAX_PERMITS))),
            tally: Tally::default(),
            versions: Versions::new(settings.remembered),
            tasks: TaskTracker::new(),
            settings,
        }))
    }

    /// Sees the policy and writes down what was counted, each second, until `shutdown`; then waits for the comparisons under way and
    /// writes down the last. A database that is away is waited for: meanwhile reads go to the owners.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {}
            }
            let done = self.look().await;
            if let Err(error) = &done
                && !told
            {
                let migration = self.0.migration.as_str();
                tracing::warn!(migration, %error, "reads can't see the policy, or note what they found");
            }
            told = done.is_err();
        }
        self.0.tasks.close();
        if timeout(self.0.settings.compare_timeout, self.0.tasks.wait()).await.is_err() {
            tracing::info!("comparisons of reads were under way at the end; they are not counted");
        }
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "the last counts of reads were not noted");
        }
    }

    /// Sees the policy and writes down what was counted, now. For a program that does not [`Reads::run`], and for tests.
    ///
    /// # Errors
    /// [`Error::UnknownMigration`]; [`Error::Database`], also for what took too long. Of what was not written, differences are kept for
    /// the next time.
    pub async fn look(&self) -> Result<(), Error> {
        let Inner { migration, pool, policy, .. } = &*self.0;
        let seen = within(store::policy(pool, migration)).await?;
        policy.put(seen.ok_or_else(|| Error::UnknownMigration(migration.clone()))?);
        self.flush().await
    }

    async fn flush(&self) -> Result<(), Error> {
        let Inner { migration, pool, settings, tally, .. } = &*self.0;
        let mut failed = None;
        for (since, batch) in tally.take() {
            let noted =
                within(store::note(pool, migration, (since, settings.version.as_str()), &batch)).await;
            if let Err(error) = noted {
                tally.put_back(since, batch);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Notes that the caller was shown this version of a key: no later read here answers with an older one.
    pub fn shown(&self, key: &str, version: i64) {
        self.0.versions.put(key, version);
    }

    /// What a caller must see at least; [`OWNER_ONLY`] when that is not known any more.
    pub(crate) fn at_least(&self, key: &str, asked: i64) -> i64 {
        self.0.versions.get(key).unwrap_or(0).max(asked)
    }

    /// The policy as it was seen last; none while nothing recent is known.
    pub(crate) fn policy(&self) -> Option<Arc<ReadPolicy>> {
        self.0.policy.get()
    }

    pub(crate) fn copy_timeout(&self) -> Duration {
        self.0.settings.copy_timeout
    }

    /// Counts a read that the target's copy has answered, or why it has not.
    pub(crate) fn copied(&self, since: i64, why_not: Option<Fallback>) {
        let class = why_not.map_or("copy", Fallback::name);
        self.0.tally.count(since, class, 1);
        if let Some(fallback) = why_not {
            self.0.metrics.fallback(fallback);
        }
    }

    /// Compares an answer of the source's with the target's, in the background. `read` asks a home once more.
    pub(crate) fn compare<T, R, Fut>(&self, since: i64, key: &str, first: &T, read: R)
    where
        T: Comparable,
        R: Fn(Home) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fallback>> + Send + 'static,
    {
        let Inner { settings, turns, tally, tasks, .. } = &*self.0;
        if tasks.is_closed() || rand::rng().random_range(0..100) >= settings.compared_percent {
            return;
        }
        let Ok(turn) = Arc::clone(turns).try_acquire_owned() else {
            tally.count(since, "dropped", 1);
            return;
        };
        let (reads, key, first) = (self.clone(), key.to_owned(), first.clone());
        // Not the caller's to wait for: its answer is on the way already. `run` joins it.
        tasks.spawn(async move {
            let mut found = Found::new(Fallback::Timeout.class());
            let bound = reads.0.settings.compare_timeout;
            if timeout(bound, look_at_both(&first, read, &mut found)).await.is_err() {
                tracing::debug!(key, "a comparison of reads ran into its bound");
            }
            reads.note(since, &key, &first, found);
            drop(turn);
        });
    }

    fn note<T: Comparable>(&self, since: i64, key: &str, first: &T, found: Found<T>) {
        let Inner { tally, metrics, .. } = &*self.0;
        tally.count(since, found.class.name(), 1);
        metrics.compared(found.class);
        if found.class != Class::Equal {
            let source = found.source.as_ref().unwrap_or(first).shown();
            let target = found.target.as_ref().map(T::shown).unwrap_or_default();
            tally.sample(since, Sample::new(found.class.name(), key, &source, &target));
        }
        // What finds differences is tried with differences at each comparison.
        for mutant in first.mutants() {
            let caught = matches!(judge([first, first], &mutant), Class::Money | Class::Structure);
            tally.count(since, if caught { "mutant_caught" } else { "mutant_missed" }, 1);
        }
    }
}

/// Asks the target, and the source against itself, until both are at one version.
async fn look_at_both<T, R, Fut>(first: &T, read: R, found: &mut Found<T>)
where
    T: Comparable,
    R: Fn(Home) -> Fut + Send + Sync,
    Fut: Future<Output = Result<T, Fallback>> + Send,
{
    for pause in PAUSES.map(Some).into_iter().chain([None]) {
        let (target, again) = tokio::join!(read(Home::Target), read(Home::Source));
        match (target, again) {
            (Ok(target), again) => {
                // A source that does not answer twice leaves its first answer.
                let again = again.unwrap_or_else(|_| first.clone());
                found.class = judge([first, &again], &target);
                (found.source, found.target) = (Some(again), Some(target));
            }
            (Err(why), _) => found.class = why.class(),
        }
        if found.class.is_final() {
            return;
        }
        let Some(pause) = pause else { return };
        sleep(pause).await;
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(STORE_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::Database(sqlx::Error::PoolTimedOut)),
    }
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            compared_percent: 100,
            compared_max: 16,
            compare_timeout: Duration::from_secs(1),
            copy_timeout: Duration::from_millis(250),
            remembered: Duration::from_secs(10),
            policy_age_max: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reads")
            .field("migration", &self.0.migration)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}
