//! The provider at work: keys, scripts, and the order of book, journal and answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::Book;
use crate::call::{Call, Command};
use crate::clock::{millis, now_ms};
use crate::control::Control;
use crate::failure::Failure;
use crate::form::missing;
use crate::intent::{Intent, Late, Status};
use crate::journal::{Error, Journal};
use crate::rules::{self, Change, Reply};
use crate::script::{SLOW, Script};

/// All requests share one. Clones are the same provider.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) journal: Journal,
    /// How long a late charge takes.
    pub(crate) late_by: Duration,
    /// How long after it is made an intent can be searched for.
    pub(crate) search_lag: Duration,
    /// TEST ONLY: every request is the first under its key, and what was not answered is forgotten.
    pub(crate) ignore_idempotency: bool,
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
        let claim = match self.begin(&call)? {
            Begun::First(claim) => claim,
            Begun::Again(reply, seq) => {
                self.on_disk(seq).await?;
                return Ok(Outcome::Replayed(reply));
            }
        };
        let reply = match &call.command {
            Command::Confirm { intent, payment_method } => {
                return self.confirm(&call, intent, payment_method.as_deref(), claim).await;
            }
            Command::Create { .. } => self.commit(Some(&call), |_| rules::create(&call)).await?,
            Command::Capture { intent, amount } => {
                self.commit(Some(&call), |book| rules::capture(book.intent(intent)?, *amount, &call)).await?
            }
            Command::Cancel { intent, reason } => {
                let decide = |book: &Book| rules::cancel(book.intent(intent)?, reason.as_deref(), &call);
                self.commit(Some(&call), decide).await?
            }
            Command::Refund { intent, amount, reason } => {
                let decide =
                    |book: &Book| rules::refund(book.intent(intent)?, *amount, reason.as_deref(), &call);
                self.commit(Some(&call), decide).await?
            }
        };
        Ok(heard(reply))
    }

    /// Takes up the late charges that a restart interrupted.
    pub(crate) fn resume(&self) {
        let late: Vec<(String, Late)> = {
            let book = lock(&self.book);
            book.intents().filter_map(|intent| Some((intent.id.clone(), intent.late.clone()?))).collect()
        };
        for (intent, late) in late {
            if let Some(key) = &late.key {
                lock(&self.book).keys.claim(key);
            }
            let claim = Claim { book: self.book.clone(), key: late.key.clone() };
            self.tasks.spawn(self.clone().charge_late(intent, late, claim));
        }
    }

    async fn confirm(
        &self,
        call: &Call,
        id: &str,
        method: Option<&str>,
        claim: Claim,
    ) -> Result<Outcome, Failure> {
        let script = script(&self.confirmable(&lock(&self.book), id, method)?)?;
        if script == Script::Slow {
            tokio::time::sleep(SLOW).await;
        }
        // The intent is read again under the lock: another confirmation may have come first.
        let commit = |decide: fn(&Intent, &Call) -> Change| {
            self.commit(Some(call), move |book| Ok(decide(&self.confirmable(book, id, method)?, call)))
        };
        match script {
            Script::Charged | Script::Slow => Ok(heard(commit(rules::charge).await?)),
            Script::Declined => Ok(heard(commit(rules::decline).await?)),
            Script::ChargedNoAnswer | Script::ErrorAfterCharge if self.ignore_idempotency => {
                Ok(heard(commit(rules::charge_and_forget).await?))
            }
            Script::ErrorAfterCharge => Ok(heard(commit(rules::charge_and_fail).await?)),
            Script::LostOnce => Ok(heard(commit(rules::charge_unless_first).await?)),
            Script::ChargedNoAnswer => commit(rules::charge).await.map(|_| Outcome::Silence),
            Script::ChargedLate => self.postpone(call, id, method, claim).await,
        }
    }

    /// The intent as this confirmation finds it, with the payment method that it brings.
    fn confirmable(&self, book: &Book, id: &str, method: Option<&str>) -> Result<Intent, Failure> {
        let mut intent = book.intent(id)?.clone();
        let open = [Status::RequiresPaymentMethod, Status::RequiresConfirmation];
        if !(self.ignore_idempotency && intent.status == Status::Succeeded) {
            rules::demand(&intent, &open, "confirmed")?;
        }
        intent.payment_method = method.map(str::to_owned).or(intent.payment_method);
        if intent.payment_method.is_none() {
            return Err(missing("payment_method"));
        }
        Ok(intent)
    }

    async fn postpone(
        &self,
        call: &Call,
        id: &str,
        method: Option<&str>,
        claim: Claim,
    ) -> Result<Outcome, Failure> {
        let late = Late {
            due_ms: now_ms().saturating_add(millis(self.late_by)),
            since_ms: call.since_ms,
            key: call.key.clone(),
            fingerprint: call.fingerprint.clone(),
            metadata: call.metadata.clone(),
        };
        let kept = late.clone();
        self.commit(Some(call), |book| Ok(rules::postpone(&self.confirmable(book, id, method)?, kept)))
            .await?;
        self.tasks.spawn(self.clone().charge_late(id.to_owned(), late, claim));
        Ok(Outcome::Silence)
    }

    /// Charges when it is due. Cut short by a shutdown, it is taken up at the next start. Meanwhile its
    /// key stays in flight.
    async fn charge_late(self, intent: String, late: Late, claim: Claim) {
        let wait = u64::try_from(late.due_ms.saturating_sub(now_ms())).unwrap_or(0);
        tokio::select! {
            () = self.shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
        let command = Command::Confirm { intent: intent.clone(), payment_method: None };
        let Late { key, fingerprint, since_ms, metadata, .. } = late;
        let call = Call { key, fingerprint, since_ms, metadata, command };
        let charged = self.commit(Some(&call), |book| Ok(rules::charge(book.intent(&intent)?, &call))).await;
        if let Err(failure) = charged {
            tracing::error!(intent, ?failure, "a late charge could not be made");
        }
        drop(claim);
    }

    /// Follows an order by admin call from now on.
    pub(crate) async fn order(&self, control: Control) -> Result<(), Failure> {
        let change = Change { control: Some(control), ..Change::default() };
        self.commit(None, |_| Ok(change)).await.map(drop)
    }

    /// Decides and enters under one lock, so that the journal's order is the book's; answers once the line
    /// is on disk.
    async fn commit(
        &self,
        call: Option<&Call>,
        decide: impl FnOnce(&Book) -> Result<Change, Failure>,
    ) -> Result<Option<Reply>, Failure> {
        let room = self.journal.room().await.map_err(|error| unwritten(&error))?;
        let (reply, seq) = {
            let mut book = lock(&self.book);
            let change = decide(&book)?;
            let reply = change.reply.clone();
            let line = book.enter(change, call);
            let seq = line.seq;
            room.send(line);
            (reply, seq)
        };
        self.on_disk(seq).await?;
        Ok(reply)
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

fn heard(reply: Option<Reply>) -> Outcome {
    reply.map_or(Outcome::Silence, Outcome::Answered)
}

/// What was charged already (which only a provider that forgets its keys charges again) is answered, so
/// that a client that repeats comes to an end.
fn script(intent: &Intent) -> Result<Script, Failure> {
    match intent.status {
        Status::Succeeded => Ok(Script::Charged),
        _ => Script::of(intent.payment_method.as_deref().unwrap_or_default()),
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
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
            book: Arc::new(Mutex::new(Book::of(Vec::new(), Duration::from_secs(60)))),
            journal,
            late_by: SOON,
            search_lag: Duration::ZERO,
            ignore_idempotency: false,
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
