//! The operator's token: made once, kept in a file for its owner alone, compared in constant time. It never reaches a log, an error or Debug.

use crate::failure::Failure;
use crate::secret::{PrivateFault, read_private};
use axum::http::{HeaderMap, header};
use bitcoin::hashes::{Hash, sha256};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Random bytes of a new token: as many as nobody guesses.
const TOKEN_BYTES: usize = 32;

/// The shortest token that is taken, in characters: 128 bits in hexadecimal.
const TOKEN_CHARACTERS_MIN: usize = 32;

/// A token, as its hash: the interface need not keep what it only compares.
#[derive(Clone, Copy)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Token")
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    sha256::Hash::hash(text).to_byte_array()
}

impl Token {
    /// The token with this text.
    pub fn new(text: &str) -> Token {
        Token(digest(text.as_bytes()))
    }

    /// Reads the token of an existing file.
    ///
    /// # Errors
    /// `token_unreadable`, `token_exposed` where others may read the file, `token_invalid`.
    pub fn read(path: &Path) -> Result<Token, Failure> {
        Ok(Token::new(&read_text(path)?))
    }

    /// Whether a request bears this token.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let value = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        let Some((scheme, text)) = value.split_at_checked(b"Bearer ".len()) else { return false };
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return false;
        }
        // Hashes of equal length are compared to the end, whatever differs first.
        let found = digest(text);
        let difference = self.0.iter().zip(found).fold(0u8, |difference, (ours, theirs)| difference | (ours ^ theirs));
        std::hint::black_box(difference) == 0
    }
}

/// Reads a token's text.
///
/// # Errors
/// As [`Token::read`].
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = read_private(path).map_err(|fault| match fault {
        PrivateFault::Exposed { .. } => Failure::new("token_exposed", format!("others may read {}", path.display()))
            .because(fault)
            .hint(format!("chmod 600 {}", path.display())),
        PrivateFault::Unreadable(_) => {
            Failure::new("token_unreadable", format!("the token's file {} can't be read", path.display()))
                .because(fault)
                .hint("'florin init' writes one; api.token_file in florin.toml names it")
        }
    })?;
    let text = Zeroizing::new(text.trim_end().to_owned());
    let right = text.len() >= TOKEN_CHARACTERS_MIN && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !right {
        return Err(Failure::new("token_invalid", format!("{} holds no token", path.display()))
            .hint("a token is one line of at least 32 visible characters"));
    }
    Ok(text)
}

/// Writes a new token into a new file that its owner alone may read.
///
/// # Errors
/// `token_exists` where the file exists, `token_unwritable`, `entropy_failed`.
pub fn create(path: &Path) -> Result<(), Failure> {
    let mut bytes = Zeroizing::new([0u8; TOKEN_BYTES]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|fault| Failure::new("entropy_failed", format!("the system gives no randomness: {fault}")))?;
    let text = Zeroizing::new(florin_core::hex::encode(bytes.as_slice()) + "\n");
    let unwritable = |fault: std::io::Error| match fault.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new("token_exists", format!("{} exists and is left as it is", path.display()))
        }
        _ => Failure::new("token_unwritable", format!("{} can't be written", path.display())).because(fault),
    };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unwritable)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
        headers
    }

    #[test]
    fn only_the_token_opens() {
        let token = Token::new("0123456789abcdef0123456789abcdef");
        assert!(token.is_in(&with("Bearer 0123456789abcdef0123456789abcdef")));
        assert!(token.is_in(&with("bearer 0123456789abcdef0123456789abcdef")));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef0123456789abcdef",
            "Bearer 0123456789abcdef0123456789abcdeF",
        ] {
            assert!(!token.is_in(&with(bad)), "{bad}");
        }
        assert!(!token.is_in(&HeaderMap::new()));
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        create(&path).expect("it is written");
        assert_eq!(std::fs::metadata(&path).expect("it exists").permissions().mode() & 0o777, 0o600);
        let text = read_text(&path).expect("it is read");
        assert_eq!(text.len(), 64);
        assert_eq!(create(&path).expect_err("it exists").code(), "token_exists");
        assert_eq!(*read_text(&path).expect("it is as it was"), *text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
        assert_eq!(Token::read(&path).expect_err("others may read it").code(), "token_exposed");
        let empty = folder.path().join("empty");
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&empty).expect("it is made");
        assert_eq!(Token::read(&empty).expect_err("nothing is in it").code(), "token_invalid");
        assert_eq!(Token::read(&folder.path().join("none")).expect_err("there is none").code(), "token_unreadable");
    }
}
