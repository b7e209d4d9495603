//! Wallets, addresses and deposits before they are in a block.

use super::{Draft, refusals};
use crate::command::{Outcome, Receipt};
use crate::custody::{Beneficiary, KeyPath, OutPoint, Wallet};
use crate::id::{ChainId, WalletId};
use crate::wire::Bytes;

use super::block::BlockRefusal;

refusals! {
    /// Why a wallet is not registered or an address not handed out.
    pub enum AddressRefusal { /// To be replaced.
        Unknown => "address_unknown", "not known"; }
}
pub(super) fn register_wallet(_: &mut Draft<'_>, _: &Wallet) -> Result<Outcome, AddressRefusal> {
    Err(AddressRefusal::Unknown)
}
pub(super) fn retire_wallet(_: &mut Draft<'_>, _: WalletId) -> Result<Outcome, AddressRefusal> {
    Err(AddressRefusal::Unknown)
}
pub(super) fn issue_address(
    _: &mut Draft<'_>,
    _: KeyPath,
    _: &Bytes,
    _: &Beneficiary,
) -> Result<Outcome, AddressRefusal> {
    Err(AddressRefusal::Unknown)
}
pub(super) fn see_receipts(_: &mut Draft<'_>, _: ChainId, _: &[Receipt]) -> Result<Outcome, BlockRefusal> {
    Err(BlockRefusal::Unknown)
}
pub(super) fn lose_receipts(_: &mut Draft<'_>, _: ChainId, _: &[OutPoint]) -> Result<Outcome, BlockRefusal> {
    Err(BlockRefusal::Unknown)
}
