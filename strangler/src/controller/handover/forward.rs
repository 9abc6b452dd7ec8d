//! From the source to the target: fence, decide or give up, grant.

use std::collections::BTreeSet;

use sqlx::postgres::PgTransaction;
use tokio::time::timeout;

use super::{LATE, Moves, Round, all_unmoved, told};
use crate::controller::{Controller, Inner};
use crate::handover::source::Message;
use crate::policy::Policy;
use crate::store::moves::Moving;
use crate::store::{backfill, moves as store, owners, policy};
use crate::{BoxError, Epoch, Error, Health, Home, Phase, Pinned, Point, Reply};

/// Why a key is pinned that could not be claimed.
const WRITTEN: &str = "it is being written, or someone holds its row";

impl Controller {
    /// Fences the next keys that can go, at most `room`, with their offers, in one transaction of the domain's. A batch that fails is halved,
    /// until the key that it fails for is alone: that one is pinned, and has a batch for itself from then on.
    pub(super) async fn fence(
        &self,
        seen: &Policy,
        room: i64,
        moves: &mut Moves,
        round: &mut Round,
    ) -> Result<(), Error> {
        if moves.swept {
            return Ok(());
        }
        let Inner { migration, pool, .. } = &*self.0;
        let keys = store::movable(pool, migration, &moves.after, room).await?;
        let keys = moves.alone(keys, String::as_str);
        let Some(last) = keys.last() else {
            moves.after.clear();
            moves.swept = true;
            return Ok(());
        };
        if !self.serves(round).await {
            return Ok(());
        }
        // Without a transaction no key is to blame.
        let Some(tx) = round.heard(self.begin_here().await) else { return Ok(()) };
        let pinned = match (self.fence_in_time(tx, &keys).await, keys.as_slice()) {
            (Ok((claimed, mut pinned)), _) => {
                moves.spoilt.retain(|key| !keys.contains(key));
                moves.fences.faster(self.batch_max());
                pinned.extend(self.written(seen, &keys, &claimed).await?);
                pinned
            }
            (Err(error), [key]) => {
                tracing::warn!(migration, key, %error, "a key could not be fenced: it stays");
                moves.spoil(key);
                vec![Pinned { key: key.clone(), why: error.to_string() }]
            }
            (Err(error), _) => {
                moves.fences.slower(self.batch_max());
                round.trouble.get_or_insert(error);
                return Ok(());
            }
        };
        moves.after.clone_from(last);
        round.done += keys.len();
        self.pin(pinned).await
    }

    /// Whether the target could take a key now.
    pub(super) async fn serves(&self, round: &mut Round) -> bool {
        let health = self.ask(self.0.peer.health()).await.and_then(|health| match health {
            Health::Serving => Ok(()),
            Health::NotServing => Err(Error::Target("it says that it does not serve".to_owned())),
        });
        round.heard(health).is_some()
    }

    async fn begin_here(&self) -> Result<PgTransaction<'static>, Error> {
        match timeout(self.0.settings.ask_timeout, self.0.domain.begin()).await {
            Ok(begun) => begun.map_err(failed),
            Err(_) => Err(Error::Domain("it began no transaction in time".to_owned())),
        }
    }

    async fn fence_in_time(
        &self,
        tx: PgTransaction<'static>,
        keys: &[String],
    ) -> Result<(Vec<String>, Vec<Pinned>), Error> {
        match timeout(self.0.settings.ask_timeout, self.fence_batch(tx, keys)).await {
            Ok(fenced) => fenced,
            Err(_) => Err(Error::Domain(format!("{} keys could not be fenced in time", keys.len()))),
        }
    }

    /// The order matters: owner rows, then the domain's rows, then what is read to be published. Returns what could be claimed, and what of
    /// that is not quiet.
    async fn fence_batch(
        &self,
        mut tx: PgTransaction<'static>,
        keys: &[String],
    ) -> Result<(Vec<String>, Vec<Pinned>), Error> {
        let Inner { migration, domain, settings, .. } = &*self.0;
        policy::limit_waits(&mut tx, settings.ask_timeout).await?;
        // It holds the policy. Nobody waits for what comes later, so it ends in the database, too.
        policy::limit_statements(&mut tx, settings.ask_timeout).await?;
        let claimed = owners::claim_settled(&mut tx, migration, keys).await?;
        if claimed.is_empty() {
            tx.rollback().await?;
            return Ok((claimed, Vec::new()));
        }
        let mut pinned = domain.pinned(&mut tx, &claimed).await.map_err(failed)?;
        pinned.retain(|pinned| claimed.contains(&pinned.key));
        let busy: BTreeSet<&str> = pinned.iter().map(|pinned| pinned.key.as_str()).collect();
        let quiet: Vec<String> = claimed.iter().filter(|key| !busy.contains(key.as_str())).cloned().collect();
        if !quiet.is_empty() {
            let fenced = owners::fence(&mut tx, migration, &quiet).await?;
            domain.give(&mut tx, &fenced).await.map_err(failed)?;
        }
        tx.commit().await?;
        if !quiet.is_empty() {
            domain.committed();
            settings.crash.point(Point::Fenced);
        }
        Ok((claimed, pinned))
    }

    /// Those of the keys that still are the source's and could not be claimed, under the policy that was seen: under another there may be
    /// none to claim.
    async fn written(
        &self,
        seen: &Policy,
        keys: &[String],
        claimed: &[String],
    ) -> Result<Vec<Pinned>, Error> {
        let claimed: BTreeSet<&String> = claimed.iter().collect();
        let left: Vec<String> = keys.iter().filter(|key| !claimed.contains(key)).cloned().collect();
        if left.is_empty() || (claimed.is_empty() && self.policy().await?.revision != seen.revision) {
            return Ok(Vec::new());
        }
        let standing = backfill::standing(&self.0.pool, &self.0.migration, &left).await?;
        let stays =
            standing.into_iter().filter(|(_, home, phase)| (*home, *phase) == (Home::Source, Phase::Settled));
        Ok(stays.map(|(key, ..)| Pinned { key, why: WRITTEN.to_owned() }).collect())
    }

    /// Makes those keys the target's that it is ready for.
    pub(super) async fn decide(
        &self,
        moving: &[Moving],
        moves: &mut Moves,
        round: &mut Round,
    ) -> Result<(), Error> {
        let size = usize::try_from(self.batch_max()).unwrap_or(1);
        for batch in moving.chunks(size) {
            let keys = with_epochs(batch.iter());
            let Some(replies) = round.heard(self.ask(self.0.peer.ready(&keys)).await) else { break };
            let ready = told(&keys, &replies, &Reply::Ready);
            if ready.is_empty() {
                continue;
            }
            self.0.settings.crash.point(Point::ReadyAnswered);
            round.decided += self.swap(Message::Ready, &ready).await?.len();
            self.0.settings.crash.point(Point::Decided);
        }
        if round.decided > 0 {
            moves.note_taken();
        }
        Ok(())
    }

    /// Makes those keys the source's again that took too long. A key that was decided meanwhile is at another epoch.
    pub(super) async fn give_up_late(
        &self,
        moving: &[Moving],
        moves: &mut Moves,
        round: &mut Round,
    ) -> Result<(), Error> {
        let late = with_epochs(moving.iter().filter(|moving| moving.late));
        let back = self.swap(Message::TimeOut, &late).await?;
        if !back.is_empty() {
            moves.note_late();
        }
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

    /// Tells the target which keys are its own, until it has confirmed it. A key that it does not confirm is pinned, and is asked about again
    /// later.
    pub(super) async fn grant(&self, moves: &mut Moves, round: &mut Round) -> Result<(), Error> {
        if moves.none_granting {
            return Ok(());
        }
        let Inner { migration, pool, peer, settings, .. } = &*self.0;
        let batch = moves.calls.now(self.batch_max());
        let keys = store::granting(pool, migration, moves.asked.columns(), batch).await?;
        moves.none_granting = keys.is_empty();
        let found = keys.len();
        let keys = moves.alone(keys, |(key, _)| key.as_str());
        if keys.is_empty() {
            return Ok(());
        }
        let Some(replies) = self.call(moves, round, &keys, peer.grant(&keys)).await? else { return Ok(()) };
        let granted = told(&keys, &replies, &Reply::Granted);
        if !granted.is_empty() {
            settings.crash.point(Point::GrantAnswered);
            store::note_granted(pool, migration, &granted).await?;
            settings.crash.point(Point::GrantNoted);
        }
        // There may be more. Else what is decided next comes with the next round, whenever that is.
        if keys.len() < found || i64::try_from(found).is_ok_and(|found| found >= batch) {
            round.done += keys.len();
        }
        self.pin(all_unmoved(replies)).await
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
        round.given_up += keys.len();
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
