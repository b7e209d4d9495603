//! Progress of long work, on a terminal alone. It never writes where a machine might read.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often progress is shown.
const EVERY: Duration = Duration::from_millis(200);

/// Columns that a line of progress takes at most, and is wiped with.
const WIDTH: usize = 78;

/// One line on standard error that is written over and over.
#[derive(Debug)]
pub(super) struct Progress {
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { shown: None, is_terminal: std::io::stderr().is_terminal() }
    }

    /// Whether anybody sees it.
    pub(super) fn is_seen(&self) -> bool {
        self.is_terminal
    }

    /// Shows a line, if it is time to.
    pub(super) fn say(&mut self, text: impl FnOnce() -> String) {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= EVERY);
        if self.is_terminal && is_due {
            self.shown = Some(Instant::now());
            let text: String = text().chars().take(WIDTH).collect();
            // Progress that can't be shown is no fault.
            drop(write!(std::io::stderr(), "\r{text:WIDTH$}"));
        }
    }

    /// As [`Progress::say`], for work of a known size.
    pub(super) fn part(&mut self, what: &str, done: u64, total: u64) {
        self.say(|| {
            let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(100).min(100);
            format!("{what} {done} of {total} ({percent} %)")
        });
    }

    /// Wipes the line, before something else is printed.
    pub(super) fn wipe(&mut self) {
        if self.is_terminal && self.shown.take().is_some() {
            drop(write!(std::io::stderr(), "\r{:WIDTH$}\r", ""));
        }
    }
}
