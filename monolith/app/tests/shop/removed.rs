//! The API over a sealed source, by a program without its half of payments.

use std::sync::Arc;

use app::RetiredDomain;
use payments::{Delivered, Epoch, Notice};
use proto::PaymentId;
use serde_json::Value;
use strangler::{Domain as _, Key, Movable as _};
use time::OffsetDateTime;

use crate::fixture::World;
use crate::moving::Service;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[tokio::test]
async fn there_is_no_table_of_payments_and_the_service_has_all_there_is() -> anyhow::Result<()> {
    let service = Arc::new(Service::default());
    let world = World::open(service.clone()).await?;
    let there: bool =
        sqlx::query_scalar("select to_regnamespace('payments') is not null").fetch_one(&world.admin).await?;
    assert!(!there, "no schema was made");
    assert_eq!(world.get("acme", "/v1/payments").await?.status, 503, "the service was asked");

    let order = world.order("k-1").await?;
    let payment: PaymentId = text(&order, "payment_id").parse()?;
    service.knows(world.shop.payments.find(&"acme".parse()?, payment).await?);
    let list = world.get("acme", "/v1/payments").await?;
    assert_eq!((list.status, text(&list.body["payments"][0], "id")), (200, text(&order, "payment_id")));
    assert_eq!(world.get("acme", "/v1/ledger/trial-balance").await?.status, 503, "the service was asked");
    let owner: String = sqlx::query_scalar("select owner from strangler.owner where key = $1")
        .bind(payment.to_string())
        .fetch_one(&world.admin)
        .await?;
    assert_eq!(owner, "target", "it was born there");
    world.close().await
}

#[tokio::test]
async fn a_notice_of_a_payment_that_the_service_lacks_is_early() -> anyhow::Result<()> {
    let service = Arc::new(Service::default());
    let world = World::open(service.clone()).await?;
    let order = world.order("k-1").await?;
    let notice = Notice {
        id: "evt_1".into(),
        kind: "payment_intent.succeeded".into(),
        object: "pi_1".into(),
        status: "succeeded".into(),
        payment: text(&order, "payment_id").parse()?,
        tenant: "acme".parse()?,
        command: None,
        created: OffsetDateTime::now_utc(),
    };
    let desk = &world.shop.payments;
    assert_eq!(desk.deliver(&notice, Epoch(0)).await?, Delivered::Early);
    service.knows(desk.find(&notice.tenant, notice.payment).await?);
    assert_eq!(desk.deliver(&notice, Epoch(0)).await?, Delivered::Applied);
    world.close().await
}

#[tokio::test]
async fn the_controller_learns_the_keys_and_nothing_else() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let order = world.order("k-1").await?;
    let domain = RetiredDomain::new(world.shop.orders.clone());
    let key = text(&order, "payment_id").to_owned();
    let keys = domain.keys(None, 10).await.map_err(|error| anyhow::anyhow!(error))?;
    assert_eq!(keys, [Key { tenant: "acme".to_owned(), key: key.clone() }]);
    assert!(domain.begin().await.is_err() && domain.copies(None, None, 1).await.is_err());
    assert!(domain.versions(1).await.is_err() && domain.reverse_feed(&[key]).await.is_err());
    assert!(domain.broken().await.is_err(), "nobody may read an invariant out of nothing");
    world.close().await
}
