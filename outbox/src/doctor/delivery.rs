//! From the log to the broker.

use sqlx::PgPool;

use super::{Bounds, Finding, Severity, ask, seconds};
use crate::{Error, store};

/// Whether the log has room for the days to come, and old days are dropped.
///
/// # Errors
/// [`Error::Database`].
pub async fn partitions(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    const CHECK: &str = "partitions";
    const RELAY: &str = "relays make them, up to 14 days ahead: run one and look at its log; select outbox.make_partitions(14) as the owner helps at once";
    let at = ask(bounds, store::partitions(pool)).await?;
    let mut found = Vec::new();
    if at.today_missing {
        let what = "there is none for today: every publish fails";
        found.push(Finding::new(CHECK, Severity::Critical, what, RELAY));
    } else if at.days_ahead < bounds.partitions_ahead {
        let what = format!("only {} days are ahead", at.days_ahead);
        found.push(Finding::new(CHECK, Severity::Warning, what, RELAY));
    }
    if at.oldest_days > bounds.partitions_kept {
        let what = format!("the oldest is {} days old", at.oldest_days);
        let remedy = "see why retention does not drop it: a pending, quarantined, parked or dead event of that day keeps it";
        found.push(Finding::new(CHECK, Severity::Warning, what, remedy));
    }
    if at.detaching > 0 {
        let what = format!("{} were left half detached", at.detaching);
        let remedy = "the next run of retention finalizes them; by hand: alter table outbox.event detach partition .. finalize";
        found.push(Finding::new(CHECK, Severity::Warning, what, remedy));
    }
    Ok(found)
}

/// Whether events reach the broker: age of the oldest, refused and quarantined ones.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn delivery(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    const CHECK: &str = "delivery";
    let at = ask(bounds, store::delivery(pool)).await?;
    let mut found = Vec::new();
    if at.oldest_s > bounds.undelivered_age.as_secs_f64() {
        found.push(Finding::new(
            CHECK,
            Severity::Critical,
            format!("the oldest undelivered event is {} old", seconds(at.oldest_s)),
            "see whether a relay runs and reaches the broker; a refused event holds back its key only",
        ));
    }
    if at.refused > 0 {
        found.push(Finding::new(
            CHECK,
            Severity::Warning,
            format!("the broker refuses {} events; the last said: {}", at.refused, at.error),
            "mend the topic or its rights; the relay tries again by itself",
        ));
    }
    if at.quarantined > 0 {
        found.push(Finding::new(
            CHECK,
            Severity::Critical,
            format!("{} events are quarantined; their keys wait", at.quarantined),
            "mend the cause, then outbox.resend, or outbox.skip to leave one out",
        ));
    }
    Ok(found)
}

/// Whether a relay is alive while something is to be sent.
///
/// # Errors
/// [`Error::Database`], [`Error::Denied`].
pub async fn relays(pool: &PgPool, bounds: &Bounds) -> Result<Vec<Finding>, Error> {
    let (alive, pending, unheld) = ask(bounds, store::relays(pool)).await?;
    if alive == 0 && pending {
        let what = "events wait and no relay was seen in the last minute";
        return Ok(vec![Finding::new("relays", Severity::Critical, what, "start one")]);
    }
    if alive > 0 && unheld > 0 {
        let what = format!("{alive} relays are alive, and {unheld} of 64 buckets belong to none");
        let remedy = "normal for seconds after one was killed; if it stays, relays can't reach the broker";
        return Ok(vec![Finding::new("relays", Severity::Notice, what, remedy)]);
    }
    Ok(Vec::new())
}
