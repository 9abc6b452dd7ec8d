//! Reading on behind the rows of a key that are kept.

use super::{Rest, Window};
use crate::store::{Ahead, Pending};

impl Window {
    /// The row may not have been there to be removed: what was known of its key no longer counts.
    pub(in crate::relay) fn mistaken(&mut self, position: i64) {
        if let Some(id) = self.rows.get(&position).map(|row| row.chain) {
            self.forget(id);
        }
    }

    /// The next part of the queue to read for a key whose kept rows run out.
    pub(in crate::relay) fn next_refill(&mut self) -> Option<Rest> {
        let rest = self.refills.pop_front()?;
        Some(Rest { dropped: self.dropped.get(&rest.bucket).copied().unwrap_or(0), ..rest })
    }

    /// A reading that failed is wanted again.
    pub(in crate::relay) fn refill_failed(&mut self, rest: Rest) {
        self.refills.push_back(rest);
    }

    /// Takes in what was read behind a rest: the rows that follow its link, one by one; and since they are here, those that
    /// follow other keys' last rows. `more`: the queue goes on behind the last position looked at.
    pub(in crate::relay) fn refill(&mut self, rest: Rest, rows: &[Pending], more: Option<i64>) {
        let (mut link, mut full) = (rest.link, false);
        for row in rows {
            let known = self.rows.contains_key(&row.position) || self.gone.fate(row.position).is_some();
            if row.previous != Some(link) {
                match (self.ahead(row), row.previous) {
                    _ if known => {}
                    (Ahead::Waiting, Some(previous)) => drop(self.append(row, previous)),
                    (Ahead::Gone, _) => drop(self.offer_alone(row)),
                    _ => {}
                }
            } else if known || self.offer(row) {
                link = row.position;
            } else {
                self.rest(link, row);
                full = true;
            }
        }
        if full {
            return;
        }
        let last = rows.last().map_or(rest.from, |row| row.position.max(rest.from));
        let unseen = self.dropped.get(&rest.bucket).copied().unwrap_or(0) != rest.dropped;
        let Some(from) = more.or_else(|| unseen.then_some(last)) else { return };
        let again = Rest { link, from, ..rest };
        let full = self.tails.get(&link).and_then(|id| self.chains.get(id));
        if full.is_some_and(|chain| chain.len > self.bound() / 2) {
            self.remember(again);
        } else {
            self.refills.push_back(again);
        }
    }
}
