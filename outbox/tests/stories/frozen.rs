//! A broker that stands still for longer than the group's session.

use std::time::Duration;

use outbox::{BoxError, Handler, Inbox, Received, kafka};
use sqlx::postgres::PgTransaction;
use stack::{Choice, Stack};

use crate::world::{Home, NOTES, Noted, World, effect, noted, until};

/// Longer than the session of a member, which is 10 s.
const FROZEN: Duration = Duration::from_secs(13);

const KEYS: usize = 20;

struct Take;

impl Handler for Take {
    const NAME: &'static str = "test.take";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.meta.key, event.meta.version, &event.event.text).await
    }
}

/// The process of the stack's broker.
fn broker(stack: &Stack) -> Result<u32, BoxError> {
    let is_broker = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("kafka.Kafka")
    };
    Ok(stack.pids().into_iter().find(is_broker).ok_or("the stack has a broker")?)
}

fn signal(name: &str, pid: u32) -> Result<(), BoxError> {
    // The shell's own: not every machine has a program for it.
    let done = std::process::Command::new("sh").args(["-c", &format!("kill {name} {pid}")]).status()?;
    if done.success() { Ok(()) } else { Err(format!("kill {name} {pid}: {done}").into()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stood_still_costs_no_event_and_doubles_none() -> Result<(), BoxError> {
    // A broker of its own: the others' stories go on.
    let own = Stack::start(Choice::Native).await?;
    let mut world = World::new("frozen").await?;
    own.kafka().clone_into(&mut world.kafka.bootstrap_servers);
    kafka::create_topics(&world.kafka, &[NOTES], 3).await?;
    let home = Home::new(world.stack, "frozen", "test.notes").await?;
    world.relay(&home)?;
    for _ in 0..2 {
        let inbox = Inbox::new(home.module.clone(), kafka::source(&world.kafka, "inbox")?).register(Take);
        world.spawn(|shutdown| inbox.run(shutdown));
    }
    let publish = async || {
        for key in 0..KEYS {
            home.publish(&noted(&format!("k{key}"), "x")).await?;
        }
        Ok::<_, BoxError>(())
    };
    let count = async |query: &'static str| {
        Ok::<i64, BoxError>(sqlx::query_scalar(query).fetch_one(&home.admin).await?)
    };
    publish().await?;
    until(true, async || Ok(count("select count(*) from public.effect").await? > 0)).await?;
    // In the middle of its work.
    for _ in 0..10 {
        publish().await?;
    }
    let pid = broker(&own)?;
    signal("-STOP", pid)?;
    for _ in 0..10 {
        publish().await?;
    }
    // Nothing to await: the session ends by the broker's own clock, which shows nothing while it stands still.
    tokio::time::sleep(FROZEN).await;
    signal("-CONT", pid)?;
    publish().await?;
    let all = i64::try_from(KEYS * 22)?;
    until(all, || count("select count(*) from public.effect")).await?;
    assert_eq!(count("select count(distinct (key, version)) from public.effect").await?, all);
    let out_of_order = "select count(*) from (
        select version - lag(version, 1, 0) over (partition by key order by n) as step from public.effect) s where step <> 1";
    assert_eq!(count(out_of_order).await?, 0);
    until(0, || home.pending()).await?;
    world.stop().await?;
    home.drop_now().await?;
    Ok(own.close().await?)
}
