//! The logs of both homes of payments, for what a consumer here misses of their stream.

use async_trait::async_trait;
use chassis::service_token::Bearer;
use outbox::{Error, Message, Refill};
use strangler::control::Client;
use strangler::{Logged, Missing};

/// What the payments service has published, over gRPC.
#[derive(Debug, Clone)]
pub(crate) struct ServiceLog(Client<Bearer>);

/// The log of this home, and that of the other one for what it lacks.
#[derive(Debug, Clone)]
pub(crate) struct Logs<H, T> {
    /// This home's.
    pub(crate) here: H,
    /// The other one's.
    pub(crate) there: T,
}

impl ServiceLog {
    pub(crate) fn new(client: Client<Bearer>) -> Self {
        Self(client)
    }
}

#[async_trait]
impl Refill for ServiceLog {
    async fn events(
        &self,
        topic: &str,
        key: &str,
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<Message>, Error> {
        let limit = limit.min(Missing::LIMIT_MAX);
        // The service refuses a question that asks for nothing.
        if after >= until || limit < 1 {
            return Ok(Vec::new());
        }
        let events = self.0.logged(Missing { topic, key, after, until, limit }).await;
        let events = events.map_err(|error| match error {
            strangler::Error::Target(why) => Error::Log(why),
            error => Error::Log(error.to_string()),
        })?;
        events.into_iter().map(message).collect()
    }
}

#[async_trait]
impl<H: Refill, T: Refill> Refill for Logs<H, T> {
    /// The other home is asked only for what is lacking here. While it is away, what is here is the answer: a key goes on as far as that
    /// goes.
    async fn events(
        &self,
        topic: &str,
        key: &str,
        after: i64,
        until: i64,
        limit: i64,
    ) -> Result<Vec<Message>, Error> {
        let mut events = self.here.events(topic, key, after, until, limit).await?;
        let wanted = until.saturating_sub(after).min(limit);
        if i64::try_from(events.len()).is_ok_and(|found| found < wanted) {
            match self.there.events(topic, key, after, until, limit).await {
                Ok(more) => events.extend(more),
                Err(error) if events.is_empty() => return Err(error),
                Err(error) => {
                    tracing::debug!(topic, key, after, %error, "the other home's log could not be asked");
                }
            }
        }
        Ok(events)
    }
}

/// As a consumer reads it. What it says of itself must be what the service says of it: the gate goes by the former.
fn message(event: Logged) -> Result<Message, Error> {
    let Logged { topic, key, version, headers, payload } = event;
    let message = Message { topic, partition: -1, offset: -1, key: Some(key.into_bytes()), payload, headers };
    match message.version() {
        Some(said) if said == version => Ok(message),
        Some(said) => Err(Error::Log(format!("version {version} says of itself that it is {said}"))),
        None => Err(Error::Log(format!("version {version} does not say its version"))),
    }
}

#[cfg(test)]
mod tests {
    use outbox::MemoryRefill;

    use super::{Error, Logged, Logs, Message, Refill, async_trait, message};

    /// A log that can't be asked.
    struct Away;

    #[async_trait]
    impl Refill for Away {
        async fn events(&self, _: &str, _: &str, _: i64, _: i64, _: i64) -> Result<Vec<Message>, Error> {
            Err(Error::Log("it is away".to_owned()))
        }
    }

    fn event(version: i64, said: &str) -> Logged {
        Logged {
            topic: "payments.v1".to_owned(),
            key: "k".to_owned(),
            version,
            headers: vec![("banyan-version".to_owned(), said.to_owned())],
            payload: vec![1],
        }
    }

    fn log(versions: &[i64]) -> MemoryRefill {
        let log = MemoryRefill::default();
        for version in versions {
            log.add(message(event(*version, &version.to_string())).unwrap());
        }
        log
    }

    #[test]
    fn an_event_that_says_another_version_of_itself_is_refused() {
        let read = message(event(3, "3")).unwrap();
        assert_eq!((read.topic.as_str(), read.key.as_deref()), ("payments.v1", Some(&b"k"[..])));
        assert!(message(event(3, "4")).is_err());
        assert!(message(event(3, "")).is_err());
    }

    #[tokio::test]
    async fn the_other_home_is_asked_only_for_what_is_lacking_here() {
        let whole = Logs { here: log(&[1, 2, 3]), there: Away };
        assert_eq!(whole.events("payments.v1", "k", 0, 3, 10).await.unwrap().len(), 3);
        assert_eq!(whole.events("payments.v1", "k", 1, 9, 2).await.unwrap().len(), 2);
        assert_eq!(whole.events("payments.v1", "k", 0, 4, 10).await.unwrap().len(), 3, "as far as it goes");
        assert!(whole.events("payments.v1", "k", 3, 4, 10).await.is_err());
        let both = Logs { here: log(&[1, 4]), there: log(&[2, 3]) };
        let found = both.events("payments.v1", "k", 0, 4, 10).await.unwrap();
        let mut versions: Vec<i64> = found.iter().filter_map(Message::version).collect();
        versions.sort_unstable();
        assert_eq!(versions, [1, 2, 3, 4]);
    }
}
