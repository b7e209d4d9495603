//! The key store: one seed, sealed on disk, wiped in memory. It must never show a secret but the recovery words, once,
//! to whoever creates it, and never leave a copy of the seed, or of a key on the way to an account, in memory.

use crate::entropy::{EntropyError, random_bytes};
use crate::sealed::{self, Content, Cost, Label, Passphrase, SealedError};
use crate::stack;
use bitcoin::bip32::Fingerprint;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use ed25519_dalek::SigningKey;
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::{AccountPublic, AccountSecrets, Branch, KeyError, ScriptKind};
use florin_chain::bitcoin::mnemonic::{Mnemonic, Seed};
use florin_chain::bitcoin::network::Network;
use std::path::Path;
use zeroize::Zeroizing;

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For keeping value.
    Real,
    /// For demonstrations and tests: refused on main networks.
    Demo,
}

/// An open key store. There is no `Debug`.
pub struct KeyStore {
    seed: Seed,
    purpose: Purpose,
}

/// A new key store and the words that restore it, to be shown to the owner once.
pub struct Created {
    /// The open store.
    pub store: KeyStore,
    /// The recovery words.
    pub mnemonic: Mnemonic,
}

/// Why keys are not to be had, most precise reason first.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// Demo keys were asked for a main network.
    #[error("these are demo keys; they refuse main networks")]
    DemoKeys,
    /// The file.
    #[error("the key store can't be used")]
    Sealed(#[from] SealedError),
    /// The system's randomness failed.
    #[error("no randomness")]
    Entropy(#[from] EntropyError),
    /// A key could not be derived.
    #[error("a key can't be derived")]
    Key(#[from] KeyError),
}

impl KeyStoreError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            KeyStoreError::DemoKeys => "keys_demo",
            KeyStoreError::Sealed(error) => error.code(),
            KeyStoreError::Entropy(error) => error.code(),
            KeyStoreError::Key(error) => error.code(),
        }
    }
}

impl KeyStore {
    /// Draws a new seed (24 words), seals it into a new file at `path` and returns it with its words.
    ///
    /// # Errors
    /// [`KeyStoreError::Entropy`], [`KeyStoreError::Sealed`]; nothing is left behind then.
    pub fn create(path: &Path, passphrase: &Passphrase, purpose: Purpose) -> Result<Created, KeyStoreError> {
        stack::wiped(|| {
            let entropy = random_bytes::<32>()?;
            let mnemonic = Mnemonic::from_entropy(entropy.as_slice()).expect("32 bytes are one of the lengths");
            let store = KeyStore::restore(path, passphrase, purpose, &mnemonic, "")?;
            Ok(Created { store, mnemonic })
        })
    }

    /// Seals the seed of known words, and their own passphrase (empty when there is none), into a new file.
    ///
    /// # Errors
    /// [`KeyStoreError::Sealed`]; nothing is left behind then.
    pub fn restore(
        path: &Path,
        passphrase: &Passphrase,
        purpose: Purpose,
        mnemonic: &Mnemonic,
        mnemonic_passphrase: &str,
    ) -> Result<KeyStore, KeyStoreError> {
        stack::wiped(|| {
            let seed = mnemonic.seed(mnemonic_passphrase);
            let label = Label { content: Content::Seed, demo: purpose == Purpose::Demo, cost: Cost::LEAST };
            sealed::create(path, passphrase, label, seed.expose_bytes())?;
            Ok(KeyStore { seed, purpose })
        })
    }

    /// Opens a key store.
    ///
    /// # Errors
    /// [`KeyStoreError::Sealed`], which tells a wrong passphrase from a damaged file.
    pub fn open(path: &Path, passphrase: &Passphrase) -> Result<KeyStore, KeyStoreError> {
        stack::wiped(|| {
            let (header, secret) = sealed::open(path, passphrase, Content::Seed)?;
            let bytes = secret.as_slice().try_into().map_err(|_| SealedError::HeaderInvalid)?;
            let purpose = if header.demo { Purpose::Demo } else { Purpose::Real };
            Ok(KeyStore { seed: Seed::from_bytes(bytes), purpose })
        })
    }

    /// Demo keys that live in memory only, for simulations.
    pub fn demo(seed: Seed) -> KeyStore {
        KeyStore { seed, purpose: Purpose::Demo }
    }

    /// What the keys are for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The private half of an account.
    ///
    /// # Errors
    /// [`KeyStoreError::DemoKeys`], then [`KeyStoreError::Entropy`] (blinding), then [`KeyStoreError::Key`].
    pub fn account(&self, network: Network, kind: ScriptKind, account: u32) -> Result<AccountSecrets, KeyStoreError> {
        if self.purpose == Purpose::Demo && network.is_main() {
            return Err(KeyStoreError::DemoKeys);
        }
        let blinding = random_bytes::<32>()?;
        let seed = self.seed.expose_bytes();
        Ok(stack::wiped(|| AccountSecrets::derive(network, seed, kind, account, &blinding))?)
    }

    /// The key that signs checkpoints and void receipts: HMAC-SHA-256 of a domain under the seed, so that a restored
    /// signer is recognised. BIP-32 uses the seed as a message and never as a key: the two can't meet.
    pub fn head_key(&self) -> Box<SigningKey> {
        stack::wiped(|| {
            let mut engine = HmacEngine::<sha256::Hash>::new(self.seed.expose_bytes());
            engine.input(b"florin/head-key/1");
            let secret = Zeroizing::new(Hmac::<sha256::Hash>::from_engine(engine).to_byte_array());
            Box::new(SigningKey::from_bytes(&secret))
        })
    }

    /// Everything public about account number `account` of each script kind.
    ///
    /// # Errors
    /// As [`KeyStore::account`].
    pub fn kit(&self, network: Network, account: u32) -> Result<PublicKit, KeyStoreError> {
        let mut entries = Vec::with_capacity(ScriptKind::ALL.len());
        let mut fingerprint = Fingerprint::default();
        for kind in ScriptKind::ALL {
            let secrets = self.account(network, kind, account)?;
            fingerprint = secrets.origin().fingerprint;
            let blinding = random_bytes::<32>()?;
            let [external, internal] = descriptors(&stack::wiped(|| secrets.public(&blinding)))?;
            entries.push(KitEntry { kind, account, external: external.to_string(), internal: internal.to_string() });
        }
        Ok(PublicKit { network, fingerprint, purpose: self.purpose, entries })
    }
}

/// The two descriptors of an account, receiving first.
pub(crate) fn descriptors(public: &AccountPublic) -> Result<[Descriptor; 2], KeyStoreError> {
    let of = |branch| Descriptor::of_account(public, branch).map_err(|_| KeyStoreError::Key(KeyError::NoKeyAtIndex));
    Ok([of(Branch::External)?, of(Branch::Internal)?])
}

/// One account of a [`PublicKit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KitEntry {
    /// What its addresses are.
    pub kind: ScriptKind,
    /// Its number.
    pub account: u32,
    /// The descriptor of receiving addresses, with origin and checksum.
    pub external: String,
    /// The descriptor of change addresses, with origin and checksum.
    pub internal: String,
}

/// What an online process may have, and what a backup keeps beside the words: it finds every coin and signs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKit {
    /// The network.
    pub network: Network,
    /// The master key's fingerprint.
    pub fingerprint: Fingerprint,
    /// What the keys are for.
    pub purpose: Purpose,
    /// The accounts, one for each script kind.
    pub entries: Vec<KitEntry>,
}

/// The kit as text, one descriptor a line, for printing.
impl std::fmt::Display for PublicKit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "network {}", self.network.name())?;
        writeln!(out, "fingerprint {}", self.fingerprint)?;
        if self.purpose == Purpose::Demo {
            writeln!(out, "demo keys: refused on main networks")?;
        }
        for entry in &self.entries {
            writeln!(out, "{} account {}", entry.kind.name(), entry.account)?;
            writeln!(out, "  receive {}", entry.external)?;
            writeln!(out, "  change  {}", entry.internal)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase() -> Passphrase {
        Passphrase::new("correct horse battery".to_owned()).expect("long enough")
    }

    #[test]
    fn a_created_store_opens_again_with_the_same_keys() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let created = KeyStore::create(&path, &passphrase(), Purpose::Real).expect("created");
        assert_eq!(created.mnemonic.word_count(), 24);
        let opened = KeyStore::open(&path, &passphrase()).expect("opened");
        let kit = created.store.kit(Network::Main, 0).expect("a kit");
        assert_eq!(opened.kit(Network::Main, 0).ok(), Some(kit.clone()));
        assert_eq!(opened.head_key().to_bytes(), created.store.head_key().to_bytes());
        let again =
            KeyStore::restore(&folder.path().join("again"), &passphrase(), Purpose::Real, &created.mnemonic, "");
        assert_eq!(again.ok().and_then(|store| store.kit(Network::Main, 0).ok()), Some(kit));
        let refused = KeyStore::create(&path, &passphrase(), Purpose::Real).err().map(|error| error.code());
        assert_eq!(refused, Some("sealed_exists"));
    }

    #[test]
    fn two_stores_never_share_a_seed() {
        let folder = tempfile::tempdir().expect("a folder");
        let words = |name: &str| {
            let path = folder.path().join(name);
            let created = KeyStore::create(&path, &passphrase(), Purpose::Demo).expect("created");
            created.mnemonic.expose_words().to_string()
        };
        assert_ne!(words("a"), words("b"));
    }

    #[test]
    fn demo_keys_refuse_the_main_network_also_after_reopening() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        KeyStore::create(&path, &passphrase(), Purpose::Demo).expect("created");
        let store = KeyStore::open(&path, &passphrase()).expect("opened");
        let code = |network| store.account(network, ScriptKind::Wpkh, 0).err().map(|error| error.code());
        assert_eq!(code(Network::Main), Some("keys_demo"));
        assert_eq!(code(Network::Regtest), None);
        assert_eq!(store.kit(Network::Main, 0).err().map(|error| error.code()), Some("keys_demo"));
    }

    #[test]
    fn the_kit_holds_the_published_first_keys() {
        // BIP-84 and BIP-86, test vectors: first account of "abandon … about".
        let words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
        let mnemonic = Mnemonic::parse(words).expect("published words");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let store = KeyStore::restore(&path, &passphrase(), Purpose::Real, &mnemonic, "").expect("restored");
        let kit = store.kit(Network::Main, 0).expect("a kit");
        assert_eq!(kit.fingerprint.to_string(), "73c5da0a");
        let address = |kind: ScriptKind, text: &dyn Fn(&KitEntry) -> String| {
            let entry = kit.entries.iter().find(|entry| entry.kind == kind).expect("all kinds are in it");
            let descriptor = Descriptor::parse(Network::Main, &text(entry)).expect("its own text");
            let index = florin_chain::bitcoin::keys::AddressIndex::new(0).expect("an index");
            let script = descriptor.script(index).expect("a key").to_script_buf();
            florin_chain::bitcoin::address::address_text(Network::Main, &script).expect("an address")
        };
        let external = |entry: &KitEntry| entry.external.clone();
        let internal = |entry: &KitEntry| entry.internal.clone();
        assert_eq!(address(ScriptKind::Wpkh, &external), "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
        assert_eq!(address(ScriptKind::Wpkh, &internal), "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el");
        assert_eq!(
            address(ScriptKind::Tr, &external),
            "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
        );
        assert_eq!(
            address(ScriptKind::Tr, &internal),
            "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"
        );
        assert!(kit.to_string().contains("fingerprint 73c5da0a"));
    }
}
