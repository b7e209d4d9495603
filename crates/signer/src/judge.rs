//! The rules by which a request is judged, without memory and keys: pure functions of request and policy. It must never
//! trust a word of the engine that it can check.

use crate::memory::{Charge, PaidWithdrawal};
use crate::policy::{OPERATORS_MAX, Policy, WalletPolicy};
use crate::protocol::{Fence, Input, KnownRow, MemoryDoubt, PaymentRequest, Refused, Request, SignPlan};
use crate::refusal::Refusal;
use crate::spend::outpoint_of;
use bitcoin::Script;
use ed25519_dalek::Signature;
use florin_chain::bitcoin::address::address_text;
use florin_chain::bitcoin::check::SpendRules;
use florin_chain::bitcoin::keys::AddressIndex;
use florin_chain::bitcoin::plan::{PAYMENTS_MAX, SatPerKvb};
use florin_core::id::{LedgerTime, WithdrawalId};
use florin_core::wire::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// All the satoshi there will ever be (21 million bitcoin, rounded up): no amount may exceed it.
pub const AMOUNT_SAT_MAX: u64 = 2_100_000_000_000_000;
/// How far ledger time may be ahead of the signer's clock: as far as the platform lets its own clock jump. Beyond it one
/// of the two clocks is wrong, and expiries mean nothing.
pub const CLOCK_AHEAD_MAX_MS: u64 = 60_000;
/// Most versions of a plan. Each bump pays more; nobody bumps a hundred times in earnest.
pub const PLAN_VERSIONS_MAX: u64 = 100;
/// How far a change index may be beyond the highest signed for: twice the 10,000 that a restore jumps.
pub const CHANGE_WINDOW: u32 = 20_000;
/// An hour.
pub const HOUR_MS: u64 = 3_600_000;
/// A day.
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// Largest number in a request: the memory holds 63 bits.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Refuses a request with numbers that the memory can't hold.
pub fn check_numbers(request: &Request) -> Result<(), Refused> {
    let (fence, plan) = match request {
        Request::Hello(_) | Request::Descriptors(_) | Request::Status(_) => (None, None),
        Request::SignPlan(request) => (Some(&request.fence), Some(request.plan)),
        Request::VoidPlan(request) => (Some(&request.fence), Some(request.plan)),
        Request::CheckpointHead(request) => (Some(&request.fence), None),
    };
    let of_fence = fence.map_or([0; 3], |fence| [fence.epoch.0, fence.seq.0, fence.time.0]);
    let others = [plan.map_or(0, |plan| plan.0), request.memory().map_or(0, |memory| memory.counter)];
    if of_fence.into_iter().chain(others).any(|number| number > NUMBER_MAX) {
        return Err(Refused::whole(Refusal::RequestInvalid));
    }
    Ok(())
}

/// What is said to one whose knowledge of the memory the memory does not have.
pub fn refuse_memory(doubt: MemoryDoubt) -> Refused {
    Refused::whole(match doubt {
        MemoryDoubt::Replaced => Refusal::MemoryReplaced,
        MemoryDoubt::Behind => Refusal::MemoryBehind,
        MemoryDoubt::Conflict | MemoryDoubt::Unproven => Refusal::MemoryConflict,
    })
}

/// Refuses a fence of another platform, below the highest seen, of a journal that
/// does not have the highest seen as its own row, or ahead of the clock. What comes back is the fence to remember: its time
/// never runs backwards.
pub fn check_fence(
    fence: &Fence,
    known: Option<&KnownRow>,
    platform: &[u8; 16],
    highest: Option<&Fence>,
    clock: LedgerTime,
) -> Result<Fence, Refused> {
    if fence.platform != *platform {
        return Err(Refused::whole(Refusal::PlatformMismatch));
    }
    let Some(highest) = highest else {
        return check_clock(fence, clock).map(|()| *fence);
    };
    if fence.seq < highest.seq || fence.epoch < highest.epoch {
        return Err(Refused::whole(Refusal::FenceBehind));
    }
    if fence.seq == highest.seq {
        if (fence.head, fence.epoch) != (highest.head, highest.epoch) {
            return Err(Refused::whole(Refusal::FenceConflict));
        }
    } else {
        // A later row alone says nothing: an old copy that is written on has one before long. Whoever does not know the
        // last row seen is behind it, whatever comes after.
        let known = known.filter(|known| known.seq >= highest.seq);
        let known = known.ok_or(Refused::whole(Refusal::FenceBehind))?;
        if (known.seq, known.hash) != (highest.seq, highest.head) {
            return Err(Refused::whole(Refusal::FenceConflict));
        }
    }
    check_clock(fence, clock)?;
    Ok(Fence { time: fence.time.max(highest.time), ..*fence })
}

fn check_clock(fence: &Fence, clock: LedgerTime) -> Result<(), Refused> {
    if fence.time.since_ms(clock) > CLOCK_AHEAD_MAX_MS {
        return Err(Refused::whole(Refusal::ClockAhead));
    }
    Ok(())
}

/// Checks the intents alone: for this platform, wallet, network and asset, not expired, to an address, one for each
/// withdrawal.
pub fn check_intents(
    policy: &Policy,
    wallet: &WalletPolicy,
    request: &SignPlan,
    now: LedgerTime,
) -> Result<(), Refused> {
    if request.payments.is_empty() {
        return Err(Refused::whole(Refusal::PaymentsMissing));
    }
    if request.payments.len() > PAYMENTS_MAX {
        return Err(Refused::whole(Refusal::PaymentsTooMany));
    }
    let genesis = wallet.genesis();
    let intents = || request.payments.iter().map(|payment| &payment.intent).enumerate();
    let refuse_where = |reason, wrong: &dyn Fn(&florin_core::custody::Intent) -> bool| {
        intents().find(|(_, intent)| wrong(intent)).map_or(Ok(()), |(place, _)| Err(Refused::at(reason, place)))
    };
    refuse_where(Refusal::IntentPlatformMismatch, &|intent| intent.platform != policy.platform)?;
    refuse_where(Refusal::IntentWalletMismatch, &|intent| intent.wallet != request.wallet)?;
    refuse_where(Refusal::GenesisMismatch, &|intent| intent.genesis != genesis)?;
    refuse_where(Refusal::IntentAssetMismatch, &|intent| intent.asset != wallet.asset)?;
    refuse_where(Refusal::IntentExpired, &|intent| intent.expiry < now)?;
    refuse_where(Refusal::DestinationUnknown, &|intent| {
        address_text(wallet.network, Script::from_bytes(&intent.script.0)).is_none()
    })?;
    let mut withdrawals = BTreeSet::new();
    for (place, intent) in intents() {
        if !withdrawals.insert(intent.withdrawal) {
            return Err(Refused::at(Refusal::WithdrawalRepeated, place));
        }
    }
    Ok(())
}

/// The caps by which a transaction's own content is checked.
pub fn spend_rules(wallet: &WalletPolicy, anchor: &Input, change_index_max: Option<u32>) -> SpendRules {
    let change_index_max = change_index_max.unwrap_or(0).saturating_add(CHANGE_WINDOW);
    SpendRules {
        fee_sat_max: u64::try_from(wallet.fee_max.units()).unwrap_or(AMOUNT_SAT_MAX),
        fee_share_ppm_max: u64::from(wallet.fee_share_max_bp) * 100,
        fee_rate_max: SatPerKvb(wallet.fee_rate_max),
        change_index_max: AddressIndex::new(change_index_max).unwrap_or(AddressIndex::MAX),
        anchor: Some(outpoint_of(anchor)),
    }
}

/// Checks that every intent allows the fee.
pub fn check_fee_of_intents(fee_sat: u64, payments: &[PaymentRequest]) -> Result<(), Refused> {
    match payments.iter().position(|payment| u128::from(fee_sat) > payment.intent.fee_max.units()) {
        Some(place) => Err(Refused::at(Refusal::FeeAboveIntent, place)),
        None => Ok(()),
    }
}

/// An approval that does not count, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncounted {
    /// The withdrawal that it was shown with.
    pub withdrawal: WithdrawalId,
    /// The key that it names.
    pub key: [u8; 32],
    /// [`Refusal::ApprovalKeyUnknown`], [`Refusal::ApprovalRepeated`] or [`Refusal::ApprovalInvalid`].
    pub reason: Refusal,
}

/// What the approvals of a plan's payments come to.
#[derive(Debug, Default)]
pub struct Approvals {
    /// Of each payment whether enough distinct operators approved exactly it.
    pub approved: Vec<bool>,
    /// Those that do not count.
    pub uncounted: Vec<Uncounted>,
}

/// Counts the approvals: each operator of the policy once, and only with a signature over exactly this intent. Others are left
/// out and stop nothing. They add nothing either, and whoever shows them could leave them out; but anybody who may add one
/// to a withdrawal would else decide that it is never paid. So many are looked at as there may be operators: an engine
/// of ours keeps fewer.
pub fn count_approvals(policy: &Policy, payments: &[PaymentRequest]) -> Approvals {
    let mut found = Approvals::default();
    for PaymentRequest { intent, approvals } in payments {
        let digest = intent.digest();
        let mut keys = BTreeSet::new();
        for approval in approvals.iter().take(OPERATORS_MAX) {
            let signature = Signature::from_bytes(&approval.signature);
            let reason = match policy.operators.get(&approval.key) {
                None => Refusal::ApprovalKeyUnknown,
                Some(_) if keys.contains(&approval.key) => Refusal::ApprovalRepeated,
                Some(operator) if operator.key.verify_strict(&digest.0, &signature).is_ok() => {
                    keys.insert(approval.key);
                    continue;
                }
                Some(_) => Refusal::ApprovalInvalid,
            };
            found.uncounted.push(Uncounted { withdrawal: intent.withdrawal, key: approval.key, reason });
        }
        found.approved.push(policy.threshold.is_some_and(|threshold| keys.len() >= threshold));
    }
    found
}

/// What a plan pays, in order of withdrawal.
pub fn payments_of(payments: &[PaymentRequest]) -> Vec<PaidWithdrawal> {
    let mut paid: Vec<PaidWithdrawal> = payments
        .iter()
        .map(|PaymentRequest { intent, .. }| PaidWithdrawal {
            withdrawal: intent.withdrawal,
            script: intent.script.clone(),
            amount: intent.amount,
        })
        .collect();
    paid.sort();
    paid
}

/// What a version adds to the counters: its automatic payments and, if there is one among them, its whole fee, beyond
/// what earlier versions of the plan were charged with. Versions conflict, so that the dearest is all that can leave.
/// Every amount here equals an output's, and so fits 64 bits.
pub fn charges(payments: &[PaymentRequest], approved: &[bool], fee: u64, earlier: &[Charge]) -> Vec<Charge> {
    let mut due: BTreeMap<Bytes, u64> = BTreeMap::new();
    for (payment, _) in payments.iter().zip(approved).filter(|(_, approved)| !**approved) {
        let amount = u64::try_from(payment.intent.amount.units()).unwrap_or(u64::MAX);
        let sum = due.entry(payment.intent.script.clone()).or_default();
        *sum = sum.saturating_add(amount);
    }
    if !due.is_empty() {
        due.insert(Bytes(Vec::new()), fee);
    }
    for charge in earlier {
        if let Some(sum) = due.get_mut(&charge.script) {
            *sum = sum.saturating_sub(charge.amount);
        }
    }
    due.into_iter().filter(|(_, amount)| *amount > 0).map(|(script, amount)| Charge { script, amount }).collect()
}

/// Refuses a payment above the automatic limit of one, unless it is approved. Where approvals of it do not count, it is said
/// why: that is nearer to what has to be done than the limit.
pub fn check_payment_limit(
    wallet: &WalletPolicy,
    payments: &[PaymentRequest],
    approvals: &Approvals,
) -> Result<(), Refused> {
    let reason_of = |withdrawal| {
        let of_payment = approvals.uncounted.iter().filter(|uncounted| uncounted.withdrawal == withdrawal);
        of_payment.map(|uncounted| uncounted.reason).min().unwrap_or(Refusal::LimitPayment)
    };
    let unapproved = payments.iter().zip(&approvals.approved).enumerate().filter(|(_, (_, approved))| !**approved);
    let above = unapproved.filter(|(_, (payment, _))| payment.intent.amount > wallet.automatic.payment);
    let refused = above.map(|(place, (payment, _))| (reason_of(payment.intent.withdrawal), place)).min();
    match refused {
        Some((reason, place)) => Err(Refused::at(reason, place)),
        None => Ok(()),
    }
}

/// The refusal of a destination whose limit is used up, at the first payment that counts to it.
pub fn refuse_destination(script: &Bytes, payments: &[PaymentRequest], approved: &[bool]) -> Refused {
    let counts = |(payment, approved): (&PaymentRequest, &bool)| !approved && payment.intent.script == *script;
    match payments.iter().zip(approved).position(counts) {
        Some(place) => Refused::at(Refusal::LimitDestination, place),
        None => Refused::whole(Refusal::LimitDestination),
    }
}
