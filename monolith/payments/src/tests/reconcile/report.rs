//! What an operator is shown, and decides on.

use super::*;
use crate::reconcile::{DifferenceKind, OPEN_MAX, Order, operate};

#[tokio::test]
async fn a_decision_is_on_what_was_shown() {
    let world = World::new("changed").await;
    world.captured().await;
    world.provider.alter("pi_1", -1);
    let shown = world.reconcile(strict()).await.remove(0);
    world.provider.alter("pi_1", -900);
    let found = world.reconcile(strict()).await;
    assert_eq!(found.iter().filter(|it| it.closed.is_none()).count(), 1, "{found:?}");
    let ann = "ann".parse().unwrap();
    let stale = crate::reconcile::accept(&world.home, shown.id, &ann, "a cent").await;
    assert!(matches!(stale, Err(Error::NotFound)), "{stale:?}");
    world.end().await;
}

#[tokio::test]
async fn what_is_too_much_to_be_shown_is_counted() {
    let world = World::new("many").await;
    let sql = "
        insert into payments.difference (subject, kind, object, detail, at)
        select 'line:txn_' || n, 'missing_here', 'ch_' || n, 'no payment is known here', now()
        from generate_series(1, $1::bigint) n order by n";
    sqlx::query(sql).bind(OPEN_MAX + 1).execute(&world.admin).await.unwrap();
    let told = operate(&world.home, &strict(), Order::Reconcile { all: false }).await.unwrap();
    let lines: Vec<&str> = told.text.lines().collect();
    assert!(lines[2].starts_with("1001 ") && lines[1_001].starts_with("2 "), "the newest first");
    assert_eq!((lines.len(), lines.last()), (1_003, Some(&"and 1 more are open")));
    assert_eq!(told.open, 1_001);
    assert_eq!(crate::open_differences(&world.home.pool).await.unwrap(), 1_001);

    sqlx::query("delete from payments.difference where id = 1").execute(&world.admin).await.unwrap();
    let told = operate(&world.home, &strict(), Order::Reconcile { all: false }).await.unwrap();
    assert!(told.open == 1_000 && !told.text.contains("more are open"), "all are shown");
    world.end().await;
}

#[tokio::test]
async fn differences_are_a_table() {
    let world = World::new("table").await;
    world.captured().await;
    world.provider.alter("pi_1", -100);
    let found = world.reconcile(strict()).await;
    let mut shown = found[0].clone();
    shown.payment = Some(("019a0000-0000-7000-8000-000000000001".parse().unwrap(), tenant()));
    shown.opened_at = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let unknown = Difference {
        id: 2,
        kind: DifferenceKind::MissingHere,
        payment: None,
        here_minor: None,
        detail: "no payment of pi_9 is known here".into(),
        closed: Some(("ann".into(), "a test of ours".into())),
        ..shown.clone()
    };
    insta::assert_snapshot!(crate::table(&[shown, unknown]), @"
    id  kind          payment                               object  here      there    since              says
    1   amount        019a0000-0000-7000-8000-000000000001  ch_1    1000 EUR  900 EUR  2027-01-15 08:00Z
    2   missing_here  -                                     ch_1    -         900 EUR  2027-01-15 08:00Z  closed by ann: a test of ours
    ");
    assert_eq!(crate::table(&[]), "no difference is open\n");
    world.end().await;
}
