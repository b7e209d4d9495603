//! Blocks forward and back: coins, credits, confirmations and their reversal.

use super::{Draft, refusals};
use crate::command::{ConnectBlock, Outcome};
use crate::id::{BlockHash, ChainId};

refusals! {
    /// Why a block or a mempool's view is not booked.
    pub enum BlockRefusal { /// To be replaced.
        Unknown => "block_unknown", "not known"; }
}
pub(super) fn connect(_: &mut Draft<'_>, _: &ConnectBlock) -> Result<Outcome, BlockRefusal> {
    Err(BlockRefusal::Unknown)
}
pub(super) fn disconnect(_: &mut Draft<'_>, _: ChainId, _: BlockHash) -> Result<Outcome, BlockRefusal> {
    Err(BlockRefusal::Unknown)
}
