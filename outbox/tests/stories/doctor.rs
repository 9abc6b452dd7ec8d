//! The doctor: nothing to say about a healthy outbox, and one story for each thing that can be wrong.

use std::time::Duration;

use outbox::{
    BoxError, Handler, Inbox, Received, Topic,
    doctor::{self, Bounds, Finding, Severity},
    kafka,
    memory::Memory,
};
use sqlx::{AssertSqlSafe, Connection as _, postgres::PgTransaction};

use crate::world::{Home, NOTES, Noted, World, noted, until};

/// The checks that found something, with how bad it is.
fn told(found: &[Finding]) -> Vec<(&'static str, Severity)> {
    // Tests' servers come with whatever setting their maker gives them.
    let found = found.iter().filter(|finding| finding.check != "settings");
    found.map(|finding| (finding.check, finding.severity)).collect()
}

async fn examined(home: &Home, bounds: &Bounds) -> Result<Vec<(&'static str, Severity)>, BoxError> {
    Ok(told(&doctor::examine(&home.admin, bounds).await?))
}

async fn change(home: &Home, sql: &str) -> Result<(), BoxError> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&home.admin).await?;
    Ok(())
}

/// Breaks something, sees it told, mends it, and sees nothing told.
async fn broken(
    home: &Home,
    (harm, mend): (&str, &str),
    wanted: (&'static str, Severity),
) -> Result<(), BoxError> {
    change(home, harm).await?;
    let found = examined(home, &Bounds::default()).await?;
    assert_eq!(found, [wanted], "after: {harm}");
    change(home, mend).await?;
    assert_eq!(examined(home, &Bounds::default()).await?, [], "after: {mend}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_is_told_with_its_remedy() -> Result<(), BoxError> {
    use Severity::{Critical, Notice, Warning};
    let world = World::new("doctor").await?;
    let home = Home::new(world.stack, "doctor", "test.notes").await?;
    assert_eq!(examined(&home, &Bounds::default()).await?, [], "a new outbox is healthy");
    let detach = "do $$ begin for n in 2..14 loop execute format('alter table outbox.event detach partition outbox.event_%s',
                  to_char(now() at time zone 'UTC' + n * interval '1 day', 'YYYYMMDD')); end loop; end $$";
    let attach = "do $$ begin for n in 2..14 loop execute format('drop table if exists outbox.event_%s',
                  to_char(now() at time zone 'UTC' + n * interval '1 day', 'YYYYMMDD')); end loop; end $$;
                  select outbox.make_partitions(14)";
    broken(&home, (detach, attach), ("partitions", Warning)).await?;
    let old = "create table outbox.event_20200101 (like outbox.event including all);
               alter table outbox.event attach partition outbox.event_20200101 for values from ('2020-01-01 00:00+00')
               to ('2020-01-02 00:00+00')";
    broken(&home, (old, "drop table outbox.event_20200101"), ("partitions", Warning)).await?;
    for (table, columns, check, severity) in [
        (
            "conflict",
            "values ('h', 't', 'k', 1, gen_random_uuid(), gen_random_uuid())",
            "held_back",
            Critical,
        ),
        (
            "dead_letter (id, handler, topic, key, version, event_id, payload, headers, error, fingerprint, attempts)",
            "values (gen_random_uuid(), 'h', 't', 'k', 1, gen_random_uuid(), '', '{}', 'no', 'f', 8)",
            "held_back",
            Critical,
        ),
        (
            "unreadable (consumer_group, topic, partition, record_offset, error, headers)",
            "values ('g', 't', 0, 0, 'no', '{}')",
            "held_back",
            Warning,
        ),
        (
            "parked (handler, topic, key, version, id, reason, payload, headers)",
            "values ('h', 't', 'k', 1, gen_random_uuid(), 'refused', '', '{}')",
            "held_back",
            Warning,
        ),
        (
            "overflow (handler, topic, key, version, events)",
            "values ('h', 't', 'k', 1, 0)",
            "held_back",
            Warning,
        ),
    ] {
        let name = table.split(' ').next().unwrap_or(table);
        let (harm, mend) =
            (format!("insert into outbox.{table} {columns}"), format!("truncate outbox.{name}"));
        broken(&home, (&harm, &mend), (check, severity)).await?;
    }
    let queue = "alter table outbox.pending";
    let settings = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0";
    let reset = format!("{queue} reset (autovacuum_vacuum_scale_factor)");
    broken(&home, (&reset, &format!("{queue} set ({settings})")), ("vacuum", Warning)).await?;
    let off = format!("{queue} set (autovacuum_enabled = false)");
    broken(&home, (&off, &format!("{queue} reset (autovacuum_enabled)")), ("vacuum", Critical)).await?;
    let back = "update outbox._migrations set success = false where version = (select max(version) from outbox._migrations)";
    broken(&home, (back, "update outbox._migrations set success = true"), ("schema", Warning)).await?;
    let ahead = "insert into outbox._migrations (version, description, success, checksum, execution_time)
                 values (9999, 'from the future', true, '', 0)";
    broken(&home, (ahead, "delete from outbox._migrations where version = 9999"), ("schema", Notice)).await?;
    let plain = "alter table outbox._migrations rename to noted_elsewhere";
    let noted = "alter table outbox.noted_elsewhere rename to _migrations";
    broken(&home, (plain, noted), ("schema", Notice)).await?;
    change(&home, "drop schema outbox cascade").await?;
    assert_eq!(examined(&home, &Bounds::default()).await?, [("schema", Critical)]);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_nobody_refills_is_told() -> Result<(), BoxError> {
    let world = World::new("gap").await?;
    let home = Home::new(world.stack, "gap", "test.notes").await?;
    let gap = "insert into outbox.handler (name, role) values ('h', 'r');
               insert into outbox.cursor (handler, topic, key, version) values ('h', 't', 'k', 1);
               insert into outbox.parked (handler, topic, key, version, id, reason, payload, headers, parked_at)
               select 'h', 't', 'k', n, gen_random_uuid(), 'early', '', '{}', now() - interval '6 minutes'
               from generate_series(3, 4) n";
    let young = "update outbox.parked set parked_at = now()";
    broken(&home, (gap, young), ("held_back", Severity::Warning)).await?;
    let at_once = Bounds { gap_age: Duration::ZERO, ..Bounds::default() };
    let found = doctor::held_back(&home.admin, &at_once).await?;
    assert_eq!(found[0].what, "1 keys with missing events");
    change(&home, "update outbox.cursor set version = 2").await?;
    assert_eq!(examined(&home, &at_once).await?, [], "its turn has come");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn today_without_a_partition_is_critical() -> Result<(), BoxError> {
    let world = World::new("today").await?;
    let home = Home::new(world.stack, "today", "test.notes").await?;
    let today = "do $$ begin execute format('drop table outbox.event_%s', to_char(now() at time zone 'UTC', 'YYYYMMDD')); end $$";
    broken(&home, (today, "select outbox.make_partitions(14)"), ("partitions", Severity::Critical)).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_do_not_get_away_are_told() -> Result<(), BoxError> {
    let mut world = World::new("stuck").await?;
    let home = Home::new(world.stack, "stuck", "test.notes").await?;
    let at_once = Bounds { undelivered_age: Duration::ZERO, ..Bounds::default() };
    home.publish(&noted("a", 1)).await?;
    assert_eq!(
        examined(&home, &at_once).await?,
        [("delivery", Severity::Critical), ("relays", Severity::Critical)],
        "nobody sends"
    );
    assert_eq!(examined(&home, &Bounds::default()).await?, [("relays", Severity::Critical)], "not old yet");
    let memory = Memory::new(1);
    memory.refuse(|record| record.key == "bad");
    let relay = outbox::Relay::new(home.relay.clone(), memory.sink());
    world.spawn(|shutdown| relay.run(shutdown));
    home.publish(&noted("bad", 1)).await?;
    let refused = || async {
        let found = doctor::delivery(&home.admin, &Bounds::default()).await?;
        Ok(found.iter().any(|f| f.severity == Severity::Warning && f.what.contains("the story refuses it")))
    };
    until(true, refused).await?;
    change(&home, "update outbox.pending set quarantined_at = now()").await?;
    assert_eq!(examined(&home, &Bounds::default()).await?, [("delivery", Severity::Critical)]);
    change(&home, "update outbox.pending set quarantined_at = null, retry_at = now()").await?;
    memory.refuse(|_| false);
    until(Vec::new(), || examined(&home, &at_once)).await?;
    world.stop().await?;
    home.drop_now().await
}

struct Slow;

impl Handler for Slow {
    const NAME: &'static str = "test.slow";
    type Event = Noted;

    async fn handle(&self, _: &mut PgTransaction<'_>, _: Received<Noted>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_stands_still_is_told() -> Result<(), BoxError> {
    let mut world = World::new("still").await?;
    let home = Home::new(world.stack, "still", "test.notes").await?;
    let memory = Memory::new(1);
    let relay = outbox::Relay::new(home.relay.clone(), memory.sink());
    world.spawn(|shutdown| relay.run(shutdown));
    home.publish(&noted("a", 1)).await?;
    let inbox = Inbox::new(home.module.clone(), memory.source("inbox")).register(Slow);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(inbox.run(shutdown.clone()));
    let cursors = || async {
        Ok(sqlx::query_scalar::<_, i64>("select count(*) from outbox.cursor").fetch_one(&home.admin).await?)
    };
    until(1, cursors).await?;
    let at_once = Bounds { progress_age: Duration::ZERO, ..Bounds::default() };
    until(Vec::new(), || examined(&home, &at_once)).await?;
    shutdown.cancel();
    running.await??;
    home.publish(&noted("a", 2)).await?;
    home.publish(&noted("b", 1)).await?;
    until(0, || home.pending()).await?;
    let found = doctor::handlers(&home.admin, &at_once).await?;
    assert_eq!(found[0].what, "test.slow has not passed 2 of the last 1000 events of notes.v1");
    assert_eq!(examined(&home, &Bounds::default()).await?, [], "it may take its time");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_applied_anything_is_told_too() -> Result<(), BoxError> {
    let mut world = World::new("never").await?;
    let home = Home::new(world.stack, "never", "test.notes").await?;
    let (memory, elsewhere) = (Memory::new(1), Memory::new(1));
    let relay = outbox::Relay::new(home.relay.clone(), memory.sink());
    world.spawn(|shutdown| relay.run(shutdown));
    // It reads another broker than the one that the relay sends to.
    let inbox = Inbox::new(home.module.clone(), elsewhere.source("inbox")).register(Slow);
    world.spawn(|shutdown| inbox.run(shutdown));
    let readers = || async {
        Ok(sqlx::query_scalar::<_, i64>("select count(*) from outbox.reader").fetch_one(&home.admin).await?)
    };
    until(1, readers).await?;
    home.publish(&noted("a", 1)).await?;
    until(0, || home.pending()).await?;
    let at_once = Bounds { progress_age: Duration::ZERO, ..Bounds::default() };
    let found = doctor::handlers(&home.admin, &at_once).await?;
    let told: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(told, ["test.slow has not passed 1 of the last 1000 events of notes.v1"]);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_rights_are_named() -> Result<(), BoxError> {
    let world = World::new("doctorrights").await?;
    let home = Home::new(world.stack, "doctorrights", "test.notes").await?;
    let bounds = Bounds::default();
    assert_eq!(doctor::module(&home.module, &[NOTES], &bounds).await?, []);
    assert_eq!(doctor::relay(&home.relay, &bounds).await?, []);
    let (module, relay) = (format!("{}_module", home.name()), format!("{}_relay", home.name()));
    let lacks = |found: Vec<Finding>| found.into_iter().map(|finding| finding.what).collect::<Vec<_>>();
    let other = doctor::module(&home.module, &[NOTES, Topic::new("others.v1")], &bounds).await?;
    assert_eq!(lacks(other), [format!("role {module} may not publish to others.v1")]);
    change(
        &home,
        &format!(
            "revoke execute on all functions in schema outbox from {module}; grant execute on function
           outbox.lock(text, text) to {module}; revoke delete on outbox.pending from {relay};
           revoke execute on function outbox.release(uuid) from {relay}"
        ),
    )
    .await?;
    let found = lacks(doctor::module(&home.module, &[NOTES], &bounds).await?);
    assert!(
        found.len() == 1 && found[0].contains("outbox.publish()") && !found[0].contains("lock"),
        "{found:?}"
    );
    let found = lacks(doctor::relay(&home.relay, &bounds).await?);
    assert_eq!(found, ["the role lacks outbox.pending, outbox.release()"]);
    change(&home, &format!("revoke usage on schema outbox from {relay}")).await?;
    let found = lacks(doctor::relay(&home.relay, &bounds).await?);
    assert!(found[0].contains("usage of schema outbox"), "{found:?}");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_vacuum_back_is_told() -> Result<(), BoxError> {
    let world = World::new("horizon").await?;
    let home = Home::new(world.stack, "horizon", "test.notes").await?;
    let strict = Bounds { transaction_age: Duration::ZERO, ..Bounds::default() };
    let mut open = sqlx::PgConnection::connect_with(&home.admin.connect_options()).await?;
    sqlx::raw_sql("begin isolation level repeatable read; select 1").execute(&mut open).await?;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut open).await?;
    let found = doctor::horizon(&home.admin, &strict).await?;
    assert!(found.iter().any(|finding| finding.what.contains(&format!("backend {pid} "))), "{found:?}");
    assert_eq!(doctor::horizon(&home.admin, &Bounds::default()).await?, [], "it is young");
    open.close().await?;
    // A role without the right says so instead of "nothing".
    let found = doctor::horizon(&home.relay, &Bounds::default()).await?;
    assert_eq!(told(&found), [("horizon", Severity::Notice)]);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_setting_is_critical() -> Result<(), BoxError> {
    let world = World::new("unsafe").await?;
    let home = Home::new(world.stack, "unsafe", "test.notes").await?;
    let options = home
        .admin
        .connect_options()
        .as_ref()
        .clone()
        .options([("synchronous_commit", "off"), ("idle_in_transaction_session_timeout", "60s")]);
    let careless = sqlx::PgPool::connect_with(options).await?;
    let found = doctor::settings(&careless, &Bounds::default()).await?;
    let found: Vec<_> = found.iter().filter(|f| f.what.starts_with("synchronous_commit")).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, Severity::Critical);
    let text = found[0].to_string();
    assert!(
        text.starts_with("CRITICAL settings: ") && text.ends_with("switch it on for roles that publish"),
        "{text}"
    );
    careless.close().await;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_or_forgets_is_told() -> Result<(), BoxError> {
    let world = World::new("topics").await?;
    let missing = Topic::new("missing.v1");
    // The stories' cluster is one broker.
    let name = world.kafka.physical("missing.v1");
    let alone = (format!("{} has one replica", world.kafka.physical(NOTES.name())), Severity::Warning);
    let told = async |bounds: &Bounds| -> Result<_, BoxError> {
        let found = doctor::topics(&world.kafka, &[NOTES, missing], bounds).await?;
        Ok(found.into_iter().map(|finding| (finding.what, finding.severity)).collect::<Vec<_>>())
    };
    let absent = (format!("{name} does not exist"), Severity::Critical);
    assert_eq!(told(&Bounds::default()).await?, [alone.clone(), absent.clone()]);
    // A topic keeps records for 7 days by default: too short for someone who wants 30.
    let strict = Bounds { topic_days: 30, ..Bounds::default() };
    let found = told(&strict).await?;
    assert!(found.len() == 3 && found[0].0.contains("keeps records for 168 h"), "{found:?}");
    assert_eq!(found[1..], [alone, absent]);
    // Asking about a topic has not made it.
    let states = kafka::topic_states(&world.kafka, &[missing]).await?;
    assert_eq!(states[0].partitions, 0);
    world.stop().await
}
