//! Who and what gets in, and what anyone may ask.

use strangler::control::v1::{EvidenceRequest, KeyEpoch, MoveRequest, control_client::ControlClient};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;

#[tokio::test]
async fn nobody_gets_in_without_a_token_for_this_service() {
    let world = World::new("tokens").await;
    let message = || for_acme(v1::GetPaymentRequest { payment_id: PaymentId::new().to_string() });
    let mut bare = PaymentsServiceClient::new(world.channel.clone());
    assert_eq!(bare.get_payment(message()).await.unwrap_err().code(), Code::Unauthenticated);
    let mut foreign = PaymentsServiceClient::with_interceptor(world.channel.clone(), bearer("monolith"));
    assert_eq!(foreign.get_payment(message()).await.unwrap_err().code(), Code::Unauthenticated);
    let mut control = ControlClient::new(world.channel.clone());
    let keys = vec!["k".to_owned()];
    let refused = control.evidence(EvidenceRequest { keys: keys.clone() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut control = ControlClient::with_interceptor(world.channel.clone(), bearer(AUDIENCE));
    let evidence = control.evidence(EvidenceRequest { keys }).await.unwrap().into_inner();
    assert_eq!((evidence.applied.len(), evidence.parked, evidence.awaiting), (0, 0, 0));
    world.end().await;
}

#[tokio::test]
async fn only_the_source_moves_payments_between_the_homes() {
    let world = World::new("strangers").await;
    let id = world.captured().await;
    let other = Bearer::new(Issuer::new(ISSUER, &key()), "invoicing", AUDIENCE);
    let mut client = PaymentsServiceClient::with_interceptor(world.channel.clone(), other.clone());
    client.refund_payment(refund(id, 1, "theirs")).await.unwrap();
    let mut granting = refund(id, 1, "granting");
    granting.metadata_mut().insert("x-authority-epoch", "9".parse().unwrap());
    assert_eq!(client.refund_payment(granting).await.unwrap_err().code(), Code::PermissionDenied);
    let mut control = ControlClient::with_interceptor(world.channel.clone(), other);
    let keys = vec![KeyEpoch { key: id.to_string(), epoch: 9 }];
    let recalled = control.recall(MoveRequest { keys }).await;
    assert_eq!(recalled.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(world.get(id).await.refunded_minor, 1);
    world.end().await;
}

#[tokio::test]
async fn a_card_number_is_refused_in_any_field_and_in_metadata() {
    const CARD: &str = "4111 1111 1111 1111";
    let world = World::new("cards").await;
    let id = world.captured().await;
    let refused = (Code::InvalidArgument, "CARD_NUMBER".to_owned());
    let mut client = world.client();
    assert_eq!(told(client.refund_payment(refund(id, 1, CARD)).await), refused);
    assert_eq!(told(client.refund_payment(refund(id, 4_111_111_111_111_111, "r1")).await), refused);
    let get = || v1::GetPaymentRequest { payment_id: id.to_string() };
    let mut foreign = Request::new(get());
    set_tenant(&mut foreign, "4111111111111111").unwrap();
    assert_eq!(told(client.get_payment(foreign).await), refused);
    let mut epoch = for_acme(get());
    epoch.metadata_mut().insert("x-authority-epoch", "4111111111111111".parse().unwrap());
    let status = client.get_payment(epoch).await.unwrap_err();
    assert!(!status.message().contains("1111"), "{status:?}");
    assert_eq!(told(Err::<(), _>(status)), refused);
    let amount = Some(v1::Money { minor: 1, currency: CARD.into() });
    assert_eq!(
        told(client.quote_fee(v1::QuoteFeeRequest { amount }).await),
        refused,
        "a message in a message"
    );
    let mut control = ControlClient::with_interceptor(world.channel.clone(), bearer(AUDIENCE));
    let keys = vec![id.to_string(), CARD.to_owned()];
    assert_eq!(told(control.evidence(EvidenceRequest { keys }).await), refused);

    let long = v1::GetPaymentRequest { payment_id: "x".repeat(70_000) };
    assert_eq!(client.get_payment(for_acme(long)).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(world.get(id).await.refunded_minor, 0);
    world.end().await;
}

#[tokio::test]
async fn health_and_both_reflections_answer_anyone() {
    let world = World::new("reflects").await;
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(world.channel.clone()).check(request).await.unwrap();

    let expected = ["grpc.health.v1.Health", "payments.v1.PaymentsService", "strangler.v1.Control"];
    {
        use tonic_reflection::pb::v1::ServerReflectionRequest;
        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let answers = ServerReflectionClient::new(world.channel.clone());
        let mut answers =
            { answers }.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
        let names: Vec<_> = list.service.into_iter().map(|it| it.name).collect();
        assert!(expected.iter().all(|name| names.iter().any(|it| it == name)), "{names:?}");
    }
    {
        use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
        use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
        let symbol = "payments.v1.PaymentsService".to_owned();
        let message_request = Some(MessageRequest::FileContainingSymbol(symbol));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let answers = ServerReflectionClient::new(world.channel.clone());
        let mut answers =
            { answers }.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
    }
    world.end().await;
}
