//! The database server under it all.

use std::time::Duration;

use sqlx::PgPool;
use time::OffsetDateTime;

use super::{Bounds, Finding, Severity, ask, seconds};
use crate::{Error, store};

/// Settings that take promises away: a commit must be on disk when it returns.
///
/// # Errors
/// [`Error::Database`].
pub async fn settings(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    const CHECK: &str = "settings";
    let at = ask(bounds, store::server_settings(pool)).await?;
    let mut found = Vec::new();
    if at.fsync == "off" || at.full_page_writes == "off" {
        let what =
            "fsync or full_page_writes is off: a crash may lose committed events, or send some that are lost";
        found.push(Finding::new(CHECK, Severity::Critical, what, "switch both on"));
    }
    if at.synchronous_commit == "off" {
        let what = "synchronous_commit is off: a crash may lose committed events that a relay has sent";
        found.push(Finding::new(CHECK, Severity::Critical, what, "switch it on for roles that publish"));
    }
    if at.idle_in_transaction == "0" {
        let what = "idle_in_transaction_session_timeout is 0: one idle transaction holds its keys and vacuum for ever";
        found.push(Finding::new(CHECK, Severity::Notice, what, "set it, such as to 60s"));
    }
    Ok(found)
}

/// What keeps vacuum from removing dead rows of the queue: long transactions, prepared ones, replication slots.
///
/// # Errors
/// [`Error::Database`].
pub async fn horizon(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    const CHECK: &str = "horizon";
    let at = ask(bounds, store::horizon(pool, bounds.transaction_age)).await?;
    let mut found = Vec::new();
    if !at.sees_all {
        let what = "the role can't see other roles' transactions";
        found.push(Finding::new(CHECK, Severity::Notice, what, "grant pg_read_all_stats to role"));
    }
    if let Some((pid, age_s)) = at.transaction {
        let what = format!("backend {pid} has had a transaction open for {}", seconds(age_s));
        let remedy = "the queue's dead rows stay while it lasts; end it: select pg_terminate_backend(pid)";
        found.push(Finding::new(CHECK, Severity::Warning, what, remedy));
    }
    if let Some((gid, age_s)) = at.prepared {
        let what = format!("prepared transaction {gid:?} is {} old", seconds(age_s));
        found.push(Finding::new(CHECK, Severity::Warning, what, "commit prepared or rollback prepared"));
    }
    for slot in at.idle_slots {
        let what =
            format!("replication slot {slot:?} is not in use and holds back vacuum or the write-ahead log");
        found.push(Finding::new(CHECK, Severity::Warning, what, "start its reader or drop the slot"));
    }
    Ok(found)
}

/// Whether the queue is vacuumed: rows come and go there all the time.
///
/// # Errors
/// [`Error::Database`].
pub async fn vacuum(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    const CHECK: &str = "vacuum";
    let at = ask(bounds, store::queue_vacuum(pool)).await?;
    let mut found = Vec::new();
    if !at.enabled {
        let what = "autovacuum is off for outbox.pending or the whole server";
        found.push(Finding::new(CHECK, Severity::Critical, what, "switch it on"));
    } else if !at.eager {
        let what = "outbox.pending has lost its settings: it is vacuumed as rarely as any table";
        let remedy = "alter table outbox.pending set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)";
        found.push(Finding::new(CHECK, Severity::Warning, what, remedy));
    }
    if at.dead_rows > bounds.dead_rows {
        let what = format!("outbox.pending has {} dead rows", at.dead_rows);
        let remedy = "see the check horizon; otherwise vacuum outbox.pending";
        found.push(Finding::new(CHECK, Severity::Warning, what, remedy));
    }
    Ok(found)
}

/// Whether this machine's clock agrees with the database's. Leases and partitions go by the database's alone, so a skew
/// makes only ages and traces wrong.
///
/// # Errors
/// [`Error::Database`].
pub async fn clock(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    let before = OffsetDateTime::now_utc();
    let theirs = ask(bounds, store::now(pool)).await?;
    let after = OffsetDateTime::now_utc();
    Ok(skewed((before, theirs, after), bounds.clock_skew))
}

/// The database looked at its clock somewhere between our two looks.
fn skewed(
    (before, theirs, after): (OffsetDateTime, OffsetDateTime, OffsetDateTime),
    bound: Duration,
) -> Vec<Finding> {
    let off = if theirs < before {
        before - theirs
    } else if theirs > after {
        theirs - after
    } else {
        return Vec::new();
    };
    if off <= bound {
        return Vec::new();
    }
    let what = format!("this machine's clock and the database's differ by {}", seconds(off.as_seconds_f64()));
    vec![Finding::new("clock", Severity::Warning, what, "run a time daemon on both")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_off_by_more_than_the_bound_is_told() {
        let at = |second| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(second);
        let bound = Duration::from_secs(2);
        for (theirs, told) in [(10, true), (18, false), (25, false), (32, false), (33, true)] {
            let found = skewed((at(20), at(theirs), at(30)), bound);
            assert_eq!(!found.is_empty(), told, "{theirs}: {found:?}");
        }
    }
}
