//! What every `main` does around its work.

use std::borrow::Cow;
use std::fmt::Display;
use std::process::ExitCode;

use crate::card;
use crate::telemetry::{self, Settings, Telemetry};

/// Runs a process' work: a runtime, the TLS library, telemetry under `service`'s name, then the work; in the end the last
/// spans are sent. The exit code is 0 after an orderly end, 1 when something failed, with the reason on stderr.
pub fn run<F, E>(service: &'static str, settings: &Settings, work: impl FnOnce(Telemetry) -> F) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let fail = |reason: String| {
        eprintln!("{service}: {}", card::mask(&reason));
        ExitCode::FAILURE
    };
    // Two TLS libraries may be linked one day; the choice is made here, once.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("a TLS library was chosen before".into());
    }
    keep_card_numbers_out_of_panics();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format!("the runtime can't be started: {error}")),
    };
    let _inside = runtime.enter();
    let telemetry = match telemetry::init(service, settings) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(chain(&error)),
    };
    let result = runtime.block_on(work(telemetry.clone()));
    telemetry.stop();
    result.map_or_else(|error| fail(format!("{error:#}")), |()| ExitCode::SUCCESS)
}

/// A panic's message is printed by the runtime, past the log, and may quote what was sent.
fn keep_card_numbers_out_of_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.payload_as_str().map(card::mask) {
        Some(Cow::Owned(masked)) => eprintln!("a thread panicked at {:?}: {masked}", panic.location()),
        _ => usual(panic),
    }));
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        text.push_str(&format!(": {source}"));
        at = source.source();
    }
    text
}
