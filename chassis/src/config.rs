//! Reads the environment once, at the start, and reports every bad setting at once.
//!
//! A configuration is a plain struct with a `read(&mut Reader) -> Option<Self>`. It asks for each
//! setting first and puts the struct together last, so that one start names all mistakes:
//!
//! ```
//! use chassis::{Reader, Url};
//!
//! struct Config { database: Url, batch_max: u32 }
//!
//! impl Config {
//!     fn read(reader: &mut Reader) -> Option<Self> {
//!         let database = reader.url("DATABASE_URL", &["postgres"], "a URL such as postgres://user:password@host/db");
//!         let batch_max = reader.number("BATCH_MAX", 100, 1..=500);
//!         Some(Self { database: database?, batch_max })
//!     }
//! }
//!
//! let error = chassis::config::read(Reader::from_pairs([("BATCH_MAX", "0")]), Config::read).err();
//! assert_eq!(error.unwrap().to_string(), "\
//! 2 settings are missing or wrong
//!   DATABASE_URL: not set; allowed: a URL such as postgres://user:password@host/db
//!   BATCH_MAX=0: out of range; allowed: a whole number from 1 to 500");
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::setting::{Secret, Url, masked};

/// The shortest key that HS256 signatures are safe with: as long as the digest, 32 bytes.
pub const SIGNING_KEY_MIN: usize = 32;

/// Reads settings by name and remembers every problem.
#[derive(Debug, Default)]
pub struct Reader {
    values: BTreeMap<String, String>,
    problems: Vec<Bad>,
    described: Vec<Described>,
}

/// The settings that stop the start, all of them. `Display` has one line for each.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    problems: Vec<Bad>,
}

#[derive(Debug)]
struct Bad {
    name: &'static str,
    /// Masked where it must be; `None` when the variable is not set.
    value: Option<String>,
    wrong: String,
    allowed: String,
}

#[derive(Debug)]
struct Described {
    name: &'static str,
    default: Option<String>,
    allowed: String,
    secret: bool,
}

/// Reads a process' configuration from the environment. When it is bad, prints why on stderr and ends
/// the process with exit code 2. Call it first in `main`, before anything that needs an orderly end.
pub fn load<C>(config: impl FnOnce(&mut Reader) -> Option<C>) -> C {
    read(Reader::from_env(), config).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(2)
    })
}

/// Reads a configuration with a reader.
///
/// # Errors
/// Names every setting that is missing or wrong.
pub fn read<C>(mut reader: Reader, config: impl FnOnce(&mut Reader) -> Option<C>) -> Result<C, Error> {
    let config = config(&mut reader);
    reader.finish()?;
    // `None` without a noted problem is a slip in the `read` function; it must stop the start as well.
    config.ok_or(Error { problems: Vec::new() })
}

/// The table of settings for `--help`: what `config` asks for, with defaults and what is allowed. Goes
/// to clap's `after_help`.
pub fn help<C>(config: impl FnOnce(&mut Reader) -> Option<C>) -> String {
    let mut reader = Reader::default();
    drop(config(&mut reader));
    let mut text = String::from("Settings, read from the environment:\n");
    for setting in &reader.described {
        let default =
            setting.default.as_ref().map_or_else(|| "required".to_owned(), |it| format!("default {it}"));
        text.push_str(&format!("  {}\n      {} ({default})\n", setting.name, setting.allowed));
    }
    text
}

impl Reader {
    /// A reader of this process' environment. A value that is not UTF-8 is read lossily, so that it is
    /// reported as a wrong value.
    pub fn from_env() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self::from_pairs(std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))))
    }

    /// A reader of given values, for tests.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, ..Self::default() }
    }

    /// A value that must be set. `allowed` says in words what is.
    pub fn required<T: FromStr>(&mut self, name: &'static str, allowed: &str) -> Option<T> {
        self.describe(name, None, allowed);
        let Some(text) = self.get(name) else {
            self.bad(name, None, "not set", allowed);
            return None;
        };
        self.parse(name, &text, allowed)
    }

    /// A value with a default. A wrong value is a problem, never the default.
    pub fn optional<T: FromStr + Display>(&mut self, name: &'static str, default: T, allowed: &str) -> T {
        self.describe(name, Some(default.to_string()), allowed);
        let Some(text) = self.get(name) else { return default };
        self.parse(name, &text, allowed).unwrap_or(default)
    }

    /// A value that may be absent. `absent` says in the help what happens then.
    pub fn maybe<T: FromStr>(&mut self, name: &'static str, absent: &str, allowed: &str) -> Option<T> {
        self.describe(name, Some(absent.to_owned()), allowed);
        let text = self.get(name)?;
        self.parse(name, &text, allowed)
    }

    /// A text, for settings that another crate names: `absent` says in the help what happens without it; `None` when it must
    /// be set.
    pub fn text(&mut self, name: &'static str, absent: Option<&str>, allowed: &str) -> Option<String> {
        match absent {
            None => self.required(name, allowed),
            Some(absent) => self.maybe(name, absent, allowed),
        }
    }

    /// A whole number within bounds.
    pub fn number<T>(&mut self, name: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromStr + Display + PartialOrd + Copy,
    {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let value = self.optional(name, default, &allowed);
        self.within(name, value, default, &range, &allowed)
    }

    /// A duration within bounds, written with its unit: `250ms`, `30s`, `5m`, `2h`.
    pub fn duration(
        &mut self,
        name: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let [low, high, preset] = [*range.start(), *range.end(), default].map(Span);
        let allowed = format!("a duration from {low} to {high}, such as 250ms, 30s, 5m or 2h");
        let value = self.optional(name, preset, &allowed).0;
        self.within(name, value, default, &range, &allowed)
    }

    /// A duration that may be absent, within bounds. `absent` says in the help what happens then.
    pub fn maybe_duration(
        &mut self,
        name: &'static str,
        absent: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let [low, high] = [*range.start(), *range.end()].map(Span);
        let allowed = format!("a duration from {low} to {high}, such as 250ms, 30s, 5m or 2h");
        let Span(value) = self.maybe(name, absent, &allowed)?;
        Some(self.within(name, value, low.0, &range, &allowed))
    }

    /// `true` or `false`.
    pub fn switch(&mut self, name: &'static str, default: bool, meaning: &str) -> bool {
        self.optional(name, default, &format!("true or false: {meaning}"))
    }

    /// A secret that must be set and not be empty. Its value is masked in every message.
    pub fn secret(&mut self, name: &'static str, allowed: &str) -> Option<Secret> {
        self.secret_of(name, 1, allowed)
    }

    /// A secret that may be absent. `absent` says in the help what happens then. Its value is masked in every message.
    pub fn maybe_secret(&mut self, name: &'static str, absent: &str, allowed: &str) -> Option<Secret> {
        let (default, allowed) = (Some(absent.to_owned()), allowed.to_owned());
        self.described.push(Described { name, default, allowed, secret: true });
        self.get(name).map(Secret::new)
    }

    /// A key for signing tokens: a secret of at least [`SIGNING_KEY_MIN`] bytes.
    pub fn signing_key(&mut self, name: &'static str) -> Option<Secret> {
        self.secret_of(name, SIGNING_KEY_MIN, &format!("a secret of at least {SIGNING_KEY_MIN} bytes"))
    }

    /// A URL with one of the given schemes. A password in it is masked in every message.
    pub fn url(&mut self, name: &'static str, schemes: &[&str], allowed: &str) -> Option<Url> {
        self.describe(name, None, allowed);
        let Some(text) = self.get(name) else {
            self.bad(name, None, "not set", allowed);
            return None;
        };
        match text.parse::<Url>() {
            Ok(url) if schemes.contains(&url.scheme()) => return Some(url),
            Ok(_) => self.bad(name, Some(masked(&text)), "wrong scheme", allowed),
            Err(error) => self.bad(name, Some(masked(&text)), &error.to_string(), allowed),
        }
        None
    }

    /// Notes a problem that only the configuration can see, such as two settings that exclude each other.
    pub fn reject(&mut self, name: &'static str, wrong: &str, allowed: &str) {
        let secret = self.described.iter().any(|setting| setting.name == name && setting.secret);
        let value = self.get(name).map(|text| if secret { "***".to_owned() } else { masked(&text) });
        self.bad(name, value, wrong, allowed);
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Names every setting that is missing or wrong.
    pub fn finish(self) -> Result<(), Error> {
        if self.problems.is_empty() { Ok(()) } else { Err(Error { problems: self.problems }) }
    }

    /// An empty value counts as not set, as in compose files.
    fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn parse<T: FromStr>(&mut self, name: &'static str, text: &str, allowed: &str) -> Option<T> {
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            self.bad(name, Some(masked(text)), "not understood", allowed);
        }
        parsed
    }

    fn within<T: PartialOrd>(
        &mut self,
        name: &'static str,
        value: T,
        default: T,
        range: &RangeInclusive<T>,
        allowed: &str,
    ) -> T {
        if range.contains(&value) {
            return value;
        }
        self.bad(name, self.get(name), "out of range", allowed);
        default
    }

    fn secret_of(&mut self, name: &'static str, bytes_min: usize, allowed: &str) -> Option<Secret> {
        self.described.push(Described { name, default: None, allowed: allowed.to_owned(), secret: true });
        match self.get(name) {
            None => self.bad(name, None, "not set", allowed),
            Some(text) if text.len() < bytes_min => self.bad(name, Some("***".into()), "too short", allowed),
            Some(text) => return Some(Secret::new(text)),
        }
        None
    }

    fn describe(&mut self, name: &'static str, default: Option<String>, allowed: &str) {
        self.described.push(Described { name, default, allowed: allowed.to_owned(), secret: false });
    }

    fn bad(&mut self, name: &'static str, value: Option<String>, wrong: &str, allowed: &str) {
        self.problems.push(Bad { name, value, wrong: wrong.to_owned(), allowed: allowed.to_owned() });
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            0 => return write!(f, "the configuration is incomplete, but no setting was reported"),
            1 => write!(f, "1 setting is missing or wrong")?,
            count => write!(f, "{count} settings are missing or wrong")?,
        }
        self.problems.iter().try_for_each(|bad| {
            let value = bad.value.as_ref().map_or_else(String::new, |value| format!("={value}"));
            write!(f, "\n  {}{value}: {}; allowed: {}", bad.name, bad.wrong, bad.allowed)
        })
    }
}

/// A duration as text with one unit.
struct Span(Duration);

impl FromStr for Span {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count: u64 = text[..digits].parse().map_err(drop)?;
        let millis = match text[digits..].trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(()),
        };
        count.checked_mul(millis).map(Duration::from_millis).map(Self).ok_or(())
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => write!(f, "0ms"),
            millis if millis % 3_600_000 == 0 => write!(f, "{}h", millis / 3_600_000),
            millis if millis % 60_000 == 0 => write!(f, "{}m", millis / 60_000),
            millis if millis % 1_000 == 0 => write!(f, "{}s", millis / 1_000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut Reader) -> Option<(u16, Duration, Secret, Url)> {
        let port = reader.required("PORT", "a port");
        let wait = reader.duration(
            "WAIT",
            Duration::from_secs(30),
            Duration::from_millis(1)..=Duration::from_secs(60),
        );
        let key = reader.signing_key("KEY");
        let url = reader.url("URL", &["postgres"], "postgres://user:password@host/db");
        Some((port?, wait, key?, url?))
    }

    #[test]
    fn every_bad_setting_is_named_and_secrets_are_masked() {
        let pairs =
            [("PORT", "eighty"), ("WAIT", "5m"), ("KEY", "hunter2"), ("URL", "mysql://u:hunter2@h/db")];
        let error = read(Reader::from_pairs(pairs), all).unwrap_err();
        assert_eq!(
            error.to_string(),
            "4 settings are missing or wrong\n  \
             PORT=eighty: not understood; allowed: a port\n  \
             WAIT=5m: out of range; allowed: a duration from 1ms to 1m, such as 250ms, 30s, 5m or 2h\n  \
             KEY=***: too short; allowed: a secret of at least 32 bytes\n  \
             URL=mysql://u:***@h/db: wrong scheme; allowed: postgres://user:password@host/db"
        );
    }

    #[test]
    fn good_settings_are_read_and_defaults_fill_in() {
        let key = "k".repeat(SIGNING_KEY_MIN);
        let pairs = [("PORT", "80"), ("KEY", key.as_str()), ("URL", "postgres://u:p@h/db"), ("WAIT", "")];
        let (port, wait, secret, url) = read(Reader::from_pairs(pairs), all).unwrap();
        assert_eq!(
            (port, wait, secret.expose(), url.expose()),
            (80, Duration::from_secs(30), &*key, "postgres://u:p@h/db")
        );
    }

    #[test]
    fn a_secret_that_the_configuration_rejects_stays_masked() {
        let mut reader = Reader::from_pairs([("KEY", "hunter2")]);
        reader.secret("KEY", "a key that starts with sk_");
        reader.reject("KEY", "not a key", "a key that starts with sk_");
        assert_eq!(
            reader.finish().unwrap_err().to_string(),
            "1 setting is missing or wrong\n  KEY=***: not a key; allowed: a key that starts with sk_"
        );
    }

    #[test]
    fn help_lists_every_setting_without_reading_any() {
        assert_eq!(
            help(all),
            "Settings, read from the environment:\n  \
             PORT\n      a port (required)\n  \
             WAIT\n      a duration from 1ms to 1m, such as 250ms, 30s, 5m or 2h (default 30s)\n  \
             KEY\n      a secret of at least 32 bytes (required)\n  \
             URL\n      postgres://user:password@host/db (required)\n"
        );
    }
}
