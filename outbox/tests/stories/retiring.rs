//! A handler that no program has any more.

use std::time::Duration;

use outbox::{
    Baseline, BoxError, Error, Handler, Inbox, Received, archive, audit,
    memory::Memory,
    replay::{self, Selection},
    retirement,
};
use sqlx::postgres::PgTransaction;
use tokio_util::sync::CancellationToken;

use crate::{
    shelf::{Keep, ME, Shelf, WHY},
    world::{NOTES, Noted, effect, until},
};

/// [`Keep`] under its new name.
struct Kept;

impl Handler for Kept {
    const NAME: &'static str = "test.kept";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.event.key, event.meta.version, "kept").await
    }
}

/// Runs a group with one handler until `seen` rows are there.
async fn runs(
    shelf: &Shelf,
    memory: &Memory,
    handler: impl Handler,
    seen: &'static str,
) -> Result<(), BoxError> {
    let stop = CancellationToken::new();
    let inbox = Inbox::new(shelf.home.module.clone(), memory.source("keep"));
    let inbox = inbox.register(handler).baseline(Baseline::Now { because: WHY });
    let running = tokio::spawn(inbox.run(stop.clone()));
    until(1, || shelf.count(seen)).await?;
    stop.cancel();
    Ok(running.await??)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_for_a_handler_that_was_retired() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("retires").await?;
    shelf.publish("a", 3).await?;
    shelf.relay();
    until(0, || shelf.home.pending()).await?;
    let (lossy, operator) = (Memory::new(1), shelf.operator.clone());
    let reads = "outbox.reader where missed_from is null";
    runs(&shelf, &lossy, Keep, reads).await?;
    for message in shelf.memory.records(NOTES.name()) {
        if !message.headers.contains(&("banyan-version".into(), "2".into())) {
            lossy.append(message);
        }
    }
    runs(&shelf, &lossy, Keep, "outbox.parked").await?;
    let selection = Selection::Key { topic: NOTES, key: "a".into(), first: None, last: None };
    replay::ask_for(&operator, Keep::NAME, &selection, ME, WHY).await?;
    let needed = async || {
        let today = "select outbox.needed('event', (now() at time zone 'UTC')::date)";
        Ok::<_, BoxError>(sqlx::query_scalar::<_, Option<String>>(today).fetch_one(&shelf.home.admin).await?)
    };
    let archives = async || archive::keys(&operator, NOTES, &["a".into()], Duration::ZERO, ME, WHY).await;
    assert_eq!((needed().await?.as_deref(), archives().await?), (Some("waiting"), 0));
    // Its group is noted to read with it, until that starts without it.
    let refused = retirement::retire(&operator, Keep::NAME, ME, WHY).await;
    assert!(
        matches!(&refused, Err(Error::Refused(why)) if why.contains("test.keep is noted to read in group keep")),
        "{refused:?}"
    );
    runs(&shelf, &lossy, Kept, "outbox.reader where handler = 'test.kept'").await?;
    assert_eq!(retirement::retire(&operator, Keep::NAME, ME, WHY).await?, 1);
    assert_eq!((needed().await?, archives().await?), (None, 1));
    assert_eq!(shelf.count("outbox.replay where ended_at is null").await?, 0);
    for table in ["parked", "cursor", "archived_cursor"] {
        let rows = format!("select count(*) from outbox.{table} where handler = 'test.keep'");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_one(&shelf.home.admin).await?;
        assert_eq!(rows, 0, "{table}");
    }
    // A group that is gone never starts without its handler.
    assert!(retirement::retire(&operator, Kept::NAME, ME, WHY).await.is_err());
    assert_eq!(retirement::retire_with_its_group(&operator, Kept::NAME, ME, WHY).await?, 0);
    assert_eq!(shelf.count("outbox.reader").await? + shelf.count("outbox.baseline").await?, 0);
    let nobody = retirement::retire(&operator, "test.nobody", ME, WHY).await;
    assert!(
        matches!(&nobody, Err(Error::Refused(why)) if why.contains("no handler test.nobody")),
        "{nobody:?}"
    );
    let denied = retirement::retire(&shelf.home.module, Kept::NAME, ME, WHY).await;
    assert!(matches!(denied, Err(Error::Denied(_))), "{denied:?}");
    let filter = audit::Filter { action: Some("retire_handler".into()), ..audit::Filter::default() };
    let noted = audit::list(&operator, &filter, None, 9).await?;
    assert_eq!((noted.len(), noted[1].subject["parked"].as_i64()), (2, Some(1)));
    shelf.end().await
}
