//! How much is open, for numbers.

use sqlx::{FromRow, PgPool};

use crate::Error;
use crate::provider::REPEAT_WITHIN;

/// Open work of a home.
#[derive(Debug)]
pub(crate) struct OpenWork {
    pub(crate) open: Vec<OpenIntents>,
    pub(crate) oldest_open_s: Option<f64>,
    pub(crate) oldest_unknown_s: Option<f64>,
    pub(crate) oldest_requested_s: Option<f64>,
}

/// Intents of one operation and state. `expired`: past the provider's key lifetime, and refunds, or as only a person can end
/// them.
#[derive(Debug, FromRow)]
pub(crate) struct OpenIntents {
    pub(crate) operation: String,
    pub(crate) state: String,
    pub(crate) count: i64,
    oldest_s: Option<f64>,
}

/// Reads what is open. Costs as much as there is open.
pub(crate) async fn open_work(pool: &PgPool) -> Result<OpenWork, Error> {
    let open = open_intents(pool).await?;
    let oldest = |of: &[&str]| {
        let ages = open.iter().filter(|it| of.contains(&it.state.as_str())).filter_map(|it| it.oldest_s);
        ages.reduce(f64::max)
    };
    Ok(OpenWork {
        oldest_open_s: oldest(&["open", "unknown", "expired"]),
        oldest_unknown_s: oldest(&["unknown", "expired"]),
        oldest_requested_s: oldest_requested(pool).await?,
        open,
    })
}

async fn open_intents(pool: &PgPool) -> Result<Vec<OpenIntents>, Error> {
    let sql = "
        select i.operation, s.state, count(*) as count,
            extract(epoch from now() - min(i.created_at))::double precision as oldest_s
        from payments.intent i cross join lateral (
            select case
                when (i.operation = 'refund' or i.for_person)
                    and i.created_at <= now() - $1::double precision * interval '1 second' then 'expired'
                else i.state end as state
        ) s
        where i.state <> 'done' group by i.operation, s.state";
    Ok(sqlx::query_as(sql).bind(REPEAT_WITHIN.as_secs_f64()).fetch_all(pool).await?)
}

/// Of those that are not known to be the other home's.
async fn oldest_requested(pool: &PgPool) -> Result<Option<f64>, Error> {
    let sql = "
        select extract(epoch from now() - min(p.requested_at))::double precision
        from payments.payment p where p.status = 'requested' and not p.elsewhere";
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}
