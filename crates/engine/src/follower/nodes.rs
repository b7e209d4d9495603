//! The nodes of one chain: who they are, whether they follow the right network, how far each agrees with the header chain.
//! Nothing a node says is believed unless the bytes prove it, and a node that is caught is named.

use crate::alarm::Alarms;
use crate::ports::{Node, NodeFault, NodeInfo};
use crate::terms::{core_hash, core_txid, library_hash};
use florin_chain::bitcoin::header::{HeaderChain, HeaderRefusal, parse_header};
use florin_chain::bitcoin::network::Network;
use florin_chain::bitcoin::scan::{scan_block, scan_tx};
use florin_chain::bitcoin::watch::{WatchKey, WatchedOutpoints, WatchedScripts};
use florin_core::id::{BlockHash, Height, TxId};
use std::collections::BTreeMap;

/// Headers taken from one node in one poll: a few seconds of asking, so that all nodes are heard while one is caught up with.
pub const HEADERS_POLL_MAX: u32 = 2_000;
/// Headers asked for backwards from the journalled tip when it is not on any node's active chain.
pub const STALE_HEADERS_MAX: usize = 144;

/// How long a node that was caught is left aside, in milliseconds: a proxy or a memory that fails for a moment looks like a
/// lie, and whoever lies on purpose gains nothing by being heard again, because every answer is checked anew.
pub const LIE_MS: u64 = 10 * 60 * 1_000;

/// A node and what it is trusted to be independent of.
pub struct Seat {
    /// Its name in statuses.
    pub name: String,
    /// Its failure group: nodes of one host, provider or client have one voice together.
    pub group: String,
    /// The node.
    pub node: Box<dyn Node>,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Seat({} of {})", self.name, self.group)
    }
}

/// How a node stands, most severe first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeCondition {
    /// It follows another network.
    WrongNetwork,
    /// It gave bytes that are not what they were asked for as, or headers that break the rules.
    Lying {
        /// What it did.
        what: String,
    },
    /// It did not answer.
    Unreachable {
        /// The fault's code.
        code: &'static str,
    },
    /// It is on another branch.
    OtherBranch {
        /// The last block that it shares with the best one.
        fork_height: u32,
    },
    /// It fetches the chain.
    Syncing,
    /// It is behind the best chain.
    Lagging {
        /// By how many blocks.
        blocks: u32,
    },
    /// Nothing is wrong with it.
    Good,
}

/// A node's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its failure group.
    pub group: String,
    /// How it stands.
    pub condition: NodeCondition,
    /// What it says of itself.
    pub info: Option<NodeInfo>,
}

#[derive(Debug)]
struct Known {
    seat: Seat,
    info: Option<NodeInfo>,
    fault: Option<&'static str>,
    is_wrong_network: bool,
    /// What it did, and when.
    lie: Option<(String, u64)>,
    /// The highest block of its active chain that we have the header of.
    reached: Option<bitcoin::BlockHash>,
    mempool_failed: bool,
}

impl Known {
    fn is_usable(&self) -> bool {
        self.lie.is_none() && !self.is_wrong_network && self.fault.is_none()
    }

    /// The last block that its active chain shares with the best one.
    fn agreed(&self, headers: &HeaderChain) -> Option<u32> {
        if !self.is_usable() {
            return None;
        }
        let mut hash = self.reached?;
        loop {
            let info = headers.get(&hash)?;
            if headers.is_active(&hash) {
                return Some(info.height);
            }
            hash = info.header.prev_blockhash;
        }
    }

    fn condition(&self, headers: &HeaderChain) -> NodeCondition {
        if self.is_wrong_network {
            return NodeCondition::WrongNetwork;
        }
        if let Some((what, _)) = &self.lie {
            return NodeCondition::Lying { what: what.clone() };
        }
        let (Some(info), None) = (&self.info, self.fault) else {
            return NodeCondition::Unreachable { code: self.fault.unwrap_or("node_not_asked") };
        };
        let best = headers.tip().height;
        match self.agreed(headers) {
            Some(fork_height) if self.reached.is_some_and(|hash| !headers.is_active(&hash)) => {
                NodeCondition::OtherBranch { fork_height }
            }
            _ if info.is_syncing => NodeCondition::Syncing,
            Some(height) if height < best => NodeCondition::Lagging { blocks: best - height },
            Some(_) => NodeCondition::Good,
            None => NodeCondition::Lagging { blocks: best },
        }
    }
}

/// All nodes of one chain.
#[derive(Debug)]
pub struct Seats {
    network: Network,
    known: Vec<Known>,
    now_ms: u64,
}

/// Why a node's chain could not be learned.
enum Learn {
    Fault(NodeFault),
    Lie(String),
    /// Nothing is wrong: its chain moved under our hands, or its headers come too early.
    Later,
}

impl From<NodeFault> for Learn {
    fn from(fault: NodeFault) -> Learn {
        Learn::Fault(fault)
    }
}

impl Seats {
    pub(crate) fn new(seats: Vec<Seat>, network: Network) -> Seats {
        let known = |seat| Known {
            seat,
            info: None,
            fault: None,
            is_wrong_network: false,
            lie: None,
            reached: None,
            mempool_failed: false,
        };
        Seats { network, known: seats.into_iter().map(known).collect(), now_ms: 0 }
    }

    /// Asks every node; says how many failure groups answered with a chain that is not still being fetched.
    pub(crate) fn poll(&mut self, headers: &mut HeaderChain, cursor: Option<BlockHash>, now_ms: u64) -> usize {
        let clock_s = u32::try_from(now_ms / 1_000).unwrap_or(u32::MAX);
        let genesis = core_hash(self.network.genesis_hash());
        let mut fresh = std::collections::BTreeSet::new();
        self.now_ms = now_ms;
        for known in &mut self.known {
            known.lie = known.lie.take().filter(|(_, at)| now_ms.saturating_sub(*at) < LIE_MS);
            if known.lie.is_some() {
                continue;
            }
            known.fault = None;
            // The answer may come over a new connection, to another node than before: so every one is checked.
            let learned = known.seat.node.info().map_err(Learn::Fault).and_then(|info| {
                known.is_wrong_network = info.genesis != genesis;
                known.info = Some(info.clone());
                if known.is_wrong_network {
                    return Err(Learn::Later);
                }
                let reached = learn_chain(known.seat.node.as_mut(), &info, headers, clock_s)?;
                known.reached = reached.or(known.reached);
                learn_stale(known.seat.node.as_mut(), cursor, headers, clock_s)?;
                Ok(info)
            });
            match learned {
                Ok(info) if !info.is_syncing => drop(fresh.insert(known.seat.group.clone())),
                Ok(_) | Err(Learn::Later) => {}
                Err(Learn::Fault(fault)) => known.fault = Some(fault.code()),
                Err(Learn::Lie(what)) => known.lie = Some((what, now_ms)),
            }
        }
        fresh.len()
    }

    /// For each failure group, the highest block of the best chain that one of its nodes has.
    pub(crate) fn agreed_by_group(&self, headers: &HeaderChain) -> BTreeMap<&str, u32> {
        let mut groups: BTreeMap<&str, u32> = BTreeMap::new();
        for known in &self.known {
            if let Some(height) = known.agreed(headers) {
                let best = groups.entry(&known.seat.group).or_insert(height);
                *best = height.max(*best);
            }
        }
        groups
    }

    /// The bytes of a block, from the first node that has it and gives what it was asked for.
    pub(crate) fn block(&mut self, height: Height, hash: BlockHash) -> Option<Vec<u8>> {
        let key = WatchKey::new([0; 16]);
        let (scripts, outpoints) = (WatchedScripts::new(key), WatchedOutpoints::new(key));
        let now_ms = self.now_ms;
        for known in self.known.iter_mut().filter(|known| known.is_usable()) {
            if known.info.as_ref().and_then(|info| info.pruned_below).is_some_and(|below| height < below) {
                continue;
            }
            match known.seat.node.block(hash) {
                Ok(None) => {}
                Err(fault) => known.fault = Some(fault.code()),
                // The header's work vouches for the merkle root, and the root for the transactions.
                Ok(Some(bytes)) => match scan_block(&bytes, &scripts, &outpoints) {
                    Ok(block) if core_hash(block.hash) == hash => return Some(bytes),
                    Ok(_) => known.lie = Some((format!("it gave another block for {hash}"), now_ms)),
                    Err(error) => {
                        let what = format!("it gave a broken block for {hash}: {}", error.code());
                        known.lie = Some((what, now_ms));
                    }
                },
            }
        }
        None
    }

    /// The ids of all waiting transactions by node; `true` beside them where every usable node answered.
    pub(crate) fn mempools(&mut self) -> (Vec<(usize, Vec<TxId>)>, bool) {
        let mut pools = Vec::new();
        for (index, known) in self.known.iter_mut().enumerate().filter(|(_, known)| known.is_usable()) {
            match known.seat.node.mempool() {
                Ok(txids) => {
                    known.mempool_failed = false;
                    pools.push((index, txids));
                }
                Err(_) => known.mempool_failed = true,
            }
        }
        let all = !pools.is_empty() && self.known.iter().all(|known| known.is_usable() && !known.mempool_failed);
        (pools, all)
    }

    /// The bytes of a waiting transaction of a node, if they are what they should be.
    pub(crate) fn waiting_transaction(&mut self, index: usize, txid: TxId) -> Option<Vec<u8>> {
        let known = self.known.get_mut(index)?;
        let bytes = known.seat.node.transaction(txid, None).ok()??;
        if is_transaction(&bytes, txid) {
            return Some(bytes);
        }
        known.lie = Some((format!("it gave another transaction for {txid}"), self.now_ms));
        None
    }

    pub(crate) fn statuses(&self, headers: &HeaderChain) -> Vec<NodeStatus> {
        let status = |known: &Known| NodeStatus {
            name: known.seat.name.clone(),
            group: known.seat.group.clone(),
            condition: known.condition(headers),
            info: known.info.clone(),
        };
        self.known.iter().map(status).collect()
    }

    pub(crate) fn say_alarms(&self, alarms: &mut Alarms, headers: &HeaderChain, now_ms: u64) {
        for known in &self.known {
            let (code, detail) = match known.condition(headers) {
                NodeCondition::WrongNetwork => ("node_wrong_network", "it follows another network".to_owned()),
                NodeCondition::Lying { what } => ("node_lies", what),
                NodeCondition::Unreachable { code } => (code, "it gives no answer".to_owned()),
                NodeCondition::OtherBranch { fork_height } => {
                    ("node_on_other_branch", format!("its chain leaves the best one after block {fork_height}"))
                }
                NodeCondition::Syncing => ("node_syncing", "it fetches the chain".to_owned()),
                // A block takes a moment from one node to the next.
                NodeCondition::Lagging { blocks } if blocks > 1 => {
                    ("node_lags", format!("it is {blocks} blocks behind the best chain"))
                }
                NodeCondition::Lagging { .. } | NodeCondition::Good => continue,
            };
            alarms.say(now_ms, code, &known.seat.name, detail);
        }
    }
}

/// Whether bytes are the transaction with this id.
pub(crate) fn is_transaction(bytes: &[u8], txid: TxId) -> bool {
    let key = WatchKey::new([0; 16]);
    scan_tx(bytes, &WatchedScripts::new(key), &WatchedOutpoints::new(key))
        .is_ok_and(|scan| core_txid(scan.txid) == txid)
}

/// Learns the headers of a node's active chain, and says the highest one that is known now.
fn learn_chain(
    node: &mut dyn Node,
    info: &NodeInfo,
    headers: &mut HeaderChain,
    clock_s: u32,
) -> Result<Option<bitcoin::BlockHash>, Learn> {
    let tip = library_hash(info.tip);
    if headers.get(&tip).is_some() {
        return Ok(Some(tip));
    }
    let Some(shared) = shared_height(node, info.height.0, headers)? else { return Err(Learn::Later) };
    let mut reached = None;
    for height in shared..=info.height.0.min(shared.saturating_add(HEADERS_POLL_MAX)) {
        let Some(hash) = node.block_hash(Height(height))? else { break };
        if headers.get(&library_hash(hash)).is_none() {
            let Some(bytes) = node.header(hash)? else { break };
            accept(&bytes, hash, headers, clock_s)?;
        }
        reached = Some(library_hash(hash));
    }
    Ok(reached)
}

/// The highest block, or one some way below it, that the node's active chain shares with the best one. Looked for in
/// growing steps: what is fetched twice on the way up is known already.
fn shared_height(node: &mut dyn Node, node_height: u32, headers: &HeaderChain) -> Result<Option<u32>, Learn> {
    let lowest = headers.lowest_height();
    let mut height = node_height.min(headers.tip().height);
    let mut stride = 1;
    loop {
        if height < lowest {
            return Ok(None);
        }
        let hash = node.block_hash(Height(height))?;
        if hash.is_some_and(|hash| headers.hash_at(height) == Some(library_hash(hash))) {
            return Ok(Some(height));
        }
        if height == lowest {
            return Ok(None);
        }
        height = height.saturating_sub(stride).max(lowest);
        stride *= 2;
    }
}

/// Learns the headers of the journalled tip where it lies on no node's active chain any more, so that it can be compared by work.
fn learn_stale(
    node: &mut dyn Node,
    cursor: Option<BlockHash>,
    headers: &mut HeaderChain,
    clock_s: u32,
) -> Result<(), Learn> {
    let Some(mut hash) = cursor else { return Ok(()) };
    let mut unknown = Vec::new();
    while headers.get(&library_hash(hash)).is_none() {
        if unknown.len() == STALE_HEADERS_MAX {
            return Ok(());
        }
        // Nodes may have forgotten it, or never seen it.
        let Some(bytes) = node.header(hash)? else { return Ok(()) };
        let Ok(header) = parse_header(&bytes) else { return Ok(()) };
        let previous = core_hash(header.prev_blockhash);
        unknown.push((bytes, hash));
        hash = previous;
    }
    unknown.iter().rev().try_for_each(|(bytes, hash)| accept(bytes, *hash, headers, clock_s))
}

fn accept(bytes: &[u8], hash: BlockHash, headers: &mut HeaderChain, clock_s: u32) -> Result<(), Learn> {
    let header = parse_header(bytes).map_err(|error| Learn::Lie(format!("it gave a header with {}", error.code())))?;
    if header.block_hash() != library_hash(hash) {
        return Err(Learn::Lie(format!("it gave another header for {hash}")));
    }
    match headers.accept(&header, clock_s) {
        Ok(_) => Ok(()),
        // The node's chain changed between two questions, its clock is ahead, or side branches are many: not a lie.
        Err(HeaderRefusal::ParentUnknown | HeaderRefusal::TimeTooNew | HeaderRefusal::TooMany) => Err(Learn::Later),
        Err(refusal) => Err(Learn::Lie(format!("block {hash} breaks a rule: {}", refusal.code()))),
    }
}
