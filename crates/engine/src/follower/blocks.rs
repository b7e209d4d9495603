//! From a block's bytes to a command: what it pays to issued scripts and what of ours it spends. Never fetches anything, and
//! never leaves anything of a block out.

use crate::terms::{core_hash, core_outpoint, core_txid, library_outpoint};
use bitcoin::consensus::encode;
use florin_chain::bitcoin::scan::{ScanError, scan_block};
use florin_chain::bitcoin::watch::{WatchKey, WatchedOutpoints, WatchedScripts};
use florin_core::amount::Amount;
use florin_core::command::{ConnectBlock, Receipt, Spend};
use florin_core::custody::{Block, BlockRef, Branch, KeyPath, OutPoint};
use florin_core::id::{BlockHash, ChainId, Height, WalletId};
use florin_core::state::State;
use florin_core::wire::Bytes;
use std::collections::BTreeMap;

/// A block that was fetched and whose merkle root was right.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) height: Height,
    pub(crate) hash: BlockHash,
    pub(crate) bytes: Vec<u8>,
}

/// Why a block's content can't be booked. The chain waits for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// The walk over its bytes found something.
    #[error("the block can't be scanned")]
    Scan(#[from] ScanError),
    /// It spends coins of ours and its transactions can't be read.
    #[error("the block's transactions can't be read: {0}")]
    Undecodable(String),
}

impl BlockFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            BlockFault::Scan(error) => error.code(),
            BlockFault::Undecodable(_) => "block_undecodable",
        }
    }
}

/// What is looked for: every script ever issued, and every coin that a block may spend.
#[derive(Debug)]
pub(crate) struct Watched {
    key: WatchKey,
    pub(crate) scripts: WatchedScripts,
    pub(crate) outpoints: WatchedOutpoints,
    /// Script handles are places in this list.
    paths: Vec<KeyPath>,
    /// How many addresses of a branch are in it. They are issued in order and never withdrawn.
    learned: BTreeMap<(WalletId, Branch), u32>,
}

impl Watched {
    pub(crate) fn new(key: WatchKey) -> Watched {
        Watched {
            key,
            scripts: WatchedScripts::new(key),
            outpoints: WatchedOutpoints::new(key),
            paths: Vec::new(),
            learned: BTreeMap::new(),
        }
    }

    /// The key whose script has a handle.
    pub(crate) fn path(&self, handle: u64) -> KeyPath {
        self.paths[usize::try_from(handle).expect("handles are places in the list")]
    }

    /// Learns the addresses issued since the last time.
    pub(crate) fn learn_scripts(&mut self, state: &State, chain: ChainId) {
        for wallet in state.wallets().values().filter(|wallet| wallet.chain == chain) {
            for (branch, next) in [(Branch::External, wallet.next_external), (Branch::Internal, wallet.next_internal)] {
                let learned = self.learned.entry((wallet.id, branch)).or_insert(0);
                let first = KeyPath { wallet: wallet.id, branch, index: *learned };
                let end = KeyPath { wallet: wallet.id, branch, index: next };
                for (path, address) in state.addresses().range(first..end.max(first)) {
                    let handle = self.paths.len() as u64;
                    self.paths.push(*path);
                    self.scripts.insert(bitcoin::Script::from_bytes(&address.script.0), handle);
                }
                *learned = next.max(*learned);
            }
        }
    }

    /// Learns all coins that a block after the journalled tip may spend. Those that `block` itself was booked to spend
    /// belong to them: it may be booked in part. All are walked, once a block; a million take some tenths of a second.
    pub(crate) fn learn_coins(&mut self, state: &State, chain: ChainId, block: BlockHash) {
        self.outpoints = WatchedOutpoints::new(self.key);
        for coin in state.coins().values().filter(|coin| coin.outpoint.chain == chain) {
            if coin.spent.as_ref().is_none_or(|spent| spent.at.hash == block) {
                self.outpoints.insert(library_outpoint(coin.outpoint));
            }
        }
    }
}

/// Makes the command that books a block, or the next part of it, for a state whose tip is the block before.
pub(crate) fn connect(
    held: &Held,
    watched: &Watched,
    state: &State,
    (chain, items_max): (ChainId, usize),
) -> Result<ConnectBlock, BlockFault> {
    let scan = scan_block(&held.bytes, &watched.scripts, &watched.outpoints)?;
    let at = BlockRef { height: held.height, hash: held.hash };
    let previous = core_hash(scan.previous);
    let block = Block { chain, at, previous, time_s: u64::from(scan.time_s) };
    let receipts = scan.receipts.iter().map(|receipt| {
        let OutPoint { txid, vout, .. } = core_outpoint(chain, receipt.outpoint);
        let path = watched.path(receipt.script_handle);
        Receipt { txid, vout, amount: Amount::new(u128::from(receipt.amount_sat)), path, coinbase: receipt.coinbase }
    });
    let receipts: Vec<Receipt> = receipts.collect();
    let spends = if scan.spends.is_empty() { Vec::new() } else { spends(held, &scan.spends, &receipts, state, chain)? };

    // What an earlier part of this block has booked is in the state. That, not a count, says what is left: the list may
    // have grown by an address that was issued in between.
    let mut receipts: Vec<Receipt> = receipts
        .into_iter()
        .filter(|receipt| !state.coins().contains_key(&OutPoint { chain, txid: receipt.txid, vout: receipt.vout }))
        .collect();
    let is_booked = |outpoint: &OutPoint| {
        let coin = state.coins().get(outpoint);
        coin.and_then(|coin| coin.spent.as_ref()).is_some_and(|spent| spent.at == at)
    };
    let mut spends: Vec<Spend> = spends.into_iter().filter(|spend| !spend.inputs.iter().all(is_booked)).collect();

    let more = take_part(&mut receipts, &mut spends, items_max.max(1));
    Ok(ConnectBlock { block, receipts, spends, more })
}

/// Cuts the lists to what one command books; says whether anything is left. A transaction's spends stay together, because
/// its fee and its outputs are booked with them.
fn take_part(receipts: &mut Vec<Receipt>, spends: &mut Vec<Spend>, items_max: usize) -> bool {
    if receipts.len() > items_max {
        receipts.truncate(items_max);
        spends.clear();
        return true;
    }
    let mut room = items_max - receipts.len();
    let mut count = 0;
    for spend in spends.iter() {
        let is_first = count == 0 && receipts.is_empty();
        if spend.inputs.len() > room && !is_first {
            break;
        }
        room = room.saturating_sub(spend.inputs.len());
        count += 1;
    }
    let more = count < spends.len();
    spends.truncate(count);
    more
}

/// The transactions that spend coins of ours, in block order, with all their outputs.
fn spends(
    held: &Held,
    scanned: &[florin_chain::bitcoin::scan::Spend],
    receipts: &[Receipt],
    state: &State,
    chain: ChainId,
) -> Result<Vec<Spend>, BlockFault> {
    let block: bitcoin::Block =
        encode::deserialize(&held.bytes).map_err(|error| BlockFault::Undecodable(error.to_string()))?;
    let fresh: BTreeMap<OutPoint, Amount> = receipts
        .iter()
        .map(|receipt| (OutPoint { chain, txid: receipt.txid, vout: receipt.vout }, receipt.amount))
        .collect();
    let mut by_tx: BTreeMap<u32, Vec<OutPoint>> = BTreeMap::new();
    for spend in scanned {
        by_tx.entry(spend.tx_index).or_default().push(core_outpoint(chain, spend.outpoint));
    }
    let mut found = Vec::with_capacity(by_tx.len());
    for (index, inputs) in by_tx {
        let transaction = block
            .txdata
            .get(index as usize)
            .ok_or_else(|| BlockFault::Undecodable(format!("transaction {index} is missing")))?;
        let outputs: Vec<(Bytes, Amount)> = transaction
            .output
            .iter()
            .map(|output| (Bytes(output.script_pubkey.to_bytes()), Amount::new(u128::from(output.value.to_sat()))))
            .collect();
        let amount = |outpoint| state.coins().get(outpoint).map(|coin| coin.amount).or(fresh.get(outpoint).copied());
        let spent: Option<Amount> = inputs.iter().map(amount).try_fold(Amount::ZERO, |sum, one| sum.checked_add(one?));
        let paid = outputs.iter().try_fold(Amount::ZERO, |sum, (_, one)| sum.checked_add(*one));
        let is_all_ours = inputs.len() == transaction.input.len();
        let fee = if is_all_ours { spent.and_then(|spent| spent.checked_sub(paid?)) } else { None };
        found.push(Spend { txid: core_txid(transaction.compute_txid()), inputs, outputs, fee });
    }
    Ok(found)
}
