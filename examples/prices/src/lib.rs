//! Catalog prices, moved from a shop to a service of their own: a domain that `strangler` moves, as small as it can be.
//!
//! A price has a key (its sku), a versioned row at each home, and no effects outside the database. [`Price`] is the record that
//! both homes publish and follow; [`Prices`] is a home, and what callers ask of it. All that moving it takes is in `moving.rs`.
//! `tests/stories` walks prices from `local` to `primary` and back, with the roles and servers that a real program has.

mod moving;
mod price;
mod prices;

pub use price::{PRICES, Price, Why};
pub use prices::{At, Prices, Shown, Unshown};
