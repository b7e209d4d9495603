//! Blocks forward and back: what may follow the tip and what may be taken back. Bookings are in `receipt` and `spend`, what
//! depth brings in `settle`. Never believes a block that contradicts the books, and never skips one.

pub(super) mod conflict;
pub(super) mod receipt;
pub(super) mod settle;
pub(super) mod spend;
pub(super) mod unarchive;

use super::{Draft, refusals};
use crate::amount::Amount;
use crate::command::{ConnectBlock, Outcome, PART_COST_MAX};
use crate::custody::{Block, BlockRef, Deposit, DepositStatus, OutPoint};
use crate::event::{BlockDisconnected, BlockPartBooked, DepositMoved, Event};
use crate::id::{BlockHash, ChainId};
use crate::journal::EVENTS_MAX;
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet};

/// The most events that one step of work which is not divided further emits: a plan with all its inputs and payments. Work
/// that goes on "while there is room" stops this far before its limit.
pub(super) const STEP_EVENTS: usize = 600;

/// The largest amount that an output is believed to pay, 2^96 of the smallest unit: 37,000 times Bitcoin's supply in a unit a
/// million times smaller, and four thousand million such outputs still fit an account's sums.
pub const OUTPUT_AMOUNT_MAX: Amount = Amount::new(1 << 96);

refusals! {
    /// Why a block or a mempool's view is not booked.
    pub enum BlockRefusal {
        /// No chain has this id.
        ChainUnknown => "chain_unknown", "there is no such chain";
        /// The block is journalled.
        BlockKnown => "block_known", "this block is connected already";
        /// A block is being taken back, and that is not finished.
        BlockUndoing => "block_undoing", "a block is being taken back; finish that first";
        /// Part of another block is booked.
        PartPending => "block_part_pending", "part of another block is booked; complete it or take it back";
        /// The block does not follow the tip.
        BlockNotNext => "block_not_next", "the block does not extend the journalled tip";
        /// Only the tip can be taken back.
        BlockNotTip => "block_not_tip", "only the journalled tip can be taken back";
        /// The block before it has left the state: [`crate::command::Command::Unarchive`] puts it back.
        BlockBeforeArchived => "block_before_archived", "the block before the tip has left the state; put it back first";
        /// The chain's first block is never taken back. Whoever follows the chain halts its coin: people must look.
        ReorganisationTooDeep => "reorganisation_too_deep", "the reorganisation reaches below the first block of the chain";
        /// Records come back only when they are needed: while one block is left.
        BlocksKept => "blocks_kept", "there are blocks that can be taken back before archived ones are put back";
        /// More than one command books.
        TooMany => "block_part_too_large", "that is too much for one command; book the block in parts";
        /// Not the records that left last, or not in their order, or none.
        ArchivedOther => "archived_other", "these are not the records that left the state last";
        /// A plan without what it spent and paid, or that without its plan.
        ArchivedIncomplete => "archived_incomplete", "records that left the state together come back together";
        /// The state has another record in the place of one of these.
        ArchivedPresent => "archived_present", "the state has a record in the place of one that left it";
        /// No address was handed out at this key path.
        ReceiptAddressUnknown => "receipt_address_unknown", "a receipt names an address that was not handed out";
        /// The address is one of another chain.
        ReceiptAddressForeign => "receipt_address_foreign", "a receipt names an address of another chain";
        /// Above [`OUTPUT_AMOUNT_MAX`].
        ReceiptAmountTooLarge => "receipt_amount_too_large", "a receipt's amount is larger than any output's";
        /// The output is booked.
        ReceiptRepeated => "receipt_repeated", "an output is received twice";
        /// The output was credited with another amount or address before.
        ReceiptContradicts => "receipt_contradicts", "an output differs from what it was when it was credited";
        /// A spend of nothing.
        SpendEmpty => "spend_empty", "a spend names no coin";
        /// The coin is none of ours.
        SpendCoinUnknown => "spend_coin_unknown", "a spend names a coin that is not in the books";
        /// The coin is spent.
        SpendRepeated => "spend_repeated", "a coin is spent twice";
        /// The transaction is one of our plans, and its change is absent or other than it says.
        SpendIncomplete => "spend_incomplete", "a transaction of ours lacks its change";
    }
}

/// Books a block, or part of one, and what its depth brings.
pub(super) fn connect(draft: &mut Draft<'_>, command: &ConnectBlock) -> Result<Outcome, BlockRefusal> {
    let block = &command.block;
    let booked_before = check_place(draft.state, block)?;
    if command.cost() > PART_COST_MAX {
        return Err(BlockRefusal::TooMany);
    }
    check_receipts(draft.state, command)?;
    check_spends(draft.state, command)?;
    let matches = spend::match_all(draft.state, command)?;
    let change: BTreeSet<OutPoint> = matches.iter().flatten().filter_map(|matched| matched.change).collect();

    for receipt in &command.receipts {
        let outpoint = receipt.outpoint(block.chain);
        receipt::book(draft, block, receipt, change.contains(&outpoint));
    }
    for (spend, matched) in command.spends.iter().zip(&matches) {
        match matched {
            Some(matched) => spend::book_plan(draft, block.at, spend, matched),
            None => spend::book_foreign(draft, block, spend),
        }
    }
    if command.more {
        let items = (command.receipts.len() + command.spends.len()) as u32;
        let booked = booked_before.saturating_add(items);
        draft.emit(Event::BlockPartBooked(BlockPartBooked { block: block.clone(), booked, undoing: false }));
    } else {
        draft.emit(Event::BlockConnected(block.clone()));
        settle::settle(draft, block.chain, EVENTS_MAX - STEP_EVENTS);
    }
    Ok(Outcome::Done(true))
}

/// How many items of the block are booked already.
fn check_place(state: &State, block: &Block) -> Result<u32, BlockRefusal> {
    let chain = state.chains.get(&block.chain).ok_or(BlockRefusal::ChainUnknown)?;
    if chain.blocks.get(&block.at.height).is_some_and(|known| known.at == block.at) {
        return Err(BlockRefusal::BlockKnown);
    }
    let booked = match &chain.part {
        None => 0,
        Some(part) if part.undoing => return Err(BlockRefusal::BlockUndoing),
        Some(part) if part.block != *block => return Err(BlockRefusal::PartPending),
        Some(part) => part.booked,
    };
    let tip = chain.tip().ok_or(BlockRefusal::BlockNotNext)?.at;
    if block.previous != tip.hash || tip.height.0.checked_add(1) != Some(block.at.height.0) {
        return Err(BlockRefusal::BlockNotNext);
    }
    Ok(booked)
}

fn check_receipts(state: &State, command: &ConnectBlock) -> Result<(), BlockRefusal> {
    let chain = command.block.chain;
    receipt::check_addresses(state, chain, &command.receipts)?;
    let mut outpoints = BTreeSet::new();
    for receipt in &command.receipts {
        let outpoint = receipt.outpoint(chain);
        let is_booked = |deposit: &Deposit| matches!(deposit.status, DepositStatus::Pending | DepositStatus::Credited);
        if !outpoints.insert(outpoint)
            || state.coins.contains_key(&outpoint)
            || state.deposits.get(&outpoint).is_some_and(is_booked)
        {
            return Err(BlockRefusal::ReceiptRepeated);
        }
    }
    let contradicts = |receipt: &crate::command::Receipt| {
        let was_credited =
            |deposit: &&Deposit| matches!(deposit.status, DepositStatus::Missing | DepositStatus::Reversed);
        let before = state.deposits.get(&receipt.outpoint(chain)).filter(was_credited);
        before.is_some_and(|deposit| !receipt::is_same(deposit, receipt))
    };
    if command.receipts.iter().any(contradicts) { Err(BlockRefusal::ReceiptContradicts) } else { Ok(()) }
}

fn check_spends(state: &State, command: &ConnectBlock) -> Result<(), BlockRefusal> {
    let chain = command.block.chain;
    if command.spends.iter().any(|spend| spend.inputs.is_empty()) {
        return Err(BlockRefusal::SpendEmpty);
    }
    let inputs = || command.spends.iter().flat_map(|spend| &spend.inputs);
    let received: BTreeSet<OutPoint> = command.receipts.iter().map(|receipt| receipt.outpoint(chain)).collect();
    let is_ours = |input: &OutPoint| state.coins.contains_key(input) || received.contains(input);
    if !inputs().all(|input| input.chain == chain && is_ours(input)) {
        return Err(BlockRefusal::SpendCoinUnknown);
    }
    let mut spent = BTreeSet::new();
    let mut is_spent =
        |input: &OutPoint| !spent.insert(*input) || state.coins.get(input).is_some_and(|coin| coin.spent.is_some());
    if inputs().any(&mut is_spent) { Err(BlockRefusal::SpendRepeated) } else { Ok(()) }
}

/// Takes the tip back, or what is booked of an incomplete block. `Done(false)` means that more than one command is needed:
/// the same command again takes back the rest, and until then nothing else happens on the chain.
pub(super) fn disconnect(draft: &mut Draft<'_>, chain: ChainId, hash: BlockHash) -> Result<Outcome, BlockRefusal> {
    let state = draft.state.chains.get(&chain).ok_or(BlockRefusal::ChainUnknown)?;
    let (block, is_marked) = match &state.part {
        Some(part) if part.block.at.hash == hash => (part.block.clone(), part.undoing),
        Some(part) if part.undoing => return Err(BlockRefusal::BlockUndoing),
        Some(_) => return Err(BlockRefusal::PartPending),
        None => {
            let tip = state.tip().filter(|tip| tip.at.hash == hash).ok_or(BlockRefusal::BlockNotTip)?;
            if state.blocks.len() == 1 {
                let is_archived = state.archived.count > 0;
                let refusal = (BlockRefusal::BlockBeforeArchived, BlockRefusal::ReorganisationTooDeep);
                return Err(if is_archived { refusal.0 } else { refusal.1 });
            }
            (tip.clone(), false)
        }
    };
    let is_tip = state.part.is_none();
    let at = block.at;
    conflict::reopen(draft, chain, at);
    let is_done = undo(draft, chain, at, EVENTS_MAX - STEP_EVENTS);
    if is_done || is_tip {
        draft.emit(Event::BlockDisconnected(BlockDisconnected { chain, at }));
    }
    if !is_done && !is_marked {
        draft.emit(Event::BlockPartBooked(BlockPartBooked { block, booked: 0, undoing: true }));
    }
    Ok(Outcome::Done(is_done))
}

/// Spends first: a coin can only leave unspent. Whether all is undone, or the room for events ended.
fn undo(draft: &mut Draft<'_>, chain: ChainId, at: BlockRef, events_max: usize) -> bool {
    let room = events_max.saturating_sub(draft.events.len());
    let spent: Vec<OutPoint> = draft.state.index.spent_at(chain, at.height).take(room).collect();
    for outpoint in spent {
        if draft.events.len() >= events_max {
            return false;
        }
        spend::undo(draft, outpoint);
    }
    let received: Vec<OutPoint> = draft.state.index.received_at(chain, at.height).take(room).collect();
    for outpoint in received {
        if draft.events.len() >= events_max {
            return false;
        }
        receipt::undo(draft, outpoint);
    }
    let index = &draft.state.index;
    index.spent_at(chain, at.height).next().is_none() && index.received_at(chain, at.height).next().is_none()
}

/// Says where a deposit stands now.
pub(super) fn move_deposit(draft: &mut Draft<'_>, deposit: &Deposit) {
    draft.emit(Event::DepositMoved(DepositMoved {
        outpoint: deposit.outpoint,
        status: deposit.status,
        at: deposit.at,
        hold: deposit.hold,
        missing_since: deposit.missing_since,
        debited: deposit.debited,
        due: deposit.due,
    }));
}

/// The receipts of a command by their outputs.
type ReceiptsByOutPoint<'a> = BTreeMap<OutPoint, &'a crate::command::Receipt>;
