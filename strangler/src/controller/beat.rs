//! Heartbeats: while the stage has a feed, the home where it begins publishes one in each interval, and the age of the last one that came is
//! shown.

use tokio::time::{Instant, timeout};

use super::{Controller, Inner, Settings};
use crate::policy::Policy;
use crate::store::policy as store;
use crate::{Error, Home, Stage};

impl Controller {
    /// Lets each home whose feed the stage has publish a heartbeat, when the last is an interval ago. Only the controller that holds the
    /// lease comes here, so several processes send no more than one does. Trouble with one home is no reason to leave out the other.
    pub(super) async fn beat(&self, policy: &Policy, last: &mut Option<Instant>) -> Result<(), Error> {
        let every = self.0.settings.heartbeat_every;
        // The target sends none in a stage in which the source sends none.
        if !policy.stage.beats(Home::Source) {
            self.hear_nothing();
            return Ok(());
        }
        if last.is_some_and(|at| at.elapsed() < every) {
            return Ok(());
        }
        *last = Some(Instant::now());
        let there = async { if policy.stage.beats(Home::Target) { self.beat_there().await } else { Ok(()) } };
        let (here, there, ()) = tokio::join!(self.beat_here(), there, self.listen(policy.stage));
        here.and(there)
    }

    /// Shows how old the last heartbeats are that came, for an alarm between two steps.
    async fn listen(&self, stage: Stage) {
        let Inner { domain, peer, settings, .. } = &*self.0;
        let Settings { ask_timeout, metrics, .. } = settings;
        let at_target = async {
            let heard = timeout(*ask_timeout, peer.heard()).await.ok().and_then(Result::ok);
            metrics.note(Home::Source, heard.as_ref());
        };
        let at_source = async {
            if !stage.beats(Home::Target) {
                return metrics.forget(Home::Target);
            }
            let heard = timeout(*ask_timeout, domain.heard()).await.ok().and_then(Result::ok);
            metrics.note(Home::Target, heard.as_ref());
        };
        tokio::join!(at_target, at_source);
    }

    /// Another controller leads, or none has to.
    pub(super) fn hear_nothing(&self) {
        for from in [Home::Source, Home::Target] {
            self.0.settings.metrics.forget(from);
        }
    }

    /// Within `ask_timeout`: the next one comes soon, and the look that it is part of ends no sooner.
    async fn beat_here(&self) -> Result<(), Error> {
        let late = || unsent(Home::Source, &"it was not published in time");
        timeout(self.0.settings.ask_timeout, self.publish_beat()).await.map_err(|_| late())?
    }

    /// In a transaction of its own that waits for nobody long.
    async fn publish_beat(&self) -> Result<(), Error> {
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
