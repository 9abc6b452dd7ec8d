//! Table `payments.heartbeat`.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use time::OffsetDateTime;

use crate::Error;
use crate::heartbeat::Heartbeat;

/// Notes the other home's. The replica's cursor has them in order, so the last one written is the last one sent.
pub(crate) async fn note_heartbeat(
    tx: &mut PgTransaction<'_>,
    home: &str,
    sequence: i64,
    sent_at: OffsetDateTime,
) -> Result<(), Error> {
    let sql = "
        insert into payments.heartbeat (home, sequence, sent_at, received_at) values ($1, $2, $3, clock_timestamp())
        on conflict (home) do update
        set sequence = excluded.sequence, sent_at = excluded.sent_at, received_at = excluded.received_at";
    sqlx::query(sql).bind(home).bind(sequence).bind(sent_at).execute(&mut **tx).await?;
    Ok(())
}

/// There is one row at most: a home does not note its own.
pub(crate) async fn heartbeat(pool: &PgPool) -> Result<Option<Heartbeat>, Error> {
    let sql = "
        select sequence, sent_at, received_at,
            greatest(extract(epoch from clock_timestamp() - received_at), 0)::double precision
        from payments.heartbeat order by received_at desc limit 1";
    let row: Option<(i64, OffsetDateTime, OffsetDateTime, f64)> =
        sqlx::query_as(sql).fetch_optional(pool).await?;
    Ok(row.map(|(sequence, sent_at, received_at, age_s)| {
        let age = Duration::try_from_secs_f64(age_s).unwrap_or(Duration::MAX);
        Heartbeat { sequence, sent_at, received_at, age }
    }))
}
