//! Per key, what is delivered is the order of commits, whoever writes, waits or is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use outbox::{Relay, RelayOptions, kafka};
use rand::Rng;
use sqlx::PgPool;
use tests::kafka::Record;
use tests::{Post, World, story, until};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::notes::{self, NOTES, Noted, SOON, first_deliveries, publish, until_delivered};

/// Relays in this process; they end with the token.
struct Relays {
    shutdown: CancellationToken,
    running: JoinSet<Result<(), outbox::Error>>,
}

impl Relays {
    fn start(world: &World, post: &Post, count: usize) -> Result<Self> {
        let mut relays = Self { shutdown: CancellationToken::new(), running: JoinSet::new() };
        for _ in 0..count {
            let sink = kafka::sink(&world.kafka().transport("tests"))?;
            // Short, so that shares are balanced within a second.
            let options = RelayOptions { lease_ttl: Duration::from_secs(2), ..RelayOptions::default() };
            relays
                .running
                .spawn(Relay::new(post.relay.clone(), sink).with(options).run(relays.shutdown.clone()));
        }
        Ok(relays)
    }

    async fn stop(mut self) -> Result<()> {
        self.shutdown.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_commit_is_neither_lost_nor_overtaken() {
    story(async |world, stack| {
        let post = notes::post(world, stack).await?;
        let relays = Relays::start(world, &post, 1)?;

        // A transaction takes an early position and stays open ..
        let mut late = post.module.begin().await?;
        outbox::publish(&mut late, &Noted::new("late", 1)).await?;
        // .. while so many later ones are committed and delivered that any cursor has passed it ..
        for number in 1..=300 {
            publish(&post.module, &Noted::new("early", number)).await?;
        }
        until_delivered(&post).await?;
        // .. and the next version of its own key already waits behind it.
        let second = tokio::spawn(publish_owned(post.module.clone(), Noted::new("late", 2)));
        blocked(&post.admin).await?;
        late.commit().await?;
        assert_eq!(second.await??, 2);

        until_delivered(&post).await?;
        let records = world.kafka().read(NOTES.name()).await?;
        assert_eq!(first_deliveries(&records, "late"), [1, 2]);
        assert_eq!(first_deliveries(&records, "early"), (1..=300).collect::<Vec<_>>());
        relays.stop().await
    })
    .await;
}

async fn publish_owned(pool: PgPool, note: Noted) -> Result<i64> {
    publish(&pool, &note).await
}

/// Waits until a session waits for a lock.
async fn blocked(admin: &PgPool) -> Result<()> {
    until("a writer to wait for the key", SOON, async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(admin)
        .await?;
        Ok((waiting > 0).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn per_key_order_holds_with_16_writers_and_two_relays() {
    const WRITERS: usize = 16;
    const NOTES_EACH: usize = 40;
    story(async |world, stack| {
        let post = notes::post(world, stack).await?;
        let relays = Relays::start(world, &post, 2)?;

        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            writers.spawn(write(post.module.clone(), NOTES_EACH));
        }
        let mut committed: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        while let Some(written) = writers.join_next().await {
            for (key, version) in written?? {
                committed.entry(key).or_default().push(version);
            }
        }

        until_delivered(&post).await?;
        let records = world.kafka().read(NOTES.name()).await?;
        for (key, mut expected) in committed {
            expected.sort_unstable();
            assert_eq!(
                expected,
                (1..=i64::try_from(expected.len())?).collect::<Vec<_>>(),
                "versions are dense"
            );
            assert_eq!(first_deliveries(&records, &key), expected, "key {key}");
        }
        relays.stop().await
    })
    .await;
}

/// Publishes to five keys in transactions that overlap; every fourth is rolled back. Returns what was committed.
async fn write(pool: PgPool, notes: usize) -> Result<Vec<(String, i64)>> {
    let mut committed = Vec::new();
    for _ in 0..notes {
        let (key, pause, rolled_back) = {
            let mut random = rand::rng();
            let pause = Duration::from_micros(random.random_range(0..3_000));
            (format!("key-{}", random.random_range(0..5)), pause, random.random_range(0..4) == 0)
        };
        let mut tx = pool.begin().await?;
        let version = outbox::publish(&mut tx, &Noted::new(&key, 0)).await?;
        tokio::time::sleep(pause).await;
        if rolled_back {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
            committed.push((key, version));
        }
    }
    Ok(committed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_takes_none_of_its_batch_with_it() {
    story(async |world, stack| {
        let post = Post::open(world, stack, "notes", &[NOTES]).await?;
        world.kafka().create_small(NOTES.name(), 1, 20_000).await?;
        // All at once, so that they share batches, and a broker refuses a batch as a whole.
        for n in 0..10 {
            publish(&post.module, &Noted::new(&format!("small-{n}"), 1)).await?;
            publish(&post.module, &Noted { text: noise(40_000), ..Noted::new(&format!("large-{n}"), 1) })
                .await?;
        }
        let relays = Relays::start(world, &post, 1)?;
        until("all small notes", SOON, async || Ok((post.pending().await? == 10).then_some(()))).await?;
        let records = world.kafka().read(NOTES.name()).await?;
        for n in 0..10 {
            assert_eq!(first_deliveries(&records, &format!("small-{n}")), [1]);
        }
        world.kafka().allow_bytes(NOTES.name(), 1_000_000).await?;
        until_delivered(&post).await?;
        relays.stop().await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_record_does_not_let_a_later_version_pass() {
    story(async |world, stack| {
        let post = Post::open(world, stack, "notes", &[NOTES]).await?;
        world.kafka().create_small(NOTES.name(), 1, 20_000).await?;
        let relays = Relays::start(world, &post, 1)?;

        publish(&post.module, &Noted::new("a", 1)).await?;
        publish(&post.module, &Noted { text: noise(40_000), ..Noted::new("a", 2) }).await?;
        publish(&post.module, &Noted::new("a", 3)).await?;
        publish(&post.module, &Noted::new("b", 1)).await?;
        until("the broker to refuse a record", SOON, async || Ok(refusal(&post.admin).await?.map(|_| ())))
            .await?;
        // A note to another key, published after the refusal, is delivered: so would be version 3, were it let pass.
        publish(&post.module, &Noted::new("c", 1)).await?;
        until(
            "the other keys to be delivered",
            SOON,
            async || Ok((post.pending().await? == 2).then_some(())),
        )
        .await?;
        let records = world.kafka().read(NOTES.name()).await?;
        assert_eq!(first_deliveries(&records, "a"), [1], "versions 2 and 3 wait");
        assert_eq!(
            (first_deliveries(&records, "b"), first_deliveries(&records, "c")),
            (vec![1], vec![1]),
            "other keys go on"
        );

        // Nothing was dropped: once the broker takes it, the key goes on where it stopped.
        world.kafka().allow_bytes(NOTES.name(), 1_000_000).await?;
        until_delivered(&post).await?;
        let records = world.kafka().read(NOTES.name()).await?;
        assert_eq!(first_deliveries(&records, "a"), [1, 2, 3]);
        relays.stop().await
    })
    .await;
}

/// Text that does not compress.
fn noise(bytes: usize) -> String {
    let mut random = rand::rng();
    (0..bytes).map(|_| char::from(random.random_range(b'!'..=b'~'))).collect()
}

/// Why the broker refused a record, if it did.
async fn refusal(admin: &PgPool) -> Result<Option<String>> {
    let refused =
        sqlx::query_scalar("select error from outbox.pending where attempts > 0 and error is not null");
    Ok(refused.fetch_optional(admin).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_share_the_buckets_and_one_takes_over() {
    story(async |world, stack| {
        let post = notes::post(world, stack).await?;
        let (first, second) = (Relays::start(world, &post, 1)?, Relays::start(world, &post, 1)?);
        let shares = async || -> Result<Vec<i64>> {
            let shares = sqlx::query_scalar(
                "select count(*) from outbox.lease where relay is not null and expires_at > clock_timestamp()
                 group by relay order by 1",
            );
            Ok(shares.fetch_all(&post.admin).await?)
        };
        until("a fair share", SOON, async || Ok((shares().await? == [32, 32]).then_some(()))).await?;
        first.stop().await?;
        until("one relay to have all", SOON, async || Ok((shares().await? == [64]).then_some(()))).await?;

        for number in 1..=20 {
            publish(&post.module, &Noted::new(&format!("key-{number}"), number)).await?;
        }
        until_delivered(&post).await?;
        let mut records: Vec<Record> = world.kafka().read(NOTES.name()).await?;
        records.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(records.len(), 20, "each once");
        second.stop().await
    })
    .await;
}
