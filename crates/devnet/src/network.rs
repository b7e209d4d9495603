//! Owns several nodes that share nothing but messages, and the queue of these messages; must never let one node look into another,
//! use chance, or read a clock. The same calls give the same run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bitcoin::consensus::deserialize;
use bitcoin::consensus::encode::serialize;
use bitcoin::{BlockHash, Transaction, Txid};
use serde_json::Value;

use crate::fault::{Liar, Lie};
use crate::fees::FeeRate;
use crate::miner::{Content, MineError, Mined, Miner, template_on};
use crate::node::Node;
use crate::policy::RelayPolicy;
use crate::reject::{BlockReject, SendReject, TxReject, Verdict};
use crate::rpc::{RpcError, handle};

/// Most messages one `settle` delivers: far above any honest run, so that a loop of messages is a failure and no hang.
const SETTLE_MAX: u64 = 10_000_000;

/// Most blocks a node holds back because it waits for one before them: the deepest branch it can fetch.
const ORPHAN_BLOCKS_MAX: usize = 10_000;

/// Most transactions a node holds back because it waits for a parent: bitcoind's old default.
const ORPHAN_TXS_MAX: usize = 100;

/// Most verdicts on blocks a node remembers for those who watch.
const VERDICTS_MAX: usize = 1_000;

/// A node's place in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// What nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// I have this block, the tip of my chain.
    BlockNotice(BlockHash),
    /// Send me this block.
    BlockRequest(BlockHash),
    /// A block's bytes.
    Block(Arc<[u8]>),
    /// I have this transaction.
    TxNotice(Txid),
    /// Send me this transaction.
    TxRequest(Txid),
    /// A transaction's bytes.
    Tx(Arc<[u8]>),
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who sent it.
    pub from: NodeId,
    /// Who shall get it.
    pub to: NodeId,
    /// What it says.
    pub message: Message,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver read it.
    Delivered,
    /// A fault swallowed it: a cut or lossy link, or a node that is down or frozen.
    Dropped,
}

/// One step of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The message.
    pub envelope: Envelope,
    /// What became of it.
    pub delivery: Delivery,
}

/// How a call to a node ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// An answer or an error.
    Answer(Result<Value, RpcError>),
    /// The call had its effect, but its answer is lost.
    Lost,
    /// The node is down: the call had no effect.
    Down,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_cut: bool,
    delay_seconds: u64,
    drop_next: u32,
}

#[derive(Clone, Debug)]
struct Member {
    node: Node,
    announced_tip: BlockHash,
    announced_order: u64,
    orphan_blocks: BTreeMap<BlockHash, Vec<Arc<[u8]>>>,
    orphan_txs: BTreeMap<Txid, Transaction>,
    verdicts: VecDeque<(BlockHash, Result<Verdict, BlockReject>)>,
    clock_skew_seconds: i64,
    is_down: bool,
    is_frozen: bool,
    replies_to_lose: u32,
    liar: Option<Liar>,
}

/// A network of nodes.
#[derive(Clone, Debug)]
pub struct Network {
    members: Vec<Member>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    queue: BTreeMap<(u64, u64), Envelope>,
    sent: u64,
    clock: u64,
}

impl Network {
    /// A network of so many nodes, all connected with each other, with their clocks at `clock` (seconds since 1970).
    ///
    /// # Panics
    /// Where there is no node.
    pub fn new(count: usize, policy: &RelayPolicy, clock: u64) -> Self {
        assert!(count > 0, "a network has a node");
        let member = |index: usize| {
            let mut node = Node::new(policy.clone(), clock);
            let tag = u32::try_from(index).expect("few nodes") + 1;
            node.set_identity(tag, u32::try_from(count - 1).expect("few nodes"));
            Member {
                announced_tip: node.tip(),
                announced_order: 0,
                node,
                orphan_blocks: BTreeMap::new(),
                orphan_txs: BTreeMap::new(),
                verdicts: VecDeque::new(),
                clock_skew_seconds: 0,
                is_down: false,
                is_frozen: false,
                replies_to_lose: 0,
                liar: None,
            }
        };
        Self {
            members: (0..count).map(member).collect(),
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            sent: 0,
            clock,
        }
    }

    /// The nodes' places.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.members.len()).map(NodeId)
    }

    /// A node, as it really is: what it says by RPC may differ while it lies.
    ///
    /// # Panics
    /// Where there is no such node, as all methods that take an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.members[id.0].node
    }

    /// The network's clock.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Sets the clock of the network and, with their skews, of all nodes. Delayed messages become due by it.
    pub fn set_clock(&mut self, clock: u64) {
        self.clock = clock;
        for member in &mut self.members {
            member.node.set_clock(clock.saturating_add_signed(member.clock_skew_seconds));
        }
    }

    /// Sets how far a node's clock is ahead of (or behind) the network's.
    pub fn set_clock_skew(&mut self, id: NodeId, seconds: i64) {
        self.members[id.0].clock_skew_seconds = seconds;
        self.set_clock(self.clock);
    }

    /// Changes a node by its own methods, then lets it tell the others what is new.
    pub fn with_node<T>(&mut self, id: NodeId, change: impl FnOnce(&mut Node) -> T) -> T {
        let result = change(&mut self.members[id.0].node);
        self.announce(id);
        result
    }

    /// Hands a block to a node.
    ///
    /// # Errors
    /// The node's reason.
    pub fn submit_block(&mut self, id: NodeId, bytes: &[u8]) -> Result<Verdict, BlockReject> {
        let verdict = self.with_node(id, |node| node.submit_block(bytes));
        if let Ok(block) = deserialize::<bitcoin::Block>(bytes) {
            self.remember(id, block.block_hash(), verdict.clone());
        }
        verdict
    }

    /// Hands a transaction to a node, as `sendrawtransaction` without a cap on fees.
    ///
    /// # Errors
    /// The node's reason.
    pub fn send(&mut self, id: NodeId, tx: Transaction) -> Result<Txid, SendReject> {
        self.send_within(id, tx, None)
    }

    /// Hands a transaction to a node, as `sendrawtransaction` with a cap on fees.
    ///
    /// # Errors
    /// The node's reason.
    pub fn send_within(&mut self, id: NodeId, tx: Transaction, rate: Option<FeeRate>) -> Result<Txid, SendReject> {
        self.with_node(id, |node| node.send_raw(tx, rate))
    }

    /// Mines blocks on a node's tip from its mempool.
    ///
    /// # Errors
    /// The node's reason.
    pub fn mine(&mut self, id: NodeId, miner: &mut Miner, count: u32) -> Result<Vec<Mined>, MineError> {
        let mut mined = Vec::new();
        for _ in 0..count {
            let next = miner.mine(&self.members[id.0].node);
            self.submit_block(id, &serialize(&next.block)).map_err(MineError::Rejected)?;
            mined.push(next);
        }
        Ok(mined)
    }

    /// Mines a branch on any block that a node knows, as [`Miner::mine_on`]: a fork on purpose.
    ///
    /// # Errors
    /// An unknown parent, or the node's reason; blocks before the refused one stay.
    pub fn mine_on(
        &mut self,
        id: NodeId,
        miner: &mut Miner,
        parent: BlockHash,
        count: u32,
        content: Content,
    ) -> Result<Vec<Mined>, MineError> {
        let mut mined: Vec<Mined> = Vec::new();
        let (mut at, mut content) = (parent, Some(content));
        for _ in 0..count {
            let template = template_on(self.node(id), at, content.take().unwrap_or(Content::Empty))?;
            let next = miner.solve(&template);
            self.submit_block(id, &serialize(&next.block)).map_err(MineError::Rejected)?;
            at = next.hash;
            mined.push(next);
        }
        Ok(mined)
    }

    /// What each node said of a block when it came; nothing for those that have not seen it, or long ago.
    pub fn verdicts(&self, hash: &BlockHash) -> Vec<(NodeId, Option<Result<Verdict, BlockReject>>)> {
        let verdict = |id: NodeId| {
            let verdicts = self.members[id.0].verdicts.iter();
            verdicts.rev().find(|(of, _)| of == hash).map(|(_, verdict)| verdict.clone())
        };
        self.ids().map(|id| (id, verdict(id))).collect()
    }

    fn remember(&mut self, id: NodeId, hash: BlockHash, verdict: Result<Verdict, BlockReject>) {
        let verdicts = &mut self.members[id.0].verdicts;
        // A second copy from another node says nothing new.
        if verdict == Ok(Verdict::Duplicate) || verdict == Err(BlockReject::DuplicateInvalid) {
            return;
        }
        if verdicts.len() == VERDICTS_MAX {
            verdicts.pop_front();
        }
        verdicts.push_back((hash, verdict));
    }

    /// Calls a node by RPC, with its faults. The `Value` is the list (or object) of parameters.
    pub fn rpc(&mut self, id: NodeId, method: &str, params: Value) -> Reply {
        let member = &mut self.members[id.0];
        if member.is_down {
            return Reply::Down;
        }
        let answer = match &mut member.liar {
            Some(liar) => liar.answer(&mut member.node, method, params),
            None => handle(&mut member.node, method, params),
        };
        let is_lost = member.replies_to_lose > 0;
        member.replies_to_lose = member.replies_to_lose.saturating_sub(1);
        self.announce(id);
        if is_lost { Reply::Lost } else { Reply::Answer(answer) }
    }

    /// Messages that are on their way.
    pub fn pending(&self) -> impl Iterator<Item = &Envelope> {
        self.queue.values()
    }

    /// Delivers the next message that is due; nothing where none is.
    pub fn step(&mut self) -> Option<Step> {
        let (&key, _) = self.queue.iter().next()?;
        if key.0 > self.clock {
            return None;
        }
        let envelope = self.queue.remove(&key)?;
        let delivery = if self.is_swallowed(&envelope) {
            Delivery::Dropped
        } else {
            self.deliver(&envelope);
            Delivery::Delivered
        };
        Some(Step { envelope, delivery })
    }

    /// Delivers all messages that are due, and those they cause. Returns how many.
    ///
    /// # Panics
    /// Where the messages do not end, which would be a defect of this network.
    pub fn settle(&mut self) -> u64 {
        let mut count = 0;
        while self.step().is_some() {
            count += 1;
            assert!(count < SETTLE_MAX, "messages come to an end");
        }
        count
    }

    fn is_swallowed(&mut self, envelope: &Envelope) -> bool {
        let link = self.links.entry((envelope.from, envelope.to)).or_default();
        if link.is_cut {
            return true;
        }
        if link.drop_next > 0 {
            link.drop_next -= 1;
            return true;
        }
        let receiver = &self.members[envelope.to.0];
        let about_blocks = matches!(envelope.message, Message::BlockNotice(_) | Message::Block(_));
        receiver.is_down || self.members[envelope.from.0].is_down || receiver.is_frozen && about_blocks
    }

    fn send_message(&mut self, from: NodeId, to: NodeId, message: Message) {
        let delay = self.links.get(&(from, to)).map_or(0, |link| link.delay_seconds);
        self.sent += 1;
        self.queue.insert((self.clock + delay, self.sent), Envelope { from, to, message });
    }

    fn broadcast(&mut self, from: NodeId, message: &Message) {
        for to in self.ids().filter(|to| *to != from) {
            self.send_message(from, to, message.clone());
        }
    }

    /// A node tells the others of its new tip and new transactions.
    fn announce(&mut self, id: NodeId) {
        let member = &mut self.members[id.0];
        let tip = member.node.tip();
        let new_tip = tip != member.announced_tip;
        member.announced_tip = tip;
        let new_txs = member.node.mempool().since(member.announced_order);
        member.announced_order = member.node.mempool().last_order();
        if new_tip {
            self.broadcast(id, &Message::BlockNotice(tip));
        }
        for txid in new_txs {
            self.broadcast(id, &Message::TxNotice(txid));
        }
    }

    /// All nodes tell all others of their tips and waiting transactions, as they would after connecting anew.
    pub fn reannounce(&mut self) {
        for id in self.ids() {
            let node = &self.members[id.0].node;
            let (tip, txids) = (node.tip(), node.mempool().since(0));
            self.broadcast(id, &Message::BlockNotice(tip));
            for txid in txids {
                self.broadcast(id, &Message::TxNotice(txid));
            }
        }
    }

    fn deliver(&mut self, envelope: &Envelope) {
        let Envelope { from, to, message } = envelope;
        let (me, peer) = (*to, *from);
        let node = &mut self.members[me.0].node;
        match message {
            Message::BlockNotice(hash) => {
                if node.tree().get(hash).is_none_or(|entry| entry.block.is_none()) {
                    self.send_message(me, peer, Message::BlockRequest(*hash));
                }
            }
            Message::BlockRequest(hash) => {
                if let Some(block) = node.block(hash) {
                    self.send_message(me, peer, Message::Block(serialize(&*block).into()));
                }
            }
            Message::Block(bytes) => self.receive_block(me, peer, bytes),
            Message::TxNotice(txid) => {
                let known = node.mempool().contains(txid) || self.members[me.0].orphan_txs.contains_key(txid);
                if !known {
                    self.send_message(me, peer, Message::TxRequest(*txid));
                }
            }
            Message::TxRequest(txid) => {
                if let Some(entry) = node.mempool().get(txid) {
                    let bytes = serialize(&*entry.tx);
                    node.mark_broadcast(txid);
                    self.send_message(me, peer, Message::Tx(bytes.into()));
                }
            }
            Message::Tx(bytes) => self.receive_tx(me, peer, bytes),
        }
    }

    fn receive_block(&mut self, me: NodeId, peer: NodeId, bytes: &Arc<[u8]>) {
        let Ok(block) = deserialize::<bitcoin::Block>(bytes) else { return };
        let mut waiting = vec![(block, bytes.clone())];
        while let Some((block, bytes)) = waiting.pop() {
            let (hash, parent) = (block.block_hash(), block.header.prev_blockhash);
            let verdict = self.members[me.0].node.submit(block);
            if verdict == Err(BlockReject::PrevNotFound) {
                self.hold_back(me, parent, bytes);
                self.send_message(me, peer, Message::BlockRequest(parent));
                continue;
            }
            self.remember(me, hash, verdict);
            let missing = self.members[me.0].node.first_missing(&hash);
            if let Some(missing) = missing {
                self.send_message(me, peer, Message::BlockRequest(missing));
            }
            let held = self.members[me.0].orphan_blocks.remove(&hash).unwrap_or_default();
            if self.members[me.0].node.tree().get(&hash).is_none() {
                // Refused by its header, as one of a time to come: whoever held on to what follows it would ask for it for ever.
                continue;
            }
            waiting.extend(held.into_iter().filter_map(|bytes| Some((deserialize(&bytes).ok()?, bytes))));
        }
        // Parents may have come in the block. What still misses one is dropped; whoever has it will tell again.
        let member = &mut self.members[me.0];
        for tx in std::mem::take(&mut member.orphan_txs).into_values() {
            let _dropped_if_refused = member.node.accept(tx);
        }
        self.announce(me);
    }

    fn hold_back(&mut self, me: NodeId, parent: BlockHash, bytes: Arc<[u8]>) {
        let held = &mut self.members[me.0].orphan_blocks;
        if held.values().map(Vec::len).sum::<usize>() < ORPHAN_BLOCKS_MAX {
            let siblings = held.entry(parent).or_default();
            if !siblings.contains(&bytes) {
                siblings.push(bytes);
            }
        }
    }

    fn receive_tx(&mut self, me: NodeId, peer: NodeId, bytes: &Arc<[u8]>) {
        let Ok(tx) = deserialize::<Transaction>(bytes) else { return };
        let mut waiting = vec![tx];
        while let Some(tx) = waiting.pop() {
            let member = &mut self.members[me.0];
            let txid = tx.compute_txid();
            match member.node.accept(tx.clone()) {
                Ok(_) => {
                    let spends =
                        |orphan: &Transaction| orphan.input.iter().any(|input| input.previous_output.txid == txid);
                    let children: Vec<Txid> =
                        member.orphan_txs.iter().filter(|(_, orphan)| spends(orphan)).map(|(txid, _)| *txid).collect();
                    waiting.extend(children.iter().filter_map(|child| member.orphan_txs.remove(child)));
                }
                Err(reject) if reject.is_missing_input() => self.hold_tx(me, peer, tx),
                Err(_) => {}
            }
        }
        self.announce(me);
    }

    /// Keeps a transaction until its parents come, and asks for them.
    fn hold_tx(&mut self, me: NodeId, peer: NodeId, tx: Transaction) {
        let member = &mut self.members[me.0];
        if member.orphan_txs.len() >= ORPHAN_TXS_MAX {
            return;
        }
        let parents: BTreeSet<Txid> = tx.input.iter().map(|input| input.previous_output.txid).collect();
        let unknown: Vec<Txid> = parents.into_iter().filter(|parent| !member.node.mempool().contains(parent)).collect();
        member.orphan_txs.insert(tx.compute_txid(), tx);
        for parent in unknown {
            self.send_message(me, peer, Message::TxRequest(parent));
        }
    }
}

/// Faults: each lasts until it is taken back, unless it counts.
impl Network {
    /// Cuts all links between nodes of different groups; those named in no group stay connected with all. Messages on their way over a cut are lost.
    pub fn partition(&mut self, groups: &[&[NodeId]]) {
        let group_of = |id: NodeId| groups.iter().position(|group| group.contains(&id));
        for from in self.ids() {
            for to in self.ids() {
                let apart = matches!((group_of(from), group_of(to)), (Some(left), Some(right)) if left != right);
                self.links.entry((from, to)).or_default().is_cut = apart;
            }
        }
    }

    /// Ends all cuts, delays and losses; the nodes tell each other what they have.
    pub fn heal(&mut self) {
        self.links.clear();
        self.reannounce();
    }

    /// Delays messages from one node to another from now on.
    pub fn set_delay(&mut self, from: NodeId, to: NodeId, seconds: u64) {
        self.links.entry((from, to)).or_default().delay_seconds = seconds;
    }

    /// Loses the next messages from one node to another.
    pub fn drop_next(&mut self, from: NodeId, to: NodeId, count: u32) {
        self.links.entry((from, to)).or_default().drop_next += count;
    }

    /// A node takes no more blocks: its tip stays where it is, while it still answers and relays transactions.
    pub fn freeze(&mut self, id: NodeId) {
        self.members[id.0].is_frozen = true;
    }

    /// A frozen node takes blocks again, and the others tell it what they have.
    pub fn thaw(&mut self, id: NodeId) {
        self.members[id.0].is_frozen = false;
        self.reannounce();
    }

    /// A node is down: it answers nothing and gets no message.
    pub fn stop(&mut self, id: NodeId) {
        self.members[id.0].is_down = true;
    }

    /// A node is up again with what it had, and the others tell it what they have.
    pub fn start(&mut self, id: NodeId) {
        self.members[id.0].is_down = false;
        self.reannounce();
    }

    /// The answers to the next calls are lost, after the calls had their effect.
    pub fn lose_replies(&mut self, id: NodeId, count: u32) {
        self.members[id.0].replies_to_lose = count;
    }

    /// A node lies to its callers from now on; to the other nodes it is honest.
    pub fn lie(&mut self, id: NodeId, lie: Lie) {
        let member = &mut self.members[id.0];
        member.liar = Some(Liar::new(&member.node, lie));
    }

    /// A node is honest again.
    pub fn stop_lying(&mut self, id: NodeId) {
        self.members[id.0].liar = None;
    }

    /// True where the node has a fault that its callers can notice.
    pub fn is_faulty(&self, id: NodeId) -> bool {
        let member = &self.members[id.0];
        member.is_down || member.is_frozen || member.replies_to_lose > 0 || member.liar.is_some()
    }

    /// A node drops a transaction and its descendants from its mempool; the others keep it. Returns what is gone.
    pub fn evict(&mut self, id: NodeId, txid: &Txid) -> BTreeSet<Txid> {
        self.members[id.0].node.evict(txid)
    }

    /// A node serves no more blocks below a height.
    pub fn prune(&mut self, id: NodeId, height: u32) {
        self.members[id.0].node.prune_below(height);
    }

    /// Says whether a node would take a transaction, and changes nothing.
    ///
    /// # Errors
    /// The node's reason.
    pub fn test_accept(&self, id: NodeId, tx: &Transaction) -> Result<crate::node::Accepted, TxReject> {
        self.members[id.0].node.test_accept(tx)
    }
}
