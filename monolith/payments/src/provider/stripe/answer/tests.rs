//! Bodies after Stripe's documentation of its API.

use super::*;

fn answer(status: u16, body: &str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, replayed: false, retry_after: None, body: body.as_bytes().to_vec() }
}

fn failure(answer: &Answer) -> Failure {
    answer.read::<PaymentIntent>().err().unwrap()
}

fn intent(status: &str, rest: &str) -> String {
    format!(
        r#"{{"id":"pi_3MtwBwLkdIwHu7ix28a3tqPa","object":"payment_intent","amount":2000,"amount_capturable":0,
            "amount_details":{{"tip":{{}}}},"amount_received":2000,"automatic_payment_methods":null,"capture_method":"automatic",
            "client_secret":"pi_3MtwBwLkdIwHu7ix28a3tqPa_secret_x","confirmation_method":"automatic","created":1680800504,
            "currency":"usd","latest_charge":"ch_3MtwBwLkdIwHu7ix0snN0B15","livemode":false,"metadata":{{"command_id":"x"}},
            "next_action":null,"payment_method":"pm_1MtwBwLkdIwHu7ix","status":"{status}"{rest}}}"#
    )
}

#[test]
fn only_a_decline_and_a_bad_request_are_definite() {
    let declined = format!(
        r#"{{"error":{{"charge":"ch_1","code":"card_declined","decline_code":"insufficient_funds","doc_url":"https://stripe.com/docs",
            "message":"Your card has insufficient funds.","payment_intent":{},"request_log_url":"https://dashboard.stripe.com","type":"card_error"}}}}"#,
        intent("requires_payment_method", "")
    );
    assert_eq!(failure(&answer(402, &declined)), Failure::Declined { code: "insufficient_funds".into() });
    let going_on = declined.replace("requires_payment_method", "processing");
    assert!(matches!(failure(&answer(402, &going_on)), Failure::Unknown(_)), "its own object says otherwise");
    let kept = declined.replace("requires_payment_method", "requires_capture");
    assert!(matches!(failure(&answer(402, &kept)), Failure::Refused { .. }), "a capture that was refused");
    let small = r#"{"error":{"type":"invalid_request_error","code":"amount_too_small","message":"too small","param":"amount"}}"#;
    let refused = Failure::Refused { code: "amount_too_small".into(), message: "too small".into() };
    assert_eq!(failure(&answer(400, small)), refused);
    for (status, kind) in [
        (401, "invalid_request_error"),
        (403, "invalid_request_error"),
        (404, "invalid_request_error"),
        (400, "idempotency_error"),
        (409, "idempotency_error"),
        (500, "api_error"),
        (503, "api_error"),
    ] {
        let body = format!(r#"{{"error":{{"type":"{kind}"}}}}"#);
        assert!(matches!(failure(&answer(status, &body)), Failure::Unknown(_)), "{status} {kind}");
    }
    assert!(matches!(failure(&answer(502, "<html>")), Failure::Unknown(_)));
    assert!(matches!(failure(&answer(200, "<html>")), Failure::Unknown(_)));
}

#[test]
fn a_fault_that_is_kept_under_the_key_says_so_and_the_provider_is_sound() {
    let fresh = answer(500, r#"{"error":{"type":"api_error","message":"sorry"}}"#);
    assert!(!fresh.is_sound());
    let kept = Answer { replayed: true, ..fresh };
    assert!(matches!(failure(&kept), Failure::Kept(_)));
    assert!(kept.is_sound());
    let decline =
        Answer { replayed: true, ..answer(402, r#"{"error":{"type":"card_error","code":"card_declined"}}"#) };
    assert!(matches!(failure(&decline), Failure::Declined { .. }), "a kept decline is a decline");
}

#[test]
fn one_too_many_comes_again_when_it_is_told_within_a_bound() {
    let busy = answer(
        429,
        r#"{"error":{"type":"invalid_request_error","code":"rate_limit","message":"slow down"}}"#,
    );
    let after = |answer: &Answer| match failure(answer) {
        Failure::NotNow { after, .. } => after,
        other => panic!("{other}"),
    };
    assert_eq!(after(&busy), RETRY_AFTER);
    let told = |seconds| Answer { retry_after: Some(Duration::from_secs(seconds)), ..answer(429, "") };
    assert_eq!(after(&told(7)), Duration::from_secs(7));
    assert_eq!(after(&told(86_400)), RETRY_AFTER_MAX);
}

#[test]
fn an_object_says_how_far_it_is() {
    let object: Object =
        answer(200, &intent("succeeded", "")).read::<PaymentIntent>().unwrap().try_into().unwrap();
    assert_eq!((object.id.as_str(), object.received_minor), ("pi_3MtwBwLkdIwHu7ix28a3tqPa", 2_000));
    assert_eq!((object.status, object.decline_code.as_str()), (ObjectStatus::Succeeded, ""));
    let error =
        r#","last_payment_error":{"code":"card_declined","decline_code":"do_not_honor","type":"card_error"}"#;
    let body = intent("requires_payment_method", error);
    let object: Object = answer(200, &body).read::<PaymentIntent>().unwrap().try_into().unwrap();
    let said = (object.status, object.decline_code.as_str());
    assert_eq!(said, (ObjectStatus::RequiresPaymentMethod, "do_not_honor"));
    for body in [intent("levitating", ""), intent("succeeded", "").replace("pi_3", "pi/../3")] {
        let odd = answer(200, &body).read::<PaymentIntent>().unwrap();
        assert!(matches!(Object::try_from(odd), Err(Failure::Unknown(_))));
    }
}

#[test]
fn a_refund_says_whose_it_is_and_a_list_whether_there_is_more() {
    let command = Uuid::now_v7();
    let refund = |status: &str, metadata: &str| {
        format!(
            r#"{{"id":"re_1Nispe2eZvKYlo2Cd31jOCgZ","object":"refund","amount":1000,"balance_transaction":"txn_1","charge":"ch_1",
                "created":1692942318,"currency":"usd","metadata":{metadata},"payment_intent":"pi_1","reason":null,"status":{status}}}"#
        )
    };
    let tagged = format!(r#"{{"command_id":"{command}"}}"#);
    let data =
        [refund(r#""succeeded""#, &tagged), refund(r#""failed""#, "{}"), refund("null", "{}")].join(",");
    let body = format!(r#"{{"object":"list","url":"/v1/refunds","has_more":true,"data":[{data}]}}"#);
    let list: List<Refund> = answer(200, &body).read().unwrap();
    assert!(list.has_more);
    let refunds: Vec<_> = list.data.into_iter().map(|it| RefundObject::try_from(it).unwrap()).collect();
    assert_eq!((refunds[0].command, refunds[0].amount_minor), (Some(command), 1_000));
    let statuses: Vec<_> = refunds.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [RefundStatus::Succeeded, RefundStatus::Failed, RefundStatus::Pending]);
    assert_eq!(refunds[1].command, None);
}
