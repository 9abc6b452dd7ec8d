//! The SQL of schema `webhooks`.

use std::time::Duration;

use chassis::role::quoted;
use proto::PaymentId;
use sqlx::{AssertSqlSafe, FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::event::Event;
use crate::{Error, Kept, Notice, State};

/// How often a store is tried that met a row which its own snapshot could not show.
const LOOKS_MAX: u32 = 3;

/// What became of an event that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is there now.
    Now,
    /// It was there.
    Before,
    /// Another event has its id.
    Otherwise,
    /// Too many are open already.
    Full,
}

/// A notice to deliver, for as long as its lease lasts.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) notice: Notice,
    /// This try included.
    pub(crate) tries: i32,
    /// How long it has been tried for.
    pub(crate) tried_for: Duration,
}

/// What is open, of one state.
#[derive(Debug, FromRow)]
pub(crate) struct Open {
    pub(crate) state: String,
    pub(crate) count: i64,
    pub(crate) oldest_age_s: f64,
}

#[derive(FromRow)]
struct DueRow {
    id: String,
    kind: String,
    object: String,
    status: Option<String>,
    payment_id: Uuid,
    tenant: String,
    command_id: Option<Uuid>,
    happened_at: OffsetDateTime,
    tries: i32,
    tried_for_s: f64,
}

#[derive(FromRow)]
struct KeptRow {
    id: String,
    kind: String,
    object: Option<String>,
    payment_id: Option<Uuid>,
    tenant: Option<String>,
    state: String,
    tries: i32,
    received_at: OffsetDateTime,
    why: Option<String>,
    decided_by: Option<String>,
    decided_why: Option<String>,
}

/// Stores an event, unless its id is there already.
pub(crate) async fn keep(
    pool: &PgPool,
    event: &Event,
    signature: &str,
    body: &[u8],
) -> Result<Stored, Error> {
    for _ in 0..LOOKS_MAX {
        match insert(pool, event, signature, body).await? {
            (true, _) => return Ok(Stored::Now),
            (false, Some(true)) => return Ok(Stored::Before),
            (false, Some(false)) => return Ok(Stored::Otherwise),
            // Somebody stored it while this statement ran; the next one sees the row.
            (false, None) => {}
        }
    }
    Err(Error::Corrupt(event.id.clone()))
}

/// What is there already under an event's id.
pub(crate) async fn find(pool: &PgPool, event: &Event) -> Result<Option<Stored>, Error> {
    let sql = "select n.fingerprint = $2 from webhooks.notice n where n.id = $1";
    let same: Option<bool> =
        sqlx::query_scalar(sql).bind(&event.id).bind(&event.fingerprint[..]).fetch_optional(pool).await?;
    Ok(same.map(|same| if same { Stored::Before } else { Stored::Otherwise }))
}

/// How many notices are open, counted up to `open_max`.
pub(crate) async fn count_open(pool: &PgPool, open_max: i64) -> Result<i64, Error> {
    let sql = "
        select count(*) from (
            select from webhooks.notice n where n.state in ('waiting', 'early', 'surprise', 'unplaced') limit $1
        ) counted";
    let mut tx = pool.begin_with("begin read only; set local statement_timeout = '2s'").await?;
    let open = sqlx::query_scalar(sql).bind(open_max).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(open)
}

/// Whether the row is new; whether the one that was there before says the same.
async fn insert(
    pool: &PgPool,
    event: &Event,
    signature: &str,
    body: &[u8],
) -> Result<(bool, Option<bool>), Error> {
    let sql = "
        with kept as (
            insert into webhooks.notice (id, fingerprint, body, signature, kind, happened_at, object, status, payment_id, tenant,
                                         command_id, state, ended_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, case when $12 = 'ignored' then clock_timestamp() end)
            on conflict (id) do nothing
            returning id
        )
        select exists (select from kept), (select n.fingerprint = $2 from webhooks.notice n where n.id = $1)";
    let notice = event.notice.as_ref();
    let state = if notice.is_some() { State::Waiting } else { State::Ignored };
    let row = sqlx::query_as(sql)
        .bind(&event.id)
        .bind(&event.fingerprint[..])
        .bind(body)
        .bind(signature)
        .bind(&event.kind)
        .bind(event.happened_at)
        .bind(notice.map(|notice| &notice.object))
        .bind(notice.map(|notice| &notice.status))
        .bind(notice.map(|notice| notice.payment.uuid()))
        .bind(notice.map(|notice| &notice.tenant))
        .bind(notice.and_then(|notice| notice.command))
        .bind(state.word())
        .fetch_one(pool)
        .await?;
    Ok(row)
}

/// Notices whose time has come. Nobody else gets them before `lease` is over.
pub(crate) async fn claim_due(pool: &PgPool, batch_max: i64, lease: Duration) -> Result<Vec<Due>, Error> {
    let sql = "
        with due as materialized (
            select n.id from webhooks.notice n
            where n.state in ('waiting', 'early', 'surprise', 'unplaced') and n.next_at <= now()
            order by n.next_at limit $1 for update skip locked
        )
        update webhooks.notice n
        set tries = n.tries + 1, next_at = now() + $2::double precision * interval '1 second'
        from due where n.id = due.id
        returning n.id, n.kind, n.object, n.status, n.payment_id, n.tenant, n.command_id, n.happened_at, n.tries,
            extract(epoch from now() - n.since)::double precision as tried_for_s";
    let rows: Vec<DueRow> =
        sqlx::query_as(sql).bind(batch_max).bind(lease.as_secs_f64()).fetch_all(pool).await?;
    Ok(rows.into_iter().map(Due::from).collect())
}

/// Custody ends: the owner has taken it.
pub(crate) async fn finish(pool: &PgPool, id: &str) -> Result<(), Error> {
    let sql = "
        update webhooks.notice set state = 'applied', ended_at = now(), why = null
        where id = $1 and state in ('waiting', 'early', 'surprise', 'unplaced')";
    sqlx::query(sql).bind(id).execute(pool).await?;
    Ok(())
}

/// The owner of a notice that a person is told of could not be asked: it stays what it is. False for any other notice.
pub(crate) async fn ask_again(pool: &PgPool, id: &str, pause: Duration) -> Result<bool, Error> {
    let sql = "
        update webhooks.notice
        set next_at = now() + $2::double precision * (0.75 + random() * 0.5) * interval '1 second'
        where id = $1 and state in ('surprise', 'unplaced')";
    let done = sqlx::query(sql).bind(id).bind(pause.as_secs_f64()).execute(pool).await?;
    Ok(done.rows_affected() == 1)
}

/// Custody goes on; the next try comes after `pause`, a quarter more or less. Nothing when somebody else ended it meanwhile.
pub(crate) async fn park(
    pool: &PgPool,
    id: &str,
    state: State,
    why: &str,
    pause: Duration,
) -> Result<(), Error> {
    let sql = "
        update webhooks.notice
        set state = $2, why = $3, next_at = now() + $4::double precision * (0.75 + random() * 0.5) * interval '1 second'
        where id = $1 and state in ('waiting', 'early', 'surprise', 'unplaced')";
    sqlx::query(sql).bind(id).bind(state.word()).bind(why).bind(pause.as_secs_f64()).execute(pool).await?;
    Ok(())
}

/// What is open, by state.
pub(crate) async fn open(pool: &PgPool) -> Result<Vec<Open>, Error> {
    let sql = "
        select n.state, count(*), extract(epoch from now() - min(n.received_at))::double precision as oldest_age_s
        from webhooks.notice n where n.state in ('waiting', 'early', 'surprise', 'unplaced') group by n.state";
    Ok(sqlx::query_as(sql).fetch_all(pool).await?)
}

/// Deletes notices that ended longer ago than `age`, the oldest first. Returns how many.
pub(crate) async fn forget_ended(pool: &PgPool, age: Duration, batch_max: i64) -> Result<u64, Error> {
    let sql = "
        delete from webhooks.notice where id in (
            select n.id from webhooks.notice n
            where n.ended_at is not null and n.ended_at < now() - $1::double precision * interval '1 second'
            order by n.ended_at limit $2 for update skip locked
        )";
    let done = sqlx::query(sql).bind(age.as_secs_f64()).bind(batch_max).execute(pool).await?;
    Ok(done.rows_affected())
}

/// The newest notices, of one state or of every open one.
pub(crate) async fn list(pool: &PgPool, state: Option<State>, limit: i64) -> Result<Vec<Kept>, Error> {
    let sql = "
        select n.id, n.kind, n.object, n.payment_id, n.tenant, n.state, n.tries, n.received_at, n.why, n.decided_by,
            n.decided_why
        from webhooks.notice n
        where case when $1::text is null then n.state in ('waiting', 'early', 'surprise', 'unplaced') else n.state = $1 end
        order by n.received_at desc, n.id limit $2";
    let rows: Vec<KeptRow> =
        sqlx::query_as(sql).bind(state.map(State::word)).bind(limit).fetch_all(pool).await?;
    rows.into_iter().map(Kept::try_from).collect()
}

/// Makes an open notice due now, with all its tries before it. False when there is none.
pub(crate) async fn retry(pool: &PgPool, id: &str) -> Result<bool, Error> {
    let sql = "
        update webhooks.notice set state = 'waiting', tries = 0, since = now(), next_at = now()
        where id = $1 and state in ('waiting', 'early', 'surprise', 'unplaced')";
    Ok(sqlx::query(sql).bind(id).execute(pool).await?.rows_affected() == 1)
}

/// Ends an open notice by a person's decision, which stays in the row. False when there is none.
pub(crate) async fn dismiss(pool: &PgPool, id: &str, by: &str, reason: &str) -> Result<bool, Error> {
    let sql = "
        update webhooks.notice set state = 'dismissed', ended_at = now(), decided_by = $2, decided_why = $3
        where id = $1 and state in ('waiting', 'early', 'surprise', 'unplaced')";
    Ok(sqlx::query(sql).bind(id).bind(by).bind(reason).execute(pool).await?.rows_affected() == 1)
}

pub(crate) async fn grant_tables(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    let sql = format!("grant select, insert, update, delete on webhooks.notice to {}", quoted(role));
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.map(drop)
}

impl From<DueRow> for Due {
    fn from(row: DueRow) -> Self {
        let notice = Notice {
            id: row.id,
            kind: row.kind,
            object: row.object,
            status: row.status.unwrap_or_default(),
            payment: PaymentId::from_uuid(row.payment_id),
            tenant: row.tenant,
            command: row.command_id,
            happened_at: row.happened_at,
        };
        Self { notice, tries: row.tries, tried_for: Duration::from_secs_f64(row.tried_for_s.max(0.0)) }
    }
}

impl TryFrom<KeptRow> for Kept {
    type Error = Error;

    fn try_from(row: KeptRow) -> Result<Self, Error> {
        let state = row.state.parse().map_err(|_| Error::Corrupt(row.id.clone()))?;
        Ok(Self {
            id: row.id,
            kind: row.kind,
            object: row.object,
            payment: row.payment_id.map(PaymentId::from_uuid),
            tenant: row.tenant,
            state,
            tries: row.tries,
            received_at: row.received_at,
            why: row.why,
            decision: row.decided_by.zip(row.decided_why),
        })
    }
}
