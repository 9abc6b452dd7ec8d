//! Hands keys over and calls them back, in small steps that each may be the last: what is under way is in the tables alone, so
//! the next look, or another controller, goes on from there.

mod asked;
mod back;
mod forward;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use self::asked::Asked;
use super::{Controller, Inner};
use crate::peer::MOVES_MAX;
use crate::policy::Policy;
use crate::store::moves as store;
use crate::{BoxError, Epoch, Error, Home, Phase, Pinned, Reply, Stage};

/// Between two questions whether the target is ready, as long as each answer brings its share; else the pause doubles.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// The longest pause between two of them.
const ASK_EVERY_MAX: Duration = Duration::from_millis(100);
/// An answer brings its share when one of so many keys was ready.
const SHARE: usize = 4;
/// The most keys between the homes until the target has taken one.
const PROBE_MAX: i64 = 8;
/// The most keys that are remembered for spoiling a batch.
const SPOILT_MAX: usize = 1_000;
/// Why a key is pinned whose move was given up.
pub(super) const LATE: &str = "the target had not applied its offer in time";
/// The longest reason of a pinned key, in bytes.
const WHY_BYTES_MAX: usize = 500;

/// What is remembered from one look to the next.
#[derive(Default)]
pub(super) struct Moves {
    /// The last key that was looked at of those that could be handed over.
    after: String,
    /// No key came after it: the next look begins with the first.
    swept: bool,
    /// Keys that were called about and need no other call now.
    asked: Asked,
    /// How many more keys may be called back, by the last count; none: not counted in this look.
    room_back: Option<i64>,
    /// No key waits for a grant, or is on its way back, as far as this look has brought none there.
    none_granting: bool,
    none_recalling: bool,
    /// How many keys are fenced in a transaction now, and how many go into a call.
    fences: Size,
    calls: Size,
    /// Keys that a batch failed for: each has one for itself.
    spoilt: BTreeSet<String>,
    /// The target has taken a key, and not let those that it was offered since come back.
    takes: bool,
    /// It has taken one in this look.
    took: bool,
    /// Between the last round and the next.
    pause: Duration,
}

/// How many keys go into a batch now; none: as many as may.
#[derive(Default)]
struct Size(Option<i64>);

/// What one round came to.
#[derive(Default)]
struct Round {
    /// Keys that were fenced, given up, called back, or more than a batch of grants: the next round comes at once.
    done: usize,
    /// Keys on their way to the target when it began, those of them that became the target's, and those that came back.
    moving: usize,
    decided: usize,
    given_up: usize,
    trouble: Option<Error>,
}

impl Controller {
    /// Moves keys as the policy asks, round by round, for at most a tick's time.
    pub(super) async fn hand_over(&self, policy: &Policy, moves: &mut Moves) -> Result<(), Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        moves.begin_look();
        store::unpin(pool, migration, &pinnable(policy)).await?;
        if policy.stage == Stage::Local {
            return Ok(());
        }
        let until = Instant::now() + settings.tick;
        loop {
            let began = Instant::now();
            let round = self.round(policy, moves).await?;
            let (done, decided, moving) = (round.done, round.decided, round.moving);
            if done + decided > 0 {
                let took_ms = began.elapsed().as_millis();
                tracing::debug!(migration, done, decided, moving, took_ms, "a round of keys");
            }
            let pause = moves.pace(&round);
            if let Some(trouble) = round.trouble {
                return Err(trouble);
            }
            if done + decided + moving == 0 || Instant::now() >= until {
                return Ok(());
            }
            sleep(pause).await;
        }
    }

    async fn round(&self, policy: &Policy, moves: &mut Moves) -> Result<Round, Error> {
        let Inner { migration, pool, settings, .. } = &*self.0;
        let moving = store::moving(pool, migration, settings.move_timeout, settings.moves_max).await?;
        let mut round = Round { moving: moving.len(), ..Round::default() };
        if policy.hands_over() {
            self.decide(&moving, moves, &mut round).await?;
            self.give_up_late(&moving, moves, &mut round).await?;
        } else {
            self.give_up(&moving, &mut round).await?;
        }
        self.grant(moves, &mut round).await?;
        if policy.draining {
            self.recall(moves, &mut round).await?;
        } else {
            self.cancel(moves, &mut round).await?;
        }
        let room = moves.room(round.left(), self.batch_max());
        if policy.hands_over() && policy.held.is_none() && room > 0 && round.trouble.is_none() {
            self.fence(policy, room, moves, &mut round).await?;
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

    /// The answer to a call that changes keys at the target. A batch that fails is halved, until the key that it fails for is alone: that one is
    /// pinned, and called about alone from then on.
    async fn call(
        &self,
        moves: &mut Moves,
        round: &mut Round,
        keys: &[(String, Epoch)],
        call: impl Future<Output = Result<Vec<(String, Reply)>, BoxError>>,
    ) -> Result<Option<Vec<(String, Reply)>>, Error> {
        let error = match self.ask(call).await {
            Ok(replies) => {
                moves.asked.note(keys);
                moves.calls.faster(self.batch_max());
                let asked: BTreeSet<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
                moves.spoilt.retain(|key| !asked.contains(key.as_str()));
                return Ok(Some(
                    replies.into_iter().filter(|(key, _)| asked.contains(key.as_str())).collect(),
                ));
            }
            Err(error) => error,
        };
        if let [(key, _)] = keys
            && self.serves(round).await
        {
            // It serves, so it is this key's trouble, and the others go on.
            moves.asked.note(keys);
            moves.spoil(key);
            round.done += 1;
            self.pin(vec![Pinned { key: key.clone(), why: error.to_string() }]).await?;
        } else {
            moves.calls.slower(self.batch_max());
            round.trouble.get_or_insert(error);
        }
        Ok(None)
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
        self.asked.begin_look(Instant::now());
        self.room_back = None;
        (self.swept, self.took, self.none_granting, self.none_recalling) = (false, false, false, false);
    }

    /// How many keys may leave now. Not more than two batches at once are between the homes, and only a few when the target has taken none:
    /// each of them is nobody's to write until it is taken or comes back.
    fn room(&self, moving: i64, batch_max: i64) -> i64 {
        let batch = self.fences.now(batch_max);
        if !self.takes {
            return batch.min(PROBE_MAX - moving);
        }
        if moving < batch { batch } else { 0 }
    }

    /// The target has taken keys.
    fn note_taken(&mut self) {
        (self.takes, self.took, self.none_granting) = (true, true, false);
    }

    /// Keys came back for it had not applied their offers.
    fn note_late(&mut self) {
        self.takes &= self.took;
    }

    /// Notes a key that a batch of its own failed for.
    fn spoil(&mut self, key: &str) {
        if self.spoilt.len() < SPOILT_MAX {
            self.spoilt.insert(key.to_owned());
        }
    }

    /// A batch of its own for the key that spoils one; else all keys before the next of those.
    fn alone<T>(&self, mut keys: Vec<T>, name: impl Fn(&T) -> &str) -> Vec<T> {
        if let Some(at) = keys.iter().position(|key| self.spoilt.contains(name(key))) {
            keys.truncate(at.max(1));
        }
        keys
    }

    /// How long to wait before the next round. Each is several statements, so what few keys wait for comes together.
    fn pace(&mut self, round: &Round) -> Duration {
        let share = round.decided * SHARE >= round.moving;
        self.pause = if share || round.done > 0 {
            ASK_EVERY
        } else {
            (self.pause * 2).clamp(ASK_EVERY, ASK_EVERY_MAX)
        };
        if round.done > 0 { Duration::ZERO } else { self.pause }
    }
}

impl Size {
    fn now(&self, batch_max: i64) -> i64 {
        self.0.unwrap_or(batch_max).clamp(1, batch_max)
    }

    /// After a batch that ended in time.
    fn faster(&mut self, batch_max: i64) {
        self.0 = Some(self.now(batch_max).saturating_mul(2).min(batch_max));
    }

    /// After one that did not: smaller ones may, at last each key alone.
    fn slower(&mut self, batch_max: i64) {
        self.0 = Some((self.now(batch_max) / 2).max(1));
    }
}

impl Round {
    /// How many keys are still on their way to the target.
    fn left(&self) -> i64 {
        let gone = self.decided.saturating_add(self.given_up);
        i64::try_from(self.moving.saturating_sub(gone)).unwrap_or(i64::MAX)
    }

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
fn pinnable(policy: &Policy) -> Vec<(Home, Phase)> {
    if policy.stage == Stage::Local {
        return Vec::new();
    }
    // Whose grant the target has not confirmed.
    let mut places = vec![(Home::Target, Phase::Settled)];
    if policy.draining {
        places.push((Home::Target, Phase::Recalling));
    } else if policy.hands_over() {
        places.extend([(Home::Source, Phase::Settled), (Home::Source, Phase::Moving)]);
    }
    places
}

/// Those of the keys that were asked for that the target gave this reply, at the epochs they were asked for.
fn told(keys: &[(String, Epoch)], replies: &[(String, Reply)], reply: &Reply) -> Vec<(String, Epoch)> {
    let replies: BTreeMap<&str, &Reply> = replies.iter().map(|(key, reply)| (key.as_str(), reply)).collect();
    keys.iter().filter(|(key, _)| replies.get(key.as_str()) == Some(&reply)).cloned().collect()
}

/// Why a key stays that the target could not be told about, by its reply; none for a reply that moves it.
fn unmoved(reply: Reply) -> Option<String> {
    match reply {
        Reply::Busy(why) => Some(why),
        Reply::NotYet => Some("its first event, or its offer, is not applied at the target".to_owned()),
        Reply::Stale => Some("the target is at a later epoch: see its log".to_owned()),
        Reply::Ready | Reply::Granted | Reply::Released => None,
    }
}

/// The keys with such a reply.
fn all_unmoved(replies: Vec<(String, Reply)>) -> Vec<Pinned> {
    let pinned = |(key, reply)| Some(Pinned { key, why: unmoved(reply)? });
    replies.into_iter().filter_map(pinned).collect()
}

fn sayable(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    if why.is_empty() { "it is not quiet".to_owned() } else { why }
}

#[cfg(test)]
mod tests {
    use super::{ASK_EVERY, ASK_EVERY_MAX, Duration, Moves, Round, Size};

    #[test]
    fn a_batch_that_is_too_slow_is_halved_down_to_one_key_and_grows_again() {
        let mut size = Size::default();
        assert_eq!(size.now(500), 500);
        for batch in [250, 125, 62, 31, 15, 7, 3, 1, 1] {
            size.slower(500);
            assert_eq!(size.now(500), batch);
        }
        size.faster(500);
        assert_eq!(size.now(500), 2);
        assert_eq!(size.now(1), 1);
    }

    #[test]
    fn few_keys_leave_until_the_target_has_taken_one() {
        let mut moves = Moves::default();
        assert_eq!((moves.room(0, 500), moves.room(5, 500), moves.room(8, 500)), (8, 3, 0));
        moves.note_taken();
        assert_eq!((moves.room(0, 500), moves.room(499, 500), moves.room(500, 500)), (500, 500, 0));
        // It lets some come back, but takes others.
        moves.note_late();
        assert_eq!(moves.room(0, 500), 500);
        moves.begin_look();
        moves.note_late();
        assert_eq!(moves.room(0, 500), 8);
    }

    #[test]
    fn a_key_that_spoils_a_batch_gets_one_for_itself() {
        let mut moves = Moves::default();
        let keys = || ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        moves.spoil("c");
        assert_eq!(moves.alone(keys(), String::as_str), ["a", "b"]);
        assert_eq!(moves.alone(keys().split_off(2), String::as_str), ["c"]);
        assert_eq!(moves.alone(keys().split_off(3), String::as_str), ["d"]);
    }

    #[test]
    fn questions_that_bring_little_are_asked_less_often() {
        let mut moves = Moves::default();
        let round = |decided| Round { moving: 400, decided, ..Round::default() };
        assert_eq!(moves.pace(&round(100)), ASK_EVERY);
        assert_eq!(moves.pace(&round(99)), ASK_EVERY * 2);
        for _ in 0..3 {
            moves.pace(&round(0));
        }
        assert_eq!(moves.pace(&round(0)), ASK_EVERY_MAX);
        assert_eq!(moves.pace(&Round { done: 1, ..round(0) }), Duration::ZERO);
    }
}
