//! Up to where a partition is dealt with, though its records are dealt with out of order.

use std::collections::{HashMap, VecDeque};

use crate::Topic;

/// The records in hand, per partition. A position may only pass a record when it and all before it are dealt with.
#[derive(Default)]
pub(super) struct Marks(HashMap<(Topic, i32), Partition>);

/// A record in hand, for one handler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) topic: Topic,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Whether this record was read before: the partition had been given away and came back.
    pub(super) again: bool,
    generation: u64,
}

struct Partition {
    /// Grows when reading goes back: what was in hand then is in hand twice, and the later one counts.
    generation: u64,
    /// Offsets in ascending order, with how many handlers have not dealt with each.
    open: VecDeque<(i64, usize)>,
    last_read: i64,
    furthest: i64,
}

impl Marks {
    /// Notes a record that `handlers` will deal with.
    pub(super) fn open(&mut self, topic: Topic, partition: i32, offset: i64, handlers: usize) -> Ticket {
        let fresh = Partition { generation: 0, open: VecDeque::new(), last_read: -1, furthest: -1 };
        let at = self.0.entry((topic, partition)).or_insert(fresh);
        if offset <= at.last_read {
            at.generation += 1;
            at.open.clear();
        }
        let again = offset <= at.furthest;
        at.last_read = offset;
        at.furthest = at.furthest.max(offset);
        at.open.push_back((offset, handlers));
        Ticket { topic, partition, offset, again, generation: at.generation }
    }

    /// Notes that one handler has dealt with a record. The offset up to which all are dealt with, when it has grown.
    pub(super) fn close(&mut self, ticket: Ticket) -> Option<i64> {
        let at = self.0.get_mut(&(ticket.topic, ticket.partition))?;
        if at.generation != ticket.generation {
            return None;
        }
        let n = at.open.binary_search_by_key(&ticket.offset, |(offset, _)| *offset).ok()?;
        let left = &mut at.open[n].1;
        *left = left.saturating_sub(1);
        let mut passed = None;
        while let Some((offset, 0)) = at.open.front() {
            passed = Some(*offset);
            at.open.pop_front();
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Topic = Topic::new("t");

    #[test]
    fn a_position_never_passes_a_record_in_hand() {
        let mut marks = Marks::default();
        let tickets: Vec<_> = [3, 4, 9].map(|offset| marks.open(T, 0, offset, 1)).into();
        assert_eq!(marks.close(tickets[1]), None);
        assert_eq!(marks.close(tickets[2]), None);
        assert_eq!(marks.close(tickets[0]), Some(9));
    }

    #[test]
    fn all_handlers_of_a_record_must_have_dealt_with_it() {
        let mut marks = Marks::default();
        let ticket = marks.open(T, 0, 0, 2);
        assert_eq!(marks.close(ticket), None);
        assert_eq!(marks.close(ticket), Some(0));
    }

    #[test]
    fn what_is_read_again_must_be_dealt_with_again() {
        let mut marks = Marks::default();
        let before: Vec<_> = [0, 1].map(|offset| marks.open(T, 0, offset, 1)).into();
        let after = marks.open(T, 0, 0, 1);
        assert!(after.again && !before[0].again);
        assert_eq!(
            marks.close(before[0]),
            None,
            "the one that was in hand before says nothing of the later one"
        );
        assert_eq!(marks.close(before[1]), None);
        assert_eq!(marks.close(after), Some(0));
    }
}
