//! Traces that cross the outbox: publish, send, handle. `docs/telemetry.md` shows one.
//!
//! The W3C headers `traceparent` and `tracestate` of an event name the span that published it. They are written with the event,
//! so that each repeat of a record is the same, and they travel when nobody traces here. [`Tracer`] makes the spans `send` and
//! `handle` under them. What is current is asked of `opentelemetry::Context`, which `tracing-opentelemetry` keeps in step with
//! the spans of `tracing`; nobody is forced to use either.

mod parent;

use std::sync::Arc;

use opentelemetry::{
    Context, KeyValue,
    global::BoxedTracer,
    trace::{
        FutureExt as _, Link, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
        TracerProvider,
    },
};

pub(crate) use self::parent::inject;
use self::parent::{context, span_context};
use crate::{Headers, Record, Refusal, Sink, envelope::Envelope};

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

    /// Sends a record, in a span that begins here and ends with the broker's report. An event without a trace gets none: there
    /// is nothing that it could be joined to.
    pub(crate) async fn send<S: Sink + ?Sized>(&self, sink: &S, record: Record) -> Result<(), Refusal> {
        let (Some(tracer), Some(parent)) = (self.0.as_ref(), span_context(&record.headers)) else {
            return sink.send(record).await;
        };
        let builder = builder("send", &record.topic, SpanKind::Client).with_attributes(attributes(
            "send",
            &record.topic,
            record.headers.get("ce_id"),
        ));
        let parent = Context::new().with_remote_span_context(parent);
        let span = parent.with_span(tracer.build_with_context(builder, &parent));
        let result = sink.send(record).with_context(span.clone()).await;
        if let Err(refusal) = &result {
            span.span().set_status(Status::error(refusal.to_string()));
        }
        span.span().end();
        result
    }

    /// A span for one run of a handler, under the span that published the event; a trace of its own when there is none.
    pub(crate) fn handle(&self, handler: &'static str, event: &Envelope, batch: &Span) -> Span {
        let parent = context(&event.headers);
        let Some(tracer) = &self.0 else { return Span(parent) };
        let mut attributes = attributes("process", &event.topic, event.headers.get("ce_id"));
        attributes.push(KeyValue::new("outbox.handler", handler));
        let links = batch.link().into_iter().collect();
        let builder = builder("handle", &event.topic, SpanKind::Consumer).with_attributes(attributes);
        Span(parent.with_span(tracer.build_with_context(builder.with_links(links), &parent)))
    }

    /// A span for a transaction that applies several events: a trace of its own, linked to the span that published each.
    pub(crate) fn batch<'a>(
        &self,
        handler: &'static str,
        topic: &str,
        events: impl ExactSizeIterator<Item = &'a Headers>,
    ) -> Span {
        let Some(tracer) = &self.0 else { return Span::none() };
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let mut attributes = attributes("process", topic, None);
        attributes.push(KeyValue::new("outbox.handler", handler));
        attributes.push(KeyValue::new("messaging.batch.message_count", count));
        let links = events.filter_map(span_context).take(LINKS_MAX).map(Link::with_context).collect();
        let builder = builder("batch", topic, SpanKind::Consumer).with_attributes(attributes);
        let none = Context::new();
        Span(none.with_span(tracer.build_with_context(builder.with_links(links), &none)))
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

    /// Says how the work ended: an error has a reason.
    pub(crate) fn ended(self, verdict: &'static str, error: Option<&str>) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("outbox.verdict", verdict));
        if let Some(error) = error {
            span.set_status(Status::error(error.to_owned()));
        }
        span.end();
    }

    fn link(&self) -> Option<Link> {
        let span = self.0.span();
        let context = span.span_context();
        context.is_valid().then(|| Link::with_context(context.clone()))
    }
}

fn builder(what: &'static str, topic: &str, kind: SpanKind) -> SpanBuilder {
    SpanBuilder::from_name(format!("{what} {topic}")).with_kind(kind)
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
