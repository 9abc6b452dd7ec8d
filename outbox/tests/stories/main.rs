//! The outbox alone, against a real PostgreSQL and a real Kafka.

#![expect(
    clippy::duplicate_mod,
    reason = "each example brings its own `place`, as it does when it is run alone"
)]

mod anew;
mod archiving;
mod audit;
mod awaiting;
mod conflicts;
mod crossing;
mod doctor;
mod examples;
mod fickle;
mod frozen;
mod gate;
mod group;
mod handing;
mod held;
mod history;
mod letters;
mod line;
mod mass;
mod memory;
mod migrations;
mod plans;
mod producer;
mod producers;
mod publishing;
mod quarantine;
mod quiet;
mod recent;
mod refill;
mod rejoining;
mod relay;
mod replaying;
mod replica;
mod retention;
mod retiring;
mod retries;
mod scripted;
mod setback;
mod shelf;
mod silence;
mod sinks;
mod snapshots;
mod starts;
mod tail;
mod telemetry;
mod transactions;
mod verdicts;
mod wire;
mod working;
mod world;
