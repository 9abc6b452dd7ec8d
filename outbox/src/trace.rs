//! Traces that cross the outbox: publish, send, handle. `docs/telemetry.md` shows one.
//!
//! The W3C headers `traceparent` and `tracestate` of an event name the span that published it. They are written with the event,
//! so that each repeat of a record is the same, and they travel when nobody traces here. [`Tracer`] makes the spans `send` and
//! `handle` under them. What is current is asked of `opentelemetry::Context`, which `tracing-opentelemetry` keeps in step with
//! the spans of `tracing`; nobody is forced to use either.

mod parent;

use std::{sync::Arc, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    global::BoxedTracer,
    trace::{
        FutureExt as _, Link, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
        TracerProvider,
    },
};

use self::parent::span_context;
pub(crate) use self::parent::{context, inject};
use crate::{Headers, Record, envelope::Envelope};

/// The name under which the spans are made.
const SCOPE: &str = "outbox";

/// Spans that one batch is linked to at most; more would not be read by anyone.
const LINKS_MAX: usize = 128;

/// Makes the spans of relays and inboxes. Clones share the provider; the default makes none.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<BoxedTracer>>);

impl Tracer {
    /// Spans go to `provider`, and its sampler decides on each. An event whose publisher was not sampled stays unsampled with
    /// the usual parent-based sampler.
    pub fn new<P>(provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: Send + Sync + 'static,
        <P::Tracer as opentelemetry::trace::Tracer>::Span: Send + Sync + 'static,
    {
        Self(Some(Arc::new(BoxedTracer::new(Box::new(provider.tracer(SCOPE))))))
    }

    /// Makes no spans. What handlers publish still names the trace of what they handle.
    pub fn noop() -> Self {
        Self(None)
    }

    /// A span for sending a record, under the span that published the event. An event without a trace gets none: there is
    /// nothing that it could be joined to.
    pub(crate) fn send(&self, record: &Record) -> Span {
        let (Some(tracer), Some(parent)) = (&self.0, span_context(&record.headers)) else {
            return Span::none();
        };
        let parent = Context::new().with_remote_span_context(parent);
        let builder = builder("send", &record.topic, SpanKind::Client).with_attributes(attributes(
            "send",
            &record.topic,
            record.headers.get("ce_id"),
        ));
        Span(parent.with_span(tracer.build_with_context(builder, &parent)))
    }

    /// A span for one run of a handler, under the span that published the event; a trace of its own when there is none.
    pub(crate) fn handle(&self, handler: &'static str, event: &Envelope) -> Span {
        let parent = context(&event.headers);
        let Some(tracer) = &self.0 else { return Span(parent) };
        let builder = handling("handle", handler, &event.topic, event.headers.get("ce_id"));
        Span(parent.with_span(tracer.build_with_context(builder, &parent)))
    }

    /// A span for a handler's run over several events: a trace of its own, linked to the span that published each.
    pub(crate) fn batch<'a>(
        &self,
        handler: &'static str,
        topic: &str,
        events: impl ExactSizeIterator<Item = &'a Headers>,
    ) -> Span {
        let Some(tracer) = &self.0 else { return Span::none() };
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let links = events.filter_map(span_context).take(LINKS_MAX).map(Link::with_context).collect();
        let builder = handling("batch", handler, topic, None).with_links(links);
        let none = Context::new();
        let span = none.with_span(tracer.build_with_context(builder, &none));
        span.span().set_attribute(KeyValue::new("messaging.batch.message_count", count));
        Span(span)
    }

    /// Shows a batch in the trace of one of its events too: a `handle` span with the batch's times, linked to it.
    pub(crate) fn handled(&self, handler: &'static str, event: &Envelope, batch: &Span, began: SystemTime) {
        let (Some(tracer), Some(parent)) = (&self.0, span_context(&event.headers)) else { return };
        let parent = Context::new().with_remote_span_context(parent);
        let builder = handling("handle", handler, &event.topic, event.headers.get("ce_id"))
            .with_start_time(began)
            .with_links(vec![Link::with_context(batch.0.span().span_context().clone())]);
        // Dropped at once, which ends it.
        drop(tracer.build_with_context(builder, &parent));
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer" } else { "Tracer(noop)" })
    }
}

/// A span, or where one would be. It ends when it is dropped.
pub(crate) struct Span(Context);

impl Span {
    /// No span, no trace.
    pub(crate) fn none() -> Self {
        Self(Context::new())
    }

    /// Runs work in the span: spans made there are its children, and events published there name it.
    pub(crate) async fn within<F: Future>(&self, work: F) -> F::Output {
        work.with_context(self.0.clone()).await
    }

    /// Ends it with the reason why the work failed, if it did.
    pub(crate) fn ended(self, error: Option<String>) {
        let span = self.0.span();
        if let Some(error) = error {
            span.set_status(Status::error(error));
        }
        span.end();
    }
}

fn builder(what: &'static str, topic: &str, kind: SpanKind) -> SpanBuilder {
    SpanBuilder::from_name(format!("{what} {topic}")).with_kind(kind)
}

fn handling(what: &'static str, handler: &'static str, topic: &str, id: Option<&str>) -> SpanBuilder {
    let mut attributes = attributes("process", topic, id);
    attributes.push(KeyValue::new("outbox.handler", handler));
    builder(what, topic, SpanKind::Consumer).with_attributes(attributes)
}

/// By the semantic conventions for messaging.
fn attributes(operation: &'static str, topic: &str, id: Option<&str>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("messaging.destination.name", topic.to_owned()),
    ];
    attributes.extend(id.map(|id| KeyValue::new("messaging.message.id", id.to_owned())));
    attributes
}
