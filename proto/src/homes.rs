//! Words that both homes of payments and their callers must write alike. A side that had another one would not be told: metadata that is
//! not known is passed over.

/// The name of the migration that moves payments between the homes.
pub const MIGRATION: &str = "payments";

/// How many partitions a topic gets where it does not exist yet: the most consumers of one group that share its work.
pub const PARTITIONS: i32 = 6;

/// The issuer of all tokens.
pub const ISSUER: &str = "banyan";

/// The source of the migration: the audience of users' tokens for it, and its name in tokens that it shows to the target.
pub const MONOLITH: &str = "monolith";

/// The audience of tokens for the target.
pub const PAYMENTS_SERVICE: &str = "payments-service";

/// The metadata that carries the owner's epoch as the source knows it; other callers leave it out.
pub const EPOCH: &str = "x-authority-epoch";

/// The metadata that says which version of a payment its reader must see at least: it is read from a copy then, and refused where
/// the copy is older or not whole. Without it what is there is the answer.
pub const AT_LEAST: &str = "x-min-version";

/// The metadata that says who asks, when that is not the calling service itself.
pub const ACTOR: &str = "x-actor";

#[cfg(test)]
mod tests {
    use tonic::metadata::AsciiMetadataKey;

    use super::*;

    #[test]
    fn each_is_a_name_that_metadata_may_have() {
        for name in [EPOCH, AT_LEAST, ACTOR] {
            let key = AsciiMetadataKey::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(key.as_str(), name, "as it is sent");
        }
    }
}
