//! The one line of stdout that says where a process can be reached, for people and programs alike:
//! `listening http=127.0.0.1:8080 admin=127.0.0.1:8081`.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::str::FromStr;

/// Names and addresses, in the order they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listening(Vec<(String, SocketAddr)>);

impl Listening {
    /// Adds an address; the usual names are `http`, `grpc` and `admin`.
    #[must_use]
    pub fn at(mut self, name: &str, address: SocketAddr) -> Self {
        self.0.push((name.to_owned(), address));
        self
    }

    /// The address of a name.
    pub fn get(&self, name: &str) -> Option<SocketAddr> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, address)| *address)
    }

    /// Prints the line and flushes it, for the reader of a pipe waits for it.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn announce(&self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{self}")?;
        out.flush()
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("listening")?;
        self.0.iter().try_for_each(|(name, address)| write!(f, " {name}={address}"))
    }
}

/// The line was not a `listening` line.
#[derive(Debug, thiserror::Error)]
#[error("not a line of the form `listening NAME=ADDRESS ..`")]
pub struct NotListening;

impl FromStr for Listening {
    type Err = NotListening;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let pairs = line.trim().strip_prefix("listening").ok_or(NotListening)?;
        pairs.split_whitespace().try_fold(Self::default(), |listening, pair| {
            let (name, address) = pair.split_once('=').ok_or(NotListening)?;
            Ok(listening.at(name, address.parse().map_err(|_| NotListening)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_back() {
        let listening = Listening::default()
            .at("http", ([127, 0, 0, 1], 80).into())
            .at("admin", ([127, 0, 0, 1], 81).into());
        assert_eq!(listening.to_string(), "listening http=127.0.0.1:80 admin=127.0.0.1:81");
        assert_eq!(listening.to_string().parse::<Listening>().unwrap(), listening);
        assert!("starting http=127.0.0.1:80".parse::<Listening>().is_err());
    }
}
