//! Each refusal by its rank: a request with everything wrong is put right one fault at a time, and each time the first fault
//! that is left is named. A refusal changes nothing.

use crate::model::{Source, Tx, name, parts};
use crate::script::{Scene, proposal};
use crate::world::*;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind, AssetPolicy, Halt, HaltAction, HaltReason};
use florin_core::command::{Command, ConnectBlock, Outcome, ProposePlan, Receipt, Request, Spend};
use florin_core::custody::{
    Approval, Beneficiary, Block, BlockRef, Branch, Chain, KeyPath, OutPoint, PlanChange, Wallet,
};
use florin_core::decide::*;
use florin_core::event::Event;
use florin_core::id::{
    AssetId, BlockHash, ChainId, CustomerId, Height, PlanId, SessionId, TxId, WalletId, WithdrawalId,
};
use florin_core::snapshot;
use florin_core::wire::Bytes;

const LITECOIN: ChainId = ChainId(2);
const LTC: AssetId = AssetId(3);
const LITE: WalletId = WalletId(3);

/// Sends a command that must be refused.
fn refuse(world: &mut World, command: &Command) -> Refusal {
    let refusal = world.run(command.clone()).expect_err("it was to be refused");
    // The shadow began the row as well, and folded nothing.
    assert!(snapshot::chunks(&world.state) == snapshot::chunks(&world.shadow), "a refusal changed something");
    refusal
}

fn other_chain(world: &mut World) {
    let (code, kind) = ("LTC".to_owned(), AssetKind::Coin);
    world.done(Command::DefineAsset(Asset { id: LTC, code, decimals: 8, kind, chain: Some(LITECOIN) }));
    let name = "litecoin-regtest".to_owned();
    let chain = Chain { id: LITECOIN, name, genesis: BlockHash([0xdd; 32]), coin: LTC, ..chain() };
    world.done(Command::DefineChain { chain, start: Block { chain: LITECOIN, ..start() } });
    world.done(Command::RegisterWallet(Wallet { chain: LITECOIN, ..wallet(LITE) }));
}

#[test]
fn block_is_refused_for_the_first_thing_wrong_with_it() {
    let mut scene = Scene::new();
    other_chain(&mut scene.world);
    let lite = scene.world.address(LITE, Beneficiary::Customer(ANN));
    scene.play(
        "address a0 ann
         block t1>a0=100000 t2>a0=5000
         blocks 3
         withdraw w1 ann 1000 x
         plan p1 w1 from t1:0 change 98990 fee 10
         block t3>a0=5000
         blocks 1
         back 2
         block f1<t2:0>thief=1",
    );
    let path = KeyPath { wallet: HOT, branch: Branch::External, index: 0 };
    let receipt = |number, path, units| {
        let txid = TxId(name(4, number));
        Receipt { txid, vout: 0, amount: Amount::new(units), path, coinbase: false }
    };
    let known = Receipt { txid: scene.txs["t1"].id, ..receipt(1, path, 100_000) };
    let contradicting = Receipt { txid: scene.txs["t3"].id, ..receipt(1, path, 5_001) };
    let no_path = KeyPath { index: 99, ..path };
    let spend = |inputs| Spend { txid: TxId(name(4, 9)), inputs, outputs: Vec::new(), fee: None };
    let nowhere = OutPoint { chain: CHAIN, txid: TxId(name(4, 8)), vout: 0 };
    // The plan's transaction without its change.
    let plan = &scene.plans["p1"].1;
    let outputs = plan.outputs.iter().map(|(script, units)| (script.clone(), Amount::new(*units))).collect();
    let incomplete = Spend { outputs, ..spend(vec![scene.outpoint("t1:0")]) };
    let tip = scene.world.tip().clone();
    let at = BlockRef { height: Height(tip.at.height.0 + 1), hash: BlockHash([9; 32]) };
    let next = Block { at, previous: tip.at.hash, ..tip.clone() };

    let mut bad = ConnectBlock {
        block: Block { chain: ChainId(99), ..tip.clone() },
        receipts: vec![receipt(1, no_path, 1); 600],
        spends: vec![spend(vec![]), spend(vec![nowhere]), spend(vec![scene.outpoint("t2:0")]), incomplete.clone()],
        more: false,
    };
    let mut check = |bad: &ConnectBlock, refusal: BlockRefusal| {
        assert_eq!(refuse(&mut scene.world, &Command::ConnectBlock(bad.clone())), Refusal::Block(refusal));
    };
    check(&bad, BlockRefusal::ChainUnknown);
    bad.block = tip.clone();
    check(&bad, BlockRefusal::BlockKnown);
    for wrong in [
        Block { previous: BlockHash([8; 32]), ..next.clone() },
        Block { at: BlockRef { height: Height(tip.at.height.0 + 2), ..at }, ..next.clone() },
        Block { at: BlockRef { height: Height(u32::MAX), ..at }, ..next.clone() },
        Block { at: BlockRef { height: Height(0), ..at }, ..next.clone() },
        // Another block beside the tip.
        Block { at: BlockRef { height: tip.at.height, ..at }, ..tip.clone() },
    ] {
        bad.block = wrong;
        check(&bad, BlockRefusal::BlockNotNext);
    }
    bad.block = next.clone();
    check(&bad, BlockRefusal::TooMany);
    let huge = OUTPUT_AMOUNT_MAX.units() + 1;
    bad.receipts = vec![receipt(1, no_path, 1), receipt(2, lite, 1), receipt(3, path, huge), known, contradicting];
    check(&bad, BlockRefusal::ReceiptAddressUnknown);
    bad.receipts.remove(0);
    check(&bad, BlockRefusal::ReceiptAddressForeign);
    bad.receipts.remove(0);
    check(&bad, BlockRefusal::ReceiptAmountTooLarge);
    bad.receipts.remove(0);
    check(&bad, BlockRefusal::ReceiptRepeated);
    bad.receipts[0] = receipt(5, path, 1);
    bad.receipts.push(receipt(5, path, 1));
    check(&bad, BlockRefusal::ReceiptRepeated);
    bad.receipts.pop();
    check(&bad, BlockRefusal::ReceiptContradicts);
    bad.receipts.pop();
    check(&bad, BlockRefusal::SpendEmpty);
    bad.spends.remove(0);
    check(&bad, BlockRefusal::SpendCoinUnknown);
    // A coin of the same name on another chain is another coin.
    bad.spends[0].inputs[0] = OutPoint { chain: LITECOIN, ..incomplete.inputs[0] };
    check(&bad, BlockRefusal::SpendCoinUnknown);
    bad.spends.remove(0);
    check(&bad, BlockRefusal::SpendRepeated);
    bad.spends[0] = incomplete.clone();
    check(&bad, BlockRefusal::SpendRepeated);
    bad.spends.remove(0);
    check(&bad, BlockRefusal::SpendIncomplete);
    let txid = incomplete.txid;
    let change_path = KeyPath { wallet: HOT, branch: Branch::Internal, index: 0 };
    bad.receipts.push(Receipt { txid, vout: 1, ..receipt(6, change_path, 98_991) });
    check(&bad, BlockRefusal::SpendIncomplete);
    bad.receipts[1].amount = Amount::new(98_990);
    scene.world.done(Command::ConnectBlock(bad));
}

#[test]
fn block_beside_a_part_is_refused() {
    let mut scene = Scene::new();
    scene.play("address a0 ann");
    let mut model = scene.model.clone();
    let script = script_of(KeyPath { wallet: HOT, branch: Branch::External, index: 0 });
    let tx = |number| Tx {
        id: TxId(name(6, number)),
        inputs: vec![Source::Somebody(number)],
        outputs: vec![(script.clone(), 500)],
    };
    model.mine(vec![tx(1), tx(2)]);
    let commands = parts(&scene.world, &model.blocks[1], || 1);
    scene.world.done(Command::ConnectBlock(commands[0].clone()));
    let mut other = commands[1].clone();
    other.block.at.hash = BlockHash([9; 32]);
    other.block.previous = BlockHash([8; 32]);
    let refused = |refusal| Refusal::Block(refusal);
    let world = &mut scene.world;
    assert_eq!(refuse(world, &Command::ConnectBlock(other)), refused(BlockRefusal::PartPending));
    let hash = world.tip().at.hash;
    let back = |chain, hash| Command::DisconnectBlock { chain, hash };
    assert_eq!(refuse(world, &back(ChainId(9), hash)), refused(BlockRefusal::ChainUnknown));
    assert_eq!(refuse(world, &back(CHAIN, hash)), refused(BlockRefusal::PartPending));
    world.done(Command::ConnectBlock(commands[1].clone()));
    assert_eq!(refuse(world, &back(CHAIN, hash)), refused(BlockRefusal::BlockNotTip));
    let tip = world.tip().at.hash;
    world.done(back(CHAIN, tip));
    assert_eq!(refuse(world, &back(CHAIN, hash)), refused(BlockRefusal::ReorganisationTooDeep));
}

#[test]
fn mempool_s_view_is_refused_for_the_first_thing_wrong_with_it() {
    let mut scene = Scene::new();
    other_chain(&mut scene.world);
    let lite = scene.world.address(LITE, Beneficiary::Customer(ANN));
    let hot = scene.world.address(HOT, Beneficiary::Customer(ANN));
    let world = &mut scene.world;
    let receipt = |path, units| {
        let txid = TxId(name(4, 1));
        Receipt { txid, vout: 0, amount: Amount::new(units), path, coinbase: false }
    };
    let unknown = receipt(KeyPath { index: 99, ..hot }, 1);
    let see = |chain, receipts: &[Receipt]| Command::SeeReceipts { chain, receipts: receipts.to_vec() };
    let refused = |refusal| Refusal::Block(refusal);
    let too_many = vec![unknown.clone(); 4_000];
    assert_eq!(refuse(world, &see(ChainId(9), &too_many)), refused(BlockRefusal::ChainUnknown));
    assert_eq!(refuse(world, &see(CHAIN, &too_many)), refused(BlockRefusal::TooMany));
    let large = receipt(hot, OUTPUT_AMOUNT_MAX.units() + 1);
    let bad = [large, receipt(lite, 1), unknown];
    assert_eq!(refuse(world, &see(CHAIN, &bad)), refused(BlockRefusal::ReceiptAddressUnknown));
    assert_eq!(refuse(world, &see(CHAIN, &bad[..2])), refused(BlockRefusal::ReceiptAddressForeign));
    assert_eq!(refuse(world, &see(CHAIN, &bad[..1])), refused(BlockRefusal::ReceiptAmountTooLarge));
    let outpoint = OutPoint { chain: CHAIN, txid: TxId(name(4, 1)), vout: 0 };
    let lose = |chain, count| Command::LoseReceipts { chain, outpoints: vec![outpoint; count] };
    assert_eq!(refuse(world, &lose(ChainId(9), 4_000)), refused(BlockRefusal::ChainUnknown));
    assert_eq!(refuse(world, &lose(CHAIN, 4_000)), refused(BlockRefusal::TooMany));
    world.done(lose(CHAIN, 1));
    assert!(world.last.is_empty());
}

#[test]
fn wallet_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    let mut bad = Wallet {
        id: HOT,
        chain: ChainId(9),
        generation: 0,
        descriptor_external: String::new(),
        retired: true,
        ..wallet(HOT)
    };
    let mut check = |bad: &Wallet, refusal| {
        assert_eq!(refuse(&mut world, &Command::RegisterWallet(bad.clone())), Refusal::Address(refusal));
    };
    check(&bad, AddressRefusal::WalletExists);
    bad.id = LITE;
    check(&bad, AddressRefusal::ChainUnknown);
    bad.chain = CHAIN;
    check(&bad, AddressRefusal::GenerationInvalid);
    bad.generation = 2;
    check(&bad, AddressRefusal::DescriptorInvalid);
    bad.descriptor_external = bad.descriptor_internal.clone();
    check(&bad, AddressRefusal::DescriptorInvalid);
    bad.descriptor_external = "x".repeat(DESCRIPTOR_MAX + 1);
    check(&bad, AddressRefusal::DescriptorInvalid);
    bad.descriptor_external = "x".repeat(DESCRIPTOR_MAX);
    check(&bad, AddressRefusal::DescriptorTaken);
    bad.descriptor_internal = wallet(LITE).descriptor_internal;
    check(&bad, AddressRefusal::WalletUsed);
    bad.retired = false;
    bad.next_internal = 1;
    check(&bad, AddressRefusal::WalletUsed);
    bad.next_internal = 0;
    world.done(Command::RegisterWallet(bad));
    let retire = |wallet| Command::RetireWallet(wallet);
    assert_eq!(refuse(&mut world, &retire(WalletId(99))), Refusal::Address(AddressRefusal::WalletUnknown));
    world.done(retire(LITE));
    assert_eq!(refuse(&mut world, &retire(LITE)), Refusal::Address(AddressRefusal::WalletRetired));
}

#[test]
fn scripts_that_a_wallet_derives_already_are_no_other_wallets() {
    let mut world = World::new();
    let descriptors = |external: &str, internal: &str| {
        let (descriptor_external, descriptor_internal) = (external.to_owned(), internal.to_owned());
        Command::RegisterWallet(Wallet { descriptor_external, descriptor_internal, ..wallet(LITE) })
    };
    let taken = Refusal::Address(AddressRefusal::DescriptorTaken);
    let known = wallet(HOT);
    let (external, internal) = (known.descriptor_external.as_str(), known.descriptor_internal.as_str());
    let (other, new) = ("wpkh(new/0/*)", "wpkh(new/1/*)");
    // Either branch, in either place; origins and checksums make no other scripts, on any chain, of a retired wallet as well.
    for (external, internal) in [(external, internal), (internal, external), (other, internal), (external, new)] {
        assert_eq!(refuse(&mut world, &descriptors(external, internal)), taken, "{external} {internal}");
    }
    for same in [format!("{external}#checksum"), external.replace('(', "([00000000/84h/0h/0h]")] {
        assert_eq!(refuse(&mut world, &descriptors(&same, new)), taken, "{same}");
        assert_eq!(refuse(&mut world, &descriptors(other, &same)), taken, "{same}");
    }
    assert_eq!(refuse(&mut world, &descriptors(other, &format!("{other}#checksum"))), taken, "both of one wallet");
    world.done(Command::RetireWallet(HOT));
    assert_eq!(refuse(&mut world, &descriptors(external, new)), taken);
    world.done(descriptors("wpkh([00000000]new/0/*)#checksum", new));
}

#[test]
fn address_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    let used = script_of(world.address(HOT, Beneficiary::Customer(ANN)));
    world.done(Command::RetireWallet(OLD));
    let nobody = Beneficiary::Customer(CustomerId([9; 16]));
    let issue = |wallet, branch, index, script: &Bytes, beneficiary: &Beneficiary| Command::IssueAddress {
        wallet,
        branch,
        index,
        script: script.clone(),
        beneficiary: beneficiary.clone(),
    };
    let (empty, long) = (Bytes(Vec::new()), Bytes(vec![1; SCRIPT_MAX + 1]));
    let new = Bytes(vec![1; SCRIPT_MAX]);
    let (inside, outside) = (Branch::Internal, Branch::External);
    for (command, refusal) in [
        (issue(WalletId(99), inside, 0, &empty, &nobody), AddressRefusal::WalletUnknown),
        (issue(OLD, inside, 9, &empty, &nobody), AddressRefusal::WalletRetired),
        (issue(HOT, inside, 9, &empty, &nobody), AddressRefusal::BranchInternal),
        (issue(HOT, outside, 0, &empty, &nobody), AddressRefusal::IndexStale),
        (issue(HOT, outside, 2, &empty, &nobody), AddressRefusal::IndexStale),
        (issue(HOT, outside, 1, &empty, &nobody), AddressRefusal::ScriptInvalid),
        (issue(HOT, outside, 1, &long, &nobody), AddressRefusal::ScriptInvalid),
        (issue(HOT, outside, 1, &used, &nobody), AddressRefusal::ScriptIssued),
        (issue(HOT, outside, 1, &new, &nobody), AddressRefusal::CustomerUnknown),
        (issue(HOT, outside, 1, &new, &Beneficiary::CHANGE), AddressRefusal::BeneficiaryInvalid),
    ] {
        assert_eq!(refuse(&mut world, &command), Refusal::Address(refusal));
    }
    world.done(issue(HOT, outside, 1, &new, &Beneficiary::INVENTORY));
}

#[test]
fn branch_that_is_used_up_hands_out_nothing() {
    let mut world = World::new();
    // No test hands out two thousand million addresses: the wallet is restated as one that has.
    let restated = Wallet { next_external: 0x8000_0000, ..wallet(HOT) };
    for state in [&mut world.state, &mut world.shadow] {
        state.apply(&Event::RestateWallet(restated.clone()));
    }
    let command = Command::IssueAddress {
        wallet: HOT,
        branch: Branch::External,
        index: 0x8000_0000,
        script: Bytes(Vec::new()),
        beneficiary: Beneficiary::CHANGE,
    };
    assert_eq!(refuse(&mut world, &command), Refusal::Address(AddressRefusal::IndexExhausted));
}

#[test]
fn withdrawal_is_refused_for_the_first_thing_wrong_with_it() {
    let mut scene = Scene::new();
    other_chain(&mut scene.world);
    scene.play(
        "address a0 ann
         address b0 ben
         address o0 ben@old
         block t1>a0=5000
         blocks 3
         block t2>a0=1000
         blocks 1
         back 2
         retire old",
    );
    let halt = Halt { asset: None, action: HaltAction::Withdraw, reason: HaltReason::Operator };
    scene.world.done(Command::Halt(halt.clone()));
    let script = |wallet| script_of(KeyPath { wallet, branch: Branch::External, index: 0 });
    let own = script(HOT);
    let bens = script_of(KeyPath { wallet: HOT, branch: Branch::External, index: 1 });
    let (empty, retired) = (Bytes(Vec::new()), script(OLD));
    let ask = |customer, asset, units, script: &Bytes, wallet| Command::RequestWithdrawal {
        customer,
        asset,
        amount: Amount::new(units),
        script: script.clone(),
        wallet,
    };
    let nobody = CustomerId([9; 16]);
    let world = &mut scene.world;
    let no_id = ask(nobody, AssetId(99), 0, &empty, WalletId(99));
    assert_eq!(refuse(world, &no_id), Refusal::Withdrawal(WithdrawalRefusal::IdMissing));
    let mut session = SessionId([1; 16]);
    session.0[..6].copy_from_slice(&world.now.0.to_be_bytes()[2..]);
    (session.0[6], session.0[8]) = (0x70, 0x80);
    let bulk =
        Request { origin: florin_core::command::Origin::Session { session, sequence: 1 }, command: no_id.clone() };
    let refused = world.state.decide(&bulk, world.now).unwrap_err();
    assert_eq!(refused, Refusal::Withdrawal(WithdrawalRefusal::IdMissing));

    let mut check = |command: Command, refusal| {
        assert_eq!(world.ask(command).unwrap_err(), Refusal::Withdrawal(refusal));
    };
    check(no_id, WithdrawalRefusal::AssetUnknown);
    check(ask(nobody, EUR, 0, &empty, WalletId(99)), WithdrawalRefusal::AssetNotCoin);
    check(ask(nobody, LTC, 0, &empty, WalletId(99)), WithdrawalRefusal::PolicyMissing);
    check(ask(nobody, BTC, 0, &empty, WalletId(99)), WithdrawalRefusal::WalletUnknown);
    check(ask(nobody, BTC, 0, &empty, LITE), WithdrawalRefusal::WalletForeign);
    check(ask(nobody, BTC, 0, &empty, OLD), WithdrawalRefusal::WalletRetired);
    check(ask(nobody, BTC, 0, &empty, HOT), WithdrawalRefusal::CustomerUnknown);
    check(ask(ANN, BTC, 0, &empty, HOT), WithdrawalRefusal::ScriptInvalid);
    check(ask(ANN, BTC, 0, &Bytes(vec![1; SCRIPT_MAX + 1]), HOT), WithdrawalRefusal::ScriptInvalid);
    check(ask(ANN, BTC, 0, &own, HOT), WithdrawalRefusal::ToSelf);
    check(ask(ANN, BTC, 0, &retired, HOT), WithdrawalRefusal::ScriptNotPayable);
    check(ask(ANN, BTC, 0, &bens, HOT), WithdrawalRefusal::AmountTooSmall);
    check(ask(ANN, BTC, 199, &outside("x"), HOT), WithdrawalRefusal::AmountTooSmall);
    check(ask(ANN, BTC, u128::MAX, &outside("x"), HOT), WithdrawalRefusal::Halted);
    world.done(Command::Resume(halt));
    let mut check = |command: Command, refusal| {
        assert_eq!(world.ask(command).unwrap_err(), Refusal::Withdrawal(refusal));
    };
    check(ask(ANN, BTC, u128::MAX, &outside("x"), HOT), WithdrawalRefusal::CustomerFrozen);
    check(ask(BEN, BTC, u128::MAX, &outside("x"), HOT), WithdrawalRefusal::InsufficientFunds);
    scene.play("block t2");
    let world = &mut scene.world;
    // 6,000 and not more: the fee counts, and is not asked for inside the ledger.
    let short = ask(ANN, BTC, 5_951, &outside("x"), HOT);
    assert_eq!(world.ask(short).unwrap_err(), Refusal::Withdrawal(WithdrawalRefusal::InsufficientFunds));
    let short = ask(ANN, BTC, 6_001, &bens, HOT);
    assert_eq!(world.ask(short).unwrap_err(), Refusal::Withdrawal(WithdrawalRefusal::InsufficientFunds));
    assert!(world.ask(ask(ANN, BTC, 250, &outside("x"), HOT)).is_ok());
    assert!(world.ask(ask(ANN, BTC, 5_700, &bens, HOT)).is_ok());
}

#[test]
fn approval_and_cancellation_are_refused_for_the_first_thing_wrong_with_them() {
    let mut scene = Scene::new();
    scene.play(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 20001 x
         withdraw w2 ann 300 y",
    );
    let (first, second) = (scene.withdrawals["w1"], scene.withdrawals["w2"]);
    let world = &mut scene.world;
    let approve = |withdrawal, key: u8, complete| {
        let approval = Approval { key: [key; 32], signature: [0; 64] };
        Command::ApproveWithdrawal { withdrawal, approval, complete }
    };
    let cancel = |withdrawal| Command::CancelWithdrawal { withdrawal };
    let unknown = WithdrawalId([9; 16]);
    let refused = |refusal| Refusal::Approval(refusal);
    assert_eq!(refuse(world, &approve(unknown, 1, true)), refused(ApprovalRefusal::WithdrawalUnknown));
    world.done(approve(second, 1, true));
    world.done(cancel(second));
    assert_eq!(refuse(world, &approve(second, 1, true)), refused(ApprovalRefusal::Repeated));
    assert_eq!(refuse(world, &approve(second, 2, true)), refused(ApprovalRefusal::NotAwaiting));
    for key in 0..APPROVALS_MAX as u8 {
        world.done(approve(first, key, false));
    }
    assert_eq!(refuse(world, &approve(first, 99, true)), refused(ApprovalRefusal::TooMany));
    world.now = world.now.plus_ms(200_001);
    assert_eq!(refuse(world, &approve(first, 0, true)), refused(ApprovalRefusal::Repeated));
    assert_eq!(refuse(world, &approve(first, 99, true)), refused(ApprovalRefusal::IntentExpired));

    let refused = |refusal| Refusal::Cancel(refusal);
    assert_eq!(refuse(world, &cancel(unknown)), refused(CancelRefusal::WithdrawalUnknown));
    world.done(cancel(first));
    assert_eq!(refuse(world, &cancel(first)), refused(CancelRefusal::Ended));
    assert_eq!(refuse(world, &approve(first, 0, true)), Refusal::Approval(ApprovalRefusal::Repeated));
    scene.play("withdraw w3 ann 300 y\nplan p1 w3 from t1:0 change 99690 fee 10");
    let third = scene.withdrawals["w3"];
    assert_eq!(refuse(&mut scene.world, &cancel(third)), refused(CancelRefusal::TooLate));
}

/// A scene in which a plan can go wrong in every way.
fn troubled() -> Scene {
    let mut scene = Scene::new();
    other_chain(&mut scene.world);
    scene.play(
        "address a0 ann
         address b0 ben
         address o0 ann@old
         block t1>a0=100000 t3>o0=6000 t4>a0=7000 t5>a0=9000
         blocks 3
         withdraw expired ann 300 x",
    );
    // No tick: the intent has expired and nobody has ended it yet.
    scene.world.now = scene.world.now.plus_ms(200_001);
    scene.play(
        "withdraw awaiting ann 30000 x
         withdraw planned ann 400 x
         plan other planned from t4:0 change 6590 fee 10
         withdraw good ann 500 y
         block t2>b0=5000
         blocks 1
         withdraw frozen ben 300 x",
    );
    let of_old = Command::RequestWithdrawal {
        customer: ANN,
        asset: BTC,
        amount: Amount::new(300),
        script: outside("z"),
        wallet: OLD,
    };
    let Outcome::Withdrawal(id) = scene.world.ask(of_old).unwrap() else { panic!("no withdrawal") };
    scene.withdrawals.insert("of_old".to_owned(), id);
    scene.play(
        "back 2
         block m1!>a0=8000 t6>a0=2000
         block f1<t5:0>thief=1",
    );
    scene
}

fn check_plan(scene: &mut Scene, bad: &ProposePlan, refusal: PlanRefusal) {
    let refused = refuse(&mut scene.world, &Command::ProposePlan(bad.clone()));
    assert_eq!(refused, Refusal::Plan(refusal));
}

#[test]
fn plan_is_refused_for_the_first_thing_wrong_with_it() {
    let mut scene = troubled();
    let good = scene.withdrawals["good"];
    let t1 = scene.outpoint("t1:0");
    let right = proposal(&scene.world, vec![good], vec![t1], Amount::new(99_490), Amount::new(10));
    let mut bad = right.clone();
    bad.wallet = WalletId(99);
    bad.withdrawals.clear();
    bad.inputs.clear();
    bad.anchor = OutPoint { vout: 77, ..t1 };
    bad.version.unsigned = Bytes(Vec::new());
    bad.version.signed = Some(Bytes(vec![1]));
    bad.version.fee = Amount::MAX;
    let issued = script_of(KeyPath { wallet: HOT, branch: Branch::External, index: 0 });
    bad.version.change = Some(PlanChange { vout: 5, index: 7, script: Bytes(Vec::new()), amount: Amount::ZERO });
    let scene = &mut scene;
    check_plan(scene, &bad, PlanRefusal::WalletUnknown);
    bad.wallet = LITE;
    check_plan(scene, &bad, PlanRefusal::PolicyMissing);
    bad.wallet = HOT;
    check_plan(scene, &bad, PlanRefusal::WithdrawalCountInvalid);
    bad.withdrawals = vec![good; 251];
    check_plan(scene, &bad, PlanRefusal::WithdrawalCountInvalid);
    let named = |name: &str| scene.withdrawals[name];
    bad.withdrawals = vec![WithdrawalId([9; 16])];
    bad.withdrawals.extend(["awaiting", "of_old", "expired", "frozen", "good", "good"].map(named));
    check_plan(scene, &bad, PlanRefusal::InputCountInvalid);
    bad.inputs = vec![t1; 251];
    check_plan(scene, &bad, PlanRefusal::InputCountInvalid);
    let coins = ["t3:0", "t5:0", "t4:0", "m1:0", "t6:0", "t1:0", "t1:0"].map(|coin| scene.outpoint(coin));
    bad.inputs = vec![bad.anchor];
    bad.inputs.extend(coins);
    check_plan(scene, &bad, PlanRefusal::UnsignedSizeInvalid);
    bad.version.unsigned = Bytes(vec![1; UNSIGNED_MAX + 1]);
    check_plan(scene, &bad, PlanRefusal::UnsignedSizeInvalid);
    bad.version.unsigned = Bytes(vec![1; UNSIGNED_MAX]);
    check_plan(scene, &bad, PlanRefusal::VersionSigned);
    bad.version.signed = None;

    for refusal in [
        PlanRefusal::WithdrawalUnknown,
        PlanRefusal::WithdrawalRepeated,
        PlanRefusal::WithdrawalNotQueued,
        PlanRefusal::WithdrawalOfAnotherWallet,
        PlanRefusal::IntentExpired,
        PlanRefusal::CustomerFrozen,
    ] {
        check_plan(scene, &bad, refusal);
        if refusal == PlanRefusal::WithdrawalRepeated {
            bad.withdrawals.pop();
        } else {
            bad.withdrawals.remove(0);
        }
    }
    for refusal in [
        PlanRefusal::InputUnknown,
        PlanRefusal::InputRepeated,
        PlanRefusal::InputOfAnotherWallet,
        PlanRefusal::InputSpent,
        PlanRefusal::InputReserved,
        PlanRefusal::InputImmature,
        PlanRefusal::InputShallow,
    ] {
        check_plan(scene, &bad, refusal);
        if refusal == PlanRefusal::InputRepeated {
            bad.inputs.pop();
        } else {
            bad.inputs.remove(0);
        }
    }
    assert_eq!(bad.inputs, [t1]);
    check_plan(scene, &bad, PlanRefusal::AnchorNotInput);
    bad.anchor = t1;
    check_outputs(scene, bad, &right, &issued);
}

fn check_outputs(scene: &mut Scene, mut bad: ProposePlan, right: &ProposePlan, issued: &Bytes) {
    check_plan(scene, &bad, PlanRefusal::PaymentsInvalid);
    let change = |bad: &mut ProposePlan, edit: fn(&mut PlanChange)| edit(bad.version.change.as_mut().unwrap());
    change(&mut bad, |change| change.vout = 0);
    check_plan(scene, &bad, PlanRefusal::PaymentsInvalid);
    change(&mut bad, |change| change.vout = 1);
    let payment = bad.version.payments.clone();
    bad.version.payments.push(payment[0].clone());
    bad.version.payments[1].vout = 2;
    check_plan(scene, &bad, PlanRefusal::PaymentsInvalid);
    bad.version.payments[0].withdrawal = scene.withdrawals["planned"];
    bad.version.payments.pop();
    check_plan(scene, &bad, PlanRefusal::PaymentsInvalid);
    bad.version.payments = payment;
    check_plan(scene, &bad, PlanRefusal::ChangeZero);
    change(&mut bad, |change| change.amount = Amount::MAX);
    check_plan(scene, &bad, PlanRefusal::ChangeIndexStale);
    // The other plan's change took index 0.
    change(&mut bad, |change| change.index = 1);
    check_plan(scene, &bad, PlanRefusal::ChangeScriptInvalid);
    bad.version.change.as_mut().unwrap().script = issued.clone();
    check_plan(scene, &bad, PlanRefusal::ChangeScriptIssued);
    change(&mut bad, |change| change.script = Bytes(b"new".to_vec()));
    check_plan(scene, &bad, PlanRefusal::FeeTooLarge);
    bad.version.fee = Amount::new(1_001);
    check_plan(scene, &bad, PlanRefusal::FeeTooLarge);
    // A policy that allows more does not change what the intent says.
    let raised = AssetPolicy { network_fee_max: Amount::new(5_000), ..policy() };
    scene.world.done(Command::SetAssetPolicy(raised));
    check_plan(scene, &bad, PlanRefusal::FeeTooLarge);
    bad.version.fee = Amount::new(10);
    check_plan(scene, &bad, PlanRefusal::AmountsDiffer);
    for wrong in [99_489, 99_491] {
        bad.version.change.as_mut().unwrap().amount = Amount::new(wrong);
        check_plan(scene, &bad, PlanRefusal::AmountsDiffer);
    }
    change(&mut bad, |change| change.amount = Amount::new(99_490));
    check_plan(scene, &bad, PlanRefusal::Halted);
    check_plan(scene, right, PlanRefusal::Halted);
    scene.play("resume");
    scene.world.done(Command::ProposePlan(bad));
}

#[test]
fn word_about_a_plan_is_refused_for_the_first_thing_wrong_with_it() {
    let mut scene = Scene::new();
    scene.play(
        "address a0 ann
         block t1>a0=100000 t2>a0=50000
         blocks 3
         withdraw w1 ann 300 x
         withdraw w2 ann 400 y
         plan p1 w1 from t1:0 change 99690 fee 10
         plan p2 w2 from t2:0 change 49590 fee 10
         void p2",
    );
    let (plan, txid) = (scene.plans["p1"].0, scene.plans["p1"].1.id);
    let voided = scene.plans["p2"].0;
    let world = &mut scene.world;
    let sign = |plan, version, size, txid| Command::RecordSigned { plan, version, signed: Bytes(vec![7; size]), txid };
    let see = |plan, txid| Command::SeePlan { plan, txid };
    let refused = |refusal| Refusal::Plan(refusal);
    assert_eq!(refuse(world, &sign(PlanId(99), 9, 0, txid)), refused(PlanRefusal::PlanUnknown));
    assert_eq!(refuse(world, &sign(voided, 1, 0, txid)), refused(PlanRefusal::VersionUnknown));
    assert_eq!(refuse(world, &sign(voided, 0, 0, txid)), refused(PlanRefusal::Ended));
    assert_eq!(refuse(world, &sign(plan, 0, 0, txid)), refused(PlanRefusal::SignedSizeInvalid));
    assert_eq!(refuse(world, &sign(plan, 0, SIGNED_MAX + 1, txid)), refused(PlanRefusal::SignedSizeInvalid));
    assert_eq!(refuse(world, &see(PlanId(99), txid)), refused(PlanRefusal::PlanUnknown));
    assert_eq!(refuse(world, &see(plan, txid)), refused(PlanRefusal::TxUnknown));
    world.done(sign(plan, 0, 5, txid));
    world.done(sign(plan, 0, 5, txid));
    assert!(world.last.is_empty(), "the same bytes say nothing new");
    assert_eq!(refuse(world, &sign(plan, 0, 6, txid)), refused(PlanRefusal::SignedDifferently));
    assert_eq!(refuse(world, &sign(plan, 0, 5, TxId([9; 32]))), refused(PlanRefusal::SignedDifferently));
    assert_eq!(refuse(world, &see(plan, TxId([9; 32]))), refused(PlanRefusal::TxUnknown));
    // A receipt without a byte is the last thing wrong with these.
    let void = |plan| Command::RecordVoid { plan, receipt: Bytes(Vec::new()) };
    assert_eq!(refuse(world, &void(PlanId(99))), refused(PlanRefusal::PlanUnknown));
    assert_eq!(refuse(world, &void(plan)), refused(PlanRefusal::Signed));
    scene.play(
        "block f1<t1:0>thief=1
         blocks 3
         resume
         withdraw w3 ann 400 z
         plan p3 w3 from t2:0 change 49590 fee 10",
    );
    assert_eq!(refuse(&mut scene.world, &void(plan)), refused(PlanRefusal::Ended));
    let plan = scene.plans["p3"].0;
    assert_eq!(refuse(&mut scene.world, &void(plan)), refused(PlanRefusal::ReceiptSizeInvalid));
    scene.play("block f2<t2:0>z=400,thief=49000");
    assert_eq!(refuse(&mut scene.world, &void(plan)), refused(PlanRefusal::PaidByOthers));
    scene.play("blocks 3");
    assert_eq!(refuse(&mut scene.world, &void(plan)), refused(PlanRefusal::Ended));
}

#[test]
fn the_signers_word_that_frees_a_plan_stays_in_the_journal() {
    let mut scene = Scene::new();
    scene.play(
        "address a0 ann
         block t1>a0=100000
         blocks 3
         withdraw w1 ann 300 x
         plan p1 w1 from t1:0 change 99690 fee 10",
    );
    let plan = scene.plans["p1"].0;
    let world = &mut scene.world;
    let void = |size| Command::RecordVoid { plan, receipt: Bytes(vec![7; size]) };
    for size in [0, RECEIPT_MAX + 1] {
        assert_eq!(refuse(world, &void(size)), Refusal::Plan(PlanRefusal::ReceiptSizeInvalid), "{size}");
    }
    world.done(void(RECEIPT_MAX));
    let kept = world.last.iter().find_map(|event| match event {
        Event::PlanMoved(moved) => moved.receipt.clone(),
        _ => None,
    });
    assert_eq!(kept, Some(Bytes(vec![7; RECEIPT_MAX])));
    world.done(void(0));
    assert!(world.last.is_empty(), "the first word is the one that counts");
}

#[test]
fn codes_are_distinct_within_each_list() {
    fn check(codes: Vec<&'static str>) {
        let distinct: std::collections::BTreeSet<_> = codes.iter().collect();
        assert_eq!(distinct.len(), codes.len(), "{codes:?}");
    }
    check(BlockRefusal::ALL.iter().map(|refusal| refusal.code()).collect());
    check(AddressRefusal::ALL.iter().map(|refusal| refusal.code()).collect());
    check(WithdrawalRefusal::ALL.iter().map(|refusal| refusal.code()).collect());
    check(ApprovalRefusal::ALL.iter().map(|refusal| refusal.code()).collect());
    check(CancelRefusal::ALL.iter().map(|refusal| refusal.code()).collect());
    check(PlanRefusal::ALL.iter().map(|refusal| refusal.code()).collect());
}
