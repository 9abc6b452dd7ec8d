//! From the broker to the effect.

use sqlx::PgPool;

use super::{Bounds, Finding, Severity, ask};
use crate::{Error, store};

/// What waits for a human or an earlier event: dead letters, parked events, conflicts and the like.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn held_back(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    let at = ask(bounds, store::held_back_counts(pool, bounds.gap_age)).await?;
    let finding = |count: i64, severity, what: &str, remedy| {
        (count > 0).then(|| Finding::new("held_back", severity, format!("{count} {what}"), remedy))
    };
    let found = [
        finding(
            at.conflicts,
            Severity::Critical,
            "conflicts: two events with one version, so two owners wrote",
            "find both ids with outbox::conflict::list, stop one of the writers, repair the key, then outbox::conflict::settle",
        ),
        finding(
            at.dead,
            Severity::Critical,
            "dead letters; their keys wait",
            "list them with outbox::dead_letter, then replay, edit or discard",
        ),
        finding(
            at.unreadable,
            Severity::Warning,
            "records without a usable key, version or id",
            "look at outbox.unreadable: someone else writes to the topic",
        ),
        finding(
            at.refused,
            Severity::Warning,
            "parked events that a handler refuses",
            "outbox.parked.error says why; they are tried again, then become dead letters",
        ),
        finding(
            at.gaps,
            Severity::Warning,
            "keys with missing events",
            "give the inbox a Refill, or see whether the producing home still has them",
        ),
        finding(
            at.awaiting,
            Severity::Warning,
            "keys of a replica that wait for a snapshot",
            "have their owner publish snapshots",
        ),
    ];
    Ok(found.into_iter().flatten().collect())
}

/// Whether handlers keep up with what this database published: of the last 1,000 events that were delivered at least
/// [`Bounds::progress_age`] ago, how many each handler of their topic has not passed. A handler in another database is not
/// seen here, nor one that never started, nor one that its group reads without.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn handlers(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    let behind = ask(bounds, store::handlers_behind(pool, bounds.progress_age)).await?;
    Ok(behind
        .into_iter()
        .map(|(handler, topic, events)| {
            Finding::new(
                "handlers",
                Severity::Warning,
                format!("{handler} has not passed {events} of the last 1000 events of {topic}"),
                "see whether its inbox runs, and what is parked or dead in front of it",
            )
        })
        .collect())
}
