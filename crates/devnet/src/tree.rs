//! Owns the tree of headers and blocks a node knows and which branch has the most work; must never touch coins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Work};

use crate::coins::Undo;

/// How far a block has been judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Only its header holds, or its transactions were not run yet.
    Unproven,
    /// It was connected once: all of it is valid.
    Valid,
    /// It, or a block before it, is invalid.
    Invalid,
}

/// A block in the tree.
#[derive(Clone, Debug)]
pub struct BlockEntry {
    /// Its header.
    pub header: Header,
    /// Its height.
    pub height: u32,
    /// Work of the chain that ends here.
    pub work: Work,
    /// How far it has been judged.
    pub standing: Standing,
    /// The block, once its bytes arrived.
    pub block: Option<Arc<Block>>,
    /// What takes it back, once it was connected.
    pub undo: Option<Undo>,
    /// True where its bytes and those of all blocks before it are here.
    pub is_linked: bool,
    /// Grows with each block: of branches with equal work the first seen stays.
    pub arrival: u64,
}

/// The blocks a node knows, and the active branch.
#[derive(Clone, Debug)]
pub struct Tree {
    entries: BTreeMap<BlockHash, BlockEntry>,
    children: BTreeMap<BlockHash, Vec<BlockHash>>,
    active: Vec<BlockHash>,
    arrivals: u64,
}

impl Tree {
    /// A tree of the genesis block alone.
    pub fn new(genesis: Block) -> Self {
        let hash = genesis.block_hash();
        let entry = BlockEntry {
            header: genesis.header,
            height: 0,
            work: genesis.header.work(),
            standing: Standing::Valid,
            block: Some(Arc::new(genesis)),
            undo: Some(Vec::new()),
            is_linked: true,
            arrival: 0,
        };
        Self { entries: BTreeMap::from([(hash, entry)]), children: BTreeMap::new(), active: vec![hash], arrivals: 0 }
    }

    /// The entry of a block.
    pub fn get(&self, hash: &BlockHash) -> Option<&BlockEntry> {
        self.entries.get(hash)
    }

    /// The entry of a block that is known to be there.
    pub(crate) fn entry(&self, hash: &BlockHash) -> &BlockEntry {
        self.entries.get(hash).expect("the caller holds a hash of this tree")
    }

    pub(crate) fn entry_mut(&mut self, hash: &BlockHash) -> &mut BlockEntry {
        self.entries.get_mut(hash).expect("the caller holds a hash of this tree")
    }

    /// All blocks by hash.
    pub fn iter(&self) -> impl Iterator<Item = (&BlockHash, &BlockEntry)> {
        self.entries.iter()
    }

    /// The blocks that follow one.
    pub fn children(&self, hash: &BlockHash) -> &[BlockHash] {
        self.children.get(hash).map_or(&[], Vec::as_slice)
    }

    /// The last block of the active branch.
    pub fn tip(&self) -> BlockHash {
        *self.active.last().expect("the genesis block is never disconnected")
    }

    /// The height of the active branch.
    pub fn height(&self) -> u32 {
        (self.active.len() - 1) as u32
    }

    /// The block of the active branch at a height.
    pub fn at(&self, height: u32) -> Option<BlockHash> {
        self.active.get(height as usize).copied()
    }

    /// True where the block is on the active branch.
    pub fn is_active(&self, hash: &BlockHash) -> bool {
        self.get(hash).is_some_and(|entry| self.at(entry.height) == Some(*hash))
    }

    /// The height of the last block that a branch shares with the active one.
    pub fn fork_height(&self, hash: &BlockHash) -> u32 {
        let mut at = *hash;
        while !self.is_active(&at) {
            at = self.entry(&at).header.prev_blockhash;
        }
        self.entry(&at).height
    }

    /// The median time of a block and the ten before it (BIP-113).
    pub fn median_time_past(&self, hash: &BlockHash) -> u64 {
        let mut times = Vec::with_capacity(11);
        let mut at = *hash;
        while let Some(entry) = self.entries.get(&at) {
            times.push(entry.header.time);
            if times.len() == 11 {
                break;
            }
            at = entry.header.prev_blockhash;
        }
        times.sort_unstable();
        u64::from(times[times.len() / 2])
    }

    /// Adds a header whose parent is known. The height and work follow from the parent.
    pub(crate) fn add_header(&mut self, header: Header) {
        let hash = header.block_hash();
        let parent = self.entry(&header.prev_blockhash);
        let entry = BlockEntry {
            header,
            height: parent.height + 1,
            work: parent.work + header.work(),
            standing: Standing::Unproven,
            block: None,
            undo: None,
            is_linked: false,
            arrival: 0,
        };
        self.entries.insert(hash, entry);
        self.children.entry(header.prev_blockhash).or_default().push(hash);
    }

    /// Stores the bytes of a block whose header is known. Returns the blocks that are linked by it: itself and those that waited for it.
    pub(crate) fn store(&mut self, hash: &BlockHash, block: Arc<Block>) -> Vec<BlockHash> {
        self.arrivals += 1;
        let arrival = self.arrivals;
        let entry = self.entry_mut(hash);
        entry.block = Some(block);
        entry.arrival = arrival;
        let parent = entry.header.prev_blockhash;
        let mut linked = Vec::new();
        if self.entry(&parent).is_linked {
            let mut open = vec![*hash];
            while let Some(at) = open.pop() {
                let entry = self.entry_mut(&at);
                if entry.block.is_some() && !entry.is_linked {
                    entry.is_linked = true;
                    linked.push(at);
                    open.extend_from_slice(self.children(&at));
                }
            }
        }
        linked
    }

    /// The best of all linked and not invalid blocks: most work, then first seen. The tip wins over a block of equal work.
    pub(crate) fn best(&self) -> BlockHash {
        let candidates =
            self.entries.iter().filter(|(_, entry)| entry.is_linked && entry.standing != Standing::Invalid);
        let best = candidates
            .max_by(|(_, left), (_, right)| left.work.cmp(&right.work).then(right.arrival.cmp(&left.arrival)))
            .map(|(hash, _)| *hash)
            .expect("the genesis block is linked and valid");
        let tip = self.tip();
        let tip_entry = self.entry(&tip);
        if tip_entry.standing != Standing::Invalid && tip_entry.work >= self.entry(&best).work { tip } else { best }
    }

    /// The blocks from the active branch (exclusive) to a block, first to last.
    pub(crate) fn path_to(&self, hash: &BlockHash) -> Vec<BlockHash> {
        let mut path = Vec::new();
        let mut at = *hash;
        while !self.is_active(&at) {
            path.push(at);
            at = self.entry(&at).header.prev_blockhash;
        }
        path.reverse();
        path
    }

    pub(crate) fn push_active(&mut self, hash: BlockHash) {
        self.active.push(hash);
    }

    pub(crate) fn pop_active(&mut self) {
        assert!(self.active.len() > 1, "the genesis block is never disconnected");
        self.active.pop();
    }

    /// Marks a block and all after it as invalid.
    pub(crate) fn invalidate(&mut self, hash: &BlockHash) {
        for at in self.descendants(hash) {
            self.entry_mut(&at).standing = Standing::Invalid;
        }
    }

    /// Forgets that a block, those before it and those after it were invalid: they will be judged again.
    pub(crate) fn reconsider(&mut self, hash: &BlockHash) {
        let mut related = self.descendants(hash);
        let mut at = *hash;
        while let Some(entry) = self.entries.get(&at) {
            related.push(at);
            at = entry.header.prev_blockhash;
        }
        for at in related {
            let entry = self.entry_mut(&at);
            if entry.standing == Standing::Invalid {
                entry.standing = Standing::Unproven;
            }
        }
    }

    fn descendants(&self, hash: &BlockHash) -> Vec<BlockHash> {
        let mut found = Vec::new();
        let mut open = vec![*hash];
        while let Some(at) = open.pop() {
            found.push(at);
            open.extend_from_slice(self.children(&at));
        }
        found
    }

    /// The ends of all branches, the active tip among them, highest first, then by hash.
    pub fn tips(&self) -> Vec<BlockHash> {
        let off: Vec<&BlockHash> = self.entries.keys().filter(|hash| !self.is_active(hash)).collect();
        let parents: BTreeSet<BlockHash> = off.iter().map(|hash| self.entry(hash).header.prev_blockhash).collect();
        let mut tips: Vec<BlockHash> = off.into_iter().filter(|hash| !parents.contains(*hash)).copied().collect();
        tips.push(self.tip());
        tips.sort_by_key(|hash| (std::cmp::Reverse(self.entry(hash).height), *hash));
        tips
    }

    /// The header with the most work that is not known to be invalid.
    pub fn best_header_height(&self) -> u32 {
        let valid = self.entries.values().filter(|entry| entry.standing != Standing::Invalid);
        valid.max_by_key(|entry| entry.work).map_or(0, |entry| entry.height)
    }
}
