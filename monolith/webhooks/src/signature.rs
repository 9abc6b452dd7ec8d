//! `Stripe-Signature`: HMAC-SHA256 of the time and the raw body, under a secret that only the provider and we know.
//! <https://docs.stripe.com/webhooks#verify-manually>

use std::time::Duration;

use chassis::Secret;
use hmac::digest::InvalidLength;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use time::OffsetDateTime;

use crate::Refusal;

/// The header.
pub const HEADER: &str = "stripe-signature";

/// The longest header, in bytes: a time and a dozen signatures.
const HEADER_BYTES_MAX: usize = 1024;

/// Who may sign, and how far the clocks may be apart.
#[derive(Debug, Clone)]
pub struct Keys {
    secrets: Vec<Secret>,
    tolerance: Duration,
}

/// A header that was understood; nothing of it is checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Seconds since 1970, as they were written: these bytes were signed.
    timestamp: String,
    at: i64,
    v1: Vec<[u8; 32]>,
    header: String,
}

impl Keys {
    /// Several secrets count at once, so that one can be replaced without a gap. `tolerance` is for both directions.
    pub fn new(secrets: Vec<Secret>, tolerance: Duration) -> Self {
        Self { secrets, tolerance }
    }

    /// Whether one of the signatures is of this body, by one of the secrets, and of about now. The comparison takes the
    /// same time wherever the first difference is.
    pub(crate) fn check(
        &self,
        signature: &Signature,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let signed = |secret| {
            let mac = mac(secret, &signature.timestamp, body);
            mac.is_ok_and(|mac| signature.v1.iter().any(|v1| mac.clone().verify_slice(v1).is_ok()))
        };
        if !self.secrets.iter().any(signed) {
            return Err(Refusal::WrongSignature);
        }
        let age_s = i128::from(now.unix_timestamp()) - i128::from(signature.at);
        let tolerance_s = i128::from(self.tolerance.as_secs());
        match age_s {
            age_s if age_s > tolerance_s => Err(Refusal::Stale),
            age_s if age_s < -tolerance_s => Err(Refusal::FromTheFuture),
            _ => Ok(()),
        }
    }
}

impl Signature {
    /// Reads `t=SECONDS,v1=HEX,..`. Schemes other than `v1` are left out: they may be weaker.
    pub(crate) fn parse(header: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(header).ok().filter(|text| text.len() <= HEADER_BYTES_MAX);
        let text = text.ok_or(Refusal::MalformedSignature)?;
        let (mut times, mut v1) = (Vec::new(), Vec::new());
        for part in text.split(',') {
            let (name, value) = part.trim().split_once('=').ok_or(Refusal::MalformedSignature)?;
            match name {
                "t" => times.push(value),
                "v1" => v1.push(digest(value)?),
                _ => {}
            }
        }
        let [timestamp] = times[..] else {
            return Err(if times.is_empty() {
                Refusal::MalformedSignature
            } else {
                Refusal::SeveralTimestamps
            });
        };
        if v1.is_empty() || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::MalformedSignature);
        }
        let at = timestamp.parse().map_err(|_| Refusal::MalformedSignature)?;
        Ok(Self { timestamp: timestamp.to_owned(), at, v1, header: text.to_owned() })
    }

    /// As it came.
    pub(crate) fn header(&self) -> &str {
        &self.header
    }
}

/// The header's value for a body, as the provider makes it: for whoever sends webhooks in a test.
pub fn sign(secret: &Secret, at: OffsetDateTime, body: &[u8]) -> String {
    let timestamp = at.unix_timestamp().to_string();
    let mac = mac(secret, &timestamp, body).map(|mac| hex::encode(mac.finalize().into_bytes()));
    let v1 = mac.unwrap_or_default();
    format!("t={timestamp},v1={v1}")
}

fn digest(text: &str) -> Result<[u8; 32], Refusal> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| Refusal::MalformedSignature)?;
    Ok(digest)
}

/// The whole secret is the key, with its `whsec_`.
fn mac(secret: &Secret, timestamp: &str, body: &[u8]) -> Result<Hmac<Sha256>, InvalidLength> {
    // HMAC takes a key of any length, so the error never comes.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())?;
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1","type":"payment_intent.succeeded"}"#;
    /// Made with Python's `hmac`, over `1700000000.` and [`BODY`] with `whsec_first`.
    const V1: &str = "85591800e181ab5c797bb65d5a0c1b27b037fecbef17857ff0ffef30a5a2fe18";

    fn keys() -> Keys {
        let secrets = ["whsec_second", "whsec_first"].map(Secret::new);
        Keys::new(secrets.into(), Duration::from_secs(300))
    }

    fn check(header: &str, body: &[u8], now_s: i64) -> Result<(), Refusal> {
        let now = OffsetDateTime::from_unix_timestamp(now_s).unwrap();
        keys().check(&Signature::parse(header.as_bytes())?, body, now)
    }

    #[test]
    fn any_v1_of_any_secret_is_enough_and_other_schemes_count_for_nothing() {
        let other = "0".repeat(64);
        for header in [
            format!("t=1700000000,v1={V1}"),
            format!("t=1700000000,v1={other},v1={V1},v0={other}"),
            format!(" v1={V1} , t=1700000000"),
            format!("t=1700000000,v1={}", V1.to_uppercase()),
        ] {
            assert_eq!(check(&header, BODY, 1_700_000_000), Ok(()), "{header}");
        }
        let weaker = format!("t=1700000000,v0={V1}");
        assert_eq!(check(&weaker, BODY, 1_700_000_000), Err(Refusal::MalformedSignature));
        let signed = sign(
            &Secret::new("whsec_first"),
            OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
            BODY,
        );
        assert_eq!(signed, format!("t=1700000000,v1={V1}"));
    }

    #[test]
    fn other_bytes_another_time_or_another_secret_are_refused() {
        let header = format!("t=1700000000,v1={V1}");
        let spaced = br#"{"id": "evt_1", "type": "payment_intent.succeeded"}"#;
        assert_eq!(check(&header, spaced, 1_700_000_000), Err(Refusal::WrongSignature));
        let later = format!("t=1700000001,v1={V1}");
        assert_eq!(check(&later, BODY, 1_700_000_000), Err(Refusal::WrongSignature));
        let padded = format!("t=01700000000,v1={V1}");
        assert_eq!(check(&padded, BODY, 1_700_000_000), Err(Refusal::WrongSignature));
        let stranger = sign(&Secret::new("whsec_third"), OffsetDateTime::UNIX_EPOCH, BODY);
        assert_eq!(check(&stranger, BODY, 0), Err(Refusal::WrongSignature));
    }

    #[test]
    fn the_tolerance_is_for_both_directions_and_ends_at_its_second() {
        let header = format!("t=1700000000,v1={V1}");
        for (now, answer) in [
            (1_700_000_300, Ok(())),
            (1_700_000_301, Err(Refusal::Stale)),
            (1_699_999_700, Ok(())),
            (1_699_999_699, Err(Refusal::FromTheFuture)),
        ] {
            assert_eq!(check(&header, BODY, now), answer, "{now}");
        }
    }

    #[test]
    fn a_header_that_is_not_one_is_named() {
        let long = format!("t=1,v1={V1}{}", ",v0=aa".repeat(200));
        for header in ["", "t=1", "v1=aa", "t=,v1=", "t=1,v1=zz", "t=-1", "t=1 ,v1=", "nonsense", &long] {
            assert_eq!(check(header, BODY, 1), Err(Refusal::MalformedSignature), "{header}");
        }
        let huge = format!("t=99999999999999999999,v1={V1}");
        assert_eq!(check(&huge, BODY, 1), Err(Refusal::MalformedSignature));
        let two = format!("t=1700000000,t=1700000000,v1={V1}");
        assert_eq!(check(&two, BODY, 1_700_000_000), Err(Refusal::SeveralTimestamps));
    }
}
