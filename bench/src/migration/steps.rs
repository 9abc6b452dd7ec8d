//! Notes of each step of a hand-over, with the databases' clocks: when the transaction that took it began, and when it was taken.
//!
//! The owner's row knows only its last change, and no table says when a transaction took its first lock. So a trigger for each
//! statement notes both, in both databases. A transaction begins before its first lock, so what is measured from there on is
//! never too short; what the notes cost is part of what is measured.

use std::collections::HashMap;

use anyhow::Result;
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;

/// A change that only notes the target's answer raises no epoch, and is left out.
const AT_SOURCE: &str = "
    create schema bench;
    create table bench.step (id bigint generated always as identity primary key, key text not null, epoch bigint not null,
        owner text not null, phase text not null, began timestamptz not null, at timestamptz not null);
    create function bench.note_steps() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
        insert into bench.step (key, epoch, owner, phase, began, at)
        select c.key, c.epoch, c.owner, c.phase, transaction_timestamp(), clock_timestamp() from changed c
        where c.granted_epoch < c.epoch;
        return null;
    end $$;
    create trigger note_steps after update on strangler.owner referencing new table as changed
        for each statement execute function bench.note_steps()";

/// Only what takes a key from the target.
const AT_TARGET: &str = "
    create schema bench;
    create table bench.step (id bigint generated always as identity primary key, key text not null, epoch bigint not null,
        began timestamptz not null);
    create function bench.note_steps() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
        insert into bench.step (key, epoch, began)
        select c.key, c.epoch, transaction_timestamp() from changed c where not c.writable;
        return null;
    end $$;
    create trigger note_steps after update on strangler.authority referencing new table as changed
        for each statement execute function bench.note_steps()";

/// A key that went to the target: its last fence is the one at the epoch before it became the target's.
const THERE: &str = "
    select m.key, m.epoch, min(m.began) as called_at, min(s.at) as settled_at
    from bench.step m
    join bench.step s on s.key = m.key and s.epoch = m.epoch + 1 and s.id > $1
    where m.id > $1 and m.phase = 'moving' and s.owner = 'target' and s.phase = 'settled'
    group by m.key, m.epoch";

/// A key that came back.
const BACK: &str = "
    select m.key, m.epoch, min(m.began) as called_at, min(s.at) as settled_at
    from bench.step m
    join bench.step s on s.key = m.key and s.epoch = m.epoch + 1 and s.id > $1
    where m.id > $1 and m.phase = 'recalling' and s.owner = 'source' and s.phase = 'settled'
    group by m.key, m.epoch";

/// A key that changed its owner.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Step {
    pub(super) key: String,
    pub(super) epoch: i64,
    /// When the transaction began that said at the source that the key is on its way.
    pub(super) called_at: OffsetDateTime,
    /// When it became the next owner's.
    pub(super) settled_at: OffsetDateTime,
}

/// How far the notes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    source: i64,
    target: i64,
}

/// Begins to note.
pub(super) async fn begin(source: &PgPool, target: &PgPool) -> Result<()> {
    sqlx::raw_sql(AT_SOURCE).execute(source).await?;
    sqlx::raw_sql(AT_TARGET).execute(target).await?;
    Ok(())
}

/// Before a move.
pub(super) async fn mark(source: &PgPool, target: &PgPool) -> Result<Mark> {
    Ok(Mark { source: last(source).await?, target: last(target).await? })
}

async fn last(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("select coalesce(max(id), 0) from bench.step").fetch_one(pool).await?)
}

/// The keys that went to the target since then.
pub(super) async fn there(source: &PgPool, since: Mark) -> Result<Vec<Step>> {
    Ok(sqlx::query_as(THERE).bind(since.source).fetch_all(source).await?)
}

/// The keys that came back since then.
pub(super) async fn back(source: &PgPool, since: Mark) -> Result<Vec<Step>> {
    Ok(sqlx::query_as(BACK).bind(since.source).fetch_all(source).await?)
}

/// When the transactions began that fenced keys at the target since then, by key and epoch of the recall.
pub(super) async fn fences(target: &PgPool, since: Mark) -> Result<HashMap<(String, i64), OffsetDateTime>> {
    let sql = "select key, epoch, min(began) from bench.step where id > $1 group by key, epoch";
    let rows: Vec<(String, i64, OffsetDateTime)> =
        sqlx::query_as(sql).bind(since.target).fetch_all(target).await?;
    Ok(rows.into_iter().map(|(key, epoch, began)| ((key, epoch), began)).collect())
}
