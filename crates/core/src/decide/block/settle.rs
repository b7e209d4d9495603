//! What depth brings: credits, finality, conflicts, and records that leave the state. Works through what is due, oldest first,
//! while there is room; the rest follows with the next block or tick. Never walks what is not due, but for conflicted plans, which
//! are few.

use super::{STEP_EVENTS, conflict, move_deposit, spend};
use crate::asset::{AssetPolicy, HaltAction};
use crate::custody::{Deposit, DepositStatus, OutPoint, Payment, PlanStatus, WithdrawalStatus};
use crate::decide::Draft;
use crate::event::{BlockArchived, CoinChanged, DepositArchived, Event, PlanArchived, WithdrawalArchived};
use crate::id::{ChainId, Height, PlanId};
use crate::state::{ChainState, State};

/// How many blocks the state keeps where the policy names no number: two weeks of Bitcoin, one period of its difficulty.
/// No reorganisation of it was ever deeper than 53 blocks (August 2010). With a block leave its deposits, once they are credited,
/// the coins spent in it, and the plans and withdrawals that it ended. A deeper reorganisation has them put back first.
pub const KEPT_BLOCKS: u32 = 2_016;

/// The height of the tip at which a deposit is deep enough; `None` for one that has no block, no policy, or only accrues.
pub(super) fn due(state: &State, deposit: &Deposit) -> Option<Height> {
    let height = deposit.at?.height;
    let depth = depth(state, deposit)?;
    Some(Height(height.0.saturating_add(depth - 1)))
}

/// The confirmations after which a deposit is credited, by the policy in force; `None` below its smallest deposit.
fn depth(state: &State, deposit: &Deposit) -> Option<u32> {
    let chain = &state.chains[&deposit.outpoint.chain].chain;
    let policy = state.policies.get(&chain.coin)?;
    if deposit.amount < policy.deposit_min {
        return None;
    }
    let step = policy.depths.iter().take_while(|step| step.amount_from <= deposit.amount).last();
    let depth = step.map_or(1, |step| step.confirmations).max(1);
    Some(if deposit.coinbase { depth.max(chain.coinbase_maturity) } else { depth })
}

/// Whether a deposit was credited at a depth at which transactions count as final: then its loss is no ordinary fork.
pub(super) fn is_final_depth(state: &State, deposit: &Deposit) -> bool {
    let policy = state.policies.get(&state.chains[&deposit.outpoint.chain].chain.coin);
    let depth = depth(state, deposit);
    policy.is_some_and(|policy| depth.is_some_and(|depth| depth >= policy.final_confirmations))
}

/// Does what is due on a chain until it is done or `events_max` is near.
pub(in crate::decide) fn settle(draft: &mut Draft<'_>, chain: ChainId, events_max: usize) {
    while draft.events.len() < events_max
        && (finish_plan(draft, chain) || conflict_plan(draft, chain) || credit(draft, chain))
    {}
    while draft.events.len() < events_max && archive_block(draft, chain, events_max) {}
}

fn policy<'a>(state: &'a State, chain: &ChainState) -> Option<&'a AssetPolicy> {
    state.policies.get(&chain.chain.coin)
}

/// Whether a block at `height` is final now.
pub(in crate::decide) fn is_final(state: &State, chain: &ChainState, height: Height) -> bool {
    policy(state, chain).is_some_and(|policy| chain.confirmations(height) >= policy.final_confirmations)
}

fn finish_plan(draft: &mut Draft<'_>, chain: ChainId) -> bool {
    let state = &*draft.state;
    let Some((height, plan)) = state.index.first_confirmed(chain) else { return false };
    if !is_final(state, &state.chains[&chain], height) {
        return false;
    }
    let plan = state.plans[&plan].clone();
    let paid = plan.paid.clone();
    spend::move_plan(draft, &plan, (PlanStatus::Final, WithdrawalStatus::Final), paid);
    true
}

/// Another transaction has taken an input of a plan for good.
fn conflict_plan(draft: &mut Draft<'_>, chain: ChainId) -> bool {
    let state = &*draft.state;
    let Some((height, plan, input)) = state.index.first_conflict(chain) else { return false };
    if !is_final(state, &state.chains[&chain], height) {
        return false;
    }
    if conflict::is_undecided(state, &state.plans[&plan]) {
        return false;
    }
    let spent = state.coins[&input].spent.clone().expect("an input is taken by a spend");
    conflict::end(draft, plan, Payment { txid: spent.txid, at: spent.at });
    true
}

/// Credits the deposit that is due first, or finds that the policy asks for more of it now.
fn credit(draft: &mut Draft<'_>, chain: ChainId) -> bool {
    let state = &*draft.state;
    let of_chain = &state.chains[&chain];
    let Some(tip) = of_chain.tip().map(|tip| tip.at.height) else { return false };
    if state.is_halted(of_chain.chain.coin, HaltAction::Credit) {
        return false;
    }
    let Some(outpoint) = state.index.first_due(chain, tip) else { return false };
    let mut deposit = state.deposits[&outpoint].clone();
    let due = due(state, &deposit);
    if due.is_none_or(|due| due > tip) {
        deposit.due = due;
        move_deposit(draft, &deposit);
        return true;
    }
    let hold = deposit.hold.take().expect("a pending deposit is announced by a hold");
    draft.post_hold(hold, deposit.amount);
    deposit.status = DepositStatus::Credited;
    deposit.due = None;
    move_deposit(draft, &deposit);
    true
}

/// Gives the largest accrued deposit a height at which it is due, if a policy that came later reaches it.
pub(in crate::decide) fn release_accrued(draft: &mut Draft<'_>, chain: ChainId) -> bool {
    let state = &*draft.state;
    let Some((amount, outpoint)) = state.index.largest_accrued(chain) else { return false };
    if policy(state, &state.chains[&chain]).is_none_or(|policy| amount < policy.deposit_min) {
        return false;
    }
    let mut deposit = state.deposits[&outpoint].clone();
    deposit.due = due(state, &deposit);
    move_deposit(draft, &deposit);
    deposit.due.is_some()
}

/// How many blocks are kept: as many as the policy says, or [`KEPT_BLOCKS`], and never fewer than it waits for.
fn kept_blocks(state: &State, chain: &ChainState) -> u32 {
    let policy = policy(state, chain);
    let deepest = policy.and_then(|policy| policy.depths.last()).map_or(0, |step| step.confirmations);
    let finality = policy.map_or(0, |policy| policy.final_confirmations);
    let kept = policy.and_then(|policy| policy.kept_blocks);
    kept.unwrap_or(KEPT_BLOCKS.max(chain.chain.coinbase_maturity)).max(deepest).max(finality)
}

/// Archives what ended in the oldest block, and then the block. Whether it is gone, so that the next one may be looked at.
fn archive_block(draft: &mut Draft<'_>, chain: ChainId, events_max: usize) -> bool {
    let state = &*draft.state;
    let of_chain = &state.chains[&chain];
    let Some((&height, block)) = of_chain.blocks.first_key_value() else { return false };
    // One more than can be taken back: the last of those needs a block to go back to.
    if of_chain.confirmations(height) <= kept_blocks(state, of_chain).saturating_add(1)
        || has_open(state, chain, height)
    {
        return false;
    }
    let at = block.at;
    let room = events_max.saturating_sub(draft.events.len());
    // Also those of older blocks, which were credited since.
    let deposits: Vec<OutPoint> = state.index.credited_to(chain, height).take(room).collect();
    let spent: Vec<OutPoint> = state.index.spent_at(chain, height).take(room).collect();
    let is_over = |plan: &PlanId| conflict::is_last_of(state, &state.plans[plan], at);
    let conflicted: Vec<PlanId> = state.index.conflicted().filter(is_over).take(room).collect();
    for outpoint in deposits {
        draft.emit(Event::DepositArchived(DepositArchived { outpoint }));
    }
    for plan in conflicted {
        if draft.events.len() >= events_max {
            return false;
        }
        archive_plan(draft, plan);
    }
    for outpoint in spent {
        if draft.events.len() >= events_max || !archive_coin(draft, outpoint) {
            return false;
        }
    }
    if draft.events.len() >= events_max {
        return false;
    }
    draft.emit(Event::BlockArchived(BlockArchived { chain, at }));
    true
}

/// Whether a plan has not come to its end of which a block up to `height` spent an input. What else that block spent may then
/// still be asked for, and leaves with all of it.
fn has_open(state: &State, chain: ChainId, height: Height) -> bool {
    let confirmed = state.index.first_confirmed(chain).map(|(at, _)| at);
    let conflict = state.index.first_conflict(chain).map(|(at, _, _)| at);
    confirmed.into_iter().chain(conflict).any(|at| at <= height)
}

/// Archives a spent coin with the plan that spent it. `false` where that plan, or one that this spend conflicts with, has not
/// come to its end.
fn archive_coin(draft: &mut Draft<'_>, outpoint: OutPoint) -> bool {
    let Some(coin) = draft.state.coins.get(&outpoint) else { return true };
    let spent = coin.spent.as_ref().expect("only spent coins are ordered by their spend");
    let by = spent.plan.or_else(|| draft.state.index.plan_of_input(&outpoint));
    let Some(plan) = by.map(|plan| draft.state.plans[&plan].clone()) else {
        draft.emit(Event::CoinRemoved(CoinChanged { outpoint }));
        return true;
    };
    match plan.status {
        PlanStatus::Final => {
            archive_plan(draft, plan.id);
            for &outpoint in &plan.inputs {
                draft.emit(Event::CoinRemoved(CoinChanged { outpoint }));
            }
        }
        PlanStatus::Signing
        | PlanStatus::Signed
        | PlanStatus::Confirmed
        | PlanStatus::Voided
        | PlanStatus::Conflicted => return false,
    }
    true
}

fn archive_plan(draft: &mut Draft<'_>, id: PlanId) {
    for payment in draft.state.plans[&id].versions[0].payments.clone() {
        draft.emit(Event::WithdrawalArchived(WithdrawalArchived { withdrawal: payment.withdrawal }));
    }
    draft.emit(Event::PlanArchived(PlanArchived { plan: id }));
}

/// How many events a tick of `budget` events may have emitted before its last step.
pub(in crate::decide) fn limit(draft: &Draft<'_>, budget: usize) -> usize {
    draft.events.len() + budget.saturating_sub(STEP_EVENTS)
}
