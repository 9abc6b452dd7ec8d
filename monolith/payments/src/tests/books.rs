//! What the database refuses to keep as a booking.

use proto::Money;

use super::*;
use crate::{Account, Posting, balances};

#[tokio::test]
async fn the_ledger_can_only_grow_and_only_in_balance() {
    let world = World::new("ledger").await;
    let id = world.captured().await;
    for (pool, sql) in [
        (&world.home.pool, "update payments.ledger_entry set amount_minor = 1"),
        (&world.home.pool, "delete from payments.ledger_entry"),
        (&world.home.pool, "truncate payments.ledger_entry"),
        (&world.admin, "update payments.ledger_entry set amount_minor = 1"),
        (&world.admin, "delete from payments.ledger_entry"),
        (&world.admin, "truncate payments.ledger_entry"),
    ] {
        assert!(sqlx::query(sql).execute(pool).await.is_err(), "{sql}");
    }
    let sql = "insert into payments.ledger_entry (transaction_id, account, payment_id, tenant, amount_minor, currency)
               values (gen_random_uuid(), 'clearing', $1, 'acme', 5, 'EUR')";
    let error = sqlx::query(sql).bind(id.uuid()).execute(&world.home.pool).await.unwrap_err();
    assert_eq!(error.as_database_error().and_then(|it| it.constraint()), Some("ledger_balanced"));
    // A session that calls itself a replica meets them too.
    let mut replica = world.admin.begin().await.unwrap();
    sqlx::query("set local session_replication_role = replica").execute(&mut *replica).await.unwrap();
    sqlx::query(sql).bind(id.uuid()).execute(&mut *replica).await.unwrap();
    let error = replica.commit().await.unwrap_err();
    assert_eq!(error.as_database_error().and_then(|it| it.constraint()), Some("ledger_balanced"));
    world.end().await;
}

/// Inserts lines (transaction, account, minor units, currency) of a payment in one transaction and commits it.
async fn book(world: &World, id: PaymentId, lines: &[(Uuid, &str, i64, &str)]) -> Result<(), sqlx::Error> {
    let sql = "insert into payments.ledger_entry (transaction_id, account, payment_id, tenant, amount_minor, currency)
               values ($1, $2, $3, 'acme', $4, $5)";
    let mut tx = world.home.pool.begin().await?;
    for (transaction, account, minor, currency) in lines {
        let line = sqlx::query(sql).bind(transaction).bind(account).bind(id.uuid());
        line.bind(minor).bind(currency).execute(&mut *tx).await?;
    }
    tx.commit().await
}

#[tokio::test]
async fn a_booking_is_whole_balanced_and_of_one_currency_at_commit() {
    let world = World::new("books").await;
    let id = world.captured().await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    for (why, lines) in [
        ("one line", vec![(one, "clearing", 5, "EUR")]),
        ("no balance", vec![(one, "clearing", 5, "EUR"), (one, "payable", -4, "EUR")]),
        ("two currencies", vec![(one, "clearing", 5, "EUR"), (one, "payable", -5, "USD")]),
        (
            "two currencies, each in balance",
            vec![
                (one, "clearing", 5, "EUR"),
                (one, "payable", -5, "EUR"),
                (one, "receivable", 3, "USD"),
                (one, "fees", -3, "USD"),
            ],
        ),
        ("balanced over two transactions", vec![(one, "clearing", 5, "EUR"), (other, "payable", -5, "EUR")]),
    ] {
        let error = book(&world, id, &lines).await.expect_err(why);
        let constraint = error.as_database_error().and_then(|it| it.constraint());
        assert_eq!(constraint, Some("ledger_balanced"), "{why}");
    }
    book(&world, id, &[(one, "clearing", 5, "EUR"), (one, "receivable", -5, "EUR")]).await.unwrap();

    // What is booked gets no further lines, not even balanced ones.
    let more = book(&world, id, &[(one, "payable", 3, "EUR"), (one, "fees", -3, "EUR")]).await;
    let error = more.expect_err("more lines");
    assert_eq!(error.as_database_error().and_then(|it| it.constraint()), Some("ledger_balanced"));
    assert_eq!(
        world.balances(id).await,
        [
            ("clearing".into(), 1_005),
            ("fees".into(), -15),
            ("payable".into(), -985),
            ("receivable".into(), -5)
        ]
    );
    world.end().await;
}

/// Everything that is booked for acme, as postings.
async fn postings(world: &World) -> Vec<Posting> {
    let sql = "select account, amount_minor, currency from payments.ledger_entry where tenant = 'acme'";
    let rows: Vec<(String, i64, String)> = sqlx::query_as(sql).fetch_all(&world.admin).await.unwrap();
    let posting = |(account, minor, currency): (String, i64, String)| Posting {
        account: Account::from_word(&account).unwrap(),
        amount: Money::new(minor, currency.parse().unwrap()),
    };
    rows.into_iter().map(posting).collect()
}

#[tokio::test]
async fn the_trial_balance_is_a_fold_over_the_rows_even_beyond_64_bits() {
    let world = World::new("trial").await;
    let desk = world.desk();
    assert_eq!(desk.trial_balance(&tenant()).await.unwrap(), []);
    let id = world.captured().await;
    desk.refund(&refund(id, Some(300), "r1"), Epoch(0)).await.unwrap();
    for (currency, minor) in [("JPY", 7), ("USD", i64::MAX), ("USD", i64::MAX), ("USD", -5)] {
        let transaction = Uuid::now_v7();
        let lines =
            [(transaction, "clearing", minor, currency), (transaction, "receivable", -minor, currency)];
        book(&world, id, &lines).await.unwrap();
    }
    let found = desk.trial_balance(&tenant()).await.unwrap();
    assert_eq!(found, balances(&postings(&world).await));
    let rows: Vec<_> =
        found.iter().map(|it| (it.currency.to_string(), it.account.word(), it.minor())).collect();
    let most = i128::from(i64::MAX) * 2 - 5;
    let row = |currency: &str, account, minor: i128| (currency.to_owned(), account, minor);
    assert_eq!(
        rows,
        [
            row("EUR", "clearing", 700),
            row("EUR", "payable", -685),
            row("EUR", "fees", -15),
            row("JPY", "receivable", -7),
            row("JPY", "clearing", 7),
            row("USD", "receivable", -most),
            row("USD", "clearing", most),
        ]
    );
    assert_eq!(desk.trial_balance(&"other".parse().unwrap()).await.unwrap(), []);
    world.end().await;
}

/// Sums that wait in the database for [`hang_sums`]' lock.
async fn hanging(world: &World) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'";
    sqlx::query_scalar(sql).fetch_one(&world.admin).await.unwrap()
}

/// From now on each trial balance takes as long as somebody holds advisory lock 7; the ledger's other readers and writers don't.
async fn hang_sums(world: &World) {
    let sql = "
        create function payments.wait_for_seven() returns boolean language plpgsql as $$ begin
            if current_query() like '%as debits%' then perform pg_advisory_xact_lock_shared(7); end if;
            return true;
        end $$;
        create policy waits on payments.ledger_entry using (payments.wait_for_seven());
        alter table payments.ledger_entry enable row level security";
    sqlx::raw_sql(sql).execute(&world.admin).await.unwrap();
}

#[tokio::test]
async fn trial_balances_that_take_long_leave_commands_their_connections() {
    let world = World::new("sums").await;
    let (desk, id) = (world.desk(), world.captured().await);
    hang_sums(&world).await;
    let mut seven = world.admin.acquire().await.unwrap();
    sqlx::query("select pg_advisory_lock(7)").execute(&mut *seven).await.unwrap();
    // More than the pool has connections.
    let mut sums = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let desk = desk.clone();
        sums.spawn(async move { desk.trial_balance(&tenant()).await });
    }
    for _ in 0..39 {
        let refused = tokio::time::timeout(SOON, sums.join_next()).await.unwrap().unwrap().unwrap();
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, Error::Unavailable(why) if why.contains("other")), "{refused:?}");
        assert!(refused.is_retryable());
    }
    let hangs = async {
        while hanging(&world).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, hangs).await.unwrap();
    assert_eq!(desk.refund(&refund(id, Some(300), "r"), Epoch(0)).await.unwrap().refunded_minor, 300);
    assert!(hanging(&world).await <= 1, "a tenant has one of the two turns");
    // The last one ends by its own bound.
    let late = tokio::time::timeout(SOON, sums.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&late, Err(Error::Unavailable(why)) if why.contains("too long")), "{late:?}");
    sqlx::query("select pg_advisory_unlock(7)").execute(&mut *seven).await.unwrap();
    drop(seven);
    assert_eq!(desk.trial_balance(&tenant()).await.unwrap().len(), 3);
    world.end().await;
}

#[tokio::test]
async fn books_that_were_made_not_to_balance_are_found() {
    let world = World::new("unbalanced").await;
    let id = world.captured().await;
    assert_eq!(crate::unbalanced(&world.admin).await.unwrap(), None);
    sqlx::query("alter table payments.ledger_entry disable trigger ledger_balanced")
        .execute(&world.admin)
        .await
        .unwrap();
    book(&world, id, &[(Uuid::now_v7(), "clearing", 7, "EUR")]).await.unwrap();
    let found = crate::unbalanced(&world.admin).await.unwrap();
    assert_eq!(found, Some(("EUR".to_owned(), "7".to_owned())));
    world.end().await;
}
