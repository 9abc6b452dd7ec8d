//! From the target to the source: recall, or cancel. The source's replica takes a key back when the release comes.

use std::collections::BTreeSet;

use super::{Moves, Round};
use crate::controller::{Controller, Inner};
use crate::handover::source::Message;
use crate::store::moves as store;
use crate::{Error, Home, Phase, Pinned, Point, Reply};

impl Controller {
    /// Calls back what is at the target. A busy key is asked for again later: there it begins nothing new, and what is under
    /// way ends.
    pub(super) async fn recall(&self, moves: &mut Moves, round: &mut Round) -> Result<(), Error> {
        self.begin_recall(moves, round).await?;
        let Inner { migration, pool, peer, settings, .. } = &*self.0;
        let batch = moves.batch(self.batch_max());
        let keys = store::recalling(pool, migration, &moves.asked, batch).await?;
        if keys.is_empty() {
            return Ok(());
        }
        moves.note_asked(&keys);
        let Some(replies) = round.heard(self.ask(peer.recall(&keys)).await) else {
            moves.failed = true;
            moves.slower(self.batch_max());
            return Ok(());
        };
        settings.crash.point(Point::RecallAnswered);
        moves.faster(self.batch_max());
        round.done += keys.len();
        let asked: BTreeSet<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
        let busy = replies.into_iter().filter(|(key, _)| asked.contains(key.as_str()));
        let busy = busy.filter_map(|(key, reply)| match reply {
            Reply::Busy(why) => Some(Pinned { key, why }),
            Reply::Ready | Reply::Granted | Reply::Released | Reply::NotYet | Reply::Stale => None,
        });
        self.pin(busy.collect()).await
    }

    /// The rows of the next keys, as many as there is room for. Not while the target can't be asked: from here on the source
    /// sends no write there.
    async fn begin_recall(&self, moves: &Moves, round: &mut Round) -> Result<(), Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        let room = settings.moves_max - store::count_recalling(pool, migration).await?;
        let most = room.min(moves.batch(self.batch_max()));
        if most < 1 {
            return Ok(());
        }
        let keys = store::at(pool, migration, Home::Target, Phase::Settled, most).await?;
        if !keys.is_empty() && self.serves(round).await {
            round.done += self.swap(Message::Recall, &keys).await?.len();
            settings.crash.point(Point::RecallBegun);
        }
        Ok(())
    }

    /// Leaves at the target what was called back and has not come: the migration goes forward again.
    pub(super) async fn cancel(&self, round: &mut Round) -> Result<(), Error> {
        let Inner { migration, pool, .. } = &*self.0;
        let keys = store::at(pool, migration, Home::Target, Phase::Recalling, self.batch_max()).await?;
        round.done += self.swap(Message::Cancel, &keys).await?.len();
        Ok(())
    }
}
