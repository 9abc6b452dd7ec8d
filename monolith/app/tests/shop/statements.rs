//! A list costs as many statements with fifty rows as with two.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use chassis::token::Role;
use serde_json::{Value, json};
use stack::statements;

use crate::fixture::{World, post, token};
use crate::moving::Service;

#[tokio::test]
async fn no_list_costs_a_statement_for_each_row() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    for (tenant, rows) in [("few", 2), ("many", 50)] {
        fill(&world, tenant, rows).await?;
    }
    let api = world.send(Request::get("/openapi.json").body(Body::empty())?).await?.body;
    let lists: Vec<&str> = lists(&api).collect();
    assert!(lists.contains(&"/v1/payments") && lists.contains(&"/v1/orders/{id}"), "{lists:?}");
    for path in lists {
        let mut counts = Vec::new();
        for (tenant, rows) in [("few", 2), ("many", 50)] {
            let uri = filled(&world, path, tenant).await?;
            // The first time may prepare what the second one uses.
            let answer = world.get(tenant, &uri).await?;
            assert_eq!(
                (answer.status, entries(&answer.body)),
                (200, usize::try_from(rows)?),
                "{uri} {}",
                answer.body
            );
            let before = statements::sent();
            world.get(tenant, &uri).await?;
            counts.push(statements::sent() - before);
        }
        println!("{path}: {counts:?} statements for 2 and for 50 rows");
        assert!(
            counts[0] > 0 && counts[0] == counts[1],
            "{path}: {counts:?} statements for 2 and for 50 rows"
        );
    }
    world.close().await
}

/// Routes that are read and answer with a list: they have pages, or an array in their answer.
fn lists(api: &Value) -> impl Iterator<Item = &str> {
    let paths = api["paths"].as_object().into_iter().flatten();
    let is_list = |get: &Value| {
        let parameters = get["parameters"].as_array().into_iter().flatten();
        let mut names = parameters.filter_map(|parameter| parameter["name"].as_str());
        let schema = &get["responses"]["200"]["content"]["application/json"]["schema"];
        names.any(|name| name == "limit" || name == "after") || has_array(api, schema)
    };
    paths.filter(move |(_, operations)| is_list(&operations["get"])).map(|(path, _)| path.as_str())
}

fn has_array(api: &Value, schema: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return has_array(api, &api["components"]["schemas"][name]);
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    schema["items"].is_object() || properties.into_iter().any(|(_, schema)| has_array(api, schema))
}

/// Rows of every list for a tenant: products, orders of as many lines, their payments, balances.
async fn fill(world: &World, tenant: &str, rows: i64) -> anyhow::Result<()> {
    let products = "insert into catalog.product (id, tenant, sku, name, price_minor, currency)
        select gen_random_uuid(), $1, 'sku-' || n, 'Thing ' || n, 100, 'EUR' from generate_series(1, $2) n";
    sqlx::query(products).bind(tenant).bind(rows).execute(&world.admin).await?;
    let products = world.get(tenant, "/v1/products").await?.body;
    let products = products["products"].as_array().cloned().unwrap_or_default();
    let lines: Vec<Value> =
        products.iter().map(|it| json!({ "product_id": it["id"], "quantity": 1 })).collect();
    let order = json!({ "lines": lines, "currency": "EUR", "payment_method": "pm_card_visa" });
    for n in 0..rows {
        let request = post("/v1/orders", &format!("k-{n}"));
        let mut request = request.body(Body::from(order.to_string()))?;
        request.headers_mut().insert("authorization", token(tenant, &[Role::Merchant]).parse()?);
        let answer = world.send(request).await?;
        anyhow::ensure!(answer.status == 201, "{answer:?}");
    }
    let payments =
        "insert into payments.payment (id, tenant, order_id, amount_minor, currency, capture_method,
            payment_method, status, version, requested_at)
        select payment_id, tenant, id, 100, 'EUR', 'automatic', 'pm_card_visa', 'requested', 1, now()
        from orders.orders where tenant = $1";
    sqlx::query(payments).bind(tenant).execute(&world.admin).await?;
    // Each account and currency is a row of the trial balance.
    let currencies = proto::Currency::all().take(usize::try_from(rows / 2)?);
    let currencies: Vec<String> = currencies.map(|currency| currency.to_string()).collect();
    let booked = "with booked as materialized (select gen_random_uuid() as id, currency from unnest($2::text[]) currency)
        insert into payments.ledger_entry (transaction_id, account, payment_id, tenant, amount_minor, currency)
        select booked.id, line.account, (select p.id from payments.payment p where p.tenant = $1 limit 1), $1, line.minor,
            booked.currency
        from booked, (values ('clearing', 5), ('payable', -5)) line (account, minor)";
    sqlx::query(booked).bind(tenant).bind(currencies).execute(&world.admin).await?;
    Ok(())
}

/// A list's address. Each new list route needs its case here, and its rows in [`fill`].
async fn filled(world: &World, path: &str, tenant: &str) -> anyhow::Result<String> {
    Ok(match path {
        "/v1/products" | "/v1/orders" | "/v1/payments" => format!("{path}?limit=200"),
        "/v1/ledger/trial-balance" => path.to_owned(),
        "/v1/orders/{id}" => {
            let orders = world.get(tenant, "/v1/orders?limit=1").await?.body;
            path.replace("{id}", orders["orders"][0]["id"].as_str().unwrap_or_default())
        }
        path => anyhow::bail!("GET {path} answers with a list: it needs a case in this test"),
    })
}

/// How many the answer's list has.
fn entries(body: &Value) -> usize {
    let arrays = body.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_array());
    arrays.chain(body.as_array()).map(Vec::len).next().unwrap_or_default()
}
