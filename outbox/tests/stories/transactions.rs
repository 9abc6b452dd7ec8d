//! What a handler does to the transaction that it is lent: nothing of it ends the inbox, or passes for applied.

use std::time::Duration;

use futures::FutureExt as _;
use outbox::{BoxError, Handler, Inbox, InboxOptions, Received};
use sqlx::postgres::{PgPoolOptions, PgTransaction};

use crate::{
    line::texts,
    scripted::{Scripted, line},
    world::{Home, Noted, World, effect, until},
};

async fn send(tx: &mut PgTransaction<'_>, statement: &'static str) -> Result<(), BoxError> {
    sqlx::raw_sql(statement).execute(&mut **tx).await?;
    Ok(())
}

/// Does what the text says to its transaction.
struct Wild;

impl Handler for Wild {
    const NAME: &'static str = "test.wild";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        match event.event.text.as_str() {
            // Its error comes with the answer to whatever is asked next.
            "forget" | "forget and refuse" => {
                let _ = sqlx::raw_sql("select 1 / 0").execute(&mut **tx).now_or_never();
            }
            // As when a timeout or a select! drops it. What is still at work in front of it keeps it from being answered at once, which
            // would make it a whole savepoint, and harmless.
            "savepoint" | "savepoint and refuse" => {
                let _ = sqlx::raw_sql("select pg_sleep(0.3)").execute(&mut **tx).now_or_never();
                if sqlx::Acquire::begin(&mut *tx).now_or_never().is_some() {
                    return Err("the savepoint was answered at once".into());
                }
            }
            "rollback" => send(tx, "rollback").await?,
            "begin anew" => send(tx, "rollback; begin").await?,
            "commit" => send(tx, "commit").await?,
            _ => {}
        }
        match event.event.text.as_str() {
            "forget" => Ok(()),
            "forget and refuse" | "savepoint and refuse" => Err("enough".into()),
            text => effect(tx, &event.event.key, event.meta.version, text).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_its_handler_spoilt_is_refused_and_others_go_on() -> Result<(), BoxError> {
    let mut world = World::new("spoilt").await?;
    let home = Home::new(world.stack, "spoilt", "test.notes").await?;
    // Few connections, so that what one of them is left with meets the next event.
    let pool = PgPoolOptions::new().max_connections(2).connect(&home.module_url()).await?;
    let log = Scripted::default();
    let deeds = [
        "forget",
        "forget and refuse",
        "savepoint",
        "savepoint and refuse",
        "rollback",
        "begin anew",
        "commit",
    ];
    for deed in deeds {
        log.write(&line(deed, 1, deed));
        log.write(&line(&format!("after {deed}"), 1, "fine"));
    }
    let options = InboxOptions {
        batch_max: 1,
        attempts_max: 2,
        sweep_every: Duration::from_millis(20),
        retry_delay_min: Duration::from_millis(20),
        ..InboxOptions::default()
    };
    let inbox = Inbox::new(pool.clone(), log.clone()).register(Wild).with(options);
    let tally = inbox.tally();
    world.spawn(|shutdown| inbox.run(shutdown));
    let dead =
        "select key || ': ' || split_part(error, ':', 1) from outbox.dead_letter order by key collate \"C\"";
    let ended = "the handler ended the inbox's transaction";
    let wanted = vec![
        format!("begin anew: {ended}"),
        "forget: the handler left its transaction aborted".to_owned(),
        "forget and refuse: enough".to_owned(),
        format!("rollback: {ended}"),
        format!("savepoint: {ended}"),
        format!("savepoint and refuse: enough; and {ended}"),
    ];
    until(wanted, async || texts(&home, dead).await).await?;
    until(Some(13), async || Ok(log.done_up_to())).await?;
    let fine = "select key from public.effect where text = 'fine' order by n";
    assert_eq!(texts(&home, fine).await?, deeds.map(|deed| format!("after {deed}")));
    // What was committed with its cursor can't be refused any more; the log has an error.
    assert_eq!((tally.of(Wild::NAME, "applied"), tally.of(Wild::NAME, "duplicate")), (7, 1));
    let behind = "select key from outbox.cursor where version = 0 order by key collate \"C\"";
    assert_eq!(
        texts(&home, behind).await?,
        ["begin anew", "forget", "forget and refuse", "rollback", "savepoint", "savepoint and refuse"]
    );
    world.stop().await?;
    pool.close().await;
    home.drop_now().await
}
