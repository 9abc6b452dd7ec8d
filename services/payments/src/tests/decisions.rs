//! What this home decides in the source's shadow, over gRPC, and its way to the provider.

use chassis::{Reader, VERSION};
use payments::provider::{Failure, Provider as _, StripeConfig};
use payments::shadow::Shadow;
use strangler::{DecisionClass, DecisionCount, Decisions, Peer as _, ProviderAccess, control};
use time::{Duration as Span, OffsetDateTime};

use super::*;
use crate::provider::OnlyForOwn;

impl World {
    /// Applies the source's charge of a payment, which booked this fee, and writes what was decided beside it.
    async fn charged_there(&self, id: PaymentId, fee_minor: i64) {
        let shadow = Shadow::new(VERSION);
        let replicate = Replicate::new(self.home.clone(), self.authority.clone()).shadow(shadow.clone());
        let mut tx = self.home.pool.begin().await.unwrap();
        outbox::follow(&mut tx, PAYMENTS, &id.to_string(), 2, Uuid::now_v7()).await.unwrap();
        let event = PaymentStream::Captured(self.captured_event(id, fee_minor).await);
        let meta = Meta { version: 2, ..meta(id) };
        replicate.apply(&mut tx, Received { event: event.into(), meta }).await.unwrap();
        tx.commit().await.unwrap();
        // Its task writes once more when it ends.
        let ended = CancellationToken::new();
        ended.cancel();
        shadow.run(self.home.pool.clone(), ended).await;
    }

    async fn captured_event(&self, id: PaymentId, fee_minor: i64) -> events::PaymentCaptured {
        let order: Uuid = sqlx::query_scalar("select order_id from payments.payment where id = $1")
            .bind(id.uuid())
            .fetch_one(&self.admin)
            .await
            .unwrap();
        let money = |minor| Some(events::Money { minor, currency: "EUR".into() });
        let line = |account: &str, minor| events::Posting { account: account.into(), amount: money(minor) };
        let command = Uuid::now_v7().to_string();
        let payable = line("payable", fee_minor - 1_000);
        events::PaymentCaptured {
            state: Some(events::PaymentState {
                payment_id: id.to_string(),
                tenant: "acme".into(),
                order_id: order.to_string(),
                amount: money(1_000),
                capture_method: events::CaptureMethod::Automatic.into(),
                payment_method: "pm_card_visa".into(),
                status: events::PaymentStatus::Captured.into(),
                authorized_minor: 1_000,
                captured_minor: 1_000,
                provider_ref: "pi_1".into(),
                requested_at_ms: 1_760_000_000_123,
                ..Default::default()
            }),
            command: Some(events::PaymentCommand {
                command_id: command.clone(),
                operation: "charge".into(),
                amount_minor: 1_000,
                attempt: 1,
                actor: "engine".into(),
                ..Default::default()
            }),
            outcome: Some(events::ProviderOutcome {
                result: "succeeded".into(),
                object: "pi_1".into(),
                ..Default::default()
            }),
            ledger: vec![events::LedgerTransaction {
                transaction_id: command,
                postings: vec![line("clearing", 1_000), payable, line("fees", -fee_minor)],
            }],
        }
    }

    async fn decisions(&self) -> Decisions {
        let peer = control::Client::new(self.channel.clone(), bearer(AUDIENCE));
        peer.decisions(OffsetDateTime::now_utc() - Span::hours(1)).await.unwrap()
    }
}

fn count(class: DecisionClass, count: u64) -> DecisionCount {
    DecisionCount { class, outcome: "captured".to_owned(), count }
}

#[tokio::test]
async fn what_the_source_decided_otherwise_is_told_over_grpc() {
    let world = World::without_engine("shadows").await;
    let before = world.decisions().await;
    assert_eq!((before.counts.len(), before.version.as_str()), (0, VERSION));
    assert!(before.mutants.len() > 3 && before.mutants.iter().all(|mutant| mutant.caught == 0));

    let right = world.born("source").await;
    world.charged_there(right, 15).await;
    let found = world.decisions().await;
    assert_eq!(found.counts, [count(DecisionClass::Equal, 1)]);
    assert!(found.mutants.iter().any(|mutant| mutant.name == "fee_forgotten" && mutant.caught == 1));
    assert!(found.mutants.iter().all(|mutant| mutant.missed == 0) && found.samples.is_empty());

    let wrong = world.born("source").await;
    world.charged_there(wrong, 14).await;
    let found = world.decisions().await;
    assert_eq!(found.counts, [count(DecisionClass::Equal, 1), count(DecisionClass::Money, 1)]);
    let sample = &found.samples[0];
    assert_eq!((sample.key.as_str(), sample.version), (wrong.to_string().as_str(), 2));
    assert!(sample.text.contains("fees -15 EUR") && sample.text.contains("fees -14 EUR"), "{}", sample.text);
    world.end().await;
}

#[tokio::test]
async fn a_negative_time_is_refused() {
    let world = World::without_engine("untimely").await;
    let peer = control::Client::new(world.channel.clone(), bearer(AUDIENCE));
    let refused = peer.decisions(OffsetDateTime::UNIX_EPOCH - Span::hours(1)).await.unwrap_err();
    assert!(refused.to_string().contains("since_ms: must be milliseconds since 1970"), "{refused}");
    world.end().await;
}

#[tokio::test]
async fn without_a_payment_of_its_own_there_is_no_way_to_the_provider() {
    // What reqwest needs; another story may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::without_engine("denied").await;
    // A provider that answers nobody: whoever connects to it is told by the listener.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings =
        [("PROVIDER_URL", url.as_str()), ("PROVIDER_SECRET_KEY", "sk_test"), ("PROVIDER_TIMEOUT", "50ms")];
    let config = chassis::config::read(Reader::from_pairs(settings), StripeConfig::read).unwrap();
    let authority = strangler::Authority::new(MIGRATION);
    let provider = OnlyForOwn::new(authority, world.home.pool.clone(), config, payments::Metrics::noop());

    world.born("source").await;
    assert_eq!(world.decisions().await.provider, Some(ProviderAccess::Denied));
    let denied = provider.retrieve("pi_1").await.unwrap_err();
    assert!(
        matches!(&denied, Failure::NotNow { why, .. } if why.contains("no way to the provider")),
        "{denied}"
    );
    let now = OffsetDateTime::now_utc();
    let page = provider.settlements(now - Span::hours(1)..now, None).await.unwrap();
    assert!(page.is_none(), "no list, which is not an empty one: {page:?}");
    assert!(
        tokio::time::timeout(Duration::from_millis(1), listener.accept()).await.is_err(),
        "nobody has connected"
    );

    world.born("target").await;
    assert_eq!(world.decisions().await.provider, Some(ProviderAccess::Usable));
    let asked = provider.retrieve("pi_1").await.unwrap_err();
    assert!(!asked.to_string().contains("no way to the provider"), "{asked}");
    tokio::time::timeout(SOON, listener.accept()).await.unwrap().unwrap();
    world.end().await;
}
