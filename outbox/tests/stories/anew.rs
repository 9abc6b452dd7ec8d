//! A topic that was made anew under a handler that began in the older one.

use std::time::Duration;

use outbox::{BoxError, Error, Inbox, memory::Memory};
use tokio_util::sync::CancellationToken;

use crate::{
    scripted::line,
    starts::{Early, Late, NOW, Stage, run},
};

/// A handler that began `now` at offset 2, and the topic made anew with so many records.
async fn made_anew(name: &str, records: i64) -> Result<(Stage, Memory), BoxError> {
    let stage = Stage::new(name).await?;
    stage.put("a", 1);
    stage.put("a", 2);
    let running = run(stage.inbox("one").register(Late).baseline(NOW));
    stage.reads("one", 1).await?;
    running.stop().await?;
    let memory = Memory::new(1);
    for version in 1..=records {
        memory.append(line("b", version, "x").message());
    }
    Ok((stage, memory))
}

async fn ends_as_lost(stage: &Stage, memory: &Memory, group: &str, why: &str) -> Result<(), BoxError> {
    let inbox = Inbox::new(stage.home.module.clone(), memory.source(group)).register(Late).register(Early);
    let ended = tokio::time::timeout(Duration::from_secs(40), inbox.run(CancellationToken::new())).await?;
    assert!(
        matches!(&ended, Err(Error::OffsetLost { reason, .. }) if reason.contains(why) && reason.contains("test.late began")),
        "{ended:?}"
    );
    stage.done("late", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_ends_before_a_handlers_beginning_is_not_its_own() -> Result<(), BoxError> {
    let (stage, memory) = made_anew("shorter", 1).await?;
    ends_as_lost(&stage, &memory, "two", "the log ends at 1").await?;
    // Not only at the first start of a group.
    let known = "insert into outbox.reader (consumer_group, topic, handler) values ('three', 'notes.v1', 'test.late')";
    sqlx::raw_sql(known).execute(&stage.home.admin).await?;
    ends_as_lost(&stage, &memory, "three", "the log ends at 1").await?;
    stage.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_from_before_a_handlers_beginning_is_not_younger_than_that() -> Result<(), BoxError> {
    let (stage, memory) = made_anew("younger", 3).await?;
    // The records are of the beginning of 2026.
    let began = "update outbox.baseline set set_at = '2025-12-31 22:00:00+00' where handler = 'test.late'";
    sqlx::raw_sql(began).execute(&stage.home.admin).await?;
    ends_as_lost(&stage, &memory, "two", "offset 0 was published after that").await?;
    // Clocks may be that far apart.
    let began = "update outbox.baseline set set_at = '2025-12-31 23:30:00+00' where handler = 'test.late'";
    sqlx::raw_sql(began).execute(&stage.home.admin).await?;
    let inbox = Inbox::new(stage.home.module.clone(), memory.source("two")).register(Late).register(Early);
    let running = run(inbox);
    stage.done("early", &["b1", "b2", "b3"]).await?;
    stage.done("late", &["b3"]).await?;
    running.stop().await?;
    stage.end().await
}
