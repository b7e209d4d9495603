//! Withdrawals until they are planned, and after they can't be paid. Never touches coins.

use super::deposit::SCRIPT_MAX;
use super::{Draft, refusals};
use crate::amount::Amount;
use crate::asset::HaltAction;
use crate::command::Outcome;
use crate::custody::{Approval, Beneficiary, Intent, Withdrawal, WithdrawalStatus};
use crate::event::{Event, WithdrawalApproved, WithdrawalArchived, WithdrawalMoved};
use crate::id::{AssetId, CustomerId, WalletId, WithdrawalId};
use crate::ledger::{HouseAccount, Owner, Transfer, TransferReason};
use crate::state::State;
use crate::wire::Bytes;

/// The most approvals that a withdrawal takes: as many operators as a signer's policy may name, so that each of them has a place.
pub const APPROVALS_MAX: usize = 64;

/// How long a withdrawal that ended in the ledger alone stays in the state after its request; then only the journal and the
/// search tables have it. Two weeks, as long as the blocks of those that a block ended are kept where a policy says nothing else.
pub const CLOSED_KEPT_MS: u64 = 14 * 24 * 60 * 60 * 1000;

refusals! {
    /// Why a withdrawal is not accepted.
    pub enum WithdrawalRefusal {
        /// Only a request has an id that the withdrawal can bear.
        IdMissing => "withdrawal_id_missing", "a withdrawal is asked for by a request with an id";
        /// No asset has this id.
        AssetUnknown => "asset_unknown", "there is no such asset";
        /// The asset is no coin.
        AssetNotCoin => "asset_not_coin", "only coins are withdrawn to a chain";
        /// No policy was set for the asset.
        PolicyMissing => "policy_missing", "the asset has no policy";
        /// No wallet has this id.
        WalletUnknown => "wallet_unknown", "there is no such wallet";
        /// The wallet is on another chain.
        WalletForeign => "wallet_of_another_chain", "the wallet is not on the asset's chain";
        /// The wallet was retired.
        WalletRetired => "wallet_retired", "the wallet is retired";
        /// No customer has this id.
        CustomerUnknown => "customer_unknown", "there is no such customer";
        /// Empty or too long.
        ScriptInvalid => "script_invalid", "a script has 1 to 10,000 bytes";
        /// The script is one of the customer's own addresses here.
        ToSelf => "withdrawal_to_self", "the address is the customer's own on this platform";
        /// The script is change, or of a retired wallet.
        ScriptNotPayable => "script_not_payable", "the address belongs to the platform and is not to be paid";
        /// Below the policy's smallest withdrawal.
        AmountTooSmall => "withdrawal_too_small", "the amount is below the smallest withdrawal";
        /// Withdrawing is halted for the asset.
        Halted => "withdrawal_halted", "withdrawals are halted";
        /// A deposit of the customer is missing, or something is owed.
        CustomerFrozen => "customer_frozen", "the customer's withdrawals are frozen";
        /// Amount and fee exceed what is available.
        InsufficientFunds => "insufficient_funds", "the customer has less than amount and fee";
    }
}
refusals! {
    /// Why an approval is not added.
    pub enum ApprovalRefusal {
        /// No withdrawal has this id.
        WithdrawalUnknown => "withdrawal_unknown", "there is no such withdrawal";
        /// The key approved before.
        Repeated => "approval_repeated", "this operator approved the withdrawal already";
        /// Its signing was requested, or it has ended.
        NotAwaiting => "approval_not_awaited", "the withdrawal is being signed or has ended; approvals come before that";
        /// Its intent may not be signed any more.
        IntentExpired => "intent_expired", "the withdrawal's intent has expired";
        /// More than [`APPROVALS_MAX`].
        TooMany => "too_many_approvals", "the withdrawal has too many approvals";
    }
}
refusals! {
    /// Why a withdrawal is not cancelled.
    pub enum CancelRefusal {
        /// No withdrawal has this id.
        WithdrawalUnknown => "withdrawal_unknown", "there is no such withdrawal";
        /// It ended, and nothing is left to cancel.
        Ended => "withdrawal_ended", "the withdrawal has ended";
        /// Signing was requested: only the signer or the chain can end it.
        TooLate => "withdrawal_not_cancellable", "signing was requested; the withdrawal can't be cancelled";
    }
}

/// Whom a withdrawal to an address of ours pays; `None` for an address that is not ours on that chain.
fn recipient(state: &State, wallet: WalletId, script: &Bytes) -> Option<Result<Owner, WithdrawalRefusal>> {
    let path = state.scripts.get(script)?;
    let of_script = &state.wallets[&path.wallet];
    if of_script.chain != state.wallets[&wallet].chain {
        return None;
    }
    Some(match &state.addresses[path].beneficiary {
        Beneficiary::Customer(customer) if !of_script.retired => Ok(Owner::Customer(*customer)),
        Beneficiary::House(true) if !of_script.retired => Ok(Owner::House(HouseAccount::Inventory)),
        Beneficiary::Customer(_) | Beneficiary::House(_) => Err(WithdrawalRefusal::ScriptNotPayable),
    })
}

/// Accepts a withdrawal: holds amount and fee, and fixes what the signer will be asked to allow. One to an address of ours
/// is settled at once in the ledger, without a fee: nothing goes to the chain.
pub(super) fn request(
    draft: &mut Draft<'_>,
    customer: CustomerId,
    asset: AssetId,
    amount: Amount,
    script: &Bytes,
    wallet: WalletId,
) -> Result<Outcome, WithdrawalRefusal> {
    let state = &*draft.state;
    // A request's id is executed once: the withdrawal's is new.
    let id = WithdrawalId(draft.id.ok_or(WithdrawalRefusal::IdMissing)?.0);
    let chain = state.assets.get(&asset).ok_or(WithdrawalRefusal::AssetUnknown)?.chain;
    let chain = chain.and_then(|chain| state.chains.get(&chain)).ok_or(WithdrawalRefusal::AssetNotCoin)?;
    let policy = state.policies.get(&asset).ok_or(WithdrawalRefusal::PolicyMissing)?;
    let paying = state.wallets.get(&wallet).ok_or(WithdrawalRefusal::WalletUnknown)?;
    if paying.chain != chain.chain.id {
        return Err(WithdrawalRefusal::WalletForeign);
    }
    if paying.retired {
        return Err(WithdrawalRefusal::WalletRetired);
    }
    let record = state.customers.get(&customer).ok_or(WithdrawalRefusal::CustomerUnknown)?;
    if !(1..=SCRIPT_MAX).contains(&script.0.len()) {
        return Err(WithdrawalRefusal::ScriptInvalid);
    }
    let recipient = match recipient(state, wallet, script) {
        None => None,
        Some(Ok(owner)) if owner == Owner::Customer(customer) => return Err(WithdrawalRefusal::ToSelf),
        Some(owner) => Some(owner?),
    };
    if amount < policy.withdrawal_min || amount.is_zero() {
        return Err(WithdrawalRefusal::AmountTooSmall);
    }
    if state.is_halted(asset, HaltAction::Withdraw) {
        return Err(WithdrawalRefusal::Halted);
    }
    if record.freezes > 0 {
        return Err(WithdrawalRefusal::CustomerFrozen);
    }
    let fee = if recipient.is_some() { Amount::ZERO } else { policy.withdrawal_fee };
    let total = amount.checked_add(fee).ok_or(WithdrawalRefusal::InsufficientFunds)?;
    if total > draft.available(&Owner::Customer(customer), asset) {
        return Err(WithdrawalRefusal::InsufficientFunds);
    }
    let status =
        if amount > policy.automatic_max { WithdrawalStatus::AwaitingApproval } else { WithdrawalStatus::Queued };
    let intent = Intent {
        platform: state.counters.platform,
        wallet,
        genesis: chain.chain.genesis,
        asset,
        script: script.clone(),
        amount,
        fee_max: policy.network_fee_max,
        expiry: draft.now.plus_ms(policy.intent_ms),
        withdrawal: id,
    };
    let withdrawal = Withdrawal {
        id,
        customer,
        asset,
        amount,
        fee,
        script: script.clone(),
        status,
        hold: None,
        intent,
        approvals: Vec::new(),
        plan: None,
        requested: draft.now,
        paid: None,
    };
    accept(draft, withdrawal, recipient);
    Ok(Outcome::Withdrawal(id))
}

fn accept(draft: &mut Draft<'_>, mut withdrawal: Withdrawal, recipient: Option<Owner>) {
    let (amount, asset) = (withdrawal.amount, withdrawal.asset);
    let debit = draft.account(Owner::Customer(withdrawal.customer), asset);
    if let Some(recipient) = recipient {
        let credit = draft.account(recipient, asset);
        draft.post([Transfer { debit, credit, amount, reason: TransferReason::Internal }]);
        withdrawal.status = WithdrawalStatus::Final;
    } else {
        let credit = draft.account(Owner::House(HouseAccount::InFlight), asset);
        let total = amount.checked_add(withdrawal.fee).expect("it is at most what is available");
        withdrawal.hold = Some(draft.hold(debit, credit, total, TransferReason::Withdrawal));
    }
    draft.emit(Event::WithdrawalRequested(withdrawal));
}

/// Adds an operator's approval. Whether it is the last one needed is the edge's view; the signer judges again by itself.
pub(super) fn approve(
    draft: &mut Draft<'_>,
    id: WithdrawalId,
    approval: &Approval,
    complete: bool,
) -> Result<Outcome, ApprovalRefusal> {
    let withdrawal = draft.state.withdrawals.get(&id).ok_or(ApprovalRefusal::WithdrawalUnknown)?;
    if withdrawal.approvals.iter().any(|other| other.key == approval.key) {
        return Err(ApprovalRefusal::Repeated);
    }
    // One that is queued may need more than whoever queued it believed: the signer judges, and says so.
    let is_awaiting = withdrawal.status == WithdrawalStatus::AwaitingApproval;
    if !is_awaiting && withdrawal.status != WithdrawalStatus::Queued {
        return Err(ApprovalRefusal::NotAwaiting);
    }
    if draft.now > withdrawal.intent.expiry {
        return Err(ApprovalRefusal::IntentExpired);
    }
    if withdrawal.approvals.len() >= APPROVALS_MAX {
        return Err(ApprovalRefusal::TooMany);
    }
    let hold = withdrawal.hold;
    draft.emit(Event::WithdrawalApproved(WithdrawalApproved { withdrawal: id, approval: approval.clone() }));
    if complete && is_awaiting {
        move_unplanned(draft, id, WithdrawalStatus::Queued, hold);
    }
    Ok(Outcome::Done(complete))
}

/// Takes a withdrawal back. One whose plan was voided is refunded: its money left the customer's account with the plan.
pub(super) fn cancel(draft: &mut Draft<'_>, id: WithdrawalId) -> Result<Outcome, CancelRefusal> {
    let withdrawal = draft.state.withdrawals.get(&id).ok_or(CancelRefusal::WithdrawalUnknown)?;
    match withdrawal.status {
        WithdrawalStatus::AwaitingApproval | WithdrawalStatus::Queued => {}
        WithdrawalStatus::Final | WithdrawalStatus::Cancelled | WithdrawalStatus::Refunded => {
            return Err(CancelRefusal::Ended);
        }
        WithdrawalStatus::Signing
        | WithdrawalStatus::Signed
        | WithdrawalStatus::Broadcast
        | WithdrawalStatus::Confirmed => return Err(CancelRefusal::TooLate),
    }
    end_unplanned(draft, id);
    Ok(Outcome::Done(true))
}

fn end_unplanned(draft: &mut Draft<'_>, id: WithdrawalId) {
    match draft.state.withdrawals[&id].hold {
        Some(hold) => {
            draft.release(hold);
            move_unplanned(draft, id, WithdrawalStatus::Cancelled, None);
        }
        None => {
            give_back(draft, id);
            move_unplanned(draft, id, WithdrawalStatus::Refunded, None);
        }
    }
}

fn move_unplanned(
    draft: &mut Draft<'_>,
    withdrawal: WithdrawalId,
    status: WithdrawalStatus,
    hold: Option<crate::id::HoldId>,
) {
    let moved = WithdrawalMoved { withdrawal, status, hold, plan: None, paid: None };
    draft.emit(Event::WithdrawalMoved(moved));
}

/// Returns what a withdrawal took, fee included: it can provably never be paid.
pub(super) fn give_back(draft: &mut Draft<'_>, id: WithdrawalId) {
    let withdrawal = &draft.state.withdrawals[&id];
    let (amount, fee, asset) = (withdrawal.amount, withdrawal.fee, withdrawal.asset);
    let credit = draft.account(Owner::Customer(withdrawal.customer), asset);
    let in_flight = draft.account(Owner::House(HouseAccount::InFlight), asset);
    let fees = draft.account(Owner::House(HouseAccount::Fees), asset);
    let reason = TransferReason::Reversal;
    draft.post([
        Transfer { debit: in_flight, credit, amount, reason },
        Transfer { debit: fees, credit, amount: fee, reason },
    ]);
}

/// Ends the unplanned withdrawal whose intent expired first.
pub(super) fn expire(draft: &mut Draft<'_>) -> bool {
    match draft.state.index.first_expiring() {
        Some((expiry, id)) if draft.now > expiry => {
            end_unplanned(draft, id);
            true
        }
        Some(_) | None => false,
    }
}

/// Archives the oldest withdrawal that ended in the ledger alone.
pub(super) fn archive(draft: &mut Draft<'_>) -> bool {
    match draft.state.index.first_closed() {
        Some((requested, withdrawal)) if draft.now.since_ms(requested) >= CLOSED_KEPT_MS => {
            draft.emit(Event::WithdrawalArchived(WithdrawalArchived { withdrawal }));
            true
        }
        Some(_) | None => false,
    }
}
