//! The steps of the source's row.

use crate::handover::{Effect, Guard};
use crate::{Home, Phase};

/// What comes to the source's row. Those with an epoch name it; for the others [`Row::step`](super::Row::step) ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// The controller begins to hand the key to the target.
    Fence,
    /// The target's reply that it has applied the offer of this epoch.
    Ready,
    /// The controller gives up waiting for the target, for a move that it saw at this epoch.
    TimeOut,
    /// The target's reply that it may write since this epoch.
    Granted,
    /// The controller begins to take the key back.
    Recall,
    /// The controller gives up taking the key back, for a recall that it saw at this epoch.
    Cancel,
    /// The target's release of this epoch, met by the replica.
    Released,
    /// Any other record of the target's after the key's first, met by the replica.
    Foreign,
    /// The owner is to publish a snapshot: backfill, or repair.
    Snapshot,
    /// The domain begins something.
    Intent,
    /// The domain ends what it began.
    Outcome,
}

/// What a step sets besides owner and phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sets {
    /// Nothing.
    Nothing,
    /// `epoch = epoch + 1`.
    NextEpoch,
    /// `granted_epoch` = the message's.
    GrantedEpoch,
}

/// A step of the source's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its name, unique.
    pub name: &'static str,
    /// Owner and phase before.
    pub from: (Home, Phase),
    /// What came.
    pub message: Message,
    /// What must hold, all of it.
    pub guards: &'static [Guard],
    /// Owner and phase after.
    pub to: (Home, Phase),
    /// What else is set.
    pub sets: Sets,
    /// What else is done, in the same transaction.
    pub effect: Effect,
}

/// All steps of the source's row. Whatever is not here is refused and changes nothing.
pub const STEPS: [Step; 14] = {
    use Effect as E;
    use Guard::{OtherEpoch, Quiet, SameEpoch};
    use Home::{Source, Target};
    use Message as M;
    use Phase::{Moving, Recalling, Settled};
    use Sets::{GrantedEpoch, NextEpoch, Nothing};
    const AT_SOURCE: (Home, Phase) = (Source, Settled);
    const AT_TARGET: (Home, Phase) = (Target, Settled);
    const LEAVING: (Home, Phase) = (Source, Moving);
    const RETURNING: (Home, Phase) = (Target, Recalling);
    [
        step("intent at source", AT_SOURCE, M::Intent, &[], AT_SOURCE, Nothing, E::Write),
        step("outcome at source", AT_SOURCE, M::Outcome, &[], AT_SOURCE, Nothing, E::Write),
        step("snapshot by source", AT_SOURCE, M::Snapshot, &[], AT_SOURCE, Nothing, E::PublishSnapshot),
        step("fence", AT_SOURCE, M::Fence, &[Quiet], LEAVING, NextEpoch, E::PublishOffer),
        step("decide", LEAVING, M::Ready, &[SameEpoch], AT_TARGET, NextEpoch, E::SendGrant),
        step("time out", LEAVING, M::TimeOut, &[SameEpoch], AT_SOURCE, NextEpoch, E::Nothing),
        step("note the grant", AT_TARGET, M::Granted, &[SameEpoch], AT_TARGET, GrantedEpoch, E::Nothing),
        step("recall", AT_TARGET, M::Recall, &[], RETURNING, NextEpoch, E::SendRecall),
        step("cancel", RETURNING, M::Cancel, &[SameEpoch], AT_TARGET, NextEpoch, E::SendGrant),
        step("take back", RETURNING, M::Released, &[SameEpoch], AT_SOURCE, NextEpoch, E::Apply),
        step(
            "release of another recall",
            RETURNING,
            M::Released,
            &[OtherEpoch],
            RETURNING,
            Nothing,
            E::Apply,
        ),
        step("release of a cancelled recall", AT_TARGET, M::Released, &[], AT_TARGET, Nothing, E::Apply),
        step("follow the target", AT_TARGET, M::Foreign, &[], AT_TARGET, Nothing, E::Apply),
        step("follow a recalled target", RETURNING, M::Foreign, &[], RETURNING, Nothing, E::Apply),
    ]
};

const fn step(
    name: &'static str,
    from: (Home, Phase),
    message: Message,
    guards: &'static [Guard],
    to: (Home, Phase),
    sets: Sets,
    effect: Effect,
) -> Step {
    Step { name, from, message, guards, to, sets, effect }
}
