//! Pool, migrations and roles against a real PostgreSQL.

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use chassis::Url;
use chassis::database::{PoolOptions, ping, pool};
use chassis::migrations::Migrations;
use chassis::role::ensure_role;
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgPool};

static GOOD: Migrator = sqlx::migrate!("tests/migrations/good");
static CHANGED: Migrator = sqlx::migrate!("tests/migrations/changed");
static NONE: Migrator = Migrator::DEFAULT;

const SCHEMA: &str = "first_things";

async fn database(name: &str) -> (stack::Database, Url) {
    let stack = stack::shared().await.expect("a stack");
    let database = stack.database(name).await.expect("a database");
    let url = database.url().parse().expect("its URL");
    (database, url)
}

fn open(url: &Url, connections_max: u32) -> PgPool {
    pool(url, &PoolOptions::new("chassis-test", connections_max)).expect("a pool")
}

/// The same database under another login.
fn login(url: &Url, role: &str, password: &str) -> Url {
    let (_, rest) = url.expose().rsplit_once('@').expect("a URL with a user");
    format!("postgres://{role}:{password}@{rest}").parse().expect("a URL")
}

#[tokio::test]
async fn a_cancelled_begin_does_not_swallow_the_next_borrowers_writes() {
    let (database, url) = database("poison").await;
    let pool = open(&url, 1);
    sqlx::raw_sql("create table note (id serial primary key)").execute(&pool).await.unwrap();
    let backend = |pool: PgPool| async move {
        sqlx::query_scalar::<_, i32>("select pg_backend_pid()").fetch_one(&pool).await.unwrap()
    };
    let poisoned = backend(pool.clone()).await;

    // The `begin` leaves the process with the first poll and is dropped before its answer is read; the
    // pause on the server's side makes sure that the answer is not there at once.
    let mut connection = pool.acquire().await.unwrap();
    {
        let mut begin = Box::pin(connection.begin_with("begin; select pg_sleep(0.1)"));
        let first = begin.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(first.is_pending());
    }
    drop(connection);

    sqlx::query("insert into note default values").execute(&pool).await.unwrap();
    assert_ne!(backend(pool.clone()).await, poisoned, "the connection with the open transaction was closed");
    let other = open(&url, 1);
    let seen: i64 = sqlx::query_scalar("select count(*) from note").fetch_one(&other).await.unwrap();
    assert_eq!(seen, 1, "another session sees the write");
    let kept = backend(pool.clone()).await;
    assert_eq!(backend(pool.clone()).await, kept, "a clean connection is kept");
    database.drop_now().await.unwrap();
}

#[tokio::test]
async fn every_connection_has_its_bounds() {
    let (database, url) = database("bounds").await;
    let mut options = PoolOptions::new("chassis-bounds", 1);
    options.statement_timeout = Duration::from_millis(1_500);
    options.lock_timeout = Some(Duration::from_millis(700));
    let pool = pool(&url, &options).unwrap();
    for (setting, expected) in [
        ("statement_timeout", "1500ms"),
        ("lock_timeout", "700ms"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("application_name", "chassis-bounds"),
    ] {
        let value: String =
            sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(&pool).await.unwrap();
        assert_eq!(value, expected, "{setting}");
    }
    database.drop_now().await.unwrap();
}

#[tokio::test]
async fn verify_names_what_is_wrong_with_the_schema() {
    let (database, url) = database("migrations").await;
    let admin = open(&url, 4);
    let good = Migrations::new(SCHEMA, &GOOD);
    assert_eq!(good.verify(&admin).await.unwrap_err(), "schema first_things: no migrations of ours");

    let (one, two) = tokio::join!(good.apply(&admin), good.apply(&admin));
    one.and(two).expect("two processes may migrate at once");
    good.verify(&admin).await.expect("up to date");

    let unknown = Migrations::new(SCHEMA, &NONE).verify(&admin).await;
    assert_eq!(unknown.unwrap_err(), "schema first_things: unknown migration 1");
    let changed = Migrations::new(SCHEMA, &CHANGED);
    assert_eq!(
        changed.verify(&admin).await.unwrap_err(),
        "schema first_things: checksum differs at migration 1"
    );
    assert!(changed.apply(&admin).await.is_err(), "a changed migration is not applied");

    sqlx::raw_sql("delete from first_things._migrations where version = 2").execute(&admin).await.unwrap();
    assert_eq!(good.verify(&admin).await.unwrap_err(), "schema first_things: pending migration 2");
    database.drop_now().await.unwrap();
}

#[tokio::test]
async fn a_role_is_made_once_and_may_only_read_its_bookkeeping() {
    let (database, url) = database("role").await;
    let admin = open(&url, 8);
    let good = Migrations::new(SCHEMA, &GOOD);
    good.apply(&admin).await.unwrap();
    let role = format!("{}_first", database.name());
    let own = login(&url, &role, "it%27s%5C%22quoted%22");

    let calls = (0..8).map(|_| ensure_role(&admin, &own));
    for made in futures::future::join_all(calls).await {
        made.expect("all callers see the role made");
    }
    let limited = open(&own, 1);
    ping(&limited).await.expect("the role logs in");
    let refused = good.verify(&limited).await.unwrap_err();
    assert_eq!(refused, "schema first_things: this role may not read \"first_things\"._migrations");
    good.readable_by(&admin, &role).await.unwrap();
    good.verify(&limited).await.expect("the bookkeeping is readable");
    assert!(sqlx::query("select * from first_things.thing").execute(&limited).await.is_err());

    let nameless: Url = "postgres://127.0.0.1/db".parse().unwrap();
    assert!(ensure_role(&admin, &nameless).await.is_err());
    limited.close().await;
    database.drop_now().await.unwrap();
}
