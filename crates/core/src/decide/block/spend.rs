//! Transactions that spend our coins: those of our plans, also under another id, and those that the journal does not know.
//! Never refunds a withdrawal; that needs finality.

use super::{BlockRefusal, ReceiptsByOutPoint, conflict};
use crate::amount::Amount;
use crate::asset::{HaltAction, HaltReason};
use crate::command::{ConnectBlock, Spend};
use crate::custody::{
    Beneficiary, Block, BlockRef, Branch, Coin, KeyPath, OutPoint, Payment, Plan, PlanStatus, PlanVersion, Spent,
    WithdrawalStatus,
};
use crate::decide::Draft;
use crate::event::{CoinChanged, CoinSpent, Event, PlanMoved, WithdrawalMoved};
use crate::id::PlanId;
use crate::ledger::{HouseAccount, Owner, Transfer, TransferReason};
use crate::state::State;
use crate::wire::Bytes;
use std::collections::BTreeSet;

/// A spend that is a version of a plan.
pub(super) struct Matched {
    plan: PlanId,
    version: usize,
    /// The change that it pays back.
    pub(super) change: Option<OutPoint>,
}

/// Finds the plan of each spend. A transaction is a plan's if it spends the plan's inputs and pays exactly the outputs of one
/// of its versions, whatever its id: who changes a signature changes the id, and nothing else.
pub(super) fn match_all(state: &State, command: &ConnectBlock) -> Result<Vec<Option<Matched>>, BlockRefusal> {
    let chain = command.block.chain;
    let receipts: ReceiptsByOutPoint<'_> =
        command.receipts.iter().map(|receipt| (receipt.outpoint(chain), receipt)).collect();
    command.spends.iter().map(|spend| match_one(state, spend, &receipts)).collect()
}

fn match_one(state: &State, spend: &Spend, receipts: &ReceiptsByOutPoint<'_>) -> Result<Option<Matched>, BlockRefusal> {
    let anchored = |input: &OutPoint| {
        let plan = &state.plans[&state.index.plan_of_input(input)?];
        let is_open = matches!(plan.status, PlanStatus::Signing | PlanStatus::Signed);
        (is_open && plan.anchor == *input).then_some(plan)
    };
    let pays = |plan: &Plan| plan.versions.iter().position(|version| pays_outputs(state, version, &spend.outputs));
    let found = spend.inputs.iter().filter_map(anchored).find_map(|plan| Some((plan, pays(plan)?)));
    let Some((plan, version)) = found else { return Ok(None) };

    // With other inputs it is nobody's plan, though it pays the same: whoever has our keys can make one, and if it were
    // refused its block could never be booked.
    let named: BTreeSet<&OutPoint> = spend.inputs.iter().collect();
    if named != plan.inputs.iter().collect() {
        return Ok(None);
    }
    let mut change_outpoint = None;
    if let Some(change) = &plan.versions[version].change {
        let outpoint = OutPoint { chain: plan.anchor.chain, txid: spend.txid, vout: change.vout };
        let path = KeyPath { wallet: plan.wallet, branch: Branch::Internal, index: change.index };
        let receipt = receipts.get(&outpoint).ok_or(BlockRefusal::SpendIncomplete)?;
        if receipt.path != path || receipt.amount != change.amount {
            return Err(BlockRefusal::SpendIncomplete);
        }
        change_outpoint = Some(outpoint);
    }
    // A coin that came back with another amount than it was planned with is a contradiction, not a fee.
    let amount = |input: &OutPoint| {
        let received = receipts.get(input).map(|receipt| receipt.amount);
        received.unwrap_or_else(|| state.coins[input].amount)
    };
    let change = plan.versions[version].change.as_ref().map_or(Amount::ZERO, |change| change.amount);
    let left = spend.inputs.iter().map(amount).sum::<Amount>().checked_sub(change);
    if left.and_then(|left| left.checked_sub(paid(state, plan))) != Some(plan.versions[version].fee) {
        return Err(BlockRefusal::SpendIncomplete);
    }
    Ok(Some(Matched { plan: plan.id, version, change: change_outpoint }))
}

fn pays_outputs(state: &State, version: &PlanVersion, outputs: &[(Bytes, Amount)]) -> bool {
    let is_at = |vout: u32, script: &Bytes, amount: Amount| {
        outputs.get(vout as usize).is_some_and(|output| output.0 == *script && output.1 == amount)
    };
    let count = version.payments.len() + usize::from(version.change.is_some());
    count == outputs.len()
        && version.change.iter().all(|change| is_at(change.vout, &change.script, change.amount))
        && version.payments.iter().all(|payment| {
            let withdrawal = &state.withdrawals[&payment.withdrawal];
            is_at(payment.vout, &withdrawal.script, withdrawal.amount)
        })
}

/// Books a plan's confirmation: its inputs leave the wallet, its withdrawals arrive, the network has its fee.
pub(super) fn book_plan(draft: &mut Draft<'_>, at: BlockRef, spend: &Spend, matched: &Matched) {
    let plan = draft.state.plans[&matched.plan].clone();
    for &outpoint in &plan.inputs {
        let spent = Spent { txid: spend.txid, at, plan: Some(plan.id), paid: Vec::new() };
        draft.emit(Event::CoinSpent(CoinSpent { outpoint, spent }));
    }
    let fee = plan.versions[matched.version].fee;
    let [custody, in_flight, network_fees] = accounts(draft, &plan);
    let paid = paid(draft.state, &plan);
    draft.post([
        Transfer { debit: in_flight, credit: custody, amount: paid, reason: TransferReason::CoinSpent },
        Transfer { debit: network_fees, credit: custody, amount: fee, reason: TransferReason::NetworkFee },
    ]);
    let paid = Some(Payment { txid: spend.txid, at });
    move_plan(draft, &plan, (PlanStatus::Confirmed, WithdrawalStatus::Confirmed), paid);
}

fn accounts(draft: &mut Draft<'_>, plan: &Plan) -> [crate::id::AccountId; 3] {
    let asset = draft.state.chains[&plan.anchor.chain].chain.coin;
    [Owner::Custody(plan.wallet), Owner::House(HouseAccount::InFlight), Owner::House(HouseAccount::NetworkFees)]
        .map(|owner| draft.account(owner, asset))
}

fn paid(state: &State, plan: &Plan) -> Amount {
    plan.versions[0].payments.iter().map(|payment| state.withdrawals[&payment.withdrawal].amount).sum()
}

/// Says where a plan and its withdrawals stand now.
pub(in crate::decide) fn move_plan(
    draft: &mut Draft<'_>,
    plan: &Plan,
    (status, of_withdrawals): (PlanStatus, WithdrawalStatus),
    paid: Option<Payment>,
) {
    draft.emit(Event::PlanMoved(PlanMoved { plan: plan.id, status, paid: paid.clone(), receipt: None }));
    for payment in &plan.versions[0].payments {
        draft.emit(Event::WithdrawalMoved(WithdrawalMoved {
            withdrawal: payment.withdrawal,
            status: of_withdrawals,
            hold: None,
            plan: Some(plan.id),
            paid: paid.clone(),
        }));
    }
}

/// Books a spend that no plan of ours meant: whoever has our keys took the coins. Signing stops at once.
pub(super) fn book_foreign(draft: &mut Draft<'_>, block: &Block, spend: &Spend) {
    let asset = draft.state.chains[&block.chain].chain.coin;
    let by = Payment { txid: spend.txid, at: block.at };
    let mut transfers = Vec::with_capacity(spend.inputs.len());
    let mut hit = BTreeSet::new();
    for &outpoint in &spend.inputs {
        let plan = draft.state.index.plan_of_input(&outpoint).filter(|plan| hit.insert(*plan));
        let paid = plan.map_or_else(Vec::new, |plan| conflict::paid_all_the_same(draft.state, plan, spend));
        let coin = draft.state.coins[&outpoint].clone();
        let credit = draft.account(Owner::Custody(coin.path.wallet), asset);
        for (debit, amount) in conflict::sides_of_taken(draft, &coin, &by) {
            transfers.push(Transfer { debit, credit, amount, reason: TransferReason::Unattributed });
        }
        let spent = Spent { txid: spend.txid, at: block.at, plan: None, paid };
        draft.emit(Event::CoinSpent(CoinSpent { outpoint, spent }));
    }
    draft.post(transfers);
    for action in [HaltAction::Sign, HaltAction::Withdraw] {
        draft.halt(asset, action, HaltReason::ForeignSpend);
    }
}

/// Takes a coin's spend back, and with it the whole transaction where it is a plan's.
pub(super) fn undo(draft: &mut Draft<'_>, outpoint: OutPoint) {
    // Another input of the same plan may have brought it back already.
    let Some(spent) = draft.state.coins[&outpoint].spent.clone() else { return };
    match spent.plan {
        Some(plan) => undo_plan(draft, plan),
        None => undo_foreign(draft, outpoint, &Payment { txid: spent.txid, at: spent.at }),
    }
}

fn undo_plan(draft: &mut Draft<'_>, plan: PlanId) {
    let plan = draft.state.plans[&plan].clone();
    let fee = network_fee(draft.state, &plan);
    for &outpoint in &plan.inputs {
        draft.emit(Event::CoinUnspent(CoinChanged { outpoint }));
    }
    let [custody, in_flight, network_fees] = accounts(draft, &plan);
    let paid = paid(draft.state, &plan);
    let reason = TransferReason::CoinLost;
    draft.post([
        Transfer { debit: custody, credit: in_flight, amount: paid, reason },
        Transfer { debit: custody, credit: network_fees, amount: fee, reason },
    ]);
    let is_signed = plan.versions.iter().any(|version| version.signed.is_some());
    let status = if is_signed {
        (PlanStatus::Signed, WithdrawalStatus::Signed)
    } else {
        (PlanStatus::Signing, WithdrawalStatus::Signing)
    };
    move_plan(draft, &plan, status, None);
    if plan.status == PlanStatus::Final {
        let asset = draft.state.chains[&plan.anchor.chain].chain.coin;
        draft.halt_for_reorganisation(asset);
    }
}

/// What a confirmed plan cost, from the coins themselves: which version it was does not matter.
fn network_fee(state: &State, plan: &Plan) -> Amount {
    let txid = plan.paid.as_ref().expect("a plan that spent coins is confirmed").txid;
    let chain = plan.anchor.chain;
    let outputs = OutPoint { chain, txid, vout: 0 }..=OutPoint { chain, txid, vout: u32::MAX };
    let is_change = |coin: &Coin| coin.beneficiary == Beneficiary::CHANGE && !coin.suspense;
    let inputs: Amount = plan.inputs.iter().map(|input| state.coins[input].amount).sum();
    let change: Amount =
        state.coins.range(outputs).map(|(_, coin)| coin).filter(|coin| is_change(coin)).map(|coin| coin.amount).sum();
    let left = inputs.checked_sub(change).and_then(|left| left.checked_sub(paid(state, plan)));
    left.expect("a plan's inputs cover its outputs")
}

fn undo_foreign(draft: &mut Draft<'_>, outpoint: OutPoint, by: &Payment) {
    let coin = draft.state.coins[&outpoint].clone();
    let asset = draft.state.chains[&outpoint.chain].chain.coin;
    draft.emit(Event::CoinUnspent(CoinChanged { outpoint }));
    let debit = draft.account(Owner::Custody(coin.path.wallet), asset);
    let sides = conflict::sides_of_taken(draft, &coin, by);
    let reason = TransferReason::Reversal;
    draft.post(sides.map(|(credit, amount)| Transfer { debit, credit, amount, reason }));
}
