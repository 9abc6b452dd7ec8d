//! What must hold of every state, and what must be reached.

use stateright::Property;
use strangler::Home;
use strangler::handover::target;
use strangler::{Epoch, Phase};

use crate::model::Model;
use crate::world::{Fault, Key, Record, Work, World};

pub(crate) const ONE_WRITER: &str = "at most one home may write a key";
pub(crate) const ALL_APPLIED: &str = "who may write has applied all that was written";
pub(crate) const DENSE: &str = "a version names one record, and the log has them in order, without a gap";
pub(crate) const NO_ALARM: &str =
    "no home meets a record of the other one for a key, or under a version, of its own";
pub(crate) const HANDED_OVER: &str = "what was offered or released is what the next owner writes on";
pub(crate) const ENDS: &str = "when nothing begins and nothing fails, each key comes to rest";

pub(crate) fn all() -> Vec<Property<Model>> {
    vec![
        Property::always(ONE_WRITER, |model, world: &World| {
            world.keys.iter().all(|key| one_writer(model, key))
        }),
        Property::always(ALL_APPLIED, |model, world: &World| {
            world.keys.iter().all(|key| all_applied(model, key))
        }),
        Property::always(DENSE, |_, world: &World| is_dense(world)),
        Property::always(NO_ALARM, |_, world: &World| {
            !matches!(world.fault, Some(Fault::ForeignWrite | Fault::TwoOwners | Fault::WentBack))
        }),
        Property::always(HANDED_OVER, |_, world: &World| {
            !matches!(world.fault, Some(Fault::Mismatch | Fault::LeftOut))
        }),
        // Each step that goes on by itself brings the end nearer (`Fault::NotNearer`), so no run goes on for ever, and each
        // ends where nothing is left to go on.
        Property::always(ENDS, |model, world: &World| {
            world.fault != Some(Fault::NotNearer) && (model.goes_on(world) || at_rest(world))
        }),
    ]
}

fn one_writer(model: &Model, key: &Key) -> bool {
    !(model.lets(key, Home::Source, false) && model.lets(key, Home::Target, false))
}

fn all_applied(model: &Model, key: &Key) -> bool {
    let head = key.copies[0].head.max(key.copies[1].head);
    [Home::Source, Home::Target].into_iter().filter(|home| model.lets(key, *home, false)).all(|home| {
        let copy = key.copy(home);
        match copy.content {
            Some(content) => content == key.truth && copy.head == head && !copy.awaiting,
            // The source owns a key from its birth, and writes it when it has met its first event.
            None => home == Home::Source,
        }
    })
}

fn is_dense(world: &World) -> bool {
    let mut last = vec![0; world.keys.len()];
    let dense = world.log.iter().all(|record| {
        last[record.key] += 1;
        record.version == last[record.key]
    });
    let waiting: Vec<&Record> = world.sites.iter().flat_map(|site| &site.outbox).collect();
    let alone = |n: usize, record: &Record| {
        record.version > last[record.key]
            && waiting[..n].iter().all(|other| (other.key, other.version) != (record.key, record.version))
    };
    dense && waiting.iter().enumerate().all(|(n, record)| alone(n, record))
}

/// Nothing is under way, both copies are whole, and the owner may write.
fn at_rest(world: &World) -> bool {
    let quiet = world.sites.iter().all(|site| site.outbox.is_empty() && site.position == world.log.len());
    quiet && world.keys.iter().all(key_at_rest)
}

fn key_at_rest(key: &Key) -> bool {
    let Some(row) = key.owner else { return true };
    let whole = key.copies.iter().all(|copy| {
        copy.known() && copy.content == Some(key.truth) && copy.cursor == copy.head && copy.work == Work::Idle
    });
    let standing = target::Row::standing(key.authority);
    let granted = row.granted_epoch == row.epoch || row.epoch == Epoch::BIRTH;
    whole
        && row.phase == Phase::Settled
        && match row.owner {
            Home::Source => matches!(standing, target::Standing::Absent | target::Standing::Fenced),
            Home::Target => standing == target::Standing::Writable && granted,
        }
}

/// How far the system is. No step that goes on by itself lowers a term, and each raises one.
pub(crate) fn progress(world: &World) -> i64 {
    let count = |n: usize| i64::try_from(n).unwrap();
    let sites = world.sites.iter().map(|site| count(site.position));
    let keys = world.keys.iter().map(|key| {
        let (owner, granted) = key.owner.map_or((0, 0), |row| (row.epoch.get(), row.granted_epoch.get()));
        let (epoch, recall) = key.authority.map_or((0, 0), |row| {
            (row.epoch.get(), row.recall_epoch.map_or(0, Epoch::get).max(row.epoch.get()))
        });
        let sent = key.sent.ready.count() + key.sent.granted.count();
        let copies = key.copies.iter().map(|copy| {
            let whole = if copy.known() { 2 } else { i64::from(copy.awaiting) };
            i64::from(copy.head) + i64::from(copy.cursor) + copy.work as i64 + whole
        });
        owner + granted + epoch + recall + i64::from(sent) + copies.sum::<i64>()
    });
    count(world.log.len()) + sites.sum::<i64>() + keys.sum::<i64>()
}
