//! What is going on: a spinner on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// Where the demo is.
pub(crate) struct Progress {
    spinner: Option<ProgressBar>,
    started: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let spinner = std::io::stdout().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}");
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(TURN);
            spinner
        });
        Self { spinner, started: Instant::now() }
    }

    /// Something begins that takes a while.
    pub(crate) fn begin(&self, what: &str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(what.to_owned()),
            None => self.print(&format!("{what} ..")),
        }
    }

    /// How far it is; shown on a terminal only.
    pub(crate) fn at(&self, how_far: String) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(how_far);
        }
    }

    /// Something happened that is worth a line.
    pub(crate) fn say(&self, what: &str) {
        self.print(what);
    }

    /// Nothing more comes.
    pub(crate) fn end(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn print(&self, what: &str) {
        let line = format!("[{:>6.1} s] {what}", self.seconds());
        match &self.spinner {
            Some(spinner) => spinner.println(line),
            None => println!("{line}"),
        }
    }
}
