//! Snapshots of many keys in one transaction.

use std::sync::{Arc, Mutex};

use outbox::{BoxError, InboxOptions, Received, Replica, StateTransfer, kafka};
use sqlx::postgres::PgTransaction;
use tokio_util::sync::CancellationToken;

use crate::world::{Home, Snapped, Stream, World, effect, noted, until};

/// Refuses the text `no`, and notes how many snapshots it is given at a time.
#[derive(Clone, Default)]
struct Gather(Arc<Mutex<Vec<usize>>>);

impl StateTransfer for Gather {
    const NAME: &'static str = "test.gather";
    type Event = Stream;

    fn is_snapshot(kind: &str) -> bool {
        kind == "test.snapped.v1"
    }

    async fn apply(&self, tx: &mut PgTransaction<'_>, event: Received<Stream>) -> Result<(), BoxError> {
        let text = match event.event {
            Stream::Noted(noted) => noted.text,
            Stream::Snapped(snapped) => snapped.text,
        };
        if text == "no" {
            return Err("no".into());
        }
        effect(tx, &event.meta.key, event.meta.version, &text).await
    }

    async fn apply_snapshots(
        &self,
        tx: &mut PgTransaction<'_>,
        snapshots: Vec<Received<Stream>>,
    ) -> Result<(), BoxError> {
        assert!(snapshots.is_sorted_by(|a, b| a.meta.key < b.meta.key), "one of each key, in their order");
        self.0.lock().map_err(|_| "a batch panicked")?.push(snapshots.len());
        for snapshot in snapshots {
            self.apply(tx, snapshot).await?;
        }
        Ok(())
    }
}

const KEYS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_many_keys_share_a_transaction_and_what_is_in_their_way_stays_alone()
-> Result<(), BoxError> {
    let mut world = World::new("gather").await?;
    let owner = Home::new(world.stack, "gathered", "test.owner").await?;
    let follower = Home::new(world.stack, "gatherer", "test.follower").await?;
    world.relay(&owner)?;
    let keys: Vec<String> = (0..KEYS).map(|n| format!("k{n:02}")).collect();
    for key in &keys {
        // Something of k09 waits in front of its snapshot.
        owner.publish(&noted(key, if key == "k09" { "no" } else { "1" })).await?;
    }
    until(0, || owner.pending()).await?;
    let gather = Gather::default();
    let run = |stop: &CancellationToken| -> Result<_, BoxError> {
        let source = kafka::source(&world.kafka, "gather")?;
        let options = InboxOptions { attempts_max: 1_000, ..InboxOptions::default() };
        let replica = Replica::new(follower.module.clone(), source, "test.follower", gather.clone());
        Ok(tokio::spawn(replica.with(options).run(stop.clone())))
    };
    let count = |sql: &'static str| {
        let admin = follower.admin.clone();
        async move { Ok(sqlx::query_scalar::<_, i64>(sql).fetch_one(&admin).await?) }
    };
    let stop = CancellationToken::new();
    let running = run(&stop)?;
    let at_1 = "select count(*) from outbox.cursor where version = 1";
    until(i64::try_from(KEYS - 1)?, || count(at_1)).await?;
    until(1, || count("select count(*) from outbox.parked where key = 'k09'")).await?;
    stop.cancel();
    running.await??;

    // This home writes k05 as well; the snapshot of k07 is refused.
    assert_eq!(follower.publish(&noted("k05", "mine")).await?, 2);
    for key in &keys {
        let text = if key == "k07" { "no" } else { "2" };
        owner.publish(&Snapped { key: key.clone(), text: text.into() }).await?;
    }
    until(0, || owner.pending()).await?;
    let stop = CancellationToken::new();
    let running = run(&stop)?;
    let applied = "select count(*) from public.effect where version = 2";
    until(i64::try_from(KEYS - 2)?, || count(applied)).await?;
    let parked = || async {
        let sql = "select key || ' ' || version || ' ' || error from outbox.parked order by key";
        Ok(sqlx::query_scalar::<_, String>(sql).fetch_all(&follower.admin).await?)
    };
    let two = ["k05 2 this home wrote that version itself: two owners", "k07 2 no"].map(str::to_owned);
    until(two.to_vec(), parked).await?;
    stop.cancel();
    running.await??;

    assert!(gather.0.lock().unwrap().iter().any(|many| *many > KEYS / 2), "{:?}", gather.0);
    let transactions =
        count("select count(distinct xmin::text) from outbox.cursor where version = 2").await?;
    assert!(transactions <= i64::try_from(KEYS / 2)?, "{transactions} transactions for {KEYS} keys");
    let twice =
        "select count(*) from (select from public.effect group by key, version having count(*) > 1) twice";
    assert_eq!(count(twice).await?, 0);
    // Whoever becomes owner goes on counting.
    assert_eq!(follower.publish(&noted("k00", "3")).await?, 3);
    world.stop().await?;
    owner.drop_now().await?;
    follower.drop_now().await
}
