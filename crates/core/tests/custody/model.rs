//! A chain in small, kept by the tests: transactions, blocks, forks, and what the platform's watcher would say of them.

use crate::world::{CHAIN, START_HEIGHT, World, start};
use florin_core::amount::Amount;
use florin_core::command::{Command, ConnectBlock, Outcome, Receipt, Spend};
use florin_core::custody::{Block, BlockRef, OutPoint};
use florin_core::id::{BlockHash, Height, TxId};
use florin_core::wire::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What a transaction spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Somebody's coin: two transactions that name the same one conflict.
    Somebody(u64),
    /// An output of this chain.
    Output(OutPoint),
}

#[derive(Debug, Clone)]
pub struct Tx {
    pub id: TxId,
    pub inputs: Vec<Source>,
    pub outputs: Vec<(Bytes, u128)>,
}

impl Tx {
    pub fn is_coinbase(&self) -> bool {
        self.inputs.is_empty()
    }
}

#[derive(Debug, Clone)]
pub struct Mined {
    pub block: Block,
    pub txs: Vec<Tx>,
}

/// The best chain, as the nodes see it.
#[derive(Clone)]
pub struct Model {
    pub blocks: Vec<Mined>,
    /// Outputs of the best chain with script, amount and height.
    pub outputs: BTreeMap<OutPoint, (Bytes, u128, u32)>,
    pub spent: BTreeSet<Source>,
    next: u64,
}

/// A 32-byte name from a number.
pub fn name(domain: u8, number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = domain;
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    bytes
}

impl Model {
    pub fn new() -> Model {
        let first = Mined { block: start(), txs: Vec::new() };
        Model { blocks: vec![first], outputs: BTreeMap::new(), spent: BTreeSet::new(), next: 0 }
    }

    pub fn tip(&self) -> &Block {
        &self.blocks.last().unwrap().block
    }

    pub fn accepts(&self, tx: &Tx) -> bool {
        let is_there = |source: &Source| match source {
            Source::Somebody(_) => true,
            Source::Output(outpoint) => self.outputs.contains_key(outpoint),
        };
        let is_new = !self.outputs.contains_key(&OutPoint { chain: CHAIN, txid: tx.id, vout: 0 });
        is_new && tx.inputs.iter().all(|source| is_there(source) && !self.spent.contains(source))
    }

    fn add(&mut self, tx: &Tx, height: u32) {
        self.spent.extend(&tx.inputs);
        for (vout, (script, amount)) in (0..).zip(&tx.outputs) {
            let outpoint = OutPoint { chain: CHAIN, txid: tx.id, vout };
            self.outputs.insert(outpoint, (script.clone(), *amount, height));
        }
    }

    /// Mines a block on the tip of those transactions that are valid, in order; says which were not.
    pub fn mine(&mut self, txs: Vec<Tx>) -> Vec<Tx> {
        self.next += 1;
        let tip = self.tip().at;
        let height = tip.height.0 + 1;
        let at = BlockRef { height: Height(height), hash: BlockHash(name(1, self.next)) };
        let block = Block { chain: CHAIN, at, previous: tip.hash, time_s: 1_700_000_000 + u64::from(height) };
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for tx in txs {
            if self.accepts(&tx) {
                self.add(&tx, height);
                taken.push(tx);
            } else {
                left.push(tx);
            }
        }
        self.blocks.push(Mined { block, txs: taken });
        left
    }

    /// Takes blocks back; says which transactions were in them, oldest first.
    pub fn back(&mut self, depth: usize) -> Vec<Tx> {
        let keep = self.blocks.len() - depth;
        let gone = self.blocks.split_off(keep);
        self.outputs.clear();
        self.spent.clear();
        for mined in self.blocks.clone() {
            mined.txs.iter().for_each(|tx| self.add(tx, mined.block.at.height.0));
        }
        gone.into_iter().flat_map(|mined| mined.txs).collect()
    }

    pub fn height(&self) -> u32 {
        self.tip().at.height.0
    }

    /// The height that both the model and the platform have.
    pub fn fork_height(&self, world: &World) -> u32 {
        let known = world.blocks();
        let is_known =
            |mined: &&Mined| known.get(&mined.block.at.height.0).is_some_and(|block| block.at == mined.block.at);
        let common = self.blocks.iter().rev().find(is_known).expect("both have the first block");
        common.block.at.height.0
    }

    /// Brings the platform to the best chain: back to the fork, then forward. `split` says after how many transactions a part
    /// ends.
    pub fn sync(&self, world: &mut World, mut split: impl FnMut() -> usize) {
        let fork = self.fork_height(world);
        drop_part(world);
        while world.tip().at.height.0 > fork {
            disconnect(world);
        }
        for mined in &self.blocks[(fork - START_HEIGHT) as usize + 1..] {
            for command in parts(world, mined, &mut split) {
                world.done(Command::ConnectBlock(command));
            }
        }
    }
}

/// Takes the tip back, in as many commands as it needs.
pub fn disconnect(world: &mut World) -> usize {
    while world.state.chains()[&CHAIN].blocks.len() == 1 && !world.archived.is_empty() {
        world.unarchive();
    }
    let hash = world.tip().at.hash;
    let mut count = 1;
    while world.done(Command::DisconnectBlock { chain: CHAIN, hash }) == Outcome::Done(false) {
        count += 1;
    }
    count
}

/// Takes an incomplete block back.
pub fn drop_part(world: &mut World) {
    while let Some(part) = world.state.chains()[&CHAIN].part.clone() {
        world.done(Command::DisconnectBlock { chain: CHAIN, hash: part.block.at.hash });
    }
}

/// What a watcher says of a block: outputs that equal an issued script, and transactions that spend coins of ours.
pub fn parts(world: &World, mined: &Mined, mut split: impl FnMut() -> usize) -> Vec<ConnectBlock> {
    let new = || ConnectBlock { block: mined.block.clone(), receipts: Vec::new(), spends: Vec::new(), more: true };
    let mut parts = vec![new()];
    let mut ours: BTreeSet<OutPoint> = BTreeSet::new();
    let mut room = split();
    for tx in &mined.txs {
        let (receipts, spend) = look(world, tx, &mut ours);
        if receipts.is_empty() && spend.is_none() {
            continue;
        }
        if room == 0 {
            parts.push(new());
            room = split();
        }
        room -= 1;
        let part = parts.last_mut().unwrap();
        part.receipts.extend(receipts);
        part.spends.extend(spend);
    }
    parts.last_mut().unwrap().more = false;
    parts
}

pub fn look(world: &World, tx: &Tx, ours: &mut BTreeSet<OutPoint>) -> (Vec<Receipt>, Option<Spend>) {
    let mut receipts = Vec::new();
    for (vout, (script, amount)) in (0..).zip(&tx.outputs) {
        if let Some(&path) = world.state.scripts().get(script) {
            ours.insert(OutPoint { chain: CHAIN, txid: tx.id, vout });
            let (amount, coinbase) = (Amount::new(*amount), tx.is_coinbase());
            receipts.push(Receipt { txid: tx.id, vout, amount, path, coinbase });
        }
    }
    let is_ours = |outpoint: &OutPoint| world.state.coins().contains_key(outpoint) || ours.contains(outpoint);
    let outpoints = tx.inputs.iter().filter_map(|source| match source {
        Source::Output(outpoint) => Some(*outpoint),
        Source::Somebody(_) => None,
    });
    let inputs: Vec<OutPoint> = outpoints.filter(is_ours).collect();
    let outputs = tx.outputs.iter().map(|(script, amount)| (script.clone(), Amount::new(*amount))).collect();
    let spend = (!inputs.is_empty()).then_some(Spend { txid: tx.id, inputs, outputs, fee: None });
    (receipts, spend)
}
