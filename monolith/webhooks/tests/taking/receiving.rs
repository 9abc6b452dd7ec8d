//! What is taken, and what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::http::Request;
use serde_json::json;
use time::{Duration, OffsetDateTime};
use webhooks::{BODY_MAX, HEADER, sign};

use crate::fixture::{World, event, secret};

#[tokio::test]
async fn each_refusal_has_its_own_code_and_changes_no_row() -> anyhow::Result<()> {
    let world = World::open().await?;
    let taken = event("evt_taken", "payment_intent.succeeded");
    assert_eq!(world.tell(&taken).await?, (200, String::new()));
    let before = world.rows().await?;

    let body = event("evt_bad", "payment_intent.succeeded").to_string();
    let now = OffsetDateTime::now_utc();
    let by = |at: OffsetDateTime, body: &str| sign(&secret(), at, body.as_bytes());
    let good = by(now, &body);
    let (_, v1) = good.split_once(',').unwrap_or_default();
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&body)?)?;
    let huge = " ".repeat(5 * 1024 * 1024);
    let mut reused = taken.clone();
    reused["data"]["object"]["status"] = json!("canceled");
    let reused = reused.to_string();
    let nameless = json!({ "type": "payment_intent.succeeded" }).to_string();
    for (signature, body, status, code) in [
        (v1.to_owned(), &body, 400, "webhook-signature-malformed"),
        ("t=soon,v1=none".to_owned(), &body, 400, "webhook-signature-malformed"),
        (format!("{good},t=1700000000"), &body, 400, "webhook-timestamps"),
        (by(now - Duration::minutes(6), &body), &body, 400, "webhook-stale"),
        (by(now + Duration::minutes(6), &body), &body, 400, "webhook-from-the-future"),
        (
            sign(&chassis::Secret::new("whsec_of_a_stranger"), now, body.as_bytes()),
            &body,
            400,
            "webhook-signature-wrong",
        ),
        (good.clone(), &pretty, 400, "webhook-signature-wrong"),
        (by(now, &huge), &huge, 413, "body-too-large"),
        (by(now, "{\"id\":"), &"{\"id\":".to_owned(), 400, "webhook-not-json"),
        (by(now, &nameless), &nameless, 400, "webhook-not-an-event"),
        (by(now, &reused), &reused, 409, "webhook-id-reused"),
    ] {
        let answer = world.post(&signature, body.clone()).await?;
        assert_eq!(answer, (status, code.to_owned()), "{signature}");
    }
    let unsigned = Request::post("/webhooks/provider").body(Body::from(body.clone()))?;
    assert_eq!(world.send(unsigned).await?, (400, "webhook-unsigned".to_owned()));
    let twice = Request::post("/webhooks/provider").header(HEADER, &good).header(HEADER, &good);
    let answer = world.send(twice.body(Body::from(body.clone()))?).await?;
    assert_eq!(answer, (400, "webhook-signature-malformed".to_owned()));

    assert_eq!(world.rows().await?, before, "nothing was written");
    let numbers = world.numbers().await?;
    assert!(numbers.contains("webhooks_received_total{answer=\"webhook-stale\"} 1"), "{numbers}");
    // All of it was about the header: the same body is good.
    assert_eq!(world.post(&good, body).await?, (200, String::new()));
    world.close().await
}

#[tokio::test]
async fn a_repeat_is_answered_and_changes_no_row() -> anyhow::Result<()> {
    let world = World::open().await?;
    let mut event = event("evt_1", "payment_intent.succeeded");
    let body = event.to_string();
    assert_eq!(world.tell(&event).await?.0, 200);
    let before = world.rows().await?;
    // A later delivery is signed anew, and counts down.
    event["pending_webhooks"] = json!(0);
    assert_eq!(world.tell(&event).await?, (200, String::new()));
    assert_eq!(world.rows().await?, before);
    let stored: Vec<u8> =
        sqlx::query_scalar("select body from webhooks.notice").fetch_one(&world.admin).await?;
    assert_eq!(stored, body.into_bytes(), "the very bytes of the first");

    // Many at once, of one event.
    let event = crate::fixture::event("evt_2", "refund.created");
    let answers = futures::future::try_join_all((0..20).map(|_| world.tell(&event))).await?;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(world.rows().await?.len(), before.len() + 1);
    world.close().await
}

#[tokio::test]
async fn what_is_nothing_of_ours_is_stored_and_ignored() -> anyhow::Result<()> {
    let world = World::open().await?;
    let mut foreign = event("evt_foreign", "payment_intent.succeeded");
    foreign["data"]["object"]["metadata"] = json!({});
    for event in [foreign, event("evt_dispute", "charge.dispute.created")] {
        assert_eq!(world.tell(&event).await?.0, 200);
        assert_eq!(world.state(event["id"].as_str().unwrap_or_default()).await?, "ignored");
    }
    world.close().await
}

#[tokio::test]
async fn a_body_without_a_length_is_read_up_to_the_limit_only() -> anyhow::Result<()> {
    const CHUNK: usize = 16 * 1024;
    let world = World::open().await?;
    let read = Arc::new(AtomicUsize::new(0));
    let chunks = {
        let read = Arc::clone(&read);
        futures::stream::iter((0..5 * 64).map(move |_| {
            read.fetch_add(CHUNK, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; CHUNK]))
        }))
    };
    let signature = sign(&secret(), OffsetDateTime::now_utc(), b"");
    let answer = world.post(&signature, Body::from_stream(chunks)).await?;
    assert_eq!(answer, (413, "body-too-large".to_owned()));
    let read = read.load(Ordering::Relaxed);
    assert!((BODY_MAX..=BODY_MAX + 2 * CHUNK).contains(&read), "{read} bytes were read");
    world.close().await
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken() -> anyhow::Result<()> {
    let world = World::open().await?;
    let mut event = event("evt_large", "payment_intent.succeeded");
    let rest = BODY_MAX - event.to_string().len() - "\"padding\":\"\",".len();
    event["padding"] = json!("x".repeat(rest));
    assert_eq!(event.to_string().len(), BODY_MAX);
    assert_eq!(world.tell(&event).await?, (200, String::new()));
    world.close().await
}

#[tokio::test]
async fn a_full_table_refuses_what_is_new_and_drops_nothing() -> anyhow::Result<()> {
    let world = World::with(|receiver| receiver.open_max(2).count_every(std::time::Duration::ZERO)).await?;
    let events = ["evt_1", "evt_2", "evt_3"].map(|id| event(id, "payment_intent.succeeded"));
    assert_eq!(world.tell(&events[0]).await?.0, 200);
    assert_eq!(world.tell(&events[1]).await?.0, 200);
    assert_eq!(world.tell(&events[2]).await?, (503, "unavailable".to_owned()));
    assert_eq!(world.tell(&events[1]).await?.0, 200, "what is there needs no room");
    webhooks::dismiss(&world.pool, "evt_1", "ann", "room is needed").await?;
    assert_eq!(world.tell(&events[2]).await?.0, 200);
    world.close().await
}

#[tokio::test]
async fn what_was_stored_since_the_last_count_takes_room_too() -> anyhow::Result<()> {
    let world =
        World::with(|receiver| receiver.open_max(2).count_every(std::time::Duration::from_secs(3600)))
            .await?;
    let events = ["evt_1", "evt_2", "evt_3"].map(|id| event(id, "payment_intent.succeeded"));
    assert_eq!(world.tell(&events[0]).await?.0, 200);
    assert_eq!(world.tell(&events[1]).await?.0, 200);
    assert_eq!(world.tell(&events[2]).await?, (503, "unavailable".to_owned()));
    world.close().await
}

/// Pages of notices and their indexes that backends which have told of it have read, and rows they have inserted.
async fn pages_and_rows(world: &World) -> anyhow::Result<(i64, i64)> {
    let sql = "
        select (i.heap_blks_read + i.heap_blks_hit + i.idx_blks_read + i.idx_blks_hit)::bigint, t.n_tup_ins
        from pg_statio_user_tables i join pg_stat_user_tables t on t.relid = i.relid
        where i.relid = 'webhooks.notice'::regclass";
    Ok(sqlx::query_as(sql).fetch_one(&world.admin).await?)
}

/// Ends the module's connections, which tell at their end what they have not told of yet.
async fn end_connections(world: &World) -> anyhow::Result<()> {
    world.pool.close().await;
    let sql = "
        select count(*) from pg_stat_activity where datname = current_database() and application_name = 'webhooks'";
    let gone = async {
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&world.admin).await? > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await?
}

#[tokio::test]
async fn a_webhook_costs_the_same_whether_fifty_thousand_are_open() -> anyhow::Result<()> {
    // Longer than the test: counted at the first webhook, and then no more.
    let world = World::with(|receiver| receiver.count_every(std::time::Duration::from_secs(3600))).await?;
    assert_eq!(world.tell(&event("evt_0", "payment_intent.succeeded")).await?.0, 200);
    let mut admin = world.admin.acquire().await?;
    // What reads by itself in the background would be counted too.
    sqlx::query("alter table webhooks.notice set (autovacuum_enabled = false)").execute(&mut *admin).await?;
    let fill = "
        insert into webhooks.notice (id, fingerprint, body, signature, kind, happened_at, object, payment_id, tenant, state)
        select 'evt_open_' || n, decode(repeat('00', 32), 'hex'), '', '', 'payment_intent.succeeded', now(), 'pi_1',
            gen_random_uuid(), 'acme', 'waiting'
        from generate_series(1, 50000) n";
    sqlx::query(fill).execute(&mut *admin).await?;
    sqlx::query("select pg_stat_force_next_flush()").execute(&mut *admin).await?;
    drop(admin);
    let (before, _) = pages_and_rows(&world).await?;

    for n in 1..=10 {
        assert_eq!(world.tell(&event(&format!("evt_{n}"), "payment_intent.succeeded")).await?.0, 200);
    }
    end_connections(&world).await?;
    let (after, rows) = pages_and_rows(&world).await?;
    assert_eq!(rows, 50_011, "all has been told of");
    let pages = (after - before) / 11;
    println!("{pages} pages of a webhook beside 50,000 open ones");
    assert!(pages > 0 && pages < 100, "{pages} pages");
    world.close().await
}
