//! The header chain from a configured checkpoint: what proves work and which branch has the most; it must never trust
//! the node a header came from, and it knows nothing of transactions.
//!
//! Checked per header: linkage, the target that the retarget rule demands (every 2,016 blocks; the 20-minute rule of the
//! test network; none on regtest), proof of work, median time past, distance to the future, and the versions that
//! BIP-34, 66 and 65 ended. On signet the block signatures (BIP-325) are not checked: they are in the coinbase, not in
//! the header, so there the work alone proves little and the node quorum is the defence.
//!
//! The branch with the most work is the active one; of two with equal work the first seen stays.

use crate::bitcoin::network::Network;
use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize;
use bitcoin::{BlockHash, CompactTarget, Target, Work};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of a header.
pub const HEADER_SIZE: usize = 80;
/// Headers kept by default: more than a year of blocks, about 16 MiB.
pub const HEADERS_MAX: usize = 65_536;
/// Fewest headers below the tip that are always kept: two weeks, far deeper than any reorganisation seen on a main network.
pub const REORG_DEPTH_MIN: u32 = 2_016;
/// How far a header's time may be ahead of the clock: two hours (consensus).
pub const FUTURE_TIME_MAX_S: u32 = 2 * 60 * 60;
/// Headers whose times give the median time past (consensus).
const MEDIAN_TIMES: usize = 11;
/// Seconds after which the test network allows the lowest difficulty: twice the target spacing (consensus).
const EASY_AFTER_S: u32 = 2 * 10 * 60;

/// Why a header or checkpoint was refused, most precise reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderRefusal {
    /// A header has 80 bytes.
    #[error("a header has 80 bytes, this one has {size}")]
    Size {
        /// Bytes that were given.
        size: usize,
    },
    /// The checkpoint of height 0 is not the genesis block of the network.
    #[error("the checkpoint of height 0 is not the network's genesis block")]
    GenesisMismatch,
    /// The checkpoint is not at the first block of a period and does not say what came before.
    #[error("a checkpoint inside a period must name the period's start and target")]
    CheckpointIncomplete,
    /// The header's parent is not known, or is too deep.
    #[error("the header's parent is not known or too deep")]
    ParentUnknown,
    /// The target is not the one that the rules demand here.
    #[error("the header's target is not the one that the rules demand")]
    TargetWrong,
    /// The hash is above the target.
    #[error("the header's hash does not meet its target")]
    WorkInsufficient,
    /// The time is not after the median of the eleven headers before.
    #[error("the header's time is not after the median time past")]
    TimeTooOld,
    /// The time is too far ahead of the clock; it may be accepted later.
    #[error("the header's time is too far in the future")]
    TimeTooNew,
    /// The version was ended by a soft fork.
    #[error("the header's version was ended by a soft fork")]
    VersionOutdated,
    /// The store of headers is full and nothing in it is old enough to forget.
    #[error("there are too many headers on side branches")]
    TooMany,
}

impl HeaderRefusal {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            HeaderRefusal::Size { .. } => "header_size_invalid",
            HeaderRefusal::GenesisMismatch => "genesis_mismatch",
            HeaderRefusal::CheckpointIncomplete => "checkpoint_incomplete",
            HeaderRefusal::ParentUnknown => "header_parent_unknown",
            HeaderRefusal::TargetWrong => "header_target_wrong",
            HeaderRefusal::WorkInsufficient => "header_work_insufficient",
            HeaderRefusal::TimeTooOld => "header_time_too_old",
            HeaderRefusal::TimeTooNew => "header_time_too_new",
            HeaderRefusal::VersionOutdated => "header_version_outdated",
            HeaderRefusal::TooMany => "headers_too_many",
        }
    }
}

/// Where the chain starts: a header that the operator's configuration vouches for, and what the rules need to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    height: u32,
    header: Header,
    period_start_time: u32,
    period_target: CompactTarget,
    times_before: Vec<u32>,
}

impl Checkpoint {
    /// The genesis block of a network.
    pub fn genesis(network: Network) -> Checkpoint {
        let header = bitcoin::constants::genesis_block(network.library()).header;
        Checkpoint {
            height: 0,
            header,
            period_start_time: header.time,
            period_target: header.bits,
            times_before: Vec::new(),
        }
    }

    /// The first header of a period: a height that 2,016 divides. Nothing else needs to be known.
    ///
    /// # Errors
    /// [`HeaderRefusal::CheckpointIncomplete`] at another height.
    pub fn at_period_start(height: u32, header: Header) -> Result<Checkpoint, HeaderRefusal> {
        if !height.is_multiple_of(PERIOD) {
            return Err(HeaderRefusal::CheckpointIncomplete);
        }
        let (period_start_time, period_target) = (header.time, header.bits);
        Ok(Checkpoint { height, header, period_start_time, period_target, times_before: Vec::new() })
    }

    /// A header inside a period: with the time of the period's first header, and the target of the last header of the
    /// period that did not use the test network's 20-minute rule (elsewhere: the header's own target).
    pub fn inside_period(height: u32, header: Header, start_time: u32, target: CompactTarget) -> Checkpoint {
        Checkpoint { height, header, period_start_time: start_time, period_target: target, times_before: Vec::new() }
    }

    /// Adds the times of the headers before this one, oldest first, of which the last ten count. Without them the
    /// median time past is not checked until eleven headers are known, because a part of them would refuse good headers.
    pub fn with_times_before(mut self, times: &[u32]) -> Checkpoint {
        self.times_before = times[times.len().saturating_sub(MEDIAN_TIMES - 1)..].to_vec();
        self
    }
}

/// Blocks between two changes of the target (consensus).
const PERIOD: u32 = 2_016;

/// What is known of one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderInfo {
    /// The header's hash.
    pub hash: BlockHash,
    /// The header itself.
    pub header: Header,
    /// Its height.
    pub height: u32,
    /// Work of the whole branch since the checkpoint, the checkpoint's included.
    pub work: Work,
}

/// How the active branch goes from one block to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReorgPath {
    /// Blocks to take back, the highest first.
    pub disconnect: Vec<BlockHash>,
    /// Blocks to add, the lowest first.
    pub connect: Vec<BlockHash>,
}

/// What an accepted header changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The header was known before.
    Known,
    /// The header is valid, but its branch has no more work than the active one.
    SideBranch,
    /// The header is the new tip. `disconnect` is empty unless branches changed.
    NewTip(ReorgPath),
}

#[derive(Clone, Debug)]
struct Entry {
    header: Header,
    height: u32,
    work: Work,
    period_start_time: u32,
    period_target: CompactTarget,
    /// Times of this header and those before, oldest first, as far as they are known.
    times: Vec<u32>,
}

impl Entry {
    /// The median of the last eleven times, `None` while too few of them are known.
    fn median_time_past(&self) -> Option<u32> {
        let needed = MEDIAN_TIMES.min(self.height as usize + 1);
        if self.times.len() < needed {
            return None;
        }
        let mut times = self.times.clone();
        times.sort_unstable();
        Some(times[times.len() / 2])
    }
}

/// A bounded tree of headers and its branch with the most work.
#[derive(Clone, Debug)]
pub struct HeaderChain {
    network: Network,
    headers_max: usize,
    entries: BTreeMap<BlockHash, Entry>,
    by_height: BTreeMap<u32, Vec<BlockHash>>,
    active: VecDeque<BlockHash>,
    active_base: u32,
}

impl HeaderChain {
    /// Starts at a checkpoint and keeps at most `headers_max` headers (at least twice [`REORG_DEPTH_MIN`]).
    ///
    /// # Errors
    /// `GenesisMismatch`, then `WorkInsufficient`, for a checkpoint that cannot belong to the network.
    pub fn start(network: Network, checkpoint: Checkpoint, headers_max: usize) -> Result<HeaderChain, HeaderRefusal> {
        let hash = checkpoint.header.block_hash();
        if checkpoint.height == 0 && hash != network.genesis_hash() {
            return Err(HeaderRefusal::GenesisMismatch);
        }
        let target = Target::from_compact(checkpoint.header.bits);
        if target > network.consensus().max_attainable_target || !target.is_met_by(hash) {
            return Err(HeaderRefusal::WorkInsufficient);
        }
        let mut times = checkpoint.times_before;
        times.push(checkpoint.header.time);
        let entry = Entry {
            header: checkpoint.header,
            height: checkpoint.height,
            work: checkpoint.header.work(),
            period_start_time: checkpoint.period_start_time,
            period_target: checkpoint.period_target,
            times,
        };
        Ok(HeaderChain {
            network,
            headers_max: headers_max.max(2 * REORG_DEPTH_MIN as usize),
            by_height: BTreeMap::from([(entry.height, vec![hash])]),
            active: VecDeque::from([hash]),
            active_base: entry.height,
            entries: BTreeMap::from([(hash, entry)]),
        })
    }

    /// Checks a header and adds it. `clock_s` is the caller's clock in seconds since 1970.
    ///
    /// # Errors
    /// The variants of [`HeaderRefusal`] from `ParentUnknown` on, in their order; nothing is changed then.
    pub fn accept(&mut self, header: &Header, clock_s: u32) -> Result<Accepted, HeaderRefusal> {
        let hash = header.block_hash();
        if self.entries.contains_key(&hash) {
            return Ok(Accepted::Known);
        }
        let parent = self.entries.get(&header.prev_blockhash).ok_or(HeaderRefusal::ParentUnknown)?;
        self.check(header, hash, parent, clock_s)?;
        let entry = self.child(header, parent);
        self.make_room()?;
        // Making room may have forgotten the parent, or where its branch left the active one: then it is too deep.
        if !self.entries.contains_key(&header.prev_blockhash) {
            return Err(HeaderRefusal::ParentUnknown);
        }
        let tip = self.tip();
        let mut path = None;
        if entry.work > tip.work {
            path = Some(self.path(&tip.hash, &header.prev_blockhash).ok_or(HeaderRefusal::ParentUnknown)?);
        }
        self.by_height.entry(entry.height).or_default().push(hash);
        self.entries.insert(hash, entry);
        let Some(mut path) = path else { return Ok(Accepted::SideBranch) };
        path.connect.push(hash);
        for _ in &path.disconnect {
            self.active.pop_back();
        }
        self.active.extend(&path.connect);
        Ok(Accepted::NewTip(path))
    }

    /// The highest block of the branch with the most work.
    pub fn tip(&self) -> HeaderInfo {
        let hash = self.active.back().expect("the active branch has at least the checkpoint");
        self.get(hash).expect("headers of the active branch are kept")
    }

    /// What is known of a header, on whichever branch.
    pub fn get(&self, hash: &BlockHash) -> Option<HeaderInfo> {
        let entry = self.entries.get(hash)?;
        Some(HeaderInfo { hash: *hash, header: entry.header, height: entry.height, work: entry.work })
    }

    /// The active block at a height, `None` above the tip and below what is kept.
    pub fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.active.get(height.checked_sub(self.active_base)? as usize).copied()
    }

    /// The lowest height that is still kept.
    pub fn lowest_height(&self) -> u32 {
        self.active_base
    }

    /// Whether a block is on the active branch.
    pub fn is_active(&self, hash: &BlockHash) -> bool {
        self.entries.get(hash).is_some_and(|entry| self.hash_at(entry.height) == Some(*hash))
    }

    /// Confirmations of an active block, 1 for the tip; `None` for any other block.
    pub fn confirmations(&self, hash: &BlockHash) -> Option<u32> {
        let height = self.is_active(hash).then(|| self.entries.get(hash).map(|entry| entry.height))??;
        Some(self.tip().height - height + 1)
    }

    /// The median time past of a header, which relative and absolute time locks use (BIP-113).
    pub fn median_time_past(&self, hash: &BlockHash) -> Option<u32> {
        self.entries.get(hash)?.median_time_past()
    }

    /// How to go from a block to the active tip, `None` when the block or the fork is not kept any more.
    pub fn path_to_tip(&self, from: &BlockHash) -> Option<ReorgPath> {
        self.path(from, &self.tip().hash)
    }

    fn path(&self, from: &BlockHash, to: &BlockHash) -> Option<ReorgPath> {
        let (mut old, mut new) = (*from, *to);
        let (mut disconnect, mut connect) = (Vec::new(), Vec::new());
        while old != new {
            let (old_entry, new_entry) = (self.entries.get(&old)?, self.entries.get(&new)?);
            if old_entry.height >= new_entry.height {
                disconnect.push(old);
                old = old_entry.header.prev_blockhash;
            }
            if new_entry.height >= old_entry.height {
                connect.push(new);
                new = new_entry.header.prev_blockhash;
            }
        }
        self.entries.get(&new)?;
        connect.reverse();
        Some(ReorgPath { disconnect, connect })
    }

    fn check(&self, header: &Header, hash: BlockHash, parent: &Entry, clock_s: u32) -> Result<(), HeaderRefusal> {
        if header.bits != next_target(self.network, parent, header.time) {
            return Err(HeaderRefusal::TargetWrong);
        }
        if !header.target().is_met_by(hash) {
            return Err(HeaderRefusal::WorkInsufficient);
        }
        if parent.median_time_past().is_some_and(|median| header.time <= median) {
            return Err(HeaderRefusal::TimeTooOld);
        }
        if header.time > clock_s.saturating_add(FUTURE_TIME_MAX_S) {
            return Err(HeaderRefusal::TimeTooNew);
        }
        if header.version.to_consensus() < version_min(self.network, parent.height + 1) {
            return Err(HeaderRefusal::VersionOutdated);
        }
        Ok(())
    }

    fn child(&self, header: &Header, parent: &Entry) -> Entry {
        let height = parent.height + 1;
        let starts_period = height.is_multiple_of(PERIOD);
        let lowest = self.network.consensus().max_attainable_target.to_compact_lossy();
        let mut times = parent.times.clone();
        times.push(header.time);
        if times.len() > MEDIAN_TIMES {
            times.remove(0);
        }
        Entry {
            header: *header,
            height,
            work: parent.work + header.work(),
            period_start_time: if starts_period { header.time } else { parent.period_start_time },
            period_target: if starts_period || header.bits != lowest { header.bits } else { parent.period_target },
            times,
        }
    }

    /// Forgets the lowest headers when the store is full, but none of the last [`REORG_DEPTH_MIN`].
    fn make_room(&mut self) -> Result<(), HeaderRefusal> {
        while self.entries.len() >= self.headers_max {
            let (lowest, hashes) = self.by_height.first_key_value().expect("headers are kept by height");
            if lowest + REORG_DEPTH_MIN > self.tip().height {
                return Err(HeaderRefusal::TooMany);
            }
            for hash in hashes {
                self.entries.remove(hash);
            }
            let lowest = *lowest;
            self.by_height.remove(&lowest);
            while self.active_base <= lowest {
                self.active.pop_front();
                self.active_base += 1;
            }
        }
        Ok(())
    }
}

/// Reads the 80 bytes of a header.
///
/// # Errors
/// [`HeaderRefusal::Size`].
pub fn parse_header(bytes: &[u8]) -> Result<Header, HeaderRefusal> {
    deserialize(bytes).map_err(|_| HeaderRefusal::Size { size: bytes.len() })
}

/// The target that the header after `parent` must have.
fn next_target(network: Network, parent: &Entry, time: u32) -> CompactTarget {
    let rules = network.consensus();
    if (parent.height + 1).is_multiple_of(PERIOD) {
        return retarget(network, parent.header.bits, parent.period_start_time, parent.header.time);
    }
    if !rules.allow_min_difficulty_blocks {
        return parent.header.bits;
    }
    if time > parent.header.time.saturating_add(EASY_AFTER_S) {
        return rules.max_attainable_target.to_compact_lossy();
    }
    parent.period_target
}

/// The target of the period after one that started and ended at these times.
fn retarget(network: Network, last: CompactTarget, start_time: u32, end_time: u32) -> CompactTarget {
    let seconds = u64::from(end_time.saturating_sub(start_time));
    CompactTarget::from_next_work_required(last, seconds, network.consensus())
}

/// The lowest version at a height: 2 from BIP-34, 3 from BIP-66, 4 from BIP-65 on (heights of Bitcoin Core).
fn version_min(network: Network, height: u32) -> i32 {
    let heights: [u32; 3] = match network {
        Network::Main => [227_931, 363_725, 388_381],
        Network::Test => [21_111, 330_776, 581_885],
        Network::Signet | Network::Regtest => [1, 1, 1],
    };
    // Versions are signed; below the first of these heights even a negative one was allowed.
    match heights.into_iter().filter(|activation| height >= *activation).count() {
        0 => i32::MIN,
        count => count as i32 + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(value: u32) -> CompactTarget {
        CompactTarget::from_consensus(value)
    }

    #[test]
    fn retargets_are_those_of_bitcoin_core() {
        // Bitcoin Core, src/test/pow_tests.cpp: no limit, limit of work, shortest and longest period.
        let cases = [
            (0x1d00_ffff, 1_261_130_161, 1_262_152_739, 0x1d00_d86a),
            (0x1d00_ffff, 1_231_006_505, 1_233_061_996, 0x1d00_ffff),
            (0x1c05_a3f4, 1_279_008_237, 1_279_297_671, 0x1c01_68fd),
            (0x1c38_7f6f, 1_263_163_443, 1_269_211_443, 0x1d00_e1fd),
        ];
        for (last, start, end, expected) in cases {
            assert_eq!(retarget(Network::Main, bits(last), start, end), bits(expected), "{last:x}");
        }
        assert_eq!(retarget(Network::Regtest, bits(0x207f_ffff), 0, 1), bits(0x207f_ffff), "regtest never retargets");
        let backwards = retarget(Network::Main, bits(0x1c05_a3f4), 2_000_000_000, 1_000_000_000);
        assert_eq!(backwards, bits(0x1c01_68fd), "a negative period counts as the shortest");
    }

    #[test]
    fn the_test_network_falls_to_the_lowest_difficulty_after_twenty_minutes() {
        let mut header = Checkpoint::genesis(Network::Test).header;
        header.bits = bits(0x1c0f_fff0);
        let entry = |height, header, target| Entry {
            header,
            height,
            work: header.work(),
            period_start_time: header.time,
            period_target: bits(target),
            times: vec![header.time],
        };
        let parent = entry(10, header, 0x1c0f_fff0);
        assert_eq!(next_target(Network::Test, &parent, header.time + 1_200), bits(0x1c0f_fff0));
        assert_eq!(next_target(Network::Test, &parent, header.time + 1_201), bits(0x1d00_ffff));
        assert_eq!(next_target(Network::Main, &parent, header.time + 1_201), bits(0x1c0f_fff0));
        header.bits = bits(0x1d00_ffff);
        let easy = entry(11, header, 0x1c0f_fff0);
        assert_eq!(next_target(Network::Test, &easy, header.time + 1), bits(0x1c0f_fff0), "the last regular target");
    }

    #[test]
    fn versions_end_with_their_soft_forks() {
        assert_eq!(version_min(Network::Main, 227_930), i32::MIN);
        assert_eq!(version_min(Network::Main, 227_931), 2);
        assert_eq!(version_min(Network::Main, 388_381), 4);
        assert_eq!(version_min(Network::Regtest, 1), 4);
    }
}
