//! Bare commits, alone.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::{Connection as _, PgConnection};
use stack::Stack;
use tokio::task::JoinSet;

use super::produce::per_second;

/// One row as small as a row with a text is.
const TABLE: &str =
    "create table bare (id bigint generated always as identity primary key, note text not null)";

/// Commits a second of connections that each insert one row a transaction as fast as they can, and wait for the disk as the
/// server's settings say: no other work, in a database of their own.
pub(crate) async fn commits(stack: &Stack, connections: u32, seconds: u64) -> Result<f64> {
    let database = stack.database("bare").await?;
    let mut first = PgConnection::connect(database.url()).await?;
    sqlx::query(TABLE).execute(&mut first).await?;
    sqlx::query("checkpoint").execute(&mut first).await?;
    first.close().await?;
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(PgConnection::connect(database.url()).await?);
    }
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for mut connection in open {
        tasks.spawn(async move {
            let mut commits = 0u64;
            while Instant::now() < until {
                sqlx::query("insert into bare (note) values ($1)")
                    .bind("paid")
                    .execute(&mut connection)
                    .await?;
                commits += 1;
            }
            connection.close().await?;
            anyhow::Ok(commits)
        });
    }
    let mut commits = 0;
    while let Some(done) = tasks.join_next().await {
        commits += done??;
    }
    let rate = per_second(commits, started.elapsed().as_secs_f64());
    ensure!(commits > 0, "nothing was committed");
    database.drop_now().await?;
    Ok(rate)
}
