//! The small domain's part in a hand-over, and a relay that carries its records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use strangler::{BoxError, Epoch, KeyCopy, Memory, Movable, Owners, Pinned, Taken};
use tokio::task::JoinHandle;

/// The tables of a home: payments that may be busy, and what they gave up.
pub(crate) const TABLES: &str = "
    create schema shop;
    create table shop.payment (
        key text primary key, tenant text not null default 'a', version bigint not null default 1,
        busy text,                              -- what is under way
        known boolean not null default true,    -- the copy is whole
        woken bigint not null default 0         -- how often its work was told to begin
    );
    create table shop.given (
        id bigint generated always as identity primary key, key text not null, epoch bigint not null
    );
    create table shop.snapshot (
        id bigint generated always as identity primary key, key text not null, version bigint not null
    );";

/// The rights of the role that moves keys.
pub(crate) fn rights(role: &str) -> String {
    format!(
        "grant usage on schema shop to {role}; grant select, insert, update on all tables in schema shop to {role}"
    )
}

/// The tables of one home, as its own role.
#[derive(Clone)]
pub(crate) struct Tables(pub(crate) PgPool);

#[async_trait]
impl Movable for Tables {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        Ok(self.0.begin().await?)
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        let free: Vec<(String, Option<String>)> = sqlx::query_as(
            "select key, busy from shop.payment where key = any ($1) order by key for update skip locked",
        )
        .bind(keys)
        .fetch_all(&mut **tx)
        .await?;
        let why = |key: &String| match free.iter().find(|(free, _)| free == key) {
            Some((_, busy)) => busy.clone(),
            None => Some("someone holds it".to_owned()),
        };
        Ok(keys.iter().filter_map(|key| Some(Pinned { key: key.clone(), why: why(key)? })).collect())
    }

    async fn give(&self, tx: &mut PgTransaction<'_>, keys: &[(String, Epoch)]) -> Result<(), BoxError> {
        for (key, epoch) in keys {
            sqlx::query("insert into shop.given (key, epoch) values ($1, $2)")
                .bind(key)
                .bind(epoch.get())
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }

    async fn gained(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), BoxError> {
        sqlx::query("update shop.payment set woken = woken + 1 where key = any ($1)")
            .bind(keys)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>, BoxError> {
        Ok(sqlx::query_scalar("select key from shop.payment where key = any ($1) and known")
            .bind(keys)
            .fetch_all(&mut **tx)
            .await?)
    }

    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        let sent: Vec<String> = sqlx::query_scalar(
            "with free as (
                 select key from shop.payment where key = any ($1) order by key for update skip locked
             ), changed as (
                 update shop.payment p set version = version + 1 from free where p.key = free.key
                 returning p.key, p.version
             )
             insert into shop.snapshot (key, version) select key, version from changed order by key returning key",
        )
        .bind(keys)
        .fetch_all(&mut **tx)
        .await?;
        let why = || "someone holds it".to_owned();
        let left = keys.iter().filter(|key| !sent.contains(*key));
        Ok(left.map(|key| Pinned { key: key.clone(), why: why() }).collect())
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select key, version from shop.payment
             where ($1::text is null or key collate \"C\" > $1) and ($2::text is null or key collate \"C\" <= $2)
             order by key collate \"C\" limit $3",
        )
        .bind(after)
        .bind(upto)
        .bind(limit)
        .fetch_all(&self.0)
        .await?;
        Ok(rows.into_iter().map(|(key, version)| KeyCopy { key, version, hash: [0; 32] }).collect())
    }
}

/// Carries offers and snapshots to the target and releases back, in order, until it is told to stand still.
pub(crate) struct Relay {
    still: Arc<AtomicBool>,
    running: JoinHandle<()>,
}

impl Relay {
    pub(crate) fn start(source: PgPool, owners: Owners, target: Memory) -> Self {
        let still = Arc::new(AtomicBool::new(false));
        let running = tokio::spawn(carry(source, owners, target, Arc::clone(&still)));
        Self { still, running }
    }

    pub(crate) fn stand_still(&self, still: bool) {
        self.still.store(still, Ordering::SeqCst);
    }

    /// Ends it; a record that was refused fails the story.
    pub(crate) async fn end(self) {
        self.running.abort();
        if let Err(error) = self.running.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
}

async fn carry(source: PgPool, owners: Owners, target: Memory, still: Arc<AtomicBool>) {
    let (mut last, mut last_snapshot) = (0_i64, 0_i64);
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if still.load(Ordering::SeqCst) {
            continue;
        }
        let given: Vec<(i64, String, i64)> =
            sqlx::query_as("select id, key, epoch from shop.given where id > $1 order by id")
                .bind(last)
                .fetch_all(&source)
                .await
                .unwrap();
        for (id, key, epoch) in given {
            target.offer(&key, Epoch(epoch)).unwrap();
            last = id;
        }
        let sql = "select id, key, version from shop.snapshot where id > $1 order by id";
        let snapshots: Vec<(i64, String, i64)> =
            sqlx::query_as(sql).bind(last_snapshot).fetch_all(&source).await.unwrap();
        for (id, key, version) in snapshots {
            target.snapshot(&key, version);
            last_snapshot = id;
        }
        for (key, epoch) in target.take_released() {
            take_back(&source, &owners, &key, epoch).await;
        }
    }
}

/// The source's replica meets a release.
pub(crate) async fn take_back(source: &PgPool, owners: &Owners, key: &str, epoch: Epoch) -> Taken {
    let mut tx = source.begin().await.unwrap();
    let taken = owners.take_back(&mut tx, key, epoch).await.unwrap();
    tx.commit().await.unwrap();
    taken
}
