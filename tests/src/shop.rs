//! The whole shop in a world: monolith, payments service and provider.

mod settings;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::Secret;
use chassis::listening::Listening;
use chassis::token::{Issuer, Role};
use sqlx::PgPool;
use stack::Stack;

use self::settings::Settings;
use crate::checker::{self, Accepted, Evidence, Findings, Places, Unsettled};
use crate::load::Client;
use crate::operator::Readers;
use crate::{Binaries, Operator, Port, Process, Spec, World, store, until};

/// A comparison of all copies may take a minute.
const OPERATOR_TIMEOUT: Duration = Duration::from_secs(90);
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
/// One of the two programs that own payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The monolith.
    Source,
    /// The payments service.
    Target,
}

/// Where the processes of a shop listen.
pub struct Ports {
    /// The monolith's HTTP API.
    pub http: Port,
    /// The monolith's admin API.
    pub admin: Port,
    /// The service's gRPC.
    pub grpc: Port,
    /// The provider's HTTP API.
    pub provider: Port,
}

impl Ports {
    /// Free ones.
    ///
    /// # Errors
    /// When none is free.
    pub fn free() -> Result<Self> {
        Ok(Self { http: Port::free()?, admin: Port::free()?, grpc: Port::free()?, provider: Port::free()? })
    }
}

/// Databases, settings and the ways to start each process. The processes themselves belong to the [`World`].
pub struct Shop<'w> {
    /// The world it is in.
    pub world: &'w World,
    /// The monolith's database, as superuser.
    pub source: PgPool,
    /// The service's database, as superuser.
    pub target: PgPool,
    /// Where its processes listen.
    pub ports: Ports,
    binaries: Binaries,
    settings: Settings,
}

impl<'w> Shop<'w> {
    /// Makes both databases, empty, and every setting, on free ports. Nothing runs yet.
    ///
    /// # Errors
    /// When a server refuses, or no port is free.
    pub async fn open(world: &'w World, stack: &Stack, binaries: Binaries) -> Result<Self> {
        Self::open_at(world, stack, binaries, Ports::free()?).await
    }

    /// The same on chosen ports.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn open_at(world: &'w World, stack: &Stack, binaries: Binaries, ports: Ports) -> Result<Self> {
        let (source_url, source) = world.database(stack, "monolith").await?;
        let (target_url, target) = world.database(stack, "service").await?;
        let settings = Settings::new(world, &ports, &source_url, &target_url)?;
        Ok(Self { world, source, target, ports, binaries, settings })
    }

    /// How the monolith is started with these arguments and all its settings, admin's address included. Its name among
    /// the processes, and its log's, is `name`.
    pub fn monolith_spec(&self, name: &str, args: &[&str]) -> Spec {
        self.spec(name, "monolith", args, self.settings.monolith.clone())
    }

    /// How the payments service is started.
    pub fn service_spec(&self, name: &str, args: &[&str]) -> Spec {
        self.spec(name, "payments-service", args, self.settings.service.clone())
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
        let mut spec = self.spec("provider", "provider", &[], self.settings.provider.clone());
        spec.env.push(("PROVIDER_LISTEN".into(), self.ports.provider.hand_over()));
        spec.env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.world.start(spec).await
    }

    /// Starts a monolith with these roles (`all`, or a comma list) and waits until it is ready. The one that serves HTTP
    /// gets the ports chosen for it.
    ///
    /// # Errors
    /// When it does not come up or does not get ready.
    pub async fn start_monolith(&self, name: &str, roles: &str) -> Result<Listening> {
        self.start_ready(self.running_monolith(name, roles)).await
    }

    /// How [`Shop::start_monolith`] starts it, for a story that changes a setting.
    pub fn running_monolith(&self, name: &str, roles: &str) -> Spec {
        let mut spec = self.monolith_spec(name, &["--role", roles]);
        spec.env.retain(|(name, _)| name != "MONOLITH_ADMIN_DATABASE_URL");
        if roles == "all" || roles.contains("web") {
            spec.env.push(("MONOLITH_HTTP_LISTEN".into(), self.ports.http.hand_over()));
            spec.env.push(("MONOLITH_ADMIN_LISTEN".into(), self.ports.admin.hand_over()));
        } else {
            spec.env.push(("MONOLITH_ADMIN_LISTEN".into(), "127.0.0.1:0".into()));
        }
        spec
    }

    /// Starts the payments service and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up or does not get ready.
    pub async fn start_service(&self, name: &str, roles: &str) -> Result<Listening> {
        self.start_ready(self.running_service(name, roles)).await
    }

    /// How [`Shop::start_service`] starts it, for a story that changes a setting.
    pub fn running_service(&self, name: &str, roles: &str) -> Spec {
        let mut spec = self.service_spec(name, &["--role", roles]);
        spec.env.retain(|(name, _)| name != "PAYMENTS_ADMIN_DATABASE_URL");
        spec.env.push(("PAYMENTS_GRPC_LISTEN".into(), self.ports.grpc.hand_over()));
        spec.env.push(("PAYMENTS_ADMIN_LISTEN".into(), "127.0.0.1:0".into()));
        spec
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
        Issuer::new(ISSUER, &self.settings.token_secret)
    }

    /// Where the monolith takes the provider's webhooks: `PROVIDER_WEBHOOK_URL`, for a story in which the provider sends them.
    pub fn webhook_url(&self) -> String {
        format!("http://127.0.0.1:{}/webhooks/provider", self.ports.http.number())
    }

    /// Signs the provider's webhooks for the monolith.
    pub fn webhook_secret(&self) -> &Secret {
        &self.settings.webhook_secret
    }

    /// A merchant's client of the monolith.
    ///
    /// # Errors
    /// When the token can't be signed.
    pub fn client(&self, tenant: &str) -> Result<Client> {
        let token = self.token(tenant, &[Role::Customer, Role::Merchant])?;
        Client::new(format!("http://127.0.0.1:{}", self.ports.http.number()), tenant, token)
    }

    /// An operator of the migration.
    ///
    /// # Errors
    /// When the token can't be signed.
    pub fn operator(&self) -> Result<Operator> {
        let readers = Readers {
            source: self.source.clone(),
            base: format!("http://127.0.0.1:{}", self.ports.http.number()),
            issuer: self.issuer(),
            audience: MONOLITH,
        };
        Ok(Operator::new(self.operator_client()?, readers))
    }

    /// An operator's client of the monolith's admin API.
    ///
    /// # Errors
    /// When the token can't be signed.
    pub fn operator_client(&self) -> Result<Client> {
        let token = self.token("operations", &[Role::Operator])?;
        let client =
            Client::new(format!("http://127.0.0.1:{}", self.ports.admin.number()), "operations", token)?;
        client.answer_within(OPERATOR_TIMEOUT)
    }

    /// Each module's name and the address with its role, as in the settings; the superuser's is not among them.
    pub fn role_urls(&self, side: Side) -> Vec<(String, String)> {
        self.settings.role_urls(side)
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

    /// What a killed process of the side held ends at once. By themselves its claims and leases last 10 to 15 s.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn free(&self, side: Side) -> Result<()> {
        match side {
            Side::Source => store::free(&self.source).await,
            Side::Target => store::free(&self.target).await,
        }
    }

    /// Empties the replica of a service that does not run and has never owned a payment. Its place in the topic stays, at the end.
    ///
    /// # Errors
    /// When a payment was offered to it, or the database does not answer.
    pub async fn empty_replica(&self) -> Result<()> {
        store::empty_replica(&self.target).await
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
        Ok(checker::check(&self.evidence(accepted).await?))
    }

    /// What the checker looks at.
    ///
    /// # Errors
    /// As [`Shop::check`].
    pub async fn evidence(&self, accepted: Vec<Accepted>) -> Result<Evidence> {
        let journal: PathBuf = self.world.logs().join("journal.jsonl");
        let places = Places {
            source: &self.source,
            target: &self.target,
            kafka: self.world.kafka(),
            journal: &journal,
        };
        checker::gather(&places, accepted).await
    }
}
