//! Table `payments.adjustment`.

use std::collections::HashMap;

use proto::PaymentId;
use sqlx::FromRow;
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::{Adjustment, Error};

#[derive(FromRow)]
struct Row {
    payment_id: Uuid,
    transaction_id: Uuid,
    delta_minor: i64,
    object: String,
    payment_intent: Option<String>,
    reason: String,
}

impl From<Row> for Adjustment {
    fn from(row: Row) -> Self {
        let Row { payment_id: _, transaction_id: id, delta_minor, object, payment_intent, reason } = row;
        Self { id, delta_minor, object, payment_intent, reason }
    }
}

/// Keeps what adjustments followed, each of its payment. One that is kept already changes nothing.
pub(crate) async fn insert_adjustments(
    tx: &mut PgTransaction<'_>,
    adjustments: &[(PaymentId, &Adjustment)],
) -> Result<(), Error> {
    if adjustments.is_empty() {
        return Ok(());
    }
    let sql = "
        insert into payments.adjustment (transaction_id, payment_id, delta_minor, object, payment_intent, reason)
        select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[])
        on conflict (transaction_id) do nothing";
    let all = adjustments.iter();
    sqlx::query(sql)
        .bind(all.clone().map(|(_, adjustment)| adjustment.id).collect::<Vec<_>>())
        .bind(all.clone().map(|(payment, _)| payment.uuid()).collect::<Vec<_>>())
        .bind(all.clone().map(|(_, adjustment)| adjustment.delta_minor).collect::<Vec<_>>())
        .bind(all.clone().map(|(_, adjustment)| adjustment.object.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|(_, adjustment)| adjustment.payment_intent.as_deref()).collect::<Vec<_>>())
        .bind(all.map(|(_, adjustment)| adjustment.reason.as_str()).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// All adjustments of these payments, by payment; one without any is missing.
pub(crate) async fn load_adjustments(
    tx: &mut PgTransaction<'_>,
    payments: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Adjustment>>, Error> {
    let sql = "
        select payment_id, transaction_id, delta_minor, object, payment_intent, reason from payments.adjustment
        where payment_id = any($1::uuid[]) order by transaction_id";
    let rows: Vec<Row> = sqlx::query_as(sql).bind(payments).fetch_all(&mut **tx).await?;
    let mut adjustments: HashMap<Uuid, Vec<Adjustment>> = HashMap::new();
    for row in rows {
        adjustments.entry(row.payment_id).or_default().push(row.into());
    }
    Ok(adjustments)
}

/// Whether either home has booked, with a difference of this sign, what it found of a provider's object at the provider. The audit
/// has what this home booked before it kept adjustments.
pub(crate) async fn adjusted(
    tx: &mut PgTransaction<'_>,
    payment: PaymentId,
    object: &str,
    sign: i64,
) -> Result<bool, Error> {
    let sql = "
        select exists (
            select from payments.adjustment a
            where a.payment_id = $1 and $2 in (a.object, a.payment_intent) and sign(a.delta_minor) = $3
        ) or exists (
            select from payments.audit a
            where a.payment_id = $1 and a.action = 'adjusted' and $2 in (a.detail ->> 'object', a.detail ->> 'payment_intent')
              and sign((a.detail ->> 'delta_minor')::bigint) = $3
        )";
    Ok(sqlx::query_scalar(sql).bind(payment.uuid()).bind(object).bind(sign).fetch_one(&mut **tx).await?)
}
