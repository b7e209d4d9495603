//! Reading a transaction and signing it: what the signer learns from a PSBT without believing whoever made it. It must
//! never sign what it did not read, and never return a signature that it did not verify.
//!
//! Of a PSBT only the unsigned transaction, the previous outputs, the sighash types and the paths of the inputs' keys
//! are read. Amounts count only with the whole transaction that made them (BIP-174's non-witness UTXO), since a
//! version 0 witness signature covers its own input's amount alone and an engine could lie about the others; taproot's
//! covers all of them (BIP-341). Scripts and keys are always derived here. Whatever else the PSBT holds is dropped.

use crate::judge::{AMOUNT_SAT_MAX, Output, Reading};
use crate::protocol::{Input, Refused};
use crate::refusal::Refusal;
use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::key::{CompressedPublicKey, Keypair, TapTweak};
use bitcoin::script::PushBytesBuf;
use bitcoin::secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey, XOnlyPublicKey, ecdsa, schnorr};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{Psbt, ScriptBuf, Transaction, TxOut, Witness};
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::{AddressIndex, Branch, ScriptKind, SecretKeyTree};
use florin_core::id::TxId;
use std::collections::BTreeSet;
use std::str::FromStr;

/// Most inputs of a transaction: more than fit the 100,000 virtual bytes that nodes relay.
pub const INPUTS_MAX: usize = 2_000;

/// A wallet's keys, derived at start-up.
pub struct WalletKeys {
    pub(crate) tree: SecretKeyTree,
    pub(crate) external: Descriptor,
    pub(crate) internal: Descriptor,
}

/// Where one of our keys stands below its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    branch: Branch,
    index: AddressIndex,
}

impl WalletKeys {
    fn kind(&self) -> ScriptKind {
        self.external.kind()
    }

    fn descriptor(&self, branch: Branch) -> &Descriptor {
        match branch {
            Branch::External => &self.external,
            Branch::Internal => &self.internal,
        }
    }

    fn script(&self, place: Place) -> Option<ScriptBuf> {
        self.descriptor(place.branch).script(place.index).ok().map(|script| script.to_script_buf())
    }

    /// The change script at `index`.
    pub(crate) fn change_script(&self, index: u32) -> Result<Vec<u8>, Refused> {
        let index = AddressIndex::new(index);
        let script = index.and_then(|index| self.script(Place { branch: Branch::Internal, index }));
        script.map(ScriptBuf::into_bytes).ok_or(Refused::whole(Refusal::ChangeFar))
    }

    /// The place that a key origin names, if it is below this account.
    fn place(&self, fingerprint: Fingerprint, path: &DerivationPath) -> Option<Place> {
        let origin = self.external.origin();
        let steps: &[ChildNumber] = path.as_ref();
        let account: &[ChildNumber] = origin.path.as_ref();
        let below = steps.strip_prefix(account).filter(|_| fingerprint == origin.fingerprint)?;
        match below {
            [ChildNumber::Normal { index: branch }, ChildNumber::Normal { index }] => {
                Some(Place { branch: Branch::from_step(*branch)?, index: AddressIndex::new(*index)? })
            }
            _ => None,
        }
    }

    fn public(&self, place: Place) -> Option<PublicKey> {
        self.descriptor(place.branch).deriver().public_key(place.index).ok()
    }

    /// Bytes of an input's signature script, and of its witness, at the least: DER signatures have 70 bytes or more
    /// but once in 2^16.
    fn signature_sizes(&self) -> (u64, u64) {
        const ECDSA: u64 = 1 + 71 + 1 + 33;
        match self.kind() {
            ScriptKind::Pkh => (ECDSA, 0),
            ScriptKind::ShWpkh => (23, 1 + ECDSA),
            ScriptKind::Wpkh => (0, 1 + ECDSA),
            ScriptKind::Tr => (0, 1 + 1 + 64),
        }
    }
}

/// A transaction that was read, ready to be judged and signed.
pub(crate) struct Proposal {
    transaction: Transaction,
    previous: Vec<TxOut>,
    places: Vec<Place>,
    reading: Reading,
}

impl Proposal {
    /// Reads a PSBT.
    ///
    /// # Errors
    /// [`Refusal::TransactionInvalid`], `InputUnproven`, `InputForeign`, `SighashForbidden`, in that order.
    pub(crate) fn read(bytes: &[u8], keys: &WalletKeys) -> Result<Proposal, Refused> {
        let psbt = Psbt::deserialize(bytes).map_err(|_| Refused::whole(Refusal::TransactionInvalid))?;
        check_shape(&psbt.unsigned_tx)?;
        let previous =
            (0..psbt.inputs.len()).map(|place| proven(&psbt, place, keys.kind())).collect::<Result<Vec<_>, _>>()?;
        let places = (0..psbt.inputs.len())
            .map(|place| own(&psbt, place, &previous[place], keys))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(place) = psbt.inputs.iter().position(|input| !is_allowed(input, keys.kind())) {
            return Err(Refused::at(Refusal::SighashForbidden, place));
        }
        let input_sum = previous.iter().map(|output| output.value.to_sat()).try_fold(0u64, u64::checked_add);
        let input_sum = input_sum.ok_or(Refused::whole(Refusal::InputUnproven))?;
        let transaction = psbt.unsigned_tx;
        let reading = Reading {
            inputs: transaction.input.iter().map(|input| input_of(&input.previous_output)).collect(),
            input_sum,
            outputs: transaction
                .output
                .iter()
                .map(|output| Output { script: output.script_pubkey.to_bytes(), amount: output.value.to_sat() })
                .collect(),
            virtual_size: signed_size(&transaction, keys),
        };
        Ok(Proposal { transaction, previous, places, reading })
    }

    /// What was read.
    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Signs every input, checks every signature with keys derived from public ones, and returns the transaction as the
    /// network carries it, and its id. The same proposal gives the same bytes: nonces are those of RFC 6979, and of
    /// BIP-340 without auxiliary randomness. `None` when a fresh signature does not verify.
    pub(crate) fn sign(mut self, keys: &WalletKeys, blinding: &[u8; 32]) -> Option<(Vec<u8>, [u8; 32])> {
        let mut secp = Secp256k1::new();
        secp.seeded_randomize(blinding);
        for (place, path) in self.places.clone().into_iter().enumerate() {
            let mut secret = secret_key(keys, path, &secp)?;
            self.sign_input(place, keys.kind(), &secret, &secp);
            secret.non_secure_erase();
        }
        self.verify(keys, &secp)?;
        let txid = self.transaction.compute_txid().to_byte_array();
        Some((serialize(&self.transaction), txid))
    }

    fn sign_input(&mut self, place: usize, kind: ScriptKind, secret: &SecretKey, secp: &Secp256k1<All>) {
        let public = secret.public_key(secp);
        let message = self.message(place, kind, &public);
        let ecdsa = || ecdsa_bytes(&secp.sign_ecdsa(&message, secret));
        let (script, witness) = match kind {
            ScriptKind::Pkh => (signature_script(ecdsa(), &public), Witness::new()),
            ScriptKind::ShWpkh => (push_script(redeem_script(&public).as_bytes()), key_witness(ecdsa(), &public)),
            ScriptKind::Wpkh => (ScriptBuf::new(), key_witness(ecdsa(), &public)),
            ScriptKind::Tr => {
                let mut pair = Keypair::from_secret_key(secp, secret).tap_tweak(secp, None).to_keypair();
                let signature = secp.sign_schnorr_no_aux_rand(&message, &pair);
                pair.non_secure_erase();
                (ScriptBuf::new(), Witness::from_slice(&[signature.serialize()]))
            }
        };
        let input = &mut self.transaction.input[place];
        (input.script_sig, input.witness) = (script, witness);
    }

    /// What the signature of an input is over: everything (ALL, taproot's DEFAULT).
    fn message(&self, place: usize, kind: ScriptKind, public: &PublicKey) -> Message {
        let mut cache = SighashCache::new(&self.transaction);
        let (script, value) = (&self.previous[place].script_pubkey, self.previous[place].value);
        let all = EcdsaSighashType::All;
        let hash = match kind {
            ScriptKind::Pkh => {
                cache.legacy_signature_hash(place, script, all.to_u32()).map(|hash| hash.to_byte_array()).ok()
            }
            ScriptKind::ShWpkh => {
                let redeem = redeem_script(public);
                cache.p2wpkh_signature_hash(place, &redeem, value, all).map(|hash| hash.to_byte_array()).ok()
            }
            ScriptKind::Wpkh => {
                cache.p2wpkh_signature_hash(place, script, value, all).map(|hash| hash.to_byte_array()).ok()
            }
            ScriptKind::Tr => cache
                .taproot_key_spend_signature_hash(place, &Prevouts::All(&self.previous), TapSighashType::Default)
                .map(|hash| hash.to_byte_array())
                .ok(),
        };
        Message::from_digest(hash.expect("the input exists, and its script is one that was derived here"))
    }

    /// Checks what stands in each input against the public key that the descriptor gives.
    fn verify(&self, keys: &WalletKeys, secp: &Secp256k1<All>) -> Option<()> {
        for (place, path) in self.places.iter().enumerate() {
            let public = keys.public(*path)?;
            let message = self.message(place, keys.kind(), &public);
            let input = &self.transaction.input[place];
            let witness = input.witness.to_vec();
            let valid = match (keys.kind(), witness.as_slice()) {
                (ScriptKind::Pkh, []) => {
                    let pushes: Vec<Vec<u8>> = pushes(&input.script_sig)?;
                    let [signature, key] = pushes.as_slice() else { return None };
                    ecdsa_is_valid(secp, &message, signature, key, &public)
                }
                (ScriptKind::ShWpkh, [signature, key]) => {
                    let redeem = redeem_script(&public);
                    pushes(&input.script_sig)? == [redeem.to_bytes()]
                        && redeem.to_p2sh() == self.previous[place].script_pubkey
                        && ecdsa_is_valid(secp, &message, signature, key, &public)
                }
                (ScriptKind::Wpkh, [signature, key]) if input.script_sig.is_empty() => {
                    ecdsa_is_valid(secp, &message, signature, key, &public)
                }
                (ScriptKind::Tr, [signature]) if input.script_sig.is_empty() => {
                    let script = self.previous[place].script_pubkey.as_bytes();
                    let key = XOnlyPublicKey::from_slice(script.get(2..)?).ok()?;
                    let signature = schnorr::Signature::from_slice(signature).ok()?;
                    secp.verify_schnorr(&signature, &message, &key).is_ok()
                }
                _ => false,
            };
            if !valid {
                return None;
            }
        }
        Some(())
    }
}

/// Refuses what no plan of ours looks like.
fn check_shape(transaction: &Transaction) -> Result<(), Refused> {
    let refuse = || Err(Refused::whole(Refusal::TransactionInvalid));
    if !(1..=INPUTS_MAX).contains(&transaction.input.len()) || transaction.output.is_empty() {
        return refuse();
    }
    if !matches!(transaction.version.0, 1 | 2) {
        return refuse();
    }
    let spent: BTreeSet<_> = transaction.input.iter().map(|input| input.previous_output).collect();
    if spent.len() < transaction.input.len() || spent.iter().any(bitcoin::OutPoint::is_null) {
        return refuse();
    }
    match transaction.output.iter().any(|output| output.value.to_sat() > AMOUNT_SAT_MAX) {
        true => refuse(),
        false => Ok(()),
    }
}

/// The output that an input spends, proven by the whole transaction that made it; taproot's signature proves it by
/// itself.
fn proven(psbt: &Psbt, place: usize, kind: ScriptKind) -> Result<TxOut, Refused> {
    let refused = Refused::at(Refusal::InputUnproven, place);
    let outpoint = psbt.unsigned_tx.input[place].previous_output;
    let (whole, claimed) = (&psbt.inputs[place].non_witness_utxo, &psbt.inputs[place].witness_utxo);
    let output = match (whole, claimed) {
        (Some(whole), _) => {
            let output = whole.output.get(outpoint.vout as usize).ok_or(refused)?;
            let contradicted = claimed.as_ref().is_some_and(|claimed| claimed != output);
            if whole.compute_txid() != outpoint.txid || contradicted {
                return Err(refused);
            }
            output
        }
        (None, Some(claimed)) if kind == ScriptKind::Tr => claimed,
        (None, _) => return Err(refused),
    };
    if output.value.to_sat() > AMOUNT_SAT_MAX { Err(refused) } else { Ok(output.clone()) }
}

/// The place of an input's key: one of the named origins must be below our account and give exactly the script.
fn own(psbt: &Psbt, place: usize, previous: &TxOut, keys: &WalletKeys) -> Result<Place, Refused> {
    let input = &psbt.inputs[place];
    let origins = input.bip32_derivation.values().chain(input.tap_key_origins.values().map(|(_, origin)| origin));
    origins
        .filter_map(|(fingerprint, path)| keys.place(*fingerprint, path))
        .find(|path| keys.script(*path).as_ref() == Some(&previous.script_pubkey))
        .ok_or(Refused::at(Refusal::InputForeign, place))
}

fn is_allowed(input: &bitcoin::psbt::Input, kind: ScriptKind) -> bool {
    match (input.sighash_type, kind) {
        (None, _) => true,
        (Some(asked), ScriptKind::Tr) => asked == TapSighashType::Default.into(),
        (Some(asked), ScriptKind::Pkh | ScriptKind::ShWpkh | ScriptKind::Wpkh) => asked == EcdsaSighashType::All.into(),
    }
}

/// Virtual bytes once signed: weight by fours, rounded up (BIP-141).
fn signed_size(transaction: &Transaction, keys: &WalletKeys) -> u64 {
    let (script, witness) = keys.signature_sizes();
    let inputs = transaction.input.len() as u64;
    let marker = if witness > 0 { 2 } else { 0 };
    let weight = 4 * (transaction.base_size() as u64 + script * inputs) + marker + witness * inputs;
    weight.div_ceil(4)
}

fn input_of(outpoint: &bitcoin::OutPoint) -> Input {
    Input { txid: TxId(outpoint.txid.to_byte_array()), vout: outpoint.vout }
}

fn secret_key(keys: &WalletKeys, place: Place, secp: &Secp256k1<All>) -> Option<SecretKey> {
    let path = [place.branch.step(), place.index.get()].map(|index| ChildNumber::Normal { index });
    let child = keys.tree.derive(secp, &DerivationPath::from(path.to_vec())).ok()?;
    let mut child = Xpriv::from_str(&child.expose_text()).ok()?;
    let secret = child.private_key;
    child.private_key.non_secure_erase();
    Some(secret)
}

/// `OP_0` and the key's hash: the script inside of BIP-49's script hash.
fn redeem_script(public: &PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(*public).wpubkey_hash())
}

fn ecdsa_bytes(signature: &ecdsa::Signature) -> Vec<u8> {
    let mut bytes = signature.serialize_der().to_vec();
    bytes.push(EcdsaSighashType::All as u8);
    bytes
}

fn key_witness(signature: Vec<u8>, public: &PublicKey) -> Witness {
    Witness::from_slice(&[signature, public.serialize().to_vec()])
}

fn push_script(bytes: &[u8]) -> ScriptBuf {
    let push = PushBytesBuf::try_from(bytes.to_vec()).expect("signatures, keys and redeem scripts are short");
    ScriptBuf::builder().push_slice(push).into_script()
}

fn signature_script(signature: Vec<u8>, public: &PublicKey) -> ScriptBuf {
    let mut bytes = push_script(&signature).into_bytes();
    bytes.extend_from_slice(push_script(&public.serialize()).as_bytes());
    ScriptBuf::from_bytes(bytes)
}

fn pushes(script: &ScriptBuf) -> Option<Vec<Vec<u8>>> {
    let instructions = script.instructions_minimal();
    instructions.map(|instruction| instruction.ok()?.push_bytes().map(|bytes| bytes.as_bytes().to_vec())).collect()
}

fn ecdsa_is_valid(secp: &Secp256k1<All>, message: &Message, signature: &[u8], key: &[u8], public: &PublicKey) -> bool {
    let Some((last, der)) = signature.split_last() else { return false };
    let Ok(signature) = ecdsa::Signature::from_der(der) else { return false };
    *last == EcdsaSighashType::All as u8
        && key == public.serialize()
        && secp.verify_ecdsa(message, &signature, public).is_ok()
}
