//! What the comparison of reads shows.

use super::Controller;
use crate::Gate;
use crate::policy::Policy;

impl Controller {
    /// The gates that are passed by reads, for a step from this policy.
    #[expect(clippy::unused_async, reason = "asks the database once reads are compared")]
    pub(super) async fn reads_shown(&self, _: &Policy) -> Vec<Gate> {
        Vec::new()
    }
}
