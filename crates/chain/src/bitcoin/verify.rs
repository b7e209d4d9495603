//! Whether a signed transaction really spends what it says, script by script; it must never assume a signature is good.

use crate::bitcoin::keys::VERIFIER;
use crate::bitcoin::scan::MONEY_MAX_SAT;
use bitcoin::sighash::{EcdsaSighashType, Prevouts, TapSighashType};
use bitcoin::{Transaction, TxOut};
use miniscript::interpreter::{Interpreter, KeySigPair};

/// Why a transaction was refused, most precise reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is not exactly one spent output for each input, or no input at all.
    #[error("{spent} spent outputs were given for {inputs} inputs")]
    CountMismatch {
        /// Inputs of the transaction.
        inputs: usize,
        /// Spent outputs that were given.
        spent: usize,
    },
    /// An amount or a sum is above all coins that can exist.
    #[error("an amount is above all coins that can exist")]
    AmountOutOfRange,
    /// The outputs are worth more than the inputs.
    #[error("the outputs are worth more than the inputs")]
    OutputsExceedInputs,
    /// An input does not satisfy the script it spends.
    #[error("input {input} does not satisfy the script it spends")]
    ScriptFailed {
        /// Position of the input.
        input: usize,
    },
    /// A signature does not commit to the whole transaction.
    #[error("input {input} has a signature of a type other than ALL or DEFAULT")]
    SighashForbidden {
        /// Position of the input.
        input: usize,
    },
}

impl VerifyError {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            VerifyError::CountMismatch { .. } => "spent_outputs_mismatch",
            VerifyError::AmountOutOfRange => "amount_out_of_range",
            VerifyError::OutputsExceedInputs => "outputs_exceed_inputs",
            VerifyError::ScriptFailed { .. } => "script_failed",
            VerifyError::SighashForbidden { .. } => "sighash_forbidden",
        }
    }
}

/// Checks every input of a transaction of ours before it is broadcast: `spent` are the outputs it spends, in order.
/// Scripts that miniscript does not know are refused, which is right for what we make and too strict for a node.
/// Returns the fee in satoshi.
///
/// # Errors
/// The variants of [`VerifyError`], in their order; the last two input by input.
pub fn verify_tx(tx: &Transaction, spent: &[TxOut]) -> Result<u64, VerifyError> {
    if tx.input.is_empty() || tx.input.len() != spent.len() {
        return Err(VerifyError::CountMismatch { inputs: tx.input.len(), spent: spent.len() });
    }
    let (have_sat, give_sat) = (sum_sat(spent)?, sum_sat(&tx.output)?);
    let fee_sat = have_sat.checked_sub(give_sat).ok_or(VerifyError::OutputsExceedInputs)?;
    let prevouts = Prevouts::All(spent);
    for (input, (tx_input, output)) in tx.input.iter().zip(spent).enumerate() {
        let failed = VerifyError::ScriptFailed { input };
        let interpreter = Interpreter::from_txdata(
            &output.script_pubkey,
            &tx_input.script_sig,
            &tx_input.witness,
            tx_input.sequence,
            tx.lock_time,
        )
        .map_err(|_| failed)?;
        let (mut constraints, mut whole) = (0, true);
        let check = |pair: &KeySigPair| {
            whole &= commits_to_all(pair);
            interpreter.verify_sig(&*VERIFIER, tx, input, &prevouts, pair)
        };
        for constraint in interpreter.iter_custom(Box::new(check)) {
            constraint.map_err(|_| failed)?;
            constraints += 1;
        }
        if constraints == 0 {
            return Err(failed);
        }
        if !whole {
            return Err(VerifyError::SighashForbidden { input });
        }
    }
    Ok(fee_sat)
}

fn commits_to_all(pair: &KeySigPair) -> bool {
    match pair {
        KeySigPair::Ecdsa(_, signature) => signature.sighash_type == EcdsaSighashType::All,
        KeySigPair::Schnorr(_, signature) => {
            matches!(signature.sighash_type, TapSighashType::Default | TapSighashType::All)
        }
    }
}

fn sum_sat(outputs: &[TxOut]) -> Result<u64, VerifyError> {
    let mut total = 0u64;
    for output in outputs {
        total = total.checked_add(output.value.to_sat()).ok_or(VerifyError::AmountOutOfRange)?;
        if total > MONEY_MAX_SAT {
            return Err(VerifyError::AmountOutOfRange);
        }
    }
    Ok(total)
}
