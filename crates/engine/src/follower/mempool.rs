//! What waits to be mined: payments to us, and our own transactions, as the nodes' mempools show them. For people only;
//! nothing here counts as money.

use super::blocks::Watched;
use super::conflicts::Conflicts;
use super::nodes::{Pool, Seats, Waiting};
use crate::alarm::Alarms;
use crate::lanes::Ask;
use crate::terms::core_outpoint;
use florin_chain::bitcoin::header::HeaderChain;
use florin_chain::bitcoin::scan::scan_tx;
use florin_chain::bitcoin::watch::WatchKey;
use florin_core::amount::Amount;
use florin_core::command::{Command, Receipt};
use florin_core::custody::{Branch, DepositStatus, OutPoint, PlanStatus, WithdrawalStatus};
use florin_core::id::{BlockHash, ChainId, TxId};
use florin_core::state::State;
use std::collections::{BTreeMap, BTreeSet};

/// Waiting transactions fetched in one step: a mempool of 300,000 is learned in minutes without delaying blocks.
pub const FETCH_MAX: usize = 1_000;
/// Ids taken from one node's list: three times what a mempool of 300 MB, Bitcoin Core's default, holds of small transactions.
pub const LISTED_MAX: usize = 1_000_000;
/// For how many polls a node is not asked again for a transaction that it listed and did not give. Whoever lists ids of
/// nothing takes [`FETCH_MAX`] questions once in so many polls, and what is kept in mind of it stays below both together.
pub const REFETCH_POLLS: u32 = 60;
/// In how many polls, each answered by a quorum of failure groups, a payment must be absent before it counts as gone: one
/// moment's absence is usual while a node restarts or a block arrives.
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
#[derive(Debug)]
pub(crate) struct Mempool {
    /// In how many failure groups a transaction must wait before the journal hears of it: bytes that match their id need not be
    /// a transaction that any block could take. And how many must have listed what waits before one that none of all that list
    /// has may count as gone: a node that is away would otherwise keep it for ever.
    quorum: usize,
    /// All that waits on any node.
    waiting: BTreeMap<TxId, Listed>,
    /// Whether that was listed since the last look. While a node takes its time to list, what it listed before says nothing new.
    is_fresh: bool,
    /// What a node listed and did not give, and in which poll.
    unfetched: BTreeMap<(TxId, usize), u32>,
    /// Counts polls.
    polls: u32,
    /// Scanned already, with how many scripts were watched at that time; an entry leaves with its transaction.
    scanned: BTreeSet<TxId>,
    receipts: BTreeMap<OutPoint, Receipt>,
    /// Waiting transactions that spend coins of ours.
    spends: BTreeMap<TxId, Vec<OutPoint>>,
    /// Payments that the state knows and no node shows, with the number of polls that a quorum answered.
    absent: BTreeMap<OutPoint, u32>,
    conflicts: Conflicts,
    scripts_watched: usize,
}

impl Mempool {
    /// Knows of nothing yet.
    pub(crate) fn new(quorum: usize, key: WatchKey) -> Mempool {
        Mempool {
            quorum: quorum.max(1),
            waiting: BTreeMap::new(),
            is_fresh: false,
            unfetched: BTreeMap::new(),
            polls: 0,
            scanned: BTreeSet::new(),
            receipts: BTreeMap::new(),
            spends: BTreeMap::new(),
            absent: BTreeMap::new(),
            conflicts: Conflicts::new(key),
            scripts_watched: 0,
        }
    }

    /// Asks every node what waits.
    pub(crate) fn poll(&mut self, seats: &mut Seats, headers: &HeaderChain) {
        let pools = seats.mempools(headers);
        self.is_fresh = !pools.is_empty();
        if !self.is_fresh {
            return;
        }
        self.waiting.clear();
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        let mut complete = BTreeSet::new();
        for Pool { node, txids, is_current } in pools {
            let count = groups.len();
            let group = *groups.entry(seats.group(node).unwrap_or_default().to_owned()).or_insert(count);
            if is_current && txids.len() <= LISTED_MAX {
                complete.insert(group);
            }
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
        if complete.len() >= self.quorum {
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
            if !scan.receipts.is_empty() {
                self.conflicts.learn(*txid, &bytes);
            }
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

    /// Looks through a block for what can't come any more because of it.
    pub(crate) fn look_through(&mut self, hash: BlockHash, bytes: &[u8]) {
        self.conflicts.look_through(hash, bytes);
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
        self.is_fresh && self.waiting.get(txid).is_some_and(|listed| listed.groups.len() >= self.quorum)
    }

    /// Whether a journalled block has something else in a payment's place. Then it is gone, however many list it.
    fn is_ended(&self, txid: &TxId, state: &State, chain: ChainId) -> bool {
        let is_journalled = |hash: BlockHash| {
            let chain = state.chains().get(&chain);
            chain.is_some_and(|chain| chain.blocks.values().rev().any(|block| block.at.hash == hash))
        };
        self.conflicts.ended_by(txid).is_some_and(is_journalled)
    }

    /// What the core should be told: payments first seen, payments gone, transactions of ours first seen.
    pub(crate) fn look(&mut self, state: &State, chain: ChainId, now_ms: u64, alarms: &mut Alarms) -> Vec<Ask> {
        let mut asks = Vec::new();
        let is_new = |outpoint: &OutPoint| {
            let deposit = state.deposits().get(outpoint);
            !state.coins().contains_key(outpoint)
                && deposit.is_none_or(|deposit| deposit.status == DepositStatus::Replaced)
                && self.is_agreed(&outpoint.txid)
                && !self.is_ended(&outpoint.txid, state, chain)
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
        self.is_fresh = false;
        asks
    }

    /// Unconfirmed deposits that no node has shown for long enough, or in whose place a journalled block has something else.
    fn gone(&mut self, state: &State, chain: ChainId) -> Vec<OutPoint> {
        let waiting = &self.waiting;
        let deposits = state.deposits().values().filter(|deposit| deposit.status == DepositStatus::Seen);
        let seen: Vec<OutPoint> =
            deposits.map(|deposit| deposit.outpoint).filter(|outpoint| outpoint.chain == chain).collect();
        let old = std::mem::take(&mut self.absent);
        let absent = seen.iter().filter(|outpoint| !waiting.contains_key(&outpoint.txid));
        self.absent = absent.map(|outpoint| (*outpoint, old.get(outpoint).copied().unwrap_or(0))).collect();
        let seen_txids: BTreeSet<TxId> = seen.iter().map(|outpoint| outpoint.txid).collect();
        self.conflicts.retain(|txid| waiting.contains_key(txid) || seen_txids.contains(txid));
        let is_gone = |outpoint: &OutPoint| {
            self.absent.get(outpoint).is_some_and(|polls| *polls >= ABSENT_POLLS)
                || self.is_ended(&outpoint.txid, state, chain)
        };
        seen.into_iter().filter(is_gone).take(SIGHTINGS_MAX).collect()
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
