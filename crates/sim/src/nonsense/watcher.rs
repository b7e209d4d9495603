//! What a broken or hostile chain watcher could say: blocks, receipts and spends that contradict the books.

use super::proposals::lacks_an_input;
use super::units;
use crate::setup::{CHAIN, CHAIN_STILL, WALLET, WALLET_STILL};
use crate::world::World;
use florin_core::command::{Command, ConnectBlock, PART_COST_MAX, Receipt, Spend, UNARCHIVE_BYTES_MAX};
use florin_core::custody::{
    Archived, Block, BlockRef, Branch, Deposit, DepositStatus, KeyPath, OutPoint, Plan, PlanStatus,
};
use florin_core::id::{BlockHash, ChainId, Digest, Height, TxId};
use florin_core::state::State;
use florin_core::wire::{Bytes, Message};

/// A block that would follow the tip.
fn next_block(state: &State) -> Option<Block> {
    let tip = state.chains().get(&CHAIN)?.tip()?;
    let at = BlockRef { height: Height(tip.at.height.0 + 1), hash: BlockHash([0xbb; 32]) };
    Some(Block { chain: CHAIN, at, previous: tip.at.hash, time_s: tip.time_s })
}

fn connect(block: &Block, receipts: Vec<Receipt>, spends: Vec<Spend>) -> Command {
    Command::ConnectBlock(ConnectBlock { block: block.clone(), receipts, spends, more: false })
}

fn receipt(number: u8, amount: u128, path: KeyPath) -> Receipt {
    Receipt { txid: TxId([number; 32]), vout: 0, amount: units(amount), path, coinbase: false }
}

fn first_path(wallet: florin_core::id::WalletId) -> KeyPath {
    KeyPath { wallet, branch: Branch::External, index: 0 }
}

fn spend(inputs: Vec<OutPoint>) -> Spend {
    Spend { txid: TxId([0xcc; 32]), inputs, outputs: Vec::new(), fee: None }
}

impl World {
    /// Blocks that must not be booked.
    pub(super) fn wrong_blocks(&mut self) -> Vec<Command> {
        self.state(|state| {
            let Some(block) = next_block(state) else { return Vec::new() };
            let disconnect = |chain, hash| Command::DisconnectBlock { chain, hash };
            let (still, genesis) = World::still_chain();
            let mut foreign = block.clone();
            foreign.chain = ChainId(77);
            let mut gap = block.clone();
            gap.at.height = Height(block.at.height.0 + 1);
            let mut commands = vec![
                connect(&foreign, Vec::new(), Vec::new()),
                connect(&gap, Vec::new(), Vec::new()),
                disconnect(ChainId(77), BlockHash([7; 32])),
                disconnect(CHAIN, BlockHash([7; 32])),
                disconnect(still, genesis),
                unarchive(ChainId(77), Digest::ZERO, Vec::new()),
                unarchive(CHAIN_STILL, Digest::ZERO, Vec::new()),
                // There are blocks to take back first; and where there are none, nothing is what nobody archived.
                unarchive(CHAIN, Digest::ZERO, Vec::new()),
            ];
            let known = state.chains().get(&CHAIN).and_then(|chain| chain.tip()).cloned();
            commands.extend(known.map(|known| connect(&known, Vec::new(), Vec::new())));
            if state.chains().get(&CHAIN).is_some_and(|chain| chain.part.is_none()) {
                commands.extend(wrong_contents(state, &block));
            } else {
                commands.push(connect(&block, Vec::new(), Vec::new()));
            }
            commands
        })
        .unwrap_or_default()
    }

    /// What no mempool can show.
    pub(super) fn wrong_sightings(&mut self) -> Vec<Command> {
        let see = |chain, receipts| Command::SeeReceipts { chain, receipts };
        let lose = |chain, outpoints| Command::LoseReceipts { chain, outpoints };
        let outpoint = OutPoint { chain: CHAIN, txid: TxId([1; 32]), vout: 0 };
        let path = first_path(WALLET);
        vec![
            see(ChainId(77), Vec::new()),
            see(CHAIN, vec![receipt(1, 1, path); PART_COST_MAX + 1]),
            see(CHAIN, vec![receipt(1, 1, KeyPath { index: 1_000_000, ..path })]),
            see(CHAIN, vec![receipt(1, 1, first_path(WALLET_STILL))]),
            see(CHAIN, vec![receipt(1, 1 << 97, path)]),
            lose(ChainId(77), vec![outpoint]),
            lose(CHAIN, vec![outpoint; PART_COST_MAX]),
        ]
    }

    /// Whether a block is partly booked or taken back, or the only one left stands on archived ones.
    pub(super) fn has_a_short_moment(state: &State) -> bool {
        state.chains().get(&CHAIN).is_some_and(|chain| chain.part.is_some()) || stands_on_archived(state).is_some()
    }

    /// Whether a deposit is lost, somebody is frozen, or the clock has jumped.
    pub(super) fn has_a_long_moment(state: &State) -> bool {
        let is_lost = |deposit: &Deposit| matches!(deposit.status, DepositStatus::Missing | DepositStatus::Reversed);
        state.customers().values().any(|customer| customer.freezes > 0)
            || state.deposits().values().any(is_lost)
            || state.counters().jumped_to.is_some()
            || state.plans().values().any(|plan| lacks_an_input(state, plan))
    }

    /// What the only block that is left does not allow: to go, and to have others come back than those that left last, or some of
    /// them without what they belong to, or too many.
    fn wrong_archives(&mut self, hash: BlockHash) -> Result<Vec<Command>, String> {
        let wrong = Digest([9; 32]);
        let mut commands = vec![Command::DisconnectBlock { chain: CHAIN, hash }, unarchive(CHAIN, wrong, Vec::new())];
        self.archive.read(&self.rows.rows())?;
        let records = self.archive.records();
        let from = |first: usize| {
            let below = records[first].0.digest;
            (below, records[first..].iter().map(|(_, record)| record.clone()).collect::<Vec<_>>())
        };
        if let Some((below, last)) = records.len().checked_sub(2).map(from) {
            commands.extend([
                unarchive(CHAIN, wrong, last.clone()),
                unarchive(CHAIN, below, last[..1].to_vec()),
                unarchive(CHAIN, below, last.iter().rev().cloned().collect()),
                unarchive(CHAIN, below, vec![last[0].clone(); UNARCHIVE_BYTES_MAX / last[0].encode().len() + 1]),
            ]);
        }
        // A plan leaves behind the withdrawals that it paid.
        if let Some(plan) = records.iter().rposition(|(_, record)| matches!(record, Archived::Plan(_))) {
            let (below, without_withdrawals) = from(plan);
            commands.push(unarchive(CHAIN, below, without_withdrawals));
        }
        Ok(commands)
    }

    /// What can be refused only while a block is partly booked, archived ones are needed, or a deposit is missing.
    pub(super) fn commands_of_the_moment(&mut self) -> Result<Vec<Command>, String> {
        if let Some(hash) = self.state(stands_on_archived).flatten() {
            return self.wrong_archives(hash);
        }
        let commands = self.state(|state| {
            let mut commands = Vec::new();
            let Some(block) = next_block(state) else { return commands };
            if let Some(part) = state.chains().get(&CHAIN).and_then(|chain| chain.part.as_ref()) {
                commands.push(connect(&block, Vec::new(), Vec::new()));
                commands.push(Command::DisconnectBlock { chain: CHAIN, hash: BlockHash([7; 32]) });
                commands.push(unarchive(CHAIN, Digest::ZERO, Vec::new()));
                if part.undoing {
                    commands.push(connect(&part.block, Vec::new(), Vec::new()));
                }
                return commands;
            }
            let is_lost = |deposit: &&Deposit| {
                matches!(deposit.status, DepositStatus::Missing | DepositStatus::Reversed)
                    && deposit.outpoint.chain == CHAIN
            };
            commands.extend(state.deposits().values().find(is_lost).map(|deposit| {
                let amount = units(deposit.amount.units() + 1);
                let Deposit { outpoint, path, coinbase, .. } = deposit;
                let (txid, vout) = (outpoint.txid, outpoint.vout);
                connect(&block, vec![Receipt { txid, vout, amount, path: *path, coinbase: *coinbase }], Vec::new())
            }));
            commands
        });
        Ok(commands.unwrap_or_default())
    }
}

/// The only block that is left, where others were before it.
fn stands_on_archived(state: &State) -> Option<BlockHash> {
    let chain = state.chains().get(&CHAIN)?;
    let is_last = chain.blocks.len() == 1 && chain.part.is_none() && chain.archived.count > 0;
    chain.tip().filter(|_| is_last).map(|tip| tip.at.hash)
}

fn unarchive(chain: ChainId, below: Digest, records: Vec<Archived>) -> Command {
    Command::Unarchive { chain, below, records }
}

/// A block in its place whose contents contradict the books.
fn wrong_contents(state: &State, block: &Block) -> Vec<Command> {
    let path = first_path(WALLET);
    let one = receipt(1, 1_000, path);
    let many = vec![one.clone(); PART_COST_MAX / Receipt::COST + 1];
    let unknown = OutPoint { chain: CHAIN, txid: TxId([0xdd; 32]), vout: 0 };
    let of_still = OutPoint { chain: CHAIN_STILL, ..unknown };
    let with = |receipts| connect(block, receipts, Vec::new());
    let spending = |spend| connect(block, Vec::new(), vec![spend]);
    let mut commands = vec![
        with(many),
        with(vec![receipt(1, 1, KeyPath { index: 1_000_000, ..path })]),
        with(vec![receipt(1, 1, first_path(WALLET_STILL))]),
        with(vec![receipt(1, 1 << 97, path)]),
        with(vec![one.clone(), one]),
        spending(spend(Vec::new())),
        spending(spend(vec![unknown])),
        spending(spend(vec![of_still])),
    ];
    let coin = state.coins().values().find(|coin| coin.spent.is_none()).map(|coin| coin.outpoint);
    commands.extend(coin.map(|coin| spending(spend(vec![coin, coin]))));
    let plan = state.plans().values().find_map(|plan| incomplete(state, plan));
    commands.extend(plan.map(spending));
    commands
}

/// A transaction that pays what an open plan pays and lacks its change, or one of its inputs.
fn incomplete(state: &State, plan: &Plan) -> Option<Spend> {
    let is_open = matches!(plan.status, PlanStatus::Signing | PlanStatus::Signed) && plan.anchor.chain == CHAIN;
    let is_there = |input: &OutPoint| state.coins().get(input).is_some_and(|coin| coin.spent.is_none());
    let version = plan.versions.first()?;
    let lacks_something = version.change.is_some() || plan.inputs.len() > 1;
    if !is_open || !lacks_something || !plan.inputs.iter().all(is_there) {
        return None;
    }
    let mut outputs =
        vec![(Bytes::default(), units(0)); version.payments.len() + usize::from(version.change.is_some())];
    for payment in &version.payments {
        let withdrawal = state.withdrawals().get(&payment.withdrawal)?;
        *outputs.get_mut(payment.vout as usize)? = (withdrawal.script.clone(), withdrawal.amount);
    }
    if let Some(change) = &version.change {
        *outputs.get_mut(change.vout as usize)? = (change.script.clone(), change.amount);
    }
    let inputs = if version.change.is_some() { plan.inputs.clone() } else { vec![plan.anchor] };
    Some(Spend { outputs, ..spend(inputs) })
}
