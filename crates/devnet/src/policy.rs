//! Owns what a node relays beyond what a block may hold: standard forms, dust, fees, replacement; must never change a mempool.
//!
//! The numbers are those of Bitcoin Core's policy headers unless a comment says otherwise.

use std::collections::BTreeSet;

use bitcoin::{Transaction, TxOut, Txid, Weight};

use crate::coins::Coin;
use crate::fees::{FeeRate, Item, improves};
use crate::mempool::{Entry, Mempool};
use crate::reject::TxReject;
use crate::script::{ScriptKind, is_unspendable, multisig_keys};

/// Heaviest transaction relayed.
const TX_WEIGHT_MAX: u64 = 400_000;
/// Smallest transaction relayed, in bytes without witness.
const TX_SIZE_MIN: usize = 65;
/// Longest input script relayed.
const SCRIPT_SIG_SIZE_MAX: usize = 1_650;
/// Longest sum of `OP_RETURN` scripts relayed.
const DATACARRIER_MAX: usize = 100_000;
/// Most keys of a bare multisig output relayed.
const MULTISIG_KEYS_MAX: u8 = 3;
/// Rate that decides what is dust.
const DUST_RATE: FeeRate = FeeRate::from_sat_per_kvb(3_000);
/// Highest cost of signature operations relayed.
const SIGOPS_COST_MAX: usize = 16_000;
/// Virtual bytes that one signature operation counts for at least.
const BYTES_PER_SIGOP: u64 = 20;
/// Most transactions in a cluster.
pub const CLUSTER_COUNT_MAX: usize = 64;
/// Largest virtual size of a cluster.
pub const CLUSTER_VSIZE_MAX: u64 = 101_000;
/// Most clusters in which one transaction may replace others.
const REPLACED_CLUSTERS_MAX: usize = 100;
/// Version of transactions that follow the rules of BIP-431.
const TRUC_VERSION: i32 = 3;
/// Largest virtual size of a version 3 transaction.
const TRUC_VSIZE_MAX: u64 = 10_000;
/// Largest virtual size of a version 3 transaction with an unconfirmed parent.
const TRUC_CHILD_VSIZE_MAX: u64 = 1_000;

/// What a node relays; the defaults are those of Bitcoin Core 31.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayPolicy {
    /// Lowest rate that enters the mempool.
    pub min_relay: FeeRate,
    /// What a replacement pays beyond what it replaces, for its own size.
    pub incremental: FeeRate,
    /// Virtual bytes the mempool holds before it evicts.
    pub mempool_vsize_max: u64,
    /// Seconds a transaction waits before it is dropped: 336 hours.
    pub expiry_seconds: u64,
}

impl Default for RelayPolicy {
    fn default() -> Self {
        Self {
            min_relay: FeeRate::from_sat_per_kvb(100),
            incremental: FeeRate::from_sat_per_kvb(100),
            mempool_vsize_max: 300_000_000,
            expiry_seconds: 336 * 60 * 60,
        }
    }
}

/// The value below which an output costs more to spend than it holds, in satoshi.
pub fn dust_limit_sat(output: &TxOut) -> u64 {
    if is_unspendable(&output.script_pubkey) {
        return 0;
    }
    // An input takes 41 bytes and a script of 107, of which a witness counts a quarter.
    let spend = if output.script_pubkey.is_witness_program() { 41 + 107 / 4 } else { 41 + 107 };
    DUST_RATE.fee_sat(output.size() as u64 + spend)
}

fn dust_count(tx: &Transaction) -> usize {
    tx.output.iter().filter(|output| output.value.to_sat() < dust_limit_sat(output)).count()
}

/// The form of a transaction, whatever it spends.
///
/// # Errors
/// The first rule broken, in bitcoind's order.
pub fn check_form(tx: &Transaction) -> Result<(), TxReject> {
    if !(1..=3).contains(&tx.version.0) {
        return Err(TxReject::Version);
    }
    if tx.weight() > Weight::from_wu(TX_WEIGHT_MAX) {
        return Err(TxReject::Size);
    }
    for input in &tx.input {
        if input.script_sig.len() > SCRIPT_SIG_SIZE_MAX {
            return Err(TxReject::ScriptSigSize);
        }
        if !input.script_sig.is_push_only() {
            return Err(TxReject::ScriptSigNotPushOnly);
        }
    }
    let mut data_left = DATACARRIER_MAX;
    for output in &tx.output {
        match ScriptKind::of(&output.script_pubkey) {
            ScriptKind::Nonstandard => return Err(TxReject::ScriptPubKey),
            ScriptKind::MultiSig if multisig_keys(&output.script_pubkey) > MULTISIG_KEYS_MAX => {
                return Err(TxReject::ScriptPubKey);
            }
            ScriptKind::NullData => {
                data_left = data_left.checked_sub(output.script_pubkey.len()).ok_or(TxReject::Datacarrier)?;
            }
            _ => {}
        }
    }
    if dust_count(tx) > 1 {
        return Err(TxReject::Dust);
    }
    if tx.base_size() < TX_SIZE_MIN {
        return Err(TxReject::SizeSmall);
    }
    Ok(())
}

/// The form of what a transaction spends.
///
/// # Errors
/// The first rule broken, in bitcoind's order.
pub fn check_spends(tx: &Transaction, coins: &[Coin]) -> Result<(), TxReject> {
    for (index, coin) in coins.iter().enumerate() {
        match ScriptKind::of(&coin.output.script_pubkey) {
            ScriptKind::Nonstandard | ScriptKind::NullData => {
                return Err(TxReject::InputsNonstandard(format!("input {index} script unknown")));
            }
            ScriptKind::WitnessUnknown => {
                return Err(TxReject::InputsNonstandard(format!("input {index} witness program is undefined")));
            }
            _ => {}
        }
    }
    let legacy = |(input, coin): (&bitcoin::TxIn, &Coin)| {
        let kind = ScriptKind::of(&coin.output.script_pubkey);
        let bare =
            matches!(kind, ScriptKind::PubKey | ScriptKind::PubKeyHash | ScriptKind::MultiSig | ScriptKind::Anchor);
        bare && !input.witness.is_empty()
    };
    if tx.input.iter().zip(coins).any(legacy) {
        return Err(TxReject::WitnessNonstandard);
    }
    Ok(())
}

/// A transaction that is about to enter, measured.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its id.
    pub txid: Txid,
    /// Its fee in satoshi.
    pub fee_sat: u64,
    /// Its weight, raised where signature operations make it dearer.
    pub policy_weight: u64,
    /// The cost of its signature operations.
    pub sigops_cost: usize,
}

impl Candidate {
    /// Measures a transaction.
    pub fn new(tx: &Transaction, txid: Txid, fee_sat: u64, sigops_cost: usize) -> Self {
        let policy_weight = tx.weight().to_wu().max(sigops_cost as u64 * BYTES_PER_SIGOP);
        Self { txid, fee_sat, policy_weight, sigops_cost }
    }

    /// Its virtual size.
    pub fn vsize(&self) -> u64 {
        self.policy_weight.div_ceil(4)
    }
}

/// The fee of a transaction alone.
///
/// # Errors
/// The first rule broken, in bitcoind's order.
pub fn check_fee(
    tx: &Transaction,
    candidate: &Candidate,
    pool: &Mempool,
    policy: &RelayPolicy,
) -> Result<(), TxReject> {
    if candidate.fee_sat > 0 && dust_count(tx) > 0 {
        return Err(TxReject::DustWithFee);
    }
    if candidate.sigops_cost > SIGOPS_COST_MAX {
        return Err(TxReject::Sigops(candidate.sigops_cost));
    }
    let fee_sat = candidate.fee_sat;
    let asked_sat = pool.floor().fee_sat(candidate.vsize());
    if fee_sat < asked_sat {
        return Err(TxReject::MempoolMinFee { fee_sat, asked_sat });
    }
    let asked_sat = policy.min_relay.fee_sat(candidate.vsize());
    if fee_sat < asked_sat {
        return Err(TxReject::MinRelayFee { fee_sat, asked_sat });
    }
    Ok(())
}

/// The rules of version 3 transactions (BIP-431): small, at most one unconfirmed parent and child, all of version 3.
/// Where a second child comes, bitcoind may evict the first; here it is refused.
///
/// # Errors
/// [`TxReject::Truc`] saying which rule is broken.
pub fn check_truc(tx: &Transaction, candidate: &Candidate, pool: &Mempool) -> Result<(), TxReject> {
    let refuse = |detail: &str| Err(TxReject::Truc(detail.to_owned()));
    let parents = pool.parents(tx);
    let is_truc = tx.version.0 == TRUC_VERSION;
    for parent in &parents {
        let parent_is_truc = pool.get(parent).is_some_and(|entry| entry.tx.version.0 == TRUC_VERSION);
        if is_truc && !parent_is_truc {
            return refuse("version=3 tx cannot spend from non-version=3 tx");
        }
        if !is_truc && parent_is_truc {
            return refuse("non-version=3 tx cannot spend from version=3 tx");
        }
    }
    if !is_truc {
        return Ok(());
    }
    if candidate.vsize() > TRUC_VSIZE_MAX {
        return refuse("version=3 tx is too big");
    }
    if parents.is_empty() {
        return Ok(());
    }
    if pool.ancestors(tx).len() > 1 {
        return refuse("tx would have too many ancestors");
    }
    if candidate.vsize() > TRUC_CHILD_VSIZE_MAX {
        return refuse("version=3 child tx is too big");
    }
    let replaced = pool.conflicts(tx);
    let siblings = parents.iter().flat_map(|parent| pool.children(parent));
    if siblings.into_iter().any(|sibling| !replaced.contains(&sibling)) {
        return refuse("tx would exceed descendant count limit");
    }
    Ok(())
}

/// Judges a replacement and the cluster that would result. Returns what the transaction would evict, descendants included.
///
/// # Errors
/// The first rule broken, in bitcoind's order.
pub fn check_replacement(
    tx: &Transaction,
    candidate: &Candidate,
    pool: &Mempool,
    policy: &RelayPolicy,
) -> Result<BTreeSet<Txid>, TxReject> {
    let conflicts = pool.conflicts(tx);
    let evicted = pool.with_descendants(conflicts.iter().copied());
    if let Some(conflict) = pool.ancestors(tx).intersection(&conflicts).next() {
        return Err(TxReject::SpendsConflicting { txid: candidate.txid, conflict: *conflict });
    }
    let before = pool.graph_around(conflicts.iter().copied().chain(pool.parents(tx)));
    if !evicted.is_empty() {
        if pool.graph_around(conflicts.iter().copied()).clusters().len() > REPLACED_CLUSTERS_MAX {
            return Err(TxReject::TooManyReplacements);
        }
        let replaced_sat = pool.totals_of(&evicted).fee_sat;
        let increment_sat = policy.incremental.fee_sat(candidate.vsize());
        if candidate.fee_sat < replaced_sat + increment_sat {
            let (txid, fee_sat) = (candidate.txid, candidate.fee_sat);
            return Err(TxReject::InsufficientFee { txid, fee_sat, replaced_sat, increment_sat });
        }
    }
    let mut after = before.clone();
    after.items.retain(|txid, _| !evicted.contains(txid));
    let parents = pool.parents(tx);
    let item = Item { fee_sat: candidate.fee_sat, weight: candidate.policy_weight, order: u64::MAX, parents };
    after.items.insert(candidate.txid, item);
    let cluster = after.cluster(&candidate.txid);
    let vsize: u64 = cluster.iter().map(|txid| after.items[txid].weight.div_ceil(4)).sum();
    if cluster.len() > CLUSTER_COUNT_MAX || vsize > CLUSTER_VSIZE_MAX {
        return Err(TxReject::ClusterTooLarge);
    }
    if !evicted.is_empty() && !improves(&after.chunks(), &before.chunks()) {
        return Err(TxReject::ReplacementFailed);
    }
    Ok(evicted)
}

/// The entry a candidate becomes.
pub fn entry(tx: std::sync::Arc<Transaction>, candidate: &Candidate, time: u64, height: u32) -> Entry {
    Entry {
        wtxid: tx.compute_wtxid(),
        fee_sat: candidate.fee_sat,
        weight: tx.weight().to_wu(),
        policy_weight: candidate.policy_weight,
        time,
        height,
        order: 0,
        tx,
    }
}
