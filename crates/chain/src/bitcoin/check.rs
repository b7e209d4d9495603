//! What a signer finds out about a transaction by itself; it must never believe what the PSBT says without proof.
//!
//! Amounts come from the full previous transactions, scripts are derived from the signer's own account key, every output
//! is a listed intent or change, the fee is computed. What passes can cost no more than the intents and the caps.

use crate::bitcoin::derive::ScriptDeriver;
use crate::bitcoin::descriptor::Descriptor;
use crate::bitcoin::keys::{AccountPublic, AddressIndex, Branch, ScriptKind};
use crate::bitcoin::plan::{SatPerKvb, share_sat};
use crate::bitcoin::psbt::{SpentError, input_sources, output_sources, place_in_account, spent_output};
use crate::bitcoin::scan::MONEY_MAX_SAT;
use crate::bitcoin::weight::WeightSum;
use bitcoin::psbt::{Input, Psbt, PsbtSighashType};
use bitcoin::sighash::{EcdsaSighashType, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Txid};
use std::collections::BTreeSet;

/// A payment that was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendIntent {
    /// The recipient's script.
    pub script: ScriptBuf,
    /// What the recipient gets, in satoshi.
    pub amount_sat: u64,
}

/// The signer's own bounds, from its policy and its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendRules {
    /// The highest fee in satoshi.
    pub fee_sat_max: u64,
    /// The highest fee as a share of what the intents pay, in parts per million, rounded down.
    pub fee_share_ppm_max: u64,
    /// The highest fee rate.
    pub fee_rate_max: SatPerKvb,
    /// The highest change index: beyond what a restore would search, change would be lost.
    pub change_index_max: AddressIndex,
    /// The coin that must be spent, when another version of the plan was signed before.
    pub anchor: Option<OutPoint>,
}

/// Why a signer refuses, most precise reason first. Positions are those of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpendRefusal {
    /// The PSBT has no input, or not one entry for each input and output.
    #[error("the PSBT is malformed")]
    Malformed,
    /// The version is not 2.
    #[error("the transaction's version is not 2")]
    VersionWrong,
    /// An input carries signatures or final scripts already.
    #[error("input {input} is signed already")]
    AlreadySigned {
        /// Position of the input.
        input: usize,
    },
    /// The lock time is a time, not a height.
    #[error("the lock time is not a block height")]
    LockTimeInvalid,
    /// A coin is spent twice.
    #[error("input {input} spends the same coin as another")]
    InputDuplicate {
        /// Position of the input.
        input: usize,
    },
    /// An input does not signal replacement, or has a relative lock.
    #[error("input {input} has another sequence than the plan's")]
    SequenceWrong {
        /// Position of the input.
        input: usize,
    },
    /// An input asks for a sighash type that does not commit to the whole transaction.
    #[error("input {input} asks for a sighash type other than ALL or DEFAULT")]
    SighashForbidden {
        /// Position of the input.
        input: usize,
    },
    /// The full previous transaction of an input is missing.
    #[error("input {input} does not prove its amount")]
    PreviousMissing {
        /// Position of the input.
        input: usize,
    },
    /// The previous transaction is not the one that the outpoint names, or contradicts what is stated.
    #[error("input {input} contradicts its previous transaction")]
    PreviousMismatch {
        /// Position of the input.
        input: usize,
    },
    /// An input is not of this wallet.
    #[error("input {input} is not of this wallet")]
    InputNotOurs {
        /// Position of the input.
        input: usize,
    },
    /// The required coin is not spent.
    #[error("the anchor is not spent")]
    AnchorMissing,
    /// An output is neither an intent nor change.
    #[error("output {output} is neither an intent nor change of ours")]
    OutputUnknown {
        /// Position of the output.
        output: usize,
    },
    /// There is more than one change output.
    #[error("output {output} is a second change")]
    ChangeTooMany {
        /// Position of the output.
        output: usize,
    },
    /// The change is at an index that a restore would not search.
    #[error("output {output} is change beyond the highest index")]
    ChangeTooFar {
        /// Position of the output.
        output: usize,
    },
    /// An intent is not paid.
    #[error("intent {intent} is not paid")]
    IntentUnpaid {
        /// Position in the list of intents.
        intent: usize,
    },
    /// An amount or a sum is above all coins that can exist.
    #[error("an amount is above all coins that can exist")]
    AmountOutOfRange,
    /// The outputs are worth more than the inputs.
    #[error("the outputs are worth more than the inputs")]
    OutputsExceedInputs,
    /// The fee rate is above the cap.
    #[error("the fee of {fee_sat} sat is above the highest rate")]
    FeeRateAboveCap {
        /// The fee, in satoshi.
        fee_sat: u64,
    },
    /// The fee is above the absolute cap.
    #[error("the fee of {fee_sat} sat is above the cap")]
    FeeAboveCap {
        /// The fee, in satoshi.
        fee_sat: u64,
    },
    /// The fee is above the cap as a share of what is paid.
    #[error("the fee of {fee_sat} sat is too large a share of what is paid")]
    FeeShareAboveCap {
        /// The fee, in satoshi.
        fee_sat: u64,
    },
}

impl SpendRefusal {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            SpendRefusal::Malformed => "psbt_malformed",
            SpendRefusal::VersionWrong => "transaction_version_wrong",
            SpendRefusal::AlreadySigned { .. } => "already_signed",
            SpendRefusal::LockTimeInvalid => "lock_time_invalid",
            SpendRefusal::InputDuplicate { .. } => "input_duplicate",
            SpendRefusal::SequenceWrong { .. } => "sequence_wrong",
            SpendRefusal::SighashForbidden { .. } => "sighash_forbidden",
            SpendRefusal::PreviousMissing { .. } => "previous_transaction_missing",
            SpendRefusal::PreviousMismatch { .. } => "previous_transaction_mismatch",
            SpendRefusal::InputNotOurs { .. } => "input_not_ours",
            SpendRefusal::AnchorMissing => "anchor_missing",
            SpendRefusal::OutputUnknown { .. } => "output_unknown",
            SpendRefusal::ChangeTooMany { .. } => "change_too_many",
            SpendRefusal::ChangeTooFar { .. } => "change_too_far",
            SpendRefusal::IntentUnpaid { .. } => "intent_unpaid",
            SpendRefusal::AmountOutOfRange => "amount_out_of_range",
            SpendRefusal::OutputsExceedInputs => "outputs_exceed_inputs",
            SpendRefusal::FeeRateAboveCap { .. } => "fee_rate_above_cap",
            SpendRefusal::FeeAboveCap { .. } => "fee_above_cap",
            SpendRefusal::FeeShareAboveCap { .. } => "fee_share_above_cap",
        }
    }
}

/// An input that was proved to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedInput {
    /// The coin.
    pub outpoint: OutPoint,
    /// Its proven amount in satoshi.
    pub amount_sat: u64,
    /// The branch of its key.
    pub branch: Branch,
    /// The index of its key.
    pub index: AddressIndex,
}

/// An output that was proved to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedChange {
    /// Position of the output.
    pub output: usize,
    /// Its amount in satoshi.
    pub amount_sat: u64,
    /// The index of its key on the internal branch.
    pub index: AddressIndex,
}

/// A transaction that does what the intents say and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedSpend {
    /// The id without signatures; inputs of kind `pkh` and `sh_wpkh` change it when signed.
    pub unsigned_txid: Txid,
    /// The inputs, in order.
    pub inputs: Vec<CheckedInput>,
    /// The position of the output that pays each intent, in the order of the intents.
    pub intent_outputs: Vec<usize>,
    /// The change, if there is any.
    pub change: Option<CheckedChange>,
    /// What the intents pay together, in satoshi.
    pub paid_sat: u64,
    /// The fee in satoshi.
    pub fee_sat: u64,
    /// The largest weight that the signed transaction can have.
    pub weight_max: u64,
}

/// Checks a PSBT against approved intents, with the signer's own account key and bounds.
///
/// # Errors
/// The variants of [`SpendRefusal`], in their order within the inputs, then the outputs, then the fee.
pub fn check_spend(
    psbt: &Psbt,
    intents: &[SpendIntent],
    wallet: &AccountPublic,
    rules: &SpendRules,
) -> Result<CheckedSpend, SpendRefusal> {
    check_form(psbt, wallet.kind)?;
    let derivers = Derivers::new(wallet)?;
    let inputs = check_inputs(psbt, wallet, &derivers)?;
    if rules.anchor.is_some_and(|anchor| !inputs.iter().any(|input| input.outpoint == anchor)) {
        return Err(SpendRefusal::AnchorMissing);
    }
    let (intent_outputs, change) = check_outputs(psbt, intents, wallet, &derivers, rules)?;
    let have_sat = sum_sat(inputs.iter().map(|input| input.amount_sat))?;
    let give_sat = sum_sat(psbt.unsigned_tx.output.iter().map(|output| output.value.to_sat()))?;
    let paid_sat = sum_sat(intents.iter().map(|intent| intent.amount_sat))?;
    let fee_sat = have_sat.checked_sub(give_sat).ok_or(SpendRefusal::OutputsExceedInputs)?;
    let weight = weight_of(psbt, wallet.kind);
    check_fee(fee_sat, paid_sat, weight.virtual_size(), rules)?;
    Ok(CheckedSpend {
        unsigned_txid: psbt.unsigned_tx.compute_txid(),
        inputs,
        intent_outputs,
        change,
        paid_sat,
        fee_sat,
        weight_max: weight.weight(),
    })
}

/// What can be said without keys and amounts.
fn check_form(psbt: &Psbt, kind: ScriptKind) -> Result<(), SpendRefusal> {
    let tx = &psbt.unsigned_tx;
    if tx.input.is_empty() || psbt.inputs.len() != tx.input.len() || psbt.outputs.len() != tx.output.len() {
        return Err(SpendRefusal::Malformed);
    }
    if tx.version != Version::TWO {
        return Err(SpendRefusal::VersionWrong);
    }
    let unsigned = |tx_input: &bitcoin::TxIn| tx_input.script_sig.is_empty() && tx_input.witness.is_empty();
    let first = |signed: Vec<bool>| signed.iter().position(|signed| *signed);
    let signed = psbt.inputs.iter().zip(&tx.input).map(|(input, tx_input)| has_signature(input) || !unsigned(tx_input));
    if let Some(input) = first(signed.collect()) {
        return Err(SpendRefusal::AlreadySigned { input });
    }
    if !tx.lock_time.is_block_height() {
        return Err(SpendRefusal::LockTimeInvalid);
    }
    let mut seen = BTreeSet::new();
    if let Some(input) = tx.input.iter().position(|tx_input| !seen.insert(tx_input.previous_output)) {
        return Err(SpendRefusal::InputDuplicate { input });
    }
    if let Some(input) = tx.input.iter().position(|tx_input| tx_input.sequence != Sequence::ENABLE_RBF_NO_LOCKTIME) {
        return Err(SpendRefusal::SequenceWrong { input });
    }
    if let Some(input) = psbt.inputs.iter().position(|input| !commits_to_all(input, kind)) {
        return Err(SpendRefusal::SighashForbidden { input });
    }
    Ok(())
}

fn has_signature(input: &Input) -> bool {
    !input.partial_sigs.is_empty()
        || input.tap_key_sig.is_some()
        || !input.tap_script_sigs.is_empty()
        || input.final_script_sig.is_some()
        || input.final_script_witness.is_some()
}

fn commits_to_all(input: &Input, kind: ScriptKind) -> bool {
    let is_default = |asked: PsbtSighashType| asked.taproot_hash_ty() == Ok(TapSighashType::Default);
    input.sighash_type.is_none_or(|asked| {
        asked.ecdsa_hash_ty() == Ok(EcdsaSighashType::All) || (kind == ScriptKind::Tr && is_default(asked))
    })
}

/// The two branches of the signer's own account.
struct Derivers {
    external: ScriptDeriver,
    internal: ScriptDeriver,
}

impl Derivers {
    fn new(wallet: &AccountPublic) -> Result<Derivers, SpendRefusal> {
        let branch = |branch| Descriptor::of_account(wallet, branch).map(|descriptor| descriptor.deriver());
        match (branch(Branch::External), branch(Branch::Internal)) {
            (Ok(external), Ok(internal)) => Ok(Derivers { external, internal }),
            // One account in 2^127 has a branch without a key: then nothing can be ours.
            _ => Err(SpendRefusal::InputNotOurs { input: 0 }),
        }
    }

    fn derives(&self, branch: Branch, index: AddressIndex, script: &ScriptBuf) -> bool {
        let deriver = match branch {
            Branch::External => &self.external,
            Branch::Internal => &self.internal,
        };
        deriver.script(index).is_ok_and(|derived| derived.as_bytes() == script.as_bytes())
    }
}

fn check_inputs(psbt: &Psbt, wallet: &AccountPublic, derivers: &Derivers) -> Result<Vec<CheckedInput>, SpendRefusal> {
    let check = |input: usize| {
        let spent = spent_output(psbt, input).map_err(|error| match error {
            SpentError::Missing => SpendRefusal::PreviousMissing { input },
            SpentError::Mismatch => SpendRefusal::PreviousMismatch { input },
        })?;
        let ours = place_in_account(&wallet.origin, input_sources(&psbt.inputs[input]))
            .filter(|(branch, index)| derivers.derives(*branch, *index, &spent.script_pubkey));
        let (branch, index) = ours.ok_or(SpendRefusal::InputNotOurs { input })?;
        let outpoint = psbt.unsigned_tx.input[input].previous_output;
        Ok(CheckedInput { outpoint, amount_sat: spent.value.to_sat(), branch, index })
    };
    (0..psbt.inputs.len()).map(check).collect()
}

fn check_outputs(
    psbt: &Psbt,
    intents: &[SpendIntent],
    wallet: &AccountPublic,
    derivers: &Derivers,
    rules: &SpendRules,
) -> Result<(Vec<usize>, Option<CheckedChange>), SpendRefusal> {
    let mut paid_by: Vec<Option<usize>> = vec![None; intents.len()];
    let mut change = None;
    for (output, tx_output) in psbt.unsigned_tx.output.iter().enumerate() {
        let pays = |intent: &SpendIntent| {
            intent.script == tx_output.script_pubkey && intent.amount_sat == tx_output.value.to_sat()
        };
        // Two equal intents need two outputs.
        if let Some(intent) = (0..intents.len()).find(|place| paid_by[*place].is_none() && pays(&intents[*place])) {
            paid_by[intent] = Some(output);
            continue;
        }
        let ours = place_in_account(&wallet.origin, output_sources(&psbt.outputs[output]))
            .filter(|(branch, index)| derivers.derives(*branch, *index, &tx_output.script_pubkey));
        let Some((Branch::Internal, index)) = ours else {
            return Err(SpendRefusal::OutputUnknown { output });
        };
        if change.is_some() {
            return Err(SpendRefusal::ChangeTooMany { output });
        }
        if index > rules.change_index_max {
            return Err(SpendRefusal::ChangeTooFar { output });
        }
        change = Some(CheckedChange { output, amount_sat: tx_output.value.to_sat(), index });
    }
    let unpaid = |place: &usize| paid_by[*place].is_none();
    if let Some(intent) = (0..intents.len()).find(unpaid) {
        return Err(SpendRefusal::IntentUnpaid { intent });
    }
    Ok((paid_by.into_iter().flatten().collect(), change))
}

fn weight_of(psbt: &Psbt, kind: ScriptKind) -> WeightSum {
    let mut weight = WeightSum::new();
    for _ in &psbt.inputs {
        weight.add_input(kind);
    }
    for output in &psbt.unsigned_tx.output {
        weight.add_output(&output.script_pubkey);
    }
    weight
}

fn check_fee(fee_sat: u64, paid_sat: u64, virtual_size: u64, rules: &SpendRules) -> Result<(), SpendRefusal> {
    if rules.fee_rate_max.fee_sat(virtual_size).is_some_and(|highest| fee_sat > highest) {
        return Err(SpendRefusal::FeeRateAboveCap { fee_sat });
    }
    if fee_sat > rules.fee_sat_max {
        return Err(SpendRefusal::FeeAboveCap { fee_sat });
    }
    if fee_sat > share_sat(paid_sat, rules.fee_share_ppm_max) {
        return Err(SpendRefusal::FeeShareAboveCap { fee_sat });
    }
    Ok(())
}

fn sum_sat(amounts: impl Iterator<Item = u64>) -> Result<u64, SpendRefusal> {
    let mut total = 0u64;
    for amount in amounts {
        total = total.checked_add(amount).ok_or(SpendRefusal::AmountOutOfRange)?;
        if total > MONEY_MAX_SAT {
            return Err(SpendRefusal::AmountOutOfRange);
        }
    }
    Ok(total)
}
