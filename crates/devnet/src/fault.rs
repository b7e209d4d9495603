//! Owns the lies a node may tell its callers; must never change what the node really holds, except where an honest call would.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute, transaction,
};
use serde_json::{Value, json};

use crate::miner::{Miner, Template, spoil_work};
use crate::node::Node;
use crate::rpc::json::amount;
use crate::rpc::{RpcError, handle};

/// How a node lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It shows a block on its tip that pays a script with coins from nowhere. Work, links and merkle root are right; only who checks inputs, or asks others, can know.
    ForgedBlock {
        /// Who is paid.
        script: ScriptBuf,
        /// How much, in satoshi.
        value_sat: u64,
    },
    /// The same, without the work.
    ForgedBlockWithoutWork {
        /// Who is paid.
        script: ScriptBuf,
        /// How much, in satoshi.
        value_sat: u64,
    },
    /// It shows so many empty blocks on its tip that it mined and tells nobody of: each is valid, so confirmations look deeper than they are.
    PrivateBlocks(u32),
    /// It adds so many to all confirmations it names.
    InflatedConfirmations(u32),
    /// It shows an output with another value, in blocks, transactions and coins. The transaction's id then no longer fits its bytes.
    AlteredAmount {
        /// Which output.
        outpoint: OutPoint,
        /// Its alleged value in satoshi.
        value_sat: u64,
    },
}

/// A lying node's answers.
#[derive(Clone, Debug)]
pub struct Liar {
    lie: Lie,
    /// What the node pretends to be, where the lie is about blocks.
    mask: Option<Box<Node>>,
}

impl Liar {
    /// A liar in front of a node, from its present state on.
    pub fn new(node: &Node, lie: Lie) -> Self {
        let mask = match &lie {
            Lie::ForgedBlock { script, value_sat } => {
                let mut mask = node.clone();
                let block = forge(node, script, *value_sat);
                mask.force_connect(block);
                Some(Box::new(mask))
            }
            Lie::ForgedBlockWithoutWork { script, value_sat } => {
                let mut mask = node.clone();
                mask.force_connect(spoil_work(forge(node, script, *value_sat)));
                Some(Box::new(mask))
            }
            Lie::PrivateBlocks(count) => {
                let mut mask = node.clone();
                // A tag no honest miner of this network uses, so that the blocks are the liar's own.
                let mut miner = Miner::new(ScriptBuf::new(), u32::MAX);
                for _ in 0..*count {
                    let mined = miner.mine_with(&mask, Vec::new(), 0);
                    // Not judged: by a clock that is hours off, even the liar's own node would refuse it.
                    mask.force_connect(mined.block);
                }
                Some(Box::new(mask))
            }
            Lie::InflatedConfirmations(_) | Lie::AlteredAmount { .. } => None,
        };
        Self { lie, mask }
    }

    /// Answers a call. Where the lie is about blocks, the call reaches the pretended node only: a transaction sent to it goes nowhere.
    ///
    /// # Errors
    /// As [`handle`].
    pub fn answer(&mut self, node: &mut Node, method: &str, params: Value) -> Result<Value, RpcError> {
        let asks_for = |outpoint: &OutPoint| {
            let is_index = params.get(1).and_then(Value::as_u64) == Some(u64::from(outpoint.vout));
            method == "gettxout" && is_index && params.get(0) == Some(&json!(outpoint.txid.to_string()))
        };
        let asked_for_altered = matches!(&self.lie, Lie::AlteredAmount { outpoint, .. } if asks_for(outpoint));
        let mut honest = match &mut self.mask {
            Some(mask) => {
                mask.set_clock(node.clock());
                handle(mask, method, params)?
            }
            None => handle(node, method, params)?,
        };
        Ok(match &self.lie {
            Lie::AlteredAmount { value_sat, .. } if asked_for_altered && honest.is_object() => {
                honest["value"] = amount(*value_sat);
                honest
            }
            Lie::InflatedConfirmations(extra) => inflate(honest, *extra),
            Lie::AlteredAmount { outpoint, value_sat } => alter(honest, outpoint, *value_sat),
            Lie::ForgedBlock { .. } | Lie::ForgedBlockWithoutWork { .. } | Lie::PrivateBlocks(_) => honest,
        })
    }
}

/// A block on the tip whose second transaction spends what never was.
fn forge(node: &Node, script: &ScriptBuf, value_sat: u64) -> Block {
    let nowhere = Txid::from_byte_array(sha256::Hash::hash(script.as_bytes()).to_byte_array());
    let theft = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(nowhere, 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[[1; 64]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(value_sat), script_pubkey: script.clone() }],
    };
    let mut template: Template = crate::miner::template(node);
    template.transactions = vec![theft];
    template.fees_sat = 0;
    Miner::new(ScriptBuf::new(), u32::MAX).solve(&template).block
}

/// Adds to every field that counts confirmations.
fn inflate(value: Value, extra: u32) -> Value {
    match value {
        Value::Object(fields) => {
            let lie = |(name, value): (String, Value)| match value.as_i64() {
                Some(count) if name == "confirmations" => (name, json!(count + i64::from(extra))),
                _ => (name, inflate(value, extra)),
            };
            Value::Object(fields.into_iter().map(lie).collect())
        }
        Value::Array(items) => items.into_iter().map(|item| inflate(item, extra)).collect(),
        other => other,
    }
}

/// Changes the value of an output wherever it shows.
fn alter(value: Value, outpoint: &OutPoint, value_sat: u64) -> Value {
    match value {
        Value::String(text) => Value::String(alter_hex(&text, outpoint, value_sat).unwrap_or(text)),
        Value::Array(items) => items.into_iter().map(|item| alter(item, outpoint, value_sat)).collect(),
        Value::Object(mut fields) => {
            let txid = outpoint.txid.to_string();
            let is_tx = fields.get("txid").and_then(Value::as_str) == Some(&txid);
            if is_tx {
                let index = outpoint.vout as usize;
                if let Some(output) = fields.get_mut("vout").and_then(|vout| vout.get_mut(index)) {
                    output["value"] = amount(value_sat);
                }
                // An entry of `scantxoutset`.
                if fields.get("vout").and_then(Value::as_u64) == Some(u64::from(outpoint.vout))
                    && fields.contains_key("amount")
                {
                    fields.insert("amount".to_owned(), amount(value_sat));
                }
            }
            let each = |(name, value): (String, Value)| (name, alter(value, outpoint, value_sat));
            Value::Object(fields.into_iter().map(each).collect())
        }
        other => other,
    }
}

/// The hexadecimal bytes of a block or transaction with the output changed; nothing where they hold no such output.
fn alter_hex(text: &str, outpoint: &OutPoint, value_sat: u64) -> Option<String> {
    // A hash is 64 digits; the smallest transaction with an output has more.
    if text.len() <= 64 {
        return None;
    }
    let change = |tx: &mut Transaction| {
        let is_it = tx.compute_txid() == outpoint.txid;
        let output = tx.output.get_mut(outpoint.vout as usize).filter(|_| is_it)?;
        output.value = Amount::from_sat(value_sat);
        Some(())
    };
    if let Ok(mut block) = deserialize_hex::<Block>(text) {
        block.txdata.iter_mut().find_map(change)?;
        return Some(serialize_hex(&block));
    }
    let mut tx = deserialize_hex::<Transaction>(text).ok()?;
    change(&mut tx)?;
    Some(serialize_hex(&tx))
}
