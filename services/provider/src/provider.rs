//! The provider at work: keys, scripts, and the order of book, journal and answer.

mod dashboard;
mod late;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::{Book, lock};
use crate::call::{Call, Command};
use crate::clock::now_ms;
use crate::control::Control;
use crate::failure::Failure;
use crate::intent::Status;
use crate::journal::{Error, Journal};
use crate::rules::{self, Change, Reply};
use crate::script::{self, Mark, Operation, SLOW, Script};

pub(crate) use dashboard::{Canceled, Refunded, SentBack, Unasked};

/// All requests share one. Clones are the same provider.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) journal: Journal,
    /// How long after its call a late request is done.
    pub(crate) late_by: Duration,
    /// How long after it is made an intent can be searched for.
    pub(crate) search_lag: Duration,
    /// TEST ONLY: every request is the first under its key, and what was not answered is forgotten.
    pub(crate) ignore_idempotency: bool,
    /// Wakes the sender of webhooks.
    pub(crate) wake: Arc<Notify>,
    /// What runs on when a client leaves. The process joins it before it ends.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

/// What the client hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer.
    Answered(Reply),
    /// The answer of an earlier request under the same key.
    Replayed(Reply),
    /// Nothing at all.
    Silence,
}

enum Begun {
    First(Claim),
    /// The kept answer, and the line that must be on disk before it is given again.
    Again(Reply, u64),
}

/// A key in flight; free again when this is dropped.
struct Claim {
    book: Arc<Mutex<Book>>,
    key: Option<String>,
}

impl Provider {
    /// Reads the book, once all that it says is on disk: a reader must not see what a crash could undo.
    pub(crate) async fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> Result<T, Failure> {
        let (seen, seq) = {
            let book = lock(&self.book);
            (read(&book), book.seq())
        };
        self.on_disk(seq).await?;
        Ok(seen)
    }

    /// Does what a client asks, once for each key.
    pub(crate) async fn handle(&self, call: Call) -> Result<Outcome, Failure> {
        match self.begin(&call)? {
            Begun::First(claim) => {
                let script = self.choose(&call).await?;
                self.play(script, call, claim).await
            }
            Begun::Again(reply, seq) => {
                self.on_disk(seq).await?;
                Ok(Outcome::Replayed(reply))
            }
        }
    }

    /// Follows an order by admin call from now on.
    pub(crate) async fn order(&self, control: Control) -> Result<(), Failure> {
        let change = Change { control: Some(control), ..Change::default() };
        self.commit(None, |_| Ok(change)).await?;
        // Events that were held may be due now.
        self.wake.notify_one();
        Ok(())
    }

    /// What becomes of a request that could be done. Which times an order was used is in the journal before anything
    /// that comes of it; the lines that follow wait for it too.
    async fn choose(&self, call: &Call) -> Result<Script, Failure> {
        let room = self.journal.room().await.map_err(|error| unwritten(&error))?;
        let mut book = lock(&self.book);
        self.decide(&book, call)?;
        let (script, mark) = script::choose(&book, call)?;
        if let Some(mark) = mark {
            room.send(book.enter(Change { mark: Some(mark), ..Change::default() }, None));
        }
        Ok(script)
    }

    async fn play(&self, script: Script, call: Call, claim: Claim) -> Result<Outcome, Failure> {
        let failed = Failure::api("An unexpected error occurred");
        let call = &call;
        match script {
            Script::Done => self.change(call, |book| self.decide(book, call)).await,
            Script::Slow => {
                tokio::time::sleep(SLOW).await;
                self.change(call, |book| self.decide(book, call)).await
            }
            Script::Declined => self.change(call, |book| rules::refuse(book, call)).await,
            Script::ChargedNoAnswer | Script::ErrorAfter if self.forgets(call) => {
                self.change(call, |book| self.charge_and_forget(book, call)).await
            }
            Script::ChargedNoAnswer => {
                self.change(call, |book| self.decide(book, call)).await.map(|_| Outcome::Silence)
            }
            Script::ErrorAfter => {
                self.change(call, |book| Ok(self.decide(book, call)?.answered(&failed))).await
            }
            Script::ErrorBefore => self.change(call, |_| Ok(Change::refused(&failed))).await,
            Script::LostOnce => self.read(|_| Outcome::Silence).await,
            Script::RateLimited => {
                self.read(|_| ()).await?;
                Err(Failure::rate_limited())
            }
            Script::Late => self.postpone(call, claim).await,
        }
    }

    /// What a request comes to. A provider that forgets its keys charges again what was charged already, so that a
    /// client that repeats comes to an end.
    fn decide(&self, book: &Book, call: &Call) -> Result<Change, Failure> {
        match &call.command {
            Command::Confirm { intent, .. } if self.ignore_idempotency => {
                let intent = book.intent(intent)?;
                match intent.status {
                    Status::Succeeded => Ok(rules::charge(intent, call)),
                    Status::RequiresPaymentMethod
                    | Status::RequiresConfirmation
                    | Status::Processing
                    | Status::RequiresCapture
                    | Status::Canceled => rules::decide(book, call),
                }
            }
            Command::Create { .. }
            | Command::Confirm { .. }
            | Command::Capture { .. }
            | Command::Cancel { .. }
            | Command::Refund { .. } => rules::decide(book, call),
        }
    }

    fn forgets(&self, call: &Call) -> bool {
        self.ignore_idempotency && call.command.operation() == Operation::Confirm
    }

    /// TEST ONLY: takes the money and forgets that it did, until it is asked again; then it takes it again.
    fn charge_and_forget(&self, book: &Book, call: &Call) -> Result<Change, Failure> {
        let (charged, first) = (self.decide(book, call)?, script::first(call));
        if book.happened(&first) {
            return Ok(charged);
        }
        Ok(Change { movement: charged.movement, mark: Some(Mark::Once(first)), ..Change::default() })
    }

    async fn change(
        &self,
        call: &Call,
        decide: impl FnOnce(&Book) -> Result<Change, Failure>,
    ) -> Result<Outcome, Failure> {
        let (reply, _) = self.commit(Some(call), decide).await?;
        Ok(reply.map_or(Outcome::Silence, Outcome::Answered))
    }

    /// Decides and enters under one lock, so that the journal's order is the book's; answers once the line
    /// is on disk. Returns the answer and the line's number.
    async fn commit(
        &self,
        call: Option<&Call>,
        decide: impl FnOnce(&Book) -> Result<Change, Failure>,
    ) -> Result<(Option<Reply>, u64), Failure> {
        let room = self.journal.room().await.map_err(|error| unwritten(&error))?;
        let (reply, seq) = {
            let mut book = lock(&self.book);
            let change = decide(&book)?;
            let reply = change.reply.clone();
            let line = book.enter(change, call);
            if !line.events.is_empty() {
                self.wake.notify_one();
            }
            let seq = line.seq;
            room.send(line);
            (reply, seq)
        };
        self.on_disk(seq).await?;
        Ok((reply, seq))
    }

    fn begin(&self, call: &Call) -> Result<Begun, Failure> {
        let key = call.key.clone().filter(|_| !self.ignore_idempotency);
        let mut book = lock(&self.book);
        if let Some(key) = &key {
            if let Some(answer) = book.keys.answer(key, now_ms()) {
                if answer.fingerprint != call.fingerprint {
                    return Err(Failure::key_reused(key));
                }
                let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Ok(Begun::Again(Reply { status, body: answer.body.clone() }, book.seq()));
            }
            if !book.keys.claim(key) {
                return Err(Failure::key_in_use(key));
            }
        }
        Ok(Begun::First(Claim { book: self.book.clone(), key }))
    }

    async fn on_disk(&self, seq: u64) -> Result<(), Failure> {
        self.journal.durable(seq).await.map_err(|error| unwritten(&error))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            lock(&self.book).keys.release(key);
        }
    }
}

fn unwritten(error: &Error) -> Failure {
    tracing::error!(%error, "a change could not be written");
    Failure::api("The journal can't be written")
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::form::Form;

    const SOON: Duration = Duration::from_millis(50);

    fn creation(key: &str) -> Call {
        let mut form = Form::parse(b"amount=1000&currency=eur").unwrap();
        let command = Command::create(&mut form).unwrap();
        let (key, fingerprint, metadata) = (Some(key.into()), "f".into(), form.metadata());
        Call { key, fingerprint, since_ms: now_ms(), metadata, command }
    }

    #[tokio::test]
    async fn neither_an_answer_nor_a_replay_nor_a_reader_outruns_the_disk() {
        let (journal, mut queue, written) = Journal::by_hand();
        let provider = Provider {
            book: Arc::new(Mutex::new(Book::of(Vec::new(), Duration::from_secs(60), false))),
            journal,
            late_by: SOON,
            search_lag: Duration::ZERO,
            ignore_idempotency: false,
            wake: Arc::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        };
        let worker = provider.clone();
        let mut answer = tokio::spawn(async move { worker.handle(creation("k-1")).await });
        let line = timeout(Duration::from_secs(5), queue.recv()).await.unwrap().unwrap();
        assert!(timeout(SOON, &mut answer).await.is_err(), "the answer waits");
        assert!(timeout(SOON, provider.read(|book| book.intents().count())).await.is_err(), "a reader waits");
        assert!(timeout(SOON, provider.handle(creation("k-1"))).await.is_err(), "a replay waits");

        written.send_replace(line.seq);
        let Outcome::Answered(reply) = answer.await.unwrap().unwrap() else { panic!("an answer") };
        assert_eq!(provider.read(|book| book.intents().count()).await, Ok(1));
        assert_eq!(provider.handle(creation("k-1")).await, Ok(Outcome::Replayed(reply)));

        drop((queue, written));
        assert!(provider.handle(creation("k-2")).await.is_err(), "a lost disk is an error");
    }
}
