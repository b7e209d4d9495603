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

#[cfg(test)]
mod tests {
    use super::super::nodes::Seat;
    use super::super::nodes::tests::{CLOCK_S, branch, named, one};
    use super::super::{Follower, FollowerConfig};
    use crate::lanes::Ask;
    use florin_chain::bitcoin::header::Checkpoint;
    use florin_chain::bitcoin::network::Network;
    use florin_core::asset::{Asset, AssetKind};
    use florin_core::command::{Command, PART_COST_MAX};
    use florin_core::custody::{Block, BlockRef, Chain, ChainFamily};
    use florin_core::event::Event;
    use florin_core::id::{AssetId, ChainId, Height};
    use florin_core::state::State;
    use std::time::Duration;

    const CHAIN: ChainId = ChainId(1);
    const BTC: AssetId = AssetId(1);

    /// A state that has followed these headers.
    fn followed(headers: &[bitcoin::block::Header]) -> State {
        let hash = |header: &bitcoin::block::Header| crate::terms::core_hash(header.block_hash());
        let (code, kind) = ("BTC".to_owned(), AssetKind::Coin);
        let (family, name) = (ChainFamily::Bitcoin, "bitcoin-regtest".to_owned());
        let genesis = hash(&headers[0]);
        let mut state = State::default();
        state.apply(&Event::AssetDefined(Asset { id: BTC, code, decimals: 8, kind, chain: Some(CHAIN) }));
        let chain = Chain { id: CHAIN, family, name, genesis, coin: BTC, coinbase_maturity: 100 };
        state.apply(&Event::ChainDefined(chain));
        for (height, header) in (0..).zip(headers) {
            let at = BlockRef { height: Height(height), hash: hash(header) };
            let previous = crate::terms::core_hash(header.prev_blockhash);
            state.apply(&Event::BlockConnected(Block { chain: CHAIN, at, previous, time_s: 0 }));
        }
        state
    }

    #[test]
    fn nothing_is_taken_back_before_the_journalled_branch_is_compared() {
        let (old, new) = (branch(1, 20), branch(2, 22));
        let (stub, _, _) = one(&new);
        *stub.stale.lock().unwrap() = named(&old);
        let state = followed(&old);
        let config = FollowerConfig {
            chain: CHAIN,
            network: Network::Regtest,
            checkpoint: Checkpoint::genesis(Network::Regtest),
            headers_max: 10_000,
            quorum: 1,
            split_blocks_max: 100,
            stale_ms: u64::MAX,
            tip_age_max_ms: None,
            part_cost_max: PART_COST_MAX,
        };
        let seat = Seat { name: "one".to_owned(), group: "one".to_owned(), node: Box::new(stub) };
        let mut follower = Follower::new(config, vec![seat], [3; 16]).unwrap();
        // One header a poll, for its own chain as for the other.
        follower.seats.asking_max = Duration::ZERO;
        let now_ms = u64::from(CLOCK_S) * 1_000;
        let mut polls = 0;
        let asks = loop {
            follower.poll(now_ms);
            polls += 1;
            let asks = follower.look(&state, now_ms);
            if !asks.is_empty() {
                break asks;
            }
            assert!(polls < 100, "it comes to an end: {:?}", follower.status());
        };
        // With the last header of its own chain came the first one of the other.
        assert_eq!(polls, 22 + 20 - 1, "all of both branches is known");
        let tip = crate::terms::core_hash(old[20].block_hash());
        assert_eq!(asks[0], Ask::internal(Command::DisconnectBlock { chain: CHAIN, hash: tip }));
    }
}
