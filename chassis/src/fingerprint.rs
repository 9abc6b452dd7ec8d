//! The fingerprint of a request: what an `Idempotency-Key` is bound to.

use sha2::{Digest, Sha256};

/// SHA-256, in lower-case hex, over method, path and body, each led by its length in bytes (64 bit, big
/// endian), so that no two different requests run together into the same bytes. The body counts byte for
/// byte: a retry sends what was sent before.
pub fn fingerprint(method: &str, path: &str, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes(), body] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let known = fingerprint("POST", "/v1/orders", b"{}");
        assert_eq!(known, "6143a95c3829eae61c918c36c82d98c8677a6f25369754ba7c016ca46bf144f3");
        for (method, path, body) in [
            ("PUT", "/v1/orders", "{}"),
            ("POST", "/v1/order", "s{}"),
            ("POST", "/v1/orders", "{ }"),
            ("POST/", "v1/orders", "{}"),
        ] {
            assert_ne!(fingerprint(method, path, body.as_bytes()), known);
        }
    }
}
