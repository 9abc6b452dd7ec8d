//! Spans leave the process without card numbers, whatever was recorded in them.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::trace::Status;
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use crate::card;

/// An exporter that masks what looks like a card number in names, attributes, events, links and statuses.
#[derive(Debug)]
pub(super) struct Masked<E>(pub(super) E);

impl<E: SpanExporter> SpanExporter for Masked<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(span);
        self.0.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn span(span: &mut SpanData) {
    text(&mut span.name);
    span.attributes.iter_mut().for_each(attribute);
    for event in &mut span.events.events {
        text(&mut event.name);
        event.attributes.iter_mut().for_each(attribute);
    }
    for link in &mut span.links.links {
        link.attributes.iter_mut().for_each(attribute);
    }
    if let Status::Error { description } = &mut span.status {
        text(description);
    }
}

fn text(text: &mut Cow<'static, str>) {
    if let Cow::Owned(masked) = card::mask(text) {
        *text = Cow::Owned(masked);
    }
}

/// A number or a list that holds one becomes the text that a reader would see.
fn attribute(attribute: &mut KeyValue) {
    let masked = match card::mask(&attribute.value.as_str()) {
        Cow::Borrowed(_) => return,
        Cow::Owned(masked) => masked,
    };
    attribute.value = Value::String(masked.into());
}
