//! What the chain itself says: transactions decoded by rust-bitcoin, and a node's unspent outputs, held against the journal.

use super::{Auditor, Output, withdrawal_status};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, Transaction};
use florin_devnet::node::Node;
use std::collections::{BTreeMap, BTreeSet};

/// What a transaction spends and pays.
#[derive(Debug)]
pub struct Spend {
    /// The outputs it spends.
    pub inputs: BTreeSet<Output>,
    /// Script and amount of what it pays.
    pub outputs: Vec<(Vec<u8>, u128)>,
    /// Its id, in wire order.
    pub txid: [u8; 32],
}

impl Spend {
    /// Decodes a transaction.
    ///
    /// # Errors
    /// A sentence.
    pub fn read(bytes: &[u8]) -> Result<Spend, String> {
        let tx: Transaction =
            deserialize(bytes).map_err(|fault| format!("a signed transaction can't be read: {fault}"))?;
        let input =
            |input: &bitcoin::TxIn| (input.previous_output.txid.to_byte_array(), u64::from(input.previous_output.vout));
        let output = |output: &bitcoin::TxOut| (output.script_pubkey.to_bytes(), u128::from(output.value.to_sat()));
        let txid = tx.compute_txid().to_byte_array();
        Ok(Spend {
            txid,
            inputs: tx.input.iter().map(input).collect(),
            outputs: tx.output.iter().map(output).collect(),
        })
    }
}

fn outpoint(at: &Output) -> bitcoin::OutPoint {
    bitcoin::OutPoint::new(bitcoin::Txid::from_byte_array(at.0), at.1 as u32)
}

/// How a comparison with a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Both are at the same block, and agree.
    Equal,
    /// They are at different blocks: nothing can be said.
    Elsewhere,
}

impl Auditor {
    /// Compares coins and payments with what a node holds, where it is at the journal's tip.
    ///
    /// # Errors
    /// A sentence.
    pub fn compare(&self, node: &Node) -> Result<Compared, String> {
        let Some((_, tip)) = self.tip() else { return Ok(Compared::Elsewhere) };
        if self.is_between() || node.tip().to_byte_array() != tip {
            return Ok(Compared::Elsewhere);
        }
        let ours: BTreeSet<ScriptBuf> = self
            .issued()
            .iter()
            .filter(|(path, _)| self.is_followed(path))
            .map(|(_, script)| ScriptBuf::from_bytes(script.clone()))
            .collect();
        let on_chain: BTreeMap<Output, u128> = node
            .coins()
            .of_scripts(&ours)
            .into_iter()
            .map(|(at, coin)| ((at.txid.to_byte_array(), u64::from(at.vout)), u128::from(coin.output.value.to_sat())))
            .collect();
        let in_books = self.unspent();
        if on_chain != in_books {
            let only_chain = on_chain.iter().filter(|(at, _)| !in_books.contains_key(*at)).count();
            let only_books = in_books.iter().filter(|(at, _)| !on_chain.contains_key(*at)).count();
            let path = |at: &Output| {
                node.coins().get(&outpoint(at)).map(|coin| self.path_of(coin.output.script_pubkey.as_bytes()))
            };
            let first = on_chain.keys().find(|at| !in_books.contains_key(*at)).map(path);
            return Err(format!(
                "{only_chain} coins are on the chain alone, and {only_books} in the books alone: {first:?}"
            ));
        }
        self.compare_payments(node)?;
        Ok(Compared::Equal)
    }

    /// Each withdrawal pays a script of its own: it is on the chain once where the books call it confirmed or say that somebody else
    /// has paid it, and not at all elsewhere.
    fn compare_payments(&self, node: &Node) -> Result<(), String> {
        // Also of those that left: their payments stand for as long as their blocks do.
        let outward = || self.withdrawals_and_left().filter(|(_, withdrawal)| !self.is_ours(&withdrawal.script));
        let scripts: BTreeSet<ScriptBuf> =
            outward().map(|(_, withdrawal)| ScriptBuf::from_bytes(withdrawal.script.clone())).collect();
        let mut paid: BTreeMap<Vec<u8>, Vec<u128>> = BTreeMap::new();
        for (_, coin) in node.coins().of_scripts(&scripts) {
            paid.entry(coin.output.script_pubkey.to_bytes()).or_default().push(u128::from(coin.output.value.to_sat()));
        }
        let foreign = self.foreign_sums();
        for (id, withdrawal) in outward() {
            let found = paid.get(&withdrawal.script).map_or(&[] as &[u128], Vec::as_slice);
            let is_confirmed = matches!(withdrawal.status, withdrawal_status::CONFIRMED | withdrawal_status::FINAL);
            let is_paid = match self.paid_by_others.get(id) {
                // Ended by what no plan meant: paid for as long as that has coins of ours.
                Some((txid, _)) => foreign.get(txid).is_some_and(|(taken, _)| *taken > 0),
                None => is_confirmed || self.foreign_payer(id).is_some(),
            };
            let expected: &[u128] = if is_paid { &[withdrawal.amount] } else { &[] };
            if found != expected {
                return Err(format!(
                    "a withdrawal of {} in status {} is on the chain as {found:?}",
                    withdrawal.amount, withdrawal.status
                ));
            }
        }
        Ok(())
    }
}
