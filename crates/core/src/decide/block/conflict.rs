//! Plans that can never confirm: what proves it, and what becomes of their withdrawals. Never refunds on absence: what is not on
//! the chain may still come, and only a final transaction that took its place rules that out.

use super::settle::is_final;
use crate::amount::Amount;
use crate::command::{Outcome, Spend};
use crate::custody::{BlockRef, Coin, OutPoint, Payment, Plan, PlanStatus, Spent, Withdrawal, WithdrawalStatus};
use crate::decide::plan::PlanRefusal;
use crate::decide::{Draft, withdrawal};
use crate::event::{Event, PlanMoved, WithdrawalMoved};
use crate::id::{AccountId, ChainId, PlanId, TxId, WithdrawalId};
use crate::ledger::{HouseAccount, Owner, Transfer, TransferReason};
use crate::state::State;
use std::collections::BTreeMap;

/// Ends a plan whose input can never be had, on an operator's word.
///
/// When a deep reorganisation takes a deposit away for ever, coins that a signed plan spends are simply gone. The journal does
/// not know what those deposits spent, and that they stay away proves nothing: whoever made such a deposit may send it again
/// after months, and the plan's transaction, long public, would confirm behind it. What rules that out is another transaction,
/// in a final block, that took an input of the transaction that made the coin. An operator looks for it and names it. Checked
/// here is all that the journal knows: that the input is not there, and that the block is one of the chain and final. Of blocks
/// that left the state it knows their heights alone; an operator who comes after so long is believed as he is of the transaction.
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
    let has_left =
        |height| chain.archived.count > 0 && chain.blocks.keys().next().is_some_and(|oldest| height < *oldest);
    let is_known = match chain.blocks.get(&by.at.height) {
        Some(block) => block.at == by.at,
        None => has_left(by.at.height),
    };
    if !is_known {
        return Err(PlanRefusal::BlockUnknown);
    }
    if !is_final(state, chain, by.at.height) || is_undecided(state, plan) {
        return Err(PlanRefusal::BlockNotFinal);
    }
    end(draft, id, by.clone());
    Ok(Outcome::Done(true))
}

/// The foreign spends of a plan's inputs.
fn foreign<'a>(state: &'a State, plan: &'a Plan) -> impl Iterator<Item = &'a Spent> {
    let spends = plan.inputs.iter().filter_map(|input| state.coins.get(input)?.spent.as_ref());
    spends.filter(|spent| spent.plan.is_none())
}

/// Whether a foreign transaction pays something of what an open plan pays.
pub(in crate::decide) fn is_paid_by_others(state: &State, plan: &Plan) -> bool {
    foreign(state, plan).any(|spent| !spent.paid.is_empty())
}

/// Whether a foreign transaction has paid something in a plan's place and is not final: until it is, nobody can say whether
/// that is to be refunded.
pub(super) fn is_undecided(state: &State, plan: &Plan) -> bool {
    let chain = &state.chains[&plan.anchor.chain];
    foreign(state, plan).any(|spent| !spent.paid.is_empty() && !is_final(state, chain, spent.at.height))
}

/// Whether a block is the last of those that a conflicted plan's end rests on: of the transaction that made it impossible, and of
/// those that paid something in its place, which says what their coins are short of. With that block the plan leaves. A plan of
/// which such a block was taken back stays, also when its transaction confirms anew: it is the only word of what that one paid.
pub(super) fn is_last_of(state: &State, plan: &Plan, at: BlockRef) -> bool {
    let payments = plan.versions[0].payments.iter();
    let paid = payments.filter_map(|payment| state.withdrawals[&payment.withdrawal].paid.as_ref());
    let mut is_last = false;
    plan.paid.iter().chain(paid).all(|by| {
        is_last |= by.at == at;
        by.at == at || by.at.height < at.height
    }) && is_last
}

/// Ends a plan that a final transaction made impossible: its inputs are free and its withdrawals refunded, but for those that
/// foreign transactions have paid in its place.
pub(super) fn end(draft: &mut Draft<'_>, id: PlanId, by: Payment) {
    let plan = draft.state.plans[&id].clone();
    let payment = |spent: &Spent| Payment { txid: spent.txid, at: spent.at };
    let of_spend = |spent: &Spent| spent.paid.iter().map(|id| (*id, payment(spent))).collect::<Vec<_>>();
    let paid: BTreeMap<WithdrawalId, Payment> = foreign(draft.state, &plan).flat_map(of_spend).collect();
    let status = PlanStatus::Conflicted;
    draft.emit(Event::PlanMoved(PlanMoved { plan: id, status, paid: Some(by), receipt: None }));
    for payment in &plan.versions[0].payments {
        let withdrawal = payment.withdrawal;
        let paid = paid.get(&withdrawal).cloned();
        let status = if paid.is_some() { WithdrawalStatus::Final } else { WithdrawalStatus::Refunded };
        let by = paid.clone();
        draft.emit(Event::WithdrawalMoved(WithdrawalMoved { withdrawal, status, hold: None, plan: Some(id), paid }));
        match by {
            Some(by) => book_paid(draft, plan.anchor.chain, withdrawal, &by),
            None => withdrawal::give_back(draft, withdrawal),
        }
    }
}

/// A withdrawal that a foreign transaction paid with coins taken from us: its money leaves flight and makes good that much of
/// what the coins are short. Beyond that somebody paid it with coins of others, and whom that is owed to nobody knows.
fn book_paid(draft: &mut Draft<'_>, chain: ChainId, id: WithdrawalId, by: &Payment) {
    let withdrawal = &draft.state.withdrawals[&id];
    let (amount, asset) = (withdrawal.amount, withdrawal.asset);
    let (taken, paid) = (taken(draft.state, chain, by), paid_in_our_place(draft.state, by.txid));
    let before = taken.saturating_sub(paid.saturating_sub(amount));
    let made_good = before.saturating_sub(taken.saturating_sub(paid));
    let rest = amount.saturating_sub(made_good);
    let [debit, shortfall, suspense] = [HouseAccount::InFlight, HouseAccount::Shortfall, HouseAccount::Suspense]
        .map(|house| draft.account(Owner::House(house), asset));
    draft.post([
        Transfer { debit, credit: shortfall, amount: made_good, reason: TransferReason::CoinSpent },
        Transfer { debit, credit: suspense, amount: rest, reason: TransferReason::Unattributed },
    ]);
}

/// How much a foreign transaction has taken of us, as far as its block is booked.
fn taken(state: &State, chain: ChainId, by: &Payment) -> Amount {
    let spent = state.index.spent_at(chain, by.at.height).map(|outpoint| &state.coins[&outpoint]);
    let is_its = |coin: &&Coin| coin.spent.as_ref().is_some_and(|spent| spent.txid == by.txid && spent.plan.is_none());
    spent.filter(is_its).map(|coin| coin.amount).sum()
}

/// What a foreign transaction has paid of withdrawals whose plans have ended.
fn paid_in_our_place(state: &State, txid: TxId) -> Amount {
    let is_its = |withdrawal: &&Withdrawal| {
        let paid = withdrawal.paid.as_ref().is_some_and(|paid| paid.txid == txid);
        paid && withdrawal.status == WithdrawalStatus::Final
    };
    let payments = state.index.conflicted().flat_map(|plan| &state.plans[&plan].versions[0].payments);
    payments.filter_map(|payment| state.withdrawals.get(&payment.withdrawal)).filter(is_its).map(|it| it.amount).sum()
}

/// The accounts that a foreign transaction's taking of one coin moves, or the return of that coin, which is not among those
/// taken now: shortfall as far as the transaction has taken more than it paid in our place. What it paid was booked as
/// ours, so that of the rest nothing is short; while such coins are back, what they paid for is in suspense.
pub(super) fn sides_of_taken(draft: &mut Draft<'_>, coin: &Coin, by: &Payment) -> [(AccountId, Amount); 2] {
    let chain = coin.outpoint.chain;
    let asset = draft.state.chains[&chain].chain.coin;
    let shortfall = draft.account(Owner::House(HouseAccount::Shortfall), asset);
    let paid = paid_in_our_place(draft.state, by.txid);
    // Nearly always: then nobody has to add up what else was taken.
    if paid.is_zero() {
        return [(shortfall, coin.amount), (shortfall, Amount::ZERO)];
    }
    let taken = taken(draft.state, chain, by);
    let more = taken.checked_add(coin.amount).expect("coins of one chain stay within 128 bits");
    let short = more.saturating_sub(paid).saturating_sub(taken.saturating_sub(paid));
    let suspense = draft.account(Owner::House(HouseAccount::Suspense), asset);
    let rest = coin.amount.saturating_sub(short);
    [(shortfall, short), (suspense, rest)]
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

/// Halts where the block is taken back that made plans impossible, or paid something in their place: their withdrawals are
/// refunded, and their transactions could confirm after all, or count as paid, and are not.
pub(super) fn reopen(draft: &mut Draft<'_>, chain: ChainId, at: BlockRef) {
    let state = &*draft.state;
    let is_there = |by: &Option<Payment>| by.as_ref().is_some_and(|by| by.at == at);
    let ended_by = |plan: &Plan| {
        let mut paid = plan.versions[0].payments.iter().map(|payment| &state.withdrawals[&payment.withdrawal].paid);
        plan.anchor.chain == chain && (is_there(&plan.paid) || paid.any(is_there))
    };
    if state.index.conflicted().any(|plan| ended_by(&state.plans[&plan])) {
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
