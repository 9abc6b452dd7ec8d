//! The binary itself: its line on stdout, its exit codes, and kill -9.

use std::process::{Output, Stdio};

use chassis::listening::Listening;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::client::{ANSWER, Client, Home};

fn command(home: &Home) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provider"));
    command.env_clear().envs(home.settings.clone()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

pub(crate) async fn spawn(home: &Home) -> (Child, Client) {
    let mut child = command(home).spawn().expect("the binary starts");
    let stdout = child.stdout.take().expect("its stdout");
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(ANSWER, lines.next_line())
        .await
        .expect("in time")
        .expect("readable")
        .expect("a line");
    let listening: Listening = line.parse().expect("a listening line");
    let address = |name| listening.get(name).expect("an address").to_string();
    (child, Client::new(address("http"), address("admin")))
}

async fn run(mut command: Command) -> (Option<i32>, String) {
    let output = command.stderr(Stdio::piped()).output();
    let Output { status, stdout, stderr } =
        tokio::time::timeout(ANSWER, output).await.expect("in time").expect("output");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[tokio::test]
async fn every_answered_charge_survives_kill_9() {
    let home = Home::new();
    let (mut child, client) = spawn(&home).await;
    let mut payments = tokio::task::JoinSet::new();
    for number in 0..200 {
        let client = client.clone();
        payments.spawn(async move {
            let payment = format!("p-{number}");
            let form = [
                ("amount", "1000"),
                ("currency", "eur"),
                ("payment_method", "pm_card_visa"),
                ("metadata[payment_id]", &payment),
            ];
            let made =
                client.try_post("payment_intents", &format!("create-{payment}"), &form, ANSWER).await?;
            let confirm = format!("payment_intents/{}/confirm", made.text("id"));
            let paid = client.try_post(&confirm, &format!("confirm-{payment}"), &[], ANSWER).await?;
            (paid.status == 200).then_some((payment, confirm))
        });
    }
    let mut answered = Vec::new();
    while let Some(result) = payments.join_next().await {
        answered.extend(result.expect("no panic"));
        if answered.len() == 20 {
            child.kill().await.expect("killed");
        }
    }
    assert!(answered.len() >= 20, "{}", answered.len());

    let (mut child, client) = spawn(&home).await;
    let charged = client.journal().await["charged"].clone();
    for (payment, confirm) in &answered {
        assert_eq!(charged[payment], 1000, "{payment} was answered, so it is in the journal, once");
        let again = client.post(confirm, &format!("confirm-{payment}"), &[]).await;
        assert!(again.replayed, "{payment}");
    }
    child.kill().await.expect("killed");
}

#[tokio::test]
async fn sigterm_ends_it_with_0_also_while_a_client_hears_nothing() {
    let home = Home::new();
    let (mut child, client) = spawn(&home).await;
    let path = client.intent("p-1", "pm_charged_no_answer", "automatic").await;
    let waiting = tokio::spawn(async move { client.post(&format!("{path}/confirm"), "k-1", &[]).await });
    let pid = child.id().expect("running").to_string();
    // The charge is in the journal before the client begins to wait in vain.
    let charged = async {
        while !std::fs::read_to_string(home.journal()).unwrap_or_default().contains("\"charge\"") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(ANSWER, charged).await.expect("charged");
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill").success());
    let status = tokio::time::timeout(ANSWER, child.wait()).await.expect("it ends").expect("a status");
    assert_eq!(status.code(), Some(0));
    drop(waiting.await);
}

#[tokio::test]
async fn bad_settings_end_the_start_with_2_and_are_all_named() {
    let mut home = Home::new();
    home.settings = vec![("PROVIDER_SECRET_KEY", "hunter2".into()), ("PROVIDER_LATENCY", "2 weeks".into())];
    let (code, text) = run(command(&home)).await;
    assert_eq!(
        (code, text.as_str()),
        (
            Some(2),
            "3 settings are missing or wrong\n  \
             PROVIDER_JOURNAL: not set; allowed: the path of the journal's file\n  \
             PROVIDER_SECRET_KEY=***: not a secret key; allowed: a key that starts with sk_\n  \
             PROVIDER_LATENCY=2 weeks: not understood; allowed: a duration from 0ms to 1m, such as 250ms, 30s, 5m or 2h\n"
        )
    );
}

#[tokio::test]
async fn help_lists_every_setting() {
    let mut help = command(&Home::new());
    help.arg("--help");
    let (code, text) = run(help).await;
    assert_eq!(code, Some(0));
    for expected in
        ["PROVIDER_JOURNAL", "(required)", "PROVIDER_IGNORE_IDEMPOTENCY", "TEST ONLY", "LOG_FORMAT"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}
