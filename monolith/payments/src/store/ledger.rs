//! Table `payments.ledger_entry`.

use sqlx::postgres::PgTransaction;

use crate::{Error, Payment, Transaction};

/// Books a transaction. One that is booked already changes nothing.
pub(crate) async fn insert_transaction(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    transaction: &Transaction,
) -> Result<(), Error> {
    let sql = "
        insert into payments.ledger_entry (transaction_id, account, payment_id, tenant, amount_minor, currency)
        select $1, line.account, $2, $3, line.amount_minor, line.currency
        from unnest($4::text[], $5::bigint[], $6::text[]) as line (account, amount_minor, currency)
        on conflict (transaction_id, account) do nothing";
    let lines = transaction.postings.iter();
    sqlx::query(sql)
        .bind(transaction.id)
        .bind(payment.id.uuid())
        .bind(payment.tenant.as_str())
        .bind(lines.clone().map(|line| line.account.word().to_owned()).collect::<Vec<_>>())
        .bind(lines.clone().map(|line| line.amount.minor).collect::<Vec<_>>())
        .bind(lines.map(|line| line.amount.currency.to_string()).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
