//! Names of topics.

/// A logical topic name, checked when the program is compiled. The transport may put a prefix in front of it.
///
/// ```
/// const ORDERS: outbox::Topic = outbox::Topic::new("orders.v1");
/// assert_eq!(ORDERS.name(), "orders.v1");
/// ```
/// ```compile_fail
/// const BAD: outbox::Topic = outbox::Topic::new("Orders v1");
/// ```
/// ```compile_fail
/// const BAD: outbox::Topic = outbox::Topic::new("..");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(&'static str);

impl Topic {
    /// Takes 1 to 200 characters of `a-z`, `0-9`, `.`, `_` and `-`, but not `.` and `..`, which Kafka refuses; anything else does not compile in a constant (and
    /// panics elsewhere). Kafka allows 249 characters; the rest is left for the prefix.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 200, "a topic name has 1 to 200 characters");
        assert!(!matches!(bytes, b"." | b".."), "a topic can't be named . or ..");
        let mut n = 0;
        while n < bytes.len() {
            let ok = matches!(bytes[n], b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
            assert!(ok, "a topic name is made of a-z, 0-9, '.', '_' and '-'");
            n += 1;
        }
        Self(name)
    }

    /// The name without a prefix.
    pub const fn name(self) -> &'static str {
        self.0
    }
}
