//! A write is decided by a row lock in its own transaction, at both homes.

use strangler::{Authority, Epoch, Error, Home, Owners};

use crate::world::{MIGRATION, World, following, login, role};

#[tokio::test]
async fn the_source_writes_its_own_keys_only() {
    let world = World::new().await;
    let controller = world.ramp(0).await;
    world.born("a", "mine").await;
    controller.advance(&strangler::Advance::ramp(100), "a test").await.unwrap();
    world.born("a", "theirs").await;

    assert_eq!(world.lock("mine").await.unwrap(), 1);
    match world.lock("theirs").await {
        Err(Error::NotOwner { owner: Home::Target, epoch, .. }) => assert_eq!(epoch, Epoch::BIRTH),
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.lock("nobody's").await, Err(Error::UnknownKey { .. })));
    world.end().await;
}

#[tokio::test]
async fn in_local_a_missing_row_means_the_source_and_later_it_is_an_error() {
    let world = World::new().await;
    assert_eq!(world.lock("old").await.unwrap(), 1);
    assert_eq!(world.owner("old").await.home, Home::Source);

    world.born("a", "first").await;
    world.controller().advance(&following(), "a test").await.unwrap();
    assert!(matches!(world.lock("old").await, Err(Error::UnknownKey { .. })));
    assert!(matches!(world.writes.refresh("old").await, Err(Error::UnknownKey { .. })));
    world.end().await;
}

#[tokio::test]
async fn seeding_does_not_end_before_a_write_that_found_no_row() {
    let world = World::new().await;
    let mut write = world.writes_pool.begin().await.unwrap();
    world.writes.lock(&mut write, "old").await.unwrap();

    // The write holds the policy as a birth does: the change gives up, retryable.
    let change = world.controller().advance(&following(), "a test").await;
    assert!(matches!(change, Err(Error::Busy(_))), "{change:?}");
    write.commit().await.unwrap();
    world.controller().advance(&following(), "a test").await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_key_between_two_owners_is_nobodys_to_write() {
    let world = World::new().await;
    world.ramp(0).await;
    world.born("a", "k").await;

    // Someone holds the fence.
    let mut fence = world.admin.begin().await.unwrap();
    sqlx::query("update strangler.owner set phase = 'moving', epoch = 2 where key = 'k'")
        .execute(&mut *fence)
        .await
        .unwrap();
    let fenced = world.lock("k").await;
    assert!(matches!(&fenced, Err(error @ Error::Moving { .. }) if error.is_retryable()), "{fenced:?}");

    // The fence is there.
    fence.commit().await.unwrap();
    assert!(matches!(world.lock("k").await, Err(Error::Moving { .. })));
    world.end().await;
}

#[tokio::test]
async fn a_write_under_way_holds_the_fence_off() {
    let world = World::new().await;
    world.ramp(0).await;
    world.born("a", "k").await;
    let mut write = world.writes_pool.begin().await.unwrap();
    world.writes.lock(&mut write, "k").await.unwrap();

    let fence = "with quiet as (select key from strangler.owner where key = 'k' for update skip locked)
                 update strangler.owner o set phase = 'moving', epoch = epoch + 1 from quiet where o.key = quiet.key";
    assert_eq!(world.execute(fence).await, 0);
    write.commit().await.unwrap();
    assert_eq!(world.execute(fence).await, 1);
    world.end().await;
}

#[tokio::test]
async fn an_undefined_migration_is_named() {
    let world = World::new().await;
    let owners = Owners::new("nothing", world.births_pool.clone());
    let mut tx = world.births_pool.begin().await.unwrap();
    let error = owners.assign(&mut tx, "a", "k").await.unwrap_err();
    assert!(matches!(&error, Error::UnknownMigration(name) if name == "nothing"), "{error}");
    drop(tx);
    world.end().await;
}

#[tokio::test]
async fn a_read_may_use_an_owner_that_is_a_moment_old() {
    let world = World::new().await;
    world.ramp(0).await;
    world.born("a", "k").await;
    assert_eq!(world.writes.find("k").await.unwrap().home, Home::Source);
    world.execute("update strangler.owner set owner = 'target', epoch = 3 where key = 'k'").await;
    assert_eq!(world.writes.find("k").await.unwrap().home, Home::Source, "within the second");
    assert_eq!(world.writes.refresh("k").await.unwrap().home, Home::Target);
    assert_eq!(world.writes.find("k").await.unwrap().home, Home::Target);
    world.end().await;
}

#[tokio::test]
async fn a_replica_can_tell_whose_key_it_is() {
    let world = World::new().await;
    let controller = world.ramp(0).await;
    world.born("a", "mine").await;
    controller.advance(&strangler::Advance::ramp(100), "a test").await.unwrap();
    world.born("a", "theirs").await;
    let mut tx = world.writes_pool.begin().await.unwrap();
    assert!(world.writes.holds(&mut tx, "mine").await.unwrap());
    assert!(!world.writes.holds(&mut tx, "theirs").await.unwrap());
    drop(tx);
    world.end().await;
}

#[tokio::test]
async fn the_target_writes_what_was_born_there() {
    let database = stack::shared().await.unwrap().database("authority").await.unwrap();
    let admin = sqlx::PgPool::connect(database.url()).await.unwrap();
    strangler::migrate_target(&admin).await.unwrap();
    let pool = login(&database, &admin, "home").await;
    strangler::grant_home(&admin, &role(&database, "home")).await.unwrap();
    let authority = Authority::new(MIGRATION);

    let mut tx = pool.begin().await.unwrap();
    authority.born(&mut tx, "k", Epoch::BIRTH).await.unwrap();
    authority.born(&mut tx, "k", Epoch::BIRTH).await.unwrap();
    assert!(authority.holds(&mut tx, "k").await.unwrap());
    tx.commit().await.unwrap();
    let lock = async |key: &str| {
        let mut tx = pool.begin().await.unwrap();
        authority.lock(&mut tx, key).await
    };
    assert_eq!(lock("k").await.unwrap(), Epoch::BIRTH);
    assert!(matches!(lock("source's").await, Err(Error::NotOwner { .. })));

    // Recalled, fenced, and a late repeat of the birth, which gives nothing back.
    let update = async |sql: &'static str| sqlx::query(sql).execute(&admin).await.unwrap();
    update("update strangler.authority set recall_epoch = 2").await;
    assert!(matches!(lock("k").await, Err(Error::Moving { .. })));
    update("update strangler.authority set recall_epoch = null, writable = false, epoch = 2").await;
    let mut tx = pool.begin().await.unwrap();
    authority.born(&mut tx, "k", Epoch::BIRTH).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(lock("k").await, Err(Error::NotOwner { epoch: Epoch(2), .. })));
    database.drop_now().await.unwrap();
}
