//! What records that left the state still stand for in the house's accounts, and what rows moved that nothing stands for. It is
//! found while a whole journal is folded, and is not part of the state: whoever begins at a snapshot does not have it.

use super::BookFault;
use super::movements::{Movements, concerns};
use super::sum::Sum;
use florin_core::amount::Amount;
use florin_core::custody::{self, Coin, OutPoint, Plan, PlanStatus, Withdrawal, WithdrawalStatus};
use florin_core::event::Event;
use florin_core::id::{AssetId, ChainId, PlanId, TxId};
use florin_core::journal::{Batch, Entry, Row};
use florin_core::state::State;
use std::collections::BTreeMap;

/// What a transaction that no plan meant has taken of us, and what it paid of withdrawals whose plans ended by it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Foreign {
    pub(super) taken: Sum,
    pub(super) paid: Sum,
}

/// Sums of archived records that closed nothing: nobody came for coins in suspense that a plan spent since, and what was stolen
/// stays stolen, however deep the block is.
#[derive(Debug, Clone, Default)]
pub struct Archived {
    /// Coins whose arrival is in suspense.
    pub(super) suspense: BTreeMap<AssetId, Sum>,
    /// Spends that no plan meant.
    pub(super) foreign: BTreeMap<(ChainId, TxId), Foreign>,
    /// What rows moved or said that nothing beside it stands for: the first of it, up to [`FAULTS_MAX`].
    pub(super) faults: Vec<BookFault>,
}

/// How many faults of rows are kept: more say nothing new.
const FAULTS_MAX: usize = 1_000;

impl Archived {
    /// Folds a row as [`State::apply_row`] does, counts what leaves the state with it, and judges what it moves.
    ///
    /// # Panics
    /// As [`State::apply_row`].
    pub(super) fn fold(&mut self, state: &mut State, row: &Row, batch: &Batch) {
        let moves = |event: &Event| {
            matches!(event, Event::CoinRemoved(_) | Event::WithdrawalArchived(_) | Event::Unarchived(_))
        };
        let mut events = batch.entries.iter().flat_map(|entry| &entry.events);
        if !events.any(|event| moves(event) || concerns(state, event)) {
            return state.apply_row(row, batch);
        }
        state.begin_row(row.seq, row.time);
        for Entry { command, request, events, outcome } in &batch.entries {
            let mut movements = Movements::default();
            // One by one: what an event removes or moves may have changed by one just before it.
            for event in events {
                self.count(state, event);
                movements.note(state, event);
                state.apply(event);
            }
            let (command, request, outcome) = (*command, *request, outcome.clone());
            state.apply_entry(&Entry { command, request, events: Vec::new(), outcome });
            let room = FAULTS_MAX.saturating_sub(self.faults.len());
            self.faults.extend(movements.end(row.seq).take(room));
        }
        assert_eq!(state.counters().epoch, row.epoch, "a row is written under the epoch that is in force");
    }

    fn count(&mut self, state: &State, event: &Event) {
        match event {
            // One that is taken back with its block leaves unspent.
            Event::CoinRemoved(removed) => {
                if let Some(coin) = state.coins().get(&removed.outpoint) {
                    self.coin(state, coin, |sum, amount| sum.add(amount));
                }
            }
            Event::WithdrawalArchived(archived) => {
                let Some(withdrawal) = state.withdrawals().get(&archived.withdrawal) else { return };
                if let Some((payer, amount)) = paid(state, withdrawal) {
                    self.foreign.entry(payer).or_default().paid.add(amount);
                }
            }
            Event::Unarchived(back) => self.uncount(state, &back.records),
            _ => {}
        }
    }

    /// A coin that leaves or comes back: what it stands for in suspense, and in what was taken of us.
    fn coin(&mut self, state: &State, coin: &Coin, count: impl Fn(&mut Sum, Amount)) {
        let (Some(spent), OutPoint { chain, .. }) = (&coin.spent, coin.outpoint) else { return };
        if let Some(of_chain) = state.chains().get(&chain).filter(|_| coin.suspense) {
            count(self.suspense.entry(of_chain.chain.coin).or_default(), coin.amount);
        }
        if spent.plan.is_none() {
            count(&mut self.foreign.entry((chain, spent.txid)).or_default().taken, coin.amount);
        }
    }

    /// Records that come back stand for themselves again. A plan comes back with its withdrawals.
    fn uncount(&mut self, state: &State, records: &[custody::Archived]) {
        let less = |sum: &mut Sum, amount: Amount| *sum = sum.less(amount.into());
        let mut plans: BTreeMap<PlanId, &Plan> = BTreeMap::new();
        for record in records {
            if let custody::Archived::Plan(plan) = record {
                plans.insert(plan.id, plan);
            }
        }
        for record in records {
            match record {
                custody::Archived::Coin(coin) => self.coin(state, coin, less),
                custody::Archived::Withdrawal(withdrawal) => {
                    let plan = withdrawal.plan.and_then(|plan| plans.get(&plan));
                    if let Some((payer, amount)) = plan.and_then(|plan| paid_beside(withdrawal, plan)) {
                        less(&mut self.foreign.entry(payer).or_default().paid, amount);
                    }
                }
                custody::Archived::Block(_) | custody::Archived::Deposit(_) | custody::Archived::Plan(_) => {}
            }
        }
    }
}

/// The transaction that paid a withdrawal in the place of its plan, and how much; `None` for every other withdrawal.
pub(super) fn paid(state: &State, withdrawal: &Withdrawal) -> Option<((ChainId, TxId), Amount)> {
    paid_beside(withdrawal, state.plans().get(&withdrawal.plan?)?)
}

fn paid_beside(withdrawal: &Withdrawal, plan: &Plan) -> Option<((ChainId, TxId), Amount)> {
    let by = withdrawal.paid.as_ref().filter(|_| withdrawal.status == WithdrawalStatus::Final)?;
    let is_conflicted = plan.status == PlanStatus::Conflicted;
    is_conflicted.then_some(((plan.anchor.chain, by.txid), withdrawal.amount))
}
