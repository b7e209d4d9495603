//! Each withdrawal held against the plan that pays it: neither is where the other can't be. It compares records, and no sums.

use super::BookFault;
use florin_core::custody::{Plan, PlanStatus, Withdrawal, WithdrawalStatus};
use florin_core::id::{PlanId, WithdrawalId};
use florin_core::state::State;
use std::collections::{BTreeMap, BTreeSet};

/// Every payment of a plan is a withdrawal that names the plan and stands where it does, and no withdrawal names another plan. A
/// withdrawal that is refunded or waits while its transaction can still be paid would be paid twice.
///
/// A plan leaves the state with its withdrawals. A voided one has none: they are free for another, and may have left before it.
pub(super) fn check_plans(state: &State, faults: &mut Vec<BookFault>) {
    let mut wrong: BTreeMap<WithdrawalId, Option<PlanId>> = BTreeMap::new();
    let mut right: BTreeSet<WithdrawalId> = BTreeSet::new();
    for plan in state.plans().values() {
        let payments = plan.versions.first().into_iter().flat_map(|version| &version.payments);
        for id in payments.map(|payment| payment.withdrawal) {
            let withdrawal = state.withdrawals().get(&id);
            if plan.status == PlanStatus::Voided {
                if plan.versions.iter().any(|version| version.signed.is_some()) {
                    wrong.insert(id, Some(plan.id));
                }
            } else if withdrawal.is_some_and(|withdrawal| is_beside(withdrawal, plan)) {
                right.insert(id);
            } else {
                wrong.insert(id, Some(plan.id));
            }
        }
    }
    for withdrawal in state.withdrawals().values().filter(|withdrawal| !right.contains(&withdrawal.id)) {
        if withdrawal.plan.is_some() || needs_plan(withdrawal.status) {
            wrong.entry(withdrawal.id).or_insert(withdrawal.plan);
        }
    }
    for (withdrawal, plan) in wrong {
        let asset = state.withdrawals().get(&withdrawal).map(|withdrawal| withdrawal.asset);
        faults.push(BookFault::Plan { withdrawal, plan, asset });
    }
}

/// Whether a withdrawal stands where the plan that pays it does.
fn is_beside(withdrawal: &Withdrawal, plan: &Plan) -> bool {
    let stands = match (plan.status, withdrawal.status) {
        (PlanStatus::Signing, WithdrawalStatus::Signing)
        | (PlanStatus::Signed, WithdrawalStatus::Signed | WithdrawalStatus::Broadcast) => withdrawal.paid.is_none(),
        (PlanStatus::Confirmed, WithdrawalStatus::Confirmed) | (PlanStatus::Final, WithdrawalStatus::Final) => {
            withdrawal.paid.is_some() && withdrawal.paid == plan.paid
        }
        // By whoever took the plan's inputs, or not at all.
        (PlanStatus::Conflicted, WithdrawalStatus::Final) => withdrawal.paid.is_some(),
        (PlanStatus::Conflicted, WithdrawalStatus::Refunded) => withdrawal.paid.is_none(),
        _ => false,
    };
    stands && withdrawal.plan == Some(plan.id) && withdrawal.hold.is_none()
}

fn needs_plan(status: WithdrawalStatus) -> bool {
    match status {
        WithdrawalStatus::Signing
        | WithdrawalStatus::Signed
        | WithdrawalStatus::Broadcast
        | WithdrawalStatus::Confirmed => true,
        // Final without one is what went to an address of ours, refunded without one what its plan was voided for.
        WithdrawalStatus::AwaitingApproval
        | WithdrawalStatus::Queued
        | WithdrawalStatus::Final
        | WithdrawalStatus::Cancelled
        | WithdrawalStatus::Refunded => false,
    }
}
