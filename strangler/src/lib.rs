//! Moves the keys of one domain from a monolith to a service, one key at a time, under traffic.
//!
//! [`Owners`] decides and stores where a new key is born and locks a key inside each write of the source; [`Authority`]
//! does the same at the target. A [`Seam`] sends reads and writes to the home that owns the key. The [`Controller`] walks a
//! migration through its [`Stage`]s, behind [`Gate`]s, and back, has the target filled with what it lacks, and compares the copies
//! of both homes; [`Target`] does what it asks of the target. The crate knows no domain and no event: those are behind
//! [`Domain`], [`Movable`] and [`Peer`]. [`handover`] has the steps of a key's way. `docs/migration.md` tells an operator's side.

mod answers;
mod authority;
mod cache;
pub mod control;
mod controller;
mod copies;
mod crash;
mod decisions;
mod domain;
mod error;
mod gate;
pub mod handover;
mod heartbeat;
mod home;
mod logged;
mod memory;
mod owners;
mod parity;
mod peer;
pub mod plan_file;
mod policy;
mod reads;
mod schema;
mod seal;
mod seam;
mod seeding;
mod share;
mod silence;
mod stage;
mod store;
mod target;

pub use answers::{
    Approval, Approved, Back, Backfill, Change, Feed, Held, History, Keys, Named, NextGate, Parity,
    PinnedKey, PinnedKeys, Plan, PlanView, PolicyView, Repaired, Status, Step, Unrepaired, Why,
};
pub use authority::Authority;
pub use controller::{Again, Controller, Settings};
pub use copies::Checksum;
pub use crash::{Crash, NoSuchPoint, Point};
pub use decisions::{DecisionClass, DecisionCount, DecisionSample, Decisions, MutantCount, ProviderAccess};
pub use domain::{Domain, Key, KeyCopy, Movable, Pinned};
pub use error::{BoxError, Error, Refusal};
pub use gate::{Gate, Verdict};
pub use heartbeat::{Heard, Heartbeat};
pub use home::{Epoch, Home, Ownership, Phase};
pub use logged::{Logged, Missing};
pub use memory::Memory;
pub use owners::{Owners, Taken};
pub use peer::{Applied, Evidence, Health, Peer};
pub use policy::Advance;
pub use reads::{Class, Comparable, Difference, Fallback, ReadMetrics, ReadSettings, Reading, Reads};
pub use schema::{
    SOURCE_MIGRATOR, TARGET_MIGRATOR, define, grant_assigner, grant_controller, grant_home, grant_mover,
    grant_observer, grant_writer, migrate_source, migrate_target, sealable,
};
pub use seal::Seal;
pub use seam::{Answer, Asked, Bounds, Homes, Seam};
pub use share::share;
pub use silence::FeedMetrics;
pub use stage::Stage;
pub use target::{Reply, Target};
