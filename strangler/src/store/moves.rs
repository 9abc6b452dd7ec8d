//! Owner rows on their way between the homes, and keys that can't go: the controller's role only. Each change is a
//! compare-and-swap of a step of [`STEPS`].

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{PgExecutor, PgPool};

use super::columns;
use crate::handover::source::{Message, STEPS, Step};
use crate::{Epoch, Error, Home, Phase, PinnedKey};

/// A key that is being handed to the target.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Moving {
    pub(crate) key: String,
    pub(crate) epoch: i64,
    /// For longer than it may be.
    pub(crate) late: bool,
}

/// Keys that could be handed over, those after the key `after`; a pinned one only when it is time to look again.
pub(crate) async fn movable(
    pool: &PgPool,
    migration: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select o.key from strangler.owner o
         left join strangler.pinned p on p.migration = o.migration and p.key = o.key
         where o.migration = $1 and o.owner = 'source' and o.phase = 'settled' and o.key > $2
           and (p.key is null or strangler.look_again(p) <= clock_timestamp())
         order by o.key limit $3",
    )
    .bind(migration)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Keys on their way to the target, the first that left first.
pub(crate) async fn moving(
    pool: &PgPool,
    migration: &str,
    move_timeout: Duration,
    limit: i64,
) -> Result<Vec<Moving>, Error> {
    let bound = PgInterval::try_from(move_timeout)
        .map_err(|reason| Error::Invalid { field: "move_timeout", reason: reason.to_string() })?;
    Ok(sqlx::query_as(
        "select o.key, o.epoch, coalesce(o.changed_at, o.born_at) < clock_timestamp() - $2::interval as late
         from strangler.owner o
         where o.migration = $1 and o.owner = 'source' and o.phase = 'moving'
         order by o.changed_at, o.key limit $3",
    )
    .bind(migration)
    .bind(bound)
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

/// Keys that are the target's since a hand-over that it has not confirmed, but for those asked at these epochs already; one that was
/// pinned since then only when it is time to ask again. `not exists` and not `<> all`: a plan that was kept would compare each key with
/// each of the list.
pub(crate) async fn granting(
    pool: &PgPool,
    migration: &str,
    (names, epochs): (Vec<&str>, Vec<i64>),
    limit: i64,
) -> Result<Vec<(String, Epoch)>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select o.key, o.epoch from strangler.owner o
         left join strangler.pinned p on p.migration = o.migration and p.key = o.key and p.looked_at >= o.changed_at
         where o.migration = $1 and o.owner = 'target' and o.phase = 'settled' and o.epoch > 1
           and o.granted_epoch < o.epoch
           and not exists (select from unnest($2::text[], $3::bigint[]) as asked (key, epoch)
                           where asked.key = o.key and asked.epoch = o.epoch)
           and (p.key is null or strangler.look_again(p) <= clock_timestamp())
         order by o.key limit $4",
    )
    .bind(migration)
    .bind(names)
    .bind(epochs)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(with_epochs(rows))
}

/// Keys of a home in a phase.
pub(crate) async fn at(
    pool: &PgPool,
    migration: &str,
    home: Home,
    phase: Phase,
    limit: i64,
) -> Result<Vec<(String, Epoch)>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select o.key, o.epoch from strangler.owner o
         where o.migration = $1 and o.owner = $2 and o.phase = $3
         order by o.key limit $4",
    )
    .bind(migration)
    .bind(home.name())
    .bind(phase.name())
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(with_epochs(rows))
}

/// Keys on their way back, but for those asked at these epochs already; one that was pinned since it was called back only when it is time
/// to ask again.
pub(crate) async fn recalling(
    pool: &PgPool,
    migration: &str,
    (names, epochs): (Vec<&str>, Vec<i64>),
    limit: i64,
) -> Result<Vec<(String, Epoch)>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select o.key, o.epoch from strangler.owner o
         left join strangler.pinned p on p.migration = o.migration and p.key = o.key and p.looked_at >= o.changed_at
         where o.migration = $1 and o.owner = 'target' and o.phase = 'recalling'
           and not exists (select from unnest($2::text[], $3::bigint[]) as asked (key, epoch)
                           where asked.key = o.key and asked.epoch = o.epoch)
           and (p.key is null or strangler.look_again(p) <= clock_timestamp())
         order by o.key limit $4",
    )
    .bind(migration)
    .bind(names)
    .bind(epochs)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(with_epochs(rows))
}

/// How many keys are on their way back and not pinned since they were called.
pub(crate) async fn count_recalling(pool: &PgPool, migration: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from strangler.owner o
         where o.migration = $1 and o.owner = 'target' and o.phase = 'recalling'
           and not exists (select from strangler.pinned p
                           where p.migration = $1 and p.key = o.key and p.looked_at >= o.changed_at)",
    )
    .bind(migration)
    .fetch_one(pool)
    .await
}

/// Takes a message's steps with those of the keys that are still at these epochs, and returns them with the epochs they
/// are at now. For `decide`, `time out`, `recall` and `cancel`: each sets the next epoch.
pub(crate) async fn swap(
    pool: &PgPool,
    migration: &str,
    message: Message,
    keys: &[(String, Epoch)],
) -> Result<Vec<(String, Epoch)>, sqlx::Error> {
    let mut swapped = Vec::new();
    for step in STEPS.iter().filter(|step| step.message == message && !keys.is_empty()) {
        swapped.extend(take(pool, migration, step, keys).await?);
    }
    Ok(swapped)
}

/// A row that someone else has locked is left for the next look: neither a slow writer nor another controller keeps a batch waiting.
async fn take(
    pool: &PgPool,
    migration: &str,
    step: &Step,
    keys: &[(String, Epoch)],
) -> Result<Vec<(String, Epoch)>, sqlx::Error> {
    let (names, epochs) = columns(keys);
    let ((owner, phase), (next_owner, next_phase)) = (step.from, step.to);
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "with claimed as (
             select o.key from strangler.owner o
             join unnest($2::text[], $3::bigint[]) as k (key, epoch) on k.key = o.key and k.epoch = o.epoch
             where o.migration = $1 and o.owner = $4 and o.phase = $5
             order by o.key for update of o skip locked
         )
         update strangler.owner o
         set owner = $6, phase = $7, epoch = o.epoch + 1, changed_at = clock_timestamp()
         from claimed c
         where o.migration = $1 and o.key = c.key
         returning o.key, o.epoch",
    )
    .bind(migration)
    .bind(names)
    .bind(epochs)
    .bind(owner.name())
    .bind(phase.name())
    .bind(next_owner.name())
    .bind(next_phase.name())
    .fetch_all(pool)
    .await?;
    Ok(with_epochs(rows))
}

/// Notes that the target has confirmed these epochs. Returns how many rows still were at them.
pub(crate) async fn note_granted(
    pool: &PgPool,
    migration: &str,
    keys: &[(String, Epoch)],
) -> Result<u64, sqlx::Error> {
    let (names, epochs) = columns(keys);
    // step "note the grant"
    let done = sqlx::query(
        "with claimed as (
             select o.key from strangler.owner o
             join unnest($2::text[], $3::bigint[]) as k (key, epoch) on k.key = o.key and k.epoch = o.epoch
             where o.migration = $1 and o.owner = 'target' and o.phase = 'settled'
             order by o.key for update of o skip locked
         )
         update strangler.owner o set granted_epoch = o.epoch from claimed c
         where o.migration = $1 and o.key = c.key",
    )
    .bind(migration)
    .bind(names)
    .bind(epochs)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Notes keys that can't move now, with the reason, and that they were looked at.
pub(crate) async fn pin(
    pool: &PgPool,
    migration: &str,
    keys: &[String],
    whys: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into strangler.pinned as p (migration, key, why)
         select $1, k.key, k.why from unnest($2::text[], $3::text[]) as k (key, why) order by k.key
         on conflict (migration, key) do update
         set why = excluded.why, looked_at = excluded.looked_at, tries = least(p.tries, 1000000) + 1",
    )
    .bind(migration)
    .bind(keys)
    .bind(whys)
    .execute(pool)
    .await
    .map(drop)
}

/// Forgets pinned keys that have left: those that are in none of these places any more. At the target a settled key is pinned only by a grant
/// that it has not confirmed, never by what was before.
pub(crate) async fn unpin(
    pool: &PgPool,
    migration: &str,
    places: &[(Home, Phase)],
) -> Result<(), sqlx::Error> {
    let (homes, phases): (Vec<&str>, Vec<&str>) =
        places.iter().map(|(home, phase)| (home.name(), phase.name())).unzip();
    sqlx::query(
        "delete from strangler.pinned p
         where p.migration = $1 and not exists (
             select from strangler.owner o
             join unnest($2::text[], $3::text[]) as place (owner, phase) on place.owner = o.owner and place.phase = o.phase
             where o.migration = $1 and o.key = p.key
               and (o.owner = 'source' or o.phase <> 'settled'
                    or (o.epoch > 1 and o.granted_epoch < o.epoch and p.looked_at >= o.changed_at)))",
    )
    .bind(migration)
    .bind(homes)
    .bind(phases)
    .execute(pool)
    .await
    .map(drop)
}

/// How many keys are pinned for this reason and were looked at within the last minute.
pub(crate) async fn count_pinned_for(
    executor: impl PgExecutor<'_>,
    migration: &str,
    why: &str,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from strangler.pinned
         where migration = $1 and why = $2 and looked_at > clock_timestamp() - interval '1 minute'",
    )
    .bind(migration)
    .bind(why)
    .fetch_one(executor)
    .await
}

/// The keys that can't move now, the longest pinned first.
pub(crate) async fn pinned(
    pool: &PgPool,
    migration: &str,
    limit: i64,
) -> Result<Vec<PinnedKey>, sqlx::Error> {
    sqlx::query_as(
        "select p.key, p.why, p.since, p.looked_at, p.tries from strangler.pinned p
         where p.migration = $1 order by p.since, p.key limit $2",
    )
    .bind(migration)
    .bind(limit)
    .fetch_all(pool)
    .await
}

pub(crate) async fn count_pinned(executor: impl PgExecutor<'_>, migration: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from strangler.pinned where migration = $1")
        .bind(migration)
        .fetch_one(executor)
        .await
}

fn with_epochs(rows: Vec<(String, i64)>) -> Vec<(String, Epoch)> {
    rows.into_iter().map(|(key, epoch)| (key, Epoch(epoch))).collect()
}

#[cfg(test)]
mod tests;
