//! `cargo xtask bench migration`: what it costs to move payments to the service and back, and what the move costs everyone else.

mod customers;
mod database;
mod feeds;
mod field;
mod filling;
mod moves;
mod options;
mod overhead;
mod run;
mod steps;
mod writers;

pub(crate) use options::Options;
pub(crate) use run::run;

/// A count as a number to divide by. No count of a benchmark is near 2^32.
fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
