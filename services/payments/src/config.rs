//! The settings of this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chassis::{Reader, Secret, Url, telemetry};
use outbox::kafka;
use payments::{Crash, ReconcileConfig, StripeConfig};

use crate::migrate::ORIGIN;

const DATABASE: &str = "a URL with a user of its own, such as postgres://payments:password@host/payments";
const POSTGRES: [&str; 2] = ["postgres", "postgresql"];

/// What a running process needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// `PAYMENTS_GRPC_LISTEN`: where gRPC listens; default 127.0.0.1:50051; port 0 takes a free one.
    pub grpc_listen: SocketAddr,
    /// `PAYMENTS_ADMIN_LISTEN`: where health listens; default a free port of the loopback.
    pub admin_listen: SocketAddr,
    /// One database URL per role.
    pub databases: Databases,
    /// `PAYMENTS_DATABASE_POOL_MAX`: the most connections of each pool, 2 to 100; default 16.
    pub pool_max: u32,
    /// `PAYMENTS_RELAY_POLL`: how often the relay looks for events when nothing wakes it. By default after 1 to 50 ms, the
    /// longer the less there is. Committing a payment's outcome wakes a relay in the same process.
    pub relay_poll: Option<Duration>,
    /// `PAYMENTS_SHUTDOWN_GRACE`: how long the process may take to end; default 20 s.
    pub grace: Duration,
    /// `PAYMENTS_CRASH_AT`: the crash point where this process aborts, for tests; by default nowhere. A release build refuses it.
    pub crash: Crash,
    /// `KAFKA_*`.
    pub kafka: kafka::Config,
    /// `TOKEN_SECRET`: checks tokens, at least 32 bytes.
    pub token_key: Secret,
    /// `PROVIDER_*`.
    pub provider: StripeConfig,
    /// `RECONCILE_*`.
    pub reconcile: ReconcileConfig,
    /// `LOG_FORMAT`, `RUST_LOG`, `OTEL_*`.
    pub telemetry: telemetry::Settings,
}

/// The service's database under each of its login roles.
#[derive(Debug, Clone)]
pub struct Databases {
    /// `PAYMENTS_DATABASE_URL`: the module's role.
    pub payments: Url,
    /// `PAYMENTS_OUTBOX_DATABASE_URL`: the relay's role.
    pub outbox: Url,
    /// `PAYMENTS_HOUSEKEEPER_DATABASE_URL`: the role that owns the outbox's logs and drops their old days.
    pub housekeeper: Url,
}

/// What `migrate` needs.
#[derive(Debug, Clone)]
pub struct MigrateConfig {
    /// `PAYMENTS_ADMIN_DATABASE_URL`: the owner of the database, who may create roles.
    pub admin: Url,
    /// The roles to make.
    pub databases: Databases,
    /// Where the topic is made.
    pub kafka: kafka::Config,
    /// `LOG_FORMAT`, `RUST_LOG`, `OTEL_*`.
    pub telemetry: telemetry::Settings,
}

impl Config {
    /// Asks for every setting.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let address = "an address and port, such as 0.0.0.0:50051; port 0 takes a free one";
        let grpc = SocketAddr::from((Ipv4Addr::LOCALHOST, 50051));
        let grpc_listen = reader.optional("PAYMENTS_GRPC_LISTEN", grpc, address);
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let admin_listen = reader.optional("PAYMENTS_ADMIN_LISTEN", free, address);
        let databases = Databases::read(reader);
        let pool_max = reader.number("PAYMENTS_DATABASE_POOL_MAX", 16, 2..=100);
        let second = Duration::from_secs(1);
        let (shortest, longest) = (Duration::from_millis(1), 600 * second);
        let relay_poll =
            reader.maybe_duration("PAYMENTS_RELAY_POLL", "1ms to 50ms, as there is need", shortest..=longest);
        let grace = reader.duration("PAYMENTS_SHUTDOWN_GRACE", 20 * second, second..=300 * second);
        let crash = Crash::read(reader, "PAYMENTS_CRASH_AT");
        let kafka = kafka(reader);
        let token_key = reader.signing_key("TOKEN_SECRET");
        let provider = StripeConfig::read(reader);
        let reconcile = ReconcileConfig::read(reader);
        let telemetry = telemetry::Settings::read(reader);
        Some(Self {
            grpc_listen,
            admin_listen,
            databases: databases?,
            pool_max,
            relay_poll,
            grace,
            crash,
            kafka: kafka?,
            token_key: token_key?,
            provider: provider?,
            reconcile,
            telemetry,
        })
    }
}

impl MigrateConfig {
    /// Asks for every setting.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let owner = "the URL of the database's owner, who may create roles";
        let admin = reader.url("PAYMENTS_ADMIN_DATABASE_URL", &POSTGRES, owner);
        let databases = Databases::read(reader);
        let kafka = kafka(reader);
        let telemetry = telemetry::Settings::read(reader);
        Some(Self { admin: admin?, databases: databases?, kafka: kafka?, telemetry })
    }
}

impl Databases {
    fn read(reader: &mut Reader) -> Option<Self> {
        let payments = reader.url("PAYMENTS_DATABASE_URL", &POSTGRES, DATABASE);
        let outbox = reader.url("PAYMENTS_OUTBOX_DATABASE_URL", &POSTGRES, DATABASE);
        let housekeeper = reader.url("PAYMENTS_HOUSEKEEPER_DATABASE_URL", &POSTGRES, DATABASE);
        let (payments, outbox, housekeeper) = (payments?, outbox?, housekeeper?);
        // The relay deletes from the queue; the module may not.
        if payments.username() == outbox.username() {
            reader.reject("PAYMENTS_OUTBOX_DATABASE_URL", "the user is the module's", DATABASE);
        }
        // The owner of the logs may change what runs with the rights of whoever migrates.
        if [payments.username(), outbox.username()].contains(&housekeeper.username()) {
            let wrong = "the user is the module's or the relay's";
            reader.reject("PAYMENTS_HOUSEKEEPER_DATABASE_URL", wrong, DATABASE);
        }
        Some(Self { payments, outbox, housekeeper })
    }
}

fn kafka(reader: &mut Reader) -> Option<kafka::Config> {
    kafka::Config::read(ORIGIN, |name, absent, allowed| reader.text(name, absent, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut Vec<(&'static str, &'static str)>)) -> Result<Config, String> {
        let mut settings = vec![
            ("PAYMENTS_DATABASE_URL", "postgres://payments:s3cret@h/payments"),
            ("PAYMENTS_OUTBOX_DATABASE_URL", "postgres://relay:s3cret@h/payments"),
            ("PAYMENTS_HOUSEKEEPER_DATABASE_URL", "postgres://housekeeper:s3cret@h/payments"),
            ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
            ("TOKEN_SECRET", "a key of thirty-two bytes at least"),
            ("PROVIDER_URL", "http://127.0.0.1:12111"),
            ("PROVIDER_SECRET_KEY", "sk_test"),
        ];
        change(&mut settings);
        chassis::config::read(Reader::from_pairs(settings), Config::read).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_needed_is_enough() {
        let config = read(|_| {}).unwrap();
        assert_eq!((config.grpc_listen.port(), config.pool_max, config.relay_poll), (50051, 16, None));
    }

    #[test]
    fn every_bad_setting_is_named_and_no_password_shows() {
        let error = read(|settings| {
            settings[1].1 = "postgres://payments:s3cret@h/payments";
            settings[2].1 = "postgres://payments:s3cret@h/payments";
            settings.push(("PAYMENTS_RELAY_POLL", "often"));
            settings.push(("PAYMENTS_CRASH_AT", "somewhere"));
            settings.push(("PROVIDER_TIMEOUT", "1h"));
            settings.push(("PAYMENTS_GRPC_LISTEN", "here"));
            settings.retain(|(name, _)| *name != "TOKEN_SECRET");
        })
        .unwrap_err();
        for part in [
            "PAYMENTS_OUTBOX_DATABASE_URL=postgres://payments:***@h/payments: the user is the module's",
            "PAYMENTS_HOUSEKEEPER_DATABASE_URL=postgres://payments:***@h/payments: the user is the module's or the relay's",
            "PAYMENTS_RELAY_POLL=often: not understood",
            "PAYMENTS_CRASH_AT=somewhere: not understood",
            "PROVIDER_TIMEOUT=1h: out of range",
            "PAYMENTS_GRPC_LISTEN=here: not understood",
            "TOKEN_SECRET: not set",
        ] {
            assert!(error.contains(part), "{part} is not in\n{error}");
        }
        assert!(!error.contains("s3cret"), "{error}");
    }
}
