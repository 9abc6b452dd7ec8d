//! The outbox alone, against a real PostgreSQL and a real Kafka.

mod audit;
mod crossing;
mod letters;
mod line;
mod memory;
mod publishing;
mod refill;
mod replica;
mod sinks;
mod world;
