//! From the target to the source: recall, or cancel. The source's replica takes a key back when the release comes.

use tokio::time::Instant;

use super::{Moves, Round, all_unmoved, told};
use crate::controller::{Controller, Inner};
use crate::handover::source::Message;
use crate::store::moves as store;
use crate::{Error, Home, Phase, Point, Reply};

/// Once the room that a look began with is used up, keys are called back when there is room for one of so many of a batch: each time is
/// several statements and calls, for few keys as for many.
const ROOM_SHARE: i64 = 4;

impl Controller {
    /// Calls back what is at the target. A key that does not come at once is pinned and asked for again later; a busy one begins nothing new
    /// there, and what is under way ends. One that was released there is on its way, and is asked for again only if it stays out long.
    pub(super) async fn recall(&self, moves: &mut Moves, round: &mut Round) -> Result<(), Error> {
        self.begin_recall(moves, round).await?;
        let Inner { migration, pool, peer, settings, .. } = &*self.0;
        let batch = moves.calls.now(self.batch_max());
        let keys = store::recalling(pool, migration, moves.asked.columns(), batch).await?;
        let keys = moves.alone(keys, |(key, _)| key.as_str());
        if keys.is_empty() {
            return Ok(());
        }
        if let Some(replies) = self.call(moves, round, &keys, peer.recall(&keys)).await? {
            settings.crash.point(Point::RecallAnswered);
            round.done += keys.len();
            // Those of them that are not back are no more than this.
            let most = usize::try_from(settings.moves_max).unwrap_or(0);
            moves.asked.note_released(told(&keys, &replies, &Reply::Released), Instant::now(), most);
            self.pin(all_unmoved(replies)).await?;
        }
        Ok(())
    }

    /// The rows of the next keys, as many as there is room for. Not while the target can't be asked: from here on the source
    /// sends no write there.
    async fn begin_recall(&self, moves: &mut Moves, round: &mut Round) -> Result<(), Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        let batch = moves.calls.now(self.batch_max()).min(settings.moves_max);
        let room = self.room_back(moves, batch).await?;
        let most = room.min(batch);
        if most < 1 {
            return Ok(());
        }
        let keys = store::at(pool, migration, Home::Target, Phase::Settled, most).await?;
        if !keys.is_empty() && self.serves(round).await {
            let begun = self.swap(Message::Recall, &keys).await?.len();
            moves.room_back = Some(room.saturating_sub(i64::try_from(begun).unwrap_or(i64::MAX)));
            round.done += begun;
            settings.crash.point(Point::RecallBegun);
        }
        Ok(())
    }

    /// How many more keys may be called back. Those that come back only make it more, so what is on its way is counted again when the
    /// last count is used up.
    async fn room_back(&self, moves: &mut Moves, batch: i64) -> Result<i64, Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        if let Some(room) = moves.room_back.filter(|room| *room > 0) {
            return Ok(room);
        }
        let least = if moves.room_back.is_some() { (batch / ROOM_SHARE).max(1) } else { 1 };
        let room = settings.moves_max.saturating_sub(store::count_recalling(pool, migration).await?);
        let room = if room < least { 0 } else { room };
        moves.room_back = Some(room);
        Ok(room)
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
