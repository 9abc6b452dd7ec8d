//! Table `payments.payment`.

use std::time::Duration;

use proto::{Money, OrderId, PaymentId};
use sqlx::postgres::PgTransaction;
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Requested;
use crate::{CaptureMethod, Error, Page, Payment, Status, Tenant};

/// The pause before another home's payment is looked at again. Whoever hands one over resets its `look_at`.
const FOREIGN_PAUSE: Duration = Duration::from_secs(600);
/// The SQLSTATE of a lock that someone else has.
const LOCK_NOT_AVAILABLE: &str = "55P03";

#[derive(FromRow)]
struct Row {
    id: Uuid,
    tenant: String,
    order_id: Uuid,
    amount_minor: i64,
    currency: String,
    capture_method: String,
    payment_method: String,
    status: String,
    authorized_minor: i64,
    captured_minor: i64,
    refunded_minor: i64,
    provider_ref: Option<String>,
    version: i64,
    requested_at: OffsetDateTime,
    outcome_pending: bool,
}

impl TryFrom<Row> for Payment {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let corrupt = |error| Error::corrupt("a payment's row", error);
        let currency = row.currency.parse().map_err(|error| Error::corrupt("a payment's row", error))?;
        Ok(Payment {
            id: PaymentId::from_uuid(row.id),
            tenant: row.tenant.parse()?,
            order: OrderId::from_uuid(row.order_id),
            amount: Money::new(row.amount_minor, currency),
            capture_method: CaptureMethod::from_word(&row.capture_method).map_err(corrupt)?,
            payment_method: row.payment_method,
            status: Status::from_word(&row.status).map_err(corrupt)?,
            authorized_minor: row.authorized_minor,
            captured_minor: row.captured_minor,
            refunded_minor: row.refunded_minor,
            provider_ref: row.provider_ref,
            version: row.version,
            requested_at: row.requested_at,
            outcome_pending: row.outcome_pending,
        })
    }
}

/// A tenant's payment.
pub(crate) async fn find(pool: &PgPool, tenant: &Tenant, id: PaymentId) -> Result<Option<Payment>, Error> {
    let sql = "
        select p.*, exists (select from payments.intent i where i.payment_id = p.id and i.state <> 'done') as outcome_pending
        from payments.payment p where p.id = $1 and p.tenant = $2";
    let row: Option<Row> =
        sqlx::query_as(sql).bind(id.uuid()).bind(tenant.as_str()).fetch_optional(pool).await?;
    row.map(Payment::try_from).transpose()
}

/// A payment, whosever it is.
pub(crate) async fn load(executor: impl PgExecutor<'_>, id: PaymentId) -> Result<Option<Payment>, Error> {
    let sql = "select p.*, false as outcome_pending from payments.payment p where p.id = $1";
    let row: Option<Row> = sqlx::query_as(sql).bind(id.uuid()).fetch_optional(executor).await?;
    row.map(Payment::try_from).transpose()
}

/// Payments, whosever they are; for the engine. One that can't be read is told and left out.
pub(crate) async fn load_all(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Payment>, Error> {
    let sql = "select p.*, false as outcome_pending from payments.payment p where p.id = any($1)";
    let rows: Vec<Row> = sqlx::query_as(sql).bind(ids).fetch_all(connection).await?;
    let read = |row: Row| {
        let unread = |error: &Error| {
            tracing::error!(error = error as &dyn std::error::Error, "a payment can't be read");
        };
        Payment::try_from(row).inspect_err(unread).ok()
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// A tenant's payments, newest first: ids are UUIDs of version 7.
pub(crate) async fn list(pool: &PgPool, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error> {
    let sql = "
        select p.*, exists (select from payments.intent i where i.payment_id = p.id and i.state <> 'done') as outcome_pending
        from payments.payment p
        where p.tenant = $1 and ($2::uuid is null or p.id < $2)
        order by p.id desc limit $3";
    let after = page.after.map(PaymentId::uuid);
    let rows: Vec<Row> =
        sqlx::query_as(sql).bind(tenant.as_str()).bind(after).bind(page.size).fetch_all(pool).await?;
    rows.into_iter().map(Payment::try_from).collect()
}

/// Payments after one of them up to another, whosever they are, in the order of their ids.
pub(crate) async fn between(
    tx: &mut PgTransaction<'_>,
    after: Option<Uuid>,
    upto: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Payment>, Error> {
    let sql = "
        select p.*, false as outcome_pending from payments.payment p
        where p.id > $1 and p.id <= $2
        order by p.id limit $3";
    // No id is nil. So one plan with an index serves all pages.
    let (after, upto) = (after.unwrap_or_else(Uuid::nil), upto.unwrap_or_else(Uuid::max));
    let rows: Vec<Row> = sqlx::query_as(sql).bind(after).bind(upto).bind(limit).fetch_all(&mut **tx).await?;
    rows.into_iter().map(Payment::try_from).collect()
}

/// Locks a payment's row until `tx` ends. The owner row is locked before.
pub(crate) async fn lock(tx: &mut PgTransaction<'_>, id: PaymentId) -> Result<Option<Payment>, Error> {
    let sql = "select p.*, false as outcome_pending from payments.payment p where p.id = $1 for update";
    let row: Option<Row> = sqlx::query_as(sql).bind(id.uuid()).fetch_optional(&mut **tx).await?;
    row.map(Payment::try_from).transpose()
}

/// Locks the rows of many in their order, until `tx` ends. The owner rows are locked before. One without a row is missing.
pub(crate) async fn lock_all(tx: &mut PgTransaction<'_>, ids: &[Uuid]) -> Result<Vec<Payment>, Error> {
    let sql = "
        select p.*, false as outcome_pending from payments.payment p
        where p.id = any($1::uuid[]) order by p.id for update";
    let rows: Vec<Row> = sqlx::query_as(sql).bind(ids).fetch_all(&mut **tx).await?;
    rows.into_iter().map(Payment::try_from).collect()
}

/// As [`lock`], but does not wait: outer `None` when another transaction has the row. `tx` is of no more use then.
pub(crate) async fn lock_now(
    tx: &mut PgTransaction<'_>,
    id: PaymentId,
) -> Result<Option<Option<Payment>>, Error> {
    let sql =
        "select p.*, false as outcome_pending from payments.payment p where p.id = $1 for update nowait";
    let row: Result<Option<Row>, _> = sqlx::query_as(sql).bind(id.uuid()).fetch_optional(&mut **tx).await;
    match row {
        Ok(row) => Ok(Some(row.map(Payment::try_from).transpose()?)),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Stores a payment as its first event has it; the other home's is left alone for [`FOREIGN_PAUSE`]. A payment that is there
/// already stays as it is.
pub(crate) async fn insert_requested(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    is_foreign: bool,
) -> Result<(), Error> {
    let sql = "
        insert into payments.payment (id, tenant, order_id, amount_minor, currency, capture_method, payment_method, status,
                                      version, requested_at, elsewhere, look_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                clock_timestamp() + case when $11 then $12::double precision else 0 end * interval '1 second')
        on conflict (id) do nothing";
    sqlx::query(sql)
        .bind(payment.id.uuid())
        .bind(payment.tenant.as_str())
        .bind(payment.order.uuid())
        .bind(payment.amount.minor)
        .bind(payment.amount.currency.code())
        .bind(payment.capture_method.word())
        .bind(&payment.payment_method)
        .bind(payment.status.word())
        .bind(payment.version)
        .bind(payment.requested_at)
        .bind(is_foreign)
        .bind(FOREIGN_PAUSE.as_secs_f64())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes the owner's change over the version it was made from. False when the row is at another version.
pub(crate) async fn update(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    before: i64,
) -> Result<bool, Error> {
    let sql = "
        update payments.payment
        set status = $3, authorized_minor = $4, captured_minor = $5, refunded_minor = $6, provider_ref = $7, version = $8,
            updated_at = clock_timestamp()
        where id = $1 and version = $2";
    let done = sqlx::query(sql)
        .bind(payment.id.uuid())
        .bind(before)
        .bind(payment.status.word())
        .bind(payment.authorized_minor)
        .bind(payment.captured_minor)
        .bind(payment.refunded_minor)
        .bind(&payment.provider_ref)
        .bind(payment.version)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Replaces a replica's state of each of these payments by a later one, or starts it from one.
pub(crate) async fn replace(tx: &mut PgTransaction<'_>, payments: &[&Payment]) -> Result<(), Error> {
    let sql = "
        insert into payments.payment as p (id, tenant, order_id, amount_minor, currency, capture_method, payment_method,
            status, authorized_minor, captured_minor, refunded_minor, provider_ref, version, requested_at)
        select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::bigint[], $14::timestamptz[])
        on conflict (id) do update
        set status = excluded.status, authorized_minor = excluded.authorized_minor,
            captured_minor = excluded.captured_minor, refunded_minor = excluded.refunded_minor,
            provider_ref = excluded.provider_ref, version = excluded.version, updated_at = clock_timestamp()
        where p.version < excluded.version";
    let all = payments.iter();
    sqlx::query(sql)
        .bind(all.clone().map(|payment| payment.id.uuid()).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.tenant.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.order.uuid()).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.amount.minor).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.amount.currency.code()).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.capture_method.word()).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.payment_method.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.status.word()).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.authorized_minor).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.captured_minor).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.refunded_minor).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.provider_ref.as_deref()).collect::<Vec<_>>())
        .bind(all.clone().map(|payment| payment.version).collect::<Vec<_>>())
        .bind(all.map(|payment| payment.requested_at).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Leaves a requested payment, which is the other home's, alone for a while. One that is to be looked at at another time than whoever
/// claimed it had set is left as it is: it may have come to this home since.
pub(crate) async fn leave(pool: &PgPool, claimed: Requested) -> Result<(), Error> {
    let sql = "
        update payments.payment set look_at = now() + $3::double precision * interval '1 second', elsewhere = true
        where id = $1 and look_at = $2 and status = 'requested'";
    sqlx::query(sql)
        .bind(claimed.id.uuid())
        .bind(claimed.look_at)
        .bind(FOREIGN_PAUSE.as_secs_f64())
        .execute(pool)
        .await?;
    Ok(())
}
