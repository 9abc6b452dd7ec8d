//! Reads by the policy: compared in `shadowing`, answered by the target's copy in `reading`, else by the owner.

use std::sync::Arc;

use tokio::time::timeout;

use super::{Homes, Repeats, Seam};
use crate::reads::{OWNER_ONLY, ReadPolicy};
use crate::{Comparable, Fallback, Home, Reading, Reads, Stage};

/// Which answer a caller wants.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whose key it is.
    pub tenant: &'a str,
    /// The key.
    pub key: &'a str,
    /// The version that the caller has seen already; 0 when it says none. An owner is never behind it: an answer that is comes from a
    /// copy, or from a home that was the owner a moment ago.
    pub at_least: i64,
}

impl<H: Homes> Seam<H> {
    /// With reads that follow the policy. Without, each goes to the owner of its key.
    #[must_use]
    pub fn reads(mut self, reads: Reads) -> Self {
        self.reads = Some(reads);
        self
    }

    /// Notes that a caller was shown this version of a key, as by a write: no later read of this program shows it an older one.
    pub fn shown(&self, key: &str, version: i64) {
        if let Some(reads) = &self.reads {
            reads.shown(key, version);
        }
    }

    /// Runs a read as the policy has it, which is known at most some seconds late. Stages before `shadowing` and after `reading`:
    /// at the owner. In `shadowing` the owner's answer is handed on, and compared with the target's afterwards. In `reading` the
    /// target's copy answers for the cohort, and the owner where that copy is older than the caller must see, is not there or
    /// not whole, or does not answer in time. Whoever answers, a caller is not shown an older version than [`Asked::at_least`], or than
    /// this program has shown within [`crate::ReadSettings::remembered`]: a home that is behind it is the owner only if the owner's row
    /// says so now.
    ///
    /// # Errors
    /// As [`Seam::read`]; never the copy's.
    pub async fn read_versioned<T, F, Fut>(&self, asked: Asked<'_>, run: F) -> Result<T, H::Error>
    where
        T: Comparable,
        F: Fn(Arc<H::Desk>, Reading) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, H::Error>> + Send + 'static,
    {
        let seen =
            self.reads.as_ref().map_or(asked.at_least, |reads| reads.at_least(asked.key, asked.at_least));
        let asked = Asked { at_least: seen, ..asked };
        let Some((reads, policy)) = self.reads.as_ref().and_then(|reads| Some((reads, reads.policy()?)))
        else {
            return self.by_owner(asked, &run).await;
        };
        match policy.stage {
            Stage::Shadowing => {
                let answer = self.by_owner(asked, &run).await?;
                self.compare(reads, policy.since, asked.key, &answer, run);
                Ok(answer)
            }
            Stage::Reading if asked.at_least < OWNER_ONLY && policy.has(asked.tenant, asked.key) => {
                self.by_copy(reads, &policy, asked, &run).await
            }
            Stage::Local
            | Stage::Following
            | Stage::Reading
            | Stage::Ramping
            | Stage::Primary
            | Stage::Sealed
            | Stage::Removed => self.by_owner(asked, &run).await,
        }
    }

    /// Asks the owner. It may be known a second late, and the key may have been handed over and written meanwhile: an answer that is behind
    /// what the caller has seen has the owner looked up now, and asked once when it is another.
    async fn by_owner<T, F, Fut>(&self, asked: Asked<'_>, run: &F) -> Result<T, H::Error>
    where
        T: Comparable,
        F: Fn(Arc<H::Desk>, Reading) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, H::Error>> + Send,
    {
        let Asked { key, at_least, .. } = asked;
        let run = |home: Arc<H::Desk>| run(home, Reading::Owner);
        let mut repeats = Repeats::new(self.bounds);
        let mut owner = self.owners.find(key).await.map_err(H::unroutable)?;
        let mut answer = self.read_from(&mut owner, key, &mut repeats, &run).await?;
        if answer.version() < at_least {
            let mut now = self.owners.refresh(key).await.map_err(H::unroutable)?;
            // At the same epoch it was the owner all the time: it is the caller that is ahead.
            if now.epoch != owner.epoch {
                answer = self.read_from(&mut now, key, &mut repeats, &run).await?;
            }
        }
        self.shown(key, answer.version());
        Ok(answer)
    }

    /// Asks the target's copy, and the owner when that can't answer.
    async fn by_copy<T, F, Fut>(
        &self,
        reads: &Reads,
        policy: &ReadPolicy,
        asked: Asked<'_>,
        run: &F,
    ) -> Result<T, H::Error>
    where
        T: Comparable,
        F: Fn(Arc<H::Desk>, Reading) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, H::Error>> + Send,
    {
        let at_least = asked.at_least;
        let call = run(Arc::clone(&self.target), Reading::Copy { at_least });
        let why = match timeout(reads.copy_timeout(), call).await {
            Ok(Ok(answer)) if answer.version() >= at_least => {
                reads.copied(policy.since, None);
                reads.shown(asked.key, answer.version());
                return Ok(answer);
            }
            Ok(Ok(_)) => Fallback::Lag,
            Ok(Err(error)) => H::fallback(&error),
            Err(_) => Fallback::Timeout,
        };
        let answer = self.by_owner(asked, run).await;
        let why = match &answer {
            // A copy can't have what its owner has not.
            Ok(answer) if why == Fallback::Lag && answer.version() < at_least => Fallback::Ahead,
            _ => why,
        };
        reads.copied(policy.since, Some(why));
        answer
    }

    /// Has an answer of the source's compared in the background. In `shadowing` no key is the target's.
    fn compare<T, F, Fut>(&self, reads: &Reads, since: i64, key: &str, answer: &T, run: F)
    where
        T: Comparable,
        F: Fn(Arc<H::Desk>, Reading) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, H::Error>> + Send + 'static,
    {
        let (source, target) = (Arc::clone(&self.source), Arc::clone(&self.target));
        reads.compare(since, key, answer, move |home| {
            let call = match home {
                Home::Source => run(Arc::clone(&source), Reading::Owner),
                Home::Target => run(Arc::clone(&target), Reading::Copy { at_least: 0 }),
            };
            async move { call.await.map_err(|error| H::fallback(&error)) }
        });
    }
}
