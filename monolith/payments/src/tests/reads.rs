//! Reads of a copy: whole and new enough, or refused with the reason.

use super::*;

#[tokio::test]
async fn a_copy_answers_only_when_it_is_whole_and_new_enough() {
    let world = World::new("found_copies").await;
    let id = world.captured().await;
    let (desk, tenant) = (world.desk(), tenant());
    let found = desk.find(&tenant, id).await.unwrap();
    for at_least in [0, found.version] {
        assert_eq!(desk.find_copy(&tenant, id, at_least).await.unwrap(), found, "at least {at_least}");
    }
    let behind = desk.find_copy(&tenant, id, found.version + 1).await;
    let wanted = found.version + 1;
    assert!(
        matches!(behind, Err(Error::Behind { here, head }) if (here, head) == (found.version, wanted)),
        "{behind:?}"
    );
    let unknown = desk.find_copy(&tenant, PaymentId::new(), 0).await;
    assert!(matches!(unknown, Err(Error::NotFound)), "{unknown:?}");

    let mut tx = world.home.pool.begin().await.unwrap();
    sqlx::query("select outbox.register('story.follows')").execute(&mut *tx).await.unwrap();
    let park = "select outbox.park('story.follows', 'payments.v1', $1, 9, gen_random_uuid(), '', '{}', 'early', null, 9, 9)";
    sqlx::query(park).bind(id.to_string()).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let parked = desk.find_copy(&tenant, id, 0).await;
    assert!(matches!(parked, Err(Error::Parked)), "{parked:?}");
    assert_eq!(desk.find(&tenant, id).await.unwrap(), found, "a read of the owner does not ask");
    world.end().await;
}
