//! The headers of a journalled branch that no node follows any more. They are learned to be compared by work with what nodes follow;
//! nothing is decided here, and no header is believed that the one after it does not name.

use super::nodes::{HEADERS_POLL_MAX, Learn, accept, read};
use crate::ports::Node;
use crate::terms::{core_hash, library_hash};
use bitcoin::block::Header;
use florin_chain::bitcoin::header::HeaderChain;
use florin_core::id::BlockHash;
use std::time::Instant;

/// Headers asked for backwards from the journalled tip when it is not on any node's active chain: two years of blocks. A branch
/// that is longer is compared by height.
pub const STALE_HEADERS_MAX: usize = 100_000;

/// The headers of the journalled tip and those before it, where the tip lies on no node's active chain any more. Each is named by the
/// one after it, so that it does not matter which node gave it.
#[derive(Debug, Default)]
pub(super) struct Stale {
    tip: Option<BlockHash>,
    /// The tip's first, then those before it.
    headers: Vec<Header>,
    /// Whether the last poll brought more of them, and not all yet.
    is_growing: bool,
}

impl Stale {
    /// Begins a poll.
    pub(super) fn begin(&mut self) {
        self.is_growing = false;
    }

    /// Whether this poll brought headers, and others follow.
    pub(super) fn is_growing(&self) -> bool {
        self.is_growing
    }

    /// Learns the headers of the journalled tip where it lies on no node's active chain any more, so that it can be compared by work:
    /// at least one, and all of them in as many polls as that takes.
    pub(super) fn learn(
        &mut self,
        node: &mut dyn Node,
        tip: Option<BlockHash>,
        headers: &mut HeaderChain,
        (clock_s, deadline): (u32, Instant),
    ) -> Result<(), Learn> {
        if self.tip != tip || tip.is_some_and(|hash| headers.get(&library_hash(hash)).is_some()) {
            *self = Stale { tip, ..Stale::default() };
        }
        let Some(tip) = tip else { return Ok(()) };
        let mut asked = 0;
        loop {
            let hash = self.headers.last().map_or(library_hash(tip), |header| header.prev_blockhash);
            if headers.get(&hash).is_some() {
                break;
            }
            let is_paused = asked == HEADERS_POLL_MAX || (asked > 0 && Instant::now() >= deadline);
            if is_paused || self.headers.len() == STALE_HEADERS_MAX {
                self.is_growing = is_paused;
                return Ok(());
            }
            // Nodes may have forgotten it, or never seen it.
            let Some(bytes) = node.header(core_hash(hash))? else { return Ok(()) };
            self.headers.push(read(&bytes, hash)?);
            asked += 1;
        }
        self.is_growing = false;
        let learned = self.headers.iter().rev().try_for_each(|header| accept(header, headers, clock_s));
        if !matches!(learned, Err(Learn::Later)) {
            self.headers.clear();
        }
        learned
    }
}
