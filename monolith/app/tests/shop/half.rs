//! What of payments is in this process: all of one home, or nothing any more.

#[cfg(feature = "local-payments")]
mod local;
#[cfg(not(feature = "local-payments"))]
mod removed;

#[cfg(feature = "local-payments")]
pub(crate) use self::local::Half;
#[cfg(not(feature = "local-payments"))]
pub(crate) use self::removed::Half;
