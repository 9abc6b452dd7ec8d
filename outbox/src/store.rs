//! All SQL of this crate; one statement a function.

mod archive;
mod audit;
mod conflict;
mod cursor;
mod dead_letter;
mod doctor;
mod history;
mod lease;
mod log;
mod progress;
mod quarantine;
mod queue;
mod refill;
mod replay;
mod retention;
mod retirement;
mod start;
mod waiting;

pub(crate) use archive::*;
pub(crate) use audit::*;
pub(crate) use conflict::*;
pub(crate) use cursor::*;
pub(crate) use dead_letter::*;
pub(crate) use doctor::*;
pub(crate) use history::*;
pub(crate) use lease::*;
pub(crate) use log::*;
pub(crate) use progress::*;
pub(crate) use quarantine::*;
pub(crate) use queue::*;
pub(crate) use refill::*;
pub(crate) use replay::*;
pub(crate) use retention::*;
pub(crate) use retirement::*;
pub(crate) use start::*;
pub(crate) use waiting::*;
