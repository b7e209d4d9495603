//! Plans that can never confirm: what proves it, and what becomes of their withdrawals. Never refunds on absence: what is not on
//! the chain may still come, and only a final transaction that took its place rules that out.

use super::settle::is_final;
use crate::amount::Amount;
use crate::command::{Outcome, Spend};
use crate::custody::{BlockRef, OutPoint, Payment, PlanStatus, WithdrawalStatus};
use crate::decide::plan::PlanRefusal;
use crate::decide::{Draft, withdrawal};
use crate::event::{Event, PlanMoved, WithdrawalMoved};
use crate::id::{ChainId, PlanId, WithdrawalId};
use crate::ledger::{HouseAccount, Owner, Transfer, TransferReason};
use crate::state::State;
use std::collections::BTreeSet;

/// Ends a plan whose input can never be had, on an operator's word.
///
/// When a deep reorganisation takes a deposit away for ever, coins that a signed plan spends are simply gone. The journal does
/// not know what those deposits spent, and that they stay away proves nothing: whoever made such a deposit may send it again
/// after months, and the plan's transaction, long public, would confirm behind it. What rules that out is another transaction,
/// in a final block, that took an input of the transaction that made the coin. An operator looks for it and names it. Checked
/// here is all that the journal knows: that the input is not there, and that the block is one of the chain and final.
pub(in crate::decide) fn prove(
    draft: &mut Draft<'_>,
    id: PlanId,
    input: OutPoint,
    by: &Payment,
) -> Result<Outcome, PlanRefusal> {
    let state = &*draft.state;
    let plan = state.plans.get(&id).ok_or(PlanRefusal::PlanUnknown)?;
    match plan.status {
        PlanStatus::Signing | PlanStatus::Signed => {}
        PlanStatus::Voided | PlanStatus::Conflicted => return Err(PlanRefusal::Ended),
        PlanStatus::Confirmed | PlanStatus::Final => return Err(PlanRefusal::Confirmed),
    }
    if !plan.inputs.contains(&input) {
        return Err(PlanRefusal::InputNotItsOwn);
    }
    if state.coins.contains_key(&input) {
        return Err(PlanRefusal::InputPresent);
    }
    let chain = &state.chains[&plan.anchor.chain];
    if chain.blocks.get(&by.at.height).is_none_or(|block| block.at != by.at) {
        return Err(PlanRefusal::BlockUnknown);
    }
    if !is_final(state, chain, by.at.height) {
        return Err(PlanRefusal::BlockNotFinal);
    }
    end(draft, id, by.clone());
    Ok(Outcome::Done(true))
}

/// Ends a plan that a final transaction made impossible: its inputs are free and its withdrawals refunded, but for those that a
/// foreign transaction has paid in its place.
pub(super) fn end(draft: &mut Draft<'_>, id: PlanId, by: Payment) {
    let plan = draft.state.plans[&id].clone();
    let spends = plan.inputs.iter().filter_map(|input| draft.state.coins.get(input)?.spent.clone());
    let paid: BTreeSet<WithdrawalId> =
        spends.filter(|spent| spent.plan.is_none()).flat_map(|spent| spent.paid).collect();
    let status = PlanStatus::Conflicted;
    draft.emit(Event::PlanMoved(PlanMoved { plan: id, status, paid: Some(by.clone()), receipt: None }));
    for payment in &plan.versions[0].payments {
        let withdrawal = payment.withdrawal;
        let is_paid = paid.contains(&withdrawal);
        let status = if is_paid { WithdrawalStatus::Final } else { WithdrawalStatus::Refunded };
        let paid = is_paid.then(|| by.clone());
        draft.emit(Event::WithdrawalMoved(WithdrawalMoved { withdrawal, status, hold: None, plan: Some(id), paid }));
        if is_paid { book_paid(draft, withdrawal) } else { withdrawal::give_back(draft, withdrawal) }
    }
}

/// A withdrawal that a foreign transaction paid with coins taken from us: its money leaves flight and makes good that much of
/// what the coins are short. Beyond that somebody paid it with coins of others, and whom that is owed to nobody knows.
fn book_paid(draft: &mut Draft<'_>, id: WithdrawalId) {
    let withdrawal = &draft.state.withdrawals[&id];
    let (amount, asset) = (withdrawal.amount, withdrawal.asset);
    let shortfall = Owner::House(HouseAccount::Shortfall);
    let made_good = draft.available(&shortfall, asset).min(amount);
    let rest = amount.saturating_sub(made_good);
    let [debit, shortfall, suspense] =
        [Owner::House(HouseAccount::InFlight), shortfall, Owner::House(HouseAccount::Suspense)]
            .map(|owner| draft.account(owner, asset));
    draft.post([
        Transfer { debit, credit: shortfall, amount: made_good, reason: TransferReason::CoinSpent },
        Transfer { debit, credit: suspense, amount: rest, reason: TransferReason::Unattributed },
    ]);
}

/// The withdrawals of an open plan that a transaction pays which is not the plan's: each takes an output of its own.
pub(super) fn paid_all_the_same(state: &State, plan: PlanId, spend: &Spend) -> Vec<WithdrawalId> {
    let plan = &state.plans[&plan];
    let mut outputs: Vec<Option<&(crate::wire::Bytes, Amount)>> = spend.outputs.iter().map(Some).collect();
    let mut take = |id: &WithdrawalId| {
        let withdrawal = &state.withdrawals[id];
        let pays =
            |output: &&(crate::wire::Bytes, Amount)| output.0 == withdrawal.script && output.1 == withdrawal.amount;
        let found = outputs.iter_mut().find(|output| output.as_ref().is_some_and(pays));
        found.and_then(Option::take).is_some()
    };
    plan.versions[0].payments.iter().map(|payment| payment.withdrawal).filter(|id| take(id)).collect()
}

/// Halts where the block is taken back that made plans impossible: their withdrawals are refunded, and their transactions could
/// confirm after all.
pub(super) fn reopen(draft: &mut Draft<'_>, chain: ChainId, at: BlockRef) {
    let state = &*draft.state;
    let ended_by = |plan: PlanId| state.plans[&plan].paid.as_ref().is_some_and(|by| by.at == at);
    if state.index.conflicted_at(chain, at.height).any(ended_by) {
        let asset = state.chains[&chain].chain.coin;
        draft.halt_for_reorganisation(asset);
    }
}

/// Halts where a coin comes back with which an impossible plan is possible again: the word that ended it was wrong.
pub(super) fn come_back(draft: &mut Draft<'_>, outpoint: OutPoint) {
    let state = &*draft.state;
    let is_possible = |plan: PlanId| {
        let plan = &state.plans[&plan];
        plan.inputs.contains(&outpoint) && state.is_possible_again(plan)
    };
    if state.index.conflicted().any(is_possible) {
        let asset = state.chains[&outpoint.chain].chain.coin;
        draft.halt_for_reorganisation(asset);
    }
}
