//! The Kafka sink, where a broker does what a real one does only in bad hours.

use std::{collections::HashSet, time::Duration};

use outbox::{BoxError, Headers, Record, Refusal, Relay, RelayOptions, Sink as _, Topic, kafka};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use crate::world::{Home, NOTES, World, noted, until};

/// Granted, and not there.
const NOWHERE: Topic = Topic::new("nowhere.v1");

fn record(key: &str) -> Record {
    Record {
        topic: NOTES.name().into(),
        key: key.into(),
        payload: b"?".to_vec(),
        headers: Headers::default(),
    }
}

fn config(cluster: &MockCluster<'_, impl rdkafka::ClientContext>) -> kafka::Config {
    kafka::Config {
        bootstrap_servers: cluster.bootstrap_servers(),
        topic_prefix: String::new(),
        instance_id: None,
        client_id: "story".into(),
    }
}

#[tokio::test]
async fn a_producer_that_failed_for_good_is_replaced() -> Result<(), BoxError> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(NOTES.name(), 1, 1)?;
    let sink = kafka::sink(&config(&cluster))?;
    sink.send(record("a")).await?;
    // The broker's idea of the sequence is another: librdkafka can't go on, and says so with a fatal error.
    let fatal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[fatal]);
    let failed = sink.send(record("a")).await;
    assert!(matches!(failed, Err(Refusal::Outage(_))), "no verdict on the record: {failed:?}");
    sink.send(record("a")).await?;
    sink.send_alone(record("a")).await?;
    Ok(())
}

#[tokio::test]
async fn a_partition_without_a_leader_is_named_and_is_a_lane_of_its_own() -> Result<(), BoxError> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(NOTES.name(), 3, 1)?;
    cluster.partition_leader(NOTES.name(), 1, None)?;
    let sink = kafka::sink(&config(&cluster))?;
    let missing = sink.missing(&[NOTES.name().to_owned()]).await?;
    assert_eq!(missing, [(NOTES.name().to_owned(), "partitions 1 of notes.v1 have no leader".to_owned())]);
    let lanes: HashSet<u64> = (0..100).map(|n| sink.lane(NOTES.name(), &format!("key-{n}"))).collect();
    assert_eq!(lanes.len(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_may_not_be_written_to_is_named_and_waited_for() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "maynot", "test.notes").await?;
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(NOTES.name(), 1, 1)?;
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[denied; 4]);
    for n in 1..=3 {
        home.publish(&noted("a", n)).await?;
    }
    let options =
        RelayOptions { attempts_max: 1, status_every: Duration::from_millis(200), ..RelayOptions::default() };
    let relay = Relay::new(home.relay.clone(), kafka::sink(&config(&cluster))?).with(options);
    let mut status = relay.status();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(relay.run(shutdown.clone()));
    // The broker describes the topic to whoever may not write to it: only a refused record tells.
    let told = status.wait_for(|status| !status.missing.is_empty());
    let found = tokio::time::timeout(Duration::from_secs(20), told).await??.clone();
    assert_eq!(found.missing.keys().collect::<Vec<_>>(), [NOTES.name()], "{found:?}");
    until(0, || home.pending()).await?;
    status.wait_for(outbox::RelayStatus::is_ready).await?;
    shutdown.cancel();
    running.await??;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_is_named() -> Result<(), BoxError> {
    let world = World::new("missing").await?;
    let home = Home::new(world.stack, "missing", "test.notes").await?;
    let role: String = sqlx::query_scalar("select current_user::text").fetch_one(&home.module).await?;
    outbox::grant_module(&home.admin, &role, "test.notes", &[NOTES, NOWHERE]).await?;
    let options = RelayOptions { status_every: Duration::from_millis(200), ..RelayOptions::default() };
    let relay = Relay::new(home.relay.clone(), kafka::sink(&world.kafka)?).with(options);
    let mut status = relay.status();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(relay.run(shutdown.clone()));
    let found = status.wait_for(|status| status.started).await?.clone();
    assert!(!found.is_ready());
    assert_eq!(found.missing.keys().collect::<Vec<_>>(), [NOWHERE.name()], "{found:?}");
    // The other topic is served all the while.
    home.publish(&noted("a", 1)).await?;
    until(0, || home.pending()).await?;
    kafka::create_topics(&world.kafka, &[NOWHERE], 1).await?;
    status.wait_for(outbox::RelayStatus::is_ready).await?;
    shutdown.cancel();
    running.await??;
    world.stop().await?;
    home.drop_now().await
}
