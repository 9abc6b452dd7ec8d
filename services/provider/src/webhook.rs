//! Webhooks: each event is sent until it is taken, in any order, at least once.

mod queue;
mod signature;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::{Secret, Url};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::book::{Book, lock};
use crate::clock::{now, now_ms};
use crate::journal::Journal;
use crate::rules::Change;
use queue::Parcel;
pub(crate) use queue::{Count, Queue};

/// How long the receiver may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The longest rest while nothing is due; what is made meanwhile ends it.
const REST_MAX: Duration = Duration::from_secs(60);

/// Where webhooks go.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// The endpoint.
    pub url: Url,
    /// What they are signed with (`whsec_..`).
    pub secret: Secret,
    /// The wait after the first attempt that fails; it doubles, up to a minute. Default 500 ms.
    pub retry: Duration,
    /// How often an event is tried before it is given up. Default 50.
    pub attempts_max: u32,
}

/// Sends what waits in the book's queue. Clones are the same sender.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) journal: Journal,
    pub(crate) client: reqwest::Client,
    pub(crate) settings: Webhooks,
    /// Told when an event was made.
    pub(crate) wake: Arc<Notify>,
    pub(crate) shutdown: CancellationToken,
}

/// What became of a delivery: the event's place in the queue, and whether it was taken.
type Ended = (u64, bool);

/// A client that does not follow redirects: a webhook is taken where it was sent, or not at all.
///
/// # Errors
/// When the process has no provider for TLS.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(ANSWER_MAX).redirect(reqwest::redirect::Policy::none()).build()
}

impl Sender {
    /// Runs until the shutdown. What is being sent then is sent again after the next start.
    pub(crate) async fn run(self) {
        let mut sending = JoinSet::new();
        loop {
            let rest = self.start(&mut sending);
            let ended = tokio::select! {
                () = self.shutdown.cancelled() => return,
                ended = sending.join_next(), if !sending.is_empty() => ended,
                () = self.wake.notified() => None,
                () = tokio::time::sleep(rest) => None,
            };
            let rest = std::iter::from_fn(|| sending.try_join_next());
            let ended: Vec<Ended> = ended.into_iter().chain(rest).filter_map(Result::ok).collect();
            self.settle(&ended).await;
        }
    }

    /// Sends what is due, and says how long nothing else will be.
    fn start(&self, sending: &mut JoinSet<Ended>) -> Duration {
        let queue = &mut lock(&self.book).webhooks;
        while sending.len() < queue.abreast() {
            let Some(parcel) = queue.claim(now_ms()) else {
                let wait_ms = queue.next_ms().map(|next_ms| next_ms.saturating_sub(now_ms()).max(1));
                let wait = wait_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
                return wait.unwrap_or(REST_MAX).min(REST_MAX);
            };
            sending.spawn(self.clone().send(parcel));
        }
        REST_MAX
    }

    /// Notes what was taken or given up. A crash before the note is on disk means that an event comes twice.
    async fn settle(&self, ended: &[Ended]) {
        let delivered: Vec<String> = {
            let queue = &mut lock(&self.book).webhooks;
            let through = ended
                .iter()
                .filter_map(|(place, taken)| queue.ended(*place, *taken, now_ms(), &self.settings));
            let mut through: Vec<String> = through.collect();
            through.extend(queue.surplus());
            through
        };
        if delivered.is_empty() {
            return;
        }
        match self.journal.room().await {
            Ok(room) => {
                let mut book = lock(&self.book);
                let line = book.enter(Change { delivered, ..Change::default() }, None);
                room.send(line);
            }
            Err(error) => tracing::error!(%error, "delivered webhooks could not be noted"),
        }
    }

    /// One attempt, once the event is on disk.
    async fn send(self, parcel: Parcel) -> Ended {
        if self.journal.durable(parcel.seq).await.is_err() {
            return (parcel.place, false);
        }
        let signature = signature::sign(&self.settings.secret, now().unix_timestamp(), &parcel.body);
        let request = self.client.post(self.settings.url.expose()).body(parcel.body);
        let request = request
            .header("content-type", "application/json; charset=utf-8")
            .header("stripe-signature", signature);
        match request.send().await {
            Ok(response) => (parcel.place, response.status().is_success()),
            Err(error) => {
                tracing::debug!(error = %error.without_url(), "a webhook was not taken");
                (parcel.place, false)
            }
        }
    }
}
