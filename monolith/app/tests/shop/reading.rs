//! Reads of a cohort by the service's copy.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use chassis::token::Role;

use crate::fixture::{Answer, World, token};
use crate::moving::Service;

/// `GET` by a client that says what it has seen already.
async fn get_at_least(world: &World, path: &str, version: &str) -> anyhow::Result<Answer> {
    let request = Request::get(path).header("authorization", token("acme", &[Role::Merchant]));
    world.send(request.header("x-min-version", version).body(Body::empty())?).await
}

async fn enter(world: &World, stage: &str) -> anyhow::Result<()> {
    let sql = "update strangler.migration set stage = $1, tenants = '{acme}', revision = revision + 1";
    sqlx::query(sql).bind(stage).execute(&world.admin).await?;
    Ok(world.half.reads.look().await?)
}

#[tokio::test]
async fn the_cohort_reads_the_copy_unless_it_has_seen_more() -> anyhow::Result<()> {
    let service = Arc::new(Service::default());
    let world = World::open(service.clone()).await?;
    let order = world.order("k-1").await?;
    let payment = order["payment_id"].as_str().unwrap_or_default();
    let path = format!("/v1/payments/{payment}");
    // The source has not applied the first event; the service says that the payment is authorized.
    service.knows(world.shop.payments.find(&"acme".parse()?, payment.parse()?).await?);
    assert_eq!(world.get("acme", &path).await?.body["status"], "requested", "the owner answers");

    enter(&world, "reading").await?;
    assert_eq!(world.get("acme", &path).await?.body["status"], "authorized", "the copy answers");
    assert_eq!(get_at_least(&world, &path, "1").await?.body["status"], "authorized");
    let newer = get_at_least(&world, &path, "2").await?;
    assert_eq!((newer.status, &newer.body["status"]), (200, &"requested".into()), "the copy is too old");
    assert_eq!(world.get("globex", &path).await?.status, 404, "another tenant's");
    for wrong in ["-1", "two"] {
        assert_eq!(get_at_least(&world, &path, wrong).await?.status, 400, "{wrong}");
    }

    world.half.reads.look().await?;
    let sql = "select string_agg(class || ' ' || count, ', ' order by class)
               from (select class, sum(count) as count from strangler.read_comparison group by class) c";
    let counts: String = sqlx::query_scalar(sql).fetch_one(&world.admin).await?;
    assert_eq!(counts, "copy 2, lag 1");
    enter(&world, "following").await?;
    assert_eq!(world.get("acme", &path).await?.body["status"], "requested", "the owner again");
    world.close().await
}
