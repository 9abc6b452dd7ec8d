//! What our figures are held against: the same work with everything else left out.

mod commits;
mod direct;
mod produce;
mod queue;
mod round_trip;
mod upsert;

pub(crate) use commits::commits;
pub(crate) use direct::Direct;
pub(crate) use produce::{per_second, produce};
pub(crate) use queue::read_and_delete;
pub(crate) use round_trip::round_trip;
pub(crate) use upsert::{UPSERT, upsert};
