//! The source's row: who owns a key.

mod step;

use super::{Facts, Guard, Refusal};
use crate::{Epoch, Home, Phase};

pub use step::{Message, STEPS, Sets, Step};

/// A row of `strangler.owner`, as far as a hand-over goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Where the key lives, or, when it is not settled, lived last.
    pub owner: Home,
    /// Whether it stays there.
    pub phase: Phase,
    /// Since which change.
    pub epoch: Epoch,
    /// The last epoch that the target has confirmed; 0: none.
    pub granted_epoch: Epoch,
}

impl Row {
    /// The row of a key that is born: settled at `owner`, in the transaction that publishes its first event.
    pub const fn born(owner: Home) -> Self {
        Self { owner, phase: Phase::Settled, epoch: Epoch::BIRTH, granted_epoch: Epoch(0) }
    }

    /// The row after a message, and the step that it took.
    ///
    /// # Errors
    /// When no step fits. Nothing changes.
    pub fn step(
        self,
        message: Message,
        epoch: Epoch,
        facts: Facts,
    ) -> Result<(Self, &'static Step), Refusal> {
        let mut refusal = None;
        for step in
            STEPS.iter().filter(|step| step.from == (self.owner, self.phase) && step.message == message)
        {
            match Guard::check_all(step.guards, epoch, self.epoch, None, facts) {
                Ok(()) => return Ok((self.after(step, epoch), step)),
                Err(first) => refusal = refusal.or(Some(first)),
            }
        }
        Err(refusal.unwrap_or_else(|| self.refuse(message)))
    }

    /// Whether the source may begin something new with this key.
    pub fn may_write(self) -> bool {
        self.step(Message::Intent, self.epoch, Facts { quiet: false, known: true }).is_ok()
    }

    /// Whether the source may end what it has begun.
    pub fn may_settle(self) -> bool {
        self.step(Message::Outcome, self.epoch, Facts { quiet: false, known: true }).is_ok()
    }

    const fn after(self, step: &Step, epoch: Epoch) -> Self {
        let (owner, phase) = step.to;
        match step.sets {
            Sets::Nothing => Self { owner, phase, ..self },
            Sets::NextEpoch => Self { owner, phase, epoch: Epoch(self.epoch.0 + 1), ..self },
            Sets::GrantedEpoch => Self { owner, phase, granted_epoch: epoch, ..self },
        }
    }

    /// The answer to a message that has no step from here.
    const fn refuse(self, message: Message) -> Refusal {
        match (message, self.phase) {
            (
                Message::Intent | Message::Outcome | Message::Snapshot | Message::Fence | Message::Recall,
                Phase::Settled,
            ) => Refusal::NotOwner,
            (
                Message::Intent | Message::Outcome | Message::Snapshot | Message::Fence | Message::Recall,
                _,
            ) => Refusal::Moving,
            (Message::Released | Message::Foreign, _) => Refusal::ForeignWrite,
            (Message::Ready | Message::TimeOut | Message::Granted | Message::Cancel, _) => Refusal::Stale,
        }
    }
}
