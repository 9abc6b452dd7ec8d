//! The number in every field of every message that the service's reflection describes, and in its metadata.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorProto};
use tests::{SERVICE, Shop};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt as _;

use super::outputs::varint;
use super::{CARD, groups_of_four};

const HOUR: Duration = Duration::from_secs(3600);
/// What takes no card number because it keeps nothing of what it is sent.
const OPEN: [&str; 2] = ["grpc.health.", "grpc.reflection."];
/// The metadata that the service reads.
const METADATA: [&str; 3] = ["x-tenant", "x-actor", "x-authority-epoch"];

/// Plants it everywhere; returns how many calls were refused.
pub(super) async fn refused(shop: &Shop<'_>) -> Result<usize> {
    let address = format!("http://127.0.0.1:{}", shop.ports.grpc.number());
    let channel = Channel::from_shared(address)?.connect().await?;
    let token = shop.issuer().issue_service("monolith", SERVICE, HOUR)?;
    let mut count = 0;
    for file in files(channel.clone()).await? {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let messages = planted(&file, method.input_type(), 4);
                let bare = message(&file, method.input_type()).is_some_and(|it| it.field.is_empty());
                ensure!(bare || !messages.is_empty(), "nothing can be planted in {path}");
                for message in messages {
                    let request = with_token(message, &token, "acme")?;
                    told(send(&channel, &path, request).await).with_context(|| path.clone())?;
                    count += 1;
                }
                for name in METADATA {
                    let mut request = with_token(Vec::new(), &token, "acme")?;
                    request.metadata_mut().insert(name, CARD.parse()?);
                    told(send(&channel, &path, request).await).with_context(|| format!("{path} {name}"))?;
                    count += 1;
                }
            }
            let nowhere = format!("/{}.{}/{CARD}", file.package(), service.name());
            told(send(&channel, &nowhere, with_token(Vec::new(), &token, "acme")?).await)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The files of all services but the open ones, by reflection.
async fn files(channel: Channel) -> Result<Vec<FileDescriptorProto>> {
    let mut names = Vec::new();
    if let MessageResponse::ListServicesResponse(list) =
        ask(&channel, MessageRequest::ListServices(String::new())).await?
    {
        names.extend(list.service.into_iter().map(|service| service.name));
    }
    let mut files = Vec::new();
    for name in names.iter().filter(|name| !OPEN.iter().any(|open| name.starts_with(open))) {
        let answer = ask(&channel, MessageRequest::FileContainingSymbol(name.clone())).await?;
        let MessageResponse::FileDescriptorResponse(file) = answer else { anyhow::bail!("{answer:?}") };
        for bytes in file.file_descriptor_proto {
            files.push(FileDescriptorProto::decode(bytes.as_slice())?);
        }
    }
    files.dedup_by(|one, other| one.name() == other.name());
    ensure!(files.len() >= 2, "payments and the migration's control");
    Ok(files)
}

async fn ask(channel: &Channel, question: MessageRequest) -> Result<MessageResponse> {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(futures::stream::iter([request])).await?.into_inner();
    answers.message().await?.and_then(|answer| answer.message_response).context("no answer")
}

/// A message of the file, by its full name.
fn message<'a>(file: &'a FileDescriptorProto, name: &str) -> Option<&'a DescriptorProto> {
    let short = name.rsplit('.').next().unwrap_or_default();
    file.message_type.iter().find(|it| it.name() == short)
}

/// Messages with the number in one field each: as text, and as a number where the field is one.
fn planted(file: &FileDescriptorProto, name: &str, depth: u8) -> Vec<Vec<u8>> {
    let Some(message) = message(file, name) else { return Vec::new() };
    let text = |card: &str| card.as_bytes().to_vec();
    let mut all = Vec::new();
    for field in &message.field {
        let number = u64::from(field.number().unsigned_abs());
        let values = match field.r#type() {
            Type::Message if depth > 0 => planted(file, field.type_name(), depth - 1),
            Type::String | Type::Bytes => {
                vec![text(CARD), text(&groups_of_four(CARD, "-")), [text(CARD), vec![b' '; 32]].concat()]
            }
            _ => {
                all.push([varint(number << 3), varint(CARD.parse().unwrap_or_default())].concat());
                continue;
            }
        };
        let delimited =
            |value: Vec<u8>| [varint(number << 3 | 2), varint(value.len() as u64), value].concat();
        all.extend(values.into_iter().map(delimited));
    }
    all
}

fn with_token(message: Vec<u8>, token: &str, tenant: &str) -> Result<Request<Bytes>> {
    let mut request = Request::new(Bytes::from(message));
    request.metadata_mut().insert("x-tenant", tenant.parse()?);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}

async fn send(channel: &Channel, path: &str, request: Request<Bytes>) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = path.parse().map_err(|_| Status::internal("no path"))?;
    grpc.unary(request, path, Raw).await.map(tonic::Response::into_inner)
}

/// Refused by its own code, and not repeated.
fn told(answer: Result<Bytes, Status>) -> Result<()> {
    let Err(status) = answer else { anyhow::bail!("it was let in") };
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    ensure!(status.code() == Code::InvalidArgument && reason.as_deref() == Some("CARD_NUMBER"), "{status:?}");
    ensure!(
        !status.message().contains("1111") && !String::from_utf8_lossy(status.details()).contains("1111"),
        "{status:?}"
    );
    Ok(())
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
