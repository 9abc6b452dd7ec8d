//! Many copies in one number, so that equal ones need not be sent.

use sha2::{Digest as _, Sha256};

use crate::KeyCopy;

/// How many copies there are, and a hash over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// How many.
    pub count: i64,
    /// SHA-256 over each copy in order: the key's length (64 bit, big endian), the key, the version (64 bit, big endian), the hash.
    pub sha256: [u8; 32],
}

impl Checksum {
    /// Of these copies, in this order.
    pub fn of(copies: &[KeyCopy]) -> Self {
        let mut hash = Sha256::new();
        for KeyCopy { key, version, hash: state } in copies {
            hash.update(u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(key);
            hash.update(version.to_be_bytes());
            hash.update(state);
        }
        Self { count: i64::try_from(copies.len()).unwrap_or(i64::MAX), sha256: hash.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;
    use crate::KeyCopy;

    fn copy(key: &str, version: i64, first: u8) -> KeyCopy {
        let mut hash = [0; 32];
        hash[0] = first;
        KeyCopy { key: key.to_owned(), version, hash }
    }

    #[test]
    fn any_part_of_any_copy_changes_it() {
        let known = Checksum::of(&[copy("a", 1, 0), copy("bc", 2, 0)]);
        assert_eq!(known.count, 2);
        assert_eq!(known, Checksum::of(&[copy("a", 1, 0), copy("bc", 2, 0)]));
        for other in [
            vec![copy("a", 1, 0)],
            vec![copy("bc", 2, 0), copy("a", 1, 0)],
            vec![copy("ab", 1, 0), copy("c", 2, 0)],
            vec![copy("a", 1, 0), copy("bc", 3, 0)],
            vec![copy("a", 1, 0), copy("bc", 2, 1)],
        ] {
            assert_ne!(Checksum::of(&other), known, "{other:?}");
        }
    }
}
