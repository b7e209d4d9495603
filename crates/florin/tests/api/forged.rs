//! Whole and well-linked rows that no rule decided on: `florin ledger verify`, the books and the metric name what is wrong, all alike.

use super::support::World;
use super::verify::{Copy, Stopped};
use florin::cli::EXIT_FAILED;
use florin_core::amount::Amount;
use florin_core::custody::{Address, Beneficiary, Branch, KeyPath};
use florin_core::event::{Event, TransfersPosted};
use florin_core::id::{LedgerTime, Seq, WalletId};
use florin_core::journal::{Batch, Entry, Journal, Row};
use florin_core::ledger::{Hold, HouseAccount, Owner, Transfer, TransferReason};
use florin_core::state::State;
use florin_core::wire::{Bytes, Message};
use florin_engine::audit::judge_journal;
use florin_store::sqlite::journal::{self, SqliteJournal};
use serde_json::{Value, json};

/// Appends a row that fits in every way; gives its number.
fn forge(copy: &Copy, event: impl Fn(&State) -> Event) -> Seq {
    let mut journal = SqliteJournal::open(&copy.data(journal::FILE)).expect("the journal opens");
    let report = judge_journal(&mut journal, |_, _| {}, |_| {});
    let state = report.state.expect("the journal is right");
    let last = journal.read(Seq(report.head.seq.0 - 1), 1).expect("rows").remove(0);
    let entry = Entry { command: None, request: None, events: vec![event(&state)], outcome: None };
    let payload = Batch { entries: vec![entry] }.encode();
    let row = Row::seal(last.seq.next(), last.epoch, last.time, last.hash, payload);
    journal.append(&row).expect("it is appended");
    row.seq
}

/// A tenth of a coin from one account to another. The coin is the first asset.
fn movement(state: &State, debit: &Owner, credit: &Owner) -> Transfer {
    let (coin, _) = state.assets().first_key_value().expect("there is a coin");
    let account = |owner| state.ledger().account_of(owner, *coin).expect("it is open").id;
    let (debit, credit) = (account(debit), account(credit));
    Transfer { debit, credit, amount: Amount::new(10_000_000), reason: TransferReason::Internal }
}

fn moved(state: &State, debit: &Owner, credit: &Owner) -> Event {
    Event::TransfersPosted(TransfersPosted { transfers: vec![movement(state, debit, credit)] })
}

fn somebody(state: &State) -> Owner {
    Owner::Customer(*state.customers().first_key_value().expect("there is a customer").0)
}

fn inventory_for_somebody(state: &State) -> Event {
    moved(state, &Owner::House(HouseAccount::Inventory), &somebody(state))
}

fn credit_without_a_deposit(state: &State) -> Event {
    moved(state, &Owner::House(HouseAccount::Clearing), &somebody(state))
}

fn flight_without_a_withdrawal(state: &State) -> Event {
    moved(state, &somebody(state), &Owner::House(HouseAccount::InFlight))
}

fn hold_of_nothing(state: &State) -> Event {
    let transfer = movement(state, &somebody(state), &Owner::House(HouseAccount::InFlight));
    Event::HoldPlaced(Hold { id: state.counters().next_hold, transfer })
}

fn address_of_nobodys_key(state: &State) -> Event {
    let index = state.wallets()[&WalletId(1)].next_external;
    Event::AddressIssued(Address {
        path: KeyPath { wallet: WalletId(1), branch: Branch::External, index },
        script: Bytes([vec![0x51, 32], vec![0x79; 32]].concat()),
        beneficiary: Beneficiary::INVENTORY,
        issued: LedgerTime(0),
        used: false,
    })
}

#[test]
fn books_that_no_record_is_behind_are_named_by_all_who_judge_them() {
    type Forgery = fn(&State) -> Event;
    let forgeries: [(&str, Forgery, &str, &str); 3] = [
        ("a credit without a deposit", credit_without_a_deposit, "books_records", "clearing"),
        ("money in flight without a withdrawal", flight_without_a_withdrawal, "books_records", "in_flight"),
        ("a hold of nothing", hold_of_nothing, "books_hold", "hold 3"),
    ];
    let stopped = Stopped::new();
    for (what, forgery, code, names) in forgeries {
        let copy = stopped.copy();
        forge(&copy, forgery);
        let verified = copy.verify(&[]);
        assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &json!(code)), "{what}");
        assert_eq!((&verified.report["wrong_row"], verified.wrong()), (&Value::Null, Vec::new()), "{what}");
        let fault = &verified.report["book_faults"][0];
        let message = fault["message"].as_str().expect("a message");
        assert!(fault["code"] == code && message.contains(names), "{what}: {}", verified.report);
        assert_eq!(verified.report["address_faults"], json!([]), "{what}");

        let world = World::on(&copy.folder.path().join("data"));
        let books = world.shown("/api/v1/books");
        assert_eq!((&books["balanced"], &books["faults"][0]["code"]), (&json!(false), &json!(code)), "{what}");
        assert_eq!(books["faults"][0]["detail"], message, "{what}: the same judgement");
        let of = |asset: &str| {
            let items = books["items"].as_array().expect("a list");
            items.iter().find(|item| item["asset"] == asset).expect("its books").clone()
        };
        assert_eq!((&of("BTC")["balanced"], &of("EUR")["balanced"]), (&json!(false), &json!(true)), "{what}");
        assert_eq!(of("BTC")["wallets"][0]["equal"], true, "{what}: coins are as they should be");
        let metrics = world.get("/api/v1/metrics").text;
        for line in ["florin_books_balanced{asset=\"BTC\"} 0", "florin_books_balanced{asset=\"EUR\"} 1"] {
            assert!(metrics.lines().any(|found| found == line), "{what}: {line} is missing in\n{metrics}");
        }
        world.stop();
    }
}

#[test]
fn money_that_a_row_moves_for_nothing_is_named_with_the_row() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    let row = forge(&copy, inventory_for_somebody);
    let verified = copy.verify(&[]);
    assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &json!("books_movement")));
    let faults = verified.report["book_faults"].as_array().expect("a list");
    let message = faults[0]["message"].as_str().expect("a message");
    let names = format!("row {row} moves 10000000 from the house's inventory to customer ");
    assert!(faults.len() == 1 && message.contains(&names), "{}", verified.report);
}

#[test]
fn an_address_of_nobodys_key_is_named_with_its_row() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    let row = forge(&copy, address_of_nobodys_key);
    let verified = copy.verify(&[]);
    assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &json!("address_not_derived")));
    assert_eq!((verified.wrong(), &verified.report["book_faults"]), (Vec::new(), &json!([])), "{}", verified.report);
    let faults = verified.report["address_faults"].as_array().expect("a list");
    assert_eq!(
        (faults.len(), &faults[0]["row"], &faults[0]["code"]),
        (1, &json!(row.0), &json!("address_not_derived"))
    );
    let said = copy.ledger(&["verify"]);
    let line = format!("addresses: row {row}: wallet 1, receiving index 1: script 5120{}", "79".repeat(32));
    assert!(said.out.lines().any(|found| found.starts_with(&line)), "{}", said.out);
    assert!(said.out.contains("what they say can't be:\n") && !said.out.contains("every row is right"), "{}", said.out);
    // Nothing is deleted from a journal that is wrong.
    let pruned = copy.ledger(&["prune", "--json"]);
    let failure: Value = serde_json::from_str(&pruned.err).expect("JSON");
    assert_eq!((pruned.code, &failure["code"]), (EXIT_FAILED, &json!("address_not_derived")));
}
