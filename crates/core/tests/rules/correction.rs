//! Corrections: each refusal and its rank, what one books, and what it never touches.

use crate::world::*;
use florin_core::amount::Amount;
use florin_core::asset::HaltAction;
use florin_core::command::{Command, Origin, Request};
use florin_core::custody::Beneficiary;
use florin_core::decide::CorrectionRefusal;
use florin_core::event::Event;
use florin_core::id::{AssetId, CustomerId, WalletId};
use florin_core::ledger::{BalanceRule, HouseAccount, Owner, TransferReason};

const NOBODY: Owner = Owner::Customer(CustomerId([9; 16]));
const BANK: Owner = Owner::House(HouseAccount::Bank);
const INVENTORY: Owner = Owner::House(HouseAccount::Inventory);

fn ann() -> Owner {
    Owner::Customer(ANN)
}

fn ben() -> Owner {
    Owner::Customer(BEN)
}

#[test]
fn correction_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    world.receive("salary", EUR, 5_000, Beneficiary::Customer(ANN));
    world.done(correction("C-1", EUR, 100, ann(), ben()));
    world.done(Command::Halt(halt_of(Some(EUR), HaltAction::Credit)));
    let all = u128::MAX;
    let (long, custody) = ("R".repeat(65), Owner::Custody(WalletId(1)));
    let steps = vec![
        (correction("", AssetId(99), 0, BANK, NOBODY), CorrectionRefusal::ReferenceInvalid),
        (correction("two words", AssetId(99), 0, BANK, NOBODY), CorrectionRefusal::ReferenceInvalid),
        (correction(&long, AssetId(99), 0, BANK, NOBODY), CorrectionRefusal::ReferenceInvalid),
        (correction("C-1", AssetId(99), 0, BANK, NOBODY), CorrectionRefusal::ReferenceUsed),
        (correction(&long[1..], AssetId(99), 0, BANK, NOBODY), CorrectionRefusal::AssetUnknown),
        (correction("C-2", POINTS, 0, BANK, NOBODY), CorrectionRefusal::AssetPlain),
        (correction("C-2", EUR, 0, BANK, NOBODY), CorrectionRefusal::AmountZero),
        (correction("C-2", EUR, all, BANK, custody.clone()), CorrectionRefusal::DebitNotCorrectable),
        (correction("C-2", EUR, all, NOBODY, custody), CorrectionRefusal::CreditNotCorrectable),
        (correction("C-2", BTC, all, NOBODY, BANK), CorrectionRefusal::CreditNotCorrectable),
        (correction("C-2", EUR, all, NOBODY, NOBODY), CorrectionRefusal::ToItself),
        (correction("C-2", EUR, all, INVENTORY, NOBODY), CorrectionRefusal::CustomerUnknown),
        (correction("C-2", EUR, all, NOBODY, BANK), CorrectionRefusal::CustomerUnknown),
        (correction("C-2", EUR, all, ann(), ben()), CorrectionRefusal::CreditHalted),
        (correction("C-2", EUR, 4_901, ann(), INVENTORY), CorrectionRefusal::InsufficientFunds),
    ];
    check_ladder(&mut world, steps);
    // Taking from a customer is no credit.
    world.done(correction("C-2", EUR, 4_900, ann(), INVENTORY));
}

#[test]
fn accounts_that_follow_from_blocks_and_records_are_not_correctable() {
    use HouseAccount::*;
    let mut world = World::new();
    for house in [NetworkFees, Clearing, InFlight, Suspense, Receivables, Shortfall, Opening] {
        let debit = correction("C", EUR, 1, Owner::House(house), INVENTORY);
        assert_eq!(world.refused(debit), CorrectionRefusal::DebitNotCorrectable.into(), "{house:?}");
        let credit = correction("C", EUR, 1, INVENTORY, Owner::House(house));
        assert_eq!(world.refused(credit), CorrectionRefusal::CreditNotCorrectable.into(), "{house:?}");
    }
    world.open(1, POINTS, BalanceRule::Free);
    for (debit, credit) in [(Owner::Plain(1), INVENTORY), (BANK, INVENTORY)] {
        let refused = world.refused(correction("C", EUR, 1, debit, credit));
        assert_eq!(refused, CorrectionRefusal::DebitNotCorrectable.into());
    }
}

#[test]
fn no_more_is_given_than_is_there() {
    let mut world = World::new();
    world.receive("salary", EUR, 5_000, Beneficiary::Customer(ANN));
    // Fees and spread may fall below zero by their rule: not by a correction.
    for house in [HouseAccount::Fees, HouseAccount::Spread] {
        let from = Owner::House(house);
        let given = world.refused(correction("C", EUR, 1, from.clone(), ben()));
        assert_eq!(given, CorrectionRefusal::InsufficientFunds.into(), "{house:?}");
        world.done(correction(&format!("to-{}", house.name()), EUR, 70, INVENTORY, from.clone()));
        let given = world.refused(correction("C", EUR, 71, from.clone(), ben()));
        assert_eq!(given, CorrectionRefusal::InsufficientFunds.into(), "{house:?}");
        world.done(correction(&format!("from-{}", house.name()), EUR, 70, from, ben()));
    }
    assert_eq!(world.balance(ben(), EUR), 140);
    assert_eq!(world.refused(correction("C", EUR, 5_001, ann(), BANK)), CorrectionRefusal::InsufficientFunds.into());
    assert_eq!(world.refused(correction("C", BTC, 1, ann(), ben())), CorrectionRefusal::InsufficientFunds.into());
}

#[test]
fn correction_moves_money_once_and_leaves_what_was_wrong_in_the_books() {
    let mut world = World::new();
    world.receive("salary", EUR, 5_000, Beneficiary::Customer(ANN));
    let request = world.request(correction("case/7", EUR, 5_000, ann(), ben()));
    let (_, events) = world.send(&request).expect("it is good");
    let transfers: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::TransfersPosted(posted) => Some(posted.transfers.as_slice()),
            _ => None,
        })
        .flatten()
        .map(|transfer| (transfer.reason, transfer.amount))
        .collect();
    assert_eq!(transfers, [(TransferReason::Correction, Amount::new(5_000))]);
    assert_eq!((world.balance(ann(), EUR), world.balance(ben(), EUR)), (0, 5_000));
    let ann = world.account(ann(), EUR).expect("it is open");
    assert_eq!((ann.credits_posted.units(), ann.debits_posted.units()), (5_000, 5_000), "both entries stand");
    let again = Request { origin: Origin::Internal, ..request };
    assert_eq!(world.send(&again), Err(CorrectionRefusal::ReferenceUsed.into()));
    // The reference of a bank is another thing.
    world.receive("case/7", EUR, 1, Beneficiary::Customer(ANN));
}

#[test]
fn receipt_of_too_much_goes_back_to_the_bank() {
    let mut world = World::new();
    let bank = world.house(HouseAccount::Bank, EUR);
    world.receive("typo", EUR, 50_000, Beneficiary::Customer(ANN));
    world.done(correction("typo", EUR, 45_000, ann(), BANK));
    assert_eq!((world.balance(ann(), EUR), world.house(HouseAccount::Bank, EUR)), (5_000, bank - 5_000));
}

#[test]
fn sums_of_an_account_stay_within_what_an_amount_holds() {
    let mut world = World::new();
    let most = u128::MAX - 100_000_000;
    world.receive("all", EUR, most, Beneficiary::Customer(ANN));
    world.done(correction("C-1", EUR, most, ann(), ben()));
    world.done(correction("C-2", EUR, most, ben(), INVENTORY));
    let refused = world.refused(correction("C-3", EUR, most, INVENTORY, ann()));
    assert_eq!(refused, CorrectionRefusal::TooLarge.into(), "all that ever was credited counts");
}
