//! The nodes of one chain: who they are, whether they follow the right network, how far each agrees with the header chain.
//! Nothing a node says is believed unless the bytes prove it, and a node that is caught is named.

use super::condition::{NodeCondition, NodeStatus, shown, words};
use super::stale::Stale;
use crate::alarm::Alarms;
use crate::ports::{Node, NodeFault, NodeInfo};
use crate::terms::{core_hash, core_txid, library_hash};
use bitcoin::block::Header;
use florin_chain::bitcoin::header::{HeaderChain, HeaderRefusal, parse_header};
use florin_chain::bitcoin::network::Network;
use florin_chain::bitcoin::scan::scan_block;
use florin_chain::bitcoin::watch::{WatchKey, WatchedOutpoints, WatchedScripts};
use florin_core::id::{BlockHash, Height, TxId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Headers taken from one node in one poll: a few seconds of asking, so that all nodes are heard while one is caught up with.
pub const HEADERS_POLL_MAX: u32 = 2_000;
/// How long a node that was caught is left aside, in milliseconds: a proxy or a memory that fails for a moment looks like a
/// lie, and whoever lies on purpose gains nothing by being heard again, because every answer is checked anew.
pub const LIE_MS: u64 = 10 * 60 * 1_000;

/// How long one node may be asked in a row for its headers. All nodes are asked one after another, and until then no block is
/// booked and no halt set: whoever answers slowly must not stop that.
pub const ASKING_MAX: Duration = Duration::from_secs(10);
/// The same for what waits in its mempool, in each step: no block waits longer for that.
pub const WAITING_MAX: Duration = Duration::from_secs(2);

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

#[derive(Debug)]
struct Known {
    seat: Seat,
    info: Option<NodeInfo>,
    fault: Option<(&'static str, String)>,
    is_wrong_network: bool,
    /// What it did, and when.
    lie: Option<(String, u64)>,
    /// The highest block of its active chain that we have the header of.
    reached: Option<bitcoin::BlockHash>,
    /// What waits in its mempool, until the other nodes have said it, too.
    listed: Option<Vec<TxId>>,
    /// Why it did not list that the last time.
    mempool_fault: Option<String>,
    /// How long it has been asked for waiting transactions in this step.
    asked_for_waiting: Duration,
}

impl Known {
    fn is_usable(&self) -> bool {
        self.lie.is_none() && !self.is_wrong_network && self.fault.is_none()
    }

    fn failed(&mut self, fault: &NodeFault) {
        self.fault = Some((fault.code(), words(fault)));
    }

    /// Asks what waits, unless it has said so. It lists that in its own time, and blocks are followed meanwhile.
    fn list(&mut self) {
        self.asked_for_waiting = Duration::ZERO;
        if !self.is_usable() {
            self.listed = None;
        } else if self.listed.is_none() {
            match self.seat.node.mempool() {
                Ok(Some(txids)) => (self.listed, self.mempool_fault) = (Some(txids), None),
                Ok(None) => {}
                Err(fault) => self.mempool_fault = Some(words(&fault)),
            }
        }
    }

    /// Whether it is about to say what waits. One that was late the last time is not waited for.
    fn is_listing(&self) -> bool {
        self.is_usable() && self.listed.is_none() && self.mempool_fault.is_none()
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

    /// Whether it follows the best chain up to the block before the tip, which takes a moment from one node to the next. One
    /// that fetches the chain takes no transactions in, and one on another branch may have mined what waits elsewhere.
    fn is_current(&self, headers: &HeaderChain) -> bool {
        let is_syncing = self.info.as_ref().is_none_or(|info| info.is_syncing);
        !is_syncing && self.agreed(headers).is_some_and(|height| height + 1 >= headers.tip().height)
    }

    /// The last block that its active chain may share with the best one, as long as its tip's header is not known: while
    /// headers are fetched in portions, a node that was asked first is not on another branch.
    fn agreed_at_most(&self, headers: &HeaderChain) -> Option<u32> {
        let tip = self.info.as_ref().filter(|_| self.is_usable())?.tip;
        if headers.get(&library_hash(tip)).is_none() { Some(headers.tip().height) } else { self.agreed(headers) }
    }

    fn condition(&self, headers: &HeaderChain, next: Option<Height>) -> NodeCondition {
        if self.is_wrong_network {
            let network = self.info.as_ref().map_or("", |info| &info.network);
            return NodeCondition::WrongNetwork { network: shown(network) };
        }
        if let Some((what, _)) = &self.lie {
            return NodeCondition::Lying { what: what.clone() };
        }
        if let Some((code, what)) = &self.fault {
            return NodeCondition::Unreachable { code, what: what.clone() };
        }
        let Some(info) = &self.info else { return NodeCondition::NotAsked };
        let best = headers.tip().height;
        let agreed = self.agreed(headers);
        if let Some(fork_height) = agreed.filter(|_| self.reached.is_some_and(|hash| !headers.is_active(&hash))) {
            return NodeCondition::OtherBranch { fork_height };
        }
        if let Some((below, next)) = info.pruned_below.zip(next).filter(|(below, next)| below > next) {
            return NodeCondition::Pruned { below: below.0, next: next.0 };
        }
        match agreed {
            _ if info.is_syncing => NodeCondition::Syncing,
            Some(height) if height < best => NodeCondition::Lagging { blocks: best - height },
            Some(_) => match &self.mempool_fault {
                Some(what) => NodeCondition::MempoolUnread { what: what.clone() },
                None => NodeCondition::Good,
            },
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
    /// The block that comes next in the journal, where that is known.
    next: Option<Height>,
    pub(super) asking_max: Duration,
    stale: Stale,
    /// Whether the last poll brought headers of a node's own chain, and not all of them yet.
    is_growing: bool,
}

/// What waits on a node.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The node's place.
    pub(crate) node: usize,
    /// What it lists.
    pub(crate) txids: Vec<TxId>,
    /// Whether it stands where the chain does, so that what it does not list tells something.
    pub(crate) is_current: bool,
}

/// What a node gives of a transaction that it lists as waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Its bytes.
    Given(Vec<u8>),
    /// Nothing, or something else.
    NotGiven,
    /// It had no more time in this step.
    NotAsked,
}

/// Why a node's chain could not be learned.
pub(super) enum Learn {
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
            listed: None,
            mempool_fault: None,
            asked_for_waiting: Duration::ZERO,
        };
        let known = seats.into_iter().map(known).collect();
        let stale = Stale::default();
        Seats { network, known, now_ms: 0, next: None, asking_max: ASKING_MAX, stale, is_growing: false }
    }

    /// Says which block comes next in the journal: a node that has thrown it away is named.
    pub(crate) fn needs(&mut self, next: Height) {
        self.next = Some(next);
    }

    /// Asks every node; says how many failure groups answered with a chain that is not still being fetched.
    pub(crate) fn poll(&mut self, headers: &mut HeaderChain, cursor: Option<BlockHash>, now_ms: u64) -> usize {
        let clock_s = u32::try_from(now_ms / 1_000).unwrap_or(u32::MAX);
        let genesis = core_hash(self.network.genesis_hash());
        let mut fresh = std::collections::BTreeSet::new();
        self.now_ms = now_ms;
        self.stale.begin();
        self.is_growing = false;
        for known in &mut self.known {
            known.lie = known.lie.take().filter(|(_, at)| now_ms.saturating_sub(*at) < LIE_MS);
            if known.lie.is_none() {
                known.seat.node.prepare();
            }
        }
        for known in self.known.iter_mut().filter(|known| known.lie.is_none()) {
            let deadline = Instant::now() + self.asking_max;
            known.fault = None;
            // The answer may come over a new connection, to another node than before: so every one is checked.
            let learned = known.seat.node.info().map_err(Learn::Fault).and_then(|info| {
                known.is_wrong_network = info.genesis != genesis;
                known.info = Some(info.clone());
                if known.is_wrong_network {
                    return Err(Learn::Later);
                }
                let node = known.seat.node.as_mut();
                let (reached, is_news) = learn_chain(node, &info, headers, (known.reached, clock_s, deadline))?;
                known.reached = reached.or(known.reached);
                // Before all of its own chain is known, the tip may be on that.
                if headers.get(&library_hash(info.tip)).is_some() {
                    self.stale.learn(node, cursor, headers, (clock_s, deadline))?;
                } else {
                    self.is_growing |= is_news;
                }
                Ok(info)
            });
            match learned {
                Ok(info) if !info.is_syncing => drop(fresh.insert(known.seat.group.clone())),
                Ok(_) | Err(Learn::Later) => {}
                Err(Learn::Fault(fault)) => known.failed(&fault),
                Err(Learn::Lie(what)) => known.lie = Some((what, now_ms)),
            }
        }
        fresh.len()
    }

    /// Whether the journalled tip's branch, or a node's own, is about to be known well enough to be compared by work.
    pub(crate) fn is_comparing(&self) -> bool {
        self.stale.is_growing() || self.is_growing
    }

    /// For each failure group, the highest block of the best chain that one of its nodes has.
    pub(crate) fn agreed_by_group(&self, headers: &HeaderChain) -> BTreeMap<&str, u32> {
        self.by_group(|known| known.agreed(headers))
    }

    /// For each failure group, the highest block of the best chain that one of its nodes may have.
    pub(crate) fn agreed_at_most_by_group(&self, headers: &HeaderChain) -> BTreeMap<&str, u32> {
        self.by_group(|known| known.agreed_at_most(headers))
    }

    fn by_group(&self, height_of: impl Fn(&Known) -> Option<u32>) -> BTreeMap<&str, u32> {
        let mut groups: BTreeMap<&str, u32> = BTreeMap::new();
        for known in &self.known {
            if let Some(height) = height_of(known) {
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
                Err(fault) => known.failed(&fault),
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

    /// What waits, by node, once every usable node has listed it or failed to.
    pub(crate) fn mempools(&mut self, headers: &HeaderChain) -> Vec<Pool> {
        self.known.iter_mut().for_each(Known::list);
        if self.known.iter().any(Known::is_listing) {
            return Vec::new();
        }
        let pool = |(node, known): (usize, &mut Known)| {
            let txids = known.listed.take()?;
            Some(Pool { node, txids, is_current: known.is_current(headers) })
        };
        self.known.iter_mut().enumerate().filter_map(pool).collect()
    }

    /// The failure group of a node.
    pub(crate) fn group(&self, index: usize) -> Option<&str> {
        self.known.get(index).map(|known| &*known.seat.group)
    }

    /// The bytes of a waiting transaction of a node, if they are what they should be.
    pub(crate) fn waiting_transaction(&mut self, index: usize, txid: TxId) -> Waiting {
        let is_askable = |known: &&mut Known| known.asked_for_waiting <= WAITING_MAX && known.lie.is_none();
        let Some(known) = self.known.get_mut(index).filter(is_askable) else { return Waiting::NotAsked };
        let asked = Instant::now();
        let answer = known.seat.node.transaction(txid, None);
        known.asked_for_waiting += asked.elapsed();
        let Ok(Some(bytes)) = answer else { return Waiting::NotGiven };
        if is_transaction(&bytes, txid) {
            return Waiting::Given(bytes);
        }
        known.lie = Some((format!("it gave another transaction for {txid}"), self.now_ms));
        Waiting::NotGiven
    }

    pub(crate) fn statuses(&self, headers: &HeaderChain) -> Vec<NodeStatus> {
        let status = |known: &Known| NodeStatus {
            name: known.seat.name.clone(),
            group: known.seat.group.clone(),
            condition: known.condition(headers, self.next),
            info: known.info.clone(),
        };
        self.known.iter().map(status).collect()
    }

    pub(crate) fn say_alarms(&self, alarms: &mut Alarms, headers: &HeaderChain, now_ms: u64) {
        for known in &self.known {
            let condition = known.condition(headers, self.next);
            // A block takes a moment from one node to the next.
            if matches!(condition, NodeCondition::Lagging { blocks: 0..=1 }) {
                continue;
            }
            let (Some(code), Some(detail)) = (condition.code(), condition.reason()) else { continue };
            alarms.say(now_ms, code, &known.seat.name, detail);
        }
    }
}

/// Whether bytes are the transaction with this id, a coinbase or not.
pub(crate) fn is_transaction(bytes: &[u8], txid: TxId) -> bool {
    let read = bitcoin::consensus::deserialize::<bitcoin::Transaction>(bytes);
    read.is_ok_and(|transaction| core_txid(transaction.compute_txid()) == txid)
}

/// Learns the headers of a node's active chain, at least one where there are new ones, and says the highest one that is known
/// now, and whether any is new. `before` is what this said the last time.
fn learn_chain(
    node: &mut dyn Node,
    info: &NodeInfo,
    headers: &mut HeaderChain,
    (before, clock_s, deadline): (Option<bitcoin::BlockHash>, u32, Instant),
) -> Result<(Option<bitcoin::BlockHash>, bool), Learn> {
    let tip = library_hash(info.tip);
    if headers.get(&tip).is_some() {
        return Ok((Some(tip), false));
    }
    // A branch that is longer than one poll takes has to be gone on with where the last poll ended: until all of it is
    // known it may have less work than the best one, and shares nothing with that but the fork.
    let before = before.and_then(|hash| headers.get(&hash)).filter(|known| known.height <= info.height.0);
    let start = match before {
        Some(known) if node.block_hash(Height(known.height))? == Some(core_hash(known.hash)) => Some(known.height),
        Some(_) | None => shared_height(node, info.height.0, headers, deadline)?,
    };
    let Some(start) = start else { return Err(Learn::Later) };
    let (mut reached, mut is_news) = (None, false);
    for height in start..=info.height.0.min(start.saturating_add(HEADERS_POLL_MAX)) {
        if height > start + 1 && Instant::now() >= deadline {
            break;
        }
        let Some(hash) = node.block_hash(Height(height))? else { break };
        if headers.get(&library_hash(hash)).is_none() {
            let Some(bytes) = node.header(hash)? else { break };
            accept(&read(&bytes, library_hash(hash))?, headers, clock_s)?;
            is_news = true;
        }
        reached = Some(library_hash(hash));
    }
    Ok((reached, is_news))
}

/// The highest block, or one some way below it, that the node's active chain shares with the best one. Looked for in
/// growing steps: what is fetched twice on the way up is known already.
fn shared_height(
    node: &mut dyn Node,
    node_height: u32,
    headers: &HeaderChain,
    deadline: Instant,
) -> Result<Option<u32>, Learn> {
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
        // Whoever can't be compared in time counts as one with whom nothing is shared yet.
        if height == lowest || Instant::now() >= deadline {
            return Ok(None);
        }
        height = height.saturating_sub(stride).max(lowest);
        stride *= 2;
    }
}

/// The header that was asked for.
pub(super) fn read(bytes: &[u8], hash: bitcoin::BlockHash) -> Result<Header, Learn> {
    let header = parse_header(bytes).map_err(|error| Learn::Lie(format!("it gave a header with {}", error.code())))?;
    if header.block_hash() != hash {
        return Err(Learn::Lie(format!("it gave another header for {}", core_hash(hash))));
    }
    Ok(header)
}

pub(super) fn accept(header: &Header, headers: &mut HeaderChain, clock_s: u32) -> Result<(), Learn> {
    match headers.accept(header, clock_s) {
        Ok(_) => Ok(()),
        // The node's chain changed between two questions, its clock is ahead, or side branches are many: not a lie.
        Err(HeaderRefusal::ParentUnknown | HeaderRefusal::TimeTooNew | HeaderRefusal::TooMany) => Err(Learn::Later),
        Err(refusal) => {
            let hash = core_hash(header.block_hash());
            Err(Learn::Lie(format!("block {hash} breaks a rule: {}", refusal.code())))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::condition::WORDS_MAX;
    use super::*;

    #[test]
    fn a_coinbase_is_recognised_by_its_id_like_any_other_transaction() {
        let coinbase = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).txdata.remove(0);
        let bytes = serialize(&coinbase);
        let txid = core_txid(coinbase.compute_txid());
        assert!(is_transaction(&bytes, txid));
        assert!(!is_transaction(&bytes, TxId([7; 32])));
        assert!(!is_transaction(&bytes[1..], txid));
    }
    use crate::ports::{SendResult, TestAccept};
    use bitcoin::block::Version;
    use bitcoin::consensus::encode::serialize;
    use bitcoin::hashes::Hash;
    use florin_chain::bitcoin::header::Checkpoint;
    use std::sync::{Arc, Mutex};

    pub(in crate::follower) const CLOCK_S: u32 = 1_700_000_000;

    /// Headers from the first block on, each with real work.
    pub(in crate::follower) fn branch(tag: u8, count: usize) -> Vec<Header> {
        let mut headers = vec![bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header];
        for _ in 0..count {
            let last = headers[headers.len() - 1];
            let mut header = Header {
                version: Version::from_consensus(0x2000_0000),
                prev_blockhash: last.block_hash(),
                merkle_root: bitcoin::TxMerkleNode::from_byte_array([tag; 32]),
                time: last.time + 600,
                ..last
            };
            header.nonce = 0;
            while header.validate_pow(header.target()).is_err() {
                header.nonce += 1;
            }
            headers.push(header);
        }
        headers
    }

    type Listing = Result<Option<Vec<TxId>>, NodeFault>;

    /// A node that has headers only, and counts how often it is asked where it stands.
    #[derive(Clone)]
    pub(in crate::follower) struct Stub {
        pub(in crate::follower) headers: Arc<Mutex<Vec<(Header, BlockHash)>>>,
        /// Those of branches that it has left.
        pub(in crate::follower) stale: Arc<Mutex<Vec<(Header, BlockHash)>>>,
        asked: Arc<Mutex<u32>>,
        pruned_below: Arc<Mutex<Option<Height>>>,
        fault: Arc<Mutex<Option<NodeFault>>>,
        /// What its mempool answers, the last one first; then that nothing waits.
        mempool: Arc<Mutex<Vec<Listing>>>,
    }

    impl Node for Stub {
        fn info(&mut self) -> Result<NodeInfo, NodeFault> {
            *self.asked.lock().unwrap() += 1;
            if let Some(fault) = self.fault.lock().unwrap().take() {
                return Err(fault);
            }
            let headers = self.headers.lock().unwrap();
            Ok(NodeInfo {
                network: "regtest".to_owned(),
                genesis: core_hash(Network::Regtest.genesis_hash()),
                height: Height(headers.len() as u32 - 1),
                tip: headers[headers.len() - 1].1,
                pruned_below: *self.pruned_below.lock().unwrap(),
                is_syncing: false,
            })
        }
        fn block_hash(&mut self, height: Height) -> Result<Option<BlockHash>, NodeFault> {
            Ok(self.headers.lock().unwrap().get(height.0 as usize).map(|(_, hash)| *hash))
        }
        fn header(&mut self, hash: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
            let (headers, stale) = (self.headers.lock().unwrap(), self.stale.lock().unwrap());
            let found = headers.iter().chain(stale.iter()).find(|(_, other)| *other == hash);
            Ok(found.map(|(header, _)| serialize(header)))
        }
        fn block(&mut self, _: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
            Ok(None)
        }
        fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault> {
            self.mempool.lock().unwrap().pop().unwrap_or(Ok(Some(Vec::new())))
        }
        fn transaction(&mut self, _: TxId, _: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault> {
            *self.asked.lock().unwrap() += 1;
            Ok(None)
        }
        fn send(&mut self, _: &[u8]) -> Result<SendResult, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn test_accept(&mut self, _: &[u8]) -> Result<TestAccept, NodeFault> {
            Err(NodeFault::Timeout)
        }
        fn fee_estimate(&mut self, _: u16) -> Result<Option<u64>, NodeFault> {
            Ok(None)
        }
    }

    pub(in crate::follower) fn named(headers: &[Header]) -> Vec<(Header, BlockHash)> {
        headers.iter().map(|header| (*header, core_hash(header.block_hash()))).collect()
    }

    pub(in crate::follower) fn one(headers: &[Header]) -> (Stub, Seats, HeaderChain) {
        let stub = Stub {
            headers: Arc::new(Mutex::new(named(headers))),
            stale: Arc::default(),
            asked: Arc::default(),
            pruned_below: Arc::default(),
            fault: Arc::default(),
            mempool: Arc::default(),
        };
        let seat = Seat { name: "one".to_owned(), group: "one".to_owned(), node: Box::new(stub.clone()) };
        let chain = HeaderChain::start(Network::Regtest, Checkpoint::genesis(Network::Regtest), 100_000).unwrap();
        (stub, Seats::new(vec![seat], Network::Regtest), chain)
    }

    fn polls_until(seats: &mut Seats, chain: &mut HeaderChain, tip: bitcoin::BlockHash, most: u32) -> Option<u32> {
        (1..=most).find(|_| {
            seats.poll(chain, None, u64::from(CLOCK_S) * 1_000);
            chain.tip().hash == tip
        })
    }

    #[test]
    fn a_branch_longer_than_one_poll_takes_is_learned_to_its_end() {
        let (old, new) = (branch(1, 4_500), branch(2, 4_600));
        let (stub, mut seats, mut chain) = one(&old);
        assert_eq!(polls_until(&mut seats, &mut chain, old[4_500].block_hash(), 10), Some(3));
        *stub.headers.lock().unwrap() = named(&new);
        assert_eq!(polls_until(&mut seats, &mut chain, new[4_600].block_hash(), 10), Some(3));
        assert_eq!(seats.agreed_by_group(&chain).into_values().collect::<Vec<_>>(), [4_600]);
    }

    #[test]
    fn a_journalled_branch_that_nobody_follows_is_learned_to_its_beginning() {
        let (old, new) = (branch(1, 4_500), branch(2, 4_400));
        let (stub, mut seats, mut chain) = one(&new);
        polls_until(&mut seats, &mut chain, new[4_400].block_hash(), 5).unwrap();
        let tip = core_hash(old[4_500].block_hash());
        let mut poll = |seats: &mut Seats| {
            seats.poll(&mut chain, Some(tip), u64::from(CLOCK_S) * 1_000);
            (seats.is_comparing(), chain.tip().height)
        };
        assert_eq!(poll(&mut seats), (false, 4_400), "the node does not know it");
        *stub.stale.lock().unwrap() = named(&old);
        assert_eq!(poll(&mut seats), (true, 4_400));
        assert_eq!(poll(&mut seats), (true, 4_400));
        assert_eq!(poll(&mut seats), (false, 4_500), "what was journalled has more work");
    }

    #[test]
    fn a_node_whose_headers_come_in_portions_may_follow_the_best_chain() {
        let headers = branch(1, 4_500);
        let (_, mut seats, mut chain) = one(&headers);
        let (_, second, _) = one(&headers);
        seats.known.extend(second.known);
        seats.known[1].seat.group = "two".to_owned();
        seats.poll(&mut chain, None, u64::from(CLOCK_S) * 1_000);
        let heights = |by_group: BTreeMap<&str, u32>| by_group.into_values().collect::<Vec<_>>();
        let best = chain.tip().height;
        assert!(heights(seats.agreed_by_group(&chain)).contains(&2_000), "the first one was asked no further");
        assert_eq!(heights(seats.agreed_at_most_by_group(&chain)), [best, best]);
    }

    #[test]
    fn a_slow_node_is_left_in_time_and_gone_on_with_at_the_next_poll() {
        let headers = branch(1, 20);
        let (_, mut seats, mut chain) = one(&headers);
        seats.asking_max = Duration::ZERO;
        seats.poll(&mut chain, None, u64::from(CLOCK_S) * 1_000);
        assert_eq!(chain.tip().height, 1, "all its time is over, and one header is learned all the same");
        assert_eq!(polls_until(&mut seats, &mut chain, headers[20].block_hash(), 30), Some(19));
    }

    #[test]
    fn a_node_that_does_not_list_its_mempool_is_named_and_not_waited_for_twice() {
        let (stub, mut seats, mut chain) = one(&branch(1, 1));
        let (_, second, _) = one(&branch(1, 1));
        seats.known.extend(second.known);
        let now_ms = u64::from(CLOCK_S) * 1_000;
        *stub.mempool.lock().unwrap() =
            vec![Ok(Some(vec![TxId([1; 32])])), Ok(None), Err(NodeFault::Timeout), Ok(None)];
        let mut step = |seats: &mut Seats| {
            assert_eq!(seats.poll(&mut chain, None, now_ms), 1, "it follows the chain");
            let pools = seats.mempools(&chain).iter().map(|pool| (pool.node, pool.is_current)).collect::<Vec<_>>();
            let mut alarms = Alarms::default();
            seats.say_alarms(&mut alarms, &chain, now_ms);
            let codes: Vec<_> = alarms.all().iter().map(|alarm| alarm.code).collect();
            (pools, seats.statuses(&chain).remove(0).condition.code(), codes)
        };
        assert_eq!(step(&mut seats), (vec![], None, vec![]), "it is waited for");
        let unread = "node_mempool_unread";
        assert_eq!(step(&mut seats), (vec![(1, true)], Some(unread), vec![unread]));
        assert_eq!(
            step(&mut seats),
            (vec![(1, true)], Some(unread), vec![unread]),
            "others go on while it lists again"
        );
        assert_eq!(step(&mut seats), (vec![(0, true), (1, true)], None, vec![]));
    }

    #[test]
    fn what_a_node_does_not_list_tells_nothing_while_it_is_behind() {
        let headers = branch(1, 6);
        let (_, mut seats, mut chain) = one(&headers);
        for (name, other) in [("one behind", &headers[..6]), ("two behind", &headers[..5]), ("beside", &branch(2, 5))] {
            let (_, mut other, _) = one(other);
            other.known[0].seat.name = name.to_owned();
            seats.known.extend(other.known);
        }
        seats.poll(&mut chain, None, u64::from(CLOCK_S) * 1_000);
        let current: Vec<_> = seats.mempools(&chain).into_iter().map(|pool| pool.is_current).collect();
        assert_eq!(current, [true, true, false, false]);
        seats.known[0].info.as_mut().unwrap().is_syncing = true;
        assert!(!seats.mempools(&chain)[0].is_current);
    }

    #[test]
    fn a_node_that_threw_away_what_the_journal_needs_is_named() {
        let (stub, mut seats, mut chain) = one(&branch(1, 5));
        let now_ms = u64::from(CLOCK_S) * 1_000;
        let mut stands = |seats: &mut Seats, below: Option<u32>| {
            *stub.pruned_below.lock().unwrap() = below.map(Height);
            seats.poll(&mut chain, None, now_ms);
            let mut alarms = Alarms::default();
            seats.say_alarms(&mut alarms, &chain, now_ms);
            let said = alarms.all().into_iter().map(|alarm| (alarm.code, alarm.detail)).collect::<Vec<_>>();
            (seats.statuses(&chain).remove(0).condition, said)
        };
        assert_eq!(stands(&mut seats, Some(4)), (NodeCondition::Good, Vec::new()), "nobody knows what is needed");
        seats.needs(Height(3));
        for below in [None, Some(0), Some(2), Some(3)] {
            assert_eq!(stands(&mut seats, below), (NodeCondition::Good, Vec::new()), "{below:?}");
        }
        let (condition, alarms) = stands(&mut seats, Some(4));
        assert_eq!(condition, NodeCondition::Pruned { below: 4, next: 3 });
        let reason = "it has no block below 4 any more, and the journal needs block 3 next".to_owned();
        assert_eq!((condition.reason(), alarms), (Some(reason.clone()), vec![("node_pruned", reason)]));
        seats.needs(Height(4));
        assert_eq!(stands(&mut seats, Some(4)), (NodeCondition::Good, Vec::new()), "the journal has come so far");
    }

    #[test]
    fn a_node_that_does_not_answer_keeps_its_faults_own_words() {
        let (stub, mut seats, mut chain) = one(&branch(1, 1));
        assert_eq!(seats.statuses(&chain)[0].condition, NodeCondition::NotAsked);
        let io = |kind, text: &str| Box::new(std::io::Error::new(kind, text.to_owned()));
        let long = format!("<html>{}\u{1b}[31m", "x".repeat(1_000));
        for (fault, code, words) in [
            (
                NodeFault::Transport(io(std::io::ErrorKind::ConnectionRefused, "connection refused")),
                "node_unreachable",
                "the node can't be reached: connection refused".to_owned(),
            ),
            (
                NodeFault::Credentials(io(std::io::ErrorKind::NotFound, "no such file")),
                "node_credentials_unreadable",
                "the file with the node's user and password can't be read: no such file".to_owned(),
            ),
            (NodeFault::Forbidden, "node_forbidden", "the node refuses our user and password".to_owned()),
            (
                NodeFault::Redirected,
                "node_redirects",
                "the node sends us to another address, which is not asked".to_owned(),
            ),
            (NodeFault::Timeout, "node_timeout", "the node did not answer in time".to_owned()),
            (
                NodeFault::Refused { code: -28, reason: "Loading block index".to_owned() },
                "node_refused",
                "the node refused (-28): Loading block index".to_owned(),
            ),
            (
                NodeFault::Malformed { what: long.clone() },
                "node_answer_malformed",
                format!("the node's answer can't be read: {long}").chars().take(WORDS_MAX).collect(),
            ),
        ] {
            *stub.fault.lock().unwrap() = Some(fault);
            seats.poll(&mut chain, None, u64::from(CLOCK_S) * 1_000);
            let condition = seats.statuses(&chain).remove(0).condition;
            assert_eq!((condition.code(), condition.reason()), (Some(code), Some(words)));
        }
        seats.poll(&mut chain, None, u64::from(CLOCK_S) * 1_000);
        assert_eq!(seats.statuses(&chain)[0].condition, NodeCondition::Good, "it answers again");
        assert_eq!(shown("a\u{1b}[31m\nb"), "a[31mb");
    }

    #[test]
    fn one_mempool_takes_no_more_than_its_time() {
        let (stub, mut seats, mut chain) = one(&branch(1, 1));
        seats.poll(&mut chain, None, u64::from(CLOCK_S) * 1_000);
        seats.mempools(&chain);
        *stub.asked.lock().unwrap() = 0;
        seats.waiting_transaction(0, TxId([1; 32]));
        seats.known[0].asked_for_waiting = WAITING_MAX + Duration::from_nanos(1);
        seats.waiting_transaction(0, TxId([1; 32]));
        assert_eq!(*stub.asked.lock().unwrap(), 1);
        seats.mempools(&chain);
        seats.waiting_transaction(0, TxId([1; 32]));
        assert_eq!(*stub.asked.lock().unwrap(), 2, "the next listing begins anew");
    }
}
