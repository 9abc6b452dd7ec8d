//! Producers that know nothing of this crate: the contract is SQL.

use std::process::Stdio;

use outbox::{BoxError, Handler, Inbox, Received, Relay, memory::Memory};
use sqlx::{AssertSqlSafe, postgres::PgTransaction};
use tokio::process::Command;

use crate::world::{Home, Noted, World, effect, until};

const PRODUCERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/producers");

struct WriteDown;

impl Handler for WriteDown {
    const NAME: &'static str = "test.producers";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        assert_eq!(event.meta.tenant(), Some("acme"));
        assert_eq!(event.meta.headers.get("content-type"), Some("application/json"));
        effect(tx, &event.event.key, event.meta.version, &event.event.text).await
    }
}

/// Runs a producer to its end and returns what it printed.
async fn run(mut command: Command, needs: &str) -> Result<Result<String, String>, BoxError> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let done = command.output().await.map_err(|error| format!("{needs} is needed: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) })
}

/// A Python that has psycopg2: the first on the path, or Debian's own.
async fn python() -> Result<&'static str, BoxError> {
    for name in ["python3", "/usr/bin/python3"] {
        let mut look = Command::new(name);
        look.args(["-c", "import psycopg2"]);
        if run(look, name).await.is_ok_and(|found| found.is_ok()) {
            return Ok(name);
        }
    }
    Err("no Python with psycopg2; on Debian: apt-get install python3-psycopg2 (.ci/install does)".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_python_publish_as_rust_does() -> Result<(), BoxError> {
    let mut world = World::new("producers").await?;
    let home = Home::new(world.stack, "producers", "test.notes").await?;
    let module = format!("{}_module", home.name());
    let table =
        format!("create table note (id text primary key, text text not null); grant all on note to {module}");
    sqlx::raw_sql(AssertSqlSafe(table)).execute(&home.admin).await?;
    let memory = Memory::new(3);
    let (relay, inbox) = (
        Relay::new(home.relay.clone(), memory.sink()),
        Inbox::new(home.module.clone(), memory.source("inbox")).register(WriteDown),
    );
    world.spawn(|shutdown| relay.run(shutdown));
    world.spawn(|shutdown| inbox.run(shutdown));

    let psql = |text: &str| {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-v", "ON_ERROR_STOP=1", "-v", "id=n-1", "-v"]);
        psql.arg(format!("text={text}"))
            .args(["-f", "note.sql"])
            .arg(home.module_url())
            .current_dir(PRODUCERS);
        run(psql, "psql (Debian: postgresql-client)")
    };
    assert_eq!(psql("it's \"quoted\"").await??, "n-1 is at version 1");
    assert_eq!(psql("again").await??, "n-1 is at version 2");

    let python_name = python().await?;
    let python = |notes: &[&str]| {
        let mut python = Command::new(python_name);
        python.arg("note.py").args(notes).env("DATABASE_URL", home.module_url()).current_dir(PRODUCERS);
        run(python, "python3")
    };
    let printed = python(&["n-2=zwei", "n-1=third", "n-2=drei"]).await??;
    assert_eq!(printed, "n-2 is at version 1\nn-1 is at version 3\nn-2 is at version 2");
    // What breaks a limit is refused, its row with it, and the limit is named.
    let refused =
        python(&["n-3=never", &format!("{}=x", "k".repeat(256))]).await?.err().ok_or("was taken")?;
    assert!(
        refused.contains("the key has 256 bytes; 1 to 255 are allowed") && refused.contains("event 2 of 2"),
        "{refused}"
    );

    let wanted =
        ["n-1:1:it's \"quoted\"", "n-1:2:again", "n-1:3:third", "n-2:1:zwei", "n-2:2:drei"].map(String::from);
    let effects = || async {
        let mut all = home.effects().await?;
        all.sort();
        Ok(all)
    };
    until(wanted.to_vec(), effects).await?;
    let rows: i64 = sqlx::query_scalar("select count(*) from note").fetch_one(&home.admin).await?;
    assert_eq!(rows, 2);
    world.stop().await?;
    home.drop_now().await
}
