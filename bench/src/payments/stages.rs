//! Where the time between acceptance and paid goes, order by order: from what the databases and the provider noted.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::shop::{Side, Way};

/// Milliseconds of each order, by stage; the first is the whole way.
pub(super) type Stages = Vec<(&'static str, Vec<f64>)>;

/// What the monolith's database knows of an order.
#[derive(Debug, FromRow)]
struct Ordered {
    payment: Uuid,
    placed_at: OffsetDateTime,
    paid_at: OffsetDateTime,
    /// When the relay noted that the request was delivered.
    sent_at: Option<OffsetDateTime>,
}

/// What the owner's database knows of its payment.
#[derive(Debug, FromRow)]
struct Owned {
    payment: Uuid,
    applied_at: OffsetDateTime,
    intended_at: OffsetDateTime,
    outcome_at: OffsetDateTime,
    sent_at: Option<OffsetDateTime>,
}

/// When the provider had made a payment's object, and when it had charged.
#[derive(Debug, Default)]
struct Charged {
    made_at: Option<OffsetDateTime>,
    charged_at: Option<OffsetDateTime>,
}

const ORDERED: &str = "
    with sent as (select s.at, unnest(s.positions) as position from outbox.sent s where s.at >= $2)
    select o.payment_id as payment, o.placed_at, o.changed_at as paid_at, sent.at as sent_at
    from orders.orders o
    join outbox.event e on e.topic = 'payments.v1' and e.key = o.payment_id::text and e.version = 1 and e.created_at >= $2
    left join sent on sent.position = e.position
    where o.id = any ($1)";

const OWNED: &str = "
    with sent as (select s.at, unnest(s.positions) as position from outbox.sent s where s.at >= $2)
    select i.payment_id as payment, a.applied_at, i.created_at as intended_at, e.created_at as outcome_at, sent.at as sent_at
    from payments.intent i
    join outbox.applied_id a on a.handler = 'payments.replica' and a.topic = 'payments.v1' and a.key = i.payment_id::text
        and a.version = 1
    join outbox.event e on e.topic = 'payments.v1' and e.key = i.payment_id::text and e.version = 2 and e.created_at >= $2
    left join sent on sent.position = e.position
    where i.payment_id = any ($1)";

/// The stages of these orders, which were placed after `from`; the journal is read from a byte on.
pub(super) async fn stages(
    side: &Side<'_>,
    orders: &[Uuid],
    from: OffsetDateTime,
    journal_from: u64,
) -> Result<Stages> {
    let ordered: Vec<Ordered> =
        sqlx::query_as(ORDERED).bind(orders).bind(from).fetch_all(&side.shop.source).await?;
    let payments: Vec<Uuid> = ordered.iter().map(|order| order.payment).collect();
    let owner: &PgPool = match side.way {
        Way::InProcess => &side.shop.source,
        Way::Service => &side.shop.target,
    };
    let owned: Vec<Owned> = sqlx::query_as(OWNED).bind(&payments).bind(from).fetch_all(owner).await?;
    let owned: HashMap<Uuid, Owned> = owned.into_iter().map(|owned| (owned.payment, owned)).collect();
    let charged = charged(&side.journal(), journal_from)?;
    ensure!(ordered.len() == orders.len(), "{} of {} orders have their request", ordered.len(), orders.len());
    let mut stages: Stages = NAMES.map(|name| (name, Vec::with_capacity(orders.len()))).into();
    for order in &ordered {
        let owned = owned.get(&order.payment).context("an order's payment has no outcome at its owner")?;
        let charged = charged.get(&order.payment).context("an order's payment is not in the journal")?;
        for (stage, took) in stages.iter_mut().zip(times(order, owned, charged)) {
            stage.1.extend(took.map(|took| took.as_seconds_f64() * 1e3));
        }
    }
    ensure!(stages.iter().all(|(_, times)| !times.is_empty()), "a stage has no times");
    Ok(stages)
}

const NAMES: [&str; 9] = [
    "accepted -> paid",
    "accepted -> request applied by the owner's replica",
    "request applied -> intent",
    "intent -> object made at the provider",
    "object made -> charged",
    "charged -> outcome published",
    "outcome published -> order paid",
    "of the second: until the relay had noted the request's delivery",
    "of the last: until the relay had noted the outcome's delivery",
];

fn times(order: &Ordered, owned: &Owned, charged: &Charged) -> [Option<time::Duration>; 9] {
    let (made, taken) = (charged.made_at, charged.charged_at);
    [
        Some(order.paid_at - order.placed_at),
        Some(owned.applied_at - order.placed_at),
        Some(owned.intended_at - owned.applied_at),
        made.map(|made| made - owned.intended_at),
        made.zip(taken).map(|(made, taken)| taken - made),
        taken.map(|taken| owned.outcome_at - taken),
        Some(order.paid_at - owned.outcome_at),
        order.sent_at.map(|sent| sent - order.placed_at),
        owned.sent_at.map(|sent| sent - owned.outcome_at),
    ]
}

/// Reads the journal's whole lines from a byte on, by payment.
fn charged(journal: &Path, from: u64) -> Result<HashMap<Uuid, Charged>> {
    let mut file = File::open(journal).context("the provider's journal")?;
    file.seek(SeekFrom::Start(from))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let mut all: HashMap<Uuid, Charged> = HashMap::new();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let tagged = |path: &str| line.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let payment = tagged("/metadata/payment_id").or_else(|| tagged("/intent/metadata/payment_id"));
        let Some(payment) = payment.and_then(|id| id.parse().ok()) else { continue };
        let at = line.get("at").and_then(Value::as_str).context("a line of the journal without a time")?;
        let at = OffsetDateTime::parse(at, &Rfc3339)?;
        let found = all.entry(payment).or_default();
        found.made_at.get_or_insert(at);
        if line.get("kind").and_then(Value::as_str) == Some("charge") {
            found.charged_at.get_or_insert(at);
        }
    }
    Ok(all)
}

/// The value below which this share of the values is.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a list that is in memory, from a share of 0 to 1"
    )]
    let at = (share * values.len() as f64).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_says_when_an_object_was_made_and_when_it_was_charged() {
        let payment = Uuid::now_v7();
        let lines = [
            format!(
                r#"{{"seq":1,"at":"2026-01-02T03:04:05.1Z","intent":{{"metadata":{{"payment_id":"{payment}"}}}}}}"#
            ),
            format!(
                r#"{{"seq":2,"at":"2026-01-02T03:04:05.2Z","kind":"charge","metadata":{{"payment_id":"{payment}"}}}}"#
            ),
            r#"{"seq":3,"at":"2026-01-02T0"#.to_owned(),
        ];
        let path = std::env::temp_dir().join(format!("journal-{payment}.jsonl"));
        std::fs::write(&path, lines.join("\n")).unwrap();
        let found = charged(&path, 0).unwrap();
        std::fs::remove_file(&path).unwrap();
        let found = &found[&payment];
        assert_eq!(found.charged_at.unwrap() - found.made_at.unwrap(), time::Duration::milliseconds(100));
    }

    #[test]
    fn quantiles_are_values() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.5, 0.99, 0.0].map(|share| quantile(&mut values, share)), [2.0, 4.0, 1.0]);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
