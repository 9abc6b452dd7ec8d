//! Open work of one tenant does not keep another's waiting, however much it is.

use super::*;
use crate::store::Floors;

/// Payments that went from requested to captured while an old snapshot was open.
const DONE: i32 = 50_000;

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

/// Pages that a look reads which begins there.
async fn pages(world: &World, sql: &str, start: store::Start) -> u32 {
    let explain = format!("explain (analyze, buffers, timing off) {sql}");
    let mut tx = world.home.pool.begin_with(store::BY_INDEX).await.unwrap();
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).persistent(false);
    let query = query.bind(start.walk_after).bind(start.walk_max).bind(start.since).bind(64_i64);
    let query = query.bind(start.tenants).bind(start.floors).bind(64_i64).bind(1_f64);
    let plan: Vec<String> = query.fetch_all(&mut *tx).await.unwrap();
    let plan = plan.join("\n");
    assert!(!plan.contains("Seq Scan"), "{plan}");
    // The root's line: pages of everything.
    let pages = plan.lines().find_map(|line| line.trim().strip_prefix("Buffers: shared ")).unwrap();
    // What a walk writes down on its way is no reading.
    let is_read = |what: &str| ["hit", "read"].contains(&what);
    let counts = pages.split(' ').filter_map(|part| part.split_once('='));
    counts.filter(|(what, _)| is_read(what)).map(|(_, count)| count.parse::<u32>().unwrap()).sum()
}

#[tokio::test]
async fn a_single_payment_beside_ten_thousand_of_another_tenant_is_charged_by_the_next_look() {
    let world = World::new("fair").await;
    let mut connection = world.home.pool.acquire().await.unwrap();
    fill(&world, "big", 10_000, false).await;
    let id = world.request("pm_card_visa", false).await;
    let mut floors = Floors::default();
    let claimed = store::claim_requested(&mut connection, &mut floors, 4).await.unwrap();
    assert!(claimed.work.iter().any(|it| it.id == id), "{claimed:?}");
    assert_eq!(claimed.work.len(), 4, "the rest of the batch is the other's");
    let again = store::claim_requested(&mut connection, &mut floors, 4).await.unwrap();
    assert!(again.work.iter().all(|it| claimed.work.iter().all(|was| was.id != it.id)), "claimed is claimed");
    // One that comes while the engine knows of the others' ten thousand.
    let id = world.request("pm_card_visa", false).await;
    let claimed = store::claim_requested(&mut connection, &mut floors, 4).await.unwrap();
    assert!(claimed.work.iter().any(|it| it.id == id), "{claimed:?}");
    assert_eq!(claimed.work.len(), 4);
    drop(connection);
    world.end().await;
}

#[tokio::test]
async fn a_single_unknown_beside_ten_thousand_of_another_tenant_is_asked_for_by_the_next_look() {
    let world = World::new("fair_due").await;
    let mut connection = world.home.pool.acquire().await.unwrap();
    fill(&world, "big", 10_000, true).await;
    fill(&world, "acme", 1, true).await;
    let claimed = store::claim_due(&mut connection, &mut Floors::default(), 4).await.unwrap();
    assert_eq!(claimed.work.len(), 4);
    assert_eq!(claimed.work.iter().filter(|it| it.payment.tenant == tenant()).count(), 1);
    assert!(claimed.work.iter().all(|it| it.tries == 1));
    // Payments whose intents are open are not begun again, and do not stand before others for long.
    let touched = store::claim_requested(&mut connection, &mut Floors::default(), 16).await.unwrap();
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
    let mut floors = Floors::default();
    let first = store::claim_requested(&mut connection, &mut floors, 100).await.unwrap();
    assert_eq!((first.work.len(), floors.is_through()), (64, false));
    let second = store::claim_requested(&mut connection, &mut floors, 100).await.unwrap();
    let new = second.work.iter().filter(|it| first.work.iter().all(|was| was.id != it.id));
    assert_eq!(new.count(), 6, "the last of them");
    drop(connection);
    world.end().await;
}

#[tokio::test]
async fn a_look_costs_the_same_whether_a_tenant_has_a_hundred_thousand_open_payments() {
    let world = World::new("cost").await;
    fill(&world, "big", 100_000, true).await;
    fill(&world, "acme", 1, true).await;
    for sql in [store::SEE_DUE, store::SEE_REQUESTED] {
        let pages = pages(&world, sql, Floors::default().start()).await;
        println!("{pages} pages of a look beside 100,000 rows");
        assert!(pages < 400, "{pages} pages");
    }
    world.end().await;
}

#[tokio::test]
async fn a_look_beside_an_old_snapshot_does_not_read_what_was_done_since() {
    let world = World::new("snapshot").await;
    let mut connection = world.home.pool.acquire().await.unwrap();
    fill(&world, "big", DONE, true).await;
    let mut old = world.admin.begin_with("begin isolation level repeatable read").await.unwrap();
    sqlx::query("select count(*) from payments.payment").execute(&mut *old).await.unwrap();
    let sql = "update payments.payment set status = 'captured'; update payments.intent set state = 'done'";
    sqlx::raw_sql(sql).execute(&world.admin).await.unwrap();
    fill(&world, "acme", 1, true).await;
    let (mut due, mut requested) = (Floors::default(), Floors::default());
    assert_eq!(store::claim_due(&mut connection, &mut due, 4).await.unwrap().touched, 1);
    assert_eq!(store::claim_requested(&mut connection, &mut requested, 4).await.unwrap().touched, 1);
    for _ in ["with statistics of before", "of now"] {
        for (sql, floors) in [(store::SEE_DUE, &due), (store::SEE_REQUESTED, &requested)] {
            let all = pages(&world, sql, Floors::default().start()).await;
            assert!(all > 400, "{all} pages: the dead entries are not there");
            let pages = pages(&world, sql, store::Start { walk_max: 0, ..floors.start() }).await;
            println!("{pages} pages of a look beside {DONE} dead entries, {all} of a walk over them");
            assert!(pages < 100, "{pages} pages");
        }
        let sql = "analyze payments.payment; analyze payments.intent";
        sqlx::raw_sql(sql).execute(&world.admin).await.unwrap();
    }
    old.rollback().await.unwrap();
    drop(connection);
    world.end().await;
}

#[tokio::test]
async fn what_is_put_below_the_floor_is_found_by_the_next_walk() {
    let world = World::new("below").await;
    let mut connection = world.home.pool.acquire().await.unwrap();
    let mut floors = Floors::default();
    // Seen, and not done: the floor of its tenant.
    world.request("pm_card_visa", false).await;
    assert_eq!(store::claim_requested(&mut connection, &mut floors, 4).await.unwrap().work.len(), 1);
    // Due an hour ago: one of a tenant with a floor, one of another.
    fill(&world, "acme", 1, false).await;
    fill(&world, "late", 1, false).await;
    let found = async {
        let mut found = 0;
        while found < 2 {
            let sql = "update payments.payment set look_at = now() + interval '1 hour' where looks > 0";
            sqlx::query(sql).execute(&world.admin).await.unwrap();
            found += store::claim_requested(&mut connection, &mut floors, 4).await.unwrap().work.len();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, found).await.unwrap();
    drop(connection);
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
