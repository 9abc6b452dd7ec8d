//! What a home published last is told within a bound, or not at all.

use std::time::Duration;

use outbox::{BoxError, Error};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::{
    wire::{Weather, Wire},
    world::{Home, NOTES, noted},
};

/// Longer than the bound, a second of grace and a busy machine.
const LONG: Duration = Duration::from_secs(30);

async fn recent(pool: &PgPool) -> Result<Result<Vec<(String, i64)>, Error>, BoxError> {
    Ok(timeout(LONG, outbox::recent_heads(pool, NOTES, &[], 10)).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_slow_or_silent_keeps_nobody_who_asks_for_the_last_heads() -> Result<(), BoxError>
{
    let home = Home::new(stack::shared().await?, "recent", "test.notes").await?;
    home.publish(&noted("a", 1)).await?;
    let wire = Wire::to(&home.relay).await?;
    let far = wire.pool();
    let heads = vec![("a".to_owned(), 1_i64)];
    assert_eq!(recent(&far).await??, heads);

    let mut lock = home.admin.begin().await?;
    sqlx::query("lock table outbox.event").execute(&mut *lock).await?;
    wire.turn(Weather::Silent);
    let (slow, silent) = tokio::join!(recent(&home.relay), recent(&far));
    assert!(matches!(slow?, Err(Error::Database(_))), "the server ended it");
    assert!(matches!(silent?, Err(Error::Database(_))), "nobody ended it but the caller");

    lock.rollback().await?;
    home.publish(&noted("b", 1)).await?;
    home.publish(&noted("c", 1)).await?;
    home.publish(&noted("b", 2)).await?;
    let last_first = [("b", 2_i64), ("c", 1), ("a", 1)].map(|(key, version)| (key.to_owned(), version));
    assert_eq!(recent(&home.relay).await??, last_first);
    drop(wire);
    home.drop_now().await
}
