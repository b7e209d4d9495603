//! A small regtest network for the engine's tests: blocks with real work, nodes whose answers the tests choose. It checks
//! no transaction; what real nodes judge is tested elsewhere.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use florin_core::id::{BlockHash, Height, TxId};
use florin_engine::follower::nodes::Seat;
use florin_engine::ports::{Node, NodeFault, NodeInfo, SendResult, TestAccept};
use florin_engine::terms::{core_hash, core_txid};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The target of regtest, which half of all hashes meet.
const BITS: u32 = 0x207f_ffff;

/// All blocks that anyone made, by hash.
#[derive(Clone, Default)]
pub struct Blocks(Arc<Mutex<BTreeMap<BlockHash, (u32, Block)>>>);

impl Blocks {
    pub fn new() -> Blocks {
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        Blocks(Arc::new(Mutex::new(BTreeMap::from([(core_hash(genesis.block_hash()), (0, genesis))]))))
    }

    pub fn genesis(&self) -> BlockHash {
        core_hash(bitcoin::constants::genesis_block(bitcoin::Network::Regtest).block_hash())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<BlockHash, (u32, Block)>> {
        self.0.lock().expect("no test panics while it holds this")
    }

    pub fn get(&self, hash: BlockHash) -> Option<(u32, Block)> {
        self.all().get(&hash).cloned()
    }

    /// Mines a block on `parent`; `tag` makes it another than its siblings.
    pub fn mine(&self, parent: BlockHash, tag: u8, transactions: Vec<Transaction>) -> BlockHash {
        let (height, before) = self.get(parent).expect("the parent was mined");
        let coinbase_input = TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(vec![4, tag, (height >> 8) as u8, height as u8, 1]),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let coinbase = transaction(vec![coinbase_input], vec![(ScriptBuf::from_bytes(vec![0x51]), 5_000_000_000)]);
        let mut txdata = vec![coinbase];
        txdata.extend(transactions);
        let header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: before.block_hash(),
            merkle_root: bitcoin::TxMerkleNode::all_zeros(),
            time: before.header.time + 600,
            bits: CompactTarget::from_consensus(BITS),
            nonce: 0,
        };
        let mut block = Block { header, txdata };
        block.header.merkle_root = block.compute_merkle_root().expect("it has a transaction");
        while block.header.validate_pow(block.header.target()).is_err() {
            block.header.nonce += 1;
        }
        let hash = core_hash(block.block_hash());
        self.all().insert(hash, (height + 1, block));
        hash
    }

    /// Mines `count` empty blocks; gives the last.
    pub fn extend(&self, mut tip: BlockHash, tag: u8, count: usize) -> BlockHash {
        for _ in 0..count {
            tip = self.mine(tip, tag, Vec::new());
        }
        tip
    }

    /// The block at a height on the way to another.
    pub fn ancestor(&self, mut hash: BlockHash, height: u32) -> Option<BlockHash> {
        loop {
            let (at, block) = self.get(hash)?;
            if at <= height {
                return (at == height).then_some(hash);
            }
            hash = core_hash(block.header.prev_blockhash);
        }
    }
}

pub fn transaction(input: Vec<TxIn>, outputs: Vec<(ScriptBuf, u64)>) -> Transaction {
    let output = |(script_pubkey, sat)| TxOut { value: Amount::from_sat(sat), script_pubkey };
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input,
        output: outputs.into_iter().map(output).collect(),
    }
}

/// A payment by somebody else; `tag` makes it another than the rest.
pub fn payment(tag: u8, outputs: Vec<(ScriptBuf, u64)>) -> Transaction {
    let input = TxIn {
        previous_output: OutPoint { txid: bitcoin::Txid::from_byte_array([tag; 32]), vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[tag; 64].as_slice()]),
    };
    transaction(vec![input], outputs)
}

/// The first block of the network that nodes of another one follow: signet's.
pub fn other_genesis() -> BlockHash {
    core_hash(bitcoin::constants::genesis_block(bitcoin::Network::Signet).block_hash())
}

/// How a node misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    #[default]
    Honest,
    Silent,
    /// Gives another block than it was asked for.
    OtherBlocks,
    /// Gives blocks with a transaction added.
    ForgedBlocks,
    /// Says that it follows another network.
    OtherNetwork,
    /// Has the headers and not the blocks.
    Pruned,
}

pub struct NodeState {
    pub tip: BlockHash,
    pub manner: Manner,
    pub mempool: Vec<Transaction>,
    /// Whether it takes its time to list that.
    pub lists_late: bool,
    /// Ids that it lists as waiting and knows nothing of.
    pub invented: Vec<TxId>,
    /// How often it was asked for a waiting transaction.
    pub asked: usize,
    pub sent: Vec<Transaction>,
    /// Why it takes no transaction.
    pub rejects: Option<&'static str>,
    pub estimate: Option<u64>,
}

/// A node, and the test's hand on it.
#[derive(Clone)]
pub struct FakeNode {
    blocks: Blocks,
    state: Arc<Mutex<NodeState>>,
}

impl FakeNode {
    pub fn new(blocks: &Blocks) -> FakeNode {
        let (tip, manner) = (blocks.genesis(), Manner::Honest);
        let state = NodeState {
            tip,
            manner,
            mempool: Vec::new(),
            lists_late: false,
            invented: Vec::new(),
            asked: 0,
            sent: Vec::new(),
            rejects: None,
            estimate: Some(2_000),
        };
        FakeNode { blocks: blocks.clone(), state: Arc::new(Mutex::new(state)) }
    }

    pub fn state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock().expect("no test panics while it holds this")
    }

    pub fn seat(&self, name: &str) -> Seat {
        Seat { name: name.to_owned(), group: name.to_owned(), node: Box::new(self.clone()) }
    }

    fn speaking(&self) -> Result<MutexGuard<'_, NodeState>, NodeFault> {
        let state = self.state();
        if state.manner == Manner::Silent { Err(NodeFault::Timeout) } else { Ok(state) }
    }
}

impl Node for FakeNode {
    fn info(&mut self) -> Result<NodeInfo, NodeFault> {
        let state = self.speaking()?;
        let (height, _) = self.blocks.get(state.tip).expect("a tip was mined");
        let is_other = state.manner == Manner::OtherNetwork;
        let genesis = if is_other { other_genesis() } else { self.blocks.genesis() };
        Ok(NodeInfo {
            network: "regtest".to_owned(),
            genesis,
            height: Height(height),
            tip: state.tip,
            pruned_below: None,
            is_syncing: false,
        })
    }

    fn block_hash(&mut self, height: Height) -> Result<Option<BlockHash>, NodeFault> {
        Ok(self.blocks.ancestor(self.speaking()?.tip, height.0))
    }

    fn header(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        drop(self.speaking()?);
        Ok(self.blocks.get(hash).map(|(_, block)| serialize(&block.header)))
    }

    fn block(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        let manner = self.speaking()?.manner;
        let Some((_, mut block)) = self.blocks.get(hash) else { return Ok(None) };
        match manner {
            Manner::Pruned => return Ok(None),
            Manner::OtherBlocks => block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest),
            Manner::ForgedBlocks => {
                block.txdata.push(payment(99, vec![(ScriptBuf::from_bytes(vec![0x51]), 7)]));
            }
            Manner::Honest | Manner::Silent | Manner::OtherNetwork => {}
        }
        Ok(Some(serialize(&block)))
    }

    fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault> {
        let state = self.speaking()?;
        if state.lists_late {
            return Ok(None);
        }
        let waiting = state.mempool.iter().map(|tx| core_txid(tx.compute_txid()));
        Ok(Some(state.invented.iter().copied().chain(waiting).collect()))
    }

    fn transaction(&mut self, txid: TxId, block: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault> {
        let mut state = self.speaking()?;
        state.asked += usize::from(block.is_none());
        let of_block = block.and_then(|hash| self.blocks.get(hash)).map(|(_, block)| block.txdata);
        let all = of_block.unwrap_or_else(|| state.mempool.clone());
        Ok(all.iter().find(|tx| core_txid(tx.compute_txid()) == txid).map(serialize))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<SendResult, NodeFault> {
        let mut state = self.speaking()?;
        let tx: Transaction = bitcoin::consensus::encode::deserialize(bytes).expect("the engine sends transactions");
        if let Some(reason) = state.rejects {
            return Ok(SendResult::Rejected { reason: reason.to_owned() });
        }
        if state.mempool.contains(&tx) {
            return Ok(SendResult::AlreadyKnown);
        }
        state.mempool.push(tx.clone());
        state.sent.push(tx);
        Ok(SendResult::Sent)
    }

    fn test_accept(&mut self, _: &[u8]) -> Result<TestAccept, NodeFault> {
        drop(self.speaking()?);
        Ok(TestAccept::Accepted)
    }

    fn fee_estimate(&mut self, _: u16) -> Result<Option<u64>, NodeFault> {
        Ok(self.speaking()?.estimate)
    }
}
