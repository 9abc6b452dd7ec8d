//! Which lanes of the broker take records. A partition without a leader must not hold all slots.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

#[derive(Debug)]
struct Lane {
    flying: usize,
    bytes: usize,
    /// When something was heard of it, or it began to fly.
    heard: Instant,
    /// Down since an outage: when to try again, and the wait after that.
    down: Option<(Instant, Duration)>,
    /// Positions kept back.
    held: Vec<i64>,
    /// Some were not even kept.
    dropped: bool,
    /// When a position was let go to try the lane.
    tried: Option<Instant>,
    outage: Option<Outage>,
    /// What was let go to try it went by another lane: its records go there now.
    moved: bool,
}

/// Reports of an outage, and no other since.
#[derive(Debug)]
struct Outage {
    topic: String,
    why: String,
    since: Instant,
    last: Instant,
}

/// So long after the last report an outage is no longer told, unless a record is on its way: the lane may have gone to another
/// relay. One that has anything to send is tried more often.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// What may go on when a lane is heard of.
#[derive(Debug, Default)]
pub(super) struct Released {
    pub(super) positions: Vec<i64>,
    /// Others were dropped from memory and must be read again.
    pub(super) dropped: bool,
    /// An outage is over.
    pub(super) outage: bool,
}

#[derive(Debug)]
pub(super) struct Lanes {
    stall_after: Duration,
    delay: (Duration, Duration),
    lanes: HashMap<u64, Lane>,
    /// Positions that were let go to try a lane, until they take off or are held again.
    trying: HashMap<i64, u64>,
}

impl Lanes {
    pub(super) fn new(stall_after: Duration, delay: (Duration, Duration)) -> Self {
        Self { stall_after, delay, lanes: HashMap::new(), trying: HashMap::new() }
    }

    fn lane(&mut self, lane: u64) -> &mut Lane {
        self.lanes.entry(lane).or_insert_with(|| Lane {
            flying: 0,
            bytes: 0,
            heard: Instant::now(),
            down: None,
            held: Vec::new(),
            dropped: false,
            tried: None,
            outage: None,
            moved: false,
        })
    }

    /// A position goes by this lane.
    fn goes_by(&mut self, lane: u64, position: i64) {
        if let Some(tried) = self.trying.remove(&position)
            && tried != lane
            && let Some(left) = self.lanes.get_mut(&tried)
        {
            left.moved = true;
        }
    }

    /// Whether it takes another record. One that was down gets a single one to try.
    pub(super) fn is_open(&mut self, lane: u64) -> bool {
        let (now, stall_after) = (Instant::now(), self.stall_after);
        let lane = self.lane(lane);
        match lane.down {
            Some((resume, _)) => lane.flying == 0 && now >= resume,
            None => !lane.is_stalled(now, stall_after),
        }
    }

    pub(super) fn took_off(&mut self, lane: u64, position: i64, bytes: usize) {
        self.goes_by(lane, position);
        let lane = self.lane(lane);
        if lane.flying == 0 {
            lane.heard = Instant::now();
        }
        lane.flying += 1;
        lane.tried = None;
        lane.bytes += bytes;
    }

    /// A report: delivered or refused when `answered`; else an outage, or a topic that takes nothing.
    pub(super) fn landed(&mut self, lane: u64, bytes: usize, answered: bool) -> Released {
        let (now, (min, max)) = (Instant::now(), self.delay);
        let lane = self.lane(lane);
        lane.flying -= 1;
        lane.bytes -= bytes;
        lane.heard = now;
        if !answered {
            // Many that fail at once are one outage.
            lane.down = match lane.down {
                Some((resume, delay)) if resume > now => Some((resume, delay)),
                Some((_, delay)) => Some((now + delay, (delay * 2).min(max))),
                None => Some((now + min, (min * 2).min(max))),
            };
            return Released::default();
        }
        lane.down = None;
        Released {
            positions: std::mem::take(&mut lane.held),
            dropped: std::mem::take(&mut lane.dropped),
            outage: lane.outage.take().is_some(),
        }
    }

    /// A report of an outage, for [`Self::silent`].
    pub(super) fn outage(&mut self, lane: u64, topic: &str, why: &str) {
        let now = Instant::now();
        let outage = self.lane(lane).outage.get_or_insert_with(|| Outage {
            topic: topic.to_owned(),
            why: String::new(),
            since: now,
            last: now,
        });
        (outage.why, outage.last) = (why.to_owned(), now);
    }

    /// Topics of lanes from which nothing but outages has been heard for as long as this, each with the last reason.
    pub(super) fn silent(&self, for_long: Duration) -> impl Iterator<Item = (&str, &str)> {
        let told = |lane: &Lane, outage: &Outage| lane.flying > 0 || outage.last.elapsed() < TOLD_FOR;
        let silent = self.lanes.values().filter_map(move |lane| {
            lane.outage.as_ref().filter(|outage| outage.since.elapsed() >= for_long && told(lane, outage))
        });
        silent.map(|outage| (outage.topic.as_str(), outage.why.as_str()))
    }

    /// A position is kept back until the lane is heard of, or may be tried.
    pub(super) fn hold(&mut self, lane: u64, position: i64) {
        self.goes_by(lane, position);
        let lane = self.lane(lane);
        lane.tried = None;
        lane.held.push(position);
    }

    /// A position could not be kept back.
    pub(super) fn drop(&mut self, lane: u64, position: i64) {
        self.goes_by(lane, position);
        let lane = self.lane(lane);
        lane.tried = None;
        lane.dropped = true;
    }

    /// Keeps only what is still in memory.
    pub(super) fn keep(&mut self, is_kept: impl Fn(i64) -> bool) {
        for lane in self.lanes.values_mut() {
            lane.held.retain(|position| is_kept(*position));
        }
        self.trying.retain(|position, _| is_kept(*position));
    }

    /// What may go on: for each lane that may be tried now, one position; of a lane whose records go by another now, as when a
    /// topic's partitions have become known, all.
    pub(super) fn trials(&mut self) -> Released {
        let (now, patience) = (Instant::now(), self.stall_after);
        let mut trials = Released::default();
        self.lanes.retain(|_, lane| {
            let left = lane.moved && lane.flying == 0;
            if left {
                trials.positions.append(&mut lane.held);
                trials.dropped |= lane.dropped;
            }
            !left
        });
        for (id, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.flying == 0) {
            let rests = lane.down.is_some_and(|(resume, _)| now < resume);
            // What was let go may never fly: its bucket was lost meanwhile.
            let under_way = lane.tried.is_some_and(|at| now.duration_since(at) < patience);
            if !rests
                && !under_way
                && let Some(position) = lane.held.pop()
            {
                lane.tried = Some(now);
                self.trying.insert(position, *id);
                trials.positions.push(position);
            }
        }
        trials
    }

    /// When the next lane may be tried.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        let waiting = self.lanes.values().filter(|lane| lane.flying == 0 && !lane.held.is_empty());
        let after = |lane: &Lane, resume: Instant| {
            lane.tried.map_or(resume, |tried| resume.max(tried + self.stall_after))
        };
        waiting.filter_map(|lane| lane.down.map(|(resume, _)| after(lane, resume))).min()
    }

    /// Records in flight on lanes that do not answer.
    pub(super) fn stalled(&self) -> usize {
        let now = Instant::now();
        let stalled = self.lanes.values().filter(|lane| lane.is_stalled(now, self.stall_after));
        stalled.map(|lane| lane.flying).sum()
    }

    /// Records and bytes in flight on lanes that answer.
    pub(super) fn load(&self) -> (usize, usize) {
        let now = Instant::now();
        let answering = self.lanes.values().filter(|lane| !lane.is_stalled(now, self.stall_after));
        answering.fold((0, 0), |(rows, bytes), lane| (rows + lane.flying, bytes + lane.bytes))
    }
}

impl Lane {
    fn is_stalled(&self, now: Instant, stall_after: Duration) -> bool {
        self.flying > 0 && now.duration_since(self.heard) > stall_after
    }
}

#[cfg(test)]
mod tests;
