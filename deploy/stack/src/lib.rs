//! PostgreSQL and Kafka on this machine, for the demo and for tests.
//!
//! [`Stack::start`] takes the first source that works and says which: addresses from the environment, containers,
//! or processes of its own. What it started never outlives it, not even when its owner is killed with `kill -9`:
//! see [`Stack`]. Tests call [`shared`] and ask it for a [`Database`] and a topic prefix each; [`statements`] counts what they
//! send to it.

mod choice;
mod config;
mod database;
mod docker;
mod error;
mod external;
mod guard;
mod native;
mod ready;
mod shared;
mod stack;
pub mod statements;
mod store;
mod url;

pub use choice::Choice;
pub use database::Database;
pub use error::Error;
pub use shared::shared;
pub use stack::Stack;
