//! Plain transfers, accounts, customers and bank receipts. Never touches coins.

use super::{Draft, refusals};
use crate::amount::Amount;
use crate::asset::{AssetKind, HaltAction};
use crate::command::{Outcome, PLAIN_REASON, PlainTransfer};
use crate::custody::Beneficiary;
use crate::event::{BankReceiptBooked, Customer, Event, TransfersPosted};
use crate::id::{AccountId, AssetId, CustomerId};
use crate::ledger::{Account, BalanceRule, HouseAccount, Ledger, Owner, Transfer, TransferReason};
use std::collections::BTreeMap;

/// The most linked transfers of one command: at some 25 bytes each they fill a tenth of a row.
pub const TRANSFERS_MAX: usize = 4_000;

/// The longest reference of a bank receipt or a correction, in bytes; SEPA's end-to-end ids have at most 35 characters.
pub const REFERENCE_MAX: usize = 64;

refusals! {
    /// Why an account or a customer is not opened.
    pub enum AccountRefusal {
        /// The customer is open already.
        CustomerExists => "customer_exists", "this customer is open already";
        /// Only plain owners open accounts; all others' are opened where they are first needed.
        OwnerNotPlain => "owner_not_plain", "only accounts of plain ledgers are opened by command";
        /// No asset has this id.
        AssetUnknown => "asset_unknown", "there is no such asset";
        /// The asset is money or a coin.
        AssetNotPlain => "asset_not_plain", "plain accounts hold plain assets only";
        /// The owner has an account of the asset.
        AccountExists => "account_exists", "the owner has an account of this asset already";
    }
}
refusals! {
    /// Why transfers are not posted. The shape of each is judged in order, by this list; then their sums, again in order.
    pub enum TransferRefusal {
        /// No transfer at all.
        Empty => "transfers_empty", "there are no transfers";
        /// More than [`TRANSFERS_MAX`].
        TooMany => "transfers_too_many", "at most 4,000 transfers are linked";
        /// The account debited does not exist.
        DebitUnknown => "debit_account_unknown", "the account debited does not exist";
        /// The account credited does not exist.
        CreditUnknown => "credit_account_unknown", "the account credited does not exist";
        /// The account debited is a customer's or the house's.
        DebitNotPlain => "debit_account_not_plain", "the account debited is not one of a plain ledger";
        /// The account credited is a customer's or the house's.
        CreditNotPlain => "credit_account_not_plain", "the account credited is not one of a plain ledger";
        /// Both sides are the same account.
        ToItself => "transfer_to_itself", "a transfer moves between two accounts";
        /// The accounts hold different assets.
        AssetsDiffer => "assets_differ", "both accounts of a transfer hold the same asset";
        /// Nothing is moved.
        AmountZero => "amount_zero", "a transfer moves more than nothing";
        /// The account debited holds less.
        InsufficientFunds => "insufficient_funds", "the account debited holds less than that";
        /// The account credited would be credited beyond its debits.
        CreditExceedsDebits => "credit_exceeds_debits", "the account credited may not be credited beyond its debits";
        /// An account's sums would exceed 128 bits.
        TooLarge => "amount_too_large", "the account's sums would exceed what an amount holds";
    }
}
refusals! {
    /// Why a bank receipt is not booked.
    pub enum BankReceiptRefusal {
        /// Empty, too long, or with other characters than those of bank references.
        ReferenceInvalid => "bank_reference_invalid", "a bank reference is 1 to 64 letters, digits and /-?:().,'+_ characters";
        /// Booked before.
        ReferenceUsed => "bank_reference_used", "this bank reference is booked already";
        /// No asset has this id.
        AssetUnknown => "asset_unknown", "there is no such asset";
        /// Coins arrive in blocks, not at a bank.
        AssetNotFiat => "asset_not_fiat", "only money of a bank is booked by a receipt";
        /// Nothing arrived.
        AmountZero => "amount_zero", "a receipt is of more than nothing";
        /// No customer has this id.
        CustomerUnknown => "customer_unknown", "there is no such customer";
        /// Change is of coins.
        BeneficiaryInvalid => "beneficiary_invalid", "a receipt is for a customer or the house's inventory";
        /// Crediting is halted for the asset.
        CreditHalted => "credit_halted", "crediting is halted";
        /// An account's sums would exceed 128 bits.
        TooLarge => "amount_too_large", "the account's sums would exceed what an amount holds";
    }
}

/// Opens a customer: an opaque id, no more.
pub(super) fn open_customer(draft: &mut Draft<'_>, id: CustomerId) -> Result<Outcome, AccountRefusal> {
    if draft.state.customers.contains_key(&id) {
        return Err(AccountRefusal::CustomerExists);
    }
    let opened = draft.now;
    draft.emit(Event::CustomerSet(Customer { id, opened, freezes: 0 }));
    Ok(Outcome::Done(true))
}

/// Opens a plain ledger's account.
pub(super) fn open_account(
    draft: &mut Draft<'_>,
    owner: &Owner,
    asset: AssetId,
    rule: BalanceRule,
) -> Result<Outcome, AccountRefusal> {
    if !matches!(owner, Owner::Plain(_)) {
        return Err(AccountRefusal::OwnerNotPlain);
    }
    let definition = draft.state.assets.get(&asset).ok_or(AccountRefusal::AssetUnknown)?;
    if definition.kind != AssetKind::Plain {
        return Err(AccountRefusal::AssetNotPlain);
    }
    if draft.state.ledger.account_of(owner, asset).is_some() {
        return Err(AccountRefusal::AccountExists);
    }
    let id = draft.state.ledger.next_account();
    draft.emit(Event::AccountOpened(Account::new(id, owner.clone(), asset, rule)));
    Ok(Outcome::Account(id))
}

/// Posts linked transfers, all or none. A later one may spend what an earlier one brings.
pub(super) fn post_transfers(draft: &mut Draft<'_>, transfers: &[PlainTransfer]) -> Result<Outcome, TransferRefusal> {
    if transfers.is_empty() {
        return Err(TransferRefusal::Empty);
    }
    if transfers.len() > TRANSFERS_MAX {
        return Err(TransferRefusal::TooMany);
    }
    let ledger = &draft.state.ledger;
    let mut total = Some(Amount::ZERO);
    let mut room = Amount::MAX;
    for transfer in transfers {
        let (debit, credit) = check_shape(ledger, transfer)?;
        total = total.and_then(|total| total.checked_add(transfer.amount));
        room = room.min(debit.debit_room()).min(credit.credit_room());
    }
    // Where each account alone has room for all transfers together, no order of them can fail.
    if total.is_none_or(|total| total > room) {
        check_sums(ledger, transfers)?;
    }
    let post = |transfer: &PlainTransfer| Transfer {
        debit: transfer.debit,
        credit: transfer.credit,
        amount: transfer.amount,
        reason: PLAIN_REASON,
    };
    draft.emit(Event::TransfersPosted(TransfersPosted { transfers: transfers.iter().map(post).collect() }));
    Ok(Outcome::Done(true))
}

#[inline]
fn check_shape<'a>(
    ledger: &'a Ledger,
    transfer: &PlainTransfer,
) -> Result<(&'a Account, &'a Account), TransferRefusal> {
    let debit = ledger.account(transfer.debit).ok_or(TransferRefusal::DebitUnknown)?;
    let credit = ledger.account(transfer.credit).ok_or(TransferRefusal::CreditUnknown)?;
    if !matches!(debit.owner, Owner::Plain(_)) {
        return Err(TransferRefusal::DebitNotPlain);
    }
    if !matches!(credit.owner, Owner::Plain(_)) {
        return Err(TransferRefusal::CreditNotPlain);
    }
    if transfer.debit == transfer.credit {
        return Err(TransferRefusal::ToItself);
    }
    if debit.asset != credit.asset {
        return Err(TransferRefusal::AssetsDiffer);
    }
    if transfer.amount.is_zero() {
        return Err(TransferRefusal::AmountZero);
    }
    Ok((debit, credit))
}

/// Plays the transfers on copies of the accounts they touch, so that a refusal has changed nothing.
fn check_sums(ledger: &Ledger, transfers: &[PlainTransfer]) -> Result<(), TransferRefusal> {
    let mut copies: BTreeMap<AccountId, Account> = BTreeMap::new();
    for transfer in transfers {
        let debit = copy_of(ledger, &mut copies, transfer.debit);
        if transfer.amount > debit.debit_room() {
            let short = debit.rule == BalanceRule::CreditNormal && transfer.amount > debit.available();
            return Err(if short { TransferRefusal::InsufficientFunds } else { TransferRefusal::TooLarge });
        }
        debit.debits_posted = debit.debits_posted.checked_add(transfer.amount).expect("there is room");
        let credit = copy_of(ledger, &mut copies, transfer.credit);
        if transfer.amount > credit.credit_room() {
            let short = credit.rule == BalanceRule::DebitNormal && transfer.amount > credit.available();
            return Err(if short { TransferRefusal::CreditExceedsDebits } else { TransferRefusal::TooLarge });
        }
        credit.credits_posted = credit.credits_posted.checked_add(transfer.amount).expect("there is room");
    }
    Ok(())
}

fn copy_of<'a>(ledger: &Ledger, copies: &'a mut BTreeMap<AccountId, Account>, id: AccountId) -> &'a mut Account {
    copies.entry(id).or_insert_with(|| ledger.account(id).expect("its shape was checked").clone())
}

/// Books money that arrived at the bank: to a customer, or to the inventory that quotes are filled from.
pub(super) fn book_bank_receipt(
    draft: &mut Draft<'_>,
    reference: &str,
    asset: AssetId,
    amount: Amount,
    beneficiary: &Beneficiary,
) -> Result<Outcome, BankReceiptRefusal> {
    if !is_reference(reference) {
        return Err(BankReceiptRefusal::ReferenceInvalid);
    }
    if draft.state.bank_references.contains(reference) {
        return Err(BankReceiptRefusal::ReferenceUsed);
    }
    let definition = draft.state.assets.get(&asset).ok_or(BankReceiptRefusal::AssetUnknown)?;
    if definition.kind != AssetKind::Fiat {
        return Err(BankReceiptRefusal::AssetNotFiat);
    }
    if amount.is_zero() {
        return Err(BankReceiptRefusal::AmountZero);
    }
    let owner = match beneficiary {
        Beneficiary::Customer(id) if draft.state.customers.contains_key(id) => Owner::Customer(*id),
        Beneficiary::Customer(_) => return Err(BankReceiptRefusal::CustomerUnknown),
        Beneficiary::House(true) => Owner::House(HouseAccount::Inventory),
        Beneficiary::House(false) => return Err(BankReceiptRefusal::BeneficiaryInvalid),
    };
    if draft.state.is_halted(asset, HaltAction::Credit) {
        return Err(BankReceiptRefusal::CreditHalted);
    }
    let bank = Owner::House(HouseAccount::Bank);
    let ledger = &draft.state.ledger;
    if amount > ledger.debit_room_of(&bank, asset).min(ledger.credit_room_of(&owner, asset)) {
        return Err(BankReceiptRefusal::TooLarge);
    }
    let (debit, credit) = (draft.account(bank, asset), draft.account(owner, asset));
    draft.emit(Event::BankReceiptBooked(BankReceiptBooked { reference: reference.to_owned() }));
    draft.post([Transfer { debit, credit, amount, reason: TransferReason::BankReceipt }]);
    Ok(Outcome::Done(true))
}

/// The characters of SEPA's basic Latin set without the space, and `_`: one text has one form, and a reference that differs
/// by a blank only is not a second receipt.
pub(super) fn is_reference(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-?:().,'+_".contains(&byte);
    !text.is_empty() && text.len() <= REFERENCE_MAX && text.bytes().all(allowed)
}
