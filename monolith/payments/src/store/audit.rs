//! Table `payments.audit`. The lines of commands are written by the statements of `payments.intent`.

use sqlx::postgres::PgTransaction;

use crate::{Audit, Error};

/// Adds a line.
pub(crate) async fn insert_audit(
    tx: &mut PgTransaction<'_>,
    home: &str,
    line: &Audit<'_>,
) -> Result<(), Error> {
    let sql = "
        insert into payments.audit (tenant, payment_id, command_id, actor, action, reason, home, detail)
        values ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(sql)
        .bind(line.payment.map(|(tenant, _)| tenant.as_str()))
        .bind(line.payment.map(|(_, id)| id.uuid()))
        .bind(line.command)
        .bind(line.actor.as_str())
        .bind(line.action)
        .bind(line.reason)
        .bind(home)
        .bind(&line.detail)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
