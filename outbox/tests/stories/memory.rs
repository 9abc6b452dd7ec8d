//! The broker in memory, as users' tests have it: the same relay and inbox, no Kafka.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use outbox::{
    BoxError, Handler, Inbox, Message, Received, Record, Refusal, Relay, Sink, Source as _,
    memory::{Memory, Outage},
};
use sqlx::postgres::PgTransaction;
use tokio_util::sync::CancellationToken;

use crate::world::{Home, NOTES, Noted, World, effect, noted, until};

/// Writes notes down and counts how often it was asked.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Handler for Count {
    const NAME: &'static str = "test.count";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        effect(tx, &event.meta.key, event.meta.version, &event.event.text).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_memory_end_as_they_do_with_a_broker() -> Result<(), BoxError> {
    let mut world = World::new("memory").await?;
    let home = Home::new(world.stack, "memory", "test.notes").await?;
    let memory = Memory::new(3);
    let relay = Relay::new(home.relay.clone(), memory.sink());
    world.spawn(|shutdown| relay.run(shutdown));
    let count = Count::default();
    let inbox = Inbox::new(home.module.clone(), memory.source("inbox")).register(count.clone());
    world.spawn(|shutdown| inbox.run(shutdown));

    // The broker is down: events wait.
    memory.outage(Outage::Down);
    home.publish(&noted("a", 1)).await?;
    assert!(memory.sink().check().await.is_err());
    assert_eq!(home.pending().await?, 1);
    // Its reports are lost: events arrive, and again.
    memory.outage(Outage::ReportsLost);
    until(true, || async { Ok(memory.records(NOTES.name()).len() >= 2) }).await?;
    memory.outage(Outage::None);
    until(0, || home.pending()).await?;
    until(vec!["a:1:1".to_owned()], || home.effects()).await?;

    // One key is refused: the other goes on, and the first follows when it may.
    let shut = Arc::new(AtomicBool::new(true));
    let rule = shut.clone();
    memory.refuse(move |record| record.key == "a" && rule.load(Ordering::SeqCst));
    home.publish(&noted("a", 2)).await?;
    home.publish(&noted("b", 1)).await?;
    until(vec!["a:1:1".to_owned(), "b:1:1".into()], || home.effects()).await?;
    shut.store(false, Ordering::SeqCst);
    until(0, || home.pending()).await?;
    let all = vec!["a:1:1".to_owned(), "b:1:1".into(), "a:2:2".into()];
    until(all.clone(), || home.effects()).await?;

    // Everything comes again, with a new event behind it: the gate lets only that one through.
    memory.redeliver("inbox");
    home.publish(&noted("a", 3)).await?;
    until([all, vec!["a:3:3".into()]].concat(), || home.effects()).await?;
    assert_eq!(count.0.load(Ordering::SeqCst), 4, "no effect was tried twice");
    world.stop().await?;
    home.drop_now().await
}

fn record(key: &str, n: usize) -> Record {
    Record {
        topic: NOTES.name().into(),
        key: key.into(),
        payload: n.to_string().into(),
        headers: outbox::Headers::default(),
    }
}

async fn member(memory: &Memory, group: &str) -> Result<outbox::memory::MemorySource, BoxError> {
    let source = memory.source(group);
    let places = source.places(&[NOTES]).await?;
    source.start(&[NOTES], &places).await?;
    Ok(source)
}

/// Reads until `count` records have come.
async fn read(source: &impl outbox::Source, count: usize) -> Result<Vec<Message>, BoxError> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(tokio::time::timeout(std::time::Duration::from_secs(10), source.recv()).await??);
    }
    Ok(all)
}

#[tokio::test]
async fn members_of_a_group_share_partitions_and_hand_them_over() -> Result<(), BoxError> {
    let memory = Memory::new(4);
    for n in 0..40 {
        memory.sink().send(record(&format!("key-{n}"), n)).await?;
    }
    let first = member(&memory, "group").await?;
    let begun = read(&first, 40).await?;
    let done: Vec<_> = begun.iter().filter(|message| message.offset < 3).cloned().collect();
    done.iter().try_for_each(|message| first.done(&message.topic, message.partition, message.offset))?;
    // The second takes half of the partitions, and reads what the first has not noted as done: a repeat.
    let second = member(&memory, "group").await?;
    let taken: Vec<_> = begun.iter().filter(|m| m.partition % 2 == 1 && m.offset >= 3).collect();
    let repeated = read(&second, taken.len()).await?;
    assert!(repeated.iter().all(|message| message.partition % 2 == 1 && message.offset >= 3));
    // What the first notes of a partition it has lost is too late.
    taken.iter().try_for_each(|message| first.done(&message.topic, message.partition, message.offset))?;
    drop(second);
    let again = read(&first, taken.len()).await?;
    assert!(again.iter().all(|message| message.partition % 2 == 1 && message.offset >= 3));
    // Another group reads everything for itself; per key in one partition, in order.
    assert_eq!(read(&member(&memory, "other").await?, 40).await?.len(), 40);
    Ok(())
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_a_record() -> Result<(), BoxError> {
    let (sink, source) = outbox::memory::pair();
    let places = source.places(&[NOTES]).await?;
    assert!(places.iter().all(|place| place.position.is_none()));
    source.start(&[NOTES], &places).await?;
    assert!(source.places(&[NOTES]).await?.iter().all(|place| place.position == Some(0)));
    let shutdown = CancellationToken::new();
    let (waiting, token) = (read(&source, 1), shutdown.clone());
    let sending = async {
        tokio::task::yield_now().await;
        sink.memory().refuse(|record| record.key == "no");
        let refused = sink.send(record("no", 0)).await;
        assert!(matches!(refused, Err(Refusal::Record(_))), "{refused:?}");
        sink.send(record("yes", 1)).await?;
        token.cancel();
        Ok::<_, BoxError>(())
    };
    let (read, ()) = tokio::try_join!(waiting, sending)?;
    assert_eq!(read[0].payload, b"1");
    assert!(shutdown.is_cancelled());
    Ok(())
}
