//! No connection was poisoned: none is left with an open transaction by a request that was dropped.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::PgPool;
use tests::{Shop, until};

/// The server ends a session that leaves a transaction open for 10 s, and its pool makes another one: whoever looks later sees
/// nothing of it, but the server has counted it.
const ENDED_AFTER: Duration = Duration::from_secs(11);
const SOON: Duration = Duration::from_secs(120);

/// How many sessions the server has ended in each home's database before the first drop.
pub(crate) struct Sessions<'s> {
    shop: &'s Shop<'s>,
    ended: [i64; 2],
}

impl<'s> Sessions<'s> {
    pub(crate) async fn count(shop: &'s Shop<'s>) -> Result<Self> {
        Ok(Self { shop, ended: ended(shop).await? })
    }

    /// Waits until what was left open at the last drop would have been ended, and demands that nothing was.
    pub(crate) async fn are_whole(&self, last_drop: Instant) -> Result<()> {
        until("the server to have ended what was left open", SOON, async || {
            Ok((last_drop.elapsed() > ENDED_AFTER).then_some(()))
        })
        .await?;
        let now = ended(self.shop).await?;
        ensure!(now == self.ended, "sessions that the server ended, by home: {:?}, then {now:?}", self.ended);
        for home in [&self.shop.source, &self.shop.target] {
            idle(home).await?;
        }
        Ok(())
    }
}

async fn ended(shop: &Shop<'_>) -> Result<[i64; 2]> {
    let sql = "select sessions_fatal from pg_stat_database where datname = current_database()";
    Ok([
        sqlx::query_scalar(sql).fetch_one(&shop.source).await?,
        sqlx::query_scalar(sql).fetch_one(&shop.target).await?,
    ])
}

/// Waits until no session of a module has a transaction open.
async fn idle(admin: &PgPool) -> Result<()> {
    until("all transactions to end", SOON, async || {
        let open: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and state like 'idle in transaction%'",
        )
        .fetch_one(admin)
        .await?;
        Ok((open == 0).then_some(()))
    })
    .await
}
