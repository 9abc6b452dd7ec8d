//! Reads are compared without delay in `shadowing`, and answered by the target's copies for the cohort in `reading`.

mod desks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strangler::{Asked, ReadMetrics, ReadSettings, Reads, Seam};

use self::desks::{Desk, HANGS, Row, Said, Shop};
use crate::world::{MIGRATION, SOON, World, eventually};

struct Both {
    world: World,
    reads: Reads,
    seam: Seam<Shop>,
    source: Arc<Desk>,
    target: Arc<Desk>,
}

fn paid(cents: i64, version: i64) -> Row {
    Row { cents, word: "paid", version }
}

/// A key at the source with 100 cents at version 2, and a copy of it, in a stage.
async fn both(policy: &'static str, settings: ReadSettings) -> Both {
    let world = World::new().await;
    world.born("acme", "k").await;
    strangler::grant_observer(&world.admin, &crate::world::role(&world.database, "writes")).await.unwrap();
    world.execute(policy).await;
    let reads = Reads::new(MIGRATION, world.writes_pool.clone(), settings, ReadMetrics::noop());
    reads.look().await.unwrap();
    let (source, target) = (Desk::with(paid(100, 2)), Desk::with(paid(100, 2)));
    let seam = Seam::new(world.writes.clone(), Arc::clone(&source), Arc::clone(&target));
    Both { seam: seam.reads(reads.clone()), world, reads, source, target }
}

const SHADOWING: &str = "update strangler.migration set stage = 'shadowing', revision = 5";
const READING: &str = "update strangler.migration set stage = 'reading', revision = 6, tenants = '{acme}'";

async fn shadowing() -> Both {
    both(SHADOWING, ReadSettings::default()).await
}

async fn reading() -> Both {
    both(READING, ReadSettings::default()).await
}

impl Both {
    async fn read(&self, at_least: i64) -> Result<Row, Said> {
        self.read_for("acme", at_least).await
    }

    async fn read_for(&self, tenant: &str, at_least: i64) -> Result<Row, Said> {
        let asked = Asked { tenant, key: "k", at_least };
        let run = |home: Arc<Desk>, reading| async move { home.read(reading).await };
        self.seam.read_versioned(asked, run).await
    }

    /// What is written down, by class, once the counts have come.
    async fn counts(&self) -> BTreeMap<String, i64> {
        self.reads.look().await.unwrap();
        let sql = "select class, sum(count)::bigint from strangler.read_comparison group by class";
        let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&self.world.admin).await.unwrap();
        rows.into_iter().collect()
    }

    async fn found(&self, class: &str) {
        let there = async || self.counts().await.contains_key(class);
        eventually(&format!("a comparison ends as {class}"), there).await;
    }

    async fn end(self) {
        self.world.end().await;
    }
}

#[tokio::test]
async fn a_target_that_hangs_delays_no_answer() {
    let settings = ReadSettings { compare_timeout: HANGS, ..ReadSettings::default() };
    let both = both(SHADOWING, settings).await;
    *both.target.hangs.lock().unwrap() = true;
    assert_eq!(tokio::time::timeout(SOON, both.read(0)).await.unwrap(), Ok(paid(100, 2)));
    both.end().await;
}

#[tokio::test]
async fn a_comparison_with_a_target_that_hangs_ends_by_its_own_bound() {
    let both = shadowing().await;
    *both.target.hangs.lock().unwrap() = true;
    assert_eq!(both.read(0).await, Ok(paid(100, 2)));
    both.found("target_error").await;
    both.end().await;
}

#[tokio::test]
async fn equal_answers_count_and_so_do_the_seeded_differences_that_were_found() {
    let both = shadowing().await;
    both.read(0).await.unwrap();
    both.found("equal").await;
    let counts = both.counts().await;
    assert_eq!((counts["equal"], counts["mutant_caught"], counts.get("mutant_missed")), (1, 2, None));
    assert_eq!(both.source.calls.load(Ordering::SeqCst), 2, "against itself");
    assert_eq!(both.world.number("select max(since) from strangler.read_comparison").await, 5);
    assert_eq!(both.world.number("select count(*) from strangler.read_sample").await, 0);
    both.end().await;
}

#[tokio::test]
async fn one_cent_is_found_and_kept_to_look_at() {
    let both = shadowing().await;
    both.target.set(Ok(paid(101, 2)));
    assert_eq!(both.read(0).await, Ok(paid(100, 2)), "the source's answer");
    both.found("money").await;
    let sql = "select key, source, target from strangler.read_sample where class = 'money'";
    let sample: (String, String, String) = sqlx::query_as(sql).fetch_one(&both.world.admin).await.unwrap();
    assert_eq!(sample, ("k".into(), "100 cents, paid".into(), "101 cents, paid".into()));
    both.end().await;
}

#[tokio::test]
async fn a_copy_that_comes_a_moment_later_is_equal() {
    let both = shadowing().await;
    both.target.set(Ok(paid(90, 1)));
    both.read(0).await.unwrap();
    eventually("it was looked at", async || both.target.calls.load(Ordering::SeqCst) > 0).await;
    both.target.set(Ok(paid(100, 2)));
    both.found("equal").await;
    assert_eq!(both.counts().await.get("stale"), None);
    both.end().await;
}

#[tokio::test]
async fn a_copy_that_stays_behind_is_stale_and_one_that_is_not_there_is_missing() {
    for (copy, class) in [(Ok(paid(90, 1)), "stale"), (Err(Said::Unknown), "missing")] {
        let both = shadowing().await;
        both.target.set(copy);
        both.read(0).await.unwrap();
        both.found(class).await;
        assert_eq!(both.target.calls.load(Ordering::SeqCst), 4, "once, and three times again");
        both.end().await;
    }
}

#[tokio::test]
async fn what_finds_no_turn_is_left_out_and_counted() {
    let both = both(SHADOWING, ReadSettings { compared_max: 1, ..ReadSettings::default() }).await;
    *both.target.hangs.lock().unwrap() = true;
    both.read(0).await.unwrap();
    both.read(0).await.unwrap();
    both.found("dropped").await;
    assert_eq!(both.counts().await["dropped"], 1);
    both.end().await;
}

#[tokio::test]
async fn the_cohorts_reads_are_the_copys() {
    let both = reading().await;
    both.target.set(Ok(Row { word: "by the copy", ..paid(100, 2) }));
    assert_eq!(both.read(0).await.unwrap().word, "by the copy");
    assert_eq!(both.read_for("globex", 0).await.unwrap().word, "paid", "not of the cohort");
    assert_eq!(both.counts().await, BTreeMap::from([("copy".to_owned(), 1)]));
    both.end().await;
}

#[tokio::test]
async fn the_source_answers_where_the_copy_can_not() {
    for (said, reason) in [
        (Said::Behind, "lag"),
        (Said::Unknown, "not_found"),
        (Said::Parked, "parked"),
        (Said::Broken, "error"),
    ] {
        let both = reading().await;
        both.target.set(Err(said));
        assert_eq!(both.read(0).await, Ok(paid(100, 2)), "{reason}");
        assert_eq!(both.counts().await, BTreeMap::from([(reason.to_owned(), 1)]));
        both.end().await;
    }
}

#[tokio::test]
async fn the_source_answers_when_the_copy_takes_too_long() {
    let both =
        both(READING, ReadSettings { copy_timeout: Duration::from_millis(20), ..ReadSettings::default() })
            .await;
    *both.target.hangs.lock().unwrap() = true;
    assert_eq!(both.read(0).await, Ok(paid(100, 2)));
    assert_eq!(both.counts().await, BTreeMap::from([("timeout".to_owned(), 1)]));
    both.end().await;
}

#[tokio::test]
async fn a_read_after_a_write_sees_the_write() {
    let both = reading().await;
    assert_eq!(both.read(0).await, Ok(paid(100, 2)));
    // A write at the source, which the copy does not have yet.
    both.source.set(Ok(paid(80, 3)));
    both.seam.shown("k", 3);
    assert_eq!(both.read(0).await, Ok(paid(80, 3)));
    assert_eq!(both.target.at_least.load(Ordering::SeqCst), 3);
    both.target.set(Ok(paid(80, 3)));
    let calls = both.source.calls.load(Ordering::SeqCst);
    assert_eq!(both.read(0).await, Ok(paid(80, 3)));
    assert_eq!(both.source.calls.load(Ordering::SeqCst), calls, "the copy has it now");
    assert_eq!(both.counts().await, BTreeMap::from([("copy".to_owned(), 2), ("lag".to_owned(), 1)]));
    both.end().await;
}

#[tokio::test]
async fn a_clients_version_counts_too_and_one_that_is_nowhere_is_not_the_targets_fault() {
    let both = reading().await;
    both.source.set(Ok(paid(80, 3)));
    assert_eq!(both.read(3).await, Ok(paid(80, 3)));
    assert_eq!(both.read(99).await, Ok(paid(80, 3)));
    assert_eq!(
        both.source.calls.load(Ordering::SeqCst),
        2,
        "the owner is asked once, for it is the owner still"
    );
    assert_eq!(both.counts().await, BTreeMap::from([("ahead".to_owned(), 1), ("lag".to_owned(), 1)]));
    both.end().await;
}

#[tokio::test]
async fn what_an_owner_has_shown_no_copy_shows_older() {
    const OUTSIDE: &str = "update strangler.migration set stage = 'reading', revision = 6, tenants = '{}'";
    for before in [SHADOWING, OUTSIDE] {
        let both = both(before, ReadSettings { compared_percent: 0, ..ReadSettings::default() }).await;
        both.source.set(Ok(paid(80, 3)));
        assert_eq!(both.read(0).await, Ok(paid(80, 3)), "the owner's, of version 3");
        // The cohort grows over the key before its copy has come so far.
        both.world.execute(READING).await;
        both.reads.look().await.unwrap();
        assert_eq!(both.read(0).await, Ok(paid(80, 3)), "{before}");
        assert_eq!(both.target.at_least.load(Ordering::SeqCst), 3, "the copy was asked for it");
        both.end().await;
    }
}

#[tokio::test]
async fn with_more_keys_than_are_remembered_the_owner_answers() {
    let both = reading().await;
    both.source.set(Ok(paid(80, 3)));
    both.seam.shown("k", 3);
    for n in 0..60_000 {
        both.seam.shown(&n.to_string(), 1);
    }
    assert_eq!(both.read(0).await, Ok(paid(80, 3)));
    assert_eq!(both.target.calls.load(Ordering::SeqCst), 0, "nobody knows what a copy must have");
    assert_eq!(both.counts().await, BTreeMap::new(), "that is not the target's fault");
    both.end().await;
}

#[tokio::test]
async fn a_home_that_was_the_owner_a_moment_ago_takes_no_caller_back_in_time() {
    const PRIMARY: &str = "update strangler.migration set stage = 'primary', revision = 7";
    const HANDED_OVER: &str = "update strangler.owner set owner = 'target', epoch = 3 where key = 'k'";
    // By what the caller says, and by what this program has shown it.
    for (at_least, shown) in [(3, 2), (0, 3)] {
        let both = both(PRIMARY, ReadSettings::default()).await;
        assert_eq!(both.read(0).await, Ok(paid(100, 2)), "the owner is known from now on");
        both.world.execute(HANDED_OVER).await;
        both.target.set(Ok(paid(80, 3)));
        both.seam.shown("k", shown);
        assert_eq!(both.read(at_least).await, Ok(paid(80, 3)), "{at_least}");
        both.end().await;
    }
}

#[tokio::test]
async fn without_a_recent_look_at_the_policy_reads_go_to_the_owner() {
    let both =
        both(READING, ReadSettings { policy_age_max: Duration::ZERO, ..ReadSettings::default() }).await;
    both.read(0).await.unwrap();
    assert_eq!(both.target.calls.load(Ordering::SeqCst), 0);
    both.end().await;
}

#[tokio::test]
async fn a_stage_that_is_left_takes_its_counts_with_it() {
    let both = reading().await;
    both.read(0).await.unwrap();
    both.counts().await;
    both.world.execute("update strangler.migration set stage = 'following', revision = 7").await;
    both.reads.look().await.unwrap();
    both.read(0).await.unwrap();
    assert_eq!(both.target.calls.load(Ordering::SeqCst), 1, "reads go to the owner again");
    both.world.execute("update strangler.migration set stage = 'reading', revision = 8").await;
    both.reads.look().await.unwrap();
    both.read(0).await.unwrap();
    both.counts().await;
    let entered = "select count(distinct since) from strangler.read_comparison where count = 1";
    assert_eq!(both.world.number(entered).await, 2);
    both.end().await;
}
