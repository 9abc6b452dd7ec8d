//! Bad input, and what is described.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request};
use chassis::token::Role;
use serde_json::{Value, json};

use crate::fixture::{World, post, token};
use crate::moving::Service;

#[tokio::test]
async fn each_bad_order_has_its_status_its_type_and_its_place() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let line = |product: &str, quantity: Value| json!({ "product_id": product, "quantity": quantity });
    let with = |field: &str, value: Value| {
        let mut body = world.order_body();
        body[field] = value;
        body
    };
    let lines = |line: Value| with("lines", json!([line]));
    let many = json!(vec![line(&world.tea, json!(1)); 101]);
    for (body, status, kind, pointer) in [
        (lines(line(&world.tea, json!("two"))), 400, "malformed", None),
        (lines(line(&world.tea, json!(1.5))), 400, "malformed", None),
        (with("capture_method", json!("later")), 400, "malformed", None),
        (with("discount", json!(1)), 400, "malformed", None),
        (lines(line(&world.tea, json!(0))), 422, "validation", Some("/lines/0/quantity")),
        (lines(line(&world.tea, json!(-1))), 422, "validation", Some("/lines/0/quantity")),
        (lines(line("tea", json!(1))), 422, "validation", Some("/lines/0/product_id")),
        (
            lines(line(uuid::Uuid::nil().to_string().as_str(), json!(1))),
            422,
            "validation",
            Some("/lines/0/product_id"),
        ),
        (lines(line(&world.tray, json!(1))), 422, "validation", Some("/lines/0/product_id")),
        (with("currency", json!("eur")), 422, "validation", Some("/currency")),
        (with("lines", json!([])), 422, "validation", Some("/lines")),
        (with("lines", many), 422, "validation", Some("/lines")),
        (with("payment_method", json!("")), 422, "validation", Some("/payment_method")),
    ] {
        let answer = world.post("/v1/orders", "k-1", &body).await?;
        let got = (answer.status, answer.body["type"].as_str(), answer.body["errors"][0]["pointer"].as_str());
        let kind = format!("https://banyan.dev/problems/{kind}");
        assert_eq!(got, (status, Some(kind.as_str()), pointer), "{body}");
    }
    // None of them used the key up.
    world.order("k-1").await?;
    world.close().await
}

#[tokio::test]
async fn bodies_keys_and_tokens_are_looked_at_first() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let good = world.order_body().to_string();
    let large = vec![b' '; 64 * 1024 + 1];
    let merchant = token("acme", &[Role::Merchant]);
    let keyless = Request::post("/v1/orders").header("content-type", "application/json");
    for (request, status) in [
        (post("/v1/orders", "k").body(Body::from("{"))?, 400),
        (post("/v1/orders", "k").body(Body::from(large))?, 413),
        (post("/v1/orders", "two words").body(Body::from(good.clone()))?, 400),
        (keyless.header("authorization", &merchant).body(Body::from(good.clone()))?, 400),
        (Request::post("/v1/orders").body(Body::from(good.clone()))?, 401),
        (Request::get("/v1/orders").header("authorization", "Bearer nonsense").body(Body::empty())?, 401),
        (Request::get("/v1/orders?limit=0").header("authorization", &merchant).body(Body::empty())?, 400),
        (Request::get("/v1/orders/seven").header("authorization", &merchant).body(Body::empty())?, 404),
        (Request::get("/v2").body(Body::empty())?, 404),
        (Request::delete("/v1/orders").header("authorization", &merchant).body(Body::empty())?, 405),
    ] {
        let what = format!("{} {}", request.method(), request.uri());
        assert_eq!(world.send(request).await?.status, status, "{what}");
    }
    world.close().await
}

#[tokio::test]
async fn a_customer_may_order_but_not_refund_and_an_operator_may_neither() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let order = world.order("k-1").await?;
    let refund = format!("/v1/payments/{}/refunds", order["payment_id"].as_str().unwrap_or_default());
    for (role, path, status) in [
        (Role::Customer, "/v1/orders", 201),
        (Role::Operator, "/v1/orders", 403),
        (Role::Customer, refund.as_str(), 403),
    ] {
        let body = if path == "/v1/orders" { world.order_body() } else { json!({}) };
        let request = Request::post(path)
            .header("authorization", token("acme", &[role]))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("{role}"));
        let answer = world.send(request.body(Body::from(body.to_string()))?).await?;
        assert_eq!(answer.status, status, "{role} {path}");
    }
    world.close().await
}

#[tokio::test]
async fn a_repeat_is_replayed_and_a_reused_key_is_not() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let first = world.order("k-1").await?;
    let again = world.post("/v1/orders", "k-1", &world.order_body()).await?;
    assert_eq!((again.status, again.replayed, &again.body), (201, true, &first));
    let mut other = world.order_body();
    other["lines"][0]["quantity"] = json!(3);
    let reused = world.post("/v1/orders", "k-1", &other).await?;
    assert_eq!(
        (reused.status, reused.body["title"].as_str()),
        (422, Some("The Idempotency-Key was used for another request"))
    );
    let path = format!("/v1/orders/{}", first["id"].as_str().unwrap_or_default());
    assert_eq!(world.get("acme", &path).await?.body, first);
    assert_eq!(world.get("globex", &path).await?.status, 404, "another tenant's");
    world.close().await
}

#[tokio::test]
async fn what_is_described_exists_and_needs_a_token() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let api = world.send(Request::get("/openapi.json").body(Body::empty())?).await?.body;
    let paths = api["paths"].as_object().cloned().unwrap_or_default();
    assert_eq!(paths.len(), 10);
    for (path, operations) in &paths {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let uri = path.replace("{id}", "00000000-0000-0000-0000-000000000000");
            let method: Method = method.to_uppercase().parse()?;
            let request = Request::builder().method(method.clone()).uri(uri).body(Body::empty())?;
            // The provider has no token; its webhooks are signed.
            let refused = if path == "/webhooks/provider" { 400 } else { 401 };
            assert_eq!(world.send(request).await?.status, refused, "{method} {path}");
            for status in [&refused.to_string(), "503"] {
                let schema =
                    &operation["responses"][status]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
            }
        }
    }
    world.close().await
}
