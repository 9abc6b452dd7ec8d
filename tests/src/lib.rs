//! What the demo and the stories are made of: a [`World`] of real processes over real servers, a load, faults, and the
//! checker that says afterwards whether anything was lost, doubled or disordered.
//!
//! `docs/testing.md` tells how to write a story and what the checker compares.

mod binaries;
pub mod checker;
mod config;
mod guard;
pub mod kafka;
pub mod load;
pub mod memory;
mod operator;
mod port;
mod post;
mod process;
mod seed;
mod seeds;
mod shop;
mod store;
mod story;
mod wait;
mod world;

pub use binaries::Binaries;
pub use operator::Operator;
pub use port::Port;
pub use post::Post;
pub use process::{Process, Spec};
pub use seed::seed;
pub use seeds::seeds;
pub use shop::{MONOLITH, Ports, SERVICE, Shop, Side};
pub use story::story;
pub use wait::until;
pub use world::World;
