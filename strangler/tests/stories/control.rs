//! `strangler.v1.Control` over a real connection.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::postgres::PgTransaction;
use strangler::control::{Client, serve};
use strangler::{
    Authority, BoxError, Checksum, Epoch, Error, Health, Heard, KeyCopy, Logged, Memory, Missing, Movable,
    Peer, Pinned, Target,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};

use crate::world::MIGRATION;

pub(crate) const TOKEN: &str = "a-token";

fn lets_in(request: Request<()>) -> Result<Request<()>, Status> {
    match request.metadata().get("x-token") {
        Some(token) if token == TOKEN => Ok(request),
        _ => Err(Status::unauthenticated("a token is needed")),
    }
}

fn channel(port: u16) -> Channel {
    Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy()
}

pub(crate) fn client(
    port: u16,
    token: &'static str,
) -> Client<impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static> {
    Client::new(channel(port), move |mut request: Request<()>| {
        request.metadata_mut().insert("x-token", token.parse().unwrap());
        Ok::<_, Status>(request)
    })
}

/// A home without a database.
struct Nowhere;

#[async_trait]
impl Movable for Nowhere {
    async fn begin(&self) -> Result<PgTransaction<'static>, BoxError> {
        Err("the database is away".into())
    }

    async fn pinned(&self, _: &mut PgTransaction<'_>, _: &[String]) -> Result<Vec<Pinned>, BoxError> {
        Ok(Vec::new())
    }

    async fn give(&self, _: &mut PgTransaction<'_>, _: &[(String, Epoch)]) -> Result<(), BoxError> {
        Ok(())
    }

    async fn gained(&self, _: &mut PgTransaction<'_>, _: &[String]) -> Result<(), BoxError> {
        Ok(())
    }

    async fn known(&self, _: &mut PgTransaction<'_>, _: &[String]) -> Result<Vec<String>, BoxError> {
        Ok(Vec::new())
    }

    async fn snapshot(&self, _: &mut PgTransaction<'_>, _: &[String]) -> Result<Vec<Pinned>, BoxError> {
        Ok(Vec::new())
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        let copies = ["a", "b", "c"].into_iter();
        let within =
            copies.filter(|key| after.is_none_or(|it| *key > it) && upto.is_none_or(|it| *key <= it));
        let copy = |key: &str| KeyCopy { key: key.to_owned(), version: 7, hash: [9; 32] };
        Ok(within.take(usize::try_from(limit)?).map(copy).collect())
    }
}

async fn target(memory: &Memory) -> (u16, tonic_health::server::HealthReporter, tokio::task::JoinHandle<()>) {
    serving(memory, nowhere(MIGRATION)).await
}

/// A target whose database is away.
pub(crate) fn nowhere(migration: &str) -> Target {
    Target::new(Authority::new(migration), Arc::new(Nowhere))
}

/// Serves evidence from memory and moves keys of this target.
pub(crate) async fn serving(
    memory: &Memory,
    moves: Target,
) -> (u16, tonic_health::server::HealthReporter, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (reporter, health) = tonic_health::server::health_reporter();
    let control =
        tonic::service::interceptor::InterceptedService::new(serve(Arc::new(memory.clone()), moves), lets_in);
    let server = Server::builder().add_service(health).add_service(control);
    let running = tokio::spawn(async move {
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    (port, reporter, running)
}

#[tokio::test]
async fn evidence_and_health_come_over_grpc() {
    let memory = Memory::default();
    memory.apply("k", 7);
    memory.set_parked(2);
    let (port, reporter, running) = target(&memory).await;
    let peer = client(port, TOKEN);

    assert_eq!(peer.health().await.unwrap(), Health::Serving);
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    assert_eq!(peer.health().await.unwrap(), Health::NotServing);

    let keys = ["k".to_owned(), "unknown".to_owned()];
    let applied = peer.applied(&keys).await.unwrap();
    assert_eq!(applied, strangler::Evidence::applied(&memory, &keys).await.unwrap());
    assert_eq!((applied.versions.get("k"), applied.versions.len(), applied.parked), (Some(&7), 1, 2));

    assert!(peer.published(10).await.unwrap().is_empty());
    memory.publish("k", 8);
    assert_eq!(peer.published(10).await.unwrap(), [("k".to_owned(), 8)]);
    for limit in [-1, 0, 1_001] {
        let refused = peer.published(limit).await.unwrap_err().to_string();
        assert!(refused.contains("must be 1 to 1000"), "{refused}");
    }

    running.abort();
}

#[tokio::test]
async fn a_target_that_is_down_is_an_error_and_not_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert!(client(port, TOKEN).health().await.is_err());
    assert!(client(port, TOKEN).applied(&["k".to_owned()]).await.is_err());
    assert!(client(port, TOKEN).published(1).await.is_err());
    assert!(matches!(client(port, TOKEN).logged(ALL).await, Err(Error::Target(_))));
}

#[tokio::test]
async fn a_caller_without_the_token_and_too_many_keys_are_refused() {
    let (port, _reporter, running) = target(&Memory::default()).await;
    let keys = vec!["k".to_owned(); 1_001];
    let refused = client(port, TOKEN).applied(&keys).await.unwrap_err().to_string();
    assert!(refused.contains("1 to 1000 are needed, not 1001"), "{refused}");
    let refused = client(port, TOKEN).applied(&[String::new()]).await.unwrap_err().to_string();
    assert!(refused.contains("1 to 255 bytes"), "{refused}");
    let refused = client(port, "another").applied(&keys[..1]).await.unwrap_err().to_string();
    assert!(refused.contains("a token is needed"), "{refused}");
    running.abort();
}

#[tokio::test]
async fn heartbeats_are_asked_for_by_the_source_alone() {
    let (port, _reporter, running) = target(&Memory::default()).await;
    let refused = client(port, TOKEN).beat().await.unwrap_err().to_string();
    assert!(refused.contains("could not be published now"), "{refused}");
    // This home sends none, and says so.
    assert_eq!(client(port, TOKEN).heard().await.unwrap(), Heard::Unsent);
    let refused = client(port, "another").beat().await.unwrap_err().to_string();
    assert!(refused.contains("a token is needed"), "{refused}");
    running.abort();
}

#[tokio::test]
async fn calls_that_move_keys_need_a_token_and_sound_keys() {
    let (port, _reporter, running) = target(&Memory::default()).await;
    let key = |key: &str, epoch| (key.to_owned(), Epoch(epoch));
    let many: Vec<_> = (0..501).map(|n| key(&n.to_string(), 2)).collect();
    let cases = [
        (Vec::new(), "1 to 500 are needed, not 0"),
        (many, "1 to 500 are needed, not 501"),
        (vec![key("", 2)], "1 to 255 bytes"),
        (vec![key("k", 0)], "each epoch must be 1 or more"),
        (vec![key("k", 2), key("k", 3)], "each may be named once"),
        // Sound, but the database is away: the reason stays in the target's log.
        (vec![key("k", 2)], "could not be moved now"),
    ];
    for (keys, text) in &cases {
        for refused in [
            client(port, TOKEN).ready(keys).await,
            client(port, TOKEN).grant(keys).await,
            client(port, TOKEN).recall(keys).await,
        ] {
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(text), "{refused:?} lacks {text:?}");
        }
    }
    let refused = client(port, "another").grant(&[key("k", 2)]).await.unwrap_err().to_string();
    assert!(refused.contains("a token is needed"), "{refused}");
    running.abort();
}

#[tokio::test]
async fn copies_come_over_grpc_as_rows_or_as_one_number() {
    let (port, _reporter, running) = target(&Memory::default()).await;
    let peer = client(port, TOKEN);
    let copy = |key: &str| KeyCopy { key: key.to_owned(), version: 7, hash: [9; 32] };
    let some = [copy("b"), copy("c")];
    assert_eq!(peer.copies(None, None, 1).await.unwrap(), [copy("a")]);
    assert_eq!(peer.copies(Some("a"), None, 10).await.unwrap(), some);
    assert_eq!(peer.copies(Some("a"), Some("b"), 10).await.unwrap(), some[..1]);
    assert_eq!(peer.checksum(Some("a"), Some("c"), 10).await.unwrap(), Checksum::of(&some));
    for limit in [0, 1_001] {
        let refused = peer.copies(None, None, limit).await.unwrap_err().to_string();
        assert!(refused.contains("must be 1 to 1000"), "{refused}");
    }
    let refused = client(port, "another").copies(None, None, 1).await.unwrap_err().to_string();
    assert!(refused.contains("a token is needed"), "{refused}");
    running.abort();
}

#[tokio::test]
async fn questions_and_repairs_need_sound_keys() {
    let (port, _reporter, running) = target(&Memory::default()).await;
    let peer = client(port, TOKEN);
    let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    assert!(peer.known(&[]).await.unwrap().is_empty());
    let refused = peer.known(&names(1_001)).await.unwrap_err().to_string();
    assert!(refused.contains("1 to 1000 are needed, not 1001"), "{refused}");
    for (keys, text) in [
        (names(0), "1 to 100 are needed, not 0"),
        (names(101), "1 to 100 are needed, not 101"),
        (vec![String::new()], "1 to 255 bytes"),
        (vec!["k".to_owned(); 2], "each may be named once"),
        (names(1), "could not be published now"),
    ] {
        let refused = peer.repair(&keys).await.unwrap_err().to_string();
        assert!(refused.contains(text), "{refused:?} lacks {text:?}");
    }
    running.abort();
}

fn event(key: &str, version: i64, bytes: usize) -> Logged {
    Logged {
        topic: "prices.v1".to_owned(),
        key: key.to_owned(),
        version,
        headers: vec![("tenant".to_owned(), "acme".to_owned())],
        payload: vec![7; bytes],
    }
}

const ALL: Missing<'static> = Missing { topic: "prices.v1", key: "k", after: 0, until: 9, limit: 10 };

#[tokio::test]
async fn what_is_missed_comes_from_the_log_and_what_that_lacks_does_not() {
    let memory = Memory::default();
    let some = [event("k", 2, 3), event("k", 3, 0), event("k", 5, 1)];
    for event in some.iter().cloned().chain([event("other", 4, 1)]) {
        memory.log(event);
    }
    let (port, _reporter, running) = target(&memory).await;
    let client = client(port, TOKEN);
    assert_eq!(client.logged(ALL).await.unwrap(), some);
    assert_eq!(client.logged(Missing { after: 2, until: 3, ..ALL }).await.unwrap(), some[1..2]);
    assert_eq!(client.logged(Missing { limit: 2, ..ALL }).await.unwrap(), some[..2]);
    assert!(client.logged(Missing { after: 3, until: 4, ..ALL }).await.unwrap().is_empty());
    assert!(client.logged(Missing { topic: "other.v1", ..ALL }).await.unwrap().is_empty());
    running.abort();
}

#[tokio::test]
async fn an_answer_is_below_what_a_client_takes_and_the_next_question_goes_on() {
    let memory = Memory::default();
    for version in 1..=9 {
        memory.log(event("k", version, 900_000));
    }
    let (port, _reporter, running) = target(&memory).await;
    let client = client(port, TOKEN);
    let (mut after, mut pages) = (0, Vec::new());
    while after < ALL.until {
        let page = client.logged(Missing { after, ..ALL }).await.unwrap();
        after = page.last().unwrap().version;
        pages.push(page.len());
    }
    assert_eq!(pages, [3, 3, 3]);
    running.abort();
}

#[tokio::test]
async fn the_log_answers_nobody_without_the_token_and_no_senseless_question() {
    let memory = Memory::default();
    memory.log(event("k", 1, 1));
    let (port, _reporter, running) = target(&memory).await;
    let refused = client(port, "another").logged(ALL).await.unwrap_err();
    assert!(matches!(&refused, Error::Target(why) if why.contains("a token is needed")), "{refused}");
    for (missing, text) in [
        (Missing { key: "", ..ALL }, "key: must be 1 to 255 bytes"),
        (Missing { after: 9, ..ALL }, "after: must be 0 or more and below"),
        (Missing { limit: 1_001, ..ALL }, "limit: must be 1 to 1000"),
    ] {
        let refused = client(port, TOKEN).logged(missing).await.unwrap_err();
        assert!(matches!(&refused, Error::Target(why) if why.contains(text)), "{refused} lacks {text:?}");
    }
    running.abort();
    // Two versions in the wrong order.
    let odd = Memory::default();
    odd.log(event("k", 2, 1));
    odd.log(event("k", 1, 1));
    let (port, _reporter, running) = target(&odd).await;
    let refused = client(port, TOKEN).logged(ALL).await.unwrap_err();
    assert!(matches!(&refused, Error::Target(why) if why.contains("version 1 of prices.v1/k")), "{refused}");
    running.abort();
}
