//! Asking the provider. No transaction is open here, and the future outlives the request that caused it.
//!
//! Every request of an intent is sent under a key made of the intent alone, so whoever takes the intent up again, after a crash
//! or for want of an answer, repeats the same request and it is done once. No answer is not an answer: `unknown`.

mod ask;
mod by_hand;
mod intend;
mod refund;
mod settle;
mod standing;

use std::time::Duration;

use tokio::time::Instant;

use crate::provider::{Failure, Move, Tag};
use crate::{Error, Home, Operation, Outcome, Point, store};

use settle::settle;

pub(crate) use by_hand::{Resolution, resolve};
pub use intend::PROVIDER_TIMEOUTS;
pub(crate) use intend::{CLAIM, Intended, Intent, Request, intend, intend_requested, replay};
pub(crate) use settle::Settled;

/// The first pause before an unanswered intent is taken up again; each is a quarter longer or shorter.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The pause of a command that is past the provider's key lifetime and waits for a person, or for the provider to be through.
const EXPIRED_PAUSE: Duration = Duration::from_secs(300);
/// Tries without an answer from which on each is an alarm.
const TRIES_ALARM: i32 = 12;
/// How long one try may ask. The outcome is committed within the rest of [`CLAIM`].
const TRY_MAX: Duration = Duration::from_secs(11);

/// How far one try came.
#[derive(Debug)]
pub(crate) enum Ran {
    /// The definite answer is committed.
    Settled(Settled),
    /// There is none; an engine asks again.
    Unknown,
}

/// A definite answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The command has an outcome that [`crate::decide`] understands.
    Outcome(Outcome),
    /// The provider refuses the command and the payment stays as it is.
    Refused(String),
}

/// Why there is no definite answer, and how to go on.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) why: String,
    /// The next try is not before this pause.
    after: Duration,
    pub(crate) attempt: Attempt,
    pub(crate) waits: Waits,
}

/// What an open command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Its next try.
    Try,
    /// Its next try, which may find what was found before: this one read nothing.
    Answer,
    /// The provider, which is at it.
    Provider,
    /// A person: reading does not decide, and repeating does not help or could do it twice.
    Person,
}

/// What becomes of the attempt whose try had no definite answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is asked again under its key.
    GoesOn,
    /// The same; the provider keeps a fault under the key, and may show yet that the request had its effect.
    KeepsFault,
    /// What was asked under its key is over and did nothing: the next try has a new key.
    Over,
}

/// One try at an intent.
struct Try<'a> {
    home: &'a Home,
    intent: &'a Intent,
    /// Requests are given up here.
    until: Instant,
}

/// One try at an intent that the caller has claimed.
pub(crate) async fn run(home: &Home, intent: &Intent) -> Result<Ran, Error> {
    let this = Try { home, intent, until: Instant::now() + TRY_MAX };
    let ran = match this.ask().await {
        Ok(Ok(verdict)) => settle(home, intent, &verdict, None).await.map(Ran::Settled),
        Ok(Err(open)) => return unknown(home, intent, &open).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &ran {
        tracing::warn!(payment = %intent.payment.id, command = %intent.command.id, %error, "an answer could not be committed");
        store::release(&home.pool, intent.command.id, backoff(intent.tries)).await?;
    }
    ran
}

async fn unknown(home: &Home, intent: &Intent, open: &Open) -> Result<Ran, Error> {
    let (payment, command, tries) = (intent.payment.id, intent.command.id, intent.tries);
    let why = &open.why;
    let for_person = !intent.repeatable && open.waits == Waits::Person;
    if for_person {
        tracing::error!(%payment, %command, tries, why, "a person must decide what became of a command");
    } else if tries < TRIES_ALARM || open.waits == Waits::Provider {
        tracing::info!(%payment, %command, tries, why, "the provider gave no definite answer");
    } else {
        tracing::error!(%payment, %command, tries, why, "the provider still gives no definite answer");
    }
    let pause = match (open.waits, intent.repeatable) {
        (Waits::Try | Waits::Answer, _) | (Waits::Provider | Waits::Person, true) => backoff(tries),
        (Waits::Provider | Waits::Person, false) => EXPIRED_PAUSE,
    };
    store::defer(&home.pool, &intent.command, open, pause.max(open.after)).await?;
    home.crash.point(Point::UnknownCommitted);
    Ok(Ran::Unknown)
}

fn backoff(tries: i32) -> Duration {
    let doublings = u32::try_from(tries.clamp(0, 10)).unwrap_or_default();
    BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

impl Try<'_> {
    /// An answer of the provider, within the bound of the try.
    async fn answer<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let late = || Err(Failure::Unknown("the try took too long".to_owned()));
        // A process that slept must not begin to ask: its claim is over, and the provider may have forgotten the key.
        if Instant::now() >= self.until {
            return late();
        }
        tokio::time::timeout_at(self.until, call).await.unwrap_or_else(|_| late())
    }

    /// Whether something was asked before, as far as anyone can know.
    fn is_repeated(&self) -> bool {
        self.intent.tries > 0 || self.intent.command.attempt > 1
    }

    /// `payment:operation:command:attempt`: the same for every repetition of an intent, on every machine.
    fn key(&self) -> String {
        let command = &self.intent.command;
        format!("{}:{}:{}:{}", self.intent.payment.id, command.operation, command.id, command.attempt)
    }

    fn movement(&self, object: &str) -> Move {
        let amount = proto::Money::new(self.intent.command.amount_minor, self.intent.payment.amount.currency);
        Move { object: object.to_owned(), amount, tag: self.tag() }
    }

    fn tag(&self) -> Tag {
        Tag {
            tenant: self.intent.payment.tenant.clone(),
            payment: self.intent.payment.id,
            operation: self.intent.command.operation,
            command: self.intent.command.id,
        }
    }

    /// What a no means for the command.
    fn no(&self, object: &str, code: String) -> Verdict {
        match self.intent.command.operation {
            Operation::Charge | Operation::Authorize => {
                Verdict::Outcome(Outcome::Declined { object: object.to_owned(), code })
            }
            Operation::Capture | Operation::Void | Operation::Refund => Verdict::Refused(code),
        }
    }
}

impl Open {
    fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), after: Duration::ZERO, attempt: Attempt::GoesOn, waits: Waits::Try }
    }

    /// The key keeps a fault, and it can't be read yet that nothing came of the request.
    fn kept(why: impl Into<String>) -> Self {
        Self { attempt: Attempt::KeepsFault, ..Self::because(why) }
    }

    /// The request under this attempt's key has ended without an effect: it was read.
    fn over(why: impl Into<String>) -> Self {
        Self { attempt: Attempt::Over, ..Self::because(why) }
    }

    /// The provider is at it: there is nothing to do but wait.
    fn under_way(why: impl Into<String>) -> Self {
        Self { waits: Waits::Provider, ..Self::because(why) }
    }

    /// What was read is nothing that the command can have led to: a person must look, if it stays so.
    fn odd(why: impl Into<String>) -> Self {
        Self { waits: Waits::Person, ..Self::because(why) }
    }

    /// Past the key lifetime a repeated refund could be made twice; what reading does not decide, a person must.
    fn expired() -> Self {
        Self::odd("the provider's key has expired: look the command up there by its metadata")
    }
}

impl From<Failure> for Open {
    fn from(failure: Failure) -> Self {
        let open = Self { waits: Waits::Answer, ..Self::because(failure.to_string()) };
        match failure {
            Failure::NotNow { after, .. } => Self { after, ..open },
            Failure::Declined { .. } | Failure::Refused { .. } | Failure::Unknown(_) | Failure::Kept(_) => {
                open
            }
        }
    }
}
