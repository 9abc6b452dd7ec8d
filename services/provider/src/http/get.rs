//! Requests that only read: objects, lists, search.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};

use crate::clock::{millis, now_ms};
use crate::failure::Failure;
use crate::form::{Form, missing};
use crate::intent::Intent;
use crate::provider::Provider;
use crate::refund::Refund;
use crate::search::Query;
use crate::settlement::{self, Wanted};

type Answer = Result<Json<Value>, Failure>;

pub(super) async fn intent(
    State(provider): State<Provider>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    parse(query)?.finish()?;
    provider.read(|book| book.intent(&id).map(|intent| Json(intent.object()))).await?
}

pub(super) async fn refund(
    State(provider): State<Provider>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    parse(query)?.finish()?;
    provider.read(|book| book.refund(&id).map(|refund| Json(refund.object()))).await?
}

pub(super) async fn settlement(
    State(provider): State<Provider>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let mut form = parse(query)?;
    let expand = form.expand("source")?;
    form.finish()?;
    provider.read(|book| settlement::one(book, &id, expand, now_ms()).map(Json)).await?
}

pub(super) async fn intents(State(provider): State<Provider>, RawQuery(query): RawQuery) -> Answer {
    let mut form = parse(query)?;
    let page = Page::read(&mut form)?;
    form.finish()?;
    let intents = |intents: &mut dyn Iterator<Item = &Intent>| {
        page.cut("/v1/payment_intents", intents.filter(|it| page.is_after(&it.id)).map(Intent::object))
    };
    Ok(Json(provider.read(|book| intents(&mut book.intents())).await?))
}

pub(super) async fn refunds(State(provider): State<Provider>, RawQuery(query): RawQuery) -> Answer {
    let mut form = parse(query)?;
    let page = Page::read(&mut form)?;
    let intent = form.text("payment_intent");
    form.finish()?;
    let found = provider.read(|book| {
        let refunds = book.refunds(intent.as_deref()).filter(|it| page.is_after(&it.id));
        page.cut("/v1/refunds", refunds.map(Refund::object))
    });
    Ok(Json(found.await?))
}

pub(super) async fn settlements(State(provider): State<Provider>, RawQuery(query): RawQuery) -> Answer {
    let mut form = parse(query)?;
    let page = Page::read(&mut form)?;
    let wanted = Wanted::read(&mut form)?;
    form.finish()?;
    let found = provider.read(|book| {
        let lines = settlement::list(book, &wanted, page.after.as_deref(), now_ms())?;
        Ok(Json(page.cut("/v1/balance_transactions", lines)))
    });
    found.await?
}

pub(super) async fn search(State(provider): State<Provider>, RawQuery(query): RawQuery) -> Answer {
    let mut form = parse(query)?;
    let limit = form.limit()?;
    let query = Query::parse(&form.text("query").ok_or_else(|| missing("query"))?)?;
    // Where the next page begins is the client's to carry and not to read: here it is the last id of this one.
    let page = Page { limit, after: form.text("page") };
    form.finish()?;
    let before_ms = now_ms().saturating_sub(millis(provider.search_lag));
    let found = provider.read(|book| {
        let found = query.run(book, before_ms).filter(|it| page.is_after(&it.id));
        page.cut("/v1/payment_intents/search", found.map(Intent::object))
    });
    let mut found = found.await?;
    let next = found["data"].as_array().and_then(|data| data.last()).map(|last| last["id"].clone());
    found["next_page"] = next.filter(|_| found["has_more"] == true).unwrap_or_default();
    found["object"] = "search_result".into();
    Ok(Json(found))
}

/// Which part of a list, newest first.
struct Page {
    limit: usize,
    after: Option<String>,
}

impl Page {
    fn read(form: &mut Form) -> Result<Self, Failure> {
        Ok(Self { limit: form.limit()?, after: form.text("starting_after") })
    }

    /// Ids grow with time, so what comes after is what is smaller.
    fn is_after(&self, id: &str) -> bool {
        self.after.as_deref().is_none_or(|last| id < last)
    }

    /// Stripe's list: a page of entries, and whether there are more.
    fn cut(&self, url: &str, objects: impl Iterator<Item = Value>) -> Value {
        let mut data: Vec<Value> = objects.take(self.limit + 1).collect();
        let has_more = data.len() > self.limit;
        data.truncate(self.limit);
        json!({ "object": "list", "url": url, "data": data, "has_more": has_more })
    }
}

fn parse(query: Option<String>) -> Result<Form, Failure> {
    Form::parse(query.unwrap_or_default().as_bytes())
}
