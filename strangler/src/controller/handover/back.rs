//! From the target to the source: recall, or cancel. The source's replica takes a key back when the release comes.

use super::{Moves, Round, all_unmoved};
use crate::controller::{Controller, Inner};
use crate::handover::source::Message;
use crate::store::moves as store;
use crate::{Error, Home, Phase, Point};

impl Controller {
    /// Calls back what is at the target. A key that does not come at once is pinned and asked for again later; a busy one begins nothing new
    /// there, and what is under way ends.
    pub(super) async fn recall(&self, moves: &mut Moves, round: &mut Round) -> Result<(), Error> {
        self.begin_recall(moves, round).await?;
        let Inner { migration, pool, peer, settings, .. } = &*self.0;
        let batch = moves.calls.now(self.batch_max());
        let keys = store::recalling(pool, migration, &moves.asked, batch).await?;
        let keys = moves.alone(keys, |(key, _)| key.as_str());
        if keys.is_empty() {
            return Ok(());
        }
        if let Some(replies) = self.call(moves, round, &keys, peer.recall(&keys)).await? {
            settings.crash.point(Point::RecallAnswered);
            round.done += keys.len();
            self.pin(all_unmoved(replies)).await?;
        }
        Ok(())
    }

    /// The rows of the next keys, as many as there is room for. Not while the target can't be asked: from here on the source
    /// sends no write there.
    async fn begin_recall(&self, moves: &Moves, round: &mut Round) -> Result<(), Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        let room = settings.moves_max - store::count_recalling(pool, migration).await?;
        let most = room.min(moves.calls.now(self.batch_max()));
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
    pub(super) async fn cancel(&self, moves: &mut Moves, round: &mut Round) -> Result<(), Error> {
        if moves.none_recalling {
            return Ok(());
        }
        let Inner { migration, pool, .. } = &*self.0;
        let keys = store::at(pool, migration, Home::Target, Phase::Recalling, self.batch_max()).await?;
        moves.none_recalling = keys.is_empty();
        let back = self.swap(Message::Cancel, &keys).await?.len();
        if back > 0 {
            moves.none_granting = false;
        }
        round.done += back;
        Ok(())
    }
}
