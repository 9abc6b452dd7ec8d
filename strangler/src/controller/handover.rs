//! Hands keys over and calls them back, in small steps that each may be the last: what is under way is in the tables alone, so
//! the next look, or another controller, goes on from there.

mod back;
mod forward;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Controller, Inner};
use crate::peer::MOVES_MAX;
use crate::policy::Policy;
use crate::store::moves as store;
use crate::{BoxError, Epoch, Error, Home, Phase, Pinned, Reply, Stage};

/// Between two questions whether the target is ready.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// A batch is never made smaller than this.
const BATCH_MIN: i64 = 8;
/// The longest reason of a pinned key, in bytes.
const WHY_BYTES_MAX: usize = 500;

/// What is remembered from one look to the next.
#[derive(Default)]
pub(super) struct Moves {
    /// The last key that was looked at of those that could be handed over.
    after: String,
    /// No key came after it: the next look begins with the first.
    swept: bool,
    /// Keys that were called about and need no other call in this look.
    asked: Vec<String>,
    /// A call failed: its keys are left out of the next look too, for the others' sake.
    failed: bool,
    /// How many keys go into a transaction now.
    batch: Option<i64>,
}

/// What one round came to.
#[derive(Default)]
struct Round {
    done: usize,
    /// Keys are between the homes: the next round comes soon.
    waits: bool,
    trouble: Option<Error>,
}

impl Controller {
    /// Moves keys as the policy asks, round by round, for at most a tick's time.
    pub(super) async fn hand_over(&self, policy: &Policy, moves: &mut Moves) -> Result<(), Error> {
        if policy.stage == Stage::Local {
            return Ok(());
        }
        let Inner { migration, pool, settings, .. } = &*self.0;
        moves.begin_look();
        let (home, phases) = pinnable(policy);
        store::unpin(pool, migration, home, &phases).await?;
        let until = Instant::now() + settings.tick;
        loop {
            let began = Instant::now();
            let Round { done, waits, trouble } = self.round(policy, moves).await?;
            if done > 0 {
                let (took_ms, batch) = (began.elapsed().as_millis(), moves.batch(self.batch_max()));
                tracing::debug!(migration, done, batch, took_ms, "a round of keys");
            }
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
            if (done == 0 && !waits) || Instant::now() >= until {
                return Ok(());
            }
            if done == 0 {
                sleep(ASK_EVERY).await;
            }
        }
    }

    async fn round(&self, policy: &Policy, moves: &mut Moves) -> Result<Round, Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        let moving = store::moving(pool, migration, settings.move_timeout, settings.moves_max).await?;
        let mut round = Round { waits: !moving.is_empty(), ..Round::default() };
        if policy.hands_over() {
            self.decide(&moving, &mut round).await?;
            self.give_up_late(&moving, &mut round).await?;
        } else {
            self.give_up(&moving, &mut round).await?;
        }
        self.grant(moves, &mut round).await?;
        if policy.draining {
            self.recall(moves, &mut round).await?;
        } else {
            self.cancel(&mut round).await?;
        }
        // Not more than two batches at once are between the homes, and none leaves for a target that is in trouble.
        let few = i64::try_from(moving.len()).is_ok_and(|moving| moving < moves.batch(self.batch_max()));
        if policy.hands_over() && policy.held.is_none() && few && round.trouble.is_none() {
            self.fence(moves, &mut round).await?;
        }
        Ok(round)
    }

    fn batch_max(&self) -> i64 {
        let bound = i64::try_from(MOVES_MAX).unwrap_or(i64::MAX);
        self.0.settings.move_batch_max.clamp(1, bound)
    }

    /// Asks the target.
    pub(super) async fn ask<T>(&self, call: impl Future<Output = Result<T, BoxError>>) -> Result<T, Error> {
        let bound = self.0.settings.ask_timeout;
        match timeout(bound, call).await {
            Ok(answer) => answer.map_err(|error| Error::Target(error.to_string())),
            Err(_) => Err(Error::Target(format!("no answer within {} ms", bound.as_millis()))),
        }
    }

    /// Notes why keys can't move now.
    async fn pin(&self, pinned: Vec<Pinned>) -> Result<(), Error> {
        if pinned.is_empty() {
            return Ok(());
        }
        let (keys, whys): (Vec<_>, Vec<_>) =
            pinned.into_iter().map(|pinned| (pinned.key, sayable(pinned.why))).unzip();
        Ok(store::pin(&self.0.pool, &self.0.migration, &keys, &whys).await?)
    }
}

impl Moves {
    fn begin_look(&mut self) {
        self.swept = false;
        if !std::mem::take(&mut self.failed) {
            self.asked.clear();
        }
    }

    fn batch(&self, batch_max: i64) -> i64 {
        self.batch.unwrap_or(batch_max).clamp(1, batch_max)
    }

    /// After a batch that ended in time.
    fn faster(&mut self, batch_max: i64) {
        self.batch = Some(self.batch(batch_max).saturating_mul(2).min(batch_max));
    }

    /// After one that did not: smaller ones may.
    fn slower(&mut self, batch_max: i64) {
        self.batch = Some((self.batch(batch_max) / 2).max(BATCH_MIN.min(batch_max)));
    }

    fn note_asked(&mut self, keys: &[(String, Epoch)]) {
        self.asked.extend(keys.iter().map(|(key, _)| key.clone()));
    }
}

impl Round {
    /// An answer; a failure is told at the end of the round.
    fn heard<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.trouble.get_or_insert(error);
                None
            }
        }
    }
}

/// Where a key may be pinned under a policy; elsewhere it has left.
fn pinnable(policy: &Policy) -> (Home, Vec<Phase>) {
    if policy.draining {
        (Home::Target, vec![Phase::Recalling])
    } else if policy.hands_over() {
        (Home::Source, vec![Phase::Settled, Phase::Moving])
    } else {
        (Home::Source, Vec::new())
    }
}

/// Those of the keys that were asked for that the target gave this reply, at the epochs they were asked for.
fn told(keys: &[(String, Epoch)], replies: &[(String, Reply)], reply: &Reply) -> Vec<(String, Epoch)> {
    let replies: BTreeMap<&str, &Reply> = replies.iter().map(|(key, reply)| (key.as_str(), reply)).collect();
    keys.iter().filter(|(key, _)| replies.get(key.as_str()) == Some(&reply)).cloned().collect()
}

fn sayable(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    if why.is_empty() { "it is not quiet".to_owned() } else { why }
}

#[cfg(test)]
mod tests {
    use super::Moves;

    #[test]
    fn a_batch_that_is_too_slow_is_halved_and_grows_again() {
        let mut moves = Moves::default();
        assert_eq!(moves.batch(500), 500);
        for batch in [250, 125, 62, 31, 15, 8, 8] {
            moves.slower(500);
            assert_eq!(moves.batch(500), batch);
        }
        moves.faster(500);
        assert_eq!(moves.batch(500), 16);
        moves.slower(3);
        assert_eq!(moves.batch(3), 3);
    }
}
