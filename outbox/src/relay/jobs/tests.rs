//! The plans of the relay's statements, beside what breaks plans: 300,000 dead entries that an open transaction keeps from
//! being cleaned up, statistics that know nothing of them, and plans that were made before.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};

use super::*;
use crate::relay::database::own_pool;

/// Dead entries in the queue, before the live ones.
const DEAD: i64 = 300_000;

/// Live rows, ten in each bucket.
const LIVE: i64 = 640;

/// Every node of a plan.
fn nodes<'a>(plan: &'a Value, into: &mut Vec<&'a Value>) {
    into.push(plan);
    for part in plan["Plans"].as_array().into_iter().flatten() {
        nodes(part, into);
    }
}

/// What a plan did: the nodes that read the queue or the log, the buffers it touched, and its rows.
struct Did {
    scans: Vec<Value>,
    buffers: i64,
    rows: f64,
}

/// Runs a statement as one that was prepared long ago, and takes its effect back.
async fn explain(pool: &PgPool, statement: &str, arguments: &str) -> Did {
    let mut connection = pool.acquire().await.unwrap();
    let types = match statement {
        store::READ_PAGE => "(smallint[], bigint[], bigint[], bigint, boolean)",
        store::READ_TAIL => "(bigint, bigint[], smallint[], bigint)",
        _ => "",
    };
    let before = format!(
        "deallocate all; set plan_cache_mode = force_generic_plan; begin; prepare asked{types} as {statement}"
    );
    sqlx::raw_sql(AssertSqlSafe(before)).execute(&mut *connection).await.unwrap();
    let explain = format!("explain (analyze, buffers, format json) execute asked({arguments})");
    let asked = sqlx::query_scalar(AssertSqlSafe(explain)).persistent(false);
    let answer: Value = asked.fetch_one(&mut *connection).await.unwrap();
    sqlx::raw_sql("rollback; deallocate all").execute(&mut *connection).await.unwrap();
    let plan = &answer[0]["Plan"];
    let mut all = Vec::new();
    nodes(plan, &mut all);
    let scans = all.into_iter().filter(|node| {
        let table = node["Relation Name"].as_str().unwrap_or_default();
        table == "pending" || table.starts_with("event_")
    });
    let number = |name: &str| plan[name].as_i64().unwrap_or_default();
    Did {
        scans: scans.cloned().collect(),
        buffers: number("Shared Hit Blocks") + number("Shared Read Blocks"),
        rows: plan["Actual Rows"].as_f64().unwrap_or_default(),
    }
}

fn only_by_index(scans: &[Value]) {
    assert!(!scans.is_empty(), "the plan reads nothing");
    for scan in scans {
        let kind = scan["Node Type"].as_str().unwrap_or_default();
        let writes = kind == "ModifyTable";
        assert!(writes || kind.starts_with("Index"), "{scan:#}");
    }
}

/// Rows without events, as far as the queue is concerned.
const FILL: &str = "insert into outbox.pending (bucket, position, created_at)
    select n % 64, n, date_trunc('hour', now()) from generate_series($1::bigint, $2::bigint) n";

/// Their events, of this hour.
const EVENTS: &str = "insert into outbox.event
        (position, created_at, id, bucket, topic, key, version, kind, origin, payload, headers)
    select p.position, now(), gen_random_uuid(), p.bucket, 'notes.v1', p.position::text, 1, 'notes.noted.v1',
           'notes', '', '{}'
    from outbox.pending p";

#[tokio::test(flavor = "multi_thread")]
async fn plans_hold_beside_dead_entries_and_a_pinned_horizon() {
    let stack = stack::shared().await.unwrap();
    let database = stack.database("plans").await.unwrap();
    let admin = PgPool::connect(database.url()).await.unwrap();
    crate::migrate(&admin).await.unwrap();
    // Statistics of an empty queue, which a plan of these days would be made with.
    sqlx::raw_sql("analyze outbox.pending").execute(&admin).await.unwrap();
    let mut pin = admin.begin().await.unwrap();
    sqlx::raw_sql("set transaction isolation level repeatable read").execute(&mut *pin).await.unwrap();
    sqlx::query("select count(*) from outbox.pending").execute(&mut *pin).await.unwrap();
    sqlx::query(FILL).bind(1i64).bind(DEAD).execute(&admin).await.unwrap();
    sqlx::raw_sql("delete from outbox.pending").execute(&admin).await.unwrap();
    sqlx::query(FILL).bind(DEAD + 1).bind(DEAD + LIVE).execute(&admin).await.unwrap();
    sqlx::query(EVENTS).execute(&admin).await.unwrap();

    let pool = own_pool(&admin, 2, Duration::from_secs(60));
    let buckets = (0..64).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let repeat = |value: i64| vec![value.to_string(); 64].join(",");
    let read = |after: i64, rows: i64, heads_only: bool| {
        format!("'{{{buckets}}}', '{{{}}}', '{{{}}}', {rows}, {heads_only}", repeat(after), repeat(i64::MAX))
    };
    for _ in ["as if empty", "with statistics"] {
        // Forward: the dead entries lie before the floor and are not touched.
        let did = explain(&pool, store::READ_PAGE, &read(DEAD, 128, false)).await;
        only_by_index(&did.scans);
        assert!((did.rows - 641.0).abs() < 0.5, "{} rows", did.rows);
        assert!(did.buffers < 4_000, "{} buffers for {LIVE} rows", did.buffers);
        // At the queue's end, by the log: three look-ups a row, in the partitions of the hour; and one for each gap.
        let tail = format!("{}, '{{{},1,2}}', '{{{buckets}}}', 512", DEAD + 1, DEAD + 1);
        let did = explain(&pool, store::READ_TAIL, &tail).await;
        only_by_index(&did.scans);
        assert!((did.rows - 513.0).abs() < 0.5, "{} rows", did.rows);
        assert!(did.buffers < 8_000, "{} buffers for 513 rows", did.buffers);
        // A pass from the beginning walks over the dead, but looks at no more than its page of the living.
        let did = explain(&pool, store::READ_PAGE, &read(0, 4, true)).await;
        only_by_index(&did.scans);
        assert!((did.rows - 257.0).abs() < 0.5, "{} rows", did.rows);
        // Forgetting what was delivered.
        let some: Vec<i64> = (DEAD + 1..=DEAD + 64).collect();
        let list = |numbers: Vec<i64>| numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let at: String = sqlx::query_scalar("select min(created_at)::text from outbox.pending")
            .fetch_one(&admin)
            .await
            .unwrap();
        let at = vec![format!("\"{at}\""); 64].join(",");
        let (theirs, some) = (list(some.iter().map(|n| n % 64).collect()), list(some));
        let did = explain(&pool, store::REMOVE, &format!("'{{{theirs}}}', '{{{some}}}', '{{{at}}}'")).await;
        only_by_index(&did.scans);
        assert!(did.buffers < 2_000, "{} buffers to forget 64 rows", did.buffers);
        // Events, by position and time: of all days only the one they are in (two around midnight).
        let times = vec!["now"; 64].join(",");
        let arguments = format!("'{{{some}}}', '{{{times}}}', 1000, now() - interval '1 minute', now()");
        let did = explain(&pool, store::FETCH, &arguments).await;
        only_by_index(&did.scans);
        assert!(did.scans.len() <= 2, "{:#?}", did.scans);
        assert!(did.buffers < 1_000, "{} buffers to look for 64 events", did.buffers);
        sqlx::raw_sql("analyze outbox.pending; analyze outbox.event").execute(&admin).await.unwrap();
    }
    drop(pin);
    pool.close().await;
    admin.close().await;
    database.drop_now().await.unwrap();
}
