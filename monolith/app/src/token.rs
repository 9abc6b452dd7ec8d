//! Who signs tokens, and for whom.

/// The issuer of all tokens.
pub const ISSUER: &str = "banyan";

/// The audience of users' tokens for this process.
pub const AUDIENCE: &str = "monolith";

/// The audience of tokens that this process shows to the payments service.
pub const SERVICE_AUDIENCE: &str = "payments-service";

/// The name this process has in them.
pub(crate) const SERVICE: &str = "monolith";
