//! Holds, and what the ledger does with events that contradict it: it stops.

use crate::world::*;
use florin_core::amount::Amount;
use florin_core::event::{Event, HoldPosted, HoldReleased, TransfersPosted};
use florin_core::id::{AccountId, HoldId};
use florin_core::ledger::{Account, BalanceRule, Hold, Owner, Transfer, TransferReason};
use florin_core::state::State;
use std::panic::{AssertUnwindSafe, catch_unwind};

const BANK: AccountId = AccountId(0);
const ANN_POINTS: AccountId = AccountId(1);
const VAULT: AccountId = AccountId(2);
const MILES_BANK: AccountId = AccountId(3);

fn moved(debit: AccountId, credit: AccountId, units: u128) -> Transfer {
    Transfer { debit, credit, amount: Amount::new(units), reason: TransferReason::Plain }
}

fn posted(transfer: Transfer) -> Event {
    Event::TransfersPosted(TransfersPosted { transfers: vec![transfer] })
}

fn held(id: u64, transfer: Transfer) -> Event {
    Event::HoldPlaced(Hold { id: HoldId(id), transfer })
}

fn post(id: u64, units: u128) -> Event {
    Event::HoldPosted(HoldPosted { hold: HoldId(id), amount: Amount::new(units) })
}

fn release(id: u64) -> Event {
    Event::HoldReleased(HoldReleased { hold: HoldId(id) })
}

/// A free bank, Ann with 100, a vault with 100 on its debit side, and a bank of another asset.
fn ledger() -> State {
    let mut state = State::default();
    let rules = [
        (BANK, POINTS, BalanceRule::Free),
        (ANN_POINTS, POINTS, BalanceRule::CreditNormal),
        (VAULT, POINTS, BalanceRule::DebitNormal),
        (MILES_BANK, MILES, BalanceRule::Free),
    ];
    for (id, asset, rule) in rules {
        state.apply(&Event::AccountOpened(Account::new(id, Owner::Plain(id.0), asset, rule)));
    }
    state.apply(&posted(moved(BANK, ANN_POINTS, 100)));
    state.apply(&posted(moved(VAULT, BANK, 100)));
    state
}

fn available(state: &State, id: AccountId) -> u128 {
    state.ledger().account(id).expect("it is open").available().units()
}

#[test]
fn hold_reserves_on_one_side_and_is_spendable_on_neither() {
    let mut state = ledger();
    state.apply(&held(1, moved(ANN_POINTS, VAULT, 60)));
    assert_eq!((available(&state, ANN_POINTS), available(&state, VAULT)), (40, 40), "both may not exceed their rule");
    assert_eq!(available(&state, BANK), u128::MAX, "a free account has no bound");
    let ann = state.ledger().account(ANN_POINTS).expect("it is open");
    assert_eq!((ann.debit_room(), ann.credit_balance()), (Amount::new(40), Amount::new(100)));
    assert_eq!(state.counters().next_hold, HoldId(2));
    let announced = held(2, moved(BANK, ANN_POINTS, 500));
    state.apply(&announced);
    assert_eq!(available(&state, ANN_POINTS), 40, "what is announced is not spendable");
}

#[test]
fn hold_is_posted_in_part_and_the_rest_released() {
    let mut state = ledger();
    state.apply(&held(1, moved(ANN_POINTS, BANK, 60)));
    state.apply(&post(1, 25));
    assert_eq!(available(&state, ANN_POINTS), 75);
    state.apply(&held(2, moved(ANN_POINTS, BANK, 75)));
    state.apply(&post(2, 0));
    assert_eq!(available(&state, ANN_POINTS), 75, "nothing was posted, all released");
    state.apply(&held(3, moved(ANN_POINTS, BANK, 75)));
    state.apply(&release(3));
    assert_eq!(available(&state, ANN_POINTS), 75);
    assert!(state.ledger().holds().is_empty());
    check_books(&state);
}

#[test]
fn corrupt_events_stop_the_fold() {
    let account =
        |id, owner| Event::AccountOpened(Account::new(AccountId(id), Owner::Plain(owner), POINTS, BalanceRule::Free));
    let cases = [
        ("more than there is", vec![posted(moved(ANN_POINTS, BANK, 101))]),
        ("beyond the debits", vec![posted(moved(BANK, VAULT, 101))]),
        ("what is held", vec![held(1, moved(ANN_POINTS, BANK, 60)), posted(moved(ANN_POINTS, BANK, 41))]),
        ("held twice", vec![held(1, moved(ANN_POINTS, BANK, 60)), held(2, moved(ANN_POINTS, BANK, 60))]),
        ("nothing", vec![posted(moved(BANK, ANN_POINTS, 0))]),
        ("to itself", vec![posted(moved(BANK, BANK, 1))]),
        ("another asset", vec![posted(moved(BANK, MILES_BANK, 1))]),
        ("no such account", vec![posted(moved(BANK, AccountId(9), 1))]),
        ("sums beyond 128 bits", vec![posted(moved(BANK, ANN_POINTS, u128::MAX))]),
        ("an id of a hold twice", vec![held(1, moved(BANK, ANN_POINTS, 1)), held(1, moved(BANK, ANN_POINTS, 1))]),
        ("more than the hold", vec![held(1, moved(ANN_POINTS, BANK, 5)), post(1, 6)]),
        ("a hold that is gone", vec![held(1, moved(ANN_POINTS, BANK, 5)), release(1), release(1)]),
        ("no such hold", vec![post(1, 1)]),
        ("a gap in accounts", vec![account(5, 5)]),
        ("an owner's second account", vec![account(4, 1)]),
    ];
    for (what, events) in cases {
        let mut state = ledger();
        let (last, before) = events.split_last().expect("there is an event");
        before.iter().for_each(|event| state.apply(event));
        let folded = catch_unwind(AssertUnwindSafe(|| state.apply(last)));
        assert!(folded.is_err(), "{what} was folded");
    }
}
