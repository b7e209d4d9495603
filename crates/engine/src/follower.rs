//! The chain watcher of the Bitcoin family: from several nodes, none of them trusted, to commands that the core books.
//!
//! A block is connected only if it lies on the valid header chain with the most work and `quorum` failure groups have it in
//! their active chain. Valid work that the quorum does not follow stops the asset, never the other way round. No block is
//! ever skipped: what can't be fetched or read is waited for, with an alarm.
//!
//! A step has three parts, so that nobody holds the state while waiting for a node: [`Follower::poll`] and
//! [`Follower::fetch`] talk to nodes and see no state, [`Follower::look`] sees the state and talks to nobody.

pub mod blocks;
pub mod condition;
pub mod conflicts;
pub mod deep;
pub mod line;
pub mod mempool;
pub mod nodes;
mod stale;

use crate::alarm::{Alarm, Alarms};
use crate::lanes::Ask;
use crate::ports::Past;
use crate::terms::{core_hash, library_hash};
use crate::workers::{View, Worker, see};
use blocks::{Held, Watched};
use condition::NodeStatus;
use deep::Deep;
use florin_chain::bitcoin::header::{Checkpoint, HeaderChain, HeaderRefusal};
use florin_chain::bitcoin::network::Network;
use florin_chain::bitcoin::watch::WatchKey;
use florin_core::asset::{Halt, HaltAction, HaltReason};
use florin_core::command::Command;
use florin_core::custody::BlockRef;
use florin_core::id::{AssetId, BlockHash, ChainId, Height};
use florin_core::state::{ChainState, State};
use mempool::Mempool;
use nodes::{Seat, Seats};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Blocks taken back in one step: they are named by hash, so one refusal stops the rest, and a deep reorganisation does
/// not wait for a round through the journal at every block.
pub const DISCONNECTS_MAX: usize = 16;

/// What a halt of the chain stops: everything that rests on what the chain says.
const HALTED: [HaltAction; 4] = [HaltAction::Credit, HaltAction::Quote, HaltAction::Withdraw, HaltAction::Sign];

/// How a chain is followed.
#[derive(Debug, Clone)]
pub struct FollowerConfig {
    /// The chain.
    pub chain: ChainId,
    /// Its network.
    pub network: Network,
    /// Where its headers start.
    pub checkpoint: Checkpoint,
    /// How many headers are kept.
    pub headers_max: usize,
    /// How many failure groups must have a block; at least 1.
    pub quorum: usize,
    /// How many blocks of valid work may lie beyond what the quorum follows before the asset stops.
    pub split_blocks_max: u32,
    /// How long the quorum may stay silent before the asset stops, in milliseconds.
    pub stale_ms: u64,
    /// How old the newest block may be before the asset stops, in milliseconds; never where absent. It is as old as its header
    /// says, and at least as old as this process has known it: a miner's clock may be ahead.
    pub tip_age_max_ms: Option<u64>,
    /// What one command may book of a block, as [`florin_core::command::ConnectBlock::cost`] counts; the core's bound is
    /// [`florin_core::command::PART_COST_MAX`]. More of one block follows in further commands.
    pub part_cost_max: usize,
}

/// What the follower knows, for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FollowerStatus {
    /// The tip of the valid header chain with the most work.
    pub best: Option<(u32, BlockHash)>,
    /// Up to where the quorum follows it.
    pub agreed_height: Option<u32>,
    /// The journalled tip.
    pub cursor: Option<BlockRef>,
    /// Each node.
    pub nodes: Vec<NodeStatus>,
    /// When the quorum last answered, in Unix milliseconds.
    pub fresh_ms: Option<u64>,
    /// What stands still or contradicts itself.
    pub alarms: Vec<Alarm>,
}

/// Where to go from the journalled tip.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// Nowhere: the tip is what the quorum agrees on, or nothing better is known.
    Stay,
    /// These blocks are to be taken back, the tip first.
    Back(Vec<BlockHash>),
    /// This block comes next.
    Forward(Height, BlockHash),
    /// No block that the state keeps is on the best chain; one that left it may be.
    Below,
    /// No journalled block is on the best chain.
    TooDeep,
    /// The nodes do not know the journalled tip, and show nothing that outranks it.
    Ahead,
    /// Nobody can say yet: the headers of the journalled branch are on their way.
    Unknown,
}

/// The journalled tip, and how much of the next block is booked.
type Booked = (BlockRef, Option<u32>);

/// Follows one chain. See the module.
#[derive(Debug)]
pub struct Follower {
    config: FollowerConfig,
    seats: Seats,
    headers: HeaderChain,
    watched: Watched,
    mempool: Mempool,
    /// The journalled tip, as the last look saw it.
    cursor: Option<BlockRef>,
    wanted: Option<(Height, BlockHash)>,
    held: Option<Held>,
    deep: Deep,
    /// How long the last round through the nodes took.
    polled_for: Duration,
    /// Whether the last look had no block to book: until then the mempool is nobody's first concern.
    is_caught_up: bool,
    started_ms: Option<u64>,
    fresh_ms: Option<u64>,
    tip_changed: Option<(BlockHash, u64)>,
    /// How far the journal is, and since when that is so or was all there is: a block that can't be had or booked shows here.
    moved: Option<(Booked, u64)>,
    alarms: Alarms,
    status: FollowerStatus,
}

impl Follower {
    /// A follower that has asked nobody yet. `key` keys the tables of what is watched: 16 random bytes.
    ///
    /// # Errors
    /// Where the checkpoint can't belong to the network.
    pub fn new(config: FollowerConfig, seats: Vec<Seat>, key: [u8; 16]) -> Result<Follower, HeaderRefusal> {
        let headers = HeaderChain::start(config.network, config.checkpoint.clone(), config.headers_max)?;
        Ok(Follower {
            seats: Seats::new(seats, config.network),
            headers,
            watched: Watched::new(WatchKey::new(key)),
            mempool: Mempool::new(config.quorum, WatchKey::new(key)),
            cursor: None,
            wanted: None,
            held: None,
            deep: Deep::default(),
            polled_for: Duration::ZERO,
            is_caught_up: false,
            started_ms: None,
            fresh_ms: None,
            tip_changed: None,
            moved: None,
            alarms: Alarms::default(),
            status: FollowerStatus::default(),
            config,
        })
    }

    /// Has it follow reorganisations below the blocks that the state keeps, with what `past` finds of those before. Without it they stop
    /// the asset for good.
    #[must_use]
    pub fn with_past(self, past: Box<dyn Past>) -> Follower {
        self.with_past_of(past, deep::RECORDS_MAX)
    }

    /// As [`Follower::with_past`], with `records_max` records held at once; more than belong to one plan.
    #[must_use]
    pub fn with_past_of(self, past: Box<dyn Past>, records_max: usize) -> Follower {
        Follower { deep: Deep::reading(past, records_max), ..self }
    }

    /// Forgets what it read of the journal's past: it is not to step for a while.
    pub fn rest(&mut self) {
        self.deep.rest();
    }

    /// Whether it reads the journal's past and only has to step again to go on.
    pub fn is_reading(&self) -> bool {
        self.deep.is_reading()
    }

    /// What it knows.
    pub fn status(&self) -> &FollowerStatus {
        &self.status
    }

    /// The nodes, for whoever drives them.
    pub fn seats(&mut self) -> &mut Seats {
        &mut self.seats
    }

    /// Asks every node where it stands and learns the headers of its chain.
    pub fn poll(&mut self, now_ms: u64) {
        self.alarms.settle();
        self.started_ms.get_or_insert(now_ms);
        let cursor = self.cursor.map(|tip| tip.hash);
        let begun = Instant::now();
        let fresh = self.seats.poll(&mut self.headers, cursor, now_ms);
        self.polled_for = begun.elapsed();
        if fresh >= self.config.quorum {
            self.fresh_ms = Some(now_ms);
        }
        let tip = core_hash(self.headers.tip().hash);
        if self.tip_changed.is_none_or(|(known, _)| known != tip) {
            self.tip_changed = Some((tip, now_ms));
        }
    }

    /// Fetches the block that the last look found missing, or records that left the state, or, where nothing is, what waits in the
    /// mempools; says whether there is anything new to look at.
    pub fn fetch(&mut self, now_ms: u64) -> bool {
        let mut news = self.is_caught_up;
        news |= self.deep.read(now_ms, self.polled_for);
        if self.is_caught_up {
            self.mempool.poll(&mut self.seats, &self.headers);
            self.mempool.fetch(&mut self.seats, &self.watched, self.config.chain);
        }
        if let Some((height, hash)) = self.wanted.take() {
            match self.seats.block(height, hash) {
                Some(bytes) => {
                    self.mempool.look_through(hash, &bytes);
                    self.held = Some(Held { height, hash, bytes });
                    news = true;
                }
                None => {
                    self.alarms.say(now_ms, "block_unavailable", height, "no node that follows it gives this block")
                }
            }
        }
        news
    }

    /// Compares what the nodes say with the durable state, and says what is to be booked. Every command names the tip it
    /// was made for; where the tip has moved the core refuses it, and the next look starts from the new one.
    pub fn look(&mut self, state: &State, now_ms: u64) -> Vec<Ask> {
        let mut asks = Vec::new();
        if let Some(chain) = state.chains().get(&self.config.chain)
            && let Some(tip) = chain.tip()
        {
            self.cursor = Some(tip.at);
            self.seats.needs(Height(tip.at.height.0 + 1));
            self.watched.learn_scripts(state, self.config.chain);
            let way = self.way(chain);
            let way = self.way_below(chain, way);
            let booked = (tip.at, chain.part.as_ref().map(|part| part.booked));
            if way == Way::Stay || self.moved.is_none_or(|(known, _)| known != booked) {
                self.moved = Some((booked, now_ms));
            }
            self.halts(state, chain, &way, now_ms, &mut asks);
            self.go(state, chain, way, now_ms, &mut asks);
        } else {
            self.alarms.say(now_ms, "chain_undefined", self.config.chain, "the journal does not define this chain");
        }
        self.report(now_ms);
        asks
    }

    fn go(&mut self, state: &State, chain: &ChainState, way: Way, now_ms: u64, asks: &mut Vec<Ask>) {
        self.wanted = None;
        self.is_caught_up = way == Way::Stay;
        let chain_id = self.config.chain;
        let disconnect = |hash| Ask::internal(Command::DisconnectBlock { chain: chain_id, hash });
        let part = chain.part.as_ref();
        // What is booked of a block that does not come next, or is being taken back, goes before anything else.
        let forward = if let Way::Forward(_, hash) = way { Some(hash) } else { None };
        let is_back = matches!(way, Way::Back(_)) || way == Way::Below && self.goes_below();
        if let Some(part) =
            part.filter(|part| part.undoing || is_back || forward.is_some_and(|hash| hash != part.block.at.hash))
        {
            asks.push(disconnect(part.block.at.hash));
            return;
        }
        match way {
            Way::Back(hashes) => asks.extend(hashes.into_iter().take(DISCONNECTS_MAX).map(disconnect)),
            Way::Forward(height, hash) => {
                let Some(held) = self.held.as_ref().filter(|held| held.hash == hash) else {
                    self.wanted = Some((height, hash));
                    return;
                };
                self.watched.learn_coins(state, self.config.chain, hash);
                match blocks::connect(held, &self.watched, state, (self.config.chain, self.config.part_cost_max)) {
                    Ok(command) => asks.push(Ask::internal(Command::ConnectBlock(command))),
                    Err(fault) => {
                        // Its merkle root was right when it was fetched: this is content that this build can't read.
                        self.alarms.say(now_ms, fault.code(), height, &fault);
                        self.held = None;
                    }
                }
            }
            Way::Stay => {
                self.held = None;
                asks.extend(self.mempool.look(state, self.config.chain, now_ms, &mut self.alarms));
            }
            Way::Below => self.go_below(state, chain, now_ms, asks),
            Way::TooDeep => self.alarms.say(
                now_ms,
                "reorganisation_too_deep",
                self.config.chain,
                "no block that may be taken back is on the best chain",
            ),
            Way::Ahead => self.alarms.say(
                now_ms,
                "journal_ahead_of_nodes",
                self.config.chain,
                "the nodes do not know the journalled tip, and show no better chain",
            ),
            Way::Unknown => {}
        }
    }

    /// Up to where `quorum` failure groups follow the header chain with the most work.
    fn agreed_height(&self) -> Option<u32> {
        self.quorum_height(self.seats.agreed_by_group(&self.headers))
    }

    fn quorum_height(&self, by_group: BTreeMap<&str, u32>) -> Option<u32> {
        let mut heights: Vec<u32> = by_group.into_values().collect();
        heights.sort_unstable_by(|a, b| b.cmp(a));
        heights.get(self.config.quorum.max(1) - 1).copied()
    }

    fn is_active(&self, hash: BlockHash) -> bool {
        self.headers.is_active(&library_hash(hash))
    }

    fn way(&self, chain: &ChainState) -> Way {
        let Some(tip) = chain.tip() else { return Way::Stay };
        let Some(agreed) = self.agreed_height() else { return Way::Stay };
        let mut gone = Vec::new();
        let mut fork = None;
        for block in chain.blocks.values().rev() {
            if self.is_active(block.at.hash) {
                fork = Some(block.at);
                break;
            }
            gone.push(block.at.hash);
        }
        if gone.is_empty() {
            let next = tip.at.height.0 + 1;
            return match self.headers.hash_at(next).filter(|_| next <= agreed) {
                Some(hash) => Way::Forward(Height(next), core_hash(hash)),
                None => Way::Stay,
            };
        }
        // Headers of nodes that are themselves behind the journal say nothing against it. Where the tip's header is
        // known the chains were compared by work; where nobody has it any more, by height.
        let is_compared = self.headers.get(&library_hash(tip.at.hash)).is_some();
        if !is_compared && self.seats.is_comparing() {
            return Way::Unknown;
        }
        if !is_compared && self.headers.tip().height < tip.at.height.0 {
            return Way::Ahead;
        }
        let oldest = chain.blocks.keys().next().map_or(0, |oldest| oldest.0);
        match fork {
            None if agreed >= if is_compared { oldest } else { tip.at.height.0 } => Way::Below,
            // Only where the quorum itself has left the journalled branch is it left here too.
            Some(fork) if agreed > fork.height.0 => Way::Back(gone),
            Some(_) | None => Way::Stay,
        }
    }

    /// Whether a way below the kept blocks leads anywhere. While the tip is on the best chain, nothing of that is remembered.
    fn way_below(&mut self, chain: &ChainState, way: Way) -> Way {
        if chain.tip().is_some_and(|tip| self.is_active(tip.at.hash)) {
            self.deep.rest();
        }
        let headers = &self.headers;
        let is_active = |hash| headers.is_active(&library_hash(hash));
        let is_out = way == Way::Below && !self.deep.may_reach(chain.archived, is_active);
        if is_out { Way::TooDeep } else { way }
    }

    /// Halts and resumes for what the watcher itself sees; halts of others are never touched.
    fn halts(&mut self, state: &State, chain: &ChainState, way: &Way, now_ms: u64, asks: &mut Vec<Ask>) {
        let best = self.headers.tip().height;
        let agreed = self.agreed_height();
        let agreed_at_most = self.quorum_height(self.seats.agreed_at_most_by_group(&self.headers));
        let beyond = best.saturating_sub(agreed_at_most.unwrap_or(best));
        let is_split = beyond > self.config.split_blocks_max;
        if is_split {
            let detail = format!("valid work reaches {beyond} blocks beyond what {} groups follow", self.config.quorum);
            self.alarms.say(now_ms, "chain_split", self.config.chain, detail);
        }
        let since = self.fresh_ms.or(self.started_ms).unwrap_or(now_ms);
        let is_silent = now_ms.saturating_sub(since) > self.config.stale_ms;
        let tip_age_ms = self.tip_age_ms(chain, now_ms);
        let is_old = self.config.tip_age_max_ms.is_some_and(|max| tip_age_ms > max);
        let is_stuck = self.moved.is_some_and(|(_, at)| now_ms.saturating_sub(at) > self.config.stale_ms);
        let why = match (is_silent, is_old, is_stuck) {
            (true, _, _) => Some("too few nodes answer"),
            (_, true, _) => Some("no new block has come for too long"),
            (_, _, true) => Some("the journal has not come nearer to the chain's tip for too long"),
            (false, false, false) => None,
        };
        if let Some(why) = why {
            self.alarms.say(now_ms, "chain_stale", self.config.chain, why);
        }
        // Once silent, only an answer of the quorum makes it fresh; before the first one nothing is known either way.
        let may_resume = self.fresh_ms.is_some();
        let coin = chain.chain.coin;
        // Where too few nodes speak, nothing is known of a split: then it does not end, either.
        own_halts(state, coin, HaltReason::ChainSplit, is_split, may_resume && agreed.is_some(), asks);
        own_halts(state, coin, HaltReason::Stale, why.is_some(), may_resume, asks);
        if matches!(way, Way::TooDeep | Way::Below) {
            // Only an operator resumes from this.
            own_halts(state, coin, HaltReason::DeepReorganisation, true, false, asks);
        }
    }

    /// How old the newest block is that the nodes or the journal know. The headers of a process that has just started may not
    /// reach as far as the journal; and what this process has seen itself begins anew with it, while a block's time does not:
    /// nodes that show nothing new are not believed for longer because of a restart.
    fn tip_age_ms(&self, chain: &ChainState, now_ms: u64) -> u64 {
        let seen_ms = self.tip_changed.map_or(0, |(_, at)| now_ms.saturating_sub(at));
        let journalled_s = chain.tip().map_or(0, |tip| tip.time_s);
        let made_s = journalled_s.max(u64::from(self.headers.tip().header.time));
        seen_ms.max(now_ms.saturating_sub(made_s.saturating_mul(1_000)))
    }

    fn report(&mut self, now_ms: u64) {
        self.seats.say_alarms(&mut self.alarms, &self.headers, now_ms);
        let tip = self.headers.tip();
        self.status = FollowerStatus {
            best: Some((tip.height, core_hash(tip.hash))),
            agreed_height: self.agreed_height(),
            cursor: self.cursor,
            nodes: self.seats.statuses(&self.headers),
            fresh_ms: self.fresh_ms,
            alarms: self.alarms.all(),
        };
    }
}

impl Worker for Follower {
    fn name(&self) -> &'static str {
        "follower"
    }

    fn step(&mut self, view: &dyn View, now_ms: u64) -> Vec<Ask> {
        self.poll(now_ms);
        let asks = see(view, |model| self.look(model.state(), now_ms));
        if self.fetch(now_ms) { see(view, |model| self.look(model.state(), now_ms)) } else { asks }
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }
}

/// Sets the missing halts of a reason, or ends those that stand.
fn own_halts(state: &State, coin: AssetId, reason: HaltReason, wanted: bool, may_resume: bool, asks: &mut Vec<Ask>) {
    for action in HALTED {
        let halt = Halt { asset: Some(coin), action, reason };
        let stands = state.halts().contains(&halt);
        if wanted && !stands {
            asks.push(Ask::internal(Command::Halt(halt)));
        } else if !wanted && stands && may_resume {
            asks.push(Ask::internal(Command::Resume(halt)));
        }
    }
}
