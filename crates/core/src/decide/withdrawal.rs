//! Withdrawals until they are planned.

use super::{Draft, refusals};
use crate::amount::Amount;
use crate::command::Outcome;
use crate::custody::Approval;
use crate::id::{AssetId, CustomerId, WalletId, WithdrawalId};
use crate::wire::Bytes;

refusals! {
    /// Why a withdrawal is not accepted.
    pub enum WithdrawalRefusal { /// To be replaced.
        Unknown => "withdrawal_unknown", "not known"; }
}
refusals! {
    /// Why an approval is not added.
    pub enum ApprovalRefusal { /// To be replaced.
        Unknown => "approval_unknown", "not known"; }
}
refusals! {
    /// Why a withdrawal is not cancelled.
    pub enum CancelRefusal { /// To be replaced.
        Unknown => "cancel_unknown", "not known"; }
}
pub(super) fn request(
    _: &mut Draft<'_>,
    _: CustomerId,
    _: AssetId,
    _: Amount,
    _: &Bytes,
    _: WalletId,
) -> Result<Outcome, WithdrawalRefusal> {
    Err(WithdrawalRefusal::Unknown)
}
pub(super) fn approve(_: &mut Draft<'_>, _: WithdrawalId, _: &Approval, _: bool) -> Result<Outcome, ApprovalRefusal> {
    Err(ApprovalRefusal::Unknown)
}
pub(super) fn cancel(_: &mut Draft<'_>, _: WithdrawalId) -> Result<Outcome, CancelRefusal> {
    Err(CancelRefusal::Unknown)
}
