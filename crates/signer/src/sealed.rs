//! Sealed files: one secret under a passphrase, for the key store and operators' keys. It must never overwrite a file,
//! never leave a secret unwiped, and never say more about a file than its error.
//!
//! Layout: the magic `florin-sealed\n`, the header's length as four big-endian bytes, the header (canonical Protocol
//! Buffers), the ciphertext with its tag (XChaCha20-Poly1305, header as associated data), SHA-256 of all before it. The
//! key is argon2id of the passphrase. The hash tells damage from a wrong passphrase; it is no defence, the tag is.

use crate::entropy::{EntropyError, random_bytes};
use argon2::{Algorithm, Argon2, Params, Version};
use bitcoin::hashes::{Hash, sha256};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use florin_core::wire::Message;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What a sealed file begins with.
const MAGIC: &[u8] = b"florin-sealed\n";
/// The format this build writes and reads.
const FORMAT: u32 = 1;
/// Largest file that is read: a header is below 128 bytes, a secret below 1 KiB.
const FILE_SIZE_MAX: u64 = 16 * 1024;
/// Bytes of the trailing hash.
const HASH_SIZE: usize = 32;
/// Bytes of the authentication tag.
const TAG_SIZE: usize = 16;

/// Shortest passphrase in bytes: anything shorter falls to guessing whatever argon2id costs.
pub const PASSPHRASE_BYTES_MIN: usize = 8;
/// Longest passphrase in bytes.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

/// A passphrase, wiped when dropped. There is no `Debug` and no `Display`.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes over a passphrase.
    ///
    /// # Errors
    /// [`SealedError::PassphraseLength`].
    pub fn new(text: String) -> Result<Passphrase, SealedError> {
        let text = Zeroizing::new(text);
        if !(PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX).contains(&text.len()) {
            return Err(SealedError::PassphraseLength);
        }
        Ok(Passphrase(text))
    }
}

/// What argon2id costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// The least that is written or read: 19 MiB, two passes, one lane (OWASP's first recommendation for argon2id).
    pub const LEAST: Cost = Cost { memory_kib: 19 * 1024, passes: 2, lanes: 1 };
    /// The most that is read, so that a planted file can't exhaust the machine: 1 GiB, 16 passes, 8 lanes.
    pub const MOST: Cost = Cost { memory_kib: 1024 * 1024, passes: 16, lanes: 8 };

    fn is_allowed(self) -> bool {
        (Cost::LEAST.memory_kib..=Cost::MOST.memory_kib).contains(&self.memory_kib)
            && (Cost::LEAST.passes..=Cost::MOST.passes).contains(&self.passes)
            && (Cost::LEAST.lanes..=Cost::MOST.lanes).contains(&self.lanes)
    }
}

florin_core::choice! {
    /// What a sealed file holds.
    pub enum Content {
        /// The seed of a signer.
        Seed = 1,
        /// An operator's Ed25519 key.
        OperatorKey = 2,
    }
}

florin_core::message! {
    /// The open part of a sealed file; changing any of it breaks the seal.
    pub struct Header {
        /// The format, 1.
        1: format: u32,
        /// What is sealed.
        2: content: Content,
        /// Whether the secret is for play: such a key refuses main networks.
        3: demo: bool,
        /// argon2id: memory in KiB.
        4: memory_kib: u32,
        /// argon2id: passes.
        5: passes: u32,
        /// argon2id: lanes.
        6: lanes: u32,
        /// argon2id: salt.
        7: salt: [u8; 16],
        /// XChaCha20-Poly1305: nonce.
        8: nonce: [u8; 24],
    }
}

/// Why a sealed file could not be made or opened, most precise reason first.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The passphrase is shorter than 8 bytes or longer than 1,024.
    #[error("a passphrase has 8 to 1024 bytes")]
    PassphraseLength,
    /// There already is a file; nothing was written.
    #[error("a file stands there already; it is never overwritten")]
    Exists,
    /// There is no file.
    #[error("there is no such file")]
    Missing,
    /// Others than its owner may read or write it.
    #[error("the file's mode is {mode:o}; only its owner may have access (600)")]
    Exposed {
        /// The permission bits found.
        mode: u32,
    },
    /// It is no sealed file of Florin.
    #[error("this is not a sealed file")]
    NotSealed,
    /// The content does not match its hash: cut, or changed by a disk or a transfer.
    #[error("the file is damaged")]
    Damaged,
    /// Another version of the format.
    #[error("the file's format is {format}; this build reads {FORMAT}")]
    FormatUnknown {
        /// The format found.
        format: u32,
    },
    /// The header is not canonical, or its argon2id cost is out of bounds.
    #[error("the file's header is invalid")]
    HeaderInvalid,
    /// It holds another kind of secret.
    #[error("the file holds another kind of secret ({found:?})")]
    ContentMismatch {
        /// What it holds.
        found: Content,
    },
    /// The seal does not open: another passphrase, or somebody changed file and hash.
    #[error("the passphrase is wrong")]
    PassphraseWrong,
    /// The system's randomness failed.
    #[error("no randomness")]
    Entropy(#[from] EntropyError),
    /// argon2id could not run, for want of memory.
    #[error("the passphrase could not be stretched")]
    Stretch,
    /// Reading or writing failed.
    #[error("the file can't be read or written")]
    Io(#[source] std::io::Error),
}

impl SealedError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            SealedError::PassphraseLength => "passphrase_length",
            SealedError::Exists => "sealed_exists",
            SealedError::Missing => "sealed_missing",
            SealedError::Exposed { .. } => "sealed_exposed",
            SealedError::NotSealed => "sealed_not_sealed",
            SealedError::Damaged => "sealed_damaged",
            SealedError::FormatUnknown { .. } => "sealed_format_unknown",
            SealedError::HeaderInvalid => "sealed_header_invalid",
            SealedError::ContentMismatch { .. } => "sealed_content_mismatch",
            SealedError::PassphraseWrong => "passphrase_wrong",
            SealedError::Entropy(error) => error.code(),
            SealedError::Stretch => "passphrase_stretch_failed",
            SealedError::Io(_) => "sealed_io",
        }
    }
}

/// What [`create`] writes beside the secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    pub(crate) content: Content,
    pub(crate) demo: bool,
    pub(crate) cost: Cost,
}

/// Seals `secret` into a new file.
pub(crate) fn create(path: &Path, passphrase: &Passphrase, label: Label, secret: &[u8]) -> Result<(), SealedError> {
    assert!(label.cost.is_allowed(), "callers choose a cost within bounds");
    if path.symlink_metadata().is_ok() {
        return Err(SealedError::Exists);
    }
    let bytes = seal(passphrase, label, secret)?;
    write_new(path, &bytes)
}

/// Opens a sealed file that holds `content`.
pub(crate) fn open(
    path: &Path,
    passphrase: &Passphrase,
    content: Content,
) -> Result<(Header, Zeroizing<Vec<u8>>), SealedError> {
    let bytes = read(path)?;
    unseal(&bytes, passphrase, content)
}

fn seal(passphrase: &Passphrase, label: Label, secret: &[u8]) -> Result<Vec<u8>, SealedError> {
    let header = Header {
        format: FORMAT,
        content: label.content,
        demo: label.demo,
        memory_kib: label.cost.memory_kib,
        passes: label.cost.passes,
        lanes: label.cost.lanes,
        salt: *random_bytes::<16>()?,
        nonce: *random_bytes::<24>()?,
    };
    let associated = header.encode();
    let cipher = cipher(passphrase, &header)?;
    let ciphertext = cipher
        .encrypt(&XNonce::from(header.nonce), Payload { msg: secret, aad: &associated })
        .expect("a secret is far shorter than the cipher's limit");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(associated.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&associated);
    bytes.extend_from_slice(&ciphertext);
    bytes.extend_from_slice(&sha256::Hash::hash(&bytes).to_byte_array());
    Ok(bytes)
}

fn unseal(
    bytes: &[u8],
    passphrase: &Passphrase,
    content: Content,
) -> Result<(Header, Zeroizing<Vec<u8>>), SealedError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(SealedError::NotSealed)?;
    let (body, hash) = bytes.split_last_chunk::<HASH_SIZE>().ok_or(SealedError::Damaged)?;
    if body.len() < MAGIC.len() || sha256::Hash::hash(body).to_byte_array() != *hash {
        return Err(SealedError::Damaged);
    }
    let rest = &rest[..rest.len() - HASH_SIZE];
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(SealedError::HeaderInvalid)?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > rest.len() {
        return Err(SealedError::HeaderInvalid);
    }
    let (associated, ciphertext) = rest.split_at(length);
    // A later format may have other fields; its number always comes first, as field 1.
    if let [0x08, format, ..] = associated
        && *format < 0x80
        && u32::from(*format) != FORMAT
    {
        return Err(SealedError::FormatUnknown { format: u32::from(*format) });
    }
    let header = Header::decode(associated).map_err(|_| SealedError::HeaderInvalid)?;
    let cost = Cost { memory_kib: header.memory_kib, passes: header.passes, lanes: header.lanes };
    if header.format != FORMAT || !cost.is_allowed() || ciphertext.len() < TAG_SIZE {
        return Err(SealedError::HeaderInvalid);
    }
    if header.content != content {
        return Err(SealedError::ContentMismatch { found: header.content });
    }
    let secret = cipher(passphrase, &header)?
        .decrypt(&XNonce::from(header.nonce), Payload { msg: ciphertext, aad: associated })
        .map_err(|_| SealedError::PassphraseWrong)?;
    Ok((header, Zeroizing::new(secret)))
}

fn cipher(passphrase: &Passphrase, header: &Header) -> Result<XChaCha20Poly1305, SealedError> {
    let params = Params::new(header.memory_kib, header.passes, header.lanes, Some(32))
        .map_err(|_| SealedError::HeaderInvalid)?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.0.as_bytes(), &header.salt, key.as_mut_slice())
        .map_err(|_| SealedError::Stretch)?;
    let mut key = Key::from(*key);
    let cipher = XChaCha20Poly1305::new(&key);
    zeroize::Zeroize::zeroize(key.as_mut_slice());
    Ok(cipher)
}

fn read(path: &Path) -> Result<Vec<u8>, SealedError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => SealedError::Missing,
        _ => SealedError::Io(error),
    })?;
    let metadata = file.metadata().map_err(SealedError::Io)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SealedError::Exposed { mode });
    }
    let mut bytes = Vec::new();
    file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(SealedError::Io)?;
    if bytes.len() as u64 > FILE_SIZE_MAX {
        return Err(SealedError::NotSealed);
    }
    Ok(bytes)
}

/// Writes all bytes under another name, makes them durable, and only then gives them their name. A hard link and not a
/// rename gives it: a rename would silently replace what somebody else put there meanwhile.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SealedError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let draft = draft_name(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(SealedError::Io)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).map_err(SealedError::Io).and_then(|()| {
        std::fs::hard_link(&draft, path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => SealedError::Exists,
            _ => SealedError::Io(error),
        })
    });
    let removed = std::fs::remove_file(&draft).map_err(SealedError::Io);
    written.and(removed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(SealedError::Io)
}

fn draft_name(path: &Path) -> Result<PathBuf, SealedError> {
    let suffix = random_bytes::<16>()?;
    let suffix: String = suffix[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = path.file_name().map(ToOwned::to_owned).ok_or(SealedError::Io(ErrorKind::InvalidInput.into()))?;
    name.push(format!(".{suffix}.new"));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label = Label { content: Content::Seed, demo: true, cost: Cost::LEAST };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.to_owned()).expect("long enough")
    }

    fn code<T>(result: Result<T, SealedError>) -> &'static str {
        result.err().map_or("ok", |error| error.code())
    }

    #[test]
    fn a_secret_opens_with_its_passphrase_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        create(&path, &passphrase("right passphrase"), LABEL, b"the secret").expect("written");
        let mode = path.metadata().expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no draft stays behind");
        let (header, secret) = open(&path, &passphrase("right passphrase"), Content::Seed).expect("opens");
        assert_eq!((secret.as_slice(), header.demo), (&b"the secret"[..], true));
        assert_eq!(code(open(&path, &passphrase("wrong passphrase"), Content::Seed)), "passphrase_wrong");
        assert_eq!(code(open(&path, &passphrase("right passphrase"), Content::OperatorKey)), "sealed_content_mismatch");
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, b"mine").expect("written");
        assert_eq!(code(create(&path, &passphrase("passphrase"), LABEL, b"x")), "sealed_exists");
        assert_eq!(code(write_new(&path, b"x")), "sealed_exists", "also when it appears at the last moment");
        assert_eq!(std::fs::read(&path).expect("a file"), b"mine");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_damage() {
        let bytes = seal(&passphrase("passphrase"), LABEL, &[7; 64]).expect("sealed");
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let expected = if place < MAGIC.len() { "sealed_not_sealed" } else { "sealed_damaged" };
            assert_eq!(code(unseal(&changed, &passphrase("passphrase"), Content::Seed)), expected, "byte {place}");
            let cut = code(unseal(&bytes[..place], &passphrase("passphrase"), Content::Seed));
            assert_eq!(cut, expected, "cut at {place}");
        }
    }

    #[test]
    fn a_changed_header_with_a_repaired_hash_does_not_open() {
        let bytes = seal(&passphrase("passphrase"), LABEL, &[7; 64]).expect("sealed");
        let repaired = |change: &dyn Fn(&mut Header)| {
            let length = bytes[MAGIC.len() + 3] as usize;
            let start = MAGIC.len() + 4;
            let mut header = Header::decode(&bytes[start..start + length]).expect("a header");
            change(&mut header);
            let header = header.encode();
            let mut file = MAGIC.to_vec();
            file.extend_from_slice(&(header.len() as u32).to_be_bytes());
            file.extend_from_slice(&header);
            file.extend_from_slice(&bytes[start + length..bytes.len() - HASH_SIZE]);
            file.extend_from_slice(&sha256::Hash::hash(&file).to_byte_array());
            code(unseal(&file, &passphrase("passphrase"), Content::Seed))
        };
        assert_eq!(repaired(&|_| ()), "ok");
        assert_eq!(repaired(&|header| header.demo = false), "passphrase_wrong");
        assert_eq!(repaired(&|header| header.passes = 3), "passphrase_wrong");
        assert_eq!(repaired(&|header| header.passes = 1), "sealed_header_invalid");
        assert_eq!(repaired(&|header| header.memory_kib = u32::MAX), "sealed_header_invalid");
        assert_eq!(repaired(&|header| header.lanes = 0), "sealed_header_invalid");
        assert_eq!(repaired(&|header| header.format = 2), "sealed_format_unknown");
    }

    #[test]
    fn exposed_missing_and_foreign_files_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        assert_eq!(code(open(&path, &passphrase("passphrase"), Content::Seed)), "sealed_missing");
        std::fs::write(&path, b"something else").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("mode");
        assert_eq!(code(open(&path, &passphrase("passphrase"), Content::Seed)), "sealed_exposed");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
        assert_eq!(code(open(&path, &passphrase("passphrase"), Content::Seed)), "sealed_not_sealed");
        assert_eq!(code(Passphrase::new("seven77".to_owned())), "passphrase_length");
    }
}
