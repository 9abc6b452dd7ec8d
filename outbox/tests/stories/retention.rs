//! Days of the log come and go beside open publishers, and none goes that is needed.

use std::time::Duration;

use outbox::{
    BoxError, Error, Relay, replay,
    retention::{Housekeeping, Kept, Options, Report, Stopped},
};
use time::{Date, OffsetDateTime};

use crate::{
    shelf::{self, ME, Shelf, WHY, table},
    world::{Home, NOTES, noted, until},
};

fn keeping(shelf: &Shelf, lock_timeout: Duration) -> Housekeeping {
    Housekeeping::new(shelf.keeper.clone()).with(Options { lock_timeout, ..Options::default() })
}

fn today() -> Date {
    OffsetDateTime::now_utc().date()
}

fn week() -> Date {
    today() - time::Duration::days(7)
}

/// Makes all that was published delivered.
async fn deliver(shelf: &Shelf) -> Result<(), BoxError> {
    sqlx::query("delete from outbox.pending").execute(&shelf.home.admin).await?;
    Ok(())
}

fn kept(day: Date, because: &str) -> Report {
    let kept = vec![Kept { day: table("event", day), because: because.into() }];
    Report { dropped: vec![table("sent", day)], kept, ..Report::default() }
}

/// Whether an interrupted detach is left.
async fn detaching(shelf: &Shelf) -> Result<bool, BoxError> {
    let query = "select exists (select from pg_inherits where inhdetachpending)";
    Ok(sqlx::query_scalar(query).fetch_one(&shelf.home.admin).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_day_goes_while_publishers_are_open() -> Result<(), BoxError> {
    let shelf = Shelf::new("olddays").await?;
    shelf.publish("old", 1).await?;
    deliver(&shelf).await?;
    let day = shelf.age("old", 10).await?;
    let mut open = shelf.home.module.begin().await?;
    outbox::publish(&mut open, &noted("open", 1)).await?;
    // The open one is waited for, and others publish meanwhile.
    let keeping = keeping(&shelf, Duration::from_secs(3));
    let others = async {
        until(true, || detaching(&shelf)).await?;
        let before = tokio::time::Instant::now();
        shelf.publish("other", 5).await?;
        shelf.home.module.begin().await?.rollback().await?;
        Ok::<_, BoxError>(before.elapsed())
    };
    let (report, took) = tokio::join!(keeping.drop_before(week()), others);
    assert_eq!(report?.stopped, Some(Stopped::Locked));
    assert!(took? < Duration::from_secs(2), "publishers waited behind the detach");
    assert!(detaching(&shelf).await? && shelf.has(&table("event", day)).await?);
    // The interrupted detach is ended first, then the day goes.
    open.commit().await?;
    let report = keeping.drop_before(week()).await?;
    assert_eq!(report.dropped, [table("event", day), table("sent", day)]);
    assert_eq!((report.kept, report.stopped), (vec![], None));
    assert!(!detaching(&shelf).await? && !shelf.has(&table("event", day)).await?);
    assert_eq!((shelf.count("outbox.event").await?, shelf.count("outbox.pending").await?), (6, 6));
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_something_needs_is_kept() -> Result<(), BoxError> {
    let shelf = Shelf::new("needed").await?;
    let keeping = keeping(&shelf, Duration::from_secs(2));
    // Not delivered.
    shelf.publish("a", 3).await?;
    let day = shelf.age("a", 10).await?;
    assert_eq!(keeping.drop_before(week()).await?, kept(day, "pending"));
    // Delivered, but parked or missing at a handler here: `a` lacks version 2, `b` waits as a whole.
    deliver(&shelf).await?;
    let replayed = replay::ask(&shelf.operator, &key("a"), ME, WHY).await?;
    assert_eq!(keeping.drop_before(week()).await?.kept, kept(day, "replay").kept);
    assert!(replay::cancel(&shelf.operator, replayed, ME, WHY).await?);
    let park = "insert into outbox.handler (name, role) values ('test.late', 'x');
                insert into outbox.cursor (handler, topic, key, version, waiting)
                values ('test.late', 'notes.v1', 'a', 1, 1);
                insert into outbox.parked (handler, topic, key, version, id, reason, payload, headers)
                select 'test.late', e.topic, e.key, e.version, e.id, 'early', e.payload, outbox.record_headers(e)
                from outbox.event e where e.key = 'a' and e.version = 3";
    sqlx::raw_sql(park).execute(&shelf.home.admin).await?;
    assert_eq!(keeping.drop_before(week()).await?.kept, kept(day, "waiting").kept);
    // The parked one is of a later day; the one before it is still missing.
    let later = r#"update outbox.parked set headers = headers || '{"ce_time": "2999-01-01T00:00:00Z"}'"#;
    sqlx::query(later).execute(&shelf.home.admin).await?;
    assert_eq!(keeping.drop_before(week()).await?.kept, kept(day, "gap").kept);
    // Whoever edits a time into nonsense keeps all days.
    let nonsense = r#"update outbox.parked set headers = headers || '{"ce_time": "2999-13-01T00:00:00Z"}'"#;
    sqlx::query(nonsense).execute(&shelf.home.admin).await?;
    assert_eq!(keeping.drop_before(week()).await?.kept, kept(day, "waiting").kept);
    sqlx::query(later).execute(&shelf.home.admin).await?;
    sqlx::query("update outbox.cursor set version = 2").execute(&shelf.home.admin).await?;
    assert_eq!(keeping.drop_before(week()).await?.dropped, [table("event", day)]);
    shelf.end().await
}

fn key(key: &str) -> replay::Selection {
    replay::Selection::Key { topic: NOTES, key: key.into(), first: None, last: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_older_than_its_day_is_not_lost() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("lateday").await?;
    // Open since that day: nobody sees its event yet.
    shelf.publish("first", 1).await?;
    let day = shelf.age("first", 10).await?;
    deliver(&shelf).await?;
    let admin = shelf.home.admin.clone();
    let mut open = admin.begin().await?;
    let grant =
        "insert into outbox.origin (role, origin, topics) values (current_user, 'test.admin', '{notes.v1}')";
    sqlx::query(grant).execute(&mut *open).await?;
    outbox::publish(&mut open, &noted("late", 1)).await?;
    shelf::age(&mut open, "late", 10).await?;
    let keeping = keeping(&shelf, Duration::from_secs(20));
    let commit = async {
        until(true, || detaching(&shelf)).await?;
        Ok::<_, BoxError>(open.commit().await?)
    };
    let (report, committed) = tokio::join!(keeping.drop_before(week()), commit);
    committed?;
    assert_eq!(report?, kept(day, "pending"));
    shelf.relay();
    until(vec!["late:1".to_owned()], || async { Ok(shelf.records()) }).await?;
    until(0, || shelf.home.pending()).await?;
    assert_eq!(keeping.drop_before(week()).await?.dropped, [table("event", day)]);
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_was_detached_by_hand_comes_back() -> Result<(), BoxError> {
    let shelf = Shelf::new("byhand").await?;
    shelf.publish("a", 1).await?;
    let detach = format!("alter table outbox.event detach partition outbox.{}", table("event", today()));
    sqlx::query(sqlx::AssertSqlSafe(detach)).execute(&shelf.home.admin).await?;
    assert!(shelf.home.publish(&noted("a", 2)).await.is_err(), "there is no place for it");
    // A relay's role is enough; it drops nothing.
    let old = shelf.age("old", 10).await?;
    let report = Housekeeping::new(shelf.home.relay.clone()).round().await?;
    assert_eq!((report.made, report.stopped), (1, Some(Stopped::NotOwner)));
    assert_eq!(shelf.home.publish(&noted("a", 2)).await?, 2);
    assert_eq!(shelf.count("outbox.event where key = 'a'").await?, 2);
    assert!(shelf.has(&table("event", old)).await?);
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_a_housekeeper_drops_old_days_while_it_sends() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("keeper").await?;
    shelf.publish("old", 1).await?;
    deliver(&shelf).await?;
    let old = shelf.age("old", 10).await?;
    shelf.publish("new", 3).await?;
    // A replay that reads holds the lock that both share.
    let mut reading = shelf.home.admin.begin().await?;
    sqlx::query("select pg_advisory_xact_lock_shared(hashtext('outbox.retention'))")
        .execute(&mut *reading)
        .await?;
    let report = keeping(&shelf, Duration::from_secs(1)).round().await?;
    assert_eq!((report.dropped.len(), report.stopped), (0, Some(Stopped::Busy)));
    reading.rollback().await?;
    let keeping = Housekeeping::new(shelf.keeper.clone());
    let relay = Relay::new(shelf.home.relay.clone(), shelf.memory.sink()).housekeeping(keeping);
    shelf.spawn(|shutdown| relay.run(shutdown));
    let old = table("event", old);
    until(false, || shelf.has(&old)).await?;
    until(3, || async { Ok(shelf.records().len()) }).await?;
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_made_ahead_though_the_housekeeper_can_not_log_in() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("nologin").await?;
    let last: String = sqlx::query_scalar(
        "select 'event_' || to_char((clock_timestamp() at time zone 'UTC')::date + 14, 'YYYYMMDD')",
    )
    .fetch_one(&shelf.home.admin)
    .await?;
    let drop = sqlx::AssertSqlSafe(format!("drop table outbox.{last}"));
    sqlx::query(drop).execute(&shelf.home.admin).await?;
    let options = (*shelf.keeper.connect_options()).clone().username("nobody_of_that_name");
    let nobody = sqlx::PgPool::connect_lazy_with(options);
    assert!(nobody.acquire().await.is_err());
    let keeping = Housekeeping::new(nobody);
    let relay = Relay::new(shelf.home.relay.clone(), shelf.memory.sink()).housekeeping(keeping);
    shelf.spawn(|shutdown| relay.run(shutdown));
    until(true, || shelf.has(&last)).await?;
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_change_hands_beside_open_publishers_or_not_at_all() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "changehands", "test.notes").await?;
    let keeper = shelf::role(&home, "keeper").await?;
    let mut open = home.module.begin().await?;
    outbox::publish(&mut open, &noted("open", 1)).await?;
    let name = shelf::user(&keeper);
    let granting =
        tokio::time::timeout(Duration::from_secs(20), outbox::grant_housekeeper(&home.admin, &name));
    let Err(Error::Database(error)) = granting.await? else { return Err("the logs changed hands".into()) };
    assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("55P03"));
    outbox::publish(&mut open, &noted("open", 2)).await?;
    open.commit().await?;
    outbox::grant_housekeeper(&home.admin, &name).await?;
    // Once more, there is nothing to lock.
    let mut open = home.module.begin().await?;
    outbox::publish(&mut open, &noted("open", 3)).await?;
    outbox::grant_housekeeper(&home.admin, &name).await?;
    open.commit().await?;
    keeper.close().await;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gives_the_logs_away_publishers_go_on() -> Result<(), BoxError> {
    let database = stack::shared().await?.database("migrator").await?;
    // The role that migrates is no superuser; the one that grants is another.
    let admin = sqlx::PgPool::connect(database.url()).await?;
    let role = format!("{}_migrator", database.name());
    let create = format!(
        "create role {role} login password 'story'; grant create on database {} to {role}",
        database.name()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&admin).await?;
    let options = (*admin.connect_options()).clone().username(&role).password("story");
    let migrator = sqlx::PgPool::connect_with(options).await?;
    outbox::migrate(&migrator).await?;
    migrator.close().await;
    admin.close().await;
    let home = Home::open(database, "test.notes").await?;
    let keeper = shelf::role(&home, "keeper").await?;
    assert_eq!(home.publish(&noted("a", 1)).await?, 1);
    outbox::grant_housekeeper(&home.admin, &shelf::user(&keeper)).await?;
    assert_eq!(home.publish(&noted("a", 2)).await?, 2);
    keeper.close().await;
    home.drop_now().await
}
