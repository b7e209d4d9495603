//! Owns what kinds of scripts there are and whether an input satisfies one; must never accept what it can't verify.
//!
//! Scripts are evaluated by the Miniscript interpreter. It knows pay-to-pubkey, pay-to-pubkey-hash, their segregated and nested forms, taproot key
//! spends, and every script that is a Miniscript (multisig, time locks, hash locks). Anything else is refused with [`ScriptFault::Unverifiable`],
//! although bitcoind may accept it: taproot annexes, unknown witness versions, `OP_CODESEPARATOR`, signatures with a high S value in old blocks.

use bitcoin::ecdsa;
use bitcoin::opcodes::all::{OP_PUSHNUM_1, OP_PUSHNUM_16};
use bitcoin::script::Instruction;
use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::sighash::Prevouts;
use bitcoin::{Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut};
use miniscript::interpreter::{Error, Interpreter, SatisfiedConstraint};

use crate::params::SCRIPT_SIZE_MAX;
use crate::reject::ScriptFault;

/// The standard forms of output scripts, named as bitcoind names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScriptKind {
    /// No standard form.
    Nonstandard,
    /// A public key and `OP_CHECKSIG`.
    PubKey,
    /// Hash of a public key.
    PubKeyHash,
    /// Hash of a script (BIP-16).
    ScriptHash,
    /// Bare multisig.
    MultiSig,
    /// `OP_RETURN` and pushes.
    NullData,
    /// Pay to anchor.
    Anchor,
    /// Version 0 witness program of a key's hash.
    WitnessKeyHash,
    /// Version 0 witness program of a script's hash.
    WitnessScriptHash,
    /// Version 1 witness program (BIP-341).
    Taproot,
    /// A witness program of a later version.
    WitnessUnknown,
}

/// `OP_1 <4e73>`: spendable by anyone, to pay a transaction's fee from outside.
const ANCHOR: [u8; 4] = [0x51, 0x02, 0x4e, 0x73];

impl ScriptKind {
    /// The kind of an output script.
    pub fn of(script: &Script) -> Self {
        if script.is_p2sh() {
            Self::ScriptHash
        } else if script.as_bytes() == ANCHOR {
            Self::Anchor
        } else if script.is_witness_program() {
            Self::of_witness_program(script)
        } else if script.is_op_return() && Script::from_bytes(&script.as_bytes()[1..]).is_push_only() {
            Self::NullData
        } else if script.is_p2pk() {
            Self::PubKey
        } else if script.is_p2pkh() {
            Self::PubKeyHash
        } else if script.is_multisig() {
            Self::MultiSig
        } else {
            Self::Nonstandard
        }
    }

    fn of_witness_program(script: &Script) -> Self {
        if script.is_p2wpkh() {
            Self::WitnessKeyHash
        } else if script.is_p2wsh() {
            Self::WitnessScriptHash
        } else if script.is_p2tr() {
            Self::Taproot
        } else if script.as_bytes()[0] == 0 {
            Self::Nonstandard
        } else {
            Self::WitnessUnknown
        }
    }

    /// The name in bitcoind's JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nonstandard => "nonstandard",
            Self::PubKey => "pubkey",
            Self::PubKeyHash => "pubkeyhash",
            Self::ScriptHash => "scripthash",
            Self::MultiSig => "multisig",
            Self::NullData => "nulldata",
            Self::Anchor => "anchor",
            Self::WitnessKeyHash => "witness_v0_keyhash",
            Self::WitnessScriptHash => "witness_v0_scripthash",
            Self::Taproot => "witness_v1_taproot",
            Self::WitnessUnknown => "witness_unknown",
        }
    }

    /// True for the kinds whose spends carry a witness.
    pub fn is_witness(self) -> bool {
        matches!(
            self,
            Self::WitnessKeyHash | Self::WitnessScriptHash | Self::Taproot | Self::WitnessUnknown | Self::Anchor
        )
    }
}

/// Keys of a bare multisig script: its second last opcode is their number.
pub(crate) fn multisig_keys(script: &Script) -> u8 {
    let bytes = script.as_bytes();
    let count = bytes[bytes.len() - 2];
    if (OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8()).contains(&count) {
        count - OP_PUSHNUM_1.to_u8() + 1
    } else {
        u8::MAX
    }
}

/// True where no input can ever spend the output, so that it is not kept as unspent.
pub fn is_unspendable(script: &Script) -> bool {
    script.is_op_return() || script.len() > SCRIPT_SIZE_MAX
}

/// Which rules judge a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptRules {
    /// What a block may hold.
    Consensus,
    /// What is relayed.
    Policy,
}

/// Verifies the scripts and signatures of all inputs. `spent` are the outputs spent, in the order of the inputs.
///
/// # Errors
/// The fault of the first input that fails.
pub fn verify_inputs(
    secp: &Secp256k1<VerifyOnly>,
    tx: &Transaction,
    spent: &[TxOut],
    rules: ScriptRules,
) -> Result<(), ScriptFault> {
    assert_eq!(tx.input.len(), spent.len(), "one spent output for each input");
    let prevouts = Prevouts::All(spent);
    for (index, output) in spent.iter().enumerate() {
        verify_input(secp, tx, index, output, &prevouts, rules)?;
    }
    Ok(())
}

fn verify_input(
    secp: &Secp256k1<VerifyOnly>,
    tx: &Transaction,
    index: usize,
    spent: &TxOut,
    prevouts: &Prevouts<'_, TxOut>,
    rules: ScriptRules,
) -> Result<(), ScriptFault> {
    let input = &tx.input[index];
    let kind = ScriptKind::of(&spent.script_pubkey);
    check_shape(input, kind, &spent.script_pubkey)?;
    if kind == ScriptKind::Anchor {
        return Ok(());
    }
    let explain = |error| explain(error, input, kind, &spent.script_pubkey, rules);
    let (sequence, lock_time) = (input.sequence, tx.lock_time);
    let interpreter =
        Interpreter::from_txdata(&spent.script_pubkey, &input.script_sig, &input.witness, sequence, lock_time)
            .map_err(explain)?;
    for constraint in interpreter.iter(secp, tx, index, prevouts) {
        check_locks(&constraint.map_err(explain)?, tx, sequence)?;
    }
    Ok(())
}

/// What must hold for the input's form before any script runs, where bitcoind names it precisely.
fn check_shape(input: &TxIn, kind: ScriptKind, script: &Script) -> Result<(), ScriptFault> {
    let native = kind.is_witness();
    if native && !input.script_sig.is_empty() {
        return Err(ScriptFault::WitnessMalleated);
    }
    let nested = kind == ScriptKind::ScriptHash && nested_program(input).is_some();
    if !native && !nested && !input.witness.is_empty() {
        return Err(ScriptFault::WitnessUnexpected);
    }
    let key_hash =
        if nested { nested_program(input).is_some_and(Script::is_p2wpkh) } else { kind == ScriptKind::WitnessKeyHash };
    if key_hash && input.witness.len() != 2 {
        return Err(ScriptFault::WitnessMismatch);
    }
    if (native && kind != ScriptKind::Anchor || nested) && input.witness.is_empty() {
        return Err(ScriptFault::WitnessEmpty);
    }
    if matches!(kind, ScriptKind::PubKeyHash | ScriptKind::ScriptHash) && input.script_sig.is_empty() {
        return Err(ScriptFault::StackSize);
    }
    check_revealed_script(input, kind, script)?;
    if kind == ScriptKind::WitnessUnknown {
        return Err(ScriptFault::Unverifiable(format!("witness version of {script:x}")));
    }
    Ok(())
}

/// A script that an input reveals must be the one committed to, byte for byte. The interpreter compares what it understood instead, and takes the
/// one-byte value 1 for the opcode `OP_1`, so that it would accept a script that is not the one revealed.
fn check_revealed_script(input: &TxIn, kind: ScriptKind, script: &Script) -> Result<(), ScriptFault> {
    if kind == ScriptKind::ScriptHash {
        let Some(Ok(Instruction::PushBytes(pushed))) = input.script_sig.instructions().last() else {
            return Err(ScriptFault::EvalFalse);
        };
        if ScriptBuf::new_p2sh(&Script::from_bytes(pushed.as_bytes()).script_hash()) != *script {
            return Err(ScriptFault::EvalFalse);
        }
    }
    let program = if kind == ScriptKind::ScriptHash { nested_program(input) } else { Some(script) };
    let revealed = input.witness.last().map(Script::from_bytes);
    if let (Some(program), Some(revealed)) = (program.filter(|program| program.is_p2wsh()), revealed)
        && ScriptBuf::new_p2wsh(&revealed.wscript_hash()) != *program
    {
        return Err(ScriptFault::WitnessMismatch);
    }
    let is_script_path = kind == ScriptKind::Taproot && input.witness.len() > 1;
    if is_script_path && input.witness.second_to_last().is_some_and(|leaf| leaf.len() < 2) {
        return Err(ScriptFault::Unverifiable("a leaf script of one byte".to_owned()));
    }
    Ok(())
}

/// The witness program that a pay-to-script-hash input pushes as its only value.
fn nested_program(input: &TxIn) -> Option<&Script> {
    let bytes = input.script_sig.as_bytes();
    let (&length, program) = bytes.split_first()?;
    let program = Script::from_bytes(program);
    (usize::from(length) == program.len() && program.is_witness_program()).then_some(program)
}

/// The conditions of BIP-65 and BIP-112 that the interpreter can't see: it knows neither the version nor final sequences.
fn check_locks(constraint: &SatisfiedConstraint, tx: &Transaction, sequence: Sequence) -> Result<(), ScriptFault> {
    let held = match constraint {
        SatisfiedConstraint::RelativeTimelock { .. } => tx.version.0 as u32 >= 2,
        SatisfiedConstraint::AbsoluteTimelock { .. } => sequence != Sequence::MAX,
        SatisfiedConstraint::PublicKey { .. }
        | SatisfiedConstraint::PublicKeyHash { .. }
        | SatisfiedConstraint::HashLock { .. } => true,
    };
    if held { Ok(()) } else { Err(ScriptFault::LockTime) }
}

/// Puts an interpreter's error into bitcoind's words, as closely as the error tells.
fn explain(error: Error, input: &TxIn, kind: ScriptKind, script: &Script, rules: ScriptRules) -> ScriptFault {
    match error {
        Error::IncorrectPubkeyHash | Error::IncorrectWPubkeyHash | Error::PkHashVerifyFail(_) => {
            ScriptFault::EqualVerify
        }
        Error::IncorrectScriptHash => ScriptFault::EvalFalse,
        Error::IncorrectWScriptHash | Error::ControlBlockVerificationError => ScriptFault::WitnessMismatch,
        Error::NonEmptyScriptSig => ScriptFault::WitnessMalleated,
        Error::NonEmptyWitness => ScriptFault::WitnessUnexpected,
        Error::UncompressedPubkey if rules == ScriptRules::Policy => ScriptFault::WitnessKeyType,
        Error::InvalidSchnorrSignature(_) => ScriptFault::Schnorr,
        Error::SchnorrSig(_) => ScriptFault::SchnorrSize,
        Error::EcdsaSig(_) | Error::NonStandardSighash(_) => ScriptFault::SignatureDer,
        Error::InvalidEcdsaSignature(_) | Error::PkEvaluationError(_) => signature_fault(input, kind, rules),
        Error::AbsoluteLockTimeNotMet(_)
        | Error::AbsoluteLockTimeComparisonInvalid(..)
        | Error::RelativeLockTimeNotMet(_)
        | Error::RelativeLockTimeDisabled(_) => ScriptFault::LockTime,
        Error::ScriptSatisfactionError if kind.is_witness() || rules == ScriptRules::Policy => ScriptFault::CleanStack,
        Error::UnexpectedStackEnd | Error::HashPreimageLengthMismatch => ScriptFault::EvalFalse,
        other => ScriptFault::Unverifiable(format!("{other} (output script {script:x})")),
    }
}

/// Why a signature of a script with one key fails.
fn signature_fault(input: &TxIn, kind: ScriptKind, rules: ScriptRules) -> ScriptFault {
    let signature = first_value(input);
    if kind == ScriptKind::Taproot {
        return if matches!(signature.len(), 64 | 65) { ScriptFault::Schnorr } else { ScriptFault::SchnorrSize };
    }
    match ecdsa::Signature::from_slice(signature) {
        Err(_) => ScriptFault::SignatureDer,
        Ok(parsed) => {
            let mut normal = parsed.signature;
            normal.normalize_s();
            match rules {
                ScriptRules::Policy if normal != parsed.signature => ScriptFault::SignatureHighS,
                ScriptRules::Policy => ScriptFault::NullFail,
                ScriptRules::Consensus => ScriptFault::EvalFalse,
            }
        }
    }
}

/// The first value an input gives: the signature, where the script has one key.
fn first_value(input: &TxIn) -> &[u8] {
    if let Some(value) = input.witness.iter().next() {
        return value;
    }
    match input.script_sig.instructions().next() {
        Some(Ok(Instruction::PushBytes(value))) => value.as_bytes(),
        _ => &[],
    }
}
