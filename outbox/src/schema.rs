//! The schema `outbox` and its rights.

use std::borrow::Cow;

use sqlx::{PgPool, migrate::Migrator};

use crate::{Error, Topic, store};

/// The migrations of schema `outbox`, with their own bookkeeping table `outbox._migrations`.
pub static MIGRATOR: Migrator = Migrator {
    table_name: Cow::Borrowed("outbox._migrations"),
    create_schemas: Cow::Borrowed(&[Cow::Borrowed("outbox")]),
    ..sqlx::migrate!("./migrations")
};

/// Days of the logs made ahead when migrating.
const AHEAD_DAYS: i32 = 14;

/// Brings schema `outbox` up to date, and its logs up to the day. Run it as the database's owner; repeats change nothing.
///
/// # Errors
/// [`Error::Migrate`] when a migration fails or the database has one that this version does not know.
pub async fn migrate(admin: &PgPool) -> Result<(), Error> {
    let mut connection = admin.acquire().await?;
    let done = MIGRATOR.run_direct(None, &mut *connection, false).await;
    if done.is_err() {
        // A failed run leaves its advisory lock with the session; back in the pool, it would block the next run for ever.
        connection.close().await?;
    }
    done?;
    // Nobody may have kept house for longer than the days made ahead: then today's is missing.
    store::make_partitions(admin, AHEAD_DAYS).await?;
    Ok(())
}

/// Lets a login role publish as `origin` (such as `monolith.orders`) to `topics`, and run handlers. Run it as the database's
/// owner; a repeat replaces origin and topics.
///
/// # Errors
/// [`Error::Database`] for an unknown role or a malformed origin.
pub async fn grant_module(admin: &PgPool, role: &str, origin: &str, topics: &[Topic]) -> Result<(), Error> {
    let topics: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
    Ok(store::grant_module(admin, role, origin, &topics).await?)
}

/// Lets a module's role run a [`crate::Replica`] too. Run it as the database's owner.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_replica(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(store::grant_replica(admin, role).await?)
}

/// Declares kinds of events that an operator can't skip or discard, only send or replay again, such as those that hand a key on. Run
/// it as the database's owner; repeats change nothing.
///
/// # Errors
/// [`Error::Database`].
pub async fn never_skip(admin: &PgPool, kinds: &[&str]) -> Result<(), Error> {
    Ok(store::never_skip(admin, kinds).await?)
}

/// Lets a login role run a [`crate::Relay`]. Run it as the database's owner.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_relay(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(store::grant_relay(admin, role).await?)
}

/// Lets a login role see the outbox and inbox and repair them: quarantine, dead letters, replay. Run it as the database's
/// owner, again after an upgrade.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_operator(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(store::grant_operator(admin, role).await?)
}

/// Lets a login role ask the log for events, as [`crate::DatabaseRefill`] does. Run it as the database's owner.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant_refill(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(store::grant_refill(admin, role).await?)
}

/// Makes a login role the owner of the logs, so that [`crate::retention::Housekeeping`] over its pool drops old days. Trust that
/// role like the one that migrates: a table's owner can put a trigger on it, which runs with the rights of `outbox.publish`. Run
/// it as a superuser, or as a member of `role` that stays one.
///
/// # Errors
/// [`Error::Database`] for an unknown role; [`Error::Denied`].
pub async fn grant_housekeeper(admin: &PgPool, role: &str) -> Result<(), Error> {
    Ok(store::grant_housekeeper(admin, role).await?)
}
