//! Commands: done once, refused with a code and a reason, kept with who asked and why.

use payments::provider::{Call, Fault};

use super::*;

#[tokio::test]
async fn a_payment_born_here_is_charged_and_refunded_once() {
    let world = World::new("served").await;
    let id = world.captured().await;
    let mut client = world.client();
    let first = client.refund_payment(refund(id, 400, "r1")).await.unwrap().into_inner().payment.unwrap();
    let again = client.refund_payment(refund(id, 400, "r1")).await.unwrap().into_inner().payment.unwrap();
    assert_eq!((first.refunded_minor, first.version, first.outcome_pending), (400, 3, false));
    assert_eq!(first, again);
    assert_eq!(world.provider.journal().len(), 2);

    // What the controller measures the feed back by, read from the log as the relay's role.
    let peer = strangler::control::Client::new(world.channel.clone(), bearer(AUDIENCE));
    let published = strangler::Peer::published(&peer, 10).await.unwrap();
    assert_eq!(published, [(id.to_string(), 3)]);

    let request = for_acme(v1::ListPaymentsRequest { page_size: 1, page_token: String::new() });
    let page = client.list_payments(request).await.unwrap().into_inner();
    assert_eq!((page.payments.len(), page.next_page_token.as_str()), (1, id.to_string().as_str()));
    let request = for_acme(v1::ListPaymentsRequest { page_size: 1, page_token: page.next_page_token });
    assert_eq!(client.list_payments(request).await.unwrap().into_inner().payments, []);
    let amount = Some(v1::Money { minor: 10_000, currency: "EUR".into() });
    let fee = client.quote_fee(v1::QuoteFeeRequest { amount }).await.unwrap().into_inner().fee.unwrap();
    assert_eq!(fee.minor, 150);

    let request = for_acme(v1::GetTrialBalanceRequest {});
    let balances = client.get_trial_balance(request).await.unwrap().into_inner().balances;
    let told = |it: v1::AccountBalance| {
        (it.account, it.currency, it.debits_minor, it.credits_minor, it.balance_minor)
    };
    let row = |account: &str, debits: &str, credits: &str, balance: &str| {
        (account.to_owned(), "EUR".to_owned(), debits.to_owned(), credits.to_owned(), balance.to_owned())
    };
    assert_eq!(
        balances.into_iter().map(told).collect::<Vec<_>>(),
        [
            row("clearing", "1000", "400", "600"),
            row("payable", "400", "985", "-585"),
            row("fees", "0", "15", "-15")
        ]
    );
    world.end().await;
}

#[tokio::test]
async fn a_payment_born_at_the_source_is_only_read_here() {
    let world = World::new("follows").await;
    let id = world.born("source").await;
    assert_eq!(world.get(id).await.status(), v1::PaymentStatus::Requested);
    let answer = world.client().refund_payment(refund(id, 1, "r1")).await;
    assert_eq!(told(answer), (Code::FailedPrecondition, "NOT_OWNER".into()));
    assert_eq!(world.provider.journal(), []);
    world.end().await;
}

#[tokio::test]
async fn each_refusal_has_its_code_and_reason() {
    let world = World::new("refusals").await;
    let id = world.captured().await;
    let mut client = world.client();
    let too_much = client.refund_payment(refund(id, 1_001, "r1")).await;
    assert_eq!(told(too_much), (Code::FailedPrecondition, "AMOUNT_TOO_LARGE".into()));
    let void =
        v1::VoidPaymentRequest { payment_id: id.to_string(), idempotency_key: "v1".into(), reason: None };
    let late = client.void_payment(for_acme(void)).await;
    assert_eq!(told(late), (Code::FailedPrecondition, "ILLEGAL_TRANSITION".into()));
    client.refund_payment(refund(id, 1, "r2")).await.unwrap();
    let reused = client.refund_payment(refund(id, 2, "r2")).await;
    assert_eq!(told(reused), (Code::InvalidArgument, "KEY_REUSED".into()));

    let mut stranger = Request::new(v1::GetPaymentRequest { payment_id: id.to_string() });
    assert_eq!(
        client.get_payment(Request::new(stranger.get_ref().clone())).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    set_tenant(&mut stranger, "other").unwrap();
    assert_eq!(client.get_payment(stranger).await.unwrap_err().code(), Code::NotFound);

    let bad = v1::CapturePaymentRequest {
        payment_id: "42".into(),
        idempotency_key: "two words".into(),
        amount_minor: None,
        reason: None,
        currency: None,
    };
    let status = client.capture_payment(for_acme(bad)).await.unwrap_err();
    let details = status.get_error_details();
    let fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|it| it.field.as_str()).collect();
    assert_eq!((status.code(), fields), (Code::InvalidArgument, vec!["payment_id", "idempotency_key"]));
    let mut wrong_epoch = refund(id, 1, "r3");
    wrong_epoch.metadata_mut().insert("x-authority-epoch", "soon".parse().unwrap());
    assert_eq!(client.refund_payment(wrong_epoch).await.unwrap_err().code(), Code::InvalidArgument);
    world.end().await;
}

#[tokio::test]
async fn who_asks_and_why_is_kept() {
    let world = World::new("audit").await;
    let id = world.captured().await;
    let mut client = world.client();
    let mut by_ada = refund(id, 1, "r1");
    by_ada.metadata_mut().insert("x-actor", "ada".parse().unwrap());
    by_ada.get_mut().reason = Some("broken".into());
    client.refund_payment(by_ada).await.unwrap();
    client.refund_payment(refund(id, 2, "r2")).await.unwrap();
    // Sent again by someone else it is the same command, and its answer is the one of then.
    let again = client.refund_payment(refund(id, 1, "r1")).await.unwrap().into_inner().payment.unwrap();
    assert_eq!((again.refunded_minor, again.version), (1, 3));
    for (actor, reason, field) in
        [("engine", None, "actor"), ("", None, "actor"), ("ada", Some(""), "reason")]
    {
        let mut bad = refund(id, 3, "r3");
        bad.metadata_mut().insert("x-actor", actor.parse().unwrap());
        bad.get_mut().reason = reason.map(Into::into);
        let status = client.refund_payment(bad).await.unwrap_err();
        let named = status.get_error_details().bad_request().unwrap().field_violations[0].field.clone();
        assert_eq!((status.code(), named.as_str()), (Code::InvalidArgument, field), "{actor:?} {reason:?}");
    }
    let sql = "select actor, reason, home from payments.audit where payment_id = $1 and action = 'refund done' order by id";
    let told: Vec<(String, Option<String>, String)> =
        sqlx::query_as(sql).bind(id.uuid()).fetch_all(&world.home.pool).await.unwrap();
    let line = |actor: &str, why: Option<&str>| (actor.into(), why.map(Into::into), "target".into());
    assert_eq!(told, [line("ada", Some("broken")), line("monolith", None)]);
    world.end().await;
}

#[tokio::test]
async fn a_deadline_ends_the_waiting_and_not_the_command() {
    let world = World::new("deadline").await;
    let id = world.captured().await;
    world.provider.fail_next(Call::Refund, Fault::DoneUnanswered);
    let mut request = refund(id, 400, "r1");
    request.set_timeout(Duration::from_millis(250));
    // Told by the service before the client's own clock ends the call.
    let status = world.client().refund_payment(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let refunded = async {
        while world.get(id).await.refunded_minor != 400 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, refunded).await.unwrap();
    let again = world.client().refund_payment(refund(id, 400, "r1")).await.unwrap().into_inner();
    assert_eq!(again.payment.unwrap().refunded_minor, 400);
    assert_eq!(world.provider.journal().len(), 2);
    world.end().await;
}
