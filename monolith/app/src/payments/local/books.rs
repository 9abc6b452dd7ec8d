//! The books of this home, added up now and then for the migration's controller.

use std::sync::Arc;
use std::time::Duration;

use ::payments::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

/// How old a sum may be that was in order. It reads the whole ledger, by an index.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a sum is waited for, which is less than a controller waits; then the one before it is the answer.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How old the last sum may be to be an answer at all.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How old the end of a sum may be that found them wrong: who looks each second hears of it, and who lifts a hold after they were mended
/// does not.
const WRONG_MAX: Duration = Duration::from_secs(5);
/// How long a sum may take, the wait for a connection included. Its statement has a bound of its own.
const SUM_TIMEOUT: Duration = Duration::from_secs(10);
/// After a sum the ledger rests for as many times as long as that took, at most 40 s: one too large to be added up in time is not read
/// without a pause.
const REST_TIMES: u32 = 4;

/// What was found last. Clones share it.
#[derive(Clone)]
pub(crate) struct Books {
    looked: Arc<watch::Sender<Looked>>,
    /// Who ends the process waits for the sum under way.
    tasks: TaskTracker,
}

#[derive(Default)]
struct Looked {
    /// When the sum under way was begun.
    summing: Option<Instant>,
    /// The last one that came to its end: when it was begun, and what is wrong.
    last: Option<(Instant, Option<String>)>,
    /// When that was.
    ended: Option<Instant>,
    /// Why the last one did not come to its end.
    failed: Option<String>,
    rests_until: Option<Instant>,
}

impl Books {
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { looked: Arc::new(watch::Sender::new(Looked::default())), tasks }
    }

    /// What is wrong with them, if anything, as `sum` finds it: a currency and how many minor units are too much. Books that were found
    /// wrong are added up again each time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when they were not found in order within the last minute, nor wrong within the last five seconds.
    pub(crate) async fn broken<F>(&self, sum: impl FnOnce() -> F) -> Result<Option<String>, Error>
    where
        F: Future<Output = Result<Option<(String, String)>, Error>> + Send + 'static,
    {
        if self.looked.send_if_modified(|looked| looked.begin(Instant::now())) {
            let (looked, sum) = (Arc::clone(&self.looked), sum());
            // In a task of its own: a caller that does not wait for its end must not have it begun anew each time.
            self.tasks.spawn(async move {
                let found = match timeout(SUM_TIMEOUT, sum).await {
                    Ok(found) => found.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("not within {} s", SUM_TIMEOUT.as_secs())),
                };
                looked.send_modify(|looked| looked.end(Instant::now(), found));
            });
        }
        let mut seen = self.looked.subscribe();
        if timeout(WAIT_MAX, seen.wait_for(|looked| looked.summing.is_none())).await.is_err() {
            tracing::debug!("the books are still being added up: the last sum answers");
        }
        self.looked.borrow().answer(Instant::now())
    }
}

impl Looked {
    /// Whether a sum is to be begun now; then it is noted as begun. One that never ended was lost with its task.
    fn begin(&mut self, now: Instant) -> bool {
        let summing = self.summing.is_some_and(|began| now.duration_since(began) <= SUM_TIMEOUT);
        let rests = self.rests_until.is_some_and(|until| now < until);
        let in_order = match &self.last {
            Some((began, None)) => now.duration_since(*began) < LOOK_EVERY,
            Some((_, Some(_))) | None => false,
        };
        let due = !(summing || rests || in_order);
        if due {
            self.summing = Some(now);
        }
        due
    }

    fn end(&mut self, now: Instant, found: Result<Option<(String, String)>, String>) {
        let began = self.summing.take().unwrap_or(now);
        self.rests_until = now.checked_add(now.duration_since(began) * REST_TIMES);
        match found {
            Ok(unbalanced) => {
                let broken = unbalanced.map(|(currency, minor)| {
                    format!("the books in {currency} do not balance: {minor} minor units too much")
                });
                (self.last, self.ended, self.failed) = (Some((began, broken)), Some(now), None);
            }
            Err(error) => self.failed = Some(error),
        }
    }

    fn answer(&self, now: Instant) -> Result<Option<String>, Error> {
        let is_fresh = self.ended.is_some_and(|ended| now.duration_since(ended) < WRONG_MAX);
        match (&self.last, &self.failed) {
            (Some((_, Some(broken))), _) if is_fresh => Ok(Some(broken.clone())),
            (Some((began, None)), _) if now.duration_since(*began) < AGE_MAX => Ok(None),
            (_, Some(error)) => Err(Error::Unavailable(format!("the books were not added up: {error}"))),
            (_, None) => Err(Error::Unavailable("the books are still being added up".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    type Sum = Result<Option<(String, String)>, String>;

    fn wrong() -> Sum {
        Ok(Some(("EUR".to_owned(), "-1".to_owned())))
    }

    /// Books with a sum that began at `began` and ended at `ended`.
    fn added_up(began: Instant, ended: Instant, found: Sum) -> Looked {
        let mut looked = Looked::default();
        assert!(looked.begin(began));
        looked.end(ended, found);
        looked
    }

    #[tokio::test]
    async fn a_sum_that_takes_longer_than_its_caller_waits_is_begun_once_and_answers_the_next() {
        let tasks = TaskTracker::new();
        let books = Books::new(tasks.clone());
        let (begun, ready) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let sum = || {
            let (begun, ready) = (Arc::clone(&begun), Arc::clone(&ready));
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                ready.notified().await;
                Ok::<Option<(String, String)>, Error>(None)
            }
        };
        for _ in 0..2 {
            assert!(timeout(Duration::from_millis(10), books.broken(sum)).await.is_err(), "it takes longer");
        }
        ready.notify_one();
        assert_eq!(books.broken(sum).await.unwrap(), None);
        assert_eq!(books.broken(sum).await.unwrap(), None);
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        tasks.close();
        tasks.wait().await;
    }

    #[test]
    fn books_in_order_are_added_up_every_half_minute_and_the_last_sum_answers_for_a_minute() {
        let start = Instant::now();
        let mut looked = added_up(start, start, Ok(None));
        assert!(!looked.begin(start + Duration::from_secs(29)));
        let due = start + LOOK_EVERY;
        assert!(looked.begin(due));
        assert!(!looked.begin(due), "one is under way");
        assert_eq!(looked.answer(due).unwrap(), None, "the last sum");
        looked.end(due + Duration::from_secs(5), Err("too slow".to_owned()));
        assert_eq!(looked.answer(due + Duration::from_secs(5)).unwrap(), None);
        let said = looked.answer(start + AGE_MAX).unwrap_err().to_string();
        assert!(said.ends_with("the books were not added up: too slow"), "{said}");
    }

    #[test]
    fn wrong_books_are_added_up_again_but_a_slow_ledger_rests() {
        let start = Instant::now();
        let mut looked = added_up(start, start, wrong());
        let said = "the books in EUR do not balance: -1 minor units too much";
        assert_eq!(looked.answer(start).unwrap().as_deref(), Some(said));
        let later = looked.answer(start + WRONG_MAX).unwrap_err().to_string();
        assert!(later.ends_with("still being added up"), "they may have been mended: {later}");
        assert!(looked.begin(start), "they may have been mended");

        let ended = start + Duration::from_secs(5);
        for found in [wrong(), Err("too slow".to_owned())] {
            let mut looked = added_up(start, ended, found);
            assert!(!looked.begin(ended + Duration::from_secs(19)));
            assert!(looked.begin(ended + Duration::from_secs(20)));
        }
    }

    #[test]
    fn a_sum_whose_task_was_lost_is_begun_anew() {
        let start = Instant::now();
        let mut looked = Looked::default();
        assert!(looked.begin(start));
        assert!(looked.answer(start).unwrap_err().to_string().ends_with("still being added up"));
        assert!(!looked.begin(start + SUM_TIMEOUT));
        assert!(looked.begin(start + SUM_TIMEOUT + Duration::from_millis(1)));
    }
}
