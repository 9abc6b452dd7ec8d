//! A person ends a command that the provider does not tell the outcome of, and can't end it wrongly.

use super::*;
use crate::effect::{Resolution, resolve};
use crate::provider::{Call, Fault, ObjectStatus};
use crate::reconcile::{ReconcileConfig, Reconciler};
use crate::{Actor, Desk as _};

impl World {
    /// The open command of a payment.
    async fn command(&self, id: PaymentId) -> Uuid {
        let sql = "select command_id from payments.intent where payment_id = $1 and state <> 'done'";
        sqlx::query_scalar(sql).bind(id.uuid()).fetch_one(&self.admin).await.unwrap()
    }

    /// Lets the provider's key lifetime pass.
    async fn expire(&self, command: Uuid) {
        let sql = "update payments.intent set created_at = now() - interval '2 days' where command_id = $1";
        sqlx::query(sql).bind(command).execute(&self.admin).await.unwrap();
        self.provider.forget_keys();
    }

    async fn decide(&self, command: Uuid, done: Option<&str>) -> Result<Payment, Error> {
        let by: Actor = "ann".parse().unwrap();
        let (done, reason) = (done.map(str::to_owned), "seen in the dashboard".to_owned());
        resolve(&self.home, &Resolution { command, done, by, reason }).await
    }

    async fn decisions(&self) -> Vec<String> {
        let sql = "select action from payments.audit where actor = 'ann' order by id";
        sqlx::query_scalar(sql).fetch_all(&self.admin).await.unwrap()
    }
}

fn contradicts(answer: &Result<Payment, Error>) -> bool {
    matches!(answer, Err(Error::Invalid(violations)) if violations[0].reason.contains("contradicts"))
}

#[tokio::test]
async fn a_charge_that_was_done_can_not_be_declared_undone() {
    let world = World::new("hand_charge").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::DoneUnanswered);
    world.engine().once().await.unwrap();
    let command = world.command(id).await;
    let young = world.decide(command, None).await;
    assert!(matches!(young, Err(Error::Busy(_))), "the resolver still asks: {young:?}");

    world.expire(command).await;
    for wrong in [None, Some("pi_9")] {
        let answer = world.decide(command, wrong).await;
        assert!(contradicts(&answer), "{wrong:?} {answer:?}");
    }
    assert!(world.decisions().await.is_empty(), "what the provider contradicts is no decision");
    let payment = world.decide(command, Some("pi_1")).await.unwrap();
    assert_eq!((payment.status, payment.version), (Status::Captured, 2));
    assert_eq!(world.decisions().await, ["decided: done"]);
    let again = world.decide(command, Some("pi_1")).await;
    assert!(matches!(again, Err(Error::NotFound)), "{again:?}");
    assert_eq!(world.provider.journal().len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_charge_that_was_not_done_can_not_be_done_later() {
    let world = World::new("hand_undone").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::Lost);
    world.engine().once().await.unwrap();
    let command = world.command(id).await;
    world.expire(command).await;
    let early = world.decide(command, Some("pi_1")).await;
    assert!(contradicts(&early), "{early:?}");
    let payment = world.decide(command, None).await.unwrap();
    assert_eq!(payment.status, Status::Declined);
    // Whatever was still on its way meets a canceled payment intent.
    let late = world.home.provider.confirm("late", "pi_1").await;
    assert!(late.is_err() && world.provider.journal().is_empty(), "{late:?}");
    world.end().await;
}

#[tokio::test]
async fn a_charge_that_took_another_amount_is_ended_and_what_it_took_is_booked() {
    let world = World::new("hand_other").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::DoneUnanswered);
    world.engine().once().await.unwrap();
    // Somebody had changed the payment intent before it was confirmed.
    world.provider.received("pi_1", 900);
    world.provider.alter("pi_1", -100);
    let command = world.command(id).await;
    world.expire(command).await;
    world.hurry().await;
    world.engine().once().await.unwrap();
    let open = store::open_work(&world.home.pool).await.unwrap().open;
    assert_eq!((open[0].operation.as_str(), open[0].state.as_str()), ("charge", "expired"));
    // A try that reads nothing changes nothing of that.
    world.provider.fail_next(Call::Retrieve, Fault::Lost);
    world.hurry().await;
    world.engine().once().await.unwrap();
    let open = store::open_work(&world.home.pool).await.unwrap().open;
    assert_eq!(open[0].state, "expired");

    let done = world.decide(command, Some("pi_1")).await;
    assert!(contradicts(&done), "it is not what was asked for: {done:?}");
    assert_eq!(world.decide(command, None).await.unwrap().status, Status::Declined);
    assert_eq!(world.decisions().await, ["decided: not done"]);
    let sql = "select detail ->> 'code' from payments.audit where actor = 'ann'";
    let code: String = sqlx::query_scalar(sql).fetch_one(&world.admin).await.unwrap();
    assert_eq!(code, "other_amount");

    let config = ReconcileConfig { late_after: Duration::ZERO, ..ReconcileConfig::default() };
    Reconciler::new(world.home.clone(), config).once().await.unwrap();
    assert_eq!(world.balances(id).await, [("clearing".into(), 900), ("receivable".into(), -900)]);
    world.end().await;
}

#[tokio::test]
async fn a_charge_that_became_a_reservation_is_released_and_ended() {
    let world = World::new("hand_reserved").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::Lost);
    world.engine().once().await.unwrap();
    let command = world.command(id).await;
    world.expire(command).await;
    world.provider.turn(id, ObjectStatus::Processing);
    let early = world.decide(command, None).await;
    assert!(contradicts(&early), "it may be charged yet: {early:?}");
    world.provider.turn(id, ObjectStatus::RequiresCapture);
    assert_eq!(world.decide(command, None).await.unwrap().status, Status::Declined);
    let object = world.home.provider.retrieve("pi_1").await.unwrap();
    assert_eq!(object.status, ObjectStatus::Canceled);
    world.end().await;
}

#[tokio::test]
async fn a_refund_is_decided_by_what_the_provider_lists() {
    let world = World::new("hand_refund").await;
    for (fault, refunds) in [(Fault::DoneUnanswered, 1), (Fault::Lost, 0)] {
        let id = world.captured().await;
        let intent = world.payment(id).await.provider_ref.unwrap();
        world.provider.fail_next(Call::Refund, fault);
        let desk = world.desk().answer_within(Duration::from_secs(1));
        let pending = desk.refund(&refund(id, Some(300), "r1"), Epoch(0)).await;
        assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
        let command = world.command(id).await;
        world.expire(command).await;
        let listed = world.home.provider.refunds(&intent).await.unwrap();
        assert_eq!(listed.len(), refunds);
        let payment = match listed.first() {
            Some(made) => {
                assert!(contradicts(&world.decide(command, None).await));
                world.decide(command, Some(&made.id)).await.unwrap()
            }
            None => {
                assert!(contradicts(&world.decide(command, Some("re_1")).await));
                world.decide(command, None).await.unwrap()
            }
        };
        let refunded = if refunds == 1 { 300 } else { 0 };
        assert_eq!((payment.status, payment.refunded_minor), (Status::Captured, refunded));
    }
    assert_eq!(world.decisions().await, ["decided: done", "decided: not done"]);
    world.end().await;
}

#[tokio::test]
async fn an_answer_that_took_more_than_a_week_is_kept_from_then_on() {
    let world = World::new("hand_late").await;
    let id = world.captured().await;
    world.provider.fail_next(Call::Refund, Fault::DoneUnanswered);
    let desk = world.desk().answer_within(Duration::from_millis(200));
    let asked = refund(id, Some(300), "k");
    let pending = desk.refund(&asked, Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    let command = world.command(id).await;
    world.expire(command).await;
    let claimed =
        "update payments.idempotency set created_at = now() - interval '8 days' where command_id = $1";
    sqlx::query(claimed).bind(command).execute(&world.admin).await.unwrap();
    let done = world.decide(command, Some("re_1")).await.unwrap();
    store::forget_answers(&world.home.pool, 10).await.unwrap();
    assert_eq!(desk.refund(&asked, Epoch(0)).await.unwrap(), done);
    assert_eq!(world.provider.journal().len(), 2, "a charge and one refund");
    world.end().await;
}

#[tokio::test]
async fn a_decision_waits_for_a_try_that_may_be_under_way() {
    let world = World::new("hand_race").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Confirm, Fault::Lost);
    world.engine().once().await.unwrap();
    let command = world.command(id).await;
    let age = async |interval: &str| {
        let sql = "update payments.intent set created_at = now() - $2::text::interval where command_id = $1";
        sqlx::query(sql).bind(command).bind(interval).execute(&world.admin).await.unwrap();
    };
    age("23 hours 5 seconds").await;
    let early = world.decide(command, None).await;
    assert!(matches!(early, Err(Error::Busy(_))), "{early:?}");
    age("23 hours 20 seconds").await;
    assert_eq!(world.decide(command, None).await.unwrap().status, Status::Declined);
    world.end().await;
}

#[tokio::test]
async fn a_capture_that_the_resolver_goes_on_with_is_not_declared_undone() {
    let world = World::new("hand_capture").await;
    let id = world.request("pm_card_visa", true).await;
    world.engine().once().await.unwrap();
    world.provider.fail_next(Call::Capture, Fault::Lost);
    let desk = world.desk().answer_within(Duration::from_millis(200));
    let pending = desk.capture(&capture(id, None, "c"), Epoch(0)).await;
    assert!(matches!(pending, Err(Error::OutcomePending(_))), "{pending:?}");
    let command = world.command(id).await;
    world.expire(command).await;
    let answer = world.decide(command, None).await;
    assert!(matches!(answer, Err(Error::Busy(_))), "{answer:?}");
    world.work().await;
    assert_eq!(world.payment(id).await.status, Status::Captured);
    world.end().await;
}

#[tokio::test]
async fn a_charge_without_a_payment_intent_is_declared_undone_or_gets_one_but_not_both() {
    let world = World::new("hand_none").await;
    let id = world.request("pm_card_visa", false).await;
    world.provider.fail_next(Call::Create, Fault::Lost);
    world.engine().once().await.unwrap();
    let command = world.command(id).await;
    world.expire(command).await;

    // The decision has asked the provider and waits for the payment's row, while the resolver makes and keeps one.
    let mut tx = world.admin.begin().await.unwrap();
    let row = "select id from payments.payment where id = $1 for update";
    sqlx::query(row).bind(id.uuid()).execute(&mut *tx).await.unwrap();
    let resolver = async {
        someone_waits(&world).await;
        assert!(store::set_object(&world.home.pool, command, 1, "pi_1").await.unwrap());
        tx.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.decide(command, None), resolver);
    assert!(matches!(answer, Err(Error::Busy(_))), "{answer:?}");
    assert!(world.decisions().await.is_empty());
    let sql = "update payments.intent set provider_object = null where command_id = $1";
    sqlx::query(sql).bind(command).execute(&world.admin).await.unwrap();

    assert_eq!(world.decide(command, None).await.unwrap().status, Status::Declined);
    // Whoever has made one meanwhile does not get to confirm it.
    assert!(!store::set_object(&world.home.pool, command, 1, "pi_1").await.unwrap());
    assert_eq!(world.provider.journal(), []);
    world.end().await;
}

/// Returns once someone waits for a lock of this database.
async fn someone_waits(world: &World) {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let waits = async {
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&world.admin).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, waits).await.expect("someone waits for a lock");
}
