//! Bounds: blocks in parts, both ways; work left over for ticks; what is kept and what leaves the state; reorganisations that
//! are too deep; the cap of unused addresses.

use crate::model::{Model, Source, Tx, disconnect, name, parts};
use crate::script::{proposal, tx_of};
use crate::world::*;
use florin_core::amount::Amount;
use florin_core::command::{Command, ConnectBlock, Outcome, PART_COST_MAX, PLAN_INPUTS_MAX, PLAN_PAYMENTS_MAX};
use florin_core::custody::{Beneficiary, Branch, DepositStatus, OutPoint, PlanStatus, WithdrawalStatus};
use florin_core::decide::{AddressRefusal, BlockRefusal, KEPT_BLOCKS, Refusal, UNUSED_ADDRESSES_MAX};
use florin_core::event::Event;
use florin_core::id::TxId;
use florin_core::ledger::Owner;
use florin_core::wire::Bytes;

/// A block with one transaction for each receipt.
fn many(count: u64, first: u64, script: &Bytes) -> Vec<Tx> {
    let tx = |number| Tx {
        id: TxId(name(6, number)),
        inputs: vec![Source::Somebody(number)],
        outputs: vec![(script.clone(), 1_000)],
    };
    (first..first + count).map(tx).collect()
}

fn credited(world: &World) -> usize {
    world.state.deposits().values().filter(|deposit| deposit.status == DepositStatus::Credited).count()
}

#[test]
fn large_block_is_booked_and_taken_back_in_parts_and_its_credits_spread_over_ticks() {
    let (mut world, mut model) = (World::new(), Model::new());
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    model.mine(many(2_500, 1, &script));
    let commands = parts(&world, &model.blocks[1], || 500);
    assert_eq!(commands.len(), 5);
    for command in commands {
        assert_eq!(world.state.chains()[&CHAIN].tip().unwrap().at.height.0, START_HEIGHT);
        world.done(Command::ConnectBlock(command));
    }
    model.mine(Vec::new());
    model.sync(&mut world, || 500);
    let at_once = credited(&world);
    assert!((1_000..2_500).contains(&at_once), "{at_once} credited with the block");
    let mut ticks = 0;
    while credited(&world) < 2_500 {
        let before = credited(&world);
        world.now = world.now.plus_ms(1);
        world.done(Command::Tick);
        assert!(credited(&world) > before, "a tick that credits nothing, and {before} of 2,500 are credited");
        ticks += 1;
    }
    assert!(ticks > 1, "the budget of a tick was not reached");
    assert_eq!(world.auditor.balance(&Owner::Customer(ANN)), 2_500_000);

    disconnect(&mut world);
    let commands = disconnect(&mut world);
    assert!(commands > 2, "{commands} commands for 2,500 deposits");
    assert!(world.auditor.coins.is_empty());
    assert_eq!(world.state.customers()[&ANN].freezes, 2_500);
    model.sync(&mut world, || 500);
    assert_eq!(world.auditor.balance(&Owner::Customer(ANN)), 2_500_000);
    assert_eq!(world.state.customers()[&ANN].freezes, 0);
    world.check_fold();
}

#[test]
fn block_that_is_being_taken_back_allows_nothing_else() {
    let (mut world, mut model) = (World::new(), Model::new());
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    model.mine(many(1_500, 1, &script));
    model.sync(&mut world, || 500);
    let gone = model.blocks[1].block.clone();
    let again = Command::DisconnectBlock { chain: CHAIN, hash: gone.at.hash };
    assert_eq!(world.done(again.clone()), Outcome::Done(false));
    world.check_fold();
    assert_eq!(world.tip().at.height.0, START_HEIGHT);
    let refused = |refusal: BlockRefusal| Err(Refusal::Block(refusal));
    let connect = ConnectBlock { block: gone, receipts: Vec::new(), spends: Vec::new(), more: false };
    assert_eq!(world.run(Command::ConnectBlock(connect.clone())), refused(BlockRefusal::BlockUndoing));
    let other = Command::DisconnectBlock { chain: CHAIN, hash: world.tip().at.hash };
    assert_eq!(world.run(other), refused(BlockRefusal::BlockUndoing));
    while world.done(again.clone()) == Outcome::Done(false) {}
    assert_eq!(world.run(again), refused(BlockRefusal::BlockNotTip));
    assert!(world.auditor.coins.is_empty());
    model.sync(&mut world, || 500);
    assert_eq!(world.auditor.coins.len(), 1_500);
}

#[test]
fn incomplete_block_is_taken_back_by_its_hash() {
    let (mut world, mut model) = (World::new(), Model::new());
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    model.mine(many(900, 1, &script));
    let commands = parts(&world, &model.blocks[1], || 300);
    world.done(Command::ConnectBlock(commands[0].clone()));
    world.done(Command::ConnectBlock(commands[1].clone()));
    let repeated = world.run(Command::ConnectBlock(commands[1].clone()));
    assert_eq!(repeated, Err(Refusal::Block(BlockRefusal::ReceiptRepeated)));
    let hash = model.blocks[1].block.at.hash;
    while world.done(Command::DisconnectBlock { chain: CHAIN, hash }) == Outcome::Done(false) {}
    assert!(world.auditor.coins.is_empty() && world.state.chains()[&CHAIN].part.is_none());
    model.sync(&mut world, || 450);
    assert_eq!(world.auditor.coins.len(), 900);
}

#[test]
fn largest_plan_confirms_and_goes_back_in_one_command_each() {
    let (mut world, mut model) = (World::new(), Model::new());
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    let funds: Vec<Tx> = many(PLAN_INPUTS_MAX as u64, 1, &script);
    let inputs: Vec<OutPoint> = funds.iter().map(|tx| OutPoint { chain: CHAIN, txid: tx.id, vout: 0 }).collect();
    model.mine(funds);
    (0..4).for_each(|_| drop(model.mine(Vec::new())));
    model.sync(&mut world, || 500);
    let mut withdrawals = Vec::new();
    for number in 0..PLAN_PAYMENTS_MAX {
        let command = Command::RequestWithdrawal {
            customer: ANN,
            asset: BTC,
            amount: Amount::new(200),
            script: outside(&format!("x{number}")),
            wallet: HOT,
        };
        let Outcome::Withdrawal(id) = world.ask(command).unwrap() else { panic!("no withdrawal") };
        withdrawals.push(id);
    }
    let total = PLAN_INPUTS_MAX as u128 * 1_000 - PLAN_PAYMENTS_MAX as u128 * 200;
    let largest = proposal(&world, withdrawals, inputs, Amount::new(total - 900), Amount::new(900));
    let tx = tx_of(&world, &largest, TxId(name(7, 1)));
    world.done(Command::ProposePlan(largest));
    model.mine(vec![tx]);
    let commands = parts(&world, model.blocks.last().unwrap(), || 500);
    assert!(commands.len() == 1 && commands[0].cost() <= PART_COST_MAX);
    model.sync(&mut world, || 500);
    let is_all = |world: &World, status| world.state.withdrawals().values().all(|one| one.status == status);
    assert!(is_all(&world, WithdrawalStatus::Confirmed));
    assert_eq!(disconnect(&mut world), 1);
    assert!(is_all(&world, WithdrawalStatus::Signing));
    (0..4).for_each(|_| drop(model.mine(Vec::new())));
    model.sync(&mut world, || 500);
    assert!(is_all(&world, WithdrawalStatus::Final));
}

#[test]
fn foreign_transaction_with_more_coins_than_a_command_books_comes_in_parts() {
    let (mut world, mut model) = (World::new(), Model::new());
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    let funds = many(3_600, 1, &script);
    let inputs = funds.iter().map(|tx| OutPoint { chain: CHAIN, txid: tx.id, vout: 0 });
    let sweep = Tx {
        id: TxId(name(7, 1)),
        inputs: inputs.clone().map(Source::Output).collect(),
        outputs: vec![(outside("thief"), 3_000_000)],
    };
    model.mine(funds);
    model.sync(&mut world, || 500);
    model.mine(vec![sweep]);
    let whole = parts(&world, model.blocks.last().unwrap(), || 1).remove(0);
    let refused = world.run(Command::ConnectBlock(whole.clone()));
    assert_eq!(refused, Err(Refusal::Block(BlockRefusal::TooMany)));
    let (mut first, mut second) = (whole.clone(), whole);
    first.spends[0].inputs.truncate(1_800);
    first.more = true;
    second.spends[0].inputs.drain(..1_800);
    world.done(Command::ConnectBlock(first));
    world.done(Command::ConnectBlock(second));
    assert!(world.auditor.coins.values().all(|coin| coin.2));
    assert!(disconnect(&mut world) > 1);
    assert!(world.auditor.coins.values().all(|coin| !coin.2));
}

#[test]
fn finished_records_leave_with_their_block_and_come_back_before_it_is_taken_back() {
    let (mut world, mut model) = (World::new(), Model::new());
    let path = world.address(HOT, Beneficiary::Customer(ANN));
    let pay = |number, amount| Tx {
        id: TxId(name(6, number)),
        inputs: vec![Source::Somebody(number)],
        outputs: vec![(script_of(path), amount)],
    };
    model.mine(vec![pay(1, 50_000), pay(2, 40_000), pay(3, 7)]);
    (0..4).for_each(|_| drop(model.mine(Vec::new())));
    model.sync(&mut world, || 500);
    let command = Command::RequestWithdrawal {
        customer: ANN,
        asset: BTC,
        amount: Amount::new(1_000),
        script: outside("x"),
        wallet: HOT,
    };
    let Outcome::Withdrawal(id) = world.ask(command).unwrap() else { panic!("no withdrawal") };
    let input = OutPoint { chain: CHAIN, txid: TxId(name(6, 1)), vout: 0 };
    let plan = proposal(&world, vec![id], vec![input], Amount::new(48_990), Amount::new(10));
    let tx = tx_of(&world, &plan, TxId(name(7, 1)));
    world.done(Command::ProposePlan(plan));
    model.mine(vec![tx]);
    for _ in 0..KEPT_BLOCKS {
        model.mine(Vec::new());
    }
    model.sync(&mut world, || 500);
    let sizes = |world: &World| {
        let state = &world.state;
        (state.coins().len(), state.deposits().len(), state.withdrawals().len(), state.plans().len())
    };
    // Deposits' block is gone, the one that accrues stays for ever; the plan's block is the oldest that is kept.
    assert_eq!(sizes(&world), (4, 1, 1, 1));
    assert_eq!(world.state.chains()[&CHAIN].blocks.len() as u32, KEPT_BLOCKS + 1);
    model.mine(Vec::new());
    model.sync(&mut world, || 500);
    assert_eq!(sizes(&world), (3, 1, 0, 0));
    assert_eq!(world.state.chains()[&CHAIN].blocks.len() as u32, KEPT_BLOCKS + 1);
    world.check_fold();

    for _ in 0..KEPT_BLOCKS {
        disconnect(&mut world);
    }
    let hash = world.tip().at.hash;
    let refused = world.run(Command::DisconnectBlock { chain: CHAIN, hash });
    assert_eq!(refused, Err(Refusal::Block(BlockRefusal::BlockBeforeArchived)));
    world.check_fold();
    let before = world.auditor.balances();
    while world.tip().at.height.0 > START_HEIGHT {
        disconnect(&mut world);
    }
    assert!(world.auditor.coins.is_empty());
    let refused = world.run(Command::DisconnectBlock { chain: CHAIN, hash: start().at.hash });
    assert_eq!(refused, Err(Refusal::Block(BlockRefusal::ReorganisationTooDeep)));
    world.check_fold();
    model.sync(&mut world, || 500);
    world.state.halts().to_vec().into_iter().for_each(|halt| drop(world.done(Command::Resume(halt))));
    world.done(Command::Tick);
    assert_eq!(world.auditor.balances(), before);
    assert_eq!(sizes(&world), (3, 1, 0, 0));
    world.check_fold();
}

#[test]
fn customer_has_a_bounded_number_of_addresses_that_were_never_paid() {
    let (mut world, mut model) = (World::new(), Model::new());
    let first = world.address(HOT, Beneficiary::Customer(ANN));
    (1..UNUSED_ADDRESSES_MAX).for_each(|_| {
        world.address(HOT, Beneficiary::Customer(ANN));
    });
    world.check_fold();
    let issue = |world: &mut World| {
        let index = world.state.wallets()[&HOT].next_external;
        let path = florin_core::custody::KeyPath { wallet: HOT, branch: Branch::External, index };
        let (branch, script, beneficiary) = (path.branch, script_of(path), Beneficiary::Customer(ANN));
        world.run(Command::IssueAddress { wallet: HOT, branch, index, script, beneficiary })
    };
    assert_eq!(issue(&mut world), Err(Refusal::Address(AddressRefusal::TooManyUnused)));
    world.address(HOT, Beneficiary::Customer(BEN));
    // A coin makes room for one more, even if its block is taken back.
    model.mine(many(3, 1, &script_of(first)));
    model.sync(&mut world, || 500);
    disconnect(&mut world);
    world.check_fold();
    assert!(issue(&mut world).is_ok());
    assert_eq!(issue(&mut world), Err(Refusal::Address(AddressRefusal::TooManyUnused)));
}

#[test]
fn missing_deposits_are_reversed_over_several_ticks_where_they_are_many() {
    let (mut world, mut model) = (World::new(), Model::new());
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    model.mine(many(900, 1, &script));
    model.mine(Vec::new());
    model.sync(&mut world, || 500);
    disconnect(&mut world);
    disconnect(&mut world);
    let mut ticks = 0;
    (0..4).for_each(|_| {
        world.now = world.now.plus_ms(25_000);
        world.done(Command::Tick);
        ticks += usize::from(world.last.iter().any(|event| matches!(event, Event::DepositMoved(_))));
    });
    assert_eq!(ticks, 1, "the window ends at the fourth tick");
    let is_missing = |world: &World| world.state.deposits().values().any(|one| one.status == DepositStatus::Missing);
    while is_missing(&world) {
        world.now = world.now.plus_ms(1);
        world.done(Command::Tick);
        ticks += 1;
    }
    assert!(ticks > 1, "one tick did it all");
    assert_eq!(world.auditor.balances(), []);
}

#[test]
fn voided_plans_are_kept_up_to_a_number() {
    let (mut world, mut model) = (World::new(), Model::new());
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    model.mine(many(2, 1, &script));
    (0..4).for_each(|_| drop(model.mine(Vec::new())));
    model.sync(&mut world, || 500);
    let command = Command::RequestWithdrawal {
        customer: ANN,
        asset: BTC,
        amount: Amount::new(300),
        script: outside("x"),
        wallet: HOT,
    };
    let Outcome::Withdrawal(id) = world.ask(command).unwrap() else { panic!("no withdrawal") };
    let input = OutPoint { chain: CHAIN, txid: TxId(name(6, 1)), vout: 0 };
    for _ in 0..=florin_core::decide::VOIDED_KEPT {
        let plan = proposal(&world, vec![id], vec![input], Amount::new(690), Amount::new(10));
        let Outcome::Plan(plan) = world.done(Command::ProposePlan(plan)) else { panic!("no plan") };
        world.done(void(plan));
    }
    assert_eq!(world.state.plans().len(), florin_core::decide::VOIDED_KEPT);
    assert!(world.state.plans().values().all(|plan| plan.status == PlanStatus::Voided));
    world.check_fold();
    assert_eq!(world.auditor.balance(&Owner::Customer(ANN)), 1_650);
}

#[test]
fn blocks_are_kept_as_long_as_a_policy_waits() {
    let (mut world, mut model) = (World::new(), Model::new());
    let waits = KEPT_BLOCKS + 20;
    let mut patient = policy();
    patient.depths[2].confirmations = waits;
    world.done(Command::SetAssetPolicy(patient));
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    let large = Tx { outputs: vec![(script.clone(), 2_000_000)], ..many(1, 1, &script).remove(0) };
    model.mine(vec![large]);
    (1..waits - 1).for_each(|_| drop(model.mine(Vec::new())));
    model.sync(&mut world, || 500);
    assert_eq!(credited(&world), 0);
    assert_eq!(world.state.chains()[&CHAIN].blocks.len() as u32, waits);
    model.mine(Vec::new());
    model.sync(&mut world, || 500);
    assert_eq!(credited(&world), 1);
    // All of it can be taken back.
    (0..waits).for_each(|_| assert_eq!(disconnect(&mut world), 1));
    assert!(world.auditor.coins.is_empty());
    assert_eq!(world.state.customers()[&ANN].freezes, 1);
}
