//! A home of prices: what callers ask of it.

use sqlx::{PgPool, postgres::PgTransaction};
use strangler::{Authority, BoxError, Fallback, Home, Owners, Reading};

use crate::{PRICES, Price, Why};

/// Errors are told apart where it matters, in the seam.
pub(crate) type Result<T> = std::result::Result<T, BoxError>;

/// Which home it is, and by what it proves that a price is its own.
#[derive(Debug, Clone)]
pub enum At {
    /// In the shop.
    Source(Owners),
    /// In the service.
    Target(Authority),
}

/// The prices of one home.
#[derive(Debug, Clone)]
pub struct Prices {
    /// As the role that owns the prices here.
    pub pool: PgPool,
    /// As a role that may read how far the replica is and what was published: the relay's.
    pub relay: PgPool,
    /// Which home.
    pub at: At,
    /// The name under which it publishes.
    pub origin: &'static str,
}

/// What callers are shown of a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// In minor units of the tenant's currency.
    pub minor: i64,
    /// Of the price's stream; 0 when that has not begun.
    pub version: i64,
}

/// Why a home shows no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unshown(pub Fallback);

impl std::fmt::Display for Unshown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this home does not show the price: {}", self.0.name())
    }
}

impl std::error::Error for Unshown {}

impl Prices {
    /// Begins a price, at the home that the policy says. Only the source has owners to assign.
    ///
    /// # Errors
    /// When there is such a price, or the database fails.
    pub async fn create(&self, owners: &Owners, tenant: &str, sku: &str, minor: i64) -> Result<Home> {
        let mut tx = self.pool.begin().await?;
        let owner = owners.assign(&mut tx, tenant, sku).await?;
        let insert = sqlx::query("insert into shop.price (sku, tenant, minor) values ($1, $2, $3)");
        insert.bind(sku).bind(tenant).bind(minor).execute(&mut *tx).await?;
        state(&mut tx, sku, Why::Born(owner.home, owner.epoch)).await?;
        tx.commit().await?;
        Ok(owner.home)
    }

    /// Changes a price that is this home's, and returns its version.
    ///
    /// # Errors
    /// [`strangler::Error::NotOwner`] and [`strangler::Error::Moving`]: nothing was changed, and a seam asks elsewhere or again.
    pub async fn set(&self, sku: &str, minor: i64) -> Result<i64> {
        let mut tx = self.pool.begin().await?;
        match &self.at {
            At::Source(owners) => owners.lock(&mut tx, sku).await?,
            At::Target(authority) => authority.lock(&mut tx, sku).await?,
        };
        let update = sqlx::query("update shop.price set minor = $2 where sku = $1");
        update.bind(sku).bind(minor).execute(&mut *tx).await?;
        let version = state(&mut tx, sku, Why::Stated).await?;
        tx.commit().await?;
        Ok(version)
    }

    /// A price as this home has it. A copy is shown only when nothing of it waits here; the seam looks at its version.
    ///
    /// # Errors
    /// [`Unshown`] when there is none, or something waits; when the database fails.
    pub async fn find(&self, sku: &str, reading: Reading) -> Result<Shown> {
        if let Reading::Copy { .. } = reading {
            let mut tx = self.pool.begin().await?;
            let held = outbox::held(&mut tx, PRICES, &[sku.to_owned()]).await?;
            tx.commit().await?;
            if !held.is_empty() {
                return Err(Unshown(Fallback::Parked).into());
            }
        }
        let find = sqlx::query_as("select minor, version from shop.price where sku = $1").bind(sku);
        let found: Option<(i64, i64)> = find.fetch_optional(&self.pool).await?;
        let (minor, version) = found.ok_or(Unshown(Fallback::NotFound))?;
        Ok(Shown { minor, version })
    }
}

/// Publishes the whole of a price as its next version, which it returns. The update locks the row, so what it returns is what was committed before.
pub(crate) async fn state(tx: &mut PgTransaction<'_>, sku: &str, why: Why) -> Result<i64> {
    let next = "update shop.price set version = version + 1, changed_at = clock_timestamp() where sku = $1
                returning tenant, minor, version";
    let next = sqlx::query_as::<_, (String, i64, i64)>(next).bind(sku);
    let (tenant, minor, version) = next.fetch_one(&mut **tx).await?;
    let head = outbox::publish(tx, &Price { sku: sku.to_owned(), tenant, minor, why }).await?;
    if head != version {
        return Err(format!("{sku} would be at version {version}, and its stream is at {head}").into());
    }
    Ok(version)
}
