//! Open work, from each tenant in turn: one with ten thousand open payments does not keep another's single one waiting.
//!
//! Of what a look ([`super::look`]) sees, first ones of each tenant are taken before second ones, otherwise by lot; what others have
//! locked is passed over.

use std::time::Duration;

use proto::PaymentId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Floors;
use super::intent::{self, Row};
use super::look::{SEE_DUE, SEE_REQUESTED, see};
use crate::Error;
use crate::effect::{CLAIM, Intent};
use crate::provider::REPEAT_WITHIN;

/// The pause before a requested payment with an open intent is looked at again; the intent has a time of its own.
const OPEN_PAUSE: Duration = Duration::from_secs(600);

/// What a look took.
#[derive(Debug)]
pub(crate) struct Claimed<T> {
    pub(crate) work: Vec<T>,
    /// How many rows it claimed, some of which may have nothing to be done now.
    pub(crate) touched: usize,
}

/// A requested payment that was claimed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requested {
    pub(crate) id: PaymentId,
    /// When it is looked at again, as the claim set it.
    pub(crate) look_at: OffsetDateTime,
}

/// Open intents that nobody works on and whose time has come, for [`CLAIM`].
pub(crate) async fn claim_due(
    connection: &mut PgConnection,
    floors: &mut Floors,
    batch_max: i64,
) -> Result<Claimed<Intent>, Error> {
    let ids = see(connection, SEE_DUE, floors, batch_max).await?;
    if ids.is_empty() {
        return Ok(Claimed { work: Vec::new(), touched: 0 });
    }
    let rows = claim_rows(connection, &ids, batch_max).await?;
    let touched = rows.len();
    Ok(Claimed { work: intent::read_all(connection, rows).await?, touched })
}

/// Requested payments without an open intent whose time has come. Each is looked at again 250 ms later, doubling to 5 s, for
/// as long as it stays requested; the other home's are left alone for longer ([`super::leave`]).
pub(crate) async fn claim_requested(
    connection: &mut PgConnection,
    floors: &mut Floors,
    batch_max: i64,
) -> Result<Claimed<Requested>, Error> {
    let ids = see(connection, SEE_REQUESTED, floors, batch_max).await?;
    if ids.is_empty() {
        return Ok(Claimed { work: Vec::new(), touched: 0 });
    }
    let sql = "
        with due as materialized (
            select p.id,
                exists (select from payments.intent i where i.payment_id = p.id and i.state <> 'done') as is_open
            from unnest($1::uuid[]) with ordinality as seen (id, n) join payments.payment p on p.id = seen.id
            where p.status = 'requested' and p.look_at <= now()
            order by seen.n limit $2 for update of p skip locked
        )
        update payments.payment p
        set looks = p.looks + 1, elsewhere = false, look_at = now() + case
            when due.is_open then $3::double precision * interval '1 second'
            else least(interval '250 milliseconds' * power(2, least(p.looks, 10)), interval '5 seconds') end
        from due where p.id = due.id
        returning p.id, p.look_at, due.is_open";
    let rows: Vec<(Uuid, OffsetDateTime, bool)> = sqlx::query_as(sql)
        .bind(&ids)
        .bind(batch_max)
        .bind(OPEN_PAUSE.as_secs_f64())
        .fetch_all(connection)
        .await?;
    let touched = rows.len();
    let work = rows
        .into_iter()
        .filter(|(_, _, is_open)| !is_open)
        .map(|(id, look_at, _)| Requested { id: PaymentId::from_uuid(id), look_at });
    Ok(Claimed { work: work.collect(), touched })
}

async fn claim_rows(connection: &mut PgConnection, ids: &[Uuid], batch_max: i64) -> Result<Vec<Row>, Error> {
    let sql = "
        with due as materialized (
            select i.command_id
            from unnest($1::uuid[]) with ordinality as seen (id, n) join payments.intent i on i.command_id = seen.id
            where i.state <> 'done' and i.next_at <= now() and i.claimed_until <= now()
            order by seen.n limit $2 for update of i skip locked
        )
        update payments.intent i
        set tries = i.tries + 1, claimed_until = now() + $3::double precision * interval '1 second'
        from due where i.command_id = due.command_id
        returning i.*, i.created_at > now() - $4::double precision * interval '1 second' as repeatable,
            extract(epoch from now() - i.kept_at)::double precision as kept_for_s";
    let rows = sqlx::query_as(sql)
        .bind(ids)
        .bind(batch_max)
        .bind(CLAIM.as_secs_f64())
        .bind(REPEAT_WITHIN.as_secs_f64())
        .fetch_all(connection)
        .await?;
    Ok(rows)
}
