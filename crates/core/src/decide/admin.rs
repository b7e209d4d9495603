//! Definitions, policies, halts and time. Never moves a customer's money, except by ending what has expired.

use super::{Draft, refusals};
use crate::amount::{Amount, DECIMALS_MAX};
use crate::asset::{Asset, AssetKind, AssetPolicy, Halt};
use crate::command::{Outcome, REMEMBER_MS, SESSION_KEPT_MS};
use crate::custody::{Block, Chain};
use crate::event::{Event, Forgotten, Nothing, QuoteEnded, SessionForgotten, Ticked, TimeJumped};
use crate::id::{LedgerTime, SessionId};
use crate::state::ClockDoubt;

/// The most depth steps of a policy: enough for every order of magnitude that matters, and few to walk per deposit.
pub const DEPTH_STEPS_MAX: usize = 16;

/// The most confirmations any policy may ask for, in blocks: 10,000 are ten weeks of Bitcoin. As many blocks are kept as a policy asks for.
pub const CONFIRMATIONS_MAX: u32 = 10_000;

/// The longest name of a chain, in bytes: it stands in file names and metrics.
pub const CHAIN_NAME_MAX: usize = 32;

/// A tick that changes nothing is journalled only when the last journalled one is this many milliseconds back: the journal
/// of an idle platform grows by one small row a second at most, and a restart knows the time to that second.
pub const TICK_MS: u64 = 1_000;

/// The most events of custody's own time rules in one tick. The four budgets and the tick itself stay below
/// [`crate::journal::EVENTS_MAX`] together; each has its own so that none starves another.
pub const TICK_CUSTODY_EVENTS: usize = 2_000;
/// The most quotes that one tick ends.
pub const TICK_QUOTE_EVENTS: usize = 1_000;
/// The most remembered commands that one tick forgets.
pub const TICK_FORGET_EVENTS: usize = 1_000;
/// The most bulk sessions that one tick forgets.
pub const TICK_SESSION_EVENTS: usize = 50;

refusals! {
    /// Why a definition, a policy, a halt or a tick is refused.
    pub enum AdminRefusal {
        /// The clock jumped and no operator has confirmed it.
        TimeUnconfirmed => "time_unconfirmed", "the clock jumped; an operator must set it right or confirm it";
        /// The clock is behind the last tick. Ledger time can't go back to it, so there is nothing to confirm.
        TimeBehind => "time_behind", "the clock is behind ledger time; set it right, or wait until it has caught up";
        /// There is no jump to confirm.
        TimeNotJumped => "time_not_jumped", "there is no jump of the clock to confirm";

        /// The asset's id is in use; a definition never changes.
        AssetExists => "asset_exists", "an asset with this id is defined already";
        /// No asset has this id.
        AssetUnknown => "asset_unknown", "there is no such asset";
        /// The code is not 2 to 12 of `A-Z` and `0-9`.
        AssetCodeInvalid => "asset_code_invalid", "an asset's code is 2 to 12 capital letters and digits";
        /// Another asset has the code.
        AssetCodeTaken => "asset_code_taken", "another asset has this code";
        /// More decimals than [`DECIMALS_MAX`].
        AssetDecimalsInvalid => "asset_decimals_invalid", "an asset has at most 36 decimals";
        /// A coin without a chain.
        AssetChainMissing => "asset_chain_missing", "a coin names the chain it lives on";
        /// Something else than a coin, with a chain.
        AssetChainForbidden => "asset_chain_forbidden", "only a coin lives on a chain";
        /// The chain has a coin already.
        AssetChainTaken => "asset_chain_taken", "another asset is this chain's coin";

        /// No depth step at all, or too many.
        DepthCountInvalid => "depth_count_invalid", "a policy has 1 to 16 depth steps";
        /// The first step leaves small deposits without a depth.
        DepthStartInvalid => "depth_start_invalid", "the first depth step starts at zero";
        /// Amounts that do not grow.
        DepthAmountsUnordered => "depth_amounts_unordered", "depth steps grow in amount";
        /// No confirmation at all, or more than [`CONFIRMATIONS_MAX`].
        ConfirmationsInvalid => "confirmations_invalid", "confirmations are 1 to 10,000";
        /// A greater deposit that waits less.
        DepthsFalling => "depths_falling", "a greater deposit never waits for fewer confirmations";
        /// A withdrawal of nothing would be allowed.
        WithdrawalMinZero => "withdrawal_min_zero", "the smallest withdrawal is more than nothing";
        /// A withdrawal could cost more than it moves.
        WithdrawalFeeTooLarge => "withdrawal_fee_too_large", "the fee is at most the smallest withdrawal";
        /// No transaction could ever be paid for.
        NetworkFeeMaxZero => "network_fee_max_zero", "the greatest network fee is more than nothing";
        /// More than a whole coin.
        NetworkFeeMaxTooLarge => "network_fee_max_too_large", "the greatest network fee is at most one whole coin";
        /// A time limit of nothing.
        PolicyTimeZero => "policy_time_zero", "a policy's time limits are more than nothing";

        /// Exactly this halt is in force.
        HaltExists => "halt_exists", "this halt is in force already";
        /// Exactly this halt is not in force.
        HaltUnknown => "halt_unknown", "this halt is not in force";

        /// The chain's id is in use; a definition never changes.
        ChainExists => "chain_exists", "a chain with this id is defined already";
        /// The name is not lower-case letters, digits and hyphens.
        ChainNameInvalid => "chain_name_invalid", "a chain's name is 1 to 32 lower-case letters, digits and hyphens";
        /// Another chain has the name.
        ChainNameTaken => "chain_name_taken", "another chain has this name";
        /// Another chain starts with the same block.
        ChainGenesisTaken => "chain_genesis_taken", "another chain starts with this block";
        /// No asset has the coin's id.
        ChainCoinUnknown => "chain_asset_unknown", "the chain's coin is not defined";
        /// The asset is not a coin, or says that it lives on another chain.
        ChainCoinMismatch => "chain_coin_mismatch", "the chain's coin does not name this chain";
        /// Above [`CONFIRMATIONS_MAX`].
        CoinbaseMaturityInvalid => "coinbase_maturity_invalid", "coinbase maturity is at most 10,000 blocks";
        /// The first block is of another chain, or contradicts the genesis block.
        ChainStartInvalid => "chain_start_invalid", "the first block is not one of this chain";
    }
}

/// Lets time pass: expires quotes, forgets old commands and sessions, and runs custody's time rules, each within its budget; what is left
/// over waits for the next tick. Emits nothing where nothing changed and the last journalled tick is fresh.
///
/// # Errors
/// [`AdminRefusal::TimeUnconfirmed`]. A jump beyond [`crate::command::TIME_JUMP_MAX_MS`] is a decision, not a refusal: it is journalled.
pub(super) fn tick(draft: &mut Draft<'_>) -> Result<Outcome, AdminRefusal> {
    if draft.state.counters.jumped_to.is_some() {
        return Err(AdminRefusal::TimeUnconfirmed);
    }
    let (last, now) = (draft.state.counters.ticked, draft.now);
    if note_jump(draft, now) {
        return Ok(Outcome::Done(true));
    }
    expire_quotes(draft);
    forget_commands(draft);
    forget_sessions(draft);
    super::deposit::tick(draft, TICK_CUSTODY_EVENTS);
    if !draft.events.is_empty() || now.since_ms(last) >= TICK_MS {
        draft.emit(Event::Ticked(Ticked { until: now }));
    }
    Ok(Outcome::Done(true))
}

/// Notes that the clock shows a time that ledger time does not follow, ahead or behind. A clock that it follows says nothing
/// new, except where it was behind and has reached the last tick again: then time goes on, and nobody has to confirm it.
pub(super) fn see_clock(draft: &mut Draft<'_>, clock: LedgerTime) -> Result<Outcome, AdminRefusal> {
    if note_jump(draft, clock) {
        return Ok(Outcome::Done(true));
    }
    match draft.state.clock_noted() {
        None => Ok(Outcome::Done(false)),
        Some(ClockDoubt::Behind)
            if draft.state.clock_doubt(clock).is_none() && clock >= draft.state.counters.ticked =>
        {
            draft.emit(Event::Ticked(Ticked { until: draft.now }));
            Ok(Outcome::Done(true))
        }
        Some(_) => Err(AdminRefusal::TimeUnconfirmed),
    }
}

fn note_jump(draft: &mut Draft<'_>, to: LedgerTime) -> bool {
    let is_new = draft.state.is_clock_news(to);
    if is_new {
        draft.emit(Event::TimeJumped(TimeJumped { from: draft.state.counters.ticked, to }));
    }
    is_new
}

fn expire_quotes(draft: &mut Draft<'_>) {
    let due = draft.state.quote_expiries.range(..=(draft.now, crate::id::QuoteId([0xff; 16])));
    let due: Vec<_> = due.map(|&(_, quote)| quote).take(TICK_QUOTE_EVENTS).collect();
    for quote in due {
        draft.emit(Event::QuoteEnded(QuoteEnded { quote, accepted: false }));
    }
}

/// Smallest ids go first: forgetting one makes all smaller ids unusable, so any other order would refuse new commands of
/// senders whose clocks are right because one sender's clock was ahead.
fn forget_commands(draft: &mut Draft<'_>) {
    let is_old = |at: LedgerTime| draft.now.since_ms(at) >= REMEMBER_MS;
    let old = draft.state.remembered.values().take(TICK_FORGET_EVENTS).take_while(|remembered| is_old(remembered.at));
    let old: Vec<_> = old.map(|remembered| remembered.command).collect();
    for command in old {
        draft.emit(Event::Forgotten(Forgotten { command }));
    }
}

/// A session's id begins with the time that it counts from, so that the oldest come first.
fn forget_sessions(draft: &mut Draft<'_>) {
    let is_old = |session: &SessionId| draft.now.since_ms(LedgerTime(session.unix_ms())) >= SESSION_KEPT_MS;
    let old: Vec<_> = draft.state.sessions.keys().copied().take(TICK_SESSION_EVENTS).take_while(is_old).collect();
    for session in old {
        draft.emit(Event::SessionForgotten(SessionForgotten { session }));
    }
}

/// Accepts the time ahead that the clock shows now, which is the ledger time of this command's row; the next tick counts from here.
pub(super) fn confirm_time(draft: &mut Draft<'_>) -> Result<Outcome, AdminRefusal> {
    match draft.state.clock_noted() {
        Some(ClockDoubt::Ahead) => {}
        Some(ClockDoubt::Behind) => return Err(AdminRefusal::TimeBehind),
        None => return Err(AdminRefusal::TimeNotJumped),
    }
    let until = draft.now;
    draft.emit(Event::TimeConfirmed(Nothing {}));
    draft.emit(Event::Ticked(Ticked { until }));
    Ok(Outcome::Done(true))
}

/// Defines an asset. A coin is defined before its chain and names it; [`define_chain`] checks that the two agree.
pub(super) fn define_asset(draft: &mut Draft<'_>, asset: &Asset) -> Result<Outcome, AdminRefusal> {
    let assets = &draft.state.assets;
    if assets.contains_key(&asset.id) {
        return Err(AdminRefusal::AssetExists);
    }
    let is_code = |code: &str| {
        (2..=12).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    if !is_code(&asset.code) {
        return Err(AdminRefusal::AssetCodeInvalid);
    }
    if assets.values().any(|other| other.code == asset.code) {
        return Err(AdminRefusal::AssetCodeTaken);
    }
    if asset.decimals > DECIMALS_MAX {
        return Err(AdminRefusal::AssetDecimalsInvalid);
    }
    match (asset.kind, asset.chain) {
        (AssetKind::Coin, None) => return Err(AdminRefusal::AssetChainMissing),
        (AssetKind::Fiat | AssetKind::Plain, Some(_)) => return Err(AdminRefusal::AssetChainForbidden),
        (AssetKind::Coin, Some(_)) if assets.values().any(|other| other.chain == asset.chain) => {
            return Err(AdminRefusal::AssetChainTaken);
        }
        (AssetKind::Coin, Some(_)) | (AssetKind::Fiat | AssetKind::Plain, None) => {}
    }
    draft.emit(Event::AssetDefined(asset.clone()));
    Ok(Outcome::Done(true))
}

/// Replaces an asset's policy. No policy can credit a deposit without a confirmation.
pub(super) fn set_asset_policy(draft: &mut Draft<'_>, policy: &AssetPolicy) -> Result<Outcome, AdminRefusal> {
    let asset = draft.state.assets.get(&policy.asset).ok_or(AdminRefusal::AssetUnknown)?;
    check_depths(policy)?;
    if policy.withdrawal_min.is_zero() {
        return Err(AdminRefusal::WithdrawalMinZero);
    }
    if policy.withdrawal_fee > policy.withdrawal_min {
        return Err(AdminRefusal::WithdrawalFeeTooLarge);
    }
    if policy.network_fee_max.is_zero() {
        return Err(AdminRefusal::NetworkFeeMaxZero);
    }
    if policy.network_fee_max > network_fee_bound(asset) {
        return Err(AdminRefusal::NetworkFeeMaxTooLarge);
    }
    if policy.missing_ms == 0 || policy.intent_ms == 0 {
        return Err(AdminRefusal::PolicyTimeZero);
    }
    draft.emit(Event::AssetPolicySet(policy.clone()));
    Ok(Outcome::Done(true))
}

/// The greatest network fee that a policy may allow one transaction: a whole coin. It is what the largest transaction that
/// nodes of Bitcoin relay (100,000 virtual bytes) pays at 1,000 satoshi for each; Bitcoin Core warns of more (its `-maxtxfee`).
/// It stands in every intent that the signer is asked to allow, so that a slip of the keyboard must not make it no limit.
/// Nothing pays a network fee in other assets.
fn network_fee_bound(asset: &Asset) -> Amount {
    match asset.kind {
        AssetKind::Coin => Amount::new(10u128.pow(u32::from(asset.decimals))),
        AssetKind::Fiat | AssetKind::Plain => Amount::MAX,
    }
}

fn check_depths(policy: &AssetPolicy) -> Result<(), AdminRefusal> {
    let depths = &policy.depths;
    if depths.is_empty() || depths.len() > DEPTH_STEPS_MAX {
        return Err(AdminRefusal::DepthCountInvalid);
    }
    if depths[0].amount_from != Amount::ZERO {
        return Err(AdminRefusal::DepthStartInvalid);
    }
    if !depths.is_sorted_by(|lower, upper| lower.amount_from < upper.amount_from) {
        return Err(AdminRefusal::DepthAmountsUnordered);
    }
    let mut confirmations = depths.iter().map(|step| step.confirmations).chain([policy.final_confirmations]);
    if !confirmations.all(|count| (1..=CONFIRMATIONS_MAX).contains(&count)) {
        return Err(AdminRefusal::ConfirmationsInvalid);
    }
    if !depths.is_sorted_by_key(|step| step.confirmations) {
        return Err(AdminRefusal::DepthsFalling);
    }
    Ok(())
}

/// Puts a halt in force. Halts of one action for different reasons stand beside each other; each is resumed by itself, so
/// that ending an operator's halt never ends one that a contradiction set.
pub(super) fn halt(draft: &mut Draft<'_>, halt: &Halt) -> Result<Outcome, AdminRefusal> {
    if halt.asset.is_some_and(|asset| !draft.state.assets.contains_key(&asset)) {
        return Err(AdminRefusal::AssetUnknown);
    }
    if draft.state.halts.contains(halt) {
        return Err(AdminRefusal::HaltExists);
    }
    draft.emit(Event::Halted(halt.clone()));
    Ok(Outcome::Done(true))
}

/// Ends exactly this halt.
pub(super) fn resume(draft: &mut Draft<'_>, halt: &Halt) -> Result<Outcome, AdminRefusal> {
    if !draft.state.halts.contains(halt) {
        return Err(AdminRefusal::HaltUnknown);
    }
    draft.emit(Event::Resumed(halt.clone()));
    Ok(Outcome::Done(true))
}

/// Follows a chain from `start` on. Its coin was defined before, and names it.
pub(super) fn define_chain(draft: &mut Draft<'_>, chain: &Chain, start: &Block) -> Result<Outcome, AdminRefusal> {
    let mut others = draft.state.chains.values().map(|other| &other.chain);
    if draft.state.chains.contains_key(&chain.id) {
        return Err(AdminRefusal::ChainExists);
    }
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if chain.name.is_empty() || chain.name.len() > CHAIN_NAME_MAX || !chain.name.bytes().all(is_plain) {
        return Err(AdminRefusal::ChainNameInvalid);
    }
    if others.clone().any(|other| other.name == chain.name) {
        return Err(AdminRefusal::ChainNameTaken);
    }
    if others.any(|other| other.genesis == chain.genesis) {
        return Err(AdminRefusal::ChainGenesisTaken);
    }
    let coin = draft.state.assets.get(&chain.coin).ok_or(AdminRefusal::ChainCoinUnknown)?;
    if coin.kind != AssetKind::Coin || coin.chain != Some(chain.id) {
        return Err(AdminRefusal::ChainCoinMismatch);
    }
    if chain.coinbase_maturity > CONFIRMATIONS_MAX {
        return Err(AdminRefusal::CoinbaseMaturityInvalid);
    }
    let starts_at_genesis = start.at.height.0 == 0;
    if start.chain != chain.id || starts_at_genesis != (start.at.hash == chain.genesis) {
        return Err(AdminRefusal::ChainStartInvalid);
    }
    draft.emit(Event::ChainDefined(chain.clone()));
    draft.emit(Event::BlockConnected(start.clone()));
    Ok(Outcome::Done(true))
}
