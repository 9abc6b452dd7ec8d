//! Every setting of every process of a [`super::Shop`].

use anyhow::{Context as _, Result};
use chassis::Secret;
use uuid::Uuid;

use super::{Ports, Side};
use crate::World;
use crate::post::role_url;

/// Names and values, as in an environment.
pub(super) type Pairs = Vec<(String, String)>;

/// Connections of each module's pool, so that several worlds fit into one server.
const POOL_MAX: &str = "10";
/// The monolith's modules, as in the names of settings and roles.
const MODULES: [&str; 8] =
    ["CATALOG", "ORDERS", "PAYMENTS", "NOTIFICATIONS", "OUTBOX", "HOUSEKEEPER", "STRANGLER", "WEBHOOKS"];

/// The plan of the demo and the stories.
const PLAN: &str = include_str!("../../../deploy/migration.toml");

/// What stays the same however often a process is restarted.
pub(super) struct Settings {
    pub(super) monolith: Pairs,
    pub(super) service: Pairs,
    pub(super) provider: Pairs,
    pub(super) token_secret: Secret,
    /// Signs the provider's webhooks.
    pub(super) webhook_secret: Secret,
}

impl Settings {
    /// New secrets, and a role per module.
    pub(super) fn new(world: &World, ports: &Ports, source_url: &str, target_url: &str) -> Result<Self> {
        let secret = || Uuid::new_v4().simple().to_string();
        let (token_secret, provider_key) = (secret() + &secret(), format!("sk_{}", secret()));
        let webhook_secret = format!("whsec_{}", secret());
        let shared = pairs([
            ("KAFKA_BOOTSTRAP_SERVERS", world.kafka().servers()),
            ("KAFKA_TOPIC_PREFIX", world.kafka().prefix()),
            ("TOKEN_SECRET", &token_secret),
            ("PROVIDER_URL", &format!("http://127.0.0.1:{}", ports.provider.number())),
            ("PROVIDER_SECRET_KEY", &provider_key),
        ]);
        let plan = world.logs().join("migration.toml");
        std::fs::write(&plan, PLAN).with_context(|| plan.display().to_string())?;
        let mut monolith = pairs([
            ("MIGRATION_PLAN", plan.display().to_string().as_str()),
            ("MONOLITH_ADMIN_DATABASE_URL", source_url),
            ("MONOLITH_DATABASE_POOL_MAX", POOL_MAX),
            ("PAYMENTS_SERVICE_URL", &format!("http://127.0.0.1:{}", ports.grpc.number())),
            ("PROVIDER_WEBHOOK_SECRETS", &webhook_secret),
        ]);
        for module in MODULES {
            let url = role_url(source_url, &module.to_lowercase())?;
            monolith.push((format!("MONOLITH_{module}_DATABASE_URL"), url.into()));
        }
        monolith.extend(shared.clone());
        let mut service = pairs([
            ("PAYMENTS_ADMIN_DATABASE_URL", target_url),
            ("PAYMENTS_DATABASE_URL", role_url(target_url, "payments")?.as_str()),
            ("PAYMENTS_OUTBOX_DATABASE_URL", role_url(target_url, "outbox")?.as_str()),
            ("PAYMENTS_HOUSEKEEPER_DATABASE_URL", role_url(target_url, "housekeeper")?.as_str()),
        ]);
        service.extend(shared);
        let journal = world.logs().join("journal.jsonl").display().to_string();
        let provider = pairs([
            ("PROVIDER_JOURNAL", journal.as_str()),
            ("PROVIDER_SECRET_KEY", &provider_key),
            ("PROVIDER_WEBHOOK_SECRET", &webhook_secret),
        ]);
        let (token_secret, webhook_secret) = (Secret::new(token_secret), Secret::new(webhook_secret));
        Ok(Self { monolith, service, provider, token_secret, webhook_secret })
    }

    /// Each module's name and the address with its role; the superuser's is not among them.
    pub(super) fn role_urls(&self, side: Side) -> Pairs {
        let (env, prefix) = match side {
            Side::Source => (&self.monolith, "MONOLITH_"),
            Side::Target => (&self.service, "PAYMENTS_"),
        };
        let roles = env.iter().filter_map(|(name, url)| {
            let role =
                name.strip_prefix(prefix)?.strip_suffix("DATABASE_URL")?.trim_end_matches('_').to_lowercase();
            // The service has one module; its setting names none.
            let role = if role.is_empty() { "payments".to_owned() } else { role };
            (role != "admin").then(|| (role, url.clone()))
        });
        roles.collect()
    }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Pairs {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
