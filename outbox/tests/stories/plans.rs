//! Connections keep their plans. One that was made while the tables were empty looks rows up as well when they are full.

use std::collections::HashMap;

use outbox::BoxError;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgTransaction};

use crate::world::Home;

/// Keys in the full tables.
const KEYS: i64 = 20_000;

/// Calls before they are full: a server that keeps a plan begins to do so after five.
const CALLS: i64 = 12;

/// Rows that one call may read: each works on at most a hundred keys, or one.
const ROWS_MAX: i64 = 2_000;

/// As the module: `{n}` is the number of a call, `{keys}` a hundred of the keys that are there in the end.
const GATE: [&str; 17] = [
    "outbox.publish('notes.v1', 'k{n}', 'test.noted.v1', '')",
    "outbox.lock('notes.v1', 'k{n}')",
    "outbox.admit('test.plans', 'notes.v1', 'k{n}', 2, gen_random_uuid())",
    "outbox.admit_runs('test.plans', 'notes.v1', {keys}, array_fill(2::bigint, array[100]),
        array_fill(3::bigint, array[100]), array_fill(gen_random_uuid(), array[100]), array_fill(2::bigint, array[100]))",
    "outbox.park('test.plans', 'notes.v1', 'k{n}', 5, gen_random_uuid(), '', '{}', 'early', null, 1000, 1000)",
    "outbox.retry_later('test.plans', 'notes.v1', 'k{n}', 4, 'refused', 'no', '1 s')",
    "outbox.bury('test.plans', 'notes.v1', 'k{n}', 4, gen_random_uuid(), '', '{}', 'no', 10)",
    "outbox.applied_as('test.plans', 'notes.v1', 'k{n}', 2, gen_random_uuid())",
    "outbox.unpark('test.plans', 'notes.v1', 'k{n}')",
    "outbox.jump('test.plans', 'notes.v1', 'k{n}', 9, gen_random_uuid())",
    "outbox.leap('test.plans', 'notes.v1', 'k{n}', 9, gen_random_uuid(), '', '{}')",
    "outbox.follow_applied('test.plans', 'notes.v1', 'k{n}', 3, gen_random_uuid())",
    "outbox.leap_all('test.plans', 'notes.v1', {keys}, array_fill(9::bigint, array[100]), array_fill(gen_random_uuid(), array[100]))",
    "outbox.follow_all_applied('test.plans', 'notes.v1', {keys}, array_fill(3::bigint, array[100]),
        array_fill(gen_random_uuid(), array[100]))",
    "outbox.compare('test.plans', 'notes.v1', 'k{n}', '0 s', 100)",
    "outbox.waiting('notes.v1', {keys})",
    "outbox.head_versions('notes.v1', {keys})",
];

/// As an operator.
const OPERATOR: [&str; 1] = ["outbox.archive_keys('notes.v1', {keys}, '0 s', 'me', 'why')"];

/// Each key published up to version 2 and applied up to 1, with a parked version 4, a dead 6, and a later one that found no room.
const FILL: &str = "
    insert into outbox.head (topic, key, version, last_id, position)
    select 'notes.v1', 'k' || n, 2, gen_random_uuid(), n from generate_series(1, $1::bigint) n;
    insert into outbox.cursor (handler, topic, key, version, last_id, waiting)
    select 'test.plans', 'notes.v1', 'k' || n, 1, gen_random_uuid(), n % 2 from generate_series(1, $1::bigint) n;
    insert into outbox.archived_cursor (handler, topic, key, version)
    select 'test.plans', 'notes.v1', 'a' || n, 1 from generate_series(1, $1::bigint) n;
    insert into outbox.archived_head (topic, key, version)
    select 'notes.v1', 'a' || n, 1 from generate_series(1, $1::bigint) n;
    insert into outbox.parked (handler, topic, key, version, id, reason, payload, headers)
    select 'test.plans', 'notes.v1', 'k' || n, 4, gen_random_uuid(), 'early', '', '{}' from generate_series(1, $1::bigint) n;
    insert into outbox.dead_letter (id, handler, topic, key, version, event_id, payload, headers, error, fingerprint, attempts)
    select gen_random_uuid(), 'test.plans', 'notes.v1', 'k' || n, 6, gen_random_uuid(), '', '{}', 'no', 'f', 10
    from generate_series(1, $1::bigint) n;
    insert into outbox.overflow (handler, topic, key, version, events)
    select 'test.plans', 'notes.v1', 'k' || n, 7, 0 from generate_series(1, $1::bigint) n;
    insert into outbox.applied_id (handler, topic, key, version, id)
    select 'test.plans', 'notes.v1', 'k' || n, 2, gen_random_uuid() from generate_series(1, $1::bigint) n;
    insert into outbox.event (position, created_at, id, bucket, topic, key, version, kind, origin, payload, headers)
    select n, now(), gen_random_uuid(), 0, 'notes.v1', 'k' || n, 2, 'test.noted.v1', 'notes', '', '{}'
    from generate_series(1, $1::bigint) n";

/// The rows of the outbox that a call read, by table; its effect is taken back.
async fn read(connection: &mut PgConnection, call: &str, n: i64) -> Result<Vec<(String, i64)>, BoxError> {
    let keys = "(select array_agg('k' || k) from generate_series(101, 200) k)";
    let call = call.replace("{n}", &n.to_string()).replace("{keys}", keys);
    let mut tx = connection.begin().await?;
    let before: HashMap<String, i64> = counters(&mut tx).await?.into_iter().collect();
    let asked = format!("select count(*) from {call} answer");
    sqlx::query(AssertSqlSafe(asked)).persistent(false).execute(&mut *tx).await?;
    let after = counters(&mut tx).await?;
    tx.rollback().await?;
    let since = |(table, rows)| {
        let rows = rows - before.get(&table).unwrap_or(&0);
        (table, rows)
    };
    Ok(after.into_iter().map(since).collect())
}

/// Rows that this session has read, by table, since the server took its counters over last; it does not within a transaction.
async fn counters(tx: &mut PgTransaction<'_>) -> sqlx::Result<Vec<(String, i64)>> {
    let counters = sqlx::query_as(
        "select relname::text, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables
         where schemaname = 'outbox'",
    );
    counters.fetch_all(&mut **tx).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_made_while_the_tables_were_empty_still_looks_rows_up_when_they_are_full()
-> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "plans", "notes").await?;
    let mut module = PgConnection::connect(&home.module_url()).await?;
    let mut operator = home.admin.acquire().await?.detach();
    sqlx::query("select outbox.register('test.plans')").execute(&mut module).await?;
    for table in [
        "head",
        "cursor",
        "archived_cursor",
        "archived_head",
        "parked",
        "dead_letter",
        "overflow",
        "applied_id",
    ] {
        let alone = format!("alter table outbox.{table} set (autovacuum_enabled = false)");
        sqlx::query(AssertSqlSafe(alone)).execute(&home.admin).await?;
    }
    sqlx::query("vacuum analyze").execute(&home.admin).await?;
    for n in 1..=CALLS {
        for call in GATE {
            read(&mut module, call, n).await?;
        }
        for call in OPERATOR {
            read(&mut operator, call, n).await?;
        }
    }
    sqlx::raw_sql(AssertSqlSafe(FILL.replace("$1", &KEYS.to_string()))).execute(&home.admin).await?;
    let mut much = Vec::new();
    let mut total = 0;
    for (connection, calls) in [(&mut module, &GATE[..]), (&mut operator, &OPERATOR[..])] {
        for call in calls {
            let rows = read(connection, call, CALLS + 1).await?;
            total += rows.iter().map(|(_, rows)| rows).sum::<i64>();
            much.extend(rows.into_iter().filter(|(_, rows)| *rows > ROWS_MAX).map(|rows| (*call, rows)));
        }
    }
    assert!(much.is_empty(), "{much:#?}");
    assert!(total > 100, "{total} rows: the calls read nothing");
    module.close().await?;
    operator.close().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_function_was_made_anew_without_its_setting() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "settings", "notes").await?;
    let (all, without): (i64, Vec<String>) = sqlx::query_as(
        "select count(*), coalesce(array_agg(p.proname::text) filter (
                where not coalesce(p.proconfig, '{}') @> '{enable_seqscan=off,jit=off}'), '{}')
         from pg_proc p join pg_language l on l.oid = p.prolang
         where p.pronamespace = 'outbox'::regnamespace and l.lanname = 'plpgsql' and p.prosecdef and p.prokind = 'f'",
    )
    .fetch_one(&home.admin)
    .await?;
    assert!(all > 30, "{all} functions");
    assert_eq!(without, Vec::<String>::new());
    home.drop_now().await
}
