//! The journal's file: what survives, what is cut off, what is refused.

use std::fs;

use crate::client::Home;

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let home = Home::new();
    let stand = home.start().await;
    let path = stand.client.intent("p-1", "pm_card_visa", "manual").await;
    stand.client.post(&format!("{path}/confirm"), "k-1", &[]).await;
    let taken = stand.client.post(&format!("{path}/capture"), "k-2", &[("amount_to_capture", "600")]).await;
    let id = taken.text("id");
    let refund = stand.client.post("refunds", "k-3", &[("payment_intent", &id), ("amount", "100")]).await;
    let before = stand.client.journal().await;
    stand.stop().await;

    let stand = home.start().await;
    assert_eq!(stand.client.journal().await, before);
    assert_eq!(stand.client.get(&path).await.body, taken.body);
    let again = stand.client.post("refunds", "k-3", &[("payment_intent", &id), ("amount", "100")]).await;
    assert_eq!((again.replayed, again.body), (true, refund.body));
    let rest = stand.client.post("refunds", "k-4", &[("payment_intent", &id)]).await;
    assert_eq!(rest.body["amount"], 500, "what was refunded before counts");
    stand.stop().await;
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_its_request_may_come_again() {
    let home = Home::new();
    let stand = home.start().await;
    let path = stand.client.intent("p-1", "pm_card_visa", "automatic").await;
    let confirm = format!("{path}/confirm");
    stand.client.post(&confirm, "k-1", &[]).await;
    stand.stop().await;
    let whole = fs::read(home.journal()).unwrap();
    // The last line is the charge; a crash in the middle of its write leaves a piece of it.
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(home.journal(), &whole[..second + (whole.len() - second) / 2]).unwrap();

    let stand = home.start().await;
    assert_eq!(fs::read(home.journal()).unwrap(), whole[..second]);
    assert_eq!(stand.client.movements().await, [""; 0]);
    let paid = stand.client.post(&confirm, "k-1", &[]).await;
    assert_eq!((paid.replayed, paid.text("status")), (false, "succeeded".into()));
    stand.stop().await;
    let lines = fs::read_to_string(home.journal()).unwrap();
    let seqs: Vec<u64> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [1, 2]);
}

#[tokio::test]
async fn a_journal_that_is_broken_in_the_middle_stops_the_start() {
    let home = Home::new();
    let stand = home.start().await;
    for payment in ["p-1", "p-2", "p-3"] {
        stand.client.intent(payment, "pm_card_visa", "automatic").await;
    }
    stand.stop().await;
    let whole = fs::read_to_string(home.journal()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for (text, reason) in [
        (format!("{}\nrubbish\n{}\n", lines[0], lines[2]), "line 2: expected value"),
        (format!("{}\n{}\n", lines[0], lines[2]), "line 2: seq is 3, not 2"),
    ] {
        fs::write(home.journal(), text).unwrap();
        let error = home.try_start().await.err().expect("no start").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn two_providers_do_not_share_a_journal() {
    let home = Home::new();
    let stand = home.start().await;
    let error = home.try_start().await.err().expect("no second start").to_string();
    assert!(error.contains("is in use by another process"), "{error}");
    stand.stop().await;
    let stand = home.start().await;
    stand.stop().await;
}
