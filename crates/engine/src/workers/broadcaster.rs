//! Sends signed transactions to every node, again and again until one is in a block. It sends only what the journal holds:
//! whatever happens, the journal knows of every transaction that anyone could have seen.

use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::follower::nodes::Seat;
use crate::lanes::Ask;
use crate::ports::{NodeFault, SendResult};
use florin_core::command::Command;
use florin_core::custody::{PlanStatus, WithdrawalStatus};
use florin_core::id::{BlockHash, ChainId, PlanId, TxId};
use florin_core::state::State;
use florin_core::wire::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Transactions sent in one step: a few seconds of asking.
pub const SENDS_MAX: usize = 64;

/// After how long a node is told again that did not take a question the last time, in milliseconds: soon, because blocks may
/// be made behind it, and not at every step, because it may take its time not to answer.
pub const MISSED_MS: u64 = 5_000;

/// How transactions are sent.
#[derive(Debug, Clone)]
pub struct BroadcasterConfig {
    /// The chain.
    pub chain: ChainId,
    /// How many failure groups must have a transaction before its withdrawals say that it is broadcast; at least 1.
    pub quorum: usize,
    /// After how long an unconfirmed transaction is sent again, in milliseconds. Nodes forget, restart and evict.
    pub repeat_ms: u64,
}

/// A signed version that is in no block.
#[derive(Debug, Clone)]
struct Job {
    plan: PlanId,
    txid: TxId,
    signed: Bytes,
    /// Whether a withdrawal of it is not known to be broadcast.
    is_unseen: bool,
}

/// What became of sending a transaction.
#[derive(Debug, Default)]
struct Sent {
    /// When it was last sent to all.
    all_ms: u64,
    /// When it was last sent to any.
    last_ms: u64,
    /// The nodes, by place, that could not be told since.
    missed: BTreeSet<usize>,
    /// The failure groups that say they have it since.
    groups: BTreeSet<String>,
    /// What a node said that refused it since.
    rejected: Option<String>,
}

/// Sends the signed transactions of one chain.
#[derive(Debug)]
pub struct Broadcaster {
    config: BroadcasterConfig,
    seats: Vec<Seat>,
    sent: BTreeMap<TxId, Sent>,
    /// The nodes, by place, that could not be asked the last time: they come last.
    late: BTreeSet<usize>,
    alarms: Alarms,
}

impl Broadcaster {
    /// A broadcaster that has sent nothing yet.
    pub fn new(config: BroadcasterConfig, seats: Vec<Seat>) -> Broadcaster {
        Broadcaster { config, seats, sent: BTreeMap::new(), late: BTreeSet::new(), alarms: Alarms::default() }
    }

    fn jobs(&self, state: &State) -> (Option<BlockHash>, Vec<Job>) {
        let genesis = state.chains().get(&self.config.chain).map(|chain| chain.chain.genesis);
        let plans = state.plans().values();
        let open = plans.filter(|plan| plan.status == PlanStatus::Signed && plan.anchor.chain == self.config.chain);
        let jobs = open.filter_map(|plan| {
            // The newest signed version: the older ones pay less and would be refused beside it.
            let version = plan.versions.iter().rev().find(|version| version.signed.is_some())?;
            let is_unseen = version.payments.iter().any(|payment| {
                let withdrawal = state.withdrawals().get(&payment.withdrawal);
                withdrawal.is_some_and(|withdrawal| withdrawal.status == WithdrawalStatus::Signed)
            });
            Some(Job { plan: plan.id, txid: version.txid?, signed: version.signed.clone()?, is_unseen })
        });
        (genesis, jobs.collect())
    }

    /// The nodes that are to be told of a transaction now, by place.
    fn due(&self, txid: TxId, now_ms: u64) -> BTreeSet<usize> {
        let Some(sent) = self.sent.get(&txid) else { return (0..self.seats.len()).collect() };
        // A clock that was set back makes it due.
        let has_passed = |at_ms: u64, ms: u64| now_ms < at_ms || now_ms - at_ms >= ms;
        match () {
            () if has_passed(sent.all_ms, self.config.repeat_ms) => (0..self.seats.len()).collect(),
            () if has_passed(sent.last_ms, MISSED_MS) => sent.missed.clone(),
            () => BTreeSet::new(),
        }
    }

    /// Which of these nodes may be told of our transactions, those that answered the last time first.
    fn open(&mut self, wanted: &BTreeSet<usize>, genesis: BlockHash, now_ms: u64) -> Vec<usize> {
        let mut order: Vec<usize> = wanted.iter().copied().collect();
        order.sort_by_key(|place| self.late.contains(place));
        order.iter().for_each(|place| self.seats[*place].node.prepare());
        order.retain(|place| {
            let seat = &mut self.seats[*place];
            self.late.remove(place);
            // Another network's node must not learn of our transactions, and would only confuse with its refusal.
            match seat.node.info() {
                Ok(info) if info.genesis == genesis => return true,
                Ok(_) => self.alarms.say(now_ms, "node_wrong_network", &seat.name, "it follows another network"),
                Err(fault) => {
                    self.late.insert(*place);
                    self.alarms.say(now_ms, fault.code(), &seat.name, &fault);
                }
            }
            false
        });
        order
    }

    /// Sends to the nodes that are due; says whether a quorum has it now. What one node says alone may be a lie, or stay with it.
    fn send(&mut self, job: &Job, due: &BTreeSet<usize>, open: &[usize], now_ms: u64) -> bool {
        let (mut groups, mut rejected, mut missed) = (BTreeSet::new(), None, due.clone());
        for place in open.iter().filter(|place| due.contains(place)) {
            // Who did not answer in this step gets the rest later: the others don't wait for it once more.
            if self.late.contains(place) {
                continue;
            }
            let seat = &mut self.seats[*place];
            match seat.node.send(&job.signed.0) {
                Ok(SendResult::Sent | SendResult::AlreadyKnown) => drop(groups.insert(seat.group.clone())),
                Ok(SendResult::Rejected { reason }) => rejected = Some(format!("{}: {reason}", seat.name)),
                Err(fault) => {
                    if matches!(fault, NodeFault::Timeout | NodeFault::Transport(_)) {
                        self.late.insert(*place);
                    }
                    self.alarms.say(now_ms, fault.code(), &seat.name, &fault);
                    continue;
                }
            }
            missed.remove(place);
        }
        let sent = self.sent.entry(job.txid).or_default();
        if due.len() == self.seats.len() {
            *sent = Sent { all_ms: now_ms, ..Sent::default() };
        }
        (sent.last_ms, sent.missed) = (now_ms, missed);
        sent.groups.append(&mut groups);
        sent.rejected = rejected.or(sent.rejected.take());
        self.is_agreed(job.txid)
    }

    /// Whether as many groups say that they have a transaction as have to.
    fn is_agreed(&self, txid: TxId) -> bool {
        self.sent.get(&txid).is_some_and(|sent| sent.groups.len() >= self.config.quorum.max(1))
    }
}

impl Worker for Broadcaster {
    fn name(&self) -> &'static str {
        "broadcaster"
    }

    fn step(&mut self, view: &dyn View, now_ms: u64) -> Vec<Ask> {
        self.alarms.settle();
        let (genesis, jobs) = see(view, |model| self.jobs(model.state()));
        let Some(genesis) = genesis else { return Vec::new() };
        self.sent.retain(|txid, _| jobs.iter().any(|job| job.txid == *txid));
        let due = jobs.iter().map(|job| (job, self.due(job.txid, now_ms))).filter(|(_, nodes)| !nodes.is_empty());
        let due: Vec<(&Job, BTreeSet<usize>)> = due.take(SENDS_MAX).collect();
        let wanted: BTreeSet<usize> = due.iter().flat_map(|(_, nodes)| nodes.iter().copied()).collect();
        let open = self.open(&wanted, genesis, now_ms);
        let mut asks = Vec::new();
        for (job, nodes) in &due {
            if self.send(job, nodes, &open, now_ms) && job.is_unseen {
                asks.push(Ask::internal(Command::SeePlan { plan: job.plan, txid: job.txid }));
            }
        }
        for job in &jobs {
            let unsettled = self.sent.get(&job.txid).filter(|_| !self.is_agreed(job.txid));
            let refused = unsettled.and_then(|sent| sent.rejected.as_ref());
            if let Some(reason) = refused {
                self.alarms.say(now_ms, "transaction_rejected", format!("plan {}", job.plan), reason);
            }
        }
        asks
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }
}
