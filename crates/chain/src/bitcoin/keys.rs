//! Extended keys (BIP-32) and accounts (BIP-44, 49, 84, 86); it must never show a private key by accident.

use crate::bitcoin::network::Network;
use bitcoin::NetworkKind;
use bitcoin::base58;
use bitcoin::bip32::{ChainCode, ChildNumber, DerivationPath, Fingerprint, Xpriv, Xpub};
use bitcoin::secp256k1::{All, Secp256k1, VerifyOnly};
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Tables for checking signatures and adding points; they hold no secret and never change.
pub(crate) static VERIFIER: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// How many steps a derivation path may have; BIP-32 counts depth in one byte, real wallets use five or six.
pub const PATH_STEPS_MAX: usize = 16;

/// Bytes of a serialised extended key (BIP-32).
const EXTENDED_KEY_SIZE: usize = 78;

/// What locks a coin of ours: the four single-key script types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScriptKind {
    /// Pay to public key hash (BIP-44).
    Pkh,
    /// Witness key hash wrapped in a script hash (BIP-49).
    ShWpkh,
    /// Pay to witness public key hash (BIP-84).
    Wpkh,
    /// Taproot, spent by its key (BIP-86).
    Tr,
}

impl ScriptKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [ScriptKind; 4] = [ScriptKind::Pkh, ScriptKind::ShWpkh, ScriptKind::Wpkh, ScriptKind::Tr];

    /// The name in configuration files: `pkh`, `sh_wpkh`, `wpkh`, `tr`.
    pub fn name(self) -> &'static str {
        match self {
            ScriptKind::Pkh => "pkh",
            ScriptKind::ShWpkh => "sh_wpkh",
            ScriptKind::Wpkh => "wpkh",
            ScriptKind::Tr => "tr",
        }
    }

    /// Reads [`ScriptKind::name`]; anything else is `None`.
    pub fn parse(text: &str) -> Option<ScriptKind> {
        ScriptKind::ALL.into_iter().find(|kind| kind.name() == text)
    }

    /// The purpose step of the account path (BIP-43).
    pub fn purpose(self) -> u32 {
        match self {
            ScriptKind::Pkh => 44,
            ScriptKind::ShWpkh => 49,
            ScriptKind::Wpkh => 84,
            ScriptKind::Tr => 86,
        }
    }
}

/// The two branches below an account (BIP-44).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Branch {
    /// Addresses shown to others: `/0/*`.
    External,
    /// Change: `/1/*`.
    Internal,
}

impl Branch {
    /// Both branches, external first.
    pub const ALL: [Branch; 2] = [Branch::External, Branch::Internal];

    /// The path step of this branch.
    pub fn step(self) -> u32 {
        match self {
            Branch::External => 0,
            Branch::Internal => 1,
        }
    }

    /// Reads a path step; anything but 0 and 1 is `None`.
    pub fn from_step(step: u32) -> Option<Branch> {
        Branch::ALL.into_iter().find(|branch| branch.step() == step)
    }
}

/// Index of an address below a branch: not hardened, so below 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressIndex(u32);

impl AddressIndex {
    /// The largest index that an extended public key can derive.
    pub const MAX: AddressIndex = AddressIndex((1 << 31) - 1);

    /// Checks that the index is not in the hardened half.
    pub fn new(index: u32) -> Option<AddressIndex> {
        (index <= AddressIndex::MAX.0).then_some(AddressIndex(index))
    }

    /// The index as a number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The index after this one, `None` past the last.
    pub fn next(self) -> Option<AddressIndex> {
        AddressIndex::new(self.0 + 1)
    }
}

/// Where a key comes from: the master key's fingerprint and the path from it (BIP-380).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyOrigin {
    /// First four bytes of HASH160 of the master public key.
    pub fingerprint: Fingerprint,
    /// Steps from the master key to this key.
    pub path: DerivationPath,
}

/// Why a key was refused, most precise reason first. No variant carries key material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not Base58 with a right checksum.
    #[error("the key is not Base58 with a right checksum")]
    Base58,
    /// The decoded key does not have 78 bytes.
    #[error("the key has {length} bytes; an extended key has 78")]
    Length {
        /// Bytes that were decoded.
        length: usize,
    },
    /// The four version bytes are not those of the expected kind of key on any Bitcoin network.
    #[error("the key's version bytes are unknown or of the other kind of key")]
    Version,
    /// The key belongs to another network.
    #[error("the key belongs to another network")]
    NetworkMismatch,
    /// A key of depth zero names a parent or an index.
    #[error("a key of depth zero must have neither parent nor index")]
    DepthZero,
    /// The key bytes are not a valid private key or a point on the curve.
    #[error("the key bytes are not a valid key")]
    Invalid,
    /// A seed must have 16 to 64 bytes (BIP-32).
    #[error("a seed has 16 to 64 bytes, this one has {length}")]
    SeedLength {
        /// Bytes that were given.
        length: usize,
    },
    /// An account number or index is in the hardened half.
    #[error("an index must be below 2^31")]
    IndexOutOfRange,
    /// The derived key is invalid, which happens for one index in 2^127: use the next one.
    #[error("this index has no valid key; use the next one")]
    NoKeyAtIndex,
}

impl KeyError {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            KeyError::Base58 => "key_base58_invalid",
            KeyError::Length { .. } => "key_length_invalid",
            KeyError::Version => "key_version_invalid",
            KeyError::NetworkMismatch => "network_mismatch",
            KeyError::DepthZero => "key_depth_invalid",
            KeyError::Invalid => "key_invalid",
            KeyError::SeedLength { .. } => "seed_length_invalid",
            KeyError::IndexOutOfRange => "index_out_of_range",
            KeyError::NoKeyAtIndex => "no_key_at_index",
        }
    }
}

/// An extended private key of one network. It is wiped when dropped and has neither `Debug` nor `Display`. It lies in one place, however often
/// its owner moves; the library that derives works on copies on its stack, which it does not wipe.
pub struct SecretKeyTree {
    network: Network,
    key: Box<Xpriv>,
}

impl SecretKeyTree {
    /// The master key of a seed (BIP-32).
    ///
    /// # Errors
    /// [`KeyError::SeedLength`], and [`KeyError::Invalid`] for one seed in 2^127.
    pub fn from_seed(network: Network, seed: &[u8]) -> Result<SecretKeyTree, KeyError> {
        if !(16..=64).contains(&seed.len()) {
            return Err(KeyError::SeedLength { length: seed.len() });
        }
        let key = Xpriv::new_master(network.library(), seed).map_err(|_| KeyError::Invalid)?;
        Ok(SecretKeyTree { network, key: Box::new(key) })
    }

    /// Reads an extended private key (`xprv…`, or `tprv…` on the test networks).
    ///
    /// # Errors
    /// The variants of [`KeyError`] from `Base58` to `Invalid`, in that order.
    pub fn parse(network: Network, text: &str) -> Result<SecretKeyTree, KeyError> {
        let bytes = Zeroizing::new(decode_text(text)?);
        let kind = match bytes[..4] {
            [0x04, 0x88, 0xad, 0xe4] => NetworkKind::Main,
            [0x04, 0x35, 0x83, 0x94] => NetworkKind::Test,
            _ => return Err(KeyError::Version),
        };
        check_common(network, kind, &bytes)?;
        if bytes[45] != 0 {
            return Err(KeyError::Invalid);
        }
        let key = Xpriv::decode(&bytes).map_err(|_| KeyError::Invalid)?;
        Ok(SecretKeyTree { network, key: Box::new(key) })
    }

    /// The key `path` below this one.
    ///
    /// # Errors
    /// [`KeyError::NoKeyAtIndex`], for one index in 2^127.
    pub fn derive<C: bitcoin::secp256k1::Signing>(
        &self,
        secp: &Secp256k1<C>,
        path: &DerivationPath,
    ) -> Result<SecretKeyTree, KeyError> {
        let key = self.key.derive_priv(secp, path).map_err(|_| KeyError::NoKeyAtIndex)?;
        Ok(SecretKeyTree { network: self.network, key: Box::new(key) })
    }

    /// The extended public key of this key.
    pub fn public<C: bitcoin::secp256k1::Signing>(&self, secp: &Secp256k1<C>) -> Xpub {
        Xpub::from_priv(secp, &self.key)
    }

    /// The network this key belongs to.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The private key as text, for an export that its owner asked for.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.key.encode());
        Zeroizing::new(base58::encode_check(bytes.as_slice()))
    }

    pub(crate) fn key(&self) -> &Xpriv {
        &self.key
    }
}

impl Drop for SecretKeyTree {
    fn drop(&mut self) {
        self.key.private_key.non_secure_erase();
        self.key.chain_code = ChainCode::from([0; 32]);
    }
}

/// The private half of one account: what a signer needs for it and no more.
pub struct AccountSecrets {
    kind: ScriptKind,
    origin: KeyOrigin,
    tree: SecretKeyTree,
}

impl AccountSecrets {
    /// Derives account `account` of this script kind from the master key of `seed`, at
    /// `m/purpose'/coin'/account'` (BIP-44). `blinding` is fresh randomness that protects the computation against
    /// side channels; it does not change the result.
    ///
    /// # Errors
    /// `SeedLength`, `IndexOutOfRange`, `NoKeyAtIndex` of [`KeyError`].
    pub fn derive(
        network: Network,
        seed: &[u8],
        kind: ScriptKind,
        account: u32,
        blinding: &[u8; 32],
    ) -> Result<AccountSecrets, KeyError> {
        let master = SecretKeyTree::from_seed(network, seed)?;
        let path = account_path(network, kind, account)?;
        let secp = signing_context(blinding);
        let fingerprint = master.public(&secp).fingerprint();
        let tree = master.derive(&secp, &path)?;
        Ok(AccountSecrets { kind, origin: KeyOrigin { fingerprint, path }, tree })
    }

    /// The script kind of this account.
    pub fn kind(&self) -> ScriptKind {
        self.kind
    }

    /// Where the account key comes from.
    pub fn origin(&self) -> &KeyOrigin {
        &self.origin
    }

    /// The network of this account.
    pub fn network(&self) -> Network {
        self.tree.network
    }

    /// The public half, which the online process may have.
    pub fn public(&self, blinding: &[u8; 32]) -> AccountPublic {
        AccountPublic {
            network: self.tree.network,
            kind: self.kind,
            origin: self.origin.clone(),
            xpub: self.tree.public(&signing_context(blinding)),
        }
    }

    pub(crate) fn tree(&self) -> &SecretKeyTree {
        &self.tree
    }
}

/// The public half of one account: it derives every address and signs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountPublic {
    /// The network of the account.
    pub network: Network,
    /// What its addresses are.
    pub kind: ScriptKind,
    /// Where the account key comes from.
    pub origin: KeyOrigin,
    /// The account's extended public key.
    pub xpub: Xpub,
}

/// `m/purpose'/coin'/account'`, the hardened path of an account (BIP-44).
///
/// # Errors
/// [`KeyError::IndexOutOfRange`].
pub fn account_path(network: Network, kind: ScriptKind, account: u32) -> Result<DerivationPath, KeyError> {
    let steps = [kind.purpose(), network.coin_type(), account];
    let steps: Result<Vec<ChildNumber>, KeyError> = steps
        .into_iter()
        .map(|step| ChildNumber::from_hardened_idx(step).map_err(|_| KeyError::IndexOutOfRange))
        .collect();
    Ok(DerivationPath::from(steps?))
}

/// Reads an extended public key (`xpub…`, or `tpub…` on the test networks).
///
/// # Errors
/// The variants of [`KeyError`] from `Base58` to `Invalid`, in that order.
pub fn parse_xpub(network: Network, text: &str) -> Result<Xpub, KeyError> {
    let bytes = decode_text(text)?;
    let kind = match bytes[..4] {
        [0x04, 0x88, 0xb2, 0x1e] => NetworkKind::Main,
        [0x04, 0x35, 0x87, 0xcf] => NetworkKind::Test,
        _ => return Err(KeyError::Version),
    };
    check_common(network, kind, &bytes)?;
    Xpub::decode(&bytes).map_err(|_| KeyError::Invalid)
}

/// A context that can sign, blinded with the caller's randomness.
pub(crate) fn signing_context(blinding: &[u8; 32]) -> Secp256k1<All> {
    let mut secp = Secp256k1::new();
    secp.seeded_randomize(blinding);
    secp
}

fn decode_text(text: &str) -> Result<Vec<u8>, KeyError> {
    // An extended key has 111 or 112 characters; Base58 is quadratic, so longer text is not even decoded.
    if text.len() > 120 {
        return Err(KeyError::Base58);
    }
    let bytes = base58::decode_check(text).map_err(|_| KeyError::Base58)?;
    if bytes.len() != EXTENDED_KEY_SIZE {
        return Err(KeyError::Length { length: bytes.len() });
    }
    Ok(bytes)
}

fn check_common(network: Network, kind: NetworkKind, bytes: &[u8]) -> Result<(), KeyError> {
    if NetworkKind::from(network.library()) != kind {
        return Err(KeyError::NetworkMismatch);
    }
    let (depth, parent_and_index) = (bytes[4], &bytes[5..13]);
    if depth == 0 && parent_and_index.iter().any(|byte| *byte != 0) {
        return Err(KeyError::DepthZero);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_paths_are_hardened_and_bounded() {
        let path = account_path(Network::Regtest, ScriptKind::Wpkh, 3).expect("a small number");
        assert_eq!(path.to_string(), "84'/1'/3'");
        assert_eq!(account_path(Network::Main, ScriptKind::Tr, 1 << 31), Err(KeyError::IndexOutOfRange));
    }

    #[test]
    fn seeds_of_a_wrong_length_are_refused() {
        for length in [0, 15, 65] {
            let refusal = SecretKeyTree::from_seed(Network::Main, &vec![1; length]).err();
            assert_eq!(refusal, Some(KeyError::SeedLength { length }));
        }
    }

    #[test]
    fn keys_of_another_network_are_refused() {
        let secp = signing_context(&[1; 32]);
        let master = SecretKeyTree::from_seed(Network::Test, &[7; 32]).expect("a valid seed");
        let (secret, public) = (master.expose_text(), master.public(&secp).to_string());
        assert_eq!(SecretKeyTree::parse(Network::Main, &secret).err(), Some(KeyError::NetworkMismatch));
        assert_eq!(parse_xpub(Network::Main, &public), Err(KeyError::NetworkMismatch));
        assert_eq!(parse_xpub(Network::Regtest, &secret), Err(KeyError::Version));
        assert!(SecretKeyTree::parse(Network::Signet, &secret).is_ok());
        assert_eq!(parse_xpub(Network::Signet, &public), Ok(master.public(&secp)));
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        assert_eq!(parse_xpub(Network::Main, ""), Err(KeyError::Base58));
        assert_eq!(parse_xpub(Network::Main, "xpub0"), Err(KeyError::Base58));
        assert_eq!(parse_xpub(Network::Main, &"1".repeat(100_000)), Err(KeyError::Base58));
        let short = base58::encode_check(&[4, 0x88, 0xb2, 0x1e, 0]);
        assert_eq!(parse_xpub(Network::Main, &short), Err(KeyError::Length { length: 5 }));
    }

    #[test]
    fn the_public_half_derives_what_the_private_half_derives() {
        let secrets = AccountSecrets::derive(Network::Regtest, &[9; 32], ScriptKind::Tr, 0, &[2; 32]).expect("valid");
        let path: DerivationPath = "m/1/17".parse().expect("a path");
        let secp = signing_context(&[3; 32]);
        let below = secrets.tree().derive(&secp, &path).expect("a key").public(&secp);
        assert_eq!(secrets.public(&[4; 32]).xpub.derive_pub(&*VERIFIER, &path).expect("a key"), below);
    }
}
