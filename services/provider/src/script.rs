//! What happens when a payment is confirmed: scripted by its payment method.

use std::time::Duration;

use crate::failure::Failure;

/// How long `pm_slow` takes.
pub(crate) const SLOW: Duration = Duration::from_secs(2);

/// The outcome of a confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// `pm_card_visa`: charged (or authorized), and answered.
    Charged,
    /// `pm_card_declined`: refused, each time it is tried.
    Declined,
    /// `pm_slow`: charged after two seconds.
    Slow,
    /// `pm_charged_no_answer`: charged, and the client never hears of it. A retry under the key does.
    ChargedNoAnswer,
    /// `pm_not_charged_no_answer`: the first confirmation is lost on its way; the next one charges.
    LostOnce,
    /// `pm_charged_late`: no answer, status `processing`, and charged ten seconds later.
    ChargedLate,
    /// `pm_500_after_charge`: charged, and answered with an error, also when it is repeated.
    ErrorAfterCharge,
}

const METHODS: [(&str, Script); 7] = [
    ("pm_card_visa", Script::Charged),
    ("pm_card_declined", Script::Declined),
    ("pm_slow", Script::Slow),
    ("pm_charged_no_answer", Script::ChargedNoAnswer),
    ("pm_not_charged_no_answer", Script::LostOnce),
    ("pm_charged_late", Script::ChargedLate),
    ("pm_500_after_charge", Script::ErrorAfterCharge),
];

impl Script {
    /// The script of a payment method.
    pub(crate) fn of(payment_method: &str) -> Result<Self, Failure> {
        let script = METHODS.iter().find(|(name, _)| *name == payment_method).map(|(_, script)| *script);
        let message = || format!("No such PaymentMethod: '{payment_method}'");
        script.ok_or_else(|| Failure::param("resource_missing", "payment_method", message()))
    }
}
