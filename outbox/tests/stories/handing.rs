//! A key that is to be handed on leaves nothing of it behind: whatever waits is told, by the role of the module itself.

use outbox::{BoxError, Held, HeldBy, Topic, held};

use crate::world::{Home, NOTES};

/// As the module: one event waits for an earlier one, one was given up, one key misses its snapshot, three are published.
const BY_MODULE: &str = "
    select outbox.register('test.one'), outbox.register('test.two');
    select outbox.publish('notes.v1', k, 'test.noted.v1', '') from unnest(array['free', 'stuck', 'other']) k;
    select outbox.park('test.one', 'notes.v1', 'early', 3, gen_random_uuid(), '', '{}', 'early', null, 100, 100);
    select outbox.bury('test.two', 'notes.v1', 'given-up', 1, gen_random_uuid(), '', '{}', 'no', 10);
    select outbox.await_snapshot('test.one', 'notes.v1', 'torn')";

/// What only time or a broker does: a gap that is noted, one that was passed since, and a refused row.
const BY_TIME: &str = "
    insert into outbox.overflow (handler, topic, key, version, events)
    values ('test.one', 'notes.v1', 'gap', 2, 0), ('test.one', 'notes.v1', 'passed', 2, 0);
    insert into outbox.cursor (handler, topic, key, version) values ('test.one', 'notes.v1', 'passed', 2);
    update outbox.pending set quarantined_at = now()
    where position = (select h.position from outbox.head h where h.key = 'stuck')";

fn one(key: &str, by: HeldBy, handler: Option<&str>) -> Held {
    Held { key: key.into(), by, handler: handler.map(Into::into) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_of_a_key_is_told_to_the_module_that_hands_it_on() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "handing", "notes").await?;
    sqlx::raw_sql(BY_MODULE).execute(&home.module).await?;
    sqlx::raw_sql(BY_TIME).execute(&home.admin).await?;
    let keys = ["early", "given-up", "torn", "gap", "passed", "stuck", "free", "unknown"].map(String::from);
    let mut tx = home.module.begin().await?;
    let mut found = held(&mut tx, NOTES, &keys).await?;
    found.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(
        found,
        [
            one("early", HeldBy::Parked, Some("test.one")),
            one("gap", HeldBy::Missing, Some("test.one")),
            one("given-up", HeldBy::Dead, Some("test.two")),
            one("stuck", HeldBy::Quarantined, None),
            one("torn", HeldBy::Awaiting, Some("test.one")),
        ]
    );
    let other = held(&mut tx, Topic::new("other.v1"), &keys).await;
    assert!(matches!(other, Err(outbox::Error::Denied(_))), "{other:?}");
    tx.rollback().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_declared_as_never_skipped_and_again() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "declared", "notes").await?;
    for _ in 0..2 {
        outbox::never_skip(&home.admin, &["test.given.v1", "test.noted.v1"]).await?;
    }
    let kinds: Vec<String> =
        sqlx::query_scalar("select kind from outbox.never_skipped order by 1").fetch_all(&home.admin).await?;
    assert_eq!(kinds, ["test.given.v1", "test.noted.v1"]);
    home.drop_now().await
}
