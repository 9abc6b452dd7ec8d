//! Whether anything still touches the source's copy.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use super::Controller;
use crate::policy::Policy;
use crate::store::sealed::{self as store, Granted, Touched};
use crate::{Error, Gate, Stage, Verdict};

/// Between two looks of its own; a gate looks at once.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The most rights and touches that are looked at.
const FOUND_MAX: i64 = 100;
/// How many of them a gate names.
const NAMED_MAX: usize = 5;
/// The seconds of a day.
const DAY: u64 = 24 * 3_600;

/// What a look came to.
struct Found {
    /// What could not be looked at.
    blind: Option<String>,
    grants: Vec<Granted>,
    touched: Vec<Touched>,
    /// For how long tables and statements have been watched, in seconds.
    watched: f64,
    /// How many of them.
    of: i64,
}

impl Controller {
    /// The gate `verify` of stage `removed`: no right is left, and nothing has touched the tables for the plan's days.
    pub(super) async fn verified(&self) -> Gate {
        let days = self.thresholds().verify_days;
        match self.look_for_touches(days).await {
            Ok(found) => found.gate(days),
            Err(error) => {
                tracing::warn!(%error, "touches of the source's tables could not be looked for");
                let found = "it could not be asked; see the controller's log";
                Gate::new("verify", Verdict::Inconclusive, found)
            }
        }
    }

    /// Notes, now and then while the source is sealed, what was touched: so the gate knows since when nothing was.
    pub(super) async fn watch_touches(
        &self,
        policy: &Policy,
        looked: &mut Option<Instant>,
    ) -> Result<(), Error> {
        let due = looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        if policy.stage != Stage::Sealed || !due {
            return Ok(());
        }
        *looked = Some(Instant::now());
        self.note_touches().await.map(drop)
    }

    async fn note_touches(&self) -> Result<Option<String>, Error> {
        let bound = self.0.settings.ask_timeout;
        match timeout(bound, store::note_touches(&self.0.pool, &self.0.migration)).await {
            Ok(blind) => Ok(blind?),
            Err(_) => {
                let late = format!("touches were not looked for within {} ms", bound.as_millis());
                Err(Error::Domain(late))
            }
        }
    }

    async fn look_for_touches(&self, days: u32) -> Result<Found, Error> {
        let (pool, migration) = (&self.0.pool, &self.0.migration);
        let blind = self.note_touches().await?;
        let within = Duration::from_secs(u64::from(days) * DAY);
        let (watched, of) = store::watched(pool, migration).await?;
        Ok(Found {
            blind,
            grants: store::grants_left(pool, migration, FOUND_MAX).await?,
            touched: store::touched(pool, migration, within, FOUND_MAX).await?,
            watched,
            of,
        })
    }
}

impl Found {
    fn gate(self, days: u32) -> Gate {
        let inputs = json!({
            "grants": self.grants.iter().map(Granted::says).collect::<Vec<_>>(),
            "touched": self.touched.iter().map(Touched::says).collect::<Vec<_>>(),
            "watched_seconds": self.watched,
            "watched": self.of,
            "days": days,
        });
        let (verdict, found) = self.weigh(days);
        Gate::new("verify", verdict, found).with(inputs)
    }

    fn weigh(self, days: u32) -> (Verdict, String) {
        let touches: Vec<String> =
            self.grants.iter().map(Granted::says).chain(self.touched.iter().map(Touched::says)).collect();
        if !touches.is_empty() {
            let more = touches.len().saturating_sub(NAMED_MAX);
            let named = touches.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
            let rest = if more == 0 { String::new() } else { format!("; and {more} more") };
            return (Verdict::Fail, format!("{named}{rest}"));
        }
        if let Some(blind) = self.blind {
            return (Verdict::Inconclusive, blind);
        }
        let wanted = f64::from(days);
        let watched = self.watched / 86_400.0;
        if watched < wanted {
            return (Verdict::Inconclusive, format!("watched for {watched:.1} of {days} days"));
        }
        let found = format!(
            "no right is left, and nothing touched {} tables and statements within {days} days",
            self.of
        );
        (Verdict::Pass, found)
    }
}

impl Granted {
    fn says(&self) -> String {
        format!("{} may {} {}", self.role, self.privilege.to_lowercase(), self.object)
    }
}

impl Touched {
    fn says(&self) -> String {
        let Self { shown, by, seconds } = self;
        let who = if by.is_empty() { String::new() } else { format!(" by {by}") };
        format!("{shown}{who} was touched, found {seconds:.0} s ago")
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Granted, Touched};
    use crate::Verdict;

    fn clean() -> Found {
        Found { blind: None, grants: Vec::new(), touched: Vec::new(), watched: 8.0 * 86_400.0, of: 9 }
    }

    #[test]
    fn it_passes_only_when_all_was_watched_for_long_enough_and_nothing_was_found() {
        assert_eq!(clean().weigh(7).0, Verdict::Pass);
        assert_eq!(clean().weigh(9).0, Verdict::Inconclusive);
        let blind = Found { blind: Some("no extension".to_owned()), ..clean() };
        assert_eq!(blind.weigh(7), (Verdict::Inconclusive, "no extension".to_owned()));
    }

    #[test]
    fn each_right_and_touch_is_named() {
        let granted = |role: &str| Granted {
            role: role.to_owned(),
            privilege: "SELECT".to_owned(),
            object: "shop.price".to_owned(),
        };
        let touched =
            |by: &str, shown: &str| Touched { shown: shown.to_owned(), by: by.to_owned(), seconds: 61.2 };
        let found = Found {
            blind: Some("no extension".to_owned()),
            grants: vec![granted("reports")],
            touched: vec![touched("", "shop.price"), touched("reports", "select 1 from shop.price")],
            ..clean()
        };
        let (verdict, said) = found.weigh(7);
        assert_eq!(verdict, Verdict::Fail);
        assert_eq!(
            said,
            "reports may select shop.price; shop.price was touched, found 61 s ago; \
             select 1 from shop.price by reports was touched, found 61 s ago"
        );
        let many = Found { grants: (0..7).map(|n| granted(&n.to_string())).collect(), ..clean() };
        assert!(many.weigh(7).1.ends_with("; and 2 more"));
    }
}
