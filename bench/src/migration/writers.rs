//! Callers who want to write just when a payment leaves: each sends one refund as soon as the owner's row says that its payment is on
//! its way, and again when it is told to try again.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use ::tests::load::Client;
use anyhow::{Result, bail};
use serde_json::json;
use sqlx::PgPool;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{database, moves::Way};

/// Between two looks at the owners' rows.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Before a call that was told to try again is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How long a caller tries.
const PATIENCE: Duration = Duration::from_secs(60);

/// The callers of one move.
pub(super) struct Writers {
    pub(super) client: Client,
    pub(super) source: PgPool,
    pub(super) way: Way,
    /// Each payment that one of them waits for, with the idempotency key of its refund.
    pub(super) waiting: Vec<(Uuid, String)>,
}

/// What they came to.
#[derive(Default)]
pub(super) struct Written {
    /// Payment and idempotency key of each refund that was accepted.
    pub(super) accepted: Vec<(String, String)>,
    /// Milliseconds from when each was sent first until it was answered.
    pub(super) heard: Vec<f64>,
    /// Calls that were told to try again.
    pub(super) repeats: u32,
    /// Payments that were already at their new home when they were looked at.
    pub(super) missed: usize,
}

/// One refund's way.
struct Heard {
    payment: String,
    name: String,
    ms: f64,
    repeats: u32,
}

impl Writers {
    /// Looks until each payment has left, or it is told to stop; then waits for those calls that are open.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<Written> {
        let Self { client, source, way, mut waiting } = self;
        let (mut calls, mut written) = (JoinSet::new(), Written::default());
        while !waiting.is_empty() && !stop.is_cancelled() {
            let keys: Vec<String> = waiting.iter().map(|(payment, _)| payment.to_string()).collect();
            let away = database::away(&source, way.from(), &keys).await?;
            let (going, gone): (Vec<_>, Vec<_>) =
                away.into_iter().partition(|place| place.phase == way.phase());
            let going: HashSet<String> = going.into_iter().map(|place| place.key).collect();
            // One in another phase than those two is on no way of ours: it is looked at again.
            let gone: HashSet<String> =
                gone.into_iter().filter(|place| place.owner != way.from()).map(|place| place.key).collect();
            waiting.retain(|(payment, name)| {
                let key = payment.to_string();
                if going.contains(&key) {
                    calls.spawn(refund(client.clone(), key, name.clone()));
                    return false;
                }
                written.missed += usize::from(gone.contains(&key));
                !gone.contains(&key)
            });
            sleep(LOOK_EVERY).await;
        }
        written.missed += waiting.len();
        while let Some(ended) = calls.join_next().await {
            let heard = ended??;
            written.accepted.push((heard.payment, heard.name));
            written.heard.push(heard.ms);
            written.repeats += heard.repeats;
        }
        Ok(written)
    }
}

/// One minor unit, under one idempotency key however often it is sent.
async fn refund(client: Client, payment: String, name: String) -> Result<Heard> {
    let (path, body) = (format!("/v1/payments/{payment}/refunds"), json!({ "amount_minor": 1 }));
    let (began, mut repeats) = (Instant::now(), 0);
    loop {
        let answer = client.post(&path, &name, &body).await?;
        match answer.status {
            200 => break,
            // On its way, or the same command is still being done.
            409 | 503 if began.elapsed() < PATIENCE => {
                repeats += 1;
                sleep(AGAIN_AFTER).await;
            }
            status => bail!("POST {path}: {status} {}", answer.body),
        }
    }
    Ok(Heard { payment, name, ms: began.elapsed().as_secs_f64() * 1e3, repeats })
}
