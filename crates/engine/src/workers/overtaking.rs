//! The rule by which a withdrawal that waits for coins is not overtaken for ever. It looks at the journal's records and its time
//! alone, so that a restart changes nothing; it chooses no coins, and it never decides what is paid.
//!
//! Withdrawals are planned oldest first, and those that can't be paid now are passed over: one payment that is larger than
//! what is free must not stop a hundred small ones. But each of those takes coins and gives them back later as change, and
//! where enough of them come, the coins for the large one are never free at once. So from some age on it comes first:
//! nothing younger is planned from its wallet until it is paid. That holds only where waiting helps, which is while coins
//! are on their way that reach together with those there are. What they would not reach either stops nobody, and
//! neither does what the signer refused before, or what is refused now for another reason than a lack of coins.

use florin_chain::bitcoin::keys::ScriptKind;
use florin_chain::bitcoin::plan::SatPerKvb;
use florin_chain::bitcoin::weight::input_weight_max;
use florin_core::amount::Amount;
use florin_core::asset::AssetPolicy;
use florin_core::custody::{Beneficiary, Coin, Plan, PlanStatus, Withdrawal};
use florin_core::id::{LedgerTime, WalletId};
use florin_core::state::{ChainState, State};

/// Until which part of its time between request and expiry a withdrawal is overtaken: the 24th, an hour where it has a day.
/// Most large ones are paid by themselves until then, and the small ones do not wait for them.
pub const PATIENCE_PARTS: u64 = 24;

/// Until which part of the time of the youngest withdrawal that a transaction pays its change is waited for: the half.
/// A transaction that stays outside of blocks for that long may stay there, and must not hold a wallet up.
pub const CHANGE_PARTS: u64 = 2;

/// How many withdrawals are asked whether they are short of coins. So many stand in front only where as many differ from what
/// the coins reach by less than a fee: then nobody is waited for in this round.
const ASKED_MAX: usize = 16;

/// A withdrawal that waits for a plan, as far as its turn is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// When it was requested.
    pub requested: LedgerTime,
    /// Until when it may be signed.
    pub expiry: LedgerTime,
    /// Its amount and the greatest fee that a plan may pay for it.
    pub need: Amount,
    /// Whether the signer refused it before: coins alone don't help it.
    pub is_doubted: bool,
}

/// What one plan of a wallet can spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// With the coins that may be spent now.
    pub now: Amount,
    /// With those that are on their way as well.
    pub later: Amount,
}

impl Reach {
    /// Counts the largest coins that fit into one plan, without those that cost more than they bring.
    pub fn of(
        spendable: &[(u64, ScriptKind)],
        coming: &[(u64, ScriptKind)],
        rate: SatPerKvb,
        inputs_max: usize,
    ) -> Reach {
        let is_worth = |(amount_sat, kind): &&(u64, ScriptKind)| {
            rate.fee_sat(input_weight_max(*kind).div_ceil(4)).is_some_and(|cost_sat| *amount_sat > cost_sat)
        };
        let sum = |coins: &[&[(u64, ScriptKind)]]| {
            let mut amounts: Vec<u64> = coins.concat().iter().filter(is_worth).map(|coin| coin.0).collect();
            amounts.sort_unstable_by(|one, other| other.cmp(one));
            amounts.into_iter().take(inputs_max).map(|amount| Amount::new(u128::from(amount))).sum()
        };
        Reach { now: sum(&[spendable]), later: sum(&[spendable, coming]) }
    }
}

/// The first of a queue, oldest in front, that nobody younger may be planned before; `None` where all may go as they can.
/// `is_short` says of a place whether the coins that may be spent now are too few for it, and there is no other reason.
pub fn not_to_be_overtaken(
    queue: &[Waiting],
    reach: Reach,
    now: LedgerTime,
    is_short: impl FnMut(&usize) -> bool,
) -> Option<usize> {
    let waits_for_coins = |waiting: &Waiting| {
        let is_old = has_passed(waiting.requested, waiting.expiry, PATIENCE_PARTS, now);
        is_old && !waiting.is_doubted && reach.now < waiting.need && waiting.need <= reach.later
    };
    let places = queue.iter().enumerate().filter(|(_, waiting)| waits_for_coins(waiting)).map(|(place, _)| place);
    places.take(ASKED_MAX).find(is_short)
}

/// Whether this part of the time between a request and its expiry is over.
fn has_passed(requested: LedgerTime, expiry: LedgerTime, parts: u64, now: LedgerTime) -> bool {
    now.since_ms(requested) >= expiry.since_ms(requested) / parts
}

/// Whether a plan of a wallet may spend a coin now.
pub fn is_spendable(chain: &ChainState, policy: &AssetPolicy, wallet: WalletId, coin: &Coin) -> bool {
    is_free(wallet, coin) && is_deep(chain, policy, coin) && is_mature(chain, coin)
}

/// Whether it may once some more blocks have come. Mined coins that mature later are not meant: that takes most of a day.
pub fn is_coming(chain: &ChainState, policy: &AssetPolicy, wallet: WalletId, coin: &Coin) -> bool {
    is_free(wallet, coin) && !is_deep(chain, policy, coin) && is_mature(chain, coin)
}

fn is_free(wallet: WalletId, coin: &Coin) -> bool {
    coin.path.wallet == wallet && coin.reserved.is_none() && coin.spent.is_none()
}

fn is_deep(chain: &ChainState, policy: &AssetPolicy, coin: &Coin) -> bool {
    let is_change = coin.beneficiary == Beneficiary::CHANGE && !coin.suspense;
    chain.confirmations(coin.at.height) >= if is_change { 1 } else { policy.final_confirmations }
}

fn is_mature(chain: &ChainState, coin: &Coin) -> bool {
    !coin.coinbase || chain.confirmations(coin.at.height) >= chain.chain.coinbase_maturity
}

/// The change that signed plans of a wallet bring once they are in a block, without what may never come.
pub fn change_to_come(state: &State, wallet: WalletId) -> impl Iterator<Item = Amount> {
    let now = state.counters().time;
    let plans = state.plans().values().filter(move |plan| plan.wallet == wallet && plan.status == PlanStatus::Signed);
    plans.filter(move |plan| is_expected(state, plan, now)).filter_map(|plan| {
        let version = plan.versions.iter().rev().find(|version| version.signed.is_some())?;
        version.change.as_ref().map(|change| change.amount)
    })
}

/// Whether a plan's transaction can still confirm by itself, and was not waited for too long. When it was signed is not
/// recorded, but that was after the request of everything that it pays.
fn is_expected(state: &State, plan: &Plan, now: LedgerTime) -> bool {
    let is_there = |input| state.coins().get(input).is_some_and(|coin| coin.spent.is_none());
    let is_young =
        |withdrawal: &Withdrawal| !has_passed(withdrawal.requested, withdrawal.intent.expiry, CHANGE_PARTS, now);
    let mut paid = plan.versions[0].payments.iter().filter_map(|payment| state.withdrawals().get(&payment.withdrawal));
    plan.inputs.iter().all(is_there) && paid.any(is_young)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day, as the time in which an intent may be signed.
    const DAY_MS: u64 = 24 * 3_600_000;

    const HOUR_MS: u64 = 3_600_000;

    /// When the tests look at their queues.
    const NOW: LedgerTime = LedgerTime(1_700_000_000_000);

    fn aged(age_ms: u64, need: u128) -> Waiting {
        let requested = LedgerTime(NOW.0 - age_ms);
        Waiting { requested, expiry: requested.plus_ms(DAY_MS), need: Amount::new(need), is_doubted: false }
    }

    fn old(need: u128) -> Waiting {
        aged(2 * HOUR_MS, need)
    }

    fn doubted(need: u128) -> Waiting {
        Waiting { is_doubted: true, ..old(need) }
    }

    fn young(need: u128) -> Waiting {
        aged(HOUR_MS / 2, need)
    }

    /// With 100 that may be spent now, and 200 once everything has come.
    const REACH: Reach = Reach { now: Amount::new(100), later: Amount::new(200) };

    #[test]
    fn who_is_not_to_be_overtaken() {
        let at_once = Waiting { expiry: NOW, requested: NOW, need: Amount::new(150), is_doubted: false };
        let cases: Vec<(&str, Vec<Waiting>, Option<usize>)> = vec![
            ("nobody waits", vec![], None),
            ("all can be paid now", vec![old(60), old(100), young(10)], None),
            ("an old one waits for coins that come", vec![old(150), young(10)], Some(0)),
            ("a young one may be overtaken", vec![young(150), young(10)], None),
            ("a moment before its patience ends", vec![aged(HOUR_MS - 1, 150), young(10)], None),
            ("the moment when it ends", vec![aged(HOUR_MS, 150), young(10)], Some(0)),
            ("until the last moment of its intent", vec![aged(DAY_MS - 1, 150), young(10)], Some(0)),
            ("it needs one more than there is", vec![old(101)], Some(0)),
            ("it needs all that will be there", vec![old(200)], Some(0)),
            ("what comes does not reach by one", vec![old(201), young(10)], None),
            ("a giant stops neither small ones", vec![old(1_000_000), old(10), young(10)], None),
            ("nor the next one that coins will reach", vec![old(1_000_000), old(150), young(10)], Some(1)),
            ("older ones that can be paid go before", vec![old(90), old(150), young(10)], Some(1)),
            ("of two that wait, the older", vec![old(150), old(140), young(10)], Some(0)),
            ("the signer refused it before", vec![doubted(150), young(10)], None),
            ("and the next one waits for coins", vec![doubted(150), old(140), young(10)], Some(1)),
            ("a doubted one behind may be held up", vec![old(150), doubted(10)], Some(0)),
            ("it never had time", vec![at_once], Some(0)),
        ];
        for (name, queue, expected) in cases {
            assert_eq!(not_to_be_overtaken(&queue, REACH, NOW, |_| true), expected, "{name}");
        }
    }

    #[test]
    fn what_is_refused_for_another_reason_than_coins_stops_nobody() {
        let queue = [old(150), old(160), young(10)];
        for (short, expected) in [(vec![0, 1], Some(0)), (vec![1], Some(1)), (vec![], None)] {
            assert_eq!(not_to_be_overtaken(&queue, REACH, NOW, |place| short.contains(place)), expected, "{short:?}");
        }
    }

    #[test]
    fn only_those_that_the_rest_of_the_rule_names_are_asked_and_never_many() {
        let mut asked = Vec::new();
        let queue = [old(10), young(150), old(1_000), doubted(150), old(150), young(10)];
        let found = not_to_be_overtaken(&queue, REACH, NOW, |place| {
            asked.push(*place);
            true
        });
        assert_eq!((found, asked), (Some(4), vec![4]));
        let (many, mut count) = (vec![old(150); 1_000], 0);
        let found = not_to_be_overtaken(&many, REACH, NOW, |_| {
            count += 1;
            false
        });
        assert_eq!((found, count), (None, ASKED_MAX));
    }

    #[test]
    fn a_ledger_time_before_the_request_makes_nobody_old() {
        let queue = [Waiting { requested: NOW.plus_ms(HOUR_MS), expiry: NOW.plus_ms(DAY_MS), ..old(150) }];
        assert_eq!(not_to_be_overtaken(&queue, REACH, NOW, |_| true), None);
    }

    #[test]
    fn reach_counts_the_largest_coins_that_fit_and_no_dust() {
        let rate = SatPerKvb(1_000);
        let reach = |spendable: &[u64], coming: &[u64], inputs_max| {
            let of_kind = |coins: &[u64]| coins.iter().map(|sat| (*sat, ScriptKind::Wpkh)).collect::<Vec<_>>();
            let Reach { now, later } = Reach::of(&of_kind(spendable), &of_kind(coming), rate, inputs_max);
            (now.units(), later.units())
        };
        // Spending an input of this kind weighs 272 at most: 68 sat at 1 sat/vB.
        let cases = [
            ("nothing", reach(&[], &[], 250), (0, 0)),
            ("all fit", reach(&[1_000, 2_000], &[4_000], 250), (3_000, 7_000)),
            ("only one fits", reach(&[1_000, 2_000], &[4_000], 1), (2_000, 4_000)),
            ("the largest fit", reach(&[1_000, 5_000, 2_000], &[4_000, 3_000], 2), (7_000, 9_000)),
            ("dust brings nothing", reach(&[68; 200], &[68; 200], 250), (0, 0)),
            ("what is just worth it counts", reach(&[69], &[69], 250), (69, 138)),
        ];
        for (name, found, expected) in cases {
            assert_eq!(found, expected, "{name}");
        }
    }
}
