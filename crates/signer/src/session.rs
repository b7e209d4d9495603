//! The decision: a request in, an answer out, with the memory in between. It must never let a signature leave before
//! the decision to give it is durable.
//!
//! Checks run in the order of [`Refusal`]. A version that was signed once is answered with the same bytes for ever,
//! whatever else the request says; a plan that was voided is never signed.

use crate::entropy::{EntropyError, random_bytes, self_test};
use crate::judge::{self, Uncounted};
use crate::keystore::{KeyStore, KeyStoreError, Purpose, descriptors};
use crate::memory::{Charge, Decision, Memory, MemoryError, PlanMemory, Signature, Void};
use crate::policy::{Policy, WalletPolicy};
use crate::protocol::{
    Checkpoint, CheckpointHead, Descriptors, Fence, Hello, Input, KnownRow, MemoryHead, Outcome, PROTOCOL, Refused,
    Reply, Request, SignPlan, Signed, Status, VoidPlan, VoidReceipt, WalletDescriptors, WalletStatus, Welcome,
};
use crate::refusal::Refusal;
use crate::spend::{Proposal, WalletKeys};
use crate::stack;
use ed25519_dalek::SigningKey;
use florin_core::amount::Amount;
use florin_core::id::{LedgerTime, PlanId, TxId, WalletId};
use florin_core::wire::Bytes;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Why the signer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system's randomness failed its test.
    #[error("the system's randomness failed its test")]
    Entropy(#[from] EntropyError),
    /// A wallet's keys are not to be had.
    #[error("the keys of wallet {wallet} are not to be had")]
    Keys {
        /// The wallet.
        wallet: WalletId,
        /// Why.
        source: KeyStoreError,
    },
}

impl StartError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            StartError::Entropy(error) => error.code(),
            StartError::Keys { source, .. } => source.code(),
        }
    }
}

/// Why the signer can't go on. It holds nothing that was not durable before.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The memory failed.
    #[error("the signer's memory failed")]
    Memory(#[from] MemoryError),
    /// A signature that was just made does not verify: a broken machine, or an attack on one.
    #[error("a fresh signature does not verify; this machine can't be trusted")]
    SelfCheck,
}

impl Fault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Memory(error) => error.code(),
            Fault::SelfCheck => "signature_self_check",
        }
    }
}

/// A running signer. There is no `Debug`.
pub struct Signer {
    policy: Policy,
    wallets: BTreeMap<WalletId, WalletKeys>,
    head_key: Box<SigningKey>,
    purpose: Purpose,
    blinding: Zeroizing<[u8; 32]>,
    memory: Memory,
    uncounted: fn(&Uncounted),
}

/// How a decision ends early.
enum Stop {
    Refused(Refused),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Stop {
        Stop::Refused(refused)
    }
}

impl From<MemoryError> for Stop {
    fn from(error: MemoryError) -> Stop {
        Stop::Fault(Fault::Memory(error))
    }
}

/// What was decided about a version.
enum Verdict {
    /// It was signed before.
    Repeated(Signed),
    /// It is signed now, and not yet recorded.
    New(Box<Signature>),
}

impl Signer {
    /// Tests the system's randomness and derives the keys of the policy's wallets.
    ///
    /// # Errors
    /// [`StartError`]; demo keys refuse a policy with a wallet on a main network here.
    pub fn new(keys: &KeyStore, policy: Policy, memory: Memory) -> Result<Signer, StartError> {
        self_test()?;
        let mut wallets = BTreeMap::new();
        for (id, wallet) in &policy.wallets {
            let derived = derive(keys, wallet).map_err(|source| StartError::Keys { wallet: *id, source })?;
            wallets.insert(*id, derived);
        }
        let blinding = random_bytes::<32>()?;
        Ok(Signer {
            policy,
            wallets,
            head_key: keys.head_key(),
            purpose: keys.purpose(),
            blinding,
            memory,
            uncounted: |_| (),
        })
    }

    /// The same, telling of each approval that does not count: neither a payment that is made all the same nor a refusal
    /// for another reason says so.
    #[must_use]
    pub fn telling(self, uncounted: fn(&Uncounted)) -> Signer {
        Signer { uncounted, ..self }
    }

    /// Settles the memory in its one file and closes it.
    ///
    /// # Errors
    /// Faults of the memory: it is whole then with the log beside its file.
    pub fn end(self) -> Result<(), Fault> {
        Ok(self.memory.close()?)
    }

    /// Answers one request. `clock` is the signer's own clock, by which limits are counted; ledger time may not run
    /// ahead of it.
    ///
    /// # Errors
    /// [`Fault`]; nothing may be answered then, and the process must end.
    pub fn handle(&mut self, request: &Request, clock: LedgerTime) -> Result<Reply, Fault> {
        let remembered = match self.remembered(request) {
            Ok(remembered) => remembered,
            Err(Stop::Refused(refused)) => return Ok(self.reply(Outcome::Refused(refused))),
            Err(Stop::Fault(error)) => return Err(error),
        };
        let answered = match request {
            Request::Hello(hello) => self.welcome(hello),
            Request::Descriptors(_) => Ok(self.descriptors()),
            Request::Status(_) => self.status(clock),
            Request::SignPlan(request) => self.sign_plan(request, clock),
            Request::VoidPlan(request) => self.void_plan(request, clock),
            Request::CheckpointHead(request) => self.checkpoint(request, clock),
        };
        match answered {
            Ok(outcome) => Ok(Reply { remembered, ..self.reply(outcome) }),
            Err(Stop::Refused(refused)) => Ok(Reply { remembered, ..self.reply(Outcome::Refused(refused)) }),
            Err(Stop::Fault(error)) => Err(error),
        }
    }

    /// What the asker knows of the memory, once it was found there. Before anything else: a memory that has forgotten has its limits
    /// unused, and gives up plans that it has signed.
    fn remembered(&self, request: &Request) -> Result<Option<MemoryHead>, Stop> {
        judge::check_numbers(request)?;
        let Some(known) = request.memory() else { return Ok(None) };
        self.memory.remembers(&known)?.map_err(judge::refuse_memory)?;
        Ok(Some(known))
    }

    /// An outcome with the head of the memory.
    pub(crate) fn reply(&self, outcome: Outcome) -> Reply {
        Reply { head: self.memory.head(), outcome, remembered: None }
    }

    fn welcome(&self, hello: &Hello) -> Result<Outcome, Stop> {
        if hello.protocol != PROTOCOL {
            return Err(Refused::whole(Refusal::ProtocolUnknown).into());
        }
        Ok(Outcome::Welcome(Welcome {
            protocol: PROTOCOL,
            platform: self.policy.platform,
            key: self.head_key.verifying_key().to_bytes(),
            highest: self.memory.highest(),
            demo: self.purpose == Purpose::Demo,
        }))
    }

    fn descriptors(&self) -> Outcome {
        let wallets = self.wallets.iter().map(|(id, keys)| WalletDescriptors {
            wallet: *id,
            genesis: self.policy.wallets[id].genesis(),
            external: keys.external.to_string(),
            internal: keys.internal.to_string(),
        });
        Outcome::Descriptors(Descriptors { wallets: wallets.collect() })
    }

    fn status(&self, clock: LedgerTime) -> Result<Outcome, Stop> {
        let mut wallets = Vec::with_capacity(self.policy.wallets.len());
        for (id, wallet) in &self.policy.wallets {
            let now = self.now(*id, clock)?;
            let used = |window| {
                let used = self.memory.charged_since(*id, start(now, window))?;
                Ok::<_, MemoryError>(Amount::new(u128::from(used)))
            };
            wallets.push(WalletStatus {
                wallet: *id,
                hour_left: wallet.automatic.hour.saturating_sub(used(judge::HOUR_MS)?),
                day_left: wallet.automatic.day.saturating_sub(used(judge::DAY_MS)?),
            });
        }
        let (plans_signed, plans_voided) = self.memory.plan_counts()?;
        Ok(Outcome::Status(Status { highest: self.memory.highest(), plans_signed, plans_voided, wallets }))
    }

    fn checkpoint(&mut self, request: &CheckpointHead, clock: LedgerTime) -> Result<Outcome, Stop> {
        let fence = self.check_fence(&request.fence, request.known.as_ref(), clock)?;
        self.note(fence)?;
        Ok(Outcome::Checkpoint(stack::wiped(|| Checkpoint::sign(request.fence, &self.head_key))))
    }

    fn void_plan(&mut self, request: &VoidPlan, clock: LedgerTime) -> Result<Outcome, Stop> {
        let fence = self.check_fence(&request.fence, request.known.as_ref(), clock)?;
        match self.memory.plan(request.plan)? {
            Some(PlanMemory::Voided(receipt)) => {
                self.note(fence)?;
                Ok(Outcome::Voided(receipt))
            }
            Some(PlanMemory::Signed { .. }) => {
                self.note(fence)?;
                let signed = self.memory.newest_signed(request.plan)?;
                Ok(Outcome::Signed(signed.ok_or(MemoryError::Damaged("a signed plan has no version"))?))
            }
            None => {
                let receipt = stack::wiped(|| VoidReceipt::sign(self.policy.platform, request.plan, &self.head_key));
                self.memory.record(&Decision::Void(Void { fence, receipt: receipt.clone() }))?;
                Ok(Outcome::Voided(receipt))
            }
        }
    }

    fn sign_plan(&mut self, request: &SignPlan, clock: LedgerTime) -> Result<Outcome, Stop> {
        let fence = self.check_fence(&request.fence, request.known.as_ref(), clock)?;
        match self.judge(request, fence, clock) {
            Ok(Verdict::New(signature)) => {
                let signed = signature.signed.clone();
                self.memory.record(&Decision::Signature(*signature))?;
                Ok(Outcome::Signed(signed))
            }
            Ok(Verdict::Repeated(signed)) => {
                self.note(fence)?;
                Ok(Outcome::Signed(signed))
            }
            Err(Stop::Refused(refused)) => {
                self.note(fence)?;
                Err(refused.into())
            }
            Err(Stop::Fault(error)) => Err(error.into()),
        }
    }

    fn judge(&self, request: &SignPlan, fence: Fence, clock: LedgerTime) -> Result<Verdict, Stop> {
        let (Some(wallet), Some(keys)) = (self.policy.wallets.get(&request.wallet), self.wallets.get(&request.wallet))
        else {
            return Err(Refused::whole(Refusal::WalletUnknown).into());
        };
        let known = self.memory.plan(request.plan)?;
        if matches!(known, Some(PlanMemory::Voided(_))) {
            return Err(Refused::whole(Refusal::PlanVoided).into());
        }
        if let Some(signed) = self.memory.signed(request.plan, request.version)? {
            return Ok(Verdict::Repeated(signed));
        }
        if self.memory.version_count(request.plan)? >= judge::PLAN_VERSIONS_MAX {
            return Err(Refused::whole(Refusal::VersionsExhausted).into());
        }
        // An engine that holds ledger time back must not keep expired intents alive.
        judge::check_intents(&self.policy, wallet, request, fence.time.max(clock))?;
        let change_index_max = self.memory.change_index_max(request.wallet)?;
        let rules = judge::spend_rules(wallet, &request.anchor, change_index_max);
        let proposal = Proposal::read(&request.psbt.0, &request.payments, keys, &rules)?;
        let fee = proposal.fee_sat();
        judge::check_fee_of_intents(fee, &request.payments)?;
        let (inputs, change_index) = (proposal.inputs(), proposal.change_index());
        self.check_plan(request, &inputs, known.as_ref())?;
        let now = self.now(request.wallet, clock)?;
        let charges = self.check_limits(request, wallet, fee, now)?;
        let signed = stack::wiped(|| proposal.sign(keys, &self.blinding));
        let (transaction, txid) = signed.ok_or(Fault::SelfCheck)?;
        Ok(Verdict::New(Box::new(Signature {
            fence,
            wallet: request.wallet,
            anchor: request.anchor,
            inputs,
            payments: judge::payments_of(&request.payments),
            charges,
            change_index,
            time: now,
            signed: Signed {
                plan: request.plan,
                version: request.version,
                transaction: Bytes(transaction),
                txid: TxId(txid),
                fee: Amount::new(u128::from(fee)),
            },
        })))
    }

    /// One plan, one anchor, one set of payments; one coin, one plan; one withdrawal, one plan.
    fn check_plan(&self, request: &SignPlan, inputs: &[Input], known: Option<&PlanMemory>) -> Result<(), Stop> {
        if matches!(known, Some(PlanMemory::Signed { anchor }) if *anchor != request.anchor) {
            return Err(Refused::whole(Refusal::AnchorChanged).into());
        }
        let other = |owner: Option<PlanId>| owner.is_some_and(|owner| owner != request.plan);
        for (place, input) in inputs.iter().enumerate() {
            if other(self.memory.outpoint_plan(input)?) {
                return Err(Refused::at(Refusal::OutpointTaken, place).into());
            }
        }
        for (place, payment) in request.payments.iter().enumerate() {
            if other(self.memory.withdrawal_plan(payment.intent.withdrawal)?) {
                return Err(Refused::at(Refusal::WithdrawalTaken, place).into());
            }
        }
        if known.is_some() && self.memory.payments(request.plan)? != judge::payments_of(&request.payments) {
            return Err(Refused::whole(Refusal::PaymentsChanged).into());
        }
        Ok(())
    }

    /// What the version adds to the counters, if they bear it.
    fn check_limits(
        &self,
        request: &SignPlan,
        wallet: &WalletPolicy,
        fee: u64,
        now: LedgerTime,
    ) -> Result<Vec<Charge>, Stop> {
        let approvals = judge::count_approvals(&self.policy, &request.payments);
        approvals.uncounted.iter().for_each(self.uncounted);
        judge::check_payment_limit(wallet, &request.payments, &approvals)?;
        let approved = approvals.approved;
        let charges = judge::charges(&request.payments, &approved, fee, &self.memory.charged(request.plan)?);
        if charges.is_empty() {
            return Ok(charges);
        }
        let added: u128 = charges.iter().map(|charge| u128::from(charge.amount)).sum();
        let windows = [
            (Refusal::LimitHour, judge::HOUR_MS, wallet.automatic.hour),
            (Refusal::LimitDay, judge::DAY_MS, wallet.automatic.day),
        ];
        for (reason, window, limit) in windows {
            let used = self.memory.charged_since(request.wallet, start(now, window))?;
            if u128::from(used) + added > limit.units() {
                return Err(Refused::whole(reason).into());
            }
        }
        for charge in charges.iter().filter(|charge| !charge.script.0.is_empty()) {
            let used = self.memory.charged_to_since(request.wallet, &charge.script.0, start(now, judge::DAY_MS))?;
            if u128::from(used) + u128::from(charge.amount) > wallet.automatic.destination_day.units() {
                return Err(judge::refuse_destination(&charge.script, &request.payments, &approved).into());
            }
        }
        Ok(charges)
    }

    /// The time by which limits are counted: the signer's own clock, and never before the last charge. Ledger time is
    /// the engine's word: one that holds it back and then lets it jump would get the limits of two windows at once.
    fn now(&self, wallet: WalletId, clock: LedgerTime) -> Result<LedgerTime, MemoryError> {
        Ok(self.memory.charge_time_max(wallet)?.map_or(clock, |last| last.max(clock)))
    }

    fn check_fence(&self, fence: &Fence, known: Option<&KnownRow>, clock: LedgerTime) -> Result<Fence, Stop> {
        Ok(judge::check_fence(fence, known, &self.policy.platform, self.memory.highest().as_ref(), clock)?)
    }

    /// Remembers a place in the journal if it is later than the last one.
    fn note(&mut self, fence: Fence) -> Result<(), MemoryError> {
        if self.memory.highest() == Some(fence) { Ok(()) } else { self.memory.record(&Decision::Seen(fence)) }
    }
}

/// The end of what no longer counts in a window that ends at `now`; `None` while the first window is not over.
fn start(now: LedgerTime, window_ms: u64) -> Option<LedgerTime> {
    now.0.checked_sub(window_ms).map(LedgerTime)
}

fn derive(keys: &KeyStore, wallet: &WalletPolicy) -> Result<WalletKeys, KeyStoreError> {
    let secrets = keys.account(wallet.network, wallet.script, wallet.account)?;
    let blinding = random_bytes::<32>()?;
    let public = stack::wiped(|| secrets.public(&blinding));
    let [external, internal] = descriptors(&public)?;
    Ok(WalletKeys { secrets, public, external, internal })
}
