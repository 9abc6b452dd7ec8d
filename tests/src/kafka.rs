//! Kafka as tests see it: whole topics read with a plain consumer, records written without an outbox, and administration.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// One question to a broker.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading a topic from end to end.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the consumer waits for its next record before it looks at the clock.
const POLL: Duration = Duration::from_millis(100);

/// One record, as any consumer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The topic's logical name, without the prefix.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The key; empty when there is none.
    pub key: String,
    /// The payload; empty when there is none.
    pub payload: Vec<u8>,
    /// The headers as text.
    pub headers: BTreeMap<String, String>,
}

impl Record {
    /// A header's value, empty when missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// `banyan-version`; 0 when missing or not a number.
    pub fn version(&self) -> i64 {
        self.header("banyan-version").parse().unwrap_or(0)
    }
}

/// The brokers, and a prefix of one's own in front of every topic.
#[derive(Clone, Debug)]
pub struct Kafka {
    servers: String,
    prefix: String,
}

impl Kafka {
    /// Uses `servers`; topics are `prefix` + logical name.
    pub fn new(servers: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { servers: servers.into(), prefix: prefix.into() }
    }

    /// Bootstrap servers.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// What stands in front of every topic.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the outbox's transport needs.
    pub fn transport(&self, client: &str) -> outbox::kafka::Config {
        outbox::kafka::Config {
            bootstrap_servers: self.servers.clone(),
            topic_prefix: self.prefix.clone(),
            instance_id: None,
            client_id: client.to_owned(),
        }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    /// Everything in a topic up to its end at this moment, in partition order. A topic that does not exist is empty.
    ///
    /// # Errors
    /// When a broker does not answer, or the topic is not read to its end within a minute.
    pub async fn read(&self, topic: &str) -> Result<Vec<Record>> {
        let (kafka, topic) = (self.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || kafka.read_now(&topic)).await?
    }

    fn read_now(&self, topic: &str) -> Result<Vec<Record>> {
        let mut config = self.client();
        // A group is demanded by the library; nothing is ever committed to it.
        config.set("group.id", "banyan-tests-reader").set("enable.auto.commit", "false");
        config.set("allow.auto.create.topics", "false");
        let consumer: BaseConsumer = config.create()?;
        let name = format!("{}{topic}", self.prefix);
        let ends = ends(&consumer, &name)?;
        let mut assignment = TopicPartitionList::new();
        for partition in ends.keys() {
            assignment.add_partition_offset(&name, *partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut records = read_to(&consumer, topic, ends).with_context(|| format!("read topic {name}"))?;
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// Writes a record without an outbox, and waits for its delivery.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub async fn write(&self, record: &Record) -> Result<()> {
        let producer: FutureProducer = self.client().create()?;
        let topic = format!("{}{}", self.prefix, record.topic);
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value) })
        });
        let record = FutureRecord::to(&topic)
            .partition(record.partition)
            .key(&record.key)
            .payload(&record.payload)
            .headers(headers);
        producer.send(record, ASK_TIMEOUT).await.map_err(|(error, _)| error).context("write a record")?;
        Ok(())
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    /// Creates a topic whose broker takes batches up to `bytes_max`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn create_small(&self, topic: &str, partitions: i32, bytes_max: u32) -> Result<()> {
        let (name, bytes) = (format!("{}{topic}", self.prefix), bytes_max.to_string());
        let topic =
            NewTopic::new(&name, partitions, TopicReplication::Fixed(1)).set("max.message.bytes", &bytes);
        let answers = self.admin()?.create_topics([&topic], &options()).await?;
        answers.into_iter().try_for_each(|answer| match answer {
            Ok(_) => Ok(()),
            Err((topic, code)) => bail!("create topic {topic}: {code}"),
        })
    }

    /// Lets a topic take batches up to `bytes_max`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn allow_bytes(&self, topic: &str, bytes_max: u32) -> Result<()> {
        let (name, bytes) = (format!("{}{topic}", self.prefix), bytes_max.to_string());
        let change = AlterConfig::new(ResourceSpecifier::Topic(&name)).set("max.message.bytes", &bytes);
        let answers = self.admin()?.alter_configs([&change], &options()).await?;
        answers.into_iter().try_for_each(|answer| match answer {
            Ok(_) => Ok(()),
            Err((topic, code)) => bail!("configure topic {topic:?}: {code}"),
        })
    }

    /// Deletes all topics with this prefix.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn delete_all(&self) -> Result<()> {
        let kafka = self.clone();
        let names = tokio::task::spawn_blocking(move || kafka.names()).await??;
        if names.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.admin()?.delete_topics(&names, &options()).await?;
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>> {
        let consumer: BaseConsumer = self.client().create()?;
        let metadata = consumer.fetch_metadata(None, ASK_TIMEOUT).context("list topics")?;
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        Ok(names.filter(|name| name.starts_with(&self.prefix)).collect())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK_TIMEOUT)).operation_timeout(Some(ASK_TIMEOUT))
}

/// The end of each partition that is not empty.
fn ends(consumer: &BaseConsumer, name: &str) -> Result<BTreeMap<i32, i64>> {
    let metadata =
        consumer.fetch_metadata(Some(name), ASK_TIMEOUT).with_context(|| format!("find topic {name}"))?;
    let partitions =
        metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(name, partition, ASK_TIMEOUT)?;
        if high > low {
            ends.insert(partition, high);
        }
    }
    Ok(ends)
}

fn read_to(consumer: &BaseConsumer, topic: &str, mut ends: BTreeMap<i32, i64>) -> Result<Vec<Record>> {
    let started = Instant::now();
    let mut records = Vec::new();
    while !ends.is_empty() {
        if started.elapsed() > READ_TIMEOUT {
            bail!("not read to the end within {} s; missing up to {ends:?}", READ_TIMEOUT.as_secs());
        }
        let Some(message) = consumer.poll(POLL).transpose()? else { continue };
        let partition = message.partition();
        let Some(end) = ends.get(&partition).copied() else { continue };
        if message.offset() < end {
            records.push(record(topic, &message));
        }
        if message.offset() + 1 >= end {
            ends.remove(&partition);
        }
    }
    Ok(records)
}

fn record(topic: &str, message: &BorrowedMessage<'_>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        topic: topic.to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text).unwrap_or_default(),
        payload: message.payload().map(<[u8]>::to_vec).unwrap_or_default(),
        headers: headers.map(|h| (h.key.to_owned(), h.value.map(text).unwrap_or_default())).collect(),
    }
}
