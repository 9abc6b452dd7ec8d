//! What of the queue to read next, and when.
//!
//! - *Forward*, per bucket from the last row read; and once the end of the queue was reached, by what is new in the log
//!   ([`super::tail`]).
//! - *Passes* over what was read before, for rows that committed late and were not seen so: near the tail often, from the very
//!   beginning seldom. A pass takes at most a twentieth of the time, however long it is.
//! - *Refills* for keys of which not all rows are kept.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    RelayOptions,
    gone::Scan,
    tail::Tail,
    window::{Rest, Window},
};
use crate::store::{Ahead, Page, Range};

/// How far before the last position drawn the end begins, when it is reached.
const NEAR: Duration = Duration::from_millis(20);

/// How far back passes look; `None`: to the beginning.
const LAGS: [Option<Duration>; 3] =
    [Some(Duration::from_millis(400)), Some(Duration::from_millis(1_600)), None];

/// Rows of each bucket that one page of a pass looks at.
const PASS_ROWS: i64 = 512;

/// Rows looked at when the end of the queue was reached before; those that may be sent bring their events along.
const TAIL_ROWS: usize = 512;

/// Rows that one page of a refill looks at.
const REFILL_ROWS: i64 = 1_024;

/// A pass rests for this many times as long as it took.
const PASS_REST: u32 = 20;

/// How often the last position drawn is noted at most.
const SAMPLE: Duration = Duration::from_millis(5);

/// A reading under way.
#[derive(Debug)]
pub(super) enum Reading {
    Forward,
    Pass(usize),
    Refill(Rest),
}

struct Held {
    read_to: i64,
    /// There were more rows when it was read last.
    more: bool,
}

struct Pass {
    lag: Option<Duration>,
    every: Duration,
    due: Instant,
    /// What is left of the pass: per bucket, after and until.
    left: VecDeque<(i16, i64, i64)>,
    spent: Duration,
}

/// See the module.
pub(super) struct Reader {
    held: BTreeMap<i16, Held>,
    /// When which position had been drawn.
    drawn: VecDeque<(Instant, i64)>,
    passes: Vec<Pass>,
    page_rows: usize,
    tail: Tail,
    idle: Duration,
    poll: (Duration, Duration),
    /// After a failure.
    retry: Duration,
    forward_due: Instant,
    /// Something was committed since the last forward reading began.
    woken: bool,
}

impl Reader {
    pub(super) fn new(options: &RelayOptions) -> Self {
        let now = Instant::now();
        let pass = |lag: Option<Duration>| {
            let every = lag.map_or(options.late_every, |lag| lag / 4);
            Pass { lag, every, due: now + every, left: VecDeque::new(), spent: Duration::ZERO }
        };
        Self {
            held: BTreeMap::new(),
            drawn: VecDeque::new(),
            passes: LAGS.map(pass).into(),
            page_rows: options.page_rows.max(1),
            tail: Tail::new(options.overlap),
            idle: options.poll_min,
            poll: (options.poll_min, options.poll_max.max(options.poll_min)),
            retry: options.poll_max.min(options.outage_delay_max),
            forward_due: now,
            woken: false,
        }
    }

    /// Reads on at once: something was committed.
    pub(super) fn wake(&mut self) {
        self.idle = self.poll.0;
        self.forward_due = Instant::now();
        self.woken = true;
    }

    /// The whole queue is looked through as soon as possible: rows were dropped from memory.
    pub(super) fn look_again(&mut self) {
        if let Some(pass) = self.passes.last_mut() {
            pass.due = Instant::now();
        }
    }

    /// Reads these buckets; new ones from their beginning.
    pub(super) fn keep(&mut self, buckets: &HashSet<i16>) {
        self.held.retain(|bucket, _| buckets.contains(bucket));
        for bucket in buckets {
            self.held.entry(*bucket).or_insert_with(|| {
                self.forward_due = Instant::now();
                Held { read_to: 0, more: true }
            });
        }
        for pass in &mut self.passes {
            pass.left.retain(|(bucket, ..)| buckets.contains(bucket));
        }
    }

    pub(super) fn buckets(&self) -> Vec<i16> {
        self.held.keys().copied().collect()
    }

    /// `None` without buckets: there is nothing to read.
    pub(super) fn forward_due(&self) -> Option<Instant> {
        (!self.held.is_empty()).then_some(self.forward_due)
    }

    pub(super) fn pass_due(&self) -> Option<Instant> {
        self.passes.iter().map(|pass| pass.due).min()
    }

    /// The last position that had been drawn this long ago, as far as is known.
    fn drawn_before(&self, lag: Duration) -> Option<i64> {
        let limit = Instant::now().checked_sub(lag)?;
        self.drawn.iter().rev().find(|(at, _)| *at <= limit).map(|(_, position)| *position)
    }

    fn note_drawn(&mut self, position: i64) {
        let now = Instant::now();
        if self.drawn.back().is_none_or(|(at, _)| now.duration_since(*at) >= SAMPLE) {
            self.drawn.push_back((now, position));
        }
        let oldest = LAGS.iter().flatten().max().copied().unwrap_or_default();
        // One that is older than every lag stays, so that each lag has its position.
        while self.drawn.get(1).is_some_and(|(at, _)| now.duration_since(*at) > oldest) {
            self.drawn.pop_front();
        }
    }

    /// The next part forward, if it is due.
    pub(super) fn forward(&mut self, room: usize) -> Option<(Reading, Range)> {
        let now = Instant::now();
        if now < self.forward_due || room == 0 || self.held.is_empty() {
            return None;
        }
        let at_end = !self.held.values().any(|held| held.more);
        let tail = self.tail.seen_to().or_else(|| self.drawn_before(NEAR)).filter(|_| at_end);
        let rows = if tail.is_some() {
            room.min(self.page_rows).min(TAIL_ROWS)
        } else {
            (room.min(self.page_rows) / self.held.len()).max(1)
        };
        let range = Range {
            buckets: self.buckets(),
            after: self.held.values().map(|held| held.read_to).collect(),
            until: vec![i64::MAX; self.held.len()],
            rows: i64::try_from(rows).unwrap_or(i64::MAX),
            heads_only: false,
            tail: tail.map(|after| (after, self.tail.gaps())),
        };
        self.woken = false;
        Some((Reading::Forward, range))
    }

    /// The next page of the pass that is due, if one is.
    pub(super) fn pass(&mut self) -> Option<(Reading, Range)> {
        let now = Instant::now();
        let which = self.passes.iter().position(|pass| pass.due <= now)?;
        if self.passes[which].left.is_empty() {
            // Before the relay has run that long, the pass from the beginning does it all.
            let after =
                self.passes[which].lag.map_or(Some(0), |lag| self.drawn_before(lag)).unwrap_or(i64::MAX);
            let left = self.held.iter().filter(|(_, held)| held.read_to > after);
            self.passes[which].left = left.map(|(bucket, held)| (*bucket, after, held.read_to)).collect();
            self.passes[which].spent = Duration::ZERO;
        }
        let pass = &mut self.passes[which];
        if pass.left.is_empty() {
            pass.due = now + pass.every;
            return None;
        }
        let mut range = Range {
            buckets: vec![],
            after: vec![],
            until: vec![],
            rows: PASS_ROWS,
            heads_only: true,
            tail: None,
        };
        for (bucket, after, until) in pass.left.drain(..) {
            range.buckets.push(bucket);
            range.after.push(after);
            range.until.push(until);
        }
        Some((Reading::Pass(which), range))
    }

    /// The part that a refill reads.
    pub(super) fn refill(rest: Rest) -> (Reading, Range) {
        let range = Range {
            buckets: vec![rest.bucket],
            after: vec![rest.from],
            until: vec![i64::MAX],
            rows: REFILL_ROWS,
            heads_only: false,
            tail: None,
        };
        (Reading::Refill(rest), range)
    }

    /// Takes in what was read. `took`: how long it was under way.
    pub(super) fn absorb(
        &mut self,
        window: &mut Window,
        scan: Scan,
        (reading, range): (Reading, &Range),
        page: &Page,
        took: Duration,
    ) {
        match reading {
            Reading::Forward => self.absorb_forward(window, range, page, took),
            Reading::Pass(which) => self.absorb_pass(window, which, range, page, took),
            Reading::Refill(rest) => {
                if self.held.contains_key(&rest.bucket) {
                    window.refill(rest, &page.rows, page.more.first().map(|(_, last)| *last));
                }
            }
        }
        window.gone.end(scan);
        self.note_drawn(page.drawn);
    }

    fn absorb_forward(&mut self, window: &mut Window, range: &Range, page: &Page, took: Duration) {
        let added =
            page.rows.iter().filter(|row| self.held.contains_key(&row.bucket) && window.offer(row)).count();
        let full: HashSet<i16> = page.more.iter().map(|(bucket, _)| *bucket).collect();
        let drawn = self.drawn_before(NEAR).unwrap_or(0);
        let mut read_to: HashMap<i16, i64> = HashMap::new();
        match range.tail {
            Some((after, _)) => {
                self.tail.absorb(after, &page.seen);
                let seen_to = self.tail.seen_to().unwrap_or(after);
                // What has been drawn and was not seen is open, or of another hour: then a pass finds it, which looks up to here.
                let to = if full.is_empty() { seen_to.max(drawn) } else { seen_to };
                read_to.extend(range.buckets.iter().map(|bucket| (*bucket, to)));
            }
            None => {
                self.tail.leave();
                // Nothing more is there below; a later commit there is found by a pass.
                read_to.extend(
                    range.buckets.iter().filter(|bucket| !full.contains(bucket)).map(|b| (*b, drawn)),
                );
                for row in &page.rows {
                    let to = read_to.entry(row.bucket).or_default();
                    *to = row.position.max(*to);
                }
            }
        }
        for (bucket, after) in range.buckets.iter().zip(&range.after) {
            // One that came meanwhile, or went and came back, is still to be read from its beginning.
            if let Some(held) = self.held.get_mut(bucket).filter(|held| held.read_to == *after) {
                held.more = full.contains(bucket);
                held.read_to = read_to.get(bucket).copied().unwrap_or(*after);
            }
        }
        let more = self.held.values().any(|held| held.more);
        self.idle = if added > 0 || more { self.poll.0 } else { (self.idle * 2).min(self.poll.1) };
        // Polls that find little take at most half of the time.
        let wait = self.idle.max(took.min(self.poll.1));
        self.forward_due = Instant::now() + if more || self.woken { Duration::ZERO } else { wait };
    }

    fn absorb_pass(&mut self, window: &mut Window, which: usize, range: &Range, page: &Page, took: Duration) {
        let starts = page.rows.iter().filter(|row| row.ahead == Ahead::Gone);
        let found = starts
            .filter(|row| self.held.contains_key(&row.bucket))
            .filter(|row| window.offer_alone(row))
            .count();
        if found > 0 {
            tracing::debug!(found, pass = which, "rows that had committed late, or were dropped from memory");
        }
        let until = |bucket: i16| {
            let at = range.buckets.iter().position(|held| *held == bucket)?;
            range.until.get(at).copied()
        };
        let left = page.more.iter().filter(|(bucket, _)| self.held.contains_key(bucket));
        let left = left.filter_map(|(bucket, last)| Some((*bucket, *last, until(*bucket)?)));
        let left = left.filter(|(_, last, until)| last < until).collect();
        let pass = &mut self.passes[which];
        pass.left = left;
        pass.spent += took;
        if pass.left.is_empty() {
            pass.due = Instant::now() + pass.every.max(pass.spent * PASS_REST);
        }
    }

    /// A reading failed: nothing of it was taken in.
    pub(super) fn failed(&mut self, window: &mut Window, scan: Scan, reading: Reading) {
        window.gone.end(scan);
        match reading {
            Reading::Forward => self.forward_due = Instant::now() + self.retry,
            Reading::Pass(which) => {
                let pass = &mut self.passes[which];
                pass.left.clear();
                pass.due = Instant::now() + pass.every;
            }
            Reading::Refill(rest) => window.refill_failed(rest),
        }
    }
}

#[cfg(test)]
mod tests;
