//! The stories: one for each promise and crash point, against real processes, PostgreSQL and Kafka. `docs/testing.md`
//! tells how to write one.

mod away;
mod backfill;
mod cards;
mod crashes;
mod dropped;
mod edges;
mod faults;
mod grpc;
mod handover;
mod migration;
mod negative;
mod notes;
mod ordering;
mod orders;
mod outcomes;
mod points;
mod problems;
mod reading;
mod reconciling;
mod relaying;
mod removed;
mod repeats;
mod rights;
mod sealed;
mod settings;
mod telemetry;
mod transparency;
mod webhooks;
