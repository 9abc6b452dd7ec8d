//! The two kinds of setting that must not show in a log: secrets, and URLs that carry a password.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// A value that only the code that needs it may see: `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself. The name is long so that a review finds each place.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An absolute URL with a host. `Debug` and `Display` mask the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(url::Url);

impl Url {
    /// The whole URL, password included.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// The scheme, lower case: `postgres`, `http`.
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// The user name, percent-decoded; empty when the URL has none.
    pub fn username(&self) -> String {
        decoded(self.0.username())
    }

    /// The password, percent-decoded.
    pub fn password(&self) -> Option<Secret> {
        self.0.password().map(|password| Secret(decoded(password)))
    }

    /// The path without its leading slash: a database URL's database.
    pub fn database(&self) -> &str {
        self.0.path().trim_start_matches('/')
    }
}

impl FromStr for Url {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = url::Url::parse(text)?;
        if parsed.has_host() { Ok(Self(parsed)) } else { Err(url::ParseError::EmptyHost) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(self.0.as_str()))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(self.0.as_str()))
    }
}

/// Hides what stands between `://user:` and the last `@` before the path. Works on text that is not a
/// valid URL too, for it is used in the message that says so.
pub(crate) fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@').or_else(|| rest.rfind('@')) else {
        return text.to_owned();
    };
    let user = rest[..at].split(':').next().unwrap_or_default();
    if user.len() == at { text.to_owned() } else { format!("{scheme}://{user}:***{}", &rest[at..]) }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_shows() {
        let url: Url = "postgres://orders:s3cr%40t@127.0.0.1:5432/shop".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://orders:***@127.0.0.1:5432/shop");
        assert_eq!(format!("{url:?}"), "postgres://orders:***@127.0.0.1:5432/shop");
        assert_eq!(url.password().unwrap().expose(), "s3cr@t");
        assert_eq!((url.username().as_str(), url.database()), ("orders", "shop"));
        assert_eq!(format!("{:?}", Secret::new("s3cret")), "***");
    }

    #[test]
    fn a_broken_url_is_masked_too() {
        assert_eq!(masked("postgres://u:p/w@d@host:x/db"), "postgres://u:***@host:x/db");
        assert_eq!(masked("postgres://u@host/db"), "postgres://u@host/db");
        assert_eq!(masked("no url"), "no url");
    }
}
