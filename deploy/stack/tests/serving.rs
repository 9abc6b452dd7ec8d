//! What a stack hands out: databases, topic prefixes, and two servers that work.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{Connection, PgConnection};

const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn database_serves_and_goes_with_its_sessions_and_roles() {
    let stack = stack::shared().await.unwrap();
    let database = stack.database("Serving-1").await.unwrap();
    let name = database.name().to_owned();
    assert!(name.starts_with("banyan_serving_1_") && name.len() == "banyan_serving_1_".len() + 8, "{name}");

    let mut session = PgConnection::connect(database.url()).await.unwrap();
    let own: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(&mut session).await.unwrap();
    assert_eq!(own, name);
    let role = format!("create role \"{name}_orders\"");
    sqlx::query(sqlx::AssertSqlSafe(role)).execute(&mut session).await.unwrap();

    database.drop_now().await.unwrap();
    sqlx::query("select 1").execute(&mut session).await.unwrap_err();
    assert_eq!(traces(&name).await, 0);
}

#[tokio::test]
async fn database_forgotten_in_a_panic_goes_too() {
    let stack = stack::shared().await.unwrap();
    let database = stack.database("panic").await.unwrap();
    let name = database.name().to_owned();
    assert_eq!(traces(&name).await, 1);
    let panicking = tokio::spawn(async move { assert_eq!(database.name(), "", "on purpose") });
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(traces(&name).await, 0);
}

#[tokio::test]
async fn kafka_takes_and_gives_a_record() {
    let stack = stack::shared().await.unwrap();
    let topic = format!("{}ping", stack.topic_prefix("serving"));
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", stack.kafka())
        .set("group.id", &topic)
        .set("auto.offset.reset", "earliest");

    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let wanted = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
    let created = admin.create_topics([&wanted], &AdminOptions::new()).await.unwrap();
    assert_eq!(created, [Ok(topic.clone())]);

    let producer: FutureProducer = config.create().unwrap();
    producer.send(FutureRecord::to(&topic).key("k").payload("hello"), TIMEOUT).await.unwrap();
    let consumer: StreamConsumer = config.create().unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    let record = tokio::time::timeout(TIMEOUT, consumer.recv()).await.unwrap().unwrap();
    assert_eq!(record.payload(), Some(b"hello".as_slice()));

    admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
}

#[tokio::test]
async fn prefixes_differ_at_each_call() {
    let stack = stack::shared().await.unwrap();
    let (one, other) = (stack.topic_prefix("same"), stack.topic_prefix("same"));
    assert!(one.starts_with("same-") && one.ends_with('.') && one.len() == "same-12345678.".len(), "{one}");
    assert_ne!(one, other);
}

#[tokio::test]
async fn description_hides_the_password() {
    let stack = stack::shared().await.unwrap();
    let line = stack.describe();
    assert!(line.starts_with(&format!("stack: {} (", stack.source())) && line.contains(":***@"), "{line}");
}

/// Databases and roles whose names start like this.
async fn traces(name: &str) -> i64 {
    let stack = stack::shared().await.unwrap();
    let mut session = PgConnection::connect(stack.postgres_url()).await.unwrap();
    sqlx::query_scalar(
        "select (select count(*) from pg_database where starts_with(datname::text, $1))
              + (select count(*) from pg_roles where starts_with(rolname::text, $1))",
    )
    .bind(name)
    .fetch_one(&mut session)
    .await
    .unwrap()
}
