//! How a message becomes bytes.

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use crate::BoxError;

/// A format. Implemented by marker types, so that the blanket implementations don't overlap.
pub trait Codec<T> {
    /// The `content-type` header of each record.
    const CONTENT_TYPE: &'static str;

    /// The payload of an event.
    ///
    /// # Errors
    /// What the format can't express; nothing is published then.
    fn encode(event: &T) -> Result<Vec<u8>, BoxError>;

    /// The event of a payload.
    ///
    /// # Errors
    /// A payload that is not of this format or shape.
    fn decode(bytes: &[u8]) -> Result<T, BoxError>;
}

/// Protocol Buffers, by prost.
#[derive(Debug, Clone, Copy)]
pub struct Protobuf;

impl<T: Message + Default> Codec<T> for Protobuf {
    const CONTENT_TYPE: &'static str = "application/protobuf";

    fn encode(event: &T) -> Result<Vec<u8>, BoxError> {
        Ok(event.encode_to_vec())
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        Ok(T::decode(bytes)?)
    }
}

/// JSON, by serde.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    const CONTENT_TYPE: &'static str = "application/json";

    fn encode(event: &T) -> Result<Vec<u8>, BoxError> {
        Ok(serde_json::to_vec(event)?)
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}
