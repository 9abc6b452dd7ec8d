//! The queue of what is not delivered.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, Row as _, postgres::PgRow, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Headers;

/// A row of the queue, without its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) bucket: i16,
    pub(crate) position: i64,
    pub(crate) created_at: OffsetDateTime,
    /// The position of the key's event before.
    pub(crate) previous: Option<i64>,
    pub(crate) ahead: Ahead,
}

/// What the reading statement found of a row's previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// It is not pending, or there never was one: this row may be sent.
    Gone,
    /// It is pending too.
    Waiting,
    /// It was refused, or is in quarantine.
    Refused,
}

/// Which part of the queue to read: of each bucket the positions in `(after, until]`, at most `rows` of them.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) buckets: Vec<i16>,
    pub(crate) after: Vec<i64>,
    pub(crate) until: Vec<i64>,
    /// Rows looked at per bucket.
    pub(crate) rows: i64,
    /// Returns only rows that may be sent, and the last one looked at of each bucket that has more.
    pub(crate) heads_only: bool,
    /// The queue's end was reached before: reads what is in the log behind this position, and at these, instead, and brings
    /// small events along.
    pub(crate) tail: Option<(i64, Vec<i64>)>,
}

/// What was read, in the order of positions within each bucket.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The last position drawn when it was read.
    pub(crate) drawn: i64,
    pub(crate) rows: Vec<Pending>,
    /// Buckets with more rows, and the last position looked at there.
    pub(crate) more: Vec<(i16, i64)>,
    /// At the queue's end: all positions that were seen, pending here or not.
    pub(crate) seen: Vec<i64>,
    /// Events that were brought along.
    pub(crate) events: Vec<(i64, Logged)>,
}

/// Reads rows that were never refused. One walk of the primary key per bucket: `bucket = any(..) order by position` would
/// read the whole table.
pub(crate) const READ_PAGE: &str = "
    select 0::smallint as bucket, s.last_value - (not s.is_called)::integer as position, now() as created_at, null::bigint as previous,
           0::smallint as ahead, 0::bigint as n
    from outbox.position s
    union all
    select found.* from (
        select held.bucket, q.position, q.created_at, q.previous,
               coalesce((select case when b.retry_at is null then 1 else 2 end from outbox.pending b
                         where b.bucket = held.bucket and b.position = q.previous), 0)::smallint as ahead, q.n
        from unnest($1::smallint[], $2::bigint[], $3::bigint[]) as held (bucket, after, until)
        cross join lateral (
            select p.position, p.created_at, p.previous, row_number() over (order by p.position) as n
            from outbox.pending p
            where p.bucket = held.bucket and p.position > held.after and p.position <= held.until
              and p.retry_at is null
            order by p.position
            limit $4
        ) q
    ) found
    where not $5 or found.ahead = 0 or found.n = $4";

pub(crate) async fn read_page(connection: &mut PgConnection, range: &Range) -> sqlx::Result<Page> {
    if let Some((after, gaps)) = &range.tail {
        return read_tail(connection, range, *after, gaps).await;
    }
    let found = sqlx::query(READ_PAGE)
        .bind(&range.buckets)
        .bind(&range.after)
        .bind(&range.until)
        .bind(range.rows)
        .bind(range.heads_only)
        .fetch_all(connection)
        .await?;
    let mut page = Page { rows: Vec::with_capacity(found.len()), ..Page::default() };
    for row in found {
        let n: i64 = row.try_get(5)?;
        let position = row.try_get(1)?;
        if n == 0 {
            page.drawn = position;
            continue;
        }
        page.rows.push(pending(&row)?);
        if n == range.rows {
            page.more.push((row.try_get(0)?, position));
        }
    }
    Ok(page)
}

/// Reads the end of the queue, of all buckets at once, by what is new in the log: a few rows, where a walk of each bucket costs
/// a look at each. What has no event, or one of another hour (whose partition is not looked at), is found by a pass, which looks
/// up to what has been drawn. The limits of one keep the planner from walking the queue, or the hour.
pub(crate) const READ_TAIL: &str = "
    select tail.*, s.last_value - (not s.is_called)::integer as drawn
    from outbox.position s
    left join lateral (
        select e.bucket, e.position, e.created_at, e.previous,
               coalesce((select case when b.retry_at is null then 1 else 2 end from outbox.pending b
                         where b.bucket = e.bucket and b.position = e.previous), 0)::smallint as ahead,
               waiting.bucket is not null as waits, e.id, e.topic, e.key, e.version, e.kind, e.origin,
               case when waiting.bucket is not null and octet_length(e.payload) <= 2048 then e.payload end as payload,
               case when waiting.bucket is not null and pg_column_size(e.headers) <= 2048 then e.headers end as headers
        from (
            (select l.* from outbox.event l
             where l.position > $1 and l.created_at between now() - interval '1 hour' and now() + interval '1 hour'
             order by l.position
             limit $4)
            union all
            select found.* from unnest($2::bigint[]) as gap (position)
            cross join lateral (
                select l.* from outbox.event l
                where l.position = gap.position
                  and l.created_at between now() - interval '1 hour' and now() + interval '1 hour'
                limit 1
            ) found
        ) e
        left join lateral (
            select p.bucket from outbox.pending p
            where e.bucket = any ($3) and p.bucket = e.bucket and p.position = e.position
              and p.created_at = e.created_at and p.retry_at is null
            limit 1
        ) waiting on true
    ) tail on true
    order by tail.position";

async fn read_tail(
    connection: &mut PgConnection,
    range: &Range,
    after: i64,
    gaps: &[i64],
) -> sqlx::Result<Page> {
    let found = sqlx::query(READ_TAIL)
        .bind(after)
        .bind(gaps)
        .bind(&range.buckets)
        .bind(range.rows)
        .fetch_all(connection)
        .await?;
    let mut page = Page::default();
    for row in found {
        page.drawn = row.try_get("drawn")?;
        let Some(position) = row.try_get::<Option<i64>, _>(1)? else { continue };
        page.seen.push(position);
        if row.try_get("waits")? {
            page.rows.push(pending(&row)?);
            // One that was not brought, or can't be read, is fetched: that says why.
            page.events.extend(Logged::from_row(&row).ok().map(|event| (position, event)));
        }
    }
    let new = page.seen.iter().filter(|position| **position > after).count();
    if i64::try_from(new).is_ok_and(|new| new >= range.rows) {
        let last = page.seen.last().copied().unwrap_or(after);
        page.more = range.buckets.iter().map(|bucket| (*bucket, last)).collect();
    }
    Ok(page)
}

fn pending(row: &PgRow) -> sqlx::Result<Pending> {
    let ahead = match row.try_get(4)? {
        0i16 => Ahead::Gone,
        1 => Ahead::Waiting,
        _ => Ahead::Refused,
    };
    let (bucket, position) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Pending { bucket, position, created_at: row.try_get(2)?, previous: row.try_get(3)?, ahead })
}

/// An event as the log holds it.
#[derive(Debug, FromRow)]
pub(crate) struct Logged {
    pub(crate) id: Uuid,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) kind: String,
    pub(crate) origin: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) headers: Json<Headers>,
}

/// The event of a row that was asked for.
#[derive(Debug)]
pub(crate) enum Fetched {
    Event(Box<Logged>),
    /// The log has lost it, or someone has made it unreadable.
    Missing,
    /// The bytes were used up before its turn.
    NoRoom,
}

/// See [`fetch`].
pub(crate) const FETCH: &str = "
    select w.position, w.ahead >= $3 as no_room, w.id, w.created_at, w.topic, w.key, w.version, w.kind, w.origin,
            case when w.ahead < $3 then w.payload end as payload, w.headers
     from (
         select u.position, e.id, e.created_at, e.topic, e.key, e.version, e.kind, e.origin, e.payload, e.headers,
                coalesce(sum(octet_length(e.payload)) over (order by u.n rows between unbounded preceding
                                                            and 1 preceding), 0) as ahead
         from unnest($1::bigint[], $2::timestamptz[]) with ordinality as u (position, created_at, n)
         left join lateral (
             select l.* from outbox.event l
             where l.position = u.position and l.created_at = u.created_at and l.created_at between $4 and $5
             limit 1
         ) e on true
     ) w";

/// The events at these places, each with its position, until their payloads reach `bytes`; the one that reaches it is the
/// last. The times bound the partitions that are looked at.
pub(crate) async fn fetch(
    connection: &mut PgConnection,
    positions: &[i64],
    times: &[OffsetDateTime],
    bytes: i64,
) -> sqlx::Result<Vec<(i64, Fetched)>> {
    let found = sqlx::query(FETCH)
        .bind(positions)
        .bind(times)
        .bind(bytes)
        .bind(times.iter().min())
        .bind(times.iter().max())
        .fetch_all(connection)
        .await?;
    let mut fetched = Vec::with_capacity(found.len());
    for row in found {
        let event = if row.try_get("no_room")? {
            Fetched::NoRoom
        } else {
            Logged::from_row(&row).map_or(Fetched::Missing, |event| Fetched::Event(Box::new(event)))
        };
        fetched.push((row.try_get("position")?, event));
    }
    Ok(fetched)
}

/// A refused row whose turn has come again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) bucket: i16,
    pub(crate) position: i64,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) attempts: i32,
}

/// The waits after a refusal: the first, doubled with each up to the second.
pub(crate) type Delays = (Duration, Duration);

/// Takes the refused row whose wait has been over for longest. It moves behind the others, as if it had been refused once more
/// and without counting that: whatever becomes of it, they have their turn before it comes again.
pub(crate) async fn claim_refused(
    connection: &mut PgConnection,
    buckets: &[i16],
    (first, last): Delays,
) -> sqlx::Result<Option<Due>> {
    let found: Option<(i16, i64, OffsetDateTime, i32)> = sqlx::query_as(
        "update outbox.pending p
         set retry_at = clock_timestamp() + make_interval(secs => least($3, $2 * power(2, least(due.attempts, 16))))
         from (
             select longest.* from unnest($1::smallint[]) as held (bucket)
             cross join lateral (
                 select q.bucket, q.position, q.attempts, q.retry_at
                 from outbox.pending q
                 where q.bucket = held.bucket and q.retry_at <= now() and q.quarantined_at is null
                 order by q.retry_at
                 limit 1
             ) longest
             order by longest.retry_at
             limit 1
         ) due
         where p.bucket = due.bucket and p.position = due.position and p.retry_at = due.retry_at
         returning p.bucket, p.position, p.created_at, p.attempts",
    )
    .bind(buckets)
    .bind(first.as_secs_f64())
    .bind(last.as_secs_f64())
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|(bucket, position, created_at, attempts)| Due { bucket, position, created_at, attempts }))
}

/// A delivered row. The time tells it from another event at the same position, which there is when the database was set back.
pub(crate) type Delivered = (i16, i64, OffsetDateTime);

/// See [`remove_noted`].
pub(crate) const REMOVE: &str = "
    with gone as (
         delete from outbox.pending p
         using unnest($1::smallint[], $2::bigint[], $3::timestamptz[]) as delivered (bucket, position, created_at)
         where p.bucket = delivered.bucket and p.position = delivered.position and p.created_at = delivered.created_at
         returning p.position
     ), noted as (
         insert into outbox.sent (at, positions) values (clock_timestamp(), $2)
     )
    select count(*) from gone";

/// Forgets delivered rows, and notes that their delivery was reported: one row, however many they are. Give them sorted: two
/// relays that forget the same rows then wait for each other, and not in a ring. Returns whether all of them were there.
pub(crate) async fn remove_noted(connection: &mut PgConnection, rows: &[Delivered]) -> sqlx::Result<bool> {
    let (buckets, positions, times) = columns(rows);
    let removed: i64 =
        sqlx::query_scalar(REMOVE).bind(buckets).bind(positions).bind(times).fetch_one(connection).await?;
    Ok(usize::try_from(removed).is_ok_and(|removed| removed == rows.len()))
}

/// The same without the note.
pub(crate) async fn remove(connection: &mut PgConnection, rows: &[Delivered]) -> sqlx::Result<bool> {
    let (buckets, positions, times) = columns(rows);
    let removed = sqlx::query(
        "delete from outbox.pending p
         using unnest($1::smallint[], $2::bigint[], $3::timestamptz[]) as delivered (bucket, position, created_at)
         where p.bucket = delivered.bucket and p.position = delivered.position and p.created_at = delivered.created_at",
    )
    .bind(buckets)
    .bind(positions)
    .bind(times)
    .execute(connection)
    .await?;
    Ok(usize::try_from(removed.rows_affected()).is_ok_and(|removed| removed == rows.len()))
}

fn columns(rows: &[Delivered]) -> (Vec<i16>, Vec<i64>, Vec<OffsetDateTime>) {
    rows.iter().copied().collect()
}

/// Refused rows, column by column.
#[derive(Debug, Default, Clone)]
pub(crate) struct Refusals {
    pub(crate) buckets: Vec<i16>,
    pub(crate) positions: Vec<i64>,
    /// Of the events, as in [`Delivered`].
    pub(crate) times: Vec<OffsetDateTime>,
    pub(crate) errors: Vec<String>,
    /// Seconds until each may be tried again.
    pub(crate) delays: Vec<f64>,
}

/// Notes refusals; the rows stay, and with them the rest of their keys. From the attempt `attempts_max` on a row is in
/// quarantine. Returns the positions that are.
pub(crate) async fn refuse(
    connection: &mut PgConnection,
    refusals: &Refusals,
    attempts_max: i32,
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(
        "with noted as (
             update outbox.pending p
             set attempts = p.attempts + 1, error = left(r.error, 2000),
                 retry_at = clock_timestamp() + make_interval(secs => r.delay),
                 quarantined_at = case when p.attempts + 1 >= $6 then clock_timestamp() end
             from unnest($1::smallint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::double precision[])
                 as r (bucket, position, created_at, error, delay)
             where p.bucket = r.bucket and p.position = r.position and p.created_at = r.created_at
             returning p.position, p.quarantined_at
         )
         select noted.position from noted where noted.quarantined_at is not null",
    )
    .bind(&refusals.buckets)
    .bind(&refusals.positions)
    .bind(&refusals.times)
    .bind(&refusals.errors)
    .bind(&refusals.delays)
    .bind(attempts_max)
    .fetch_all(connection)
    .await
}
