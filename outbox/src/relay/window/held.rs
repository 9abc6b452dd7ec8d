//! Keys that wait for their lane.

use super::Window;

impl Window {
    /// Not sent because its lane is down: the key waits for `unhold`. False when it is not kept: a quarter of the window is
    /// held already, and the rest is for keys that can be sent.
    pub(in crate::relay) fn hold(&mut self, position: i64) -> bool {
        let Some(id) = self.untake(position) else { return false };
        let Some(chain) = self.chains.get_mut(&id) else { return false };
        if !chain.held && self.held.1 + chain.len > self.max.div_ceil(4) {
            self.forget(id);
            return false;
        }
        if !chain.held {
            chain.held = true;
            self.held = (self.held.0 + 1, self.held.1 + chain.len);
        }
        chain.queued = false;
        true
    }

    pub(in crate::relay) fn unhold(&mut self, position: i64) {
        let Some(id) = self.rows.get(&position).map(|row| row.chain) else { return };
        if let Some(chain) = self.chains.get_mut(&id).filter(|chain| chain.held) {
            chain.held = false;
            self.held = (self.held.0 - 1, self.held.1 - chain.len);
            if chain.len <= 1 {
                let tail = chain.tail;
                self.want(tail);
            }
        }
        self.queue(id);
    }
}
