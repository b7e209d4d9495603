//! Plans: reserved inputs, the point of no return, signatures and voids.

use super::{Draft, refusals};
use crate::command::{Outcome, ProposePlan};
use crate::id::{PlanId, TxId};
use crate::wire::Bytes;

refusals! {
    /// Why a plan, its signature or its end is not recorded.
    pub enum PlanRefusal { /// To be replaced.
        Unknown => "plan_unknown", "not known"; }
}
pub(super) fn propose(_: &mut Draft<'_>, _: &ProposePlan) -> Result<Outcome, PlanRefusal> {
    Err(PlanRefusal::Unknown)
}
pub(super) fn see(_: &mut Draft<'_>, _: PlanId, _: TxId) -> Result<Outcome, PlanRefusal> {
    Err(PlanRefusal::Unknown)
}
pub(super) fn record_signed(_: &mut Draft<'_>, _: PlanId, _: u32, _: &Bytes, _: TxId) -> Result<Outcome, PlanRefusal> {
    Err(PlanRefusal::Unknown)
}
pub(super) fn record_void(_: &mut Draft<'_>, _: PlanId) -> Result<Outcome, PlanRefusal> {
    Err(PlanRefusal::Unknown)
}
