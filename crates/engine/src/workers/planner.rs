//! Turns queued withdrawals into plans: which coins, which outputs, which fee. It proposes; the core judges, and the signer
//! judges again by itself.

use super::doubts::{Company, Doubts};
use super::overtaking::{Reach, Waiting, change_to_come, is_coming, is_spendable, not_to_be_overtaken};
use super::rates::Rates;
use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::follower::nodes::Seat;
use crate::lanes::Ask;
use crate::scripts::{Scripts, descriptor_of, network_of};
use crate::terms::{core_outpoint, library_outpoint};
use florin_chain::bitcoin::keys::{self, AddressIndex, ScriptKind};
use florin_chain::bitcoin::network::Network;
use florin_chain::bitcoin::plan::{
    ChangeTarget, Coin, CoinStanding, FeeLimits, KeyPlace, OutputRole, Payment, Plan, PlanRefusal, PlanRequest,
    SatPerKvb, WalletRef, make_plan,
};
use florin_core::amount::Amount;
use florin_core::asset::{AssetPolicy, HaltAction, HaltReason};
use florin_core::command::{Command, PLAN_INPUTS_MAX, PLAN_PAYMENTS_MAX, ProposePlan};
use florin_core::custody::{
    Branch, KeyPath, OutPoint, PlanChange, PlanPayment, PlanStatus, PlanVersion, Wallet, Withdrawal, WithdrawalStatus,
};
use florin_core::id::{AssetId, BlockHash, ChainId, Height, LedgerTime, WalletId, WithdrawalId};
use florin_core::state::{ChainState, State};
use florin_core::wire::Bytes;
use std::collections::BTreeSet;

/// How often one step leaves out what can't be paid now, and tries the rest. Each time it leaves out all that fail alike.
const ROUNDS_MAX: usize = 64;

/// How plans are made for one chain.
#[derive(Debug, Clone)]
pub struct PlannerConfig {
    /// The chain.
    pub chain: ChainId,
    /// How many failure groups must estimate a fee rate; at least 1.
    pub quorum: usize,
    /// Into one of how many next blocks a transaction should get.
    pub blocks: u16,
    /// The lowest rate that is worth sending, in satoshi for 1,000 virtual bytes.
    pub rate_min: u64,
    /// The highest rate that is believed.
    pub rate_max: u64,
    /// The rate at which spending change later is expected to cost.
    pub rate_long_term: u64,
    /// The rate without an estimate; used on regtest only. Elsewhere sending waits, with an alarm.
    pub rate_fallback: u64,
    /// The highest fee as a share of what is paid, in parts per million.
    pub fee_share_ppm_max: u64,
    /// Withdrawals in one plan, at most [`PLAN_PAYMENTS_MAX`].
    pub batch_max: usize,
}

/// What one wallet has to pay, and with what.
#[derive(Debug)]
struct Job {
    chain: ChainId,
    wallet: WalletId,
    withdrawals: Vec<Withdrawal>,
    /// What is tried where these can't be paid now.
    instead: Vec<Withdrawal>,
    means: Means,
    network_fee_max: Amount,
    tip: Height,
    /// Whether there may be higher blocks that nobody shows us.
    is_stale: bool,
    genesis: BlockHash,
    time: LedgerTime,
}

/// What a wallet may spend.
#[derive(Debug)]
struct Means {
    /// The coins, the largest first, as many as one plan may spend.
    coins: Vec<Coin>,
    /// Amounts and kinds of payments to us that it may spend once they are deep enough.
    shallow: Vec<(u64, ScriptKind)>,
    /// The same of change that it may spend once it is in a block.
    change_to_come: Vec<(u64, ScriptKind)>,
    /// How deep payments to us have to be.
    final_confirmations: u32,
    /// How many coins one plan may spend.
    inputs_max: usize,
    change: ChangeTarget,
}

impl Means {
    /// What can't be spent yet and will be, in words that go on after others; nothing where there is none.
    fn on_their_way(&self) -> String {
        let sum = |coins: &[(u64, ScriptKind)]| coins.iter().fold(0u64, |sum, (sat, _)| sum.saturating_add(*sat));
        let mut text = String::new();
        if !self.change_to_come.is_empty() {
            let sat = sum(&self.change_to_come);
            text.push_str(&format!("; {sat} sat of change can be spent once they are in a block"));
        }
        if !self.shallow.is_empty() {
            let (sat, depth) = (sum(&self.shallow), self.final_confirmations);
            text.push_str(&format!("; {sat} sat of payments to us once they have {depth} confirmations"));
        }
        text
    }
}

/// Makes plans for the wallets of one chain.
pub struct Planner {
    config: PlannerConfig,
    seats: Vec<Seat>,
    draw: Box<dyn FnMut() -> [u8; 32] + Send>,
    scripts: Scripts,
    doubts: Doubts,
    alarms: Alarms,
}

impl std::fmt::Debug for Planner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Planner({:?})", self.config)
    }
}

impl Planner {
    /// A planner that asks `seats` for fee rates and takes fresh randomness from `draw`.
    pub fn new(config: PlannerConfig, seats: Vec<Seat>, draw: Box<dyn FnMut() -> [u8; 32] + Send>) -> Planner {
        let (scripts, doubts, alarms) = (Scripts::default(), Doubts::default(), Alarms::default());
        Planner { config, seats, draw, scripts, doubts, alarms }
    }

    /// The same, heeding what the signer would not sign before.
    #[must_use]
    pub fn heeding(self, doubts: Doubts) -> Planner {
        Planner { doubts, ..self }
    }

    fn look(&mut self, state: &State, now_ms: u64) -> Vec<Job> {
        let Some(chain) = state.chains().get(&self.config.chain) else { return Vec::new() };
        let coin = chain.chain.coin;
        let (Some(policy), Some(tip)) = (state.policies().get(&coin), chain.tip()) else { return Vec::new() };
        self.forget(state);
        self.name_refused(state, policy, now_ms);
        let mut jobs = Vec::new();
        let chain_id = self.config.chain;
        for wallet in state.wallets().values().filter(|wallet| wallet.chain == chain_id) {
            let (withdrawals, instead) = self.admitted(queued(state, wallet.id), now_ms);
            if withdrawals.is_empty() {
                continue;
            }
            let subject = format!("wallet {}", wallet.id);
            if state.is_halted(coin, HaltAction::Sign) {
                self.alarms.say(now_ms, "signing_halted", subject, format!("{} withdrawals wait", withdrawals.len()));
                continue;
            }
            // One plan in the making at a time: the next one then sees what this one has left, and its change index.
            if state.plans().values().any(|plan| plan.wallet == wallet.id && plan.status == PlanStatus::Signing) {
                continue;
            }
            match self.means((state, chain, policy), wallet, now_ms) {
                Ok(means) => jobs.push(Job {
                    chain: self.config.chain,
                    wallet: wallet.id,
                    withdrawals,
                    instead,
                    means,
                    network_fee_max: policy.network_fee_max,
                    tip: tip.at.height,
                    is_stale: is_stale(state, coin),
                    genesis: chain.chain.genesis,
                    time: state.counters().time,
                }),
                Err(code) => self.alarms.say(now_ms, code, subject, "its change address can't be derived"),
            }
        }
        jobs
    }

    /// Forgets what was refused and is over.
    fn forget(&self, state: &State) {
        let is_open = |id| {
            let status = state.withdrawals().get(&id).map(|withdrawal| withdrawal.status);
            matches!(status, Some(WithdrawalStatus::Queued | WithdrawalStatus::Signing))
        };
        self.doubts.retain(is_open, |coin| state.coins().contains_key(&coin));
    }

    /// Says which withdrawals the signer refused and what helps them, also while one of them is tried again.
    fn name_refused(&mut self, state: &State, policy: &AssetPolicy, now_ms: u64) {
        for (id, doubt) in self.doubts.all() {
            let Some(withdrawal) = state.withdrawals().get(&id) else { continue };
            let way_out = way_out(&doubt.code, withdrawal, policy);
            let detail = format!("the signer refused it {} times: {}{way_out}", doubt.count, doubt.code);
            self.alarms.say(now_ms, "withdrawal_refused", format!("withdrawal {id}"), detail);
        }
    }

    /// Which withdrawals are planned now, and which where those can't be paid. One that the signer refused goes alone and
    /// before the others, but only when its pause is over or it got another approval: it then holds them up for one round.
    fn admitted(&self, queued: Vec<Withdrawal>, now_ms: u64) -> (Vec<Withdrawal>, Vec<Withdrawal>) {
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for withdrawal in queued {
            let Some(doubt) = self.doubts.of(withdrawal.id) else {
                together.push(withdrawal);
                continue;
            };
            match doubt.company {
                _ if doubt.is_paused(now_ms) && withdrawal.approvals.len() <= doubt.approvals => {}
                Company::Others => together.push(withdrawal),
                Company::Alone if alone.is_empty() => alone.push(withdrawal),
                Company::Alone => {}
            }
        }
        if alone.is_empty() { (together, alone) } else { (alone, together) }
    }

    /// The coins that the wallet may spend, and where its change goes.
    fn means(
        &mut self,
        (state, chain, policy): (&State, &ChainState, &AssetPolicy),
        wallet: &Wallet,
        now_ms: u64,
    ) -> Result<Means, &'static str> {
        let kind = |branch| descriptor_of(state, wallet, branch).map(|descriptor| descriptor.kind());
        let external = kind(Branch::External).map_err(|fault| fault.code())?;
        let internal = kind(Branch::Internal).map_err(|fault| fault.code())?;
        let of_wallet = |is_meant: fn(&ChainState, &AssetPolicy, WalletId, &florin_core::custody::Coin) -> bool| {
            coins(state, (external, internal), |coin| is_meant(chain, policy, wallet.id, coin))
        };
        let (mut coins, mut shallow) = (of_wallet(is_spendable), of_wallet(is_coming));
        let taken = taken(state);
        self.leave_out(&taken, (chain.chain.id, wallet.id), &mut coins, now_ms);
        shallow.retain(|coin| self.bar_of(&taken, core_outpoint(chain.chain.id, coin.outpoint)).is_none());
        let change_to_come = change_to_come(state, wallet.id).map(|amount| (sat(amount), internal)).collect();
        let shallow = shallow.into_iter().map(|coin| (coin.amount_sat, coin.kind)).collect();
        let mut inputs_max = PLAN_INPUTS_MAX;
        if let Some(fewer) = self.doubts.inputs_max(wallet.id) {
            let detail = format!("previous transactions are large: a plan spends {fewer} coins at most");
            self.alarms.say(now_ms, "plan_narrowed", format!("wallet {}", wallet.id), detail);
            inputs_max = inputs_max.min(fewer);
        }
        // The core takes so many inputs; the largest coins reach furthest.
        coins.sort_by_key(|coin| (std::cmp::Reverse(coin.amount_sat), coin.outpoint));
        coins.truncate(inputs_max);
        let next = self.scripts.next(state, wallet.id, Branch::Internal).map_err(|fault| fault.code())?;
        let (index, script) = next.ok_or("wallet_unknown")?;
        let path = KeyPath { wallet: wallet.id, branch: Branch::Internal, index };
        let place = key_place(path).ok_or("address_branch_exhausted")?;
        let change = ChangeTarget { script: bitcoin::ScriptBuf::from_bytes(script.0), kind: internal, place };
        let final_confirmations = policy.final_confirmations;
        Ok(Means { coins, shallow, change_to_come, final_confirmations, inputs_max, change })
    }

    /// Leaves out coins that the signer will sign for no plan. It remembers for ever which plan a coin was signed for, also
    /// where that plan can't confirm any more: such coins have to be moved with the keys, by people.
    fn leave_out(
        &mut self,
        taken: &BTreeSet<OutPoint>,
        (chain, wallet): (ChainId, WalletId),
        coins: &mut Vec<Coin>,
        now_ms: u64,
    ) {
        let mut codes = BTreeSet::new();
        let (mut count, mut sum_sat) = (0u32, 0u64);
        coins.retain(|coin| {
            let Some(code) = self.bar_of(taken, core_outpoint(chain, coin.outpoint)) else { return true };
            codes.insert(code);
            (count, sum_sat) = (count + 1, sum_sat.saturating_add(coin.amount_sat));
            false
        });
        if count > 0 {
            let codes = codes.into_iter().collect::<Vec<_>>().join(", ");
            let detail = format!("{count} coins of {sum_sat} sat are not planned, the signer refuses them: {codes}");
            self.alarms.say(now_ms, "coins_refused", format!("wallet {wallet}"), detail);
        }
    }

    /// Why the signer signs no plan that spends a coin.
    fn bar_of(&self, taken: &BTreeSet<OutPoint>, coin: OutPoint) -> Option<String> {
        self.doubts.bar_of(coin).or_else(|| taken.contains(&coin).then(|| "outpoint_taken".to_owned()))
    }

    /// The rate to pay: what the nodes' failure groups agree on, within the bounds.
    fn rate(&mut self, genesis: BlockHash, now_ms: u64) -> Option<SatPerKvb> {
        let mut rates = Rates::default();
        self.seats.iter_mut().for_each(|seat| seat.node.prepare());
        for seat in &mut self.seats {
            match seat.node.info().and_then(|info| {
                // One that fetches the chain knows the rates of the past.
                let is_asked = info.genesis == genesis && !info.is_syncing;
                if is_asked { seat.node.fee_estimate(self.config.blocks) } else { Ok(None) }
            }) {
                Ok(Some(rate)) => rates.hear(&seat.group, rate),
                Ok(None) => {}
                Err(fault) => self.alarms.say(now_ms, fault.code(), &seat.name, &fault),
            }
        }
        let is_regtest = network_of(genesis) == Some(Network::Regtest);
        let rate = match rates.agreed(self.config.quorum) {
            Some(rate) => rate,
            None if is_regtest => self.config.rate_fallback,
            None => {
                let (count, quorum) = (rates.groups(), self.config.quorum);
                let detail = format!("{count} failure groups estimate a fee rate, and the quorum is {quorum}");
                self.alarms.say(now_ms, "fee_estimate_missing", self.config.chain, detail);
                return None;
            }
        };
        if rate > self.config.rate_max {
            let detail = format!("{rate} sat/kvB is above the cap of {}", self.config.rate_max);
            self.alarms.say(now_ms, "fee_estimate_above_cap", self.config.chain, detail);
            return None;
        }
        Some(SatPerKvb(rate.max(self.config.rate_min)))
    }

    /// Leaves out what is younger than a withdrawal that is not to be overtaken, while that one waits for its coins.
    fn keep_order(&mut self, job: &mut Job, rate: SatPerKvb, now_ms: u64) {
        let mut queue: Vec<&Withdrawal> = job.withdrawals.iter().chain(&job.instead).collect();
        queue.sort_by_key(|withdrawal| turn(withdrawal));
        let waiting = |withdrawal: &&Withdrawal| {
            let (requested, expiry) = (withdrawal.requested, withdrawal.intent.expiry);
            let fee_max = withdrawal.intent.fee_max.min(job.network_fee_max);
            // An amount that can't be summed up is out of every reach.
            let need = withdrawal.amount.checked_add(fee_max).unwrap_or(Amount::MAX);
            Waiting { requested, expiry, need, is_doubted: self.doubts.of(withdrawal.id).is_some() }
        };
        let waiting: Vec<Waiting> = queue.iter().map(waiting).collect();
        let spendable: Vec<_> = job.means.coins.iter().map(|coin| (coin.amount_sat, coin.kind)).collect();
        let coming = [&*job.means.shallow, &*job.means.change_to_come].concat();
        let reach = Reach::of(&spendable, &coming, rate, job.means.inputs_max);
        let is_short = |place: &usize| {
            let alone = self.try_plan(job, std::slice::from_ref(queue[*place]), rate);
            matches!(alone, Err(PlanRefusal::InsufficientFunds { .. }))
        };
        let Some(place) = not_to_be_overtaken(&waiting, reach, job.time, is_short) else { return };
        let (first, last) = (queue[place].id, turn(queue[place]));
        let count = queue.len() - 1 - place;
        let is_in_turn = |withdrawal: &Withdrawal| turn(withdrawal) <= last;
        job.withdrawals.retain(is_in_turn);
        job.instead.retain(is_in_turn);
        if count > 0 {
            let wallet = job.wallet;
            let detail =
                format!("its coins of wallet {wallet} are on their way; younger withdrawals that wait for it: {count}");
            self.alarms.say(now_ms, "withdrawal_goes_first", format!("withdrawal {first}"), detail);
        }
    }

    /// A large batch, the oldest first, for which there is a plan. What can't be paid now, not even alone, is left out, with
    /// all that could be paid even less: those may be many, and must not stand in front of the others.
    fn plan(&mut self, job: &mut Job, rate: SatPerKvb, now_ms: u64) -> Option<ProposePlan> {
        for _ in 0..ROUNDS_MAX {
            let (index, refusal) = match self.widest(job, rate)? {
                Ok(proposal) => return Some(proposal),
                Err(refused) => refused,
            };
            let first = job.withdrawals[index].amount;
            let fails_too = |other: &Withdrawal| match &refusal {
                PlanRefusal::InsufficientFunds { available_sat, .. } => {
                    other.amount >= first || sat(other.amount) > *available_sat
                }
                PlanRefusal::TooManyInputs | PlanRefusal::FeeAboveCap { .. } => other.amount >= first,
                PlanRefusal::FeeShareAboveCap { .. } => other.amount <= first,
                _ => false,
            };
            let withdrawals = std::mem::take(&mut job.withdrawals).into_iter().enumerate();
            let (fail, mut rest): (Vec<_>, Vec<_>) =
                withdrawals.partition(|(place, other)| *place == index || fails_too(other));
            if matches!(refusal, PlanRefusal::FeeShareAboveCap { .. }) && !rest.is_empty() {
                // Too small alone, they may still go along with larger ones.
                rest.extend(fail);
            } else {
                let detail = match refusal {
                    PlanRefusal::InsufficientFunds { .. } => format!("{refusal}{}", job.means.on_their_way()),
                    refusal => refusal.to_string(),
                };
                for (_, withdrawal) in fail {
                    self.alarms.say(now_ms, refusal.code(), format!("withdrawal {}", withdrawal.id), &detail);
                }
            }
            job.withdrawals = rest.into_iter().map(|(_, withdrawal)| withdrawal).collect();
        }
        None
    }

    /// The first batch that can be paid of so many, half as many and so on; otherwise which withdrawal can't be, and why.
    /// `None` where nothing is left.
    fn widest(&mut self, job: &Job, rate: SatPerKvb) -> Option<Result<ProposePlan, (usize, PlanRefusal)>> {
        let mut count = job.withdrawals.len().min(self.config.batch_max.clamp(1, PLAN_PAYMENTS_MAX));
        while count > 0 {
            let refusal = match self.try_plan(job, &job.withdrawals[..count], rate) {
                Ok(plan) => return Some(Ok(proposal(job, count, &plan))),
                Err(refusal) => refusal,
            };
            match refusal {
                PlanRefusal::ScriptNotPayable { index } | PlanRefusal::AmountBelowDust { index, .. } => {
                    return Some(Err((index, refusal)));
                }
                _ if count == 1 => return Some(Err((0, refusal))),
                _ => count /= 2,
            }
        }
        None
    }

    fn try_plan(&mut self, job: &Job, batch: &[Withdrawal], rate: SatPerKvb) -> Result<Plan, PlanRefusal> {
        let payments: Vec<Payment> = batch
            .iter()
            .map(|withdrawal| Payment {
                script: bitcoin::ScriptBuf::from_bytes(withdrawal.script.0.clone()),
                amount_sat: sat(withdrawal.amount),
            })
            .collect();
        let fee_max = batch.iter().map(|withdrawal| withdrawal.intent.fee_max).fold(job.network_fee_max, Amount::min);
        let limits = FeeLimits {
            rate_min: SatPerKvb(self.config.rate_min),
            rate_max: SatPerKvb(self.config.rate_max),
            rate_long_term: SatPerKvb(self.config.rate_long_term),
            fee_sat_max: sat(fee_max),
            fee_share_ppm_max: self.config.fee_share_ppm_max,
        };
        let draw = (self.draw)();
        make_plan(&PlanRequest {
            coins: &job.means.coins,
            payments: &payments,
            change: &job.means.change,
            anchor: None,
            fee_rate: rate,
            fee_sat_min: 0,
            limits,
            lock_time: lock_time(job.tip, job.is_stale, draw),
            draw,
        })
    }
}

impl Worker for Planner {
    fn name(&self) -> &'static str {
        "planner"
    }

    fn step(&mut self, view: &dyn View, now_ms: u64) -> Vec<Ask> {
        self.alarms.settle();
        let jobs = see(view, |model| self.look(model.state(), now_ms));
        let mut asks = Vec::new();
        // All jobs are of one chain; nodes are asked once.
        let genesis = jobs.first().map(|job| job.genesis);
        let Some(rate) = genesis.and_then(|genesis| self.rate(genesis, now_ms)) else { return asks };
        for mut job in jobs {
            self.keep_order(&mut job, rate, now_ms);
            let mut plan = self.plan(&mut job, rate, now_ms);
            if plan.is_none() {
                job.withdrawals = std::mem::take(&mut job.instead);
                plan = self.plan(&mut job, rate, now_ms);
            }
            asks.extend(plan.map(|plan| Ask::internal(Command::ProposePlan(plan))));
        }
        asks
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }
}

/// Whether the chain's view is known to be older than it may be.
fn is_stale(state: &State, coin: AssetId) -> bool {
    state.halts().iter().any(|halt| halt.asset == Some(coin) && halt.reason == HaltReason::Stale)
}

/// From which height on a transaction counts: the tip, so that nobody gains by mining an older block anew for its fee. Of ten
/// transactions one looks as if it had been made up to 99 blocks ago, as many wallets have it. A tip that is stale would only
/// tell that it is, so none is named then.
fn lock_time(tip: Height, is_stale: bool, draw: [u8; 32]) -> u32 {
    let back = if draw[0].is_multiple_of(10) { u32::from(draw[1]) % 100 } else { 0 };
    if is_stale { 0 } else { tip.0.saturating_sub(back) }
}

/// What helps a withdrawal that the signer refused, in words that go on after the code; nothing where that says all.
fn way_out(code: &str, withdrawal: &Withdrawal, policy: &AssetPolicy) -> String {
    let amount = sat(withdrawal.amount);
    match code {
        "limit_payment" if withdrawal.amount <= policy.automatic_max => format!(
            "; its {amount} sat are above what the signer pays without approvals (payment_sat in its policy) and not above \
             automatic_max, {} sat, from where on the platform asks for them: let operators approve it, or cancel it, and set \
             automatic_max to the signer's limit",
            sat(policy.automatic_max),
        ),
        "limit_payment" | "approval_key_unknown" | "approval_repeated" | "approval_invalid" => format!(
            "; too few of its approvals count, {} were given, and the signer's log says why: let more operators of the \
             signer's policy approve it, or cancel it",
            withdrawal.approvals.len(),
        ),
        "limit_hour" | "limit_day" | "limit_destination" => {
            format!("; that passes, unless its {amount} sat alone are more: then cancel it, or raise that limit")
        }
        _ => String::new(),
    }
}

/// The wallet's withdrawals that may be planned now, the oldest first. The core says what may be; this leaves out what it
/// would refuse, because one refused withdrawal refuses its batch.
fn queued(state: &State, wallet: WalletId) -> Vec<Withdrawal> {
    let now = state.counters().time;
    let is_ready = |withdrawal: &&Withdrawal| {
        let customer = state.customers().get(&withdrawal.customer);
        withdrawal.status == WithdrawalStatus::Queued
            && withdrawal.intent.wallet == wallet
            && withdrawal.intent.expiry > now
            && (withdrawal.hold.is_none() || customer.is_some_and(|customer| customer.freezes == 0))
    };
    let mut queued: Vec<Withdrawal> = state.withdrawals().values().filter(is_ready).cloned().collect();
    queued.sort_by_key(turn);
    queued
}

/// By what withdrawals are ordered, the oldest first.
fn turn(withdrawal: &Withdrawal) -> (LedgerTime, WithdrawalId) {
    (withdrawal.requested, withdrawal.id)
}

/// The coins of plans that another transaction ended.
fn taken(state: &State) -> BTreeSet<OutPoint> {
    let conflicted = state.plans().values().filter(|plan| plan.status == PlanStatus::Conflicted);
    conflicted.flat_map(|plan| plan.inputs.iter().copied()).collect()
}

/// The coins that are meant, in the chain's terms.
fn coins(
    state: &State,
    (external, internal): (ScriptKind, ScriptKind),
    is_meant: impl Fn(&florin_core::custody::Coin) -> bool,
) -> Vec<Coin> {
    let coin = |coin: &florin_core::custody::Coin| {
        let script = state.addresses().get(&coin.path)?.script.0.clone();
        Some(Coin {
            outpoint: library_outpoint(coin.outpoint),
            amount_sat: sat(coin.amount),
            script: bitcoin::ScriptBuf::from_bytes(script),
            kind: if coin.path.branch == Branch::External { external } else { internal },
            place: key_place(coin.path)?,
            standing: CoinStanding::Final,
        })
    };
    state.coins().values().filter(|coin| is_meant(coin)).filter_map(coin).collect()
}

/// Satoshi. More than 64 bits can't be on a chain of this family; the planner then refuses it as out of range.
fn sat(amount: Amount) -> u64 {
    u64::try_from(amount.units()).unwrap_or(u64::MAX)
}

/// A key path in the chain's terms; `None` past the last index.
pub(crate) fn key_place(path: KeyPath) -> Option<KeyPlace> {
    let branch = match path.branch {
        Branch::External => keys::Branch::External,
        Branch::Internal => keys::Branch::Internal,
    };
    Some(KeyPlace { wallet: WalletRef(u64::from(path.wallet.0)), branch, index: AddressIndex::new(path.index)? })
}

fn proposal(job: &Job, count: usize, plan: &Plan) -> ProposePlan {
    let chain = job.chain;
    let mut payments = Vec::with_capacity(count);
    let mut change = None;
    for (vout, output) in (0..).zip(&plan.outputs) {
        match output.role {
            OutputRole::Payment(index) => {
                payments.push(PlanPayment { withdrawal: job.withdrawals[index].id, vout });
            }
            OutputRole::Change(place) => {
                let amount = Amount::new(u128::from(output.amount_sat));
                let script = Bytes(output.script.to_bytes());
                change = Some(PlanChange { vout, index: place.index.get(), script, amount });
            }
        }
    }
    let version = PlanVersion {
        unsigned: Bytes(plan.unsigned_bytes()),
        fee: Amount::new(u128::from(plan.fee_sat)),
        change,
        payments: payments.clone(),
        signed: None,
        txid: None,
    };
    ProposePlan {
        wallet: job.wallet,
        withdrawals: payments.iter().map(|payment| payment.withdrawal).collect(),
        inputs: plan.inputs.iter().map(|input| core_outpoint(chain, input.outpoint)).collect(),
        anchor: core_outpoint(chain, plan.anchor),
        version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_counts_from_the_tip_on_or_from_somewhat_below_and_tells_no_stale_one() {
        let draw = |first, second| {
            let mut draw = [7; 32];
            (draw[0], draw[1]) = (first, second);
            draw
        };
        for first in 0..=255u8 {
            for second in [0, 99, 100, 199, 255] {
                let back = if first.is_multiple_of(10) { u32::from(second) % 100 } else { 0 };
                assert_eq!(lock_time(Height(800_000), false, draw(first, second)), 800_000 - back);
                assert_eq!(lock_time(Height(800_000), true, draw(first, second)), 0);
            }
        }
        assert_eq!(lock_time(Height(5), false, draw(10, 99)), 0, "no block is below the first");
    }
}
