//! A model of the hand-over, and a checker that walks every order of its steps. `docs/handover.md` says what it covers.
#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect fails")]

mod action;
mod broken;
mod check;
mod holds;
mod model;
mod property;
mod rules;
mod stream;
mod world;
