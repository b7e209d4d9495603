//! Owns one node: it checks every block and transaction alone, keeps coins, tree and mempool, and follows the branch with the most work.
//! Must never trust what another node says, read a clock, or use chance.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::consensus::deserialize;
use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{Block, BlockHash, OutPoint, Transaction, TxOut, Txid};

use crate::checks::{
    check_block, check_block_at, check_inputs, check_transaction, is_final, is_sequence_final, sigops_cost,
};
use crate::coins::{Changes, Coin, Coins, Overlay, Undo};
use crate::fees::FeeRate;
use crate::mempool::{Entry, Mempool};
use crate::params::{BLOCK_FUTURE_MAX_SECONDS, BLOCK_SIGOPS_COST_MAX, MONEY_MAX_SAT, bits, genesis, subsidy_sat};
use crate::policy::{
    Candidate, RelayPolicy, check_fee, check_form, check_replacement, check_spends, check_truc, entry,
};
use crate::reject::{BlockReject, SendReject, TxFault, TxReject, Verdict};
use crate::script::{ScriptRules, verify_inputs};
use crate::tree::{Standing, Tree};

/// A transaction that may enter the mempool, or has entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub txid: Txid,
    /// Its virtual size.
    pub vsize: u64,
    /// Its fee in satoshi.
    pub fee_sat: u64,
    /// What it evicts, descendants included.
    pub replaced: BTreeSet<Txid>,
}

/// A Bitcoin node on regtest.
#[derive(Clone, Debug)]
pub struct Node {
    tree: Tree,
    coins: Coins,
    pool: Mempool,
    policy: RelayPolicy,
    secp: Secp256k1<VerifyOnly>,
    clock: u64,
    estimate: Option<FeeRate>,
    pruned_below: u32,
    /// Transactions handed in by a user that no other node has asked for yet.
    unbroadcast: BTreeSet<Txid>,
    /// What keeps the blocks this node generates apart from those of others.
    tag: u32,
    generated: u64,
    connections: u32,
}

impl Node {
    /// A node that knows the genesis block, with this relay policy and its clock, in seconds since 1970, at `clock`.
    pub fn new(policy: RelayPolicy, clock: u64) -> Self {
        Self {
            tree: Tree::new(genesis()),
            coins: Coins::default(),
            pool: Mempool::default(),
            policy,
            secp: Secp256k1::verification_only(),
            clock,
            estimate: None,
            pruned_below: 0,
            unbroadcast: BTreeSet::new(),
            tag: 0,
            generated: 0,
            connections: 0,
        }
    }

    /// Sets what keeps the blocks this node generates apart from those of other nodes, and how many nodes it is connected to.
    pub fn set_identity(&mut self, tag: u32, connections: u32) {
        self.tag = tag;
        self.connections = connections;
    }

    /// How many nodes it is connected to.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    /// A number for the coinbase of the next block this node generates, used by no other.
    pub(crate) fn next_coinbase(&mut self) -> (u32, u64) {
        self.generated += 1;
        (self.tag, self.generated)
    }

    /// The node's clock in seconds since 1970.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Sets the clock and drops transactions that have waited too long. It may go backwards: clocks do.
    pub fn set_clock(&mut self, clock: u64) {
        self.clock = clock;
        self.pool.expire(clock.saturating_sub(self.policy.expiry_seconds));
    }

    /// The tree of blocks.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The unspent outputs at the tip.
    pub fn coins(&self) -> &Coins {
        &self.coins
    }

    /// The waiting transactions.
    pub fn mempool(&self) -> &Mempool {
        &self.pool
    }

    /// What this node relays.
    pub fn policy(&self) -> &RelayPolicy {
        &self.policy
    }

    /// Changes what this node relays from now on.
    pub fn set_policy(&mut self, policy: RelayPolicy) {
        self.policy = policy;
    }

    /// The rate `estimatesmartfee` answers; without one it answers as a node that has seen too little.
    pub fn estimate(&self) -> Option<FeeRate> {
        self.estimate
    }

    /// Sets what `estimatesmartfee` answers.
    pub fn set_estimate(&mut self, estimate: Option<FeeRate>) {
        self.estimate = estimate;
    }

    /// The height below which blocks are no longer served.
    pub fn pruned_below(&self) -> u32 {
        self.pruned_below
    }

    /// Stops serving the blocks below a height, as a pruned node does. They are kept for deep reorgs, which a real pruned node could not follow.
    pub fn prune_below(&mut self, height: u32) {
        self.pruned_below = height;
    }

    /// True where a user handed the transaction in and nobody has asked for it yet.
    pub fn is_unbroadcast(&self, txid: &Txid) -> bool {
        self.unbroadcast.contains(txid) && self.pool.contains(txid)
    }

    /// How many such transactions wait.
    pub fn unbroadcast_count(&self) -> usize {
        self.unbroadcast.iter().filter(|txid| self.pool.contains(txid)).count()
    }

    /// Notes that another node has the transaction.
    pub fn mark_broadcast(&mut self, txid: &Txid) {
        self.unbroadcast.remove(txid);
    }

    /// Hash of the tip.
    pub fn tip(&self) -> BlockHash {
        self.tree.tip()
    }

    /// Height of the tip.
    pub fn height(&self) -> u32 {
        self.tree.height()
    }

    /// The block of a hash, unless unknown, without bytes, or pruned.
    pub fn block(&self, hash: &BlockHash) -> Option<Arc<Block>> {
        let entry = self.tree.get(hash)?;
        if entry.height < self.pruned_below { None } else { entry.block.clone() }
    }

    /// The first block before this one whose bytes are missing, where that keeps this one from being followed.
    pub fn first_missing(&self, hash: &BlockHash) -> Option<BlockHash> {
        let mut at = *hash;
        let mut missing = None;
        while let Some(entry) = self.tree.get(&at).filter(|entry| !entry.is_linked) {
            if entry.block.is_none() {
                missing = Some(at);
            }
            at = entry.header.prev_blockhash;
        }
        missing.filter(|missing| missing != hash)
    }

    /// Judges the bytes of a block, stores it, and follows it where its branch has the most work.
    ///
    /// # Errors
    /// The first rule broken. A branch that turns out invalid before this block leaves this block stored and marked.
    pub fn submit_block(&mut self, bytes: &[u8]) -> Result<Verdict, BlockReject> {
        let block: Block = deserialize(bytes).map_err(|_| BlockReject::Undecodable)?;
        self.submit(block)
    }

    /// As [`Node::submit_block`], for a block that is decoded.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn submit(&mut self, block: Block) -> Result<Verdict, BlockReject> {
        check_block(&block)?;
        let hash = block.block_hash();
        self.accept_header(&block)?;
        if self.tree.entry(&hash).block.is_some() {
            return Ok(Verdict::Duplicate);
        }
        let entry = self.tree.entry(&hash);
        let before = self.tree.median_time_past(&block.header.prev_blockhash);
        if let Err(reject) = check_block_at(&block, entry.height, before) {
            if !reject.is_mutation() {
                self.tree.invalidate(&hash);
            }
            return Err(reject);
        }
        let height = entry.height;
        let linked = self.tree.store(&hash, Arc::new(block));
        let tip_work = self.tree.entry(&self.tree.tip()).work;
        if linked.iter().all(|hash| self.tree.entry(hash).work <= tip_work) {
            return Ok(Verdict::Stored);
        }
        let outcome = self.activate();
        if let Some((_, reject)) = outcome.failed.into_iter().find(|(failed, _)| *failed == hash) {
            return Err(reject);
        }
        if self.tree.is_active(&hash) {
            Ok(Verdict::Connected { height, disconnected: outcome.disconnected })
        } else {
            Ok(Verdict::Stored)
        }
    }

    fn accept_header(&mut self, block: &Block) -> Result<(), BlockReject> {
        let header = &block.header;
        if let Some(known) = self.tree.get(&header.block_hash()) {
            return if known.standing == Standing::Invalid { Err(BlockReject::DuplicateInvalid) } else { Ok(()) };
        }
        let parent = self.tree.get(&header.prev_blockhash).ok_or(BlockReject::PrevNotFound)?;
        if parent.standing == Standing::Invalid {
            return Err(BlockReject::PrevInvalid);
        }
        if header.bits != bits() {
            return Err(BlockReject::DiffBits);
        }
        if u64::from(header.time) <= self.tree.median_time_past(&header.prev_blockhash) {
            return Err(BlockReject::TimeTooOld);
        }
        if u64::from(header.time) > self.clock + BLOCK_FUTURE_MAX_SECONDS {
            return Err(BlockReject::TimeTooNew);
        }
        if header.version.to_consensus() < 4 {
            return Err(BlockReject::Version(header.version.to_consensus()));
        }
        self.tree.add_header(*header);
        Ok(())
    }

    /// Moves to the best branch, and to the next best where a block on it is invalid.
    fn activate(&mut self) -> Activation {
        let mut activation = Activation::default();
        let mut returned: Vec<Arc<Transaction>> = Vec::new();
        loop {
            let best = self.tree.best();
            if best == self.tree.tip() {
                break;
            }
            let fork = self.tree.fork_height(&best);
            while self.tree.height() > fork {
                returned.splice(0..0, self.disconnect_tip());
                activation.disconnected += 1;
            }
            for hash in self.tree.path_to(&best) {
                if let Err(reject) = self.connect(&hash) {
                    self.tree.invalidate(&hash);
                    activation.failed.push((hash, reject));
                    // As in bitcoind, what can't wait at this height is lost, although the old branch will be connected again.
                    self.rejudge_mempool(std::mem::take(&mut returned));
                    break;
                }
            }
        }
        if !returned.is_empty() || activation.disconnected > 0 {
            self.rejudge_mempool(returned);
        }
        activation
    }

    fn connect(&mut self, hash: &BlockHash) -> Result<(), BlockReject> {
        let entry = self.tree.entry(hash);
        let block = entry.block.clone().expect("a linked block has its bytes");
        let (changes, undo) = self.run_block(&block, entry.height)?;
        self.coins.apply(changes);
        let entry = self.tree.entry_mut(hash);
        entry.undo = Some(undo);
        entry.standing = Standing::Valid;
        self.tree.push_active(*hash);
        self.pool.block_connected(&block);
        Ok(())
    }

    /// Runs a block's transactions on top of the coins at the tip. What is dear, the scripts, comes last, as in bitcoind.
    fn run_block(&self, block: &Block, height: u32) -> Result<(Changes, Undo), BlockReject> {
        let median = self.tree.median_time_past(&block.header.prev_blockhash);
        let mut overlay = Overlay::new(&self.coins);
        if block.txdata.iter().any(|tx| overlay.has_output_of(tx)) {
            return Err(BlockReject::Overwrite);
        }
        let mut undo: Undo = Vec::new();
        let (mut fees_sat, mut sigops) = (0, 0);
        for (index, tx) in block.txdata.iter().enumerate() {
            let mut coins = Vec::new();
            if index > 0 {
                coins = overlay.spent_by(tx).ok_or(BlockReject::Transaction(TxFault::InputsMissingOrSpent))?;
                fees_sat += check_inputs(tx, &coins, height).map_err(BlockReject::Transaction)?;
                if fees_sat > MONEY_MAX_SAT {
                    return Err(BlockReject::FeesOutOfRange);
                }
                if !is_sequence_final(tx, &coins, height, median, &|at| self.median_time_at(at)) {
                    return Err(BlockReject::NonFinal);
                }
            }
            sigops += sigops_cost(tx, &coins);
            if sigops > BLOCK_SIGOPS_COST_MAX {
                return Err(BlockReject::Sigops);
            }
            overlay.apply(tx, height);
            if index > 0 {
                undo.push(coins);
            }
        }
        let limit_sat = fees_sat + subsidy_sat(height);
        let paid_sat: u64 = block.txdata[0].output.iter().map(|output| output.value.to_sat()).sum();
        if paid_sat > limit_sat {
            return Err(BlockReject::CoinbaseAmount { paid_sat, limit_sat });
        }
        for (tx, coins) in block.txdata[1..].iter().zip(&undo) {
            verify_inputs(&self.secp, tx, &outputs(coins), ScriptRules::Consensus).map_err(BlockReject::Script)?;
        }
        Ok((overlay.into_changes(), undo))
    }

    fn median_time_at(&self, height: u32) -> u64 {
        // A coin of the mempool counts as one of the next block: its lock starts at the tip.
        let hash = self.tree.at(height.min(self.tree.height())).expect("not above the tip");
        self.tree.median_time_past(&hash)
    }

    /// Takes the tip back; returns its transactions without the coinbase.
    fn disconnect_tip(&mut self) -> Vec<Arc<Transaction>> {
        let hash = self.tree.tip();
        let entry = self.tree.entry(&hash);
        let block = entry.block.clone().expect("a connected block has its bytes");
        let undo = entry.undo.as_ref().expect("a connected block has its undo");
        self.coins.disconnect(&block, undo);
        self.tree.pop_active();
        block.txdata[1..].iter().cloned().map(Arc::new).collect()
    }

    /// After a reorg: what came back from blocks, then what waited, enters again where it is still valid. Fees are not judged again.
    fn rejudge_mempool(&mut self, returned: Vec<Arc<Transaction>>) {
        let waiting = self.pool.drain();
        for tx in returned {
            if let Ok((candidate, _)) = self.judge(&tx, Limits::Bypass) {
                let entry = entry(tx, &candidate, self.clock, self.tree.height());
                self.pool.insert(entry);
            }
        }
        for old in waiting {
            if self.judge(&old.tx, Limits::Bypass).is_ok() {
                self.pool.insert(old);
            }
        }
        self.pool.trim(self.policy.mempool_vsize_max, self.policy.incremental);
    }

    /// Marks a block and all after it as invalid, and follows the best branch that remains. False where the block is unknown or the genesis block.
    pub fn invalidate(&mut self, hash: &BlockHash) -> bool {
        if self.tree.get(hash).is_none_or(|entry| entry.height == 0) {
            return false;
        }
        self.tree.invalidate(hash);
        let mut returned: Vec<Arc<Transaction>> = Vec::new();
        while self.tree.entry(&self.tree.tip()).standing == Standing::Invalid {
            returned.splice(0..0, self.disconnect_tip());
        }
        self.activate();
        if !returned.is_empty() {
            self.rejudge_mempool(returned);
        }
        true
    }

    /// Forgets that a block was invalid, judges it again and follows the best branch. False where the block is unknown.
    pub fn reconsider(&mut self, hash: &BlockHash) -> bool {
        if self.tree.get(hash).is_none() {
            return false;
        }
        self.tree.reconsider(hash);
        self.activate();
        true
    }

    /// The coin at an outpoint, of the chain or of a waiting transaction, whether or not a waiting transaction spends it.
    fn coin_with_mempool(&self, outpoint: &OutPoint) -> Option<Coin> {
        if let Some(coin) = self.coins.get(outpoint) {
            return Some(coin.clone());
        }
        let entry: &Entry = self.pool.get(&outpoint.txid)?;
        let output = entry.tx.output.get(outpoint.vout as usize)?.clone();
        Some(Coin { output, height: self.tree.height() + 1, is_coinbase: false })
    }

    /// An output that nothing in the chain or the mempool spends; height is one above the tip for a waiting transaction's.
    pub fn unspent_with_mempool(&self, outpoint: &OutPoint) -> Option<Coin> {
        if self.pool.spender(outpoint).is_some() { None } else { self.coin_with_mempool(outpoint) }
    }

    fn judge(&self, tx: &Transaction, limits: Limits) -> Result<(Candidate, BTreeSet<Txid>), TxReject> {
        check_transaction(tx).map_err(TxReject::Fault)?;
        if tx.is_coinbase() {
            return Err(TxReject::Coinbase);
        }
        check_form(tx)?;
        let next = self.tree.height() + 1;
        let median = self.tree.median_time_past(&self.tree.tip());
        if !is_final(tx, next, median) {
            return Err(TxReject::NonFinal);
        }
        let txid = tx.compute_txid();
        if let Some(same) = self.pool.get(&txid) {
            let exact = same.wtxid == tx.compute_wtxid();
            return Err(if exact { TxReject::AlreadyInMempool } else { TxReject::SameNonWitness });
        }
        let coins: Option<Vec<Coin>> =
            tx.input.iter().map(|input| self.coin_with_mempool(&input.previous_output)).collect();
        let Some(coins) = coins else {
            let known = self.coins.has_output_of(tx);
            return Err(if known { TxReject::AlreadyKnown } else { TxReject::Fault(TxFault::InputsMissingOrSpent) });
        };
        if !is_sequence_final(tx, &coins, next, median, &|at| self.median_time_at(at)) {
            return Err(TxReject::NonBip68Final);
        }
        let fee_sat = check_inputs(tx, &coins, next).map_err(TxReject::Fault)?;
        check_spends(tx, &coins)?;
        let candidate = Candidate::new(tx, txid, fee_sat, sigops_cost(tx, &coins));
        let mut evicted = BTreeSet::new();
        match limits {
            Limits::Enforce => {
                check_fee(tx, &candidate, &self.pool, &self.policy)?;
                check_truc(tx, &candidate, &self.pool)?;
                evicted = check_replacement(tx, &candidate, &self.pool, &self.policy)?;
            }
            Limits::Bypass if !self.pool.conflicts(tx).is_empty() => {
                return Err(TxReject::Fault(TxFault::InputsMissingOrSpent));
            }
            Limits::Bypass => {}
        }
        verify_inputs(&self.secp, tx, &outputs(&coins), ScriptRules::Policy).map_err(TxReject::Script)?;
        Ok((candidate, evicted))
    }

    /// Says whether a transaction would enter the mempool, and changes nothing.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn test_accept(&self, tx: &Transaction) -> Result<Accepted, TxReject> {
        let (candidate, replaced) = self.judge(tx, Limits::Enforce)?;
        Ok(Accepted { txid: candidate.txid, vsize: candidate.vsize(), fee_sat: candidate.fee_sat, replaced })
    }

    /// Takes a transaction into the mempool.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn accept(&mut self, tx: Transaction) -> Result<Accepted, TxReject> {
        let (candidate, replaced) = self.judge(&tx, Limits::Enforce)?;
        self.pool.remove(replaced.iter().copied());
        self.pool.insert(entry(Arc::new(tx), &candidate, self.clock, self.tree.height()));
        self.pool.trim(self.policy.mempool_vsize_max, self.policy.incremental);
        if !self.pool.contains(&candidate.txid) {
            return Err(TxReject::MempoolFull);
        }
        Ok(Accepted { txid: candidate.txid, vsize: candidate.vsize(), fee_sat: candidate.fee_sat, replaced })
    }

    /// What `sendrawtransaction` does: takes a transaction in, unless it waits here already. `rate_max` is the caller's cap, none where absent.
    ///
    /// # Errors
    /// That its outputs are unspent in the chain, a fee above the cap, or the mempool's reason.
    pub fn send_raw(&mut self, tx: Transaction, rate_max: Option<FeeRate>) -> Result<Txid, SendReject> {
        let txid = tx.compute_txid();
        if self.coins.has_output_of(&tx) {
            return Err(SendReject::AlreadyInUtxoSet);
        }
        if self.pool.contains(&txid) {
            return Ok(txid);
        }
        if let Some(rate_max) = rate_max {
            let accepted = self.test_accept(&tx).map_err(SendReject::Mempool)?;
            if accepted.fee_sat > rate_max.fee_sat(tx.vsize() as u64) {
                return Err(SendReject::MaxFeeExceeded);
            }
        }
        self.accept(tx).map_err(SendReject::Mempool)?;
        self.unbroadcast.retain(|txid| self.pool.contains(txid));
        self.unbroadcast.insert(txid);
        Ok(txid)
    }

    /// Drops a transaction and its descendants from the mempool, as a node under pressure or after a restart may.
    pub fn evict(&mut self, txid: &Txid) -> BTreeSet<Txid> {
        self.pool.remove([*txid])
    }

    /// Connects a block on the tip without judging its transactions: what a node that lies would show. The header's link, height and work are kept right.
    pub(crate) fn force_connect(&mut self, block: Block) {
        assert_eq!(block.header.prev_blockhash, self.tip(), "a forged block follows the tip");
        let hash = block.block_hash();
        let height = self.height() + 1;
        let mut overlay = Overlay::new(&self.coins);
        for tx in &block.txdata {
            overlay.apply(tx, height);
        }
        let changes = overlay.into_changes();
        self.coins.apply(changes);
        self.tree.add_header(block.header);
        self.pool.block_connected(&block);
        self.tree.store(&hash, Arc::new(block));
        self.tree.entry_mut(&hash).standing = Standing::Valid;
        self.tree.push_active(hash);
    }
}

/// What moving to the best branch did.
#[derive(Debug, Default)]
struct Activation {
    disconnected: u32,
    failed: Vec<(BlockHash, BlockReject)>,
}

/// Whether a transaction must meet the limits of relay, or comes back from a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limits {
    Enforce,
    Bypass,
}

fn outputs(coins: &[Coin]) -> Vec<TxOut> {
    coins.iter().map(|coin| coin.output.clone()).collect()
}
