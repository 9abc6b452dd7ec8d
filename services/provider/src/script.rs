//! What becomes of a request: scripted by the payment method, or by admin call.

use std::time::Duration;

use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

use crate::book::Book;
use crate::call::Call;
use crate::failure::Failure;

/// How long what is slow takes.
pub(crate) const SLOW: Duration = Duration::from_secs(2);

/// Orders by admin call that may wait for their requests.
const ORDERS_MAX: usize = 1_000;

/// A request that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Create,
    Confirm,
    Capture,
    Cancel,
    Refund,
}

const OPERATIONS: [Operation; 5] =
    [Operation::Create, Operation::Confirm, Operation::Capture, Operation::Cancel, Operation::Refund];

/// The outcome of a request. A request that is refused for its parameters or the object's state meets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Script {
    /// Done, and answered.
    #[serde(alias = "charged")]
    Done,
    /// Refused for good, each time it is tried.
    Declined,
    /// Done after two seconds.
    Slow,
    /// Done, and the client never hears of it. A retry under the key does.
    ChargedNoAnswer,
    /// The first request is lost on its way; the next one is done.
    #[serde(alias = "not_charged_no_answer")]
    LostOnce,
    /// No answer, and done some time later.
    #[serde(alias = "charged_late")]
    Late,
    /// Done, and answered with an error, also when it is repeated.
    #[serde(alias = "500_after_charge")]
    ErrorAfter,
    /// Not done, and answered with an error, also when it is repeated under its key; the next key works.
    ErrorBefore,
    /// Not done, answered with 429, and nothing is kept; the next request works.
    RateLimited,
}

/// What a payment method does to one operation; the others are done as they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Method {
    operation: Operation,
    script: Script,
}

/// Payment methods with a name of their own; others are `pm_<operation>_<outcome>`.
const METHODS: [(&str, Script); 7] = [
    ("pm_card_visa", Script::Done),
    ("pm_card_declined", Script::Declined),
    ("pm_slow", Script::Slow),
    ("pm_charged_no_answer", Script::ChargedNoAnswer),
    ("pm_not_charged_no_answer", Script::LostOnce),
    ("pm_charged_late", Script::Late),
    ("pm_500_after_charge", Script::ErrorAfter),
];

/// An outcome for the next requests of a kind, by admin call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) operation: Operation,
    /// Only for requests about this payment (`metadata.payment_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payment_id: Option<String>,
    pub(crate) outcome: Script,
    /// For how many requests.
    #[serde(default = "once")]
    pub(crate) times: u32,
}

/// What a script leaves in the journal, so that it is played no more often than it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    /// One of the times of the order that stands in the line with this `seq`.
    Used(u64),
    /// What a payment method does only once.
    Once(String),
}

/// The orders that wait, oldest first, each with the line it stands in.
#[derive(Debug, Default)]
pub(crate) struct Orders(Vec<(u64, Order)>);

impl Script {
    /// Whether a payment method plays it for the first request only: else no retry would ever get through.
    fn is_once(self) -> bool {
        match self {
            Self::LostOnce | Self::ErrorBefore | Self::RateLimited => true,
            Self::Done
            | Self::Declined
            | Self::Slow
            | Self::ChargedNoAnswer
            | Self::Late
            | Self::ErrorAfter => false,
        }
    }
}

impl Operation {
    /// Its name in payment methods and orders.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Confirm => "confirm",
            Self::Capture => "capture",
            Self::Cancel => "cancel",
            Self::Refund => "refund",
        }
    }
}

impl Method {
    /// What a payment method does.
    pub(crate) fn of(payment_method: &str) -> Result<Self, Failure> {
        let named = METHODS.iter().find(|(name, _)| *name == payment_method);
        let named = named.map(|(_, script)| Self { operation: Operation::Confirm, script: *script });
        let message = || format!("No such PaymentMethod: '{payment_method}'");
        named
            .or_else(|| Self::composed(payment_method))
            .ok_or_else(|| Failure::param("resource_missing", "payment_method", message()))
    }

    /// `pm_refund_late` and the like.
    fn composed(payment_method: &str) -> Option<Self> {
        let text = payment_method.strip_prefix("pm_")?;
        OPERATIONS.into_iter().find_map(|operation| {
            let outcome = text.strip_prefix(operation.name())?.strip_prefix('_')?;
            let script = Script::deserialize(StrDeserializer::<Error>::new(outcome)).ok()?;
            Some(Self { operation, script })
        })
    }
}

impl Orders {
    pub(crate) fn add(&mut self, seq: u64, order: Order) {
        self.0.push((seq, order));
    }

    pub(crate) fn used(&mut self, seq: u64) {
        for (at, order) in &mut self.0 {
            order.times = order.times.saturating_sub(u32::from(*at == seq));
        }
        self.0.retain(|(_, order)| order.times > 0);
    }

    fn find(&self, operation: Operation, payment: Option<&str>) -> Option<(u64, Script)> {
        let meant = |order: &Order| {
            order.operation == operation
                && order.payment_id.as_deref().is_none_or(|wanted| Some(wanted) == payment)
        };
        self.0.iter().find(|(_, order)| meant(order)).map(|(seq, order)| (*seq, order.outcome))
    }

    /// Refuses an order that says nothing, or one too many.
    pub(crate) fn check(&self, order: &Order) -> Result<(), Failure> {
        if order.times == 0 {
            return Err(Failure::param("parameter_invalid_integer", "times", "Must be at least 1"));
        }
        if self.0.len() >= ORDERS_MAX {
            return Err(Failure::state("parameter_invalid", format!("At most {ORDERS_MAX} orders can wait")));
        }
        Ok(())
    }
}

/// The script of a request, and what playing it leaves in the journal. Orders go before payment methods.
pub(crate) fn choose(book: &Book, call: &Call) -> Result<(Script, Option<Mark>), Failure> {
    let operation = call.command.operation();
    let intent = call.command.intent().and_then(|id| book.intent(id).ok());
    let written = |name: &str| call.metadata.get(name).or_else(|| intent?.metadata.get(name));
    if let Some((seq, script)) = book.orders().find(operation, written("payment_id").map(String::as_str)) {
        return Ok((script, Some(Mark::Used(seq))));
    }
    let method = call.command.payment_method().or_else(|| intent?.payment_method.as_deref());
    let Some(method) = method.map(Method::of).transpose()? else { return Ok((Script::Done, None)) };
    if method.operation != operation {
        return Ok((Script::Done, None));
    }
    if !method.script.is_once() {
        return Ok((method.script, None));
    }
    let first = first(call);
    if book.happened(&first) {
        Ok((Script::Done, None))
    } else {
        Ok((method.script, Some(Mark::Once(first))))
    }
}

/// The name of what happens once: for an intent's first request of a kind, or for the first creation like this one.
pub(crate) fn first(call: &Call) -> String {
    let subject = call.command.intent().unwrap_or(&call.fingerprint);
    format!("{}:{subject}", call.command.operation().name())
}

fn once() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_method_names_an_operation_and_an_outcome() {
        for (name, operation, script) in [
            ("pm_card_visa", Operation::Confirm, Script::Done),
            ("pm_charged_late", Operation::Confirm, Script::Late),
            ("pm_confirm_declined", Operation::Confirm, Script::Declined),
            ("pm_refund_charged_no_answer", Operation::Refund, Script::ChargedNoAnswer),
            ("pm_capture_late", Operation::Capture, Script::Late),
            ("pm_cancel_rate_limited", Operation::Cancel, Script::RateLimited),
            ("pm_create_error_before", Operation::Create, Script::ErrorBefore),
        ] {
            assert_eq!(Method::of(name), Ok(Method { operation, script }), "{name}");
        }
        for wrong in ["pm_gold", "pm_refund", "pm_refund_", "pm_pay_late", "refund_late", "pm_refund_lost"] {
            assert!(Method::of(wrong).is_err(), "{wrong}");
        }
    }
}
