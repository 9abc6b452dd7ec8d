//! The SQL of schema `notifications`.

use chassis::role::quoted;
use sqlx::postgres::PgTransaction;
use sqlx::{AssertSqlSafe, PgPool};

use crate::receipt::Receipt;

/// Queues a receipt. One that is there already, queued under an earlier handler's name, stays as it is.
pub(crate) async fn queue(tx: &mut PgTransaction<'_>, receipt: &Receipt) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into notifications.receipt (id, tenant, order_id, payment_id, subject, amount_minor, currency)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (id) do nothing",
    )
    .bind(receipt.id)
    .bind(&receipt.tenant)
    .bind(receipt.order)
    .bind(receipt.payment)
    .bind(receipt.subject.word())
    .bind(receipt.amount.minor)
    .bind(receipt.amount.currency.code())
    .execute(&mut **tx)
    .await
    .map(drop)
}

pub(crate) async fn grant_tables(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    let sql = format!("grant select, insert, update, delete on notifications.receipt to {}", quoted(role));
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.map(drop)
}
