//! Orders over custody's records, so that a block or a tick costs what it changes and not what there is. Derived: every
//! entry follows from a record, both when events are folded and when a snapshot restates the records. Never decides.

use crate::amount::Amount;
use crate::custody::{
    Address, Beneficiary, Coin, Deposit, DepositStatus, KeyPath, OutPoint, Plan, PlanStatus, Withdrawal,
    WithdrawalStatus,
};
use crate::id::{ChainId, CustomerId, Height, LedgerTime, PlanId, TxId, WithdrawalId};
use crate::state::State;
use std::collections::{BTreeMap, BTreeSet};

/// The orders. Each field says what is in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// Coins by the block they arrived in.
    received: BTreeSet<(ChainId, Height, OutPoint)>,
    /// Credited deposits by their block.
    credited: BTreeSet<(ChainId, Height, OutPoint)>,
    /// Spent coins by the block of their spend.
    spent: BTreeSet<(ChainId, Height, OutPoint)>,
    /// Pending deposits by the tip's height at which they are deep enough.
    due: BTreeSet<(ChainId, Height, OutPoint)>,
    /// Pending deposits that only accrue, by amount.
    accrued: BTreeSet<(ChainId, Amount, OutPoint)>,
    /// Missing deposits by the time since when they are.
    missing: BTreeSet<(ChainId, LedgerTime, OutPoint)>,
    /// Replaced deposits by the time since when they are.
    replaced: BTreeSet<(LedgerTime, OutPoint)>,
    /// Inputs of plans that may still confirm or did.
    inputs: BTreeMap<OutPoint, PlanId>,
    /// Confirmed plans that are not final, by their block.
    confirmed: BTreeSet<(ChainId, Height, PlanId)>,
    /// Open plans with the inputs of theirs that another transaction has spent, by that spend's block.
    conflicts: BTreeSet<(ChainId, Height, PlanId, OutPoint)>,
    /// Conflicted plans by the block of the transaction that made them impossible.
    conflicted: BTreeSet<(ChainId, Height, PlanId)>,
    /// Withdrawals that are not planned, by the expiry of their intents.
    expiring: BTreeSet<(LedgerTime, WithdrawalId)>,
    /// Ended withdrawals that no block ended, by the time of their request.
    closed: BTreeSet<(LedgerTime, WithdrawalId)>,
    /// Voided plans.
    voided: BTreeSet<PlanId>,
    /// How many addresses of a customer no coin ever arrived on.
    unused: BTreeMap<CustomerId, u32>,
    /// How many seen and replaced deposits an address has.
    unconfirmed: BTreeMap<KeyPath, u32>,
    /// The same for all addresses of a chain.
    unconfirmed_of_chain: BTreeMap<ChainId, u32>,
}

const FIRST_TX: TxId = TxId([0; 32]);
const LAST_TX: TxId = TxId([0xff; 32]);

fn first_outpoint(chain: ChainId) -> OutPoint {
    OutPoint { chain, txid: FIRST_TX, vout: 0 }
}

fn last_outpoint(chain: ChainId) -> OutPoint {
    OutPoint { chain, txid: LAST_TX, vout: u32::MAX }
}

fn of_height(
    set: &BTreeSet<(ChainId, Height, OutPoint)>,
    chain: ChainId,
    height: Height,
) -> impl Iterator<Item = OutPoint> {
    set.range((chain, height, first_outpoint(chain))..=(chain, height, last_outpoint(chain))).map(|entry| entry.2)
}

impl Index {
    /// Coins that arrived in the block at a height.
    pub(crate) fn received_at(&self, chain: ChainId, height: Height) -> impl Iterator<Item = OutPoint> {
        of_height(&self.received, chain, height)
    }
    /// Credited deposits of the block at a height and of those below it.
    pub(crate) fn credited_to(&self, chain: ChainId, height: Height) -> impl Iterator<Item = OutPoint> {
        let range = (chain, Height(0), first_outpoint(chain))..=(chain, height, last_outpoint(chain));
        self.credited.range(range).map(|entry| entry.2)
    }
    /// Coins that were spent in the block at a height.
    pub(crate) fn spent_at(&self, chain: ChainId, height: Height) -> impl Iterator<Item = OutPoint> {
        of_height(&self.spent, chain, height)
    }
    /// The pending deposit that is due first, if one is due at `tip`.
    pub(crate) fn first_due(&self, chain: ChainId, tip: Height) -> Option<OutPoint> {
        self.due
            .range((chain, Height(0), first_outpoint(chain))..=(chain, tip, last_outpoint(chain)))
            .next()
            .map(|e| e.2)
    }
    /// The largest accrued deposit of a chain.
    pub(crate) fn largest_accrued(&self, chain: ChainId) -> Option<(Amount, OutPoint)> {
        let range = (chain, Amount::ZERO, first_outpoint(chain))..=(chain, Amount::MAX, last_outpoint(chain));
        self.accrued.range(range).next_back().map(|&(_, amount, outpoint)| (amount, outpoint))
    }
    /// The deposit that is missing for the longest time.
    pub(crate) fn first_missing(&self, chain: ChainId) -> Option<(LedgerTime, OutPoint)> {
        let range = (chain, LedgerTime(0), first_outpoint(chain))..=(chain, LedgerTime(u64::MAX), last_outpoint(chain));
        self.missing.range(range).next().map(|&(_, since, outpoint)| (since, outpoint))
    }
    /// The deposit that is replaced for the longest time.
    pub(crate) fn first_replaced(&self) -> Option<(LedgerTime, OutPoint)> {
        self.replaced.first().copied()
    }
    /// The plan that has this input.
    pub(crate) fn plan_of_input(&self, outpoint: &OutPoint) -> Option<PlanId> {
        self.inputs.get(outpoint).copied()
    }
    /// The oldest confirmed plan that is not final.
    pub(crate) fn first_confirmed(&self, chain: ChainId) -> Option<(Height, PlanId)> {
        first_plan(&self.confirmed, chain)
    }
    /// The open plan of which an input was taken first, and that input.
    pub(crate) fn first_conflict(&self, chain: ChainId) -> Option<(Height, PlanId, OutPoint)> {
        let (first, last) = (first_outpoint(chain), last_outpoint(chain));
        let range = (chain, Height(0), PlanId(0), first)..=(chain, Height(u32::MAX), PlanId(u64::MAX), last);
        self.conflicts.range(range).next().map(|&(_, height, plan, input)| (height, plan, input))
    }
    /// All conflicted plans: each stands for a theft or a deep reorganisation, so they are few.
    pub(crate) fn conflicted(&self) -> impl Iterator<Item = PlanId> {
        self.conflicted.iter().map(|&(_, _, plan)| plan)
    }
    /// The unplanned withdrawal whose intent expires first.
    pub(crate) fn first_expiring(&self) -> Option<(LedgerTime, WithdrawalId)> {
        self.expiring.first().copied()
    }
    /// The withdrawal that ended without a block and was requested first.
    pub(crate) fn first_closed(&self) -> Option<(LedgerTime, WithdrawalId)> {
        self.closed.first().copied()
    }
    /// Voided plans, oldest first.
    pub(crate) fn voided(&self) -> &BTreeSet<PlanId> {
        &self.voided
    }
    /// How many addresses of a customer no coin ever arrived on.
    pub(crate) fn unused_addresses(&self, customer: &CustomerId) -> u32 {
        self.unused.get(customer).copied().unwrap_or(0)
    }

    /// How many seen and replaced deposits an address has, and all addresses of its chain.
    pub(crate) fn unconfirmed(&self, chain: ChainId, path: &KeyPath) -> (u32, u32) {
        let count = |count: Option<&u32>| count.copied().unwrap_or(0);
        (count(self.unconfirmed.get(path)), count(self.unconfirmed_of_chain.get(&chain)))
    }

    pub(crate) fn insert_coin(&mut self, coin: &Coin) {
        self.received.insert((coin.outpoint.chain, coin.at.height, coin.outpoint));
        self.insert_spent(coin);
    }

    fn insert_spent(&mut self, coin: &Coin) {
        if let Some(spent) = &coin.spent {
            self.spent.insert((coin.outpoint.chain, spent.at.height, coin.outpoint));
        }
    }

    pub(crate) fn insert_deposit(&mut self, deposit: &Deposit) {
        if is_unconfirmed(deposit) {
            *self.unconfirmed.entry(deposit.path).or_insert(0) += 1;
            *self.unconfirmed_of_chain.entry(deposit.outpoint.chain).or_insert(0) += 1;
        }
        let (chain, outpoint) = (deposit.outpoint.chain, deposit.outpoint);
        let since = deposit.missing_since.unwrap_or(LedgerTime(0));
        match (deposit.status, deposit.due) {
            (DepositStatus::Pending, Some(due)) => drop(self.due.insert((chain, due, outpoint))),
            (DepositStatus::Pending, None) => drop(self.accrued.insert((chain, deposit.amount, outpoint))),
            (DepositStatus::Missing, _) => drop(self.missing.insert((chain, since, outpoint))),
            (DepositStatus::Replaced, _) => drop(self.replaced.insert((since, outpoint))),
            (DepositStatus::Credited, _) => {
                let height = deposit.at.expect("a credited deposit has a block").height;
                self.credited.insert((chain, height, outpoint));
            }
            (DepositStatus::Seen | DepositStatus::Reversed, _) => {}
        }
    }

    pub(crate) fn remove_deposit(&mut self, deposit: &Deposit) {
        if is_unconfirmed(deposit) {
            less(&mut self.unconfirmed, &deposit.path);
            less(&mut self.unconfirmed_of_chain, &deposit.outpoint.chain);
        }
        let (chain, outpoint) = (deposit.outpoint.chain, deposit.outpoint);
        let since = deposit.missing_since.unwrap_or(LedgerTime(0));
        match (deposit.status, deposit.due) {
            (DepositStatus::Pending, Some(due)) => drop(self.due.remove(&(chain, due, outpoint))),
            (DepositStatus::Pending, None) => drop(self.accrued.remove(&(chain, deposit.amount, outpoint))),
            (DepositStatus::Missing, _) => drop(self.missing.remove(&(chain, since, outpoint))),
            (DepositStatus::Replaced, _) => drop(self.replaced.remove(&(since, outpoint))),
            (DepositStatus::Credited, _) => {
                let height = deposit.at.expect("a credited deposit has a block").height;
                self.credited.remove(&(chain, height, outpoint));
            }
            (DepositStatus::Seen | DepositStatus::Reversed, _) => {}
        }
    }

    pub(crate) fn insert_withdrawal(&mut self, withdrawal: &Withdrawal) {
        if is_unplanned(withdrawal) {
            self.expiring.insert((withdrawal.intent.expiry, withdrawal.id));
        }
        if is_closed(withdrawal) {
            self.closed.insert((withdrawal.requested, withdrawal.id));
        }
    }

    pub(crate) fn remove_withdrawal(&mut self, withdrawal: &Withdrawal) {
        self.expiring.remove(&(withdrawal.intent.expiry, withdrawal.id));
        self.closed.remove(&(withdrawal.requested, withdrawal.id));
    }

    pub(crate) fn insert_address(&mut self, address: &Address) {
        if let (Beneficiary::Customer(customer), false) = (&address.beneficiary, address.used) {
            *self.unused.entry(*customer).or_insert(0) += 1;
        }
    }
}

fn first_plan(set: &BTreeSet<(ChainId, Height, PlanId)>, chain: ChainId) -> Option<(Height, PlanId)> {
    let range = (chain, Height(0), PlanId(0))..=(chain, Height(u32::MAX), PlanId(u64::MAX));
    set.range(range).next().map(|&(_, height, plan)| (height, plan))
}

/// Whether a deposit is in no block and never was credited.
fn is_unconfirmed(deposit: &Deposit) -> bool {
    matches!(deposit.status, DepositStatus::Seen | DepositStatus::Replaced)
}

fn less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    let count = counts.get_mut(key).expect("what is taken away was counted");
    *count -= 1;
    if *count == 0 {
        counts.remove(key);
    }
}

fn is_unplanned(withdrawal: &Withdrawal) -> bool {
    matches!(withdrawal.status, WithdrawalStatus::AwaitingApproval | WithdrawalStatus::Queued)
}

/// Whether a withdrawal ended in the ledger alone. One that a plan ended leaves the state with its plan.
fn is_closed(withdrawal: &Withdrawal) -> bool {
    withdrawal.plan.is_none()
        && matches!(
            withdrawal.status,
            WithdrawalStatus::Cancelled | WithdrawalStatus::Refunded | WithdrawalStatus::Final
        )
}

fn is_open(plan: &Plan) -> bool {
    matches!(plan.status, PlanStatus::Signing | PlanStatus::Signed)
}

impl State {
    /// Changes a coin, and what is ordered by its spend.
    pub(crate) fn reindex_coin(&mut self, outpoint: OutPoint, change: impl FnOnce(&mut State)) {
        if let Some(entry) = self.conflict_of(&outpoint) {
            self.index.conflicts.remove(&entry);
        }
        if let Some(coin) = self.coins.get(&outpoint) {
            if let Some(spent) = &coin.spent {
                self.index.spent.remove(&(outpoint.chain, spent.at.height, outpoint));
            }
            self.index.received.remove(&(outpoint.chain, coin.at.height, outpoint));
        }
        change(self);
        if let Some(coin) = self.coins.get(&outpoint) {
            self.index.insert_coin(coin);
        }
        self.index.conflicts.extend(self.conflict_of(&outpoint));
    }

    /// Marks an address as one that a coin arrived on.
    pub(crate) fn mark_used(&mut self, path: &KeyPath) {
        let address = self.addresses.get_mut(path).expect("coins arrive on issued addresses");
        if std::mem::replace(&mut address.used, true) {
            return;
        }
        if let Beneficiary::Customer(customer) = &address.beneficiary {
            let count = self.index.unused.get_mut(customer).expect("an unused address was counted");
            *count -= 1;
        }
    }

    /// The conflict of the open plan that has this input, where another transaction has spent it.
    fn conflict_of(&self, input: &OutPoint) -> Option<(ChainId, Height, PlanId, OutPoint)> {
        let plan = &self.plans[&self.index.plan_of_input(input)?];
        let spent = self.coins.get(input)?.spent.as_ref()?;
        (is_open(plan) && spent.plan.is_none()).then_some((input.chain, spent.at.height, plan.id, *input))
    }

    /// Whether each input of a conflicted plan is there and nobody else has it: then the plan could confirm after all.
    pub(crate) fn is_possible_again(&self, plan: &Plan) -> bool {
        plan.inputs.iter().all(|input| {
            let coin = self.coins.get(input);
            coin.is_some_and(|coin| coin.spent.as_ref().is_none_or(|spent| spent.plan == Some(plan.id)))
        })
    }

    pub(crate) fn index_plan(&mut self, id: PlanId) {
        let plan = self.plans.get(&id).expect("a plan is proposed before its events");
        let chain = plan.anchor.chain;
        match plan.status {
            PlanStatus::Voided => drop(self.index.voided.insert(id)),
            PlanStatus::Conflicted => {
                let by = plan.paid.as_ref().expect("a plan is made impossible by a transaction");
                self.index.conflicted.insert((chain, by.at.height, id));
            }
            PlanStatus::Signing | PlanStatus::Signed | PlanStatus::Confirmed | PlanStatus::Final => {
                self.index.inputs.extend(plan.inputs.iter().map(|input| (*input, id)));
                let conflicts: Vec<_> = plan.inputs.iter().filter_map(|input| self.conflict_of(input)).collect();
                self.index.conflicts.extend(conflicts);
            }
        }
        let plan = &self.plans[&id];
        if let (PlanStatus::Confirmed, Some(paid)) = (plan.status, &plan.paid) {
            self.index.confirmed.insert((chain, paid.at.height, id));
        }
    }

    pub(crate) fn unindex_plan(&mut self, id: PlanId) {
        let plan = self.plans.get(&id).expect("a plan is proposed before its events");
        let conflicts: Vec<_> = plan.inputs.iter().filter_map(|input| self.conflict_of(input)).collect();
        for conflict in conflicts.iter().filter(|conflict| conflict.2 == id) {
            self.index.conflicts.remove(conflict);
        }
        for input in &plan.inputs {
            if self.index.inputs.get(input) == Some(&id) {
                self.index.inputs.remove(input);
            }
        }
        self.index.voided.remove(&id);
        if let Some(paid) = &plan.paid {
            self.index.confirmed.remove(&(plan.anchor.chain, paid.at.height, id));
            self.index.conflicted.remove(&(plan.anchor.chain, paid.at.height, id));
        }
    }
}
