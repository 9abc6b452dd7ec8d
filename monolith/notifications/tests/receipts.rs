//! Receipts against PostgreSQL, under the module's own role.

use anyhow::Context as _;
use chassis::Url;
use chassis::database::{PoolOptions, pool};
use chassis::role::ensure_role;
use notifications::{Moved, QueueReceipts};
use outbox::{Codec as _, Event, Handler as _, Headers, Incoming as _, Meta, Received};
use proto::events::{Money, PaymentCaptured, PaymentCommand, PaymentRefunded, PaymentState};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

#[tokio::test]
async fn money_that_moved_is_told_once_each_with_its_own_amount() -> anyhow::Result<()> {
    let database = stack::shared().await?.database("notifications").await?;
    let admin = PgPool::connect(database.url()).await?;
    notifications::migrations().apply(&admin).await?;
    let pool = module_pool(&database, &admin).await?;
    let state = PaymentState {
        payment_id: Uuid::now_v7().to_string(),
        tenant: "acme".into(),
        order_id: Uuid::now_v7().to_string(),
        amount: Some(Money { minor: 900, currency: "EUR".into() }),
        captured_minor: 900,
        refunded_minor: 300,
        ..PaymentState::default()
    };
    let command = PaymentCommand { amount_minor: 200, ..PaymentCommand::default() };

    let captured = PaymentCaptured { state: Some(state.clone()), ..PaymentCaptured::default() };
    handle(&pool, &captured).await?;
    handle(&pool, &captured).await?;
    let refunded =
        PaymentRefunded { state: Some(state), command: Some(command), ..PaymentRefunded::default() };
    handle(&pool, &refunded).await?;
    let stateless = handle(&pool, &PaymentCaptured::default()).await;
    assert_eq!(stateless.unwrap_err().to_string(), "the event carries no state");

    let sql = "select subject, amount_minor from notifications.receipt order by subject";
    let receipts: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&admin).await?;
    assert_eq!(receipts, [("payment".to_owned(), 900), ("refund".to_owned(), 200)]);
    pool.close().await;
    admin.close().await;
    Ok(database.drop_now().await?)
}

/// Has the handler take an event as it comes from Kafka; the same one again is the same record.
async fn handle<E: Event>(pool: &PgPool, event: &E) -> anyhow::Result<()> {
    let payload = E::Codec::encode(event).map_err(anyhow::Error::from_boxed)?;
    let moved =
        Moved::decode(E::KIND, &payload).context("not its kind")?.map_err(anyhow::Error::from_boxed)?;
    let meta = Meta {
        topic: Moved::TOPIC.name().into(),
        key: Uuid::now_v7().to_string(),
        version: 2,
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, &[E::KIND.as_bytes(), &payload].concat()),
        kind: E::KIND.into(),
        origin: "monolith.payments".into(),
        time: OffsetDateTime::now_utc(),
        headers: Headers::default(),
    };
    let mut tx = pool.begin().await?;
    let handled = QueueReceipts.handle(&mut tx, Received { event: moved, meta }).await;
    handled.map_err(anyhow::Error::from_boxed)?;
    Ok(tx.commit().await?)
}

async fn module_pool(database: &stack::Database, admin: &PgPool) -> anyhow::Result<PgPool> {
    let role = format!("{}_notifications", database.name());
    let authority = database.url().split_once('@').map(|(_, rest)| rest).unwrap_or_default();
    let url: Url = format!("postgres://{role}:secret@{authority}").parse()?;
    ensure_role(admin, &url).await?;
    notifications::grant(admin, &role).await?;
    Ok(pool(&url, &PoolOptions::new("notifications", 2))?)
}
