//! Money of the books whose line was not seen: pure.

use proto::{Currency, PaymentId};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::found::{DifferenceKind, Found, entry_subject};
use crate::Tenant;

/// A booking this long after its command was replayed from the other home; the money moved when the command was new.
const BOOKED_WITHIN: Duration = Duration::days(1);

/// A transaction whose line was not seen.
#[derive(Debug, Clone)]
pub(crate) struct Unseen {
    pub(crate) transaction: Uuid,
    pub(crate) payment: PaymentId,
    pub(crate) tenant: Tenant,
    pub(crate) minor: i64,
    pub(crate) currency: Currency,
    /// The payment intent.
    pub(crate) object: Option<String>,
    /// When it was booked in this home.
    pub(crate) booked_at: OffsetDateTime,
}

/// When an absent line counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From this age on it is late.
    pub(crate) late_after: Duration,
    /// From this age on it is missing.
    pub(crate) missing_after: Duration,
}

/// What it means that a transaction's line was not seen until now.
pub(crate) fn absent(entry: &Unseen, now: OffsetDateTime, patience: Patience) -> Option<Found> {
    let at = entry.moved_at();
    let age = now - at;
    let kind = if age >= patience.missing_after {
        DifferenceKind::MissingThere
    } else if age >= patience.late_after {
        DifferenceKind::Late
    } else {
        return None;
    };
    Some(Found {
        subject: entry_subject(entry.transaction),
        kind,
        payment: Some((entry.payment, entry.tenant.clone())),
        object: entry.object.clone().unwrap_or_default(),
        here_minor: Some(entry.minor),
        there_minor: None,
        currency: Some(entry.currency),
        detail: String::new(),
        at,
    })
}

impl Unseen {
    /// When its money moved: just before it was booked, unless this home booked it long after another did.
    fn moved_at(&self) -> OffsetDateTime {
        match time_of(self.transaction) {
            Some(asked) if self.booked_at - asked > BOOKED_WITHIN => asked,
            _ => self.booked_at,
        }
    }
}

/// The first id that a command of this time can have: their ids are UUIDs of version 7, which begin with milliseconds.
pub(crate) fn first_id(at: OffsetDateTime) -> Uuid {
    let ms = u128::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    Uuid::from_u128(ms << 80)
}

/// When a command's id was made.
fn time_of(command: Uuid) -> Option<OffsetDateTime> {
    let (seconds, nanos) = command.get_timestamp()?.to_unix();
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    Some(at + Duration::nanoseconds(i64::from(nanos)))
}

#[cfg(test)]
mod tests;
