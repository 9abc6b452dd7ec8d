//! Following another home's state.

use outbox::{BoxError, Error, Incoming, Received, Replica, StateTransfer, Topic, kafka};
use sqlx::postgres::PgTransaction;

use crate::world::{Home, NOTES, Noted, Snapped, World, effect, noted, until};

enum Stream {
    Noted(Noted),
    Snapped(Snapped),
}

impl Incoming for Stream {
    const TOPIC: Topic = NOTES;

    fn decode(kind: &str, payload: &[u8]) -> Option<Result<Self, BoxError>> {
        None.or_else(|| Some(<Noted as Incoming>::decode(kind, payload)?.map(Self::Noted)))
            .or_else(|| Some(<Snapped as Incoming>::decode(kind, payload)?.map(Self::Snapped)))
    }
}

struct Follow;

impl StateTransfer for Follow {
    const NAME: &'static str = "test.follow";
    type Event = Stream;

    fn is_snapshot(kind: &str) -> bool {
        kind == "test.snapped.v1"
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Stream>) -> Result<(), BoxError> {
        let text = match event.event {
            Stream::Noted(noted) => noted.text,
            Stream::Snapped(snapped) => format!("whole {}", snapped.text),
        };
        effect(tx, &event.meta.key, event.meta.version, &text).await
    }
}

fn snapped(key: &str, text: &str) -> Snapped {
    Snapped { key: key.into(), text: text.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_starts_a_key_that_was_met_in_the_middle() -> Result<(), BoxError> {
    let mut world = World::new("snapshot").await?;
    let owner = Home::new(world.stack, "owner", "test.owner").await?;
    let follower = Home::new(world.stack, "follower", "test.follower").await?;
    for text in ["1", "2", "3"] {
        owner.publish(&noted("a", text)).await?;
    }
    // The log begins at version 3: the first two are older than its retention.
    sqlx::query("delete from outbox.pending where previous is null or position = 2")
        .execute(&owner.admin)
        .await?;
    world.relay(&owner)?;
    let source = kafka::source(&world.kafka, "replica")?;
    let replica = Replica::new(follower.module.clone(), source, "test.follower", Follow);
    world.spawn(|shutdown| replica.run(shutdown));
    let awaiting = || async {
        let query = "select awaiting_snapshot from outbox.cursor where key = 'a' and version = 0";
        Ok(sqlx::query_scalar::<_, bool>(query).fetch_optional(&follower.admin).await?)
    };
    until(Some(true), awaiting).await?;
    assert!(follower.effects().await?.is_empty(), "nothing is applied on an unknown state");
    owner.publish(&snapped("a", "1-3")).await?;
    owner.publish(&noted("a", "5")).await?;
    until(vec!["a:4:whole 1-3".to_owned(), "a:5:5".into()], || follower.effects()).await?;
    // Whoever becomes owner goes on counting.
    assert_eq!(follower.publish(&noted("a", "6")).await?, 6);
    world.stop().await?;
    owner.drop_now().await?;
    follower.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_back_in_time_is_noticed() -> Result<(), BoxError> {
    let mut world = World::new("wentback").await?;
    let home = Home::new(world.stack, "wentback", "test.home").await?;
    let restored = Home::new(world.stack, "restored", "test.home").await?;
    home.publish(&noted("a", "1")).await?;
    home.publish(&noted("a", "2")).await?;
    world.relay(&home)?;
    until(0, || home.pending()).await?;
    // The same home, from a backup that is older than what it had published.
    restored.publish(&noted("a", "1")).await?;
    let source = kafka::source(&world.kafka, "replica")?;
    let replica = Replica::new(restored.module.clone(), source, "test.home", Follow);
    let ended = replica.run(tokio_util::sync::CancellationToken::new()).await;
    assert!(matches!(ended, Err(Error::WentBack { head: 1, version: 2, .. })), "{ended:?}");
    world.stop().await?;
    home.drop_now().await?;
    restored.drop_now().await
}
