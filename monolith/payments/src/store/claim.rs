//! Open work, from each tenant in turn: one with ten thousand open payments does not keep another's single one waiting.
//!
//! A look jumps from tenant to tenant by index, from where the last one ended, and sees a few of the longest waiting of each.
//! Of these it takes first ones before second ones, otherwise by lot, and passes over what others have locked. So its cost
//! depends on the bounds here, not on how much waits.

use std::time::Duration;

use proto::PaymentId;
use sqlx::{Connection as _, FromRow, PgConnection};
use uuid::Uuid;

use super::intent::{self, Row};
use crate::Error;
use crate::effect::{CLAIM, Intent};
use crate::provider::REPEAT_WITHIN;

/// Tenants that one look visits at most.
const TENANTS_MAX: i32 = 64;
/// Several engines look at the same time: each sees more than it takes.
const SEEN_PER_TAKEN: i64 = 4;
/// The pause before a requested payment with an open intent is looked at again; the intent has a time of its own.
const OPEN_PAUSE: Duration = Duration::from_secs(600);

/// A look reads by index alone, in its order. Tables that have filled up since they were last analyzed make the planner read and
/// sort all that waits of a tenant (100,000 rows, 5,000 pages, measured); and a plan is made at each look, not kept from then.
pub(crate) const BY_INDEX: &str =
    "begin read only; set local enable_bitmapscan = off; set local enable_seqscan = off";

/// What a look took.
#[derive(Debug)]
pub(crate) struct Claimed<T> {
    pub(crate) work: Vec<T>,
    /// How many rows it claimed, some of which may have nothing to be done now.
    pub(crate) touched: usize,
    /// The tenant after which the next look begins; empty: with the first again.
    pub(crate) after: String,
}

/// What a look saw.
#[derive(Debug, FromRow)]
pub(crate) struct Seen {
    ids: Vec<Uuid>,
    after: String,
}

/// `$1`: the tenant before the first, `$2`: tenants at most, `$3`: ids at most.
pub(crate) const SEE_DUE: &str = "
    with recursive visited as (
        select (select min(i.tenant) from payments.intent i where i.state <> 'done' and i.tenant > $1) as tenant, 1 as n
        union all
        select (select min(i.tenant) from payments.intent i where i.state <> 'done' and i.tenant > v.tenant), v.n + 1
        from visited v where v.tenant is not null and v.n < $2
    ), seen as (
        select d.command_id as id, row_number() over (partition by v.tenant order by d.next_at) as rank
        from visited v cross join lateral (
            select i.command_id, i.next_at from payments.intent i
            where i.state <> 'done' and i.tenant = v.tenant and i.next_at <= now() and i.claimed_until <= now()
            order by i.next_at limit $3
        ) d
    )
    select array(select s.id from seen s order by s.rank, random() limit $3) as ids,
        coalesce((select v.tenant from visited v where v.n = $2), '') as after";

/// The same of requested payments.
pub(crate) const SEE_REQUESTED: &str = "
    with recursive visited as (
        select (select min(p.tenant) from payments.payment p where p.status = 'requested' and p.tenant > $1) as tenant, 1 as n
        union all
        select (select min(p.tenant) from payments.payment p where p.status = 'requested' and p.tenant > v.tenant), v.n + 1
        from visited v where v.tenant is not null and v.n < $2
    ), seen as (
        select d.id, row_number() over (partition by v.tenant order by d.look_at) as rank
        from visited v cross join lateral (
            select p.id, p.look_at from payments.payment p
            where p.status = 'requested' and p.tenant = v.tenant and p.look_at <= now()
            order by p.look_at limit $3
        ) d
    )
    select array(select s.id from seen s order by s.rank, random() limit $3) as ids,
        coalesce((select v.tenant from visited v where v.n = $2), '') as after";

/// Open intents that nobody works on and whose time has come, for [`CLAIM`].
pub(crate) async fn claim_due(
    connection: &mut PgConnection,
    after: &str,
    batch_max: i64,
) -> Result<Claimed<Intent>, Error> {
    let Seen { ids, after } = see(connection, SEE_DUE, after, batch_max).await?;
    if ids.is_empty() {
        return Ok(Claimed { work: Vec::new(), touched: 0, after });
    }
    let rows = claim_rows(connection, &ids, batch_max).await?;
    let touched = rows.len();
    Ok(Claimed { work: intent::read_all(connection, rows).await?, touched, after })
}

/// Requested payments without an open intent whose time has come. Each is looked at again 250 ms later, doubling to 5 s, for
/// as long as it stays requested; the other home's are left alone for longer ([`super::leave`]).
pub(crate) async fn claim_requested(
    connection: &mut PgConnection,
    after: &str,
    batch_max: i64,
) -> Result<Claimed<PaymentId>, Error> {
    let Seen { ids, after } = see(connection, SEE_REQUESTED, after, batch_max).await?;
    if ids.is_empty() {
        return Ok(Claimed { work: Vec::new(), touched: 0, after });
    }
    let sql = "
        with due as materialized (
            select p.id,
                exists (select from payments.intent i where i.payment_id = p.id and i.state <> 'done') as is_open
            from unnest($1::uuid[]) with ordinality as seen (id, n) join payments.payment p on p.id = seen.id
            where p.status = 'requested' and p.look_at <= now()
            order by seen.n limit $2 for update of p skip locked
        )
        update payments.payment p
        set looks = p.looks + 1, elsewhere = false, look_at = now() + case
            when due.is_open then $3::double precision * interval '1 second'
            else least(interval '250 milliseconds' * power(2, least(p.looks, 10)), interval '5 seconds') end
        from due where p.id = due.id
        returning p.id, due.is_open";
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(sql)
        .bind(&ids)
        .bind(batch_max)
        .bind(OPEN_PAUSE.as_secs_f64())
        .fetch_all(connection)
        .await?;
    let touched = rows.len();
    let work = rows.into_iter().filter(|(_, is_open)| !is_open).map(|(id, _)| PaymentId::from_uuid(id));
    Ok(Claimed { work: work.collect(), touched, after })
}

async fn see(
    connection: &mut PgConnection,
    sql: &'static str,
    after: &str,
    batch_max: i64,
) -> Result<Seen, Error> {
    let mut tx = connection.begin_with(BY_INDEX).await?;
    let seen = sqlx::query_as(sql)
        .persistent(false)
        .bind(after)
        .bind(TENANTS_MAX)
        .bind(batch_max.saturating_mul(SEEN_PER_TAKEN))
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(seen)
}

async fn claim_rows(connection: &mut PgConnection, ids: &[Uuid], batch_max: i64) -> Result<Vec<Row>, Error> {
    let sql = "
        with due as materialized (
            select i.command_id
            from unnest($1::uuid[]) with ordinality as seen (id, n) join payments.intent i on i.command_id = seen.id
            where i.state <> 'done' and i.next_at <= now() and i.claimed_until <= now()
            order by seen.n limit $2 for update of i skip locked
        )
        update payments.intent i
        set tries = i.tries + 1, claimed_until = now() + $3::double precision * interval '1 second'
        from due where i.command_id = due.command_id
        returning i.*, i.created_at > now() - $4::double precision * interval '1 second' as repeatable,
            extract(epoch from now() - i.kept_at)::double precision as kept_for_s";
    let rows = sqlx::query_as(sql)
        .bind(ids)
        .bind(batch_max)
        .bind(CLAIM.as_secs_f64())
        .bind(REPEAT_WITHIN.as_secs_f64())
        .fetch_all(connection)
        .await?;
    Ok(rows)
}
