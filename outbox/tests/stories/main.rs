//! The outbox alone, against a real PostgreSQL and a real Kafka.

mod crossing;
mod replica;
mod world;
