//! Payments from before: paid long ago, when there was neither an outbox nor a migration.
//!
//! What an adoption finds: orders, payments and books in the monolith's own tables, the provider's journal of them, and no event.
//! What it gives them: each stream a head, at the version of its row, and each handler a cursor there. From then on they are
//! payments like all others: they are refunded, backfilled, compared and handed over.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use ::tests::checker::{Accepted, Ended};
use ::tests::{Shop, Side, until};
use anyhow::{Context, Result, ensure};
use outbox::{Handler as _, StateTransfer as _};
use proto::Money;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::{NoContext, Timestamp, Uuid};

use crate::store::{self, Product};

/// Requested, then captured: what the streams would hold.
const VERSION: i64 = 2;
/// Written in one transaction.
const BATCH_MAX: usize = 5_000;
/// The oldest is this old, in seconds: 37 days.
const OLDEST: i64 = 37 * DAY;
/// The youngest: 7 days, so that it is beyond the window that reconciliation reads.
const YOUNGEST: i64 = 7 * DAY;
const DAY: i64 = 24 * 3600;
/// How long one refund may take, while a home is killed or a payment changes its home.
const REFUND_TIMEOUT: Duration = Duration::from_secs(60);
/// What a refund returns, in minor units.
const REFUND_MINOR: i64 = 100;

/// All of them, oldest first.
pub(crate) struct Past(Vec<Old>);

/// One order, with one line, and its payment; the fields are columns of a recordset in [`store`].
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Old {
    pub(crate) payment_id: Uuid,
    tenant: &'static str,
    order_id: Uuid,
    command_id: Uuid,
    product_id: Uuid,
    quantity: i64,
    price_minor: i64,
    total_minor: i64,
    fee_minor: i64,
    currency: String,
    /// The provider's payment intent.
    provider_ref: String,
    /// Seconds since 1970.
    at: i64,
    version: i64,
}

impl Past {
    /// Writes `count` payments of these tenants into the monolith's database and the provider's journal. Neither runs yet.
    pub(crate) async fn write(shop: &Shop<'_>, tenants: &[&'static str], count: usize) -> Result<Self> {
        let mut sold = Vec::new();
        for tenant in tenants {
            for product in store::products(&shop.source, tenant).await? {
                sold.push((*tenant, product));
            }
        }
        let past = Self::compose(&sold, count, OffsetDateTime::now_utc().unix_timestamp())?;
        let handlers = [
            ("orders", orders::FollowPayment::NAME),
            ("notifications", notifications::QueueReceipts::NAME),
            ("payments", payments::Replicate::NAME),
        ];
        let urls: HashMap<String, String> = shop.role_urls(Side::Source).into_iter().collect();
        for (module, handler) in handlers {
            let url = urls.get(module).with_context(|| format!("module {module} has no role"))?;
            store::register(url, handler).await.with_context(|| format!("register {handler}"))?;
        }
        let handlers = handlers.map(|(_, handler)| handler);
        for batch in past.0.chunks(BATCH_MAX) {
            store::write(&shop.source, batch, &handlers).await.context("write payments from before")?;
        }
        store::analyze(&shop.source).await?;
        past.journal(&shop.world.logs().join("journal.jsonl"))?;
        Ok(past)
    }

    /// Spread evenly over the tenants' products and the time from [`OLDEST`] to [`YOUNGEST`].
    fn compose(sold: &[(&'static str, Product)], count: usize, now: i64) -> Result<Self> {
        ensure!(!sold.is_empty(), "no tenant sells anything");
        let all = i64::try_from(count)?;
        let one = |(number, (tenant, product)): (i64, &(&'static str, Product))| {
            let at = now - OLDEST + (OLDEST - YOUNGEST) * number / all;
            Old::new(tenant, product, 1 + number % 3, at)
        };
        (0..all).zip(sold.iter().cycle()).map(one).collect::<Result<Vec<_>>>().map(Self)
    }

    /// The provider's lines of them.
    fn journal(&self, path: &Path) -> Result<()> {
        let file = File::create_new(path).with_context(|| format!("create {}", path.display()))?;
        let mut file = BufWriter::new(file);
        for (seq, old) in (1_u64..).zip(&self.0) {
            serde_json::to_writer(&mut file, &old.line(seq)?)?;
            file.write_all(b"\n")?;
        }
        file.flush().with_context(|| format!("write {}", path.display()))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What their customers were told.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = Accepted> {
        self.0.iter().map(|old| Accepted {
            order: old.order_id.to_string(),
            payment: old.payment_id.to_string(),
            ends: Ended::Paid,
        })
    }

    /// Their streams, each with the version of its head.
    pub(crate) fn streams(&self) -> HashMap<String, i64> {
        let streams = self.0.iter().flat_map(|old| [old.order_id, old.payment_id]);
        streams.map(|key| (key.to_string(), VERSION)).collect()
    }

    /// The last of them in the order of keys. All payments of the walk itself are younger: their keys come after it.
    pub(crate) fn youngest(&self) -> Result<Uuid> {
        self.0.last().map(|old| old.payment_id).context("there is no old payment")
    }

    /// Those from the `first` on. They leave in this order: it is that of their keys, too.
    pub(crate) fn some(&self, first: usize, count: usize) -> impl Iterator<Item = &Old> {
        self.0.iter().skip(first).take(count)
    }
}

impl Old {
    fn new(tenant: &'static str, product: &Product, quantity: i64, at: i64) -> Result<Self> {
        let total = Money::new(product.price_minor * quantity, product.currency.parse()?);
        let seconds = u64::try_from(at)?;
        // Ids of that time: lists go by them.
        let id = || Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0));
        Ok(Self {
            payment_id: id(),
            tenant,
            order_id: id(),
            command_id: id(),
            product_id: product.id,
            quantity,
            price_minor: product.price_minor,
            total_minor: total.minor,
            fee_minor: payments::fee(total)?.minor,
            currency: product.currency.clone(),
            provider_ref: format!("pi_{}", id().simple()),
            at,
            version: VERSION,
        })
    }

    /// The charge as the provider's journal has it: what moved, and the payment intent that it left behind.
    fn line(&self, seq: u64) -> Result<Value> {
        let Self { payment_id, command_id, provider_ref, total_minor, .. } = self;
        let at = OffsetDateTime::from_unix_timestamp(self.at)?.format(&Rfc3339)?;
        let currency = self.currency.to_lowercase();
        let charge = provider_ref.replacen("pi_", "ch_", 1);
        let metadata = json!({
            "payment_id": payment_id, "tenant": self.tenant, "operation": "charge", "command_id": command_id,
        });
        Ok(json!({
            "seq": seq,
            "at": at,
            "kind": "charge",
            "id": charge,
            "payment_intent": provider_ref,
            "amount": total_minor,
            "currency": currency,
            "idempotency_key": format!("{payment_id}:charge:{command_id}:1"),
            "metadata": metadata,
            "intent": {
                "id": provider_ref,
                "amount": total_minor,
                "amount_capturable": 0,
                "amount_received": total_minor,
                "amount_refunded": 0,
                "currency": currency,
                "capture_method": "automatic",
                "payment_method": "pm_card_visa",
                "status": "succeeded",
                "latest_charge": charge,
                "metadata": metadata,
                "created": self.at,
                "canceled_at": null,
            },
        }))
    }

    /// Its merchant returns a part of it, wherever it is.
    pub(crate) async fn refund(&self, shop: &Shop<'_>) -> Result<()> {
        let client = shop.client(self.tenant)?;
        let path = format!("/v1/payments/{}/refunds", self.payment_id);
        // One command, however often it is sent.
        let (key, body) = (Uuid::now_v7().to_string(), json!({ "amount_minor": REFUND_MINOR }));
        until(&format!("the refund of the old payment {}", self.payment_id), REFUND_TIMEOUT, async || {
            let answer = client.post(&path, &key, &body).await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            Ok(Some(()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_and_the_books_tell_the_same_of_each() {
        let product = Product { id: Uuid::now_v7(), price_minor: 1_290, currency: "EUR".to_owned() };
        let past = Past::compose(&[("acme", product.clone()), ("globex", product)], 5, 40 * DAY).unwrap();
        assert_eq!(
            past.0.iter().map(|old| old.tenant).collect::<Vec<_>>(),
            ["acme", "globex", "acme", "globex", "acme"]
        );
        assert_eq!((past.0[0].at, past.streams().len()), (3 * DAY, 10));
        assert!(past.0.windows(2).all(|two| two[0].at < two[1].at), "the journal is in order");
        let keys: Vec<_> = past.some(0, 5).map(|old| old.payment_id.to_string()).collect();
        assert!(keys.is_sorted() && keys.last() == Some(&past.youngest().unwrap().to_string()), "{keys:?}");
        for (seq, old) in (1..).zip(&past.0) {
            let line = old.line(seq).unwrap();
            assert_eq!((&line["seq"], &line["amount"]), (&json!(seq), &json!(old.quantity * 1_290)));
            assert_eq!(line["metadata"]["payment_id"], json!(old.payment_id));
            assert_eq!(line["intent"]["amount_received"], json!(old.total_minor));
            // 1.5 %, to the nearest cent.
            assert_eq!(old.fee_minor, [19, 39, 58][usize::try_from(old.quantity - 1).unwrap()]);
        }
    }
}
