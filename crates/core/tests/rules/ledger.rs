//! Customers, plain accounts, linked transfers and bank receipts.

use crate::world::*;
use florin_core::amount::Amount;
use florin_core::asset::HaltAction;
use florin_core::command::{Command, Origin, Outcome, PlainTransfer, Request};
use florin_core::custody::Beneficiary;
use florin_core::decide::{AccountRefusal, BankReceiptRefusal, TRANSFERS_MAX, TransferRefusal};
use florin_core::event::Event;
use florin_core::id::{AccountId, AssetId, CustomerId};
use florin_core::ledger::{BalanceRule, HouseAccount, Owner, TransferReason};

#[test]
fn customer_is_opened_once() {
    let mut world = World::empty();
    world.done(Command::OpenCustomer(ANN));
    assert_eq!(world.refused(Command::OpenCustomer(ANN)), AccountRefusal::CustomerExists.into());
    assert_eq!(world.state.customers()[&ANN].opened, world.now);
}

#[test]
fn account_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    world.open(1, POINTS, BalanceRule::CreditNormal);
    let open = |owner, asset| Command::OpenAccount { owner, asset, rule: BalanceRule::Free };
    let steps = vec![
        (open(Owner::Customer(ANN), AssetId(99)), AccountRefusal::OwnerNotPlain),
        (open(Owner::House(HouseAccount::Opening), AssetId(99)), AccountRefusal::OwnerNotPlain),
        (open(Owner::Plain(1), AssetId(99)), AccountRefusal::AssetUnknown),
        (open(Owner::Plain(1), EUR), AccountRefusal::AssetNotPlain),
        (open(Owner::Plain(1), BTC), AccountRefusal::AssetNotPlain),
        (open(Owner::Plain(1), POINTS), AccountRefusal::AccountExists),
    ];
    check_ladder(&mut world, steps);
    world.open(1, MILES, BalanceRule::Free);
}

/// A plain ledger: `bank` owes and may be debited without bound, `ann` and `ben` may not fall below zero, `vault` may not
/// be credited beyond its debits, `miles` holds another asset.
struct Plain {
    world: World,
    bank: AccountId,
    ann: AccountId,
    ben: AccountId,
    vault: AccountId,
    miles: AccountId,
}

impl Plain {
    fn new() -> Plain {
        let mut world = World::new();
        Plain {
            bank: world.open(1, POINTS, BalanceRule::Free),
            ann: world.open(2, POINTS, BalanceRule::CreditNormal),
            ben: world.open(3, POINTS, BalanceRule::CreditNormal),
            vault: world.open(4, POINTS, BalanceRule::DebitNormal),
            miles: world.open(5, MILES, BalanceRule::Free),
            world,
        }
    }

    fn post(&mut self, transfers: &[PlainTransfer]) -> Result<Outcome, TransferRefusal> {
        self.world.run(Command::PostTransfers(transfers.to_vec())).map_err(|refusal| {
            let of_this_kind = |other: &&TransferRefusal| refusal == (**other).into();
            *TransferRefusal::ALL.iter().find(of_this_kind).expect("transfers have refusals of their own")
        })
    }

    fn balances(&self) -> [i128; 4] {
        [1, 2, 3, 4].map(|name| self.world.balance(Owner::Plain(name), POINTS))
    }
}

#[test]
fn transfer_is_refused_for_the_first_thing_wrong_with_it() {
    let mut plain = Plain::new();
    let house = plain.world.account(Owner::House(HouseAccount::Bank), EUR).expect("a receipt opened it").id;
    let (bank, ann, ben, vault, miles) = (plain.bank, plain.ann, plain.ben, plain.vault, plain.miles);
    let nobody = AccountId(999);
    let linked = |transfer| Command::PostTransfers(vec![transfer]);
    let steps = vec![
        (Command::PostTransfers(vec![]), TransferRefusal::Empty),
        (Command::PostTransfers(vec![transfer(nobody, nobody, 0); TRANSFERS_MAX + 1]), TransferRefusal::TooMany),
        (linked(transfer(nobody, nobody, 0)), TransferRefusal::DebitUnknown),
        (linked(transfer(house, nobody, 0)), TransferRefusal::CreditUnknown),
        (linked(transfer(house, house, 0)), TransferRefusal::DebitNotPlain),
        (linked(transfer(ann, house, 0)), TransferRefusal::CreditNotPlain),
        (linked(transfer(ann, ann, 0)), TransferRefusal::ToItself),
        (linked(transfer(ann, miles, 0)), TransferRefusal::AssetsDiffer),
        (linked(transfer(ann, vault, 0)), TransferRefusal::AmountZero),
        (linked(transfer(ann, vault, 1)), TransferRefusal::InsufficientFunds),
        (linked(transfer(bank, vault, 1)), TransferRefusal::CreditExceedsDebits),
    ];
    check_ladder(&mut plain.world, steps);
    let all = u128::MAX;
    assert_eq!(plain.post(&[transfer(bank, ben, all)]), Ok(Outcome::Done(true)));
    assert_eq!(plain.post(&[transfer(bank, vault, 1)]), Err(TransferRefusal::TooLarge), "the bank's debits are full");
    assert_eq!(plain.post(&[transfer(vault, ben, 1)]), Err(TransferRefusal::TooLarge), "so are the other's credits");
    assert_eq!(
        plain.post(&[transfer(ben, vault, 1), transfer(bank, ann, 1)]),
        Err(TransferRefusal::CreditExceedsDebits),
        "sums are judged in order"
    );
    assert_eq!(
        plain.post(&[transfer(ann, ben, 1), transfer(ann, ann, 1)]),
        Err(TransferRefusal::ToItself),
        "shapes are judged before sums"
    );
    assert_eq!(
        plain.post(&[transfer(ann, ben, 0), transfer(nobody, ann, 1)]),
        Err(TransferRefusal::AmountZero),
        "of shapes the first transfer's counts"
    );
}

#[test]
fn linked_transfers_see_those_before_them_and_no_others() {
    let mut plain = Plain::new();
    let (bank, ann, ben, vault) = (plain.bank, plain.ann, plain.ben, plain.vault);
    let there_and_on = [transfer(bank, ann, 10), transfer(ann, ben, 10), transfer(ben, ann, 4)];
    assert_eq!(plain.post(&there_and_on), Ok(Outcome::Done(true)));
    assert_eq!(plain.balances(), [-10, 4, 6, 0]);
    let too_early = [transfer(ann, ben, 5), transfer(bank, ann, 10)];
    assert_eq!(plain.post(&too_early), Err(TransferRefusal::InsufficientFunds));
    assert_eq!(plain.balances(), [-10, 4, 6, 0], "all or none");
    let spent_twice = [transfer(ann, ben, 3), transfer(ann, bank, 3)];
    assert_eq!(plain.post(&spent_twice), Err(TransferRefusal::InsufficientFunds));
    let filled_and_emptied = [transfer(vault, ann, 7), transfer(ben, vault, 5), transfer(bank, vault, 2)];
    assert_eq!(plain.post(&filled_and_emptied), Ok(Outcome::Done(true)));
    assert_eq!(plain.balances(), [-12, 11, 1, 0]);
    let once_more = [transfer(vault, ann, 7), transfer(ben, vault, 1), transfer(bank, vault, 7)];
    assert_eq!(plain.post(&once_more), Err(TransferRefusal::CreditExceedsDebits));
    assert_eq!(plain.balances(), [-12, 11, 1, 0]);
}

#[test]
fn sums_near_the_end_of_the_range_are_exact() {
    let mut plain = Plain::new();
    let (bank, ann, ben) = (plain.bank, plain.ann, plain.ben);
    let half = u128::MAX / 2 + 1;
    assert_eq!(plain.post(&[transfer(bank, ann, half), transfer(ann, ben, half)]), Ok(Outcome::Done(true)));
    assert_eq!(plain.post(&[transfer(ben, bank, half), transfer(bank, ann, half - 1)]), Ok(Outcome::Done(true)));
    assert_eq!(plain.post(&[transfer(ann, bank, half)]), Err(TransferRefusal::InsufficientFunds));
    assert_eq!(plain.post(&[transfer(ann, bank, half - 1)]), Ok(Outcome::Done(true)));
    assert_eq!(plain.post(&[transfer(bank, ben, 1)]), Err(TransferRefusal::TooLarge));
    let beyond = [transfer(ann, ben, u128::MAX), transfer(ann, ben, u128::MAX)];
    assert_eq!(plain.post(&beyond), Err(TransferRefusal::InsufficientFunds), "together they exceed what is counted in");
}

#[test]
fn command_of_the_most_transfers_fits_a_row() {
    let mut plain = Plain::new();
    let transfers = vec![transfer(plain.bank, plain.ann, u128::MAX >> 12); TRANSFERS_MAX];
    plain.world.done(Command::PostTransfers(transfers));
    let row = plain.world.rows.last().expect("it was journalled");
    assert!(row.payload.len() < florin_core::journal::ROW_BYTES_MAX / 4, "{} bytes", row.payload.len());
}

#[test]
fn bank_receipt_is_refused_for_the_first_thing_wrong_with_it() {
    let mut world = World::new();
    world.done(Command::Halt(halt_of(Some(EUR), HaltAction::Credit)));
    let nobody = Beneficiary::Customer(CustomerId([9; 16]));
    let book = |reference: &str, asset, units, beneficiary: &Beneficiary| {
        receipt(reference, asset, units, beneficiary.clone())
    };
    let change = Beneficiary::CHANGE;
    let long = "R".repeat(65);
    let steps = vec![
        (book("", BTC, 0, &nobody), BankReceiptRefusal::ReferenceInvalid),
        (book("two words", BTC, 0, &nobody), BankReceiptRefusal::ReferenceInvalid),
        (book("r\u{e9}f", BTC, 0, &nobody), BankReceiptRefusal::ReferenceInvalid),
        (book(&long, BTC, 0, &nobody), BankReceiptRefusal::ReferenceInvalid),
        (book("house-eur", AssetId(99), 0, &nobody), BankReceiptRefusal::ReferenceUsed),
        (book(&long[1..], AssetId(99), 0, &nobody), BankReceiptRefusal::AssetUnknown),
        (book("new", BTC, 0, &nobody), BankReceiptRefusal::AssetNotFiat),
        (book("new", POINTS, 0, &nobody), BankReceiptRefusal::AssetNotFiat),
        (book("new", EUR, 0, &nobody), BankReceiptRefusal::AmountZero),
        (book("new", EUR, u128::MAX, &nobody), BankReceiptRefusal::CustomerUnknown),
        (book("new", EUR, u128::MAX, &change), BankReceiptRefusal::BeneficiaryInvalid),
        (book("new", EUR, u128::MAX, &Beneficiary::Customer(ANN)), BankReceiptRefusal::CreditHalted),
    ];
    check_ladder(&mut world, steps);
    world.done(Command::Resume(halt_of(Some(EUR), HaltAction::Credit)));
    assert_eq!(
        world.refused(book("new", EUR, u128::MAX, &Beneficiary::Customer(ANN))),
        BankReceiptRefusal::TooLarge.into()
    );
    world.done(book("new", EUR, 5, &Beneficiary::Customer(ANN)));
}

#[test]
fn bank_receipt_is_booked_once_to_whom_it_is_for() {
    let mut world = World::new();
    let bank = world.house(HouseAccount::Bank, EUR);
    let request = world.request(receipt("SEPA/1", EUR, 2_500, Beneficiary::Customer(ANN)));
    let (_, events) = world.send(&request).expect("it is good");
    let posted: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::TransfersPosted(posted) => Some(posted.transfers.as_slice()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(posted.len(), 1);
    assert_eq!((posted[0].reason, posted[0].amount), (TransferReason::BankReceipt, Amount::new(2_500)));
    assert_eq!(world.balance(Owner::Customer(ANN), EUR), 2_500);
    assert_eq!(world.house(HouseAccount::Bank, EUR), bank - 2_500, "the bank owes us what it received");
    let again = Request { origin: Origin::Internal, ..request };
    assert_eq!(world.send(&again), Err(BankReceiptRefusal::ReferenceUsed.into()));
    assert_eq!(world.balance(Owner::Customer(ANN), EUR), 2_500);
}
