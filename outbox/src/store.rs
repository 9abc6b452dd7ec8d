//! All SQL of this crate; one statement a function.

mod cursor;
mod log;
mod queue;

pub(crate) use cursor::*;
pub(crate) use log::*;
pub(crate) use queue::*;
