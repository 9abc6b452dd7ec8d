//! Webhooks reach the owner of their payment, wherever it is and whatever happens on the way; bad ones change nothing.

mod custody;
mod delivery;
mod numbers;
mod refused;
mod sender;

use std::time::Duration;

use anyhow::{Result, ensure};
use sqlx::PgPool;
use tests::checker::{Accepted, Ended};
use tests::{Process, Shop, until};

pub(crate) use self::sender::{Sender, event};
use crate::migration::until_status;
use crate::orders::{order, place};

/// Twice as long as a dispatcher that died keeps a notice from the others.
const SOON: Duration = Duration::from_secs(60);

/// The payment intent of a payment, as its owner has it.
async fn intent_of(home: &PgPool, payment: &str) -> Result<String> {
    let sql = "select provider_ref from payments.payment where id = $1::uuid";
    Ok(sqlx::query_scalar(sql).bind(payment).fetch_one(home).await?)
}

/// State and last word of a notice.
async fn notice(shop: &Shop<'_>, id: &str) -> Result<(String, Option<String>)> {
    let sql = "select state, why from webhooks.notice where id = $1";
    Ok(sqlx::query_as(sql).bind(id).fetch_one(&shop.source).await?)
}

pub(crate) async fn until_notice(shop: &Shop<'_>, id: &str, state: &str) -> Result<Option<String>> {
    until(&format!("notice {id} to be {state}"), SOON, async || {
        let (now, why) = notice(shop, id).await?;
        ensure!(now == state, "it is {now}: {why:?}");
        Ok(Some(why))
    })
    .await
}

/// Waits until at least this many notices came and the owners of their payments have taken all of them.
pub(crate) async fn until_all_taken(shop: &Shop<'_>, at_least: i64) -> Result<()> {
    until("every notice to be taken", SOON, async || {
        let sql = "select state, count(*) from webhooks.notice group by state order by state";
        let states: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&shop.source).await?;
        ensure!(
            matches!(&states[..], [(state, count)] if state == "applied" && *count >= at_least),
            "{states:?}"
        );
        Ok(Some(()))
    })
    .await
}

/// What the books say, in both homes: a notice changes none of it.
async fn books(shop: &Shop<'_>) -> Result<Vec<String>> {
    let sql = "select p.id::text || p.status || p.version || coalesce(sum(e.amount_minor) filter (where e.account = 'clearing'), 0)
               from payments.payment p left join payments.ledger_entry e on e.payment_id = p.id group by p.id order by 1";
    let mut books: Vec<String> = sqlx::query_scalar(sql).fetch_all(&shop.source).await?;
    books.extend(sqlx::query_scalar::<_, String>(sql).fetch_all(&shop.target).await?);
    Ok(books)
}

/// One payment at each home, both captured.
async fn one_each(shop: &Shop<'_>) -> Result<[Accepted; 2]> {
    let (client, operator) = (shop.client("acme")?, shop.operator()?);
    let purchase = order(&client, "pm_card_visa", "automatic").await?;
    let at_source = place(&client, "at-source", &purchase, Ended::Paid).await?;
    operator.follow().await?;
    operator.ramp(100).await?;
    let at_target = place(&client, "at-target", &purchase, Ended::Paid).await?;
    for payment in [&at_source, &at_target] {
        until_status(&client, &payment.payment, "captured").await?;
    }
    Ok([at_source, at_target])
}

/// What an operator's command says.
async fn operator(shop: &Shop<'_>, args: &[&str]) -> Result<String> {
    let spec = shop.monolith_spec("operator", &[&["webhooks"], args].concat());
    let (status, said) = Process::run(&spec, SOON).await?;
    ensure!(status.success(), "{args:?}: {status}\n{said}");
    Ok(said)
}
