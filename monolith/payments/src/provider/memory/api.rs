//! The provider in memory, as the payments client asks it.

use std::ops::Range;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::state::missing;
use super::{Call, Memory, Request, State};
use crate::provider::{Failure, Move, NewIntent, Object, Provider, RefundObject, SettlementPage};

#[async_trait]
impl Provider for Memory {
    async fn create(&self, key: &str, intent: &NewIntent) -> Result<Object, Failure> {
        self.change(Call::Create, key, Request::Create(intent.clone())).await?.object()
    }

    async fn confirm(&self, key: &str, object: &str) -> Result<Object, Failure> {
        self.change(Call::Confirm, key, Request::Confirm(object.to_owned())).await?.object()
    }

    async fn capture(&self, key: &str, capture: &Move) -> Result<Object, Failure> {
        self.change(Call::Capture, key, Request::Capture(capture.clone())).await?.object()
    }

    async fn cancel(&self, key: &str, object: &str) -> Result<Object, Failure> {
        self.change(Call::Cancel, key, Request::Cancel(object.to_owned())).await?.object()
    }

    async fn retrieve(&self, object: &str) -> Result<Object, Failure> {
        let read = |state: &mut State| state.intents.get(object).map(|(_, found)| found.clone());
        self.read(Call::Retrieve, |state| read(state).ok_or_else(|| missing(object))).await
    }

    async fn search(&self, command: Uuid) -> Result<Vec<Object>, Failure> {
        self.read(Call::Search, |state| {
            let of_it = state.intents.values().filter(|(new, _)| new.tag.command == command);
            let found = of_it.filter(|_| !state.search_lags).map(|(_, object)| object.clone());
            Ok(found.collect())
        })
        .await
    }

    async fn refund(&self, key: &str, refund: &Move) -> Result<RefundObject, Failure> {
        self.change(Call::Refund, key, Request::Refund(refund.clone())).await?.refund()
    }

    async fn refunds(&self, object: &str) -> Result<Vec<RefundObject>, Failure> {
        self.read(Call::Refunds, |state| {
            let of_it = state.refunds.iter().rev().filter(|(intent, _)| intent == object);
            Ok(of_it.map(|(_, refund)| refund.clone()).collect())
        })
        .await
    }

    async fn settlements(
        &self,
        within: Range<OffsetDateTime>,
        after: Option<&str>,
    ) -> Result<Option<SettlementPage>, Failure> {
        self.read(Call::Settlements, |state| {
            Ok((!state.list_denied).then(|| state.settled.page(&within, after)))
        })
        .await
    }
}
