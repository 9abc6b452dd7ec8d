//! The shop, with one thing odd about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgTransaction;
use strangler::{Applied, BoxError, Domain, Epoch, Key, KeyCopy, Movable, Pinned};
use tokio::sync::Notify;

use crate::world::{Shop, World};

pub(crate) struct Odd {
    shop: Shop,
    /// For keys.
    calls: AtomicUsize,
    oddity: Oddity,
}

pub(crate) enum Oddity {
    /// This call for keys fails, counted from 0.
    FailsAt(usize),
    /// At the end of each of the first passes, a key appears that nobody assigned.
    Forgets { passes: usize },
    /// The same keys are answered for ever.
    StandsStill,
    /// `pinned`, `give`, `snapshot`, `copies`, `keys`, `broken` or `beat` is carried out and never returns; who waits is told when it is there.
    DiesAt(&'static str, Arc<Notify>),
    /// The state of this payment can't be published.
    Poisons(&'static str),
    /// Each copy takes this long to read.
    ReadsSlowly(Duration),
    /// This waits for a person.
    LeavesOpen(&'static str),
}

impl Odd {
    pub(crate) fn new(world: &World, oddity: Oddity) -> Arc<Self> {
        Arc::new(Self { shop: world.shop.clone(), calls: AtomicUsize::new(0), oddity })
    }

    async fn done(&self, call: &'static str) {
        if let Oddity::DiesAt(at, reached) = &self.oddity
            && *at == call
        {
            reached.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn publishes<'a>(&self, mut keys: impl Iterator<Item = &'a String>) -> Result<(), BoxError> {
        match self.oddity {
            Oddity::Poisons(key) if keys.any(|it| it == key) => {
                Err(format!("the row of {key} makes no sense").into())
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Movable for Odd {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        self.shop.begin().await
    }

    async fn pinned(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        let pinned = self.shop.pinned(tx, keys).await;
        self.done("pinned").await;
        pinned
    }

    async fn give(&self, tx: &mut PgTransaction<'_>, keys: &[(String, Epoch)]) -> Result<(), BoxError> {
        self.publishes(keys.iter().map(|(key, _)| key))?;
        let given = self.shop.give(tx, keys).await;
        self.done("give").await;
        given
    }

    async fn beat(&self, tx: &mut PgTransaction<'_>) -> Result<(), BoxError> {
        let beaten = self.shop.beat(tx).await;
        self.done("beat").await;
        beaten
    }

    async fn gained(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<(), BoxError> {
        self.shop.gained(tx, keys).await
    }

    async fn known(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<String>, BoxError> {
        self.shop.known(tx, keys).await
    }

    async fn snapshot(&self, tx: &mut PgTransaction<'_>, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        self.publishes(keys.iter())?;
        let unsent = self.shop.snapshot(tx, keys).await;
        self.done("snapshot").await;
        unsent
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        let copies = self.shop.copies(after, upto, limit).await?;
        if let Oddity::ReadsSlowly(each) = self.oddity {
            tokio::time::sleep(each * u32::try_from(copies.len())?).await;
        }
        self.done("copies").await;
        Ok(copies)
    }
}

#[async_trait]
impl Domain for Odd {
    async fn keys(&self, after: Option<&str>, limit: i64) -> Result<Vec<Key>, BoxError> {
        match self.oddity {
            Oddity::FailsAt(n) if self.calls.fetch_add(1, Ordering::SeqCst) == n => {
                Err("the domain is away".into())
            }
            Oddity::StandsStill => self.shop.keys(None, 1).await,
            Oddity::Forgets { passes } => {
                let keys = self.shop.keys(after, limit).await?;
                // Only seeding asks for 500.
                if keys.is_empty() && limit == 500 && self.calls.fetch_add(1, Ordering::SeqCst) < passes {
                    self.shop
                        .insert("a", &format!("0-forgotten-{}", self.calls.load(Ordering::SeqCst)))
                        .await;
                }
                Ok(keys)
            }
            _ => {
                let keys = self.shop.keys(after, limit).await;
                self.done("keys").await;
                keys
            }
        }
    }

    async fn versions(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        self.shop.versions(limit).await
    }

    async fn reverse_feed(&self, keys: &[String]) -> Result<Applied, BoxError> {
        self.shop.reverse_feed(keys).await
    }

    async fn broken(&self) -> Result<Option<String>, BoxError> {
        let broken = self.shop.broken().await;
        self.done("broken").await;
        broken
    }

    async fn left_open(&self) -> Result<Option<String>, BoxError> {
        match self.oddity {
            Oddity::LeavesOpen(what) => Ok(Some(what.to_owned())),
            _ => Ok(None),
        }
    }

    async fn outcomes(&self) -> Result<Vec<String>, BoxError> {
        self.shop.outcomes().await
    }
}
