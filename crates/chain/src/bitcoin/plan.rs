//! From coins and payments to an unsigned transaction; it must never reach a key, a clock or a source of randomness.
//!
//! The transaction has version 2, signals replacement (BIP-125) and spends, if asked, one required coin: the anchor that
//! all versions of a plan share, so that any two of them conflict. Selection is the branch and bound of
//! `bitcoin-coin-selection`, which finds a set that needs no change; failing that a random draw, or the largest coins
//! first where the draw would be too large, above a cap, or dearer at a rate above the long-term one. Whatever was selected, the fee is computed anew from the exact weight, rounded up: the
//! remainder of a division goes to the miner.

use crate::bitcoin::keys::{AddressIndex, Branch, ScriptKind};
use crate::bitcoin::scan::MONEY_MAX_SAT;
use crate::bitcoin::weight::{WeightSum, input_weight_max, output_weight};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Weight, Witness};
use bitcoin_coin_selection::{WeightedUtxo, branch_and_bound};
use std::collections::BTreeSet;

/// Most candidates that selection looks at, the most valuable ones: its time grows with them, and a flood of dust must
/// not slow it down.
pub const CANDIDATES_MAX: usize = 2_000;
/// Most inputs of a plan; with the heaviest kind they stay below the standard weight of 400,000.
pub const INPUTS_MAX: usize = 500;
/// Most payments of a plan; with the heaviest scripts they stay below the rest of that weight.
pub const PAYMENTS_MAX: usize = 500;
/// The sequence of every input: replaceable, lock time in force (BIP-125).
pub const SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
/// Lock times from here on are times, not heights (consensus).
const LOCK_TIME_THRESHOLD: u32 = 500_000_000;
/// Parts in a million, the unit of shares.
const MILLION: u64 = 1_000_000;

/// A fee rate in satoshi per thousand virtual bytes, as nodes count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SatPerKvb(pub u64);

impl SatPerKvb {
    /// The fee in satoshi for this many virtual bytes, rounded up; `None` past 2^64.
    pub fn fee_sat(self, virtual_size: u64) -> Option<u64> {
        Some(self.0.checked_mul(virtual_size)?.div_ceil(1_000))
    }
}

/// The caller's number of a wallet; it is carried through and never interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalletRef(pub u64);

/// Where a script of ours stands in its wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPlace {
    /// The wallet.
    pub wallet: WalletRef,
    /// The branch of its account.
    pub branch: Branch,
    /// The index below the branch.
    pub index: AddressIndex,
}

/// Why a coin may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoinStanding {
    /// The coin is final by the asset's policy.
    Final,
    /// Unconfirmed change of our own whose ancestors all are.
    OwnChange,
}

/// A coin that may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The coin.
    pub outpoint: OutPoint,
    /// Its amount in satoshi.
    pub amount_sat: u64,
    /// Its script.
    pub script: ScriptBuf,
    /// What its script is, which decides what spending it weighs.
    pub kind: ScriptKind,
    /// Where its key is.
    pub place: KeyPlace,
    /// Why it may be spent.
    pub standing: CoinStanding,
}

/// A payment to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The recipient's script.
    pub script: ScriptBuf,
    /// What the recipient gets, in satoshi; the fee is not taken from it.
    pub amount_sat: u64,
}

/// Where change goes: the next unused change address of the spending wallet, of the wallet's own script kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeTarget {
    /// The change script.
    pub script: ScriptBuf,
    /// What the script is.
    pub kind: ScriptKind,
    /// Where its key is.
    pub place: KeyPlace,
}

/// The bounds of a plan's fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeLimits {
    /// The lowest rate that is worth sending.
    pub rate_min: SatPerKvb,
    /// The highest rate that is believed.
    pub rate_max: SatPerKvb,
    /// The rate at which spending change later is expected to cost.
    pub rate_long_term: SatPerKvb,
    /// The highest fee in satoshi.
    pub fee_sat_max: u64,
    /// The highest fee as a share of what is paid, in parts per million, rounded down.
    pub fee_share_ppm_max: u64,
}

/// What a plan is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// The coins that may be spent.
    pub coins: &'a [Coin],
    /// The payments to make, in the order of their outputs.
    pub payments: &'a [Payment],
    /// Where change goes.
    pub change: &'a ChangeTarget,
    /// The coin that the plan must spend, for a further version of a plan.
    pub anchor: Option<OutPoint>,
    /// The fee rate to pay.
    pub fee_rate: SatPerKvb,
    /// The least fee in satoshi, for a replacement that must pay for what it evicts; else 0.
    pub fee_sat_min: u64,
    /// The bounds of the fee.
    pub limits: FeeLimits,
    /// The block height before which the transaction is not mined (anti fee sniping), 0 for none.
    pub lock_time: u32,
    /// Fresh randomness: it draws coins, their order and the place of the change.
    pub draw: [u8; 32],
}

/// Why there is no plan, most precise reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefusal {
    /// There is nothing to pay.
    #[error("there is nothing to pay")]
    NoPayments,
    /// There are more than [`PAYMENTS_MAX`] payments.
    #[error("{count} payments are too many for one transaction")]
    TooManyPayments {
        /// Payments that were asked for.
        count: usize,
    },
    /// The lock time is a time, not a height.
    #[error("the lock time must be a block height")]
    LockTimeInvalid,
    /// A payment's script is of no kind that has an address.
    #[error("payment {index} has a script without an address")]
    ScriptNotPayable {
        /// Position of the payment.
        index: usize,
    },
    /// A payment is below what nodes relay for its script.
    #[error("payment {index} is below the {dust_sat} sat that nodes relay")]
    AmountBelowDust {
        /// Position of the payment.
        index: usize,
        /// The least amount for its script, in satoshi.
        dust_sat: u64,
    },
    /// An amount or a sum of amounts is above all coins that can exist.
    #[error("an amount is above all coins that can exist")]
    AmountOutOfRange,
    /// The rate is below the floor.
    #[error("the fee rate is below the floor")]
    FeeRateBelowFloor,
    /// The rate is above the cap.
    #[error("the fee rate is above the cap")]
    FeeRateAboveCap,
    /// A coin is named twice.
    #[error("a coin is named twice")]
    CoinDuplicate,
    /// The required coin is not among the coins.
    #[error("the anchor is not among the coins")]
    AnchorMissing,
    /// All coins that are worth spending do not reach.
    #[error("{available_sat} sat are worth spending, {required_sat} sat are needed")]
    InsufficientFunds {
        /// What payments and fee need, in satoshi.
        required_sat: u64,
        /// What the coins bring, in satoshi; those that cost more than they bring are not counted.
        available_sat: u64,
    },
    /// The funds are there, but in more than [`INPUTS_MAX`] coins.
    #[error("the funds are in too many coins for one transaction")]
    TooManyInputs,
    /// The fee is above the absolute cap.
    #[error("the fee of {fee_sat} sat is above the cap")]
    FeeAboveCap {
        /// The fee that would be paid, in satoshi.
        fee_sat: u64,
    },
    /// The fee is above the cap as a share of what is paid.
    #[error("the fee of {fee_sat} sat is too large a share of what is paid")]
    FeeShareAboveCap {
        /// The fee that would be paid, in satoshi.
        fee_sat: u64,
    },
}

impl PlanRefusal {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            PlanRefusal::NoPayments => "no_payments",
            PlanRefusal::TooManyPayments { .. } => "too_many_payments",
            PlanRefusal::LockTimeInvalid => "lock_time_invalid",
            PlanRefusal::ScriptNotPayable { .. } => "script_not_payable",
            PlanRefusal::AmountBelowDust { .. } => "amount_below_dust",
            PlanRefusal::AmountOutOfRange => "amount_out_of_range",
            PlanRefusal::FeeRateBelowFloor => "fee_rate_below_floor",
            PlanRefusal::FeeRateAboveCap => "fee_rate_above_cap",
            PlanRefusal::CoinDuplicate => "coin_duplicate",
            PlanRefusal::AnchorMissing => "anchor_missing",
            PlanRefusal::InsufficientFunds { .. } => "insufficient_funds",
            PlanRefusal::TooManyInputs => "too_many_inputs",
            PlanRefusal::FeeAboveCap { .. } => "fee_above_cap",
            PlanRefusal::FeeShareAboveCap { .. } => "fee_share_above_cap",
        }
    }
}

/// An input of a plan, in the order of the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanInput {
    /// The coin that is spent.
    pub outpoint: OutPoint,
    /// Its amount in satoshi.
    pub amount_sat: u64,
    /// Its script.
    pub script: ScriptBuf,
    /// What its script is.
    pub kind: ScriptKind,
    /// Where its key is.
    pub place: KeyPlace,
}

/// What an output of a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputRole {
    /// The payment at this position of the request.
    Payment(usize),
    /// Change to ourselves.
    Change(KeyPlace),
}

/// An output of a plan, in the order of the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanOutput {
    /// Its script.
    pub script: ScriptBuf,
    /// Its amount in satoshi.
    pub amount_sat: u64,
    /// What it is for.
    pub role: OutputRole,
}

/// An unsigned transaction and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The inputs. Their amounts are those of the outputs and the fee, exactly.
    pub inputs: Vec<PlanInput>,
    /// The outputs.
    pub outputs: Vec<PlanOutput>,
    /// The fee in satoshi.
    pub fee_sat: u64,
    /// The largest weight that the signed transaction can have.
    pub weight_max: u64,
    /// The coin that every further version of this plan must spend, too.
    pub anchor: OutPoint,
    /// The lock time.
    pub lock_time: u32,
}

impl Plan {
    /// The transaction without signatures.
    pub fn transaction(&self) -> Transaction {
        let input = |input: &PlanInput| TxIn {
            previous_output: input.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: SEQUENCE,
            witness: Witness::new(),
        };
        let output = |output: &PlanOutput| TxOut {
            value: Amount::from_sat(output.amount_sat),
            script_pubkey: output.script.clone(),
        };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(self.lock_time),
            input: self.inputs.iter().map(input).collect(),
            output: self.outputs.iter().map(output).collect(),
        }
    }

    /// The bytes of the transaction without signatures.
    pub fn unsigned_bytes(&self) -> Vec<u8> {
        serialize(&self.transaction())
    }
}

/// Makes a plan.
///
/// # Errors
/// The variants of [`PlanRefusal`], in their order.
pub fn make_plan(request: &PlanRequest<'_>) -> Result<Plan, PlanRefusal> {
    let paid_sat = check_request(request)?;
    let task = Task::new(request, paid_sat)?;
    let mut draw = Draw::new(request.draw);
    let mut refusal = None;
    for chosen in task.select(&mut draw)? {
        let plan = task.finish(chosen, &mut draw)?;
        match check_fee(request, paid_sat, plan.fee_sat) {
            Ok(()) => return Ok(plan),
            Err(too_dear) => refusal = Some(too_dear),
        }
    }
    Err(refusal.expect("a selection is made or refused"))
}

/// The least that nodes relay to a script, in satoshi: what the output and its spending cost at 3,000 satoshi for 1,000 virtual
/// bytes (Bitcoin Core's `GetDustThreshold` at its usual rate).
pub fn dust_sat(script: &bitcoin::Script) -> u64 {
    script.minimal_non_dust().to_sat()
}

/// Checks what needs no selection, and returns the sum of the payments.
fn check_request(request: &PlanRequest<'_>) -> Result<u64, PlanRefusal> {
    if request.payments.is_empty() {
        return Err(PlanRefusal::NoPayments);
    }
    if request.payments.len() > PAYMENTS_MAX {
        return Err(PlanRefusal::TooManyPayments { count: request.payments.len() });
    }
    if request.lock_time >= LOCK_TIME_THRESHOLD {
        return Err(PlanRefusal::LockTimeInvalid);
    }
    let payable = |script: &ScriptBuf| script.is_p2pkh() || script.is_p2sh() || script.is_witness_program();
    if let Some(index) = request.payments.iter().position(|payment| !payable(&payment.script)) {
        return Err(PlanRefusal::ScriptNotPayable { index });
    }
    for (index, payment) in request.payments.iter().enumerate() {
        let dust_sat = dust_sat(&payment.script);
        if payment.amount_sat < dust_sat {
            return Err(PlanRefusal::AmountBelowDust { index, dust_sat });
        }
    }
    let paid_sat = sum(request.payments.iter().map(|payment| payment.amount_sat))?;
    sum(request.coins.iter().map(|coin| coin.amount_sat))?;
    if request.fee_rate < request.limits.rate_min {
        return Err(PlanRefusal::FeeRateBelowFloor);
    }
    if request.fee_rate > request.limits.rate_max {
        return Err(PlanRefusal::FeeRateAboveCap);
    }
    let mut seen = BTreeSet::new();
    if !request.coins.iter().all(|coin| seen.insert(coin.outpoint)) {
        return Err(PlanRefusal::CoinDuplicate);
    }
    Ok(paid_sat)
}

fn check_fee(request: &PlanRequest<'_>, paid_sat: u64, fee_sat: u64) -> Result<(), PlanRefusal> {
    if fee_sat > request.limits.fee_sat_max {
        return Err(PlanRefusal::FeeAboveCap { fee_sat });
    }
    if fee_sat > share_sat(paid_sat, request.limits.fee_share_ppm_max) {
        return Err(PlanRefusal::FeeShareAboveCap { fee_sat });
    }
    Ok(())
}

/// A share of an amount in parts per million, rounded down.
pub(crate) fn share_sat(amount_sat: u64, ppm: u64) -> u64 {
    let share = u128::from(amount_sat) * u128::from(ppm) / u128::from(MILLION);
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn sum(amounts: impl Iterator<Item = u64>) -> Result<u64, PlanRefusal> {
    let mut total = 0u64;
    for amount in amounts {
        total = total.checked_add(amount).ok_or(PlanRefusal::AmountOutOfRange)?;
        if total > MONEY_MAX_SAT {
            return Err(PlanRefusal::AmountOutOfRange);
        }
    }
    Ok(total)
}

/// A coin that is worth spending, in the terms of the selection library.
struct Candidate<'a> {
    coin: &'a Coin,
    /// What it brings after the fee for spending it, in satoshi.
    effective_sat: u64,
}

impl WeightedUtxo for Candidate<'_> {
    fn satisfaction_weight(&self) -> Weight {
        // The library adds the outpoint and sequence itself.
        Weight::from_wu(input_weight_max(self.coin.kind) - 4 * 40)
    }

    fn value(&self) -> Amount {
        Amount::from_sat(self.coin.amount_sat)
    }
}

/// A request with everything that selection needs.
struct Task<'a> {
    request: &'a PlanRequest<'a>,
    paid_sat: u64,
    anchor: Option<&'a Coin>,
    /// The most valuable first.
    candidates: Vec<Candidate<'a>>,
    /// What the coins past [`CANDIDATES_MAX`] would bring, in satoshi.
    left_out_sat: u64,
    /// Weight without inputs and change.
    base: WeightSum,
}

impl<'a> Task<'a> {
    fn new(request: &'a PlanRequest<'a>, paid_sat: u64) -> Result<Task<'a>, PlanRefusal> {
        let find = |outpoint| request.coins.iter().find(|coin| coin.outpoint == outpoint);
        let anchor = match request.anchor {
            Some(outpoint) => Some(find(outpoint).ok_or(PlanRefusal::AnchorMissing)?),
            None => None,
        };
        let mut base = WeightSum::new();
        for payment in request.payments {
            base.add_output(&payment.script);
        }
        let effective = |coin: &'a Coin| {
            let fee_sat = request.fee_rate.fee_sat(input_weight_max(coin.kind).div_ceil(4))?;
            let effective_sat = coin.amount_sat.checked_sub(fee_sat).filter(|effective| *effective > 0)?;
            Some(Candidate { coin, effective_sat })
        };
        let others = request.coins.iter().filter(|coin| Some(coin.outpoint) != request.anchor);
        let mut candidates: Vec<Candidate<'a>> = others.filter_map(effective).collect();
        // Ties are broken by the outpoint, so that the order of the coins does not matter.
        candidates.sort_by_key(|candidate| (std::cmp::Reverse(candidate.effective_sat), candidate.coin.outpoint));
        let left_out_sat = candidates.iter().skip(CANDIDATES_MAX).map(|candidate| candidate.effective_sat).sum();
        candidates.truncate(CANDIDATES_MAX);
        Ok(Task { request, paid_sat, anchor, candidates, left_out_sat, base })
    }

    fn weight(&self, coins: &[&Coin], with_change: bool) -> WeightSum {
        let mut weight = self.base;
        for coin in coins {
            weight.add_input(coin.kind);
        }
        if with_change {
            weight.add_output(&self.request.change.script);
        }
        weight
    }

    /// The fee for a weight, in satoshi, rounded up, and at least the least fee.
    fn fee_sat(&self, weight: &WeightSum) -> Result<u64, PlanRefusal> {
        let fee_sat = self.request.fee_rate.fee_sat(weight.virtual_size()).ok_or(PlanRefusal::AmountOutOfRange)?;
        Ok(fee_sat.max(self.request.fee_sat_min))
    }

    /// What coins must bring to pay everything without change.
    fn required_sat(&self, coins: &[&Coin]) -> Result<u64, PlanRefusal> {
        let fee_sat = self.fee_sat(&self.weight(coins, false))?;
        self.paid_sat.checked_add(fee_sat).ok_or(PlanRefusal::AmountOutOfRange)
    }

    fn reaches(&self, coins: &[&Coin]) -> Result<bool, PlanRefusal> {
        Ok(coins.iter().map(|coin| coin.amount_sat).sum::<u64>() >= self.required_sat(coins)?)
    }

    /// The selections to try, the preferred one first; there is at least one.
    fn select(&self, draw: &mut Draw) -> Result<Vec<Vec<&'a Coin>>, PlanRefusal> {
        let start: Vec<&Coin> = self.anchor.into_iter().collect();
        if !start.is_empty() && self.reaches(&start)? {
            return Ok(vec![start]);
        }
        let mut all = start.clone();
        all.extend(self.candidates.iter().map(|candidate| candidate.coin));
        if all.is_empty() || !self.reaches(&all)? {
            let available_sat: u64 = all.iter().map(|coin| coin.amount_sat).sum();
            let required_sat = self.required_sat(&all)?;
            if available_sat + self.left_out_sat >= required_sat {
                return Err(PlanRefusal::TooManyInputs);
            }
            return Err(PlanRefusal::InsufficientFunds { required_sat, available_sat });
        }
        let largest_first = self.fill(&start, &all[start.len()..])?.ok_or(PlanRefusal::TooManyInputs)?;
        if let Some(exact) = self.exact(&start)? {
            return Ok(vec![exact, largest_first]);
        }
        let mut order: Vec<&Coin> = all[start.len()..].to_vec();
        draw.shuffle(&mut order);
        let drawn = self.fill(&start, &order)?;
        // Spending more coins now than needed pays only while the rate is below the long-term one.
        let dear = self.request.fee_rate > self.request.limits.rate_long_term;
        let weight = |coins: &[&Coin]| self.weight(coins, false).weight();
        Ok(match drawn {
            Some(drawn) if !dear || weight(&drawn) <= weight(&largest_first) => vec![drawn, largest_first],
            Some(_) | None => vec![largest_first],
        })
    }

    /// Branch and bound: coins that leave so little that change would cost more.
    fn exact(&self, start: &[&'a Coin]) -> Result<Option<Vec<&'a Coin>>, PlanRefusal> {
        let have_sat: u64 = start.iter().map(|coin| coin.amount_sat).sum();
        let target_sat = self.required_sat(start)?.saturating_sub(have_sat);
        let change = self.request.change;
        let later = self.request.limits.rate_long_term.fee_sat(input_weight_max(change.kind).div_ceil(4));
        let now = self.request.fee_rate.fee_sat(output_weight(&change.script).div_ceil(4));
        let cost_sat = later.unwrap_or(u64::MAX).saturating_add(now.unwrap_or(u64::MAX)).min(MONEY_MAX_SAT);
        let found = branch_and_bound(
            Amount::from_sat(target_sat),
            Amount::from_sat(cost_sat),
            per_kwu(self.request.fee_rate),
            per_kwu(self.request.limits.rate_long_term),
            &self.candidates,
        );
        let Some((_, found)) = found else { return Ok(None) };
        let mut coins = start.to_vec();
        coins.extend(found.into_iter().map(|candidate| candidate.coin));
        // The library rounds per coin; only the exact weight decides.
        Ok((coins.len() <= INPUTS_MAX && self.reaches(&coins)?).then_some(coins))
    }

    /// Takes coins in this order until they reach; `None` when that needs too many.
    fn fill(&self, start: &[&'a Coin], order: &[&'a Coin]) -> Result<Option<Vec<&'a Coin>>, PlanRefusal> {
        let mut coins = start.to_vec();
        let mut weight = self.weight(&coins, false);
        let mut have_sat: u64 = coins.iter().map(|coin| coin.amount_sat).sum();
        for coin in order.iter().take(INPUTS_MAX - start.len()) {
            coins.push(coin);
            weight.add_input(coin.kind);
            have_sat += coin.amount_sat;
            let required_sat =
                self.paid_sat.checked_add(self.fee_sat(&weight)?).ok_or(PlanRefusal::AmountOutOfRange)?;
            if have_sat >= required_sat {
                return Ok(Some(coins));
            }
        }
        Ok(None)
    }

    /// Decides about change and puts everything in its order.
    fn finish(&self, mut coins: Vec<&'a Coin>, draw: &mut Draw) -> Result<Plan, PlanRefusal> {
        let have_sat: u64 = coins.iter().map(|coin| coin.amount_sat).sum();
        let mut outputs: Vec<PlanOutput> = self.request.payments.iter().enumerate().map(payment_output).collect();
        let with_change = self.weight(&coins, true);
        let rest_sat = have_sat - self.paid_sat;
        let change_sat = rest_sat.checked_sub(self.fee_sat(&with_change)?).filter(|amount| self.is_worth(*amount));
        let (fee_sat, weight) = match change_sat {
            Some(amount_sat) => {
                let change = self.request.change;
                let role = OutputRole::Change(change.place);
                let place = draw.below(outputs.len() as u64 + 1) as usize;
                outputs.insert(place, PlanOutput { script: change.script.clone(), amount_sat, role });
                (rest_sat - amount_sat, with_change)
            }
            None => (rest_sat, self.weight(&coins, false)),
        };
        let anchor = self.anchor.unwrap_or_else(|| pick_anchor(&coins)).outpoint;
        draw.shuffle(&mut coins);
        let inputs = coins.into_iter().map(plan_input).collect();
        let (weight_max, lock_time) = (weight.weight(), self.request.lock_time);
        Ok(Plan { inputs, outputs, fee_sat, weight_max, anchor, lock_time })
    }

    /// Whether change of this amount is relayed and brings more than spending it later costs.
    fn is_worth(&self, amount_sat: u64) -> bool {
        let change = self.request.change;
        let later = self.request.limits.rate_long_term.fee_sat(input_weight_max(change.kind).div_ceil(4));
        amount_sat >= dust_sat(&change.script) && later.is_some_and(|cost| amount_sat > cost)
    }
}

/// The first coin that is final: change may vanish with its parent, and the anchor must not.
fn pick_anchor<'a>(coins: &[&'a Coin]) -> &'a Coin {
    let is_final = |coin: &&&Coin| coin.standing == CoinStanding::Final;
    coins.iter().find(is_final).or(coins.first()).expect("a selection has a coin")
}

fn payment_output((index, payment): (usize, &Payment)) -> PlanOutput {
    let role = OutputRole::Payment(index);
    PlanOutput { script: payment.script.clone(), amount_sat: payment.amount_sat, role }
}

fn plan_input(coin: &Coin) -> PlanInput {
    PlanInput {
        outpoint: coin.outpoint,
        amount_sat: coin.amount_sat,
        script: coin.script.clone(),
        kind: coin.kind,
        place: coin.place,
    }
}

/// The rate per thousand weight units, rounded up.
fn per_kwu(rate: SatPerKvb) -> FeeRate {
    FeeRate::from_sat_per_kwu(rate.0.div_ceil(4))
}

/// Numbers drawn from the caller's randomness: SHA-256 of it and a counter.
struct Draw {
    seed: [u8; 32],
    counter: u64,
}

impl Draw {
    fn new(seed: [u8; 32]) -> Draw {
        Draw { seed, counter: 0 }
    }

    fn next(&mut self) -> u64 {
        let mut engine = sha256::Hash::engine();
        engine.input(b"florin/plan-draw");
        engine.input(&self.seed);
        engine.input(&self.counter.to_be_bytes());
        self.counter += 1;
        let [first, ..] = *sha256::Hash::from_engine(engine).as_byte_array().as_chunks::<8>().0 else {
            unreachable!("a digest has 32 bytes")
        };
        u64::from_be_bytes(first)
    }

    /// An even draw below `limit`, which must not be 0. What would favour small numbers is drawn again.
    fn below(&mut self, limit: u64) -> u64 {
        let even = u64::MAX - u64::MAX % limit;
        loop {
            let number = self.next();
            if number < even {
                return number % limit;
            }
        }
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let place = self.below(last as u64 + 1) as usize;
            items.swap(place, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_repeatable_and_even() {
        let (mut one, mut same, mut other) = (Draw::new([1; 32]), Draw::new([1; 32]), Draw::new([2; 32]));
        let first: Vec<u64> = (0..100).map(|_| one.below(10)).collect();
        assert_eq!(first, (0..100).map(|_| same.below(10)).collect::<Vec<u64>>());
        assert_ne!(first, (0..100).map(|_| other.below(10)).collect::<Vec<u64>>());
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            counts[one.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn fees_round_up_and_shares_down() {
        assert_eq!(SatPerKvb(1_001).fee_sat(1), Some(2));
        assert_eq!(SatPerKvb(1_000).fee_sat(141), Some(141));
        assert_eq!(SatPerKvb(u64::MAX).fee_sat(2), None);
        assert_eq!(share_sat(999, 1_000), 0);
        assert_eq!(share_sat(1_000, 1_000), 1);
        assert_eq!(share_sat(u64::MAX, u64::MAX), u64::MAX);
    }
}
