//! What happens at the provider without a request of the client: charges nobody asked for, and what people do in the
//! provider's dashboard.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Provider;
use crate::book::Book;
use crate::call::{Call, Command, currency};
use crate::clock::now_ms;
use crate::failure::Failure;
use crate::intent::CaptureMethod;
use crate::rules::{self, Change};

/// A charge that nobody asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unasked {
    payment_id: String,
    /// Minor units.
    amount: i64,
    currency: String,
    /// Beside `payment_id`. Without a `tenant` it is that of the payment's own intent.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// A refund by hand.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refunded {
    payment_intent: String,
    /// Minor units; all that is left when it is absent.
    amount: Option<i64>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// A refund that the payer's bank sends back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SentBack {
    refund: String,
}

/// A payment given up by hand.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Canceled {
    payment_intent: String,
}

impl Provider {
    /// Makes the intent and charges it at once. Returns the intent.
    pub(crate) async fn charge_unasked(&self, unasked: Unasked) -> Result<Value, Failure> {
        let Unasked { payment_id, amount, currency: code, mut metadata } = unasked;
        let currency = currency(&code)?;
        let amount = positive(Some(amount))?.unwrap_or(amount);
        metadata.insert("payment_id".to_owned(), payment_id.clone());
        self.by_hand(move |book| {
            let known =
                book.tagged("payment_id", &payment_id).find_map(|intent| intent.metadata.get("tenant"));
            if let (Some(tenant), None) = (known, metadata.get("tenant")) {
                metadata.insert("tenant".to_owned(), tenant.clone());
            }
            let (capture_method, payment_method) =
                (CaptureMethod::Automatic, Some("pm_card_visa".to_owned()));
            let call = call(metadata, Command::Create { amount, currency, capture_method, payment_method });
            let made = rules::create(&call)?.intent.ok_or_else(|| Failure::api("no intent was made"))?;
            Ok(rules::charge(&made, &call))
        })
        .await
    }

    /// Gives money back. Returns the refund.
    pub(crate) async fn refund_by_hand(&self, refunded: Refunded) -> Result<Value, Failure> {
        let Refunded { payment_intent: intent, amount, metadata } = refunded;
        let amount = positive(amount)?;
        let own = metadata.clone();
        let call = call(metadata, Command::Refund { intent, amount, reason: None });
        self.by_hand(move |book| rules::decide(book, &call).map(|change| nobodys(change, &own))).await
    }

    /// Takes back a refund that was made. Returns the refund.
    pub(crate) async fn send_refund_back(&self, sent_back: SentBack) -> Result<Value, Failure> {
        let SentBack { refund } = sent_back;
        self.by_hand(move |book| {
            let refund = book.refund(&refund)?;
            let (intent, own) = (refund.payment_intent.clone(), BTreeMap::new());
            let call = call(own.clone(), Command::Refund { intent, amount: None, reason: None });
            let change = rules::send_back(book.intent(&refund.payment_intent)?, refund, &call)?;
            Ok(nobodys(change, &own))
        })
        .await
    }

    /// Releases what is reserved. Returns the intent.
    pub(crate) async fn cancel_by_hand(&self, canceled: Canceled) -> Result<Value, Failure> {
        let Canceled { payment_intent: intent } = canceled;
        let reason = Some("requested_by_customer".to_owned());
        let call = call(BTreeMap::new(), Command::Cancel { intent, reason });
        self.by_hand(move |book| rules::decide(book, &call).map(|change| nobodys(change, &BTreeMap::new())))
            .await
    }

    async fn by_hand(&self, decide: impl FnOnce(&Book) -> Result<Change, Failure>) -> Result<Value, Failure> {
        let (reply, _) = self.commit(None, decide).await?;
        Ok(reply.map(|reply| reply.body).unwrap_or_default())
    }
}

fn call(metadata: BTreeMap<String, String>, command: Command) -> Call {
    Call { key: None, fingerprint: String::new(), since_ms: now_ms(), metadata, command }
}

/// No command of the client moved this money: the journal must not say that the intent's did.
fn nobodys(mut change: Change, own: &BTreeMap<String, String>) -> Change {
    if let Some(movement) = &mut change.movement {
        let of_command = |name: &str| ["operation", "command_id"].contains(&name);
        movement.metadata.retain(|name, _| !of_command(name) || own.contains_key(name));
    }
    change
}

fn positive(amount: Option<i64>) -> Result<Option<i64>, Failure> {
    match amount {
        Some(wrong) if wrong < 1 => {
            Err(Failure::param("parameter_invalid_integer", "amount", format!("Invalid integer: {wrong}")))
        }
        Some(_) | None => Ok(amount),
    }
}
