//! The window beside a model of the queue: whatever order commits, scans, reports and refusals come in, rows of a key are
//! taken in the order of their positions, and all are taken in the end.

use std::collections::{BTreeMap, HashMap};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::relay::gone::Scan;

/// The queue as the database holds it.
#[derive(Default)]
struct Queue {
    rows: BTreeMap<i64, (usize, Option<i64>, bool)>,
    heads: HashMap<usize, i64>,
    drawn: i64,
}

impl Queue {
    /// Commits an event of a key; `skip` positions are drawn before it and never used.
    fn publish(&mut self, key: usize, skip: i64) {
        self.drawn += 1 + skip;
        let previous = self.heads.insert(key, self.drawn);
        self.rows.insert(self.drawn, (key, previous, false));
    }

    /// What a statement would see now.
    fn read(&self, after: i64, limit: usize, heads_only: bool) -> (Vec<Pending>, Option<i64>) {
        let fresh: Vec<_> = self
            .rows
            .range(after + 1..)
            .filter(|(_, row)| !row.2)
            .take(limit)
            .map(|(at, row)| (*at, *row))
            .collect();
        let more = (fresh.len() == limit).then(|| fresh.last().map(|(at, _)| *at)).flatten();
        let rows = fresh.into_iter().map(|(position, (_, previous, _))| {
            let ahead = match previous.and_then(|previous| self.rows.get(&previous)) {
                None => Ahead::Gone,
                Some((.., false)) => Ahead::Waiting,
                Some((.., true)) => Ahead::Refused,
            };
            Pending { bucket: 0, position, created_at: OffsetDateTime::UNIX_EPOCH, previous, ahead }
        });
        (rows.filter(|row| !heads_only || row.ahead == Ahead::Gone).collect(), more)
    }
}

/// A scan whose answer is on its way.
enum Answer {
    Forward(Scan, Vec<Pending>),
    Pass(Scan, Vec<Pending>),
    Refill(Scan, Rest, Vec<Pending>, Option<i64>),
}

struct Run {
    random: StdRng,
    queue: Queue,
    window: Window,
    read_to: i64,
    answers: Vec<Answer>,
    flying: Vec<Taken>,
    delivered: Vec<i64>,
    sent: HashMap<usize, Vec<i64>>,
}

impl Run {
    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..30 => {
                let (key, skip) = (self.random.random_range(0..8), self.random.random_range(0..3));
                self.queue.publish(key * key / 8, skip);
            }
            30..45 => self.ask(),
            45..60 if !self.answers.is_empty() => {
                let which = self.random.random_range(0..self.answers.len());
                let answer = self.answers.swap_remove(which);
                self.take_in(answer);
            }
            60..80 => {
                if let Some(taken) = self.take() {
                    let (key, previous, refused) = self.queue.rows[&taken.position];
                    assert!(!refused, "a refused row came through the lane of the others");
                    let before = previous.filter(|previous| self.queue.rows.contains_key(previous));
                    assert_eq!(before, None, "{} was sent before the row before it was gone", taken.position);
                    self.sent.entry(key).or_default().push(taken.position);
                    self.flying.push(taken);
                }
            }
            80..98 if !self.flying.is_empty() => self.land(),
            98 => self.pass(),
            _ => self.retry(),
        }
        // What was deleted is learned a little later.
        if !self.delivered.is_empty() && self.random.random_bool(0.5) {
            let position = self.delivered.remove(0);
            self.window.removed(position);
        }
    }

    /// The next one, or any one that came with its event.
    fn take(&mut self) -> Option<Taken> {
        if self.random.random_bool(0.7) {
            return self.window.take();
        }
        let nth = self.random.random_range(0..=self.queue.rows.len());
        let position = *self.queue.rows.keys().nth(nth)?;
        self.window.take_this(position)
    }

    fn ask(&mut self) {
        let scan = self.window.gone.begin();
        if let Some(rest) = self.window.next_refill() {
            let (rows, more) = self.queue.read(rest.from, 5, false);
            self.answers.push(Answer::Refill(scan, rest, rows, more));
        } else if self.window.room(4) > 0
            && !self.answers.iter().any(|answer| matches!(answer, Answer::Forward(..)))
        {
            let (rows, _) = self.queue.read(self.read_to, 7, false);
            self.answers.push(Answer::Forward(scan, rows));
        } else {
            self.window.gone.end(scan);
        }
    }

    fn pass(&mut self) {
        let scan = self.window.gone.begin();
        let (mut rows, _) = self.queue.read(0, usize::MAX, true);
        rows.retain(|row| row.position <= self.read_to);
        self.answers.push(Answer::Pass(scan, rows));
    }

    fn take_in(&mut self, answer: Answer) {
        let scan = match answer {
            Answer::Forward(scan, rows) => {
                for row in rows {
                    self.read_to = self.read_to.max(row.position);
                    self.window.offer(&row);
                }
                scan
            }
            Answer::Pass(scan, rows) => {
                for row in rows {
                    self.window.offer_alone(&row);
                }
                scan
            }
            Answer::Refill(scan, rest, rows, more) => {
                self.window.refill(rest, &rows, more);
                scan
            }
        };
        self.window.gone.end(scan);
    }

    fn land(&mut self) {
        let which = self.random.random_range(0..self.flying.len());
        let taken = self.flying.swap_remove(which);
        match self.random.random_range(0..10) {
            0 => self.window.put_back(taken.position),
            1 => {
                self.queue.rows.get_mut(&taken.position).unwrap().2 = true;
                self.window.refused(0, taken.position);
            }
            _ => {
                self.queue.rows.remove(&taken.position);
                self.delivered.push(taken.position);
            }
        }
    }

    /// A refused row is delivered at last.
    fn retry(&mut self) {
        let refused = self.queue.rows.iter().find(|(_, row)| row.2).map(|(position, row)| (*position, row.0));
        if let Some((position, key)) = refused {
            self.queue.rows.remove(&position);
            self.sent.entry(key).or_default().push(position);
            self.delivered.push(position);
        }
    }
}

#[test]
fn rows_of_a_key_are_taken_in_order_and_all_of_them() {
    for seed in 0..60 {
        let max = [1, 8, 64, 1_000][usize::try_from(seed % 4).unwrap()];
        let mut run = Run {
            random: StdRng::seed_from_u64(seed),
            queue: Queue::default(),
            window: Window::new(max, 1),
            read_to: 0,
            answers: Vec::new(),
            flying: Vec::new(),
            delivered: Vec::new(),
            sent: HashMap::new(),
        };
        for _ in 0..1_500 {
            run.step();
        }
        // From here on nothing is published or refused: all drains.
        let mut turns = 0;
        while !run.queue.rows.is_empty() {
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: {} rows are stuck", run.queue.rows.len());
            run.ask();
            if turns % 50 == 0 {
                run.pass();
            }
            for answer in std::mem::take(&mut run.answers) {
                run.take_in(answer);
            }
            while let Some(taken) = run.window.take() {
                let (key, previous, _) = run.queue.rows[&taken.position];
                assert!(
                    previous.is_none_or(|previous| !run.queue.rows.contains_key(&previous)),
                    "seed {seed}"
                );
                run.sent.entry(key).or_default().push(taken.position);
                run.flying.push(taken);
            }
            for taken in std::mem::take(&mut run.flying) {
                run.queue.rows.remove(&taken.position);
                run.delivered.push(taken.position);
            }
            run.retry();
            for position in std::mem::take(&mut run.delivered) {
                run.window.removed(position);
            }
        }
        for (key, sent) in &run.sent {
            let mut firsts = Vec::new();
            for position in sent {
                if firsts.last().is_none_or(|last| position > last) {
                    firsts.push(*position);
                }
            }
            let again = sent.iter().filter(|position| !firsts.contains(position)).count();
            assert_eq!(again, 0, "seed {seed}, key {key}: an earlier row came later: {sent:?}");
        }
        assert_eq!(
            (run.window.len(), run.window.chains.len()),
            (0, 0),
            "seed {seed}: something is left in memory"
        );
    }
}
