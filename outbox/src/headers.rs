//! Headers beside an event's payload.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Text headers of an event, such as `tenant` and `traceparent`. Names that start with `ce_` or `banyan-`, and
/// `content-type`, are written by the outbox itself; a value set here under such a name is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// Sets a header, replacing an earlier value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// A header's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Drops what only the outbox itself may say of an event.
    pub(crate) fn drop_own(&mut self) {
        self.0.retain(|name, _| !name.starts_with("ce_") && !name.starts_with("banyan-"));
    }

    /// All headers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}
