//! A broker that refuses, delays, loses reports and remembers what it took, in order; and the judge of what it took.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use outbox::{BoxError, Error, Record, Refusal, Sink};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

/// A record as the broker took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) id: String,
    pub(crate) kind: String,
}

/// How it behaves. Chances are per mille.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// Answers after up to this long.
    pub(crate) delay: Duration,
    /// Takes the record, but the report is lost.
    pub(crate) lost_reports: u32,
    /// Is down.
    pub(crate) outages: u32,
    /// Refuses the record, this time.
    pub(crate) refusals: u32,
    /// Refuses records of these keys and versions, unless they are fillers.
    pub(crate) never: HashSet<(String, i64)>,
    /// Records sent within this time are a batch, and refused as a whole for one of them.
    pub(crate) batch: Option<Duration>,
    /// Lane 1 is made of keys that start with this.
    pub(crate) lane: Option<String>,
    /// While true, lane 1 says nothing.
    pub(crate) lane_hangs: bool,
    /// While true, lane 1 is down.
    pub(crate) lane_down: bool,
    /// While true, the topic takes nothing.
    pub(crate) denied: bool,
}

struct State {
    manners: Manners,
    random: StdRng,
    kept: Vec<Kept>,
    batch: Arc<Batch>,
    met_dead_lane: usize,
}

/// What is refused or taken together.
struct Batch {
    closes: Instant,
    bad: AtomicBool,
}

/// Clones are one broker.
#[derive(Clone)]
pub(crate) struct Fickle(Arc<Mutex<State>>);

enum Mood {
    Takes,
    LosesReport,
    Down,
    Refuses,
}

impl Fickle {
    pub(crate) fn new(seed: u64, manners: Manners) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let batch = Arc::new(Batch { closes: Instant::now(), bad: AtomicBool::new(false) });
        Self(Arc::new(Mutex::new(State { manners, random, kept: Vec::new(), batch, met_dead_lane: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.state().manners);
    }

    /// How many sends have met lane 1 while it hung or was down.
    pub(crate) fn met_dead_lane(&self) -> usize {
        self.state().met_dead_lane
    }

    /// Everything taken, in order.
    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.state().kept.clone()
    }

    /// Versions of a key, in order, repeats too.
    pub(crate) fn versions(&self, key: &str) -> Vec<i64> {
        self.kept().iter().filter(|kept| kept.key == key).map(|kept| kept.version).collect()
    }

    /// First deliveries of each key are 1, 2, 3 .. up to what was committed, and each repeat has the id of the first.
    pub(crate) fn judge(&self, committed: &BTreeMap<String, i64>) -> Result<usize, BoxError> {
        let (mut repeats, mut firsts) = (0, BTreeMap::<String, Vec<String>>::new());
        for kept in self.kept() {
            let seen = firsts.entry(kept.key.clone()).or_default();
            let at = usize::try_from(kept.version - 1)?;
            match seen.get(at) {
                Some(id) if *id == kept.id => repeats += 1,
                None if at == seen.len() => seen.push(kept.id),
                Some(_) => return Err(format!("{} {}: two events", kept.key, kept.version).into()),
                None => return Err(format!("{}: {} after {}", kept.key, kept.version, seen.len()).into()),
            }
        }
        let found: BTreeMap<String, i64> = firsts
            .into_iter()
            .map(|(key, seen)| (key, i64::try_from(seen.len()).unwrap_or(i64::MAX)))
            .collect();
        if &found != committed {
            return Err(format!("lost: {committed:?} was committed, {found:?} arrived").into());
        }
        Ok(repeats)
    }

    fn is_bad(&self, kept: &Kept) -> bool {
        let state = self.state();
        kept.kind != "outbox.skipped.v1" && state.manners.never.contains(&(kept.key.clone(), kept.version))
    }

    /// Joins the open batch, waits until it is full, and returns whether it is refused.
    async fn in_batch(&self, window: Duration, bad: bool) -> bool {
        let batch = {
            let mut state = self.state();
            if state.batch.closes <= Instant::now() {
                state.batch =
                    Arc::new(Batch { closes: Instant::now() + window, bad: AtomicBool::new(false) });
            }
            state.batch.bad.fetch_or(bad, Ordering::SeqCst);
            state.batch.clone()
        };
        tokio::time::sleep_until(batch.closes + Duration::from_millis(5)).await;
        batch.bad.load(Ordering::SeqCst)
    }

    fn mood(&self) -> (Mood, Duration) {
        let mut state = self.state();
        let Manners { delay, lost_reports, outages, refusals, .. } = state.manners.clone();
        let wait = delay.mul_f64(state.random.random::<f64>());
        let dice = state.random.random_range(0..1_000);
        let mood = if dice < lost_reports {
            Mood::LosesReport
        } else if dice < lost_reports + outages {
            Mood::Down
        } else if dice < lost_reports + outages + refusals {
            Mood::Refuses
        } else {
            Mood::Takes
        };
        (mood, wait)
    }

    fn keep(&self, kept: Kept) {
        self.state().kept.push(kept);
    }
}

fn kept(record: &Record) -> Kept {
    let header = |name| record.headers.get(name).unwrap_or_default().to_owned();
    Kept {
        key: record.key.clone(),
        version: header("banyan-version").parse().unwrap_or_default(),
        id: header("ce_id"),
        kind: header("ce_type"),
    }
}

#[async_trait]
impl Sink for Fickle {
    async fn send(&self, record: Record) -> Result<(), Refusal> {
        let kept = kept(&record);
        let manners = self.state().manners.clone();
        if manners.denied {
            return Err(Refusal::Topic("as the story wants it".into()));
        }
        if self.lane(&record.topic, &record.key) == 1 {
            if manners.lane_hangs || manners.lane_down {
                self.state().met_dead_lane += 1;
            }
            while self.state().manners.lane_hangs {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if manners.lane_down {
                return Err(Refusal::Outage("as the story wants it".into()));
            }
        }
        let bad = self.is_bad(&kept);
        let refused = match manners.batch {
            Some(window) => self.in_batch(window, bad).await,
            None => bad,
        };
        if refused {
            return Err(Refusal::Record("it is bad".into()));
        }
        let (mood, wait) = self.mood();
        // Taken before or after the wait: a report may come long after the record.
        if matches!(mood, Mood::Takes | Mood::LosesReport) && wait > manners.delay / 2 {
            self.keep(kept);
            tokio::time::sleep(wait).await;
        } else {
            tokio::time::sleep(wait).await;
            if matches!(mood, Mood::Takes | Mood::LosesReport) {
                self.keep(kept);
            }
        }
        match mood {
            Mood::Takes => Ok(()),
            Mood::LosesReport | Mood::Down => Err(Refusal::Outage("as the story wants it".into())),
            Mood::Refuses => Err(Refusal::Record("as the story wants it".into())),
        }
    }

    fn lane(&self, _topic: &str, key: &str) -> u64 {
        let state = self.state();
        u64::from(state.manners.lane.as_deref().is_some_and(|lane| key.starts_with(lane)))
    }

    async fn check(&self) -> Result<(), Error> {
        if self.state().manners.outages >= 1_000 {
            return Err(Error::Broker("as the story wants it".into()));
        }
        Ok(())
    }
}
