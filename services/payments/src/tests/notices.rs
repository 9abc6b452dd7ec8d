//! What the provider tells, delivered to the owner.

use super::*;

#[tokio::test]
async fn a_notice_is_taken_by_its_owner_and_moves_no_money() {
    let world = World::new("notices").await;
    let id = world.captured().await;
    let before = world.get(id).await;
    let mut client = world.client();
    let notice = |payment: PaymentId, kind: &str, object: &str| {
        for_acme(v1::DeliverWebhookRequest {
            event_id: "evt_1".into(),
            kind: kind.into(),
            object: object.into(),
            status: "succeeded".into(),
            payment_id: payment.to_string(),
            command_id: String::new(),
            created_ms: 1_700_000_000_000,
        })
    };
    let (own, succeeded) = (before.provider_ref.clone(), "payment_intent.succeeded");
    let applied = client.deliver_webhook(notice(id, succeeded, &own)).await.unwrap().into_inner();
    assert_eq!((applied.delivery(), applied.surprise.as_str()), (v1::Delivery::Applied, ""));
    let surprise = client.deliver_webhook(notice(id, succeeded, "pi_other")).await.unwrap().into_inner();
    assert_eq!(surprise.delivery(), v1::Delivery::Surprise);
    assert!(surprise.surprise.contains("pi_other is not the payment's"), "{}", surprise.surprise);
    let early = client.deliver_webhook(notice(PaymentId::new(), succeeded, "pi_1")).await.unwrap();
    assert_eq!(early.into_inner().delivery(), v1::Delivery::Early);
    let foreign = world.born("source").await;
    let refused = client.deliver_webhook(notice(foreign, succeeded, "pi_1")).await;
    assert_eq!(told(refused), (Code::FailedPrecondition, "NOT_OWNER".into()));

    let mut bad = notice(id, "payment_intent.exploded", "");
    bad.get_mut().command_id = "42".into();
    let status = client.deliver_webhook(bad).await.unwrap_err();
    let details = status.get_error_details();
    let fields: Vec<&str> =
        details.bad_request().unwrap().field_violations.iter().map(|it| it.field.as_str()).collect();
    assert_eq!((status.code(), fields), (Code::InvalidArgument, vec!["object", "command_id"]));
    assert_eq!(world.get(id).await, before);
    world.end().await;
}
