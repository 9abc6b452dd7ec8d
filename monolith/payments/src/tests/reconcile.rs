//! Each kind of difference by name: found, kept once, closed by what closes it and by nothing else.

use super::*;
use crate::provider::{Call, Fault, ObjectStatus};
use crate::reconcile::{
    Difference, DifferenceKind, OPEN_MAX, Order, ReconcileConfig, Reconciled, Reconciler, differences,
    operate,
};
use crate::{Desk as _, Status};
use proto::Money;

/// Every line is awaited for a day; one that is not there counts as late at once.
fn patient() -> ReconcileConfig {
    ReconcileConfig { late_after: Duration::ZERO, ..ReconcileConfig::default() }
}

/// Nothing is awaited.
fn strict() -> ReconcileConfig {
    ReconcileConfig { missing_after: Duration::ZERO, ..patient() }
}

fn euros(minor: i64) -> Money {
    Money::new(minor, "EUR".parse().unwrap())
}

impl World {
    async fn reconcile(&self, config: ReconcileConfig) -> Vec<Difference> {
        let ran = Reconciler::new(self.home.clone(), config).once().await.unwrap();
        assert!(matches!(ran, Reconciled::Whole { .. }), "{ran:?}");
        differences(&self.home, true).await.unwrap()
    }

    /// All of payments' tables of books and differences, to see that nothing changes.
    async fn rows(&self) -> Vec<String> {
        let sql = "
            select d::text from payments.difference d union all select e::text from payments.ledger_entry e
            union all select s::text from payments.settled s union all select p::text from payments.payment p order by 1";
        sqlx::query_scalar(sql).fetch_all(&self.admin).await.unwrap()
    }

    /// A second look finds nothing new, and changes nothing.
    async fn same_again(&self, config: ReconcileConfig) {
        let before = self.rows().await;
        self.reconcile(config).await;
        assert_eq!(self.rows().await, before, "a second run changes nothing");
    }

    async fn clearing_and_receivable(&self, id: PaymentId) -> (i64, i64) {
        let balances = self.balances(id).await;
        let of = |name| balances.iter().find(|(account, _)| account == name).map_or(0, |(_, minor)| *minor);
        (of("clearing"), of("receivable"))
    }
}

fn closed(difference: &Difference) -> Option<(&str, &str)> {
    difference.closed.as_ref().map(|(by, reason)| (by.as_str(), reason.as_str()))
}

#[tokio::test]
async fn books_that_agree_with_the_list_have_no_difference() {
    let world = World::new("agrees").await;
    for n in 0..9 {
        let id = world.captured().await;
        world.desk().refund(&refund(id, Some(100 + n), "r1"), Epoch(0)).await.unwrap();
    }
    let ran = Reconciler::new(world.home.clone(), strict()).once().await.unwrap();
    assert_eq!(ran, Reconciled::Whole { lines: 18 }, "over several pages");
    assert!(differences(&world.home, true).await.unwrap().is_empty());
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_refund_made_in_the_providers_dashboard_is_booked() {
    let world = World::new("dashboard").await;
    let id = world.captured().await;
    let refund = world.provider.refund_unasked("pi_1", euros(300));

    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, difference.there_minor), (DifferenceKind::MissingHere, Some(-300)));
    assert_eq!(difference.payment.as_ref().map(|(payment, _)| *payment), Some(id));
    let reason = format!("the provider returned this by {refund}, and its object confirms it");
    assert_eq!(closed(difference), Some(("reconciliation", reason.as_str())));
    assert_eq!(world.clearing_and_receivable(id).await, (700, 300));
    assert_eq!(world.payment(id).await.status, Status::Captured, "the state is the commands' business");
    assert_eq!(world.versions(id).await, [1, 2, 3], "and the other home hears of it");
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_charge_that_nobody_asked_for_is_booked() {
    let world = World::new("unasked").await;
    let (id, declined) = (world.captured().await, world.request("pm_card_declined", false).await);
    world.engine().once().await.unwrap();
    world.provider.charge_unasked(&tenant(), id, euros(500));
    world.provider.charge_unasked(&tenant(), declined, euros(1_000));
    world.provider.charge_again("pi_1");

    let found = world.reconcile(strict()).await;
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|difference| difference.kind == DifferenceKind::MissingHere));
    assert!(found.iter().all(|difference| difference.closed.is_some()), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (2_500, -1_500), "owed to whoever paid");
    assert_eq!(world.clearing_and_receivable(declined).await, (1_000, -1_000));
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn an_altered_amount_is_booked_only_when_the_object_confirms_it() {
    let world = World::new("altered").await;
    let id = world.captured().await;
    world.provider.alter("pi_1", -100);
    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    let amounts = (difference.here_minor, difference.there_minor);
    assert_eq!((difference.kind, amounts), (DifferenceKind::Amount, (Some(1_000), Some(900))));
    assert_eq!(closed(difference), None, "the provider's object still says 1,000");
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0));
    world.same_again(strict()).await;

    world.provider.received("pi_1", 900);
    let found = world.reconcile(strict()).await;
    assert!(found[0].closed.is_some() && found.len() == 1, "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (900, 100));

    // It was an error there, which is put right: the same line gets a second adjustment.
    world.provider.alter("pi_1", 0);
    world.provider.received("pi_1", 1_000);
    let found = world.reconcile(strict()).await;
    assert!(found.len() == 2 && found.iter().all(|difference| difference.closed.is_some()), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0));
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_hidden_line_that_comes_late_closes_its_difference() {
    let world = World::new("late").await;
    let id = world.captured().await;
    world.provider.hide("pi_1");
    let found = world.reconcile(patient()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, difference.object.as_str()), (DifferenceKind::Late, "pi_1"));
    assert_eq!((difference.here_minor, difference.there_minor), (Some(1_000), None));
    world.same_again(patient()).await;

    world.provider.show("pi_1");
    let found = world.reconcile(patient()).await;
    assert_eq!(closed(&found[0]), Some(("reconciliation", "its line came: txn_000001")));
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0), "nothing was booked");
    world.same_again(patient()).await;
    world.end().await;
}

#[tokio::test]
async fn a_captured_payment_whose_line_never_comes_is_missing_until_a_person_accepts_it() {
    let world = World::new("never").await;
    let id = world.captured().await;
    world.provider.hide("pi_1");
    assert_eq!(world.reconcile(patient()).await[0].kind, DifferenceKind::Late);
    let found = world.reconcile(strict()).await;
    let [difference, late] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, closed(difference)), (DifferenceKind::MissingThere, None));
    assert_eq!(closed(late), Some(("reconciliation", "it has changed")));
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0), "absence decides nothing");

    let ann = "ann".parse().unwrap();
    crate::reconcile::accept(&world.home, difference.id, &ann, "the provider lost its books").await.unwrap();
    let found = world.reconcile(strict()).await;
    assert_eq!(closed(&found[0]), Some(("ann", "the provider lost its books")));
    assert_eq!(found.len(), 2, "what was accepted stays so");
    let again = crate::reconcile::accept(&world.home, found[0].id, &ann, "twice").await;
    assert!(matches!(again, Err(Error::NotFound)), "{again:?}");
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_payment_cancelled_in_the_dashboard_differs_in_state_until_it_is_voided() {
    let world = World::new("state").await;
    let id = world.request("pm_card_visa", true).await;
    world.engine().once().await.unwrap();
    assert!(world.reconcile(strict()).await.is_empty(), "authorized in both");
    world.provider.turn(id, ObjectStatus::Canceled);
    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, closed(difference)), (DifferenceKind::State, None));
    assert_eq!(difference.detail, "authorized here, canceled there");
    world.same_again(strict()).await;

    let voided = world.desk().void(&void(id, "v1"), Epoch(0)).await.unwrap();
    assert_eq!(voided.status, Status::Voided);
    let found = world.reconcile(strict()).await;
    assert_eq!(closed(&found[0]), Some(("reconciliation", "the payment is voided here now")));
    assert_eq!(world.balances(id).await, []);
    world.end().await;
}

#[tokio::test]
async fn a_refund_that_fails_later_comes_back_to_the_books() {
    let world = World::new("failed").await;
    let id = world.captured().await;
    world.desk().refund(&refund(id, Some(300), "r1"), Epoch(0)).await.unwrap();
    assert!(world.reconcile(strict()).await.is_empty());
    world.provider.fail_refund("re_1", euros(300));
    let found = world.reconcile(strict()).await;
    assert!(found.len() == 1 && found[0].closed.is_some(), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, -300), "owed to whoever was to get it");
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn an_open_command_is_the_resolvers_business() {
    let world = World::new("open").await;
    let id = world.captured().await;
    world.provider.fail_next(Call::Refund, Fault::DoneUnanswered);
    let pending =
        world.desk().answer_within(Duration::from_secs(1)).refund(&refund(id, None, "r1"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    world.provider.refund_unasked("pi_1", euros(5));
    assert!(world.reconcile(strict()).await.is_empty());
    world.work().await;
    let found = world.reconcile(strict()).await;
    assert_eq!(found.len(), 1, "with the outcome, only what was not asked for differs: {found:?}");
    world.end().await;
}

#[tokio::test]
async fn what_no_payment_is_known_of_is_the_sources_to_tell() {
    let world = World::new("unknown_payment").await;
    world.provider.charge_unasked(&tenant(), PaymentId::new(), euros(500));
    let target = Home { name: "target", ..world.home.clone() };
    Reconciler::new(target, strict()).once().await.unwrap();
    assert!(differences(&world.home, true).await.unwrap().is_empty());
    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.kind, closed(difference)), (DifferenceKind::MissingHere, None));
    assert!(difference.payment.is_none() && difference.detail.contains("no payment"), "{difference:?}");
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn a_payment_of_the_other_home_is_the_other_homes_to_reconcile() {
    let world = World::new("foreign").await;
    let id = world.captured().await;
    world.provider.alter("pi_1", -100);
    assert!(world.reconcile(strict()).await[0].closed.is_none());
    world.owns.0.store(false, Ordering::SeqCst);
    world.provider.refund_unasked("pi_1", euros(300));
    let found = world.reconcile(strict()).await;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!(closed(difference), Some(("reconciliation", "its payment is the other home's now")));
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0));
    world.end().await;
}

#[tokio::test]
async fn an_outage_longer_than_the_window_leaves_no_gap() {
    let world = World::new("outage").await;
    let id = world.captured().await;
    assert!(world.reconcile(strict()).await.is_empty());
    world.provider.refund_unasked("pi_1", euros(300));
    world.provider.age_lines(time::Duration::days(5));
    let ran = "update payments.reconciliation set began_at = began_at - interval '6 days'";
    sqlx::query(ran).execute(&world.admin).await.unwrap();
    let found = world.reconcile(strict()).await;
    assert!(found.len() == 1 && found[0].closed.is_some(), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (700, 300));
    world.end().await;
}

#[tokio::test]
async fn a_difference_that_only_the_old_owner_can_find_stays_open_there() {
    let world = World::new("old_foreign").await;
    world.captured().await;
    world.provider.alter("pi_1", -100);
    assert!(world.reconcile(strict()).await[0].closed.is_none());
    world.provider.age_lines(time::Duration::days(10));
    let aged = "update payments.difference set at = at - interval '10 days'";
    sqlx::query(aged).execute(&world.admin).await.unwrap();
    world.owns.0.store(false, Ordering::SeqCst);
    let found = world.reconcile(strict()).await;
    assert!(found.len() == 1 && found[0].closed.is_none(), "{found:?}");
    world.end().await;
}

#[tokio::test]
async fn a_line_that_waits_for_a_command_is_told_before_it_is_out_of_sight() {
    let world = World::new("waits").await;
    let id = world.captured().await;
    world.provider.fail_next(Call::Refund, Fault::Lost);
    let desk = world.desk().answer_within(Duration::from_millis(200));
    let pending = desk.refund(&refund(id, Some(200), "r1"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    world.provider.refund_unasked("pi_1", euros(5));
    world.provider.age_lines(time::Duration::days(2));
    let found = world.reconcile(strict()).await;
    assert_eq!(found.len(), 2, "the charge waits too: {found:?}");
    assert!(found.iter().all(|it| it.closed.is_none() && it.detail.contains("no outcome yet")), "{found:?}");
    world.work().await;
    let found = world.reconcile(strict()).await;
    assert!(found.iter().all(|difference| difference.closed.is_some()), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (795, 5));
    world.end().await;
}

#[tokio::test]
async fn a_reservation_captured_in_the_dashboard_is_booked_by_its_capture_and_once() {
    let world = World::new("captured_there").await;
    let id = world.request("pm_card_visa", true).await;
    world.engine().once().await.unwrap();
    let object = world.payment(id).await.provider_ref.unwrap();
    world.provider.turn(id, ObjectStatus::Succeeded);
    world.provider.received(&object, 1_000);
    world.provider.charge_again(&object);
    let found = world.reconcile(strict()).await;
    let kinds: Vec<_> = found.iter().map(|it| (it.kind, it.closed.is_none())).collect();
    assert_eq!(kinds, [(DifferenceKind::State, true), (DifferenceKind::MissingHere, true)], "newest first");
    assert_eq!(world.clearing_and_receivable(id).await, (0, 0), "the capture would book it again");
    // The line is out of the window when the merchant captures.
    world.provider.age_lines(time::Duration::days(10));
    let aged = "update payments.difference set at = at - interval '10 days' where kind = 'missing_here'";
    sqlx::query(aged).execute(&world.admin).await.unwrap();
    world.desk().capture(&capture(id, None, "c1"), Epoch(0)).await.unwrap();
    let found = world.reconcile(strict()).await;
    assert!(found.iter().all(|difference| difference.closed.is_some()), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (1_000, 0));
    world.end().await;
}

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
async fn a_run_that_dies_behind_a_posting_is_finished_by_the_next() {
    let world = World::new("half").await;
    let id = world.captured().await;
    world.provider.refund_unasked("pi_1", euros(300));
    // The difference is kept and the adjustment booked; closing it is what did not happen.
    world.reconcile(strict()).await;
    let sql =
        "update payments.difference set state = 'open', closed_at = null, closed_by = null, reason = null";
    sqlx::query(sql).execute(&world.admin).await.unwrap();
    let found = world.reconcile(strict()).await;
    assert!(found.len() == 1 && found[0].closed.as_ref().unwrap().1.contains("confirms"), "{found:?}");
    assert_eq!(world.clearing_and_receivable(id).await, (700, 300), "booked once");
    assert_eq!(world.versions(id).await, [1, 2, 3]);
    world.end().await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_told_and_nothing_is_closed() {
    let world = World::new("away").await;
    world.captured().await;
    world.provider.hide("pi_1");
    world.reconcile(strict()).await;
    for _ in 0..3 {
        world.provider.fail_next(Call::Settlements, Fault::Lost);
    }
    let failed = Reconciler::new(world.home.clone(), strict()).once().await;
    assert!(matches!(&failed, Err(Error::Unavailable(why)) if why.contains("settlement list")), "{failed:?}");
    world.same_again(strict()).await;
    world.end().await;
}

#[tokio::test]
async fn one_reconciles_at_a_time() {
    let world = World::new("turns").await;
    let turn = store::Turn::take(&world.home.pool).await.unwrap().unwrap();
    let busy = Reconciler::new(world.home.clone(), strict()).once().await.unwrap();
    assert_eq!(busy, Reconciled::Busy);
    // A holder that dies gives its turn back with its connection.
    drop(turn);
    let again = tokio::time::timeout(SOON, async {
        loop {
            if let Reconciled::Whole { .. } =
                Reconciler::new(world.home.clone(), strict()).once().await.unwrap()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    again.await.unwrap();
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
