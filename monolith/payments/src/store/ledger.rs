//! Table `payments.ledger_entry`.

use std::collections::HashMap;

use outbox::BoxError;
use proto::{Money, PaymentId};
use sqlx::postgres::PgTransaction;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::{Account, Balance, Error, Payment, Posting, Tenant, Transaction};

/// Sums are numeric in the database; as text they don't have to fit in 64 bits.
#[derive(FromRow)]
struct Sums {
    account: String,
    currency: String,
    debits: String,
    credits: String,
}

impl TryFrom<Sums> for Balance {
    type Error = Error;

    fn try_from(sums: Sums) -> Result<Self, Error> {
        let read = || -> Result<Balance, BoxError> {
            Ok(Balance {
                account: Account::from_word(&sums.account)?,
                currency: sums.currency.parse()?,
                debits_minor: sums.debits.parse()?,
                credits_minor: sums.credits.parse()?,
            })
        };
        read().map_err(|error| Error::corrupt("the ledger", error))
    }
}

/// Books transactions, each of its payment. One that is booked already changes nothing.
pub(crate) async fn insert_transactions(
    tx: &mut PgTransaction<'_>,
    transactions: &[(&Payment, &Transaction)],
) -> Result<(), Error> {
    let sql = "
        insert into payments.ledger_entry (transaction_id, account, payment_id, tenant, amount_minor, currency)
        select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::text[])
        on conflict (transaction_id, account) do nothing";
    let lines: Vec<(&Payment, &Transaction, &Posting)> = transactions
        .iter()
        .flat_map(|(payment, booked)| booked.postings.iter().map(|line| (*payment, *booked, line)))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query(sql)
        .bind(lines.iter().map(|(_, booked, _)| booked.id).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, _, line)| line.account.word().to_owned()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(payment, _, _)| payment.id.uuid()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(payment, _, _)| payment.tenant.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, _, line)| line.amount.minor).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, _, line)| line.amount.currency.to_string()).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The payment that a transaction was booked for, if it is booked.
pub(crate) async fn booked(
    tx: &mut PgTransaction<'_>,
    transaction: Uuid,
) -> Result<Option<PaymentId>, Error> {
    let sql = "select payment_id from payments.ledger_entry where transaction_id = $1 limit 1";
    let payment: Option<Uuid> = sqlx::query_scalar(sql).bind(transaction).fetch_optional(&mut **tx).await?;
    Ok(payment.map(PaymentId::from_uuid))
}

/// All transactions of these payments, by payment; one without any is missing.
pub(crate) async fn load_transactions(
    tx: &mut PgTransaction<'_>,
    payments: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Transaction>>, Error> {
    let sql = "
        select payment_id, transaction_id, account, amount_minor, currency from payments.ledger_entry
        where payment_id = any($1::uuid[]) order by transaction_id, account";
    let rows: Vec<(Uuid, Uuid, String, i64, String)> =
        sqlx::query_as(sql).bind(payments).fetch_all(&mut **tx).await?;
    let mut ledger: HashMap<Uuid, Vec<Transaction>> = HashMap::new();
    for (payment, id, account, minor, currency) in rows {
        let transactions = ledger.entry(payment).or_default();
        let account = Account::from_word(&account).map_err(|error| Error::corrupt("a ledger row", error))?;
        let currency = currency.parse().map_err(|error| Error::corrupt("a ledger row", error))?;
        let posting = Posting { account, amount: Money::new(minor, currency) };
        match transactions.last_mut() {
            Some(last) if last.id == id => last.postings.push(posting),
            _ => transactions.push(Transaction { id, postings: vec![posting] }),
        }
    }
    Ok(ledger)
}

/// How a trial balance is read. Its cost grows with all that was ever booked for the tenant, and it must not keep a connection
/// from those who move money for long.
const BOUNDED: &str = "begin read only; set local statement_timeout = '5s'";

/// A currency in which the lines of all tenants do not sum to zero, with the sum. [`Error::Unavailable`] when it takes over 5 s.
pub(crate) async fn unbalanced(pool: &PgPool) -> Result<Option<(String, String)>, Error> {
    let sql = "
        select currency, sum(amount_minor)::text from payments.ledger_entry
        group by currency having sum(amount_minor) <> 0 order by currency limit 1";
    let mut tx = pool.begin_with(BOUNDED).await?;
    let found = sqlx::query_as(sql).fetch_optional(&mut *tx).await.map_err(in_time)?;
    tx.commit().await?;
    Ok(found)
}

/// A tenant's trial balance. At most one row for each account and currency. [`Error::Unavailable`] when it takes over 5 s.
pub(crate) async fn trial_balance(pool: &PgPool, tenant: &Tenant) -> Result<Vec<Balance>, Error> {
    let sql = "
        select account, currency,
               coalesce(sum(amount_minor) filter (where amount_minor > 0), 0)::text as debits,
               coalesce(-sum(amount_minor) filter (where amount_minor < 0), 0)::text as credits
        from payments.ledger_entry where tenant = $1 group by currency, account";
    let mut tx = pool.begin_with(BOUNDED).await?;
    let sums: Vec<Sums> =
        sqlx::query_as(sql).bind(tenant.as_str()).fetch_all(&mut *tx).await.map_err(in_time)?;
    tx.commit().await?;
    let mut balances = sums.into_iter().map(Balance::try_from).collect::<Result<Vec<_>, _>>()?;
    balances.sort_by_key(|balance| (balance.currency, balance.account));
    Ok(balances)
}

/// A statement that took too long (57014) may be quicker another time.
fn in_time(error: sqlx::Error) -> Error {
    let cancelled = error.as_database_error().and_then(|error| error.code()).as_deref() == Some("57014");
    if cancelled {
        return Error::Unavailable("the trial balance took too long to add up".to_owned());
    }
    Error::Database(error)
}
