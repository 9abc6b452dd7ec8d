//! A webhook's endpoint that writes down what it gets, and answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::client::ANSWER;

pub(crate) const SECRET: &str = "whsec_test_receiver";

/// The endpoint. It ends with this value; started again, it listens at the same address.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    desk: Desk,
    serving: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Desk {
    seen: Arc<Mutex<Vec<Delivery>>>,
    /// What is answered next; then 200.
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
    arrived: Arc<Notify>,
}

/// One attempt.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) signature: String,
    pub(crate) raw: Bytes,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("an address");
        let address = listener.local_addr().expect("an address");
        let desk = Desk::default();
        let router = Router::new().route("/hook", post(take)).with_state(desk.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self { address, desk, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn answer_next(&self, answers: &[u16]) {
        let answers = answers.iter().map(|status| StatusCode::from_u16(*status).expect("a status"));
        self.desk.answers.lock().expect("unpoisoned").extend(answers);
    }

    /// What came, once it is at least this much.
    pub(crate) async fn deliveries(&self, least: usize) -> Vec<Delivery> {
        let enough = async {
            loop {
                let arrived = self.desk.arrived.notified();
                let seen = self.desk.seen.lock().expect("unpoisoned").clone();
                if seen.len() >= least {
                    return seen;
                }
                arrived.await;
            }
        };
        let seen = tokio::time::timeout(ANSWER, enough).await;
        seen.unwrap_or_else(|_| panic!("{least} deliveries, not {:?}", self.desk.seen))
    }

    /// `type` of each event that came.
    pub(crate) async fn types(&self, least: usize) -> Vec<String> {
        self.deliveries(least).await.iter().map(|delivery| delivery.text("type")).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Delivery {
    pub(crate) fn event(&self) -> Value {
        serde_json::from_slice(&self.raw).expect("JSON")
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.event()[name].as_str().unwrap_or_default().to_owned()
    }

    /// Checks the signature by hand, over the bytes as they came, and returns its time.
    pub(crate) fn signed_at(&self) -> u64 {
        let (time, rest) = self.signature.split_once(',').expect("t and v1");
        let time: u64 = time.strip_prefix("t=").expect("a time").parse().expect("seconds");
        let given = hex::decode(rest.strip_prefix("v1=").expect("a signature")).expect("hex");
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(&[format!("{time}.").as_bytes(), &self.raw].concat());
        mac.verify_slice(&given).expect("the right signature");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        assert!(now.abs_diff(time) <= ANSWER.as_secs(), "{time} is not now");
        time
    }
}

async fn take(State(desk): State<Desk>, headers: HeaderMap, raw: Bytes) -> StatusCode {
    let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    desk.seen.lock().expect("unpoisoned").push(Delivery { signature: signature.to_owned(), raw });
    desk.arrived.notify_waiters();
    desk.answers.lock().expect("unpoisoned").pop_front().unwrap_or(StatusCode::OK)
}
