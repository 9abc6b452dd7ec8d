//! Dead letters and unreadable records, as operators see them.

use sqlx::{PgPool, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Headers,
    dead_letter::{Counts, Filter, Group, Letter, Place, Unreadable},
};

pub(crate) async fn dead_letter_groups(
    pool: &PgPool,
    filter: &Filter,
    limit: i64,
) -> sqlx::Result<Vec<Group>> {
    sqlx::query_as(
        "select d.handler, d.kind, d.fingerprint, count(*) as letters, min(d.buried_at) as first, max(d.buried_at) as last,
                (array_agg(d.error order by d.id desc))[1] as sample
         from outbox.dead_letter d
         where ($1::text is null or d.handler = $1 collate \"C\") and ($2::text is null or d.kind = $2)
           and ($3::text is null or d.fingerprint = $3) and ($4::text is null or d.key = $4)
         group by d.handler, d.kind, d.fingerprint
         order by letters desc, d.handler, d.kind, d.fingerprint limit $5",
    )
    .bind(&filter.handler)
    .bind(&filter.kind)
    .bind(&filter.fingerprint)
    .bind(&filter.key)
    .bind(limit)
    .fetch_all(pool)
    .await
}

pub(crate) async fn dead_letters(
    pool: &PgPool,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Letter>> {
    sqlx::query_as(
        "select d.id, d.handler, d.topic, d.key, d.version, d.event_id, d.kind, d.error, d.fingerprint, d.attempts,
                d.buried_at
         from outbox.dead_letter d
         where ($1::text is null or d.handler = $1 collate \"C\") and ($2::text is null or d.kind = $2)
           and ($3::text is null or d.fingerprint = $3) and ($4::text is null or d.key = $4)
           and ($5::uuid is null or d.id > $5)
         order by d.id limit $6",
    )
    .bind(&filter.handler)
    .bind(&filter.kind)
    .bind(&filter.fingerprint)
    .bind(&filter.key)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// The next of those buried before `before`, in the order of their ids.
pub(crate) async fn dead_letters_before(
    pool: &PgPool,
    filter: &Filter,
    (after, before): (Option<Uuid>, OffsetDateTime),
    limit: i64,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(
        "select d.id from outbox.dead_letter d
         where ($1::text is null or d.handler = $1 collate \"C\") and ($2::text is null or d.kind = $2)
           and ($3::text is null or d.fingerprint = $3) and ($4::text is null or d.key = $4)
           and ($5::uuid is null or d.id > $5) and d.buried_at <= $6
         order by d.id limit $7",
    )
    .bind(&filter.handler)
    .bind(&filter.kind)
    .bind(&filter.fingerprint)
    .bind(&filter.key)
    .bind(after)
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await
}

pub(crate) async fn database_time(pool: &PgPool) -> sqlx::Result<OffsetDateTime> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await
}

pub(crate) async fn dead_letter_content(
    pool: &PgPool,
    letter: Uuid,
) -> sqlx::Result<Option<(Vec<u8>, Json<Headers>)>> {
    sqlx::query_as("select d.payload, d.headers from outbox.dead_letter d where d.id = $1")
        .bind(letter)
        .fetch_optional(pool)
        .await
}

pub(crate) async fn dead_letter_kind(pool: &PgPool, letter: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("select coalesce(d.kind, '') from outbox.dead_letter d where d.id = $1")
        .bind(letter)
        .fetch_optional(pool)
        .await
}

pub(crate) async fn replay_dead_letters(
    pool: &PgPool,
    letters: &[Uuid],
    (actor, reason): (&str, &str),
) -> sqlx::Result<i32> {
    sqlx::query_scalar("select outbox.replay_dead_letters($1, $2, $3)")
        .bind(letters)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}

pub(crate) async fn edit_dead_letter(
    pool: &PgPool,
    letter: Uuid,
    payload: &[u8],
    (actor, reason): (&str, &str),
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.edit_dead_letter($1, $2, $3, $4)")
        .bind(letter)
        .bind(payload)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}

pub(crate) async fn discard_dead_letters(
    pool: &PgPool,
    letters: &[Uuid],
    (actor, reason): (&str, &str),
) -> sqlx::Result<i32> {
    sqlx::query_scalar("select outbox.discard_dead_letters($1, $2, $3)")
        .bind(letters)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}

/// Those that nobody has discarded, the oldest first.
pub(crate) async fn unreadable_records(
    pool: &PgPool,
    group: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Unreadable>> {
    sqlx::query_as(
        "select u.consumer_group, u.topic, u.partition, u.record_offset, u.error, u.seen_at
         from outbox.unreadable u
         where u.discarded_at is null and ($1::text is null or u.consumer_group = $1)
         order by u.seen_at, u.consumer_group, u.topic, u.partition, u.record_offset limit $2",
    )
    .bind(group)
    .bind(limit)
    .fetch_all(pool)
    .await
}

pub(crate) async fn discard_unreadable(
    pool: &PgPool,
    place: &Place,
    (actor, reason): (&str, &str),
) -> sqlx::Result<bool> {
    sqlx::query_scalar("select outbox.discard_unreadable($1, $2, $3, $4, $5, $6)")
        .bind(&place.group)
        .bind(&place.topic)
        .bind(place.partition)
        .bind(place.offset)
        .bind(actor)
        .bind(reason)
        .fetch_one(pool)
        .await
}

pub(crate) async fn dead_letter_counts(pool: &PgPool) -> sqlx::Result<Counts> {
    sqlx::query_as(
        "select (select count(*) from outbox.dead_letter) as dead,
                (select count(*) from outbox.unreadable u where u.discarded_at is null) as unreadable,
                (select count(*) from outbox.overflow) as incomplete",
    )
    .fetch_one(pool)
    .await
}
