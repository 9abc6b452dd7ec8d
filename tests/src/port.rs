//! Ports that must be known before a process listens on them, and that must survive its restart.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// Below the range from which Linux takes ports for outgoing connections, so that none of those gets the port while its
/// process is down.
const CHOICE: Range<u16> = 15_000..32_000;
/// How many ports are tried before giving up.
const ATTEMPTS_MAX: usize = 100;

/// A port on loopback, held until its process is about to start.
pub struct Port {
    number: u16,
    held: Mutex<Option<TcpListener>>,
}

impl Port {
    /// Any free port.
    ///
    /// # Errors
    /// When a hundred ports in a row are taken.
    pub fn free() -> Result<Self> {
        (0..ATTEMPTS_MAX)
            .find_map(|_| Self::take(rand::random_range(CHOICE)).ok())
            .with_context(|| format!("no free port in {CHOICE:?} after {ATTEMPTS_MAX} attempts"))
    }

    /// This port if it is free, else any; the second value is false then.
    ///
    /// # Errors
    /// As [`Port::free`].
    pub fn preferred(number: u16) -> Result<(Self, bool)> {
        match Self::take(number) {
            Ok(port) => Ok((port, true)),
            Err(_) => Ok((Self::free()?, false)),
        }
    }

    fn take(number: u16) -> std::io::Result<Self> {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, number))?;
        Ok(Self { number, held: Mutex::new(Some(held)) })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Frees the port for the process that is started next, and returns the address it shall listen on.
    pub fn hand_over(&self) -> String {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        format!("127.0.0.1:{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced() {
        let first = Port::free().unwrap();
        let (second, as_asked) = Port::preferred(first.number()).unwrap();
        assert!(!as_asked);
        assert_ne!(first.number(), second.number());
    }

    #[test]
    fn a_port_handed_over_can_be_bound() {
        let port = Port::free().unwrap();
        assert!(TcpListener::bind(("127.0.0.1", port.number())).is_err(), "held until then");
        TcpListener::bind(port.hand_over()).unwrap();
    }
}
