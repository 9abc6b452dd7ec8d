//! The settings of the process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chassis::{Reader, Secret, Url, telemetry};

use crate::webhook::Webhooks;

/// The longest latency that may be set.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Stripe keeps an idempotency key for at least a day; so does this one, unless it is told otherwise.
const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The longest life of a key: a month.
const KEY_LIFETIME_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// The longest lag of search: Stripe says up to an hour when things go badly.
const SEARCH_LAG_MAX: Duration = Duration::from_secs(3600);

/// The settings, read once at the start. A bad one stops it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API listens. Default a free port of the loopback.
    pub listen: SocketAddr,
    /// Where health and `/admin/journal` listen. Default a free port of the loopback.
    pub admin_listen: SocketAddr,
    /// The file of the journal; made when it is missing.
    pub journal: PathBuf,
    /// The key that clients send.
    pub secret_key: Secret,
    /// How long each request takes at least. Default 0.
    pub latency: Duration,
    /// How long `pm_charged_late` waits before it charges: 10 s.
    pub late_by: Duration,
    /// How long after its first use an idempotency key is kept. Default 24 h; afterwards it is as new.
    pub key_lifetime: Duration,
    /// How long after it is made a payment intent can be searched for. Default 0.
    pub search_lag: Duration,
    /// Where webhooks go. Default nowhere: no events are made.
    pub webhooks: Option<Webhooks>,
    /// TEST ONLY: keys count for nothing, and a charge without an answer is forgotten, so that a client that
    /// repeats is charged twice. Default false.
    pub ignore_idempotency: bool,
    /// The log.
    pub log: telemetry::Settings,
}

impl Config {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let address = "an address such as 127.0.0.1:8443; port 0 takes a free one";
        let listen = reader.optional("PROVIDER_LISTEN", free_port, address);
        let admin_listen = reader.optional("PROVIDER_ADMIN_LISTEN", free_port, address);
        let journal = reader.required("PROVIDER_JOURNAL", "the path of the journal's file");
        let secret_key = secret_key(reader);
        let latency = reader.duration("PROVIDER_LATENCY", Duration::ZERO, Duration::ZERO..=LATENCY_MAX);
        let (late, a_moment) = (Duration::from_secs(10), Duration::from_millis(1));
        let late_by = reader.duration("PROVIDER_LATE_BY", late, a_moment..=LATENCY_MAX);
        let key_lifetime =
            reader.duration("PROVIDER_KEY_LIFETIME", KEY_LIFETIME, a_moment..=KEY_LIFETIME_MAX);
        let search_lag =
            reader.duration("PROVIDER_SEARCH_LAG", Duration::ZERO, Duration::ZERO..=SEARCH_LAG_MAX);
        let webhooks = webhooks(reader);
        let meaning =
            "TEST ONLY, forget keys and unanswered charges, so that a repeated request charges twice";
        let ignore_idempotency = reader.switch("PROVIDER_IGNORE_IDEMPOTENCY", false, meaning);
        let log = telemetry::Settings::read(reader);
        let (journal, secret_key) = (journal?, secret_key?);
        Some(Self {
            listen,
            admin_listen,
            journal,
            secret_key,
            latency,
            late_by,
            key_lifetime,
            search_lag,
            webhooks,
            ignore_idempotency,
            log,
        })
    }
}

/// Stripe's secret keys start with `sk_`; another one is a slip worth catching at the start.
fn secret_key(reader: &mut Reader) -> Option<Secret> {
    let (name, allowed) = ("PROVIDER_SECRET_KEY", "a key that starts with sk_");
    let key = reader.secret(name, allowed)?;
    if !key.expose().starts_with("sk_") {
        reader.reject(name, "not a secret key", allowed);
    }
    Some(key)
}

/// Without a URL there are no webhooks; with one there must be a secret.
fn webhooks(reader: &mut Reader) -> Option<Webhooks> {
    let url = reader.maybe::<Url>(
        "PROVIDER_WEBHOOK_URL",
        "no webhooks",
        "a URL such as http://127.0.0.1:8080/hook",
    );
    let (name, allowed) = ("PROVIDER_WEBHOOK_SECRET", "a secret that starts with whsec_");
    let secret = reader.maybe_secret(name, "none; needed with PROVIDER_WEBHOOK_URL", allowed);
    let half_a_second = Duration::from_millis(500);
    let retry =
        reader.duration("PROVIDER_WEBHOOK_RETRY", half_a_second, Duration::from_millis(1)..=LATENCY_MAX);
    let attempts_max = reader.number("PROVIDER_WEBHOOK_ATTEMPTS", 50, 1..=1_000);
    let url = url?;
    if !["http", "https"].contains(&url.scheme()) {
        reader.reject("PROVIDER_WEBHOOK_URL", "wrong scheme", "a URL with http or https");
    }
    match secret {
        Some(secret) if secret.expose().starts_with("whsec_") => {
            Some(Webhooks { url, secret, retry, attempts_max })
        }
        Some(_) | None => {
            reader.reject(name, "not a webhook secret", allowed);
            None
        }
    }
}
