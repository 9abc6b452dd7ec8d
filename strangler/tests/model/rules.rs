//! The rules that a run goes by: the tables, or the tables with one rule broken.

use strangler::Epoch;
use strangler::handover::{Facts, Refusal, source, target};

pub(crate) type SourceStep =
    fn(source::Row, source::Message, Epoch, Facts) -> Result<(source::Row, &'static source::Step), Refusal>;
pub(crate) type TargetStep = fn(
    Option<target::Row>,
    target::Message,
    Epoch,
    Facts,
) -> Result<(Option<target::Row>, &'static target::Step), Refusal>;

/// The steps of both rows, and what the model supplies beside them. Each field is true of the real rules.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) source: SourceStep,
    pub(crate) target: TargetStep,
    /// A record whose version the cursor has passed is dropped.
    pub(crate) gated: bool,
    /// A home that is emptied keeps its cursors, at its heads.
    pub(crate) cursors_stay: bool,
    /// A replica that meets the filler of a record awaits a snapshot.
    pub(crate) fillers_count: bool,
    /// A home is emptied only while all keys are settled at the source.
    pub(crate) emptied_at_rest: bool,
    /// A write carries the owner's epoch only when that is settled.
    pub(crate) settled_epochs: bool,
}

impl Rules {
    /// As they are.
    pub(crate) const TRUE: Self = Self {
        source: source::Row::step,
        target: target::Row::step,
        gated: true,
        cursors_stay: true,
        fillers_count: true,
        emptied_at_rest: true,
        settled_epochs: true,
    };
}
