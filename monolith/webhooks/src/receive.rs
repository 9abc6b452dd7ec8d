//! Takes a webhook in: checked, and stored raw before anything acts on it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::event::Event;
use crate::room::Room;
use crate::signature::Signature;
use crate::store::Stored;
use crate::{Error, HEADER, Keys, Metrics, Refusal, Step, Watch, store};

/// The largest body that is taken: 256 KiB.
pub const BODY_MAX: usize = 256 * 1024;

/// The most notices that may be open at once. More are refused at the edge until some are placed; the provider sends again.
const OPEN_MAX: i64 = 100_000;

/// How often they are counted, in each process.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// What a webhook that was taken came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Stored now.
    Stored,
    /// Stored before; nothing was changed.
    Repeated,
}

/// Takes webhooks in. Clones share it.
#[derive(Debug, Clone)]
pub struct Receiver {
    pool: PgPool,
    keys: Arc<Keys>,
    metrics: Metrics,
    watch: Watch,
    room: Arc<Room>,
    open_max: i64,
    count_every: Duration,
}

impl Receiver {
    /// Over the pool of the module's role.
    pub fn new(pool: PgPool, keys: Keys, metrics: Metrics) -> Self {
        Self {
            pool,
            keys: Arc::new(keys),
            metrics,
            watch: Watch::default(),
            room: Arc::default(),
            open_max: OPEN_MAX,
            count_every: COUNT_EVERY,
        }
    }

    /// Tells each step.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// Refuses more than this many open notices; default 100,000.
    #[must_use]
    pub fn open_max(self, open_max: i64) -> Self {
        Self { open_max, ..self }
    }

    /// Counts the open notices when the last count is older than this; default 5 s.
    #[must_use]
    pub fn count_every(self, count_every: Duration) -> Self {
        Self { count_every, ..self }
    }

    /// Checks a body by its header and stores it. When this returns, custody is here: whatever happens, the notice will be
    /// given to the owner of its payment, or be shown to a person.
    pub(crate) async fn receive(&self, signature: &Signature, body: &[u8]) -> Result<Receipt, Error> {
        let now = OffsetDateTime::now_utc();
        self.keys.check(signature, body, now)?;
        let event = Event::parse(body, now)?;
        let stored = if self.room.is_left(&self.pool, self.open_max, self.count_every).await {
            store::keep(&self.pool, &event, signature.header(), body).await?
        } else {
            // What is there needs no room.
            store::find(&self.pool, &event).await?.unwrap_or(Stored::Full)
        };
        let receipt = match stored {
            Stored::Now => {
                self.room.stored();
                Receipt::Stored
            }
            Stored::Before => Receipt::Repeated,
            Stored::Otherwise => return Err(Refusal::IdReused.into()),
            Stored::Full => {
                tracing::error!(open_max = self.open_max, "a webhook was refused: too many notices are open");
                return Err(Error::Full);
            }
        };
        self.watch.reached(Step::Stored);
        Ok(receipt)
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, answer: &Result<Receipt, Error>) {
        let word = match answer {
            Ok(Receipt::Stored) => "stored",
            Ok(Receipt::Repeated) => "repeated",
            Err(Error::Refused(refusal)) => refusal.code(),
            Err(Error::Full) => "full",
            Err(Error::Database(_) | Error::Corrupt(_) | Error::NotOpen | Error::Invalid(_)) => "failed",
        };
        self.metrics.received(word);
    }
}

/// The one signature of a request.
pub(crate) fn signature(headers: &HeaderMap) -> Result<Signature, Refusal> {
    let mut values = headers.get_all(HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Refusal::Unsigned),
        (Some(value), None) => Signature::parse(value.as_bytes()),
        (Some(_), Some(_)) => Err(Refusal::MalformedSignature),
    }
}
