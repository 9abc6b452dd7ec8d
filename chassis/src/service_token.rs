//! Tokens between processes: a tonic interceptor for each side, and the tenant a call is for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::telemetry;
use crate::token::{Issuer, Role, Verifier, bearer, now};

/// The metadata that carries the tenant of a call.
pub const TENANT: &str = "x-tenant";

/// How long a service token is good for.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// How long before its end a token is replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// The longest tenant, in bytes.
const TENANT_MAX: usize = 255;

/// Client side: adds `authorization: Bearer ..`, signed for one audience and renewed in time, and the
/// current trace. Clones share the token.
#[derive(Debug, Clone)]
pub struct Bearer {
    issuer: Issuer,
    service: String,
    audience: String,
    current: Arc<Mutex<Option<Current>>>,
}

#[derive(Debug)]
struct Current {
    header: MetadataValue<Ascii>,
    renew_at: Duration,
}

/// Server side: lets only our own services in and puts the [`Peer`] into the request's extensions.
#[derive(Debug, Clone)]
pub struct Gate {
    verifier: Verifier,
    only: Option<Arc<str>>,
}

/// The process that calls, as its token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The service's name.
    pub service: String,
}

impl Bearer {
    /// Signs as `service` for `audience`.
    pub fn new(issuer: Issuer, service: impl Into<String>, audience: impl Into<String>) -> Self {
        Self { issuer, service: service.into(), audience: audience.into(), current: Arc::default() }
    }

    fn header(&self) -> Result<MetadataValue<Ascii>, Status> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(token) if now() < token.renew_at => Ok(token.header.clone()),
            _ => {
                let header = self.sign()?;
                let renew_at = now() + LIFETIME.saturating_sub(RENEW_BEFORE);
                *current = Some(Current { header: header.clone(), renew_at });
                Ok(header)
            }
        }
    }

    fn sign(&self) -> Result<MetadataValue<Ascii>, Status> {
        let token = self.issuer.issue_service(&self.service, &self.audience, LIFETIME);
        let token = token.map_err(|error| Status::internal(error.to_string()))?;
        format!("Bearer {token}")
            .parse()
            .map_err(|_| Status::internal("the token does not fit into a header"))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = self.header()?;
        request.metadata_mut().insert("authorization", header);
        // The one interceptor of every call to our own services: the caller's trace goes with its token.
        for (name, value) in telemetry::continued() {
            if let Ok(value) = value.parse() {
                request.metadata_mut().insert(name, value);
            }
        }
        Ok(request)
    }
}

impl Gate {
    /// Accepts service tokens that the verifier accepts.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, only: None }
    }

    /// Lets only this one of our services in; others hear `PERMISSION_DENIED`.
    #[must_use]
    pub fn only(self, service: &str) -> Self {
        Self { only: Some(service.into()), ..self }
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token =
            header.and_then(bearer).ok_or_else(|| Status::unauthenticated("a service token is needed"))?;
        let claims =
            self.verifier.verify(token).map_err(|error| Status::unauthenticated(error.to_string()))?;
        if !claims.roles.contains(&Role::Service) {
            return Err(Status::unauthenticated("the token is not a service's"));
        }
        if self.only.as_deref().is_some_and(|only| only != claims.sub) {
            tracing::warn!(service = claims.sub, "a service called what is not its to call");
            return Err(Status::permission_denied("this is another service's to call"));
        }
        request.extensions_mut().insert(Peer { service: claims.sub });
        Ok(request)
    }
}

/// Names the tenant of a call.
///
/// # Errors
/// `INVALID_ARGUMENT` when it is not 1 to 255 visible ASCII characters.
pub fn set_tenant<T>(request: &mut Request<T>, tenant: &str) -> Result<(), Status> {
    if !is_tenant(tenant) {
        return Err(not_a_tenant());
    }
    let value = tenant.parse().map_err(|_| not_a_tenant())?;
    request.metadata_mut().insert(TENANT, value);
    Ok(())
}

/// The tenant of a call.
///
/// # Errors
/// `INVALID_ARGUMENT` when it is missing or malformed.
pub fn tenant<T>(request: &Request<T>) -> Result<String, Status> {
    let value = request.metadata().get(TENANT).and_then(|value| value.to_str().ok());
    value.filter(|text| is_tenant(text)).map(str::to_owned).ok_or_else(not_a_tenant)
}

/// The service that calls, behind a [`Gate`].
///
/// # Errors
/// `UNAUTHENTICATED` where the gate is missing.
pub fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    request.extensions().get().ok_or_else(|| Status::unauthenticated("a service token is needed"))
}

pub(crate) fn is_tenant(text: &str) -> bool {
    (1..=TENANT_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn not_a_tenant() -> Status {
    Status::invalid_argument("metadata x-tenant must be 1 to 255 visible ASCII characters")
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::setting::Secret;

    fn key() -> Secret {
        Secret::new("a key of thirty-two bytes at least")
    }

    fn gate() -> Gate {
        Gate::new(Verifier::new("banyan", "payments", &key()))
    }

    fn bearer_for(audience: &str) -> Bearer {
        Bearer::new(Issuer::new("banyan", &key()), "monolith", audience)
    }

    #[test]
    fn a_service_gets_in_by_its_token() {
        let mut client = bearer_for("payments");
        let request = client.call(Request::new(())).unwrap();
        let again = client.clone().call(Request::new(())).unwrap();
        assert_eq!(
            request.metadata().get("authorization"),
            again.metadata().get("authorization"),
            "the token is reused"
        );
        let request = gate().call(request).unwrap();
        assert_eq!(peer(&request).unwrap(), &Peer { service: "monolith".into() });
    }

    #[test]
    fn no_token_a_foreign_audience_and_a_users_token_stay_out() {
        let refuse = |request| gate().call(request).unwrap_err();
        assert_eq!(refuse(Request::new(())).code(), Code::Unauthenticated);
        let foreign = bearer_for("orders").call(Request::new(())).unwrap();
        assert_eq!(refuse(foreign).message(), "the token is meant for another audience");
        let user = Issuer::new("banyan", &key())
            .issue("ada", "acme", &[Role::Operator], "payments", LIFETIME)
            .unwrap();
        let mut request = Request::new(());
        request.metadata_mut().insert("authorization", format!("Bearer {user}").parse().unwrap());
        assert_eq!(refuse(request).message(), "the token is not a service's");
        assert_eq!(peer(&Request::new(())).unwrap_err().code(), Code::Unauthenticated);
    }

    #[test]
    fn the_tenant_travels_in_the_metadata() {
        let mut request = Request::new(());
        assert_eq!(tenant(&request).unwrap_err().code(), Code::InvalidArgument);
        set_tenant(&mut request, "acme").unwrap();
        assert_eq!(tenant(&request).unwrap(), "acme");
        assert_eq!(set_tenant(&mut request, "two words").unwrap_err().code(), Code::InvalidArgument);
    }
}
