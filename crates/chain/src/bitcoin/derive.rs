//! The script at an index of a branch, as fast as the curve allows; it must never hold a private key.
//!
//! Everything that does not depend on the index is computed once: the branch key, its serialisation, the two HMAC states
//! that its chain code gives, and the state of the taproot tag. One address then costs two compressions of SHA-512, one
//! point addition (taproot: two) and one short hash.

use crate::bitcoin::keys::{AddressIndex, KeyError, ScriptKind, VERIFIER};
use bitcoin::bip32::Xpub;
use bitcoin::hashes::{Hash, ripemd160};
use bitcoin::secp256k1::{Parity, PublicKey, Scalar};
use bitcoin::{Script, ScriptBuf};
use sha2::block_api::{compress256, compress512};

/// Longest script of our four kinds: taproot, `OP_1` and a push of 32 bytes.
const SCRIPT_SIZE_MAX: usize = 34;

/// Initial state of SHA-512 (FIPS 180-4).
const SHA512_START: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// Initial state of SHA-256 (FIPS 180-4).
pub(crate) const SHA256_START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A locking script of one of our four kinds, held in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DerivedScript {
    bytes: [u8; SCRIPT_SIZE_MAX],
    size: usize,
}

impl DerivedScript {
    fn new(parts: &[&[u8]]) -> DerivedScript {
        let mut script = DerivedScript { bytes: [0; SCRIPT_SIZE_MAX], size: 0 };
        for part in parts {
            script.bytes[script.size..script.size + part.len()].copy_from_slice(part);
            script.size += part.len();
        }
        script
    }

    /// The script's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }

    /// The script as a `bitcoin` type.
    pub fn as_script(&self) -> &Script {
        Script::from_bytes(self.as_bytes())
    }

    /// The script as an owned `bitcoin` type.
    pub fn to_script_buf(&self) -> ScriptBuf {
        ScriptBuf::from_bytes(self.as_bytes().to_vec())
    }
}

impl std::fmt::Debug for DerivedScript {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DerivedScript({})", self.as_script().to_hex_string())
    }
}

/// Derives the scripts of one branch. It holds public keys only and never changes.
#[derive(Clone, Debug)]
pub struct ScriptDeriver {
    kind: ScriptKind,
    branch_key: PublicKey,
    branch_key_bytes: [u8; 33],
    hmac_inner: [u64; 8],
    hmac_outer: [u64; 8],
    tap_tweak: [u32; 8],
}

impl ScriptDeriver {
    /// Prepares the branch whose extended public key is `branch`: what stands before `/*` in a descriptor.
    pub fn new(kind: ScriptKind, branch: &Xpub) -> ScriptDeriver {
        let chain_code = branch.chain_code.to_bytes();
        ScriptDeriver {
            kind,
            branch_key: branch.public_key,
            branch_key_bytes: branch.public_key.serialize(),
            hmac_inner: hmac_state(&chain_code, 0x36),
            hmac_outer: hmac_state(&chain_code, 0x5c),
            tap_tweak: tag_state(b"TapTweak"),
        }
    }

    /// The script kind this branch derives.
    pub fn kind(&self) -> ScriptKind {
        self.kind
    }

    /// The public key at `index` (BIP-32, public derivation).
    ///
    /// # Errors
    /// [`KeyError::NoKeyAtIndex`], for one index in 2^127.
    pub fn public_key(&self, index: AddressIndex) -> Result<PublicKey, KeyError> {
        let tweak = Scalar::from_be_bytes(self.tweak(index)).map_err(|_| KeyError::NoKeyAtIndex)?;
        self.branch_key.add_exp_tweak(&VERIFIER, &tweak).map_err(|_| KeyError::NoKeyAtIndex)
    }

    /// The locking script at `index`.
    ///
    /// # Errors
    /// [`KeyError::NoKeyAtIndex`], for one index in 2^127.
    pub fn script(&self, index: AddressIndex) -> Result<DerivedScript, KeyError> {
        self.script_of_key(&self.public_key(index)?)
    }

    /// The locking script of this branch's kind for a key, whether the key is the branch's or not.
    ///
    /// # Errors
    /// [`KeyError::NoKeyAtIndex`], where the key can't be tweaked: for one in 2^127.
    #[inline]
    pub fn script_of_key(&self, key: &PublicKey) -> Result<DerivedScript, KeyError> {
        Ok(match self.kind {
            ScriptKind::Pkh => DerivedScript::new(&[&[0x76, 0xa9, 20], &hash160(&key.serialize()), &[0x88, 0xac]]),
            ScriptKind::ShWpkh => {
                let redeem = DerivedScript::new(&[&[0, 20], &hash160(&key.serialize())]);
                DerivedScript::new(&[&[0xa9, 20], &hash160(redeem.as_bytes()), &[0x87]])
            }
            ScriptKind::Wpkh => DerivedScript::new(&[&[0, 20], &hash160(&key.serialize())]),
            ScriptKind::Tr => DerivedScript::new(&[&[0x51, 32], &self.output_key(key)?]),
        })
    }

    /// The left half of HMAC-SHA512 over the branch key and the index (BIP-32, CKDpub).
    fn tweak(&self, index: AddressIndex) -> [u8; 32] {
        let mut block = [0u8; 128];
        block[..33].copy_from_slice(&self.branch_key_bytes);
        block[33..37].copy_from_slice(&index.get().to_be_bytes());
        block[37] = 0x80;
        block[112..].copy_from_slice(&(8u128 * (128 + 37)).to_be_bytes());
        let mut inner = self.hmac_inner;
        compress512(&mut inner, &[block]);

        let mut block = [0u8; 128];
        for (bytes, word) in block.chunks_exact_mut(8).zip(inner) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        block[64] = 0x80;
        block[112..].copy_from_slice(&(8u128 * (128 + 64)).to_be_bytes());
        let mut outer = self.hmac_outer;
        compress512(&mut outer, &[block]);

        let mut left = [0u8; 32];
        for (bytes, word) in left.chunks_exact_mut(8).zip(outer) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        left
    }

    /// The taproot output key without a script tree (BIP-86): the key plus its own tagged hash.
    fn output_key(&self, key: &PublicKey) -> Result<[u8; 32], KeyError> {
        let (internal, _) = key.x_only_public_key();
        let mut block = [0u8; 64];
        block[..32].copy_from_slice(&internal.serialize());
        block[32] = 0x80;
        block[56..].copy_from_slice(&(8u64 * (64 + 32)).to_be_bytes());
        let mut state = self.tap_tweak;
        compress256(&mut state, &[block]);
        let tweak = Scalar::from_be_bytes(digest_bytes(&state)).map_err(|_| KeyError::NoKeyAtIndex)?;
        let even = PublicKey::from_x_only_public_key(internal, Parity::Even);
        let output = even.add_exp_tweak(&VERIFIER, &tweak).map_err(|_| KeyError::NoKeyAtIndex)?;
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(&output.serialize()[1..]);
        Ok(bytes)
    }
}

/// The state of SHA-512 after the padded HMAC key.
fn hmac_state(key: &[u8; 32], pad: u8) -> [u64; 8] {
    let mut block = [pad; 128];
    for (byte, key_byte) in block.iter_mut().zip(key) {
        *byte ^= key_byte;
    }
    let mut state = SHA512_START;
    compress512(&mut state, &[block]);
    state
}

/// The state of SHA-256 after the doubled tag of a tagged hash (BIP-340).
fn tag_state(tag: &[u8]) -> [u32; 8] {
    let tag = bitcoin::hashes::sha256::Hash::hash(tag).to_byte_array();
    let mut block = [0u8; 64];
    block[..32].copy_from_slice(&tag);
    block[32..].copy_from_slice(&tag);
    let mut state = SHA256_START;
    compress256(&mut state, &[block]);
    state
}

/// RIPEMD-160 of SHA-256 of at most 55 bytes, so that one compression is enough.
fn hash160(bytes: &[u8]) -> [u8; 20] {
    let mut block = [0u8; 64];
    block[..bytes.len()].copy_from_slice(bytes);
    block[bytes.len()] = 0x80;
    block[56..].copy_from_slice(&(8 * bytes.len() as u64).to_be_bytes());
    let mut state = SHA256_START;
    compress256(&mut state, &[block]);
    ripemd160::Hash::hash(&digest_bytes(&state)).to_byte_array()
}

/// The big-endian bytes of a SHA-256 state.
pub(crate) fn digest_bytes(state: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}
