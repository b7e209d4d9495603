//! The search tables on both databases: exactly once, rebuilt to the same, paged without gap, compared with a naive fold.

mod common;

use common::Maria;
use florin_core::amount::Amount;
use florin_core::broker::{Pair, Price, Quote, Side};
use florin_core::custody::{
    Address, Beneficiary, BlockRef, Branch, Deposit, DepositStatus, Intent, KeyPath, OutPoint, Payment, Withdrawal,
    WithdrawalStatus,
};
use florin_core::event::{DepositMoved, Event, HoldPosted, HoldReleased, QuoteEnded, TransfersPosted, WithdrawalMoved};
use florin_core::id::*;
use florin_core::journal::{Batch, Entry, Row, SnapshotChunk, SnapshotHeader, state_hash};
use florin_core::ledger::{Account, BalanceRule, Hold, Owner, Transfer, TransferReason};
use florin_core::wire::{Bytes, Message};
use florin_store::conformance::Random;
use florin_store::projection::query::{
    DepositKey, DepositRecord, EventRecord, Extent, Page, QuoteStatus, TransferRecord, WithdrawalRecord,
};
use florin_store::projection::{ApplyAnswer, FILE, Place, Projection, ProjectionError, Subject};
use florin_store::snapshots::VerifiedSnapshot;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

const CUSTOMER: CustomerId = CustomerId([7; 16]);
const FIRST: Page = Page { before: None, count: 1_000 };

fn most(count: u32) -> Extent {
    Extent::of_all(count)
}

/// Runs the test on fresh tables of each database.
fn on_each(test: impl Fn(&mut Projection)) {
    let folder = TempDir::new().expect("a folder can be made");
    eprintln!("SQLite");
    test(&mut Projection::open_sqlite(&folder.path().join(FILE)).expect("the tables open"));
    eprintln!("MariaDB");
    let maria = Maria::fresh();
    test(&mut Projection::open_maria(&maria.server).expect("the tables open"));
}

/// A journal that grows.
#[derive(Default)]
struct Rows(Vec<(Row, Batch)>);

impl Rows {
    fn push(&mut self, events: Vec<Event>) -> (Row, Batch) {
        let (seq, previous) = self.0.last().map_or((Seq::START, Digest::ZERO), |(row, _)| (row.seq, row.hash));
        let command = (seq.0 % 2 == 0).then_some(CommandId([seq.0 as u8; 16]));
        let batch = Batch { entries: vec![Entry { command, request: None, events, outcome: None }] };
        let row = Row::seal(seq.next(), Epoch(1), LedgerTime(1_000 + seq.0), previous, batch.encode());
        self.0.push((row, batch));
        self.0[self.0.len() - 1].clone()
    }
}

fn account(id: u64, owner: Owner) -> Event {
    let zero = Amount::ZERO;
    Event::AccountOpened(Account {
        id: AccountId(id),
        owner,
        asset: AssetId(1),
        rule: BalanceRule::Free,
        debits_posted: zero,
        credits_posted: zero,
        debits_pending: zero,
        credits_pending: zero,
    })
}

fn transfer(debit: u64, credit: u64, units: u128) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer { debit, credit, amount: Amount::new(units), reason: TransferReason::Plain }
}

fn posted(transfers: Vec<Transfer>) -> Event {
    Event::TransfersPosted(TransfersPosted { transfers })
}

fn outpoint(number: u8) -> OutPoint {
    OutPoint { chain: ChainId(1), txid: TxId([number; 32]), vout: 3 }
}

fn deposit(number: u8, customer: Option<CustomerId>) -> Deposit {
    Deposit {
        outpoint: outpoint(number),
        beneficiary: customer.map_or(Beneficiary::INVENTORY, Beneficiary::Customer),
        amount: Amount::new(u128::MAX - u128::from(number)),
        status: DepositStatus::Seen,
        at: None,
        hold: None,
        seen: LedgerTime(5),
        missing_since: None,
        debited: Amount::ZERO,
        coinbase: false,
        path: KeyPath { wallet: WalletId(1), branch: Branch::External, index: 9 },
        due: None,
    }
}

fn moved(number: u8, status: DepositStatus, at: Option<BlockRef>) -> Event {
    let (hold, missing_since, debited, due) = (None, None, Amount::new(4), None);
    Event::DepositMoved(DepositMoved { outpoint: outpoint(number), status, at, hold, missing_since, debited, due })
}

fn withdrawal(number: u8) -> Withdrawal {
    let (id, script) = (WithdrawalId([number; 16]), Bytes(vec![0, 20, number]));
    let (amount, expiry) = (Amount::new(1_000), LedgerTime(9_000));
    let intent = Intent {
        platform: [1; 16],
        wallet: WalletId(1),
        genesis: BlockHash([2; 32]),
        asset: AssetId(1),
        script: script.clone(),
        amount,
        fee_max: Amount::new(50),
        expiry,
        withdrawal: id,
    };
    Withdrawal {
        id,
        customer: CUSTOMER,
        asset: AssetId(1),
        amount,
        fee: Amount::new(10),
        script,
        status: WithdrawalStatus::Queued,
        hold: Some(HoldId(1)),
        intent,
        approvals: Vec::new(),
        plan: None,
        requested: LedgerTime(77),
        paid: None,
    }
}

const BLOCK: BlockRef = BlockRef { height: Height(100), hash: BlockHash([9; 32]) };

/// A deposit and a withdrawal from beginning to end.
fn story() -> Rows {
    let mut rows = Rows::default();
    rows.push(vec![
        account(0, Owner::Customer(CUSTOMER)),
        account(1, Owner::Plain(1)),
        account(2, Owner::Custody(WalletId(1))),
        Event::AddressIssued(address(deposit(1, None).path, Beneficiary::Customer(CUSTOMER))),
    ]);
    rows.push(vec![Event::DepositSeen(deposit(1, Some(CUSTOMER))), Event::DepositSeen(deposit(2, None))]);
    rows.push(vec![
        moved(1, DepositStatus::Pending, Some(BLOCK)),
        Event::HoldPlaced(Hold { id: HoldId(0), transfer: transfer(2, 0, 500) }),
    ]);
    rows.push(vec![
        Event::HoldPosted(HoldPosted { hold: HoldId(0), amount: Amount::new(400) }),
        moved(1, DepositStatus::Credited, Some(BLOCK)),
        posted(vec![transfer(0, 1, 30), transfer(1, 0, 5)]),
    ]);
    rows.push(vec![
        Event::HoldPlaced(Hold { id: HoldId(1), transfer: transfer(0, 2, 100) }),
        Event::WithdrawalRequested(withdrawal(1)),
        Event::HoldPlaced(Hold { id: HoldId(2), transfer: transfer(0, 2, 7) }),
        Event::HoldReleased(HoldReleased { hold: HoldId(2) }),
    ]);
    let paid = Some(Payment { txid: TxId([8; 32]), at: BLOCK });
    let (status, plan) = (WithdrawalStatus::Confirmed, Some(PlanId(4)));
    let id = WithdrawalId([1; 16]);
    rows.push(vec![Event::WithdrawalMoved(WithdrawalMoved { withdrawal: id, status, hold: None, plan, paid })]);
    rows
}

fn apply_all(tables: &mut Projection, rows: &Rows) {
    for (row, batch) in &rows.0 {
        assert_eq!(tables.apply(row, batch).expect("the row fits"), ApplyAnswer::Applied);
    }
}

fn of_customer(tables: &mut Projection) -> Vec<Account> {
    let accounts = tables.accounts_after(None, 100).expect("answers");
    accounts.into_iter().filter(|account| account.owner == Owner::Customer(CUSTOMER)).collect()
}

#[test]
fn a_deposit_and_a_withdrawal_can_be_found_in_every_way() {
    on_each(|tables| {
        let rows = story();
        apply_all(tables, &rows);
        assert_eq!(tables.cursor().expect("answers"), (Seq(6), rows.0[5].0.hash));

        let mine = of_customer(tables);
        let sums = |account: &Account| {
            [account.debits_posted, account.credits_posted, account.debits_pending, account.credits_pending]
                .map(Amount::units)
        };
        assert_eq!(mine.iter().map(sums).collect::<Vec<_>>(), [[30, 405, 100, 0]]);
        let custody = &tables.accounts_after(Some(AccountId(1)), 9).expect("answers")[0];
        assert_eq!((custody.owner.clone(), sums(custody)), (Owner::Custody(WalletId(1)), [400, 0, 0, 100]));

        let deposits = tables.deposits(Some(CUSTOMER), None, most(9)).expect("answers");
        assert_eq!(deposits.len(), 1);
        assert_eq!((deposits[0].outpoint, deposits[0].status), (outpoint(1), DepositStatus::Credited));
        assert_eq!((deposits[0].at, deposits[0].amount), (Some(BLOCK), Amount::new(u128::MAX - 1)));
        assert_eq!((deposits[0].place.seq(), deposits[0].changed.seq()), (Seq(2), Seq(4)));
        let all = tables.deposits(None, None, most(9)).expect("answers");
        assert_eq!(all.len(), 2);
        let house: Vec<_> = all.iter().filter(|found| found.customer.is_none()).collect();
        assert_eq!(
            house.iter().map(|found| (found.status, found.at)).collect::<Vec<_>>(),
            [(DepositStatus::Seen, None)]
        );
        assert_eq!(tables.deposit(outpoint(1)).expect("answers").as_ref(), Some(&deposits[0]));
        assert_eq!(tables.deposit(outpoint(99)).expect("answers"), None);
        assert_eq!(tables.deposits(Some(CustomerId([8; 16])), None, most(9)).expect("answers"), []);

        let record = WithdrawalRecord {
            place: Place::new(Seq(5), 1).expect("in range"),
            changed: Place::new(Seq(6), 0).expect("in range"),
            id: WithdrawalId([1; 16]),
            customer: CUSTOMER,
            asset: AssetId(1),
            amount: Amount::new(1_000),
            fee: Amount::new(10),
            script: Bytes(vec![0, 20, 1]),
            status: WithdrawalStatus::Confirmed,
            plan: Some(PlanId(4)),
            requested: LedgerTime(77),
            paid: Some((TxId([8; 32]), BLOCK)),
        };
        assert_eq!(tables.withdrawal(record.id).expect("answers").as_ref(), Some(&record));
        assert_eq!(tables.withdrawals(Some(CUSTOMER), None, most(9)).expect("answers"), [record]);
        assert_eq!(tables.withdrawals(None, Some(WithdrawalId([1; 16])), most(9)).expect("answers"), []);
        assert_eq!(tables.withdrawal(WithdrawalId([2; 16])).expect("answers"), None);

        let history = tables.history(Subject::OutPoint(outpoint(1)), None, 9).expect("answers");
        let expected = [&rows.0[1], &rows.0[2], &rows.0[3]].map(|(_, batch)| &batch.entries[0].events);
        let expected = [&expected[0][0], &expected[1][0], &expected[2][1]];
        assert_eq!(history.iter().map(|record| &record.event).collect::<Vec<_>>(), expected);
        let later = tables.history(Subject::OutPoint(outpoint(1)), Some(history[0].place), 1).expect("answers");
        assert_eq!(later, history[1..2]);
        let by_command = tables.history(Subject::Uuid([2; 16]), None, 9).expect("answers");
        assert_eq!(by_command.len(), 2);
        assert_eq!(by_command[0].command, Some(CommandId([2; 16])));
    });
}

#[test]
fn each_row_is_taken_in_once_and_only_in_its_turn() {
    on_each(|tables| {
        let rows = story();
        let (later, batch) = &rows.0[1];
        let error = tables.apply(later, batch).expect_err("row 2 before row 1");
        assert!(matches!(error, ProjectionError::Gap { expected: Seq(1), found: Seq(2) }), "{error}");
        apply_all(tables, &rows);
        let before = tables.transfers(AccountId(0), FIRST).expect("answers");
        for (row, batch) in &rows.0 {
            assert_eq!(tables.apply(row, batch).expect("answers"), ApplyAnswer::Already);
        }
        assert_eq!(tables.transfers(AccountId(0), FIRST).expect("answers"), before);
        assert_eq!(before.len(), 3);

        let mut foreign = rows.0[5].0.clone();
        foreign.hash = Digest([1; 32]);
        assert_eq!(tables.apply(&foreign, batch).expect_err("foreign").code(), "projection_foreign_row");
        let unlinked = Row::seal(Seq(7), Epoch(1), LedgerTime(1), Digest([1; 32]), Vec::new());
        assert_eq!(tables.apply(&unlinked, batch).expect_err("foreign").code(), "projection_foreign_row");
    });
}

#[test]
fn a_row_that_can_not_be_taken_in_changes_nothing() {
    on_each(|tables| {
        let mut rows = story();
        apply_all(tables, &rows);
        let cursor = tables.cursor().expect("answers");
        let transfers = tables.transfers(AccountId(0), FIRST).expect("answers");
        let bad = [
            (posted(vec![transfer(0, 99, 1)]), "projection_missing_record"),
            (moved(77, DepositStatus::Credited, None), "projection_missing_record"),
            (Event::HoldReleased(HoldReleased { hold: HoldId(2) }), "projection_missing_record"),
            (posted(vec![transfer(0, 1, u128::MAX)]), "projection_sums"),
        ];
        for (event, code) in bad {
            let (row, batch) = rows.push(vec![posted(vec![transfer(0, 1, 1)]), event]);
            rows.0.pop();
            assert_eq!(tables.apply(&row, &batch).expect_err("a bad row").code(), code);
            assert_eq!(tables.cursor().expect("answers"), cursor);
            assert_eq!(tables.transfers(AccountId(0), FIRST).expect("answers"), transfers);
        }
        let (row, batch) = rows.push(vec![posted(vec![transfer(0, 1, 1)])]);
        assert_eq!(tables.apply(&row, &batch).expect("a good row"), ApplyAnswer::Applied);
    });
}

/// Many transfers, in rows of any size up to more than one `INSERT` takes.
fn random_rows(seed: u64) -> Rows {
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    let mut rows = Rows::default();
    rows.push((0..20).map(|id| account(id, Owner::Plain(id))).collect());
    for size in [1, 3, 700, 40, 1_200, 2] {
        let transfers = (0..size).map(|_| {
            let debit = random.below(20);
            transfer(debit, (debit + 1 + random.below(19)) % 20, u128::from(random.below(1 << 40)) + 1)
        });
        rows.push(vec![posted(transfers.collect())]);
    }
    rows
}

#[test]
fn pages_of_transfers_and_sums_of_accounts_match_a_naive_fold() {
    on_each(|tables| {
        let rows = random_rows(11);
        apply_all(tables, &rows);
        let mut sums: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
        let mut lists: BTreeMap<AccountId, Vec<Transfer>> = BTreeMap::new();
        for (_, batch) in &rows.0 {
            let Event::TransfersPosted(posted) = &batch.entries[0].events[0] else { continue };
            for transfer in &posted.transfers {
                sums.entry(transfer.debit).or_default().0 += transfer.amount.units();
                sums.entry(transfer.credit).or_default().1 += transfer.amount.units();
                lists.entry(transfer.debit).or_default().push(*transfer);
                lists.entry(transfer.credit).or_default().push(*transfer);
            }
        }
        for account in tables.accounts_after(None, 100).expect("answers") {
            let found = (account.debits_posted.units(), account.credits_posted.units());
            assert_eq!(found, sums[&account.id], "account {}", account.id);
        }
        for (id, list) in &lists {
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let page = tables.transfers(*id, Page { before, count: 70 }).expect("answers");
                let Some(last) = page.last() else { break };
                before = Some(last.place);
                found.extend(page);
            }
            let places: BTreeSet<Place> = found.iter().map(|record| record.place).collect();
            assert_eq!(places.len(), found.len(), "a transfer came twice");
            let naive = list.iter().rev().map(|transfer| (transfer.debit, transfer.credit, transfer.amount));
            assert!(naive.eq(found.iter().map(|record| (record.debit, record.credit, record.amount))), "account {id}");
        }
    });
}

/// Reads a list page by page, each beginning after the last record of the one before.
fn paged<R, K: Copy>(mut read: impl FnMut(Option<K>) -> Vec<R>, key: impl Fn(&R) -> K) -> Vec<K> {
    let mut keys: Vec<K> = Vec::new();
    loop {
        let page = read(keys.last().copied());
        if page.is_empty() {
            return keys;
        }
        keys.extend(page.iter().map(&key));
    }
}

fn quote(number: u8, customer: CustomerId) -> Quote {
    let pair = Pair { base: AssetId(1), quote: AssetId(2) };
    let unit = Amount::new(1);
    let price = Price {
        pair,
        quote_units: unit,
        base_units: unit,
        as_of: LedgerTime(1),
        age_max_ms: 1,
        spread_bp: 1,
        quote_ms: 1,
    };
    let (id, expiry) = (QuoteId([number; 16]), LedgerTime(9));
    Quote { id, customer, pair, side: Side::Buy, base: unit, quote: unit, spread: unit, expiry, price }
}

#[test]
fn pages_of_records_match_a_naive_sort_whatever_order_they_came_in() {
    on_each(|tables| {
        let seed = 23;
        eprintln!("seed {seed}");
        let mut random = Random::new(seed);
        let (mut rows, other) = (Rows::default(), CustomerId([8; 16]));
        let mut numbers: Vec<u8> = (1..=120).collect();
        let (mut deposits, mut withdrawals, mut quotes) = (Vec::new(), Vec::new(), Vec::new());
        while !numbers.is_empty() {
            let number = numbers.swap_remove(random.below(numbers.len() as u64) as usize);
            let customer = [CUSTOMER, other][random.below(2) as usize];
            // Few moments for many deposits, so that many of them have the same one.
            let mut seen = deposit(number, Some(customer));
            (seen.seen, seen.outpoint.vout) = (LedgerTime(random.below(5)), random.below(1 << 32) as u32);
            let asked = Withdrawal { customer, ..withdrawal(number) };
            let key = DepositKey { seen: seen.seen, outpoint: seen.outpoint };
            deposits.push((key, customer));
            withdrawals.push((asked.id, customer));
            quotes.push((QuoteId([number; 16]), customer));
            let offered = Event::QuoteOffered(quote(number, customer));
            rows.push(vec![Event::DepositSeen(seen), Event::WithdrawalRequested(asked), offered]);
        }
        for (number, accepted) in [(3, true), (4, false)] {
            rows.push(vec![Event::QuoteEnded(QuoteEnded { quote: QuoteId([number; 16]), accepted })]);
        }
        apply_all(tables, &rows);
        deposits.sort_unstable_by_key(|(key, _)| std::cmp::Reverse(*key));
        withdrawals.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        quotes.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        for customer in [None, Some(CUSTOMER), Some(other)] {
            let is_of = |owner: &CustomerId| customer.is_none_or(|customer| customer == *owner);
            let key = |record: &DepositRecord| DepositKey { seen: record.seen, outpoint: record.outpoint };
            let found = paged(|before| tables.deposits(customer, before, most(7)).expect("answers"), key);
            assert!(found.iter().eq(deposits.iter().filter(|(_, owner)| is_of(owner)).map(|(key, _)| key)));
            let found =
                paged(|before| tables.withdrawals(customer, before, most(7)).expect("answers"), |record| record.id);
            assert!(found.iter().eq(withdrawals.iter().filter(|(_, owner)| is_of(owner)).map(|(id, _)| id)));
            let Some(customer) = customer else { continue };
            let found =
                paged(|before| tables.quotes(customer, before, most(7)).expect("answers"), |record| record.quote.id);
            assert!(found.iter().eq(quotes.iter().filter(|(_, owner)| is_of(owner)).map(|(id, _)| id)));
        }
        let status = |tables: &mut Projection, number| {
            let found = tables.quote(QuoteId([number; 16])).expect("answers");
            found.map(|record| record.status)
        };
        let expected = [Some(QuoteStatus::Accepted), Some(QuoteStatus::Ended), Some(QuoteStatus::Open), None];
        assert_eq!([3, 4, 5, 200].map(|number| status(tables, number)), expected);
        // A moment that no table can hold is later than all.
        let never = DepositKey { seen: LedgerTime(u64::MAX), outpoint: outpoint(255) };
        assert_eq!(tables.deposits(None, Some(never), most(1_000)).expect("answers").len(), 120);
    });
}

fn address(path: KeyPath, beneficiary: Beneficiary) -> Address {
    let script = Bytes(path.encode());
    Address { path, script, beneficiary, issued: LedgerTime(1), used: false }
}

#[test]
fn pages_of_addresses_are_in_order_of_wallet_branch_and_index() {
    on_each(|tables| {
        let seed = 31;
        eprintln!("seed {seed}");
        let mut random = Random::new(seed);
        let owners =
            [Beneficiary::Customer(CUSTOMER), Beneficiary::Customer(CustomerId([8; 16])), Beneficiary::INVENTORY];
        let mut issued: BTreeMap<KeyPath, Beneficiary> = BTreeMap::new();
        for _ in 0..400 {
            // Numbers that differ in each of their bytes.
            let mut number = || (random.below(4) as u32) << (8 * random.below(4));
            let (wallet, index) = (WalletId(number()), number());
            let branch = Branch::ALL[random.below(2) as usize];
            let owner = owners[random.below(3) as usize].clone();
            issued.insert(KeyPath { wallet, branch, index }, owner);
        }
        let mut rows = Rows::default();
        let mut events: Vec<Event> =
            issued.iter().map(|(path, owner)| Event::AddressIssued(address(*path, owner.clone()))).collect();
        while !events.is_empty() {
            let event = events.swap_remove(random.below(events.len() as u64) as usize);
            rows.push(vec![event]);
        }
        apply_all(tables, &rows);
        for owner in &owners {
            let Beneficiary::Customer(customer) = *owner else { continue };
            let found = paged(|after| tables.addresses(customer, after, most(7)).expect("answers"), |path| *path);
            assert!(found.iter().eq(issued.iter().filter(|(_, of)| *of == owner).map(|(path, _)| path)));
            assert!(found.len() > 50);
        }
        assert_eq!(tables.addresses(CustomerId([9; 16]), None, most(7)).expect("answers"), []);
    });
}

#[test]
fn a_page_has_what_began_up_to_a_row_and_is_full() {
    on_each(|tables| {
        let mut rows = Rows::default();
        let path = |number: u8| KeyPath { wallet: WalletId(1), branch: Branch::External, index: 9 - u32::from(number) };
        for number in 1..=6 {
            let seen = LedgerTime(number.into());
            rows.push(vec![
                Event::DepositSeen(Deposit { seen, ..deposit(number, Some(CUSTOMER)) }),
                Event::WithdrawalRequested(withdrawal(number)),
                Event::QuoteOffered(quote(number, CUSTOMER)),
                Event::AddressIssued(address(path(number), Beneficiary::Customer(CUSTOMER))),
            ]);
        }
        // Whatever becomes of one, it began where it began.
        rows.push(vec![
            moved(1, DepositStatus::Pending, Some(BLOCK)),
            Event::QuoteEnded(QuoteEnded { quote: QuoteId([1; 16]), accepted: true }),
        ]);
        apply_all(tables, &rows);
        for (owner, row) in [None, Some(CUSTOMER)].into_iter().flat_map(|owner| (0..=8).map(move |row| (owner, row))) {
            let extent = Extent { count: 2, until: Seq(row) };
            let newest: Vec<u8> = (1..=6).rev().filter(|number| u64::from(*number) <= row).take(2).collect();
            let found = tables.deposits(owner, None, extent).expect("answers");
            let outpoints: Vec<OutPoint> = newest.iter().map(|number| outpoint(*number)).collect();
            assert_eq!(found.iter().map(|record| record.outpoint).collect::<Vec<_>>(), outpoints, "row {row}");
            let found = tables.withdrawals(owner, None, extent).expect("answers");
            assert!(found.iter().map(|record| record.id.0[0]).eq(newest.iter().copied()), "row {row}");
            let found = tables.quotes(CUSTOMER, None, extent).expect("answers");
            assert!(found.iter().map(|record| record.quote.id.0[0]).eq(newest.iter().copied()), "row {row}");
            // Of these the newest come first, because each has a smaller index than the one before.
            let found = tables.addresses(CUSTOMER, None, extent).expect("answers");
            assert!(found.iter().eq(newest.iter().map(|number| path(*number)).collect::<Vec<_>>().iter()), "row {row}");
        }
    });
}

type Everything = (
    Vec<Account>,
    Vec<TransferRecord>,
    Vec<DepositRecord>,
    Vec<WithdrawalRecord>,
    Vec<EventRecord>,
    Vec<KeyPath>,
    (Seq, Digest),
);

fn everything(tables: &mut Projection) -> Everything {
    (
        tables.accounts_after(None, 100).expect("answers"),
        tables.transfers(AccountId(0), FIRST).expect("answers"),
        tables.deposits(None, None, most(9)).expect("answers"),
        tables.withdrawals(None, None, most(9)).expect("answers"),
        tables.history(Subject::Uuid(CUSTOMER.0), None, 99).expect("answers"),
        tables.addresses(CUSTOMER, None, most(9)).expect("answers"),
        tables.cursor().expect("answers"),
    )
}

/// What an older build left behind, and the tables as this build opens them.
fn older(open: impl Fn() -> Projection, run: impl Fn(&str), count: impl Fn(&str) -> u32, left: &[&str]) {
    let rows = story();
    let mut tables = open();
    apply_all(&mut tables, &rows);
    let before = everything(&mut tables);
    drop(tables);
    for sql in ["UPDATE reader SET id = 1", "DROP TABLE addresses"].iter().chain(left) {
        run(sql);
    }
    // That build's projector still runs on another machine, and goes on where it finds its cursor.
    let finds_cursor = || count("SELECT COUNT(*) FROM reader WHERE id = 1") > 0;
    assert!(finds_cursor());
    let mut tables = open();
    assert_eq!(tables.cursor().expect("answers"), (Seq::START, Digest::ZERO));
    assert_eq!(tables.deposits(None, None, most(9)).expect("answers"), []);
    assert!(!finds_cursor(), "before the first row");
    for (row, batch) in &rows.0 {
        assert_eq!(tables.apply(row, batch).expect("the row fits"), ApplyAnswer::Applied);
        assert!(!finds_cursor(), "after row {}", row.seq);
    }
    assert_eq!(everything(&mut tables), before);
    drop(tables);
    assert_eq!(everything(&mut open()), before, "once");
}

const ADDRESSES_WITHOUT_PLACE: &str =
    "CREATE TABLE addresses (customer BINARY(16) NOT NULL, path VARBINARY(64) NOT NULL, PRIMARY KEY (customer, path))";

#[test]
fn tables_of_an_older_build_are_filled_anew_and_its_projector_finds_no_cursor() {
    for (version, left) in [(2, &[][..]), (3, &[ADDRESSES_WITHOUT_PLACE])] {
        eprintln!("step {version}, SQLite");
        let folder = TempDir::new().expect("a folder can be made");
        let path = folder.path().join(FILE);
        let connect = || rusqlite::Connection::open(&path).expect("the file opens");
        let run = |sql: &str| connect().execute_batch(sql).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
        let count = |sql: &str| connect().query_row(sql, [], |row| row.get(0)).expect("a number");
        let open = || Projection::open_sqlite(&path).expect("the tables open");
        older(open, run, count, &[left, &[&format!("PRAGMA user_version = {version}")]].concat());

        eprintln!("step {version}, MariaDB");
        let maria = Maria::fresh();
        let connect = || {
            let opts = mysql::Opts::from_url(&common::maria_url()).expect("the address is one");
            let mut conn = mysql::Conn::new(opts).expect("the server answers");
            conn.query_drop(format!("USE {}_projection", maria.prefix)).expect("it is there");
            conn
        };
        let run = |sql: &str| connect().query_drop(sql).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
        let count = |sql: &str| connect().query_first(sql).expect("an answer").expect("a number");
        let open = || Projection::open_maria(&maria.server).expect("the tables open");
        let version = format!("UPDATE florin_schema SET version = {version} WHERE component = 'projection'");
        older(open, run, count, &[left, &[version.as_str()]].concat());
    }
}

#[test]
fn a_rebuild_gives_the_same_tables() {
    on_each(|tables| {
        let rows = story();
        apply_all(tables, &rows);
        let before = everything(tables);
        assert!(!before.4.is_empty() && !before.5.is_empty());
        tables.rebuild().expect("answers");
        assert_eq!(tables.cursor().expect("answers"), (Seq::START, Digest::ZERO));
        assert_eq!(tables.accounts_after(None, 9).expect("answers"), []);
        apply_all(tables, &rows);
        assert_eq!(everything(tables), before);
    });
}

#[test]
fn tables_can_start_from_a_snapshot() {
    on_each(|tables| {
        let mut rows = story();
        apply_all(tables, &rows);
        let accounts = tables.accounts_after(None, 100).expect("answers");
        let row = rows.0[5].0.clone();
        let mut events: Vec<Event> = accounts.iter().cloned().map(Event::RestateAccount).collect();
        events.push(Event::RestateHold(Hold { id: HoldId(1), transfer: transfer(0, 2, 100) }));
        events.push(Event::RestateWithdrawal(withdrawal(1)));
        let path = deposit(1, None).path;
        events.push(Event::RestateAddress(address(path, Beneficiary::Customer(CUSTOMER))));
        let chunks = vec![Bytes(SnapshotChunk { events }.encode())];
        let header = SnapshotHeader {
            seq: row.seq,
            row_hash: row.hash,
            epoch: row.epoch,
            time: row.time,
            state_hash: state_hash(chunks.iter()),
            chunk_count: 1,
            build: "test".to_owned(),
        };
        let snapshot = VerifiedSnapshot::verify(header, chunks).expect("the chunks match");
        tables.rebuild_from(&snapshot).expect("the snapshot fits");
        assert_eq!(tables.cursor().expect("answers"), (row.seq, row.hash));
        assert_eq!(tables.accounts_after(None, 100).expect("answers"), accounts);
        let release = vec![Event::HoldReleased(HoldReleased { hold: HoldId(1) })];
        let (row, batch) = rows.push(release);
        assert_eq!(tables.apply(&row, &batch).expect("the next row fits"), ApplyAnswer::Applied);
        assert_eq!(of_customer(tables)[0].debits_pending, Amount::ZERO);
        assert_eq!(tables.withdrawals(None, None, most(9)).expect("answers").len(), 1);
        assert_eq!(tables.addresses(CUSTOMER, None, most(9)).expect("answers"), [path]);
    });
}

#[test]
fn a_damaged_table_gives_a_typed_error() {
    let folder = TempDir::new().expect("a folder can be made");
    let path = folder.path().join(FILE);
    let mut tables = Projection::open_sqlite(&path).expect("the tables open");
    apply_all(&mut tables, &story());
    let foreign = rusqlite::Connection::open(&path).expect("the file opens");
    let damages =
        "UPDATE deposits SET amount = x'01'; UPDATE withdrawals SET status = 99; UPDATE events SET payload = x'ff';
         UPDATE addresses SET path = x'000000010900000003'";
    foreign.execute_batch(damages).expect("the damage is done");
    let codes = [
        tables.deposits(None, None, most(9)).expect_err("damaged").code(),
        tables.withdrawals(None, None, most(9)).expect_err("damaged").code(),
        tables.history(Subject::Uuid(CUSTOMER.0), None, 9).expect_err("damaged").code(),
        tables.addresses(CUSTOMER, None, most(9)).expect_err("damaged").code(),
    ];
    assert_eq!(codes, ["store_malformed"; 4]);
}
