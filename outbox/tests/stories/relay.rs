//! The relay beside a broker that does what brokers do.

use std::{collections::BTreeMap, time::Duration};

use outbox::{BoxError, Relay, RelayOptions, Sink};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    fickle::{Fickle, Manners},
    world::{Home, NOTES, noted, until},
};

/// Waits short enough for a story.
pub(crate) fn brisk() -> RelayOptions {
    RelayOptions {
        lease_ttl: Duration::from_secs(1),
        outage_delay_min: Duration::from_millis(5),
        outage_delay_max: Duration::from_millis(40),
        refusal_delay_min: Duration::from_millis(20),
        refusal_delay_max: Duration::from_millis(100),
        refused_every: Duration::from_millis(20),
        late_every: Duration::from_millis(200),
        attempts_max: 1_000,
        ..RelayOptions::default()
    }
}

pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), outbox::Error>>,
}

impl Running {
    pub(crate) fn start<S: Sink>(relay: Relay<S>) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(relay.run(shutdown.clone()));
        Self { shutdown, task }
    }

    pub(crate) async fn stop(self) -> Result<(), BoxError> {
        self.shutdown.cancel();
        Ok(tokio::time::timeout(Duration::from_secs(20), self.task).await???)
    }

    /// As `kill -9`, as far as a task can: nothing is drained, no lease given back.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Writes to a few keys in transactions that overlap; some are rolled back, some stay open for long.
async fn write(pool: PgPool, seed: u64, notes: usize) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut committed = BTreeMap::new();
    for _ in 0..notes {
        // Few keys get most of the events.
        let key = format!("key-{}", random.random_range(0..6u32) * random.random_range(0..6u32));
        let open = Duration::from_millis(if random.random_bool(0.05) {
            random.random_range(30..400)
        } else {
            random.random_range(0..4)
        });
        let mut tx = pool.begin().await?;
        for _ in 0..random.random_range(1..3) {
            let version =
                outbox::publish(&mut tx, &noted(&key, seed)).await.map_err(|error| match error {
                    outbox::Error::Database(error) => error,
                    other => sqlx::Error::Protocol(other.to_string()),
                })?;
            committed.insert(key.clone(), version);
        }
        tokio::time::sleep(open).await;
        if random.random_bool(0.1) {
            tx.rollback().await?;
            committed.remove(&key);
        } else {
            tx.commit().await?;
        }
    }
    Ok(committed)
}

/// The heads: what was committed.
pub(crate) async fn heads(admin: &PgPool) -> Result<BTreeMap<String, i64>, BoxError> {
    let heads: Vec<(String, i64)> =
        sqlx::query_as("select key, version from outbox.head where version > 0").fetch_all(admin).await?;
    Ok(heads.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_when_nothing_is_lost_or_overtaken() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "random", "test.notes").await?;
    let manners = Manners {
        delay: Duration::from_millis(6),
        lost_reports: 40,
        outages: 40,
        refusals: 30,
        ..Manners::default()
    };
    let fickle = Fickle::new(1, manners);
    // The backlog first: the windows below are too small for it.
    write(home.module.clone(), 99, 150).await?;
    let mut random = StdRng::seed_from_u64(7);
    for (round, window_max) in [1, 64, 200, 50_000, 64, 1].into_iter().enumerate() {
        let options = RelayOptions { window_max, in_flight_max: 16, page_rows: 64, ..brisk() };
        let start = || Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(options.clone()));
        let mut relays = vec![start(), start()];
        let seeds = (0..4).map(|writer| u64::try_from(round * 10 + writer).unwrap_or(0));
        let writers: Vec<_> = seeds.map(|seed| tokio::spawn(write(home.module.clone(), seed, 40))).collect();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
            let victim = relays.swap_remove(random.random_range(0..relays.len()));
            victim.kill().await;
            relays.push(start());
        }
        for writer in writers {
            writer.await??;
        }
        for relay in relays {
            if random.random_bool(0.5) { relay.stop().await? } else { relay.kill().await }
        }
    }
    let last = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(brisk()));
    until(0, || home.pending()).await?;
    last.stop().await?;
    let repeats = fickle.judge(&heads(&home.admin).await?)?;
    assert!(repeats > 0, "a story in which no report is lost proves little");
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_takes_none_of_its_batch_with_it() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "batch", "test.notes").await?;
    let fickle = Fickle::new(2, Manners { batch: Some(Duration::from_millis(60)), ..Manners::default() });
    // Two bad ones: retried together they would refuse each other, and whatever good one is with them.
    for key in ["bad-1", "good-1", "good-2", "bad-2", "good-3"] {
        home.publish(&noted(key, 1)).await?;
    }
    fickle.change(|manners| manners.never = [("bad-1".into(), 1), ("bad-2".into(), 1)].into());
    // All are due again at the same time.
    let options = RelayOptions { refusal_delay_max: Duration::from_millis(20), ..brisk() };
    let relay = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(options));
    until(2, || home.pending()).await?;
    let attempts = async || -> Result<i32, BoxError> {
        Ok(sqlx::query_scalar("select min(attempts) from outbox.pending").fetch_one(&home.admin).await?)
    };
    until(true, async || Ok(attempts().await? >= 3)).await?;
    fickle.change(|manners| manners.never.clear());
    until(0, || home.pending()).await?;
    relay.stop().await?;
    let goods = fickle.kept().iter().filter(|kept| kept.key.starts_with("good")).count();
    assert_eq!((goods, fickle.kept().len()), (3, 5), "each once");
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_hangs_holds_up_its_own_keys_only() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "lanes", "test.notes").await?;
    let manners = Manners { lane: Some("stuck".into()), lane_hangs: true, ..Manners::default() };
    let fickle = Fickle::new(3, manners);
    for n in 0..60 {
        home.publish(&noted(&format!("stuck-{n}"), 1)).await?;
    }
    for n in 0..60 {
        home.publish(&noted(&format!("free-{n}"), 1)).await?;
    }
    let options =
        RelayOptions { in_flight_max: 8, window_max: 64, stall_after: Duration::from_millis(300), ..brisk() };
    let relay = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(options));
    until(60, || home.pending()).await?;
    assert!(fickle.kept().iter().all(|kept| kept.key.starts_with("free")), "the other lane hangs");
    fickle.change(|manners| manners.lane_hangs = false);
    until(0, || home.pending()).await?;
    relay.stop().await?;
    assert_eq!(fickle.kept().len(), 120, "each once");
    home.drop_now().await
}

/// The shares of relays that are alive, ascending.
async fn shares(admin: &PgPool) -> Result<Vec<i64>, BoxError> {
    let shares =
        "select count(*) from outbox.lease where relay is not null and expires_at > clock_timestamp()
                  group by relay order by 1";
    Ok(sqlx::query_scalar(shares).fetch_all(admin).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_share_hand_over_and_take_over() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "shares", "test.notes").await?;
    let fickle = Fickle::new(4, Manners::default());
    let start = || Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(brisk()));
    let (first, second, third) = (start(), start(), start());
    until(vec![20, 22, 22], || shares(&home.admin)).await?;
    // One stops: its buckets are free at once. One dies: when its lease ends.
    first.stop().await?;
    second.kill().await;
    until(vec![64], || shares(&home.admin)).await?;
    for n in 0..20 {
        home.publish(&noted(&format!("key-{n}"), 1)).await?;
    }
    until(0, || home.pending()).await?;
    assert_eq!(fickle.kept().len(), 20, "each once");
    third.stop().await?;
    until(Vec::<i64>::new(), || shares(&home.admin)).await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_with_one_name_one_waits() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "names", "test.notes").await?;
    let fickle = Fickle::new(5, Manners { delay: Duration::from_millis(4), ..Manners::default() });
    let relay = || Relay::new(home.relay.clone(), fickle.clone()).with(brisk()).named("relay-0");
    let (first, second) = (relay(), relay());
    let (mut ahead, mut behind) = (first.status(), second.status());
    let first = Running::start(first);
    ahead.wait_for(|status| status.buckets == 64).await?;
    let second = Running::start(second);
    behind.wait_for(|status| status.name_is_taken).await?;
    assert!(behind.borrow().faults().is_empty(), "waiting is no fault");
    for n in 0..200 {
        home.publish(&noted(&format!("key-{}", n % 10), n)).await?;
    }
    until(0, || home.pending()).await?;
    assert_eq!((fickle.kept().len(), behind.borrow().buckets), (200, 0), "nothing is doubled");
    first.stop().await?;
    behind.wait_for(|status| status.buckets == 64 && !status.name_is_taken).await?;
    home.publish(&noted("key-0", "last")).await?;
    until(0, || home.pending()).await?;
    second.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_woken_does_not_wait_for_its_poll() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "wake", "test.notes").await?;
    let fickle = Fickle::new(6, Manners::default());
    let slow = Duration::from_secs(3_600);
    let options = RelayOptions { poll_min: slow, poll_max: slow, late_every: slow, ..brisk() };
    let relay = Relay::new(home.relay.clone(), fickle.clone()).with(options);
    let (wake, mut status) = (relay.wake(), relay.status());
    let relay = Running::start(relay);
    status.wait_for(|status| status.buckets == 64).await?;
    for n in 1..=20 {
        let mut tx = home.module.begin().await?;
        outbox::publish(&mut tx, &noted("a", n)).await?;
        wake.commit(tx).await?;
        until(0, || home.pending()).await?;
    }
    assert_eq!(fickle.versions("a"), (1..=20).collect::<Vec<_>>());
    relay.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_lost_its_rights_waits_for_them_and_says_so() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "rights", "test.notes").await?;
    let fickle = Fickle::new(7, Manners::default());
    let relay = Relay::new(home.relay.clone(), fickle).with(brisk());
    let mut status = relay.status();
    let relay = Running::start(relay);
    status.wait_for(|status| status.is_ready()).await?;
    let role: String = sqlx::query_scalar("select current_user::text").fetch_one(&home.relay).await?;
    let revoke = format!("revoke all on outbox.pending from {role}");
    sqlx::query(sqlx::AssertSqlSafe(revoke)).execute(&home.admin).await?;
    home.publish(&noted("a", 1)).await?;
    let told = status.wait_for(|status| status.check().is_err_and(|why| why.contains("pending")));
    tokio::time::timeout(Duration::from_secs(20), told).await??;
    outbox::grant_relay(&home.admin, &role).await?;
    until(0, || home.pending()).await?;
    let back = status.wait_for(|status| status.is_ready());
    tokio::time::timeout(Duration::from_secs(20), back).await??;
    relay.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_hour_before_its_commit_is_sent_though_nobody_publishes_again() -> Result<(), BoxError>
{
    let home = Home::new(stack::shared().await?, "hours", "test.notes").await?;
    let admin: String = sqlx::query_scalar("select current_user::text").fetch_one(&home.admin).await?;
    outbox::grant_module(&home.admin, &admin, "test.late", &[NOTES]).await?;
    let fickle = Fickle::new(1, Manners::default());
    let running = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(brisk()));
    for version in 1..=3 {
        // One after the other: the relay reads the end of the queue by what is new in the log.
        home.publish(&noted("a", version)).await?;
        until(0, || home.pending()).await?;
    }
    let mut tx = home.admin.begin().await?;
    outbox::publish(&mut tx, &noted("late", 1)).await?;
    for table in ["event", "pending"] {
        let before = format!(
            "update outbox.{table} set created_at = created_at - interval '2 hours'
             where position = (select last_value from outbox.position)"
        );
        assert_eq!(sqlx::query(sqlx::AssertSqlSafe(before)).execute(&mut *tx).await?.rows_affected(), 1);
    }
    tx.commit().await?;
    until(0, || home.pending()).await?;
    running.stop().await?;
    fickle.judge(&heads(&home.admin).await?)?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_lane_goes_on_when_its_records_go_by_another() -> Result<(), BoxError> {
    let home = Home::new(stack::shared().await?, "moved", "test.notes").await?;
    for key in 0..8 {
        home.publish(&noted(&format!("k{key}"), 1)).await?;
    }
    let fickle = Fickle::new(1, Manners { denied: true, ..Manners::default() });
    let options = RelayOptions { stall_after: Duration::from_secs(600), ..brisk() };
    let relay = Relay::new(home.relay.clone(), fickle.clone()).with(options);
    let mut status = relay.status();
    let running = Running::start(relay);
    let told = status.wait_for(|status| !status.missing.is_empty());
    tokio::time::timeout(Duration::from_secs(20), told).await??;
    // As when a topic is created: its records have partitions from now on.
    fickle.change(|manners| (manners.denied, manners.lane) = (false, Some("k".into())));
    until(0, || home.pending()).await?;
    running.stop().await?;
    fickle.judge(&heads(&home.admin).await?)?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_records_of_a_key_are_in_flight_together() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "pipelined", "test.notes").await?;
    let fickle =
        Fickle::new(8, Manners { delay: Duration::from_millis(1), lost_reports: 30, ..Manners::default() });
    for n in 1..=300 {
        home.publish(&noted("a", n)).await?;
    }
    let options = RelayOptions { pipelined: 8, ..brisk() };
    let relay = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(options));
    until(0, || home.pending()).await?;
    relay.stop().await?;
    // Its price: the order is not promised. Its floor: nothing is lost.
    let mut versions = fickle.versions("a");
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions, (1..=300).collect::<Vec<_>>());
    home.drop_now().await
}
