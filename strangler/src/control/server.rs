//! The target's side.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::moves;
use super::v1::{
    EvidenceReply, EvidenceRequest, KeyVersion, MoveReply, MoveRequest, PublishedReply, PublishedRequest,
    control_server::{Control, ControlServer},
};
use crate::peer::{KEY_BYTES_MAX, KEYS_MAX};
use crate::{Applied, BoxError, Error, Evidence, Reply, Target};

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

    async fn ready(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let (target, keys) = (self.target.clone(), moves::keys(request.into_inner()));
        carried_out(async move { target.ready(&keys).await }).await
    }

    async fn grant(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let (target, keys) = (self.target.clone(), moves::keys(request.into_inner()));
        carried_out(async move { target.grant(&keys).await }).await
    }

    async fn recall(&self, request: Request<MoveRequest>) -> Result<Response<MoveReply>, Status> {
        let (target, keys) = (self.target.clone(), moves::keys(request.into_inner()));
        carried_out(async move { target.recall(&keys).await }).await
    }
}

fn key_version((key, version): (String, i64)) -> KeyVersion {
    KeyVersion { key, version }
}

fn unread(error: BoxError) -> Status {
    tracing::warn!(%error, "evidence could not be read");
    Status::unavailable("the evidence can't be read now; see the target's log")
}

/// In a task of its own: a call whose client has left is dropped, and its transaction must not be.
async fn carried_out(
    work: impl Future<Output = Result<Vec<(String, Reply)>, Error>> + Send + 'static,
) -> Result<Response<MoveReply>, Status> {
    let replies = tokio::spawn(work).await.map_err(|lost| Status::unavailable(lost.to_string()))?;
    match replies {
        Ok(replies) => Ok(Response::new(moves::reply(replies))),
        Err(Error::Invalid { field, reason }) => Err(Status::invalid_argument(format!("{field}: {reason}"))),
        Err(Error::Moving { .. }) => {
            Err(Status::unavailable("a write under way held a key too long: ask again"))
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "keys could not be moved");
            Err(Status::unavailable("the keys can't be moved now; see the target's log"))
        }
    }
}

impl<E> std::fmt::Debug for Server<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}
