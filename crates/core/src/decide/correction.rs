//! Corrections: an operator's transfer that puts right what was booked wrongly. Never touches an account that says what a chain
//! holds or what records stand for: those follow from blocks and deposits, and a correction would contradict them.

use super::ledger::is_reference;
use super::{Draft, refusals};
use crate::amount::Amount;
use crate::asset::{AssetKind, HaltAction};
use crate::command::Outcome;
use crate::event::{CorrectionBooked, Event};
use crate::id::AssetId;
use crate::ledger::{Account, HouseAccount, Owner, Transfer, TransferReason};

/// How much of an account's sum of credits corrections of a coin leave: half of what an amount holds.
const COIN_SUMS_KEPT: Amount = Amount::new(1 << 127);

refusals! {
    /// Why a correction is not booked.
    pub enum CorrectionRefusal {
        /// Empty, too long, or with other characters than those of references.
        ReferenceInvalid => "correction_reference_invalid", "a correction's reference is 1 to 64 letters, digits and /-?:().,'+_ characters";
        /// Booked before.
        ReferenceUsed => "correction_reference_used", "a correction with this reference is booked already";
        /// No asset has this id.
        AssetUnknown => "asset_unknown", "there is no such asset";
        /// Plain ledgers are put right by transfers of their own.
        AssetPlain => "asset_plain", "accounts of plain ledgers are put right by transfers between them";
        /// Nothing is moved.
        AmountZero => "amount_zero", "a correction moves more than nothing";
        /// The giver's account follows from blocks, records or bank receipts.
        DebitNotCorrectable => "debit_not_correctable", "a correction takes from a customer, the inventory, the fees or the spread";
        /// The taker's account follows from blocks or records, or a coin is to be at a bank.
        CreditNotCorrectable => "credit_not_correctable", "a correction gives to a customer, the inventory, the fees, the spread or, for money that is not at the bank, the bank";
        /// Both sides are the same account.
        ToItself => "transfer_to_itself", "a correction moves between two accounts";
        /// No customer has this id.
        CustomerUnknown => "customer_unknown", "there is no such customer";
        /// A customer would be credited, and crediting is halted for the asset.
        CreditHalted => "credit_halted", "crediting is halted";
        /// The giver has less that is not held.
        InsufficientFunds => "insufficient_funds", "the account debited holds less than that";
        /// An account's sums would exceed 128 bits, or half of that for a coin.
        TooLarge => "amount_too_large", "the account's sums would exceed what an amount holds";
    }
}

/// Books a correction from one account (debit) to another (credit).
pub(super) fn book(
    draft: &mut Draft<'_>,
    reference: &str,
    asset: AssetId,
    amount: Amount,
    (debit, credit): (&Owner, &Owner),
) -> Result<Outcome, CorrectionRefusal> {
    if !is_reference(reference) {
        return Err(CorrectionRefusal::ReferenceInvalid);
    }
    if draft.state.corrections.contains(reference) {
        return Err(CorrectionRefusal::ReferenceUsed);
    }
    let kind = draft.state.assets.get(&asset).ok_or(CorrectionRefusal::AssetUnknown)?.kind;
    if kind == AssetKind::Plain {
        return Err(CorrectionRefusal::AssetPlain);
    }
    if amount.is_zero() {
        return Err(CorrectionRefusal::AmountZero);
    }
    check_owners(draft, kind, debit, credit)?;
    if matches!(credit, Owner::Customer(_)) && draft.state.is_halted(asset, HaltAction::Credit) {
        return Err(CorrectionRefusal::CreditHalted);
    }
    check_room(draft, (asset, kind), amount, debit, credit)?;
    let (debit, credit) = (draft.account(debit.clone(), asset), draft.account(credit.clone(), asset));
    draft.emit(Event::CorrectionBooked(CorrectionBooked { reference: reference.to_owned() }));
    draft.post([Transfer { debit, credit, amount, reason: TransferReason::Correction }]);
    Ok(Outcome::Done(true))
}

fn check_owners(draft: &Draft<'_>, kind: AssetKind, debit: &Owner, credit: &Owner) -> Result<(), CorrectionRefusal> {
    let is_open = |owner: &Owner| {
        use HouseAccount::{Fees, Inventory, Spread};
        matches!(owner, Owner::Customer(_) | Owner::House(Inventory | Fees | Spread))
    };
    // What arrived at the bank is a receipt, with the bank's reference.
    if !is_open(debit) {
        return Err(CorrectionRefusal::DebitNotCorrectable);
    }
    let leaves_bank = *credit == Owner::House(HouseAccount::Bank) && kind == AssetKind::Fiat;
    if !is_open(credit) && !leaves_bank {
        return Err(CorrectionRefusal::CreditNotCorrectable);
    }
    if debit == credit {
        return Err(CorrectionRefusal::ToItself);
    }
    let is_known = |owner: &Owner| match owner {
        Owner::Customer(id) => draft.state.customers.contains_key(id),
        Owner::House(_) | Owner::Custody(_) | Owner::Plain(_) => true,
    };
    if is_known(debit) && is_known(credit) { Ok(()) } else { Err(CorrectionRefusal::CustomerUnknown) }
}

fn check_room(
    draft: &Draft<'_>,
    (asset, kind): (AssetId, AssetKind),
    amount: Amount,
    debit: &Owner,
    credit: &Owner,
) -> Result<(), CorrectionRefusal> {
    let ledger = &draft.state.ledger;
    // Fees and spread may be negative by their rule; a correction gives no more of them than was earned, and of fees no more
    // than is left after what the network took.
    let balance = ledger
        .account_of(debit, asset)
        .map_or(Amount::ZERO, |account| account.available().min(account.credit_balance()));
    let network_fees = Owner::House(HouseAccount::NetworkFees);
    let paid = ledger.account_of(&network_fees, asset).map_or(Amount::ZERO, Account::debit_balance);
    let had = if *debit == Owner::House(HouseAccount::Fees) { balance.saturating_sub(paid) } else { balance };
    if amount > had {
        return Err(CorrectionRefusal::InsufficientFunds);
    }
    // What is owed of money is at the bank, so that this is never about what is there: sums alone are left to exceed. Blocks
    // can't be refused: of a coin, half of the range is left to what they bring.
    let kept = if kind == AssetKind::Coin { COIN_SUMS_KEPT } else { Amount::ZERO };
    let room = ledger.credit_room_of(credit, asset).saturating_sub(kept);
    if amount > room { Err(CorrectionRefusal::TooLarge) } else { Ok(()) }
}
