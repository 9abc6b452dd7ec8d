//! The whole shop in a world: monolith, payments service and provider, with their settings.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::Secret;
use chassis::listening::Listening;
use chassis::token::{Issuer, Role};
use sqlx::PgPool;
use stack::Stack;
use uuid::Uuid;

use crate::checker::{self, Accepted, Findings, Places, Unsettled};
use crate::load::Client;
use crate::post::role_url;
use crate::{Binaries, Operator, Port, Process, Spec, World, until};

/// Who signs all tokens of the house.
const ISSUER: &str = "banyan";
/// The audience of tokens for the monolith.
pub const MONOLITH: &str = "monolith";
/// The audience of tokens for the payments service.
pub const SERVICE: &str = "payments-service";

/// Tokens outlive any run.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Applying all migrations of one database, creating roles and topics.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(60);
/// Until a process that listens is ready too.
const READY_TIMEOUT: Duration = Duration::from_secs(45);
/// Connections of each module's pool, so that several worlds fit into one server.
const POOL_MAX: &str = "10";

/// One of the two programs that own payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The monolith.
    Source,
    /// The payments service.
    Target,
}

/// Databases, settings and the ways to start each process. The processes themselves belong to the [`World`].
pub struct Shop<'w> {
    /// The world it is in.
    pub world: &'w World,
    /// The monolith's database, as superuser.
    pub source: PgPool,
    /// The service's database, as superuser.
    pub target: PgPool,
    binaries: Binaries,
    source_env: Vec<(String, String)>,
    target_env: Vec<(String, String)>,
    provider_env: Vec<(String, String)>,
    token_secret: Secret,
    /// Where the monolith serves HTTP.
    pub http: Port,
    /// Where the monolith serves its admin API.
    pub admin: Port,
    /// Where the service serves gRPC.
    pub grpc: Port,
    /// Where the provider listens.
    provider: Port,
}

/// The monolith's modules, as in the names of settings and roles.
const MODULES: [&str; 6] = ["CATALOG", "ORDERS", "PAYMENTS", "NOTIFICATIONS", "OUTBOX", "STRANGLER"];

impl<'w> Shop<'w> {
    /// Makes both databases, empty, and every setting. Nothing runs yet.
    ///
    /// # Errors
    /// When a server refuses, or no port is free.
    pub async fn open(world: &'w World, stack: &Stack, binaries: Binaries) -> Result<Self> {
        Self::open_at(world, stack, binaries, Port::free()?, Port::free()?, Port::free()?).await
    }

    /// The same with chosen ports for HTTP, the admin API and gRPC.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn open_at(
        world: &'w World,
        stack: &Stack,
        binaries: Binaries,
        http: Port,
        admin: Port,
        grpc: Port,
    ) -> Result<Self> {
        let (source_url, source) = world.database(stack, "monolith").await?;
        let (target_url, target) = world.database(stack, "service").await?;
        let secret = || Uuid::new_v4().simple().to_string();
        let (token_secret, provider_key) = (secret() + &secret(), format!("sk_{}", secret()));
        let provider = Port::free()?;
        let shared = shared_env(world, &token_secret, &provider, &provider_key);
        let mut source_env = pairs([("MONOLITH_ADMIN_DATABASE_URL", source_url.as_str())]);
        for module in MODULES {
            let url = role_url(&source_url, &module.to_lowercase())?;
            source_env.push((format!("MONOLITH_{module}_DATABASE_URL"), url.into()));
        }
        source_env.push(("MONOLITH_DATABASE_POOL_MAX".into(), POOL_MAX.into()));
        source_env.push(("PAYMENTS_SERVICE_URL".into(), format!("http://127.0.0.1:{}", grpc.number())));
        source_env.extend(shared.clone());
        let mut target_env = pairs([
            ("PAYMENTS_ADMIN_DATABASE_URL", target_url.as_str()),
            ("PAYMENTS_DATABASE_URL", role_url(&target_url, "payments")?.as_str()),
            ("PAYMENTS_OUTBOX_DATABASE_URL", role_url(&target_url, "outbox")?.as_str()),
        ]);
        target_env.extend(shared);
        let journal = world.logs().join("journal.jsonl").display().to_string();
        let provider_env =
            pairs([("PROVIDER_JOURNAL", journal.as_str()), ("PROVIDER_SECRET_KEY", &provider_key)]);
        let token_secret = Secret::new(token_secret);
        Ok(Self {
            world,
            source,
            target,
            binaries,
            source_env,
            target_env,
            provider_env,
            token_secret,
            http,
            admin,
            grpc,
            provider,
        })
    }

    /// How the monolith is started with these arguments and all its settings, admin's address included. Its name among
    /// the processes, and its log's, is `name`.
    pub fn monolith_spec(&self, name: &str, args: &[&str]) -> Spec {
        self.spec(name, "monolith", args, self.source_env.clone())
    }

    /// How the payments service is started.
    pub fn service_spec(&self, name: &str, args: &[&str]) -> Spec {
        self.spec(name, "payments-service", args, self.target_env.clone())
    }

    fn spec(&self, name: &str, program: &str, args: &[&str], env: Vec<(String, String)>) -> Spec {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Spec { name: name.to_owned(), program: self.binaries.program(program), args, env }
    }

    /// Applies all migrations of both databases, creates roles and topics, and puts some products on sale.
    ///
    /// # Errors
    /// When a program refuses; the error shows what it said.
    pub async fn migrate(&self, tenants: &[&str]) -> Result<()> {
        let seeds: Vec<&str> = tenants.iter().flat_map(|tenant| ["--seed", tenant]).collect();
        self.migrate_one(Side::Source, &seeds).await?;
        self.migrate_one(Side::Target, &[]).await
    }

    /// Applies the migrations of one database, with more arguments.
    ///
    /// # Errors
    /// When the program refuses; the error shows what it said.
    pub async fn migrate_one(&self, side: Side, more: &[&str]) -> Result<()> {
        let args = [&["migrate"], more].concat();
        let spec = match side {
            Side::Source => self.monolith_spec("migrate", &args),
            Side::Target => self.service_spec("migrate", &args),
        };
        let (status, said) = Process::run(&spec, MIGRATE_TIMEOUT).await?;
        ensure!(status.success(), "{} migrate: {status}\n{said}", spec.program.display());
        Ok(())
    }

    /// Starts the provider.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_provider(&self, more: &[(&str, &str)]) -> Result<Listening> {
        let mut spec = self.spec("provider", "provider", &[], self.provider_env.clone());
        spec.env.push(("PROVIDER_LISTEN".into(), self.provider.hand_over()));
        spec.env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.world.start(spec).await
    }

    /// Starts a monolith with these roles (`all`, or a comma list) and waits until it is ready. The one that serves HTTP
    /// gets the ports chosen for it.
    ///
    /// # Errors
    /// When it does not come up or does not get ready.
    pub async fn start_monolith(&self, name: &str, roles: &str) -> Result<Listening> {
        let mut spec = self.monolith_spec(name, &["--role", roles]);
        spec.env.retain(|(name, _)| name != "MONOLITH_ADMIN_DATABASE_URL");
        if roles == "all" || roles.contains("web") {
            spec.env.push(("MONOLITH_HTTP_LISTEN".into(), self.http.hand_over()));
            spec.env.push(("MONOLITH_ADMIN_LISTEN".into(), self.admin.hand_over()));
        } else {
            spec.env.push(("MONOLITH_ADMIN_LISTEN".into(), "127.0.0.1:0".into()));
        }
        self.start_ready(spec).await
    }

    /// Starts the payments service and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up or does not get ready.
    pub async fn start_service(&self, name: &str, roles: &str) -> Result<Listening> {
        let mut spec = self.service_spec(name, &["--role", roles]);
        spec.env.retain(|(name, _)| name != "PAYMENTS_ADMIN_DATABASE_URL");
        spec.env.push(("PAYMENTS_GRPC_LISTEN".into(), self.grpc.hand_over()));
        spec.env.push(("PAYMENTS_ADMIN_LISTEN".into(), "127.0.0.1:0".into()));
        self.start_ready(spec).await
    }

    /// Starts a process of a spec that ran before, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up or does not get ready.
    pub async fn start_ready(&self, spec: Spec) -> Result<Listening> {
        let name = spec.name.clone();
        let listening = self.world.start(spec).await?;
        let admin = listening.get("admin").with_context(|| format!("{name} names no admin address"))?;
        let http = reqwest::Client::new();
        let what = format!("{name} to be ready");
        let ready = until(&what, READY_TIMEOUT, async || {
            self.world.all_alive().await?;
            let answer = http.get(format!("http://{admin}/readyz")).send().await?;
            let (status, body) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "{status} {body}");
            Ok(Some(()))
        });
        match ready.await {
            Ok(()) => Ok(listening),
            Err(error) => Err(error.context(self.world.tails().await)),
        }
    }

    /// A token for a user of a tenant.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn token(&self, tenant: &str, roles: &[Role]) -> Result<String> {
        Ok(self.issuer().issue("tests", tenant, roles, MONOLITH, TOKEN_LIFETIME)?)
    }

    /// Signs tokens as the house does, for the audiences [`MONOLITH`] and [`SERVICE`].
    pub fn issuer(&self) -> Issuer {
        Issuer::new(ISSUER, &self.token_secret)
    }

    /// A merchant's client of the monolith.
    ///
    /// # Errors
    /// When the token can't be signed.
    pub fn client(&self, tenant: &str) -> Result<Client> {
        let token = self.token(tenant, &[Role::Customer, Role::Merchant])?;
        Client::new(format!("http://127.0.0.1:{}", self.http.number()), tenant, token)
    }

    /// An operator of the migration.
    ///
    /// # Errors
    /// When the token can't be signed.
    pub fn operator(&self) -> Result<Operator> {
        let token = self.token("operations", &[Role::Operator])?;
        let client = Client::new(format!("http://127.0.0.1:{}", self.admin.number()), "operations", token)?;
        Ok(Operator::new(client))
    }

    /// Each module's name and the address with its role, as in the settings; the superuser's is not among them.
    pub fn role_urls(&self, side: Side) -> Vec<(String, String)> {
        let (env, prefix) = match side {
            Side::Source => (&self.source_env, "MONOLITH_"),
            Side::Target => (&self.target_env, "PAYMENTS_"),
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

    /// Migrates, and starts provider, monolith and service, each as one process with all its roles.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start_all(&self, tenants: &[&str], provider: &[(&str, &str)]) -> Result<()> {
        self.migrate(tenants).await?;
        self.start_provider(provider).await?;
        self.start_monolith("monolith", "all").await?;
        self.start_service("payments-service", "all").await?;
        Ok(())
    }

    /// What is still under way.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn unsettled(&self) -> Result<Unsettled> {
        checker::unsettled(&self.source, &self.target).await
    }

    /// Waits until nothing is under way.
    ///
    /// # Errors
    /// When that takes longer than `bound`; the error says what is left.
    pub async fn settle(&self, bound: Duration) -> Result<()> {
        until("the shop to settle", bound, async || {
            self.world.all_alive().await?;
            let left = self.unsettled().await?;
            ensure!(left.is_settled(), "{left:?}");
            Ok(Some(()))
        })
        .await
    }

    /// The checker's findings, given what clients saw accepted.
    ///
    /// # Errors
    /// When a server does not answer or the journal can't be read.
    pub async fn check(&self, accepted: Vec<Accepted>) -> Result<Findings> {
        let journal: PathBuf = self.world.logs().join("journal.jsonl");
        let places = Places {
            source: &self.source,
            target: &self.target,
            kafka: self.world.kafka(),
            journal: &journal,
        };
        Ok(checker::check(&checker::gather(&places, accepted).await?))
    }
}

fn shared_env(
    world: &World,
    token_secret: &str,
    provider: &Port,
    provider_key: &str,
) -> Vec<(String, String)> {
    pairs([
        ("KAFKA_BOOTSTRAP_SERVERS", world.kafka().servers()),
        ("KAFKA_TOPIC_PREFIX", world.kafka().prefix()),
        ("TOKEN_SECRET", token_secret),
        ("PROVIDER_URL", &format!("http://127.0.0.1:{}", provider.number())),
        ("PROVIDER_SECRET_KEY", provider_key),
    ])
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
