//! Payments at either home, behind one API.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use app::{ISSUER, Remote, SERVICE_AUDIENCE};
use async_trait::async_trait;
use chassis::Secret;
use chassis::service_token::Bearer;
use chassis::token::Issuer;
use payments::{
    Actor, Balance, Capture, Delivered, Desk, Epoch, Error, Notice, Page, Payment, Refund, Status, Tenant,
    Void,
};
use proto::{Money, PaymentId};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tonic::transport::Endpoint;
use webhooks::Options;

use crate::fixture::World;
use crate::half::Half;

#[tokio::test]
async fn before_its_first_event_arrives_a_payment_reads_as_requested() -> anyhow::Result<()> {
    for share in [0, 100] {
        let world = World::open(Arc::new(Service::default())).await?;
        world.half.births(&world.admin, share).await?;
        let order = world.order("k-1").await?;
        let path = format!("/v1/payments/{}", text(&order, "payment_id"));
        let payment = world.get("acme", &path).await?;
        assert_eq!((payment.status, text(&payment.body, "status")), (200, "requested"), "share {share}");
        assert_eq!((&payment.body["amount"], &payment.body["order_id"]), (&order["total"], &order["id"]));
        assert_eq!(world.get("globex", &path).await?.status, 404, "another tenant's");
        let nobodys = format!("/v1/payments/{}", PaymentId::new());
        assert_eq!(world.get("acme", &nobodys).await?.status, 404);

        // A command waits for the owner to get the payment, and then says that it may be repeated.
        let refund = world.post(&format!("{path}/refunds"), "r-1", &json!({})).await?;
        assert_eq!((refund.status, text(&refund.body, "title")), (503, "Temporarily unavailable"));
        world.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_owner_answers() -> anyhow::Result<()> {
    let service = Arc::new(Service::default());
    let world = World::open(service.clone()).await?;
    world.half.births(&world.admin, 100).await?;
    let order = world.order("k-1").await?;
    let path = format!("/v1/payments/{}", text(&order, "payment_id"));
    service.knows(world.shop.payments.find(&"acme".parse()?, text(&order, "payment_id").parse()?).await?);

    assert_eq!(text(&world.get("acme", &path).await?.body, "status"), "authorized");
    let part = json!({ "amount_minor": 100, "reason": "one of two came" });
    let captured = world.post(&format!("{path}/capture"), "c-1", &part).await?;
    assert_eq!((captured.status, text(&captured.body, "status")), (200, "captured"));
    assert_eq!(captured.body["captured_minor"], 100);
    let pending = world.post(&format!("{path}/refunds"), "r-1", &json!({})).await?;
    assert_eq!((pending.status, &pending.body["outcome_pending"]), (202, &json!(true)));
    assert_eq!(world.post(&format!("{path}/void"), "v-1", &json!({})).await?.status, 409);
    assert_eq!(
        service.epochs(),
        [Half::EPOCH; 3],
        "each command carries the owner's epoch, where it is known"
    );
    let why = Some("one of two came".to_owned());
    assert_eq!(service.told(), [("ada".into(), why), ("ada".into(), None), ("ada".into(), None)]);
    world.close().await
}

#[cfg(feature = "local-payments")]
#[tokio::test]
async fn once_the_source_is_sealed_its_copy_is_not_read_any_more() -> anyhow::Result<()> {
    let service = Arc::new(Service::default());
    let world = World::open(service.clone()).await?;
    world.half.births(&world.admin, 100).await?;
    let order = world.order("k-1").await?;
    let payment = text(&order, "payment_id");
    service.knows(world.shop.payments.find(&"acme".parse()?, payment.parse()?).await?);
    world.close().await?;

    let world = World::open(service.clone()).await?;
    sqlx::query("update strangler.migration set stage = 'sealed', revision = revision + 1")
        .execute(&world.admin)
        .await?;
    // A copy that nobody may look at: whoever does is an error.
    sqlx::query("alter table payments.payment rename to gone").execute(&world.admin).await?;
    let list = world.get("acme", "/v1/payments").await?;
    assert_eq!((list.status, text(&list.body["payments"][0], "id")), (200, payment));
    assert_eq!(world.get("acme", "/v1/ledger/trial-balance").await?.status, 503, "the service was asked");
    let young = world.order("k-2").await?;
    let path = format!("/v1/payments/{}", text(&young, "payment_id"));
    let young = world.get("acme", &path).await?;
    assert_eq!((young.status, text(&young.body, "status")), (200, "requested"));
    world.close().await
}

#[tokio::test]
async fn a_service_that_hangs_keeps_half_of_the_dispatchers_slots_at_most() -> anyhow::Result<()> {
    // Nothing here waits, so the connection is never made and no call ends.
    let channel = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
    let issuer = Issuer::new(ISSUER, &Secret::new("a key of thirty-two bytes at least"));
    let remote = Remote::new(channel, Bearer::new(issuer, "monolith", SERVICE_AUDIENCE));
    let notice = notice()?;
    let mut context = Context::from_waker(Waker::noop());

    let slots = Options::default().at_once_max;
    let mut hanging = Vec::new();
    let refused = loop {
        let mut delivery = remote.deliver(&notice, Epoch(1));
        let answer = delivery.as_mut().poll(&mut context);
        if answer.is_ready() || hanging.len() == slots {
            break answer;
        }
        hanging.push(delivery);
    };
    assert_eq!(hanging.len(), slots / 2, "the other half is for what this home owns");
    let Poll::Ready(Err(error)) = refused else { panic!("it waits: {refused:?}") };
    assert!(matches!(error, Error::Unavailable(_)) && error.is_retryable(), "{error}");

    hanging.pop();
    let mut next = remote.deliver(&notice, Epoch(1));
    assert!(next.as_mut().poll(&mut context).is_pending(), "what ended makes room, however it ended");
    Ok(())
}

fn notice() -> anyhow::Result<Notice> {
    Ok(Notice {
        id: "evt_1".into(),
        kind: "payment_intent.succeeded".into(),
        object: "pi_1".into(),
        status: "succeeded".into(),
        payment: PaymentId::new(),
        tenant: "acme".parse()?,
        command: None,
        created: OffsetDateTime::now_utc(),
    })
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// A payments service with at most one payment, authorized.
#[derive(Default)]
pub(crate) struct Service {
    payment: Mutex<Option<Payment>>,
    epochs: Mutex<Vec<i64>>,
    told: Mutex<Vec<Told>>,
}

/// Who asked, and why.
type Told = (String, Option<String>);

impl Service {
    pub(crate) fn knows(&self, payment: Payment) {
        let amount = payment.amount.minor;
        let payment = Payment { status: Status::Authorized, authorized_minor: amount, ..payment };
        *self.payment.lock().unwrap_or_else(PoisonError::into_inner) = Some(payment);
    }

    fn epochs(&self) -> Vec<i64> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn command(
        &self,
        payment: PaymentId,
        (by, reason): (&Actor, &Option<String>),
        epoch: Epoch,
    ) -> Result<Payment, Error> {
        let known = self.known(payment)?;
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push((by.to_string(), reason.clone()));
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).push(epoch.0);
        Ok(known)
    }

    fn known(&self, id: PaymentId) -> Result<Payment, Error> {
        let payment = self.payment.lock().unwrap_or_else(PoisonError::into_inner).clone();
        payment.filter(|payment| payment.id == id).ok_or(Error::NotFound)
    }
}

#[async_trait]
impl Desk for Service {
    async fn find(&self, _: &Tenant, id: PaymentId) -> Result<Payment, Error> {
        self.known(id)
    }

    async fn list(&self, _: &Tenant, _: Page) -> Result<Vec<Payment>, Error> {
        let known = self.payment.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known
            .map(|payment| vec![payment])
            .ok_or_else(|| Error::Unavailable("lists come from the replica".into()))
    }

    async fn trial_balance(&self, _: &Tenant) -> Result<Vec<Balance>, Error> {
        Err(Error::Unavailable("the balance comes from the replica".into()))
    }

    async fn quote_fee(&self, _: Money) -> Result<Money, Error> {
        Err(Error::Unavailable("not asked".into()))
    }

    async fn capture(&self, capture: &Capture, epoch: Epoch) -> Result<Payment, Error> {
        let payment = self.command(capture.payment, (&capture.by, &capture.reason), epoch)?;
        let captured_minor = capture.amount_minor.unwrap_or(payment.authorized_minor);
        Ok(Payment { status: Status::Captured, captured_minor, ..payment })
    }

    async fn void(&self, void: &Void, epoch: Epoch) -> Result<Payment, Error> {
        let payment = self.command(void.payment, (&void.by, &void.reason), epoch)?;
        let operation = payments::Operation::Void;
        Err(payments::Refusal::IllegalTransition { status: payment.status, operation }.into())
    }

    async fn refund(&self, refund: &Refund, epoch: Epoch) -> Result<Payment, Error> {
        let payment = self.command(refund.payment, (&refund.by, &refund.reason), epoch)?;
        Err(Error::OutcomePending(Box::new(Payment { outcome_pending: true, ..payment })))
    }

    async fn deliver(&self, notice: &Notice, epoch: Epoch) -> Result<Delivered, Error> {
        self.known(notice.payment)?;
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner).push(epoch.0);
        Ok(Delivered::Applied)
    }
}
