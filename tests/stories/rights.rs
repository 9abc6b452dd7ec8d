//! A module's role can do to tables what is written here, and nothing else: every role x table x verb is tried.

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tests::{Binaries, Shop, Side, story};

const VERBS: [&str; 5] = ["select", "insert", "update", "delete", "truncate"];

/// The SQLSTATE of a refused right.
const DENIED: &str = "42501";

/// A table or view, a column of it, and whether rows can be written to it at all: to our views, which join, nobody can.
type Table = (String, String, String, bool);

/// The verbs that a role may use on a table. Every table that is not here, or not with this role: none.
fn allowed(side: Side, role: &str, schema: &str, table: &str) -> &'static [&'static str] {
    match (role, schema, table) {
        // Each reads its own schema's bookkeeping, to say whether it is ready.
        (role, schema, "_migrations") if role == schema => &["select"],
        // The service's one module looks after the home's half of the migration too.
        ("payments", "strangler", "_migrations") if side == Side::Target => &["select"],
        ("catalog", "catalog", "product")
        | ("orders", "orders", "orders" | "line")
        | ("notifications", "notifications", "receipt")
        | ("webhooks", "webhooks", "notice") => &["select", "insert", "update", "delete"],
        ("payments", "payments", "payment" | "intent" | "heartbeat") => &["select", "insert", "update"],
        // Answers are kept for 7 days.
        ("payments", "payments", "idempotency") => &["select", "insert", "update", "delete"],
        ("payments", "payments", "difference" | "reconciliation") => &["select", "insert", "update"],
        ("payments", "payments", "settled") => &["select", "insert", "delete"],
        // What was decided in the shadow is kept for 7 days.
        ("payments", "payments", "decision" | "decision_mutant") => &["select", "insert", "update", "delete"],
        ("payments", "payments", "decision_sample") => &["select", "insert", "delete"],
        // The ledger, its adjustments and the audit only grow.
        ("payments", "payments", "ledger_entry" | "adjustment" | "audit") => &["select", "insert"],
        // The housekeeper drops the logs' old days, which takes their owner, and so whoever can do everything to them.
        ("housekeeper", "outbox", log) if is_log(log) => &VERBS,
        // A relay reads the log and takes rows from the queue; it can't write an event.
        ("outbox", "outbox", "pending") => &["select", "update", "delete"],
        ("outbox", "outbox", "origin") => &["select"],
        ("outbox", "outbox", "sent") => &["select", "insert"],
        (
            "outbox",
            "outbox",
            "event" | "head" | "archived_head" | "cursor" | "archived_cursor" | "parked" | "dead_letter"
            | "overflow" | "unreadable" | "conflict" | "handler" | "lease" | "relay",
        ) => &["select"],
        // A controller sets the policy and the owners; history can't be rewritten, and nothing deleted but the notes of keys that
        // could not move.
        ("strangler", "strangler", "pinned") => &["select", "insert", "update", "delete"],
        ("strangler", "strangler", "migration") => &["select", "update"],
        ("strangler", "strangler", "history" | "evidence" | "approval") => &["select", "insert"],
        // It asks for rights and touches, which functions of the schema's owner note.
        (
            "strangler",
            "strangler",
            "sealable" | "sealed_right" | "touch" | "read_comparison" | "read_sample",
        ) => &["select"],
        ("strangler", "strangler", "owner" | "seeding" | "lease" | "backfill") => {
            &["select", "insert", "update"]
        }
        _ => &[],
    }
}

/// `event` or `sent`, or one of their days.
fn is_log(table: &str) -> bool {
    let (log, day) = table.split_once('_').unwrap_or((table, ""));
    ["event", "sent"].contains(&log) && day.bytes().all(|digit| digit.is_ascii_digit())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_can_do_what_is_written_and_nothing_else() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&[]).await?;
        for (side, admin, schemas) in [(Side::Source, &shop.source, 7), (Side::Target, &shop.target, 3)] {
            let tables = tables(admin).await?;
            let found = tables.iter().map(|(schema, ..)| schema).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(found.len(), schemas, "schemas with tables: {found:?}");
            for (role, url) in shop.role_urls(side) {
                let mut connection = PgConnection::connect(&url).await?;
                for table in &tables {
                    try_all(&mut connection, side, &role, table).await?;
                }
                no_schema_is_open(&mut connection, &role).await?;
            }
        }
        Ok(())
    })
    .await;
}

async fn try_all(
    connection: &mut PgConnection,
    side: Side,
    role: &str,
    (schema, table, column, writable): &Table,
) -> Result<()> {
    for verb in if *writable { &VERBS[..] } else { &VERBS[..1] } {
        let may = allowed(side, role, schema, table).contains(verb);
        let sql = match *verb {
            "select" => format!(r#"select from "{schema}"."{table}" limit 1"#),
            "insert" => format!(r#"insert into "{schema}"."{table}" default values"#),
            "update" => format!(r#"update "{schema}"."{table}" set "{column}" = null where false"#),
            "delete" => format!(r#"delete from "{schema}"."{table}" where false"#),
            _ => format!(r#"truncate "{schema}"."{table}""#),
        };
        // Any other error, such as a missing value, comes after the right was checked.
        let denied = tried(connection, sql).await?.as_deref() == Some(DENIED);
        ensure!(
            denied != may,
            "{side:?}, role {role}, {verb} on {schema}.{table}: allowed {may}, denied {denied}"
        );
    }
    Ok(())
}

/// The SQLSTATE with which a statement failed, if it did. Nothing stays.
async fn tried(connection: &mut PgConnection, sql: String) -> Result<Option<String>> {
    let mut tx = connection.begin().await?;
    let done = sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await;
    tx.rollback().await?;
    match done {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(error)) => Ok(error.code().map(Into::into)),
        Err(error) => Err(error.into()),
    }
}

/// A module that can make tables elsewhere could leave traps there.
async fn no_schema_is_open(connection: &mut PgConnection, role: &str) -> Result<()> {
    let open: Vec<String> = sqlx::query_scalar(
        "select nspname::text from pg_namespace
         where has_schema_privilege(oid, 'create') and nspname not like 'pg_temp%' and nspname not like 'pg_toast_temp%'",
    )
    .fetch_all(connection)
    .await?;
    ensure!(open.is_empty(), "role {role} may create in {open:?}");
    Ok(())
}

/// Every table and view of ours, partitions too.
async fn tables(admin: &PgPool) -> Result<Vec<Table>> {
    let rows = sqlx::query_as(
        "select n.nspname::text, c.relname::text, min(a.attname::text), bool_or(c.relkind in ('r', 'p'))
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^(pg_|information_schema)'
         group by 1, 2 order by 1, 2",
    );
    Ok(rows.fetch_all(admin).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_calls_the_functions_of_others_that_it_needs_and_no_other() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&[]).await?;
        for side in [Side::Source, Side::Target] {
            for (role, url) in shop.role_urls(side) {
                let mut connection = PgConnection::connect(&url).await?;
                let strangler = functions(&mut connection, "strangler").await?;
                let expected: &[&str] = match (side, role.as_str()) {
                    (Side::Source, "orders") => &["assign", "find_owner"],
                    (Side::Source, "payments") => &[
                        "claim_settled",
                        "claim_to_publish",
                        "fence",
                        "find_owner",
                        "is_sealed",
                        "lock_owner",
                        "note_reads",
                        "read_policy",
                        "take_back",
                    ],
                    (Side::Source, "strangler") => &[
                        "approvals_since",
                        "birthplace",
                        "find_owner",
                        "grants_left",
                        "is_sealed",
                        "look_again",
                        "note_touches",
                        "read_policy",
                        "seal",
                        "share",
                        "unbroken_since",
                    ],
                    (Side::Target, "payments") => &[
                        "born",
                        "claim_authority",
                        "claim_to_publish",
                        "find_authority",
                        "holds",
                        "holds_any",
                        "lock_authority",
                        "lock_outcome",
                        "offered",
                        "put_authority",
                    ],
                    _ => &[],
                };
                assert_eq!(strangler, expected, "{side:?}, role {role}");
                let outbox = functions(&mut connection, "outbox").await?;
                let has = |name: &str| outbox.iter().any(|function| function == name);
                let module = !["outbox", "housekeeper", "strangler", "webhooks"].contains(&role.as_str());
                assert_eq!(
                    (has("publish"), has("admit")),
                    (module, module),
                    "{side:?}, role {role}: {outbox:?}"
                );
                assert_eq!(has("follow"), role == "payments", "{side:?}, role {role}: {outbox:?}");
                assert_eq!(has("lease"), role == "outbox", "{side:?}, role {role}: {outbox:?}");
                assert_eq!(has("log_of"), role == "outbox", "{side:?}, role {role}: {outbox:?}");
                let keeps = has("make_partitions") && has("needed");
                assert_eq!(keeps, role == "housekeeper", "{side:?}, role {role}: {outbox:?}");
                assert!(!has("grant_module") && !has("grant_relay"), "{side:?}, role {role}: {outbox:?}");
            }
        }
        Ok(())
    })
    .await;
}

/// The functions of a schema that the connection's role may call.
async fn functions(connection: &mut PgConnection, schema: &str) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "select distinct p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where n.nspname = $1 and has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute')
         order by 1",
    );
    Ok(rows.bind(schema).fetch_all(connection).await?)
}
