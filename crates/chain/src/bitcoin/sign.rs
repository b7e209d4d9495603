//! Signatures of a PSBT's inputs with one account's keys; it must never sign anything that was not checked before.
//!
//! Only the signer process calls this, after [`check_spend`](crate::bitcoin::check::check_spend) accepted the same PSBT.
//! Signatures are deterministic (RFC 6979; BIP-340 without auxiliary randomness), so that signing again gives the same
//! bytes, and each is verified before it is returned.

use crate::bitcoin::derive::ScriptDeriver;
use crate::bitcoin::keys::{AccountSecrets, AddressIndex, Branch, ScriptKind, signing_context};
use crate::bitcoin::psbt::{SpentError, input_sources, place_in_account, spent_output};
use bitcoin::bip32::{ChildNumber, Xpub};
use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak;
use bitcoin::psbt::{Psbt, PsbtSighashType};
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{ScriptBuf, Transaction, TxOut, ecdsa, taproot};

/// Why a PSBT was not signed, most precise reason first. Nothing is signed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// An input asks for a sighash type that does not commit to the whole transaction.
    #[error("input {input} asks for a sighash type other than ALL or DEFAULT")]
    SighashForbidden {
        /// Position of the input.
        input: usize,
    },
    /// Nothing proves what an input spends.
    #[error("input {input} does not prove what it spends")]
    PreviousMissing {
        /// Position of the input.
        input: usize,
    },
    /// What an input says it spends is contradicted.
    #[error("input {input} contradicts what it spends")]
    PreviousMismatch {
        /// Position of the input.
        input: usize,
    },
    /// An input names a key of this account, but spends another script.
    #[error("input {input} names a key of ours but spends another script")]
    ScriptMismatch {
        /// Position of the input.
        input: usize,
    },
    /// No input belongs to this account.
    #[error("no input belongs to this account")]
    NothingToSign,
    /// A signature did not verify: the computer made a mistake.
    #[error("a signature of input {input} did not verify")]
    Fault {
        /// Position of the input.
        input: usize,
    },
}

impl SignError {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            SignError::SighashForbidden { .. } => "sighash_forbidden",
            SignError::PreviousMissing { .. } => "previous_transaction_missing",
            SignError::PreviousMismatch { .. } => "previous_transaction_mismatch",
            SignError::ScriptMismatch { .. } => "script_mismatch",
            SignError::NothingToSign => "nothing_to_sign",
            SignError::Fault { .. } => "signature_fault",
        }
    }
}

/// A signature for one input.
enum Signature {
    Ecdsa(bitcoin::PublicKey, ecdsa::Signature),
    Taproot(taproot::Signature),
}

/// Signs every input of this account and returns how many. `blinding` is fresh randomness that protects the computation
/// against side channels; it does not change the signatures.
///
/// # Errors
/// [`SignError`], in order of precedence; the PSBT is unchanged then.
pub fn sign_psbt(psbt: &mut Psbt, secrets: &AccountSecrets, blinding: &[u8; 32]) -> Result<usize, SignError> {
    let secp = signing_context(blinding);
    let mut spent = Vec::new();
    for input in 0..psbt.unsigned_tx.input.len() {
        spent.push(spent_output(psbt, input).map_err(|error| match error {
            SpentError::Missing => SignError::PreviousMissing { input },
            SpentError::Mismatch => SignError::PreviousMismatch { input },
        })?);
    }
    let mut signatures = Vec::new();
    for input in 0..psbt.inputs.len() {
        if let Some(place) = place_in_account(secrets.origin(), input_sources(&psbt.inputs[input])) {
            signatures.push((input, sign_input(&secp, psbt, input, &spent, secrets, place)?));
        }
    }
    if signatures.is_empty() {
        return Err(SignError::NothingToSign);
    }
    let count = signatures.len();
    for (input, signature) in signatures {
        match signature {
            Signature::Ecdsa(key, signature) => drop(psbt.inputs[input].partial_sigs.insert(key, signature)),
            Signature::Taproot(signature) => psbt.inputs[input].tap_key_sig = Some(signature),
        }
    }
    Ok(count)
}

/// A private key that is wiped when dropped.
struct ChildKey(SecretKey);

impl Drop for ChildKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

fn sign_input(
    secp: &Secp256k1<All>,
    psbt: &Psbt,
    input: usize,
    spent: &[TxOut],
    secrets: &AccountSecrets,
    (branch, index): (Branch, AddressIndex),
) -> Result<Signature, SignError> {
    let sighash = psbt.inputs[input].sighash_type;
    let is_all = sighash.is_none_or(|asked| asked.ecdsa_hash_ty() == Ok(EcdsaSighashType::All));
    let is_default = |asked: PsbtSighashType| asked.taproot_hash_ty() == Ok(TapSighashType::Default);
    let may_default = secrets.kind() == ScriptKind::Tr && sighash.is_none_or(is_default);
    if !is_all && !may_default {
        return Err(SignError::SighashForbidden { input });
    }
    let mismatch = SignError::ScriptMismatch { input };
    let step = |number: u32| [ChildNumber::from(number)];
    let branch_tree = secrets.tree().derive(secp, &step(branch.step())[..].into()).map_err(|_| mismatch)?;
    let deriver = ScriptDeriver::new(secrets.kind(), &Xpub::from_priv(secp, branch_tree.key()));
    if deriver.script(index).map_err(|_| mismatch)?.as_bytes() != spent[input].script_pubkey.as_bytes() {
        return Err(mismatch);
    }
    let child = branch_tree.derive(secp, &step(index.get())[..].into()).map_err(|_| mismatch)?;
    let key = ChildKey(child.key().private_key);
    match secrets.kind() {
        ScriptKind::Tr if is_all && sighash.is_some() => {
            sign_taproot(secp, &psbt.unsigned_tx, input, spent, &key, TapSighashType::All)
        }
        ScriptKind::Tr => sign_taproot(secp, &psbt.unsigned_tx, input, spent, &key, TapSighashType::Default),
        kind => sign_ecdsa(secp, &psbt.unsigned_tx, input, &spent[input], &key, kind),
    }
}

fn sign_ecdsa(
    secp: &Secp256k1<All>,
    tx: &Transaction,
    input: usize,
    spent: &TxOut,
    key: &ChildKey,
    kind: ScriptKind,
) -> Result<Signature, SignError> {
    let public = bitcoin::CompressedPublicKey(key.0.public_key(secp));
    let program = ScriptBuf::new_p2wpkh(&public.wpubkey_hash());
    let mut cache = SighashCache::new(tx);
    let all = EcdsaSighashType::All;
    let digest = match kind {
        ScriptKind::Pkh => {
            let hash = cache.legacy_signature_hash(input, &spent.script_pubkey, all.to_u32());
            hash.map(|hash| hash.to_byte_array()).map_err(|_| SignError::Fault { input })?
        }
        ScriptKind::ShWpkh | ScriptKind::Wpkh | ScriptKind::Tr => {
            let hash = cache.p2wpkh_signature_hash(input, &program, spent.value, all);
            hash.map(|hash| hash.to_byte_array()).map_err(|_| SignError::Fault { input })?
        }
    };
    let message = Message::from_digest(digest);
    let signature = secp.sign_ecdsa(&message, &key.0);
    secp.verify_ecdsa(&message, &signature, &public.0).map_err(|_| SignError::Fault { input })?;
    Ok(Signature::Ecdsa(public.into(), ecdsa::Signature { signature, sighash_type: all }))
}

fn sign_taproot(
    secp: &Secp256k1<All>,
    tx: &Transaction,
    input: usize,
    spent: &[TxOut],
    key: &ChildKey,
    sighash_type: TapSighashType,
) -> Result<Signature, SignError> {
    let mut cache = SighashCache::new(tx);
    let hash = cache.taproot_key_spend_signature_hash(input, &Prevouts::All(spent), sighash_type);
    let message = Message::from_digest(hash.map_err(|_| SignError::Fault { input })?.to_byte_array());
    let mut pair = Keypair::from_secret_key(secp, &key.0);
    let mut output = pair.tap_tweak(secp, None).to_keypair();
    let signature = secp.sign_schnorr_no_aux_rand(&message, &output);
    let verified = secp.verify_schnorr(&signature, &message, &output.x_only_public_key().0);
    pair.non_secure_erase();
    output.non_secure_erase();
    verified.map_err(|_| SignError::Fault { input })?;
    Ok(Signature::Taproot(taproot::Signature { signature, sighash_type }))
}
