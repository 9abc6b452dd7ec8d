//! Copies of keys, on the wire.

use super::v1::{ChecksumReply, CopiesReply, CopiesRequest, KeyCopy as Wire, KeyReason, RepairReply};
use crate::{BoxError, Checksum, KeyCopy, Pinned};

pub(super) fn request(after: Option<&str>, upto: Option<&str>, limit: i64) -> CopiesRequest {
    CopiesRequest { after: after.map(str::to_owned), upto: upto.map(str::to_owned), limit }
}

pub(super) fn reply(copies: Vec<KeyCopy>) -> CopiesReply {
    let copy = |KeyCopy { key, version, hash }| Wire { key, version, hash: hash.to_vec() };
    CopiesReply { copies: copies.into_iter().map(copy).collect() }
}

pub(super) fn copies(reply: CopiesReply) -> Result<Vec<KeyCopy>, BoxError> {
    let read = |Wire { key, version, hash }| Ok(KeyCopy { key, version, hash: sha256(hash)? });
    reply.copies.into_iter().map(read).collect()
}

pub(super) fn checksum_reply(checksum: &Checksum) -> ChecksumReply {
    ChecksumReply { count: checksum.count, sha256: checksum.sha256.to_vec() }
}

pub(super) fn checksum(reply: ChecksumReply) -> Result<Checksum, BoxError> {
    Ok(Checksum { count: reply.count, sha256: sha256(reply.sha256)? })
}

pub(super) fn repaired(left: Vec<Pinned>) -> RepairReply {
    RepairReply { left: left.into_iter().map(|Pinned { key, why }| KeyReason { key, why }).collect() }
}

pub(super) fn left(reply: RepairReply) -> Vec<Pinned> {
    reply.left.into_iter().map(|KeyReason { key, why }| Pinned { key, why }).collect()
}

fn sha256(bytes: Vec<u8>) -> Result<[u8; 32], BoxError> {
    bytes.try_into().map_err(|bytes: Vec<u8>| format!("a hash of {} bytes instead of 32", bytes.len()).into())
}

#[cfg(test)]
mod tests {
    use super::{Wire, copies, reply};
    use crate::KeyCopy;
    use crate::control::v1::CopiesReply;

    #[test]
    fn copies_are_read_as_they_were_written_and_a_short_hash_is_an_error() {
        let known = vec![KeyCopy { key: "k".to_owned(), version: 7, hash: [9; 32] }];
        assert_eq!(copies(reply(known.clone())).unwrap(), known);
        let short = Wire { key: "k".to_owned(), version: 7, hash: vec![9; 31] };
        assert!(copies(CopiesReply { copies: vec![short] }).is_err());
    }
}
