//! A story in which every event happens, for the journals that later releases must still read.

use crate::world::*;
use florin_core::amount::Amount;
use florin_core::asset::HaltAction;
use florin_core::command::{Command, ConnectBlock, Origin, Outcome, ProposePlan, Receipt, Request, Spend};
use florin_core::custody::{
    Approval, Archived, Beneficiary, Block, BlockRef, Branch, KeyPath, OutPoint, PlanChange, PlanPayment, PlanVersion,
    Wallet, WalletTier,
};
use florin_core::event::{BlockArchived, CoinChanged, Event, PlanArchived, PlanBumped, Unarchived, WithdrawalArchived};
use florin_core::id::{BlockHash, Height, LedgerTime, PlanId, TxId, WalletId, WithdrawalId};
use florin_core::journal::Entry;
use florin_core::ledger::{BalanceRule, HouseAccount, Owner};
use florin_core::wire::Bytes;

const HOT: WalletId = WalletId(1);
/// What Ann receives, withdraws, and what the network takes.
const DEPOSIT: u128 = 5_000_000;
const WITHDRAWAL: u128 = 2_000_000;
const NETWORK_FEE: u128 = 1_000;

/// The journal of the whole story.
pub fn tell() -> World {
    let mut world = World::new();
    world.done(Command::SetAssetPolicy(policy()));
    broker_and_ledger(&mut world);
    addresses(&mut world);
    deposit_and_fork(&mut world);
    let withdrawal = withdrawal_until_void(&mut world);
    withdrawal_until_final(&mut world, withdrawal);
    archive(&mut world, withdrawal);
    two_weeks_later(&mut world);
    world
}

fn internal(world: &mut World, command: Command) {
    world.send(&Request { origin: Origin::Internal, command }).expect("it is good");
}

fn broker_and_ledger(world: &mut World) {
    internal(world, Command::Tick);
    let halt = halt_of(Some(EUR), HaltAction::Quote);
    world.done(Command::Halt(halt.clone()));
    world.done(Command::Resume(halt));
    let quote = crate::broker::offer(world);
    world.done(Command::AcceptQuote { customer: ANN, quote: quote.id });
    world.done(correction("case/1", EUR, 1, Owner::House(HouseAccount::Inventory), Owner::Customer(ANN)));
    let issuer = world.open(1, POINTS, BalanceRule::Free);
    let holder = world.open(2, POINTS, BalanceRule::CreditNormal);
    let command = Command::PostTransfers(vec![transfer(issuer, holder, 7), transfer(holder, issuer, 2)]);
    bulk(world, command);
}

/// The first sequence of a session that begins now.
fn bulk(world: &mut World, command: Command) {
    let origin = Origin::Session { session: session_at(world.now.0, 5), sequence: 1 };
    world.send(&Request { origin, command }).expect("it is good");
}

fn wallet(id: WalletId) -> Wallet {
    Wallet {
        id,
        chain: BITCOIN,
        generation: 1,
        tier: WalletTier::Hot,
        birthday: Height(0),
        descriptor_external: format!("wpkh({id}/0/*)"),
        descriptor_internal: format!("wpkh({id}/1/*)"),
        retired: false,
        next_external: 0,
        next_internal: 0,
    }
}

fn path(branch: Branch, index: u32) -> KeyPath {
    KeyPath { wallet: HOT, branch, index }
}

fn addresses(world: &mut World) {
    world.done(Command::RegisterWallet(wallet(HOT)));
    world.done(Command::RegisterWallet(wallet(WalletId(2))));
    world.done(Command::RetireWallet(WalletId(2)));
    for (index, beneficiary) in [(0, Beneficiary::Customer(ANN)), (1, Beneficiary::INVENTORY)] {
        let script = Bytes(vec![0, 20, index as u8]);
        world.done(Command::IssueAddress { wallet: HOT, branch: Branch::External, index, script, beneficiary });
    }
}

fn outpoint(txid: u8, vout: u32) -> OutPoint {
    OutPoint { chain: BITCOIN, txid: TxId([txid; 32]), vout }
}

fn receipt_of(outpoint: OutPoint, units: u128, path: KeyPath) -> Receipt {
    Receipt { txid: outpoint.txid, vout: outpoint.vout, amount: Amount::new(units), path, coinbase: false }
}

/// The block after the tip; `branch` tells the blocks of a fork apart.
fn next_block(world: &World, branch: u8) -> Block {
    let tip = world.state.chains()[&BITCOIN].tip().expect("the chain has a tip").at;
    let height = Height(tip.height.0 + 1);
    let mut hash = [branch; 32];
    hash[..4].copy_from_slice(&height.0.to_be_bytes());
    Block {
        chain: BITCOIN,
        at: BlockRef { height, hash: BlockHash(hash) },
        previous: tip.hash,
        time_s: 1_700_000_000 + u64::from(height.0),
    }
}

fn connect(world: &mut World, branch: u8, receipts: Vec<Receipt>, spends: Vec<Spend>) {
    let block = next_block(world, branch);
    internal(world, Command::ConnectBlock(ConnectBlock { block, receipts, spends, more: false }));
}

fn disconnect(world: &mut World) {
    let hash = world.state.chains()[&BITCOIN].tip().expect("the chain has a tip").at.hash;
    internal(world, Command::DisconnectBlock { chain: BITCOIN, hash });
}

fn deposit_and_fork(world: &mut World) {
    let anns = receipt_of(outpoint(0x11, 0), DEPOSIT, path(Branch::External, 0));
    let never = receipt_of(outpoint(0x12, 1), 70_000, path(Branch::External, 0));
    let ours = receipt_of(outpoint(0x13, 0), 40_000, path(Branch::External, 1));
    internal(world, Command::SeeReceipts { chain: BITCOIN, receipts: vec![anns.clone(), never] });
    internal(world, Command::LoseReceipts { chain: BITCOIN, outpoints: vec![outpoint(0x12, 1)] });
    let block = next_block(world, 1);
    let part =
        |receipts, more| Command::ConnectBlock(ConnectBlock { block: block.clone(), receipts, spends: vec![], more });
    internal(world, part(vec![anns.clone()], true));
    internal(world, part(vec![ours.clone()], false));
    connect(world, 1, vec![], vec![]);
    connect(world, 1, vec![], vec![]);
    assert_eq!(world.balance(Owner::Customer(ANN), BTC), DEPOSIT as i128, "credited at depth 3");
    for _ in 0..3 {
        disconnect(world);
    }
    assert_eq!(world.state.customers()[&ANN].freezes, 1, "the deposit is missing");
    connect(world, 2, vec![anns, ours], vec![]);
    for _ in 0..5 {
        connect(world, 2, vec![], vec![]);
    }
    assert_eq!(world.state.customers()[&ANN].freezes, 0, "the deposit came back");
}

fn request(world: &mut World, units: u128) -> WithdrawalId {
    let script = Bytes(vec![0x51, 0x20, 9]);
    let amount = Amount::new(units);
    match world.done(Command::RequestWithdrawal { customer: ANN, asset: BTC, amount, script, wallet: HOT }) {
        Outcome::Withdrawal(id) => id,
        other => panic!("a withdrawal answered {other:?}"),
    }
}

fn change(index: u32) -> PlanChange {
    let amount = Amount::new(DEPOSIT - WITHDRAWAL - NETWORK_FEE);
    PlanChange { vout: 1, index, script: Bytes(vec![0, 20, 0xc0, index as u8]), amount }
}

fn propose(world: &mut World, withdrawal: WithdrawalId, index: u32) -> PlanId {
    let version = PlanVersion {
        unsigned: Bytes(vec![2, 0, 0, 0, index as u8]),
        fee: Amount::new(NETWORK_FEE),
        change: Some(change(index)),
        payments: vec![PlanPayment { withdrawal, vout: 0 }],
        signed: None,
        txid: None,
    };
    let (inputs, anchor) = (vec![outpoint(0x11, 0)], outpoint(0x11, 0));
    let proposal = ProposePlan { wallet: HOT, withdrawals: vec![withdrawal], inputs, anchor, version };
    match world.done(Command::ProposePlan(proposal)) {
        Outcome::Plan(id) => id,
        other => panic!("a plan answered {other:?}"),
    }
}

fn withdrawal_until_void(world: &mut World) -> WithdrawalId {
    let cancelled = request(world, 20_000);
    world.done(Command::CancelWithdrawal { withdrawal: cancelled });
    let withdrawal = request(world, WITHDRAWAL);
    let approval = Approval { key: [4; 32], signature: [5; 64] };
    world.done(Command::ApproveWithdrawal { withdrawal, approval, complete: true });
    let plan = propose(world, withdrawal, 0);
    world.done(Command::RecordVoid { plan, receipt: Bytes(vec![1, 2, 3]) });
    withdrawal
}

fn withdrawal_until_final(world: &mut World, withdrawal: WithdrawalId) {
    let plan = propose(world, withdrawal, 1);
    let txid = TxId([0x21; 32]);
    let signed = Bytes(vec![2, 0, 0, 0, 1, 0xff]);
    world.done(Command::RecordSigned { plan, version: 0, signed, txid });
    world.done(Command::SeePlan { plan, txid });
    let change = change(1);
    let back = receipt_of(outpoint(0x21, 1), change.amount.units(), path(Branch::Internal, 1));
    let outputs = vec![(Bytes(vec![0x51, 0x20, 9]), Amount::new(WITHDRAWAL)), (change.script, change.amount)];
    let spend = Spend { txid, inputs: vec![outpoint(0x11, 0)], outputs, fee: Some(Amount::new(NETWORK_FEE)) };
    connect(world, 2, vec![back.clone()], vec![spend.clone()]);
    disconnect(world);
    connect(world, 3, vec![back], vec![spend]);
    for _ in 0..5 {
        connect(world, 3, vec![], vec![]);
    }
    let status = world.state.withdrawals()[&withdrawal].status;
    assert_eq!(status, florin_core::custody::WithdrawalStatus::Final);
}

/// What would happen two thousand blocks later, and what no rule of this release writes yet but all read.
fn archive(world: &mut World, withdrawal: WithdrawalId) {
    let (plan, record) = world.state.plans().last_key_value().expect("the plan is there");
    let (plan, version) = (*plan, PlanVersion { fee: Amount::new(2_000), ..record.versions[0].clone() });
    let block = world.state.chains()[&BITCOIN].blocks.values().next().expect("the chain has blocks").clone();
    let oldest = block.at;
    let events = vec![
        Event::PlanBumped(PlanBumped { plan, version }),
        Event::WithdrawalArchived(WithdrawalArchived { withdrawal }),
        Event::PlanArchived(PlanArchived { plan }),
        Event::CoinRemoved(CoinChanged { outpoint: outpoint(0x11, 0) }),
    ];
    let epoch = world.state.counters().epoch;
    world.append(epoch, Entry { command: None, request: None, events, outcome: None });
    // A fork below it has the block put back, and later it leaves again.
    let below = world.state.chains()[&BITCOIN].archived.digest;
    let leave = Event::BlockArchived(BlockArchived { chain: BITCOIN, at: oldest });
    let back = Event::Unarchived(Unarchived { chain: BITCOIN, below, records: vec![Archived::Block(block)] });
    world
        .append(epoch, Entry { command: None, request: None, events: vec![leave.clone(), back, leave], outcome: None });
}

fn two_weeks_later(world: &mut World) {
    internal(world, Command::Tick);
    world.now = LedgerTime(world.now.0 + 15 * 24 * 60 * 60 * 1000);
    internal(world, Command::Tick);
    world.done(Command::ConfirmTime);
    internal(world, Command::Tick);
    // What still stands at the end is part of the state's hash as well.
    world.done(Command::SetPrice(world.price()));
    crate::broker::offer(world);
    world.done(Command::Halt(halt_of(None, HaltAction::Sign)));
    request(world, 30_000);
    let accounts = [1, 2].map(|name| world.account(Owner::Plain(name), POINTS).expect("it is open").id);
    bulk(world, Command::PostTransfers(vec![transfer(accounts[0], accounts[1], 3)]));
}
