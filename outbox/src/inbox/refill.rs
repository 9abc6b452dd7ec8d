//! Closing gaps: what a key misses is asked of the producing home's log, and passes the same gate.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Dealt, Gate, verdict::chain};
use crate::{
    Error, Refill,
    envelope::Envelope,
    store::{self, Gap},
};

/// Bounds of refilling, each with its default. They matter only with [`super::Inbox::refill`].
#[derive(Debug, Clone)]
pub struct RefillOptions {
    /// Events of one key that may wait (1,000); of further ones only the highest version is kept, and they are asked for
    /// when their turn comes. The same happens at `InboxOptions::parked_max`. `None` is for a log that has only some of a topic's
    /// events, such as one home's of two: all that wait are kept, and at `InboxOptions::parked_max` the consumer waits.
    pub parked_per_key_max: Option<i32>,
    /// How long an event must have waited for an earlier one before the log is asked (5 s): it may just be late.
    pub gap_after: Duration,
    /// How often gaps are looked for (1 s).
    pub every: Duration,
    /// Keys asked for at a time (100).
    pub gaps_max: i32,
    /// Events of one key asked for at a time (500).
    pub events_max: i64,
    /// The longest wait for an answer (10 s).
    pub timeout: Duration,
    /// The first wait after an answer that did not help (1 s), doubled up to `delay_max`.
    pub delay_min: Duration,
    /// The longest wait before a key is asked for again (1 min).
    pub delay_max: Duration,
}

impl Default for RefillOptions {
    fn default() -> Self {
        Self {
            parked_per_key_max: Some(1_000),
            gap_after: Duration::from_secs(5),
            every: Duration::from_secs(1),
            gaps_max: 100,
            events_max: 500,
            timeout: Duration::from_secs(10),
            delay_min: Duration::from_secs(1),
            delay_max: Duration::from_secs(60),
        }
    }
}

/// A log, and how it is asked.
pub(crate) struct Refilling {
    log: Arc<dyn Refill>,
    pub(crate) options: RefillOptions,
}

impl Refilling {
    pub(crate) fn new(log: Arc<dyn Refill>, mut options: RefillOptions) -> Self {
        // Without room for one event its refusals would never be counted.
        options.parked_per_key_max = options.parked_per_key_max.map(|most| most.max(1));
        Self { log, options }
    }

    fn delay(&self, attempts: i32) -> Duration {
        let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(0);
        (self.options.delay_min * 2u32.pow(doublings)).min(self.options.delay_max)
    }
}

/// What came of asking for one key.
enum Answer {
    /// The cursor moved; the verdicts on as many events as had come before and found no room.
    Helped(Vec<Dealt>),
    /// The log answered, but not with what the key needs.
    Useless(String),
    /// The log could not be asked.
    Down(String),
    /// The inbox stops.
    Stopped,
}

/// Asks the log for what keys of this gate miss, `gaps_max` at most. When the log is down it is asked for one key only: the
/// others would learn the same.
pub(crate) async fn close_gaps(
    gate: &Gate,
    refilling: &Refilling,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let (database, handler, options) = (&gate.database, gate.name(), &refilling.options);
    let passed = database.with(async |db| store::forget_gaps(db, handler).await);
    let read_again = u64::try_from(passed.await?).unwrap_or(0);
    if read_again > 0 {
        gate.count(Dealt::Duplicate, read_again);
    }
    let asked = database.with(async |db| store::gaps(db, handler, options.gap_after, options.gaps_max).await);
    for gap in asked.await? {
        let (error, down) = match close(gate, refilling, &gap, stop).await? {
            Answer::Stopped => return Ok(()),
            Answer::Helped(verdicts) => {
                let had_come = i64::try_from(verdicts.len()).unwrap_or(i64::MAX);
                let taken = note(gate, &gap, (None, Duration::ZERO, had_come)).await?;
                // Their records were not counted when they found no room; now those are that nobody else has counted.
                for dealt in verdicts.into_iter().take(usize::try_from(taken).unwrap_or(0)) {
                    gate.count(dealt, 1);
                }
                continue;
            }
            Answer::Useless(why) => (why, false),
            Answer::Down(why) => (why, true),
        };
        let (key, after, until) = (&gap.key, gap.after, gap.until);
        tracing::error!(
            handler,
            key,
            after,
            until,
            error,
            "a gap was not filled; its key waits, others go on"
        );
        note(gate, &gap, (Some(&error), refilling.delay(gap.attempts), 0)).await?;
        if down {
            break;
        }
    }
    Ok(())
}

/// Notes what came of asking for a key; as `store::note_gap`.
async fn note(gate: &Gate, gap: &Gap, came: (Option<&str>, Duration, i64)) -> Result<i64, Error> {
    gate.database.with(async |db| store::note_gap(db, gate.name(), gap, came).await).await
}

/// Says so when keys wait for a log and there is none to ask.
pub(super) async fn check_orphans(gate: &Gate) -> Result<(), Error> {
    if gate.refilling.is_none() {
        let keys = gate.database.with(async |db| store::incomplete(db, gate.name()).await).await?;
        if keys > 0 {
            tracing::error!(
                handler = gate.name(),
                keys,
                "events of these keys have to be had from a log, and this inbox has no refill: they wait"
            );
        }
    }
    Ok(())
}

/// Asks for one key. The event applied last and the one kept behind the gap are asked for too: a log that has others there is
/// not this key's, and nothing of its answer is applied.
async fn close(
    gate: &Gate,
    refilling: &Refilling,
    gap: &Gap,
    stop: &CancellationToken,
) -> Result<Answer, Error> {
    // One more, for the event that was applied last.
    let events_max = refilling.options.events_max.saturating_add(1);
    let (after, until) = ((gap.after - 1).max(0), gap.until + i64::from(gap.next_id.is_some()));
    let asked = refilling.log.events(&gap.topic, &gap.key, after, until, events_max);
    let answered = tokio::select! {
        () = stop.cancelled() => return Ok(Answer::Stopped),
        answered = tokio::time::timeout(refilling.options.timeout, asked) => answered,
    };
    let messages = match answered {
        Ok(Ok(messages)) => messages,
        Ok(Err(error)) => return Ok(Answer::Down(chain(&error))),
        Err(_) => return Ok(Answer::Down(format!("no answer within {:?}", refilling.options.timeout))),
    };
    let mut events = Vec::with_capacity(messages.len());
    for message in &messages {
        match Envelope::of(message) {
            Ok(event) if event.topic == gap.topic && event.key == gap.key => events.push(event),
            Ok(event) => return Ok(Answer::Useless(format!("the log answered with key {:?}", event.key))),
            Err(error) => return Ok(Answer::Useless(format!("the log's answer can't be read: {error}"))),
        }
    }
    events.sort_by_key(|event| event.version);
    if let Some(conflict) = conflict(gap, &events) {
        gate.database.with(async |db| store::note_conflict(db, gate.name(), gap, conflict).await).await?;
        let (version, known, other) = conflict;
        return Ok(Answer::Useless(format!(
            "CONFLICT: version {version} is {known} here and {other} in the log (see outbox.conflict)"
        )));
    }
    let missing = events.into_iter().filter(|event| event.version > gap.after && event.version <= gap.until);
    take(gate, gap, missing).await
}

/// A version with two ids: what is known here against the answer, or the answer against itself.
fn conflict(gap: &Gap, events: &[Envelope]) -> Option<(i64, uuid::Uuid, uuid::Uuid)> {
    let known = events.iter().find_map(|event| {
        let known = if event.version == gap.after {
            gap.last_id
        } else if event.version == gap.until + 1 {
            gap.next_id
        } else {
            None
        };
        known.filter(|known| *known != event.id).map(|known| (event.version, known, event.id))
    });
    let twice = || {
        let mut pairs = events.windows(2).map(|pair| (&pair[0], &pair[1]));
        pairs.find(|(a, b)| a.version == b.version && a.id != b.id).map(|(a, b)| (a.version, a.id, b.id))
    };
    known.or_else(twice)
}

/// Lets the missing events through the gate, until one does not pass. A key that awaits a snapshot goes on from there.
async fn take(gate: &Gate, gap: &Gap, events: impl Iterator<Item = Envelope>) -> Result<Answer, Error> {
    let mut events =
        events.skip_while(|event| gap.awaiting && !gate.handler.is_snapshot(&event.kind)).peekable();
    let snapshot = events.peek().filter(|_| gap.awaiting);
    let after = snapshot.map_or(gap.after, |snapshot| snapshot.version - 1);
    let mut next = after + 1;
    let mut had_come = Vec::new();
    let had_come_max = usize::try_from(gap.events).unwrap_or(0);
    for event in events {
        if event.version < next {
            continue;
        }
        if event.version > next {
            break;
        }
        let dealt = gate.deal(&event).await?;
        if !matches!(dealt, Dealt::Applied | Dealt::Ignored | Dealt::Own | Dealt::Duplicate) {
            if next > after + 1 {
                break;
            }
            let kept = if dealt == Dealt::Again { "kept" } else { dealt.word() };
            return Ok(Answer::Useless(format!("version {next} came and was not applied: {kept}")));
        }
        next += 1;
        if had_come.len() < had_come_max {
            had_come.push(dealt);
        }
    }
    if next == after + 1 {
        return Ok(Answer::Useless(format!("the log has no delivered version {next}")));
    }
    tracing::info!(
        handler = gate.name(),
        key = gap.key,
        from = after + 1,
        until = next - 1,
        "the log filled a gap"
    );
    Ok(Answer::Helped(had_come))
}
