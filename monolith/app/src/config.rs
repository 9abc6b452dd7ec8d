//! The settings of this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ::payments::Crash;
use chassis::{Reader, Secret, Url, telemetry};
use outbox::kafka;
use proto::homes::MONOLITH;

use crate::HalfConfig;

/// How many modules have a role.
const MODULES: usize = if cfg!(feature = "local-payments") { 8 } else { 7 };
const DATABASE: &str = "a URL with a user of its own, such as postgres://orders:password@host/shop";

/// What a running process needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// `MONOLITH_HTTP_LISTEN`: where the API listens; port 0 takes a free one.
    pub http_listen: SocketAddr,
    /// `MONOLITH_ADMIN_LISTEN`: where health and the migration's admin API listen; port 0 takes a free one.
    pub admin_listen: SocketAddr,
    /// One database URL per module.
    pub databases: Databases,
    /// `MONOLITH_DATABASE_POOL_MAX`: the most connections of each module's pool, 2 to 100; default 10.
    pub pool_max: u32,
    /// `MONOLITH_RELAY_POLL`: how often the relay looks for events when nothing wakes it. By default after 1 to 50 ms, the
    /// longer the less there is. Committing an order, or a payment's outcome, wakes a relay in the same process.
    pub relay_poll: Option<Duration>,
    /// `MONOLITH_SHUTDOWN_GRACE`: how long the process may take to end; default 20 s.
    pub grace: Duration,
    /// `MONOLITH_CRASH_AT`: the crash point where this process aborts, for tests; by default nowhere. A release build refuses it.
    pub crash: Crash,
    /// `MONOLITH_CONTROLLER_CRASH_AT`: where the migration's controller aborts this process, for tests; by default nowhere. A release
    /// build refuses it.
    pub controller_crash: strangler::Crash,
    /// `KAFKA_*`.
    pub kafka: kafka::Config,
    /// `TOKEN_SECRET`: signs and checks tokens, at least 32 bytes.
    pub token_key: Secret,
    /// What the half of payments in this process needs.
    pub half: HalfConfig,
    /// `PROVIDER_WEBHOOK_*`, `MONOLITH_WEBHOOKS_UNPLACED_AFTER`.
    pub webhooks: webhooks::Settings,
    /// The payments service.
    pub service: Service,
    /// `MIGRATION_PLAN`: the file of the migration's plan, read by a process with the role `controller`; by default none.
    pub plan: Option<PathBuf>,
    /// `LOG_FORMAT`, `RUST_LOG`, `OTEL_*`.
    pub telemetry: telemetry::Settings,
}

/// Where the payments service is.
#[derive(Debug, Clone)]
pub struct Service {
    /// `PAYMENTS_SERVICE_URL`: its gRPC address. It may be down when this process starts.
    pub url: Url,
}

/// The URL of each module, with its own login role.
#[derive(Debug, Clone)]
pub struct Databases {
    /// `MONOLITH_CATALOG_DATABASE_URL`.
    pub catalog: Url,
    /// `MONOLITH_ORDERS_DATABASE_URL`.
    pub orders: Url,
    /// `MONOLITH_PAYMENTS_DATABASE_URL`.
    #[cfg(feature = "local-payments")]
    pub payments: Url,
    /// `MONOLITH_NOTIFICATIONS_DATABASE_URL`.
    pub notifications: Url,
    /// `MONOLITH_OUTBOX_DATABASE_URL`: the relay's role.
    pub outbox: Url,
    /// `MONOLITH_HOUSEKEEPER_DATABASE_URL`: the role that owns the outbox's logs and drops their old days.
    pub housekeeper: Url,
    /// `MONOLITH_STRANGLER_DATABASE_URL`: the controller's role.
    pub strangler: Url,
    /// `MONOLITH_WEBHOOKS_DATABASE_URL`.
    pub webhooks: Url,
}

/// What `migrate` needs.
#[derive(Debug, Clone)]
pub struct MigrateConfig {
    /// `MONOLITH_ADMIN_DATABASE_URL`: the owner of the database, who may create roles.
    pub admin: Url,
    /// The roles to make.
    pub databases: Databases,
    /// Where the topics are made.
    pub kafka: kafka::Config,
    /// `LOG_FORMAT`, `RUST_LOG`, `OTEL_*`.
    pub telemetry: telemetry::Settings,
}

/// What `webhooks` needs.
#[derive(Debug, Clone)]
pub struct WebhooksConfig {
    /// `MONOLITH_WEBHOOKS_DATABASE_URL`.
    pub database: Url,
    /// `LOG_FORMAT`, `RUST_LOG`, `OTEL_*`.
    pub telemetry: telemetry::Settings,
}

impl Config {
    /// Asks for every setting.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let address = "an address and port, such as 0.0.0.0:8080; port 0 takes a free one";
        let http_listen = reader.optional("MONOLITH_HTTP_LISTEN", free, address);
        let admin_listen = reader.optional("MONOLITH_ADMIN_LISTEN", free, address);
        let databases = Databases::read(reader);
        let pool_max = reader.number("MONOLITH_DATABASE_POOL_MAX", 10, 2..=100);
        let second = Duration::from_secs(1);
        let (shortest, longest) = (Duration::from_millis(1), 600 * second);
        let relay_poll =
            reader.maybe_duration("MONOLITH_RELAY_POLL", "1ms to 50ms, as there is need", shortest..=longest);
        let grace = reader.duration("MONOLITH_SHUTDOWN_GRACE", 20 * second, second..=300 * second);
        let crash = Crash::read(reader, "MONOLITH_CRASH_AT");
        let controller_crash = controller_crash(reader);
        let kafka = kafka(reader);
        let token_key = reader.signing_key("TOKEN_SECRET");
        let half = HalfConfig::read(reader);
        let webhooks = webhooks::Settings::read(reader);
        let service = Service::read(reader);
        let plan = reader.maybe("MIGRATION_PLAN", "no plan", "the path of a migration.toml (docs/plan.md)");
        let telemetry = telemetry::Settings::read(reader);
        Some(Self {
            http_listen,
            admin_listen,
            databases: databases?,
            pool_max,
            relay_poll,
            grace,
            crash,
            controller_crash,
            kafka: kafka?,
            token_key: token_key?,
            half: half?,
            webhooks: webhooks?,
            service: service?,
            plan,
            telemetry,
        })
    }
}

impl MigrateConfig {
    /// Asks for every setting.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let owner = "the URL of the database's owner, who may create roles";
        let admin = reader.url("MONOLITH_ADMIN_DATABASE_URL", &["postgres", "postgresql"], owner);
        let databases = Databases::read(reader);
        let kafka = kafka(reader);
        let telemetry = telemetry::Settings::read(reader);
        Some(Self { admin: admin?, databases: databases?, kafka: kafka?, telemetry })
    }
}

impl WebhooksConfig {
    /// Asks for every setting.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let database = reader.url("MONOLITH_WEBHOOKS_DATABASE_URL", &["postgres", "postgresql"], DATABASE);
        let telemetry = telemetry::Settings::read(reader);
        Some(Self { database: database?, telemetry })
    }
}

impl Databases {
    fn read(reader: &mut Reader) -> Option<Self> {
        let mut url = |name| reader.url(name, &["postgres", "postgresql"], DATABASE);
        let catalog = url("MONOLITH_CATALOG_DATABASE_URL");
        let orders = url("MONOLITH_ORDERS_DATABASE_URL");
        #[cfg(feature = "local-payments")]
        let payments = url("MONOLITH_PAYMENTS_DATABASE_URL");
        let notifications = url("MONOLITH_NOTIFICATIONS_DATABASE_URL");
        let outbox = url("MONOLITH_OUTBOX_DATABASE_URL");
        let housekeeper = url("MONOLITH_HOUSEKEEPER_DATABASE_URL");
        let strangler = url("MONOLITH_STRANGLER_DATABASE_URL");
        let webhooks = url("MONOLITH_WEBHOOKS_DATABASE_URL");
        let databases = Self {
            catalog: catalog?,
            orders: orders?,
            #[cfg(feature = "local-payments")]
            payments: payments?,
            notifications: notifications?,
            outbox: outbox?,
            housekeeper: housekeeper?,
            strangler: strangler?,
            webhooks: webhooks?,
        };
        databases.check_roles(reader);
        Some(databases)
    }

    /// Two modules with one role could read each other's tables.
    fn check_roles(&self, reader: &mut Reader) {
        let named = self.named();
        for (n, (name, url)) in named.iter().enumerate() {
            if named[..n].iter().any(|(_, earlier)| earlier.username() == url.username()) {
                reader.reject(name, "the user is another module's", DATABASE);
            }
        }
    }

    /// Each with its setting.
    fn named(&self) -> [(&'static str, &Url); MODULES] {
        [
            ("MONOLITH_CATALOG_DATABASE_URL", &self.catalog),
            ("MONOLITH_ORDERS_DATABASE_URL", &self.orders),
            #[cfg(feature = "local-payments")]
            ("MONOLITH_PAYMENTS_DATABASE_URL", &self.payments),
            ("MONOLITH_NOTIFICATIONS_DATABASE_URL", &self.notifications),
            ("MONOLITH_OUTBOX_DATABASE_URL", &self.outbox),
            ("MONOLITH_STRANGLER_DATABASE_URL", &self.strangler),
            ("MONOLITH_HOUSEKEEPER_DATABASE_URL", &self.housekeeper),
            ("MONOLITH_WEBHOOKS_DATABASE_URL", &self.webhooks),
        ]
    }

    /// All of them.
    pub(crate) fn urls(&self) -> [&Url; MODULES] {
        self.named().map(|(_, url)| url)
    }
}

impl Service {
    fn read(reader: &mut Reader) -> Option<Self> {
        let text = reader.optional(
            "PAYMENTS_SERVICE_URL",
            "http://127.0.0.1:50051".to_owned(),
            "a URL such as http://payments:50051",
        );
        match text.parse::<Url>() {
            Ok(url) if url.scheme() == "http" => Some(Self { url }),
            _ => {
                reader.reject(
                    "PAYMENTS_SERVICE_URL",
                    "not understood",
                    "a URL such as http://payments:50051",
                );
                None
            }
        }
    }
}

fn controller_crash(reader: &mut Reader) -> strangler::Crash {
    let allowed = "in debug builds only: where the controller aborts, such as controller.fenced";
    reader.maybe("MONOLITH_CONTROLLER_CRASH_AT", "nowhere", allowed).unwrap_or_default()
}

fn kafka(reader: &mut Reader) -> Option<kafka::Config> {
    kafka::Config::read(MONOLITH, |name, absent, allowed| reader.text(name, absent, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What only the half of payments needs.
    const HALF: &[(&str, &str)] = &[
        ("MONOLITH_PAYMENTS_DATABASE_URL", "postgres://payments:s3cret@127.0.0.1/shop"),
        ("PROVIDER_URL", "http://127.0.0.1:12111"),
        ("PROVIDER_SECRET_KEY", "sk_test"),
    ];

    fn settings() -> Vec<(String, String)> {
        let modules =
            ["CATALOG", "ORDERS", "NOTIFICATIONS", "OUTBOX", "HOUSEKEEPER", "STRANGLER", "WEBHOOKS"];
        let databases = modules.map(|module| {
            let url = format!("postgres://{}:s3cret@127.0.0.1/shop", module.to_lowercase());
            (format!("MONOLITH_{module}_DATABASE_URL"), url)
        });
        let rest = [
            ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
            ("TOKEN_SECRET", "a key of thirty-two bytes at least"),
            ("PROVIDER_WEBHOOK_SECRETS", "whsec_0123456789abcdef"),
        ];
        let half = if cfg!(feature = "local-payments") { HALF } else { &[] };
        let rest = rest.iter().chain(half).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        databases.into_iter().chain(rest).collect()
    }

    fn read(settings: Vec<(String, String)>) -> Result<Config, String> {
        chassis::config::read(Reader::from_pairs(settings), Config::read).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_needed_is_enough() {
        let config = read(settings()).unwrap();
        assert_eq!(config.service.url.expose(), "http://127.0.0.1:50051/");
        assert_eq!((config.pool_max, config.http_listen.port(), config.relay_poll), (10, 0, None));
    }

    #[test]
    fn every_bad_setting_is_named_and_no_password_shows() {
        let mut settings = settings();
        settings.retain(|(name, _)| name != "KAFKA_BOOTSTRAP_SERVERS");
        settings.push(("MONOLITH_ORDERS_DATABASE_URL".into(), "postgres://catalog:s3cret@h/shop".into()));
        settings.push(("TOKEN_SECRET".into(), "short".into()));
        settings.push(("PAYMENTS_SERVICE_URL".into(), "50051".into()));
        settings.push(("MONOLITH_RELAY_POLL".into(), "1h".into()));
        settings.push(("MONOLITH_CRASH_AT".into(), "somewhere".into()));
        settings.push(("MONOLITH_CONTROLLER_CRASH_AT".into(), "effect.answered".into()));
        let error = read(settings).unwrap_err();
        for part in [
            "KAFKA_BOOTSTRAP_SERVERS: not set",
            "MONOLITH_ORDERS_DATABASE_URL=postgres://catalog:***@h/shop: the user is another module's",
            "TOKEN_SECRET=***: too short",
            "PAYMENTS_SERVICE_URL=50051: not understood",
            "MONOLITH_RELAY_POLL=1h: out of range",
            "MONOLITH_CRASH_AT=somewhere: not understood",
            "MONOLITH_CONTROLLER_CRASH_AT=effect.answered: not understood",
        ] {
            assert!(error.contains(part), "{part} is not in\n{error}");
        }
        assert!(!error.contains("s3cret"), "{error}");
    }
}
