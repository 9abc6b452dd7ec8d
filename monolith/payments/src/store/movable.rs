//! What a hand-over asks of the tables.

use sqlx::FromRow;
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use super::idempotency::KEEP;
use crate::Error;

/// What a payment's row, and those that refer to it, say of handing it on.
#[derive(Debug, FromRow)]
pub(crate) struct Standing {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    /// The version its stream ends with here.
    pub(crate) head: i64,
    /// The operation of the command without an outcome.
    pub(crate) open: Option<String>,
    /// An idempotency key is claimed by a command in flight.
    pub(crate) claimed: bool,
    /// What its whole takes as a message, at most.
    pub(crate) bytes: i64,
}

/// Locks the rows that nobody else has, in order, until `tx` ends, and says which.
pub(crate) async fn lock_free(tx: &mut PgTransaction<'_>, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    let sql = "
        select p.id from payments.payment p where p.id = any($1::uuid[]) order by p.id for update skip locked";
    Ok(sqlx::query_scalar(sql).bind(ids).fetch_all(&mut **tx).await?)
}

/// How payments stand; one without a row is missing. A statement after those that lock: it sees what they waited for. Bytes are
/// counted from above: what surrounds the texts of a line, an adjustment or an answer is below what is added for it. Only answers
/// that are still kept travel, so only those count. Their keys are looked at payment by payment: by `exists`, a plan may read all there are.
pub(crate) async fn standings(
    tx: &mut PgTransaction<'_>,
    topic: &str,
    ids: &[Uuid],
) -> Result<Vec<Standing>, Error> {
    let sql = "
        select p.id, p.version, k.head,
            (select i.operation from payments.intent i where i.payment_id = p.id and i.state <> 'done' limit 1) as open,
            kept.claimed,
            1000 + octet_length(p.payment_method) + octet_length(p.tenant)
            + (select 120 * count(*) from payments.ledger_entry e where e.payment_id = p.id)
            + (select coalesce(sum(100 + octet_length(a.object) + octet_length(a.reason)
                                   + octet_length(coalesce(a.payment_intent, ''))), 0)::bigint
               from payments.adjustment a where a.payment_id = p.id)
            + (select coalesce(sum(150 + octet_length(d.subject) + octet_length(d.object) + octet_length(d.detail)
                                   + octet_length(d.closed_by) + octet_length(d.reason)), 0)::bigint
               from payments.difference d where d.payment_id = p.id and d.accepted)
            + kept.bytes as bytes
        from unnest($2::uuid[], outbox.head_versions($1, $2::uuid[]::text[])) as k (id, head)
        cross join lateral (select p.* from payments.payment p where p.id = k.id limit 1) p
        cross join lateral (
            select coalesce(bool_or(i.answer is null and i.refusal is null), false) as claimed,
                coalesce(sum(120 + octet_length(i.key) + octet_length(i.fingerprint) + coalesce(octet_length(i.answer), 0)
                             + octet_length(coalesce(i.refusal, '')))
                         filter (where (i.answer is not null or i.refusal is not null)
                                   and i.created_at > now() - $3::double precision * interval '1 second'), 0)::bigint as bytes
            from payments.idempotency i where i.tenant = p.tenant and i.payment_id = p.id
        ) kept";
    let standings = sqlx::query_as(sql).bind(topic).bind(ids).bind(KEEP.as_secs_f64());
    Ok(standings.fetch_all(&mut **tx).await?)
}

/// Those of which there is a row.
pub(crate) async fn present(tx: &mut PgTransaction<'_>, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    let sql = "select p.id from payments.payment p where p.id = any($1::uuid[])";
    Ok(sqlx::query_scalar(sql).bind(ids).fetch_all(&mut **tx).await?)
}

/// Locks the heads of these keys, in the order given, until `tx` ends, and returns their versions in that order.
pub(crate) async fn lock_heads(
    tx: &mut PgTransaction<'_>,
    topic: &str,
    keys: &[String],
) -> Result<Vec<i64>, Error> {
    let sql = "select outbox.lock($1, k.key) from unnest($2::text[]) with ordinality as k (key, n)";
    Ok(sqlx::query_scalar(sql).bind(topic).bind(keys).fetch_all(&mut **tx).await?)
}

/// Notes that an event without a change of state was published of each of these payments. Their rows are locked; returns how many
/// there are.
pub(crate) async fn advance(tx: &mut PgTransaction<'_>, ids: &[Uuid]) -> Result<u64, Error> {
    let sql = "
        update payments.payment set version = version + 1, updated_at = clock_timestamp()
        where id = any($1::uuid[])";
    Ok(sqlx::query(sql).bind(ids).execute(&mut **tx).await?.rows_affected())
}

/// Lets an engine look at once at those of these payments that are not begun. The time is that of the statement: the transaction
/// may have begun long before, and a look reads what has become due since the last one.
pub(crate) async fn look_now(tx: &mut PgTransaction<'_>, ids: &[Uuid]) -> Result<(), Error> {
    let sql = "
        update payments.payment set look_at = clock_timestamp(), looks = 0, elsewhere = false
        where id = any($1::uuid[]) and status = 'requested'";
    sqlx::query(sql).bind(ids).execute(&mut **tx).await?;
    Ok(())
}

/// Makes the open intents of these payments due.
pub(crate) async fn due_now(tx: &mut PgTransaction<'_>, ids: &[Uuid]) -> Result<(), Error> {
    let sql = "
        update payments.intent set next_at = clock_timestamp() where payment_id = any($1::uuid[]) and state <> 'done'";
    sqlx::query(sql).bind(ids).execute(&mut **tx).await?;
    Ok(())
}
