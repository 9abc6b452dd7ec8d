//! This home's word on what its replica has applied, what it has published, and what it decided in the source's shadow.

use async_trait::async_trait;
use chassis::VERSION;
use outbox::{DatabaseRefill, Message, Refill as _, StateTransfer as _};
use payments::Replicate;
use payments::shadow::{Class, Differing, Tried};
use proto::{HEARTBEAT_KEYS, PAYMENTS};
use sqlx::PgPool;
use strangler::{
    Applied, Authority, BoxError, DecisionClass, DecisionCount, DecisionSample, Decisions, Evidence, Logged,
    Missing, MutantCount, ProviderAccess,
};
use time::OffsetDateTime;

/// Reads what the home keeps.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// As the relay's role, which may read the replica's cursors and the log, and give from it.
    pub(crate) relay: PgPool,
    /// As the module's.
    pub(crate) module: PgPool,
    /// Which payments are this home's.
    pub(crate) authority: Authority,
}

#[async_trait]
impl Evidence for Kept {
    async fn applied(&self, keys: &[String]) -> Result<Applied, BoxError> {
        let progress = outbox::progress(&self.relay, Replicate::NAME, PAYMENTS, keys).await?;
        Ok(Applied { versions: progress.versions, parked: progress.parked, awaiting: progress.awaiting })
    }

    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        Ok(outbox::recent_heads(&self.relay, PAYMENTS, &HEARTBEAT_KEYS, limit).await?)
    }

    async fn decisions(&self, since: OffsetDateTime) -> Result<Decisions, BoxError> {
        let found = payments::shadow::decisions(&self.module, VERSION, since).await?;
        // `provider.rs` asks the same before it makes a client.
        let owns = self.authority.holds_any(&self.module).await?;
        let access = if owns { ProviderAccess::Usable } else { ProviderAccess::Denied };
        let counts = found.counts.into_iter().map(count).collect::<Result<_, _>>()?;
        let mutants = found.mutants.into_iter().map(mutant).collect::<Result<_, _>>()?;
        let samples = found.samples.into_iter().map(sample).collect();
        Ok(Decisions { version: VERSION.to_owned(), counts, mutants, samples, provider: Some(access) })
    }

    async fn logged(&self, missing: Missing<'_>) -> Result<Vec<Logged>, BoxError> {
        let Missing { topic, key, after, until, limit } = missing;
        // Whatever else may once be in this log is not the source's to read.
        if topic != PAYMENTS.name() {
            return Ok(Vec::new());
        }
        let log = DatabaseRefill(self.relay.clone());
        log.events(topic, key, after, until, limit).await?.into_iter().map(logged).collect()
    }
}

fn logged(message: Message) -> Result<Logged, BoxError> {
    let version = message.version().ok_or("an event of the log has no version")?;
    let Message { topic, key, headers, payload, .. } = message;
    let key = String::from_utf8(key.ok_or("an event of the log has no key")?)?;
    Ok(Logged { topic, key, version, headers, payload })
}

fn class(class: Class) -> DecisionClass {
    match class {
        Class::Equal => DecisionClass::Equal,
        Class::Money => DecisionClass::Money,
        Class::Structure => DecisionClass::Structure,
        Class::Undecidable => DecisionClass::Undecidable,
    }
}

fn count((of, outcome, count): (Class, String, i64)) -> Result<DecisionCount, BoxError> {
    Ok(DecisionCount { class: class(of), outcome, count: u64::try_from(count)? })
}

fn mutant(tried: Tried) -> Result<MutantCount, BoxError> {
    let Tried { name, caught, missed, outcomes } = tried;
    Ok(MutantCount {
        name: name.to_owned(),
        caught: u64::try_from(caught)?,
        missed: u64::try_from(missed)?,
        outcomes: outcomes.iter().map(|outcome| (*outcome).to_owned()).collect(),
    })
}

fn sample(differing: Differing) -> DecisionSample {
    let Differing { payment, version, class: of, text } = differing;
    DecisionSample { key: payment.to_string(), version, class: class(of), text }
}
