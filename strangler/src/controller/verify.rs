//! Whether anything still touches the source's copy.

use super::Controller;
use crate::{Gate, Verdict};

impl Controller {
    /// The gate `verify` of stage `removed`.
    #[expect(clippy::unused_async, reason = "asks the database once touches are looked for")]
    pub(super) async fn verified(&self) -> Gate {
        Gate::new("verify", Verdict::Inconclusive, "nobody has looked for touches of the source's tables")
    }
}
