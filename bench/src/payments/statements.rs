//! What the shop asks its databases, from `pg_stat_statements`. The extension is in one database and sees all of the server.

use anyhow::Result;
use sqlx::{FromRow, PgPool};

use crate::report::Statement;

/// Characters of a statement that are shown.
const SHOWN: usize = 140;

/// Statements that are kept; the page shows fewer.
const KEPT: usize = 80;

/// One statement of one role.
#[derive(Debug, FromRow)]
pub(super) struct Row {
    role: String,
    query: String,
    calls: i64,
    ms: f64,
    /// Calls that wrote something, at most.
    writes: i64,
}

/// Forgets what was counted.
pub(super) async fn reset(pool: &PgPool) -> Result<()> {
    sqlx::query("select pg_stat_statements_reset()").execute(pool).await?;
    Ok(())
}

/// What was sent to these databases since then, but not by us.
pub(super) async fn read(pool: &PgPool, databases: &[String]) -> Result<Vec<Row>> {
    let rows = sqlx::query_as(
        "select r.rolname::text as role, s.query, s.calls, s.total_exec_time as ms,
                least(s.calls, s.wal_records)::bigint as writes
         from pg_stat_statements s
         join pg_database d on d.oid = s.dbid
         join pg_roles r on r.oid = s.userid
         where d.datname = any ($1) and s.toplevel and r.rolname <> session_user
         order by s.calls desc",
    )
    .bind(databases)
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Statements in all, and those of them that only begin, end or set something.
pub(super) fn counts(rows: &[Row]) -> (i64, i64) {
    let control = |row: &&Row| {
        let first = row.query.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        ["begin", "commit", "rollback", "set"].iter().any(|word| first.eq_ignore_ascii_case(word))
    };
    let calls = |row: &Row| row.calls;
    (rows.iter().map(calls).sum(), rows.iter().filter(control).map(calls).sum())
}

/// Commits that did not wait for the disk, at most: the relays' writes, each of which is a transaction of its own.
pub(super) fn unawaited(rows: &[Row]) -> i64 {
    rows.iter().filter(|row| row.role.ends_with("_outbox")).map(|row| row.writes).sum()
}

/// The most frequent ones, in the order of their calls.
pub(super) fn kept(rows: &[Row], way: &str, orders: f64) -> Vec<Statement> {
    let kept = rows.iter().take(KEPT);
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
    let line = |row: &Row| Statement {
        way: way.to_owned(),
        role: module(&row.role),
        text: short(&row.query),
        calls: row.calls as f64 / orders,
        ms: row.ms / orders,
    };
    kept.map(line).collect()
}

/// `banyan_service_1f2e3d4c_payments` is `service payments`.
fn module(role: &str) -> String {
    let words: Vec<&str> = role.trim_start_matches("banyan_").splitn(3, '_').collect();
    match words[..] {
        [database, _, module] => format!("{database} {module}"),
        _ => role.to_owned(),
    }
}

fn short(query: &str) -> String {
    let words: Vec<&str> = query.split_whitespace().collect();
    let text = words.join(" ");
    let shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() { shown + " .." } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(role: &str, query: &str, calls: i64) -> Row {
        Row { role: role.into(), query: query.into(), calls, ms: 1.0, writes: calls }
    }

    #[test]
    fn what_only_begins_or_ends_is_told_apart() {
        let rows = [row("a", "BEGIN", 2), row("a", "set local x = $1", 3), row("a", "select begin()", 5)];
        assert_eq!(counts(&rows), (10, 5));
    }

    #[test]
    fn only_relays_do_not_wait_for_the_disk() {
        let rows =
            [row("banyan_monolith_01ab_outbox", "delete", 2), row("banyan_monolith_01ab_orders", "x", 3)];
        assert_eq!((unawaited(&rows), module(&rows[0].role)), (2, "monolith outbox".into()));
    }

    #[test]
    fn a_statement_is_one_short_line() {
        let text = short(&format!("select 1,\n   2{}", " x".repeat(100)));
        assert!(text.starts_with("select 1, 2 x x") && text.ends_with(" .."), "{text}");
    }
}
