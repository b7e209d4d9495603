//! Plain transfers, accounts, customers and bank receipts. Never touches coins.

use super::{Draft, refusals};
use crate::amount::Amount;
use crate::command::{Outcome, PlainTransfer};
use crate::custody::Beneficiary;
use crate::id::{AssetId, CustomerId};
use crate::ledger::{BalanceRule, Owner};

refusals! {
    /// Why an account or a customer is not opened.
    pub enum AccountRefusal { /// To be replaced.
        Unknown => "account_unknown", "not known"; }
}
refusals! {
    /// Why transfers are not posted.
    pub enum TransferRefusal { /// To be replaced.
        Unknown => "transfer_unknown", "not known"; }
}
refusals! {
    /// Why a bank receipt is not booked.
    pub enum BankReceiptRefusal { /// To be replaced.
        Unknown => "bank_receipt_unknown", "not known"; }
}
pub(super) fn open_customer(_: &mut Draft<'_>, _: CustomerId) -> Result<Outcome, AccountRefusal> {
    Err(AccountRefusal::Unknown)
}
pub(super) fn open_account(
    _: &mut Draft<'_>,
    _: &Owner,
    _: AssetId,
    _: BalanceRule,
) -> Result<Outcome, AccountRefusal> {
    Err(AccountRefusal::Unknown)
}
pub(super) fn post_transfers(_: &mut Draft<'_>, _: &[PlainTransfer]) -> Result<Outcome, TransferRefusal> {
    Err(TransferRefusal::Unknown)
}
pub(super) fn book_bank_receipt(
    _: &mut Draft<'_>,
    _: &str,
    _: AssetId,
    _: Amount,
    _: &Beneficiary,
) -> Result<Outcome, BankReceiptRefusal> {
    Err(BankReceiptRefusal::Unknown)
}
