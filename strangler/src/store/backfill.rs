//! The walk of a backfill: the controller's role only. Each change names the walk it was made in, so that of two controllers, or after
//! it was begun again, one that is late changes nothing.

use sqlx::{PgExecutor, PgPool};
use time::OffsetDateTime;

use crate::{Backfill, Home, Phase};

/// A walk that is under way.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Walk {
    pub(crate) after: Option<String>,
    pub(crate) upto: Option<String>,
    pub(crate) counted: bool,
    pub(crate) walk: i32,
    pub(crate) lacking: i64,
    pub(crate) begun_at: OffsetDateTime,
    /// It goes on later.
    pub(crate) rests: bool,
}

/// What a page of it came to.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) last: String,
    pub(crate) looked: i64,
    pub(crate) lacking: i64,
    pub(crate) published: i64,
    pub(crate) skipped: i64,
    /// A key that could not be published, with the reason.
    pub(crate) waits: Option<String>,
}

/// Begins one, up to the last key there is, in place of whichever was there.
pub(crate) async fn begin(
    executor: impl PgExecutor<'_>,
    migration: &str,
    by: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into strangler.backfill as b (migration, upto, asked_by)
         values ($1, (select max(o.key) from strangler.owner o where o.migration = $1), $2)
         on conflict (migration) do update
         set after = null, upto = excluded.upto, keys = null, walk = 1, looked = 0, lacking = 0, published = 0, skipped = 0,
             waits = null, asked_by = excluded.asked_by, begun_at = clock_timestamp(), walk_at = clock_timestamp(), done_at = null",
    )
    .bind(migration)
    .bind(by)
    .execute(executor)
    .await
    .map(drop)
}

pub(crate) async fn find_open(pool: &PgPool, migration: &str) -> Result<Option<Walk>, sqlx::Error> {
    sqlx::query_as(
        "select after, upto, keys is not null as counted, walk, lacking, begun_at, walk_at > clock_timestamp() as rests
         from strangler.backfill where migration = $1 and done_at is null",
    )
    .bind(migration)
    .fetch_optional(pool)
    .await
}

pub(crate) async fn find(pool: &PgPool, migration: &str) -> Result<Option<Backfill>, sqlx::Error> {
    sqlx::query_as(
        "select b.walk, b.looked as done, coalesce(b.keys, 0) as of, b.published, b.skipped, b.waits, b.asked_by, b.begun_at, b.done_at,
                case when b.done_at is null then r.rate else 0 end as rate,
                case when b.done_at is null and r.rate > 0 then greatest(0, b.keys - b.looked) / r.rate end as eta_seconds
         from strangler.backfill b
         cross join lateral (
             select (b.looked / greatest(1, extract(epoch from clock_timestamp() - b.walk_at)))::bigint as rate
         ) r
         where b.migration = $1",
    )
    .bind(migration)
    .fetch_optional(pool)
    .await
}

/// Counts the keys that it is about.
pub(crate) async fn count(pool: &PgPool, migration: &str, walk: &Walk) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update strangler.backfill b
         set keys = (select count(*) from strangler.owner o
                     where o.migration = $1 and o.owner = 'source' and o.phase = 'settled' and o.key <= b.upto)
         where b.migration = $1 and b.begun_at = $2",
    )
    .bind(migration)
    .bind(walk.begun_at)
    .execute(pool)
    .await
    .map(drop)
}

/// The next keys of a walk: the source's own.
pub(crate) async fn next_page(
    pool: &PgPool,
    migration: &str,
    walk: &Walk,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select o.key from strangler.owner o
         where o.migration = $1 and o.owner = 'source' and o.phase = 'settled' and o.key > $2 and o.key <= $3
         order by o.key limit $4",
    )
    .bind(migration)
    .bind(walk.after.as_deref().unwrap_or_default())
    .bind(&walk.upto)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Notes that a page was looked at. Called after its snapshots are committed: a crash before it publishes them twice. What waited in the
/// walk before is forgotten with the first page.
pub(crate) async fn note_page(
    pool: &PgPool,
    migration: &str,
    walk: &Walk,
    page: &Page,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update strangler.backfill
         set after = $5, looked = looked + $6, lacking = lacking + $7, published = published + $8, skipped = skipped + $9,
             waits = case when after is null then $10 else coalesce($10, waits) end
         where migration = $1 and begun_at = $2 and walk = $3 and after is not distinct from $4",
    )
    .bind(migration)
    .bind(walk.begun_at)
    .bind(walk.walk)
    .bind(&walk.after)
    .bind(&page.last)
    .bind(page.looked)
    .bind(page.lacking)
    .bind(page.published)
    .bind(page.skipped)
    .bind(&page.waits)
    .execute(pool)
    .await
    .map(drop)
}

/// Notes what the whole walk waits for; none: nothing any more.
pub(crate) async fn note_waits(
    pool: &PgPool,
    migration: &str,
    walk: &Walk,
    waits: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update strangler.backfill set waits = $4
         where migration = $1 and begun_at = $2 and walk = $3 and done_at is null",
    )
    .bind(migration)
    .bind(walk.begun_at)
    .bind(walk.walk)
    .bind(waits)
    .execute(pool)
    .await
    .map(drop)
}

/// Ends it, when its last walk found nothing lacking.
pub(crate) async fn end(pool: &PgPool, migration: &str, walk: &Walk) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update strangler.backfill set done_at = clock_timestamp(), waits = null
         where migration = $1 and begun_at = $2 and walk = $3 and done_at is null",
    )
    .bind(migration)
    .bind(walk.begun_at)
    .bind(walk.walk)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Begins the next walk: the second at once, for it only has to find nothing, each later one after a rest of 1 s, 2 s, 4 s, at last 60 s.
pub(crate) async fn walk_again(pool: &PgPool, migration: &str, walk: &Walk) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update strangler.backfill
         set after = null, walk = walk + 1, looked = 0, lacking = 0,
             walk_at = clock_timestamp()
                     + case when walk = 1 then 0 else least(60, 2 ^ least(walk - 2, 6)) end * interval '1 second'
         where migration = $1 and begun_at = $2 and walk = $3 and done_at is null",
    )
    .bind(migration)
    .bind(walk.begun_at)
    .bind(walk.walk)
    .execute(pool)
    .await
    .map(drop)
}

/// Where keys are, those of them that have an owner.
pub(crate) async fn standing(
    pool: &PgPool,
    migration: &str,
    keys: &[String],
) -> Result<Vec<(String, Home, Phase)>, crate::Error> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select o.key, o.owner, o.phase from strangler.owner o
         where o.migration = $1 and o.key = any ($2) order by o.key",
    )
    .bind(migration)
    .bind(keys)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|(key, home, phase)| Ok((key, home.parse()?, phase.parse()?))).collect()
}
