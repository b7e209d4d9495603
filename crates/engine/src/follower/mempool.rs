//! What waits to be mined: payments to us, and our own transactions, as the nodes' mempools show them. For people only;
//! nothing here counts as money.

use super::blocks::Watched;
use super::nodes::{Seats, Waiting};
use crate::alarm::Alarms;
use crate::lanes::Ask;
use crate::terms::core_outpoint;
use florin_chain::bitcoin::scan::scan_tx;
use florin_core::amount::Amount;
use florin_core::command::{Command, Receipt};
use florin_core::custody::{Branch, DepositStatus, OutPoint, PlanStatus, WithdrawalStatus};
use florin_core::id::{ChainId, TxId};
use florin_core::state::State;
use std::collections::{BTreeMap, BTreeSet};

/// Waiting transactions fetched in one step: a mempool of 300,000 is learned in minutes without delaying blocks.
pub const FETCH_MAX: usize = 1_000;
/// Ids taken from one node's list: three times what a mempool of 300 MB, Bitcoin Core's default, holds of small transactions.
pub const LISTED_MAX: usize = 1_000_000;
/// For how many polls a node is not asked again for a transaction that it listed and did not give. Whoever lists ids of
/// nothing takes [`FETCH_MAX`] questions once in so many polls, and what is kept in mind of it stays below both together.
pub const REFETCH_POLLS: u32 = 60;
/// In how many polls in a row, each answered by every node, a payment must be absent before it counts as gone: one moment's
/// absence is usual while a node restarts or a block arrives.
pub const ABSENT_POLLS: u32 = 3;
/// Sightings in one command.
pub const SIGHTINGS_MAX: usize = 256;

/// Who lists a waiting transaction.
#[derive(Debug, Default)]
struct Listed {
    nodes: Vec<usize>,
    groups: BTreeSet<usize>,
}

/// What waits, as far as it concerns us.
#[derive(Debug, Default)]
pub(crate) struct Mempool {
    /// In how many failure groups a transaction must wait before the journal hears of it: bytes that match their id need not be
    /// a transaction that any block could take.
    quorum: usize,
    /// All that waits on any node.
    waiting: BTreeMap<TxId, Listed>,
    /// What a node listed and did not give, and in which poll.
    unfetched: BTreeMap<(TxId, usize), u32>,
    /// Counts polls.
    polls: u32,
    /// Scanned already, with how many scripts were watched at that time; an entry leaves with its transaction.
    scanned: BTreeSet<TxId>,
    receipts: BTreeMap<OutPoint, Receipt>,
    /// Waiting transactions that spend coins of ours.
    spends: BTreeMap<TxId, Vec<OutPoint>>,
    /// Payments that the state knows and no node shows, with the number of polls.
    absent: BTreeMap<OutPoint, u32>,
    /// Counts polls that every node answered.
    complete_polls: u32,
    scripts_watched: usize,
}

impl Mempool {
    /// Knows of nothing yet.
    pub(crate) fn new(quorum: usize) -> Mempool {
        Mempool { quorum: quorum.max(1), ..Mempool::default() }
    }

    /// Asks every node what waits.
    pub(crate) fn poll(&mut self, seats: &mut Seats) {
        let (pools, is_all) = seats.mempools();
        if pools.is_empty() {
            return;
        }
        let is_complete = is_all && pools.iter().all(|(_, txids)| txids.len() <= LISTED_MAX);
        self.waiting.clear();
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        for (node, txids) in pools {
            let count = groups.len();
            let group = *groups.entry(seats.group(node).unwrap_or_default().to_owned()).or_insert(count);
            for txid in txids.into_iter().take(LISTED_MAX) {
                let listed = self.waiting.entry(txid).or_default();
                listed.nodes.push(node);
                listed.groups.insert(group);
            }
        }
        self.polls = self.polls.wrapping_add(1);
        let polls = self.polls;
        self.unfetched.retain(|_, poll| polls.wrapping_sub(*poll) < REFETCH_POLLS);
        let waiting = &self.waiting;
        self.scanned.retain(|txid| waiting.contains_key(txid));
        self.receipts.retain(|outpoint, _| waiting.contains_key(&outpoint.txid));
        self.spends.retain(|txid, _| waiting.contains_key(txid));
        if is_complete {
            self.complete_polls = self.complete_polls.wrapping_add(1);
            self.absent.values_mut().for_each(|polls| *polls = polls.saturating_add(1));
        }
    }

    /// Fetches and scans waiting transactions that are not known.
    pub(crate) fn fetch(&mut self, seats: &mut Seats, watched: &Watched, chain: ChainId) {
        if watched.scripts.len() != self.scripts_watched {
            // An address may be paid within the second in which it is shown, before it was watched.
            self.scripts_watched = watched.scripts.len();
            self.scanned.clear();
        }
        for (txid, node) in &self.unknown() {
            let bytes = match seats.waiting_transaction(*node, *txid) {
                Waiting::Given(bytes) => bytes,
                Waiting::NotGiven => {
                    self.unfetched.insert((*txid, *node), self.polls);
                    continue;
                }
                Waiting::NotAsked => continue,
            };
            self.scanned.insert(*txid);
            let Ok(scan) = scan_tx(&bytes, &watched.scripts, &watched.outpoints) else { continue };
            for receipt in scan.receipts {
                let path = watched.path(receipt.script_handle);
                let amount = Amount::new(u128::from(receipt.amount_sat));
                let outpoint = core_outpoint(chain, receipt.outpoint);
                let seen = Receipt { txid: outpoint.txid, vout: outpoint.vout, amount, path, coinbase: false };
                self.receipts.insert(outpoint, seen);
            }
            if !scan.spends.is_empty() {
                let spent = scan.spends.iter().map(|spend| core_outpoint(chain, spend.outpoint)).collect();
                self.spends.insert(*txid, spent);
            }
        }
    }

    /// What to fetch, each from a node that lists it and has not failed to give it: first what waits in a quorum of groups, so
    /// that what one node alone lists never stands in its way.
    fn unknown(&self) -> Vec<(TxId, usize)> {
        let source = |(txid, listed): (&TxId, &Listed)| {
            let is_fresh = |node: &&usize| !self.unfetched.contains_key(&(*txid, **node));
            listed.nodes.iter().find(is_fresh).map(|node| (*txid, *node))
        };
        let of = |is_agreed: bool| {
            let open = self.waiting.iter().filter(|(txid, _)| !self.scanned.contains(txid));
            open.filter(move |(_, listed)| (listed.groups.len() >= self.quorum) == is_agreed).filter_map(source)
        };
        of(true).chain(of(false)).take(FETCH_MAX).collect()
    }

    fn is_agreed(&self, txid: &TxId) -> bool {
        self.waiting.get(txid).is_some_and(|listed| listed.groups.len() >= self.quorum)
    }

    /// What the core should be told: payments first seen, payments gone, transactions of ours first seen.
    pub(crate) fn look(&mut self, state: &State, chain: ChainId, now_ms: u64, alarms: &mut Alarms) -> Vec<Ask> {
        let mut asks = Vec::new();
        let is_new = |outpoint: &OutPoint| {
            let deposit = state.deposits().get(outpoint);
            !state.coins().contains_key(outpoint)
                && deposit.is_none_or(|deposit| deposit.status == DepositStatus::Replaced)
                && self.is_agreed(&outpoint.txid)
        };
        // Change is no deposit, a retired wallet takes none, nothing is no payment, and too many are too many: the core would
        // note none of them, and they would stand in the way of others at every step.
        let is_open = |outpoint: &OutPoint, receipt: &Receipt| {
            let wallet = state.wallets().get(&receipt.path.wallet);
            receipt.path.branch == Branch::External
                && !receipt.amount.is_zero()
                && wallet.is_some_and(|wallet| !wallet.retired)
                && (state.deposits().contains_key(outpoint) || state.takes_sighting(chain, &receipt.path))
        };
        let new = self.receipts.iter().filter(|(outpoint, receipt)| is_new(outpoint) && is_open(outpoint, receipt));
        let receipts: Vec<Receipt> = new.take(SIGHTINGS_MAX).map(|(_, receipt)| receipt.clone()).collect();
        if !receipts.is_empty() {
            asks.push(Ask::internal(Command::SeeReceipts { chain, receipts }));
        }
        let outpoints = self.gone(state, chain);
        if !outpoints.is_empty() {
            asks.push(Ask::internal(Command::LoseReceipts { chain, outpoints }));
        }
        asks.extend(self.plans(state, chain));
        self.foreign_spends(state, now_ms, alarms);
        asks
    }

    /// Unconfirmed deposits that no node has shown for long enough.
    fn gone(&mut self, state: &State, chain: ChainId) -> Vec<OutPoint> {
        let waiting = &self.waiting;
        let absent = state
            .deposits()
            .values()
            .filter(|deposit| deposit.outpoint.chain == chain && deposit.status == DepositStatus::Seen)
            .filter(|deposit| !waiting.contains_key(&deposit.outpoint.txid));
        let old = std::mem::take(&mut self.absent);
        self.absent =
            absent.map(|deposit| (deposit.outpoint, old.get(&deposit.outpoint).copied().unwrap_or(0))).collect();
        let gone = self.absent.iter().filter(|(_, polls)| **polls >= ABSENT_POLLS);
        gone.map(|(outpoint, _)| *outpoint).take(SIGHTINGS_MAX).collect()
    }

    /// Signed plans of which a version waits, and whose withdrawals do not say so yet.
    fn plans(&self, state: &State, chain: ChainId) -> Vec<Ask> {
        let signed = state.plans().values().filter(|plan| {
            plan.status == PlanStatus::Signed && plan.anchor.chain == chain && {
                let mut paid = plan.versions.iter().flat_map(|version| &version.payments);
                paid.any(|payment| {
                    let withdrawal = state.withdrawals().get(&payment.withdrawal);
                    withdrawal.is_some_and(|withdrawal| withdrawal.status == WithdrawalStatus::Signed)
                })
            }
        });
        let seen = signed.filter_map(|plan| {
            let mut txids = plan.versions.iter().filter_map(|version| version.txid);
            let txid = txids.find(|txid| self.is_agreed(txid))?;
            Some(Ask::internal(Command::SeePlan { plan: plan.id, txid }))
        });
        seen.take(SIGHTINGS_MAX).collect()
    }

    /// Names waiting transactions that spend coins of ours and that no plan of ours knows: nothing of ours made them.
    fn foreign_spends(&self, state: &State, now_ms: u64, alarms: &mut Alarms) {
        for (txid, spent) in &self.spends {
            let is_ours = |outpoint: &OutPoint| {
                let coin = state.coins().get(outpoint);
                let plan = coin.and_then(|coin| coin.reserved).and_then(|plan| state.plans().get(&plan));
                // A malleated twin has another id, and spends what the plan spends.
                plan.is_some_and(|plan| plan.versions.iter().any(|version| version.signed.is_some()))
            };
            if !spent.iter().all(is_ours) {
                alarms.say(now_ms, "foreign_spend_waits", txid, "an unknown waiting transaction spends coins of ours");
            }
        }
    }
}
