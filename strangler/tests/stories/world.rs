//! A source's database with roles of its own, a small domain in it, and a target in memory.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgTransaction};
use sqlx::{AssertSqlSafe, PgPool};
use strangler::plan_file::PlanFile;
use strangler::{
    Advance, Applied, BoxError, Controller, DecisionClass, DecisionCount, Decisions, Domain, Epoch, Error,
    Gate, Health, Heard, Home, Key, KeyCopy, Memory, Movable, MutantCount, Owners, Ownership, Peer, Phase,
    Pinned, ProviderAccess, Settings, Stage, Step,
};

use crate::domain::{Relay, TABLES, Tables, rights};

mod walking;

pub(crate) const MIGRATION: &str = "payments";
const PASSWORD: &str = "a-password-of-tests";
/// Longer than anything here should take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) database: stack::Database,
    pub(crate) admin: PgPool,
    /// As the module that creates keys.
    pub(crate) births: Owners,
    pub(crate) births_pool: PgPool,
    /// As the module that writes them.
    pub(crate) writes: Owners,
    pub(crate) writes_pool: PgPool,
    pub(crate) controller_pool: PgPool,
    pub(crate) shop: Shop,
    pub(crate) target: Memory,
}

/// A domain of one table. What both replicas consumed of later versions, and have heard, is what the test says.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) pool: PgPool,
    pub(crate) tables: Tables,
    pub(crate) replica: Memory,
    pub(crate) target: Memory,
    /// How often the reverse feed was asked for and has answered.
    pub(crate) asked: Arc<AtomicUsize>,
    broken: Arc<Mutex<Option<String>>>,
}

/// A plan with thresholds as low as they may be.
pub(crate) const PLAN: &str = r#"
[migration]
name = "payments"
[business]
metric = "p99 of checkout"
baseline = 180
target = 120
guardrail = "nothing is lost"
owner = "the tests"
decide_by = 2099-12-31
[thresholds]
reads_min = 1
decisions_min = 1
first_ramp_percent_max = 100
cycle_seconds = 1
verify_days = 1
"#;

pub(crate) fn plan(text: &str) -> Arc<PlanFile> {
    Arc::new(PlanFile::parse(text).unwrap())
}

pub(crate) fn settings() -> Settings {
    Settings {
        plan: Some(plan(PLAN)),
        lease: Duration::from_millis(600),
        tick: Duration::from_millis(50),
        feed_timeout: Duration::from_millis(500),
        ..Settings::default()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let stack = stack::shared().await.unwrap();
        let database = stack.database("strangler").await.unwrap();
        let admin = PgPoolOptions::new().max_connections(20).connect(database.url()).await.unwrap();
        strangler::migrate_source(&admin, MIGRATION).await.unwrap();
        sqlx::raw_sql(TABLES).execute(&admin).await.unwrap();
        let births_pool = login(&database, &admin, "births").await;
        let writes_pool = login(&database, &admin, "writes").await;
        let controller_pool = login(&database, &admin, "controller").await;
        strangler::grant_assigner(&admin, &role(&database, "births")).await.unwrap();
        strangler::grant_writer(&admin, &role(&database, "writes")).await.unwrap();
        strangler::grant_mover(&admin, &role(&database, "writes")).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(rights(&role(&database, "writes")))).execute(&admin).await.unwrap();
        strangler::sealable(&admin, MIGRATION, &role(&database, "writes"), "shop").await.unwrap();
        strangler::grant_controller(&admin, &role(&database, "controller")).await.unwrap();
        let replica = Memory::default();
        replica.set_health(Some(Health::Serving));
        let target = Memory::default();
        target.set_health(Some(Health::Serving));
        target.set_decisions(decided());
        let shop = Shop {
            pool: admin.clone(),
            tables: Tables(writes_pool.clone()),
            replica,
            target: target.clone(),
            asked: Arc::default(),
            broken: Arc::default(),
        };
        Self {
            births: Owners::new(MIGRATION, births_pool.clone()),
            writes: Owners::new(MIGRATION, writes_pool.clone()),
            database,
            admin,
            births_pool,
            writes_pool,
            controller_pool,
            shop,
            target,
        }
    }

    pub(crate) async fn end(self) {
        self.database.drop_now().await.unwrap();
    }

    pub(crate) fn controller(&self) -> Controller {
        self.controller_of(Arc::new(self.shop.clone()), settings())
    }

    pub(crate) fn controller_of(&self, domain: Arc<dyn Domain>, settings: Settings) -> Controller {
        Controller::with(
            MIGRATION,
            self.controller_pool.clone(),
            domain,
            Arc::new(self.target.clone()),
            settings,
        )
    }

    /// A new payment with an owner, in one transaction, as the shop does it.
    pub(crate) async fn born(&self, tenant: &str, key: &str) -> Home {
        let mut tx = self.births_pool.begin().await.unwrap();
        let owner = self.births.assign(&mut tx, tenant, key).await.unwrap();
        tx.commit().await.unwrap();
        self.shop.insert(tenant, key).await;
        if owner.home == Home::Target {
            self.target.born(key).unwrap();
        }
        owner.home
    }

    pub(crate) async fn lock(&self, key: &str) -> Result<i64, Error> {
        let mut tx = self.writes_pool.begin().await.unwrap();
        self.writes.lock(&mut tx, key).await.map(|epoch| epoch.get())
    }

    pub(crate) async fn owner(&self, key: &str) -> Ownership {
        self.writes.refresh(key).await.unwrap()
    }

    pub(crate) fn relay(&self) -> Relay {
        Relay::start(self.writes_pool.clone(), self.writes.clone(), self.target.clone())
    }

    /// Says what of a payment at the source is under way.
    pub(crate) async fn busy(&self, key: &str, why: Option<&str>) {
        sqlx::query("update shop.payment set busy = $2 where key = $1")
            .bind(key)
            .bind(why)
            .execute(&self.admin)
            .await
            .unwrap();
    }

    /// Returns once a key is settled at a home.
    pub(crate) async fn settled(&self, key: &str, home: Home) {
        let there = async || {
            let owner = self.owner(key).await;
            (owner.home, owner.phase) == (home, Phase::Settled)
        };
        eventually(&format!("{key} is the {home}'s"), there).await;
    }

    pub(crate) fn caught_up(&self, key: &str, version: i64) {
        self.target.apply(key, version);
        self.shop.replica.apply(key, version);
    }

    pub(crate) async fn execute(&self, sql: &'static str) -> u64 {
        sqlx::query(sql).execute(&self.admin).await.unwrap().rows_affected()
    }

    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.admin).await.unwrap()
    }

    /// Returns once someone waits for a lock of this database.
    pub(crate) async fn someone_waits(&self) {
        let waits = async || {
            self.number(
                "select count(*) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock'",
            )
            .await
                > 0
        };
        eventually("someone waits for a lock", waits).await;
    }
}

impl Shop {
    /// Says which invariant is broken.
    pub(crate) fn set_broken(&self, broken: Option<&str>) {
        *self.broken.lock().unwrap() = broken.map(str::to_owned);
    }

    /// A payment whose first event has reached both homes.
    pub(crate) async fn insert(&self, tenant: &str, key: &str) {
        sqlx::query("insert into shop.payment (key, tenant) values ($1, $2)")
            .bind(key)
            .bind(tenant)
            .execute(&self.pool)
            .await
            .unwrap();
        self.replica.apply(key, 1);
        self.target.apply(key, 1);
    }
}

#[async_trait::async_trait]
impl Movable for Shop {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        self.tables.begin().await
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        self.tables.pinned(tx, keys).await
    }

    async fn give(&self, tx: &mut PgTransaction<'_>, keys: &[(String, Epoch)]) -> Result<(), BoxError> {
        self.tables.give(tx, keys).await
    }

    async fn gained(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), BoxError> {
        self.tables.gained(tx, keys).await
    }

    async fn beat(&self, _: &mut PgTransaction<'_>) -> Result<(), BoxError> {
        Peer::beat(&self.replica).await
    }

    async fn heard(&self) -> Result<Heard, BoxError> {
        Peer::heard(&self.replica).await
    }

    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>, BoxError> {
        self.tables.known(tx, keys).await
    }

    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        self.tables.snapshot(tx, keys).await
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        self.tables.copies(after, upto, limit).await
    }
}

#[async_trait::async_trait]
impl Domain for Shop {
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select tenant, key from shop.payment
             where $1::text is null or key collate \"C\" > $1 order by key collate \"C\" limit $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(tenant, key)| Key { tenant, key }).collect())
    }

    async fn versions(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        // In these stories the key that is last in the alphabet was written last.
        Ok(sqlx::query_as("select key, version from shop.payment order by key collate \"C\" desc limit $1")
            .bind(limit)
            .fetch_all(&self.pool)
            .await?)
    }

    async fn reverse_feed(&self, keys: &[String]) -> Result<Applied, BoxError> {
        let applied = strangler::Evidence::applied(&self.replica, keys).await;
        self.asked.fetch_add(1, Ordering::SeqCst);
        applied
    }

    async fn broken(&self) -> Result<Option<String>, BoxError> {
        Ok(self.broken.lock().unwrap().clone())
    }

    async fn outcomes(&self) -> Result<Vec<String>, BoxError> {
        Ok(vec!["paid".to_owned()])
    }
}

/// What a target finds that decides as the source does, and has nothing to do with the world outside.
pub(crate) fn decided() -> Decisions {
    let (name, outcome) = ("one_more".to_owned(), "paid".to_owned());
    Decisions {
        version: "1.0".to_owned(),
        counts: vec![DecisionCount { class: DecisionClass::Equal, outcome: outcome.clone(), count: 5_000 }],
        mutants: vec![MutantCount { name, caught: 5_000, missed: 0, outcomes: vec![outcome] }],
        samples: Vec::new(),
        provider: Some(ProviderAccess::Denied),
    }
}

pub(crate) fn following() -> Advance {
    Advance { metric: Some("p99 of checkout".to_owned()), ..Advance::to(Stage::Following) }
}

/// A refusal's text.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(error @ (Error::Refused(_) | Error::Plan { .. } | Error::Invalid { .. })) => error.to_string(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// A gate of a step, by its name.
pub(crate) fn gate<'a>(step: &'a Step, name: &str) -> &'a Gate {
    step.gates.iter().find(|gate| gate.name == name).unwrap_or_else(|| panic!("no gate {name}: {step:?}"))
}

/// Awaits a condition.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"));
}

/// A birth in a transaction that stays open.
pub(crate) async fn open_birth(world: &World, key: &str) -> PgTransaction<'static> {
    let mut tx = world.births_pool.begin().await.unwrap();
    world.births.assign(&mut tx, "a", key).await.unwrap();
    tx
}

pub(crate) fn role(database: &stack::Database, name: &str) -> String {
    format!("{}_{name}", database.name())
}

/// A pool of a new login role.
pub(crate) async fn login(database: &stack::Database, admin: &PgPool, name: &str) -> PgPool {
    let role = role(database, name);
    let sql = format!("create role {role} login password '{PASSWORD}'");
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.unwrap();
    let options = PgConnectOptions::from_str(database.url()).unwrap().username(&role).password(PASSWORD);
    PgPoolOptions::new().max_connections(20).connect_lazy_with(options)
}
