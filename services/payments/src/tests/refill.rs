//! What the source misses of the stream comes from this home's log.

use strangler::{Error, Logged, Missing, control};

use super::*;

fn versions(events: &[Logged]) -> Vec<i64> {
    events.iter().map(|event| event.version).collect()
}

/// Whether an event says what a consumer's gate asks for.
fn is_whole(event: &Logged) -> bool {
    let said = |name: &str| event.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
    let version = event.version.to_string();
    said("banyan-version") == Some(version.as_str())
        && said("banyan-origin") == Some("payments-service")
        && said("ce_id").is_some_and(|id| id.parse::<Uuid>().is_ok())
}

#[tokio::test]
async fn the_source_gets_from_the_log_what_was_delivered_and_is_there() {
    let world = World::new("refills").await;
    let id = world.captured().await;
    for key in ["r1", "r2"] {
        world.client().refund_payment(refund(id, 1, key)).await.unwrap();
    }
    let key = id.to_string();
    let all = Missing { topic: PAYMENTS.name(), key: &key, after: 0, until: 4, limit: 10 };
    let source = control::Client::new(world.channel.clone(), bearer(AUDIENCE));
    assert!(source.logged(all).await.unwrap().is_empty(), "nothing is delivered yet");

    // As if a relay had delivered it all.
    sqlx::query("delete from outbox.pending").execute(&world.admin).await.unwrap();
    let events = source.logged(all).await.unwrap();
    assert_eq!(versions(&events), [2, 3, 4], "the first one is another home's");
    assert!(events.iter().all(is_whole), "{events:?}");
    let some = source.logged(Missing { after: 2, limit: 1, ..all }).await.unwrap();
    assert_eq!(some, events[1..2]);
    assert!(source.logged(Missing { topic: "orders.v1", ..all }).await.unwrap().is_empty());

    // As if retention had dropped it: what is older than that is gone, too.
    let drop = "delete from outbox.event where key = $1 and version = 3";
    sqlx::query(drop).bind(&key).execute(&world.admin).await.unwrap();
    assert_eq!(versions(&source.logged(all).await.unwrap()), [4]);
    assert!(source.logged(Missing { until: 3, ..all }).await.unwrap().is_empty());
    world.end().await;
}

#[tokio::test]
async fn only_the_source_is_given_anything_from_the_log() {
    let world = World::without_engine("refill-strangers").await;
    let all = Missing { topic: PAYMENTS.name(), key: "k", after: 0, until: 4, limit: 10 };
    let other = Bearer::new(Issuer::new(ISSUER, &key()), "invoicing", AUDIENCE);
    let refused = control::Client::new(world.channel.clone(), other).logged(all).await.unwrap_err();
    let denied = Code::PermissionDenied.description();
    assert!(matches!(&refused, Error::Target(why) if why.contains(denied)), "{refused}");
    let foreign = control::Client::new(world.channel.clone(), bearer("monolith")).logged(all).await;
    let denied = Code::Unauthenticated.description();
    assert!(matches!(&foreign, Err(Error::Target(why)) if why.contains(denied)), "{foreign:?}");
    world.end().await;
}
