//! Reads that must see a version.

use super::*;

fn at_least(id: PaymentId, version: &str) -> Request<v1::GetPaymentRequest> {
    let mut request = for_acme(v1::GetPaymentRequest { payment_id: id.to_string() });
    request.metadata_mut().insert("x-min-version", version.parse().unwrap());
    request
}

#[tokio::test]
async fn a_read_names_the_version_that_it_must_see() {
    let world = World::without_engine("min_versions").await;
    let id = world.born("source").await;
    let mut client = world.client();
    for version in ["0", "1"] {
        let answer = client.get_payment(at_least(id, version)).await.unwrap().into_inner();
        assert_eq!(answer.payment.unwrap().version, 1);
    }
    let behind = client.get_payment(at_least(id, "2")).await.unwrap_err();
    let facts = behind.get_error_details().error_info().unwrap().metadata.clone();
    assert_eq!((facts["here"].as_str(), facts["head"].as_str()), ("1", "2"));
    assert_eq!(told(Err::<(), _>(behind)), (Code::Aborted, "BEHIND".to_owned()));
    let unknown = client.get_payment(at_least(PaymentId::new(), "0")).await;
    assert_eq!(told(unknown), (Code::NotFound, "NOT_FOUND".to_owned()));
    for wrong in ["-1", "two", ""] {
        let refused = client.get_payment(at_least(id, wrong)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong:?}");
        assert!(refused.message().contains("x-min-version"), "{}", refused.message());
    }
    world.end().await;
}
