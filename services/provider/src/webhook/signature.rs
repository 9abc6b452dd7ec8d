//! The signature by which the receiver knows who sent a webhook, and when.

use chassis::Secret;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// The value of `Stripe-Signature`: the time of sending in seconds since 1970, and HMAC-SHA256 over that time, a dot and
/// the body as it is sent. Each attempt is signed anew. The scheme is Stripe's, `v1`.
pub(super) fn sign(secret: &Secret, sent_s: i64, body: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("a key of any length");
    mac.update(format!("{sent_s}.").as_bytes());
    mac.update(body);
    format!("t={sent_s},v1={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_body_has_a_known_signature() {
        // From: printf '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test
        let signature = sign(&Secret::new("whsec_test"), 1_700_000_000, br#"{"id":"evt_1"}"#);
        assert_eq!(
            signature,
            "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925"
        );
    }
}
