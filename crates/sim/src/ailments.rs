//! What is wrong with the nodes, and whether that changes an answer that the platform asked for: only then a fault has struck. Whoever proves by an answer that it lies must be named, and nobody else. It decides nothing in a run.

use crate::chaos::Chaos;
use crate::ports::lock;
use crate::world::{World, seat_name};
use bitcoin::{BlockHash, Txid};
use florin_devnet::network::{Network, NodeId, Reply};
use florin_devnet::params::BLOCK_FUTURE_MAX_SECONDS;
use florin_devnet::rpc::handle;
use florin_engine::follower::nodes::LIE_MS;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Questions about the chain, which a node that pretends to have another block answers otherwise.
const OF_THE_CHAIN: [&str; 4] = ["getblockchaininfo", "getblockhash", "getblockheader", "getblock"];

/// Questions whose answer holds a transaction's bytes.
const OF_BYTES: [&str; 2] = ["getblock", "getrawtransaction"];

/// What is wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// It takes no more blocks.
    Frozen,
    /// It is down.
    Stopped,
    /// Its answers are lost.
    LosesReplies,
    /// No message reaches it.
    CutOff,
    /// Messages reach it late.
    Delayed,
    /// It shows a block with coins from nowhere.
    ForgesBlock,
    /// It shows one that nobody has worked for.
    ForgesBlockWithoutWork,
    /// It shows blocks of its own.
    ShowsPrivateBlocks,
    /// It shows an output with another amount.
    AltersAmount,
    /// It says that its chain is so much higher than it is. Confirmations that a node names itself are read by nobody.
    InflatesHeight(u32),
    /// Its clock is ahead, so that its own blocks are of a time to come.
    ClockAhead,
    /// Its clock is behind, so that the others' are.
    ClockBehind,
    /// A transaction fell out of its mempool.
    Evicted(Txid),
}

impl Ailment {
    /// What it is counted as.
    pub fn name(self) -> &'static str {
        match self {
            Ailment::Frozen => "node frozen",
            Ailment::Stopped => "node stopped",
            Ailment::LosesReplies => "node replies lost",
            Ailment::CutOff => "node cut off",
            Ailment::Delayed => "node delayed",
            Ailment::ForgesBlock => "node forges a block",
            Ailment::ForgesBlockWithoutWork => "node forges a block without work",
            Ailment::ShowsPrivateBlocks => "node shows private blocks",
            Ailment::AltersAmount => "node altered amount",
            Ailment::InflatesHeight(_) => "node inflates its height",
            Ailment::ClockAhead => "node clock ahead",
            Ailment::ClockBehind => "node clock behind",
            Ailment::Evicted(_) => "node evicts",
        }
    }

    /// Whether a changed answer to this proves to whoever reads it that the node lies.
    fn is_proved_by(self, method: &str) -> bool {
        match self {
            Ailment::AltersAmount => OF_BYTES.contains(&method),
            Ailment::ForgesBlockWithoutWork => method == "getblockheader",
            _ => false,
        }
    }
}

/// What befell all nodes at once.
#[derive(Debug, Clone, Default)]
pub struct Everywhere {
    /// A transaction that fell out of every mempool, and the highest block's height then.
    pub evicted: Option<(Txid, u32)>,
    /// What was made of their estimates of fees.
    pub estimates: Option<&'static str>,
}

/// What is wrong with the nodes now, shared by all connections to them.
#[derive(Debug, Default)]
pub struct NodeFaults {
    /// The faulty one: at most one is at a time.
    pub ailing: Option<(NodeId, Ailment)>,
    /// What befell all of them.
    pub everywhere: Everywhere,
    /// Who proved in this step of a worker that it lies, and by what.
    pub told: BTreeMap<NodeId, Ailment>,
}

fn height_max(network: &Network) -> u32 {
    network.ids().map(|id| network.node(id).height()).max().unwrap_or(0)
}

impl NodeFaults {
    /// A transaction has fallen out of every mempool.
    pub fn evict_everywhere(&mut self, network: &Network, txid: Txid) {
        self.everywhere.evicted = Some((txid, height_max(network)));
    }

    /// Looks at an answer before the platform does, counts the fault that changed it, and changes it where no node of the network
    /// lies so by itself.
    pub fn judge(
        &mut self,
        network: &mut Network,
        node: NodeId,
        question: (&str, Value),
        reply: &mut Reply,
        chaos: &Chaos,
    ) {
        let method = question.0;
        self.judge_everywhere(network, node, method, reply, chaos);
        let Some((_, ailment)) = self.ailing.filter(|(ailing, _)| *ailing == node) else { return };
        if let (Ailment::InflatesHeight(more), "getblockchaininfo", Reply::Answer(Ok(info))) =
            (ailment, method, &mut *reply)
            && let Some(blocks) = info.get("blocks").and_then(Value::as_u64)
        {
            info["blocks"] = json!(blocks + u64::from(more));
            chaos.strike("fault node inflates its height");
        } else if changes(network, node, ailment, question.clone(), reply) {
            chaos.strike(format!("fault {}", ailment.name()));
            if ailment.is_proved_by(method) && matches!(reply, Reply::Answer(Ok(_))) {
                self.told.insert(node, ailment);
            }
        }
    }

    fn judge_everywhere(&mut self, network: &Network, node: NodeId, method: &str, reply: &Reply, chaos: &Chaos) {
        let Reply::Answer(Ok(value)) = reply else { return };
        if let ("estimatesmartfee", Some(what)) = (method, self.everywhere.estimates)
            && value.get("feerate").is_some()
        {
            chaos.strike(format!("fault {what}"));
        }
        if let ("getrawmempool", Some((txid, height))) = (method, self.everywhere.evicted) {
            // Where a block has come since, it may hold it.
            self.everywhere.evicted = None;
            if height_max(network) == height && !network.node(node).mempool().contains(&txid) {
                chaos.strike("fault evicted everywhere");
            }
        }
    }
}

/// Whether what is wrong with a node changed its answer.
fn changes(
    network: &mut Network,
    id: NodeId,
    ailment: Ailment,
    (method, params): (&str, Value),
    reply: &Reply,
) -> bool {
    let is_where_it_stands = method == "getblockchaininfo";
    let own = network.node(id);
    let (height, clock) = (own.height(), own.clock());
    let others: BTreeSet<BlockHash> =
        network.ids().filter(|other| *other != id).map(|other| network.node(other).tip()).collect();
    // Where the others do not agree either, nothing can be said.
    let agreed = others.first().copied().filter(|tip| others.len() == 1 && *tip != own.tip());
    let time_of = |tip: &BlockHash| network.node(id).block(tip).map_or(0, |block| u64::from(block.header.time));
    match ailment {
        Ailment::Stopped => *reply == Reply::Down,
        Ailment::LosesReplies => *reply == Reply::Lost,
        Ailment::Frozen | Ailment::CutOff | Ailment::Delayed => is_where_it_stands && agreed.is_some(),
        Ailment::ClockBehind => {
            let has_refused = |tip: BlockHash| {
                let other = network.ids().find(|other| *other != id).map(|other| network.node(other));
                let block = other.and_then(|other| other.block(&tip));
                let time = block.map_or(0, |block| u64::from(block.header.time));
                height_max(network) > height && time > clock + BLOCK_FUTURE_MAX_SECONDS
            };
            is_where_it_stands && agreed.is_some_and(has_refused)
        }
        Ailment::ClockAhead => {
            let is_too_new = time_of(&own.tip()) > network.clock() + BLOCK_FUTURE_MAX_SECONDS;
            is_where_it_stands && agreed.is_some() && is_too_new
        }
        Ailment::ForgesBlock | Ailment::ForgesBlockWithoutWork | Ailment::ShowsPrivateBlocks => {
            OF_THE_CHAIN.contains(&method) && differs(network, id, (method, params), reply)
        }
        Ailment::AltersAmount => OF_BYTES.contains(&method) && differs(network, id, (method, params), reply),
        Ailment::Evicted(txid) => {
            let is_waiting = network.ids().any(|other| other != id && network.node(other).mempool().contains(&txid));
            let is_answer = matches!(reply, Reply::Answer(Ok(_)));
            method == "getrawmempool" && is_answer && is_waiting && !own.mempool().contains(&txid)
        }
        Ailment::InflatesHeight(_) => false,
    }
}

/// Whether an honest node would have answered otherwise. These questions change nothing.
fn differs(network: &mut Network, id: NodeId, (method, params): (&str, Value), reply: &Reply) -> bool {
    let honest = network.with_node(id, |node| handle(node, method, params));
    matches!(reply, Reply::Answer(answer) if *answer != honest)
}

/// A worker of a process, and a node that it speaks with.
type Bond = (u64, usize, NodeId);

/// Which nodes the workers call liars.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Those that stand.
    called: BTreeSet<Bond>,
    /// Those who have proved it and are not called so yet, and when.
    open: BTreeMap<Bond, (Ailment, u64)>,
}

impl World {
    /// After a worker's step: whoever has proved that it lies is called a liar by the worker that it lied to, at once or in its
    /// next step, and nobody else is. What else it says of the faulty node is counted.
    pub(crate) fn hold_names(&mut self, worker: usize) -> Result<(), String> {
        let (now_ms, network) = (self.now_ms(), self.network.clone());
        let (told, ailing) = {
            let mut faults = lock(&self.node_faults);
            (std::mem::take(&mut faults.told), faults.ailing)
        };
        let Some(process) = self.process.as_ref().filter(|process| !process.chaos.is_dead()) else { return Ok(()) };
        let number = process.number;
        let alarms = process.workers()[worker].alarms();
        let says = |code: &str, node: NodeId| {
            alarms.iter().any(|alarm| alarm.code == code && alarm.subject == seat_name(node))
        };
        let mut counts = Vec::new();
        for node in lock(&network).ids() {
            let bond = (number, worker, node);
            let waited = self.names.open.remove(&bond);
            let told = told.get(&node).copied();
            if says("node_lies", node) {
                if self.names.called.insert(bond) {
                    let by = told.or(waited.map(|(by, _)| by));
                    let by = by.ok_or_else(|| format!("{node:?} is said to lie, and gave nothing that proves it"))?;
                    counts.push(format!("{} and is named: node_lies", by.name()));
                }
                continue;
            }
            self.names.called.remove(&bond);
            match (waited, told) {
                // Whoever lied so long ago is heard again.
                (Some((by, at)), _) if now_ms.saturating_sub(at) < LIE_MS => {
                    return Err(format!("{node:?} has lied ({}), and nobody says so", by.name()));
                }
                (_, Some(by)) => drop(self.names.open.insert(bond, (by, now_ms))),
                (_, None) => {}
            }
        }
        if let Some((node, ailment)) = ailing {
            let codes = ["node_lags", "node_on_other_branch", "node_unreachable"];
            let said = codes.into_iter().filter(|code| says(code, node));
            counts.extend(said.map(|code| format!("{} and is named: {code}", ailment.name())));
        }
        counts.into_iter().for_each(|what| self.count(what));
        Ok(())
    }
}
