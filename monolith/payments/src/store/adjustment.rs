//! Table `payments.adjustment`.

use proto::PaymentId;
use sqlx::FromRow;
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::{Adjustment, Error};

#[derive(FromRow)]
struct Row {
    transaction_id: Uuid,
    delta_minor: i64,
    object: String,
    payment_intent: Option<String>,
    reason: String,
}

impl From<Row> for Adjustment {
    fn from(row: Row) -> Self {
        let Row { transaction_id: id, delta_minor, object, payment_intent, reason } = row;
        Self { id, delta_minor, object, payment_intent, reason }
    }
}

/// Keeps what an adjustment followed. One that is kept already changes nothing.
pub(crate) async fn insert_adjustment(
    tx: &mut PgTransaction<'_>,
    payment: PaymentId,
    adjustment: &Adjustment,
) -> Result<(), Error> {
    let sql = "
        insert into payments.adjustment (transaction_id, payment_id, delta_minor, object, payment_intent, reason)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (transaction_id) do nothing";
    sqlx::query(sql)
        .bind(adjustment.id)
        .bind(payment.uuid())
        .bind(adjustment.delta_minor)
        .bind(&adjustment.object)
        .bind(&adjustment.payment_intent)
        .bind(&adjustment.reason)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// All adjustments of a payment.
pub(crate) async fn load_adjustments(
    tx: &mut PgTransaction<'_>,
    payment: PaymentId,
) -> Result<Vec<Adjustment>, Error> {
    let sql = "
        select transaction_id, delta_minor, object, payment_intent, reason from payments.adjustment
        where payment_id = $1 order by transaction_id";
    let rows: Vec<Row> = sqlx::query_as(sql).bind(payment.uuid()).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(Adjustment::from).collect())
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
