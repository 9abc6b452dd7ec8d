//! Retiring the source's copy: its rights end with the change, and each touch after it is found.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::PgPool;
use strangler::{Advance, Controller, Error, Gate, Home, Stage, Verdict};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::forward::running;
use crate::world::{MIGRATION, SOON, World, eventually, gate, login, refusal, role};

#[tokio::test]
async fn sealing_ends_the_sources_rights_and_no_key_comes_back() {
    let world = World::new().await;
    let controller = ready(&world).await;
    assert_eq!(code(&world.writes_pool, "insert into shop.payment (key) values ('early')").await, None);
    controller.advance(&Advance::to(Stage::Sealed), "ada").await.unwrap();

    for sql in [
        "insert into shop.payment (key) values ('late')",
        "update shop.payment set version = 9",
        "insert into shop.given (key, epoch) values ('a', 9)",
    ] {
        assert_eq!(code(&world.writes_pool, sql).await.as_deref(), Some("42501"), "{sql}");
    }
    assert_eq!(code(&world.writes_pool, "select count(*) from shop.payment").await, None);
    let revoked = "select count(*) - 2 * (select count(*) from pg_tables where schemaname = 'shop') from strangler.sealed_right";
    assert_eq!(world.number(revoked).await, 0, "insert and update, of each table");
    // Not even the database's owner makes the source an owner again.
    for sql in [
        "update strangler.owner set owner = 'source'",
        "update strangler.owner set phase = 'recalling'",
        "insert into strangler.owner (migration, key, tenant, owner, born_at, born_revision)
         values ('payments', 'new', 'a', 'source', now(), 1)",
    ] {
        assert_eq!(code(&world.admin, sql).await.as_deref(), Some("55000"), "{sql}");
    }
    assert!(matches!(world.lock("a").await, Err(Error::NotOwner { owner: Home::Target, .. })));
    assert_eq!(world.born("a", "young").await, Home::Target);
    let said = refusal(controller.parity("ada").await);
    assert!(said.contains("in stage sealed the source's copy is retired"), "{said}");

    // A hold is lifted there, too, and seals nothing anew.
    controller.hold("a question", "ada").await.unwrap();
    assert!(controller.advance(&Advance::resume(), "ada").await.unwrap().entered);

    // A deployment runs `migrate` again, which grants what the program's version needs.
    let writes = role(&world.database, "writes");
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("grant insert on shop.payment to {writes}")))
        .execute(&world.admin)
        .await
        .unwrap();
    strangler::sealable(&world.admin, MIGRATION, &writes, "shop").await.unwrap();
    let sql = "insert into shop.payment (key) values ('later')";
    assert_eq!(code(&world.writes_pool, sql).await.as_deref(), Some("42501"));
    world.end().await;
}

#[tokio::test]
async fn a_role_that_could_write_by_other_means_is_named_and_nothing_is_sealed() {
    let world = World::new().await;
    let controller = ready(&world).await;
    let sealed = Advance::to(Stage::Sealed);
    world.execute("grant insert on shop.payment to public").await;
    let said = refusal(controller.advance(&sealed, "ada").await);
    assert!(said.contains("_writes may still write shop.payment"), "{said}");
    assert_eq!(controller.status().await.unwrap().policy.stage, Stage::Primary);
    assert_eq!(code(&world.writes_pool, "update shop.payment set version = version").await, None);

    world.execute("revoke insert on shop.payment from public").await;
    world.execute("delete from strangler.sealable").await;
    let said = refusal(controller.advance(&sealed, "ada").await);
    assert!(said.contains("no role of migration payments is registered"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn a_key_elsewhere_is_found_under_the_lock_whatever_the_gates_saw() {
    let world = World::new().await;
    let controller = ready(&world).await;
    // A writer of the owners' table that has not ended: the change waits for it, and then gives up.
    let mut tx = world.admin.begin().await.unwrap();
    sqlx::query("update strangler.owner set phase = 'recalling' where key = 'a'")
        .execute(&mut *tx)
        .await
        .unwrap();
    let busy = controller.advance(&Advance::to(Stage::Sealed), "ada").await;
    assert!(matches!(busy, Err(Error::Busy(_))), "{busy:?}");
    tx.commit().await.unwrap();
    let sealed = sqlx::query("select strangler.seal('payments')").execute(&world.controller_pool).await;
    let said = sealed.unwrap_err().to_string();
    assert!(said.contains("key a is not settled at the target"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn each_right_that_is_left_and_each_touch_is_named_before_removal() {
    let world = World::new().await;
    world.execute("create extension pg_stat_statements").await;
    let reports = login(&world.database, &world.admin, "reports").await;
    let controller = ready(&world).await;
    controller.advance(&Advance::to(Stage::Sealed), "ada").await.unwrap();
    let found = verify(&controller).await;
    assert_eq!(found.verdict, Verdict::Fail);
    assert!(found.found.contains("_writes may select shop.payment"), "{found:?}");

    let (writes, other) = (role(&world.database, "writes"), role(&world.database, "reports"));
    let sql = format!(
        "revoke all on all tables in schema shop from {writes}; revoke all on schema shop from {writes};
         grant usage on schema shop to {other}; grant select on shop.payment to {other}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&world.admin).await.unwrap();
    sqlx::query("select count(*) from shop.payment").execute(&reports).await.unwrap();
    // PostgreSQL counts a session's touches when it ends, or a while after.
    reports.close().await;
    let counted = world.counts_statements().await;
    if !counted {
        let left_out = "pg_stat_statements is not preloaded: that the gate `verify` passes is left out";
        writeln!(std::io::stderr(), "{left_out}").unwrap();
    }
    eventually("the touch is named", async || {
        let found = verify(&controller).await;
        let inputs = found.evidence.to_string();
        inputs.contains("_reports may select shop.payment")
            && inputs.contains("\"shop.payment was touched")
            && (!counted || inputs.contains("select count(*) from shop.payment by"))
    })
    .await;

    let sql = format!("revoke all on shop.payment from {other}; revoke all on schema shop from {other}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&world.admin).await.unwrap();
    assert!(verify(&controller).await.found.contains("was touched"), "it is not forgotten at once");
    // Eight days go by. What other sessions did before may be counted late, which begins the days anew. Without the statements
    // nobody knows who reads: no data is never success.
    let expected = if counted { Verdict::Pass } else { Verdict::Inconclusive };
    eventually("nothing is found any more", async || {
        let sql = "update strangler.touch set first_at = first_at - interval '8 days',
                                              changed_at = changed_at - interval '8 days'";
        world.execute(sql).await;
        let found = verify(&controller).await;
        found.verdict == expected && (counted || found.found.contains("pg_stat_statements"))
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_part_of_the_source_ends_in_order_with_the_seal_and_does_not_begin_after_it() {
    let world = World::new().await;
    let seal = world.writes.seal();
    let failed =
        seal.clone().until_set(CancellationToken::new(), "part", |_| async { Err::<(), _>("broken") });
    assert_eq!(failed.await, Err("broken"), "before the seal a failure is one");

    let shutdown = CancellationToken::new();
    let (began, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, ends) = (Arc::clone(&began), Arc::clone(&ended));
    let part = tokio::spawn(seal.clone().until_set(shutdown.clone(), "part", move |stop| async move {
        begins.notify_one();
        stop.cancelled().await;
        ends.notify_one();
        Err::<(), _>("it has lost its rights")
    }));
    timeout(SOON, began.notified()).await.unwrap();
    world.execute("update strangler.migration set stage = 'sealed'").await;
    timeout(SOON, ended.notified()).await.unwrap();

    let late = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&late);
    let never = tokio::spawn(seal.until_set(shutdown.clone(), "late", move |_| async move {
        begins.store(true, Ordering::SeqCst);
        Ok::<(), &str>(())
    }));
    assert!(!part.is_finished(), "the process goes on");
    shutdown.cancel();
    timeout(SOON, part).await.unwrap().unwrap().unwrap();
    timeout(SOON, never).await.unwrap().unwrap().unwrap();
    assert!(!late.load(Ordering::SeqCst));
    world.end().await;
}

#[tokio::test]
async fn who_must_know_of_the_seal_waits_until_the_database_tells_or_the_shutdown_comes() {
    let world = World::new().await;
    let (seal, shutdown) = (world.writes.seal(), CancellationToken::new());
    shutdown.cancel();
    world.execute("alter function strangler.is_sealed(text) rename to away").await;
    assert_eq!(timeout(SOON, seal.told(&shutdown)).await.unwrap(), None, "nobody can tell");
    world.execute("alter function strangler.away(text) rename to is_sealed").await;
    assert_eq!(timeout(SOON, seal.told(&shutdown)).await.unwrap(), Some(false));
    world.end().await;
}

/// In `primary`, with all keys at the target and two people for the next step.
async fn ready(world: &World) -> Controller {
    let controller = world.primary(&["a"]).await;
    let (relay, acting) = (world.relay(), running(&controller));
    let look = Advance { dry_run: true, ..Advance::to(Stage::Sealed) };
    eventually("all gates but the approvals pass", async || {
        let step = controller.advance(&look, "a test").await.unwrap();
        step.gates.iter().all(|gate| gate.verdict == Verdict::Pass || gate.name == "approvals")
    })
    .await;
    acting.abort();
    relay.end().await;
    for who in ["ada", "bea"] {
        controller.approve(Stage::Sealed, "it is time", who).await.unwrap();
    }
    controller
}

async fn verify(controller: &Controller) -> Gate {
    let look = Advance { dry_run: true, ..Advance::to(Stage::Removed) };
    let step = controller.advance(&look, "a test").await.unwrap();
    gate(&step, "verify").clone()
}

/// The SQLSTATE of a refusal.
async fn code(pool: &PgPool, sql: &'static str) -> Option<String> {
    let error = sqlx::query(sql).execute(pool).await.err()?;
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

impl World {
    /// Whether this server counts statements: one that is started for tests does.
    async fn counts_statements(&self) -> bool {
        let loaded: String =
            sqlx::query_scalar("show shared_preload_libraries").fetch_one(&self.admin).await.unwrap();
        loaded.contains("pg_stat_statements")
    }
}
