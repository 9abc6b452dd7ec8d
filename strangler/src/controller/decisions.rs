//! What the comparison of decisions shows.

use super::Controller;
use crate::Gate;
use crate::policy::Policy;

impl Controller {
    /// The gates that are passed by decisions, for a step from this policy.
    #[expect(clippy::unused_async, reason = "asks the target once decisions are compared")]
    pub(super) async fn decisions_shown(&self, _: &Policy) -> Vec<Gate> {
        Vec::new()
    }
}
