//! What waiting payments to us spend: once a block spends it otherwise, they can't come any more, whoever still lists them. It
//! knows only transactions that some node gave, and books nothing.

use crate::terms::core_txid;
use bitcoin::OutPoint;
use florin_chain::bitcoin::scan::scan_block;
use florin_chain::bitcoin::watch::{WatchKey, WatchedOutpoints, WatchedScripts};
use florin_core::id::{BlockHash, TxId};
use std::collections::BTreeMap;

/// Inputs that are kept in mind: ten for each payment that the core notes as seen on a chain. What is beyond that is found to be
/// gone when nodes list it no more.
pub const INPUTS_MAX: usize = 200_000;

/// What waiting payments spend, and which block has spent it otherwise.
#[derive(Debug)]
pub(crate) struct Conflicts {
    key: WatchKey,
    inputs: BTreeMap<TxId, Vec<OutPoint>>,
    /// How many inputs those are.
    count: usize,
    /// Payments that a block made impossible. It need not be journalled, or may be taken back.
    ended: BTreeMap<TxId, BlockHash>,
}

impl Conflicts {
    /// Knows of nothing yet.
    pub(crate) fn new(key: WatchKey) -> Conflicts {
        Conflicts { key, inputs: BTreeMap::new(), count: 0, ended: BTreeMap::new() }
    }

    /// Learns what a waiting payment spends.
    pub(crate) fn learn(&mut self, txid: TxId, bytes: &[u8]) {
        let Ok(transaction) = bitcoin::consensus::deserialize::<bitcoin::Transaction>(bytes) else { return };
        if self.inputs.contains_key(&txid) || self.count + transaction.input.len() > INPUTS_MAX {
            return;
        }
        let inputs: Vec<OutPoint> = transaction.input.iter().map(|input| input.previous_output).collect();
        self.count += inputs.len();
        self.inputs.insert(txid, inputs);
    }

    /// Forgets all others.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&TxId) -> bool) {
        self.inputs.retain(|txid, _| is_kept(txid));
        self.ended.retain(|txid, _| is_kept(txid));
        self.count = self.inputs.values().map(Vec::len).sum();
    }

    /// Looks through a block for what spends the same.
    pub(crate) fn look_through(&mut self, hash: BlockHash, bytes: &[u8]) {
        if self.inputs.is_empty() {
            return;
        }
        let mut outpoints = WatchedOutpoints::new(self.key);
        let mut spenders: BTreeMap<OutPoint, Vec<TxId>> = BTreeMap::new();
        for (txid, inputs) in &self.inputs {
            for input in inputs {
                outpoints.insert(*input);
                spenders.entry(*input).or_default().push(*txid);
            }
        }
        let Ok(scan) = scan_block(bytes, &WatchedScripts::new(self.key), &outpoints) else { return };
        for spend in scan.spends {
            let mined = core_txid(spend.txid);
            let others = spenders.get(&spend.outpoint).into_iter().flatten().filter(|txid| **txid != mined);
            self.ended.extend(others.map(|txid| (*txid, hash)));
        }
    }

    /// The block that made a payment impossible.
    pub(crate) fn ended_by(&self, txid: &TxId) -> Option<BlockHash> {
        self.ended.get(txid).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

    fn spending(inputs: &[u8], sat: u64) -> Transaction {
        let input = |tag: &u8| TxIn {
            previous_output: OutPoint { txid: bitcoin::Txid::from_byte_array([*tag; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: inputs.iter().map(input).collect(),
            output: vec![TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }],
        }
    }

    fn id(transaction: &Transaction) -> TxId {
        core_txid(transaction.compute_txid())
    }

    fn block(transactions: Vec<Transaction>) -> Vec<u8> {
        let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        block.txdata.extend(transactions);
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        bitcoin::consensus::serialize(&block)
    }

    fn learned(transactions: &[&Transaction]) -> Conflicts {
        let mut conflicts = Conflicts::new(WatchKey::new([7; 16]));
        for transaction in transactions {
            conflicts.learn(id(transaction), &bitcoin::consensus::serialize(*transaction));
        }
        conflicts
    }

    #[test]
    fn a_payment_ends_when_a_block_spends_any_of_its_inputs_otherwise() {
        let (first, second) = (spending(&[1, 2], 500), spending(&[3], 500));
        let mut conflicts = learned(&[&first, &second]);
        let hash = BlockHash([9; 32]);
        conflicts.look_through(hash, &block(vec![second.clone(), spending(&[4], 500)]));
        assert_eq!((conflicts.ended_by(&id(&first)), conflicts.ended_by(&id(&second))), (None, None));
        conflicts.look_through(hash, &block(vec![spending(&[2], 400)]));
        assert_eq!((conflicts.ended_by(&id(&first)), conflicts.ended_by(&id(&second))), (Some(hash), None));
        conflicts.look_through(hash, &[1, 2, 3]);
        conflicts.retain(|txid| *txid == id(&second));
        assert_eq!((conflicts.ended_by(&id(&first)), conflicts.inputs.len(), conflicts.count), (None, 1, 1));
    }

    #[test]
    fn of_two_payments_that_spend_the_same_the_one_in_the_block_lives_on() {
        let (first, second) = (spending(&[1], 500), spending(&[1], 400));
        let mut conflicts = learned(&[&first, &second]);
        conflicts.look_through(BlockHash([9; 32]), &block(vec![second.clone()]));
        assert!(conflicts.ended_by(&id(&first)).is_some() && conflicts.ended_by(&id(&second)).is_none());
    }

    #[test]
    fn no_more_inputs_are_kept_in_mind_than_there_is_room_for() {
        let (first, second) = (spending(&[1, 2], 500), spending(&[3], 500));
        let mut conflicts = learned(&[&first]);
        conflicts.count = INPUTS_MAX;
        conflicts.learn(id(&second), &bitcoin::consensus::serialize(&second));
        assert_eq!(conflicts.inputs.len(), 1);
        conflicts.retain(|_| true);
        conflicts.learn(id(&second), &bitcoin::consensus::serialize(&second));
        assert_eq!((conflicts.inputs.len(), conflicts.count), (2, 3));
    }
}
