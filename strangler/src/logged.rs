//! What a consumer misses of a key, and what the log of the home that published it has of that.

use crate::Error;
use crate::peer::KEY_BYTES_MAX;

/// What a consumer misses of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing<'a> {
    /// The stream, as the home that published it names it.
    pub topic: &'a str,
    /// The key.
    pub key: &'a str,
    /// Versions after this one, 0 or more ..
    pub after: i64,
    /// .. until this one.
    pub until: i64,
    /// The most events to answer with, 1 to [`Missing::LIMIT_MAX`].
    pub limit: i64,
}

/// An event as its home published it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The stream.
    pub topic: String,
    /// The key.
    pub key: String,
    /// The version in the key's stream.
    pub version: i64,
    /// As a consumer of the topic reads them.
    pub headers: Vec<(String, String)>,
    /// The bytes, as they were published.
    pub payload: Vec<u8>,
}

impl Missing<'_> {
    /// The most events in one answer.
    pub const LIMIT_MAX: i64 = 1_000;

    /// Refuses what no log could answer.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (field, value) in [("topic", self.topic), ("key", self.key)] {
            if !(1..=KEY_BYTES_MAX).contains(&value.len()) {
                let reason = format!("must be 1 to {KEY_BYTES_MAX} bytes long, not {}", value.len());
                return Err(Error::Invalid { field, reason });
            }
        }
        if self.after < 0 || self.after >= self.until {
            let reason = format!("must be 0 or more and below `until`, {}, not {}", self.until, self.after);
            return Err(Error::Invalid { field: "after", reason });
        }
        if !(1..=Self::LIMIT_MAX).contains(&self.limit) {
            let reason = format!("must be 1 to {}, not {}", Self::LIMIT_MAX, self.limit);
            return Err(Error::Invalid { field: "limit", reason });
        }
        Ok(())
    }

    /// Refuses an answer with events that were not asked for: a log that gives them is not this key's. The texts of the answer are not
    /// repeated, for they may be of any length.
    pub(crate) fn verify(&self, events: &[Logged]) -> Result<(), String> {
        let Self { topic, key, until, limit, .. } = self;
        if !i64::try_from(events.len()).is_ok_and(|found| found <= *limit) {
            return Err(format!("{limit} events of {topic}/{key} were asked for, and {} came", events.len()));
        }
        let mut last = self.after;
        for event in events {
            if event.topic != *topic || event.key != *key {
                return Err(format!("an event of another topic or key came for {topic}/{key}"));
            }
            let version = event.version;
            if version <= last || version > *until {
                return Err(format!(
                    "version {version} of {topic}/{key} came after {last}, with those until {until} asked for"
                ));
            }
            last = version;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Logged, Missing};

    const MISSING: Missing<'static> = Missing { topic: "prices.v1", key: "k", after: 2, until: 5, limit: 2 };

    fn event(topic: &str, key: &str, version: i64) -> Logged {
        let (topic, key) = (topic.to_owned(), key.to_owned());
        Logged { topic, key, version, headers: Vec::new(), payload: Vec::new() }
    }

    #[test]
    fn a_question_that_no_log_could_answer_is_refused_with_the_field() {
        assert!(MISSING.check().is_ok());
        let long = "k".repeat(256);
        let bad = [
            (Missing { topic: "", ..MISSING }, "topic: must be 1 to 255 bytes"),
            (Missing { key: &long, ..MISSING }, "key: must be 1 to 255 bytes long, not 256"),
            (Missing { after: -1, ..MISSING }, "after: must be 0 or more"),
            (Missing { after: 5, ..MISSING }, "below `until`, 5, not 5"),
            (Missing { limit: 0, ..MISSING }, "limit: must be 1 to 1000, not 0"),
            (Missing { limit: 1_001, ..MISSING }, "limit: must be 1 to 1000, not 1001"),
        ];
        for (missing, text) in bad {
            let refused = missing.check().unwrap_err().to_string();
            assert!(refused.contains(text), "{refused:?} lacks {text:?}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_taken_and_in_order() {
        let of = |versions: &[i64]| -> Vec<Logged> {
            versions.iter().map(|version| event("prices.v1", "k", *version)).collect()
        };
        for right in [&[][..], &[3], &[3, 5], &[4, 5]] {
            assert_eq!(MISSING.verify(&of(right)), Ok(()), "{right:?}");
        }
        for wrong in [&[2][..], &[6], &[4, 3], &[3, 3], &[3, 4, 5]] {
            assert!(MISSING.verify(&of(wrong)).is_err(), "{wrong:?}");
        }
        assert!(MISSING.verify(&[event("prices.v1", "other", 3)]).is_err());
        assert!(MISSING.verify(&[event("other.v1", "k", 3)]).is_err());
    }
}
