//! What must be settled before the first record is read.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use sqlx::postgres::PgTransaction;

use super::{
    Baseline, Gate,
    refill::check_orphans,
    span::{Begun, Missed, Need, Offsets, Span, Unmet},
};
use crate::{Error, Place, Source, Topic, database::Database, store};

/// What a start has settled.
pub(super) struct Started {
    /// Where each handler begins: what is before is not for it.
    pub(super) begun: Vec<Begun>,
    pub(super) company: Company,
}

/// The handlers of each topic here.
pub(super) struct Company(Vec<(Topic, Vec<&'static str>)>);

impl Company {
    /// Notes what the group's other handlers miss by what this member reads. To be called at every assignment, before a record
    /// of it is dealt with: another member may have begun a handler between this member's notes and its joining, and one
    /// whose session was over joins again without a start.
    pub(super) async fn tell<S: Source>(
        &self,
        gate: &Gate,
        source: &S,
        assigned: &[Place],
    ) -> Result<(), Error> {
        let mut line = gate.database.line().await?;
        let mut tx = gate.begin(&mut line).await?;
        let database = &gate.database;
        // A start that takes a handler back into the group is over by now, or looks after this.
        database.hear(store::lock_group(&mut tx, source.group())).await?;
        for (topic, handlers) in &self.0 {
            let at = (source.group(), topic.name());
            let readers = database.hear(store::readers(&mut *tx, at.0, at.1)).await?;
            if readers.keys().all(|reader| handlers.contains(&reader.as_str())) {
                continue;
            }
            let here: Vec<Place> = assigned.iter().filter(|place| place.topic == *topic).copied().collect();
            let begins = begins(source, &here).await?;
            database.hear(store::left_out(&mut tx, at, handlers, &begins.0)).await?;
        }
        database.hear(tx.commit()).await?;
        line.done(());
        Ok(())
    }
}

/// Where an assignment is read from; what has no position, from the log's first offset.
async fn begins<S: Source>(source: &S, assigned: &[Place]) -> Result<Missed, Error> {
    let mut begins = Missed::default();
    let (known, unknown): (Vec<Place>, Vec<Place>) =
        assigned.iter().partition(|place| place.position.is_some());
    for place in known {
        place.position.into_iter().for_each(|position| begins.from(place.partition, position));
    }
    if !unknown.is_empty() {
        for (place, (first, _)) in unknown.iter().zip(source.bounds(&unknown).await?) {
            begins.from(place.partition, first);
        }
    }
    Ok(begins)
}

/// Claims the handlers' names, settles where each begins and where the group must stand for that, and starts to read.
pub(super) async fn start<S: Source>(
    database: &Database,
    source: &S,
    gates: &[Arc<Gate>],
    baseline: Baseline,
) -> Result<Started, Error> {
    for gate in gates {
        database.with(async |db| store::register(db, gate.name()).await).await?;
        check_orphans(gate).await?;
    }
    let topics: Vec<Topic> =
        gates.iter().map(|gate| gate.topic()).collect::<BTreeSet<_>>().into_iter().collect();
    let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
    let group = source.group();
    // One start of a group after the other: each finds what the one before has noted and where it has put the group.
    let mut line = gates[0].database.line().await?;
    let mut tx = gates[0].begin(&mut line).await?;
    database.hear(store::lock_group(&mut tx, group)).await?;
    // Notes before places. Who reads stores a place first and notes it then, so what is noted by now has its place.
    let noted = database.hear(store::subscribed(&mut tx, group, &names)).await?;
    let mut places = source.places(&topics).await?;
    not_lost(group, &noted, &places)?;
    let (mut begun, mut company) = (HashMap::new(), Vec::new());
    for topic in topics.iter().copied() {
        let here = gates.iter().filter(|gate| gate.topic() == topic);
        let handlers: Vec<_> = here.map(|gate| gate.name()).collect();
        let mut settling = Settling { database, source, tx: &mut tx, topic, handlers: &handlers, baseline };
        begun.extend(settling.settle(&mut places).await?);
        company.push((topic, handlers));
    }
    let started: Vec<Place> = places.into_iter().filter(|place| place.position.is_some()).collect();
    for place in &started {
        if !noted.contains(&(place.topic.name().to_owned(), place.partition)) {
            let noted = store::subscribe(&mut *tx, group, place.topic.name(), place.partition);
            database.hear(noted).await?;
        }
    }
    database.hear(tx.commit()).await?;
    line.done(());
    source.start(&topics, &started).await?;
    let handlers: Vec<&str> = gates.iter().map(|gate| gate.name()).collect();
    tracing::info!(group, ?handlers, "the inbox reads");
    let begun = gates.iter().map(|gate| begun.remove(gate.name()).unwrap_or_default()).collect();
    Ok(Started { begun, company: Company(company) })
}

/// Says so when another member of the group has started without a handler that this one has.
pub(super) async fn check_company<S: Source>(source: &S, gate: &Gate) -> Result<(), Error> {
    let (handler, topic, group) = (gate.name(), gate.topic().name(), source.group());
    let asked = gate.database.with(async |db| store::readers(db, group, topic).await);
    if let Some(Some(_)) = asked.await?.get(handler) {
        tracing::error!(
            handler,
            topic,
            group,
            "another member of the group reads, or has read, without this handler, which has missed those events: stop all \
             members of the group and start them with it; the first start reads these events again"
        );
    }
    Ok(())
}

/// A place that the group has read and that has no position now is lost.
fn not_lost(group: &str, noted: &HashSet<(String, i32)>, places: &[Place]) -> Result<(), Error> {
    let lost = places.iter().find(|place| {
        place.position.is_none() && noted.contains(&(place.topic.name().to_owned(), place.partition))
    });
    match lost {
        None => Ok(()),
        Some(place) => Err(Error::OffsetLost {
            group: group.to_owned(),
            topic: place.topic.name().to_owned(),
            partition: place.partition,
            reason: "the group has read it before, but its committed offset is gone".into(),
        }),
    }
}

/// The start of a group in one topic.
struct Settling<'a, 'line, S> {
    database: &'a Database,
    source: &'a S,
    tx: &'a mut PgTransaction<'line>,
    topic: Topic,
    handlers: &'a [&'static str],
    baseline: Baseline,
}

impl<S: Source> Settling<'_, '_, S> {
    /// Puts the group where its handlers need it, notes both, and returns where each handler begins.
    async fn settle(&mut self, places: &mut [Place]) -> Result<Vec<(&'static str, Begun)>, Error> {
        let (group, topic) = (self.source.group(), self.topic.name());
        let readers = self.database.hear(store::readers(&mut **self.tx, group, topic)).await?;
        let noted = self.noted().await?;
        let reads = |handler: &&str| matches!(readers.get(*handler), Some(None));
        let mut spans = Vec::new();
        if !self.handlers.iter().all(reads) || noted.iter().flatten().any(|begun| !begun.offsets.0.is_empty())
        {
            spans = self.spans(places).await?;
        }
        let stands = self.stands(places, &spans);
        let (mut begun, mut needs, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for (handler, noted) in self.handlers.iter().copied().zip(noted) {
            if noted.is_none() {
                new.push(handler);
            }
            let begins = noted.unwrap_or_else(|| self.first_begins(&spans));
            self.check(handler, &begins, &spans)?;
            needs.push(match readers.get(handler) {
                Some(None) => Need::Nothing,
                Some(Some(missed)) => Need::Missed(Missed(missed.clone())),
                None => Need::Begins(begins.offsets.clone()),
            });
            begun.push((handler, begins));
        }
        self.reposition(&spans, &needs, !readers.is_empty(), places).await?;
        for (handler, begins) in begun.iter().filter(|(handler, _)| new.contains(handler)) {
            let kind = (self.baseline.kind(), self.baseline.because());
            let begun = store::begin_at(self.tx, (handler, topic), kind, &begins.offsets.0);
            self.database.hear(begun).await?;
        }
        let reads = store::read_with(self.tx, (group, topic), self.handlers, &stands.0);
        self.database.hear(reads).await?;
        Ok(begun)
    }

    /// Where each handler has begun, in their order; none for one that is new.
    async fn noted(&mut self) -> Result<Vec<Option<Begun>>, Error> {
        let mut noted = Vec::new();
        for handler in self.handlers {
            let begun = self.database.hear(store::begun_at(self.tx, handler, self.topic.name())).await?;
            noted.push(begun.map(|(at, since)| Begun { offsets: Offsets(at), since: Some(since) }));
        }
        Ok(noted)
    }

    /// At every start: a topic that was made anew begins before the handler does, and those records would be passed over.
    fn check(&self, handler: &str, begun: &Begun, spans: &[Span]) -> Result<(), Error> {
        let fault = spans.iter().find_map(|span| Some((span, span.check(&begun.offsets).err()?)));
        fault.map_or(Ok(()), |(span, unmet)| Err(self.unmet(handler, span, unmet)))
    }

    async fn spans(&self, places: &[Place]) -> Result<Vec<Span>, Error> {
        let here: Vec<Place> = places.iter().filter(|place| place.topic == self.topic).copied().collect();
        let bounds = self.source.bounds(&here).await?;
        Ok(here.into_iter().zip(bounds).map(|(place, (first, end))| Span { place, first, end }).collect())
    }

    /// Where the group stands before it is put elsewhere. Where it has no position and is given none, nothing is missed before
    /// someone reads there, and says so then.
    fn stands(&self, places: &[Place], spans: &[Span]) -> Missed {
        let mut stands = Missed::default();
        for place in places.iter().filter(|place| place.topic == self.topic) {
            let span = spans.iter().find(|span| span.place.partition == place.partition);
            if let Some(position) = place.position.or_else(|| span.map(|span| span.first)) {
                stands.from(place.partition, position);
            }
        }
        stands
    }

    /// Where a handler begins at its very first start.
    fn first_begins(&self, spans: &[Span]) -> Begun {
        let mut begins = Begun::default();
        if matches!(self.baseline, Baseline::Now { .. }) {
            for span in spans {
                begins.offsets.set(span.place.partition, span.end);
            }
        }
        begins
    }

    /// The earliest need decides. A group that others have read with is put in its place even when it stands there: the broker
    /// refuses that while members read, and those that do lack a handler of this start and would pass its events.
    async fn reposition(
        &self,
        spans: &[Span],
        needs: &[Need],
        has_others: bool,
        places: &mut [Place],
    ) -> Result<(), Error> {
        let mut moved = Vec::new();
        for span in spans {
            let mut target = span.place.position.unwrap_or(span.end);
            for (handler, need) in self.handlers.iter().zip(needs) {
                target = target.min(span.target(need).map_err(|unmet| self.unmet(handler, span, unmet))?);
            }
            let natural = span.place.position.unwrap_or(span.first);
            if has_others || target != natural {
                moved.push(Place { position: Some(target), ..span.place });
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        self.source.reposition(&moved).await.map_err(|error| self.kept_waiting(error))?;
        for to in moved {
            let same = |place: &&mut Place| (place.topic, place.partition) == (to.topic, to.partition);
            places.iter_mut().filter(same).for_each(|place| *place = to);
        }
        Ok(())
    }

    /// What whoever waits should know of a broker that refuses.
    fn kept_waiting(&self, error: Error) -> Error {
        match error {
            Error::Broker(error) => Error::Broker(format!(
                "group {} can't be put where handlers {:?} go on while any member of it reads: stop them all, those with \
                 these handlers too: {error}",
                self.source.group(),
                self.handlers
            )),
            other => other,
        }
    }

    fn unmet(&self, handler: &str, span: &Span, unmet: Unmet) -> Error {
        let (group, topic) = (self.source.group(), self.topic.name());
        match unmet {
            Unmet::Passed => Error::Setup(format!(
                "handler {handler} is new in group {group}, which has read on in {topic}: give it a group of its own, or, if it \
                 has never begun there, start it at Baseline::Now"
            )),
            Unmet::Gone(offset) => Error::OffsetLost {
                group: group.to_owned(),
                topic: topic.to_owned(),
                partition: span.place.partition,
                reason: format!(
                    "handler {handler} goes on at offset {offset}, the log has {} to {}: give it a group of its own",
                    span.first, span.end
                ),
            },
            Unmet::Short(offset) => Error::OffsetLost {
                group: group.to_owned(),
                topic: topic.to_owned(),
                partition: span.place.partition,
                reason: format!(
                    "handler {handler} began at offset {offset}, the log ends at {}: the topic was made anew, or is of another \
                     cluster. Give the handler another name",
                    span.end
                ),
            },
        }
    }
}
