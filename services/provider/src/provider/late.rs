//! Requests that are done some time after their call, also across a restart.

use std::time::Duration;

use super::{Claim, Outcome, Provider};
use crate::book::lock;
use crate::call::Call;
use crate::clock::{millis, now_ms};
use crate::failure::Failure;
use crate::line::Later;
use crate::rules::{self, Change};

impl Provider {
    /// Takes up the late requests that a restart interrupted.
    pub(crate) fn resume(&self) {
        let open: Vec<(u64, Later)> =
            lock(&self.book).later().map(|(seq, later)| (seq, later.clone())).collect();
        for (seq, later) in open {
            if let Some(key) = &later.call.key {
                lock(&self.book).keys.claim(key);
            }
            let claim = Claim { book: self.book.clone(), key: later.call.key.clone() };
            self.tasks.spawn(self.clone().do_late(seq, later, claim));
        }
    }

    /// Writes down what is to be done, and does it when it is due. The client hears nothing.
    pub(super) async fn postpone(&self, call: &Call, claim: Claim) -> Result<Outcome, Failure> {
        let due_ms = now_ms().saturating_add(millis(self.late_by));
        let (_, seq) = self.commit(Some(call), |book| rules::postpone(book, call, due_ms)).await?;
        self.tasks.spawn(self.clone().do_late(seq, Later { due_ms, call: call.clone() }, claim));
        Ok(Outcome::Silence)
    }

    /// Cut short by a shutdown, it is taken up at the next start. Meanwhile its key stays in flight. What can't be done
    /// any more, because something else came first, is not done, and its key is free.
    async fn do_late(self, seq: u64, later: Later, claim: Claim) {
        let wait = u64::try_from(later.due_ms.saturating_sub(now_ms())).unwrap_or(0);
        tokio::select! {
            () = self.shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
        let done = self.commit(Some(&later.call), |book| {
            let change = rules::catch_up(book, &later.call).unwrap_or_default();
            Ok(Change { ends: Some(seq), ..change })
        });
        if let Err(failure) = done.await {
            tracing::error!(seq, ?failure, "a late request could not be done");
        }
        drop(claim);
    }
}
