//! All SQL of the checker; it reads as the superuser and writes nothing.

use anyhow::Result;
use outbox::Event as _;
use proto::events::FeedHeartbeat;
use sqlx::PgPool;

use super::{Done, Event, Kept, Order, Payment, Posting};
use crate::store;

pub(super) async fn orders(pool: &PgPool) -> Result<Vec<Order>> {
    let rows = sqlx::query_as(
        "select id::text, payment_id::text, status, total_minor, currency from orders.orders order by orders.id",
    );
    Ok(rows.fetch_all(pool).await?)
}

pub(super) async fn owners(pool: &PgPool) -> Result<Vec<(String, String)>> {
    Ok(sqlx::query_as("select key, owner from strangler.owner where migration = 'payments'")
        .fetch_all(pool)
        .await?)
}

/// Whether a database has payments: a removed source has none any more.
pub(super) async fn has_payments(pool: &PgPool) -> Result<bool> {
    Ok(sqlx::query_scalar("select to_regclass('payments.payment') is not null").fetch_one(pool).await?)
}

pub(super) async fn payments(pool: &PgPool) -> Result<Vec<Payment>> {
    let rows = sqlx::query_as(
        "select id::text, tenant, order_id::text, status, amount_minor, currency, captured_minor, refunded_minor, version
         from payments.payment",
    );
    Ok(rows.fetch_all(pool).await?)
}

pub(super) async fn postings(pool: &PgPool) -> Result<Vec<Posting>> {
    let rows = sqlx::query_as(
        "select payment_id::text, transaction_id::text, account, amount_minor, currency
         from payments.ledger_entry order by 1, 2, 3",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Receipts per payment and subject, `payment` or `refund`.
pub(super) async fn receipts(pool: &PgPool) -> Result<Vec<(String, String, i64)>> {
    let rows =
        sqlx::query_as("select payment_id::text, subject, count(*) from notifications.receipt group by 1, 2");
    Ok(rows.fetch_all(pool).await?)
}

/// Payments with a command that has no definite outcome.
pub(super) async fn unknown(pool: &PgPool) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar("select payment_id::text from payments.intent where state <> 'done'");
    Ok(rows.fetch_all(pool).await?)
}

/// Callers' commands that were done while their keys are still kept: afterwards the same key is another command.
pub(super) async fn done(pool: &PgPool) -> Result<Vec<Done>> {
    let rows = sqlx::query_as(
        "select payment_id::text, operation, idempotency_key as key from payments.intent
         where state = 'done' and result not like 'refused:%' and idempotency_key is not null
           and created_at > now() - interval '7 days'",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// What is kept of the keys of commands that ended. By its own clock, either home may forget an answer an hour before the other.
pub(super) async fn answers(pool: &PgPool) -> Result<Vec<Kept>> {
    let rows = sqlx::query_as(
        "select payment_id::text, operation, key, fingerprint, command_id::text,
                coalesce(answer_version || ' ' || md5(answer), refusal) as answer,
                answer is not null and created_at > now() - interval '6 days 23 hours' as is_shared
         from payments.idempotency
         where (answer is not null or refusal is not null) and created_at > now() - interval '7 days'",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Without heartbeats, of which there may be another one between this look and that at the topic.
pub(super) async fn events(pool: &PgPool) -> Result<Vec<Event>> {
    let sql = "select id::text, topic, key, version from outbox.event where kind <> $1 order by position";
    Ok(sqlx::query_as(sql).bind(FeedHeartbeat::KIND).fetch_all(pool).await?)
}

/// What the inboxes of a database could not apply.
pub(super) async fn waiting(pool: &PgPool) -> Result<Vec<String>> {
    let mut lines = store::parked(pool).await?;
    lines.extend(store::unreadable(pool).await?);
    lines.extend(store::conflicts(pool).await?);
    Ok(lines)
}

/// What is still under way; cheap, to be asked again and again until all is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Orders without a final state.
    pub orders: i64,
    /// Commands without a definite outcome, in both homes.
    pub unknown: i64,
    /// Events that are not delivered, in both homes.
    pub pending: i64,
    /// Versions by which the two homes' payments differ in sum.
    pub behind: i64,
    /// Versions that handlers have not passed, in both homes.
    pub unhandled: i64,
}

impl Unsettled {
    /// Whether nothing is under way.
    pub fn is_settled(self) -> bool {
        self == Self::default()
    }
}

/// Asks both databases what is under way.
///
/// # Errors
/// When one does not answer.
pub async fn unsettled(source: &PgPool, target: &PgPool) -> Result<Unsettled> {
    let (at_source, at_target) = (under_way(source).await?, under_way(target).await?);
    Ok(Unsettled {
        orders: placed(source).await?,
        unknown: at_source.0 + at_target.0,
        pending: store::pending(source).await? + store::pending(target).await?,
        behind: (at_source.1 - at_target.1).abs(),
        unhandled: unhandled(source).await? + unhandled(target).await?,
    })
}

async fn placed(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from orders.orders where status = 'placed'")
        .fetch_one(pool)
        .await?)
}

/// Commands without a definite outcome, and the sum of all payments' versions.
async fn under_way(pool: &PgPool) -> Result<(i64, i64)> {
    let row = sqlx::query_as(
        "select (select count(*) from payments.intent where state <> 'done'),
                (select coalesce(sum(version), 0)::bigint from payments.payment)",
    );
    Ok(row.fetch_one(pool).await?)
}

/// Versions between each handler's cursors and the heads of the topic it reads.
async fn unhandled(pool: &PgPool) -> Result<i64> {
    let row = sqlx::query_scalar(
        "select coalesce(sum(head.versions - cursor.versions), 0)::bigint
         from (select topic, handler, sum(version) as versions from outbox.cursor group by 1, 2) cursor
         join (select topic, sum(version) as versions from outbox.head group by 1) head using (topic)",
    );
    Ok(row.fetch_one(pool).await?)
}
