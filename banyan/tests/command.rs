//! The binary against an API of canned answers: what it sends, what it prints, how it exits.
#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

const STATUS: &str = r#"{"migration":"payments","stage":"following","percent":0,"tenants":[],"draining":false,"held":null,
    "metric":"p99","revision":7,"since_seconds":1,"keys":{"source":1,"target":0,"moving":0},"target":"the target serves",
    "feed":null,"reverse_feed":null,"controller":null,"next":null}"#;
const BACK: &str = r#"{"from":{"stage":"following","percent":0,"tenants":[]},
    "to":{"stage":"local","percent":0,"tenants":[]},"says":"done"}"#;

/// Answers one request and returns it.
fn api(status: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
    apis(vec![(status, body)])
}

/// Answers requests, one after another, and returns the last.
fn apis(answers: Vec<(&'static str, &'static str)>) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut last = String::new();
        for (status, body) in answers {
            last = answer(&listener, status, body);
        }
        last
    });
    (url, serving)
}

fn answer(listener: &TcpListener, status: &str, body: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        request.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).unwrap();
    request.push_str(std::str::from_utf8(&sent).unwrap());
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).unwrap();
    request
}

fn banyan(url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_banyan"))
        .args(arguments)
        .env("BANYAN_URL", url)
        .env("BANYAN_TOKEN", "a-token")
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_rollback_goes_back_from_the_revision_it_just_read() {
    let (url, serving) = apis(vec![("200 OK", STATUS), ("200 OK", BACK)]);
    let (code, out, _) = banyan(&url, &["rollback"]);
    assert_eq!((code, out.as_str()), (Some(0), "rolled back: following -> local\ndone\n"));
    let request = serving.join().unwrap();
    assert!(request.starts_with("POST /admin/migrations/payments/rollback HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("authorization: bearer a-token\r\n"), "{request}");
    assert!(request.ends_with(r#"{"revision":7}"#), "{request}");
}

#[test]
fn a_rollback_whose_answer_is_lost_says_how_to_send_it_again() {
    // Answers the status, then nobody is there.
    let (url, serving) = api("200 OK", STATUS);
    let (code, _, err) = banyan(&url, &["rollback"]);
    serving.join().unwrap();
    assert!(code == Some(3) && err.contains("banyan rollback --revision 7"), "{code:?} {err}");

    let (url, serving) = api("409 Conflict", r#"{"title":"Conflict","detail":"was changed meanwhile"}"#);
    let (code, out, _) = banyan(&url, &["rollback", "--revision", "7"]);
    assert_eq!((code, out.as_str()), (Some(1), "refused: was changed meanwhile\n"));
    assert!(serving.join().unwrap().ends_with(r#"{"revision":7}"#));
}

#[test]
fn a_refusal_prints_the_rule_and_exits_with_1() {
    let (url, serving) = api(
        "409 Conflict",
        r#"{"type":"x","title":"The step was refused","status":409,"detail":"d","rule":"it is held","way_on":"see to it"}"#,
    );
    let (code, out, _) = banyan(&url, &["advance", "--to", "ramping", "--percent", "25"]);
    assert_eq!((code, out.as_str()), (Some(1), "refused: it is held\nway on: see to it\n"));
    let request = serving.join().unwrap();
    assert!(
        request.ends_with(r#"{"to":"ramping","percent":25,"resume":false,"dry_run":false}"#),
        "{request}"
    );
}

#[test]
fn a_key_is_escaped_in_the_path() {
    let (url, serving) = api("404 Not Found", r#"{"title":"Not found","detail":"key a/b has no owner"}"#);
    let (code, out, _) = banyan(&url, &["why", "a/b"]);
    assert_eq!((code, out.as_str()), (Some(1), "refused: key a/b has no owner\n"));
    assert!(serving.join().unwrap().starts_with("GET /admin/migrations/payments/keys/a%2Fb "));
}

#[test]
fn pinned_keys_are_asked_for_with_a_limit() {
    let (url, serving) = api("200 OK", r#"{"migration":"payments","count":0,"keys":[]}"#);
    let (code, out, _) = banyan(&url, &["pinned", "--limit", "5"]);
    assert_eq!((code, out.as_str()), (Some(0), "no key is pinned\n"));
    assert!(serving.join().unwrap().starts_with("GET /admin/migrations/payments/pinned?limit=5 "));
    assert_eq!(banyan("http://127.0.0.1:1", &["pinned", "--limit", "0"]).0, Some(2));
}

#[test]
fn json_is_handed_on_as_it_came() {
    let (url, serving) = api("200 OK", r#"{"held":"numbers look odd","revision":4}"#);
    let (code, out, _) = banyan(&url, &["hold", "--reason", "numbers look odd", "--json"]);
    assert_eq!((code, out.as_str()), (Some(0), "{\"held\":\"numbers look odd\",\"revision\":4}\n"));
    assert!(serving.join().unwrap().ends_with(r#"{"reason":"numbers look odd"}"#));
}

#[test]
fn no_answer_and_a_bad_token_exit_with_3_and_bad_arguments_with_2() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, err) = banyan(&format!("http://{free}"), &["status"]);
    assert!(code == Some(3) && err.contains("nobody answered at"), "{code:?} {err}");

    let (url, serving) = api("401 Unauthorized", "{}");
    let (code, _, err) = banyan(&url, &["status"]);
    assert!(code == Some(3) && err.contains("role operator is needed"), "{code:?} {err}");
    serving.join().unwrap();

    assert_eq!(banyan("http://127.0.0.1:1", &["advance", "--to", "ramping", "--percent", "101"]).0, Some(2));
    assert_eq!(banyan("http://127.0.0.1:1", &["leap"]).0, Some(2));
}

#[test]
fn touches_of_a_schema_in_code_are_named_without_a_server() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("verify-{}", std::process::id()));
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let verify = |more: &[&str]| {
        let code = folder.to_str().unwrap();
        let arguments = [["verify", "--code", code, "--schema", "payments"].as_slice(), more].concat();
        let (code, out, _) = banyan("http://127.0.0.1:1", &arguments);
        (code, out)
    };
    write("readme.md", "select 1 from payments.payment");
    let (code, out) = verify(&[]);
    assert!(code == Some(1) && out.contains("nothing was looked at"), "no data is never success: {out}");

    write("orders/src/list.rs", "fn f() {\n    let sql = \"select id from payments.payment\";\n}\n");
    write("payments/store.sql", "update payments.payment set x = 1");
    write("target/made.rs", "const A: &str = \"select 1 from payments.payment\";");
    let (code, out) = verify(&[]);
    let found = "orders/src/list.rs:2: payments.payment\npayments/store.sql:1: payments.payment\n";
    assert_eq!((code, out), (Some(1), format!("{found}2 touches of schema payments in 2 files\n")));

    write("orders/src/list.rs", "fn f() {}\n");
    let (code, out) = verify(&["--except", "payments"]);
    assert_eq!((code, out.as_str()), (Some(0), "0 touches of schema payments in 1 files\n"));
    let (code, _) = verify(&["--except", "nowhere"]);
    assert_eq!(code, Some(3));
    assert_eq!(banyan("x", &["verify", "--code", ".", "--schema", "pay.ments"]).0, Some(2));
    std::fs::remove_dir_all(&folder).unwrap();
}
