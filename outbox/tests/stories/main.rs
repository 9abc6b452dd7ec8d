//! The outbox alone, against a real PostgreSQL and a real Kafka.

mod archiving;
mod audit;
mod crossing;
mod doctor;
mod examples;
mod fickle;
mod group;
mod history;
mod letters;
mod line;
mod memory;
mod migrations;
mod producers;
mod publishing;
mod quarantine;
mod refill;
mod relay;
mod replaying;
mod replica;
mod retention;
mod scripted;
mod shelf;
mod sinks;
mod verdicts;
mod working;
mod world;
