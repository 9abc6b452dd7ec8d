//! The books as reconciliation reads them, and table `payments.settled`.

use std::collections::HashMap;

use proto::PaymentId;
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Error;
use crate::reconcile::{Books, Entry, Unseen};

#[derive(FromRow)]
struct Known {
    id: Uuid,
    tenant: String,
    currency: String,
    provider_ref: Option<String>,
    open: bool,
    authorized: bool,
    version: i64,
}

#[derive(FromRow)]
struct Row {
    payment_id: Uuid,
    transaction_id: Uuid,
    minor: i64,
    adjustment: bool,
    line: Option<String>,
}

/// The books of payments, by their ids or their payment intents. The payments are read first: one without an open command then
/// has all its entries in what is read after, and more only if its version has grown since.
pub(crate) async fn books(pool: &PgPool, ids: &[Uuid], intents: &[String]) -> Result<Vec<Books>, Error> {
    let mut books = HashMap::new();
    for known in known(pool, ids, intents).await? {
        let currency = known.currency.parse().map_err(|error| Error::corrupt("a payment's row", error))?;
        let of = Books {
            payment: PaymentId::from_uuid(known.id),
            tenant: known.tenant.parse()?,
            currency,
            intent: known.provider_ref,
            open: known.open,
            authorized: known.authorized,
            version: known.version,
            entries: Vec::new(),
        };
        books.insert(known.id, of);
    }
    let found: Vec<Uuid> = books.keys().copied().collect();
    for row in entries(pool, &found).await? {
        let Row { payment_id, transaction_id: transaction, minor, adjustment, line } = row;
        if let Some(of) = books.get_mut(&payment_id) {
            of.entries.push(Entry { transaction, minor, adjustment, line });
        }
    }
    Ok(books.into_values().collect())
}

async fn known(pool: &PgPool, ids: &[Uuid], intents: &[String]) -> Result<Vec<Known>, Error> {
    let sql = "
        select p.id, p.tenant, p.currency, p.provider_ref, p.version, p.status = 'authorized' as authorized,
            exists (select from payments.intent i where i.payment_id = p.id and i.state <> 'done') as open
        from payments.payment p
        where p.id in (select unnest($1::uuid[])
                       union select r.id from payments.payment r where r.provider_ref = any($2))";
    Ok(sqlx::query_as(sql).bind(ids).bind(intents).fetch_all(pool).await?)
}

async fn entries(pool: &PgPool, payments: &[Uuid]) -> Result<Vec<Row>, Error> {
    let sql = "
        select e.payment_id, e.transaction_id, e.amount_minor as minor, s.line,
            exists (select from payments.ledger_entry a
                    where a.transaction_id = e.transaction_id and a.account = 'receivable') as adjustment
        from payments.ledger_entry e left join payments.settled s on s.transaction_id = e.transaction_id
        where e.payment_id = any($1) and e.account = 'clearing'
        order by e.payment_id, e.transaction_id";
    Ok(sqlx::query_as(sql).bind(payments).fetch_all(pool).await?)
}

/// Keeps which lines transactions answer for. The first line of a transaction stays.
pub(crate) async fn settle_entries(pool: &PgPool, entries: &[(Uuid, String)]) -> Result<(), Error> {
    let sql = "
        insert into payments.settled (transaction_id, line) select * from unnest($1::uuid[], $2::text[])
        on conflict (transaction_id) do nothing";
    let (ids, lines): (Vec<Uuid>, Vec<String>) = entries.iter().cloned().unzip();
    sqlx::query(sql).bind(ids).bind(lines).execute(pool).await?;
    Ok(())
}

#[derive(FromRow)]
struct UnseenRow {
    transaction_id: Uuid,
    payment_id: Uuid,
    tenant: String,
    amount_minor: i64,
    currency: String,
    provider_ref: Option<String>,
    created_at: OffsetDateTime,
}

/// Commands' transactions whose line was not seen, by id from `after` to `until`; none of a payment with an open command.
pub(crate) async fn unseen(
    pool: &PgPool,
    after: Uuid,
    until: Uuid,
    batch_max: i64,
) -> Result<Vec<Unseen>, Error> {
    let sql = "
        select e.transaction_id, e.payment_id, e.tenant, e.amount_minor, e.currency, p.provider_ref, e.created_at
        from payments.ledger_entry e join payments.payment p on p.id = e.payment_id
        where e.transaction_id > $1 and e.transaction_id < $2 and e.account = 'clearing'
          and not exists (select from payments.settled s where s.transaction_id = e.transaction_id)
          and not exists (select from payments.ledger_entry a
                          where a.transaction_id = e.transaction_id and a.account = 'receivable')
          and not exists (select from payments.intent i where i.payment_id = e.payment_id and i.state <> 'done')
        order by e.transaction_id limit $3";
    let rows: Vec<UnseenRow> =
        sqlx::query_as(sql).bind(after).bind(until).bind(batch_max).fetch_all(pool).await?;
    let read = |row: UnseenRow| {
        Ok(Unseen {
            transaction: row.transaction_id,
            payment: PaymentId::from_uuid(row.payment_id),
            tenant: row.tenant.parse()?,
            minor: row.amount_minor,
            currency: row.currency.parse().map_err(|error| Error::corrupt("a ledger row", error))?,
            object: row.provider_ref,
            booked_at: row.created_at,
        })
    };
    rows.into_iter().map(read).collect()
}

/// Forgets a batch of what was settled before a transaction's id, and returns how much.
pub(crate) async fn forget_settled(pool: &PgPool, before: Uuid, batch_max: i64) -> Result<u64, Error> {
    let sql = "
        delete from payments.settled s using (
            select transaction_id from payments.settled where transaction_id < $1 order by transaction_id limit $2
        ) old where s.transaction_id = old.transaction_id";
    Ok(sqlx::query(sql).bind(before).bind(batch_max).execute(pool).await?.rows_affected())
}

/// Authorized payments without an open command that have a payment intent, by id.
pub(crate) async fn authorized(
    pool: &PgPool,
    after: Uuid,
    batch_max: i64,
) -> Result<Vec<(Uuid, String, String)>, Error> {
    let sql = "
        select p.id, p.tenant, p.provider_ref from payments.payment p
        where p.status = 'authorized' and p.id > $1 and p.provider_ref is not null
          and not exists (select from payments.intent i where i.payment_id = p.id and i.state <> 'done')
        order by p.id limit $2";
    Ok(sqlx::query_as(sql).bind(after).bind(batch_max).fetch_all(pool).await?)
}

/// Whether a payment is authorized, and no command on it is open.
pub(crate) async fn is_authorized(pool: &PgPool, id: Uuid) -> Result<bool, Error> {
    let sql = "
        select exists (select from payments.payment p where p.id = $1 and p.status = 'authorized'
            and not exists (select from payments.intent i where i.payment_id = p.id and i.state <> 'done'))";
    Ok(sqlx::query_scalar(sql).bind(id).fetch_one(pool).await?)
}
