//! The headers `traceparent` and `tracestate`, by the W3C recommendation "Trace Context", level 1.

use std::str::FromStr as _;

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState},
};

use crate::Headers;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// A longer `tracestate` is left out, as the recommendation allows, rather than crowd an event's headers.
const TRACESTATE_MAX: usize = 512;

/// Names the current span in an event's headers, if there is one and the event does not name one itself.
pub(crate) fn inject(headers: &mut Headers) {
    if headers.get(TRACEPARENT).is_some() {
        return;
    }
    Context::map_current(|current| {
        let span = current.span();
        let span = span.span_context();
        if !span.is_valid() {
            return;
        }
        let flags = span.trace_flags() & TraceFlags::SAMPLED;
        let parent = format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), flags.to_u8());
        headers.set(TRACEPARENT, parent);
        let state = span.trace_state().header();
        if !state.is_empty() && state.len() <= TRACESTATE_MAX {
            headers.set(TRACESTATE, state);
        }
    });
}

/// What an event's headers name, as a parent for spans; without a usable name, no parent.
pub(crate) fn context(headers: &Headers) -> Context {
    match span_context(headers) {
        Some(span) => Context::new().with_remote_span_context(span),
        None => Context::new(),
    }
}

/// The span that published an event. `None` for a header that is missing or malformed: it is somebody's slip, not the event's.
pub(super) fn span_context(headers: &Headers) -> Option<SpanContext> {
    let (trace, span, flags) = parse(headers.get(TRACEPARENT)?)?;
    let state =
        headers.get(TRACESTATE).and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let context = SpanContext::new(trace, span, flags & TraceFlags::SAMPLED, true, state);
    context.is_valid().then_some(context)
}

/// `version-trace-span-flags` in lower-case hex. Of a later version only this beginning is read, and version ff is forbidden.
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.split('-');
    let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let lengths = (version.len(), trace.len(), span.len(), flags.len());
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if lengths != (2, 32, 16, 2) || ![version, trace, span, flags].into_iter().all(hex) {
        return None;
    }
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    Some((
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(parent: &str) -> Headers {
        [(TRACEPARENT.to_owned(), parent.to_owned())].into_iter().collect()
    }

    #[test]
    fn a_parent_survives_its_header() {
        let read = span_context(&with(GOOD)).unwrap();
        assert!(read.is_sampled() && read.is_remote());
        let mut headers = Headers::default();
        let guard = context(&with(GOOD)).attach();
        inject(&mut headers);
        drop(guard);
        assert_eq!(headers, with(GOOD));
    }

    #[test]
    fn an_event_that_names_its_parent_keeps_it() {
        let mut headers = with("mine");
        let _guard = context(&with(GOOD)).attach();
        inject(&mut headers);
        assert_eq!(headers, with("mine"));
    }

    #[test]
    fn without_a_span_nothing_is_written() {
        let mut headers = Headers::default();
        inject(&mut headers);
        assert_eq!(headers, Headers::default());
    }

    #[test]
    fn a_malformed_parent_is_none() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-follows";
        assert!(span_context(&with(later)).is_some());
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47\u{e9}-00f067aa0ba902b7-01",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(span_context(&with(bad)).is_none(), "{bad}");
        }
    }
}
