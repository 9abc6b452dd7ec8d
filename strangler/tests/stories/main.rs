//! The strangler alone, against a real PostgreSQL and a target in memory or behind gRPC.
#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect fails")]

mod back;
mod births;
mod control;
mod counts;
mod decisions;
mod domain;
mod filling;
mod forward;
mod gates;
mod heartbeats;
mod holds;
mod killed;
mod leaders;
mod locks;
mod odd;
mod reading;
mod rights;
mod sealed;
mod seam;
mod seeding;
mod stages;
mod table;
mod target;
mod walk;
mod world;
