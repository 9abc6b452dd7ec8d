//! The controller's side.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::v1::{
    BeatRequest, EvidenceReply, EvidenceRequest, HeardRequest, KnownRequest, PublishedRequest, RepairRequest,
    control_client::ControlClient,
};
use super::{copies, decisions, heartbeats, logged, moves};
use crate::{
    Applied, BoxError, Checksum, Decisions, Epoch, Error, Health, Heard, KeyCopy, Logged, Missing, Peer,
    Pinned, Reply,
};

/// How long one call may take, connecting included.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The target over gRPC. The interceptor adds what the target asks of a caller, such as a token.
#[derive(Clone)]
pub struct Client<I> {
    channel: Channel,
    interceptor: I,
}

impl<I: Interceptor + Clone + Send + Sync + 'static> Client<I> {
    /// Over a channel that may be connected lazily: a target that is down is an answer.
    pub fn new(channel: Channel, interceptor: I) -> Self {
        Self { channel, interceptor }
    }

    /// What the target's own log has of what a consumer misses, in order. Fewer events than were asked for, or none, when it has no
    /// more of them or they are over 3 MiB together: ask again after the last. Asked once, for at most 2 s; who waits asks again.
    ///
    /// # Errors
    /// [`Error::Target`] when it can't be asked, refuses the question, or answers with what was not asked for.
    pub async fn logged(&self, missing: Missing<'_>) -> Result<Vec<Logged>, Error> {
        let mut client = ControlClient::new(self.service());
        let reply = client.refill(bounded(logged::request(missing))).await;
        let reply = reply.map_err(|status| Error::Target(said(status).to_string()))?;
        let events = logged::events(reply.into_inner());
        missing.verify(&events).map_err(Error::Target)?;
        Ok(events)
    }

    fn service(&self) -> InterceptedService<Channel, I> {
        InterceptedService::new(self.channel.clone(), self.interceptor.clone())
    }
}

#[async_trait]
impl<I: Interceptor + Clone + Send + Sync + 'static> Peer for Client<I> {
    async fn health(&self) -> Result<Health, BoxError> {
        let mut client = HealthClient::new(self.service());
        let reply = client.check(bounded(HealthCheckRequest::default())).await.map_err(said)?;
        Ok(match reply.into_inner().status() {
            ServingStatus::Serving => Health::Serving,
            ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
                Health::NotServing
            }
        })
    }

    async fn applied(&self, keys: &[String]) -> Result<Applied, BoxError> {
        // The service refuses an empty question, and there is nothing to learn from one.
        if keys.is_empty() {
            return Ok(Applied::default());
        }
        let mut client = ControlClient::new(self.service());
        let request = EvidenceRequest { keys: keys.to_vec() };
        let EvidenceReply { applied, parked, awaiting } =
            client.evidence(bounded(request)).await.map_err(said)?.into_inner();
        let versions = applied.into_iter().map(|key| (key.key, key.version)).collect();
        Ok(Applied { versions, parked, awaiting })
    }

    async fn published(&self, limit: i64) -> Result<Vec<(String, i64)>, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.published(bounded(PublishedRequest { limit })).await.map_err(said)?;
        Ok(reply.into_inner().published.into_iter().map(|key| (key.key, key.version)).collect())
    }

    async fn beat(&self) -> Result<(), BoxError> {
        let mut client = ControlClient::new(self.service());
        client.beat(bounded(BeatRequest {})).await.map_err(said)?;
        Ok(())
    }

    async fn heard(&self) -> Result<Heard, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.heard(bounded(HeardRequest {})).await.map_err(said)?;
        heartbeats::heard(reply.into_inner())
    }

    async fn ready(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.ready(bounded(moves::request(keys))).await.map_err(said)?;
        moves::replies(reply.into_inner())
    }

    async fn grant(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.grant(bounded(moves::request(keys))).await.map_err(said)?;
        moves::replies(reply.into_inner())
    }

    async fn recall(&self, keys: &[(String, Epoch)]) -> Result<Vec<(String, Reply)>, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.recall(bounded(moves::request(keys))).await.map_err(said)?;
        moves::replies(reply.into_inner())
    }

    async fn known(&self, keys: &[String]) -> Result<Vec<String>, BoxError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut client = ControlClient::new(self.service());
        let reply = client.known(bounded(KnownRequest { keys: keys.to_vec() })).await.map_err(said)?;
        Ok(reply.into_inner().keys)
    }

    async fn copies(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Vec<KeyCopy>, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.copies(bounded(copies::request(after, upto, limit))).await.map_err(said)?;
        copies::copies(reply.into_inner())
    }

    async fn checksum(
        &self,
        after: Option<&str>,
        upto: Option<&str>,
        limit: i64,
    ) -> Result<Checksum, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.checksum(bounded(copies::request(after, upto, limit))).await.map_err(said)?;
        copies::checksum(reply.into_inner())
    }

    async fn repair(&self, keys: &[String]) -> Result<Vec<Pinned>, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.repair(bounded(RepairRequest { keys: keys.to_vec() })).await.map_err(said)?;
        Ok(copies::left(reply.into_inner()))
    }

    async fn decisions(&self, since: OffsetDateTime) -> Result<Decisions, BoxError> {
        let mut client = ControlClient::new(self.service());
        let reply = client.decisions(bounded(decisions::request(since)?)).await.map_err(said)?;
        decisions::decisions(reply.into_inner())
    }
}

impl<I> std::fmt::Debug for Client<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// A status as an operator reads it, without its metadata.
fn said(status: Status) -> BoxError {
    format!("{}: {}", status.code().description(), status.message()).into()
}
