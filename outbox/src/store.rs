//! All SQL of this crate; one statement a function.

mod audit;
mod cursor;
mod dead_letter;
mod doctor;
mod lease;
mod log;
mod progress;
mod queue;
mod refill;
mod waiting;

pub(crate) use audit::*;
pub(crate) use cursor::*;
pub(crate) use dead_letter::*;
pub(crate) use doctor::*;
pub(crate) use lease::*;
pub(crate) use log::*;
pub(crate) use progress::*;
pub(crate) use queue::*;
pub(crate) use refill::*;
pub(crate) use waiting::*;
