//! From the source to the target: fence, decide or give up, grant.

use std::collections::BTreeSet;

use tokio::time::timeout;

use super::{Moves, Round, told};
use crate::controller::{Controller, Inner};
use crate::handover::source::Message;
use crate::store::moves::Moving;
use crate::store::{moves as store, owners, policy};
use crate::{BoxError, Epoch, Error, Health, Pinned, Point, Reply};

/// Why a key is pinned whose move was given up.
const LATE: &str = "the target had not applied its offer in time";

impl Controller {
    /// Fences the next keys that can go, with their offers, in one transaction of the domain's.
    pub(super) async fn fence(&self, moves: &mut Moves, round: &mut Round) -> Result<(), Error> {
        if moves.swept {
            return Ok(());
        }
        let Inner { migration, pool, settings, .. } = &*self.0;
        let batch = moves.batch(self.batch_max());
        let keys = store::movable(pool, migration, &moves.after, batch).await?;
        let Some(last) = keys.last() else {
            moves.after.clear();
            moves.swept = true;
            return Ok(());
        };
        if !self.serves(round).await {
            return Ok(());
        }
        moves.after.clone_from(last);
        round.done += keys.len();
        let fenced = match timeout(settings.ask_timeout, self.fence_batch(&keys)).await {
            Ok(fenced) => fenced,
            Err(_) => Err(Error::Domain(format!("{} keys could not be fenced in time", keys.len()))),
        };
        match round.heard(fenced) {
            Some(pinned) => {
                moves.faster(self.batch_max());
                self.pin(pinned).await
            }
            None => {
                moves.slower(self.batch_max());
                Ok(())
            }
        }
    }

    /// Whether the target could take a key now.
    pub(super) async fn serves(&self, round: &mut Round) -> bool {
        let health = self.ask(self.0.peer.health()).await.and_then(|health| match health {
            Health::Serving => Ok(()),
            Health::NotServing => Err(Error::Target("it says that it does not serve".to_owned())),
        });
        round.heard(health).is_some()
    }

    /// The order matters: owner rows, then the domain's rows, then what is read to be published.
    async fn fence_batch(&self, keys: &[String]) -> Result<Vec<Pinned>, Error> {
        let Inner { migration, domain, settings, .. } = &*self.0;
        let mut tx = domain.begin().await.map_err(failed)?;
        policy::limit_waits(&mut tx, settings.ask_timeout).await?;
        let claimed = owners::claim_settled(&mut tx, migration, keys).await?;
        if claimed.is_empty() {
            tx.rollback().await?;
            return Ok(Vec::new());
        }
        let mut pinned = domain.pinned(&mut tx, &claimed).await.map_err(failed)?;
        pinned.retain(|pinned| claimed.contains(&pinned.key));
        let busy: BTreeSet<&str> = pinned.iter().map(|pinned| pinned.key.as_str()).collect();
        let quiet: Vec<String> = claimed.into_iter().filter(|key| !busy.contains(key.as_str())).collect();
        if !quiet.is_empty() {
            let fenced = owners::fence(&mut tx, migration, &quiet).await?;
            domain.give(&mut tx, &fenced).await.map_err(failed)?;
        }
        tx.commit().await?;
        if !quiet.is_empty() {
            settings.crash.point(Point::Fenced);
        }
        Ok(pinned)
    }

    /// Makes those keys the target's that it is ready for.
    pub(super) async fn decide(&self, moving: &[Moving], round: &mut Round) -> Result<(), Error> {
        let size = usize::try_from(self.batch_max()).unwrap_or(1);
        for batch in moving.chunks(size) {
            let keys = with_epochs(batch.iter());
            let Some(replies) = round.heard(self.ask(self.0.peer.ready(&keys)).await) else { break };
            let ready = told(&keys, &replies, &Reply::Ready);
            if ready.is_empty() {
                continue;
            }
            self.0.settings.crash.point(Point::ReadyAnswered);
            round.done += self.swap(Message::Ready, &ready).await?.len();
            self.0.settings.crash.point(Point::Decided);
        }
        Ok(())
    }

    /// Makes those keys the source's again that took too long. A key that was decided meanwhile is at another epoch.
    pub(super) async fn give_up_late(&self, moving: &[Moving], round: &mut Round) -> Result<(), Error> {
        let late = with_epochs(moving.iter().filter(|moving| moving.late));
        let back = self.swap(Message::TimeOut, &late).await?;
        let why = |(key, _): &(String, Epoch)| Pinned { key: key.clone(), why: LATE.to_owned() };
        self.pin(back.iter().map(why).collect()).await?;
        self.wake(back, round).await;
        Ok(())
    }

    /// Makes all of them the source's again.
    pub(super) async fn give_up(&self, moving: &[Moving], round: &mut Round) -> Result<(), Error> {
        let back = self.swap(Message::TimeOut, &with_epochs(moving.iter())).await?;
        self.wake(back, round).await;
        Ok(())
    }

    /// Tells the target which keys are its own, until it has confirmed it.
    pub(super) async fn grant(&self, moves: &mut Moves, round: &mut Round) -> Result<(), Error> {
        let Inner { migration, pool, peer, settings, .. } = &*self.0;
        let keys = store::granting(pool, migration, &moves.asked, self.batch_max()).await?;
        if keys.is_empty() {
            return Ok(());
        }
        moves.note_asked(&keys);
        let Some(replies) = round.heard(self.ask(peer.grant(&keys)).await) else {
            moves.failed = true;
            return Ok(());
        };
        let granted = told(&keys, &replies, &Reply::Granted);
        if !granted.is_empty() {
            settings.crash.point(Point::GrantAnswered);
            store::note_granted(pool, migration, &granted).await?;
            settings.crash.point(Point::GrantNoted);
        }
        round.done += keys.len();
        Ok(())
    }

    pub(super) async fn swap(
        &self,
        message: Message,
        keys: &[(String, Epoch)],
    ) -> Result<Vec<(String, Epoch)>, Error> {
        Ok(store::swap(&self.0.pool, &self.0.migration, message, keys).await?)
    }

    /// Work of these keys that waited at the source begins. Without this it would, too, but later.
    async fn wake(&self, keys: Vec<(String, Epoch)>, round: &mut Round) {
        if keys.is_empty() {
            return;
        }
        round.done += keys.len();
        let mut keys: Vec<String> = keys.into_iter().map(|(key, _)| key).collect();
        keys.sort();
        let woken = async {
            let mut tx = self.0.domain.begin().await?;
            self.0.domain.gained(&mut tx, &keys).await?;
            tx.commit().await?;
            Ok::<_, BoxError>(())
        };
        if !matches!(timeout(self.0.settings.ask_timeout, woken).await, Ok(Ok(()))) {
            tracing::info!(keys = keys.len(), "work of keys that stay was not woken: it begins by itself");
        }
    }
}

fn with_epochs<'a>(moving: impl Iterator<Item = &'a Moving>) -> Vec<(String, Epoch)> {
    moving.map(|moving| (moving.key.clone(), Epoch(moving.epoch))).collect()
}

fn failed(error: BoxError) -> Error {
    Error::Domain(error.to_string())
}
