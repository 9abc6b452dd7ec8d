//! Waiting for something to become true, within a bound.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The first pause between two looks; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Looks again and again until `look` answers with a value. A look that fails counts as "not yet": the processes that are
/// asked may be starting, or have just been killed on purpose.
///
/// # Errors
/// When `bound` has passed: what was awaited, and the error of the last look if it had one.
pub async fn until<T>(
    what: &str,
    bound: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        let last = match look().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if started.elapsed() > bound {
            match last {
                Some(error) => return Err(error.context(format!("{what}: not within {} s", bound.as_secs()))),
                None => bail!("{what}: not within {} s", bound.as_secs()),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_the_last_error() {
        let error = until::<()>("the moon", Duration::from_millis(30), async || bail!("it is day"))
            .await
            .unwrap_err();
        assert_eq!(format!("{error:#}"), "the moon: not within 0 s: it is day");
    }

    #[tokio::test]
    async fn a_wait_returns_what_it_waited_for() {
        let mut looks = 0;
        let seen = until("the third look", Duration::from_secs(5), async || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(seen.await.unwrap(), 3);
    }
}
