//! The outbox alone, against a real PostgreSQL and a real Kafka.

mod crossing;
mod memory;
mod publishing;
mod letters;
mod line;
mod refill;
mod replica;
mod sinks;
mod world;
