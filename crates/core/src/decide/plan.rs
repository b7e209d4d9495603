//! Plans: reserved inputs, the point of no return, signatures and voids. Never decodes a transaction; what it says of itself is
//! checked by whoever made it and by the signer.

use super::block::{conflict, spend::move_plan};
use super::deposit::SCRIPT_MAX;
use super::{Draft, refusals};
use crate::amount::Amount;
use crate::asset::{AssetPolicy, HaltAction};
use crate::command::{Outcome, PLAN_INPUTS_MAX, PLAN_PAYMENTS_MAX, ProposePlan};
use crate::custody::{
    Address, Beneficiary, Branch, Coin, KeyPath, OutPoint, Plan, PlanChange, PlanStatus, Wallet, Withdrawal,
    WithdrawalStatus,
};
use crate::event::{Event, PlanArchived, PlanMoved, PlanSigned, WithdrawalMoved};
use crate::id::{PlanId, TxId, WithdrawalId};
use crate::ledger::{HouseAccount, Owner, Transfer, TransferReason};
use crate::state::{ChainState, State};
use crate::wire::Bytes;
use std::collections::BTreeSet;

/// The largest unsigned transaction, in bytes: a standard one of Bitcoin weighs at most 400,000 units, four a byte here.
pub const UNSIGNED_MAX: usize = 100_000;

/// The largest signed transaction, in bytes: see [`UNSIGNED_MAX`]; a byte of witness weighs one unit.
pub const SIGNED_MAX: usize = 400_000;

/// The largest void receipt, in bytes: ids, a key and a signature, with room for a longer kind of each.
pub const RECEIPT_MAX: usize = 1_024;

/// How many voided plans stay in the state, for people to see what became of them.
pub const VOIDED_KEPT: usize = 1_000;

refusals! {
    /// Why a plan, its signature or its end is not recorded.
    pub enum PlanRefusal {
        /// No plan has this id.
        PlanUnknown => "plan_unknown", "there is no such plan";
        /// The plan has fewer versions.
        VersionUnknown => "plan_version_unknown", "the plan has no such version";
        /// No signed version has this id.
        TxUnknown => "plan_txid_unknown", "no signed version of the plan has this id";
        /// The signer answered otherwise before: one of both lies.
        SignedDifferently => "plan_signed_differently", "this version was signed with other bytes";
        /// Voided or conflicted.
        Ended => "plan_ended", "the plan has ended";
        /// A version is in a block.
        Confirmed => "plan_confirmed", "a transaction of the plan is in a block";
        /// The plan does not spend it.
        InputNotItsOwn => "plan_input_not_its_own", "the plan does not spend this output";
        /// The coin is in the books, spent or not: its spend, if there is one, says by itself what becomes of the plan.
        InputPresent => "plan_input_present", "the input is there";
        /// Not a block of the journalled chain, as far as the state keeps it.
        BlockUnknown => "block_unknown", "no journalled block has this height and hash";
        /// Not deep enough to be for ever.
        BlockNotFinal => "block_not_final", "the block is not final";
        /// Signed bytes are in the journal, or it is in a block.
        Signed => "plan_signed", "the plan is signed; it can't be voided";
        /// A transaction that is not the plan's pays some of what it pays, in a block that is not final: to plan that anew would
        /// pay it twice.
        PaidByOthers => "plan_paid_by_others", "another transaction pays in the plan's place";
        /// Empty or larger than [`SIGNED_MAX`].
        SignedSizeInvalid => "plan_signed_size_invalid", "a signed transaction has 1 to 400,000 bytes";
        /// Empty or larger than [`RECEIPT_MAX`].
        ReceiptSizeInvalid => "plan_receipt_size_invalid", "a void receipt has 1 to 1,024 bytes";

        /// No wallet has this id.
        WalletUnknown => "wallet_unknown", "there is no such wallet";
        /// No policy was set for the wallet's coin.
        PolicyMissing => "policy_missing", "the asset has no policy";
        /// Nothing is paid, or more than [`PLAN_PAYMENTS_MAX`] withdrawals.
        WithdrawalCountInvalid => "plan_withdrawal_count_invalid", "a plan pays 1 to 250 withdrawals";
        /// Nothing is spent, or more than [`PLAN_INPUTS_MAX`] coins.
        InputCountInvalid => "plan_input_count_invalid", "a plan spends 1 to 250 coins";
        /// Empty or larger than [`UNSIGNED_MAX`].
        UnsignedSizeInvalid => "plan_unsigned_size_invalid", "an unsigned transaction has 1 to 100,000 bytes";
        /// The first version claims to be signed.
        VersionSigned => "plan_version_signed", "a proposed version is not signed";
        /// No withdrawal has this id.
        WithdrawalUnknown => "withdrawal_unknown", "there is no such withdrawal";
        /// A withdrawal is named twice.
        WithdrawalRepeated => "plan_withdrawal_repeated", "a withdrawal is paid twice";
        /// It waits for approval, is planned, or has ended.
        WithdrawalNotQueued => "withdrawal_not_queued", "the withdrawal does not wait for a plan";
        /// It is to be paid by another wallet.
        WithdrawalOfAnotherWallet => "withdrawal_of_another_wallet", "the withdrawal is not this wallet's to pay";
        /// Its intent may not be signed any more.
        IntentExpired => "intent_expired", "the withdrawal's intent has expired";
        /// A deposit of its customer is missing, or something is owed.
        CustomerFrozen => "customer_frozen", "the customer's withdrawals are frozen";
        /// No coin is at this output.
        InputUnknown => "plan_input_unknown", "an input is no coin of ours";
        /// A coin is named twice.
        InputRepeated => "plan_input_repeated", "a coin is spent twice";
        /// The coin is another wallet's.
        InputOfAnotherWallet => "plan_input_of_another_wallet", "an input is not this wallet's";
        /// The coin is spent.
        InputSpent => "plan_input_spent", "an input is spent";
        /// Another plan reserves the coin.
        InputReserved => "plan_input_reserved", "an input is reserved by another plan";
        /// A mined coin that can't be spent yet.
        InputImmature => "plan_input_immature", "a mined input is not mature";
        /// Neither final nor our own confirmed change.
        InputShallow => "plan_input_shallow", "an input is not confirmed deeply enough";
        /// The anchor is not among the inputs.
        AnchorNotInput => "plan_anchor_not_input", "the anchor is not one of the inputs";
        /// The payments are not exactly the withdrawals, or outputs are missing or named twice.
        PaymentsInvalid => "plan_payments_invalid", "the outputs are not one for each withdrawal and the change";
        /// Change of nothing.
        ChangeZero => "plan_change_zero", "change is more than nothing";
        /// Not the wallet's next change index.
        ChangeIndexStale => "index_stale", "the index is not the wallet's next one";
        /// Empty or too long.
        ChangeScriptInvalid => "script_invalid", "a script has 1 to 10,000 bytes";
        /// The script was handed out.
        ChangeScriptIssued => "script_issued", "this script was handed out already";
        /// Above the policy's, or an intent's, greatest network fee.
        FeeTooLarge => "plan_fee_too_large", "the network fee is above what is allowed";
        /// Inputs are not payments, change and fee.
        AmountsDiffer => "plan_amounts_differ", "inputs do not equal payments, change and fee";
        /// Signing is halted for the asset.
        Halted => "signing_halted", "signing is halted";
    }
}

/// What a proposal is judged by.
struct Grounds<'a> {
    state: &'a State,
    wallet: &'a Wallet,
    chain: &'a ChainState,
    policy: &'a AssetPolicy,
}

/// Accepts a plan: reserves its inputs, takes the withdrawals' money from their customers, and requests signing. From here on
/// only the signer's word or the chain ends it.
pub(super) fn propose(draft: &mut Draft<'_>, proposal: &ProposePlan) -> Result<Outcome, PlanRefusal> {
    let state = &*draft.state;
    let wallet = state.wallets.get(&proposal.wallet).ok_or(PlanRefusal::WalletUnknown)?;
    let chain = &state.chains[&wallet.chain];
    let policy = state.policies.get(&chain.chain.coin).ok_or(PlanRefusal::PolicyMissing)?;
    let grounds = Grounds { state, wallet, chain, policy };
    check_sizes(proposal)?;
    grounds.check_withdrawals(proposal, draft.now)?;
    grounds.check_inputs(proposal)?;
    grounds.check_outputs(proposal)?;
    grounds.check_amounts(proposal)?;
    if state.is_halted(chain.chain.coin, HaltAction::Sign) {
        return Err(PlanRefusal::Halted);
    }
    Ok(Outcome::Plan(request_signing(draft, proposal)))
}

fn check_sizes(proposal: &ProposePlan) -> Result<(), PlanRefusal> {
    if !(1..=PLAN_PAYMENTS_MAX).contains(&proposal.withdrawals.len()) {
        return Err(PlanRefusal::WithdrawalCountInvalid);
    }
    if !(1..=PLAN_INPUTS_MAX).contains(&proposal.inputs.len()) {
        return Err(PlanRefusal::InputCountInvalid);
    }
    if !(1..=UNSIGNED_MAX).contains(&proposal.version.unsigned.0.len()) {
        return Err(PlanRefusal::UnsignedSizeInvalid);
    }
    if proposal.version.signed.is_some() || proposal.version.txid.is_some() {
        return Err(PlanRefusal::VersionSigned);
    }
    Ok(())
}

impl Grounds<'_> {
    fn withdrawals<'a>(&'a self, proposal: &'a ProposePlan) -> impl Iterator<Item = &'a Withdrawal> {
        proposal.withdrawals.iter().map(|id| &self.state.withdrawals[id])
    }
    fn coins<'a>(&'a self, proposal: &'a ProposePlan) -> impl Iterator<Item = &'a Coin> {
        proposal.inputs.iter().map(|input| &self.state.coins[input])
    }

    fn check_withdrawals(&self, proposal: &ProposePlan, now: crate::id::LedgerTime) -> Result<(), PlanRefusal> {
        if !proposal.withdrawals.iter().all(|id| self.state.withdrawals.contains_key(id)) {
            return Err(PlanRefusal::WithdrawalUnknown);
        }
        let distinct: BTreeSet<&WithdrawalId> = proposal.withdrawals.iter().collect();
        if distinct.len() != proposal.withdrawals.len() {
            return Err(PlanRefusal::WithdrawalRepeated);
        }
        if self.withdrawals(proposal).any(|withdrawal| withdrawal.status != WithdrawalStatus::Queued) {
            return Err(PlanRefusal::WithdrawalNotQueued);
        }
        if self.withdrawals(proposal).any(|withdrawal| withdrawal.intent.wallet != self.wallet.id) {
            return Err(PlanRefusal::WithdrawalOfAnotherWallet);
        }
        if self.withdrawals(proposal).any(|withdrawal| now > withdrawal.intent.expiry) {
            return Err(PlanRefusal::IntentExpired);
        }
        // Money in flight left the customer before the freeze.
        let is_frozen = |withdrawal: &Withdrawal| {
            withdrawal.hold.is_some() && self.state.customers[&withdrawal.customer].freezes > 0
        };
        if self.withdrawals(proposal).any(is_frozen) { Err(PlanRefusal::CustomerFrozen) } else { Ok(()) }
    }

    fn check_inputs(&self, proposal: &ProposePlan) -> Result<(), PlanRefusal> {
        if !proposal.inputs.iter().all(|input| self.state.coins.contains_key(input)) {
            return Err(PlanRefusal::InputUnknown);
        }
        let distinct: BTreeSet<&OutPoint> = proposal.inputs.iter().collect();
        if distinct.len() != proposal.inputs.len() {
            return Err(PlanRefusal::InputRepeated);
        }
        if self.coins(proposal).any(|coin| coin.path.wallet != self.wallet.id) {
            return Err(PlanRefusal::InputOfAnotherWallet);
        }
        if self.coins(proposal).any(|coin| coin.spent.is_some()) {
            return Err(PlanRefusal::InputSpent);
        }
        if self.coins(proposal).any(|coin| coin.reserved.is_some()) {
            return Err(PlanRefusal::InputReserved);
        }
        let depth = |coin: &Coin| self.chain.confirmations(coin.at.height);
        if self.coins(proposal).any(|coin| coin.coinbase && depth(coin) < self.chain.chain.coinbase_maturity) {
            return Err(PlanRefusal::InputImmature);
        }
        let is_own_change = |coin: &Coin| coin.beneficiary == Beneficiary::CHANGE && !coin.suspense;
        let confirmations_min = |coin: &Coin| if is_own_change(coin) { 1 } else { self.policy.final_confirmations };
        if self.coins(proposal).any(|coin| depth(coin) < confirmations_min(coin)) {
            return Err(PlanRefusal::InputShallow);
        }
        if proposal.inputs.contains(&proposal.anchor) { Ok(()) } else { Err(PlanRefusal::AnchorNotInput) }
    }

    fn check_outputs(&self, proposal: &ProposePlan) -> Result<(), PlanRefusal> {
        let version = &proposal.version;
        let paid: BTreeSet<&WithdrawalId> = version.payments.iter().map(|payment| &payment.withdrawal).collect();
        let asked: BTreeSet<&WithdrawalId> = proposal.withdrawals.iter().collect();
        let change = version.change.iter().map(|change| change.vout);
        let outputs: BTreeSet<u32> = version.payments.iter().map(|payment| payment.vout).chain(change).collect();
        let count = version.payments.len() + usize::from(version.change.is_some());
        let is_one_each = outputs.len() == count && outputs.iter().zip(0..).all(|(vout, index)| *vout == index);
        if !is_one_each || paid != asked || version.payments.len() != asked.len() {
            return Err(PlanRefusal::PaymentsInvalid);
        }
        version.change.as_ref().map_or(Ok(()), |change| self.check_change(change))
    }

    fn check_change(&self, change: &PlanChange) -> Result<(), PlanRefusal> {
        if change.amount.is_zero() {
            return Err(PlanRefusal::ChangeZero);
        }
        if change.index != self.wallet.next_internal {
            return Err(PlanRefusal::ChangeIndexStale);
        }
        if !(1..=SCRIPT_MAX).contains(&change.script.0.len()) {
            return Err(PlanRefusal::ChangeScriptInvalid);
        }
        if self.state.scripts.contains_key(&change.script) {
            return Err(PlanRefusal::ChangeScriptIssued);
        }
        Ok(())
    }

    fn check_amounts(&self, proposal: &ProposePlan) -> Result<(), PlanRefusal> {
        let version = &proposal.version;
        let fee_max = self.withdrawals(proposal).map(|withdrawal| withdrawal.intent.fee_max).min();
        if version.fee > self.policy.network_fee_max || fee_max.is_some_and(|fee_max| version.fee > fee_max) {
            return Err(PlanRefusal::FeeTooLarge);
        }
        let change = version.change.iter().map(|change| change.amount);
        let mut outputs = self.withdrawals(proposal).map(|withdrawal| withdrawal.amount).chain(change);
        let spent = outputs.try_fold(version.fee, Amount::checked_add);
        let inputs: Amount = self.coins(proposal).map(|coin| coin.amount).sum();
        if spent == Some(inputs) { Ok(()) } else { Err(PlanRefusal::AmountsDiffer) }
    }
}

fn request_signing(draft: &mut Draft<'_>, proposal: &ProposePlan) -> PlanId {
    let wallet = &draft.state.wallets[&proposal.wallet];
    let asset = draft.state.chains[&wallet.chain].chain.coin;
    let id = draft.state.counters.next_plan;
    if let Some(change) = &proposal.version.change {
        draft.emit(Event::AddressIssued(Address {
            path: KeyPath { wallet: proposal.wallet, branch: Branch::Internal, index: change.index },
            script: change.script.clone(),
            beneficiary: Beneficiary::CHANGE,
            issued: draft.now,
            used: false,
        }));
    }
    let debit = draft.account(Owner::House(HouseAccount::InFlight), asset);
    let credit = draft.account(Owner::House(HouseAccount::Fees), asset);
    let mut fees = Vec::new();
    for withdrawal in &proposal.withdrawals {
        let withdrawal = &draft.state.withdrawals[withdrawal];
        // One without a hold was planned before: its money is in flight already, and its fee is taken.
        if let Some(hold) = withdrawal.hold {
            fees.push(Transfer { debit, credit, amount: withdrawal.fee, reason: TransferReason::WithdrawalFee });
            let total = draft.state.ledger.holds()[&hold].transfer.amount;
            draft.post_hold(hold, total);
        }
    }
    draft.post(fees);
    draft.emit(Event::SigningRequested(Plan {
        id,
        wallet: proposal.wallet,
        inputs: proposal.inputs.clone(),
        anchor: proposal.anchor,
        versions: vec![proposal.version.clone()],
        status: PlanStatus::Signing,
        paid: None,
    }));
    for &withdrawal in &proposal.withdrawals {
        let status = WithdrawalStatus::Signing;
        let moved = WithdrawalMoved { withdrawal, status, hold: None, plan: Some(id), paid: None };
        draft.emit(Event::WithdrawalMoved(moved));
    }
    id
}

/// Notes that a signed version is in a mempool.
pub(super) fn see(draft: &mut Draft<'_>, id: PlanId, txid: TxId) -> Result<Outcome, PlanRefusal> {
    let plan = draft.state.plans.get(&id).ok_or(PlanRefusal::PlanUnknown)?;
    if !plan.versions.iter().any(|version| version.txid == Some(txid)) {
        return Err(PlanRefusal::TxUnknown);
    }
    if plan.status != PlanStatus::Signed {
        return Ok(Outcome::Done(true));
    }
    for payment in plan.versions[0].payments.clone() {
        let withdrawal = payment.withdrawal;
        if draft.state.withdrawals[&withdrawal].status == WithdrawalStatus::Signed {
            let status = WithdrawalStatus::Broadcast;
            let moved = WithdrawalMoved { withdrawal, status, hold: None, plan: Some(id), paid: None };
            draft.emit(Event::WithdrawalMoved(moved));
        }
    }
    Ok(Outcome::Done(true))
}

/// Journals the signer's bytes. The same bytes again say nothing new; other bytes are a contradiction.
pub(super) fn record_signed(
    draft: &mut Draft<'_>,
    id: PlanId,
    version: u32,
    signed: &Bytes,
    txid: TxId,
) -> Result<Outcome, PlanRefusal> {
    let plan = draft.state.plans.get(&id).ok_or(PlanRefusal::PlanUnknown)?;
    let known = plan.versions.get(version as usize).ok_or(PlanRefusal::VersionUnknown)?;
    match &known.signed {
        Some(bytes) if bytes == signed && known.txid == Some(txid) => return Ok(Outcome::Done(true)),
        Some(_) => return Err(PlanRefusal::SignedDifferently),
        None => {}
    }
    if matches!(plan.status, PlanStatus::Voided | PlanStatus::Conflicted) {
        return Err(PlanRefusal::Ended);
    }
    if !(1..=SIGNED_MAX).contains(&signed.0.len()) {
        return Err(PlanRefusal::SignedSizeInvalid);
    }
    let plan = plan.clone();
    draft.emit(Event::PlanSigned(PlanSigned { plan: id, version, signed: signed.clone(), txid }));
    if plan.status == PlanStatus::Signing {
        move_plan(draft, &plan, (PlanStatus::Signed, WithdrawalStatus::Signed), None);
    }
    Ok(Outcome::Done(true))
}

/// Ends a plan that the signer has durably given up on. Its inputs are free; its withdrawals wait for another plan, with their
/// money in flight.
pub(super) fn record_void(draft: &mut Draft<'_>, id: PlanId, receipt: &Bytes) -> Result<Outcome, PlanRefusal> {
    let plan = draft.state.plans.get(&id).ok_or(PlanRefusal::PlanUnknown)?;
    match plan.status {
        PlanStatus::Signing => {}
        PlanStatus::Voided => return Ok(Outcome::Done(true)),
        PlanStatus::Conflicted => return Err(PlanRefusal::Ended),
        PlanStatus::Signed | PlanStatus::Confirmed | PlanStatus::Final => return Err(PlanRefusal::Signed),
    }
    // Signing, and yet signed: its block was taken back, or the signature came after.
    if plan.versions.iter().any(|version| version.signed.is_some()) {
        return Err(PlanRefusal::Signed);
    }
    if conflict::is_paid_by_others(draft.state, plan) {
        return Err(PlanRefusal::PaidByOthers);
    }
    if !(1..=RECEIPT_MAX).contains(&receipt.0.len()) {
        return Err(PlanRefusal::ReceiptSizeInvalid);
    }
    let payments = plan.versions[0].payments.clone();
    let (status, receipt) = (PlanStatus::Voided, Some(receipt.clone()));
    draft.emit(Event::PlanMoved(PlanMoved { plan: id, status, paid: None, receipt }));
    for payment in payments {
        draft.emit(Event::WithdrawalMoved(WithdrawalMoved {
            withdrawal: payment.withdrawal,
            status: WithdrawalStatus::Queued,
            hold: None,
            plan: None,
            paid: None,
        }));
    }
    let voided = draft.state.index.voided();
    if let Some(&oldest) = voided.first().filter(|_| voided.len() > VOIDED_KEPT) {
        draft.emit(Event::PlanArchived(PlanArchived { plan: oldest }));
    }
    Ok(Outcome::Done(true))
}
