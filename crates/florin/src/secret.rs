//! How a passphrase gets into the program: from a file that only its owner reads, or typed at a prompt. Never from an argument, where every process could see it.

use crate::failure::Failure;
use florin_signer::sealed::Passphrase;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use zeroize::Zeroize;

/// Reads a passphrase from `file`, or asks for it.
///
/// # Errors
/// `passphrase_unreadable`, `passphrase_exposed`, or the key store's own refusal of it.
pub fn passphrase(file: Option<&Path>, prompt: &str) -> Result<Passphrase, Failure> {
    let text = match file {
        Some(path) => from_file(path)?,
        None => typed(prompt)?,
    };
    Passphrase::new(text).map_err(|fault| Failure::new(fault.code(), "this passphrase can't be used").because(fault))
}

/// As [`passphrase`], typed twice when it is typed: a slip would lock the new file for ever.
///
/// # Errors
/// As [`passphrase`], and `passphrase_differs`.
pub fn new_passphrase(file: Option<&Path>) -> Result<Passphrase, Failure> {
    if file.is_none() {
        let (mut first, mut second) = (typed("New passphrase: ")?, typed("Once more: ")?);
        let same = first == second;
        second.zeroize();
        if !same {
            first.zeroize();
            return Err(Failure::new("passphrase_differs", "the two passphrases differ"));
        }
        return Passphrase::new(first)
            .map_err(|fault| Failure::new(fault.code(), "this passphrase can't be used").because(fault));
    }
    passphrase(file, "")
}

fn from_file(path: &Path) -> Result<String, Failure> {
    let unreadable =
        |fault| Failure::new("passphrase_unreadable", format!("{} can't be read", path.display())).because(fault);
    let mode = std::fs::metadata(path).map_err(unreadable)?.mode();
    if mode & 0o077 != 0 {
        let exposed = format!("{} can be read by others", path.display());
        return Err(Failure::new("passphrase_exposed", exposed).hint(format!("chmod 600 {}", path.display())));
    }
    let mut text = std::fs::read_to_string(path).map_err(unreadable)?;
    while text.ends_with(['\n', '\r']) {
        text.pop();
    }
    Ok(text)
}

fn typed(prompt: &str) -> Result<String, Failure> {
    let unreadable = |fault| Failure::new("passphrase_unreadable", "no passphrase could be read").because(fault);
    let mut out = std::io::stderr().lock();
    let _ = write!(out, "{prompt}").and_then(|()| out.flush());
    let is_hidden = std::io::stdin().is_terminal() && echo("-echo");
    let mut text = String::new();
    let read = std::io::stdin().lock().read_line(&mut text);
    if is_hidden {
        echo("echo");
        let _ = writeln!(out);
    }
    read.map_err(unreadable)?;
    while text.ends_with(['\n', '\r']) {
        text.pop();
    }
    Ok(text)
}

/// Switches the terminal's echo by `stty`, which every system with a terminal has; says whether that worked.
fn echo(setting: &str) -> bool {
    let status = Command::new("stty").arg(setting).stdin(Stdio::inherit()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
