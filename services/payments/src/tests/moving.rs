//! Payments that the source hands over, and takes back.

use strangler::{Epoch, Peer as _, Reply, control};
use tonic::metadata::MetadataValue;

use super::*;

impl World {
    /// Applies the source's offer of a payment that is requested and not begun, as the replica would after its gate.
    async fn offered(&self, id: PaymentId, epoch: i64) {
        let order: Uuid = sqlx::query_scalar("select order_id from payments.payment where id = $1")
            .bind(id.uuid())
            .fetch_one(&self.admin)
            .await
            .unwrap();
        let state = events::PaymentState {
            payment_id: id.to_string(),
            tenant: "acme".into(),
            order_id: order.to_string(),
            amount: Some(events::Money { minor: 1_000, currency: "EUR".into() }),
            capture_method: events::CaptureMethod::Automatic.into(),
            payment_method: "pm_card_visa".into(),
            status: events::PaymentStatus::Requested.into(),
            requested_at_ms: 1_760_000_000_123,
            ..Default::default()
        };
        let whole = Some(events::PaymentSnapshot { state: Some(state), ..Default::default() });
        let event = PaymentStream::Offered(events::AuthorityOffered { epoch, whole, hash: Vec::new() });
        let replicate = Replicate::new(self.home.clone(), self.authority.clone());
        let mut tx = self.home.pool.begin().await.unwrap();
        outbox::follow(&mut tx, PAYMENTS, &id.to_string(), 2, Uuid::now_v7()).await.unwrap();
        let meta = Meta { version: 2, ..meta(id) };
        replicate.apply(&mut tx, Received { event: event.into(), meta }).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A refund as the source sends it, with the epoch that it knows.
    async fn refunded(&self, id: PaymentId, epoch: i64, key: &str) -> Result<v1::Payment, tonic::Status> {
        let mut request = refund(id, 1, key);
        request.metadata_mut().insert("x-authority-epoch", MetadataValue::from(epoch));
        let answer = self.client().refund_payment(request).await?;
        Ok(answer.into_inner().payment.unwrap())
    }

    /// Epoch and right to write of a payment's authority row.
    async fn row(&self, id: PaymentId) -> (i64, bool) {
        let sql = "select epoch, writable from strangler.authority where key = $1";
        sqlx::query_as(sql).bind(id.to_string()).fetch_one(&self.admin).await.unwrap()
    }

    async fn charged(&self, id: PaymentId) {
        let charged = async {
            while self.get(id).await.status() != v1::PaymentStatus::Captured {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, charged).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_with_a_later_settled_epoch_is_a_grant() {
    let world = World::without_engine("grants").await;
    let id = world.born("source").await;
    let unknown = told(world.refunded(id, 3, "r1").await);
    assert_eq!(unknown, (Code::FailedPrecondition, "NOT_OWNER".into()), "no offer has come");
    world.offered(id, 2).await;
    for epoch in [0, 1, 2] {
        let early = told(world.refunded(id, epoch, "r1").await);
        assert_eq!(early, (Code::FailedPrecondition, "NOT_OWNER".into()), "epoch {epoch}");
    }
    assert_eq!(world.row(id).await, (2, false));
    let answer = told(world.refunded(id, 3, "r1").await);
    assert_eq!(
        answer,
        (Code::FailedPrecondition, "ILLEGAL_TRANSITION".into()),
        "its own, and not charged yet"
    );
    assert_eq!(world.row(id).await, (3, true));

    let engine = Engine::new(world.home.clone(), Limits::default());
    world.tasks.spawn(engine.run(world.shutdown.clone()));
    world.charged(id).await;
    assert_eq!(world.refunded(id, 3, "r2").await.unwrap().refunded_minor, 1);
    world.end().await;
}

#[tokio::test]
async fn a_write_with_the_epoch_of_a_cancelled_recall_is_a_grant() {
    let world = World::without_engine("cancelled").await;
    let id = world.born("source").await;
    world.offered(id, 2).await;
    let peer = target(&world.home, &world.authority);
    let asked = |epoch: i64| [(id.to_string(), Epoch(epoch))];
    peer.grant(&asked(3)).await.unwrap();
    // The charge has no engine, so that it is under way for as long as the story wants.
    let open = "
        insert into payments.intent (command_id, payment_id, tenant, operation, amount_minor, claimed_until, actor)
        select gen_random_uuid(), id, tenant, 'charge', amount_minor, clock_timestamp() + interval '1 hour', 'engine'
        from payments.payment where id = $1";
    sqlx::query(open).bind(id.uuid()).execute(&world.admin).await.unwrap();
    assert!(matches!(peer.recall(&asked(4)).await.unwrap()[0].1, Reply::Busy(_)));
    let called = told(world.refunded(id, 0, "r1").await);
    assert_eq!(called, (Code::Aborted, "BUSY".into()), "called back");
    assert_eq!(world.row(id).await, (3, true), "no epoch is no grant");

    // The source cancelled it at epoch 5, and nobody came to say so.
    let own = told(world.refunded(id, 5, "r1").await);
    assert_eq!(own.1, "ILLEGAL_TRANSITION", "its own again, and not charged yet");
    assert_eq!(world.row(id).await, (5, true));
    let sql = "select recall_epoch from strangler.authority where key = $1";
    let recalled: Option<i64> =
        sqlx::query_scalar(sql).bind(id.to_string()).fetch_one(&world.admin).await.unwrap();
    assert_eq!(recalled, None);
    // The same when the recall was never heard.
    assert_eq!(told(world.refunded(id, 7, "r1").await).1, "ILLEGAL_TRANSITION");
    assert_eq!(world.row(id).await, (7, true));
    assert_eq!(
        told(world.refunded(id, 6, "r1").await).1,
        "ILLEGAL_TRANSITION",
        "an earlier one changes nothing"
    );
    assert_eq!(world.row(id).await, (7, true));
    world.end().await;
}

#[tokio::test]
async fn the_controller_asks_grants_and_takes_back_over_grpc() {
    let world = World::new("controls").await;
    let peer = control::Client::new(world.channel.clone(), bearer(AUDIENCE));
    let id = world.born("source").await;
    let asked = |epoch: i64| [(id.to_string(), Epoch(epoch))];
    let told = |reply: Reply| [(id.to_string(), reply)];
    assert_eq!(peer.ready(&asked(2)).await.unwrap(), told(Reply::NotYet));
    world.offered(id, 2).await;
    assert_eq!(peer.ready(&asked(2)).await.unwrap(), told(Reply::Ready));
    assert_eq!(peer.grant(&asked(3)).await.unwrap(), told(Reply::Granted));
    assert_eq!(peer.grant(&asked(3)).await.unwrap(), told(Reply::Granted), "again");
    world.charged(id).await;

    let released = async {
        // The charge's last transaction may still have its row.
        while peer.recall(&asked(4)).await.unwrap() != told(Reply::Released) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, released).await.unwrap();
    assert_eq!(peer.recall(&asked(4)).await.unwrap(), told(Reply::Released), "again");
    assert_eq!(peer.grant(&asked(3)).await.unwrap(), told(Reply::Stale));
    assert_eq!(world.row(id).await, (4, false));
    assert!(world.refunded(id, 3, "r1").await.is_err(), "the source's again");
    let sql = "select kind from outbox.event where key = $1 order by position";
    let kinds: Vec<String> =
        sqlx::query_scalar(sql).bind(id.to_string()).fetch_all(&world.admin).await.unwrap();
    assert_eq!(
        kinds,
        ["com.banyan.payments.payment_captured.v1", "com.banyan.payments.authority_released.v1"]
    );
    world.end().await;
}
