//! Nothing an operator does is without a row in the audit.

use outbox::{BoxError, audit};
use sqlx::PgPool;
use uuid::Uuid;

use crate::world::{Home, World};

/// They take an open replay further, and it was noted when it was asked for.
const GO_ON_WITH_WHAT_IS_NOTED: [&str; 3] = ["note_replay", "redeliver_batch", "replay_batch"];

/// A home with an operator.
async fn operated(world: &World, name: &str) -> Result<(Home, PgPool, String), BoxError> {
    let home = Home::new(world.stack, name, "test.notes").await?;
    let role: String =
        sqlx::query_scalar("select current_database() || '_operator'").fetch_one(&home.admin).await?;
    let create = format!("create role {role} login password 'story'");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&home.admin).await?;
    outbox::grant_operator(&home.admin, &role).await?;
    let options = home.admin.connect_options();
    let pool = PgPool::connect_with((*options).clone().username(&role).password("story")).await?;
    Ok((home, pool, role))
}

async fn texts(pool: &PgPool, query: &'static str, role: &str) -> Result<Vec<String>, BoxError> {
    Ok(sqlx::query_scalar(query).bind(role).fetch_all(pool).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reads_and_calls_what_notes_its_callers() -> Result<(), BoxError> {
    let world = World::new("operator").await?;
    let (home, pool, role) = operated(&world, "operator").await?;
    let writes = "select c.relname || ' ' || p.name from pg_class c
        cross join unnest(array['insert', 'update', 'delete', 'truncate']) as p (name)
        where c.relnamespace = 'outbox'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
          and has_table_privilege($1, c.oid, p.name)";
    assert!(texts(&home.admin, writes, &role).await?.is_empty());
    let registered = "select f.signature::regprocedure::text from outbox.operator_function f
        where has_function_privilege($1, f.signature, 'execute') order by 1";
    let callable = "select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'outbox'::regnamespace and has_function_privilege($1, p.oid, 'execute') order by 1";
    let functions = texts(&home.admin, callable, &role).await?;
    assert_eq!(functions, texts(&home.admin, registered, &role).await?);
    assert!(functions.len() >= 4, "{functions:?}");
    // Who notes, by itself or by whom it calls. One that can't write has nothing to note.
    let silent = "with recursive ours as (
            select p.oid, p.proname, p.prosrc, p.prosecdef, p.provolatile from pg_proc p
            where p.pronamespace = 'outbox'::regnamespace
        ), noting as (
            select o.oid, o.proname from ours o where o.proname = 'note_audit'
            union select o.oid, o.proname from ours o, noting n where o.prosrc like '%outbox.' || n.proname || '(%'
        )
        select o.proname::text from outbox.operator_function f
        join ours o on o.oid = f.signature::regprocedure
        where o.provolatile = 'v' and not (o.prosecdef and o.oid in (select n.oid from noting n)) and $1 <> ''
        order by 1";
    assert_eq!(texts(&home.admin, silent, &role).await?, GO_ON_WITH_WHAT_IS_NOTED);
    pool.close().await;
    world.stop().await?;
    home.drop_now().await
}

/// Three dead letters, an unreadable record and a conflict with the first letter's id, as a module's inbox leaves them.
async fn trouble(home: &Home) -> Result<Vec<Uuid>, BoxError> {
    sqlx::query("select outbox.register('test.judge')").execute(&home.module).await?;
    for key in ["a", "b", "c"] {
        sqlx::query(
            "select outbox.bury('test.judge', 'notes.v1', $1, 1, gen_random_uuid(), 'x', '{}', 'no', 8)",
        )
        .bind(key)
        .execute(&home.module)
        .await?;
    }
    sqlx::query("select outbox.keep_unreadable('g', 'notes.v1', 0, 7, 'no key', null, 'x', '{}')")
        .execute(&home.module)
        .await?;
    let letters: Vec<Uuid> =
        sqlx::query_scalar("select id from outbox.dead_letter order by key").fetch_all(&home.admin).await?;
    sqlx::query("select outbox.note_conflict('test.judge', 'notes.v1', 'c', 1, gen_random_uuid(), $1)")
        .bind(letters[0])
        .execute(&home.module)
        .await?;
    Ok(letters)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reason_no_action() -> Result<(), BoxError> {
    let world = World::new("reasons").await?;
    let (home, pool, role) = operated(&world, "reasons").await?;
    let letters = trouble(&home).await?;
    let state = "select jsonb_build_array((select jsonb_agg(d order by d.id) from outbox.dead_letter d),
        (select jsonb_agg(p order by p.key) from outbox.parked p), (select jsonb_agg(c order by c.key) from outbox.cursor c),
        (select jsonb_agg(u) from outbox.unreadable u), (select jsonb_agg(c) from outbox.conflict c))::text where $1 <> ''";
    let before = texts(&home.admin, state, &role).await?;
    let calls = [
        ("select outbox.replay_dead_letters(array[$1], $2, $3)::text", letters[0], "replay_dead_letter"),
        ("select outbox.edit_dead_letter($1, 'y', $2, $3)::text", letters[1], "edit_dead_letter"),
        ("select outbox.discard_dead_letters(array[$1], $2, $3)::text", letters[2], "discard_dead_letter"),
        (
            "select outbox.discard_unreadable('g', 'notes.v1', 0, 7, $2, $3)::text where $1 is not null",
            letters[0],
            "discard_unreadable",
        ),
        (
            "select outbox.settle_conflict('test.judge', 'notes.v1', 'c', 1, $1, $2, $3)::text",
            letters[0],
            "settle_conflict",
        ),
    ];
    for (actor, reason) in [("ann", " "), ("", "because")] {
        for (call, letter, _) in calls {
            let done = sqlx::query(call).bind(letter).bind(actor).bind(reason).execute(&pool).await;
            assert!(done.is_err(), "{call} by {actor:?} for {reason:?}");
        }
    }
    assert_eq!(texts(&home.admin, state, &role).await?, before, "nothing was done");
    for (call, letter, action) in calls {
        for noted in [true, false] {
            let seen = audit::list(&pool, &audit::Filter::default(), None, 100).await?.len();
            sqlx::query(call).bind(letter).bind("ann").bind("because").execute(&pool).await?;
            let entries = audit::list(&pool, &audit::Filter::default(), None, 100).await?;
            assert_eq!(
                entries.len(),
                seen + usize::from(noted),
                "{call}: once is noted, a repeat does nothing"
            );
            let last = &entries[0];
            assert_eq!(
                (last.action.as_str(), last.actor.as_str(), last.role.as_str()),
                (action, "ann", role.as_str())
            );
        }
    }
    let page = audit::list(&pool, &audit::Filter::default(), None, 1).await?;
    let older = audit::list(&pool, &audit::Filter::default(), Some(page[0].id), 100).await?;
    assert_eq!(older.len(), calls.len() - 1);
    let of = audit::Filter {
        action: Some("edit_dead_letter".into()),
        key: Some("b".into()),
        actor: Some("ann".into()),
    };
    assert_eq!(audit::list(&pool, &of, None, 100).await?.len(), 1);
    pool.close().await;
    world.stop().await?;
    home.drop_now().await
}
