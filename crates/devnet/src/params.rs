//! Owns the constants of regtest and the arithmetic of issuance; must never hold state.

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::{Block, CompactTarget, Network};

/// Blocks a coinbase output must wait before it may be spent (consensus, all networks).
pub const COINBASE_MATURITY: u32 = 100;

/// Blocks between two halvings of the subsidy on regtest (210,000 on the main network).
pub const SUBSIDY_HALVING_INTERVAL: u32 = 150;

/// Subsidy of the first blocks, in satoshi: 50 BTC.
pub const SUBSIDY_INITIAL_SAT: u64 = 50 * 100_000_000;

/// How far, in seconds, a block's time may lie ahead of a node's clock: two hours.
pub const BLOCK_FUTURE_MAX_SECONDS: u64 = 2 * 60 * 60;

/// The largest sum of satoshi that any value may have: 21 million BTC.
pub const MONEY_MAX_SAT: u64 = 21_000_000 * 100_000_000;

/// The largest weight of a block (BIP-141).
pub const BLOCK_WEIGHT_MAX: u64 = 4_000_000;

/// The largest cost of signature operations in a block (BIP-141).
pub const BLOCK_SIGOPS_COST_MAX: usize = 80_000;

/// Weight of one byte that is not witness data (BIP-141).
pub const WITNESS_SCALE: u64 = 4;

/// Regtest's difficulty bits in consensus form, the same for every block: half of all hashes meet them.
pub const BITS_CONSENSUS: u32 = 0x207f_ffff;

/// Scripts longer than this can never be spent; their outputs are not kept.
pub const SCRIPT_SIZE_MAX: usize = 10_000;

/// Regtest's difficulty bits, typed.
pub fn bits() -> CompactTarget {
    CompactTarget::from_consensus(BITS_CONSENSUS)
}

/// The first block of regtest, with its published hash and coinbase.
pub fn genesis() -> Block {
    genesis_block(Network::Regtest)
}

/// New coins, in satoshi, that a block of this height may create beside its fees. Rounds down at each halving; the remainder is never issued.
pub fn subsidy_sat(height: u32) -> u64 {
    let halvings = height / SUBSIDY_HALVING_INTERVAL;
    if halvings >= 64 {
        return 0;
    }
    SUBSIDY_INITIAL_SAT >> halvings
}

/// The most coins, in satoshi, that blocks 1 to `height` may have created together. The genesis coinbase can't be spent and does not count.
pub fn issuance_limit_sat(height: u32) -> u64 {
    (1..=height).map(subsidy_sat).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsidy_halves_every_150_blocks_and_ends() {
        assert_eq!(subsidy_sat(149), 5_000_000_000);
        assert_eq!(subsidy_sat(150), 2_500_000_000);
        assert_eq!(subsidy_sat(300), 1_250_000_000);
        assert_eq!(subsidy_sat(150 * 33), 0);
        assert_eq!(subsidy_sat(u32::MAX), 0);
        assert_eq!(issuance_limit_sat(151), 149 * 5_000_000_000 + 2 * 2_500_000_000);
    }

    #[test]
    fn genesis_is_the_published_one() {
        // The hash every regtest node answers for height 0.
        let hash = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
        assert_eq!(genesis().block_hash().to_string(), hash);
        assert_eq!(genesis().header.bits.to_consensus(), BITS_CONSENSUS);
    }
}
