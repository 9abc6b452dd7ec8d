//! The ledger over HTTP.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use chassis::token::Role;
use serde_json::json;

use crate::fixture::{World, token};
use crate::moving::Service;

/// Books an amount on two accounts of acme for a payment.
async fn book(world: &World, payment: &str, minor: i64) -> anyhow::Result<()> {
    let sql = "insert into payments.ledger_entry (transaction_id, account, payment_id, tenant, amount_minor, currency)
               select transaction_id, line.account, $1::text::uuid, 'acme', line.sign * $2, 'EUR'
               from gen_random_uuid() transaction_id, (values ('clearing', 1), ('payable', -1)) line (account, sign)";
    sqlx::query(sql).bind(payment).bind(minor).execute(&world.admin).await?;
    Ok(())
}

#[tokio::test]
async fn a_merchant_reads_the_trial_balance_of_its_own_tenant_only() -> anyhow::Result<()> {
    let world = World::open(Arc::new(Service::default())).await?;
    let path = "/v1/ledger/trial-balance";
    assert_eq!(world.get("acme", path).await?.body, json!({ "balances": [] }));
    let payment = "0198c5f2-7d1a-7b3c-9a51-0e6a5d1f2b3c";
    let sql = "insert into payments.payment (id, tenant, order_id, amount_minor, currency, capture_method, payment_method,
                                             status, version, requested_at)
               values ($1::text::uuid, 'acme', gen_random_uuid(), 1, 'EUR', 'manual', 'pm', 'requested', 1, now())";
    sqlx::query(sql).bind(payment).execute(&world.admin).await?;
    for minor in [i64::MAX, i64::MAX, 7, -9] {
        book(&world, payment, minor).await?;
    }
    let all = (i128::from(i64::MAX) * 2 + 7).to_string();
    let rest = (i128::from(i64::MAX) * 2 - 2).to_string();
    let answer = world.get("acme", path).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        json!({ "balances": [
            { "account": "clearing", "currency": "EUR", "debits_minor": all, "credits_minor": "9", "balance_minor": rest },
            { "account": "payable", "currency": "EUR", "debits_minor": "9", "credits_minor": all,
              "balance_minor": format!("-{rest}") },
        ] })
    );
    assert_eq!(world.get("globex", path).await?.body, json!({ "balances": [] }), "another tenant's");
    for (role, status) in [(Role::Customer, 403), (Role::Operator, 403), (Role::Merchant, 200)] {
        let request =
            Request::get(path).header("authorization", token("acme", &[role])).body(Body::empty())?;
        assert_eq!(world.send(request).await?.status, status, "{role}");
    }
    world.close().await
}
