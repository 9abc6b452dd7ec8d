//! Several who ask the gate for the same keys at once.

use outbox::BoxError;
use sqlx::{Connection as _, PgConnection};

use crate::world::Home;

const ADMIT: &str = "select verdict from outbox.admit('test.gate', 'notes.v1', $1, $2, gen_random_uuid())";

async fn admit(connection: &mut PgConnection, key: &str, version: i64) -> Result<String, BoxError> {
    Ok(sqlx::query_scalar(ADMIT).bind(key).bind(version).fetch_one(connection).await?)
}

/// Waits until somebody waits for a lock of this session.
async fn is_waited_for(home: &Home, session: i32) -> Result<(), BoxError> {
    crate::world::until(true, || async {
        let waited = sqlx::query_scalar(
            "select exists (select from pg_stat_activity where $1 = any (pg_blocking_pids(pid)))",
        );
        Ok(waited.bind(session).fetch_one(&home.admin).await?)
    })
    .await
}

async fn pid(connection: &mut PgConnection) -> Result<i32, BoxError> {
    Ok(sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_begins_while_a_batch_waits_for_its_locks_is_not_applied_twice() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "gaterace", "notes").await?;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(PgConnection::connect(&home.module_url()).await?);
    }
    let [mut batch, mut first, mut second, mut holder] =
        <[PgConnection; 4]>::try_from(sessions).map_err(|_| "four sessions")?;
    sqlx::query("select outbox.register('test.gate')").execute(&mut first).await?;
    assert_eq!(admit(&mut first, "b", 1).await?, "apply");

    let (holding, moving_it) = (pid(&mut holder).await?, pid(&mut second).await?);
    // The batch is past `a`, which has no cursor, and waits for `b`.
    let mut held = holder.begin().await?;
    assert_eq!(admit(&mut held, "b", 2).await?, "apply");
    let asked = tokio::spawn(async move {
        let runs =
            "select admitted from outbox.admit_runs('test.gate', 'notes.v1', '{a,b}', '{2,2}', '{2,2}',
            array[gen_random_uuid(), gen_random_uuid()], array[null, null]::bigint[]) order by n";
        let mut tx = batch.begin().await?;
        let admitted: Vec<bool> = sqlx::query_scalar(runs).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok::<_, sqlx::Error>(admitted)
    });
    is_waited_for(&home, holding).await?;
    // Meanwhile `a` begins, and somebody moves it to 2 and has not committed yet when the batch meets it.
    assert_eq!(admit(&mut first, "a", 1).await?, "apply");
    let mut moving = second.begin().await?;
    assert_eq!(admit(&mut moving, "a", 2).await?, "apply");
    held.commit().await?;
    is_waited_for(&home, moving_it).await?;
    moving.commit().await?;

    assert_eq!(asked.await??, [false, false], "version 2 of both was applied by others");
    let cursors = "select key || ':' || version from outbox.cursor where handler = 'test.gate' order by key";
    let cursors: Vec<String> = sqlx::query_scalar(cursors).fetch_all(&home.admin).await?;
    assert_eq!(cursors, ["a:2", "b:2"]);
    for session in [first, second, holder] {
        session.close().await?;
    }
    home.drop_now().await
}
