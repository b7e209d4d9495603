//! Everything in a run that outlives a process of the platform: the network, the outside wallet, the signer, the journal, the clock, and the customers with what they were promised.

use crate::auditor::{Auditor, RawRow, chain::Compared};
use crate::chaos::Chaos;
use crate::ports::{MemorySnapshots, NodeCaller, ProcessJournal, SignerLink, SignerTrouble, SimClock, lock};
use crate::process::Process;
use crate::rng::Rng;
use bitcoin::Transaction;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use florin::node::bitcoind::Bitcoind;
use florin_chain::bitcoin::mnemonic::Mnemonic;
use florin_core::command::Outcome;
use florin_core::id::{CommandId, CustomerId, Digest, LedgerTime};
use florin_devnet::miner::Miner;
use florin_devnet::network::{Network, NodeId};
use florin_devnet::outside::{AddressForm, OutsideWallet};
use florin_devnet::params::COINBASE_MATURITY;
use florin_devnet::policy::RelayPolicy;
use florin_engine::follower::nodes::Seat;
use florin_engine::lanes::Ask;
use florin_engine::writer::{Answer, Ticket, WriterConfig};
use florin_signer::approve::OperatorKey;
use florin_signer::keystore::KeyStore;
use florin_signer::memory::Memory;
use florin_signer::policy::Policy;
use florin_signer::session::Signer;
use florin_store::memory::MemoryJournal;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Nodes in the network; the quorum is two of them, and at most one is faulty at a time.
pub const NODES: usize = 3;

/// The first journalled block: by then the outside wallet has coins to spend.
pub const START_HEIGHT: u32 = COINBASE_MATURITY + 20;

/// When a run starts: some moment after the genesis block's.
const START_MS: u64 = 1_790_000_000_000;

/// The journal's id in every run.
pub const PLATFORM: [u8; 16] = [0xf1; 16];

/// The signer's policy: small automatic limits, one operator of one.
const POLICY: &str = include_str!("policy.toml");

/// The operator's secret. It guards nothing.
const OPERATOR: [u8; 32] = [0x0b; 32];

/// A command that was sent and not answered yet.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What was sent.
    pub ask: Ask,
    /// Its id, where it has one.
    pub id: Option<CommandId>,
}

/// The world of one run.
pub struct World {
    /// The run's randomness.
    pub rng: Rng,
    /// The time.
    pub clock: SimClock,
    /// The network.
    pub network: Arc<Mutex<Network>>,
    /// The miner, whose rewards the outside wallet gets.
    pub miner: Miner,
    /// Everybody else's wallet.
    pub outside: OutsideWallet,
    /// The outside wallet's newest payment.
    pub last_payment: Option<Transaction>,
    /// The signer and its troubles.
    pub signer: SignerLink,
    /// The descriptors of the signer's wallet.
    pub descriptors: [String; 2],
    /// The operator who approves.
    pub operator: OperatorKey,
    /// The rows.
    pub rows: MemoryJournal,
    /// The snapshots.
    pub snapshots: MemorySnapshots,
    /// The fate of the process.
    pub chaos: Chaos,
    /// The process.
    pub process: Option<Process>,
    /// The auditor.
    pub auditor: Auditor,
    /// Customers that were opened.
    pub customers: Vec<CustomerId>,
    /// Commands that wait for an answer.
    pub waiting: BTreeMap<Ticket, Sent>,
    /// Commands whose answer was lost, to be sent again.
    pub again: VecDeque<Sent>,
    /// What happened, and how often.
    pub counts: BTreeMap<String, u64>,
    /// The step.
    pub step: u64,
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
        let clock = SimClock::default();
        clock.set(START_MS);
        let mut network = Network::new(NODES, &RelayPolicy::default(), START_MS / 1_000);
        let outside = OutsideWallet::new([7; 32]);
        let mut miner = Miner::new(outside.script(AddressForm::Segwit), 1);
        for _ in 0..START_HEIGHT {
            network.mine(NodeId(0), &mut miner, 1).expect("a fresh network takes its miner's blocks");
        }
        network.settle();
        let keys = KeyStore::demo(Mnemonic::from_entropy(&[9; 32]).expect("32 bytes are enough").seed(""));
        let policy = Policy::parse(&POLICY.replace("OPERATOR", &OperatorKey::from_secret(&OPERATOR).public_text()))
            .expect("the policy is right");
        let kit = keys.kit(florin_chain::bitcoin::network::Network::Regtest, 0).expect("play keys derive");
        let taproot = kit.entries.last().expect("a kit has every kind");
        let descriptors = [taproot.external.clone(), taproot.internal.clone()];
        let memory = Memory::volatile(PLATFORM, [3; 16]).expect("memory in memory can be made");
        let signer = Signer::new(&keys, policy, memory).expect("the signer starts");
        let chaos = Chaos::default();
        let signer = SignerLink {
            signer: Arc::new(Mutex::new(signer)),
            troubles: Arc::default(),
            clock: clock.clone(),
            chaos: chaos.clone(),
        };
        let mut snapshots = MemorySnapshots::default();
        snapshots.chaos = chaos.clone();
        World {
            rng: Rng::new(seed),
            clock,
            network: Arc::new(Mutex::new(network)),
            miner,
            outside,
            last_payment: None,
            signer,
            descriptors,
            operator: OperatorKey::from_secret(&OPERATOR),
            rows: MemoryJournal::new(),
            snapshots,
            chaos,
            process: None,
            auditor: Auditor::default(),
            customers: Vec::new(),
            waiting: BTreeMap::new(),
            again: VecDeque::new(),
            counts: BTreeMap::new(),
            step: 0,
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
        let caller = NodeCaller { network: self.network.clone(), node: NodeId(index), chaos: self.chaos.clone() };
        Seat { name: format!("node {index}"), group: format!("group {index}"), node: Box::new(Bitcoind::new(caller)) }
    }

    /// The journal as a new process sees it.
    pub fn journal(&self) -> ProcessJournal {
        ProcessJournal { rows: self.rows.clone(), chaos: self.chaos.clone() }
    }

    /// What a new process says of itself.
    pub fn writer_config(&self) -> WriterConfig {
        WriterConfig { node: "sim".into(), build: "sim".into(), config: Digest([1; 32]), platform_if_new: PLATFORM }
    }

    /// Sends a command; its answer is looked for in every fold.
    pub fn send(&mut self, sent: Sent) {
        let Some(process) = &mut self.process else {
            self.again.push_back(sent);
            return;
        };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        match process.submit(ticket, sent.ask.clone()) {
            Ok(()) => {
                self.waiting.insert(ticket, sent);
            }
            Err(refusal) => {
                self.again.push_back(sent);
                self.count(refusal.code());
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
        for reply in replies {
            let sent = self.waiting.remove(&reply.ticket);
            if let Some(code) = reply.answer.code() {
                self.count(code);
            }
            let Some(sent) = sent else { continue };
            match reply.answer {
                Answer::Done(outcome) | Answer::Repeated(outcome) => {
                    if let Some(id) = sent.id
                        && self.auditor.row_of(&id.0).is_none_or(|row| row > reply.after.0)
                    {
                        return Err(format!("command {id} was acknowledged and is not in the journal"));
                    }
                    self.learn(&sent, &outcome);
                }
                Answer::NotCommitted => self.again.push_back(sent),
                Answer::Refused(_) | Answer::NoScript(_) | Answer::Quarantined => {}
            }
        }
        Ok(())
    }

    fn learn(&mut self, sent: &Sent, outcome: &Outcome) {
        if let Ask::Request(request) = &sent.ask
            && let florin_core::command::Command::OpenCustomer(customer) = &request.command
            && *outcome == Outcome::Done(true)
            && !self.customers.contains(customer)
        {
            self.customers.push(*customer);
        }
    }

    /// Shows the auditor every row that it has not read.
    ///
    /// # Errors
    /// What it finds.
    pub fn audit(&mut self) -> Result<(), String> {
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

    /// Compares books and chain at every node that is at the journal's tip.
    ///
    /// # Errors
    /// Where they differ.
    pub fn compare(&mut self) -> Result<(), String> {
        let mut equal = 0;
        {
            let network = lock(&self.network);
            for id in network.ids() {
                if self.auditor.compare(network.node(id))? == Compared::Equal {
                    equal += 1;
                }
            }
        }
        if equal > 0 {
            self.count("compared with the chain");
        }
        Ok(())
    }

    /// The process dies: what waited in it is gone, and whoever sent it does not know what became of it.
    pub fn crash(&mut self) {
        self.process = None;
        let waiting = std::mem::take(&mut self.waiting);
        self.again.extend(waiting.into_values());
        self.chaos.revive();
        self.count("crash");
    }

    /// Makes the signer fail in its next questions.
    pub fn trouble_signer(&mut self, trouble: SignerTrouble) {
        lock(&self.signer.troubles).push_back(trouble);
        self.count(format!("signer {trouble:?}").to_lowercase());
    }

    /// Ledger time as the writer would see it.
    pub fn ledger_time(&self) -> LedgerTime {
        LedgerTime(self.now_ms())
    }
}
