//! Everything in a run that outlives a process of the platform: the network, the outside wallet, the signer, the journal, the clock, and the customers with what they were promised.

use crate::ailments::{Names, NodeFaults};
use crate::archive::Archive;
use crate::auditor::{Auditor, RawRow, chain::Compared};
use crate::chaos::Chaos;
use crate::coverage;
use crate::ports::{
    AppendFault, MemorySnapshots, NodeCaller, ProcessJournal, ProcessKeeper, ProcessPast, SimClock, lock,
};
use crate::process::Process;
use crate::rng::Rng;
use crate::signer::{SignerLink, SignerProcess, SignerTrouble};
use bitcoin::Transaction;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use florin::node::bitcoind::Bitcoind;
use florin::signing::known::Remembered;
use florin_chain::bitcoin::keys::ScriptKind;
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_chain::bitcoin::network::Network as ChainNetwork;
use florin_core::command::{Outcome, PART_COST_MAX};
use florin_core::id::{CommandId, CustomerId, Digest, LedgerTime, Seq};
use florin_devnet::miner::Miner;
use florin_devnet::network::{Network, NodeId};
use florin_devnet::outside::{AddressForm, OutsideWallet};
use florin_devnet::params::COINBASE_MATURITY;
use florin_devnet::policy::RelayPolicy;
use florin_engine::follower::deep::RECORDS_MAX;
use florin_engine::follower::nodes::Seat;
use florin_engine::lanes::Ask;
use florin_engine::unarchive::PastLimits;
use florin_engine::writer::{Answer, Ticket, WriterConfig};
use florin_signer::approve::OperatorKey;
use florin_signer::keystore::KeyStore;
use florin_signer::policy::Policy;
use florin_store::memory::MemoryJournal;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

/// Nodes in the network; the quorum is two of them, and at most one is faulty at a time.
pub const NODES: usize = 3;

/// The first journalled block: by then the outside wallet has coins to spend.
pub const START_HEIGHT: u32 = COINBASE_MATURITY + 20;

/// When a run starts: some moment after the genesis block's.
pub(crate) const START_MS: u64 = 1_790_000_000_000;

/// The journal's id in every run.
pub const PLATFORM: [u8; 16] = [0xf1; 16];

/// The signer's policy: small automatic limits, one operator of one.
const POLICY: &str = include_str!("policy.toml");

/// The operator's secret. It guards nothing.
const OPERATOR: [u8; 32] = [0x0b; 32];

/// The words' entropy of the signer's seed. It guards nothing.
const ENTROPY: [u8; 32] = [9; 32];

/// Payments of the outside wallet that are kept in mind.
const PAYMENTS_KEPT: usize = 40;

/// So few rows that the journal of a run is read for what left the state in many steps.
const SLICE_ROWS_FEW: usize = 100;

/// So few records that they are used up now and then, and more than belong to one plan.
const RECORDS_FEW: usize = 300;

/// A command that was sent and not answered yet.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What was sent.
    pub ask: Ask,
    /// Its id, where it has one.
    pub id: Option<CommandId>,
}

/// What differs from seed to seed for a whole run.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// What the hot wallet's scripts are.
    pub kind: ScriptKind,
    /// What one command books of a block.
    pub part_cost_max: usize,
    /// Until when after its request a withdrawal may be signed.
    pub intent_ms: u64,
    /// Whether the signer's automatic limits are soon used up.
    pub is_tight: bool,
    /// How many blocks the platform keeps, where the policy says; else far more than a run has.
    pub kept_blocks: Option<u32>,
    /// Rows folded in one step by whoever looks for what left the state.
    pub slice_rows: usize,
    /// How many records of what left are held at once.
    pub records_max: usize,
}

impl Conditions {
    fn draw(seed: u64) -> Conditions {
        let mut rng = Rng::of_step(seed, u64::MAX);
        let kind = match rng.below(20) {
            0..=10 => ScriptKind::Tr,
            11..=13 => ScriptKind::Wpkh,
            14..=15 => ScriptKind::ShWpkh,
            _ => ScriptKind::Pkh,
        };
        // Mostly small, so that blocks with many receipts come in parts.
        let part_cost_max = if rng.chance(70) { 40 } else { PART_COST_MAX };
        let intent_ms = if rng.chance(50) { 600_000 } else { 3_600_000 };
        let is_tight = rng.chance(25);
        // Mostly few, so that what is done with leaves, and forks reach below.
        let kept_blocks = if rng.chance(90) { Some(rng.between(5, 9) as u32) } else { None };
        let slice_rows = if rng.chance(50) { SLICE_ROWS_FEW } else { PastLimits::default().slice_rows };
        let records_max = if rng.chance(50) { RECORDS_FEW } else { RECORDS_MAX };
        Conditions { kind, part_cost_max, intent_ms, is_tight, kept_blocks, slice_rows, records_max }
    }
}

/// The descriptors of a wallet, receiving first.
pub type Descriptors = [String; 2];

/// The world of one run.
pub struct World {
    /// The run's seed.
    pub seed: u64,
    /// The randomness of the step that runs now.
    pub rng: Rng,
    /// What holds for the whole run.
    pub conditions: Conditions,
    /// The time.
    pub clock: SimClock,
    /// The network.
    pub network: Arc<Mutex<Network>>,
    /// What is wrong with its nodes.
    pub node_faults: Arc<Mutex<NodeFaults>>,
    /// Which nodes the platform names.
    pub(crate) names: Names,
    /// The miner, whose rewards the outside wallet gets.
    pub miner: Miner,
    /// Everybody else's wallet.
    pub outside: OutsideWallet,
    /// The outside wallet's newest payments, the newest last.
    pub payments: VecDeque<Transaction>,
    /// The signer and its troubles.
    pub signer: SignerLink,
    /// What is known of the signer, beside the journal.
    pub known_signer: Remembered,
    /// The signer's seed, which a thief has as well.
    pub stolen_seed: Vec<u8>,
    /// The descriptors of the wallets: the signer's, one of another chain, one that is retired.
    pub descriptors: [Descriptors; 3],
    /// The operator who approves.
    pub operator: OperatorKey,
    /// The rows.
    pub rows: MemoryJournal,
    /// What befalls the next appends.
    pub append_faults: Arc<Mutex<VecDeque<AppendFault>>>,
    /// Whether the rows can't be read now.
    pub is_unreadable: bool,
    /// The snapshots.
    pub snapshots: MemorySnapshots,
    /// The fate of the process that acts.
    pub chaos: Chaos,
    /// The process that acts.
    pub process: Option<Process>,
    /// Another process on the same journal that believes that it leads.
    pub rival: Option<Process>,
    /// How many processes were started.
    pub processes: u64,
    /// The auditor.
    pub auditor: Auditor,
    /// Customers that were opened.
    pub customers: Vec<CustomerId>,
    /// Commands that wait for an answer, with the process that took them.
    pub waiting: BTreeMap<Ticket, (u64, Sent)>,
    /// Commands whose answer was lost, to be sent again.
    pub again: VecDeque<Sent>,
    /// The answers given, of which each command has one for ever.
    pub outcomes: BTreeMap<CommandId, Outcome>,
    /// The newest row that anybody was told is durable.
    pub acknowledged: u64,
    /// The newest answer to each ticket that a scenario waits for.
    pub awaited: BTreeMap<Ticket, Answer>,
    /// What happened, and how often.
    pub counts: BTreeMap<String, u64>,
    /// The step.
    pub step: u64,
    /// What the node at each place was last compared at: the journal's row and the node's tip.
    compared: BTreeMap<NodeId, (u64, [u8; 32])>,
    /// The process and the row that the engine last checked the books at.
    pub(crate) books_at: Option<(u64, Seq)>,
    /// Proofs of the operator who comes by that nobody has answered yet.
    pub(crate) proofs_sent: BTreeSet<CommandId>,
    /// What left the platform's state, as whoever reads the journal knows it.
    pub(crate) archive: Archive,
    /// How many decisions the auditor was shown.
    decisions_seen: usize,
    tickets: u64,
    trace: sha256::HashEngine,
}

/// A run that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// In which step.
    pub step: u64,
    /// What.
    pub what: String,
}

impl World {
    /// The world of a seed, with a network that has coins to spend and no process yet.
    pub fn new(seed: u64) -> World {
        let conditions = Conditions::draw(seed);
        let clock = SimClock::default();
        clock.set(START_MS);
        let mut network = Network::new(NODES, &RelayPolicy::default(), START_MS / 1_000);
        let outside = OutsideWallet::new([7; 32]);
        let mut miner = Miner::new(outside.script(AddressForm::Segwit), 1);
        for _ in 0..START_HEIGHT {
            network.mine(NodeId(0), &mut miner, 1).expect("a fresh network takes its miner's blocks");
        }
        network.settle();
        let phrase = Mnemonic::from_entropy(&ENTROPY).expect("32 bytes are enough");
        let stolen_seed = phrase.seed("").expose_bytes().to_vec();
        let keys = KeyStore::demo(phrase.seed(""));
        let kinds = [conditions.kind, ScriptKind::Tr, ScriptKind::Tr];
        let networks = [ChainNetwork::Regtest, ChainNetwork::Signet, ChainNetwork::Regtest];
        let descriptors =
            [0, 1, 2].map(|account| descriptors(&keys, networks[account], account as u32, kinds[account]));
        let chaos = Chaos::default();
        let signer = SignerLink {
            process: Arc::new(Mutex::new(SignerProcess::new(keys, signer_policy(&conditions)))),
            troubles: Arc::default(),
            clock: clock.clone(),
            chaos: chaos.clone(),
            refused: Arc::default(),
            struck: Arc::default(),
        };
        World {
            seed,
            rng: Rng::of_step(seed, 0),
            conditions,
            clock,
            network: Arc::new(Mutex::new(network)),
            node_faults: Arc::default(),
            names: Names::default(),
            miner,
            outside,
            payments: VecDeque::new(),
            signer,
            known_signer: Remembered::default(),
            stolen_seed,
            descriptors,
            operator: OperatorKey::from_secret(&OPERATOR),
            rows: MemoryJournal::new(),
            append_faults: Arc::default(),
            is_unreadable: false,
            snapshots: MemorySnapshots::default(),
            chaos,
            process: None,
            rival: None,
            processes: 0,
            auditor: Auditor::default(),
            customers: Vec::new(),
            waiting: BTreeMap::new(),
            again: VecDeque::new(),
            outcomes: BTreeMap::new(),
            acknowledged: 0,
            awaited: BTreeMap::new(),
            counts: BTreeMap::new(),
            step: 0,
            compared: BTreeMap::new(),
            books_at: None,
            proofs_sent: BTreeSet::new(),
            archive: Archive::default(),
            decisions_seen: 0,
            tickets: 0,
            trace: sha256::HashEngine::default(),
        }
    }

    /// The time in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Counts something, and puts it into the trace.
    pub fn count(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.trace.input(what.as_bytes());
        self.trace.input(&[0]);
        *self.counts.entry(what).or_default() += 1;
    }

    /// The hash of everything that was counted, and of the journal.
    pub fn trace(&self) -> String {
        let mut engine = self.trace.clone();
        if let Some(row) = self.rows.rows().last() {
            engine.input(&row.hash.0);
        }
        sha256::Hash::from_engine(engine).to_string()
    }

    /// A new command's id and a request's hash.
    pub fn new_id(&mut self) -> (CommandId, Digest) {
        let mut id: [u8; 16] = self.rng.bytes();
        id[..6].copy_from_slice(&self.now_ms().to_be_bytes()[2..]);
        id[6] = id[6] & 0x0f | 0x70;
        id[8] = id[8] & 0x3f | 0x80;
        (CommandId(id), Digest(self.rng.bytes()))
    }

    /// A node as a new process reaches it.
    pub fn seat(&self, index: usize) -> Seat {
        let (network, chaos, faults) = (self.network.clone(), self.chaos.clone(), self.node_faults.clone());
        let caller = NodeCaller { network, node: NodeId(index), chaos, faults };
        Seat { name: seat_name(NodeId(index)), group: format!("group {index}"), node: Box::new(Bitcoind::new(caller)) }
    }

    /// What is known of the signer, as a new process keeps it.
    pub fn signer_keeper(&self) -> ProcessKeeper {
        ProcessKeeper { record: self.known_signer.clone(), chaos: self.chaos.clone() }
    }

    /// The journal as a new process sees it.
    pub fn journal(&self) -> ProcessJournal {
        ProcessJournal { rows: self.rows.clone(), chaos: self.chaos.clone(), faults: self.append_faults.clone() }
    }

    /// What left the state, as a new process finds it, and how many records it holds at once.
    pub fn past(&self) -> (ProcessPast, usize) {
        let limits = PastLimits { slice_rows: self.conditions.slice_rows, ..PastLimits::default() };
        (ProcessPast::new(self.journal(), limits), self.conditions.records_max)
    }

    /// What a new process says of itself.
    pub fn writer_config(&self) -> WriterConfig {
        WriterConfig { node: "sim".into(), build: "sim".into(), config: Digest([1; 32]), platform_if_new: PLATFORM }
    }

    /// Sends a command; its answer is looked for in every fold. Without a process that takes it, it is sent again later.
    pub fn send(&mut self, sent: Sent) -> Option<Ticket> {
        let Some(process) = &mut self.process else {
            self.again.push_back(sent);
            return None;
        };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        match process.submit(ticket, sent.ask.clone()) {
            Ok(()) => {
                self.waiting.insert(ticket, (process.number, sent));
                Some(ticket)
            }
            Err(refusal) => {
                self.again.push_back(sent);
                self.count(refusal.code());
                None
            }
        }
    }

    /// Takes the answers in that may be given now, and holds them against the journal.
    ///
    /// # Errors
    /// What is wrong.
    pub fn take_answers(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let replies = process.fold()?;
        self.audit()?;
        self.check_books()?;
        for reply in replies {
            self.count_answer(&reply.answer);
            let Some((_, sent)) = self.waiting.remove(&reply.ticket) else { continue };
            if let Some(awaited) = self.awaited.get_mut(&reply.ticket) {
                *awaited = reply.answer.clone();
            }
            match reply.answer {
                Answer::Done(outcome) | Answer::Repeated(outcome) => {
                    if let Some(id) = sent.id
                        && self.auditor.row_of(&id.0).is_none_or(|row| row > reply.after.0)
                    {
                        return Err(format!("command {id} was acknowledged and is not in the journal"));
                    }
                    self.acknowledged = self.acknowledged.max(reply.after.0);
                    self.learn(&sent, outcome)?;
                }
                Answer::NotCommitted => self.again.push_back(sent),
                Answer::Refused(_) | Answer::NoScript(_) | Answer::Quarantined => {}
            }
        }
        Ok(())
    }

    /// Counts an answer that is no success, refusals by enum and code.
    pub fn count_answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Refused(refusal) => self.count(coverage::refused(&coverage::name(refusal))),
            Answer::NoScript(_) | Answer::Quarantined | Answer::NotCommitted => {
                self.count(answer.code().unwrap_or_default());
            }
            Answer::Done(_) | Answer::Repeated(_) => {}
        }
    }

    fn learn(&mut self, sent: &Sent, outcome: Outcome) -> Result<(), String> {
        if let Ask::Request(request) = &sent.ask
            && let florin_core::command::Command::OpenCustomer(customer) = &request.command
            && outcome == Outcome::Done(true)
            && !self.customers.contains(customer)
        {
            self.customers.push(*customer);
        }
        let Some(id) = sent.id else { return Ok(()) };
        if self.proofs_sent.remove(&id) && outcome == Outcome::Done(true) {
            self.count("operator proves a conflict");
        }
        match self.outcomes.insert(id, outcome.clone()) {
            Some(before) if before != outcome => {
                Err(format!("command {id} was answered {before:?}, and then {outcome:?}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Shows the auditor every row that it has not read.
    ///
    /// # Errors
    /// What it finds.
    pub fn audit(&mut self) -> Result<(), String> {
        for (command, time_ms, clock_ms) in self.clock.decisions_after(self.decisions_seen) {
            self.decisions_seen += 1;
            self.auditor.decided(command, time_ms, clock_ms);
        }
        let rows = self.rows.rows();
        let read = self.auditor.seq() as usize;
        for row in rows.get(read..).unwrap_or_default() {
            let raw = RawRow {
                seq: row.seq.0,
                epoch: row.epoch.0,
                time_ms: row.time.0,
                previous: row.previous.0,
                payload: &row.payload,
                hash: row.hash.0,
            };
            self.auditor.read(raw)?;
        }
        Ok(())
    }

    /// Compares books and chain at every node that is at the journal's tip, where either has moved since the last time.
    ///
    /// # Errors
    /// Where they differ.
    pub fn compare(&mut self) -> Result<(), String> {
        let network = self.network.clone();
        let network = lock(&network);
        for id in network.ids() {
            let at = (self.auditor.seq(), network.node(id).tip().to_byte_array());
            if self.compared.insert(id, at) == Some(at) {
                continue;
            }
            if self.auditor.compare(network.node(id))? == Compared::Equal {
                self.count("compared with the chain");
            }
        }
        Ok(())
    }

    /// Makes the signer fail in its next question. After a death it is away for some questions more. What comes of it is counted
    /// when it strikes.
    pub fn trouble_signer(&mut self, trouble: SignerTrouble) {
        let draw = self.rng.draw();
        let mut troubles = lock(&self.signer.troubles);
        troubles.push_back((trouble, draw));
        if matches!(trouble, SignerTrouble::DiesBefore | SignerTrouble::DiesWithin | SignerTrouble::DiesAfter) {
            troubles.extend((0..draw % 3).map(|_| (SignerTrouble::Away, 0)));
        }
    }

    /// Keeps a payment of the outside wallet in mind.
    pub fn remember_payment(&mut self, tx: Transaction) {
        self.payments.push_back(tx);
        while self.payments.len() > PAYMENTS_KEPT {
            self.payments.pop_front();
        }
    }

    /// Ledger time as the writer would see it.
    pub fn ledger_time(&self) -> LedgerTime {
        LedgerTime(self.now_ms())
    }
}

/// What the platform calls a node.
pub(crate) fn seat_name(node: NodeId) -> String {
    format!("node {}", node.0)
}

fn descriptors(keys: &KeyStore, network: ChainNetwork, account: u32, kind: ScriptKind) -> Descriptors {
    let kit = keys.kit(network, account).expect("play keys derive");
    let entry = kit.entries.into_iter().find(|entry| entry.kind == kind).expect("a kit has every kind");
    [entry.external, entry.internal]
}

#[cfg(test)]
pub(crate) fn signer_policy_for_tests() -> Policy {
    signer_policy(&Conditions::draw(1))
}

fn signer_policy(conditions: &Conditions) -> Policy {
    let hour = if conditions.is_tight { "3000000" } else { "2000000000" };
    let text = POLICY
        .replace("OPERATOR", &OperatorKey::from_secret(&OPERATOR).public_text())
        .replace("KIND", conditions.kind.name())
        .replace("HOUR", hour);
    Policy::parse(&text).expect("the policy is right")
}
