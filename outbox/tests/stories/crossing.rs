//! From a transaction here to an effect there.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use outbox::{BoxError, Error, Event as _, Handler, Inbox, InboxOptions, Received, kafka};
use sqlx::postgres::PgTransaction;

use crate::world::{Home, NOTES, Noted, Snapped, World, effect, noted, until};

/// Writes each note down; refuses texts that start with `!` while `strict`.
#[derive(Clone, Default)]
pub(crate) struct WriteDown {
    strict: Arc<AtomicBool>,
}

impl Handler for WriteDown {
    const NAME: &'static str = "test.write_down";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.event.key, event.meta.version, &event.event.text).await?;
        if event.event.text.starts_with('!') && self.strict.load(Ordering::SeqCst) {
            return Err("the note shouts".into());
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_applied_once_and_in_order() -> Result<(), BoxError> {
    let mut world = World::new("crossing").await?;
    let home = Home::new(world.stack, "crossing", "test.notes").await?;
    let mut wanted = Vec::new();
    for version in 1..=20 {
        assert_eq!(home.publish(&noted("a", version)).await?, version);
        wanted.push(format!("a:{version}:{version}"));
    }
    world.relay(&home)?;
    for group in ["first", "again"] {
        // The second group reads everything again: the same cursors turn it away.
        let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, group)?)
            .register(WriteDown::default());
        world.spawn(|shutdown| inbox.run(shutdown));
        until(wanted.clone(), || home.effects()).await?;
    }
    home.publish(&noted("a", "last")).await?;
    wanted.push("a:21:last".into());
    until(wanted, || home.effects()).await?;
    until(0, || home.pending()).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_refuses_stops_its_key_only() -> Result<(), BoxError> {
    let mut world = World::new("refusing").await?;
    let home = Home::new(world.stack, "refusing", "test.notes").await?;
    let handler = WriteDown::default();
    handler.strict.store(true, Ordering::SeqCst);
    for (key, text) in [("a", "1"), ("a", "!2"), ("a", "3"), ("b", "1"), ("b", "2")] {
        home.publish(&noted(key, text)).await?;
    }
    world.relay(&home)?;
    let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?)
        .register(handler.clone())
        .with(InboxOptions {
            retry_delay_max: std::time::Duration::from_millis(500),
            ..InboxOptions::default()
        });
    world.spawn(|shutdown| inbox.run(shutdown));
    let sorted = || async {
        let mut all = home.effects().await?;
        all.sort();
        Ok(all)
    };
    until(vec!["a:1:1".to_owned(), "b:1:1".into(), "b:2:2".into()], sorted).await?;
    let parked = || async {
        let query = "select reason || ' ' || version || coalesce(' ' || error, '') from outbox.parked order by version";
        Ok(sqlx::query_scalar::<_, String>(query).fetch_all(&home.admin).await?)
    };
    until(vec!["refused 2 the note shouts".to_owned(), "early 3".into()], parked).await?;
    // The handler is mended: what waited goes on by itself, in order.
    handler.strict.store(false, Ordering::SeqCst);
    until(Vec::<String>::new(), parked).await?;
    until(["a:1:1", "a:2:!2", "a:3:3", "b:1:1", "b:2:2"].map(String::from).to_vec(), sorted).await?;
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_gate_can_take_is_kept() -> Result<(), BoxError> {
    use outbox::{Headers, Record, Sink as _};
    let mut world = World::new("unreadable").await?;
    let home = Home::new(world.stack, "unreadable", "test.notes").await?;
    let stray = Record {
        topic: NOTES.name().into(),
        key: "a".into(),
        payload: b"?".to_vec(),
        headers: Headers::default(),
    };
    kafka::sink(&world.kafka)?.send(stray).await?;
    home.publish(&noted("a", 1)).await?;
    home.publish(&Snapped { key: "a".into(), text: "not a kind of this handler".into() }).await?;
    home.publish(&noted("a", 3)).await?;
    world.relay(&home)?;
    let inbox =
        Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?).register(WriteDown::default());
    world.spawn(|shutdown| inbox.run(shutdown));
    until(vec!["a:1:1".to_owned(), "a:3:3".into()], || home.effects()).await?;
    let kept: Vec<String> =
        sqlx::query_scalar("select error from outbox.unreadable").fetch_all(&home.admin).await?;
    assert_eq!(kept, ["header banyan-version is missing"]);
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_lost_its_place_stops_and_says_so() -> Result<(), BoxError> {
    let world = World::new("lost").await?;
    let home = Home::new(world.stack, "lost", "test.notes").await?;
    let group = world.kafka.physical("inbox");
    sqlx::query("insert into outbox.subscription (consumer_group, topic, partition) values ($1, $2, 1)")
        .bind(&group)
        .bind(NOTES.name())
        .execute(&home.admin)
        .await?;
    let inbox =
        Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?).register(WriteDown::default());
    let ended = inbox.run(tokio_util::sync::CancellationToken::new()).await;
    assert!(matches!(ended, Err(Error::OffsetLost { partition: 1, .. })), "{ended:?}");
    world.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_contract_forbids_is_refused_at_publish() -> Result<(), BoxError> {
    let world = World::new("invalid").await?;
    let home = Home::new(world.stack, "invalid", "test.notes").await?;
    const KEY: &str = "bytes; 1 to 255 are allowed";
    let large = noted("a", "x".repeat(900_000));
    for (bad, rule) in
        [(noted("", 1), KEY), (noted(&"k".repeat(256), 1), KEY), (large, "bytes; 900000 are allowed")]
    {
        let mut tx = home.module.begin().await?;
        let refused = outbox::publish(&mut tx, &bad).await;
        let Err(Error::Invalid { kind, reason, .. }) = refused else {
            return Err(format!("{refused:?}").into());
        };
        assert_eq!(kind, Noted::KIND);
        assert!(reason.contains(rule), "{reason}");
    }
    for (topic, headers) in [("notes.v1", r#"{"n": 1}"#), ("others.v1", "{}")] {
        let refused = sqlx::query("select outbox.publish($1, 'a', 'test.noted.v1', '', $2::jsonb)")
            .bind(topic)
            .bind(headers)
            .execute(&home.module)
            .await;
        assert!(refused.is_err(), "{topic} {headers}");
    }
    let mut tx = home.admin.begin().await?;
    let stranger = outbox::publish(&mut tx, &noted("a", 1)).await;
    assert!(
        matches!(&stranger, Err(Error::Denied(why)) if why.contains("may not publish to notes.v1")),
        "{stranger:?}"
    );
    drop(tx);
    assert_eq!(home.pending().await?, 0);
    world.stop().await?;
    home.drop_now().await
}

/// Notes, but some texts are traps that a handler can fall into.
struct Careless;

impl Handler for Careless {
    const NAME: &'static str = "test.careless";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        match event.event.text.as_str() {
            "panic" => panic!("as the story wants it"),
            "swallow" => {
                let _ = sqlx::query("select 1 / 0").execute(&mut **tx).await;
            }
            "nul" => return Err("a \0 in an error".into()),
            text => effect(tx, &event.event.key, event.meta.version, text).await?,
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_careless_handler_stops_its_key_only() -> Result<(), BoxError> {
    let mut world = World::new("careless").await?;
    let home = Home::new(world.stack, "careless", "test.notes").await?;
    for (key, text) in [("a", "panic"), ("b", "swallow"), ("c", "nul"), ("d", "fine"), ("b", "later")] {
        home.publish(&noted(key, text)).await?;
    }
    world.relay(&home)?;
    let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?).register(Careless);
    world.spawn(|shutdown| inbox.run(shutdown));
    let parked = || async {
        let query = "select key || version || ' ' || reason || coalesce(' ' || error, '') from outbox.parked order by 1";
        Ok(sqlx::query_scalar::<_, String>(query).fetch_all(&home.admin).await?)
    };
    let wanted = [
        "a1 refused the handler panicked",
        "b1 refused the handler left its transaction aborted",
        "b2 early",
        "c1 refused a \u{fffd} in an error",
    ];
    until(wanted.map(String::from).to_vec(), parked).await?;
    until(vec!["d:1:fine".to_owned()], || home.effects()).await?;
    world.stop().await?;
    home.drop_now().await
}
