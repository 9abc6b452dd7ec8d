//! How a line of the log looks, and which lines there are.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Format, FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::{self as layer, FmtContext};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::card;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

/// A checked filter in the syntax of `RUST_LOG`.
#[derive(Debug, Clone)]
pub struct Filter(String);

/// The log as a layer, on stderr.
pub(super) fn layer<S>(
    service: &'static str,
    format: LogFormat,
    filter: &Filter,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = layer::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => layer
            .with_ansi(colour)
            .event_format(Text { service, inner: Format::default().with_ansi(colour) })
            .with_filter(filter.layer())
            .boxed(),
        LogFormat::Json => layer
            .with_ansi(false)
            .fmt_fields(JsonFields::new())
            .event_format(Json { service, inner: Format::default().json() })
            .with_filter(filter.layer())
            .boxed(),
    }
}

impl Filter {
    /// What a process logs unless it is told otherwise.
    pub(super) fn preset() -> Self {
        Self("info,sqlx=warn".into())
    }

    fn layer(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

/// `payments 2026-01-01T00:00:00Z INFO target: message`.
struct Text {
    service: &'static str,
    inner: Format,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, DefaultFields> for Text {
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(ctx, Writer::new(&mut line), event)?;
        write!(writer, "{} ", self.service)?;
        masked_pieces(&line).try_for_each(|piece| writer.write_str(&piece))
    }
}

/// A line without card numbers. An escape sequence for a colour ends with a letter, which would seem to begin a word.
fn masked_pieces(line: &str) -> impl Iterator<Item = Cow<'_, str>> {
    line.split_inclusive('\u{1b}').flat_map(|piece| {
        let colour = if piece.starts_with('[') { piece.find('m').map_or(0, |end| end + 1) } else { 0 };
        let (colour, text) = piece.split_at(colour);
        [Cow::Borrowed(colour), card::mask(text)]
    })
}

/// The usual JSON line with `service` as its first member.
struct Json {
    service: &'static str,
    inner: Format<tracing_subscriber::fmt::format::Json>,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(ctx, Writer::new(&mut line), event)?;
        // Stars would be no number.
        let line = card::mask_with(&line, '9');
        let members = line.strip_prefix('{').ok_or(fmt::Error)?;
        write!(writer, "{{\"service\":\"{}\",{members}", self.service)
    }
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for Filter {
    type Err = tracing_subscriber::filter::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<EnvFilter>().map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::SubscriberBuilder;

    use super::*;
    use crate::config::Reader;
    use crate::telemetry::Settings;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_json_and_names_the_service() {
        let memory = Memory::default();
        let sink = memory.clone();
        let subscriber = SubscriberBuilder::default()
            .with_writer(move || sink.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Json { service: "orders", inner: Format::default().json() })
            .finish();
        tracing::subscriber::with_default(subscriber, || tracing::info!(lag_ms = 7, "caught up"));
        let line: serde_json::Value = serde_json::from_slice(&memory.0.lock().unwrap()).unwrap();
        assert_eq!(line["service"], "orders");
        assert_eq!(line["fields"]["lag_ms"], 7);
    }

    /// What is logged about a card number in a span, a field and the message.
    fn told<N, F>(fields: N, format: F, ansi: bool) -> String
    where
        N: for<'writer> FormatFields<'writer> + Send + Sync + 'static,
        F: FormatEvent<tracing_subscriber::Registry, N> + Send + Sync + 'static,
    {
        let memory = Memory::default();
        let sink = memory.clone();
        let layer = layer::layer().with_writer(move || sink.clone()).with_ansi(ansi);
        let layer = layer.fmt_fields(fields).event_format(format);
        let subscriber =
            tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), layer);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("pay", reason = "4111 1111 1111 1111");
            span.in_scope(|| {
                let (line, spaced) = ("x\n4111111111111111", "4111\u{a0}1111\u{a0}1111\u{a0}1111");
                let amount = 4_111_111_111_111_111_i64;
                // By `Debug` and then as JSON: escaped twice.
                tracing::info!(amount, line, spaced, twice = ?line, "got {}", "4111-1111-1111-1111");
            });
        });
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn no_line_has_a_card_number() {
        for ansi in [false, true] {
            let inner = Format::default().with_ansi(ansi);
            let line = told(DefaultFields::new(), Text { service: "orders", inner }, ansi);
            assert!(!line.contains("1111") && line.contains("****-****-****-****"), "{line:?}");
            assert_eq!(line.contains('\u{1b}'), ansi, "{line:?}");
        }
        let json = Json { service: "orders", inner: Format::default().json() };
        let line = told(JsonFields::new(), json, false);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(!line.contains("1111") && value["fields"]["amount"].is_number(), "{line}");
        assert_eq!(value["fields"]["line"], "x\n9999999999999999");
    }

    #[test]
    fn a_wrong_filter_is_a_bad_setting() {
        let mut reader = Reader::from_pairs([("RUST_LOG", "a=b=c"), ("LOG_FORMAT", "xml")]);
        Settings::read(&mut reader);
        let text = reader.finish().unwrap_err().to_string();
        assert!(text.contains("RUST_LOG=a=b=c: not understood"), "{text}");
        assert!(text.contains("LOG_FORMAT=xml: not understood; allowed: text or json"), "{text}");
    }
}
