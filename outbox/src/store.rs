//! All SQL of this crate; one statement a function.

mod cursor;
mod doctor;
mod log;
mod progress;
mod queue;
mod waiting;

pub(crate) use cursor::*;
pub(crate) use doctor::*;
pub(crate) use log::*;
pub(crate) use progress::*;
pub(crate) use queue::*;
pub(crate) use waiting::*;
