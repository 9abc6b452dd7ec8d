//! The settings of the crate.

use std::time::Duration;

use chassis::{Reader, Secret};

use crate::Keys;

/// The most secrets at once.
const SECRETS_MAX: usize = 8;
/// The shortest: a key of a few characters could be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// Who may send webhooks, and how long one may stay without a place.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `PROVIDER_WEBHOOK_SECRETS` and `PROVIDER_WEBHOOK_TOLERANCE` (default 5 minutes, in both directions).
    pub keys: Keys,
    /// `MONOLITH_WEBHOOKS_UNPLACED_AFTER`: how long a notice waits for its payment to be known; default 1 hour. Then a
    /// person must look, and it is asked again once an hour.
    pub unplaced_after: Duration,
}

impl Settings {
    /// Asks for every setting.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let secrets = secrets(reader);
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let tolerance = reader.duration("PROVIDER_WEBHOOK_TOLERANCE", 5 * minute, second..=60 * minute);
        let unplaced_after =
            reader.duration("MONOLITH_WEBHOOKS_UNPLACED_AFTER", 60 * minute, second..=24 * 60 * minute);
        Some(Self { keys: Keys::new(secrets?, tolerance), unplaced_after })
    }
}

fn secrets(reader: &mut Reader) -> Option<Vec<Secret>> {
    let name = "PROVIDER_WEBHOOK_SECRETS";
    let allowed = "1 to 8 secrets that start with whsec_, each of at least 16 bytes, separated by commas";
    let listed = reader.secret(name, allowed)?;
    let secrets: Vec<Secret> = listed.expose().split(',').map(|text| Secret::new(text.trim())).collect();
    let is_good =
        |secret: &Secret| secret.expose().starts_with("whsec_") && secret.expose().len() >= SECRET_BYTES_MIN;
    if secrets.len() > SECRETS_MAX || !secrets.iter().all(is_good) {
        reader.reject(name, "not a list of secrets", allowed);
        return None;
    }
    Some(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(secrets: &str) -> Result<Settings, String> {
        let reader = Reader::from_pairs([("PROVIDER_WEBHOOK_SECRETS", secrets)]);
        chassis::config::read(reader, Settings::read).map_err(|error| error.to_string())
    }

    #[test]
    fn several_secrets_count_and_a_bad_one_is_not_shown() {
        assert!(read("whsec_0123456789abcdef, whsec_fedcba9876543210").is_ok());
        for bad in
            ["whsec_short", "sk_0123456789abcdef", "whsec_0123456789abcdef,", &"whsec_0123456789,".repeat(9)]
        {
            let error = read(bad).unwrap_err();
            assert!(error.contains("PROVIDER_WEBHOOK_SECRETS=***: not a list of secrets"), "{error}");
        }
    }
}
