//! Owns the transactions that wait for a block and how they depend on and conflict with each other; must never judge whether one may enter.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use bitcoin::{Block, OutPoint, Transaction, Txid, Wtxid};

use crate::fees::{Chunk, FeeRate, Graph, Item};

/// A waiting transaction.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its id with witness.
    pub wtxid: Wtxid,
    /// Its fee in satoshi.
    pub fee_sat: u64,
    /// Its weight.
    pub weight: u64,
    /// Its weight, raised where signature operations make it dearer.
    pub policy_weight: u64,
    /// The node's clock when it entered.
    pub time: u64,
    /// The tip's height when it entered.
    pub height: u32,
    /// Grows with each entry; parents come before children.
    pub order: u64,
}

impl Entry {
    /// Its virtual size as policy counts it.
    pub fn vsize(&self) -> u64 {
        self.policy_weight.div_ceil(4)
    }
}

/// The waiting transactions of one node.
#[derive(Clone, Debug)]
pub struct Mempool {
    entries: BTreeMap<Txid, Entry>,
    spends: BTreeMap<OutPoint, Txid>,
    by_order: BTreeMap<u64, Txid>,
    orders: u64,
    /// Grows with every entry and with every removal, whatever its reason.
    sequence: u64,
    /// Raised when a full mempool evicts: below it nothing enters until a block arrives.
    floor: FeeRate,
}

impl Default for Mempool {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            spends: BTreeMap::new(),
            by_order: BTreeMap::new(),
            orders: 0,
            sequence: 1,
            floor: FeeRate::default(),
        }
    }
}

/// Totals over a set of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub count: u64,
    /// Their virtual size.
    pub vsize: u64,
    /// Their fees in satoshi.
    pub fee_sat: u64,
}

impl Mempool {
    /// The entry of a transaction.
    pub fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    /// True where the transaction waits here.
    pub fn contains(&self, txid: &Txid) -> bool {
        self.entries.contains_key(txid)
    }

    /// The entries by id.
    pub fn iter(&self) -> impl Iterator<Item = (&Txid, &Entry)> {
        self.entries.iter()
    }

    /// How many transactions wait.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Transactions that entered after an order, parents first.
    pub fn since(&self, order: u64) -> Vec<Txid> {
        self.by_order.range(order.saturating_add(1)..).map(|(_, txid)| *txid).collect()
    }

    /// The order of the last entry.
    pub fn last_order(&self) -> u64 {
        self.orders
    }

    /// The waiting transaction that spends an outpoint.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<&Txid> {
        self.spends.get(outpoint)
    }

    /// The sequence number of bitcoind's `getrawmempool`.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The rate below which nothing enters, beside the relay rate.
    pub fn floor(&self) -> FeeRate {
        self.floor
    }

    /// Sum over all transactions.
    pub fn totals(&self) -> Totals {
        self.totals_of(self.entries.keys())
    }

    /// Sum over these transactions; unknown ones do not count.
    pub fn totals_of<'a>(&self, txids: impl IntoIterator<Item = &'a Txid>) -> Totals {
        let mut totals = Totals::default();
        for entry in txids.into_iter().filter_map(|txid| self.entries.get(txid)) {
            totals.count += 1;
            totals.vsize += entry.vsize();
            totals.fee_sat += entry.fee_sat;
        }
        totals
    }

    /// Waiting transactions whose outputs this one spends.
    pub fn parents(&self, tx: &Transaction) -> BTreeSet<Txid> {
        let inputs = tx.input.iter().map(|input| input.previous_output.txid);
        inputs.filter(|txid| self.entries.contains_key(txid)).collect()
    }

    /// Waiting transactions that spend an output of this one.
    pub fn children(&self, txid: &Txid) -> BTreeSet<Txid> {
        let range = OutPoint::new(*txid, 0)..=OutPoint::new(*txid, u32::MAX);
        self.spends.range(range).map(|(_, child)| *child).collect()
    }

    /// The transactions and all that descend from them.
    pub fn with_descendants(&self, txids: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open: Vec<Txid> = txids.into_iter().collect();
        while let Some(txid) = open.pop() {
            if self.entries.contains_key(&txid) && found.insert(txid) {
                open.extend(self.children(&txid));
            }
        }
        found
    }

    /// All waiting transactions that this one descends from.
    pub fn ancestors(&self, tx: &Transaction) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open: Vec<Txid> = self.parents(tx).into_iter().collect();
        while let Some(txid) = open.pop() {
            if found.insert(txid) {
                open.extend(self.parents(&self.entries[&txid].tx));
            }
        }
        found
    }

    /// Waiting transactions that spend what this one spends.
    pub fn conflicts(&self, tx: &Transaction) -> BTreeSet<Txid> {
        tx.input.iter().filter_map(|input| self.spends.get(&input.previous_output).copied()).collect()
    }

    /// The transactions as a graph of fees.
    pub fn graph(&self) -> Graph {
        Graph { items: self.entries.iter().map(|(txid, entry)| (*txid, self.item(entry))).collect() }
    }

    /// The part of the graph that is connected with these transactions.
    pub fn graph_around(&self, starts: impl IntoIterator<Item = Txid>) -> Graph {
        let mut graph = Graph::default();
        let mut open: Vec<Txid> = starts.into_iter().collect();
        while let Some(txid) = open.pop() {
            let Some(entry) = self.entries.get(&txid) else { continue };
            if let btree_map::Entry::Vacant(place) = graph.items.entry(txid) {
                let item = place.insert(self.item(entry));
                open.extend(item.parents.iter().copied());
                open.extend(self.children(&txid));
            }
        }
        graph
    }

    fn item(&self, entry: &Entry) -> Item {
        Item {
            fee_sat: entry.fee_sat,
            weight: entry.policy_weight,
            order: entry.order,
            parents: self.parents(&entry.tx),
        }
    }

    /// The chunk a transaction would be mined with.
    pub fn chunk_of(&self, txid: &Txid) -> Option<Chunk> {
        let graph = self.graph_around([*txid]);
        graph.chunks().into_iter().find(|chunk| chunk.txids.contains(txid))
    }

    /// Adds an entry. Its order is set here.
    ///
    /// # Panics
    /// Where it conflicts with a waiting transaction: conflicts must be removed before.
    pub fn insert(&mut self, mut entry: Entry) {
        let txid = entry.tx.compute_txid();
        self.orders += 1;
        self.sequence += 1;
        entry.order = self.orders;
        for input in &entry.tx.input {
            assert!(self.spends.insert(input.previous_output, txid).is_none(), "conflicts are removed first");
        }
        self.by_order.insert(entry.order, txid);
        self.entries.insert(txid, entry);
    }

    fn detach(&mut self, txid: &Txid) -> Option<Entry> {
        let entry = self.entries.remove(txid)?;
        self.by_order.remove(&entry.order);
        for input in &entry.tx.input {
            self.spends.remove(&input.previous_output);
        }
        Some(entry)
    }

    /// Removes transactions and their descendants; returns what is gone.
    pub fn remove(&mut self, txids: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        let gone = self.with_descendants(txids);
        for txid in &gone {
            self.detach(txid);
            self.sequence += 1;
        }
        gone
    }

    /// Removes what a block confirms, and what conflicts with it. Returns the conflicts removed.
    pub fn block_connected(&mut self, block: &Block) -> BTreeSet<Txid> {
        let mut conflicts = BTreeSet::new();
        for tx in &block.txdata[1..] {
            if self.detach(&tx.compute_txid()).is_some() {
                self.sequence += 1;
            }
            let direct = self.conflicts(tx);
            conflicts.extend(self.remove(direct));
        }
        self.floor = FeeRate::default();
        conflicts
    }

    /// Takes all entries out, in the order in which they entered, so that they can be judged anew after a reorg.
    pub fn drain(&mut self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = std::mem::take(&mut self.entries).into_values().collect();
        self.spends.clear();
        self.by_order.clear();
        entries.sort_by_key(|entry| entry.order);
        entries
    }

    /// Removes what entered before a time, with descendants.
    pub fn expire(&mut self, before: u64) -> BTreeSet<Txid> {
        let old: Vec<Txid> =
            self.entries.iter().filter(|(_, entry)| entry.time < before).map(|(txid, _)| *txid).collect();
        self.remove(old)
    }

    /// Evicts the worst paying chunks until no more than so many virtual bytes remain; the floor rises above what was evicted by the increment.
    pub fn trim(&mut self, vsize_max: u64, increment: FeeRate) -> BTreeSet<Txid> {
        let mut gone = BTreeSet::new();
        while self.totals().vsize > vsize_max {
            let Some(worst) = self.graph().chunks().pop() else { break };
            let rate = FeeRate::of(worst.fee_sat, worst.weight.div_ceil(4)).sat_per_kvb() + increment.sat_per_kvb();
            self.floor = self.floor.max(FeeRate::from_sat_per_kvb(rate));
            gone.extend(self.remove(worst.txids));
        }
        gone
    }
}
