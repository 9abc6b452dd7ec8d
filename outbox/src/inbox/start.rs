//! What must be settled before the first record is read.

use std::{collections::BTreeSet, sync::Arc};

use sqlx::PgPool;

use super::{Baseline, Gate, refill::check_orphans};
use crate::{Error, Place, Source, Topic, store};

/// Claims the handlers' names, notes where they begin, and finds the group's place in the log.
pub(super) async fn start<S: Source>(
    pool: &PgPool,
    source: &S,
    gates: &[Arc<Gate>],
    baseline: Baseline,
) -> Result<(), Error> {
    let topics: BTreeSet<Topic> = gates.iter().map(|gate| gate.topic()).collect();
    let topics: Vec<Topic> = topics.into_iter().collect();
    for gate in gates {
        store::register(pool, gate.name()).await?;
        check_orphans(gate).await?;
    }
    let mut places = source.places(&topics).await?;
    let started = started(pool, source, &places).await?;
    let begun = begin(pool, source, gates, baseline, &places).await?;
    let at_end = end_of(&places, &started, &begun);
    if !at_end.is_empty() {
        source.skip_to_end(&at_end).await?;
        for place in &at_end {
            store::subscribe(pool, source.group(), place.topic.name(), place.partition).await?;
        }
        for place in places.iter_mut().filter(|place| at_end.contains(place)) {
            place.positioned = true;
        }
    }
    let started: Vec<Place> = places.into_iter().filter(|place| place.positioned).collect();
    source.start(&topics, &started).await?;
    let handlers: Vec<&str> = gates.iter().map(|gate| gate.name()).collect();
    tracing::info!(group = source.group(), ?handlers, "the inbox reads");
    Ok(())
}

/// The topics that the group has read before. A place that was read and has no position now is lost.
async fn started<S: Source>(
    pool: &PgPool,
    source: &S,
    places: &[Place],
) -> Result<BTreeSet<&'static str>, Error> {
    let group = source.group();
    let mut started = BTreeSet::new();
    for place in places {
        let topic = place.topic.name();
        let noted = store::subscribed(pool, group, topic, place.partition).await?;
        if noted && !place.positioned {
            return Err(Error::OffsetLost {
                group: group.to_owned(),
                topic: topic.to_owned(),
                partition: place.partition,
                reason: "the group has read it before, but its committed offset is gone".into(),
            });
        }
        if noted {
            started.insert(topic);
        } else if place.positioned {
            // A note that was not written before the process ended. Without one, a lost offset would be a first start.
            store::subscribe(pool, group, topic, place.partition).await?;
            started.insert(topic);
        }
    }
    Ok(started)
}

/// Notes where handlers begin that have not begun, and returns the topics that begin at their end.
async fn begin<S: Source>(
    pool: &PgPool,
    source: &S,
    gates: &[Arc<Gate>],
    baseline: Baseline,
    places: &[Place],
) -> Result<BTreeSet<&'static str>, Error> {
    let mut at_end = BTreeSet::new();
    for gate in gates {
        let (name, topic) = (gate.name(), gate.topic().name());
        let begun = store::begun(pool, name, topic).await?;
        let kind = begun.as_deref().unwrap_or_else(|| baseline.kind());
        if kind == "now" {
            at_end.insert(topic);
        }
        if begun.is_some() {
            continue;
        }
        let read_on = places.iter().any(|place| place.topic == gate.topic() && place.positioned);
        if read_on && kind != "now" {
            return Err(Error::Setup(format!(
                "handler {name} is new, but group {} has read on in {topic}: give it a group of its own, or start it at \
                 Baseline::Now",
                source.group()
            )));
        }
        store::begin_at(pool, (name, topic), kind, baseline.because()).await?;
    }
    Ok(at_end)
}

/// The places to begin at their end: those of a topic that begins there and that this group has never read. Partitions that
/// come later are read from their beginning.
fn end_of(places: &[Place], started: &BTreeSet<&str>, begun: &BTreeSet<&str>) -> Vec<Place> {
    let fresh = |place: &&Place| {
        let topic = place.topic.name();
        !place.positioned && begun.contains(topic) && !started.contains(topic)
    };
    places.iter().filter(fresh).copied().collect()
}
