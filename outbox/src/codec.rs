//! How a message becomes bytes.

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use crate::BoxError;

/// A format. Implemented by marker types, so that the blanket implementations don't overlap.
///
/// Of your own, for one event or for all that fit:
/// ```
/// use outbox::{BoxError, Codec};
///
/// struct Text;
///
/// impl<T: AsRef<str> + From<String>> Codec<T> for Text {
///     const CONTENT_TYPE: &'static str = "text/plain; charset=utf-8";
///
///     fn encode(event: &T) -> Result<Vec<u8>, BoxError> {
///         Ok(event.as_ref().into())
///     }
///
///     fn decode(bytes: &[u8]) -> Result<T, BoxError> {
///         Ok(String::from_utf8(bytes.into())?.into())
///     }
/// }
/// # assert_eq!(<Text as Codec<String>>::decode(&<Text as Codec<String>>::encode(&"hi".to_owned())?)?, "hi");
/// # Ok::<_, BoxError>(())
/// ```
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

/// Protocol Buffers, by prost. A field that this program does not know is passed over, one that is missing has its default:
/// that is how the format grows. So bytes of another message may decode; the kind is what keeps them apart, and an empty
/// payload is a message whose fields all have their defaults.
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

/// JSON, by serde. What an unknown or missing field means is up to the type: `#[serde(default)]`,
/// `#[serde(deny_unknown_fields)]`. A map with keys that are not texts can't be encoded, and a number beyond what serde's type
/// holds can't be decoded.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    /// Written by hand, as a derive needs no `.proto`.
    #[derive(Clone, PartialEq, Message)]
    struct Moved {
        #[prost(string, tag = "1")]
        item: String,
        #[prost(int64, tag = "2")]
        pieces: i64,
    }

    /// The same, older.
    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        item: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Counted {
        pieces: i64,
    }

    #[test]
    fn protobuf_is_read_by_older_and_newer_programs() {
        let moved = Moved { item: "screws \0 ß".into(), pieces: i64::MIN };
        let bytes = Protobuf::encode(&moved).unwrap();
        assert_eq!(<Protobuf as Codec<Moved>>::decode(&bytes).unwrap(), moved);
        let older: Named = Protobuf::decode(&bytes).unwrap();
        assert_eq!(older.item, moved.item);
        let newer: Moved = Protobuf::decode(&Protobuf::encode(&older).unwrap()).unwrap();
        assert_eq!(newer.pieces, 0);
        assert!(<Protobuf as Codec<Moved>>::decode(&bytes[..bytes.len() - 1]).is_err(), "cut short");
        assert!(<Protobuf as Codec<Moved>>::decode(b"\xff\xff\xff").is_err());
    }

    #[test]
    fn json_says_what_it_can_not_read_or_write() {
        let counted = Counted { pieces: i64::MIN };
        let bytes = Json::encode(&counted).unwrap();
        assert_eq!(bytes, br#"{"pieces":-9223372036854775808}"#);
        assert_eq!(<Json as Codec<Counted>>::decode(&bytes).unwrap(), counted);
        let wrong = |bytes: &[u8]| <Json as Codec<Counted>>::decode(bytes).unwrap_err().to_string();
        assert!(wrong(b"{}").contains("missing field `pieces`"));
        assert!(wrong(br#"{"pieces": 9223372036854775808}"#).contains("i64"));
        assert!(wrong(b"").contains("EOF"));
        assert!(wrong(b"{\"pieces\": 1} and more").contains("trailing"));
        let map = BTreeMap::from([((1, 2), 3)]);
        assert!(Json::encode(&map).is_err(), "keys of JSON are texts");
    }
}
