//! The outbox alone, against a real PostgreSQL and a real Kafka.

mod audit;
mod crossing;
mod doctor;
mod examples;
mod fickle;
mod group;
mod letters;
mod line;
mod memory;
mod migrations;
mod producers;
mod publishing;
mod quarantine;
mod refill;
mod relay;
mod replica;
mod scripted;
mod sinks;
mod verdicts;
mod working;
mod world;
