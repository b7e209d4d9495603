//! Owns the consensus rules that need no node: of a block alone, of a transaction alone, and of a transaction beside the coins it spends.
//! Must never look at a mempool or at policy.

use std::collections::BTreeSet;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Block, OutPoint, Transaction, TxMerkleNode, Txid, Wtxid, absolute};

use crate::coins::Coin;
use crate::params::{BLOCK_SIGOPS_COST_MAX, BLOCK_WEIGHT_MAX, COINBASE_MATURITY, MONEY_MAX_SAT, WITNESS_SCALE};
use crate::reject::{BlockReject, TxFault};

/// Marks the output of the coinbase that commits to the witnesses: `OP_RETURN`, a push of 36 bytes, and BIP-141's header.
const COMMITMENT_PREFIX: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What holds of a transaction whatever the chain.
///
/// # Errors
/// The first rule broken, in bitcoind's order.
pub fn check_transaction(tx: &Transaction) -> Result<(), TxFault> {
    if tx.input.is_empty() {
        return Err(TxFault::VinEmpty);
    }
    if tx.output.is_empty() {
        return Err(TxFault::VoutEmpty);
    }
    if tx.base_size() as u64 * WITNESS_SCALE > BLOCK_WEIGHT_MAX {
        return Err(TxFault::Oversize);
    }
    let mut total: u64 = 0;
    for output in &tx.output {
        let value = output.value.to_sat();
        if i64::try_from(value).is_err() {
            return Err(TxFault::VoutNegative);
        }
        if value > MONEY_MAX_SAT {
            return Err(TxFault::VoutTooLarge);
        }
        total += value;
        if total > MONEY_MAX_SAT {
            return Err(TxFault::VoutTotalTooLarge);
        }
    }
    let distinct: BTreeSet<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
    if distinct.len() != tx.input.len() {
        return Err(TxFault::InputsDuplicate);
    }
    if tx.is_coinbase() {
        if !(2..=100).contains(&tx.input[0].script_sig.len()) {
            return Err(TxFault::CoinbaseLength);
        }
    } else if tx.input.iter().any(|input| input.previous_output.is_null()) {
        return Err(TxFault::PrevoutNull);
    }
    Ok(())
}

/// What holds of a block before its place in the chain is known.
///
/// # Errors
/// The first rule broken, in bitcoind's order.
pub fn check_block(block: &Block) -> Result<(), BlockReject> {
    // Bits that name no target above zero are no proof; the exact bits are checked with the block's place.
    if block.header.validate_pow(block.header.target()).is_err()
        || block.header.target() > bitcoin::Target::MAX_ATTAINABLE_REGTEST
    {
        return Err(BlockReject::HighHash);
    }
    let (root, mutated) = merkle_root(block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect());
    if TxMerkleNode::from_byte_array(root) != block.header.merkle_root {
        return Err(BlockReject::MerkleRoot);
    }
    if mutated {
        return Err(BlockReject::TransactionsDuplicate);
    }
    if block.txdata.is_empty() || stripped_size(block) as u64 * WITNESS_SCALE > BLOCK_WEIGHT_MAX {
        return Err(BlockReject::Length);
    }
    if !block.txdata[0].is_coinbase() {
        return Err(BlockReject::CoinbaseMissing);
    }
    if block.txdata[1..].iter().any(Transaction::is_coinbase) {
        return Err(BlockReject::CoinbaseMultiple);
    }
    for tx in &block.txdata {
        check_transaction(tx).map_err(BlockReject::Transaction)?;
    }
    let sigops: usize = block.txdata.iter().map(legacy_sigops).sum();
    if sigops * WITNESS_SCALE as usize > BLOCK_SIGOPS_COST_MAX {
        return Err(BlockReject::Sigops);
    }
    Ok(())
}

/// A block's bytes without witnesses.
pub fn stripped_size(block: &Block) -> usize {
    let count = serialize(&bitcoin::VarInt(block.txdata.len() as u64)).len();
    80 + count + block.txdata.iter().map(Transaction::base_size).sum::<usize>()
}

fn legacy_sigops(tx: &Transaction) -> usize {
    let inputs: usize = tx.input.iter().map(|input| input.script_sig.count_sigops_legacy()).sum();
    inputs + tx.output.iter().map(|output| output.script_pubkey.count_sigops_legacy()).sum::<usize>()
}

/// The merkle root of hashes, and whether some level repeats a pair, which other transactions with the same root could do (CVE-2012-2459).
pub fn merkle_root(mut level: Vec<[u8; 32]>) -> ([u8; 32], bool) {
    let mut mutated = false;
    while level.len() > 1 {
        mutated |= level.chunks_exact(2).any(|pair| pair[0] == pair[1]);
        level = level
            .chunks(2)
            .map(|pair| {
                let mut joined = [0; 64];
                joined[..32].copy_from_slice(&pair[0]);
                joined[32..].copy_from_slice(pair.last().expect("chunks are never empty"));
                sha256d::Hash::hash(&joined).to_byte_array()
            })
            .collect();
    }
    (level.first().copied().unwrap_or_default(), mutated)
}

/// The index of the coinbase output that commits to the witnesses: the last that has the form.
pub fn commitment_index(coinbase: &Transaction) -> Option<usize> {
    coinbase.output.iter().rposition(|output| {
        output.script_pubkey.len() >= 38 && output.script_pubkey.as_bytes()[..6] == COMMITMENT_PREFIX
    })
}

/// The script that commits to witnesses with this root and reserved value.
pub fn commitment_script(witness_root: [u8; 32], reserved: [u8; 32]) -> bitcoin::ScriptBuf {
    let mut joined = [0; 64];
    joined[..32].copy_from_slice(&witness_root);
    joined[32..].copy_from_slice(&reserved);
    let mut script = COMMITMENT_PREFIX.to_vec();
    script.extend_from_slice(&sha256d::Hash::hash(&joined).to_byte_array());
    bitcoin::ScriptBuf::from_bytes(script)
}

/// The merkle root of the witness hashes; the coinbase's counts as zero (BIP-141).
pub fn witness_root(transactions: &[Transaction]) -> [u8; 32] {
    let hash = |(index, tx): (usize, &Transaction)| {
        if index == 0 { Wtxid::all_zeros().to_byte_array() } else { tx.compute_wtxid().to_byte_array() }
    };
    merkle_root(transactions.iter().enumerate().map(hash).collect()).0
}

/// Checks that witnesses are committed to, or that there are none (BIP-141).
///
/// # Errors
/// How the commitment is wrong.
pub fn check_witnesses(block: &Block) -> Result<(), BlockReject> {
    let coinbase = &block.txdata[0];
    let Some(index) = commitment_index(coinbase) else {
        let witness = block.txdata.iter().flat_map(|tx| &tx.input).any(|input| !input.witness.is_empty());
        return if witness { Err(BlockReject::UnexpectedWitness) } else { Ok(()) };
    };
    let witness = &coinbase.input[0].witness;
    let reserved: [u8; 32] = witness
        .iter()
        .next()
        .filter(|_| witness.len() == 1)
        .and_then(|value| value.try_into().ok())
        .ok_or(BlockReject::WitnessNonceSize)?;
    let expected = commitment_script(witness_root(&block.txdata), reserved);
    if coinbase.output[index].script_pubkey.as_bytes()[..38] != expected.as_bytes()[..38] {
        return Err(BlockReject::WitnessCommitment);
    }
    Ok(())
}

/// The bytes a coinbase script must begin with at this height (BIP-34).
pub fn height_prefix(height: u32) -> bitcoin::ScriptBuf {
    bitcoin::script::Builder::new().push_int(i64::from(height)).into_script()
}

/// What holds of a block at its height, whatever coins exist.
///
/// # Errors
/// The first rule broken, in bitcoind's order.
pub fn check_block_at(block: &Block, height: u32, median_time_past: u64) -> Result<(), BlockReject> {
    if block.txdata.iter().any(|tx| !is_final(tx, height, median_time_past)) {
        return Err(BlockReject::NonFinal);
    }
    let script = &block.txdata[0].input[0].script_sig;
    if !script.as_bytes().starts_with(height_prefix(height).as_bytes()) {
        return Err(BlockReject::CoinbaseHeight);
    }
    check_witnesses(block)?;
    if block.weight().to_wu() > BLOCK_WEIGHT_MAX {
        return Err(BlockReject::Weight);
    }
    Ok(())
}

/// True where the lock time lets the transaction into a block of this height; times count by the median before it (BIP-113).
pub fn is_final(tx: &Transaction, height: u32, median_time_past: u64) -> bool {
    let reached = match tx.lock_time {
        absolute::LockTime::Blocks(lock) => lock.to_consensus_u32() == 0 || lock.to_consensus_u32() < height,
        absolute::LockTime::Seconds(lock) => u64::from(lock.to_consensus_u32()) < median_time_past,
    };
    reached || tx.input.iter().all(|input| input.sequence == bitcoin::Sequence::MAX)
}

/// True where all relative locks (BIP-68) are over in a block of this height. `coins` are the outputs spent, in the order of the inputs;
/// `median_time_before(h)` is the median time past of the block at height h.
pub fn is_sequence_final(
    tx: &Transaction,
    coins: &[Coin],
    height: u32,
    median_time_past: u64,
    median_time_before: &dyn Fn(u32) -> u64,
) -> bool {
    /// BIP-68: the lock counts units of 512 seconds, not blocks.
    const TYPE_FLAG: u32 = 1 << 22;
    /// BIP-68: no lock.
    const DISABLE_FLAG: u32 = 1 << 31;
    if (tx.version.0 as u32) < 2 {
        return true;
    }
    tx.input.iter().zip(coins).all(|(input, coin)| {
        let sequence = input.sequence.to_consensus_u32();
        let lock = sequence & 0xffff;
        if sequence & DISABLE_FLAG != 0 {
            true
        } else if sequence & TYPE_FLAG != 0 {
            let since = median_time_before(coin.height.saturating_sub(1));
            since + (u64::from(lock) << 9) <= median_time_past
        } else {
            coin.height + lock <= height
        }
    })
}

/// The fee of a transaction that spends these coins in a block of this height.
///
/// # Errors
/// The first rule broken, in bitcoind's order.
pub fn check_inputs(tx: &Transaction, coins: &[Coin], height: u32) -> Result<u64, TxFault> {
    let mut value_in: u64 = 0;
    for coin in coins {
        let depth = height.saturating_sub(coin.height);
        if coin.is_coinbase && depth < COINBASE_MATURITY {
            return Err(TxFault::PrematureCoinbaseSpend { depth });
        }
        value_in += coin.output.value.to_sat();
        if value_in > MONEY_MAX_SAT {
            return Err(TxFault::InputValuesOutOfRange);
        }
    }
    let value_out: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    value_in.checked_sub(value_out).ok_or(TxFault::InBelowOut { value_in_sat: value_in, value_out_sat: value_out })
}

/// The cost of a transaction's signature operations (BIP-141).
pub fn sigops_cost(tx: &Transaction, coins: &[Coin]) -> usize {
    tx.total_sigop_cost(|outpoint| {
        let index = tx.input.iter().position(|input| input.previous_output == *outpoint)?;
        coins.get(index).map(|coin| coin.output.clone())
    })
}

/// The ids of a block's transactions, in order.
pub fn txids(block: &Block) -> Vec<Txid> {
    block.txdata.iter().map(Transaction::compute_txid).collect()
}
