//! Everything that leaves the processes: databases, topics, logs, the provider's journal, numbers and spans.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use sqlx::{AssertSqlSafe, PgPool};
use tests::{Shop, World};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::{CARD, escaped, groups_of_four, in_percent, wide};

/// What was found where.
pub(super) struct Outputs(Vec<(String, Vec<u8>)>);

/// A collector of spans that keeps what it gets.
pub(super) struct Collector {
    address: String,
    spans: Spans,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<u8>>>);

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let bytes = request.into_inner().encode_to_vec();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let (spans, shutdown) = (Spans::default(), CancellationToken::new());
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(spans.clone()));
        let stopped = shutdown.clone().cancelled_owned();
        let serving = tokio::spawn(server.serve_with_incoming_shutdown(TcpIncoming::from(listener), stopped));
        Ok(Self { address, spans, shutdown, serving })
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    pub(super) async fn stop(self) -> Result<Vec<u8>> {
        self.shutdown.cancel();
        self.serving.await??;
        Ok(std::mem::take(&mut *self.spans.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What each process shows at `/metrics`.
pub(super) async fn metrics(world: &World) -> Result<Vec<(String, Vec<u8>)>> {
    let mut shown = Vec::new();
    for (name, listening, _) in world.processes().await {
        let address = listening.get("admin").with_context(|| format!("{name} has no admin address"))?;
        let text = reqwest::get(format!("http://{address}/metrics")).await?.text().await?;
        shown.push((format!("metrics/{name}"), text.into_bytes()));
    }
    Ok(shown)
}

impl Outputs {
    pub(super) async fn gather(
        shop: &Shop<'_>,
        world: &World,
        metrics: Vec<(String, Vec<u8>)>,
        spans: Vec<u8>,
    ) -> Result<Self> {
        let mut all = metrics;
        all.push(("spans".to_owned(), spans));
        for (name, pool) in [("monolith", &shop.source), ("service", &shop.target)] {
            all.extend(tables(name, pool).await?);
        }
        for topic in topics(shop).await? {
            let records = world.kafka().read(&topic).await?;
            let bytes = records.into_iter().flat_map(|record| {
                let headers = format!(" {} {:?} ", record.key, record.headers);
                [headers.into_bytes(), record.payload].concat()
            });
            all.push((format!("topic/{topic}"), bytes.collect()));
        }
        for entry in std::fs::read_dir(world.logs())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all.push((name, std::fs::read(&path)?));
        }
        Ok(Self(all))
    }

    /// Where a number stands: as digits in any grouping, also in hexadecimal, as a varint of protobuf, in the other forms in which
    /// clients sent it, or as a list of bytes.
    pub(super) fn places_of_digits(&self, digits: &str) -> Vec<&str> {
        let number = varint(digits.parse().unwrap_or_default());
        let forms = forms(digits);
        let is_in = |bytes: &[u8]| {
            let is_digit = |byte: &&u8| !matches!(byte, b' ' | b'-');
            let plain: Vec<u8> = bytes.iter().filter(is_digit).copied().collect();
            let text = String::from_utf8_lossy(bytes);
            holds(&plain, digits.as_bytes())
                || holds(bytes, &number)
                || forms.iter().any(|form| text.contains(form))
        };
        let found = self.0.iter().filter(|(_, bytes)| is_in(bytes));
        found.map(|(place, _)| place.as_str()).collect()
    }

    /// Whether a place has a text.
    pub(super) fn has(&self, place: &str, text: &str) -> bool {
        self.0.iter().any(|(name, bytes)| name == place && holds(bytes, text.as_bytes()))
    }
}

/// Every row of every table as text; bytes are appended as they are.
async fn tables(database: &str, pool: &PgPool) -> Result<Vec<(String, Vec<u8>)>> {
    let sql = "select format('%I.%I', schemaname, tablename) from pg_tables
        where schemaname not in ('pg_catalog', 'information_schema')";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await?;
    let mut tables = Vec::new();
    for name in names {
        let sql = AssertSqlSafe(format!("select t::text from {name} t"));
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await?;
        let bytes = rows.iter().flat_map(|row| [row.as_bytes(), &unhexed(row)].concat());
        tables.push((format!("{database}/{name}"), bytes.collect()));
    }
    Ok(tables)
}

/// The bytes that stand behind each `\x` of a row's text.
fn unhexed(row: &str) -> Vec<u8> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_hexdigit).collect::<String>();
    let values = row.split("\\x").skip(1).map(digits);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or("0"), 16).unwrap_or(0);
    values.flat_map(|value| value.as_bytes().chunks(2).map(byte).collect::<Vec<u8>>()).collect()
}

async fn topics(shop: &Shop<'_>) -> Result<BTreeSet<String>> {
    let mut topics = BTreeSet::new();
    for pool in [&shop.source, &shop.target] {
        let found: Vec<String> =
            sqlx::query_scalar("select distinct topic from outbox.head").fetch_all(pool).await?;
        topics.extend(found);
    }
    Ok(topics)
}

/// What a log shows of a number that it repeats as it came.
fn forms(digits: &str) -> [String; 5] {
    let listed = digits.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    [in_percent(digits), groups_of_four(digits, "%20"), escaped(digits), wide(digits), listed]
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

pub(super) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[test]
fn a_number_is_found_in_every_form_in_which_it_was_sent() {
    let grouped = [" ", "-"].map(|between| groups_of_four(CARD, between));
    for form in forms(CARD).into_iter().chain(grouped).chain([CARD.to_owned()]) {
        let line = format!("INFO refused \"{form}\" at once");
        assert_eq!(
            Outputs(vec![("log".to_owned(), line.into_bytes())]).places_of_digits(CARD),
            ["log"],
            "{form}"
        );
    }
    let other = Outputs(vec![("log".to_owned(), b"INFO refused 4111-1111-1111-1112".to_vec())]);
    assert_eq!(other.places_of_digits(CARD), [] as [&str; 0]);
}
