//! Sends signed transactions to every node, again and again until one is in a block. It sends only what the journal holds:
//! whatever happens, the journal knows of every transaction that anyone could have seen.

use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::follower::nodes::Seat;
use crate::lanes::Ask;
use crate::ports::SendResult;
use florin_core::command::Command;
use florin_core::custody::{PlanStatus, WithdrawalStatus};
use florin_core::id::{BlockHash, ChainId, PlanId, TxId};
use florin_core::state::State;
use florin_core::wire::Bytes;
use std::collections::BTreeMap;

/// Transactions sent in one step: a few seconds of asking.
pub const SENDS_MAX: usize = 64;

/// How transactions are sent.
#[derive(Debug, Clone)]
pub struct BroadcasterConfig {
    /// The chain.
    pub chain: ChainId,
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

/// Sends the signed transactions of one chain.
#[derive(Debug)]
pub struct Broadcaster {
    config: BroadcasterConfig,
    seats: Vec<Seat>,
    /// When a transaction was last sent, and what the nodes that refused it said.
    sent: BTreeMap<TxId, (u64, Option<String>)>,
    alarms: Alarms,
}

impl Broadcaster {
    /// A broadcaster that has sent nothing yet.
    pub fn new(config: BroadcasterConfig, seats: Vec<Seat>) -> Broadcaster {
        Broadcaster { config, seats, sent: BTreeMap::new(), alarms: Alarms::default() }
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

    /// Sends to every node; says whether one of them has it now.
    fn send(&mut self, job: &Job, genesis: BlockHash, now_ms: u64) -> bool {
        let mut has = false;
        let mut rejected = None;
        for seat in &mut self.seats {
            // Another network's node must not learn of our transactions, and would only confuse with its refusal.
            match seat.node.info() {
                Ok(info) if info.genesis == genesis => {}
                Ok(_) => {
                    self.alarms.say(now_ms, "node_wrong_network", &seat.name, "it follows another network");
                    continue;
                }
                Err(fault) => {
                    self.alarms.say(now_ms, fault.code(), &seat.name, &fault);
                    continue;
                }
            }
            match seat.node.send(&job.signed.0) {
                Ok(SendResult::Sent | SendResult::AlreadyKnown) => has = true,
                Ok(SendResult::Rejected { reason }) => rejected = Some(format!("{}: {reason}", seat.name)),
                Err(fault) => self.alarms.say(now_ms, fault.code(), &seat.name, &fault),
            }
        }
        self.sent.insert(job.txid, (now_ms, rejected.filter(|_| !has)));
        has
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
        let is_due = |job: &&Job| {
            let last = self.sent.get(&job.txid);
            last.is_none_or(|(at, _)| now_ms.saturating_sub(*at) >= self.config.repeat_ms || *at > now_ms)
        };
        let due: Vec<&Job> = jobs.iter().filter(is_due).take(SENDS_MAX).collect();
        let mut asks = Vec::new();
        for job in due {
            if self.send(job, genesis, now_ms) && job.is_unseen {
                asks.push(Ask::internal(Command::SeePlan { plan: job.plan, txid: job.txid }));
            }
        }
        for job in &jobs {
            if let Some((_, Some(reason))) = self.sent.get(&job.txid) {
                self.alarms.say(now_ms, "transaction_rejected", format!("plan {}", job.plan), reason);
            }
        }
        asks
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }
}
