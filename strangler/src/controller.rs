//! The controller of a migration: changes its policy when told to, and keeps what the policy promises.

mod advance;
mod approve;
mod backfill;
mod beat;
mod change;
mod decisions;
mod drill;
mod gates;
mod handover;
mod invariants;
mod kept;
mod look;
mod parity;
mod reads;
mod repair;
mod rollback;
mod seal;
mod verify;
mod why;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use self::backfill::Again;
use self::backfill::Filling;
use self::handover::Moves;
use crate::gate::Probe;
use crate::heartbeat::INTERVALS_MAX;
use crate::plan_file::{PlanFile, Thresholds};
use crate::policy::Policy;
use crate::seeding::Seeding;
use crate::store::policy as store;
use crate::{Crash, Domain, Error, FeedMetrics, Peer, Stage};

/// The bounds of a controller.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a lease lasts that is not renewed: after a crash another controller acts within it. Default 5 s.
    pub lease: Duration,
    /// Between two looks. Default 1 s.
    pub tick: Duration,
    /// How long a change waits for births in flight; births wait behind it. Default 2 s.
    pub change_wait: Duration,
    /// How long births may wait while a change looks for keys without an owner. Default 5 s.
    pub recheck_timeout: Duration,
    /// How long a feed may take to reach what was written before the question. Default 10 s.
    pub feed_timeout: Duration,
    /// How often each home publishes a heartbeat while the stage has its feed. After three times this without one a feed stands still,
    /// for its gate. Default 5 s.
    pub heartbeat_every: Duration,
    /// How long the domain or the target may take to answer. Default 2 s.
    pub ask_timeout: Duration,
    /// The most keys a feed is measured by, at most 1,000. Default 1,000.
    pub sample_max: i64,
    /// The most keys seeded in a transaction. Default 500.
    pub seed_batch_max: i64,
    /// The most keys fenced, or taken back, in a transaction, at most 500. Fewer when one does not end within `ask_timeout`. More
    /// move faster, and each is longer on its way. Default 100.
    pub move_batch_max: i64,
    /// How long a key may be on its way to the target; then it is the source's again. Default 10 s.
    pub move_timeout: Duration,
    /// The most keys on their way back at once, not counting those that are pinned. Default 2,000.
    pub moves_max: i64,
    /// The most snapshots that a backfill publishes in a second, but for one page of 200 in each look. Default 2,000.
    pub backfill_rate_max: i64,
    /// How long a comparison of all copies may take; what is not compared by then is not shown. Default 60 s.
    pub parity_timeout: Duration,
    /// How often seeding starts again because keys without an owner were found after it. Default 3.
    pub seed_rounds_max: u32,
    /// Where the controller aborts its process, for tests. Default nowhere.
    pub crash: Crash,
    /// The migration's plan. Without one the metric is named by the step to `following`, and the gates' thresholds are their
    /// defaults. Default none.
    pub plan: Option<Arc<PlanFile>>,
    /// What runs here, such as a version with the commit it was built from. Evidence of another one is void. Default this
    /// crate's version.
    pub version: String,
    /// Shows how old the last heartbeats are. Default nobody.
    pub metrics: FeedMetrics,
}

/// The controller of one migration. Clones are the same controller.
///
/// Several may run: one acts, by a lease; each answers questions and changes the policy, for a change is made safe by the
/// policy's row lock and its revision, not by the lease.
#[derive(Clone)]
pub struct Controller(Arc<Inner>);

/// What a controller remembers from one look to the next. All of it may be lost.
#[derive(Default)]
struct Remembered {
    walked: Option<String>,
    moves: Moves,
    filling: Filling,
    /// When the homes were last told to publish a heartbeat.
    beaten: Option<Instant>,
    /// When touches of a sealed source were last looked for.
    touches: Option<Instant>,
}

struct Inner {
    migration: String,
    name: String,
    pool: PgPool,
    domain: Arc<dyn Domain>,
    peer: Arc<dyn Peer>,
    settings: Settings,
}

impl Controller {
    /// Of a migration, over a pool whose role has [`crate::grant_controller`].
    pub fn new(migration: &str, pool: PgPool, domain: Arc<dyn Domain>, peer: Arc<dyn Peer>) -> Self {
        Self::with(migration, pool, domain, peer, Settings::default())
    }

    /// With other bounds.
    pub fn with(
        migration: &str,
        pool: PgPool,
        domain: Arc<dyn Domain>,
        peer: Arc<dyn Peer>,
        settings: Settings,
    ) -> Self {
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        Self(Arc::new(Inner { migration: migration.to_owned(), name, pool, domain, peer, settings }))
    }

    /// The migration's name.
    pub fn migration(&self) -> &str {
        &self.0.migration
    }

    /// The name under which it holds the lease.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Acts while it holds the lease, until `shutdown`; then gives the lease back. A database that is away is waited for.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = interval(self.0.settings.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memory = Remembered::default();
        let mut told: Vec<String> = Vec::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {}
            }
            let troubles = Box::pin(self.tick(&mut memory)).await.unwrap_or_else(|error| vec![error]);
            let said: Vec<String> = troubles.iter().map(|error| describe(error)).collect();
            // Once for each trouble, not once a second.
            for error in said.iter().filter(|said| !told.contains(*said)) {
                tracing::warn!(migration = self.0.migration, error, "the controller could not act");
            }
            told = said;
        }
        self.hear_nothing();
        let release = store::release_lease(&self.0.pool, &self.0.migration, &self.0.name);
        if !matches!(timeout(self.0.settings.ask_timeout, release).await, Ok(Ok(()))) {
            tracing::info!("the lease was not given back: it expires by itself");
        }
    }

    /// One look: renews the lease and does what the stored stage asks for. Trouble with one part is no reason to leave out
    /// another, so it comes back with that of all.
    async fn tick(&self, memory: &mut Remembered) -> Result<Vec<Error>, Error> {
        let Inner { migration, name, pool, settings, .. } = &*self.0;
        let policy = self.policy().await?;
        if !store::take_lease(pool, migration, name, settings.lease).await? {
            self.hear_nothing();
            return Ok(Vec::new());
        }
        // Beside each other: a domain that is slow to say whether it is whole keeps no key waiting, and what takes long makes no feed
        // seem to stand still.
        let (beaten, owned, whole, mut troubles) = tokio::join!(
            Box::pin(self.beat(&policy, &mut memory.beaten)),
            Box::pin(self.keep_owners_whole(&policy, &mut memory.walked)),
            Box::pin(self.hold_if_broken(&policy)),
            Box::pin(self.move_on(&policy, &mut memory.moves, &mut memory.filling, &mut memory.touches)),
        );
        troubles.extend([beaten, owned, whole].into_iter().filter_map(Result::err));
        Ok(troubles)
    }

    /// Moves keys, fills the target and watches a sealed source, as the stage asks. Returns what went wrong: a target that is away keeps
    /// no one from what needs no target.
    async fn move_on(
        &self,
        policy: &Policy,
        moves: &mut Moves,
        filling: &mut Filling,
        touches: &mut Option<Instant>,
    ) -> Vec<Error> {
        let moved = Box::pin(self.hand_over(policy, moves)).await;
        let drained = if policy.draining { self.finish_draining(policy.revision).await } else { Ok(()) };
        let watched = self.watch_touches(policy, touches).await;
        let filled = Box::pin(self.fill(policy, filling)).await;
        [moved, drained, watched, filled].into_iter().filter_map(Result::err).collect()
    }

    /// Walks over the domain's keys, a batch at each look, and holds the migration when one has no owner.
    async fn keep_owners_whole(&self, policy: &Policy, walked: &mut Option<String>) -> Result<(), Error> {
        if policy.stage == Stage::Local || policy.held.is_some() {
            return Ok(());
        }
        let (last, left_out) = self.seeding().look(walked.as_deref()).await?;
        *walked = last;
        if let Some(key) = left_out {
            tracing::error!(migration = self.0.migration, key, "a key has no owner: the migration is held");
            self.hold(&format!("key {key} has no owner"), "controller").await?;
        }
        Ok(())
    }

    /// What the gates ask for.
    pub(super) fn thresholds(&self) -> Thresholds {
        self.0.settings.plan.as_ref().map_or_else(Thresholds::default, |plan| plan.thresholds)
    }

    /// The tenants with whom the ramp is whole, by the plan; none: with 100 %.
    fn planned_tenants(&self) -> &[String] {
        match &self.0.settings.plan {
            Some(plan) => &plan.migration.tenants,
            None => &[],
        }
    }

    async fn policy(&self) -> Result<Policy, Error> {
        let policy = store::find(&self.0.pool, &self.0.migration).await?;
        policy.ok_or_else(|| Error::UnknownMigration(self.0.migration.clone()))
    }

    fn probe(&self) -> Probe<'_> {
        Probe {
            domain: &*self.0.domain,
            peer: &*self.0.peer,
            ask_timeout: self.0.settings.ask_timeout,
            feed_timeout: self.0.settings.feed_timeout,
            heartbeat_max: self.0.settings.heartbeat_every.saturating_mul(INTERVALS_MAX),
            sample_max: self.0.settings.sample_max,
        }
    }

    fn seeding(&self) -> Seeding<'_> {
        Seeding {
            migration: &self.0.migration,
            pool: &self.0.pool,
            domain: &*self.0.domain,
            batch_max: self.0.settings.seed_batch_max,
            ask_timeout: self.0.settings.ask_timeout,
            crash: self.0.settings.crash,
        }
    }
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("migration", &self.0.migration)
            .field("name", &self.0.name)
            .finish()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(5),
            tick: Duration::from_secs(1),
            change_wait: Duration::from_secs(2),
            recheck_timeout: Duration::from_secs(5),
            feed_timeout: Duration::from_secs(10),
            heartbeat_every: Duration::from_secs(5),
            ask_timeout: Duration::from_secs(2),
            sample_max: 1_000,
            seed_batch_max: 500,
            move_batch_max: 100,
            move_timeout: Duration::from_secs(10),
            moves_max: 2_000,
            backfill_rate_max: 2_000,
            parity_timeout: Duration::from_secs(60),
            seed_rounds_max: 3,
            crash: Crash::none(),
            plan: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            metrics: FeedMetrics::noop(),
        }
    }
}

/// An error with its causes, for a log.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
