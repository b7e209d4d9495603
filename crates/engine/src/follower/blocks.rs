//! From a block's bytes to a command: what it pays to issued scripts and what of ours it spends. Never fetches anything, and
//! never leaves anything of a block out.

use crate::terms::{core_hash, core_outpoint, core_txid, library_outpoint};
use bitcoin::consensus::Decodable;
use florin_chain::bitcoin::scan::{ScanError, scan_block};
use florin_chain::bitcoin::watch::{WatchKey, WatchedOutpoints, WatchedScripts};
use florin_core::amount::Amount;
use florin_core::command::{ConnectBlock, PART_COST_MAX, Receipt, Spend};
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

/// What one transaction of a block means for us.
#[derive(Debug, Default)]
struct TxItem {
    receipts: Vec<Receipt>,
    spend: Option<Spend>,
}

impl TxItem {
    fn cost(&self) -> usize {
        self.receipts.len() * Receipt::COST + self.spend.as_ref().map_or(0, Spend::cost)
    }
}

/// Makes the command that books a block, or the next part of it, for a state whose tip is the block before. A part costs at
/// most `cost_max`, as [`ConnectBlock::cost`] counts, or is one transaction.
pub(crate) fn connect(
    held: &Held,
    watched: &Watched,
    state: &State,
    (chain, cost_max): (ChainId, usize),
) -> Result<ConnectBlock, BlockFault> {
    let scan = scan_block(&held.bytes, &watched.scripts, &watched.outpoints)?;
    let at = BlockRef { height: held.height, hash: held.hash };
    let time_s = u64::from(scan.time_s);
    let block = Block { chain, at, previous: core_hash(scan.previous), time_s };
    let mut items: BTreeMap<u32, TxItem> = BTreeMap::new();
    let mut fresh: BTreeMap<OutPoint, Amount> = BTreeMap::new();
    for receipt in &scan.receipts {
        let outpoint = core_outpoint(chain, receipt.outpoint);
        let (txid, vout, amount) = (outpoint.txid, outpoint.vout, Amount::new(u128::from(receipt.amount_sat)));
        let (path, coinbase) = (watched.path(receipt.script_handle), receipt.coinbase);
        fresh.insert(outpoint, amount);
        items.entry(receipt.tx_index).or_default().receipts.push(Receipt { txid, vout, amount, path, coinbase });
    }
    if !scan.spends.is_empty() {
        for (index, spend) in spends(held, &scan.spends, &fresh, state, chain)? {
            items.entry(index).or_default().spend = Some(spend);
        }
    }
    let mut left: Vec<TxItem> = items.into_values().collect();
    left.iter_mut().for_each(|item| drop_booked(item, state, chain, at));
    left.retain(|item| item.cost() > 0);
    let (receipts, spends, more) = take_part(left, cost_max);
    Ok(ConnectBlock { block, receipts, spends, more })
}

/// Leaves out what an earlier part of the block has booked. The state says that, not a count: the list may have grown by
/// an address that was issued in between.
fn drop_booked(item: &mut TxItem, state: &State, chain: ChainId, at: BlockRef) {
    let is_spent_here = |outpoint: &OutPoint| {
        let coin = state.coins().get(outpoint);
        coin.and_then(|coin| coin.spent.as_ref()).is_some_and(|spent| spent.at == at)
    };
    if let Some(spend) = &mut item.spend {
        spend.inputs.retain(|input| !is_spent_here(input));
        if spend.inputs.is_empty() {
            item.spend = None;
        }
    }
    let outpoint = |receipt: &Receipt| OutPoint { chain, txid: receipt.txid, vout: receipt.vout };
    item.receipts.retain(|receipt| !state.coins().contains_key(&outpoint(receipt)));
}

/// Takes the first transactions, as many as one command books. A transaction stays whole, because a plan's inputs, change
/// and fee are booked together; one that no command could book is none of ours, and is cut.
fn take_part(items: Vec<TxItem>, cost_max: usize) -> (Vec<Receipt>, Vec<Spend>, bool) {
    let (mut receipts, mut spends) = (Vec::new(), Vec::new());
    let mut room = cost_max.min(PART_COST_MAX);
    let mut items = items.into_iter().peekable();
    let mut is_first = true;
    while let Some(mut item) = items.next_if(|item| is_first || item.cost() <= room) {
        if item.cost() > PART_COST_MAX {
            let is_cut = cut(&mut item);
            receipts.append(&mut item.receipts);
            spends.extend(item.spend);
            return (receipts, spends, is_cut || items.peek().is_some());
        }
        room = room.saturating_sub(item.cost());
        receipts.append(&mut item.receipts);
        spends.extend(item.spend);
        is_first = false;
    }
    (receipts, spends, items.peek().is_some())
}

/// Cuts a transaction that is too large for one command: receipts first, then inputs. Says whether anything is left.
fn cut(item: &mut TxItem) -> bool {
    let receipts_max = PART_COST_MAX / Receipt::COST;
    if item.receipts.len() > receipts_max {
        item.receipts.truncate(receipts_max);
        item.spend = None;
        return true;
    }
    if !item.receipts.is_empty() {
        // What is left of it is booked next, and may then need cutting itself.
        return item.spend.take().is_some();
    }
    let Some(spend) = &mut item.spend else { return false };
    let inputs_max = PART_COST_MAX.saturating_sub(spend.cost() - spend.inputs.len()).max(1);
    let is_cut = spend.inputs.len() > inputs_max;
    spend.inputs.truncate(inputs_max);
    is_cut
}

/// The transactions that spend coins of ours, by their places in the block, with all their outputs.
fn spends(
    held: &Held,
    scanned: &[florin_chain::bitcoin::scan::Spend],
    fresh: &BTreeMap<OutPoint, Amount>,
    state: &State,
    chain: ChainId,
) -> Result<Vec<(u32, Spend)>, BlockFault> {
    let mut by_tx: BTreeMap<(u32, u32), Vec<OutPoint>> = BTreeMap::new();
    for spend in scanned {
        by_tx.entry((spend.tx_index, spend.tx_start)).or_default().push(core_outpoint(chain, spend.outpoint));
    }
    let mut found = Vec::with_capacity(by_tx.len());
    for ((index, start), inputs) in by_tx {
        // The rest of the block is not decoded.
        let mut bytes = held.bytes.get(start as usize..).unwrap_or_default();
        let transaction = bitcoin::Transaction::consensus_decode(&mut bytes)
            .map_err(|error| BlockFault::Undecodable(format!("transaction {index}: {error}")))?;
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
        found.push((index, Spend { txid: core_txid(transaction.compute_txid()), inputs, outputs, fee }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::id::TxId;

    fn item(number: u8, receipt_count: u32, input_count: u32) -> TxItem {
        let txid = TxId([number; 32]);
        let path = KeyPath { wallet: WalletId(1), branch: Branch::External, index: 0 };
        let receipt = |vout| Receipt { txid, vout, amount: Amount::new(1), path, coinbase: false };
        let input = |vout| OutPoint { chain: ChainId(1), txid: TxId([0; 32]), vout };
        let inputs: Vec<OutPoint> = (0..input_count).map(input).collect();
        let spend = (!inputs.is_empty()).then(|| Spend { txid, inputs, outputs: vec![], fee: None });
        TxItem { receipts: (0..receipt_count).map(receipt).collect(), spend }
    }

    fn shape((receipts, spends, more): (Vec<Receipt>, Vec<Spend>, bool)) -> (usize, Vec<usize>, bool) {
        (receipts.len(), spends.iter().map(|spend| spend.inputs.len()).collect(), more)
    }

    #[test]
    fn parts_keep_transactions_whole_and_in_order() {
        let items = || vec![item(1, 2, 0), item(2, 1, 3), item(3, 1, 0)];
        assert_eq!(shape(take_part(items(), PART_COST_MAX)), (4, vec![3], false));
        assert_eq!(shape(take_part(items(), 12)), (2, vec![], true));
        assert_eq!(shape(take_part(items(), 1)), (2, vec![], true), "one transaction always goes");
        assert_eq!(shape(take_part(items().split_off(1), 14)), (1, vec![3], true));
        assert_eq!(shape(take_part(Vec::new(), 14)), (0, vec![], false));
    }

    #[test]
    fn a_transaction_that_no_command_books_is_cut() {
        let receipts_max = (PART_COST_MAX / Receipt::COST) as u32;
        let whole = shape(take_part(vec![item(1, receipts_max + 5, 2), item(2, 1, 0)], PART_COST_MAX));
        assert_eq!(whole, (receipts_max as usize, vec![], true));
        assert_eq!(shape(take_part(vec![item(1, 5, 4_000)], PART_COST_MAX)), (5, vec![], true));
        let inputs_max = PART_COST_MAX - 5;
        assert_eq!(shape(take_part(vec![item(1, 0, 4_000)], PART_COST_MAX)), (0, vec![inputs_max], true));
        assert_eq!(shape(take_part(vec![item(1, 0, inputs_max as u32)], 9)), (0, vec![inputs_max], false));
    }
}
