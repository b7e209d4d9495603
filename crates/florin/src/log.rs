//! The log of a process: to standard error, through one subscriber. It decides what is written and how, and never what is said.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines for people.
    Lines,
    /// An object a line.
    Json,
}

impl Form {
    /// Of what prints JSON where that is asked for, and else lines.
    pub(crate) fn of_output(json: bool) -> Form {
        if json { Form::Json } else { Form::Lines }
    }

    /// Of a service: lines on a terminal, JSON elsewhere or where it is asked for.
    pub(crate) fn of_service(json: bool) -> Form {
        Form::of_output(json || !std::io::stderr().is_terminal())
    }
}

/// What `FLORIN_LOG` says is logged, and where it says nothing, everything from this level on.
pub(crate) fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_from_env("FLORIN_LOG").unwrap_or_else(|_| EnvFilter::new(level))
}

/// What a command logs that ends by itself: it says how it ends, and only what could not be said so is logged.
pub(crate) fn filter_of_command() -> EnvFilter {
    EnvFilter::new("error")
}

/// Begins to log. A second begin in one process keeps the first one's log.
pub(crate) fn start(form: Form, filter: EnvFilter) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    drop(match form {
        Form::Json => builder.json().try_init(),
        Form::Lines => builder.with_target(false).try_init(),
    });
}
