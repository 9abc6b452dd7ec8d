//! The two schemas, and the rights to them. All of it is run as the database's owner.

use std::borrow::Cow;

use sqlx::{PgPool, migrate::Migrator};

use crate::{Error, store::rights};

/// Schema `strangler` in the source's database, with its bookkeeping table `strangler._migrations`.
pub const SOURCE_MIGRATOR: Migrator = Migrator {
    table_name: Cow::Borrowed("strangler._migrations"),
    create_schemas: Cow::Borrowed(&[Cow::Borrowed("strangler")]),
    ..sqlx::migrate!("./migrations/source")
};

/// Schema `strangler` in the target's database, which must be another one than the source's.
pub const TARGET_MIGRATOR: Migrator = Migrator {
    table_name: Cow::Borrowed("strangler._migrations"),
    create_schemas: Cow::Borrowed(&[Cow::Borrowed("strangler")]),
    ..sqlx::migrate!("./migrations/target")
};

/// Brings the source's schema up to date and [`define`]s a migration. Repeats change nothing.
///
/// # Errors
/// When a step fails, or the database has one that this version does not know.
pub async fn migrate_source(admin: &PgPool, migration: &str) -> Result<(), Error> {
    SOURCE_MIGRATOR.run(admin).await?;
    define(admin, migration).await
}

/// Brings the target's schema up to date. Repeats change nothing.
///
/// # Errors
/// When a step fails, or the database has one that this version does not know.
pub async fn migrate_target(admin: &PgPool) -> Result<(), Error> {
    Ok(TARGET_MIGRATOR.run(admin).await?)
}

/// Defines a migration (1 to 60 of `a-z`, `0-9`, `_`, `-`), in stage `local`, with a salt of its own. Repeats change nothing.
///
/// # Errors
/// [`Error::Database`] for a bad name or a schema that is not migrated.
pub async fn define(admin: &PgPool, migration: &str) -> Result<(), Error> {
    Ok(rights::define(admin, migration).await?)
}

/// At the source: lets a login role call [`crate::Owners::assign`] and `find`. For the module that creates keys.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_assigner(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(rights::grant_assigner(admin, role).await?)
}

/// At the source: lets a login role call [`crate::Owners::lock`] and `find`. For the module that writes keys.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_writer(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(rights::grant_writer(admin, role).await?)
}

/// At the source: lets a login role run a [`crate::Controller`].
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_controller(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(rights::grant_controller(admin, role).await?)
}

/// At the source: lets a login role hand its keys over and take them back: fence them, and call [`crate::Owners::take_back`]. For
/// the module that writes keys, whose [`crate::Movable::begin`] begins as this role.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_mover(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(rights::grant_mover(admin, role).await?)
}

/// At the source: lets a login role see the policy of reads and note what they find, as [`crate::Reads`] does. For the module that
/// answers reads.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_observer(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(rights::grant_observer(admin, role).await?)
}

/// At the source: says that a login role writes the domain's tables in a schema, so that stage `sealed` ends its rights there. Run it
/// after the rights were granted: in a migration that is sealed already it takes them back at once.
///
/// # Errors
/// [`Error::Database`] for a migration that is not defined, and, once it is sealed, for a role that may write by other means.
pub async fn sealable(admin: &PgPool, migration: &str, role: &str, schema: &str) -> Result<(), Error> {
    Ok(rights::register_sealable(admin, migration, role, schema).await?)
}

/// At the target: lets a login role use [`crate::Authority`] and [`crate::Target`].
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_home(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(rights::grant_home(admin, role).await?)
}
