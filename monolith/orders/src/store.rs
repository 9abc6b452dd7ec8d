//! The SQL of schema `orders`.

use catalog::ProductId;
use chassis::Page;
use chassis::role::quoted;
use proto::{Currency, Money, OrderId, PaymentId};
use sqlx::postgres::{PgExecutor, PgTransaction};
use sqlx::{AssertSqlSafe, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::place::Draft;
use crate::{CaptureMethod, Error, Line, Order, Status};

/// An order with its lines in one row.
#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    tenant: String,
    fingerprint: String,
    payment_id: Uuid,
    status: String,
    total_minor: i64,
    currency: String,
    capture_method: String,
    payment_method: String,
    placed_at: OffsetDateTime,
    products: Vec<Uuid>,
    quantities: Vec<i32>,
    prices_minor: Vec<i64>,
}

/// `select` of [`Row`], with what comes after `from`.
macro_rules! select_orders {
    ($tail:literal) => {
        concat!(
            "select o.id, o.tenant, o.fingerprint, o.payment_id, o.status, o.total_minor, o.currency, o.capture_method,
                    o.payment_method, o.placed_at, l.products, l.quantities, l.prices_minor
             from orders.orders o cross join lateral (
                 select array_agg(product_id order by number) as products,
                        array_agg(quantity order by number) as quantities,
                        array_agg(unit_price_minor order by number) as prices_minor
                 from orders.line where order_id = o.id) l ",
            $tail
        )
    };
}

/// Locks a key until the transaction ends; false when another transaction has it. The lock's number is a hash: two keys
/// that share one would at worst see each other as in flight.
pub(crate) async fn claim(tx: &mut PgTransaction<'_>, tenant: &str, key: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended($1 || e'\\n' || $2, 7))")
        .bind(tenant)
        .bind(key)
        .fetch_one(&mut **tx)
        .await
}

/// The order that was accepted under a key, with the fingerprint of its request.
pub(crate) async fn find_by_key(
    on: impl PgExecutor<'_>,
    tenant: &str,
    key: &str,
) -> Result<Option<(String, Order)>, Error> {
    let row: Option<Row> = sqlx::query_as(select_orders!("where o.tenant = $1 and o.idempotency_key = $2"))
        .bind(tenant)
        .bind(key)
        .fetch_optional(on)
        .await?;
    row.map(|row| Ok((row.fingerprint.clone(), row.try_into()?))).transpose()
}

pub(crate) async fn find(pool: &PgPool, tenant: &str, id: OrderId) -> Result<Option<Order>, Error> {
    let row: Option<Row> = sqlx::query_as(select_orders!("where o.tenant = $1 and o.id = $2"))
        .bind(tenant)
        .bind(id.uuid())
        .fetch_optional(pool)
        .await?;
    row.map(Order::try_from).transpose()
}

pub(crate) async fn find_by_payment(
    pool: &PgPool,
    tenant: &str,
    payment: PaymentId,
) -> Result<Option<Order>, Error> {
    let row: Option<Row> = sqlx::query_as(select_orders!("where o.tenant = $1 and o.payment_id = $2"))
        .bind(tenant)
        .bind(payment.uuid())
        .fetch_optional(pool)
        .await?;
    row.map(Order::try_from).transpose()
}

/// Newest first: ids begin with their time.
pub(crate) async fn list(pool: &PgPool, tenant: &str, page: Page<OrderId>) -> Result<Vec<Order>, Error> {
    let rows: Vec<Row> = sqlx::query_as(select_orders!(
        "where o.tenant = $1 and ($2::uuid is null or o.id < $2) order by o.id desc limit $3"
    ))
    .bind(tenant)
    .bind(page.after.map(OrderId::uuid))
    .bind(page.limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Order::try_from).collect()
}

/// Tenants and payments of all orders, by payment.
pub(crate) async fn payments(
    pool: &PgPool,
    after: Option<PaymentId>,
    limit: i64,
) -> Result<Vec<(String, Uuid)>, Error> {
    let rows = sqlx::query_as(
        "select tenant, payment_id from orders.orders
         where ($1::uuid is null or payment_id > $1) order by payment_id limit $2",
    )
    .bind(after.map(PaymentId::uuid))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Stores an order with its lines; returns when, by the database.
pub(crate) async fn insert(
    tx: &mut PgTransaction<'_>,
    draft: &Draft,
    payment: PaymentId,
) -> Result<OffsetDateTime, sqlx::Error> {
    let lines = draft.lines.iter();
    sqlx::query_scalar(
        "with placed as (
             insert into orders.orders (id, tenant, idempotency_key, fingerprint, payment_id, status, total_minor, currency,
                                        capture_method, payment_method)
             values ($1, $2, $3, $4, $5, 'placed', $6, $7, $8, $9) returning id, placed_at
         ), lined as (
             insert into orders.line (order_id, number, product_id, quantity, unit_price_minor)
             select placed.id, u.number, u.product_id, u.quantity, u.price
             from placed, unnest($10::uuid[], $11::integer[], $12::bigint[])
                 with ordinality as u (product_id, quantity, price, number)
         )
         select placed_at from placed",
    )
    .bind(draft.id.uuid())
    .bind(&draft.new.tenant)
    .bind(&draft.new.key)
    .bind(&draft.new.fingerprint)
    .bind(payment.uuid())
    .bind(draft.total.minor)
    .bind(draft.total.currency.code())
    .bind(draft.new.capture_method.word())
    .bind(&draft.new.payment_method)
    .bind(lines.clone().map(|line| line.product.uuid()).collect::<Vec<_>>())
    .bind(lines.clone().map(|line| line.quantity).collect::<Vec<_>>())
    .bind(lines.map(|line| line.unit_price.minor).collect::<Vec<_>>())
    .fetch_one(&mut **tx)
    .await
}

/// Marks the order of a payment as paid, if it is still open; returns its id and tenant.
pub(crate) async fn mark_paid(
    tx: &mut PgTransaction<'_>,
    payment: PaymentId,
) -> Result<Option<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "update orders.orders set status = 'paid', changed_at = clock_timestamp()
         where payment_id = $1 and status = 'placed' returning id, tenant",
    )
    .bind(payment.uuid())
    .fetch_optional(&mut **tx)
    .await
}

/// Cancels the order of a payment, if it is still open; returns its id and tenant.
pub(crate) async fn cancel(
    tx: &mut PgTransaction<'_>,
    payment: PaymentId,
    reason: &str,
) -> Result<Option<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "update orders.orders set status = 'cancelled', cancel_reason = $2, changed_at = clock_timestamp()
         where payment_id = $1 and status = 'placed' returning id, tenant",
    )
    .bind(payment.uuid())
    .bind(reason)
    .fetch_optional(&mut **tx)
    .await
}

/// The status of the order that a payment belongs to.
pub(crate) async fn status_of(
    tx: &mut PgTransaction<'_>,
    payment: PaymentId,
) -> Result<Option<Status>, Error> {
    let word: Option<String> = sqlx::query_scalar("select status from orders.orders where payment_id = $1")
        .bind(payment.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    word.as_deref().map(status).transpose()
}

pub(crate) async fn grant_tables(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    let sql =
        format!("grant select, insert, update, delete on orders.orders, orders.line to {}", quoted(role));
    sqlx::query(AssertSqlSafe(sql)).execute(admin).await.map(drop)
}

impl TryFrom<Row> for Order {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let currency: Currency = row.currency.parse().map_err(|_| broken("currency", &row.currency))?;
        let lines = row.products.into_iter().zip(row.quantities).zip(row.prices_minor);
        let line = |((product, quantity), price)| Line {
            product: ProductId::from_uuid(product),
            quantity,
            unit_price: Money::new(price, currency),
        };
        Ok(Self {
            id: OrderId::from_uuid(row.id),
            tenant: row.tenant,
            payment: PaymentId::from_uuid(row.payment_id),
            status: status(&row.status)?,
            lines: lines.map(line).collect(),
            total: Money::new(row.total_minor, currency),
            capture_method: capture_method(&row.capture_method)?,
            payment_method: row.payment_method,
            placed_at: row.placed_at,
        })
    }
}

fn status(word: &str) -> Result<Status, Error> {
    let known = [Status::Placed, Status::Paid, Status::Cancelled];
    known.into_iter().find(|status| status.word() == word).ok_or_else(|| broken("status", word))
}

fn capture_method(word: &str) -> Result<CaptureMethod, Error> {
    let known = [CaptureMethod::Automatic, CaptureMethod::Manual];
    known.into_iter().find(|method| method.word() == word).ok_or_else(|| broken("capture method", word))
}

fn broken(what: &str, value: &str) -> Error {
    Error::Broken(format!("{value:?} is no {what}"))
}
