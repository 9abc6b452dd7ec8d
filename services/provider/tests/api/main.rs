//! The stand-in over HTTP: what it answers, what it never answers, and what its journal says.

mod client;
mod errors;
mod journal;
mod money;
mod outcomes;
mod process;
mod receiver;
mod scripts;
mod search;
mod settlements;
mod webhooks;
