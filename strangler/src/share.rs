//! The written hash that decides at which percent a key is born at the target.

use sha2::{Digest as _, Sha256};

/// The share of a key, 0 to 99: the first eight bytes of SHA-256 over salt and key as an unsigned big-endian number, modulo
/// 100. A key is born at the target when its share is below the percent. `strangler.share` in SQL is the same function and
/// the one that decides; this one explains.
pub fn share(salt: &str, key: &str) -> u8 {
    let digest = Sha256::new().chain_update(salt).chain_update(key).finalize();
    let rest = digest.iter().take(8).fold(0_u16, |rest, byte| (rest * 256 % 100 + u16::from(*byte)) % 100);
    u8::try_from(rest).unwrap_or(99)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn the_hash_is_the_written_one() {
        // printf %s 'saltkey' | sha256sum, first 16 digits, modulo 100.
        assert_eq!(share("", ""), u8::try_from(0xe3b0_c442_98fc_1c14_u64 % 100).unwrap());
        assert_eq!(share("", "abc"), u8::try_from(0xba78_16bf_8f01_cfea_u64 % 100).unwrap());
        assert_eq!(share("a", "bc"), share("ab", "c"));
    }
}
