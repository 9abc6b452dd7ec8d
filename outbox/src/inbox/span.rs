//! Where a group must stand in a partition, so that each of its handlers gets what is its.

use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Message, Place};

/// How far the clocks of two databases may be apart.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(3600);

/// Offsets of one topic by partition, from 0 on; a partition beyond them is read from its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offsets(pub(super) Vec<i64>);

impl Offsets {
    pub(super) fn of(&self, partition: i32) -> i64 {
        usize::try_from(partition).ok().and_then(|n| self.0.get(n)).copied().unwrap_or(0)
    }

    pub(super) fn set(&mut self, partition: i32, offset: i64) {
        let Ok(n) = usize::try_from(partition) else { return };
        if self.0.len() <= n {
            self.0.resize(n + 1, 0);
        }
        self.0[n] = offset;
    }
}

/// Where a handler begins in its topic.
#[derive(Debug, Clone, Default)]
pub(super) struct Begun {
    pub(super) offsets: Offsets,
    /// When that was noted; none at the very first start.
    pub(super) since: Option<OffsetDateTime>,
}

impl Begun {
    /// When a record from before the beginning was published, if that is after the beginning was noted: it is not of the topic
    /// that the handler began in.
    pub(super) fn contradicted_by(&self, message: &Message) -> Option<OffsetDateTime> {
        if message.offset >= self.offsets.of(message.partition) {
            return None;
        }
        let (_, time) = message.headers.iter().find(|(name, _)| name == "ce_time")?;
        let published = OffsetDateTime::parse(time, &Rfc3339).ok()?;
        (published > self.since? + CLOCKS_APART_MAX).then_some(published)
    }
}

/// Where the group reads, or has read, without a handler: the first such offset by partition; none where it misses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Missed(pub(super) Vec<Option<i64>>);

impl Missed {
    fn of(&self, partition: i32) -> Option<i64> {
        usize::try_from(partition).ok().and_then(|n| self.0.get(n)).copied().flatten()
    }

    /// Of two offsets of a partition the earlier one stays.
    pub(super) fn from(&mut self, partition: i32, offset: i64) {
        let Ok(n) = usize::try_from(partition) else { return };
        if self.0.len() <= n {
            self.0.resize(n + 1, None);
        }
        self.0[n] = Some(self.0[n].map_or(offset, |known| known.min(offset)));
    }
}

/// A partition as the group finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) place: Place,
    /// The first offset that the log has.
    pub(super) first: i64,
    /// The offset that the next record gets.
    pub(super) end: i64,
}

/// What a handler needs of its group.
#[derive(Debug, Clone)]
pub(super) enum Need {
    /// It had what the group has read.
    Nothing,
    /// The group has read on without it, from there.
    Missed(Missed),
    /// It is new in this group, and begins there.
    Begins(Offsets),
}

/// Why a group can't give a handler what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmet {
    /// The group has passed records that the handler has not seen.
    Passed,
    /// The log no longer has this offset.
    Gone(i64),
    /// The log has not come to the offset at which the handler began.
    Short(i64),
}

impl Span {
    /// Whether a handler can have begun where it says, whatever its group needs.
    pub(super) fn check(&self, begun: &Offsets) -> Result<(), Unmet> {
        let from = begun.of(self.place.partition);
        if from > self.end { Err(Unmet::Short(from)) } else { Ok(()) }
    }

    /// Where the group must stand for a handler.
    pub(super) fn target(&self, need: &Need) -> Result<i64, Unmet> {
        let (partition, stands) = (self.place.partition, self.place.position);
        match need {
            Need::Nothing => Ok(stands.unwrap_or(self.first)),
            Need::Missed(missed) => match (missed.of(partition), stands) {
                (None, stands) => Ok(stands.unwrap_or(self.first)),
                (Some(from), Some(at)) if at > from && from < self.first => Err(Unmet::Gone(from)),
                (Some(from), Some(at)) => Ok(at.min(from)),
                (Some(from), None) => Ok(from.max(self.first)),
            },
            Need::Begins(from) => {
                let from = from.of(partition);
                // What the log had before is gone for a group of its own too.
                let from = from.max(self.first);
                match stands {
                    Some(at) if at > from => Err(Unmet::Passed),
                    Some(at) => Ok(at),
                    None => Ok(from),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topic;

    fn span(position: Option<i64>) -> Span {
        Span { place: Place { topic: Topic::new("t"), partition: 1, position }, first: 10, end: 50 }
    }

    fn at(offset: i64) -> Offsets {
        Offsets(vec![0, offset])
    }

    #[test]
    fn a_handler_that_was_left_out_gets_what_it_missed_or_an_error() {
        let missed = |offset| Need::Missed(Missed(vec![Some(0), offset]));
        assert_eq!(span(Some(40)).target(&missed(Some(20))), Ok(20));
        assert_eq!(span(Some(20)).target(&missed(Some(20))), Ok(20));
        assert_eq!(span(Some(40)).target(&missed(Some(5))), Err(Unmet::Gone(5)));
        assert_eq!(span(None).target(&missed(Some(0))), Ok(10));
        // Nobody has read this partition without it, whatever the log has lost of it.
        assert_eq!(span(Some(40)).target(&missed(None)), Ok(40));
        assert_eq!(span(None).target(&Need::Missed(Missed::default())), Ok(10));
    }

    #[test]
    fn a_new_handler_begins_where_it_must_or_not_at_all() {
        assert_eq!(span(None).target(&Need::Begins(Offsets::default())), Ok(10), "the log's beginning");
        assert_eq!(span(Some(10)).target(&Need::Begins(Offsets::default())), Ok(10), "nothing was passed");
        assert_eq!(span(Some(11)).target(&Need::Begins(Offsets::default())), Err(Unmet::Passed));
        assert_eq!(span(None).target(&Need::Begins(at(30))), Ok(30), "as in the group it was in before");
        assert_eq!(
            span(Some(20)).target(&Need::Begins(at(50))),
            Ok(20),
            "the others go on from where they are"
        );
        assert_eq!((span(None).check(&at(50)), span(None).check(&at(51))), (Ok(()), Err(Unmet::Short(51))));
    }

    #[test]
    fn what_is_missed_begins_at_the_earliest_assignment() {
        let mut missed = Missed::default();
        for (partition, offset) in [(2, 7), (2, 5), (2, 6), (0, 1), (-1, 3)] {
            missed.from(partition, offset);
        }
        assert_eq!(missed, Missed(vec![Some(1), None, Some(5)]));
    }

    #[test]
    fn offsets_are_by_partition() {
        let mut offsets = Offsets::default();
        offsets.set(2, 7);
        assert_eq!(offsets, Offsets(vec![0, 0, 7]));
        assert_eq!((offsets.of(2), offsets.of(3), offsets.of(-1)), (7, 0, 0));
    }
}
