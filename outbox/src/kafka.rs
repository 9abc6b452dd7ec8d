//! Apache Kafka as sink and source, by librdkafka.

mod client;
mod member;
mod murmur2;
mod producer;
mod reader;
mod states;
mod topics;

pub use client::Config;
pub use producer::{KafkaSink, sink};
pub use reader::{KafkaSource, source};
pub use states::{TopicState, topic_states};
pub use topics::create_topics;
