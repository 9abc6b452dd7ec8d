//! A home's database with its roles: what a program's `migrate` does.

use std::sync::Arc;

use outbox::Event as _;
use prices::{At, PRICES, Price, Prices};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use stack::{Database, Stack};
use strangler::{Authority, BoxError, Owners};

pub(crate) const MIGRATION: &str = "prices";
const PASSWORD: &str = "a-password-of-tests";

pub(crate) struct Place {
    database: Database,
    /// The database's owner: migrates and grants.
    pub(crate) admin: PgPool,
    pub(crate) prices: Arc<Prices>,
}

/// The shop's.
pub(crate) async fn source(stack: &Stack) -> Result<Place, BoxError> {
    let at = |pool| At::Source(Owners::new(MIGRATION, pool));
    let place = Place::new(stack, "shop.prices", at).await?;
    let (admin, module) = (&place.admin, place.role("module"));
    strangler::migrate_source(admin, MIGRATION).await?;
    strangler::grant_assigner(admin, &module).await?;
    strangler::grant_writer(admin, &module).await?;
    strangler::grant_mover(admin, &module).await?;
    strangler::grant_observer(admin, &module).await?;
    place.create_role("controller").await?;
    strangler::grant_controller(admin, &place.role("controller")).await?;
    Ok(place)
}

/// The service's.
pub(crate) async fn target(stack: &Stack) -> Result<Place, BoxError> {
    let place = Place::new(stack, "prices-service", |_| At::Target(Authority::new(MIGRATION))).await?;
    strangler::migrate_target(&place.admin).await?;
    strangler::grant_home(&place.admin, &place.role("module")).await?;
    Ok(place)
}

impl Place {
    /// A database with an outbox and prices, whose module publishes as `origin`.
    async fn new(
        stack: &Stack,
        origin: &'static str,
        at: impl FnOnce(PgPool) -> At,
    ) -> Result<Self, BoxError> {
        let database = stack.database(origin).await?;
        let admin = PgPool::connect(database.url()).await?;
        outbox::migrate(&admin).await?;
        sqlx::raw_sql(include_str!("../../src/schema.sql")).execute(&admin).await?;
        let name = database.name();
        let (module, relay) = (format!("{name}_module"), format!("{name}_relay"));
        create_role(&admin, &module).await?;
        create_role(&admin, &relay).await?;
        let grant = format!(
            "grant usage on schema shop to {module}; grant select, insert, update on shop.price to {module}"
        );
        sqlx::raw_sql(AssertSqlSafe(grant)).execute(&admin).await?;
        outbox::grant_module(&admin, &module, origin, &[PRICES]).await?;
        outbox::grant_replica(&admin, &module).await?;
        outbox::grant_relay(&admin, &relay).await?;
        outbox::never_skip(&admin, &[Price::KIND]).await?;
        let pool = login(&database, &module)?;
        let relay = login(&database, &relay)?;
        let prices = Arc::new(Prices { at: at(pool.clone()), pool, relay, origin });
        Ok(Self { database, admin, prices })
    }

    /// The name of a role of this database.
    fn role(&self, name: &str) -> String {
        format!("{}_{name}", self.database.name())
    }

    async fn create_role(&self, name: &str) -> Result<(), BoxError> {
        create_role(&self.admin, &self.role(name)).await
    }

    /// A pool of the controller's role.
    pub(crate) fn controller(&self) -> Result<PgPool, BoxError> {
        login(&self.database, &self.role("controller"))
    }

    /// A number, as the database's owner.
    pub(crate) async fn number(&self, sql: &'static str) -> Result<i64, BoxError> {
        Ok(sqlx::query_scalar(sql).fetch_one(&self.admin).await?)
    }

    pub(crate) async fn end(self) -> Result<(), BoxError> {
        for pool in [&self.admin, &self.prices.pool, &self.prices.relay] {
            pool.close().await;
        }
        Ok(self.database.drop_now().await?)
    }
}

async fn create_role(admin: &PgPool, role: &str) -> Result<(), BoxError> {
    let create = format!("create role {role} login password '{PASSWORD}'");
    sqlx::query(AssertSqlSafe(create)).execute(admin).await?;
    Ok(())
}

fn login(database: &Database, role: &str) -> Result<PgPool, BoxError> {
    let options = database.url().parse::<PgConnectOptions>()?.username(role).password(PASSWORD);
    Ok(PgPoolOptions::new().max_connections(20).connect_lazy_with(options))
}
