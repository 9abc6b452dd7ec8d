//! The target's side.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::v1::{
    BeatReply, BeatRequest, ChecksumReply, CopiesReply, CopiesRequest, DecisionsReply, DecisionsRequest,
    EvidenceReply, EvidenceRequest, HeardReply, HeardRequest, KeyVersion, KnownReply, KnownRequest,
    MoveReply, MoveRequest, PublishedReply, PublishedRequest, RefillReply, RefillRequest, RepairReply,
    RepairRequest,
    control_server::{Control, ControlServer},
};
use super::{copies, decisions, heartbeats, logged, moves};
use crate::peer::{KEY_BYTES_MAX, KEYS_MAX};
use crate::{Applied, BoxError, Error, Evidence, Target};

/// Answers `strangler.v1.Control` from what the home supplies. [`serve`] makes it a service.
pub struct Server<E> {
    evidence: Arc<E>,
    target: Target,
}

/// A gRPC service to mount beside the home's own; wrap it in an interceptor that lets only the source in.
pub fn serve<E: Evidence>(evidence: Arc<E>, target: Target) -> ControlServer<Server<E>> {
    ControlServer::new(Server { evidence, target })
}

#[async_trait]
impl<E: Evidence> Control for Server<E> {
    async fn evidence(&self, request: Request<EvidenceRequest>) -> Result<Response<EvidenceReply>, Status> {
        let keys = request.into_inner().keys;
        if !(1..=KEYS_MAX).contains(&keys.len()) {
            return Err(Status::invalid_argument(format!(
                "keys: 1 to {KEYS_MAX} are needed, not {}",
                keys.len()
            )));
        }
        if keys.iter().any(|key| !(1..=KEY_BYTES_MAX).contains(&key.len())) {
            return Err(Status::invalid_argument(format!(
                "keys: each must be 1 to {KEY_BYTES_MAX} bytes long"
            )));
        }
        let Applied { versions, parked, awaiting } = self.evidence.applied(&keys).await.map_err(unread)?;
        let applied = versions.into_iter().map(key_version).collect();
        Ok(Response::new(EvidenceReply { applied, parked, awaiting }))
    }

    async fn published(
        &self,
        request: Request<PublishedRequest>,
    ) -> Result<Response<PublishedReply>, Status> {
        let limit = request.into_inner().limit;
        if !usize::try_from(limit).is_ok_and(|limit| (1..=KEYS_MAX).contains(&limit)) {
            return Err(Status::invalid_argument(format!("limit: must be 1 to {KEYS_MAX}, not {limit}")));
        }
        let published = self.evidence.published(limit).await.map_err(unread)?;
        Ok(Response::new(PublishedReply { published: published.into_iter().map(key_version).collect() }))
    }

    async fn beat(&self, _: Request<BeatRequest>) -> Result<Response<BeatReply>, Status> {
        let target = self.target.clone();
        carried_out("a heartbeat could not be published", async move { target.beat().await }).await?;
        Ok(Response::new(BeatReply {}))
    }

    async fn heard(&self, _: Request<HeardRequest>) -> Result<Response<HeardReply>, Status> {
        let heard = self.target.heard().await;
        let heard = heard.map_err(|error| refused("the last heartbeat could not be read", error))?;
        Ok(Response::new(heartbeats::reply(heard)))
    }

    async fn ready(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let (target, keys) = (self.target.clone(), moves::keys(request.into_inner()));
        let replies =
            carried_out("keys could not be moved", async move { target.ready(&keys).await }).await?;
        Ok(Response::new(moves::reply(replies)))
    }

    async fn grant(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let (target, keys) = (self.target.clone(), moves::keys(request.into_inner()));
        let replies =
            carried_out("keys could not be moved", async move { target.grant(&keys).await }).await?;
        Ok(Response::new(moves::reply(replies)))
    }

    async fn recall(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let (target, keys) = (self.target.clone(), moves::keys(request.into_inner()));
        let replies =
            carried_out("keys could not be moved", async move { target.recall(&keys).await }).await?;
        Ok(Response::new(moves::reply(replies)))
    }

    async fn known(&self, request: Request<KnownRequest>) -> Result<Response<KnownReply>, Status> {
        let known = self.target.known(&request.into_inner().keys).await;
        Ok(Response::new(KnownReply { keys: known.map_err(unreadable)? }))
    }

    async fn copies(&self, request: Request<CopiesRequest>) -> Result<Response<CopiesReply>, Status> {
        let CopiesRequest { after, upto, limit } = request.into_inner();
        let found = self.target.copies(after.as_deref(), upto.as_deref(), limit).await;
        Ok(Response::new(copies::reply(found.map_err(unreadable)?)))
    }

    async fn checksum(&self, request: Request<CopiesRequest>) -> Result<Response<ChecksumReply>, Status> {
        let CopiesRequest { after, upto, limit } = request.into_inner();
        let found = self.target.checksum(after.as_deref(), upto.as_deref(), limit).await;
        Ok(Response::new(copies::checksum_reply(&found.map_err(unreadable)?)))
    }

    async fn repair(&self, request: Request<RepairRequest>) -> Result<Response<RepairReply>, Status> {
        let (target, keys) = (self.target.clone(), request.into_inner().keys);
        let left =
            carried_out("keys could not be published", async move { target.repair(&keys).await }).await?;
        Ok(Response::new(copies::repaired(left)))
    }

    async fn decisions(
        &self,
        request: Request<DecisionsRequest>,
    ) -> Result<Response<DecisionsReply>, Status> {
        let since = decisions::since(request.into_inner()).map_err(unreadable)?;
        let found = self.evidence.decisions(since).await.map_err(unread)?;
        Ok(Response::new(decisions::reply(found)))
    }

    async fn refill(&self, request: Request<RefillRequest>) -> Result<Response<RefillReply>, Status> {
        let request = request.into_inner();
        let missing = logged::missing(&request);
        missing.check().map_err(unreadable)?;
        let events = self.evidence.logged(missing).await.map_err(unread)?;
        Ok(Response::new(logged::reply(events, missing.limit)?))
    }
}

fn key_version((key, version): (String, i64)) -> KeyVersion {
    KeyVersion { key, version }
}

fn unread(error: BoxError) -> Status {
    tracing::warn!(%error, "evidence could not be read");
    Status::unavailable("the evidence can't be read now; see the target's log")
}

/// In a task of its own: a call whose client has left is dropped, and its transaction must not be. A failure is told in the log as `what`.
async fn carried_out<T: Send + 'static>(
    what: &'static str,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::spawn(work).await.map_err(|lost| Status::unavailable(lost.to_string()))?;
    done.map_err(|error| refused(what, error))
}

fn unreadable(error: Error) -> Status {
    refused("keys could not be read", error)
}

/// The text is the caller's to read; what the database said stays in the log.
fn refused(what: &'static str, error: Error) -> Status {
    match error {
        Error::Invalid { field, reason } => Status::invalid_argument(format!("{field}: {reason}")),
        Error::Moving { .. } => Status::unavailable("a write under way held a key too long: ask again"),
        error => {
            tracing::warn!(error = &error as &dyn std::error::Error, "{what}");
            Status::unavailable(format!("{what} now; see the target's log"))
        }
    }
}

impl<E> std::fmt::Debug for Server<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}
