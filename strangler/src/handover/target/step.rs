//! The steps of the target's row.

use super::Standing;
use crate::handover::{Effect, Guard};

/// What comes to the target's row. Those with an epoch name it; for the others [`Row::step`](super::Row::step) ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// The first record of a key born at the target, with the epoch of its birth.
    Born,
    /// The source's offer of this epoch.
    Offered,
    /// Any other record of the source's; also the first record of a key born there.
    Foreign,
    /// The controller asks whether the offer of this epoch is applied.
    Ready,
    /// The controller says that the target owns the key since this epoch. So does a write that carries a settled epoch above the
    /// row's: it takes this step first, in its own transaction.
    Grant,
    /// The controller takes the key back at this epoch.
    Recall,
    /// The owner is to publish a snapshot: repair.
    Snapshot,
    /// The domain begins something.
    Intent,
    /// The domain ends what it began.
    Outcome,
    /// The target's copies are thrown away, after a rollback.
    Empty,
}

/// What a step sets besides the standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sets {
    /// Nothing.
    Nothing,
    /// `epoch` = the message's, `recall_epoch` = null.
    Epoch,
    /// `recall_epoch` = the message's.
    RecallEpoch,
}

/// A step of the target's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its name, unique.
    pub name: &'static str,
    /// The standing before.
    pub from: Standing,
    /// What came.
    pub message: Message,
    /// What must hold, all of it.
    pub guards: &'static [Guard],
    /// The standing after.
    pub to: Standing,
    /// What is set.
    pub sets: Sets,
    /// What else is done, in the same transaction.
    pub effect: Effect,
}

/// All steps of the target's row. Whatever is not here is refused and changes nothing.
pub const STEPS: [Step; 23] = {
    use Effect as E;
    use Guard::{Busy, Known, NewerEpoch, Quiet, RecallOrNewer, SameEpoch};
    use Message as M;
    use Sets::{Epoch, Nothing, RecallEpoch};
    use Standing::{Absent, Fenced, Recalled, Writable};
    [
        step("born here", Absent, M::Born, &[], Writable, Epoch, E::Apply),
        step("born here before", Fenced, M::Born, &[], Fenced, Nothing, E::Apply),
        step("intent at target", Writable, M::Intent, &[], Writable, Nothing, E::Write),
        step("outcome at target", Writable, M::Outcome, &[], Writable, Nothing, E::Write),
        step("outcome while recalled", Recalled, M::Outcome, &[], Recalled, Nothing, E::Write),
        step("snapshot by target", Writable, M::Snapshot, &[], Writable, Nothing, E::PublishSnapshot),
        step("follow", Absent, M::Foreign, &[], Absent, Nothing, E::Apply),
        step("follow, fenced", Fenced, M::Foreign, &[], Fenced, Nothing, E::Apply),
        step("first offer", Absent, M::Offered, &[], Fenced, Epoch, E::Apply),
        step("offer", Fenced, M::Offered, &[NewerEpoch], Fenced, Epoch, E::Apply),
        step("ready", Fenced, M::Ready, &[SameEpoch, Known], Fenced, Nothing, E::ReplyReady),
        step("grant", Fenced, M::Grant, &[NewerEpoch, Known], Writable, Epoch, E::ReplyGranted),
        step("grant again", Writable, M::Grant, &[SameEpoch], Writable, Nothing, E::ReplyGranted),
        step("grant of a later epoch", Writable, M::Grant, &[NewerEpoch], Writable, Epoch, E::ReplyGranted),
        step("grant after a recall", Recalled, M::Grant, &[NewerEpoch], Writable, Epoch, E::ReplyGranted),
        step(
            "recall a quiet key",
            Writable,
            M::Recall,
            &[NewerEpoch, Quiet],
            Fenced,
            Epoch,
            E::PublishRelease,
        ),
        step(
            "recall a busy key",
            Writable,
            M::Recall,
            &[NewerEpoch, Busy],
            Recalled,
            RecallEpoch,
            E::ReplyBusy,
        ),
        step("drained", Recalled, M::Recall, &[RecallOrNewer, Quiet], Fenced, Epoch, E::PublishRelease),
        step("draining", Recalled, M::Recall, &[RecallOrNewer, Busy], Recalled, RecallEpoch, E::ReplyBusy),
        step(
            "recall before the grant",
            Fenced,
            M::Recall,
            &[NewerEpoch, Known],
            Fenced,
            Epoch,
            E::PublishRelease,
        ),
        step("recall again", Fenced, M::Recall, &[SameEpoch], Fenced, Nothing, E::ReplyReleased),
        step("empty", Absent, M::Empty, &[], Absent, Nothing, E::Nothing),
        step("empty, authority stays", Fenced, M::Empty, &[], Fenced, Nothing, E::Nothing),
    ]
};

const fn step(
    name: &'static str,
    from: Standing,
    message: Message,
    guards: &'static [Guard],
    to: Standing,
    sets: Sets,
    effect: Effect,
) -> Step {
    Step { name, from, message, guards, to, sets, effect }
}
