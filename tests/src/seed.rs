//! Where a story's random choices come from.

use anyhow::{Context, Result};

use crate::config::Config;

/// `BANYAN_SEED`, or a random one. A story prints it, so that it can be told with the same choices again.
///
/// # Errors
/// When `BANYAN_SEED` is no whole number.
pub fn seed() -> Result<u64> {
    match Config::from_env().seed {
        Some(text) => text.parse().with_context(|| format!("BANYAN_SEED={text}: a whole number is allowed")),
        None => Ok(rand::random()),
    }
}
