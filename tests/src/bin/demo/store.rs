//! All SQL of the demo: payments from before, counting, and harm that is done on purpose.

use std::fmt;

use anyhow::Result;
use outbox::Event as _;
use proto::events::{AuthorityOffered, AuthorityReleased, FeedHeartbeat, PaymentRefunded, PaymentSnapshot};
use proto::{ORDERS, PAYMENTS};
use sqlx::types::Json;
use sqlx::{Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::past::Old;

/// Births with an owner's row, by the home that the policy of then chose. Payments that are older than all policies were not born
/// under one.
#[derive(Debug, Clone, Copy, Default, sqlx::FromRow)]
pub(crate) struct Births {
    pub(crate) at_source: i64,
    pub(crate) at_target: i64,
}

/// Payments with an owner's row, by where they are. One that is on its way is still that home's which it leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Homes {
    pub(crate) source: i64,
    pub(crate) target: i64,
    /// Those on their way to the target, and those called back from it.
    pub(crate) moving: i64,
    pub(crate) recalling: i64,
}

impl Homes {
    pub(crate) fn between(self) -> i64 {
        self.moving + self.recalling
    }

    pub(crate) fn owned_by_source(self) -> i64 {
        self.source + self.moving
    }

    pub(crate) fn owned_by_target(self) -> i64 {
        self.target + self.recalling
    }
}

impl fmt::Display for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at the source, {} at the target", self.source, self.target)?;
        match self.between() {
            0 => Ok(()),
            between => write!(f, ", {between} on their way"),
        }
    }
}

/// A product as a tenant sells it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Product {
    pub(crate) id: Uuid,
    pub(crate) price_minor: i64,
    pub(crate) currency: String,
}

/// What a tenant sells in euro, as the clients see it.
pub(crate) async fn products(pool: &PgPool, tenant: &str) -> Result<Vec<Product>> {
    let sql = "
        select id, price_minor, currency from catalog.product where tenant = $1 and currency = 'EUR' order by sku";
    Ok(sqlx::query_as(sql).bind(tenant).fetch_all(pool).await?)
}

/// A batch of payments as rows, with what follows.
macro_rules! with_old {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            " from jsonb_to_recordset($1) as o (order_id uuid, payment_id uuid, command_id uuid, tenant text, product_id uuid,
                quantity integer, price_minor bigint, total_minor bigint, fee_minor bigint, currency text, provider_ref text,
                at bigint, version bigint) ",
            $tail
        )
    };
}

/// Paid orders, their payments and balanced books, as the modules would have written them.
const PAID: [&str; 4] = [
    with_old!(
        "insert into orders.orders (id, tenant, idempotency_key, fingerprint, payment_id, status, total_minor, currency,
                                    capture_method, payment_method, placed_at, changed_at)
         select o.order_id, o.tenant, 'old-' || o.order_id, md5(o.order_id::text), o.payment_id, 'paid', o.total_minor,
                o.currency, 'automatic', 'pm_card_visa', to_timestamp(o.at), to_timestamp(o.at)",
        ""
    ),
    with_old!(
        "insert into orders.line (order_id, number, product_id, quantity, unit_price_minor)
         select o.order_id, 1, o.product_id, o.quantity, o.price_minor",
        ""
    ),
    with_old!(
        "insert into payments.payment (id, tenant, order_id, amount_minor, currency, capture_method, payment_method, status,
                                       authorized_minor, captured_minor, provider_ref, version, requested_at, updated_at,
                                       look_at)
         select o.payment_id, o.tenant, o.order_id, o.total_minor, o.currency, 'automatic', 'pm_card_visa', 'captured',
                o.total_minor, o.total_minor, o.provider_ref, o.version, to_timestamp(o.at), to_timestamp(o.at),
                to_timestamp(o.at)",
        ""
    ),
    // One statement for all lines of a booking: the books refuse a booking that is not whole.
    with_old!(
        "insert into payments.ledger_entry (transaction_id, account, payment_id, tenant, amount_minor, currency, created_at)
         select o.command_id, line.account, o.payment_id, o.tenant, line.minor, o.currency, to_timestamp(o.at)",
        "cross join lateral (values ('clearing', o.total_minor), ('payable', o.fee_minor - o.total_minor),
                                    ('fees', -o.fee_minor)) as line (account, minor)
         where line.minor <> 0"
    ),
];

/// The heads that an adoption gives to the streams of rows that it finds. Their events are nowhere.
const HEADS: &str = with_old!(
    "insert into outbox.head (topic, key, version, last_id)
     select stream.topic, stream.key, o.version, gen_random_uuid()",
    "cross join lateral (values ($2::text, o.payment_id::text), ($3::text, o.order_id::text)) as stream (topic, key)"
);

/// The same for each handler: it has what the rows say, so it goes on from there.
const CURSORS: &str = with_old!(
    "insert into outbox.cursor (handler, topic, key, version, last_id)
     select handler.name, head.topic, head.key, head.version, head.last_id",
    "join outbox.head head on head.topic = $2 and head.key = o.payment_id::text
     cross join unnest($3::text[]) as handler (name)"
);

/// Claims a handler's name for the role of the module that runs it, as its inbox does at its start.
pub(crate) async fn register(url: &str, handler: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query("select outbox.register($1)").bind(handler).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Writes payments from before into the monolith's tables, as far as nobody had an outbox then: rows without events.
pub(crate) async fn write(pool: &PgPool, batch: &[Old], handlers: &[&str]) -> Result<()> {
    let mut tx = pool.begin().await?;
    for sql in PAID {
        sqlx::query(sql).bind(Json(batch)).execute(&mut *tx).await?;
    }
    let (payments, orders) = (PAYMENTS.name(), ORDERS.name());
    sqlx::query(HEADS).bind(Json(batch)).bind(payments).bind(orders).execute(&mut *tx).await?;
    sqlx::query(CURSORS).bind(Json(batch)).bind(payments).bind(handlers).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Lets the planner know of them: nobody waits for the server to find out.
pub(crate) async fn analyze(pool: &PgPool) -> Result<()> {
    let sql = "
        analyze orders.orders, orders.line, payments.payment, payments.ledger_entry, outbox.head, outbox.cursor";
    sqlx::query(sql).execute(pool).await?;
    Ok(())
}

/// Where a payment was born is not stored once it has moved: the policy of its birth says it, as it did then.
pub(crate) async fn births(pool: &PgPool) -> Result<Births> {
    let counts = sqlx::query_as(
        "select count(*) filter (where not born.at_target) as at_source,
                count(*) filter (where born.at_target) as at_target
         from (
             select coalesce(not h.draining and (h.to_stage = 'primary' or h.to_stage = 'ramping'
                 and (o.tenant = any (h.tenants) or strangler.share(m.salt, o.key) < h.percent)), false) as at_target
             from strangler.owner o
             join strangler.migration m on m.name = o.migration
             left join strangler.history h
                 on h.migration = o.migration and h.revision = o.born_revision and h.action <> 'repair'
             where o.migration = 'payments' and o.born_revision > 0
         ) born",
    );
    Ok(counts.fetch_one(pool).await?)
}

/// Whether some payment is not settled at a home. Cheap, however many there are: it is asked again and again.
pub(crate) async fn any_away(pool: &PgPool, home: &str) -> Result<bool> {
    // In the order of the index, and by phases that a home's rows can have.
    let sql = "
        select exists (
            select from (values ('source', 'settled'), ('source', 'moving'), ('target', 'settled'), ('target', 'recalling'))
                as place (owner, phase)
            cross join lateral (
                select o.key from strangler.owner o
                where o.migration = 'payments' and o.owner = place.owner and o.phase = place.phase order by o.key limit 1
            ) one
            where (place.owner, place.phase) <> ($1, 'settled'))";
    Ok(sqlx::query_scalar(sql).bind(home).fetch_one(pool).await?)
}

/// How many are where now. It reads all rows.
pub(crate) async fn homes(pool: &PgPool) -> Result<Homes> {
    count_homes(pool, None).await
}

/// Where this payment and those before it are, in the order of keys.
pub(crate) async fn homes_through(pool: &PgPool, last: Uuid) -> Result<Homes> {
    count_homes(pool, Some(last)).await
}

async fn count_homes(pool: &PgPool, last: Option<Uuid>) -> Result<Homes> {
    let counts = sqlx::query_as(
        "select count(*) filter (where owner = 'source' and phase = 'settled') as source,
                count(*) filter (where owner = 'target' and phase = 'settled') as target,
                count(*) filter (where phase = 'moving') as moving,
                count(*) filter (where phase = 'recalling') as recalling
         from strangler.owner where migration = 'payments' and ($1::uuid is null or key <= $1::uuid::text)",
    );
    Ok(counts.bind(last).fetch_one(pool).await?)
}

/// Payments that the target has written: its log has an event of theirs that is more than their whole or their hand-over. A
/// heartbeat is of no payment.
pub(crate) async fn written(target: &PgPool) -> Result<i64> {
    let wholes =
        [PaymentSnapshot::KIND, AuthorityOffered::KIND, AuthorityReleased::KIND, FeedHeartbeat::KIND];
    let sql = "select count(distinct key) from outbox.event where topic = $1 and kind <> all ($2::text[])";
    Ok(sqlx::query_scalar(sql).bind(PAYMENTS.name()).bind(wholes.as_slice()).fetch_one(target).await?)
}

/// How often the target has given a payment back.
pub(crate) async fn released(target: &PgPool) -> Result<i64> {
    let sql = "select count(*) from outbox.event where topic = $1 and kind = $2";
    let counted = sqlx::query_scalar(sql).bind(PAYMENTS.name()).bind(AuthorityReleased::KIND);
    Ok(counted.fetch_one(target).await?)
}

/// How many of these payments a home has refunded: who does it publishes it.
pub(crate) async fn refunded(home: &PgPool, payments: &[String]) -> Result<i64> {
    let sql =
        "select count(distinct key) from outbox.event where topic = $1 and kind = $2 and key = any ($3)";
    let counted = sqlx::query_scalar(sql).bind(PAYMENTS.name()).bind(PaymentRefunded::KIND).bind(payments);
    Ok(counted.fetch_one(home).await?)
}

/// Alters the copy of a payment by hand, as nobody should.
pub(crate) async fn alter(target: &PgPool, payment: Uuid) -> Result<bool> {
    let sql = "update payments.payment set provider_ref = provider_ref || '_altered' where id = $1";
    Ok(sqlx::query(sql).bind(payment).execute(target).await?.rows_affected() == 1)
}

/// Events that wait to be sent.
pub(crate) async fn queue(pool: &PgPool) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from outbox.pending").fetch_one(pool).await?)
}

/// Deletes some of them at random, no heartbeats, which nobody would miss, and names what was deleted.
pub(crate) async fn steal(pool: &PgPool, loot: i64) -> Result<Vec<String>> {
    let stolen = sqlx::query_scalar(
        "with stolen as (
             delete from outbox.pending
             where (bucket, position) in (
                 select p.bucket, p.position from outbox.pending p join outbox.event e using (position, created_at)
                 where e.kind <> $2 order by random() limit $1
             )
             returning position, created_at
         )
         select format('%s/%s version %s', e.topic, e.key, e.version)
         from stolen join outbox.event e using (position, created_at)",
    );
    Ok(stolen.bind(loot).bind(FeedHeartbeat::KIND).fetch_all(pool).await?)
}
