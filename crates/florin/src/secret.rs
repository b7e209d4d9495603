//! How secrets get into the program: from a file that only its owner reads, or typed at a prompt. Never from an argument, where every process could see them.
//!
//! No text of a secret grows, because text that grows leaves copies, and nothing is read ahead. What is handed on is wiped when dropped.

use crate::failure::Failure;
use crate::terminal::Hidden;
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_signer::sealed::Passphrase;
use florin_signer::stack;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

pub mod process;

/// Largest file of a secret that is read, in bytes: a passphrase has at most 1,024, 24 words at most 216.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// The most words of a seed (BIP-39).
const WORDS_MAX: usize = 24;

/// Reads that throw away what was pasted beyond the words. A terminal gives at most 4 KiB in one.
const DISCARD_READS_MAX: usize = 256;

/// Why a file with a secret was not read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFault {
    /// Others than its owner may read or write it.
    #[error("its mode is {mode:o}; only its owner may have access (600)")]
    Exposed {
        /// The permission bits found.
        mode: u32,
    },
    /// It can't be read, is no text, or is far longer than any secret.
    #[error("it can't be read")]
    Unreadable(#[source] std::io::Error),
}

/// The text of a file that its owner alone may read or write. The file that is looked at is the one that is read.
///
/// # Errors
/// [`PrivateFault`].
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, PrivateFault> {
    let file = File::open(path).map_err(PrivateFault::Unreadable)?;
    let metadata = file.metadata().map_err(PrivateFault::Unreadable)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PrivateFault::Exposed { mode });
    }
    // Room for all of it at once: text that grows is copied, and its copies are not wiped.
    let mut text = Zeroizing::new(String::with_capacity(SECRET_BYTES_MAX as usize + 1));
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(PrivateFault::Unreadable)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(PrivateFault::Unreadable(ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

/// Reads a passphrase from `file`, or asks for it.
///
/// # Errors
/// `passphrase_unreadable`, `passphrase_exposed`, or the key store's own refusal of it.
pub fn passphrase(file: Option<&Path>, prompt: &str) -> Result<Passphrase, Failure> {
    usable(match file {
        Some(path) => from_file(path)?,
        None => typed_passphrase(prompt)?,
    })
}

fn usable(mut text: Zeroizing<String>) -> Result<Passphrase, Failure> {
    Passphrase::new(std::mem::take(&mut *text))
        .map_err(|fault| Failure::new(fault.code(), "this passphrase can't be used").because(fault))
}

/// As [`passphrase`], typed twice when it is typed: a slip would lock the new file for ever.
///
/// # Errors
/// As [`passphrase`], and `passphrase_differs`.
pub fn new_passphrase(file: Option<&Path>) -> Result<Passphrase, Failure> {
    if file.is_none() {
        let (first, second) = (typed_passphrase("New passphrase: ")?, typed_passphrase("Once more: ")?);
        if first != second {
            return Err(Failure::new("passphrase_differs", "the two passphrases differ"));
        }
        return usable(first);
    }
    passphrase(file, "")
}

/// Reads recovery words from `file`, or asks for them. Between words any white space counts as one space, so that they may
/// stand on several lines of a file or a terminal; from anything else one line is read.
///
/// # Errors
/// `words_exposed`, `words_unreadable`, then the words' own refusals, which name places and no words.
pub fn words(file: Option<&Path>) -> Result<Mnemonic, Failure> {
    let text = match file {
        Some(path) => read_private(path).map_err(|fault| match fault {
            PrivateFault::Exposed { .. } => {
                Failure::new("words_exposed", format!("others may read {}", path.display()))
                    .because(fault)
                    .hint(format!("chmod 600 {}, and ask who has read it", path.display()))
            }
            PrivateFault::Unreadable(_) => {
                Failure::new("words_unreadable", format!("{} can't be read", path.display())).because(fault)
            }
        })?,
        None => {
            typed_words().map_err(|fault| Failure::new("words_unreadable", "no words could be read").because(fault))?
        }
    };
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    for word in text.split_whitespace() {
        if !plain.is_empty() {
            plain.push(' ');
        }
        plain.push_str(word);
    }
    stack::wiped(|| Mnemonic::parse(&plain))
        .map_err(|fault| Failure::new(fault.code(), "these are not the words of a seed").because(fault))
}

/// The passphrase that belongs to recovery words, where there is one: any text, without the end of its line.
///
/// # Errors
/// `passphrase_exposed`, `passphrase_unreadable`.
pub fn words_passphrase(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    file.map_or(Ok(Zeroizing::default()), from_file)
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = read_private(path).map_err(|fault| match fault {
        PrivateFault::Exposed { .. } => {
            Failure::new("passphrase_exposed", format!("{} can be read by others", path.display()))
                .because(fault)
                .hint(format!("chmod 600 {}", path.display()))
        }
        PrivateFault::Unreadable(_) => {
            Failure::new("passphrase_unreadable", format!("{} can't be read", path.display())).because(fault)
        }
    })?;
    cut_end(&mut text);
    Ok(text)
}

fn cut_end(text: &mut String) {
    while text.ends_with(['\n', '\r']) {
        text.pop();
    }
}

fn typed_passphrase(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    typed(prompt).map_err(|fault| Failure::new("passphrase_unreadable", "no passphrase could be read").because(fault))
}

/// Standard input as the system has it. The library's reads ahead, into a buffer that is never wiped.
struct Input;

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(std::io::stdin(), bytes)?)
    }
}

/// What is typed, with room for all of it at once.
struct Typed(Zeroizing<Vec<u8>>);

impl Typed {
    fn new() -> Typed {
        Typed(Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize)))
    }

    fn is_full(&self) -> bool {
        self.0.len() as u64 >= SECRET_BYTES_MAX
    }

    /// Appends a line with its end, or what there is of it. Byte by byte: what comes after it is not read.
    fn read_line(&mut self, input: &mut impl Read) -> std::io::Result<()> {
        let mut byte = [0];
        while !self.is_full() {
            match input.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => self.0.push(byte[0]),
                Err(fault) if fault.kind() == ErrorKind::Interrupted => continue,
                Err(fault) => return Err(fault),
            }
            if byte == *b"\n" {
                break;
            }
        }
        Ok(())
    }

    /// Appends lines until there are as many words as a seed can have, or an empty line.
    fn read_words(&mut self, input: &mut impl Read) -> std::io::Result<()> {
        while self.words() < WORDS_MAX && !self.is_full() {
            let before = self.0.len();
            self.read_line(input)?;
            if self.0[before..].trim_ascii().is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn words(&self) -> usize {
        self.0.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count()
    }

    /// The text, without the end of its last line. It stays where it is.
    fn into_text(mut self) -> std::io::Result<Zeroizing<String>> {
        let text = String::from_utf8(std::mem::take(&mut *self.0));
        let mut text = text.map(Zeroizing::new).map_err(|fault| {
            drop(Zeroizing::new(fault.into_bytes()));
            std::io::Error::from(ErrorKind::InvalidData)
        })?;
        cut_end(&mut text);
        Ok(text)
    }
}

/// One line of standard input that is no secret, from where a secret may follow.
///
/// # Errors
/// Where it can't be read or is no text.
pub fn line() -> std::io::Result<Zeroizing<String>> {
    let mut text = Typed::new();
    text.read_line(&mut Input)?;
    text.into_text()
}

/// One line of standard input, not shown at a terminal.
fn typed(prompt: &str) -> std::io::Result<Zeroizing<String>> {
    hidden(prompt, |_, text| text.read_line(&mut Input))
}

/// Recovery words. Whoever pastes lines pastes all of them, and what is left unread at a terminal is the shell's afterwards, which
/// shows it, runs it and remembers it. So nothing is left, whatever becomes of the words.
fn typed_words() -> std::io::Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return typed("Recovery words, on one line: ");
    }
    hidden("Recovery words; if there are fewer than 24, then an empty line: ", |terminal, text| {
        let read = text.read_words(&mut Input);
        if let Some(terminal) = terminal {
            terminal.give_bytes(|| discard_pending(&mut Input));
        }
        read
    })
}

/// Reads and forgets what there still is.
fn discard_pending(input: &mut impl Read) {
    let mut rest = Zeroizing::new([0; 4096]);
    for _ in 0..DISCARD_READS_MAX {
        if !matches!(input.read(&mut *rest), Ok(1..)) {
            break;
        }
    }
}

/// What `read` reads, without the end of its last line; not shown at a terminal.
fn hidden(
    prompt: &str,
    read: impl FnOnce(Option<&Hidden>, &mut Typed) -> std::io::Result<()>,
) -> std::io::Result<Zeroizing<String>> {
    // Hidden before it asks: whoever answers at once is not shown either. Standard error is not locked meanwhile: whoever is
    // told of a signal writes there, too.
    let terminal = Hidden::start()?;
    let mut out = std::io::stderr();
    drop(write!(out, "{prompt}").and_then(|()| out.flush()));
    let mut text = Typed::new();
    let read = read(terminal.as_ref(), &mut text);
    if terminal.is_some() {
        drop(terminal);
        drop(writeln!(out));
    }
    read?;
    text.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many words are read of some lines, and what is left of them.
    fn check(lines: &str, words: usize, left: &str) {
        let (mut input, mut typed) = (lines.as_bytes(), Typed::new());
        let (place, room) = (typed.0.as_ptr(), typed.0.capacity());
        typed.read_words(&mut input).expect("text can be read");
        let text = typed.into_text().expect("text");
        assert_eq!(text.split_whitespace().count(), words, "{lines:?}");
        assert_eq!(
            (text.as_ptr(), text.capacity()),
            (place, room),
            "it was copied, and the copy is not wiped: {lines:?}"
        );
        assert_eq!(input, left.as_bytes(), "{lines:?}");
    }

    #[test]
    fn words_may_stand_on_several_lines() {
        let line = "a b c d e f g h\n";
        check(&format!("{line}{line}{line}next\n"), 24, "next\n");
        check(&format!("{}next\n", "word\n".repeat(24)), 24, "next\n");
        check(&format!("{line}i j k l\n\nnext\n"), 12, "next\n");
        check(&format!("{line}i j k l \r\n \r\nnext\n"), 12, "next\n");
        check(&format!("{}\nnext\n", line.trim_end().repeat(4)), 29, "next\n");
        check("a b", 2, "");
        check("\nnext\n", 0, "next\n");
        check("", 0, "");
    }

    #[test]
    fn what_is_no_text_is_refused_and_what_follows_a_line_is_left() {
        let (mut input, mut typed) = (&b"correct-horse\r\nnext\n"[..], Typed::new());
        typed.read_line(&mut input).expect("a line");
        assert_eq!(typed.into_text().expect("text").as_str(), "correct-horse");
        assert_eq!(input, b"next\n");
        let mut typed = Typed::new();
        typed.read_line(&mut &b"correct\xffhorse\n"[..]).expect("bytes");
        assert_eq!(typed.into_text().err().map(|fault| fault.kind()), Some(ErrorKind::InvalidData));
    }

    #[test]
    fn no_more_is_read_than_a_secret_can_have() {
        let endless = "x".repeat(SECRET_BYTES_MAX as usize + 5);
        check(&endless, 1, "xxxxx");
    }
}
