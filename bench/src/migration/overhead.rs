//! What the seam costs a read, and the owner's lock a write: pairs of the same call with it and without, on the shop's own tables and
//! under the role of its payments module, in this process; beside the routes that pay for it, through the shop's HTTP.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::tests::Side;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use sqlx::{
    PgPool,
    postgres::{PgPoolOptions, PgRow},
};
use strangler::{Answer, Home, Homes, Owners, Seam};
use uuid::Uuid;

use super::field::{Field, TENANT};
use crate::payments::quantile;

/// Of the route's time so much is allowed ..
const SHARE_ALLOWED: f64 = 0.05;

/// .. or so many microseconds, whichever is more.
const MICROS_ALLOWED: f64 = 100.0;

/// As the payments module finds one.
const FIND: &str = "
    select p.*, exists (select from payments.intent i where i.payment_id = p.id and i.state <> 'done') as outcome_pending
    from payments.payment p where p.id = $1 and p.tenant = $2";

/// The first lock of a write after the owner's.
const LOCK: &str = "select from payments.payment where id = $1 for update";

/// The same work with and without: microseconds of each call.
pub(super) struct Pair {
    pub(super) with: Vec<f64>,
    pub(super) without: Vec<f64>,
}

/// What a round found. Routes are in microseconds.
pub(super) struct Overhead {
    /// Reads of payments whose owner is not in the cache.
    pub(super) cold: Pair,
    /// Reads of payments whose owner is.
    pub(super) warm: Pair,
    /// Writing transactions.
    pub(super) lock: Pair,
    /// `GET /v1/payments/{id}`.
    pub(super) read: Vec<f64>,
    /// `POST /v1/payments/{id}/refunds`.
    pub(super) write: Vec<f64>,
}

/// A home's desk with nothing around it: one statement.
struct Desk(PgPool);

struct Desks;

impl Homes for Desks {
    type Desk = Desk;
    type Error = anyhow::Error;

    fn answer(_: &anyhow::Error, _: Home) -> Answer {
        Answer::Final
    }

    fn unroutable(error: strangler::Error) -> anyhow::Error {
        error.into()
    }
}

impl Desk {
    async fn find(&self, payment: Uuid) -> Result<PgRow> {
        Ok(sqlx::query(FIND).bind(payment).bind(TENANT).fetch_one(&self.0).await?)
    }
}

impl Pair {
    /// How much longer the median call with it took, in microseconds.
    pub(super) fn cost(&mut self) -> f64 {
        quantile(&mut self.with, 0.5) - quantile(&mut self.without, 0.5)
    }
}

/// A cost over what is allowed beside a route whose time has it in it: at most 1 is wanted.
pub(super) fn over_allowed(cost_us: f64, route_us: f64) -> f64 {
    cost_us / MICROS_ALLOWED.max(SHARE_ALLOWED * (route_us - cost_us))
}

/// Measures all of them on these payments, which are the monolith's, one call after the other.
pub(super) async fn round(field: &Field<'_>, some: &[Uuid], name: &str) -> Result<Overhead> {
    let pool = pool(field).await?;
    let owners = Owners::new("payments", pool.clone());
    let desk = Arc::new(Desk(pool.clone()));
    let seam: Seam<Desks> = Seam::new(owners.clone(), Arc::clone(&desk), Arc::clone(&desk));
    let (cold, warm) = reads(&seam, &desk, some).await?;
    let lock = Box::pin(locks(&pool, &owners, some)).await?;
    pool.close().await;
    let (mut read, mut write) = (Vec::new(), Vec::new());
    for payment in some {
        let path = format!("/v1/payments/{payment}");
        let (answer, us) = timed(field.client.get(&path)).await?;
        ensure!(answer.status == 200, "GET {path}: {} {}", answer.status, answer.body);
        read.push(us);
        let (path, key) = (format!("{path}/refunds"), format!("{name}-{payment}"));
        let body = json!({ "amount_minor": 1 });
        let (answer, us) = timed(field.client.post(&path, &key, &body)).await?;
        ensure!(answer.status == 200, "POST {path}: {} {}", answer.status, answer.body);
        write.push(us);
    }
    Ok(Overhead { cold, warm, lock, read, write })
}

/// As the payments module connects: its role, and no ping before each statement.
async fn pool(field: &Field<'_>) -> Result<PgPool> {
    let roles = field.shop.role_urls(Side::Source);
    let (_, url) = roles.into_iter().find(|(role, _)| role == "payments").context("no role for payments")?;
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    Ok(pool.connect(&url).await?)
}

/// Each payment is read once first, so that the database has its page at hand for both of a pair; they take turns in being first.
async fn reads(seam: &Seam<Desks>, desk: &Desk, some: &[Uuid]) -> Result<(Pair, Pair)> {
    let (mut cold, mut warm) = (Pair::empty(some.len()), Pair::empty(some.len()));
    for (n, payment) in some.iter().enumerate() {
        let (payment, key) = (*payment, payment.to_string());
        desk.find(payment).await?;
        let through = || seam.read(&key, move |desk: Arc<Desk>| async move { desk.find(payment).await });
        // The owner is asked for at the first read through the seam, and known at the second.
        for pair in [&mut cold, &mut warm] {
            if n % 2 == 0 {
                pair.with.push(timed(through()).await?.1);
                pair.without.push(timed(desk.find(payment)).await?.1);
            } else {
                pair.without.push(timed(desk.find(payment)).await?.1);
                pair.with.push(timed(through()).await?.1);
            }
        }
    }
    Ok((cold, warm))
}

async fn locks(pool: &PgPool, owners: &Owners, some: &[Uuid]) -> Result<Pair> {
    let mut pair = Pair::empty(some.len());
    for (n, payment) in some.iter().enumerate() {
        let (with, without) = (locked(pool, owners, *payment), unlocked(pool, *payment));
        if n % 2 == 0 {
            pair.with.push(timed(with).await?.1);
            pair.without.push(timed(without).await?.1);
        } else {
            pair.without.push(timed(without).await?.1);
            pair.with.push(timed(with).await?.1);
        }
    }
    Ok(pair)
}

/// A writing transaction up to its first locks: the owner's row, then the payment's.
async fn locked(pool: &PgPool, owners: &Owners, payment: Uuid) -> Result<()> {
    let mut tx = pool.begin().await?;
    owners.lock(&mut tx, &payment.to_string()).await?;
    sqlx::query(LOCK).bind(payment).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

/// The same without the owner's.
async fn unlocked(pool: &PgPool, payment: Uuid) -> Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query(LOCK).bind(payment).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

/// With the microseconds it took.
async fn timed<T>(call: impl Future<Output = Result<T>>) -> Result<(T, f64)> {
    let began = Instant::now();
    let answer = call.await?;
    Ok((answer, micros(began.elapsed())))
}

fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

impl Pair {
    fn empty(calls: usize) -> Self {
        Self { with: Vec::with_capacity(calls), without: Vec::with_capacity(calls) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_may_be_100_microseconds_or_5_percent_of_the_route_without_it() {
        // 120 of 1,120: over 100 and over 5 % of 1,000.
        assert!((over_allowed(120.0, 1_120.0) - 1.2).abs() < 1e-9);
        // 120 of 10,120: over 100, but under 5 % of 10,000.
        assert!((over_allowed(120.0, 10_120.0) - 0.24).abs() < 1e-9);
        assert!(over_allowed(-3.0, 500.0) < 0.0);
    }

    #[test]
    fn a_cost_is_the_difference_of_the_medians() {
        let mut pair = Pair { with: vec![30.0, 10.0, 20.0], without: vec![5.0, 99.0, 15.0] };
        assert!((pair.cost() - 5.0).abs() < 1e-9);
    }
}
