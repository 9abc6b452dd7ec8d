//! A state of the modelled system: two databases, their outboxes, one log, and the control messages that were sent.

use strangler::handover::{source, target};
use strangler::{Epoch, Home};

/// What a key's state is: the homes that wrote it, in order, as digits of base 3.
pub(crate) type Content = u32;

/// Everything that outlives a crash. Whatever runs, controllers, engines, relays, consumers, keeps nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) keys: Vec<Key>,
    /// What Kafka has, in order. A record that comes again is read again from here, see `Action::Again`.
    pub(crate) log: Vec<Record>,
    pub(crate) sites: [Site; 2],
    /// How often the target may still be emptied.
    pub(crate) empties_left: u8,
    /// How many records may still be given up by their home.
    pub(crate) skips_left: u8,
    /// What must never happen and did.
    pub(crate) fault: Option<Fault>,
}

/// What a home has for all keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    /// Committed and not yet delivered, in order.
    pub(crate) outbox: Vec<Record>,
    /// How many records of the log its replica has read.
    pub(crate) position: usize,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The row of `strangler.owner`; none before its birth.
    pub(crate) owner: Option<source::Row>,
    /// The row of `strangler.authority`.
    pub(crate) authority: Option<target::Row>,
    pub(crate) copies: [Copy; 2],
    pub(crate) sent: Sent,
    /// All writes that were committed, in the order of their commits. No home sees this.
    pub(crate) truth: Content,
    pub(crate) writes_left: u8,
    pub(crate) snapshots_left: u8,
}

/// A home's copy of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Copy {
    /// The domain's row; none before the first event, or after the home was emptied.
    pub(crate) content: Option<Content>,
    /// `outbox.head`: the last version written or followed.
    pub(crate) head: u8,
    /// `outbox.cursor`: the last version read back from the log; 0: no row.
    pub(crate) cursor: u8,
    /// `outbox.cursor.awaiting_snapshot`.
    pub(crate) awaiting: bool,
    pub(crate) work: Work,
}

/// How far a home's work on a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Work {
    /// An intent is committed, its outcome is not.
    Intent,
    /// The transaction of the outcome is open: it has locked the row and was let in.
    Open,
    /// None.
    Idle,
}

/// Control messages that are under way, by epoch. Each may arrive never, late, and again and again, so none is ever taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Sent {
    /// Moves that some controller began, and may remember.
    pub(crate) moves: Epochs,
    pub(crate) ready: Epochs,
    pub(crate) grant: Epochs,
    pub(crate) granted: Epochs,
    pub(crate) recall: Epochs,
}

/// A set of small epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Epochs(u32);

/// A record of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) key: usize,
    pub(crate) kind: Kind,
    pub(crate) version: u8,
    pub(crate) origin: Home,
    pub(crate) epoch: Epoch,
    /// The whole state after it.
    pub(crate) content: Content,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Born(Home),
    Write,
    Snapshot,
    Offered,
    Released,
    /// The filler of a record that its home gave up: its effect can't be known elsewhere.
    Skipped,
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// A home met a record of the other one for a key that is its own.
    ForeignWrite,
    /// A home met a record under a version that it has written itself.
    TwoOwners,
    /// A home met a record of its own beyond its own head.
    WentBack,
    /// A copy and the whole state in an offer or a release differ.
    Mismatch,
    /// The key changed its owner, and the state handed over is not all that was written.
    LeftOut,
    /// A step that was to bring the end nearer did not.
    NotNearer,
}

impl Epochs {
    pub(crate) fn add(&mut self, epoch: Epoch) {
        self.0 |= 1_u32.checked_shl(u32::try_from(epoch.get()).unwrap()).unwrap();
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Epoch> {
        (0..31).filter(move |n| self.0 & (1 << n) != 0).map(Epoch)
    }

    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }
}

impl Kind {
    /// Whether it carries a key's whole state, so that a copy may start from it.
    pub(crate) fn is_whole(self) -> bool {
        matches!(self, Self::Snapshot | Self::Offered | Self::Released)
    }
}

impl Copy {
    pub(crate) fn known(&self) -> bool {
        self.content.is_some() && !self.awaiting
    }
}

impl Key {
    pub(crate) fn unborn(writes: u8, snapshots: u8) -> Self {
        let copy = Copy { content: None, head: 0, cursor: 0, awaiting: false, work: Work::Idle };
        Self {
            owner: None,
            authority: None,
            copies: [copy.clone(), copy],
            sent: Sent::default(),
            truth: 0,
            writes_left: writes,
            snapshots_left: snapshots,
        }
    }

    pub(crate) fn copy(&self, home: Home) -> &Copy {
        &self.copies[home as usize]
    }

    pub(crate) fn copy_mut(&mut self, home: Home) -> &mut Copy {
        &mut self.copies[home as usize]
    }
}

/// A state with one more write by this home.
pub(crate) fn wrote(content: Content, home: Home) -> Content {
    content * 3 + home as u32 + 1
}
