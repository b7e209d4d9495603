//! Reorganisations that reach below the blocks that are kept: what left the state comes back, and is taken back like the rest.

use crate::model::{Model, Source, Tx, disconnect, name};
use crate::script::{Scene, check};
use crate::world::*;
use expect_test::expect;
use florin_core::amount::Amount;
use florin_core::asset::AssetPolicy;
use florin_core::command::{Command, ConnectBlock, Receipt, UNARCHIVE_BYTES_MAX};
use florin_core::custody::{
    Archived, Beneficiary, Block, BlockRef, Branch, Deposit, DepositStatus, KeyPath, OutPoint, Payment, Plan,
    PlanPayment, PlanStatus, PlanVersion,
};
use florin_core::decide::{BlockRefusal, Refusal, unarchive_from};
use florin_core::id::{BlockHash, ChainId, Digest, Height, LedgerTime, PlanId, TxId, WithdrawalId};
use florin_core::journal::EVENTS_MAX;
use florin_core::wire::{Bytes, Message};

#[test]
fn final_withdrawal_and_its_deposit_come_back_and_are_undone_and_done_again() {
    check(
        "policy kept 6
         address a0 ann
         block t1>a0=100000
         blocks 4
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 98990 fee 10
         sign p1
         block p1
         blocks 14
         show
         back 20
         show
         blocks 1
         block t1
         block p1
         blocks 20
         resume
         tick 1
         show",
        expect![[r#"
            -- 120: hot=-98990 ann=98950 fees=50 networkfees=-10
               w1 archived
               p1 archived
            -- 100: ann=98950(98950 held) inflight=1000 fees=50 shortfall=-100000
               t1:0 100000 Missing
               w1 Signed
               p1 Signed
               ann frozen 1
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 123: hot=-98990 ann=98950 fees=50 networkfees=-10
               w1 archived
               p1 archived
        "#]],
    );
}

#[test]
fn deposit_that_was_credited_after_its_block_had_left_comes_back_too() {
    check(
        "policy kept 6
         halt credit
         address a0 ann
         block t1>a0=500
         blocks 12
         resume
         tick 1
         show
         blocks 1
         show
         back 14
         show",
        expect![[r#"
            -- 113: hot=-500 ann=500
               t1:0 500 Credited
            -- 114: hot=-500 ann=500
            -- 100: ann=500(500 held) shortfall=-500
               t1:0 500 Missing
               ann frozen 1
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn stolen_coin_that_left_comes_back_with_its_theft() {
    check(
        "policy kept 6
         address a0 ann
         block t1>a0=50000
         blocks 3
         block f1<t1:0>thief=49990
         blocks 12
         show
         back 13
         show
         blocks 1
         show",
        expect![[r#"
            -- 117: ann=50000 shortfall=-50000
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 104: hot=-50000 ann=50000
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 105: hot=-50000 ann=50000
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn refunded_withdrawal_of_a_plan_that_left_comes_back_with_it() {
    check(
        "policy kept 6
         address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 98990 fee 10
         sign p1
         block f1<t1:0>thief=99990
         blocks 14
         show
         back 16
         show
         block p1
         show",
        expect![[r#"
            -- 119: ann=100000 shortfall=-100000
               w1 archived
               p1 archived
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 103: hot=-100000 ann=100000
               w1 Refunded
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 104: hot=-98990 ann=100000 shortfall=-100000 suspense=98990
               w1 Refunded
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn what_a_mempool_showed_of_a_deposit_that_left_gives_way_to_it() {
    check(
        "policy kept 6
         address a0 ann
         block t1>a0=100000
         blocks 4
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 98990 fee 10
         sign p1
         block p1
         blocks 14
         see t1
         show
         back 20
         show
         block t1
         show",
        expect![[r#"
            -- 120: hot=-98990 ann=98950 fees=50 networkfees=-10
               t1:0 100000 Seen
               w1 archived
               p1 archived
            -- 100: ann=98950(98950 held) inflight=1000 fees=50 shortfall=-100000
               t1:0 100000 Missing
               w1 Signed
               p1 Signed
               ann frozen 1
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 101: hot=-100000 ann=98950 inflight=1000 fees=50
               t1:0 100000 Credited
               w1 Signed
               p1 Signed
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn conflicted_plan_stays_for_as_long_as_the_last_block_that_took_its_inputs() {
    check(
        "policy kept 6
         address a0 ann
         block t1>a0=10000 t2>a0=5000
         blocks 3
         withdraw w1 ann 3000 x
         plan p1 w1 from t1:0,t2:0 change 11990 fee 10
         sign p1
         block f1<t2:0>thief=4900
         blocks 2
         block f2<t1:0>x=3000
         blocks 6
         show
         back 7
         show
         block f2
         blocks 8
         show
         back 15
         show",
        expect![[r#"
            -- 114: ann=11950 fees=50 shortfall=-12000
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 107: hot=-10000 ann=11950 fees=50 shortfall=-5000 suspense=3000
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 116: ann=11950 fees=50 shortfall=-12000
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 101: hot=-15000 ann=11950 fees=50 suspense=3000
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn conflicted_plan_whose_end_was_taken_back_stays_and_says_what_was_paid_when_it_comes_again() {
    check(
        "policy kept 6
         address a0 ann
         block t1>a0=10000
         blocks 3
         withdraw w1 ann 3000 x
         plan p1 w1 from t1:0 change 6990 fee 10
         sign p1
         block f1<t1:0>x=3000
         blocks 5
         back 6
         blocks 12
         show
         block f1
         blocks 12
         show",
        expect![[r#"
            -- 116: hot=-10000 ann=6950 fees=50 suspense=3000
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
            -- 129: ann=6950 fees=50 shortfall=-7000
               w1 Final
               p1 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn what_a_thief_took_of_two_plans_leaves_when_both_have_ended() {
    check(
        "policy kept 4
         address a0 ann
         block t1>a0=10000 t2>a0=5000 t3>a0=2000
         blocks 6
         withdraw w1 ann 8000 x
         plan p1 w1 from t1:0 change 1990 fee 10
         sign p1
         withdraw w2 ann 4900 y
         withdraw w3 ann 1000 z
         plan p2 w2,w3 from t2:0,t3:0 change 1090 fee 10
         sign p2
         block f1<t1:0,t2:0>x=8000,y=4900
         blocks 2
         block f2<t3:0>z=1000
         blocks 2
         show
         blocks 1
         show
         blocks 5
         back 12
         show",
        expect![[r#"
            -- 113: ann=2950 inflight=5900 fees=150 shortfall=-9000
               w1 Final
               w2 Signed
               w3 Signed
               p1 Conflicted
               p2 Signed
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 114: ann=2950 fees=150 shortfall=-3100
               w1 Final
               w2 Final
               w3 Final
               p1 Conflicted
               p2 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
            -- 107: hot=-17000 ann=2950 fees=150 suspense=13900
               w1 Final
               w2 Final
               w3 Final
               p1 Conflicted
               p2 Conflicted
               halted Sign: ForeignSpend
               halted Withdraw: ForeignSpend
               halted Credit: DeepReorganisation
               halted Withdraw: DeepReorganisation
               halted Sign: DeepReorganisation
        "#]],
    );
}

#[test]
fn policy_may_keep_every_block_there_will_ever_be() {
    let mut scene = Scene::new();
    scene.play(&format!("policy kept {}\nblocks 30", u32::MAX));
    assert_eq!(scene.world.state.chains()[&CHAIN].blocks.len(), 31);
}

fn few() -> AssetPolicy {
    AssetPolicy { kept_blocks: Some(6), ..policy() }
}

fn block(number: u8) -> Archived {
    let at = BlockRef { height: Height(number.into()), hash: BlockHash([number; 32]) };
    Archived::Block(Block { chain: CHAIN, at, previous: BlockHash([number - 1; 32]), time_s: 0 })
}

fn anchor() -> OutPoint {
    OutPoint { chain: CHAIN, txid: TxId([1; 32]), vout: 0 }
}

fn deposit(outpoint: OutPoint) -> Archived {
    let Archived::Block(Block { at, .. }) = block(1) else { panic!("a block") };
    Archived::Deposit(Deposit {
        outpoint,
        beneficiary: Beneficiary::INVENTORY,
        amount: Amount::new(1),
        status: DepositStatus::Credited,
        at: Some(at),
        hold: None,
        seen: LedgerTime(START_MS),
        missing_since: None,
        debited: Amount::ZERO,
        coinbase: false,
        path: KeyPath { wallet: HOT, branch: Branch::External, index: 0 },
        due: None,
    })
}

/// A plan that takes this much room and paid nothing.
fn plan(number: u64, bytes: usize) -> Plan {
    let anchor = anchor();
    let version = PlanVersion {
        unsigned: Bytes(vec![0; bytes]),
        fee: Amount::ZERO,
        change: None,
        payments: Vec::new(),
        signed: None,
        txid: None,
    };
    let at = BlockRef { height: Height(1), hash: BlockHash([1; 32]) };
    Plan {
        id: PlanId(number),
        wallet: HOT,
        inputs: vec![anchor],
        anchor,
        versions: vec![version],
        status: PlanStatus::Conflicted,
        paid: Some(Payment { txid: TxId([2; 32]), at }),
    }
}

#[test]
fn part_ends_at_a_block_or_where_a_command_is_full_and_never_inside_of_a_plan() {
    let small = |number| Archived::Plan(plan(number, 10));
    assert_eq!(unarchive_from(&[]), 0);
    assert_eq!(unarchive_from(&[small(1), block(1), small(2), block(2), small(3), small(4)]), 3);
    assert_eq!(unarchive_from(&[small(1), small(2)]), 0);

    let large = |number| Archived::Plan(plan(number, UNARCHIVE_BYTES_MAX / 2));
    assert_eq!(unarchive_from(&[block(1), large(1), large(2), small(3)]), 2);
    let too_large = Archived::Plan(plan(1, UNARCHIVE_BYTES_MAX));
    assert_eq!(unarchive_from(&[block(1), too_large.clone()]), 2);
    assert_eq!(unarchive_from(&[block(1), too_large, small(2)]), 2);

    // A mempool may show any of them anew, which takes events of its own to end.
    let deposits: Vec<Archived> = (0..5_000).map(|number| deposit(OutPoint { vout: number, ..anchor() })).collect();
    assert_eq!(deposits.len() - unarchive_from(&deposits), EVENTS_MAX / 2 - 8);

    // The withdrawal that a plan paid left before it.
    let mut paying = plan(5, 10);
    paying.versions[0].payments = vec![PlanPayment { withdrawal: WithdrawalId([5; 16]), vout: 0 }];
    assert_eq!(unarchive_from(&[block(1), small(2), Archived::Plan(paying.clone())]), 3);
    assert_eq!(unarchive_from(&[block(1), Archived::Plan(paying), small(2)]), 2);
}

/// A chain of which fourteen blocks left, with a deposit, and a withdrawal that a plan paid.
fn old() -> Scene {
    let mut scene = Scene::new();
    scene.play(
        "policy kept 6
         address a0 ann
         block t1>a0=100000
         blocks 4
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 98990 fee 10
         sign p1
         block p1
         blocks 14",
    );
    scene
}

fn unarchive(world: &World, from: usize) -> Command {
    let records = world.archived[from..].iter().map(|(_, record)| record.clone()).collect();
    Command::Unarchive { chain: CHAIN, below: world.archived[from].0.digest, records }
}

#[test]
fn records_are_refused_for_the_first_thing_wrong_with_them() {
    let mut scene = old();
    let world = &mut scene.world;
    let refuse = |world: &mut World, command: Command| match world.run(command) {
        Err(Refusal::Block(refusal)) => refusal,
        other => panic!("a block's refusal was expected, not {other:?}"),
    };
    let below = Digest([7; 32]);
    let none = |chain| Command::Unarchive { chain, below, records: Vec::new() };
    let large = Command::Unarchive { chain: CHAIN, below, records: vec![Archived::Plan(plan(1, UNARCHIVE_BYTES_MAX))] };
    assert_eq!(refuse(world, none(ChainId(9))), BlockRefusal::ChainUnknown);
    assert_eq!(refuse(world, none(CHAIN)), BlockRefusal::BlocksKept);
    while world.state.chains()[&CHAIN].blocks.len() > 1 {
        disconnect(world);
    }
    let tip = world.tip().at.hash;
    let back = Command::DisconnectBlock { chain: CHAIN, hash: tip };
    assert_eq!(refuse(world, back), BlockRefusal::BlockBeforeArchived);
    assert_eq!(refuse(world, large), BlockRefusal::TooMany);
    assert_eq!(refuse(world, none(CHAIN)), BlockRefusal::ArchivedOther);

    let last = world.archived.len() - 1;
    let Command::Unarchive { chain, below, mut records } = unarchive(world, last) else { panic!("another command") };
    let Archived::Block(block) = &mut records[0] else { panic!("a block left last") };
    block.time_s += 1;
    assert_eq!(refuse(world, Command::Unarchive { chain, below, records }), BlockRefusal::ArchivedOther);
    let of_first = unarchive(world, 0);
    let Command::Unarchive { mut records, .. } = of_first.clone() else { panic!("another command") };
    records.remove(0);
    assert_eq!(refuse(world, Command::Unarchive { chain, below: Digest::ZERO, records }), BlockRefusal::ArchivedOther);
    let is_coin = |(_, record): &(_, Archived)| matches!(record, Archived::Coin(_));
    let coin = world.archived.iter().position(is_coin).expect("a coin left");
    let cut = unarchive(world, coin);
    assert_eq!(refuse(world, cut), BlockRefusal::ArchivedIncomplete);
    world.done(of_first);
    let start = start().at.hash;
    while world.tip().at.hash != start {
        disconnect(world);
    }
    assert_eq!(refuse(world, none(CHAIN)), BlockRefusal::ReorganisationTooDeep);
    world.check_fold();
}

#[test]
fn record_is_not_put_beside_one_of_the_same_name() {
    let mut scene = old();
    let world = &mut scene.world;
    let coin = world.archived.iter().find_map(|(_, record)| match record {
        Archived::Coin(coin) => Some(coin.clone()),
        _ => None,
    });
    let coin = coin.expect("a coin left");
    // What left is not known to the state, so that it can't see that an output is said to come twice.
    let OutPoint { txid, vout, .. } = coin.outpoint;
    let path = KeyPath { branch: Branch::Internal, ..coin.path };
    let receipt = Receipt { txid, vout, amount: coin.amount, path, coinbase: false };
    scene.model.mine(Vec::new());
    let twice = scene.model.tip().clone();
    world.done(Command::ConnectBlock(ConnectBlock {
        block: twice.clone(),
        receipts: vec![receipt],
        spends: Vec::new(),
        more: false,
    }));
    for _ in 0..6 {
        scene.model.mine(Vec::new());
        let block = scene.model.tip().clone();
        world.done(Command::ConnectBlock(ConnectBlock { block, receipts: vec![], spends: vec![], more: false }));
    }
    while world.tip().at != twice.at {
        disconnect(world);
    }
    assert_eq!(world.state.chains()[&CHAIN].blocks.len(), 1);
    let all = unarchive(world, 0);
    assert_eq!(world.run(all), Err(Refusal::Block(BlockRefusal::ArchivedPresent)));
    world.check_fold();
}

#[test]
fn block_of_thousands_of_deposits_comes_back_in_parts() {
    let (mut world, mut model) = (World::new(), Model::new());
    world.done(Command::SetAssetPolicy(few()));
    let script = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    let tx = |number| Tx {
        id: TxId(name(6, number)),
        inputs: vec![Source::Somebody(number)],
        outputs: vec![(script.clone(), 1_000)],
    };
    const COUNT: u64 = 9_000;
    model.mine((0..COUNT).map(tx).collect());
    (0..30).for_each(|_| drop(model.mine(Vec::new())));
    model.sync(&mut world, || 500);
    for _ in 0..20 {
        world.done(Command::Tick);
    }
    assert!(world.state.deposits().is_empty(), "all left");
    let bytes: usize = world.archived.iter().map(|(_, record)| record.encode().len()).sum();
    assert!(bytes > UNARCHIVE_BYTES_MAX, "{bytes} bytes come back with one command");
    while world.tip().at.height.0 > START_HEIGHT {
        disconnect(&mut world);
    }
    assert_eq!(world.state.customers()[&ANN].freezes, COUNT as u32);
    assert!(world.auditor.coins.is_empty());
    world.check_fold();
}

#[test]
fn thousands_of_deposits_that_a_mempool_shows_anew_come_back_in_parts_that_fit() {
    let (mut world, mut model) = (World::new(), Model::new());
    world.done(Command::SetAssetPolicy(few()));
    // As many as may be seen, of as many addresses as that takes, whose coins were all spent since.
    const COUNT: u64 = 4_200;
    let paths: Vec<KeyPath> = (0..COUNT / 30).map(|_| world.address(HOT, Beneficiary::INVENTORY)).collect();
    let path = |number: u64| paths[(number % (COUNT / 30)) as usize];
    let txid = |number| TxId(name(6, number));
    let tx = |number| Tx {
        id: txid(number),
        inputs: vec![Source::Somebody(number)],
        outputs: vec![(script_of(path(number)), 1_000)],
    };
    let spend = |first: u64| {
        let output = |number| Source::Output(OutPoint { chain: CHAIN, txid: txid(number), vout: 0 });
        Tx { id: TxId(name(7, first)), inputs: (first..first + 100).map(output).collect(), outputs: Vec::new() }
    };
    model.mine((0..COUNT).map(tx).collect());
    (0..4).for_each(|_| drop(model.mine(Vec::new())));
    model.mine((0..COUNT).step_by(100).map(spend).collect());
    (0..12).for_each(|_| drop(model.mine(Vec::new())));
    model.sync(&mut world, || 25);
    (0..10).for_each(|_| drop(world.done(Command::Tick)));
    assert!(world.state.coins().is_empty() && world.state.deposits().is_empty(), "all left");

    let receipt = |number| Receipt {
        txid: txid(number),
        vout: 0,
        amount: Amount::new(1_000),
        path: path(number),
        coinbase: false,
    };
    for first in (0..COUNT).step_by(600) {
        let receipts = (first..first + 600).map(receipt).collect();
        world.done(Command::SeeReceipts { chain: CHAIN, receipts });
    }
    assert_eq!(world.state.deposits().len() as u64, COUNT);
    while world.tip().at.height.0 > START_HEIGHT {
        disconnect(&mut world);
    }
    assert!(world.state.deposits().values().all(|deposit| deposit.status == DepositStatus::Missing));
    world.check_fold();
}
