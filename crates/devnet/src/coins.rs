//! Owns the set of unspent outputs and how a block changes it and is taken back; must never judge a block.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Block, OutPoint, ScriptBuf, Transaction, TxOut};

use crate::script::is_unspendable;

/// An unspent output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// Value and script.
    pub output: TxOut,
    /// Height of the block that created it.
    pub height: u32,
    /// True where a coinbase created it.
    pub is_coinbase: bool,
}

/// All unspent outputs of a chain.
#[derive(Clone, Debug, Default)]
pub struct Coins {
    unspent: BTreeMap<OutPoint, Coin>,
}

/// The coins that the transactions of a block spent, by transaction without the coinbase: what is needed to take the block back.
pub type Undo = Vec<Vec<Coin>>;

impl Coins {
    /// The coin at an outpoint, if unspent.
    pub fn get(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.unspent.get(outpoint)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.unspent.len()
    }

    /// True where any output of the transaction is unspent.
    pub fn has_output_of(&self, tx: &Transaction) -> bool {
        let txid = tx.compute_txid();
        self.unspent.range(OutPoint::new(txid, 0)..=OutPoint::new(txid, u32::MAX)).next().is_some()
    }

    /// The coins that pay one of these scripts, in the order of their outpoints.
    pub fn of_scripts(&self, scripts: &BTreeSet<ScriptBuf>) -> Vec<(OutPoint, Coin)> {
        let pays = |(_, coin): &(&OutPoint, &Coin)| scripts.contains(&coin.output.script_pubkey);
        self.unspent.iter().filter(pays).map(|(outpoint, coin)| (*outpoint, coin.clone())).collect()
    }

    /// Takes back a connected block.
    ///
    /// # Panics
    /// Where the block is not the last one connected: its outputs must be unspent.
    pub fn disconnect(&mut self, block: &Block, undo: &Undo) {
        for (index, tx) in block.txdata.iter().enumerate().rev() {
            for outpoint in spendable_outputs(tx) {
                assert!(self.unspent.remove(&outpoint).is_some(), "an output of the tip is unspent");
            }
            if index > 0 {
                for (input, coin) in tx.input.iter().zip(&undo[index - 1]) {
                    self.unspent.insert(input.previous_output, coin.clone());
                }
            }
        }
    }
}

fn spendable_outputs(tx: &Transaction) -> impl Iterator<Item = OutPoint> + '_ {
    let txid = tx.compute_txid();
    let spendable = |(_, output): &(usize, &TxOut)| !is_unspendable(&output.script_pubkey);
    tx.output.iter().enumerate().filter(spendable).map(move |(index, _)| OutPoint::new(txid, index as u32))
}

/// Changes on top of a set of coins that are not made yet, so that a block which turns out invalid leaves nothing behind.
#[derive(Debug)]
pub struct Overlay<'a> {
    base: &'a Coins,
    /// What differs from the base: `None` is spent.
    changes: BTreeMap<OutPoint, Option<Coin>>,
}

/// What an overlay would change, free of its base.
#[derive(Debug)]
pub struct Changes(BTreeMap<OutPoint, Option<Coin>>);

impl<'a> Overlay<'a> {
    /// No change yet.
    pub fn new(base: &'a Coins) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// The coin at an outpoint, if unspent.
    pub fn get(&self, outpoint: &OutPoint) -> Option<&Coin> {
        match self.changes.get(outpoint) {
            Some(change) => change.as_ref(),
            None => self.base.get(outpoint),
        }
    }

    /// The coins all inputs spend, or nothing where one is missing.
    pub fn spent_by(&self, tx: &Transaction) -> Option<Vec<Coin>> {
        tx.input.iter().map(|input| self.get(&input.previous_output).cloned()).collect()
    }

    /// True where any output of the transaction is unspent here.
    pub fn has_output_of(&self, tx: &Transaction) -> bool {
        let txid = tx.compute_txid();
        (0..tx.output.len()).any(|index| self.get(&OutPoint::new(txid, index as u32)).is_some())
    }

    /// Spends the inputs (not of a coinbase) and adds the outputs of a transaction in a block of this height.
    pub fn apply(&mut self, tx: &Transaction, height: u32) {
        let is_coinbase = tx.is_coinbase();
        if !is_coinbase {
            for input in &tx.input {
                self.changes.insert(input.previous_output, None);
            }
        }
        for outpoint in spendable_outputs(tx) {
            let output = tx.output[outpoint.vout as usize].clone();
            self.changes.insert(outpoint, Some(Coin { output, height, is_coinbase }));
        }
    }

    /// The changes, to be made once the base may be changed.
    pub fn into_changes(self) -> Changes {
        Changes(self.changes)
    }
}

impl Coins {
    /// Makes an overlay's changes.
    pub fn apply(&mut self, changes: Changes) {
        for (outpoint, change) in changes.0 {
            match change {
                Some(coin) => self.unspent.insert(outpoint, coin),
                None => self.unspent.remove(&outpoint),
            };
        }
    }
}
