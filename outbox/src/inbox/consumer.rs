//! The running inbox: reading, sweeping and comparing side by side.

use std::{collections::HashSet, future::Future, sync::Arc};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{
    Baseline, Gate, InboxOptions, Refilling, patience::Patience, reading::Reading, start::start, sweep,
    tally::Counts,
};
use crate::{Error, Refill, Source, database::Database, store};

pub(super) struct Consumer<S> {
    pub(super) pool: PgPool,
    pub(super) source: S,
    pub(super) gates: Vec<Gate>,
    pub(super) options: InboxOptions,
    pub(super) baseline: Baseline,
    pub(super) refill: Option<Arc<dyn Refill>>,
    pub(super) counts: Counts,
}

impl<S: Source> Consumer<S> {
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        self.check()?;
        let patience = Patience::new(&self.options, shutdown.clone());
        let Self { pool, source, mut gates, options, baseline, refill, counts } = self;
        // None of the questions here is waited for for ever, whatever becomes of the network.
        let database = Database::new(pool.clone(), options.statement_timeout);
        let own = async || database.with(async |db| store::own_origins(db).await).await;
        let Some(own) = patience.until(own).await? else { return Ok(()) };
        for gate in &mut gates {
            let refilling = refill.clone().map(|log| Refilling::new(log, options.refill.clone()));
            gate.prepare(&database, &options, &counts, &own, refilling);
        }
        let gates: Vec<Arc<Gate>> = gates.into_iter().map(Arc::new).collect();
        let started = patience.until(|| start(&database, &source, &gates, baseline)).await?;
        let Some(started) = started else { return Ok(()) };
        // The end of one is the end of all, and each ends by itself: none is dropped in the middle of a transaction.
        let stop = shutdown.child_token();
        let reading = Reading::new(&source, &pool, &gates, started, &options, stop.clone()).run();
        let sweeping = sweep::sweep(&database, &source, &gates, &options, stop.clone());
        let refilling = sweep::refill(&gates, &options, stop.clone());
        let comparing = sweep::compare(&source, &gates, &options, stop.clone());
        let (read, swept, refilled, compared) = tokio::join!(
            ending(Box::pin(reading), &stop),
            ending(Box::pin(sweeping), &stop),
            ending(Box::pin(refilling), &stop),
            ending(Box::pin(comparing), &stop)
        );
        read.and(swept).and(refilled).and(compared)
    }

    fn check(&self) -> Result<(), Error> {
        let mut names = HashSet::new();
        match self.gates.iter().find(|gate| !names.insert(gate.name())) {
            Some(twice) => Err(Error::Setup(format!(
                "two handlers are named {}: they would share their cursors, and each event would reach one of them",
                twice.name()
            ))),
            None if self.baseline == Baseline::Log && self.refill.is_none() => {
                Err(Error::Setup("Baseline::Log needs a refill, the log to ask".into()))
            }
            None if self.gates.is_empty() => Err(Error::Setup("the inbox has no handler".into())),
            None => Ok(()),
        }
    }
}

/// Stops the others when this one ends.
pub(super) async fn ending(
    work: impl Future<Output = Result<(), Error>>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let ended = work.await;
    stop.cancel();
    ended
}
