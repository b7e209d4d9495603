//! Requests for changes. Each has a key, and whoever asked is told of it wherever the change is not plainly done: without it nobody could ask again
//! without asking for a second one. It never makes up a key where one was given, and never asks twice with two.

use super::Common;
use super::platform::client;
use super::show::{line, record};
use crate::api::ask::new_command_id;
use crate::failure::Failure;
use crate::signals::EndSignals;
use clap::Args;
use florin_core::id::CommandId;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// Which request it is.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyArgs {
    /// The request's key, a UUID of version 7; a fresh one where absent. The same request with the same key is done once, however often it is sent.
    #[arg(long = "key", value_name = "UUID", value_parser = read_key)]
    key: Option<CommandId>,
}

impl KeyArgs {
    /// The key that was given, or a fresh one.
    pub(crate) fn or_fresh(&self) -> String {
        self.key.unwrap_or_else(new_command_id).to_string()
    }
}

fn read_key(text: &str) -> Result<CommandId, &'static str> {
    let key = CommandId::parse(text).filter(|key| key.is_v7());
    key.ok_or("a key is a UUID of version 7, in lower case with hyphens")
}

/// Asks for a change, and prints what came of it.
///
/// # Errors
/// Those of [`crate::client::Client::post_as`], `interrupted`, `output_failed`; each tells the key.
pub(crate) fn change(
    common: &Common,
    key: &KeyArgs,
    path: &str,
    body: &Value,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let key = key.or_fresh();
    let answer = ask(common, &key, path, body)?;
    record(out, common.json, &answer).map_err(|failure| failure.of_change(&key))
}

/// Asks for a change.
///
/// # Errors
/// As [`change`], but for `output_failed`.
pub(crate) fn ask(common: &Common, key: &str, path: &str, body: &Value) -> Result<Value, Failure> {
    let client = client(common)?;
    // On a terminal it stands there before anything is sent: whatever becomes of this process then, somebody can read it.
    if std::io::stderr().is_terminal() {
        say_key(&mut std::io::stderr(), common.json, key)?;
    }
    let (sent_key, path, body) = (key.to_owned(), path.to_owned(), body.clone());
    // Caught before anything is sent. Whoever is told to end waits for no answer, and whether it was done stays open.
    let signals = EndSignals::catch().map_err(|failure| failure.of_change(key))?;
    let answered = signals.unless_told(move || client.post_as(&sent_key, &path, &body));
    let answered = answered.and_then(|answer| answer.unwrap_or_else(|| Err(interrupted())));
    let mut answer = answered.map_err(|failure| failure.of_change(key))?;
    if common.json
        && let Some(fields) = answer.as_object_mut()
    {
        fields.insert("idempotency_key".to_owned(), json!(key));
    }
    Ok(answer)
}

fn say_key(err: &mut dyn Write, json: bool, key: &str) -> Result<(), Failure> {
    let text = if json { json!({ "idempotency_key": key }).to_string() } else { format!("asking with --key {key}") };
    line(err, &text)
}

fn interrupted() -> Failure {
    Failure::new("interrupted", "told to end before an answer came; the change may be done all the same")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_that_the_interface_takes() {
        let key = new_command_id();
        assert_eq!(read_key(&key.to_string()), Ok(key));
        for bad in ["", "x", "9f0b1f0a-3b52-4c7e-9d67-0f4f2b7a1c11", &key.to_string().to_uppercase()] {
            assert!(read_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_key_is_said_so_that_it_can_be_given_again() {
        for (json, said) in [(false, "asking with --key k\n"), (true, "{\"idempotency_key\":\"k\"}\n")] {
            let mut out = Vec::new();
            say_key(&mut out, json, "k").expect("memory takes everything");
            assert_eq!(String::from_utf8(out).expect("text"), said);
        }
    }
}
