//! The outbox survives `kill -9` at both of its dangerous points, and a repeat does nothing.

use std::os::unix::process::ExitStatusExt;

use anyhow::{Result, ensure};
use stack::Stack;
use tests::kafka::Record;
use tests::{Post, Spec, World, story};
use tokio_util::sync::CancellationToken;

use crate::notes::{self, NOTES, Noted, SOON, publish, versions};

const SIGKILL: i32 = 9;

/// A relay in another process.
fn relay(world: &World, post: &Post, name: &str, dies: &str, after: usize) -> Spec {
    let env = [
        ("RELAY_DATABASE_URL", post.relay_url.as_str()),
        ("KAFKA_BOOTSTRAP_SERVERS", world.kafka().servers()),
        ("KAFKA_TOPIC_PREFIX", world.kafka().prefix()),
    ];
    Spec {
        name: name.into(),
        program: env!("CARGO_BIN_EXE_relay-that-dies").into(),
        args: ["--dies", dies, "--after", &after.to_string()].map(str::to_owned).into(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

/// Three versions of each of three keys, committed.
async fn nine(world: &World, stack: &Stack) -> Result<Post> {
    let post = notes::post(world, stack).await?;
    for number in 1..=3 {
        for key in ["a", "b", "c"] {
            publish(&post.module, &Noted::new(key, number)).await?;
        }
    }
    Ok(post)
}

/// Runs a relay that dies, and sees that it died by SIGKILL.
async fn until_dead(world: &World, spec: Spec) -> Result<()> {
    let name = spec.name.clone();
    world.start(spec).await?;
    let status = world.ended(&name, SOON).await?;
    ensure!(status.signal() == Some(SIGKILL), "{name} should have died of kill -9, but: {status}");
    Ok(())
}

/// First deliveries of each key, in the topic's order.
fn firsts(records: &[Record], key: &str) -> Vec<i64> {
    let mut versions = versions(records, key);
    let mut seen = std::collections::BTreeSet::new();
    versions.retain(|version| seen.insert(*version));
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_between_commit_and_send_loses_nothing() {
    story(async |world, stack| {
        let post = nine(world, stack).await?;

        until_dead(world, relay(world, &post, "first", "before-send", 0)).await?;
        assert_eq!(world.kafka().read(NOTES.name()).await?, [], "nothing was sent");
        assert_eq!(post.pending().await?, 9, "all is still to be sent");

        world.start(relay(world, &post, "second", "never", 0)).await?;
        world.delivered(SOON).await?;
        let records = world.kafka().read(NOTES.name()).await?;
        for key in ["a", "b", "c"] {
            assert_eq!(versions(&records, key), [1, 2, 3], "key {key}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_between_send_and_delete_repeats_and_no_repeat_has_an_effect() {
    story(async |world, stack| {
        let post = nine(world, stack).await?;

        until_dead(world, relay(world, &post, "first", "before-delete", 0)).await?;
        let sent = world.kafka().read(NOTES.name()).await?;
        assert!(!sent.is_empty(), "something was delivered");
        assert_eq!(post.pending().await?, 9, "and nothing was deleted");

        world.start(relay(world, &post, "second", "never", 0)).await?;
        world.delivered(SOON).await?;
        let records = world.kafka().read(NOTES.name()).await?;
        assert!(records.len() > 9, "what was delivered before the kill was delivered again");
        for key in ["a", "b", "c"] {
            assert_eq!(firsts(&records, key), [1, 2, 3], "key {key}");
        }
        for record in &sent {
            let same = records.iter().filter(|other| other.header("ce_id") == record.header("ce_id"));
            assert_eq!(same.count(), 2, "a repeat has the id of the first");
        }

        let shutdown = CancellationToken::new();
        let inbox = notes::count(world, &post, &shutdown)?;
        publish(&post.module, &Noted::new("last", 1)).await?;
        let effects = notes::until_effects(&post, 10).await?;
        shutdown.cancel();
        inbox.await??;
        let mut keys: Vec<(String, i64)> = effects;
        keys.sort();
        let nine =
            ["a", "b", "c"].into_iter().flat_map(|key| (1..=3).map(move |version| (key.to_owned(), version)));
        let expected: Vec<(String, i64)> = nine.chain([("last".to_owned(), 1)]).collect();
        assert_eq!(keys, expected, "each event had one effect");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redelivered_event_is_skipped() {
    story(async |world, stack| {
        let post = notes::post(world, stack).await?;
        world.start(relay(world, &post, "relay", "never", 0)).await?;
        publish(&post.module, &Noted::new("a", 1)).await?;
        publish(&post.module, &Noted::new("a", 2)).await?;
        notes::until_delivered(&post).await?;
        let records = world.kafka().read(NOTES.name()).await?;

        // Both again, the older one last, as after a rebalance and a retry.
        for record in records.iter().rev() {
            world.kafka().write(record).await?;
        }
        publish(&post.module, &Noted::new("a", 3)).await?;
        let shutdown = CancellationToken::new();
        let inbox = notes::count(world, &post, &shutdown)?;
        let effects = notes::until_effects(&post, 3).await?;
        shutdown.cancel();
        inbox.await??;
        let once = |version| ("a".to_owned(), version);
        assert_eq!(effects, [once(1), once(2), once(3)]);
        assert_eq!(world.kafka().read(NOTES.name()).await?.len(), 5, "five records, three effects");
        Ok(())
    })
    .await;
}
