//! The half of payments that runs in this process: all of it or, without the feature `local-payments`, what remains of it at a source
//! that is sealed. Both have the same doors, so nobody else asks which one it is.

#[cfg(feature = "local-payments")]
mod local;
#[cfg(not(feature = "local-payments"))]
mod removed;

#[cfg(feature = "local-payments")]
pub(crate) use self::local::{Half, grant, may_migrate, schema};
#[cfg(feature = "local-payments")]
pub use self::local::{HalfConfig, operate};
#[cfg(not(feature = "local-payments"))]
pub use self::removed::HalfConfig;
#[cfg(not(feature = "local-payments"))]
pub(crate) use self::removed::{Half, grant, may_migrate, schema};
