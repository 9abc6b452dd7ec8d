//! Tables `payments.difference` and `payments.reconciliation`.

use std::collections::HashMap;

use proto::PaymentId;
use sqlx::postgres::PgTransaction;
use sqlx::{Connection as _, FromRow, PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::reconcile::{Accepted, BY, Difference, DifferenceKind, Found, LastRun};
use crate::{Error, Tenant};

/// Accepted differences that travel with a payment, the newest.
const ACCEPTED_MAX: i64 = 50;

#[derive(FromRow)]
struct AcceptedRow {
    subject: String,
    at: OffsetDateTime,
    #[sqlx(flatten)]
    row: Row,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    kind: String,
    tenant: Option<String>,
    payment_id: Option<Uuid>,
    object: String,
    here_minor: Option<i64>,
    there_minor: Option<i64>,
    currency: Option<String>,
    detail: String,
    opened_at: OffsetDateTime,
    closed_by: Option<String>,
    reason: Option<String>,
}

impl TryFrom<Row> for Difference {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let kind = DifferenceKind::from_word(&row.kind);
        let currency = row.currency.map(|currency| currency.parse()).transpose();
        Ok(Difference {
            id: row.id,
            kind: kind.map_err(|error| Error::corrupt("a difference's row", error))?,
            payment: match (row.tenant, row.payment_id) {
                (Some(tenant), Some(id)) => Some((PaymentId::from_uuid(id), tenant.parse::<Tenant>()?)),
                _ => None,
            },
            object: row.object,
            here_minor: row.here_minor,
            there_minor: row.there_minor,
            currency: currency.map_err(|error| Error::corrupt("a difference's row", error))?,
            detail: row.detail,
            opened_at: row.opened_at,
            closed: row.closed_by.zip(row.reason),
        })
    }
}

impl TryFrom<AcceptedRow> for Accepted {
    type Error = Error;

    fn try_from(AcceptedRow { subject, at, row }: AcceptedRow) -> Result<Self, Error> {
        let Difference { kind, payment, object, here_minor, there_minor, currency, detail, closed, .. } =
            row.try_into()?;
        let (by, reason) = closed.unwrap_or_default();
        let found = Found { subject, kind, payment, object, here_minor, there_minor, currency, detail, at };
        Ok(Accepted { found, by, reason })
    }
}

/// A turn at reconciling: one at a time for a database. It ends with its connection, however its holder ends.
#[derive(Debug)]
pub(crate) struct Turn(PgConnection);

impl Turn {
    /// Takes it; `None` when someone else has it.
    pub(crate) async fn take(pool: &PgPool) -> Result<Option<Self>, Error> {
        let mut connection = pool.acquire().await?.detach();
        let sql = "select pg_try_advisory_lock(hashtextextended('payments.reconciliation', 0))";
        let taken: bool = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        if taken {
            return Ok(Some(Self(connection)));
        }
        connection.close().await?;
        Ok(None)
    }

    /// The database's clock, by which ages are told.
    pub(crate) async fn now(&mut self) -> Result<OffsetDateTime, Error> {
        Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut self.0).await?)
    }

    /// Gives it back, by name: a server sees the end of a connection when it sees it.
    pub(crate) async fn end(mut self) -> Result<(), Error> {
        let sql = "select pg_advisory_unlock(hashtextextended('payments.reconciliation', 0))";
        sqlx::query(sql).execute(&mut self.0).await?;
        Ok(self.0.close().await?)
    }
}

/// Opens a difference. An open one that has changed is closed, and opened under a new number: whoever decides on a number decides
/// on what it showed. One that a person accepted stays closed while it is found as it was. Returns how many were opened.
pub(crate) async fn open(pool: &PgPool, found: &Found) -> Result<u64, Error> {
    let mut tx = pool.begin().await?;
    let changed = "
        update payments.difference d
        set state = 'closed', closed_at = clock_timestamp(), closed_by = $8, reason = 'it has changed'
        where d.subject = $1 and d.state = 'open'
          and (d.kind, d.payment_id, d.here_minor, d.there_minor, d.currency, d.detail) is distinct from ($2, $3, $4, $5, $6, $7)";
    sqlx::query(changed)
        .bind(&found.subject)
        .bind(found.kind.word())
        .bind(found.payment.as_ref().map(|(id, _)| id.uuid()))
        .bind(found.here_minor)
        .bind(found.there_minor)
        .bind(found.currency.map(|currency| currency.to_string()))
        .bind(&found.detail)
        .bind(BY)
        .execute(&mut *tx)
        .await?;
    let sql = "
        with last as (
            select d.accepted, d.kind, d.here_minor, d.there_minor, d.currency, d.detail from payments.difference d
            where d.subject = $1 order by d.id desc limit 1
        )
        insert into payments.difference (subject, kind, tenant, payment_id, object, here_minor, there_minor, currency,
                                              detail, at)
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
        where not exists (
            select from last
            where last.accepted and (last.kind, last.here_minor, last.there_minor, last.currency, last.detail)
                is not distinct from ($2, $6, $7, $8, $9))
        on conflict (subject) where state = 'open' do nothing";
    let done = sqlx::query(sql)
        .bind(&found.subject)
        .bind(found.kind.word())
        .bind(found.payment.as_ref().map(|(_, tenant)| tenant.as_str()))
        .bind(found.payment.as_ref().map(|(id, _)| id.uuid()))
        .bind(&found.object)
        .bind(found.here_minor)
        .bind(found.there_minor)
        .bind(found.currency.map(|currency| currency.to_string()))
        .bind(&found.detail)
        .bind(found.at)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

/// Whether a difference is open.
pub(crate) async fn is_open(pool: &PgPool, subject: &str) -> Result<bool, Error> {
    let sql = "select exists (select from payments.difference where subject = $1 and state = 'open')";
    Ok(sqlx::query_scalar(sql).bind(subject).fetch_one(pool).await?)
}

/// Closes those of these subjects that are open, each with its reason, and returns how many were.
pub(crate) async fn close(pool: &PgPool, by: &str, closing: &[(String, String)]) -> Result<u64, Error> {
    let sql = "
        update payments.difference d set state = 'closed', closed_at = clock_timestamp(), closed_by = $1, reason = c.reason
        from unnest($2::text[], $3::text[]) as c (subject, reason)
        where d.subject = c.subject and d.state = 'open'";
    let (subjects, reasons): (Vec<&str>, Vec<&str>) =
        closing.iter().map(|(subject, reason)| (subject.as_str(), reason.as_str())).unzip();
    Ok(sqlx::query(sql).bind(by).bind(subjects).bind(reasons).execute(pool).await?.rows_affected())
}

/// Closes all open ones of payments that are, or should be, in the list since a time, and returns how many were: for a home that owns
/// no payment.
pub(crate) async fn close_foreign(
    pool: &PgPool,
    by: &str,
    reason: &str,
    since: OffsetDateTime,
) -> Result<u64, Error> {
    let sql = "
        update payments.difference set state = 'closed', closed_at = clock_timestamp(), closed_by = $1, reason = $2
        where state = 'open' and payment_id is not null and at >= $3";
    Ok(sqlx::query(sql).bind(by).bind(reason).bind(since).execute(pool).await?.rows_affected())
}

/// Closes states that are told of payments which are not authorized any more.
pub(crate) async fn close_states(pool: &PgPool, by: &str) -> Result<u64, Error> {
    let sql = "
        update payments.difference d
        set state = 'closed', closed_at = clock_timestamp(), closed_by = $1, reason = 'the payment is ' || p.status || ' here now'
        from payments.payment p
        where d.state = 'open' and d.kind = 'state' and p.id = d.payment_id and p.status <> 'authorized'";
    Ok(sqlx::query(sql).bind(by).execute(pool).await?.rows_affected())
}

/// Accepts an open difference for a person; returns whose payment's it was. `None` when none of this number is open.
pub(crate) async fn accept(
    tx: &mut PgTransaction<'_>,
    id: i64,
    by: &str,
    reason: &str,
) -> Result<Option<Difference>, Error> {
    let sql = "
        update payments.difference
        set state = 'closed', accepted = true, closed_at = clock_timestamp(), closed_by = $2, reason = $3
        where id = $1 and state = 'open'
        returning *";
    let row: Option<Row> =
        sqlx::query_as(sql).bind(id).bind(by).bind(reason).fetch_optional(&mut **tx).await?;
    row.map(Difference::try_from).transpose()
}

/// What of these payments was accepted and has not changed since, at most [`ACCEPTED_MAX`] for each, by payment; one without any is
/// missing.
pub(crate) async fn load_accepted(
    tx: &mut PgTransaction<'_>,
    payments: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Accepted>>, Error> {
    let sql = "
        select d.* from unnest($1::uuid[]) as p (id)
        cross join lateral (
            select a.* from payments.difference a
            where a.payment_id = p.id and a.accepted
              and not exists (select from payments.difference l where l.subject = a.subject and l.id > a.id)
            order by a.id desc limit $2
        ) d
        order by d.id";
    let rows: Vec<AcceptedRow> =
        sqlx::query_as(sql).bind(payments).bind(ACCEPTED_MAX).fetch_all(&mut **tx).await?;
    let mut accepted: HashMap<Uuid, Vec<Accepted>> = HashMap::new();
    for row in rows {
        let Some(payment) = row.row.payment_id else { continue };
        accepted.entry(payment).or_default().push(row.try_into()?);
    }
    Ok(accepted)
}

/// Keeps what was accepted at the other home: here it is closed as it would be had the person decided here. One that is kept already
/// changes nothing.
pub(crate) async fn keep_accepted(tx: &mut PgTransaction<'_>, accepted: &Accepted) -> Result<(), Error> {
    let sql = "
        with same as (
            update payments.difference d
            set state = 'closed', accepted = true, closed_at = clock_timestamp(), closed_by = $11, reason = $12
            where d.subject = $1 and d.state = 'open'
              and (d.kind, d.here_minor, d.there_minor, d.currency, d.detail) is not distinct from ($2, $6, $7, $8, $9)
            returning d.id
        ), last as (
            select d.accepted, d.kind, d.here_minor, d.there_minor, d.currency, d.detail from payments.difference d
            where d.subject = $1 order by d.id desc limit 1
        )
        insert into payments.difference (subject, kind, tenant, payment_id, object, here_minor, there_minor, currency,
                                         detail, at, state, accepted, closed_at, closed_by, reason)
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'closed', true, clock_timestamp(), $11, $12
        where not exists (select from same)
          and not exists (
            select from last
            where last.accepted and (last.kind, last.here_minor, last.there_minor, last.currency, last.detail)
                is not distinct from ($2, $6, $7, $8, $9))";
    let Accepted { found, by, reason } = accepted;
    sqlx::query(sql)
        .bind(&found.subject)
        .bind(found.kind.word())
        .bind(found.payment.as_ref().map(|(_, tenant)| tenant.as_str()))
        .bind(found.payment.as_ref().map(|(id, _)| id.uuid()))
        .bind(&found.object)
        .bind(found.here_minor)
        .bind(found.there_minor)
        .bind(found.currency.map(|currency| currency.to_string()))
        .bind(&found.detail)
        .bind(found.at)
        .bind(by)
        .bind(reason)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Differences, the newest first: up to `open_max` of the open ones, and behind them up to `closed_max` of the closed ones.
pub(crate) async fn differences(
    pool: &PgPool,
    open_max: i64,
    closed_max: i64,
) -> Result<Vec<Difference>, Error> {
    let sql = "
        (select * from payments.difference where state = 'open' order by id desc limit $1)
        union all
        (select * from payments.difference where state = 'closed' order by id desc limit $2)";
    let rows: Vec<Row> = sqlx::query_as(sql).bind(open_max).bind(closed_max).fetch_all(pool).await?;
    rows.into_iter().map(Difference::try_from).collect()
}

/// How many are open, by kind.
pub(crate) async fn count_open(pool: &PgPool) -> Result<Vec<(DifferenceKind, i64)>, Error> {
    let sql = "select kind, count(*) from payments.difference where state = 'open' group by kind";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(pool).await?;
    let read = |(kind, count): (String, i64)| {
        let kind = DifferenceKind::from_word(&kind);
        Ok((kind.map_err(|error| Error::corrupt("a difference's row", error))?, count))
    };
    rows.into_iter().map(read).collect()
}

/// When the lines of open differences from before a time are, or should be, in the list, in order. More than the most are drawn by
/// lot: old ones that only a person ends must not keep the others.
pub(crate) async fn open_before(
    pool: &PgPool,
    before: OffsetDateTime,
    batch_max: i64,
) -> Result<Vec<OffsetDateTime>, Error> {
    let sql = "
        select drawn.at from (
            select at from payments.difference where state = 'open' and kind <> 'state' and at < $1
            order by random() limit $2
        ) drawn order by drawn.at";
    Ok(sqlx::query_scalar(sql).bind(before).bind(batch_max).fetch_all(pool).await?)
}

/// The last whole run.
pub(crate) async fn last_run(pool: &PgPool) -> Result<Option<LastRun>, Error> {
    let sql = "
        select began_at, extract(epoch from clock_timestamp() - ended_at)::double precision, lines, states_after
        from payments.reconciliation";
    let row: Option<(OffsetDateTime, f64, i64, Option<Uuid>)> =
        sqlx::query_as(sql).fetch_optional(pool).await?;
    Ok(row.map(|(began_at, age_s, lines, states_after)| LastRun { began_at, age_s, lines, states_after }))
}

/// Keeps that a run was whole.
pub(crate) async fn keep_run(
    pool: &PgPool,
    began_at: OffsetDateTime,
    lines: i64,
    states_after: Option<Uuid>,
) -> Result<(), Error> {
    let sql = "
        insert into payments.reconciliation (began_at, ended_at, lines, states_after)
        values ($1, clock_timestamp(), $2, $3)
        on conflict (only_row) do update
        set began_at = excluded.began_at, ended_at = excluded.ended_at, lines = excluded.lines,
            states_after = excluded.states_after";
    sqlx::query(sql).bind(began_at).bind(lines).bind(states_after).execute(pool).await?;
    Ok(())
}
