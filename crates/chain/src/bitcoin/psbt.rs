//! Partially signed transactions (BIP-174, version 0): from a plan, and to a final transaction; it must never sign.
//!
//! Each input carries its key origin and, unless it is taproot, the full previous transaction, so that a signer needs to
//! believe nobody about amounts.

use crate::bitcoin::descriptor::Descriptor;
use crate::bitcoin::keys::{AccountPublic, AddressIndex, Branch, KeyError, KeyOrigin, ScriptKind, VERIFIER};
use crate::bitcoin::plan::{KeyPlace, OutputRole, Plan, WalletRef};
use bitcoin::bip32::{ChildNumber, KeySource};
use bitcoin::consensus::encode::deserialize;
use bitcoin::psbt::{Input, Output, Psbt};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use miniscript::psbt::PsbtExt;
use std::collections::BTreeMap;

/// Most bytes that are read as a PSBT: the inputs of a plan with previous transactions of ordinary size.
pub const PSBT_SIZE_MAX: usize = 16 << 20;

/// Why a PSBT could not be made, read or finished, most precise reason first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PsbtError {
    /// The bytes are longer than [`PSBT_SIZE_MAX`].
    #[error("the PSBT is too large")]
    TooLarge,
    /// The bytes are no PSBT of version 0.
    #[error("the bytes are no PSBT of version 0")]
    Invalid,
    /// Bytes of a previous transaction are no transaction.
    #[error("a previous transaction cannot be read")]
    PreviousInvalid,
    /// The wallet of an input or of the change was not given.
    #[error("wallet {} was not given", .0.0)]
    WalletUnknown(WalletRef),
    /// The previous transaction of an input was not given, and its kind needs one.
    #[error("the previous transaction of {0} was not given")]
    PreviousMissing(OutPoint),
    /// A previous transaction contradicts the plan's script or amount.
    #[error("the previous transaction of {0} contradicts the plan")]
    PreviousMismatch(OutPoint),
    /// A script is not the one its wallet derives at the place the plan names.
    #[error("a script is not the one that its wallet derives")]
    ScriptMismatch,
    /// A key could not be derived.
    #[error("a key could not be derived")]
    Key(#[source] KeyError),
    /// An input has no sufficient signature, or a wrong one.
    #[error("input {input} is not fully signed")]
    NotSigned {
        /// Position of the input.
        input: usize,
    },
}

impl PsbtError {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            PsbtError::TooLarge => "psbt_too_large",
            PsbtError::Invalid => "psbt_invalid",
            PsbtError::PreviousInvalid => "previous_transaction_invalid",
            PsbtError::WalletUnknown(_) => "wallet_unknown",
            PsbtError::PreviousMissing(_) => "previous_transaction_missing",
            PsbtError::PreviousMismatch(_) => "previous_transaction_mismatch",
            PsbtError::ScriptMismatch => "script_mismatch",
            PsbtError::Key(error) => error.code(),
            PsbtError::NotSigned { .. } => "psbt_not_signed",
        }
    }
}

/// A wallet whose keys a plan uses.
#[derive(Clone, Copy, Debug)]
pub struct WalletKeys<'a> {
    /// The number it has in the plan.
    pub wallet: WalletRef,
    /// Its public keys.
    pub account: &'a AccountPublic,
}

/// Reads a PSBT of version 0 that came from outside.
///
/// # Errors
/// `TooLarge` before `Invalid`, both of [`PsbtError`].
pub fn parse_psbt(bytes: &[u8]) -> Result<Psbt, PsbtError> {
    if bytes.len() > PSBT_SIZE_MAX {
        return Err(PsbtError::TooLarge);
    }
    Psbt::deserialize(bytes).map_err(|_| PsbtError::Invalid)
}

/// Makes the PSBT of a plan. `previous` are the raw transactions that made the coins, in any order.
///
/// # Errors
/// [`PsbtError`], from `PreviousInvalid` to `Key`.
pub fn build_psbt(plan: &Plan, previous: &[Vec<u8>], wallets: &[WalletKeys<'_>]) -> Result<Psbt, PsbtError> {
    let mut made: BTreeMap<Txid, Transaction> = BTreeMap::new();
    for bytes in previous {
        let tx: Transaction = deserialize(bytes).map_err(|_| PsbtError::PreviousInvalid)?;
        made.insert(tx.compute_txid(), tx);
    }
    let mut psbt = Psbt::from_unsigned_tx(plan.transaction()).map_err(|_| PsbtError::Invalid)?;
    for (input, planned) in psbt.inputs.iter_mut().zip(&plan.inputs) {
        let key = PlacedKey::find(wallets, &planned.place, &planned.script)?;
        let spent =
            TxOut { value: bitcoin::Amount::from_sat(planned.amount_sat), script_pubkey: planned.script.clone() };
        if let Some(tx) = made.get(&planned.outpoint.txid) {
            if tx.output.get(planned.outpoint.vout as usize) != Some(&spent) {
                return Err(PsbtError::PreviousMismatch(planned.outpoint));
            }
            input.non_witness_utxo = Some(tx.clone());
        } else if key.kind != ScriptKind::Tr {
            return Err(PsbtError::PreviousMissing(planned.outpoint));
        }
        if key.kind != ScriptKind::Pkh {
            input.witness_utxo = Some(spent);
        }
        key.describe_input(input);
    }
    for (output, planned) in psbt.outputs.iter_mut().zip(&plan.outputs) {
        if let OutputRole::Change(place) = planned.role {
            PlacedKey::find(wallets, &place, &planned.script)?.describe_output(output);
        }
    }
    Ok(psbt)
}

/// Turns signatures into final scripts and witnesses and returns the transaction. Every input is checked on the way.
///
/// # Errors
/// [`PsbtError::NotSigned`] for the first input that is not spent validly.
pub fn finish_psbt(mut psbt: Psbt) -> Result<Transaction, PsbtError> {
    for input in 0..psbt.inputs.len() {
        psbt.finalize_inp_mut(&*VERIFIER, input).map_err(|_| PsbtError::NotSigned { input })?;
    }
    Ok(psbt.extract_tx_unchecked_fee_rate())
}

/// A key of ours at its place, with what a PSBT says about it.
struct PlacedKey {
    kind: ScriptKind,
    key: PublicKey,
    source: KeySource,
}

impl PlacedKey {
    fn find(wallets: &[WalletKeys<'_>], place: &KeyPlace, script: &ScriptBuf) -> Result<PlacedKey, PsbtError> {
        let keys = wallets.iter().find(|keys| keys.wallet == place.wallet);
        let account = keys.ok_or(PsbtError::WalletUnknown(place.wallet))?.account;
        let no_key = |_| PsbtError::Key(KeyError::NoKeyAtIndex);
        let descriptor = Descriptor::of_account(account, place.branch).map_err(no_key)?;
        let deriver = descriptor.deriver();
        if deriver.script(place.index).map_err(PsbtError::Key)?.as_bytes() != script.as_bytes() {
            return Err(PsbtError::ScriptMismatch);
        }
        let source = (account.origin.fingerprint, descriptor.full_path(place.index));
        Ok(PlacedKey { kind: account.kind, key: deriver.public_key(place.index).map_err(PsbtError::Key)?, source })
    }

    fn redeem_script(&self) -> Option<ScriptBuf> {
        let key = bitcoin::CompressedPublicKey(self.key);
        (self.kind == ScriptKind::ShWpkh).then(|| ScriptBuf::new_p2wpkh(&key.wpubkey_hash()))
    }

    fn describe_input(self, input: &mut Input) {
        input.redeem_script = self.redeem_script();
        if self.kind == ScriptKind::Tr {
            let (internal, _) = self.key.x_only_public_key();
            input.tap_internal_key = Some(internal);
            input.tap_key_origins.insert(internal, (Vec::new(), self.source));
        } else {
            input.bip32_derivation.insert(self.key, self.source);
        }
    }

    fn describe_output(self, output: &mut Output) {
        output.redeem_script = self.redeem_script();
        if self.kind == ScriptKind::Tr {
            let (internal, _) = self.key.x_only_public_key();
            output.tap_internal_key = Some(internal);
            output.tap_key_origins.insert(internal, (Vec::new(), self.source));
        } else {
            output.bip32_derivation.insert(self.key, self.source);
        }
    }
}

/// Where an input's or output's key claims to stand in an account; only a derivation proves it.
pub(crate) fn place_in_account<'a>(
    origin: &KeyOrigin,
    mut sources: impl Iterator<Item = &'a KeySource>,
) -> Option<(Branch, AddressIndex)> {
    sources.find_map(|(fingerprint, path)| {
        let steps: &[ChildNumber] = path.as_ref();
        let below = steps.strip_prefix(<_ as AsRef<[ChildNumber]>>::as_ref(&origin.path))?;
        let (&[ChildNumber::Normal { index: branch }, ChildNumber::Normal { index }], true) =
            (below, *fingerprint == origin.fingerprint)
        else {
            return None;
        };
        Some((Branch::from_step(branch)?, AddressIndex::new(index)?))
    })
}

/// The key sources that an input names.
pub(crate) fn input_sources(input: &Input) -> impl Iterator<Item = &KeySource> {
    input.bip32_derivation.values().chain(input.tap_key_origins.values().map(|(_, source)| source))
}

/// The key sources that an output names.
pub(crate) fn output_sources(output: &Output) -> impl Iterator<Item = &KeySource> {
    output.bip32_derivation.values().chain(output.tap_key_origins.values().map(|(_, source)| source))
}

/// Why the coin an input spends is not known for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpentError {
    /// Nothing proves the amount.
    Missing,
    /// The previous transaction is another one, or its output and the stated one differ.
    Mismatch,
}

/// The output that an input spends: from the full previous transaction, whose hash the outpoint names. Taproot inputs
/// may state it alone, because their signatures commit to all amounts and scripts (BIP-341).
pub(crate) fn spent_output(psbt: &Psbt, index: usize) -> Result<TxOut, SpentError> {
    let (Some(input), Some(tx_input)) = (psbt.inputs.get(index), psbt.unsigned_tx.input.get(index)) else {
        return Err(SpentError::Missing);
    };
    let outpoint = tx_input.previous_output;
    match (&input.non_witness_utxo, &input.witness_utxo) {
        (Some(previous), stated) => {
            let output = previous.output.get(outpoint.vout as usize).ok_or(SpentError::Mismatch)?;
            let contradicted = stated.as_ref().is_some_and(|stated| stated != output);
            if previous.compute_txid() != outpoint.txid || contradicted {
                return Err(SpentError::Mismatch);
            }
            Ok(output.clone())
        }
        (None, Some(stated)) if stated.script_pubkey.is_p2tr() => Ok(stated.clone()),
        (None, _) => Err(SpentError::Missing),
    }
}
