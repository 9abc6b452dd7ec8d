//! Bearer tokens: signed with HS256, checked for issuer, audience and age; and who calls over HTTP.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::card;
use crate::problem::Problem;
use crate::service_token::is_tenant;
use crate::setting::Secret;

/// How far the clocks of two machines may be apart.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// What the bearer of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Places orders and reads the tenant's own.
    Customer,
    /// Also captures, voids and refunds for the tenant.
    Merchant,
    /// Runs the system: the admin API.
    Operator,
    /// One of our processes.
    Service,
    /// A role that this version does not know. It allows nothing.
    #[serde(other)]
    Unknown,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it.
    pub iss: String,
    /// Who bears it.
    pub sub: String,
    /// Whom it is for.
    pub aud: String,
    /// The tenant it acts for; a service's own token has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it allows.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
}

/// Signs tokens.
#[derive(Clone)]
pub struct Issuer {
    name: String,
    key: EncodingKey,
}

/// Checks tokens for one audience.
#[derive(Clone)]
pub struct Verifier {
    key: DecodingKey,
    rules: Validation,
}

/// A token that was not signed, or not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Signing failed.
    #[error("the token can't be signed: {0}")]
    Sign(jsonwebtoken::errors::Error),
    /// Too old.
    #[error("the token has expired")]
    Expired,
    /// Good for someone else.
    #[error("the token is meant for another audience")]
    Audience,
    /// Not signed by ours, or no token at all.
    #[error("the token is not valid")]
    Invalid,
}

impl Issuer {
    /// An issuer with its name, which verifiers must know, and its key.
    pub fn new(name: impl Into<String>, key: &Secret) -> Self {
        Self { name: name.into(), key: EncodingKey::from_secret(key.expose().as_bytes()) }
    }

    /// A token for a user of a tenant.
    ///
    /// # Errors
    /// [`Error::Sign`]; the key is no key.
    pub fn issue(
        &self,
        subject: &str,
        tenant: &str,
        roles: &[Role],
        audience: &str,
        lifetime: Duration,
    ) -> Result<String, Error> {
        self.sign(subject, Some(tenant), roles, audience, lifetime)
    }

    /// A token for one of our processes, with the role [`Role::Service`] and without a tenant.
    ///
    /// # Errors
    /// [`Error::Sign`]; the key is no key.
    pub fn issue_service(&self, service: &str, audience: &str, lifetime: Duration) -> Result<String, Error> {
        self.sign(service, None, &[Role::Service], audience, lifetime)
    }

    fn sign(
        &self,
        sub: &str,
        tenant: Option<&str>,
        roles: &[Role],
        aud: &str,
        lifetime: Duration,
    ) -> Result<String, Error> {
        let claims = Claims {
            iss: self.name.clone(),
            sub: sub.to_owned(),
            aud: aud.to_owned(),
            tenant: tenant.map(str::to_owned),
            roles: roles.to_vec(),
            exp: now().saturating_add(lifetime).as_secs(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key).map_err(Error::Sign)
    }
}

impl Verifier {
    /// Accepts tokens of one issuer for one audience.
    pub fn new(issuer: &str, audience: &str, key: &Secret) -> Self {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[issuer]);
        rules.set_audience(&[audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.leeway = LEEWAY.as_secs();
        Self { key: DecodingKey::from_secret(key.expose().as_bytes()), rules }
    }

    /// Checks a token.
    ///
    /// # Errors
    /// [`Error::Expired`], [`Error::Audience`], or [`Error::Invalid`] for everything else.
    pub fn verify(&self, token: &str) -> Result<Claims, Error> {
        use jsonwebtoken::errors::ErrorKind;
        match jsonwebtoken::decode::<Claims>(token, &self.key, &self.rules) {
            Ok(token) => Ok(token.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::ExpiredSignature => Error::Expired,
                ErrorKind::InvalidAudience => Error::Audience,
                _ => Error::Invalid,
            }),
        }
    }
}

/// Who calls over HTTP. An extractor behind [`guard`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub subject: String,
    /// The tenant that every row is read and written under.
    pub tenant: String,
    /// What is allowed.
    pub roles: Vec<Role>,
}

impl Caller {
    /// Whether the token has the role.
    pub fn has(&self, role: Role) -> bool {
        role != Role::Unknown && self.roles.contains(&role)
    }

    /// Demands one of the given roles.
    ///
    /// # Errors
    /// A 403 problem that names what is needed.
    pub fn require(&self, any_of: &[Role]) -> Result<(), Problem> {
        if any_of.iter().any(|role| self.has(*role)) {
            return Ok(());
        }
        let names: Vec<String> = any_of.iter().map(Role::to_string).collect();
        Err(Problem::forbidden(format!("needs the role {}", names.join(" or "))))
    }
}

/// Puts a token check before every route of the router: no token, a bad, an expired or a foreign one is a
/// 401 problem; else the handler may take a [`Caller`]. A body with what looks like a card number ([`card`]) is refused before
/// the handler sees it. The router must have at least one route.
pub fn guard<S: Clone + Send + Sync + 'static>(router: Router<S>, verifier: Verifier) -> Router<S> {
    router.route_layer(from_fn(card::http::body)).route_layer(from_fn_with_state(verifier, authenticate))
}

async fn authenticate(
    State(verifier): State<Verifier>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = caller(&verifier, request.headers())?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn caller(verifier: &Verifier, headers: &HeaderMap) -> Result<Caller, Problem> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header
        .and_then(bearer)
        .ok_or_else(|| Problem::unauthenticated("send Authorization: Bearer TOKEN"))?;
    let claims = verifier.verify(token).map_err(|error| Problem::unauthenticated(error.to_string()))?;
    let tenant = claims.tenant.filter(|tenant| is_tenant(tenant)).ok_or_else(|| {
        Problem::unauthenticated("the token must name a tenant: 1 to 255 visible ASCII characters")
    })?;
    // Both are stored and logged with what the caller does.
    if [&claims.sub, &tenant].into_iter().any(|name| card::is_in(name.as_bytes())) {
        return Err(card::http::refused("token"));
    }
    Ok(Caller { subject: claims.sub, tenant, roles: claims.roles })
}

/// The token in an `Authorization` value; the scheme's case does not count.
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Missing only where a route forgot its guard: then nobody gets in.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::unauthenticated("send Authorization: Bearer TOKEN"))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Customer => "customer",
            Self::Merchant => "merchant",
            Self::Operator => "operator",
            Self::Service => "service",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("audience", &self.rules.aud).finish_non_exhaustive()
    }
}

/// Time since 1970; a clock before that counts as 1970, where every token is young and none is issued.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn key() -> Secret {
        Secret::new("a key of thirty-two bytes at least")
    }

    fn issuer() -> Issuer {
        Issuer::new("shop", &key())
    }

    fn verifier() -> Verifier {
        Verifier::new("shop", "monolith", &key())
    }

    #[test]
    fn a_good_token_says_who_it_is() {
        let token = issuer().issue("ada", "acme", &[Role::Customer], "monolith", HOUR).unwrap();
        let claims = verifier().verify(&token).unwrap();
        assert_eq!(
            (claims.sub.as_str(), claims.tenant.as_deref(), &*claims.roles),
            ("ada", Some("acme"), &[Role::Customer][..])
        );
    }

    #[test]
    fn an_old_a_foreign_and_a_forged_token_are_refused() {
        let refuse = |token: &str| verifier().verify(token).unwrap_err().to_string();
        let mut old = serde_json::to_value(Claims {
            iss: "shop".into(),
            sub: "ada".into(),
            aud: "monolith".into(),
            tenant: Some("acme".into()),
            roles: vec![],
            exp: now().as_secs() - LEEWAY.as_secs() - 60,
        })
        .unwrap();
        let sign = |claims: &serde_json::Value| {
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &issuer().key).unwrap()
        };
        assert_eq!(refuse(&sign(&old)), "the token has expired");
        old.as_object_mut().unwrap().remove("exp");
        assert_eq!(refuse(&sign(&old)), "the token is not valid");
        let elsewhere = issuer().issue("ada", "acme", &[], "payments", HOUR).unwrap();
        assert_eq!(refuse(&elsewhere), "the token is meant for another audience");
        let forged = Issuer::new("shop", &Secret::new("another key, also of thirty-two bytes"));
        assert_eq!(
            refuse(&forged.issue("ada", "acme", &[], "monolith", HOUR).unwrap()),
            "the token is not valid"
        );
        let impostor = Issuer::new("elsewhere", &key()).issue("ada", "acme", &[], "monolith", HOUR).unwrap();
        assert_eq!(refuse(&impostor), "the token is not valid");
    }

    #[test]
    fn an_unknown_role_allows_nothing() {
        let roles: Vec<Role> = serde_json::from_str(r#"["customer","emperor"]"#).unwrap();
        let caller = Caller { subject: "ada".into(), tenant: "acme".into(), roles };
        assert!(caller.require(&[Role::Customer]).is_ok());
        assert!(!caller.has(Role::Unknown));
        let problem = caller.require(&[Role::Merchant, Role::Operator]).unwrap_err();
        assert_eq!((problem.status.as_u16(), &*problem.detail), (403, "needs the role merchant or operator"));
    }

    #[tokio::test]
    async fn a_guarded_route_wants_a_token_with_a_tenant() {
        let routes = Router::new().route("/me", get(|caller: Caller| async move { caller.tenant }));
        let router = guard(routes, verifier());
        let status = async |authorization: Option<String>| {
            let mut request = axum::http::Request::get("/me");
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
        };
        let token = issuer().issue("ada", "acme", &[Role::Customer], "monolith", HOUR).unwrap();
        assert_eq!(status(Some(format!("Bearer {token}"))).await, 200);
        assert_eq!(status(None).await, 401);
        assert_eq!(status(Some(format!("Basic {token}"))).await, 401);
        assert_eq!(status(Some("Bearer x.y.z".into())).await, 401);
        let service = issuer().issue_service("payments", "monolith", HOUR).unwrap();
        assert_eq!(status(Some(format!("Bearer {service}"))).await, 401);
    }
}
