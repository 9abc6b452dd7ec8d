//! What a controller asks of the target's keys, in the target's database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{AssertSqlSafe, PgPool};
use strangler::handover::target::Row;
use strangler::{Authority, Epoch, Error, Memory, Peer as _, Reply, Target};

use crate::control::{TOKEN, client, serving};
use crate::domain::{TABLES, Tables, rights};
use crate::world::{MIGRATION, SOON, eventually, login, role};

/// A target's database with the role of its home.
pub(crate) struct There {
    pub(crate) database: stack::Database,
    pub(crate) admin: PgPool,
    pub(crate) pool: PgPool,
    pub(crate) authority: Authority,
    pub(crate) target: Target,
}

impl There {
    pub(crate) async fn new() -> Self {
        let database = stack::shared().await.unwrap().database("there").await.unwrap();
        let admin = PgPool::connect(database.url()).await.unwrap();
        strangler::migrate_target(&admin).await.unwrap();
        sqlx::raw_sql(TABLES).execute(&admin).await.unwrap();
        let pool = login(&database, &admin, "home").await;
        let home = role(&database, "home");
        strangler::grant_home(&admin, &home).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(rights(&home))).execute(&admin).await.unwrap();
        let authority = Authority::new(MIGRATION);
        let target = Target::new(authority.clone(), Arc::new(Tables(pool.clone())));
        Self { database, admin, pool, authority, target }
    }

    pub(crate) async fn end(self) {
        self.database.drop_now().await.unwrap();
    }

    /// Makes the only key's row, its payment, and nothing given.
    pub(crate) async fn set(&self, row: Option<Row>, quiet: bool, known: bool) {
        sqlx::raw_sql("delete from strangler.authority; delete from shop.payment; delete from shop.given")
            .execute(&self.admin)
            .await
            .unwrap();
        sqlx::query("insert into shop.payment (key, busy, known) values ('k', $1, $2)")
            .bind((!quiet).then_some("a refund is under way"))
            .bind(known)
            .execute(&self.admin)
            .await
            .unwrap();
        let Some(row) = row else { return };
        sqlx::query(
            "insert into strangler.authority (migration, key, epoch, writable, recall_epoch)
             values ($1, 'k', $2, $3, $4)",
        )
        .bind(MIGRATION)
        .bind(row.epoch.get())
        .bind(row.writable)
        .bind(row.recall_epoch.map(Epoch::get))
        .execute(&self.admin)
        .await
        .unwrap();
    }

    pub(crate) async fn row(&self) -> Option<Row> {
        let row: Option<(i64, bool, Option<i64>)> =
            sqlx::query_as("select epoch, writable, recall_epoch from strangler.authority where key = 'k'")
                .fetch_optional(&self.admin)
                .await
                .unwrap();
        row.map(|(epoch, writable, recall)| Row {
            epoch: Epoch(epoch),
            writable,
            recall_epoch: recall.map(Epoch),
        })
    }

    /// The epochs of the releases that were published.
    pub(crate) async fn given(&self) -> Vec<i64> {
        sqlx::query_scalar("select epoch from shop.given order by id").fetch_all(&self.admin).await.unwrap()
    }

    async fn woken(&self) -> i64 {
        sqlx::query_scalar("select woken from shop.payment").fetch_one(&self.admin).await.unwrap()
    }

    async fn offered(&self, epoch: i64) -> Result<(), Error> {
        let mut tx = self.pool.begin().await.unwrap();
        self.authority.offered(&mut tx, "k", Epoch(epoch)).await?;
        tx.commit().await.unwrap();
        Ok(())
    }
}

fn k(epoch: i64) -> [(String, Epoch); 1] {
    [("k".to_owned(), Epoch(epoch))]
}

fn only(replies: Vec<(String, Reply)>) -> Reply {
    let [(_, reply)] = <[_; 1]>::try_from(replies).unwrap();
    reply
}

#[tokio::test]
async fn a_key_is_offered_granted_and_given_back() {
    let there = There::new().await;
    there.set(None, true, true).await;
    assert_eq!(only(there.target.ready(&k(2)).await.unwrap()), Reply::NotYet);
    assert_eq!(only(there.target.grant(&k(3)).await.unwrap()), Reply::NotYet);
    there.offered(2).await.unwrap();
    assert!(matches!(there.offered(2).await, Err(Error::Stale { .. })));
    assert_eq!(only(there.target.ready(&k(2)).await.unwrap()), Reply::Ready);
    assert_eq!(there.woken().await, 0);

    assert_eq!(only(there.target.grant(&k(3)).await.unwrap()), Reply::Granted);
    assert_eq!(only(there.target.grant(&k(3)).await.unwrap()), Reply::Granted, "again");
    assert_eq!(there.woken().await, 1, "its work begins once");
    let mut tx = there.pool.begin().await.unwrap();
    assert_eq!(there.authority.lock(&mut tx, "k").await.unwrap(), Epoch(3));
    tx.commit().await.unwrap();
    assert!(matches!(there.offered(4).await, Err(Error::ForeignWrite { .. })));

    assert_eq!(only(there.target.recall(&k(4)).await.unwrap()), Reply::Released);
    assert_eq!(only(there.target.recall(&k(4)).await.unwrap()), Reply::Released, "again");
    assert_eq!(there.given().await, [4], "published once");
    assert_eq!(only(there.target.grant(&k(3)).await.unwrap()), Reply::Stale);
    assert_eq!(there.target.stale(), 1);
    let mut tx = there.pool.begin().await.unwrap();
    assert!(matches!(there.authority.lock(&mut tx, "k").await, Err(Error::NotOwner { .. })));
    drop(tx);
    there.end().await;
}

#[tokio::test]
async fn a_recalled_key_ends_what_it_began_and_begins_nothing() {
    let there = There::new().await;
    there.set(Some(Row { epoch: Epoch(3), writable: true, recall_epoch: None }), false, true).await;
    let busy = Reply::Busy("a refund is under way".to_owned());
    assert_eq!(only(there.target.recall(&k(4)).await.unwrap()), busy);
    let mut tx = there.pool.begin().await.unwrap();
    assert!(matches!(there.authority.lock(&mut tx, "k").await, Err(Error::Moving { .. })));
    assert_eq!(there.authority.lock_outcome(&mut tx, "k").await.unwrap(), Epoch(3));
    tx.commit().await.unwrap();
    sqlx::query("update shop.payment set busy = null").execute(&there.admin).await.unwrap();
    assert_eq!(only(there.target.recall(&k(4)).await.unwrap()), Reply::Released);
    assert_eq!(there.given().await, [4]);
    there.end().await;
}

#[tokio::test]
async fn a_recall_waits_for_a_write_under_way_within_its_bound() {
    let there = There::new().await;
    there.set(Some(Row { epoch: Epoch(3), writable: true, recall_epoch: None }), true, true).await;
    let mut write = there.pool.begin().await.unwrap();
    there.authority.lock(&mut write, "k").await.unwrap();
    let recalled = there.target.recall(&k(4)).await;
    assert!(matches!(&recalled, Err(error @ Error::Moving { .. }) if error.is_retryable()), "{recalled:?}");
    assert!(there.given().await.is_empty());
    write.commit().await.unwrap();
    assert_eq!(only(there.target.recall(&k(4)).await.unwrap()), Reply::Released);
    there.end().await;
}

#[tokio::test]
async fn keys_move_over_grpc() {
    let there = There::new().await;
    there.set(None, false, true).await;
    there.offered(2).await.unwrap();
    let (port, _reporter, running) = serving(&Memory::default(), there.target.clone()).await;
    let peer = client(port, TOKEN);
    assert_eq!(only(peer.ready(&k(2)).await.unwrap()), Reply::Ready);
    assert_eq!(only(peer.grant(&k(3)).await.unwrap()), Reply::Granted);
    let busy = Reply::Busy("a refund is under way".to_owned());
    assert_eq!(only(peer.recall(&k(4)).await.unwrap()), busy);
    assert_eq!(only(peer.recall(&k(3)).await.unwrap()), Reply::Stale);
    running.abort();
    there.end().await;
}

#[tokio::test]
async fn a_repair_publishes_what_is_the_targets_own_and_names_the_rest() {
    let there = There::new().await;
    let mine = Row { epoch: Epoch::BIRTH, writable: true, recall_epoch: None };
    let keys = ["k".to_owned(), "other".to_owned()];
    let published = async || -> i64 {
        sqlx::query_scalar("select count(*) from shop.snapshot").fetch_one(&there.admin).await.unwrap()
    };
    there.set(Some(mine), false, true).await;
    let left = there.target.repair(&keys).await.unwrap();
    let left: Vec<_> = left.iter().map(|left| left.key.as_str()).collect();
    assert_eq!((left.as_slice(), published().await), (&["other"][..], 1), "a busy key is published, too");

    there.set(Some(Row { writable: false, ..mine }), true, true).await;
    assert_eq!(there.target.repair(&keys[..1]).await.unwrap()[0].why, "it is not the target's to write");
    there.set(Some(Row { recall_epoch: Some(Epoch(2)), ..mine }), false, true).await;
    let left = there.target.repair(&keys[..1]).await.unwrap();
    assert_eq!(left[0].why, "it is on its way back to the source, which takes its state with it");
    assert_eq!(published().await, 1);
    assert_eq!(there.target.known(&keys).await.unwrap(), ["k"]);
    there.end().await;
}

#[tokio::test]
async fn the_state_of_a_key_that_is_called_back_is_not_published() {
    let there = There::new().await;
    let recalled = Row { epoch: Epoch(3), writable: true, recall_epoch: Some(Epoch(4)) };
    there.set(Some(recalled), false, true).await;
    let left = there.target.repair(&["k".to_owned()]).await.unwrap();
    assert!(left[0].why.contains("on its way back"), "{left:?}");
    let published = "select count(*) from shop.snapshot";
    assert_eq!(sqlx::query_scalar::<_, i64>(published).fetch_one(&there.admin).await.unwrap(), 0);
    there.end().await;
}

/// Locks `k` again and again, and counts how often it got it; three of these leave hardly a moment at which nobody holds it.
async fn write_for_ever(pool: PgPool, authority: Authority, held: Arc<AtomicUsize>) {
    loop {
        let mut tx = pool.begin().await.unwrap();
        // A claim that holds the row refuses the write; the next one comes.
        if authority.lock(&mut tx, "k").await.is_ok() {
            held.fetch_add(1, Ordering::SeqCst);
        }
        // In a transaction that was refused this fails, too.
        let _slept = sqlx::query("select pg_sleep(0.05)").execute(&mut *tx).await;
        drop(tx.rollback().await);
    }
}

#[tokio::test]
async fn writers_without_pause_keep_neither_a_repair_nor_a_recall_waiting() {
    let there = There::new().await;
    there.set(Some(Row { epoch: Epoch(3), writable: true, recall_epoch: None }), true, true).await;
    let other =
        "insert into strangler.authority (migration, key, epoch, writable) values ('payments', 'a', 3, true);
        insert into shop.payment (key) values ('a')";
    sqlx::raw_sql(other).execute(&there.admin).await.unwrap();
    let held = Arc::new(AtomicUsize::new(0));
    let write =
        || tokio::spawn(write_for_ever(there.pool.clone(), there.authority.clone(), Arc::clone(&held)));
    let writers = [write(), write(), write()];
    let keys = ["a".to_owned(), "k".to_owned()];
    for _ in 0..8 {
        let before = held.load(Ordering::SeqCst);
        eventually("the key is written", async || held.load(Ordering::SeqCst) > before).await;
        let mut repair = Box::pin(there.target.repair(&keys));
        let answered = tokio::time::timeout(SOON, async {
            tokio::select! {
                left = &mut repair => left.unwrap(),
                () = write_again_and_again(&there) => unreachable!(),
            }
        });
        assert!(answered.await.unwrap().is_empty());
    }
    // A recall changes the row, so it has to wait for who holds it: within its bound.
    let called = k(4);
    for _ in 0..8 {
        let recall = tokio::time::timeout(SOON, there.target.recall(&called));
        match recall.await.unwrap() {
            Ok(replies) => assert_eq!(only(replies), Reply::Released),
            Err(error) => assert!(matches!(error, Error::Moving { .. }), "{error:?}"),
        }
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    // New writers join those that hold the row, so it may be the recall's only now. Then it is.
    eventually("the key is given up", async || {
        there.target.recall(&called).await.is_ok_and(|replies| only(replies) == Reply::Released)
    })
    .await;
    assert_eq!(there.given().await, [4], "published once");
    there.end().await;
}

/// A writer of another key, which is never refused.
async fn write_again_and_again(there: &There) {
    loop {
        let mut tx = there.pool.begin().await.unwrap();
        assert_eq!(there.authority.lock(&mut tx, "a").await.unwrap(), Epoch(3));
        tx.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn a_home_knows_whether_it_may_write_any_key() {
    let there = There::new().await;
    let holds = async || there.authority.holds_any(&there.pool).await.unwrap();
    let mine = Row { epoch: Epoch::BIRTH, writable: true, recall_epoch: None };
    there.set(None, true, true).await;
    assert!(!holds().await, "nothing has come");
    there.set(Some(Row { writable: false, ..mine }), true, true).await;
    assert!(!holds().await, "offered, or given back");
    there.set(Some(mine), true, true).await;
    assert!(holds().await);
    there.set(Some(Row { recall_epoch: Some(Epoch(2)), ..mine }), true, true).await;
    assert!(holds().await, "called back, and still to be ended here");
    let other = Authority::new("another").holds_any(&there.pool).await.unwrap();
    assert!(!other, "another migration's keys");
    let denied = sqlx::query("select strangler.grant_holdings(session_user)").execute(&there.pool).await;
    assert!(denied.unwrap_err().to_string().contains("permission denied"));
    there.end().await;
}
