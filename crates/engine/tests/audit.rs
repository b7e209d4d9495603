//! The audit finds what is wrong, and names the first row of it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod common;

use common::*;
use florin_core::amount::Amount;
use florin_core::custody::{
    Beneficiary, Block, BlockRef, Branch, Chain, ChainFamily, Coin, KeyPath, OutPoint, Payment, Plan, PlanStatus,
    Wallet, WalletTier,
};
use florin_core::event::{BlockPartBooked, Event};
use florin_core::id::{AccountId, AssetId, BlockHash, ChainId, Digest, Height, HoldId, PlanId, Seq, TxId, WalletId};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use florin_core::ledger::{Account, Hold, HouseAccount, Owner, Transfer, TransferReason};
use florin_core::snapshot;
use florin_core::state::State;
use florin_engine::audit::{BookFault, check_books, judge_journal, verify_journal};
use florin_engine::load::{Loaded, load};
use florin_engine::writer::Ticket;

fn journal(count: u64) -> Rows {
    let rows = Rows::default();
    let mut writer = writer("a");
    writer.take_lead(Loaded::empty(), 1_000);
    for number in 0..=count {
        writer.submit(Ticket(number), open(number, customer(number))).unwrap();
        writer.decide_waiting(1_000);
        while let Some(sealed) = writer.next_row() {
            writer.appended(rows.append_with(&sealed.row, Fault::None));
            writer.decide_waiting(1_000);
        }
    }
    rows
}

fn reseal(row: &mut Row) {
    row.hash = row.computed_hash();
}

fn first_wrong(rows: &Rows) -> Option<(Seq, &'static str)> {
    let report = verify_journal(&mut rows.clone(), None, |_| ()).unwrap();
    report.wrong.as_ref().map(|wrong| (wrong.seq(), wrong.code()))
}

#[test]
fn a_sound_journal_is_counted_and_its_snapshot_compared() {
    let rows = journal(100);
    let loaded = load(&mut rows.clone(), &mut Kept::default()).unwrap();
    let (mut header, _) = snapshot::write(&loaded.state, loaded.place.hash, "test");
    let mut heard = Vec::new();
    let report = verify_journal(&mut rows.clone(), Some(&header), |count| heard.push(count)).unwrap();
    assert!(report.wrong.is_none());
    assert_eq!((report.rows, report.entries, report.events), (102, 102, 102));
    assert_eq!(report.snapshot_matches, Some(true));
    assert_eq!(report.state_hash(), Some(header.state_hash));
    assert_eq!(heard, [64, 102]);
    assert_eq!(check_books(report.state.as_ref().unwrap()), []);
    header.state_hash.0[0] ^= 1;
    let report = verify_journal(&mut rows.clone(), Some(&header), |_| ()).unwrap();
    assert_eq!(report.snapshot_matches, Some(false));
}

/// A journal whose store fails at one row, and so at every read that would give it.
struct Torn(Rows, Seq);

impl Journal for Torn {
    fn append(&mut self, _: &Row) -> Result<(), AppendError> {
        Err(AppendError::Fenced)
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        let rows = self.0.read(after, count_max)?;
        let is_torn = rows.iter().any(|row| row.seq == self.1);
        if is_torn { Err(ReadError("the disk fails".into())) } else { Ok(rows) }
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.0.head()
    }
}

#[test]
fn a_row_that_can_not_be_read_is_named_and_those_before_it_are_judged() {
    let rows = journal(100);
    let mut seen = Vec::new();
    let report = judge_journal(
        &mut Torn(rows.clone(), Seq(71)),
        |row, state| seen.push((row.seq, state.counters().seq)),
        |_| (),
    );
    assert_eq!((report.wrong_seq(), report.head.seq, report.rows), (Some(Seq(71)), Seq(70), 70));
    assert!(report.unreadable.is_some() && report.wrong.is_none());
    assert_eq!(seen, (1..=70).map(|seq| (Seq(seq), Seq(seq))).collect::<Vec<_>>());
    assert_eq!(check_books(report.state.as_ref().unwrap()), []);
    assert!(verify_journal(&mut Torn(rows, Seq(71)), None, |_| ()).is_err());
}

#[test]
fn every_kind_of_damage_is_named_with_its_row() {
    type Damage = fn(&mut Vec<Row>);
    let damages: [(&str, Damage, (u64, &str)); 7] = [
        ("a changed payload", |rows| rows[40].payload[9] ^= 1, (41, "journal_wrong_hash")),
        ("a changed time", |rows| rows[40].time.0 += 1, (41, "journal_wrong_hash")),
        ("a missing row", |rows| drop(rows.remove(40)), (41, "journal_gap")),
        (
            "a row that was sealed anew",
            |rows| {
                rows[40].time.0 += 1;
                reseal(&mut rows[40]);
            },
            (42, "journal_broken_link"),
        ),
        (
            "a last row with something unknown",
            |rows| {
                let last = rows.last_mut().unwrap();
                last.payload.extend([0xfa, 0x01, 0x00]);
                reseal(last);
            },
            (102, "journal_unreadable"),
        ),
        (
            "a last row that repeats what was done",
            |rows| {
                let payload = rows[0].payload.clone();
                let last = rows.last_mut().unwrap();
                last.payload = payload;
                reseal(last);
            },
            (102, "journal_contradiction"),
        ),
        (
            "time that runs backwards",
            |rows| {
                let last = rows.last_mut().unwrap();
                last.time.0 = 1;
                reseal(last);
            },
            (102, "journal_contradiction"),
        ),
    ];
    let sound = journal(100);
    assert_eq!(first_wrong(&sound), None);
    for (what, damage, (seq, code)) in damages {
        let rows = Rows::default();
        *rows.0.lock().unwrap() = sound.all();
        damage(&mut rows.0.lock().unwrap());
        assert_eq!(first_wrong(&rows), Some((Seq(seq), code)), "{what}");
    }
}

/// A state with accounts of one asset: owner, debits and credits posted.
fn books(accounts: &[(Owner, u128, u128)]) -> State {
    let mut state = State::default();
    for (number, (owner, debits, credits)) in (0..).zip(accounts) {
        let rule = owner.rule().unwrap();
        let mut account = Account::new(AccountId(number), owner.clone(), AssetId(1), rule);
        (account.debits_posted, account.credits_posted) = (Amount::new(*debits), Amount::new(*credits));
        state.apply(&Event::RestateAccount(account));
    }
    state
}

fn codes(state: &State) -> Vec<&'static str> {
    check_books(state).iter().map(BookFault::code).collect()
}

#[test]
fn books_that_can_not_be_are_named() {
    let bank = Owner::House(HouseAccount::Bank);
    let held = || Owner::Customer(customer(1));
    assert_eq!(codes(&books(&[(bank.clone(), 10, 0), (held(), 0, 10)])), Vec::<&str>::new());
    assert_eq!(codes(&books(&[(bank.clone(), 10, 0), (held(), 0, 9)])), ["books_unbalanced"]);
    assert_eq!(codes(&books(&[(bank.clone(), 0, 5), (held(), 5, 0)])), ["books_below_zero"; 2]);
    let most = u128::MAX;
    let both = [(bank.clone(), most, 0), (held(), most, 0)];
    assert_eq!(codes(&books(&both)), ["books_below_zero", "books_overflow"]);
    let many = || Owner::Customer(customer(2));
    let balanced =
        [(bank.clone(), most, 0), (Owner::Custody(WalletId(1)), most, 0), (held(), 0, most), (many(), 0, most)];
    assert_eq!(codes(&books(&balanced)), Vec::<&str>::new(), "each account's sums fit, and an asset's need not");

    let mut state = books(&[(bank, 10, 0), (held(), 0, 10)]);
    let transfer = Transfer {
        debit: AccountId(1),
        credit: AccountId(0),
        amount: Amount::new(3),
        reason: TransferReason::Withdrawal,
    };
    state.apply(&Event::RestateHold(Hold { id: HoldId(1), transfer }));
    let wrong = ["books_pending", "books_pending", "books_hold"];
    assert_eq!(codes(&state), wrong, "the hold is in neither account's sums, and nobody's");
}

const CHAIN: ChainId = ChainId(1);

/// A state with one wallet whose account says ten, and no coin.
fn wallet_of_ten() -> State {
    let mut state = books(&[(Owner::Custody(WalletId(1)), 10, 0), (Owner::House(HouseAccount::Inventory), 0, 10)]);
    state.apply(&Event::ChainDefined(Chain {
        id: CHAIN,
        family: ChainFamily::Bitcoin,
        name: "test".to_owned(),
        genesis: BlockHash([1; 32]),
        coin: AssetId(1),
        coinbase_maturity: 100,
    }));
    let descriptor = |text: &str| text.to_owned();
    state.apply(&Event::WalletRegistered(Wallet {
        id: WalletId(1),
        chain: CHAIN,
        generation: 1,
        tier: WalletTier::Hot,
        birthday: Height(0),
        descriptor_external: descriptor("external"),
        descriptor_internal: descriptor("internal"),
        retired: false,
        next_external: 0,
        next_internal: 0,
    }));
    state
}

/// A block that is known by its height alone.
fn at(height: u32) -> BlockRef {
    BlockRef { height: Height(height), hash: BlockHash([height as u8; 32]) }
}

fn coin(txid: u8, amount: u128, at: BlockRef) -> Coin {
    Coin {
        outpoint: OutPoint { chain: CHAIN, txid: TxId([txid; 32]), vout: 0 },
        amount: Amount::new(amount),
        path: KeyPath { wallet: WalletId(1), branch: Branch::External, index: 0 },
        beneficiary: Beneficiary::INVENTORY,
        coinbase: false,
        at,
        reserved: None,
        spent: None,
        suspense: false,
    }
}

/// A coin that a plan paid back to its wallet.
fn change(txid: u8, amount: u128, at: BlockRef) -> Coin {
    Coin { beneficiary: Beneficiary::CHANGE, ..coin(txid, amount, at) }
}

#[test]
fn a_wallet_is_worth_its_unspent_coins() {
    let mut state = wallet_of_ten();
    assert_eq!(codes(&state), ["books_custody"]);
    state.apply(&Event::RestateCoin(coin(2, 10, at(1))));
    assert_eq!(codes(&state), Vec::<&str>::new());
}

fn part(height: u32, undoing: bool) -> Event {
    let block = Block { chain: CHAIN, at: at(height), previous: BlockHash([0; 32]), time_s: 0 };
    Event::BlockPartBooked(BlockPartBooked { block, booked: 0, undoing })
}

/// The plan whose transaction is `txid`, as it stands.
fn plan(txid: u8, status: PlanStatus) -> Event {
    let anchor = OutPoint { chain: CHAIN, txid: TxId([2; 32]), vout: 0 };
    let is_paid = matches!(status, PlanStatus::Confirmed | PlanStatus::Conflicted);
    Event::RestatePlan(Plan {
        id: PlanId(1),
        wallet: WalletId(1),
        inputs: vec![anchor],
        anchor,
        versions: Vec::new(),
        status,
        paid: is_paid.then(|| Payment { txid: TxId([txid; 32]), at: at(2) }),
    })
}

#[test]
fn between_two_tips_a_wallet_has_the_change_of_undone_plans_as_well_and_nothing_else() {
    let custody = ["books_custody"];
    let right: [&str; 0] = [];
    // The plan's input is back in the books and among the coins, and its change of 3 from block 2 is not yet removed.
    let case = |part: Option<Event>, status: PlanStatus, rest: Coin| {
        let mut state = wallet_of_ten();
        state.apply(&Event::RestateCoin(coin(2, 10, at(1))));
        state.apply(&Event::RestateCoin(rest));
        state.apply(&plan(7, status));
        part.iter().for_each(|part| state.apply(part));
        codes(&state)
    };
    assert_eq!(case(Some(part(2, true)), PlanStatus::Signed, change(7, 3, at(2))), right);
    assert_eq!(case(Some(part(2, true)), PlanStatus::Conflicted, change(7, 3, at(2))), right, "whatever becomes of it");
    assert_eq!(case(None, PlanStatus::Signed, change(7, 3, at(2))), custody, "at a tip");
    assert_eq!(case(Some(part(2, false)), PlanStatus::Signed, change(7, 3, at(2))), custody, "on the way forward");
    assert_eq!(case(Some(part(3, true)), PlanStatus::Signed, change(7, 3, at(2))), custody, "of another block");
    assert_eq!(case(Some(part(2, true)), PlanStatus::Confirmed, change(7, 3, at(2))), custody, "the plan stands");
    assert_eq!(case(Some(part(2, true)), PlanStatus::Signed, coin(7, 3, at(2))), custody, "no change");
    let odd = Coin { suspense: true, ..change(7, 3, at(2)) };
    let booked = ["books_custody", "books_records"];
    assert_eq!(case(Some(part(2, true)), PlanStatus::Signed, odd), booked, "its arrival is booked elsewhere");
    // Without it the coins are short of what they have to be.
    let mut state = wallet_of_ten();
    state.apply(&part(2, true));
    state.apply(&Event::RestateCoin(coin(2, 7, at(1))));
    state.apply(&Event::RestateCoin(change(7, 3, at(2))));
    assert_eq!(codes(&state), custody, "the allowance is owed, and not a choice");
}
