//! A module's role may do its own part and see no table.

use sqlx::PgPool;

use crate::world::World;

#[tokio::test]
async fn each_role_may_do_its_part_only() {
    let world = World::new().await;
    world.born("a", "k").await;

    assert!(denied(&world.writes_pool, "select strangler.assign('payments', 'a', 'x')").await);
    assert!(denied(&world.births_pool, "select strangler.lock_owner('payments', 'k')").await);
    for sql in [
        "select strangler.claim_settled('payments', '{k}')",
        "select strangler.fence('payments', '{k}')",
        "select strangler.take_back('payments', 'k', 1)",
        "select strangler.claim_to_publish('payments', '{k}')",
        "select strangler.register_sealable('payments', 'public', 'shop')",
        "select strangler.revoke_writes('payments')",
    ] {
        assert!(denied(&world.births_pool, sql).await, "{sql}");
        assert!(denied(&world.controller_pool, sql).await, "{sql}");
    }
    for pool in [&world.births_pool, &world.writes_pool] {
        for sql in [
            "select count(*) from strangler.owner",
            "update strangler.owner set owner = 'target'",
            "delete from strangler.owner",
            "insert into strangler.migration (name, salt) values ('x', 'x')",
            "update strangler.migration set percent = 100",
            "select strangler.hold_policy('payments')",
            "select strangler.define('mine')",
            "select strangler.grant_controller(session_user)",
            "select strangler.grant_mover(session_user)",
            "delete from strangler.pinned",
            "select strangler.seal('payments')",
            "select strangler.note_touches('payments')",
            "select count(*) from strangler.touch",
            "insert into strangler.backfill (migration, asked_by) values ('payments', 'me')",
            "select count(*) from strangler.evidence",
            "insert into strangler.approval (migration, stage, by, reason) values ('payments', 'sealed', 'me', 'x')",
            "select strangler.approvals_since('payments')",
            "select count(*) from strangler.read_sample",
            "select strangler.read_policy('payments')",
            "select strangler.note_reads('payments', 1, 'v', '{equal}', '{1}', '{}', '{}', '{}', '{}')",
            "select strangler.grant_observer(session_user)",
        ] {
            assert!(denied(pool, sql).await, "{sql}");
        }
    }
    for sql in [
        "delete from strangler.owner",
        "delete from strangler.history",
        "delete from strangler.backfill",
        "update strangler.evidence set verdict = 'pass'",
        "update strangler.approval set at = now()",
        "delete from strangler.approval",
        "select strangler.grant_stages(session_user)",
        "update strangler.history set by = 'someone else'",
        "insert into strangler.migration (name, salt) values ('x', 'x')",
        "select strangler.grant_writer(session_user)",
        "select strangler.note_reads('payments', 1, 'v', '{equal}', '{1}', '{}', '{}', '{}', '{}')",
        "delete from strangler.read_comparison",
    ] {
        assert!(denied(&world.controller_pool, sql).await, "{sql}");
    }
    world.end().await;
}

async fn denied(pool: &PgPool, sql: &'static str) -> bool {
    let Err(error) = sqlx::query(sql).execute(pool).await else { return false };
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("42501")
}
