//! Whole and well-linked rows that no rule decided on are found by the audit, and what the rules do decide is not, also after its
//! records have left the state.

use crate::common::{Rows, customer};
use crate::network::Blocks;
use crate::platform::*;
use florin_chain::bitcoin::keys::ScriptKind;
use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind};
use florin_core::command::{Command, ConnectBlock, Outcome, ProposePlan, Receipt, Spend};
use florin_core::custody::{
    Address, Beneficiary, Block, BlockRef, Branch, DepositStatus, KeyPath, OutPoint, Payment, PlanPayment, PlanStatus,
    PlanVersion, WithdrawalStatus,
};
use florin_core::decide::KEPT_BLOCKS;
use florin_core::event::{
    BankReceiptBooked, CoinChanged, CorrectionBooked, DepositMoved, Event, HoldPosted, HoldReleased, PlanMoved,
    TransfersPosted, WithdrawalMoved,
};
use florin_core::id::{AccountId, AssetId, BlockHash, Height, HoldId, LedgerTime, PlanId, Seq, TxId, WithdrawalId};
use florin_core::journal::{Batch, Entry, Row};
use florin_core::ledger::{Account, Hold, HouseAccount, Owner, Transfer, TransferReason};
use florin_core::state::State;
use florin_core::wire::{Bytes, Message};
use florin_engine::audit::addresses::{AddressFault, check_addresses, issuing_rows};
use florin_engine::audit::{BookFault, JournalReport, check_books, verify_journal};
use florin_engine::lanes::Ask;
use std::collections::{BTreeMap, BTreeSet};

/// A platform whose blocks are said to it, and no follower's.
pub(super) struct Scene {
    pub(super) platform: Platform,
    requests: u64,
}

pub(super) fn path(index: u32) -> KeyPath {
    KeyPath { wallet: WALLET, branch: Branch::External, index }
}

pub(super) fn output(txid: u8) -> OutPoint {
    OutPoint { chain: CHAIN, txid: TxId([txid; 32]), vout: 0 }
}

pub(super) fn receipt(txid: u8, amount: u128, index: u32) -> Receipt {
    Receipt { txid: TxId([txid; 32]), vout: 0, amount: Amount::new(amount), path: path(index), coinbase: false }
}

pub(super) fn spend(txid: u8, inputs: &[u8], outputs: Vec<(Bytes, Amount)>) -> Spend {
    Spend { txid: TxId([txid; 32]), inputs: inputs.iter().map(|txid| output(*txid)).collect(), outputs, fee: None }
}

/// Where withdrawals go.
pub(super) fn elsewhere() -> Bytes {
    Bytes([vec![0, 20], vec![9; 20]].concat())
}

impl Scene {
    /// Customer 1 has two addresses, customer 2 one.
    pub(super) fn new() -> Scene {
        let mut scene = Scene { platform: Platform::new(Blocks::new().genesis(), ScriptKind::Wpkh), requests: 100 };
        for whose in [1, 1, 2] {
            scene.requests += 1;
            scene.platform.address(scene.requests, whose);
        }
        scene
    }

    pub(super) fn state(&self) -> &State {
        self.platform.state()
    }

    pub(super) fn request(&mut self, command: Command) -> Outcome {
        self.requests += 1;
        self.platform.request(self.requests, command)
    }

    /// Connects the next block.
    pub(super) fn block(&mut self, receipts: Vec<Receipt>, spends: Vec<Spend>) {
        let tip = self.platform.tip();
        let height = Height(tip.height.0 + 1);
        let mut hash = [0xbb; 32];
        hash[..4].copy_from_slice(&height.0.to_be_bytes());
        let at = BlockRef { height, hash: BlockHash(hash) };
        let block = Block { chain: CHAIN, at, previous: tip.hash, time_s: 0 };
        let command = Command::ConnectBlock(ConnectBlock { block, receipts, spends, more: false });
        self.platform.now_ms += 1_000;
        self.platform.must(Ask::internal(command));
        self.platform.must(Ask::internal(Command::Tick));
    }

    pub(super) fn blocks(&mut self, count: u32) {
        (0..count).for_each(|_| self.block(Vec::new(), Vec::new()));
    }

    pub(super) fn withdraw(&mut self, whose: u64, amount: u128) -> WithdrawalId {
        let (amount, asset, wallet) = (Amount::new(amount), BTC, WALLET);
        let (customer, script) = (customer(whose), elsewhere());
        match self.request(Command::RequestWithdrawal { customer, asset, amount, script, wallet }) {
            Outcome::Withdrawal(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// A plan that pays a withdrawal with one coin, and the rest of it to the network.
    pub(super) fn plan(&mut self, coin: u8, withdrawal: WithdrawalId) {
        let ask = self.plan_of(coin, withdrawal);
        self.platform.must(ask);
    }

    pub(super) fn plan_of(&self, coin: u8, withdrawal: WithdrawalId) -> Ask {
        let amounts = (self.state().coins()[&output(coin)].amount, self.state().withdrawals()[&withdrawal].amount);
        let version = PlanVersion {
            unsigned: Bytes(vec![1]),
            fee: amounts.0.checked_sub(amounts.1).unwrap(),
            change: None,
            payments: vec![PlanPayment { withdrawal, vout: 0 }],
            signed: None,
            txid: None,
        };
        let anchor = output(coin);
        let (wallet, withdrawals, inputs) = (WALLET, vec![withdrawal], vec![anchor]);
        Ask::internal(Command::ProposePlan(ProposePlan { wallet, withdrawals, inputs, anchor, version }))
    }

    pub(super) fn verified(&self) -> JournalReport {
        judged(&self.platform.rows)
    }

    /// The journal with one more row, which nothing is wrong with but what it says.
    pub(super) fn forged(&self, events: Vec<Event>) -> Rows {
        let rows = Rows::default();
        *rows.0.lock().unwrap() = self.platform.rows.all();
        let entry = Entry { command: None, request: None, events, outcome: None };
        let payload = Batch { entries: vec![entry] }.encode();
        let last = rows.all().pop().unwrap();
        let row = Row::seal(last.seq.next(), last.epoch, last.time, last.hash, payload);
        rows.0.lock().unwrap().push(row);
        rows
    }
}

pub(super) fn judged(rows: &Rows) -> JournalReport {
    let report = verify_journal(&mut rows.clone(), None, |_| ()).unwrap();
    assert!(report.wrong.is_none(), "every row is right: {:?}", report.wrong);
    report
}

pub(super) fn codes(faults: &[BookFault]) -> Vec<&'static str> {
    faults.iter().map(BookFault::code).collect()
}

/// An owner's account; what opens it is added where there is none yet.
fn account(state: &State, owner: Owner, events: &mut Vec<Event>) -> AccountId {
    if let Some(account) = state.ledger().account_of(&owner, BTC) {
        return account.id;
    }
    let opened = events.iter().filter(|event| matches!(event, Event::AccountOpened(_))).count() as u64;
    let id = AccountId(state.ledger().next_account().0 + opened);
    let rule = owner.rule().unwrap();
    events.push(Event::AccountOpened(Account::new(id, owner, BTC, rule)));
    id
}

fn movement(state: &State, (debit, credit): (Owner, Owner), amount: u128, events: &mut Vec<Event>) -> Transfer {
    let (debit, credit) = (account(state, debit, events), account(state, credit, events));
    Transfer { debit, credit, amount: Amount::new(amount), reason: TransferReason::Internal }
}

/// A transfer that no record is behind.
fn moved(state: &State, debit: Owner, credit: Owner) -> Vec<Event> {
    let mut events = Vec::new();
    let transfer = movement(state, (debit, credit), 1_000, &mut events);
    events.push(Event::TransfersPosted(TransfersPosted { transfers: vec![transfer] }));
    events
}

/// A hold between two owners, under the next id.
fn held(state: &State, debit: Owner, credit: Owner, amount: u128) -> (HoldId, Vec<Event>) {
    let mut events = Vec::new();
    let transfer = movement(state, (debit, credit), amount, &mut events);
    let id = state.counters().next_hold;
    events.push(Event::HoldPlaced(Hold { id, transfer }));
    (id, events)
}

fn whose(number: u64) -> Owner {
    Owner::Customer(customer(number))
}

pub(super) fn house(account: HouseAccount) -> Owner {
    Owner::House(account)
}

/// The withdrawal that waits, with another hold.
fn rehold(state: &State, hold: Option<HoldId>) -> Event {
    let withdrawal = state.withdrawals().values().next().unwrap();
    Event::WithdrawalMoved(WithdrawalMoved {
        withdrawal: withdrawal.id,
        status: withdrawal.status,
        hold,
        plan: None,
        paid: None,
    })
}

/// The open hold of the withdrawal that waits.
fn open_hold(state: &State) -> HoldId {
    state.withdrawals().values().next().and_then(|withdrawal| withdrawal.hold).unwrap()
}

/// What is forged on a state.
type Forgery = fn(&State) -> Vec<Event>;

fn forgeries() -> [(&'static str, Forgery, &'static [&'static str]); 15] {
    use HouseAccount::*;
    const RECORDS: &[&str] = &["books_records"];
    const HOLD: &[&str] = &["books_hold"];
    [
        ("a credit without a deposit", |state| moved(state, house(Clearing), whose(1)), RECORDS),
        ("money in flight without a withdrawal", |state| moved(state, whose(1), house(InFlight)), RECORDS),
        ("a loss of nothing", |state| moved(state, house(Shortfall), whose(1)), RECORDS),
        ("a debt for nothing", |state| moved(state, house(Receivables), whose(1)), RECORDS),
        ("suspense without a coin", |state| moved(state, whose(1), house(Suspense)), RECORDS),
        ("two accounts at once", |state| moved(state, house(Clearing), house(Suspense)), &["books_records"; 2]),
        ("a hold that nothing names", |state| held(state, whose(1), house(InFlight), 5).1, HOLD),
        ("a withdrawal without its hold", |state| vec![rehold(state, None)], &["books_records", "books_hold"]),
        (
            "a withdrawal whose hold was released",
            |state| vec![Event::HoldReleased(HoldReleased { hold: open_hold(state) })],
            HOLD,
        ),
        (
            "a withdrawal whose hold is less than it pays",
            |state| {
                let (hold, mut events) = held(state, whose(1), house(InFlight), 5);
                events.push(Event::HoldReleased(HoldReleased { hold: open_hold(state) }));
                events.push(rehold(state, Some(hold)));
                events
            },
            HOLD,
        ),
        (
            "a withdrawal that another customer pays for",
            |state| {
                let amount = state.ledger().holds()[&open_hold(state)].transfer.amount;
                let (hold, mut events) = held(state, whose(2), house(InFlight), amount.units());
                events.push(Event::HoldReleased(HoldReleased { hold: open_hold(state) }));
                events.push(rehold(state, Some(hold)));
                events
            },
            HOLD,
        ),
        (
            "a withdrawal whose money went to fees",
            |state| {
                let amount = state.ledger().holds()[&open_hold(state)].transfer.amount;
                let (hold, mut events) = held(state, whose(1), house(Fees), amount.units());
                events.push(Event::HoldReleased(HoldReleased { hold: open_hold(state) }));
                events.push(rehold(state, Some(hold)));
                events
            },
            HOLD,
        ),
        (
            "a hold that two records name",
            |state| {
                let mut twin = state.withdrawals().values().next().unwrap().clone();
                twin.id = WithdrawalId([7; 16]);
                vec![Event::WithdrawalRequested(twin)]
            },
            HOLD,
        ),
        (
            "a pending deposit that counts as credited",
            |state| vec![told(state, DepositStatus::Credited)],
            &["books_records", "books_hold"],
        ),
        (
            "a pending deposit that is posted and stays pending",
            |state| {
                let deposit = pending(state);
                vec![Event::HoldPosted(HoldPosted { hold: deposit.hold.unwrap(), amount: deposit.amount })]
            },
            &["books_records", "books_hold"],
        ),
    ]
}

fn pending(state: &State) -> florin_core::custody::Deposit {
    state.deposits().values().find(|deposit| deposit.status == DepositStatus::Pending).unwrap().clone()
}

/// The pending deposit, told to stand elsewhere without a transfer.
fn told(state: &State, status: DepositStatus) -> Event {
    let deposit = pending(state);
    let (outpoint, at, missing_since, debited) = (deposit.outpoint, deposit.at, deposit.missing_since, deposit.debited);
    Event::DepositMoved(DepositMoved { outpoint, status, at, hold: None, missing_since, debited, due: None })
}

/// One deposit of each customer is credited, one pending, and a withdrawal waits.
fn waiting() -> Scene {
    let mut scene = Scene::new();
    scene.block(vec![receipt(1, 500_000, 0), receipt(2, 300_000, 2)], Vec::new());
    scene.blocks(3);
    scene.block(vec![receipt(3, 40_000, 1)], Vec::new());
    scene.withdraw(1, 100_000);
    scene
}

#[test]
fn rows_that_no_record_is_behind_are_found() {
    let scene = waiting();
    let report = scene.verified();
    assert_eq!((report.check_books(), check_books(scene.state())), (Vec::new(), Vec::new()));
    for (what, forgery, expected) in forgeries() {
        let report = judged(&scene.forged(forgery(scene.state())));
        let state = report.state.as_ref().unwrap();
        assert_eq!(codes(&check_books(state)), expected, "{what}");
        let (of_rows, of_state): (Vec<_>, Vec<_>) =
            report.check_books().into_iter().partition(|fault| matches!(fault, BookFault::Movement { .. }));
        assert_eq!(of_state, check_books(state), "{what}: whoever has the state alone finds it, too");
        let row = scene.platform.rows.all().last().unwrap().seq.next();
        let is_its = |fault: &BookFault| matches!(fault, BookFault::Movement { row: named, .. } if *named == row);
        assert!(of_rows.iter().all(is_its), "{what}: {of_rows:?}");
        assert!(report.check_books().iter().all(|fault| fault.asset(state) == Some(BTC)), "{what}: of which asset");
    }
}

/// A transfer between two owners of one asset, opening their accounts where they have none.
fn minted(state: &State, debit: Owner, credit: Owner, reason: TransferReason) -> Vec<Event> {
    let mut events = Vec::new();
    let transfer = Transfer { reason, ..movement(state, (debit, credit), 1_000, &mut events) };
    events.push(Event::TransfersPosted(TransfersPosted { transfers: vec![transfer] }));
    events
}

/// Money of a bank is with a customer and the house, and some of it has left the bank again.
fn bank_scene() -> Scene {
    const EUR: AssetId = AssetId(2);
    let mut scene = Scene::new();
    let asset = Asset { id: EUR, code: "EUR".to_owned(), decimals: 2, kind: AssetKind::Fiat, chain: None };
    scene.platform.must(Ask::internal(Command::DefineAsset(asset)));
    for (reference, beneficiary) in [("R1", Beneficiary::Customer(customer(1))), ("R2", Beneficiary::INVENTORY)] {
        let (reference, amount) = (reference.to_owned(), Amount::new(700));
        scene.request(Command::BookBankReceipt { reference, asset: EUR, amount, beneficiary });
    }
    let (reference, amount) = ("C1".to_owned(), Amount::new(30));
    let (debit, credit) = (whose(1), house(HouseAccount::Bank));
    scene.request(Command::BookCorrection { reference, asset: EUR, amount, debit, credit });
    scene
}

fn booked(first: Event, mut events: Vec<Event>) -> Vec<Event> {
    events.insert(0, first);
    events
}

#[test]
fn what_a_row_moves_has_to_be_what_it_says() {
    use HouseAccount::*;
    let scene = waiting();
    let row = scene.platform.rows.all().last().unwrap().seq.next();
    let state = scene.state();
    let found = |events: Vec<Event>| judged(&scene.forged(events)).check_books();
    let reasons = [TransferReason::NetworkFee, TransferReason::BankReceipt, TransferReason::Correction];
    let takings = [NetworkFees, Fees, Spread, Bank].map(|giver| (house(giver), whose(1)));
    let others = [(whose(1), whose(2)), (whose(1), house(Fees)), (whose(1), house(Inventory))];
    for (debit, credit) in takings.into_iter().chain(others) {
        for reason in reasons {
            let wrong = found(minted(state, debit.clone(), credit.clone(), reason));
            let expected = BookFault::Movement {
                row,
                asset: BTC,
                debit: debit.clone(),
                credit: credit.clone(),
                moved: Amount::new(1_000),
                said: Amount::ZERO,
            };
            assert_eq!(wrong, [expected], "{reason:?}");
        }
    }
    // One receipt, one correction: one transfer each, of the right kind.
    let receipt = || Event::BankReceiptBooked(BankReceiptBooked { reference: "R1".into() });
    let correction = || Event::CorrectionBooked(CorrectionBooked { reference: "C1".into() });
    let of_bank = || minted(state, house(Bank), whose(1), TransferReason::BankReceipt);
    let given = || minted(state, whose(1), whose(2), TransferReason::Correction);
    assert_eq!(codes(&found(booked(receipt(), of_bank()))), ["books_movement"], "coins arrive in blocks");
    assert_eq!(found(booked(correction(), given())), []);
    assert_eq!(codes(&found(booked(correction(), of_bank()))), ["books_movement"]);
    assert_eq!(codes(&found(booked(receipt(), given()))), ["books_movement"]);
    let twice = |events: Vec<Event>| events.iter().cloned().chain(events.last().cloned()).collect::<Vec<_>>();
    assert_eq!(codes(&found(booked(correction(), twice(given())))), ["books_movement"]);
    let unbooked = minted(state, house(NetworkFees), whose(2), TransferReason::Correction);
    assert_eq!(codes(&found(booked(correction(), unbooked))), ["books_movement"]);
    let fiat = bank_scene();
    assert_eq!(fiat.verified().check_books(), [], "a receipt for a customer, one for the house, and a correction");
    // What is opened is empty.
    let ids = [0, 1].map(|more| AccountId(state.ledger().next_account().0 + more));
    let mut accounts = [(house(NetworkFees), ids[0]), (whose(9), ids[1])].map(|(owner, id)| {
        let rule = owner.rule().unwrap();
        Account::new(id, owner, BTC, rule)
    });
    accounts[0].debits_posted = Amount::new(7);
    accounts[1].credits_posted = Amount::new(7);
    let wrong = found(accounts.map(Event::AccountOpened).to_vec());
    assert_eq!(wrong, ids.map(|account| BookFault::Opened { account, asset: BTC }));
}

/// A withdrawal is planned, and its plan signed or not.
fn planned(is_signed: bool) -> (Scene, WithdrawalId) {
    let mut scene = waiting();
    scene.blocks(6);
    let withdrawal = scene.withdraw(1, 299_000);
    scene.plan(2, withdrawal);
    if is_signed {
        let (plan, version, signed, txid) = (PlanId(1), 0, Bytes(vec![2]), TxId([30; 32]));
        scene.platform.must(Ask::internal(Command::RecordSigned { plan, version, signed, txid }));
    }
    (scene, withdrawal)
}

/// Its money goes back to the customer, fee and all.
fn given_back(state: &State, id: WithdrawalId) -> Event {
    let withdrawal = &state.withdrawals()[&id];
    let (amount, fee) = (withdrawal.amount, withdrawal.fee);
    let customer = || Owner::Customer(withdrawal.customer);
    let transfer = |from: HouseAccount, amount| Transfer {
        amount,
        reason: TransferReason::Reversal,
        ..movement(state, (house(from), customer()), 1, &mut Vec::new())
    };
    let transfers = vec![transfer(HouseAccount::InFlight, amount), transfer(HouseAccount::Fees, fee)];
    let transfers = transfers.into_iter().filter(|transfer| !transfer.amount.is_zero()).collect();
    Event::TransfersPosted(TransfersPosted { transfers })
}

#[test]
fn a_withdrawal_stands_where_its_plan_does() {
    for is_signed in [false, true] {
        let (scene, withdrawal) = planned(is_signed);
        let state = scene.state();
        let plan = PlanId(1);
        assert_eq!((scene.verified().check_books(), check_books(state)), (Vec::new(), Vec::new()));
        let moved =
            |status, plan| Event::WithdrawalMoved(WithdrawalMoved { withdrawal, status, hold: None, plan, paid: None });
        let ended = |status, paid| Event::PlanMoved(PlanMoved { plan, status, paid, receipt: None });
        let found = |events| {
            let report = judged(&scene.forged(events));
            (codes(&report.check_books()), codes(&check_books(report.state.as_ref().unwrap())))
        };
        let both = (vec!["books_plan"], vec!["books_plan"]);
        let refunded = WithdrawalStatus::Refunded;
        let queued = WithdrawalStatus::Queued;
        assert_eq!(found(vec![given_back(state, withdrawal), moved(refunded, None)]), both, "and still to be paid");
        assert_eq!(found(vec![given_back(state, withdrawal), moved(refunded, Some(plan))]), both);
        assert_eq!(found(vec![moved(queued, None)]), both, "two plans would pay it");
        let other = if is_signed { WithdrawalStatus::Signing } else { WithdrawalStatus::Signed };
        assert_eq!(found(vec![moved(other, Some(plan))]), both);
        let voided = vec![ended(PlanStatus::Voided, None), moved(queued, None)];
        let right = (Vec::new(), Vec::new());
        assert_eq!(found(voided), if is_signed { both } else { right }, "what is signed is not given up");
        let tip = state.chains()[&CHAIN].tip().unwrap().at;
        let by = Payment { txid: TxId([31; 32]), at: tip };
        let conflicted =
            vec![ended(PlanStatus::Conflicted, Some(by)), moved(refunded, Some(plan)), given_back(state, withdrawal)];
        assert_eq!(found(conflicted), (vec!["books_conflict"], Vec::new()), "its input is there");
    }
}

fn issued(path: KeyPath, script: Vec<u8>) -> Event {
    let (beneficiary, issued) = (Beneficiary::Customer(customer(1)), LedgerTime(0));
    Event::AddressIssued(Address { path, script: Bytes(script), beneficiary, issued, used: false })
}

#[test]
fn an_address_that_its_descriptor_does_not_give_is_named_with_its_row() {
    let scene = waiting();
    let report = check_addresses(scene.state(), |_| ());
    assert_eq!((report.derived, report.unknown, report.wrong), (3, 0, Vec::new()));
    let change = KeyPath { branch: Branch::Internal, ..path(0) };
    let rows = scene.forged(vec![issued(path(3), vec![0x51; 34]), issued(change, vec![0x52; 34])]);
    let state = judged(&rows).state.unwrap();
    let report = check_addresses(&state, |_| ());
    assert_eq!(report.derived, 3);
    let wrong: Vec<(&str, KeyPath)> = report.wrong.iter().map(|fault| (fault.code(), fault.path())).collect();
    assert_eq!(wrong, [("address_not_derived", path(3)), ("address_not_derived", change)]);
    let AddressFault::NotDerived { script, derived, .. } = &report.wrong[0] else { panic!("{:?}", report.wrong) };
    assert!(*script == "51".repeat(34) && derived.starts_with("0014") && derived.len() == 44, "{derived}");
    let paths = BTreeSet::from([path(0), path(3)]);
    let head = rows.all().last().unwrap().seq;
    let of = |end: Seq| issuing_rows(&mut rows.clone(), end, &paths).unwrap();
    let first = of(head)[&path(0)];
    assert_eq!(of(head), BTreeMap::from([(path(0), first), (path(3), head)]));
    assert_eq!(of(Seq(head.0 - 1)), BTreeMap::from([(path(0), first)]), "rows behind the end are not looked at");
}

/// A thief takes a coin that a plan has, pays the plan's withdrawal all the same, and takes a coin in suspense.
pub(super) fn robbed() -> Scene {
    let mut scene = waiting();
    scene.blocks(6);
    let withdrawal = scene.state().withdrawals().keys().next().copied().unwrap();
    scene.request(Command::CancelWithdrawal { withdrawal });
    let withdrawal = scene.withdraw(1, 299_000);
    scene.plan(2, withdrawal);
    scene.platform.must(Ask::internal(Command::RetireWallet(WALLET)));
    // Nobody was told to pay it any more.
    scene.block(vec![receipt(4, 70_000, 0), receipt(5, 9_000, 0)], Vec::new());
    let paid = (elsewhere(), Amount::new(299_000));
    scene.block(Vec::new(), vec![spend(20, &[2], vec![paid, (Bytes(vec![0x51]), Amount::new(5))])]);
    scene.block(Vec::new(), vec![spend(21, &[4], vec![(Bytes(vec![0x51]), Amount::new(6))])]);
    scene.blocks(6);
    assert_eq!(scene.state().withdrawals()[&withdrawal].status, WithdrawalStatus::Final, "the thief paid it");
    assert!(scene.state().plans().values().all(|plan| plan.status == PlanStatus::Conflicted));
    scene
}

pub(super) fn balances(state: &State) -> [u128; 2] {
    [HouseAccount::Shortfall, HouseAccount::Suspense].map(|account| {
        let account = state.ledger().account_of(&house(account), BTC).unwrap();
        account.debit_balance().units() + account.credit_balance().units()
    })
}

#[test]
fn what_was_stolen_or_is_in_suspense_is_right_after_its_records_have_left() {
    let mut scene = robbed();
    // A thousand of the coin with which the withdrawal was paid, and all of the other one, which was nobody's before.
    assert_eq!(balances(scene.state()), [1_000 + 70_000, 79_000]);
    let find = |scene: &Scene| {
        let rows = scene.forged(moved(scene.state(), house(HouseAccount::Shortfall), whose(1)));
        let report = judged(&rows);
        (codes(&report.check_books()), codes(&check_books(report.state.as_ref().unwrap())))
    };
    assert_eq!(find(&scene), (vec!["books_records", "books_movement"], vec!["books_records"]));
    // Nothing leaves before its block: a record that is gone while all blocks are there was taken out by somebody.
    let gone = Event::CoinRemoved(CoinChanged { outpoint: output(4) });
    let report = judged(&scene.forged(vec![gone]));
    let state = report.state.as_ref().unwrap();
    assert!(state.chains()[&CHAIN].archived.count > 0 && state.chains()[&CHAIN].blocks.contains_key(&Height(0)));
    assert_eq!(codes(&check_books(state)), ["books_records"; 2]);
    scene.blocks(KEPT_BLOCKS + 2);
    let state = scene.state();
    assert_eq!((state.coins().contains_key(&output(2)), state.coins().contains_key(&output(4))), (false, false));
    assert!(state.plans().is_empty(), "what was archived is not in the state");
    assert_eq!(balances(state), [71_000, 79_000], "and stands in the books for ever");
    assert_eq!((scene.verified().check_books(), check_books(state)), (Vec::new(), Vec::new()));
    // The state alone can't tell any more how much was stolen; the journal can.
    assert_eq!(find(&scene), (vec!["books_records", "books_movement"], Vec::new()));
    // That suspense has less than the coins that are left in it, or somebody money of no deposit, it can.
    let least = |debit, credit| {
        let rows = scene.forged(vec![Event::TransfersPosted(TransfersPosted {
            transfers: vec![movement(state, (debit, credit), 70_001, &mut Vec::new())],
        })]);
        codes(&check_books(judged(&rows).state.as_ref().unwrap()))
    };
    assert_eq!(least(house(HouseAccount::Suspense), whose(1)), ["books_records"], "9,000 are left in suspense");
    assert_eq!(least(house(HouseAccount::Clearing), whose(1)), ["books_records"]);
}
