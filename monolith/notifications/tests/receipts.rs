//! Receipts against PostgreSQL, under the module's own role.

use chassis::Url;
use chassis::database::{PoolOptions, pool};
use chassis::role::ensure_role;
use notifications::{QueueReceipt, QueueRefundReceipt};
use outbox::{Event as _, Handler, Headers, Incoming, Meta, Received};
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
    handle(&pool, &QueueReceipt, captured, PaymentCaptured::KIND).await?;
    let refunded =
        PaymentRefunded { state: Some(state), command: Some(command), ..PaymentRefunded::default() };
    handle(&pool, &QueueRefundReceipt, refunded, PaymentRefunded::KIND).await?;
    let stateless = handle(&pool, &QueueReceipt, PaymentCaptured::default(), PaymentCaptured::KIND).await;
    assert_eq!(stateless.unwrap_err().to_string(), "the event carries no state");

    let sql = "select subject, amount_minor from notifications.receipt order by subject";
    let receipts: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&admin).await?;
    assert_eq!(receipts, [("payment".to_owned(), 900), ("refund".to_owned(), 200)]);
    pool.close().await;
    admin.close().await;
    Ok(database.drop_now().await?)
}

async fn handle<H: Handler>(pool: &PgPool, handler: &H, event: H::Event, kind: &str) -> anyhow::Result<()> {
    let meta = Meta {
        topic: H::Event::TOPIC.name().into(),
        key: Uuid::now_v7().to_string(),
        version: 2,
        id: Uuid::now_v7(),
        kind: kind.into(),
        origin: "monolith.payments".into(),
        time: OffsetDateTime::now_utc(),
        headers: Headers::default(),
    };
    let mut tx = pool.begin().await?;
    let handled = handler.handle(&mut tx, Received { event, meta }).await;
    handled.map_err(|error| anyhow::anyhow!(error.to_string()))?;
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
