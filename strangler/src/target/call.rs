//! What becomes of each key of a control call, by the table.

use std::collections::{BTreeMap, BTreeSet};

use super::Reply;
use crate::Epoch;
use crate::handover::target::{Message, Row, Standing};
use crate::handover::{Effect, Facts, Refusal};

/// The keys of one call with what is known of each.
pub(super) struct Call {
    pub(super) message: Message,
    pub(super) rows: BTreeMap<String, Row>,
    pub(super) pinned: BTreeMap<String, String>,
    pub(super) known: BTreeSet<String>,
}

/// What a call does besides replying.
#[derive(Default)]
pub(super) struct Work {
    pub(super) changed: Vec<(String, Row)>,
    pub(super) released: Vec<(String, Epoch)>,
    pub(super) gained: Vec<String>,
    pub(super) replies: Vec<(String, Reply)>,
}

impl Call {
    pub(super) fn decide(&self, keys: &[(String, Epoch)]) -> Work {
        let mut work = Work::default();
        for (key, epoch) in keys {
            let before = self.rows.get(key).copied();
            let facts = Facts { quiet: !self.pinned.contains_key(key), known: self.known.contains(key) };
            let reply = match Row::step(before, self.message, *epoch, facts) {
                Ok((after, step)) => {
                    if step.effect == Effect::PublishRelease {
                        work.released.push((key.clone(), *epoch));
                    }
                    let writes = |row| Row::standing(row) == Standing::Writable;
                    if writes(after) && !writes(before) {
                        work.gained.push(key.clone());
                    }
                    if let Some(row) = after.filter(|_| after != before) {
                        work.changed.push((key.clone(), row));
                    }
                    self.reply(step.effect, key)
                }
                Err(refusal) => self.refuse(refusal, key),
            };
            work.replies.push((key.clone(), reply));
        }
        work
    }

    fn reply(&self, effect: Effect, key: &str) -> Reply {
        match effect {
            Effect::ReplyReady => Reply::Ready,
            Effect::ReplyGranted => Reply::Granted,
            Effect::ReplyBusy => self.busy(key),
            Effect::ReplyReleased | Effect::PublishRelease => Reply::Released,
            // No step of a control call has another effect.
            Effect::Nothing
            | Effect::Write
            | Effect::Apply
            | Effect::PublishOffer
            | Effect::PublishSnapshot
            | Effect::SendGrant
            | Effect::SendRecall => Reply::NotYet,
        }
    }

    fn refuse(&self, refusal: Refusal, key: &str) -> Reply {
        match refusal {
            Refusal::NotYet => Reply::NotYet,
            Refusal::Busy | Refusal::Moving => self.busy(key),
            Refusal::Stale | Refusal::NotOwner | Refusal::ForeignWrite => Reply::Stale,
        }
    }

    fn busy(&self, key: &str) -> Reply {
        Reply::Busy(self.pinned.get(key).cloned().unwrap_or_default())
    }
}
