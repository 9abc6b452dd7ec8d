//! Runs: one at a time, over several pages, behind an outage, after one that died.

use opentelemetry::metrics::{MeterProvider as _, NoopMeterProvider};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::provider::{Call, Fault};
use crate::{Desk as _, ReconcileMetrics};

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
async fn a_reconciler_shows_its_numbers_as_long_as_it_runs() {
    let world = World::new("shown").await;
    let metrics = ReconcileMetrics::new(&NoopMeterProvider::new().meter("payments"));
    assert!(metrics.age_s().is_none(), "that of a sealed source never begins");
    let stop = CancellationToken::new();
    let reconciler = Reconciler::new(world.home.clone(), strict()).metrics(metrics.clone());
    let running = tokio::spawn(reconciler.run(stop.clone()));
    let shown = tokio::time::timeout(SOON, async {
        while metrics.age_s().is_none() || store::last_run(&world.home.pool).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    shown.await.unwrap();
    stop.cancel();
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    assert!(metrics.age_s().is_none(), "nobody compares any more, so its age would be an alarm for ever");
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
