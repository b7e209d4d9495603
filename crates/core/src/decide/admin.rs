//! Definitions, policies, halts and time. Never moves a customer's money, except by ending what has expired.

use super::{Draft, refusals};
use crate::asset::{Asset, AssetPolicy, Halt};
use crate::command::Outcome;
use crate::custody::{Block, Chain};

refusals! {
    /// Why a definition, a policy, a halt or a tick is refused.
    pub enum AdminRefusal {
        /// To be replaced.
        Unknown => "admin_unknown", "not known";
    }
}
pub(super) fn tick(_: &mut Draft<'_>) -> Result<Outcome, AdminRefusal> {
    Err(AdminRefusal::Unknown)
}
pub(super) fn confirm_time(_: &mut Draft<'_>) -> Result<Outcome, AdminRefusal> {
    Err(AdminRefusal::Unknown)
}
pub(super) fn define_asset(_: &mut Draft<'_>, _: &Asset) -> Result<Outcome, AdminRefusal> {
    Err(AdminRefusal::Unknown)
}
pub(super) fn set_asset_policy(_: &mut Draft<'_>, _: &AssetPolicy) -> Result<Outcome, AdminRefusal> {
    Err(AdminRefusal::Unknown)
}
pub(super) fn halt(_: &mut Draft<'_>, _: &Halt) -> Result<Outcome, AdminRefusal> {
    Err(AdminRefusal::Unknown)
}
pub(super) fn resume(_: &mut Draft<'_>, _: &Halt) -> Result<Outcome, AdminRefusal> {
    Err(AdminRefusal::Unknown)
}
pub(super) fn define_chain(_: &mut Draft<'_>, _: &Chain, _: &Block) -> Result<Outcome, AdminRefusal> {
    Err(AdminRefusal::Unknown)
}
