//! All payments change their home, once undisturbed and once with callers who want to write just then.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    customers, database,
    field::Field,
    float,
    steps::{self, Mark, Step},
    writers::{Writers, Written},
};
use crate::payments::place;

/// A payment that was busy when its turn came is looked at again a second or more later, so a move's rate is that of this share of
/// its payments; the whole time is shown beside it.
const SHARE: f64 = 0.99;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the monolith to the service.
    There,
    /// From the service to the monolith.
    Back,
}

/// What a move came to.
pub(super) struct Moved {
    pub(super) keys: f64,
    /// Payments a second, from the first transaction of the move until 99 % of them were at their new home.
    pub(super) rate: f64,
    /// Seconds until the last was.
    pub(super) seconds: f64,
    /// Milliseconds of each payment from its fence until it was the next owner's.
    pub(super) between: Vec<f64>,
    steps: Vec<Step>,
    /// When the transaction began that fenced each.
    fenced: HashMap<String, OffsetDateTime>,
}

/// What callers met who wanted to write.
pub(super) struct Paused {
    /// Milliseconds from the fence until the write was accepted at the new home.
    pub(super) fence: Vec<f64>,
    /// The same from when the source said that the payment is on its way.
    pub(super) call: Vec<f64>,
    /// Milliseconds of each whole call, as its caller saw it.
    pub(super) heard: Vec<f64>,
    /// Calls that were told to try again.
    pub(super) repeats: u32,
    /// Payments that were not written to between their homes: looked at too late, or written before they left.
    pub(super) missed: usize,
}

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::There, Self::Back];

    /// As rows of the report begin.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::There => "to the service",
            Self::Back => "back to the monolith",
        }
    }

    /// The owner before.
    pub(super) fn from(self) -> &'static str {
        match self {
            Self::There => "source",
            Self::Back => "target",
        }
    }

    /// The owner afterwards.
    fn to(self) -> &'static str {
        match self {
            Self::There => "target",
            Self::Back => "source",
        }
    }

    /// Between the two.
    pub(super) fn phase(self) -> &'static str {
        match self {
            Self::There => "moving",
            Self::Back => "recalling",
        }
    }
}

/// Moves all payments, with nothing else going on.
pub(super) async fn undisturbed(field: &Field<'_>, way: Way) -> Result<Moved> {
    let mark = prepare(field, way).await?;
    go(field, way).await?;
    moved(field, way, mark).await
}

/// Moves all payments; some of them are written to as they leave. `name` is no other move's.
pub(super) async fn written_to(field: &Field<'_>, way: Way, some: &[Uuid], name: &str) -> Result<Paused> {
    let mark = prepare(field, way).await?;
    let waiting =
        some.iter().map(|payment| (*payment, format!("{name}-{}-{payment}", way.phase()))).collect();
    let writers = Writers { client: field.client.clone(), source: field.shop.source.clone(), way, waiting };
    let stop = CancellationToken::new();
    // It ends with the token, or fails; a failure of the move ends the run.
    let writers = tokio::spawn(writers.run(stop.clone()));
    let gone = go(field, way).await;
    stop.cancel();
    let written = writers.await?;
    gone?;
    let moved = moved(field, way, mark).await?;
    paused(field, way, &moved, written?).await
}

/// Brings the migration to where the next step moves all payments, and the shop to rest.
async fn prepare(field: &Field<'_>, way: Way) -> Result<Mark> {
    if way == Way::There {
        field.under_traffic(field.operator.ramp(100)).await?;
        // The gates want to see something come back from the service.
        let born = place(&field.client, &field.product).await?;
        customers::all_paid(field, &[born]).await?;
    }
    field.settle().await?;
    steps::mark(&field.shop.source, &field.shop.target).await
}

async fn go(field: &Field<'_>, way: Way) -> Result<()> {
    match way {
        Way::There => field.operator.primary().await?,
        Way::Back => {
            let says = field.operator.rollback().await?;
            ensure!(!says.is_empty(), "a rollback says what it means");
        }
    }
    field.all_at(way.to()).await
}

async fn moved(field: &Field<'_>, way: Way, mark: Mark) -> Result<Moved> {
    let shop = &field.shop;
    let (steps, fences) = match way {
        Way::There => (steps::there(&shop.source, mark).await?, None),
        Way::Back => (steps::back(&shop.source, mark).await?, Some(steps::fences(&shop.target, mark).await?)),
    };
    let fence = |step: &Step| match &fences {
        // The fence is what says at the source that a payment is on its way.
        None => Some(step.called_at),
        Some(fences) => fences.get(&(step.key.clone(), step.epoch)).copied(),
    };
    let fenced: HashMap<String, OffsetDateTime> =
        steps.iter().filter_map(|step| Some((step.key.clone(), fence(step)?))).collect();
    let keys = steps.len();
    ensure!(keys >= field.keys.len(), "{keys} of {} payments moved {}", field.keys.len(), way.name());
    ensure!(fenced.len() == keys, "of {keys} payments that moved {} were fenced", fenced.len());
    let (rate, seconds) = rates(&steps);
    let between =
        steps.iter().filter_map(|step| Some(ms(step.settled_at - *fenced.get(&step.key)?))).collect();
    Ok(Moved { keys: float(keys), rate, seconds, between, steps, fenced })
}

/// Keys a second until most of them were settled, and the seconds until all were.
fn rates(steps: &[Step]) -> (f64, f64) {
    let began = steps.iter().map(|step| step.called_at).min();
    let mut settled: Vec<f64> = steps
        .iter()
        .filter_map(|step| began.map(|began| (step.settled_at - began).as_seconds_f64()))
        .collect();
    let most = crate::payments::quantile(&mut settled, SHARE);
    let last = settled.last().copied().unwrap_or(f64::NAN);
    (float(steps.len()) * SHARE / most, last)
}

async fn paused(field: &Field<'_>, way: Way, moved: &Moved, written: Written) -> Result<Paused> {
    let new_home = match way {
        Way::There => &field.shop.target,
        Way::Back => &field.shop.source,
    };
    let names: Vec<String> = written.accepted.iter().map(|(_, name)| name.clone()).collect();
    let accepted: HashMap<String, OffsetDateTime> =
        database::commands(new_home, &names).await?.into_iter().collect();
    let called: HashMap<&str, OffsetDateTime> =
        moved.steps.iter().map(|step| (step.key.as_str(), step.called_at)).collect();
    let (mut fence, mut call) = (Vec::new(), Vec::new());
    for (payment, name) in &written.accepted {
        // One that the old home accepted was written before the payment left: nothing paused.
        let Some(at) = accepted.get(name) else { continue };
        let (Some(fenced), Some(called)) = (moved.fenced.get(payment), called.get(payment.as_str())) else {
            continue;
        };
        fence.push(ms(*at - *fenced));
        call.push(ms(*at - *called));
    }
    ensure!(!fence.is_empty(), "no payment was written to between its homes: there is no pause to measure");
    let missed = written.missed + written.accepted.len() - fence.len();
    Ok(Paused { fence, call, heard: written.heard, repeats: written.repeats, missed })
}

fn ms(took: time::Duration) -> f64 {
    took.as_seconds_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn a_rate_counts_from_the_first_transaction_until_most_are_settled() {
        let began = OffsetDateTime::UNIX_EPOCH;
        let step = |n: i64| Step {
            key: n.to_string(),
            epoch: 2,
            called_at: began,
            settled_at: began + Duration::milliseconds(n * 10),
        };
        let mut steps: Vec<Step> = (1..=100).map(step).collect();
        // The last was busy, and came a minute later.
        steps[99].settled_at = began + Duration::minutes(1);
        let (rate, seconds) = rates(&steps);
        assert!((rate - 100.0).abs() < 1e-6, "{rate}");
        assert!((seconds - 60.0).abs() < 1e-6, "{seconds}");
    }
}
