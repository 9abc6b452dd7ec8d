//! Bad input over HTTP: each has its status and a stable problem body, and nothing of it is stored.

use std::time::Duration;

use anyhow::Result;
use chassis::Secret;
use chassis::token::{Issuer, Role};
use insta::assert_snapshot;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tests::checker::Ended;
use tests::load::Client;
use tests::{Binaries, MONOLITH, SERVICE, Shop, Side, story};

const HOUR: Duration = Duration::from_secs(3600);

/// Status, content type and body of an answer.
async fn told(request: RequestBuilder) -> Result<String> {
    let answer = request.send().await?;
    let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
    let kind = kind.map_or(String::new(), |kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
    Ok(format!("{} {kind}\n{}", status.as_u16(), answer.text().await?))
}

fn post(client: &Client, key: &str) -> RequestBuilder {
    client.request(Method::POST, "/v1/orders").header("idempotency-key", key)
}

/// A good order.
async fn good(client: &Client) -> Result<Value> {
    crate::orders::order(client, "pm_card_visa", "automatic").await
}

/// The same with one member of its first line replaced.
fn with_line(order: &Value, member: &str, value: Value) -> Value {
    let mut order = order.clone();
    order["lines"][0][member] = value;
    order
}

/// A monolith without anything around it: no provider, no service, no inbox.
async fn start(shop: &Shop<'_>) -> Result<Client> {
    shop.migrate_one(Side::Source, &["--seed", "acme"]).await?;
    shop.start_monolith("monolith", "web,relay").await?;
    shop.client("acme")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_orders_are_told_what_is_wrong() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let client = start(&shop).await?;
        let order = good(&client).await?;
        let json = |key: &str, body: &Value| post(&client, key).json(body);

        let broken = post(&client, "a").header("content-type", "application/json").body("{\"lines\": [");
        assert_snapshot!(told(broken).await?, @r#"
        400 application/problem+json
        {"type":"https://banyan.dev/problems/malformed","title":"The request can't be read","status":400,"detail":"Failed to parse the request body as JSON: lines: EOF while parsing a list at line 1 column 11"}
        "#);
        assert_snapshot!(told(json("b", &with_line(&order, "quantity", json!("two")))).await?, @r#"
        400 application/problem+json
        {"type":"https://banyan.dev/problems/malformed","title":"The request can't be read","status":400,"detail":"Failed to deserialize the JSON body into the target type: lines[0].quantity: invalid type: string \"two\", expected i64 at line 1 column 125"}
        "#);
        assert_snapshot!(told(json("c", &with_line(&order, "quantity", json!(0)))).await?, @r#"
        422 application/problem+json
        {"type":"https://banyan.dev/problems/validation","title":"The request breaks a rule","status":422,"detail":"one or more fields are not acceptable; see errors","errors":[{"pointer":"/lines/0/quantity","detail":"must be from 1 to 10000"}]}
        "#);
        assert_snapshot!(told(json("d", &with_line(&order, "quantity", json!(-3)))).await?, @r#"
        422 application/problem+json
        {"type":"https://banyan.dev/problems/validation","title":"The request breaks a rule","status":422,"detail":"one or more fields are not acceptable; see errors","errors":[{"pointer":"/lines/0/quantity","detail":"must be from 1 to 10000"}]}
        "#);
        let nowhere = json!("00000000-0000-4000-8000-000000000000");
        assert_snapshot!(told(json("e", &with_line(&order, "product_id", nowhere))).await?, @r#"
        422 application/problem+json
        {"type":"https://banyan.dev/problems/validation","title":"The request breaks a rule","status":422,"detail":"one or more fields are not acceptable; see errors","errors":[{"pointer":"/lines/0/product_id","detail":"there is no such product"}]}
        "#);
        let mut dollars = order.clone();
        dollars["currency"] = json!("USD");
        assert_snapshot!(told(json("f", &dollars)).await?, @r#"
        422 application/problem+json
        {"type":"https://banyan.dev/problems/validation","title":"The request breaks a rule","status":422,"detail":"one or more fields are not acceptable; see errors","errors":[{"pointer":"/lines/0/product_id","detail":"is sold in EUR, the order is in USD"}]}
        "#);
        let huge = with_line(&order, "note", json!("x".repeat(70_000)));
        assert_snapshot!(told(json("g", &huge)).await?, @r#"
        413 application/problem+json
        {"type":"https://banyan.dev/problems/body-too-large","title":"The body is too large","status":413,"detail":"a body may have at most 65536 bytes"}
        "#);
        let keyless = client.request(Method::POST, "/v1/orders").json(&order);
        assert_snapshot!(told(keyless).await?, @r#"
        400 application/problem+json
        {"type":"https://banyan.dev/problems/malformed","title":"The request can't be read","status":400,"detail":"Idempotency-Key must be given once, as 1 to 255 visible ASCII characters"}
        "#);
        assert_snapshot!(told(post(&client, "i").body(order.to_string())).await?, @r#"
        415 application/problem+json
        {"type":"https://banyan.dev/problems/unsupported-media-type","title":"The body has the wrong content type","status":415,"detail":"the body must be sent with Content-Type: application/json"}
        "#);

        let stored: i64 =
            sqlx::query_scalar("select count(*) from orders.orders").fetch_one(&shop.source).await?;
        assert_eq!(stored, 0, "nothing of it was stored");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_other_tenants_see_nothing() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let client = start(&shop).await?;

        let anonymous = client.with_token("");
        assert_snapshot!(told(anonymous.request(Method::GET, "/v1/orders")).await?, @r#"
        401 application/problem+json
        {"type":"https://banyan.dev/problems/unauthenticated","title":"A valid bearer token is needed","status":401,"detail":"send Authorization: Bearer TOKEN"}
        "#);
        let stranger = Issuer::new("banyan", &Secret::new("another key of thirty-two bytes."));
        let tokens = [
            stranger.issue("ada", "acme", &[Role::Merchant], MONOLITH, HOUR)?,
            shop.issuer().issue("ada", "acme", &[Role::Merchant], SERVICE, HOUR)?,
            shop.issuer().issue_service("ada", MONOLITH, HOUR)?,
            "x.y.z".to_owned(),
        ];
        for token in tokens {
            for path in ["/v1/orders", "/v1/products", "/v1/payments"] {
                assert_eq!(client.with_token(&token).get(path).await?.status, 401, "{path} with {token}");
            }
        }
        let placed = crate::orders::place(&client, "k", &good(&client).await?, Ended::Paid).await?;
        let globex = client.with_token(shop.token("globex", &[Role::Customer, Role::Merchant])?);
        for path in [format!("/v1/orders/{}", placed.order), format!("/v1/payments/{}", placed.payment)] {
            assert_eq!(client.get(&path).await?.status, 200, "{path} for its own tenant");
            assert_eq!(globex.get(&path).await?.status, 404, "{path} for another");
        }
        let unknown = "/v1/orders/00000000-0000-4000-8000-000000000000";
        assert_snapshot!(told(client.request(Method::GET, unknown)).await?, @r#"
        404 application/problem+json
        {"type":"https://banyan.dev/problems/not-found","title":"Not found","status":404,"detail":"there is no such order"}
        "#);
        let customer = client.with_token(shop.token("acme", &[Role::Customer])?);
        let refund = format!("/v1/payments/{}/refunds", proto::PaymentId::new());
        let refused = customer.request(Method::POST, &refund).header("idempotency-key", "k").json(&json!({}));
        assert_snapshot!(told(refused).await?, @r#"
        403 application/problem+json
        {"type":"https://banyan.dev/problems/forbidden","title":"The token does not allow this","status":403,"detail":"needs the role merchant"}
        "#);
        Ok(())
    })
    .await;
}
