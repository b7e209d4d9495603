//! The engine's ports in the simulation: the network's nodes through the real node client, a journal and snapshots in memory; each with the edges at which the process may die.

use crate::ailments::NodeFaults;
use crate::chaos::{Chaos, Edge};
use florin::node::rpc::{Caller, RpcFault};
use florin::signing::known::{KeepFault, KnownSigner, Remembered, SignerKeeper};
use florin_core::custody::ArchivedHead;
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row, SnapshotHeader};
use florin_core::wire::Bytes;
use florin_devnet::network::{Network, NodeId, Reply as NodeReply};
use florin_engine::ports::{Past, PastFault, SnapshotFault, Snapshots};
use florin_engine::unarchive::{Gathered, JournalPast, PastLimits};
use florin_store::memory::MemoryJournal;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a simulated fault says of itself.
#[derive(Debug, thiserror::Error)]
#[error("simulated: {0}")]
pub struct Simulated(pub &'static str);

/// A lock that a dying process left behind is as good as any.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was seen of a decision: the command's id, the ledger time, and what the clock showed.
pub type Decision = ([u8; 16], u64, u64);

/// Time, as the simulation sets it, and what was decided meanwhile.
#[derive(Debug, Clone, Default)]
pub struct SimClock(Arc<AtomicU64>, Arc<Mutex<Vec<Decision>>>);

impl SimClock {
    /// The time in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    /// Sets it.
    pub fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }
    /// A command is being decided at this ledger time.
    pub fn see_decision(&self, command: [u8; 16], time_ms: u64) {
        lock(&self.1).push((command, time_ms, self.now_ms()));
    }
    /// What was decided, but for the first so many.
    pub fn decisions_after(&self, count: usize) -> Vec<Decision> {
        lock(&self.1).get(count..).unwrap_or_default().to_vec()
    }
}

/// One node of the network, as the platform reaches it.
pub struct NodeCaller {
    /// The network.
    pub network: Arc<Mutex<Network>>,
    /// Which node.
    pub node: NodeId,
    /// The process that calls.
    pub chaos: Chaos,
    /// What is wrong with the nodes.
    pub faults: Arc<Mutex<NodeFaults>>,
}

impl Caller for NodeCaller {
    fn call(&self, method: &str, params: Value) -> Result<Value, RpcFault> {
        let gone = |what| RpcFault::Transport(Box::new(Simulated(what)));
        if !self.chaos.pass("node call", Edge::Before) {
            return Err(gone("the process died before it called"));
        }
        let mut network = lock(&self.network);
        let mut reply = network.rpc(self.node, method, params.clone());
        if !self.chaos.pass("node call", Edge::After) {
            return Err(gone("the process died after it called"));
        }
        lock(&self.faults).judge(&mut network, self.node, (method, params), &mut reply, &self.chaos);
        drop(network);
        match reply {
            NodeReply::Answer(Ok(value)) => Ok(value),
            NodeReply::Answer(Err(error)) => {
                Err(RpcFault::Node { code: i64::from(error.code), message: error.message })
            }
            NodeReply::Lost => Err(gone("the reply is lost")),
            NodeReply::Down => Err(gone("the node is down")),
        }
    }
}

/// The journal as one process sees it.
#[derive(Clone)]
pub struct ProcessJournal {
    /// The rows, which outlive every process.
    pub rows: MemoryJournal,
    /// The process.
    pub chaos: Chaos,
    /// What befalls the next appends, of any process, one each.
    pub faults: Arc<Mutex<VecDeque<AppendFault>>>,
}

/// How an append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    /// The row is written, and nobody knows.
    UnknownWritten,
    /// The row is not written, and nobody knows.
    UnknownNotWritten,
    /// The row is not written, and its writer is told that another one leads.
    Fenced,
}

impl ProcessJournal {
    /// Appends, unless a fault strikes.
    fn append_or_fail(&mut self, row: &Row) -> Result<(), AppendError> {
        let Some(fault) = lock(&self.faults).pop_front() else { return self.rows.append(row) };
        let unknown = || AppendError::Unknown(Box::new(Simulated("nobody knows whether the row was written")));
        let fate = match fault {
            // Where another writer was first, that is what this one is told.
            AppendFault::UnknownWritten => self.rows.append(row).map_or_else(Err, |()| Err(unknown())),
            AppendFault::UnknownNotWritten => Err(unknown()),
            AppendFault::Fenced => Err(AppendError::Fenced),
        };
        if fault == AppendFault::Fenced || matches!(fate, Err(AppendError::Unknown(_))) {
            self.chaos.strike(format!("fault append {fault:?}").to_lowercase());
        }
        fate
    }
}

impl Journal for ProcessJournal {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        if !self.chaos.pass("append", Edge::Before) {
            return Err(AppendError::Unknown(Box::new(Simulated("the process died before the append"))));
        }
        let fate = self.append_or_fail(row);
        if !self.chaos.pass("append", Edge::After) {
            return Err(AppendError::Unknown(Box::new(Simulated("the process died after the append"))));
        }
        fate
    }

    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        self.rows.read(after, count_max).inspect_err(|_| self.chaos.strike("fault journal unreadable"))
    }

    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.rows.head()
    }
}

/// What left the state, as one process reads it from the journal.
pub struct ProcessPast {
    past: JournalPast,
    chaos: Chaos,
}

impl ProcessPast {
    /// Reads the journal of a process.
    pub fn new(journal: ProcessJournal, limits: PastLimits) -> ProcessPast {
        let chaos = journal.chaos.clone();
        ProcessPast { past: JournalPast::new(Box::new(journal), limits), chaos }
    }
}

impl Past for ProcessPast {
    fn last_archived(&mut self, head: &ArchivedHead, records_max: usize) -> Result<Option<Gathered>, PastFault> {
        let gone = |what| PastFault::Read(ReadError(Box::new(Simulated(what))));
        if !self.chaos.pass("past", Edge::Before) {
            return Err(gone("the process died before it read the journal's past"));
        }
        let found = self.past.last_archived(head, records_max);
        if !self.chaos.pass("past", Edge::After) {
            return Err(gone("the process died after it read the journal's past"));
        }
        found.inspect_err(|_| self.chaos.strike("fault past unreadable"))
    }

    fn row(&self) -> Seq {
        self.past.row()
    }

    fn leave(&mut self) {
        self.past.leave();
    }
}

/// What is known of the signer, as a process keeps it.
pub struct ProcessKeeper {
    /// The record, which outlives every process.
    pub record: Remembered,
    /// The process.
    pub chaos: Chaos,
}

impl SignerKeeper for ProcessKeeper {
    fn load(&mut self) -> Result<Option<KnownSigner>, KeepFault> {
        self.record.load()
    }

    fn keep(&mut self, known: &KnownSigner) -> Result<KnownSigner, KeepFault> {
        let gone = |what| KeepFault { code: "simulated", cause: Box::new(Simulated(what)) };
        if !self.chaos.pass("signer head", Edge::Before) {
            return Err(gone("the process died before it kept what it knows of the signer"));
        }
        let kept = self.record.keep(known);
        if !self.chaos.pass("signer head", Edge::After) {
            return Err(gone("the process died after it kept what it knows of the signer"));
        }
        kept
    }
}

type Snapshot = (SnapshotHeader, Vec<Bytes>);

/// Snapshots in memory, which outlive every process.
#[derive(Clone, Default)]
pub struct MemorySnapshots {
    newest: Arc<Mutex<Option<Snapshot>>>,
    /// Whether the newest one is spoilt.
    is_spoilt: Arc<AtomicBool>,
    /// The process.
    pub chaos: Chaos,
}

impl MemorySnapshots {
    /// Turns a bit of the newest snapshot over, as a bad disk would; says whether there was one.
    pub fn spoil(&self) -> bool {
        let mut newest = lock(&self.newest);
        let byte = newest.as_mut().and_then(|(_, chunks)| chunks.first_mut()).and_then(|chunk| chunk.0.first_mut());
        let is_done = byte.map(|byte| *byte ^= 1).is_some();
        // Twice is not at all.
        self.is_spoilt.fetch_xor(is_done, Ordering::Relaxed);
        is_done
    }

    /// Whether whoever starts now finds a spoilt snapshot.
    pub fn is_spoilt(&self) -> bool {
        self.is_spoilt.load(Ordering::Relaxed)
    }
}

impl MemorySnapshots {
    /// The newest snapshot is gone, as after a power cut before it was written out; says whether there was one.
    pub fn lose(&self) -> bool {
        self.is_spoilt.store(false, Ordering::Relaxed);
        lock(&self.newest).take().is_some()
    }
}

impl Snapshots for MemorySnapshots {
    fn newest(&mut self) -> Result<Option<(SnapshotHeader, Vec<Bytes>)>, SnapshotFault> {
        Ok(lock(&self.newest).clone())
    }

    fn put(&mut self, header: &SnapshotHeader, chunks: &[Bytes]) -> Result<(), SnapshotFault> {
        let gone = |what| SnapshotFault(Box::new(Simulated(what)));
        if !self.chaos.pass("snapshot", Edge::Before) {
            return Err(gone("the process died before the snapshot"));
        }
        *lock(&self.newest) = Some((header.clone(), chunks.to_vec()));
        self.is_spoilt.store(false, Ordering::Relaxed);
        if self.chaos.pass("snapshot", Edge::After) { Ok(()) } else { Err(gone("the process died after the snapshot")) }
    }
}
