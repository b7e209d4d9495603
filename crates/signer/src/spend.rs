//! From a PSBT to a network transaction: what the signer finds out, and what it signs. It must never sign what it did not
//! check, believe a field of the PSBT that it can derive, or return a transaction whose scripts it did not run.
//!
//! What was checked is put into a PSBT of our own making, with scripts, keys and origins derived here, and only that is
//! signed: nothing else that the engine wrote into its PSBT reaches the signing code.

use crate::protocol::{Input, PaymentRequest, Refused};
use crate::refusal::Refusal;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{CompressedPublicKey, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Txid};
use florin_chain::bitcoin::check::{CheckedInput, CheckedSpend, SpendIntent, SpendRefusal, SpendRules, check_spend};
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::{AccountPublic, AccountSecrets, Branch, ScriptKind};
use florin_chain::bitcoin::psbt::{finish_psbt, parse_psbt};
use florin_chain::bitcoin::sign::sign_psbt;
use florin_chain::bitcoin::verify::verify_tx;
use florin_core::id::TxId;

/// A wallet's keys, derived at start-up.
pub struct WalletKeys {
    pub(crate) secrets: AccountSecrets,
    pub(crate) public: AccountPublic,
    pub(crate) external: Descriptor,
    pub(crate) internal: Descriptor,
}

impl WalletKeys {
    fn descriptor(&self, branch: Branch) -> &Descriptor {
        match branch {
            Branch::External => &self.external,
            Branch::Internal => &self.internal,
        }
    }
}

/// A transaction that was checked and may be judged further and signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    psbt: Psbt,
    checked: CheckedSpend,
}

impl Proposal {
    /// Reads a PSBT and checks it against intents and caps.
    ///
    /// # Errors
    /// From [`Refusal::TransactionInvalid`] to [`Refusal::FeeAboveShare`].
    pub fn read(
        bytes: &[u8],
        payments: &[PaymentRequest],
        keys: &WalletKeys,
        rules: &SpendRules,
    ) -> Result<Proposal, Refused> {
        let psbt = parse_psbt(bytes).map_err(|_| Refused::whole(Refusal::TransactionInvalid))?;
        let mut intents = Vec::with_capacity(payments.len());
        for (place, payment) in payments.iter().enumerate() {
            // No output can hold more than 64 bits say.
            let amount_sat = u64::try_from(payment.intent.amount.units());
            let amount_sat = amount_sat.map_err(|_| Refused::at(Refusal::PaymentAbsent, place))?;
            intents.push(SpendIntent { script: ScriptBuf::from_bytes(payment.intent.script.0.clone()), amount_sat });
        }
        let checked = check_spend(&psbt, &intents, &keys.public, rules).map_err(refused)?;
        Ok(Proposal { psbt, checked })
    }

    /// What it spends.
    pub fn inputs(&self) -> Vec<Input> {
        self.checked.inputs.iter().map(|input| input_of(&input.outpoint)).collect()
    }

    /// What it pays in fees, in satoshi.
    pub fn fee_sat(&self) -> u64 {
        self.checked.fee_sat
    }

    /// The index of its change.
    pub fn change_index(&self) -> Option<u32> {
        self.checked.change.map(|change| change.index.get())
    }

    /// Signs every input, runs every script, and returns the transaction as the network carries it, and its id. The
    /// same proposal gives the same bytes. `None` when what was just signed does not satisfy its scripts: then the
    /// machine is broken.
    pub fn sign(self, keys: &WalletKeys, blinding: &[u8; 32]) -> Option<(Vec<u8>, [u8; 32])> {
        let mut spent = Vec::with_capacity(self.checked.inputs.len());
        let mut clean = Psbt::from_unsigned_tx(self.psbt.unsigned_tx.clone()).ok()?;
        for (place, checked) in self.checked.inputs.iter().enumerate() {
            let output = describe(&mut clean.inputs[place], checked, keys)?;
            clean.inputs[place].non_witness_utxo = self.psbt.inputs[place].non_witness_utxo.clone();
            spent.push(output);
        }
        if sign_psbt(&mut clean, &keys.secrets, blinding).ok()? != spent.len() {
            return None;
        }
        let transaction = finish_psbt(clean).ok()?;
        let fee = verify_tx(&transaction, &spent).ok()?;
        if fee != self.checked.fee_sat || unsigned(&transaction) != self.psbt.unsigned_tx {
            return None;
        }
        let txid = transaction.compute_txid().to_byte_array();
        Some((serialize(&transaction), txid))
    }
}

/// The rules of [`check_spend`] for an anchor.
pub(crate) fn outpoint_of(input: &Input) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array(input.txid.0), vout: input.vout }
}

fn input_of(outpoint: &OutPoint) -> Input {
    Input { txid: TxId(outpoint.txid.to_byte_array()), vout: outpoint.vout }
}

/// Writes what is known of an input, all of it derived, into an empty PSBT input; returns the output that it spends.
fn describe(input: &mut bitcoin::psbt::Input, checked: &CheckedInput, keys: &WalletKeys) -> Option<TxOut> {
    let descriptor = keys.descriptor(checked.branch);
    let script_pubkey = descriptor.script(checked.index).ok()?.to_script_buf();
    let output = TxOut { value: bitcoin::Amount::from_sat(checked.amount_sat), script_pubkey };
    let public = descriptor.deriver().public_key(checked.index).ok()?;
    let origin = (descriptor.origin().fingerprint, descriptor.full_path(checked.index));
    if descriptor.kind() == ScriptKind::Tr {
        let internal = public.x_only_public_key().0;
        input.tap_internal_key = Some(internal);
        input.tap_key_origins.insert(internal, (Vec::new(), origin));
    } else {
        input.bip32_derivation.insert(public, origin);
    }
    if descriptor.kind() == ScriptKind::ShWpkh {
        input.redeem_script = Some(ScriptBuf::new_p2wpkh(&CompressedPublicKey(public).wpubkey_hash()));
    }
    if descriptor.kind() != ScriptKind::Pkh {
        input.witness_utxo = Some(output.clone());
    }
    Some(output)
}

fn unsigned(transaction: &Transaction) -> Transaction {
    let mut bare = transaction.clone();
    for input in &mut bare.input {
        (input.script_sig, input.witness) = Default::default();
    }
    bare
}

/// The chain's refusals in the signer's words.
fn refused(refusal: SpendRefusal) -> Refused {
    match refusal {
        SpendRefusal::Malformed
        | SpendRefusal::VersionWrong
        | SpendRefusal::LockTimeInvalid
        | SpendRefusal::AmountOutOfRange => Refused::whole(Refusal::TransactionInvalid),
        SpendRefusal::AlreadySigned { input }
        | SpendRefusal::InputDuplicate { input }
        | SpendRefusal::SequenceWrong { input } => Refused::at(Refusal::TransactionInvalid, input),
        SpendRefusal::SighashForbidden { input } => Refused::at(Refusal::SighashForbidden, input),
        SpendRefusal::PreviousMissing { input } | SpendRefusal::PreviousMismatch { input } => {
            Refused::at(Refusal::InputUnproven, input)
        }
        SpendRefusal::InputNotOurs { input } => Refused::at(Refusal::InputForeign, input),
        SpendRefusal::AnchorMissing => Refused::whole(Refusal::AnchorUnspent),
        SpendRefusal::OutputUnknown { output } => Refused::at(Refusal::OutputUnknown, output),
        SpendRefusal::ChangeTooFar { output } => Refused::at(Refusal::ChangeFar, output),
        SpendRefusal::ChangeTooMany { output } => Refused::at(Refusal::ChangeRepeated, output),
        SpendRefusal::IntentUnpaid { intent } => Refused::at(Refusal::PaymentAbsent, intent),
        SpendRefusal::OutputsExceedInputs => Refused::whole(Refusal::AmountsExceeded),
        SpendRefusal::FeeRateAboveCap { .. } => Refused::whole(Refusal::FeeRateAboveCap),
        SpendRefusal::FeeAboveCap { .. } => Refused::whole(Refusal::FeeAboveCap),
        SpendRefusal::FeeShareAboveCap { .. } => Refused::whole(Refusal::FeeAboveShare),
    }
}
