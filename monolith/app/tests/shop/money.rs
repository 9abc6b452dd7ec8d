//! Amounts and currencies that can't be, each with its code; none changes a row.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::fixture::World;
use crate::moving::Service;

/// Every row of every table, as the database has it: another row, or another version of one, shows.
async fn rows(world: &World) -> anyhow::Result<Vec<String>> {
    let tables = "select c.oid::regclass::text from pg_class c
        where c.relkind = 'r' and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&world.admin).await?;
    anyhow::ensure!(tables.iter().any(|table| table == "payments.intent"), "{tables:?}");
    let mut rows = Vec::new();
    for table in tables {
        let sql =
            format!("select '{table} ' || t.xmin::text || ' ' || md5(t::text) from {table} t order by 1");
        rows.extend(sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch_all(&world.admin).await?);
    }
    Ok(rows)
}

/// A payment of an order, as far as the owner would have brought it: its id.
async fn payment(world: &World, key: &str, status: &str) -> anyhow::Result<String> {
    let order = world.order(key).await?;
    let id = order["payment_id"].as_str().unwrap_or_default().to_owned();
    let captured = if status == "captured" { 4_700 } else { 0 };
    let sql = "insert into payments.payment (id, tenant, order_id, amount_minor, currency, capture_method, payment_method,
            status, authorized_minor, captured_minor, version, requested_at)
        select payment_id, tenant, id, total_minor, currency, capture_method, payment_method, $2, total_minor,
            least($3::bigint, total_minor), 1, now()
        from orders.orders where payment_id = $1::text::uuid";
    sqlx::query(sql).bind(&id).bind(status).bind(captured).execute(&world.admin).await?;
    Ok(id)
}

#[tokio::test]
async fn each_bad_amount_has_its_code_and_changes_no_row() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let (authorized, captured) =
        (payment(&world, "k-1", "authorized").await?, payment(&world, "k-2", "captured").await?);
    let nobodys = proto::PaymentId::new().to_string();
    let (capture, refund) = (format!("{authorized}/capture"), format!("{captured}/refunds"));
    let bad = |amount: Value, code| {
        (json!({ "amount_minor": amount }), 422, "validation", Some(("/amount_minor", code)))
    };
    let unknown = Some(("/currency", "currency-unknown"));
    let of = |currency: &str| json!({ "amount_minor": 1, "currency": currency });
    let before = rows(&world).await?;
    for path in [&capture, &refund] {
        for (body, status, kind, error) in [
            bad(json!(0), "amount-zero"),
            bad(json!(-1), "amount-negative"),
            bad(json!(i64::MIN), "amount-negative"),
            bad(json!(9_223_372_036_854_775_808_u64), "amount-overflow"),
            bad(json!(1e20), "amount-overflow"),
            bad(json!(-1e20), "amount-overflow"),
            bad(json!(10.5), "amount-precision"),
            bad(json!("10.00"), "amount-malformed"),
            bad(json!("10"), "amount-malformed"),
            bad(json!(true), "amount-malformed"),
            bad(Value::Null, "amount-malformed"),
            (json!({ "amount_minor": i64::MAX }), 409, "amount-too-large", None),
            (json!({ "amount_minor": 1_000_000 }), 409, "amount-too-large", None),
            (of("USD"), 422, "currency-mismatch", None),
            (of("XXX"), 422, "validation", unknown),
            (of("eur"), 422, "validation", unknown),
            (of("ZZZ"), 422, "validation", unknown),
        ] {
            let answer = world.post(&format!("/v1/payments/{path}"), "k", &body).await?;
            let wrong = &answer.body["errors"][0];
            let wrong = wrong["pointer"].as_str().zip(wrong["code"].as_str());
            let told = (answer.status, answer.body["type"].as_str(), wrong);
            let kind = format!("https://banyan.dev/problems/{kind}");
            assert_eq!(told, (status, Some(kind.as_str()), error), "{path} {body}");
        }
    }
    for (path, body, status, kind) in [
        (format!("{authorized}/refunds"), json!({}), 409, "payment-refused"),
        (format!("{captured}/capture"), json!({}), 409, "payment-refused"),
        (format!("{captured}/void"), json!({}), 409, "payment-refused"),
        (format!("{nobodys}/capture"), json!({}), 404, "not-found"),
        (format!("{nobodys}/refunds"), of("EUR"), 404, "not-found"),
        ("42/refunds".to_owned(), json!({}), 404, "not-found"),
    ] {
        let answer = world.post(&format!("/v1/payments/{path}"), "k", &body).await?;
        let kind = format!("https://banyan.dev/problems/{kind}");
        assert_eq!(
            (answer.status, answer.body["type"].as_str()),
            (status, Some(kind.as_str())),
            "{path} {body}"
        );
    }
    assert_eq!(rows(&world).await?, before);
    let touched = "update payments.payment set updated_at = updated_at where id = $1::text::uuid";
    sqlx::query(touched).bind(&captured).execute(&world.admin).await?;
    assert_ne!(rows(&world).await?, before, "a row that is written again shows");
    world.close().await
}
