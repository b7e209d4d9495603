//! Takes plans to the signer and its word back to the journal. It believes neither nodes (previous transactions are checked by
//! their ids) nor the signer (what it signed is checked script by script), and it never holds a key.

use super::doubts::{Company, Doubts};
use super::lookout::Missing;
use super::planner::key_place;
use super::{View, Worker, see};
use crate::alarm::{Alarm, Alarms};
use crate::follower::nodes::{Seat, is_transaction};
use crate::lanes::Ask;
use crate::load::Place;
use crate::ports::{
    Culprit, Fence, IntentToSign, SignRequest, Signer, SignerAnswer, SignerFault, SignerRefusal, Standing,
};
use crate::read_model::ReadModel;
use crate::scripts::descriptor_of;
use crate::terms::{core_outpoint, core_txid};
use crate::witness::{Contradiction, compare};
use bitcoin::consensus::encode::deserialize;
use bitcoin::{ScriptBuf, Transaction, TxOut, Witness};
use florin_chain::bitcoin::keys::AccountPublic;
use florin_chain::bitcoin::keys::ScriptKind;
use florin_chain::bitcoin::plan as chain_plan;
use florin_chain::bitcoin::psbt::{PSBT_SIZE_MAX, WalletKeys, build_psbt};
use florin_chain::bitcoin::verify::verify_tx;
use florin_core::asset::{Halt, HaltAction, HaltReason};
use florin_core::command::Command;
use florin_core::custody::{Branch, OutPoint, Plan, PlanStatus, PlanVersion};
use florin_core::id::{BlockHash, ChainId, PlanId, TxId, WalletId, WithdrawalId};
use florin_core::journal::Journal;
use florin_core::state::State;
use florin_core::wire::Bytes;
use std::collections::BTreeMap;

/// Plans taken to the signer in one step.
pub const PLANS_MAX: usize = 16;

/// How often the signer is shown where the journal stands where nothing else is asked of it, in milliseconds: ten minutes. What
/// is lost with an older copy that nobody else knows to be one is at most what these bring, and a year of them is some
/// 10 megabytes of its memory.
pub const SHOW_MS: u64 = 10 * 60 * 1_000;

/// How often a plan is taken to the signer again for a reason that passes with time, before it is given up so that others
/// can go on: with 5 seconds between, 5 minutes.
pub const PATIENCE_RETRIES: u64 = 60;

/// For how long a journal must lack the row that the signer was shown last, before it counts as an older copy, in milliseconds:
/// where it is read from a replica, that one may lag by moments. Nothing is signed meanwhile.
pub const BEHIND_MS: u64 = 3_000;

/// At how many looks in a row it must lack the row as well: a clock that jumps proves nothing.
pub const BEHIND_LOOKS: u32 = 3;

/// How plans of one chain are signed.
#[derive(Debug, Clone)]
pub struct SigningConfig {
    /// The chain.
    pub chain: ChainId,
    /// After how long a plan that the signer refused is taken to it again, in milliseconds: an hour's limit may have passed.
    pub retry_ms: u64,
}

/// What the signer said to a version.
#[derive(Debug)]
struct Refused {
    code: String,
    /// When it was first said.
    first_ms: u64,
    /// When it was last said.
    last_ms: u64,
}

/// A version of a plan that is to be signed or given up.
struct Job {
    plan: PlanId,
    version: u32,
    wallet: WalletId,
    anchor: OutPoint,
    account: AccountPublic,
    planned: chain_plan::Plan,
    /// The transactions that made the inputs, and their blocks, where the signer wants to see them.
    previous: BTreeMap<TxId, BlockHash>,
    intents: Vec<IntentToSign>,
    is_expired: bool,
    /// Whether the plan may be given up: no version of it is signed.
    is_voidable: bool,
}

/// Takes the plans of one chain to the signer.
pub struct Signing {
    config: SigningConfig,
    signer: Box<dyn Signer>,
    journal: Box<dyn Journal>,
    seats: Vec<Seat>,
    refused: BTreeMap<(PlanId, u32), Refused>,
    /// When the signer was last shown where the journal stands.
    shown_ms: Option<u64>,
    /// Since when, in Unix milliseconds, and at how many looks the journal lacks the row that the signer was shown last.
    behind: Option<(u64, u32)>,
    /// What proves that the journal is not the one that the signer knows.
    contradiction: Option<Contradiction>,
    doubts: Doubts,
    alarms: Alarms,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Signing({:?})", self.config)
    }
}

impl Signing {
    /// A worker that has asked for nothing yet; `journal` is where it looks up the row that the signer was shown last, and
    /// `seats` are where it gets previous transactions.
    pub fn new(config: SigningConfig, signer: Box<dyn Signer>, journal: Box<dyn Journal>, seats: Vec<Seat>) -> Signing {
        Signing {
            config,
            signer,
            journal,
            seats,
            refused: BTreeMap::new(),
            shown_ms: None,
            behind: None,
            contradiction: None,
            doubts: Doubts::default(),
            alarms: Alarms::default(),
        }
    }

    /// The same, telling `doubts` what the signer would not sign. The planner of the chain listens to them.
    #[must_use]
    pub fn telling(self, doubts: Doubts) -> Signing {
        Signing { doubts, ..self }
    }

    /// Where the journal stands, what is to be signed or given up, and expired plans that can only be given up because
    /// they can't be said again: a reorganisation took an input, and it may never come back.
    fn look(&mut self, model: &ReadModel, known: Place, now_ms: u64) -> (Fence, Vec<Job>, Vec<PlanId>) {
        let state = model.state();
        let counters = state.counters();
        let place = model.place();
        let fence = Fence {
            platform: counters.platform,
            epoch: counters.epoch,
            seq: place.seq,
            head: place.hash,
            time: counters.time,
            known,
        };
        let (mut jobs, mut hopeless) = (Vec::new(), Vec::new());
        let Some(chain) = state.chains().get(&self.config.chain) else { return (fence, jobs, hopeless) };
        let is_halted = state.is_halted(chain.chain.coin, HaltAction::Sign);
        let plans = state.plans().values().filter(|plan| plan.anchor.chain == self.config.chain);
        let mut open = std::collections::BTreeSet::new();
        for plan in plans.filter(|plan| matches!(plan.status, PlanStatus::Signing | PlanStatus::Signed)) {
            let unsigned = (0..).zip(&plan.versions).filter(|(_, version)| version.signed.is_none());
            // Only the newest version is worth signing.
            let Some((number, version)) = unsigned.last() else { continue };
            open.insert((plan.id, number));
            let subject = format!("plan {}", plan.id);
            if is_halted {
                self.alarms.say(now_ms, "signing_halted", subject, "signing is halted for its asset");
                continue;
            }
            // Of an input that is gone the lookout tells.
            let said = match Missing::of(state, plan) {
                Some(_) => Err(None),
                None => job(state, plan, (number, version)).map_err(Some),
            };
            match said {
                Ok(job) => jobs.push(job),
                Err(why) => {
                    if let Some((code, detail)) = why {
                        self.alarms.say(now_ms, code, subject, detail);
                    }
                    if is_expired(state, plan, version) {
                        hopeless.push(plan.id);
                    }
                }
            }
        }
        self.refused.retain(|version, _| open.contains(version));
        (fence, jobs, hopeless)
    }

    /// The transactions that made a plan's inputs, from whichever node has them.
    fn previous(&mut self, job: &Job, now_ms: u64) -> Option<Vec<Vec<u8>>> {
        let mut all = Vec::with_capacity(job.previous.len());
        for (txid, block) in &job.previous {
            let mut found = None;
            for seat in &mut self.seats {
                match seat.node.transaction(*txid, Some(*block)) {
                    Ok(Some(bytes)) if is_transaction(&bytes, *txid) => {
                        found = Some(bytes);
                        break;
                    }
                    Ok(Some(_)) => self.alarms.say(now_ms, "node_lies", &seat.name, "it gave another transaction"),
                    Ok(None) => {}
                    Err(fault) => self.alarms.say(now_ms, fault.code(), &seat.name, &fault),
                }
            }
            let Some(found) = found else {
                let detail = format!("no node gives the transaction {txid}, which made an input");
                self.alarms.say(now_ms, "previous_transaction_missing", format!("plan {}", job.plan), detail);
                return None;
            };
            all.push(found);
        }
        Some(all)
    }

    fn ask(&mut self, job: &Job, fence: &Fence, now_ms: u64) -> Option<Ask> {
        if job.is_expired {
            // The signer would refuse it for ever; only its word that it never will sign frees the inputs.
            return self.void(job, fence, now_ms);
        }
        let previous = self.previous(job, now_ms)?;
        let keys = WalletKeys { wallet: chain_plan::WalletRef(u64::from(job.wallet.0)), account: &job.account };
        let psbt = match build_psbt(&job.planned, &previous, &[keys]) {
            Ok(psbt) => psbt.serialize(),
            Err(error) => {
                self.alarms.say(now_ms, error.code(), format!("plan {}", job.plan), &error);
                return None;
            }
        };
        if psbt.len() > PSBT_SIZE_MAX {
            return self.narrow(job, psbt.len(), fence, now_ms);
        }
        let answer = self.signer.sign_plan(&SignRequest {
            fence: *fence,
            plan: job.plan,
            version: job.version,
            wallet: job.wallet,
            anchor: job.anchor,
            intents: job.intents.clone(),
            psbt,
        });
        match answer {
            Ok(SignerAnswer::Refused(refusal)) => self.refused(job, &refusal, fence, now_ms),
            answer => self.record(job, answer, now_ms),
        }
    }

    /// Gives up a plan that the signer could not read, so that the next one spends fewer coins. The planner can't know: a
    /// coin does not say how large the transaction is that made it.
    fn narrow(&mut self, job: &Job, size: usize, fence: &Fence, now_ms: u64) -> Option<Ask> {
        let detail = format!("its PSBT has {size} bytes, and {PSBT_SIZE_MAX} at most are read");
        self.alarms.say(now_ms, "psbt_too_large", format!("plan {}", job.plan), detail);
        if !job.is_voidable {
            return None;
        }
        let command = self.void(job, fence, now_ms)?;
        self.doubts.narrow(job.wallet, job.planned.inputs.len());
        Some(command)
    }

    /// What follows from an answer: its command, or an alarm.
    fn record(&mut self, job: &Job, answer: Result<SignerAnswer, SignerFault>, now_ms: u64) -> Option<Ask> {
        let plan = job.plan;
        match answer {
            Ok(SignerAnswer::Signed { signed, txid }) => match check_signed(&job.planned, &signed, txid) {
                Ok(()) => {
                    let version = job.version;
                    return Some(Ask::internal(Command::RecordSigned { plan, version, signed, txid }));
                }
                Err(detail) => self.alarms.say(now_ms, "signer_answer_wrong", format!("plan {plan}"), detail),
            },
            Ok(SignerAnswer::Voided { receipt }) => return Some(Ask::internal(Command::RecordVoid { plan, receipt })),
            Ok(SignerAnswer::Refused(refusal)) => self.note(job, &refusal, now_ms),
            Err(fault) => self.alarms.say(now_ms, fault.code(), "signer", &fault),
        }
        None
    }

    fn void(&mut self, job: &Job, fence: &Fence, now_ms: u64) -> Option<Ask> {
        let answer = self.signer.void_plan(fence, job.plan);
        self.record(job, answer, now_ms)
    }

    fn note(&mut self, job: &Job, refusal: &SignerRefusal, now_ms: u64) {
        let key = (job.plan, job.version);
        let first_ms = self.refused.get(&key).map_or(now_ms, |refused| refused.first_ms.min(now_ms));
        self.refused.insert(key, Refused { code: refusal.code.clone(), first_ms, last_ms: now_ms });
    }

    /// A refused plan holds back its wallet. One that is refused for good is given up at once, and so is one whose reason
    /// does not pass while others could go on; what is to blame is then planned apart.
    fn refused(&mut self, job: &Job, refusal: &SignerRefusal, fence: &Fence, now_ms: u64) -> Option<Ask> {
        self.note(job, refusal, now_ms);
        let (blamed, company) = blamed(job, refusal);
        let is_hopeless = match refusal.standing {
            Standing::Lasting => true,
            Standing::Passing if refusal.culprit == Culprit::Nobody => false,
            Standing::Passing => {
                let first_ms = self.refused[&(job.plan, job.version)].first_ms;
                let patience_ms = self.config.retry_ms.saturating_mul(PATIENCE_RETRIES);
                let is_known = blamed.iter().any(|withdrawal| self.doubts.of(*withdrawal).is_some());
                is_known || now_ms.saturating_sub(first_ms) >= patience_ms
            }
        };
        if !is_hopeless || !job.is_voidable {
            return None;
        }
        let command = self.void(job, fence, now_ms)?;
        for withdrawal in blamed {
            let shown = job.intents.iter().find(|intent| intent.intent.withdrawal == withdrawal);
            let approvals = shown.map_or(0, |intent| intent.approvals.len());
            self.doubts.blame((withdrawal, approvals), (company, &refusal.code), (now_ms, self.config.retry_ms));
        }
        if let Culprit::Coin(place) = refusal.culprit
            && let Some(input) = job.planned.inputs.get(place as usize)
        {
            self.doubts.bar(core_outpoint(job.anchor.chain, input.outpoint), &refusal.code);
        }
        Some(command)
    }

    /// Gives up on an expired plan whose bytes can't be checked now.
    fn give_up(&mut self, plan: PlanId, fence: &Fence, now_ms: u64) -> Option<Ask> {
        match self.signer.void_plan(fence, plan) {
            Ok(SignerAnswer::Voided { receipt }) => {
                return Some(Ask::internal(Command::RecordVoid { plan, receipt }));
            }
            Ok(SignerAnswer::Signed { .. }) => {
                let detail = "it was signed, and what was signed can't be checked while an input is missing";
                self.alarms.say(now_ms, "signer_answer_unchecked", format!("plan {plan}"), detail);
            }
            Ok(SignerAnswer::Refused(refusal)) => {
                self.alarms.say(now_ms, "signer_refused", format!("plan {plan}"), refusal.code);
            }
            Err(fault) => self.alarms.say(now_ms, fault.code(), "signer", &fault),
        }
        None
    }

    /// The row that the signer was shown last, once the journal was found to have it. A journal that lacks it is an old copy,
    /// and one that has another there is an old copy that was written on: then nothing is signed, and the process ends.
    fn shown(&mut self, now_ms: u64) -> Result<Place, Unsure> {
        let status = self.signer.status().map_err(|fault| {
            self.alarms.say(now_ms, fault.code(), "signer", &fault);
            Unsure::Unknown
        })?;
        if !status.is_unlocked {
            self.alarms.say(now_ms, "signer_locked", "signer", "its keys are locked");
        }
        let place = Place { seq: status.seq, hash: status.head };
        // Held against the journal and not against what is folded of it: others show the signer rows as well.
        match compare(self.journal.as_mut(), "the signer", place) {
            Ok(None) => {
                self.behind = None;
                return Ok(place);
            }
            Ok(Some(found @ Contradiction::Behind { .. })) => {
                self.alarms.say(now_ms, "signer_ahead_of_journal", "signer", &found);
                if self.is_behind_for_long(now_ms) {
                    self.contradiction = Some(found);
                }
            }
            Ok(Some(found @ Contradiction::Forked { .. })) => {
                self.alarms.say(now_ms, "signer_of_other_journal", "signer", &found);
                self.contradiction = Some(found);
            }
            Err(fault) => {
                self.alarms.say(now_ms, "journal_unreadable_now", "journal", &fault);
                return Err(Unsure::Unknown);
            }
        }
        Err(Unsure::Contradicted)
    }

    /// Counts another look at a journal that lacks the row, and says whether it is no lag.
    fn is_behind_for_long(&mut self, now_ms: u64) -> bool {
        // A clock that was set back begins anew.
        let (first_ms, looks) = self.behind.filter(|(first_ms, _)| *first_ms <= now_ms).unwrap_or((now_ms, 0));
        let looks = looks.saturating_add(1);
        self.behind = Some((first_ms, looks));
        looks >= BEHIND_LOOKS && now_ms - first_ms >= BEHIND_MS
    }

    /// Shows the signer where the journal stands, now and then: withdrawals may be rare, and what happens between two of them
    /// is to be remembered outside of the journal as well.
    fn show(&mut self, fence: &Fence, now_ms: u64) {
        // A clock that was set back makes it due.
        if self.shown_ms.is_some_and(|shown| shown <= now_ms && now_ms - shown < SHOW_MS) {
            return;
        }
        match self.signer.show(fence) {
            Ok(None) => self.shown_ms = Some(now_ms),
            Ok(Some(refusal)) => self.alarms.say(now_ms, "signer_refused", "the journal's head", refusal.code),
            Err(fault) => self.alarms.say(now_ms, fault.code(), "signer", &fault),
        }
    }
}

/// Why the signer is asked for nothing.
enum Unsure {
    /// The signer or the journal does not answer.
    Unknown,
    /// It knows another journal.
    Contradicted,
}

/// Halts signing for everything, unless it is halted for this reason.
fn halt(view: &dyn View) -> Vec<Ask> {
    let halt = Halt { asset: None, action: HaltAction::Sign, reason: HaltReason::SignerFenced };
    let stands = see(view, |model| model.state().halts().contains(&halt));
    if stands { Vec::new() } else { vec![Ask::internal(Command::Halt(halt))] }
}

impl Worker for Signing {
    fn name(&self) -> &'static str {
        "signing"
    }

    fn step(&mut self, view: &dyn View, now_ms: u64) -> Vec<Ask> {
        self.alarms.settle();
        // At every step, and not only where something is to be signed: an old copy does harm before that.
        let shown = self.shown(now_ms);
        let known = *shown.as_ref().unwrap_or(&Place::START);
        let (fence, jobs, mut hopeless) = see(view, |model| self.look(model, known, now_ms));
        let retry_ms = self.config.retry_ms;
        let is_due = |job: &&Job| {
            let last_ms = self.refused.get(&(job.plan, job.version)).map(|refused| refused.last_ms);
            job.is_expired || last_ms.is_none_or(|at| now_ms.saturating_sub(at) >= retry_ms || at > now_ms)
        };
        let due: Vec<&Job> = jobs.iter().filter(is_due).take(PLANS_MAX).collect();
        hopeless.truncate(PLANS_MAX);
        let mut asks = Vec::new();
        match shown {
            // The signer was shown a row that is durable and not folded here yet: the next step knows it.
            Ok(known) if known.seq > fence.seq => {}
            Ok(_) => {
                for job in due {
                    asks.extend(self.ask(job, &fence, now_ms));
                }
                for plan in hopeless {
                    asks.extend(self.give_up(plan, &fence, now_ms));
                }
                self.show(&fence, now_ms);
            }
            Err(Unsure::Contradicted) => asks = halt(view),
            Err(Unsure::Unknown) => {}
        }
        for ((plan, _), refused) in &self.refused {
            self.alarms.say(now_ms, "signer_refused", format!("plan {plan}"), &refused.code);
        }
        asks
    }

    fn alarms(&self) -> Vec<Alarm> {
        self.alarms.all()
    }

    fn contradiction(&self) -> Option<&Contradiction> {
        self.contradiction.as_ref()
    }
}

/// Says a version again in the chain's terms, from its bytes and the state's coins.
fn job(state: &State, plan: &Plan, (number, version): (u32, &PlanVersion)) -> Result<Job, (&'static str, String)> {
    let broken = |what: &str| ("plan_unreadable", what.to_owned());
    let wallet = state.wallets().get(&plan.wallet).ok_or_else(|| broken("its wallet is not known"))?;
    let descriptor =
        descriptor_of(state, wallet, Branch::External).map_err(|fault| (fault.code(), fault.to_string()))?;
    let (account, _) = descriptor.account().ok_or_else(|| broken("its wallet is not an account's branch"))?;
    let unsigned: Transaction =
        deserialize(&version.unsigned.0).map_err(|_| broken("its unsigned bytes are no transaction"))?;
    let mut previous = BTreeMap::new();
    let mut inputs = Vec::with_capacity(unsigned.input.len());
    for input in &unsigned.input {
        let outpoint = input.previous_output;
        let coin = state.coins().get(&core_outpoint(plan.anchor.chain, outpoint));
        let coin = coin.ok_or_else(|| broken("an input is not in the books"))?;
        let address = state.addresses().get(&coin.path).ok_or_else(|| broken("an input has no address"))?;
        // A taproot signature commits to the amounts and scripts of all inputs (BIP-341), so that a false amount only makes
        // it worthless: the signer needs no proof, and a node that pruned the block is no obstacle.
        if account.kind != ScriptKind::Tr {
            previous.insert(coin.outpoint.txid, coin.at.hash);
        }
        inputs.push(chain_plan::PlanInput {
            outpoint,
            amount_sat: u64::try_from(coin.amount.units()).map_err(|_| broken("an input is too large"))?,
            script: ScriptBuf::from_bytes(address.script.0.clone()),
            kind: account.kind,
            place: key_place(coin.path).ok_or_else(|| broken("an input's index is too high"))?,
        });
    }
    let planned = chain_plan::Plan {
        inputs,
        outputs: outputs(plan, version, &unsigned).ok_or_else(|| broken("its change is out of range"))?,
        fee_sat: u64::try_from(version.fee.units()).map_err(|_| broken("its fee is too large"))?,
        weight_max: unsigned.weight().to_wu(),
        anchor: crate::terms::library_outpoint(plan.anchor),
        lock_time: unsigned.lock_time.to_consensus_u32(),
    };
    if planned.unsigned_bytes() != version.unsigned.0 {
        return Err(broken("its unsigned bytes are not of this build's form"));
    }
    let mut intents = Vec::with_capacity(version.payments.len());
    for payment in &version.payments {
        let withdrawal = state.withdrawals().get(&payment.withdrawal).ok_or_else(|| broken("a withdrawal is gone"))?;
        let (intent, approvals) = (withdrawal.intent.clone(), withdrawal.approvals.clone());
        intents.push(IntentToSign { intent, approvals, vout: payment.vout });
    }
    let is_expired = is_expired(state, plan, version);
    Ok(Job {
        plan: plan.id,
        version: number,
        wallet: plan.wallet,
        anchor: plan.anchor,
        account,
        planned,
        previous,
        intents,
        is_expired,
        is_voidable: plan.status == PlanStatus::Signing && plan.versions.iter().all(|version| version.signed.is_none()),
    })
}

/// The withdrawals of a plan that a refusal is about, and with whom each is planned next. Where it names none that is there,
/// it is about all of them: a plan that nothing is held against would be made again as it was. Each is then tried alone,
/// because one among them may be refused for ever.
fn blamed(job: &Job, refusal: &SignerRefusal) -> (Vec<WithdrawalId>, Company) {
    let id = |intent: &IntentToSign| intent.intent.withdrawal;
    let named: Vec<WithdrawalId> = match refusal.culprit {
        Culprit::Nobody => return (Vec::new(), Company::Others),
        Culprit::Coin(place) if (place as usize) < job.planned.inputs.len() => return (Vec::new(), Company::Others),
        Culprit::Payment(place) => job.intents.iter().skip(place as usize).take(1).map(id).collect(),
        // Approvals that the signer does not count make a payment an automatic one; which, it does not say.
        Culprit::Automatic => job.intents.iter().filter(|intent| intent.approvals.is_empty()).map(id).collect(),
        Culprit::Coin(_) | Culprit::Plan => Vec::new(),
    };
    match refusal.standing {
        _ if named.is_empty() => (job.intents.iter().map(id).collect(), Company::Alone),
        Standing::Lasting => (named, Company::Alone),
        Standing::Passing => (named, Company::Others),
    }
}

/// Whether the signer would refuse an unsigned plan for ever.
fn is_expired(state: &State, plan: &Plan, version: &PlanVersion) -> bool {
    let now = state.counters().time;
    let is_late = |id| state.withdrawals().get(id).is_some_and(|withdrawal| withdrawal.intent.expiry < now);
    plan.status == PlanStatus::Signing && version.payments.iter().any(|payment| is_late(&payment.withdrawal))
}

fn outputs(plan: &Plan, version: &PlanVersion, unsigned: &Transaction) -> Option<Vec<chain_plan::PlanOutput>> {
    let mut payments = 0..;
    let mut outputs = Vec::with_capacity(unsigned.output.len());
    for (vout, output) in (0u32..).zip(&unsigned.output) {
        let role = match version.change.as_ref().filter(|change| change.vout == vout) {
            Some(change) => {
                let path = florin_core::custody::KeyPath {
                    wallet: plan.wallet,
                    branch: Branch::Internal,
                    index: change.index,
                };
                chain_plan::OutputRole::Change(key_place(path)?)
            }
            None => chain_plan::OutputRole::Payment(payments.next()?),
        };
        let (script, amount_sat) = (output.script_pubkey.clone(), output.value.to_sat());
        outputs.push(chain_plan::PlanOutput { script, amount_sat, role });
    }
    Some(outputs)
}

/// Whether signed bytes are the planned transaction, spend what it says, and have the id that the signer says.
fn check_signed(planned: &chain_plan::Plan, signed: &Bytes, txid: TxId) -> Result<(), String> {
    let signed: Transaction = deserialize(&signed.0).map_err(|_| "its bytes are no transaction".to_owned())?;
    if core_txid(signed.compute_txid()) != txid {
        return Err("its transaction has another id".to_owned());
    }
    let mut bare = signed.clone();
    for input in &mut bare.input {
        input.script_sig = ScriptBuf::new();
        input.witness = Witness::new();
    }
    if bare != planned.transaction() {
        return Err("it signed another transaction".to_owned());
    }
    let spent = planned
        .inputs
        .iter()
        .map(|input| TxOut { value: bitcoin::Amount::from_sat(input.amount_sat), script_pubkey: input.script.clone() });
    let fee_sat = verify_tx(&signed, &spent.collect::<Vec<_>>()).map_err(|error| error.code().to_owned())?;
    if fee_sat == planned.fee_sat { Ok(()) } else { Err("it pays another fee".to_owned()) }
}
