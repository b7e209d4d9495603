//! The chain's side of a platform: nodes, where following starts, the watcher, and the workers that need nodes or a signer.
//! Every worker has lines of its own to the nodes; what one learns of a node that hangs, all know.

use super::{CHAIN, start};
use crate::config::Config;
use crate::config::check::start_hash;
use crate::failure::Failure;
use crate::node::bitcoind::Bitcoind;
use crate::node::rpc::Rpc;
use florin_chain::bitcoin::header::Checkpoint;
use florin_chain::bitcoin::network::Network;
use florin_core::command::{PART_COST_MAX, PLAN_PAYMENTS_MAX};
use florin_core::custody::{Block, BlockRef};
use florin_core::id::{BlockHash, Height};
use florin_core::journal::Journal;
use florin_engine::follower::line::{Connect, Line, Rests};
use florin_engine::follower::nodes::Seat;
use florin_engine::follower::{Follower, FollowerConfig};
use florin_engine::ports::Signer;
use florin_engine::runtime::Seated;
use florin_engine::terms::core_hash;
use florin_engine::unarchive::{JournalPast, PastLimits};
use florin_engine::workers::broadcaster::{Broadcaster, BroadcasterConfig};
use florin_engine::workers::doubts::Doubts;
use florin_engine::workers::lookout::Lookout;
use florin_engine::workers::planner::{Planner, PlannerConfig};
use florin_engine::workers::signing::{Signing, SigningConfig};
use florin_engine::workers::ticker::Ticker;
use std::sync::Arc;

/// Headers kept: those of a whole chain, at some 150 bytes each.
const HEADERS_MAX: usize = 1_500_000;
/// How many blocks of valid work may lie beyond what the quorum follows before the asset stops.
const SPLIT_BLOCKS_MAX: u32 = 3;
/// How long the quorum may stay silent before the asset stops, in milliseconds.
const SILENT_MS: u64 = 10 * 60 * 1_000;

/// How often the watcher steps where nobody says otherwise, in milliseconds.
const CADENCE_MS: u64 = 500;
/// How often time passes in the journal, in milliseconds.
const TICK_MS: u64 = 1_000;
/// How often an unconfirmed transaction is sent again, in milliseconds.
const REPEAT_MS: u64 = 60_000;
/// How long a plan that the signer refused waits before it is taken to it again, in milliseconds.
const SIGNER_RETRY_MS: u64 = 5_000;
/// Into one of how many next blocks a payment should get.
const FEE_BLOCKS: u16 = 6;
/// The highest fee as a share of what is paid, in parts per million: a tenth.
const FEE_SHARE_PPM_MAX: u64 = 100_000;

/// A node.
#[derive(Clone)]
pub struct NodePart {
    /// Its name in statuses.
    pub name: String,
    /// Its failure group.
    pub group: String,
    /// Makes a connection to it.
    pub connect: Connect,
}

impl std::fmt::Debug for NodePart {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "NodePart({} of {})", self.name, self.group)
    }
}

/// The chain that is followed.
#[derive(Debug, Clone)]
pub struct ChainPart {
    /// Its network.
    pub network: Network,
    /// How many failure groups must have a block.
    pub quorum: usize,
    /// Where its headers start.
    pub checkpoint: Checkpoint,
    /// The first block that is journalled: the checkpoint's.
    pub start: Block,
    /// After how long without a new block the asset stops, in milliseconds; never where absent.
    pub tip_age_max_ms: Option<u64>,
    /// The lowest fee rate paid, in satoshi for 1,000 virtual bytes.
    pub fee_floor_sat_kvb: u64,
    /// The highest fee rate paid.
    pub fee_cap_sat_kvb: u64,
    /// How often the watcher and the workers step, in milliseconds.
    pub cadence_ms: u64,
    /// The nodes.
    pub nodes: Vec<NodePart>,
}

impl ChainPart {
    /// A chain followed from its first block on.
    pub fn from_genesis(network: Network, quorum: usize, nodes: Vec<NodePart>) -> ChainPart {
        let genesis = bitcoin::constants::genesis_block(network.library()).header;
        ChainPart {
            network,
            quorum,
            checkpoint: Checkpoint::genesis(network),
            start: block(0, core_hash(genesis.block_hash()), &genesis),
            tip_age_max_ms: None,
            fee_floor_sat_kvb: 1_000,
            fee_cap_sat_kvb: 500_000,
            cadence_ms: CADENCE_MS,
            nodes,
        }
    }

    /// The chain that a configuration describes. For a start above 0 the nodes are asked for the header, which the
    /// configured hash proves; for its height only where the journal does not define the chain yet.
    ///
    /// # Errors
    /// Those of the key `start_hash`; `start_unknown`.
    pub fn of(config: &Config) -> Result<ChainPart, Failure> {
        let bitcoin = &config.bitcoin;
        let network = Network::parse(&bitcoin.network)
            .ok_or_else(|| Failure::new("config_invalid", "bitcoin.network is not known"))?;
        let node = |node: &crate::config::NodeConfig| {
            let (url, auth_file) = (node.url.clone(), config.path(&node.auth_file));
            let connect: Connect = Arc::new(move || Box::new(Bitcoind::new(Rpc::new(url.clone(), auth_file.clone()))));
            NodePart { name: node.name.clone(), group: node.group.clone(), connect }
        };
        let nodes: Vec<NodePart> = bitcoin.node.iter().map(node).collect();
        let mut chain = ChainPart::from_genesis(network, bitcoin.quorum, nodes);
        chain.fee_floor_sat_kvb = bitcoin.fee_floor_sat_kvb;
        chain.fee_cap_sat_kvb = bitcoin.fee_cap_sat_kvb;
        chain.tip_age_max_ms =
            Some(bitcoin.stale_s).filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1_000));
        if let Some(hash) = start_hash(bitcoin)? {
            chain.start_at(bitcoin.start_height, hash)?;
        }
        Ok(chain)
    }

    /// The chain's name, such as `bitcoin-regtest`.
    pub fn name(&self) -> String {
        format!("bitcoin-{}", self.network.name())
    }

    pub(super) fn start_at(&mut self, height: u32, hash: BlockHash) -> Result<(), Failure> {
        let header = start::header(&self.nodes, hash)?;
        self.checkpoint = if self.network != Network::Regtest {
            let checkpoint = Checkpoint::at_period_start(height, header);
            checkpoint.map_err(|fault| Failure::new(fault.code(), "following can't start there").because(fault))?
        } else {
            Checkpoint::inside_period(height, header, header.time, header.bits)
        };
        self.start = block(height, hash, &header);
        Ok(())
    }

    /// The nodes, as one who asks them sees them; `rests` is what all who ask know, node by node.
    fn seats(&self, rests: &[Rests]) -> Vec<Seat> {
        let seat = |(part, rests): (&NodePart, &Rests)| Seat {
            name: part.name.clone(),
            group: part.group.clone(),
            node: Box::new(Line::open(Arc::clone(&part.connect), rests.clone())),
        };
        self.nodes.iter().zip(rests).map(seat).collect()
    }
}

fn block(height: u32, hash: BlockHash, header: &bitcoin::block::Header) -> Block {
    Block {
        chain: CHAIN,
        at: BlockRef { height: Height(height), hash },
        previous: core_hash(header.prev_blockhash),
        time_s: u64::from(header.time),
    }
}

/// Randomness of the operating system: for keys of tables, and for the order of outputs.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness, or nothing may go on");
    bytes
}

/// Watchers and workers, and how often each steps.
pub(super) struct Seating {
    pub(super) followers: Vec<(Follower, u64)>,
    pub(super) workers: Vec<Seated>,
    /// What all of them know of nodes that hang; closed, nobody waits for a node any more.
    pub(super) rests: Vec<Rests>,
}

/// The watcher of the chain, and all workers; in the journal `shown` rows are looked up that the signer was shown, and in `left` what
/// left the state.
pub(super) fn seats(
    chain: Option<ChainPart>,
    signer: Option<Box<dyn Signer>>,
    shown: Box<dyn Journal>,
    left: Box<dyn Journal>,
) -> Result<Seating, Failure> {
    let ticker = Seated { worker: Box::new(Ticker::new(TICK_MS)), cadence_ms: TICK_MS / 4 };
    let Some(chain) = chain else {
        return Ok(Seating { followers: Vec::new(), workers: vec![ticker], rests: Vec::new() });
    };
    let rests: Vec<Rests> = chain.nodes.iter().map(|_| Rests::default()).collect();
    let cadence_ms = chain.cadence_ms;
    let config = FollowerConfig {
        chain: CHAIN,
        network: chain.network,
        checkpoint: chain.checkpoint.clone(),
        headers_max: HEADERS_MAX,
        quorum: chain.quorum,
        split_blocks_max: SPLIT_BLOCKS_MAX,
        stale_ms: SILENT_MS,
        tip_age_max_ms: chain.tip_age_max_ms,
        part_cost_max: PART_COST_MAX,
    };
    let follower = Follower::new(config, chain.seats(&rests), random())
        .map_err(|fault| Failure::new(fault.code(), "the chain can't be followed from there").because(fault))?
        .with_past(Box::new(JournalPast::new(left, PastLimits::default())));
    let planner = PlannerConfig {
        chain: CHAIN,
        quorum: chain.quorum,
        blocks: FEE_BLOCKS,
        rate_min: chain.fee_floor_sat_kvb,
        rate_max: chain.fee_cap_sat_kvb,
        rate_long_term: chain.fee_floor_sat_kvb.saturating_mul(5).min(chain.fee_cap_sat_kvb),
        rate_fallback: chain.fee_floor_sat_kvb,
        fee_share_ppm_max: FEE_SHARE_PPM_MAX,
        batch_max: PLAN_PAYMENTS_MAX,
    };
    let doubts = Doubts::default();
    let planning = Planner::new(planner, chain.seats(&rests), Box::new(random)).heeding(doubts.clone());
    let broadcaster = BroadcasterConfig { chain: CHAIN, quorum: chain.quorum, repeat_ms: REPEAT_MS };
    let mut workers = vec![
        ticker,
        Seated { worker: Box::new(Broadcaster::new(broadcaster, chain.seats(&rests))), cadence_ms },
        Seated { worker: Box::new(planning), cadence_ms },
        Seated { worker: Box::new(Lookout::default()), cadence_ms },
    ];
    if let Some(signer) = signer {
        let config = SigningConfig { chain: CHAIN, retry_ms: SIGNER_RETRY_MS };
        let signing = Signing::new(config, signer, shown, chain.seats(&rests)).telling(doubts);
        workers.push(Seated { worker: Box::new(signing), cadence_ms });
    }
    Ok(Seating { followers: vec![(follower, cadence_ms)], workers, rests })
}
