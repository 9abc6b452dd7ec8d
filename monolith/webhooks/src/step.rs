//! Where a test may end the process: the boundaries between what is durable and what is not.

use std::fmt;
use std::sync::Arc;

/// A boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A webhook is committed and not answered yet.
    Stored,
    /// The payment's owner has taken a notice, and its row does not say so yet.
    Delivered,
    /// The row says so.
    Marked,
}

/// Told when a step is reached. By default nobody is.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Watch {
    /// Calls `tell` at each step.
    pub fn new(tell: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(crate) fn reached(&self, step: Step) {
        if let Some(tell) = &self.0 {
            tell(step);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}
