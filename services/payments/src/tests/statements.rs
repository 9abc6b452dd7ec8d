//! A list costs as many statements with fifty rows as with two.

use stack::statements;

use super::*;

/// Payments of a tenant, and for each two a booking in a currency of its own: as many rows of the trial balance.
async fn fill(world: &World, tenant: &str, rows: i64) {
    let payments =
        "insert into payments.payment (id, tenant, order_id, amount_minor, currency, capture_method,
            payment_method, status, version, requested_at)
        select gen_random_uuid(), $1, gen_random_uuid(), 100, 'EUR', 'automatic', 'pm_card_visa', 'requested', 1, now()
        from generate_series(1, $2) n";
    sqlx::query(payments).bind(tenant).bind(rows).execute(&world.admin).await.unwrap();
    let currencies = proto::Currency::all().take(usize::try_from(rows / 2).unwrap());
    let currencies: Vec<String> = currencies.map(|currency| currency.to_string()).collect();
    let booked = "with booked as materialized (select gen_random_uuid() as id, currency from unnest($2::text[]) currency)
        insert into payments.ledger_entry (transaction_id, account, payment_id, tenant, amount_minor, currency)
        select booked.id, line.account, (select p.id from payments.payment p where p.tenant = $1 limit 1), $1, line.minor,
            booked.currency
        from booked, (values ('clearing', 5), ('payable', -5)) line (account, minor)";
    sqlx::query(booked).bind(tenant).bind(currencies).execute(&world.admin).await.unwrap();
}

fn of<T>(tenant: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    set_tenant(&mut request, tenant).unwrap();
    request
}

/// How many payments a tenant's list has.
async fn listed(world: &World, tenant: &str) -> usize {
    let request = v1::ListPaymentsRequest { page_size: 200, page_token: String::new() };
    world.client().list_payments(of(tenant, request)).await.unwrap().into_inner().payments.len()
}

/// How many rows a tenant's trial balance has.
async fn balanced(world: &World, tenant: &str) -> usize {
    let answer = world.client().get_trial_balance(of(tenant, v1::GetTrialBalanceRequest {})).await;
    answer.unwrap().into_inner().balances.len()
}

/// Statements of a call the second time, for the first may prepare what that one uses; the call says how many rows it got.
async fn sent(rows: usize, call: impl AsyncFn() -> usize) -> usize {
    assert_eq!(call().await, rows);
    let before = statements::sent();
    call().await;
    statements::sent() - before
}

#[tokio::test]
async fn no_list_costs_a_statement_for_each_row() {
    // Its engine would send statements of its own meanwhile.
    let world = World::without_engine("statements").await;
    let mut counts = Vec::new();
    for (tenant, rows) in [("few", 2), ("many", 50)] {
        fill(&world, tenant, rows).await;
        let rows = usize::try_from(rows).unwrap();
        let list = sent(rows, async || listed(&world, tenant).await).await;
        counts.push((list, sent(rows, async || balanced(&world, tenant).await).await));
    }
    println!("{counts:?} statements of the list and the balance, for 2 and for 50 rows");
    assert!(counts[0].0 > 0 && counts[0].1 > 0, "{counts:?}");
    assert_eq!(counts[0], counts[1], "for 2 and for 50 rows");
    world.end().await;
}
