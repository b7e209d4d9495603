//! Recovery words (BIP-39, English) and the seed they give; it must never draw entropy or show a secret by accident.

use bip39::Language;
use zeroize::{Zeroize, Zeroizing};

/// Recovery words, held as their entropy and wiped when dropped. There is no `Debug` and no `Display`.
///
/// The BIP-39 library works on copies of the words on its stack, which it does not wipe; what Florin keeps is wiped. Whoever
/// handles words and goes on running afterwards overwrites the stack behind itself.
pub struct Mnemonic {
    entropy: Zeroizing<Vec<u8>>,
}

/// A BIP-32 seed of 64 bytes, wiped when dropped. There is no `Debug` and no `Display`. It lies in one place, however often its owner moves: a
/// value that moves leaves its bytes behind.
pub struct Seed(Box<Zeroizing<[u8; 64]>>);

/// Why recovery words or entropy were refused, most precise reason first. No variant carries a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MnemonicError {
    /// Entropy must be 16, 20, 24, 28 or 32 bytes.
    #[error("entropy has {length} bytes; it must be 16, 20, 24, 28 or 32")]
    EntropyLength {
        /// Bytes that were given.
        length: usize,
    },
    /// Words must be separated by exactly one space, with none before or after.
    #[error("words must be separated by single spaces, with none before or after")]
    Separator,
    /// There must be 12, 15, 18, 21 or 24 words.
    #[error("there are {count} words; there must be 12, 15, 18, 21 or 24")]
    WordCount {
        /// Words that were given.
        count: usize,
    },
    /// A word is not in the English list (which is in lower case).
    #[error("word {position} is not in the English list")]
    WordUnknown {
        /// Position of the word, counted from 1.
        position: usize,
    },
    /// All words are known but their checksum is wrong: a word was mistaken or swapped.
    #[error("the words' checksum is wrong: a word was mistaken or swapped")]
    Checksum,
}

impl MnemonicError {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            MnemonicError::EntropyLength { .. } => "entropy_length_invalid",
            MnemonicError::Separator => "mnemonic_separator_invalid",
            MnemonicError::WordCount { .. } => "mnemonic_word_count_invalid",
            MnemonicError::WordUnknown { .. } => "mnemonic_word_unknown",
            MnemonicError::Checksum => "mnemonic_checksum_invalid",
        }
    }
}

/// Longest text that is read as recovery words: 24 words of at most 8 letters, and their spaces.
pub const MNEMONIC_TEXT_MAX: usize = 24 * 9;

impl Mnemonic {
    /// The words that stand for this entropy, which the caller draws from the operating system.
    ///
    /// # Errors
    /// [`MnemonicError::EntropyLength`].
    pub fn from_entropy(entropy: &[u8]) -> Result<Mnemonic, MnemonicError> {
        match entropy.len() {
            16 | 20 | 24 | 28 | 32 => Ok(Mnemonic { entropy: Zeroizing::new(entropy.to_vec()) }),
            length => Err(MnemonicError::EntropyLength { length }),
        }
    }

    /// Reads recovery words: English list, lower case, single spaces, checksum right.
    ///
    /// # Errors
    /// In order of precedence: `Separator`, `WordCount`, `WordUnknown`, `Checksum` of [`MnemonicError`].
    pub fn parse(text: &str) -> Result<Mnemonic, MnemonicError> {
        if text.is_empty() || text.split(' ').any(|word| word.is_empty() || word.contains(char::is_whitespace)) {
            return Err(MnemonicError::Separator);
        }
        let count = text.split(' ').count();
        if !matches!(count, 12 | 15 | 18 | 21 | 24) {
            return Err(MnemonicError::WordCount { count });
        }
        for (position, word) in text.split(' ').enumerate() {
            if Language::English.find_word(word).is_none() {
                return Err(MnemonicError::WordUnknown { position: position + 1 });
            }
        }
        let words =
            bip39::Mnemonic::parse_in_normalized(Language::English, text).map_err(|_| MnemonicError::Checksum)?;
        let (mut bytes, length) = words.to_entropy_array();
        let entropy = Zeroizing::new(bytes[..length].to_vec());
        bytes.zeroize();
        Ok(Mnemonic { entropy })
    }

    /// The words with single spaces, to be shown to their owner once.
    pub fn expose_words(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(MNEMONIC_TEXT_MAX));
        for (position, word) in self.library().words().enumerate() {
            if position > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// The entropy behind the words, for the encrypted key store.
    pub fn expose_entropy(&self) -> &[u8] {
        &self.entropy
    }

    /// Number of words: 12, 15, 18, 21 or 24.
    pub fn word_count(&self) -> usize {
        self.entropy.len() * 3 / 4
    }

    /// The seed for these words and this passphrase (empty when there is none), 2,048 rounds of PBKDF2 (BIP-39).
    pub fn seed(&self, passphrase: &str) -> Seed {
        let mut bytes = self.library().to_seed(passphrase);
        let seed = Seed::from_bytes(&bytes);
        bytes.zeroize();
        seed
    }

    fn library(&self) -> bip39::Mnemonic {
        bip39::Mnemonic::from_entropy_in(Language::English, &self.entropy).expect("the constructors check the length")
    }
}

impl Seed {
    /// A seed that was stored before, for instance by the key store. The caller's bytes stay the caller's to wipe.
    pub fn from_bytes(bytes: &[u8; 64]) -> Seed {
        let mut seed = Seed(Box::new(Zeroizing::new([0; 64])));
        seed.0.copy_from_slice(bytes);
        seed
    }

    /// The seed's bytes, for the encrypted key store and the key derivation only.
    pub fn expose_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";

    #[test]
    fn every_length_round_trips() {
        for (length, count) in [(16, 12), (20, 15), (24, 18), (28, 21), (32, 24)] {
            let entropy: Vec<u8> = (0..length).map(|byte| byte * 7 + 3).collect();
            let mnemonic = Mnemonic::from_entropy(&entropy).expect("a valid length");
            let words = mnemonic.expose_words();
            assert_eq!(mnemonic.word_count(), count);
            assert_eq!(words.split(' ').count(), count);
            let again = Mnemonic::parse(&words).map_err(|error| error.code()).expect("own words read back");
            assert_eq!(again.expose_entropy(), entropy);
        }
    }

    #[test]
    fn entropy_of_another_length_is_refused() {
        for length in [0, 15, 17, 33, 64] {
            let refusal = Mnemonic::from_entropy(&vec![1; length]).err();
            assert_eq!(refusal, Some(MnemonicError::EntropyLength { length }));
        }
    }

    #[test]
    fn text_is_refused_with_the_most_precise_reason() {
        let refusal = |text: &str| Mnemonic::parse(text).err();
        assert_eq!(refusal(""), Some(MnemonicError::Separator));
        assert_eq!(refusal(&format!(" {WORDS}")), Some(MnemonicError::Separator));
        assert_eq!(refusal(&format!("{WORDS} ")), Some(MnemonicError::Separator));
        assert_eq!(refusal(&WORDS.replacen(' ', "  ", 1)), Some(MnemonicError::Separator));
        assert_eq!(refusal(&WORDS.replacen(' ', "\t", 1)), Some(MnemonicError::Separator));
        assert_eq!(refusal("legal winner"), Some(MnemonicError::WordCount { count: 2 }));
        assert_eq!(refusal(&format!("{WORDS} yellow")), Some(MnemonicError::WordCount { count: 13 }));
        assert_eq!(refusal(&WORDS.replace("year", "yeer")), Some(MnemonicError::WordUnknown { position: 4 }));
        assert_eq!(refusal(&WORDS.replace("year", "Year")), Some(MnemonicError::WordUnknown { position: 4 }));
        assert_eq!(refusal(&WORDS.replace("yellow", "year")), Some(MnemonicError::Checksum));
    }

    #[test]
    fn the_passphrase_changes_the_seed() {
        let mnemonic = Mnemonic::parse(WORDS).expect("valid words");
        assert_ne!(mnemonic.seed("").expose_bytes(), mnemonic.seed("x").expose_bytes());
    }
}
