//! Open work of one tenant does not keep another's waiting, however much it is.

use super::*;

/// Requested payments of a tenant, all due; with intents without an answer when `unknown`.
async fn fill(world: &World, tenant: &str, count: i32, unknown: bool) {
    let sql = "
        insert into payments.payment (id, tenant, order_id, amount_minor, currency, capture_method, payment_method, status,
                                      version, requested_at, look_at)
        select gen_random_uuid(), $1, gen_random_uuid(), 1000, 'EUR', 'automatic', 'pm_card_visa', 'requested', 1,
            now() - interval '1 day', now() - interval '1 hour' + n * interval '1 millisecond'
        from generate_series(1, $2) n";
    sqlx::query(sql).bind(tenant).bind(count).execute(&world.admin).await.unwrap();
    if !unknown {
        return;
    }
    let sql = "
        insert into payments.intent (command_id, payment_id, tenant, operation, amount_minor, state, next_at, claimed_until)
        select gen_random_uuid(), p.id, p.tenant, 'charge', p.amount_minor, 'unknown', p.look_at, p.look_at
        from payments.payment p where p.tenant = $1";
    sqlx::query(sql).bind(tenant).execute(&world.admin).await.unwrap();
}

#[tokio::test]
async fn a_single_payment_beside_ten_thousand_of_another_tenant_is_charged_by_the_next_look() {
    let world = World::new("fair").await;
    let mut connection = world.home.pool.acquire().await.unwrap();
    fill(&world, "big", 10_000, false).await;
    let id = world.request("pm_card_visa", false).await;
    let claimed = store::claim_requested(&mut connection, "", 4).await.unwrap();
    assert!(claimed.work.contains(&id), "{claimed:?}");
    assert_eq!(claimed.work.len(), 4, "the rest of the batch is the other's");
    let again = store::claim_requested(&mut connection, "", 4).await.unwrap();
    assert!(again.work.iter().all(|it| !claimed.work.contains(it)), "claimed is claimed");
    drop(connection);
    world.end().await;
}

#[tokio::test]
async fn a_single_unknown_beside_ten_thousand_of_another_tenant_is_asked_for_by_the_next_look() {
    let world = World::new("fair_due").await;
    let mut connection = world.home.pool.acquire().await.unwrap();
    fill(&world, "big", 10_000, true).await;
    fill(&world, "acme", 1, true).await;
    let claimed = store::claim_due(&mut connection, "", 4).await.unwrap();
    assert_eq!(claimed.work.len(), 4);
    assert_eq!(claimed.work.iter().filter(|it| it.payment.tenant == tenant()).count(), 1);
    assert!(claimed.work.iter().all(|it| it.tries == 1));
    // Payments whose intents are open are not begun again, and do not stand before others for long.
    let touched = store::claim_requested(&mut connection, "", 16).await.unwrap();
    assert_eq!((touched.work.len(), touched.touched), (0, 16));
    drop(connection);
    world.end().await;
}

#[tokio::test]
async fn tenants_beyond_one_look_are_visited_by_the_next() {
    let world = World::new("round").await;
    let mut connection = world.home.pool.acquire().await.unwrap();
    for n in 0..70 {
        fill(&world, &format!("tenant-{n:02}"), 1, false).await;
    }
    let first = store::claim_requested(&mut connection, "", 100).await.unwrap();
    assert_eq!((first.work.len(), first.after.as_str()), (64, "tenant-63"));
    let second = store::claim_requested(&mut connection, &first.after, 100).await.unwrap();
    assert_eq!((second.work.len(), second.after.as_str()), (6, ""));
    drop(connection);
    world.end().await;
}

#[tokio::test]
async fn a_look_costs_the_same_whether_a_tenant_has_a_hundred_thousand_open_payments() {
    let world = World::new("cost").await;
    fill(&world, "big", 100_000, true).await;
    fill(&world, "acme", 1, true).await;
    for sql in [store::SEE_DUE, store::SEE_REQUESTED] {
        let explain = format!("explain (analyze, buffers, timing off) {sql}");
        let mut tx = world.home.pool.begin_with(store::BY_INDEX).await.unwrap();
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).persistent(false);
        let plan: Vec<String> = query.bind("").bind(64).bind(64_i64).fetch_all(&mut *tx).await.unwrap();
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan"), "{plan}");
        // The root's line: pages of everything.
        let pages = plan.lines().find_map(|line| line.trim().strip_prefix("Buffers: shared ")).unwrap();
        let pages: u32 =
            pages.split(' ').filter_map(|part| part.split_once('=')?.1.parse::<u32>().ok()).sum();
        println!("{pages} pages of a look beside 100,000 rows");
        assert!(pages < 400, "{pages} pages\n{plan}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_engine_with_one_permit_comes_to_every_tenant() {
    let world = World::new("one_permit").await;
    for n in 0..70 {
        fill(&world, &format!("tenant-{n:02}"), 1, true).await;
    }
    let limits = Limits { concurrency: 1, ..Limits::default() };
    let shutdown = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(Engine::new(world.home.clone(), limits).run(shutdown.clone()));
    let last = async {
        let sql = "select tries from payments.intent where tenant = 'tenant-69'";
        while sqlx::query_scalar::<_, i32>(sql).fetch_one(&world.admin).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, last).await.unwrap();
    shutdown.cancel();
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    world.end().await;
}
