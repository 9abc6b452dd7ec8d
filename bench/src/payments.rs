//! `cargo xtask bench payments`: what a paid order costs, with payments in the monolith and in the service.

mod database;
mod load;
mod options;
mod processes;
mod round;
mod run;
mod shop;
mod stages;
mod statements;

pub(crate) use database::{checkpoint, now, paid_of};
pub(crate) use load::place;
pub(crate) use options::Options;
pub(crate) use run::run;
pub(crate) use stages::quantile;
