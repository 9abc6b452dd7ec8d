//! The settings of reconciliation.

use std::time::Duration;

use chassis::Reader;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How often, how far back, and how patient.
#[derive(Debug, Clone)]
pub struct ReconcileConfig {
    /// `RECONCILE_EVERY`: from one whole run to the next; default 1h.
    pub every: Duration,
    /// `RECONCILE_WINDOW`: how far back the provider's list is read again; default 3 days (72h). Open differences from before are
    /// still looked after. Longer than `RECONCILE_MISSING_AFTER`.
    pub window: Duration,
    /// `RECONCILE_LATE_AFTER`: the age from which on money without a line counts as late, and a line whose payment is unknown
    /// as a difference; default 1h.
    pub late_after: Duration,
    /// `RECONCILE_MISSING_AFTER`: the age from which on it counts as missing; default 24h. Longer than `RECONCILE_LATE_AFTER`.
    pub missing_after: Duration,
}

impl ReconcileConfig {
    /// Reads the settings. A value out of order stops the start.
    pub fn read(reader: &mut Reader) -> Self {
        let second = Duration::from_secs(1);
        let config = Self {
            every: reader.duration("RECONCILE_EVERY", 3600 * second, second..=DAY),
            window: reader.duration("RECONCILE_WINDOW", 3 * DAY, second..=31 * DAY),
            late_after: reader.duration("RECONCILE_LATE_AFTER", 3600 * second, Duration::ZERO..=DAY),
            missing_after: reader.duration("RECONCILE_MISSING_AFTER", DAY, Duration::ZERO..=30 * DAY),
        };
        if config.missing_after <= config.late_after {
            let allowed = "longer than RECONCILE_LATE_AFTER";
            reader.reject("RECONCILE_MISSING_AFTER", "late before it is missing", allowed);
        }
        if config.window <= config.missing_after {
            reader.reject(
                "RECONCILE_WINDOW",
                "too short to see what is missing",
                "longer than RECONCILE_MISSING_AFTER",
            );
        }
        config
    }
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { every: hour, window: 3 * DAY, late_after: hour, missing_after: DAY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<ReconcileConfig, String> {
        let reader = Reader::from_pairs(settings.iter().copied());
        chassis::config::read(reader, |reader| Some(ReconcileConfig::read(reader)))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_in_order_and_other_orders_are_refused() {
        let config = read(&[]).unwrap();
        assert_eq!((config.every.as_secs(), config.window.as_secs()), (3_600, 259_200));
        let error = read(&[("RECONCILE_MISSING_AFTER", "30m"), ("RECONCILE_WINDOW", "10m")]).unwrap_err();
        for name in ["RECONCILE_MISSING_AFTER", "RECONCILE_WINDOW"] {
            assert!(error.contains(name), "{error}");
        }
    }
}
