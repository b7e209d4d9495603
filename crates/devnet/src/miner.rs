//! Owns the making of blocks: what goes in, what the coinbase takes, the proof of work. Must never put a block into a node by itself unless asked,
//! and never past the node's own checks.

use std::collections::BTreeSet;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness,
    absolute, transaction,
};
use thiserror::Error;

use crate::checks::{check_inputs, commitment_script, height_prefix, merkle_root, witness_root};
use crate::coins::{Coins, Overlay};
use crate::fees::FeeRate;
use crate::node::Node;
use crate::params::{BLOCK_WEIGHT_MAX, bits, issuance_limit_sat, subsidy_sat};
use crate::reject::{BlockReject, Verdict};

/// Weight kept free for header and coinbase, as Bitcoin Core does.
const RESERVED_WEIGHT: u64 = 8_000;

/// Lowest fee rate a miner takes: Bitcoin Core's default since version 30.
const RATE_MIN: FeeRate = FeeRate::from_sat_per_kvb(1);

/// A version that signals nothing (BIP-9).
const BLOCK_VERSION: i32 = 0x2000_0000;

/// A miner: where its rewards go, and a counter that keeps its coinbases distinct.
#[derive(Clone, Debug)]
pub struct Miner {
    script: ScriptBuf,
    tag: u32,
    extra_nonce: u64,
}

/// A block that was mined, and what it pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mined {
    /// The block.
    pub block: Block,
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Fees it collects, in satoshi.
    pub fees_sat: u64,
    /// New coins it creates, in satoshi.
    pub subsidy_sat: u64,
    /// All new coins up to this height, in satoshi.
    pub issued_sat: u64,
    /// Hashes tried until one met the bits.
    pub attempts: u64,
}

/// A coinbase and what follows it, before any work.
#[derive(Clone, Debug)]
pub struct Template {
    /// The block it follows.
    pub parent: BlockHash,
    /// Its height.
    pub height: u32,
    /// Its time: after the median of the blocks before it, else the node's clock.
    pub time: u32,
    /// Transactions beside the coinbase, parents first.
    pub transactions: Vec<Transaction>,
    /// Their fees in satoshi.
    pub fees_sat: u64,
}

/// What a block mined on a given parent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Only the coinbase.
    Empty,
    /// All waiting transactions that fit and whose inputs exist on that branch.
    Mempool,
    /// These transactions, in this order.
    Transactions(Vec<Transaction>),
}

/// Why no block could be mined.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MineError {
    /// The parent is unknown to the node, or its bytes are.
    #[error("the parent block is unknown")]
    ParentUnknown,
    /// The node refuses the block.
    #[error("the node refuses the block: {0}")]
    Rejected(BlockReject),
}

impl Miner {
    /// A miner whose rewards go to a script. Miners with different tags make different blocks, even from the same transactions at the same time.
    pub fn new(script: ScriptBuf, tag: u32) -> Self {
        Self { script, tag, extra_nonce: 0 }
    }

    /// A miner inside a node, for the blocks it generates on request.
    pub(crate) fn for_node(node: &mut Node, script: ScriptBuf) -> Self {
        let (tag, extra_nonce) = node.next_coinbase();
        Self { script, tag, extra_nonce }
    }

    /// Where the rewards go.
    pub fn script(&self) -> &ScriptBuf {
        &self.script
    }

    /// Sends the rewards elsewhere from now on.
    pub fn set_script(&mut self, script: ScriptBuf) {
        self.script = script;
    }

    /// Mines a block on the node's tip from its mempool, without handing it in.
    pub fn mine(&mut self, node: &Node) -> Mined {
        let template = template(node);
        self.solve(&template)
    }

    /// Mines a block on the node's tip with these transactions and no other, in this order, without handing it in.
    /// `fees_sat` is what the coinbase takes beside the subsidy: a caller that wants an invalid block may lie.
    pub fn mine_with(&mut self, node: &Node, transactions: Vec<Transaction>, fees_sat: u64) -> Mined {
        let parent = node.tip();
        let (height, time) = (node.height() + 1, time_after(node, &parent));
        self.solve(&Template { parent, height, time, transactions, fees_sat })
    }

    /// Mines blocks on the node's tip from its mempool and hands each in.
    ///
    /// # Errors
    /// The node's reason; blocks before the refused one stay.
    pub fn extend(&mut self, node: &mut Node, count: u32) -> Result<Vec<Mined>, MineError> {
        let mut mined = Vec::new();
        for _ in 0..count {
            let block = self.mine(node);
            submit(node, &block.block)?;
            mined.push(block);
        }
        Ok(mined)
    }

    /// Mines a branch of blocks on any block the node knows, and hands each in. The first holds `content`, the others their coinbases only.
    /// Where the branch gets more work than the active one, the node follows it.
    ///
    /// # Errors
    /// An unknown parent, or the node's reason; blocks before the refused one stay.
    pub fn mine_on(
        &mut self,
        node: &mut Node,
        parent: BlockHash,
        count: u32,
        content: Content,
    ) -> Result<Vec<Mined>, MineError> {
        let mut mined: Vec<Mined> = Vec::new();
        let mut at = parent;
        let mut content = Some(content);
        for _ in 0..count {
            let template = template_on(node, at, content.take().unwrap_or(Content::Empty))?;
            let next = self.solve(&template);
            submit(node, &next.block)?;
            at = next.hash;
            mined.push(next);
        }
        Ok(mined)
    }

    /// Builds the block of a template and finds its proof of work.
    pub fn solve(&mut self, template: &Template) -> Mined {
        self.extra_nonce += 1;
        let subsidy_sat = subsidy_sat(template.height);
        let mut txdata = vec![self.coinbase(template, subsidy_sat)];
        txdata.extend(template.transactions.iter().cloned());
        let commitment = commitment_script(witness_root(&txdata), [0; 32]);
        txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: commitment });
        let (block, attempts) = seal(template.parent, template.time, txdata);
        Mined {
            hash: block.block_hash(),
            block,
            height: template.height,
            fees_sat: template.fees_sat,
            subsidy_sat,
            issued_sat: issuance_limit_sat(template.height),
            attempts,
        }
    }

    fn coinbase(&self, template: &Template, subsidy_sat: u64) -> Transaction {
        let mut script = height_prefix(template.height).into_bytes();
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.tag.to_be_bytes());
        nonce[4..].copy_from_slice(&self.extra_nonce.to_be_bytes());
        script.extend(Builder::new().push_slice(nonce).into_bytes());
        let input = TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        };
        let value = Amount::from_sat(subsidy_sat + template.fees_sat);
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output: vec![TxOut { value, script_pubkey: self.script.clone() }],
        }
    }
}

/// Joins transactions to a block on a parent and finds its proof of work. Returns the block and the hashes tried. Checks nothing.
pub fn seal(parent: BlockHash, time: u32, txdata: Vec<Transaction>) -> (Block, u64) {
    let (root, _) = merkle_root(txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect());
    let header = Header {
        version: Version::from_consensus(BLOCK_VERSION),
        prev_blockhash: parent,
        merkle_root: TxMerkleNode::from_byte_array(root),
        time,
        bits: bits(),
        nonce: 0,
    };
    work(Block { header, txdata })
}

/// Finds a nonce for a block whose header is otherwise set. Returns the block and the hashes tried.
///
/// # Panics
/// Where no nonce of 2^32 meets the bits, which at regtest's one in two can't happen.
pub fn work(mut block: Block) -> (Block, u64) {
    let target = block.header.target();
    let mut attempts = 1;
    while block.header.validate_pow(target).is_err() {
        block.header.nonce = block.header.nonce.checked_add(1).expect("one hash in two meets regtest's bits");
        attempts += 1;
    }
    (block, attempts)
}

/// Finds a nonce that does NOT meet the bits, for tests of nodes and clients.
pub fn spoil_work(mut block: Block) -> Block {
    let target = block.header.target();
    while block.header.validate_pow(target).is_ok() {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
    block
}

fn submit(node: &mut Node, block: &Block) -> Result<Verdict, MineError> {
    node.submit_block(&bitcoin::consensus::encode::serialize(block)).map_err(MineError::Rejected)
}

/// The earliest time a block on this parent may have, or the node's clock where that is later.
fn time_after(node: &Node, parent: &BlockHash) -> u32 {
    let earliest = node.tree().median_time_past(parent) + 1;
    u32::try_from(node.clock().max(earliest)).unwrap_or(u32::MAX)
}

/// The best block the node's mempool allows on its tip: by rate of transactions with their ancestors, within the weight limit.
pub fn template(node: &Node) -> Template {
    let pool = node.mempool();
    let weight_max = BLOCK_WEIGHT_MAX - RESERVED_WEIGHT;
    let (mut transactions, mut fees_sat, mut weight) = (Vec::new(), 0, 0);
    let mut left_out: BTreeSet<Txid> = BTreeSet::new();
    for chunk in pool.graph().chunks() {
        let entries = || chunk.txids.iter().filter_map(|txid| pool.get(txid));
        let orphaned = entries().any(|entry| pool.parents(&entry.tx).iter().any(|parent| left_out.contains(parent)));
        let poor = FeeRate::of(chunk.fee_sat, chunk.weight.div_ceil(4)) < RATE_MIN;
        if orphaned || poor || weight + chunk.weight > weight_max {
            left_out.extend(chunk.txids.iter().copied());
            continue;
        }
        weight += chunk.weight;
        fees_sat += chunk.fee_sat;
        transactions.extend(entries().map(|entry| (*entry.tx).clone()));
    }
    let parent = node.tip();
    Template { parent, height: node.height() + 1, time: time_after(node, &parent), transactions, fees_sat }
}

/// A block on any parent the node knows.
///
/// # Errors
/// [`MineError::ParentUnknown`].
pub fn template_on(node: &Node, parent: BlockHash, content: Content) -> Result<Template, MineError> {
    let entry = node.tree().get(&parent).filter(|entry| entry.is_linked).ok_or(MineError::ParentUnknown)?;
    let height = entry.height + 1;
    let coins = coins_at(node, &parent);
    let mut overlay = Overlay::new(&coins);
    let (mut transactions, mut fees_sat) = (Vec::new(), 0);
    let (offered, strict) = match content {
        Content::Empty => (Vec::new(), false),
        Content::Mempool => (template(node).transactions, false),
        Content::Transactions(transactions) => (transactions, true),
    };
    for tx in offered {
        let spent = overlay.spent_by(&tx);
        let fee = spent.and_then(|spent| check_inputs(&tx, &spent, height).ok());
        // What was asked for goes in as it is, and the node judges it; from the mempool only what this branch can hold.
        if let Some(fee_sat) = fee {
            fees_sat += fee_sat;
            overlay.apply(&tx, height);
        }
        if fee.is_some() || strict {
            transactions.push(tx);
        }
    }
    Ok(Template { parent, height, time: time_after(node, &parent), transactions, fees_sat })
}

/// The unspent outputs at any linked block: those at the tip, taken back to the fork and run forward again.
fn coins_at(node: &Node, hash: &BlockHash) -> Coins {
    let tree = node.tree();
    let mut coins = node.coins().clone();
    let fork = tree.fork_height(hash);
    for height in (fork + 1..=tree.height()).rev() {
        let entry = tree.at(height).and_then(|hash| tree.get(&hash)).expect("an active block");
        let block = entry.block.as_ref().expect("an active block has its bytes");
        coins.disconnect(block, entry.undo.as_ref().expect("an active block has its undo"));
    }
    for hash in tree.path_to(hash) {
        let entry = tree.entry(&hash);
        let block = entry.block.as_ref().expect("a linked block has its bytes");
        let mut overlay = Overlay::new(&coins);
        for tx in &block.txdata {
            overlay.apply(tx, entry.height);
        }
        let changes = overlay.into_changes();
        coins.apply(changes);
    }
    coins
}
