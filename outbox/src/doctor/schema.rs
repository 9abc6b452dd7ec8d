//! Whether the schema fits this version, and a role may do its work.

use sqlx::PgPool;

use super::{Bounds, Finding, Severity, ask};
use crate::{Error, MIGRATOR, Topic, store};

/// Whether the schema is there and of this version.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn schema(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    const CHECK: &str = "schema";
    let (tables, noted) = ask(bounds, store::has_schema(pool)).await?;
    if !tables {
        let remedy = "run outbox::migrate, or outbox/migrations/*.sql in order, as the database's owner";
        return Ok(vec![Finding::new(CHECK, Severity::Critical, "the tables are not there", remedy)]);
    }
    if !noted {
        let what = "it was made by plain SQL, so its version is not noted";
        let remedy = "outbox::MIGRATOR.skip(&owner, Some(version)) notes what you applied";
        return Ok(vec![Finding::new(CHECK, Severity::Notice, what, remedy)]);
    }
    let there = ask(bounds, store::schema_version(pool)).await?;
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    Ok(match there {
        there if there < known => vec![Finding::new(
            CHECK,
            Severity::Warning,
            format!("it is at version {there}, this program knows {known}"),
            "run outbox::migrate as the database's owner, then grant_operator again; relays and publishers may go on meanwhile",
        )],
        there if there > known => vec![Finding::new(
            CHECK,
            Severity::Notice,
            format!("it is at version {there}, this program knows only {known}"),
            "finish the roll-out of the newer program",
        )],
        _ => Vec::new(),
    })
}

/// Whether the pool's own role may publish to `topics` and run handlers.
///
/// # Errors
/// [`Error::Database`].
pub async fn module(pool: &PgPool, topics: &[Topic], bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    const REMEDY: &str =
        "outbox::grant_module(owner, role, origin, topics), as the database's owner; again after an upgrade";
    let mut found =
        missing("module", ask(bounds, store::missing_rights(pool, "grant_module")).await?, REMEDY);
    if found.is_empty() {
        for topic in topics {
            match ask(bounds, store::try_topic(pool, topic.name())).await {
                Ok(()) => {}
                Err(Error::Denied(why)) => {
                    found.push(Finding::new("module", Severity::Critical, why, REMEDY));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// Whether the pool's own role may run a relay.
///
/// # Errors
/// [`Error::Database`].
pub async fn relay(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    const REMEDY: &str = "outbox::grant_relay(owner, role), as the database's owner; again after an upgrade";
    Ok(missing("relay", ask(bounds, store::missing_rights(pool, "grant_relay")).await?, REMEDY))
}

fn missing(check: &'static str, rights: Vec<String>, remedy: &'static str) -> Vec<Finding> {
    if rights.is_empty() {
        return Vec::new();
    }
    vec![Finding::new(check, Severity::Critical, format!("the role lacks {}", rights.join(", ")), remedy)]
}
