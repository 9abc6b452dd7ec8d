//! Looks at open work, which lock nothing and take nothing.
//!
//! A look visits tenants by index, each from its floor on: those of which something became due since the last look, known ones in
//! turn, and now and then all ([`Floors`]). It sees a few of the longest waiting of each. So its cost depends on the bounds here, not
//! on how much waits, nor on how much was done before.

use std::time::Duration;

use sqlx::{Connection as _, FromRow, PgConnection};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::floors::{Floors, Start};
use crate::Error;

/// Rows that became due since the last look, of which one look reads the tenants, at most; the next look reads on from there.
const ARRIVED_MAX: i64 = 64;
/// How long after its time a row may be committed and is still seen at once: looks begin that much before the last one. What is
/// committed later is found by a walk.
pub(super) const LATE: Duration = Duration::from_secs(1);
/// Several engines look at the same time: each sees more than it takes.
const SEEN_PER_TAKEN: i64 = 4;

/// A look reads by index alone, in its order. Tables that have filled up since they were last analyzed make the planner read and
/// sort all that waits of a tenant (100,000 rows, 5,000 pages, measured); and a plan is made at each look, not kept from then.
pub(crate) const BY_INDEX: &str =
    "begin read only; set local enable_bitmapscan = off; set local enable_seqscan = off";

/// What a look saw.
#[derive(Debug, FromRow)]
pub(super) struct Seen {
    /// The first of each tenant before second ones, otherwise by lot.
    pub(super) ids: Vec<Uuid>,
    /// Those that were visited.
    pub(super) tenants: Vec<String>,
    /// When each one's first was due; `None`: nothing is.
    pub(super) floors: Vec<Option<OffsetDateTime>>,
    /// From when on the next look reads what became due.
    pub(super) since: OffsetDateTime,
    /// The tenant after which the walk goes on; empty: it has been over all, or there was none.
    pub(super) walked_to: String,
}

/// `$1`: the tenant before the first to walk over, `$2`: how many at most; `$3`: what became due since, `$4`: how many at most;
/// `$5`: known tenants, `$6`: their floors; `$7`: ids at most, `$8`: [`LATE`] in seconds.
pub(crate) const SEE_DUE: &str = "
    with recursive walked as (
        (select i.tenant, i.next_at, 1 as n from payments.intent i
            where i.state <> 'done' and i.tenant > $1 order by i.tenant, i.next_at limit least($2, 1))
        union all
        select d.tenant, d.next_at, w.n + 1
        from walked w cross join lateral (
            select i.tenant, i.next_at from payments.intent i
            where i.state <> 'done' and i.tenant > w.tenant order by i.tenant, i.next_at limit 1
        ) d
        where w.n < $2
    ), arrived as materialized (
        select i.tenant, i.next_at from payments.intent i
        where i.state || '' <> 'done' and i.next_at > coalesce($3, now() - $8::double precision * interval '1 second') and i.next_at <= now()
        order by i.next_at limit $4
    ), visited as materialized (
        select u.tenant, (
            select i.next_at from payments.intent i
            where i.state <> 'done' and i.tenant = u.tenant and i.next_at >= min(u.floor) and i.next_at <= now()
            order by i.next_at limit 1
        ) as floor
        from (
            select w.tenant, w.next_at from walked w union all select a.tenant, a.next_at from arrived a
            union all select * from unnest($5::text[], $6::timestamptz[])
        ) u (tenant, floor)
        group by u.tenant
    ), seen as (
        select d.command_id as id, row_number() over (partition by v.tenant order by d.next_at) as rank
        from visited v cross join lateral (
            select i.command_id, i.next_at from payments.intent i
            where i.state <> 'done' and i.tenant = v.tenant and i.next_at >= v.floor and i.next_at <= now()
              and i.claimed_until <= now()
            order by i.next_at limit $7
        ) d
    )
    select array(select s.id from seen s order by s.rank, random() limit $7) as ids,
        array(select v.tenant from visited v order by v.tenant) as tenants,
        array(select v.floor from visited v order by v.tenant) as floors,
        case when (select count(*) from arrived) < $4 then now() - $8::double precision * interval '1 second'
            else (select max(a.next_at) from arrived a) end as since,
        coalesce((select w.tenant from walked w where w.n = $2), '') as walked_to";

/// The same of requested payments.
pub(crate) const SEE_REQUESTED: &str = "
    with recursive walked as (
        (select p.tenant, p.look_at, 1 as n from payments.payment p
            where p.status = 'requested' and p.tenant > $1 order by p.tenant, p.look_at limit least($2, 1))
        union all
        select d.tenant, d.look_at, w.n + 1
        from walked w cross join lateral (
            select p.tenant, p.look_at from payments.payment p
            where p.status = 'requested' and p.tenant > w.tenant order by p.tenant, p.look_at limit 1
        ) d
        where w.n < $2
    ), arrived as materialized (
        select p.tenant, p.look_at from payments.payment p
        where p.status || '' = 'requested' and p.look_at > coalesce($3, now() - $8::double precision * interval '1 second') and p.look_at <= now()
        order by p.look_at limit $4
    ), visited as materialized (
        select u.tenant, (
            select p.look_at from payments.payment p
            where p.status = 'requested' and p.tenant = u.tenant and p.look_at >= min(u.floor) and p.look_at <= now()
            order by p.look_at limit 1
        ) as floor
        from (
            select w.tenant, w.look_at from walked w union all select a.tenant, a.look_at from arrived a
            union all select * from unnest($5::text[], $6::timestamptz[])
        ) u (tenant, floor)
        group by u.tenant
    ), seen as (
        select d.id, row_number() over (partition by v.tenant order by d.look_at) as rank
        from visited v cross join lateral (
            select p.id, p.look_at from payments.payment p
            where p.status = 'requested' and p.tenant = v.tenant and p.look_at >= v.floor and p.look_at <= now()
            order by p.look_at limit $7
        ) d
    )
    select array(select s.id from seen s order by s.rank, random() limit $7) as ids,
        array(select v.tenant from visited v order by v.tenant) as tenants,
        array(select v.floor from visited v order by v.tenant) as floors,
        case when (select count(*) from arrived) < $4 then now() - $8::double precision * interval '1 second'
            else (select max(a.look_at) from arrived a) end as since,
        coalesce((select w.tenant from walked w where w.n = $2), '') as walked_to";

/// Looks from the floors on, and moves them. Sees [`SEEN_PER_TAKEN`] times `batch_max` ids at most.
pub(super) async fn see(
    connection: &mut PgConnection,
    sql: &'static str,
    floors: &mut Floors,
    batch_max: i64,
) -> Result<Vec<Uuid>, Error> {
    let (start, began) = (floors.start(), Instant::now());
    match look(connection, sql, &start, batch_max).await {
        Ok(mut seen) => {
            let ids = std::mem::take(&mut seen.ids);
            floors.absorb(&start, seen, began.elapsed());
            Ok(ids)
        }
        Err(error) => {
            floors.failed(&start);
            Err(error)
        }
    }
}

async fn look(
    connection: &mut PgConnection,
    sql: &'static str,
    start: &Start,
    batch_max: i64,
) -> Result<Seen, Error> {
    let mut tx = connection.begin_with(BY_INDEX).await?;
    let seen = sqlx::query_as(sql)
        .persistent(false)
        .bind(&start.walk_after)
        .bind(start.walk_max)
        .bind(start.since)
        .bind(ARRIVED_MAX)
        .bind(&start.tenants)
        .bind(&start.floors)
        .bind(batch_max.saturating_mul(SEEN_PER_TAKEN))
        .bind(LATE.as_secs_f64())
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(seen)
}
