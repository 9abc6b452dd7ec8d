//! Heartbeats: while the stage has a feed, the home where it begins publishes one in each interval.

use tokio::time::{Instant, timeout};

use super::{Controller, Inner};
use crate::policy::Policy;
use crate::store::policy as store;
use crate::{Error, Home};

impl Controller {
    /// Lets each home whose feed the stage has publish a heartbeat, when the last is an interval ago. Only the controller that holds the
    /// lease comes here, so several processes send no more than one does. Trouble with one home is no reason to leave out the other.
    pub(super) async fn beat(&self, policy: &Policy, last: &mut Option<Instant>) -> Result<(), Error> {
        let every = self.0.settings.heartbeat_every;
        let is_due = last.is_none_or(|at| at.elapsed() >= every);
        if !is_due || !policy.stage.beats(Home::Source) {
            return Ok(());
        }
        *last = Some(Instant::now());
        let there = async { if policy.stage.beats(Home::Target) { self.beat_there().await } else { Ok(()) } };
        let (here, there) = tokio::join!(self.beat_here(), there);
        here.and(there)
    }

    /// In a transaction of its own that waits for nobody long: the next one comes soon.
    async fn beat_here(&self) -> Result<(), Error> {
        let Inner { domain, settings, .. } = &*self.0;
        let mut tx = domain.begin().await.map_err(|error| unsent(Home::Source, &error))?;
        store::limit_waits(&mut tx, settings.ask_timeout).await?;
        domain.beat(&mut tx).await.map_err(|error| unsent(Home::Source, &error))?;
        tx.commit().await?;
        domain.committed();
        Ok(())
    }

    async fn beat_there(&self) -> Result<(), Error> {
        let Inner { peer, settings, .. } = &*self.0;
        match timeout(settings.ask_timeout, peer.beat()).await {
            Ok(sent) => sent.map_err(|error| unsent(Home::Target, &error)),
            Err(_) => Err(unsent(Home::Target, &"no answer in time")),
        }
    }
}

fn unsent(home: Home, why: &dyn std::fmt::Display) -> Error {
    Error::Domain(format!("the {home} sent no heartbeat: {why}"))
}
