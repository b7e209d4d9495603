//! `florin approve`: an operator's own tool. It shows what will be signed, decoded from the intent's bytes and not from what anybody says of them, and signs it on the operator's machine.

use crate::failure::Failure;
use crate::panics;
use crate::secret;
use clap::{Args, Subcommand};
use florin_core::hex;
use florin_signer::approve::{ApproveError, OperatorKey, ShownIntent, approve};
use florin_signer::sealed::SealedError;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// An operator's key and approvals.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ApproveCommand,
}

/// What an operator can do.
#[derive(Debug, Subcommand)]
pub enum ApproveCommand {
    /// Make an operator's key; its public half goes into the signer's policy
    Key(KeyArgs),
    /// Show an intent and sign it
    Intent(IntentArgs),
}

/// Where an operator's key is made.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The new key's file
    #[arg(long, default_value = "operator.key")]
    pub key: PathBuf,
    /// A file with the passphrase, readable by its owner alone; asked for where it is not given
    #[arg(long)]
    pub passphrase_file: Option<PathBuf>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is approved, and with which key.
#[derive(Debug, Args)]
pub struct IntentArgs {
    /// The intent in hexadecimal, as 'florin withdrawal show' prints it
    pub intent: String,
    /// The operator's key
    #[arg(long, default_value = "operator.key")]
    pub key: PathBuf,
    /// A file with the passphrase, readable by its owner alone; asked for where it is not given
    #[arg(long)]
    pub passphrase_file: Option<PathBuf>,
    /// Do not ask whether what is shown is right
    #[arg(long)]
    pub yes: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `florin approve`.
///
/// # Errors
/// `process_exposed`, the codes of the key's file and of the intent, `approval_declined`.
pub fn run(args: &ApproveArgs) -> Result<(), Failure> {
    secret::process::keep_to_itself()?;
    panics::keep_words();
    match &args.command {
        ApproveCommand::Key(args) => make_key(args),
        ApproveCommand::Intent(args) => approve_intent(args),
    }
}

fn failed(what: &str, fault: ApproveError) -> Failure {
    Failure::new(fault.code(), what).because(fault)
}

/// An operator's key that can't be opened.
fn unopened(path: &Path, fault: ApproveError) -> Failure {
    let way_out = match &fault {
        ApproveError::Sealed(fault) => way_out_of(fault),
        ApproveError::Intent(_)
        | ApproveError::NetworkUnknown
        | ApproveError::AddressNone
        | ApproveError::ExpiryInvalid
        | ApproveError::Entropy(_) => None,
    };
    let failure = failed(&format!("the operator's key {} can't be opened", path.display()), fault);
    match way_out {
        Some(way_out) => failure.hint(way_out),
        None => failure,
    }
}

/// The way out where that of the signer's keys, which words make again, is none for an operator's.
fn way_out_of(fault: &SealedError) -> Option<&'static str> {
    match fault {
        SealedError::Missing => Some("name its file with --key, or make one: 'florin approve key'"),
        SealedError::Damaged | SealedError::HeaderInvalid => Some(
            "take it from another copy, or make another with 'florin approve key' and put its public half into the signer's policy",
        ),
        SealedError::PassphraseLength
        | SealedError::Exists
        | SealedError::Exposed { .. }
        | SealedError::NotSealed
        | SealedError::FormatUnknown { .. }
        | SealedError::ContentMismatch { .. }
        | SealedError::PassphraseWrong
        | SealedError::Entropy(_)
        | SealedError::Stretch
        | SealedError::Io(_) => None,
    }
}

fn show(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|fault| Failure::new("output_failed", "nothing could be shown").because(fault))
}

fn make_key(args: &KeyArgs) -> Result<(), Failure> {
    let passphrase = secret::new_passphrase(args.passphrase_file.as_deref())?;
    let key = OperatorKey::create(&args.key, &passphrase).map_err(|fault| failed("no key could be made", fault))?;
    if args.json {
        return show(&json!({ "key": key.public_text(), "file": args.key }).to_string());
    }
    show(&format!("{}\n\nPut this line into the signer's policy: key = \"{}\"", args.key.display(), key.public_text()))
}

fn approve_intent(args: &IntentArgs) -> Result<(), Failure> {
    // Before anybody is asked for its passphrase.
    if !args.key.exists() {
        return Err(unopened(&args.key, SealedError::Missing.into()));
    }
    let bytes = hex::decode(args.intent.trim())
        .ok_or_else(|| Failure::new("intent_invalid", "an intent is written in hexadecimal"))?;
    let shown = ShownIntent::read(&bytes).map_err(|fault| failed("this is no intent that can be approved", fault))?;
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "You are about to approve exactly this:\n\n{shown}");
    if !args.yes {
        let _ = write!(err, "Type 'approve' to sign it: ").and_then(|()| err.flush());
        if !secret::line().is_ok_and(|answer| answer.trim() == "approve") {
            return Err(Failure::new("approval_declined", "nothing was signed"));
        }
    }
    drop(err);
    let passphrase = secret::passphrase(args.passphrase_file.as_deref(), "Passphrase: ")?;
    let key = OperatorKey::open(&args.key, &passphrase).map_err(|fault| unopened(&args.key, fault))?;
    drop(passphrase);
    let approval = approve(&shown, &key);
    if args.json {
        let answer = json!({
            "withdrawal": shown.intent().withdrawal.to_string(),
            "key": hex::encode(&approval.key),
            "signature": hex::encode(&approval.signature),
        });
        return show(&answer.to_string());
    }
    show(&format!("key       {}\nsignature {}", hex::encode(&approval.key), hex::encode(&approval.signature)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_signer::sealed::Passphrase;

    #[test]
    fn an_operator_without_a_key_is_sent_to_the_command_that_makes_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("operator.key");
        let args = IntentArgs { intent: "00".into(), key: key.clone(), passphrase_file: None, yes: true, json: false };
        let missing = approve_intent(&args).expect_err("there is none");
        assert_eq!(missing.code(), "sealed_missing");
        let said = missing.to_string();
        assert!(
            said.contains("operator.key") && said.contains("--key") && said.contains("florin approve key"),
            "{said}"
        );

        let passphrase = || Passphrase::new("correct-horse".to_owned()).expect("long enough");
        OperatorKey::create(&key, &passphrase()).expect("made");
        let mut bytes = std::fs::read(&key).expect("readable");
        bytes[40] ^= 1;
        std::fs::write(&key, bytes).expect("written");
        let damaged = OperatorKey::open(&key, &passphrase()).map(drop).expect_err("it was changed");
        let damaged = unopened(&key, damaged);
        assert_eq!(damaged.code(), "sealed_damaged");
        assert!(damaged.to_string().contains("florin approve key"), "{damaged}");
    }
}
