//! Owns the reasons for which a block or a transaction is refused, in the words bitcoind uses; must never decide anything.

use bitcoin::Txid;
use thiserror::Error;

/// Why the script of an input is not satisfied. The texts are those of bitcoind's script errors, where one of them fits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScriptFault {
    /// The script ended with a false value: a missing or wrong signature under consensus rules.
    #[error("Script evaluated without error but finished with a false/empty top stack element")]
    EvalFalse,
    /// A wrong signature that is not empty (relay policy, BIP-146).
    #[error("Signature must be zero for failed CHECK(MULTI)SIG operation")]
    NullFail,
    /// A public key or preimage does not hash to what the script asks for.
    #[error("Script failed an OP_EQUALVERIFY operation")]
    EqualVerify,
    /// A signature is not strict DER (BIP-66).
    #[error("Non-canonical DER signature")]
    SignatureDer,
    /// A signature has a high S value (relay policy).
    #[error("Non-canonical signature: S value is unnecessarily high")]
    SignatureHighS,
    /// A wrong Schnorr signature.
    #[error("Invalid Schnorr signature")]
    Schnorr,
    /// A Schnorr signature of neither 64 nor 65 bytes.
    #[error("Invalid Schnorr signature size")]
    SchnorrSize,
    /// A witness program without any witness.
    #[error("Witness program was passed an empty witness")]
    WitnessEmpty,
    /// The witness is not what the program commits to.
    #[error("Witness program hash mismatch")]
    WitnessMismatch,
    /// A native witness program is spent with a non-empty script.
    #[error("Witness requires empty scriptSig")]
    WitnessMalleated,
    /// A witness is given for a script that is no witness program.
    #[error("Witness provided for non-witness script")]
    WitnessUnexpected,
    /// An uncompressed key under segregated witness (relay policy).
    #[error("Using non-compressed keys in segwit")]
    WitnessKeyType,
    /// The script needs more values than the input gives.
    #[error("Operation not valid with the current stack size")]
    StackSize,
    /// More values than the script uses (relay policy; consensus for witness programs).
    #[error("Stack size must be exactly one after execution")]
    CleanStack,
    /// A time lock of the script is not reached.
    #[error("Locktime requirement not satisfied")]
    LockTime,
    /// A valid signature under rules that this network does not implement, or a script that is no Miniscript. Not a word of bitcoind.
    #[error("Script beyond what this network verifies: {0}")]
    Unverifiable(String),
}

/// Why a transaction can be in no block, whatever the policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TxFault {
    /// No input.
    #[error("bad-txns-vin-empty")]
    VinEmpty,
    /// No output.
    #[error("bad-txns-vout-empty")]
    VoutEmpty,
    /// Larger than a block may be.
    #[error("bad-txns-oversize")]
    Oversize,
    /// An output's value is negative as a signed number.
    #[error("bad-txns-vout-negative")]
    VoutNegative,
    /// An output's value is above all money there can be.
    #[error("bad-txns-vout-toolarge")]
    VoutTooLarge,
    /// The outputs' sum is above all money there can be.
    #[error("bad-txns-txouttotal-toolarge")]
    VoutTotalTooLarge,
    /// The same output is spent twice by one transaction.
    #[error("bad-txns-inputs-duplicate")]
    InputsDuplicate,
    /// A coinbase script shorter than 2 or longer than 100 bytes.
    #[error("bad-cb-length")]
    CoinbaseLength,
    /// A null outpoint outside a coinbase.
    #[error("bad-txns-prevout-null")]
    PrevoutNull,
    /// An input does not exist, or is spent.
    #[error("bad-txns-inputs-missingorspent")]
    InputsMissingOrSpent,
    /// A coinbase output younger than 100 blocks is spent.
    #[error("bad-txns-premature-spend-of-coinbase")]
    PrematureCoinbaseSpend {
        /// How deep the coinbase would be.
        depth: u32,
    },
    /// The inputs' values, or their sum, are above all money there can be.
    #[error("bad-txns-inputvalues-outofrange")]
    InputValuesOutOfRange,
    /// More goes out than comes in.
    #[error("bad-txns-in-belowout")]
    InBelowOut {
        /// Sum of the inputs in satoshi.
        value_in_sat: u64,
        /// Sum of the outputs in satoshi.
        value_out_sat: u64,
    },
}

impl TxFault {
    /// What bitcoind adds after the reason, or nothing.
    fn detail(&self) -> String {
        match self {
            Self::PrematureCoinbaseSpend { depth } => format!("tried to spend coinbase at depth {depth}"),
            Self::InBelowOut { value_in_sat, value_out_sat } => {
                format!("value in ({}) < value out ({})", money(*value_in_sat), money(*value_out_sat))
            }
            _ => String::new(),
        }
    }
}

/// Why a block is refused. Display is the reason string that `submitblock` answers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlockReject {
    /// The bytes are not a block.
    #[error("Block decode failed")]
    Undecodable,
    /// The hash does not meet the bits it claims.
    #[error("high-hash")]
    HighHash,
    /// The header commits to other transactions.
    #[error("bad-txnmrklroot")]
    MerkleRoot,
    /// Repeated transactions that leave the merkle root unchanged (CVE-2012-2459).
    #[error("bad-txns-duplicate")]
    TransactionsDuplicate,
    /// No transaction, or more bytes than a block may have.
    #[error("bad-blk-length")]
    Length,
    /// The first transaction is no coinbase.
    #[error("bad-cb-missing")]
    CoinbaseMissing,
    /// A second coinbase.
    #[error("bad-cb-multiple")]
    CoinbaseMultiple,
    /// Too many signature operations.
    #[error("bad-blk-sigops")]
    Sigops,
    /// Seen before, and invalid.
    #[error("duplicate-invalid")]
    DuplicateInvalid,
    /// The block before it is unknown.
    #[error("prev-blk-not-found")]
    PrevNotFound,
    /// The block before it is invalid.
    #[error("bad-prevblk")]
    PrevInvalid,
    /// Other difficulty bits than regtest's.
    #[error("bad-diffbits")]
    DiffBits,
    /// Not after the median time of the eleven blocks before it.
    #[error("time-too-old")]
    TimeTooOld,
    /// More than two hours ahead of the clock.
    #[error("time-too-new")]
    TimeTooNew,
    /// A version below 4.
    #[error("bad-version(0x{0:08x})")]
    Version(i32),
    /// A transaction whose lock time or relative lock is not reached.
    #[error("bad-txns-nonfinal")]
    NonFinal,
    /// The coinbase does not begin with the block's height (BIP-34).
    #[error("bad-cb-height")]
    CoinbaseHeight,
    /// The coinbase's witness is not one value of 32 bytes.
    #[error("bad-witness-nonce-size")]
    WitnessNonceSize,
    /// The witness commitment does not match (BIP-141).
    #[error("bad-witness-merkle-match")]
    WitnessCommitment,
    /// Witness data without a commitment.
    #[error("unexpected-witness")]
    UnexpectedWitness,
    /// Heavier than a block may be.
    #[error("bad-blk-weight")]
    Weight,
    /// A transaction would overwrite an unspent one (BIP-30).
    #[error("bad-txns-BIP30")]
    Overwrite,
    /// The fees' sum is above all money there can be.
    #[error("bad-txns-accumulated-fee-outofrange")]
    FeesOutOfRange,
    /// The coinbase takes more than subsidy and fees.
    #[error("bad-cb-amount")]
    CoinbaseAmount {
        /// What it takes, in satoshi.
        paid_sat: u64,
        /// What it may take, in satoshi.
        limit_sat: u64,
    },
    /// A transaction breaks a rule.
    #[error("{0}")]
    Transaction(TxFault),
    /// An input's script is not satisfied.
    #[error("block-script-verify-flag-failed ({0})")]
    Script(ScriptFault),
}

impl BlockReject {
    /// True where other bytes could still be the block of this hash, so that the hash must not be remembered as invalid.
    pub fn is_mutation(&self) -> bool {
        matches!(
            self,
            Self::MerkleRoot
                | Self::TransactionsDuplicate
                | Self::WitnessNonceSize
                | Self::WitnessCommitment
                | Self::UnexpectedWitness
        )
    }
}

/// What became of a block that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the new tip.
    Connected {
        /// Its height.
        height: u32,
        /// Blocks that were taken back before it could be connected.
        disconnected: u32,
    },
    /// It is stored on a branch with no more work than the active chain, or its parent's bytes are missing.
    Stored,
    /// It was here before.
    Duplicate,
}

impl Verdict {
    /// The text `submitblock` answers (BIP-22), nothing for a new tip.
    pub fn bip22(&self) -> Option<&'static str> {
        match self {
            Self::Connected { .. } => None,
            Self::Stored => Some("inconclusive"),
            Self::Duplicate => Some("duplicate"),
        }
    }
}

/// Why a transaction does not enter the mempool, most fundamental first.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TxReject {
    /// It could be in no block.
    #[error("{0}")]
    Fault(TxFault),
    /// A coinbase outside a block.
    #[error("coinbase")]
    Coinbase,
    /// A version outside 1 to 3.
    #[error("version")]
    Version,
    /// Heavier than 400,000.
    #[error("tx-size")]
    Size,
    /// An input script above 1,650 bytes.
    #[error("scriptsig-size")]
    ScriptSigSize,
    /// An input script that does more than push.
    #[error("scriptsig-not-pushonly")]
    ScriptSigNotPushOnly,
    /// An output script of no standard form.
    #[error("scriptpubkey")]
    ScriptPubKey,
    /// More data in `OP_RETURN` outputs than relayed.
    #[error("datacarrier")]
    Datacarrier,
    /// More than one output below the dust limit.
    #[error("dust")]
    Dust,
    /// Smaller than 65 bytes without witness (CVE-2017-12842).
    #[error("tx-size-small")]
    SizeSmall,
    /// The lock time is not reached.
    #[error("non-final")]
    NonFinal,
    /// Exactly this transaction is there already.
    #[error("txn-already-in-mempool")]
    AlreadyInMempool,
    /// It is there already with another witness.
    #[error("txn-same-nonwitness-data-in-mempool")]
    SameNonWitness,
    /// Its inputs are gone because it is in the chain.
    #[error("txn-already-known")]
    AlreadyKnown,
    /// A relative lock (BIP-68) is not reached.
    #[error("non-BIP68-final")]
    NonBip68Final,
    /// It spends an output of no standard form.
    #[error("bad-txns-nonstandard-inputs")]
    InputsNonstandard(String),
    /// A witness beyond the relayed limits.
    #[error("bad-witness-nonstandard")]
    WitnessNonstandard,
    /// One output below the dust limit, and a fee.
    #[error("dust")]
    DustWithFee,
    /// Too many signature operations to relay.
    #[error("bad-txns-too-many-sigops")]
    Sigops(usize),
    /// Below the rate at which a full mempool evicted.
    #[error("mempool min fee not met")]
    MempoolMinFee {
        /// The fee offered, in satoshi.
        fee_sat: u64,
        /// The fee asked, in satoshi.
        asked_sat: u64,
    },
    /// Below the rate this node relays.
    #[error("min relay fee not met")]
    MinRelayFee {
        /// The fee offered, in satoshi.
        fee_sat: u64,
        /// The fee asked, in satoshi.
        asked_sat: u64,
    },
    /// Against the rules of version 3 transactions.
    #[error("TRUC-violation")]
    Truc(String),
    /// It would replace transactions of more than 100 clusters.
    #[error("too many potential replacements")]
    TooManyReplacements,
    /// It pays less than what it replaces, or not enough more.
    #[error("insufficient fee")]
    InsufficientFee {
        /// The transaction refused.
        txid: Txid,
        /// Its fee in satoshi.
        fee_sat: u64,
        /// The fees of all it would evict, in satoshi.
        replaced_sat: u64,
        /// What it must pay beyond them, in satoshi.
        increment_sat: u64,
    },
    /// Its cluster would have more than 64 transactions or 101 kvB.
    #[error("too-large-cluster")]
    ClusterTooLarge,
    /// The mempool would be worth less to a miner than before.
    #[error("replacement-failed")]
    ReplacementFailed,
    /// It spends an output of what it replaces.
    #[error("bad-txns-spends-conflicting-tx")]
    SpendsConflicting {
        /// The transaction refused.
        txid: Txid,
        /// The ancestor it would replace.
        conflict: Txid,
    },
    /// An input's script is not satisfied.
    #[error("mempool-script-verify-flag-failed ({0})")]
    Script(ScriptFault),
    /// The mempool is full of better paying transactions.
    #[error("mempool full")]
    MempoolFull,
}

impl TxReject {
    /// What bitcoind adds after the reason, or nothing.
    pub fn detail(&self) -> String {
        match self {
            Self::Fault(fault) => fault.detail(),
            Self::InputsNonstandard(detail) | Self::Truc(detail) => detail.clone(),
            Self::DustWithFee => "tx with dust output must be 0-fee".to_owned(),
            Self::Sigops(count) => count.to_string(),
            Self::MempoolMinFee { fee_sat, asked_sat } | Self::MinRelayFee { fee_sat, asked_sat } => {
                format!("{fee_sat} < {asked_sat}")
            }
            Self::InsufficientFee { txid, fee_sat, replaced_sat, increment_sat } => {
                if fee_sat < replaced_sat {
                    let (less, more) = (money(*fee_sat), money(*replaced_sat));
                    format!("rejecting replacement {txid}, less fees than conflicting txs; {less} < {more}")
                } else {
                    let (less, more) = (money(fee_sat - replaced_sat), money(*increment_sat));
                    format!("rejecting replacement {txid}, not enough additional fees to relay; {less} < {more}")
                }
            }
            Self::ReplacementFailed => "insufficient feerate: does not improve feerate diagram".to_owned(),
            Self::SpendsConflicting { txid, conflict } => format!("{txid} spends conflicting transaction {conflict}"),
            _ => String::new(),
        }
    }

    /// Reason and detail as bitcoind joins them in error messages. Script faults have a detail there that names the input; it is left out here.
    pub fn message(&self) -> String {
        let detail = self.detail();
        if detail.is_empty() { self.to_string() } else { format!("{self}, {detail}") }
    }

    /// True where an input is unknown: the transaction may become valid when its parent arrives.
    pub fn is_missing_input(&self) -> bool {
        matches!(self, Self::Fault(TxFault::InputsMissingOrSpent))
    }
}

/// Why `sendrawtransaction` refuses beyond the mempool's own reasons.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SendReject {
    /// One of its outputs is unspent in the chain.
    #[error("Transaction outputs already in utxo set")]
    AlreadyInUtxoSet,
    /// The fee is above what the caller allowed.
    #[error("Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)")]
    MaxFeeExceeded,
    /// The mempool refuses it.
    #[error("{}", .0.message())]
    Mempool(TxReject),
}

impl SendReject {
    /// bitcoind's error code: -25 missing inputs or fee above the caller's cap, -26 refused by rules, -27 already in the UTXO set.
    pub fn rpc_code(&self) -> i32 {
        match self {
            Self::AlreadyInUtxoSet => -27,
            Self::MaxFeeExceeded => -25,
            Self::Mempool(reject) if reject.is_missing_input() => -25,
            Self::Mempool(_) => -26,
        }
    }
}

/// Satoshi as bitcoind prints them inside messages: at least two decimals, no further trailing zeros.
fn money(sat: u64) -> String {
    let mut text = format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
    while text.ends_with('0') && !text[text.len() - 3..].starts_with('.') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_two_decimals_and_drops_further_zeros() {
        assert_eq!(money(0), "0.00");
        assert_eq!(money(150_000_000), "1.50");
        assert_eq!(money(10), "0.0000001");
        assert_eq!(money(123_456_789), "1.23456789");
        assert_eq!(money(100_000), "0.001");
    }
}
