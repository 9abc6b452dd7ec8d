//! Which rows go, and those that come back unsent.

use super::{State, Taken, Window};

impl Window {
    /// The next row to send. The caller gives it back by `put_back`, `hold`, `removed` or `refused`.
    pub(in crate::relay) fn take(&mut self) -> Option<Taken> {
        while let Some(id) = self.ready.pop_front() {
            let Some(chain) = self.chains.get_mut(&id).filter(|chain| chain.queued) else { continue };
            chain.queued = false;
            if chain.taken >= self.per_key {
                // Its row went with its event; its return queues the chain again.
                continue;
            }
            let mut at = Some(chain.head);
            while let Some(position) = at {
                let Some(row) = self.rows.get_mut(&position) else { break };
                if row.state == State::Waiting {
                    row.state = State::Taken;
                    chain.taken += 1;
                    let taken = Taken { bucket: chain.bucket, position, created_at: row.created_at };
                    self.queue(id);
                    return Some(taken);
                }
                at = row.next;
            }
        }
        None
    }

    /// Takes this row, if it may be sent now.
    pub(in crate::relay) fn take_this(&mut self, position: i64) -> Option<Taken> {
        let row = self.rows.get_mut(&position).filter(|row| row.state == State::Waiting)?;
        let chain = self.chains.get_mut(&row.chain)?;
        if chain.head != position || chain.held {
            return None;
        }
        row.state = State::Taken;
        chain.taken += 1;
        Some(Taken { bucket: chain.bucket, position, created_at: row.created_at })
    }

    /// Not sent after all: it goes first the next time.
    pub(in crate::relay) fn put_back(&mut self, position: i64) {
        if let Some(id) = self.untake(position) {
            self.queue(id);
        }
    }

    pub(super) fn untake(&mut self, position: i64) -> Option<u64> {
        let row = self.rows.get_mut(&position).filter(|row| row.state == State::Taken)?;
        row.state = State::Waiting;
        let id = row.chain;
        self.chains.get_mut(&id)?.taken -= 1;
        Some(id)
    }
}
