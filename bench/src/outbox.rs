//! `cargo xtask bench outbox`: what publishing, relaying and applying cost beside their limits, and beside the peers.

mod contender;
mod drive;
mod listener;
mod options;
mod profile;
mod rows;
mod run;
mod verify;
pub(crate) mod workload;
mod writers;

pub(crate) use contender::Contender;
pub(crate) use listener::Listener;
pub(crate) use options::Options;
pub(crate) use run::run;
