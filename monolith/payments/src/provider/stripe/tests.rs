//! The circuit breaker stands before each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A client of a server that answers every request with this, and how many it has seen.
async fn answered(head: &str, body: &str) -> (Stripe, Arc<AtomicUsize>) {
    // The first test of the process chooses, as `main` does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let (counted, length) = (seen.clone(), body.len());
    let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    // Ends with the test's runtime.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // What is only read has no body.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap() > 0 {}
            if !request.is_empty() {
                counted.fetch_add(1, Ordering::SeqCst);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let secret_key = Secret::new("sk_test");
    let config = StripeConfig { url, secret_key, timeout: Duration::from_secs(20) };
    (Stripe::new(config, Metrics::noop()).unwrap(), seen)
}

#[tokio::test]
async fn faults_in_a_row_hold_the_next_request_back() {
    let body = r#"{"error":{"type":"api_error","message":"broken"}}"#;
    let (stripe, seen) = answered("500 Internal Server Error", body).await;
    for _ in 0..10 {
        let fault = stripe.retrieve("pi_1").await;
        assert!(matches!(fault, Err(Failure::Unknown(_))), "{fault:?}");
    }
    let held = stripe.retrieve("pi_1").await;
    assert!(matches!(held, Err(Failure::NotNow { .. })), "{held:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 10, "it was not sent");
}

#[tokio::test]
async fn declines_hold_nothing_back() {
    let body = r#"{"error":{"type":"card_error","code":"card_declined"}}"#;
    let (stripe, seen) = answered("402 Payment Required", body).await;
    for _ in 0..20 {
        let declined = stripe.confirm("key", "pi_1").await;
        assert!(matches!(declined, Err(Failure::Declined { .. })), "{declined:?}");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_request_too_many_holds_the_next_one_back_for_as_long_as_the_provider_says() {
    let body = r#"{"error":{"type":"invalid_request_error","code":"rate_limit"}}"#;
    let (stripe, seen) = answered("429 Too Many Requests\r\nretry-after: 2", body).await;
    for _ in 0..2 {
        let turned_away = stripe.retrieve("pi_1").await;
        let Err(Failure::NotNow { after, .. }) = turned_away else { panic!("{turned_away:?}") };
        assert!(after > Duration::from_secs(1) && after <= Duration::from_secs(2), "{after:?}");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1, "the second was not sent");
}
