//! A circuit breaker before the provider, so that one that is down is not asked by everyone all the time.
//!
//! It opens on requests in a row that no sound answer came to: none at all, or a server's fault. A decline, a refusal, a kept
//! fault: the provider is at work. What is not sent is [`Failure::NotNow`], which decides nothing, so nothing is lost by it; the
//! resolver's own backoff goes on. It holds requests back as well for as long as the provider asks (429 with `Retry-After`).

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use failsafe::backoff::{Exponential, exponential};
use failsafe::failure_policy::{ConsecutiveFailures, consecutive_failures};
use failsafe::{Instrument, StateMachine};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Failure;

/// Requests in a row without a sound answer that open it.
const FAILURES: u32 = 10;
/// How long it is open at first; doubling ..
const OPEN_MIN: Duration = Duration::from_secs(1);
/// .. and at last. An outcome is to be known within a minute of the provider being back.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// Whether requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// All.
    Closed,
    /// One at a time, to see how it goes.
    HalfOpen,
    /// None.
    Open,
}

/// What the breaker shows of itself. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lamp(Arc<AtomicU8>);

/// The breaker.
pub(crate) struct Circuit {
    machine: StateMachine<ConsecutiveFailures<Exponential>, Lamp>,
    lamp: Lamp,
    probe: Semaphore,
    held_until: Mutex<Option<Instant>>,
}

/// A request that may be sent; half open, the only one.
pub(crate) struct Admitted<'a>(#[expect(dead_code, reason = "held")] Option<SemaphorePermit<'a>>);

impl Circuit {
    pub(crate) fn new(lamp: Lamp) -> Self {
        Self::with(lamp, OPEN_MIN, OPEN_MAX)
    }

    fn with(lamp: Lamp, open_min: Duration, open_max: Duration) -> Self {
        let policy = consecutive_failures(FAILURES, exponential(open_min, open_max));
        let machine = StateMachine::new(policy, lamp.clone());
        Self { machine, lamp, probe: Semaphore::new(1), held_until: Mutex::default() }
    }

    /// Whether a request may be sent now. Held until it is answered.
    ///
    /// # Errors
    /// [`Failure::NotNow`].
    pub(crate) fn admit(&self) -> Result<Admitted<'_>, Failure> {
        if let Some(after) = self.held() {
            return Err(Failure::NotNow { why: "the provider asked for a pause".to_owned(), after });
        }
        let open = || Failure::NotNow { why: "the circuit is open".to_owned(), after: Duration::ZERO };
        if !self.machine.is_call_permitted() {
            return Err(open());
        }
        match self.lamp.position() {
            Position::HalfOpen => Ok(Admitted(Some(self.probe.try_acquire().map_err(|_| open())?))),
            Position::Closed | Position::Open => Ok(Admitted(None)),
        }
    }

    /// A sound answer came, or none.
    pub(crate) fn answered(&self, sound: bool) {
        if sound { self.machine.on_success() } else { self.machine.on_error() }
    }

    /// Sends nothing for this long.
    pub(crate) fn hold(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut held_until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        *held_until = Some(held_until.map_or(until, |held| held.max(until)));
    }

    fn held(&self) -> Option<Duration> {
        let until = (*self.held_until.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }
}

impl Lamp {
    pub(crate) fn position(&self) -> Position {
        match self.0.load(Ordering::Relaxed) {
            0 => Position::Closed,
            1 => Position::HalfOpen,
            _ => Position::Open,
        }
    }

    /// As a number: 0 closed, 1 half open, 2 open.
    pub(crate) fn number(&self) -> i64 {
        self.0.load(Ordering::Relaxed).into()
    }

    fn show(&self, number: u8) {
        self.0.store(number, Ordering::Relaxed);
    }
}

impl Instrument for Lamp {
    fn on_call_rejected(&self) {}

    fn on_open(&self) {
        self.show(2);
        tracing::warn!(
            failures = FAILURES,
            "the provider does not answer; requests are held back for a while"
        );
    }

    fn on_half_open(&self) {
        self.show(1);
    }

    fn on_closed(&self) {
        if self.number() != 0 {
            tracing::info!("the provider answers again");
        }
        self.show(0);
    }
}

impl std::fmt::Debug for Circuit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Circuit").field("position", &self.lamp.position()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(1);

    fn circuit() -> Circuit {
        Circuit::with(Lamp::default(), OPEN, OPEN)
    }

    fn fail(circuit: &Circuit, times: u32) {
        for _ in 0..times {
            let admitted = circuit.admit();
            assert!(admitted.is_ok());
            circuit.answered(false);
        }
    }

    /// Five times as long as it is open.
    async fn until_half_open(circuit: &Circuit) -> Admitted<'_> {
        for _ in 0..500 {
            if let Ok(probe) = circuit.admit() {
                return probe;
            }
            tokio::time::sleep(OPEN / 100).await;
        }
        panic!("the circuit stays open");
    }

    #[tokio::test]
    async fn it_opens_on_failures_in_a_row_and_lets_one_request_look() {
        let circuit = circuit();
        fail(&circuit, FAILURES - 1);
        circuit.answered(true);
        fail(&circuit, FAILURES - 1);
        assert_eq!(circuit.lamp.position(), Position::Closed, "they were not in a row");
        fail(&circuit, 1);
        assert_eq!(circuit.lamp.position(), Position::Open);
        assert!(matches!(circuit.admit(), Err(Failure::NotNow { .. })));

        let probe = until_half_open(&circuit).await;
        assert!(circuit.admit().is_err(), "one at a time");
        circuit.answered(false);
        drop(probe);
        assert_eq!(circuit.lamp.position(), Position::Open);
        let probe = until_half_open(&circuit).await;
        circuit.answered(true);
        drop(probe);
        assert_eq!((circuit.lamp.position(), circuit.admit().is_ok()), (Position::Closed, true));
    }

    #[tokio::test]
    async fn a_probe_whose_caller_leaves_frees_its_place() {
        let circuit = circuit();
        fail(&circuit, FAILURES);
        drop(until_half_open(&circuit).await);
        assert!(circuit.admit().is_ok());
    }

    #[test]
    fn the_providers_own_pause_is_kept() {
        let circuit = circuit();
        circuit.hold(Duration::from_secs(5));
        circuit.hold(Duration::from_secs(1));
        let Err(Failure::NotNow { after, .. }) = circuit.admit() else { panic!("it was admitted") };
        assert!(after > Duration::from_secs(4), "the longer pause counts");
        assert_eq!(circuit.lamp.position(), Position::Closed);
    }
}
