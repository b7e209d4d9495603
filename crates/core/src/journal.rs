//! The journal: numbered, hash-linked rows of events, and the contract of whatever stores them.
//!
//! A row is one batch, decided together and durable together. This module never does I/O.

use crate::command::Outcome;
use crate::event::Event;
use crate::id::{CommandId, Digest, Epoch, LedgerTime, Seq};
use crate::wire::{Bytes, Message, Schema, Value, WireError};
use sha2::{Digest as _, Sha256};

/// The largest payload of one row. Stores keep a row in one cell; replicas send it in one piece.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// The most events one command may emit; larger work is a job over several commands.
pub const EVENTS_MAX: usize = 4096;

crate::message! {
    /// What one command did: its events, with its id where it has one, so that a repetition finds its answer.
    pub struct Entry {
        /// The command's id; absent for what the engine itself does.
        1: command: Option<CommandId>,
        /// SHA-256 of the request as it was sent, but for a person's name, of which it tells only that there was one: the
        /// same id with another request is refused.
        2: request: Option<Digest>,
        /// The facts, in order.
        3: events: Vec<Event>,
        /// The answer, remembered with the command's id.
        4: outcome: Option<Outcome>,
    }
}

crate::message! {
    /// A row's payload.
    pub struct Batch {
        /// Commands in the order they were decided.
        1: entries: Vec<Entry>,
    }
}

/// One row of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number: one more than its predecessor's.
    pub seq: Seq,
    /// The leadership that wrote it.
    pub epoch: Epoch,
    /// The ledger time at which its commands were decided.
    pub time: LedgerTime,
    /// The hash of row `seq - 1`; [`Digest::ZERO`] for the first.
    pub previous: Digest,
    /// An encoded [`Batch`], at most [`ROW_BYTES_MAX`] bytes.
    pub payload: Vec<u8>,
    /// The hash of all the above.
    pub hash: Digest,
}

impl Row {
    /// Seals a batch as the row after `previous`.
    pub fn seal(seq: Seq, epoch: Epoch, time: LedgerTime, previous: Digest, payload: Vec<u8>) -> Row {
        let mut row = Row { seq, epoch, time, previous, payload, hash: Digest::ZERO };
        row.hash = row.computed_hash();
        row
    }

    /// SHA-256 over a domain, the header fields as big-endian 64-bit numbers, the previous hash, and the payload with its length.
    pub fn computed_hash(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"florin/journal-row/1");
        for number in [self.seq.0, self.epoch.0, self.time.0] {
            hash.update(number.to_be_bytes());
        }
        hash.update(self.previous.0);
        hash.update((self.payload.len() as u64).to_be_bytes());
        hash.update(&self.payload);
        Digest(hash.finalize().into())
    }

    /// Checks that this row follows a row numbered `seq` with hash `previous`, and decodes its batch.
    ///
    /// # Errors
    /// In order: [`RowError::Gap`], [`RowError::BrokenLink`], [`RowError::WrongHash`], [`RowError::TooLarge`], [`RowError::Payload`],
    /// [`RowError::Restates`].
    pub fn open(&self, seq: Seq, previous: Digest) -> Result<Batch, RowError> {
        if self.seq != seq.next() {
            return Err(RowError::Gap { expected: seq.next(), found: self.seq });
        }
        if self.previous != previous {
            return Err(RowError::BrokenLink { seq: self.seq });
        }
        if self.hash != self.computed_hash() {
            return Err(RowError::WrongHash { seq: self.seq });
        }
        if self.payload.len() > ROW_BYTES_MAX {
            return Err(RowError::TooLarge { seq: self.seq });
        }
        let batch = Batch::decode(&self.payload).map_err(|source| RowError::Payload { seq: self.seq, source })?;
        if batch.entries.iter().flat_map(|entry| &entry.events).any(Event::is_restating) {
            return Err(RowError::Restates { seq: self.seq });
        }
        Ok(batch)
    }
}

/// Why a stored row can't be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A number is missing or repeated.
    #[error("row {expected} was expected and row {found} found")]
    Gap {
        /// The number that had to come.
        expected: Seq,
        /// The number that came.
        found: Seq,
    },
    /// The row does not name the hash of the row before it.
    #[error("row {seq} does not link to the row before it")]
    BrokenLink {
        /// The row.
        seq: Seq,
    },
    /// The row's hash is not that of its content.
    #[error("the content of row {seq} does not match its hash")]
    WrongHash {
        /// The row.
        seq: Seq,
    },
    /// The payload exceeds [`ROW_BYTES_MAX`].
    #[error("row {seq} is larger than a row may be")]
    TooLarge {
        /// The row.
        seq: Seq,
    },
    /// The payload is not a batch that this build knows.
    #[error("row {seq} holds something this build can't read")]
    Payload {
        /// The row.
        seq: Seq,
        /// What exactly.
        source: WireError,
    },
    /// The batch restates a record, as only snapshots do.
    #[error("row {seq} holds an event that only snapshots hold")]
    Restates {
        /// The row.
        seq: Seq,
    },
}

impl RowError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            RowError::Gap { .. } => "journal_gap",
            RowError::BrokenLink { .. } => "journal_broken_link",
            RowError::WrongHash { .. } => "journal_wrong_hash",
            RowError::TooLarge { .. } => "journal_row_too_large",
            RowError::Payload { .. } | RowError::Restates { .. } => "journal_unreadable",
        }
    }
}

/// Why an append did not say "durable".
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another row stands at this number, or the predecessor is not ours: someone else leads.
    #[error("another writer leads the journal")]
    Fenced,
    /// Whether the row is in is not known. Appending the identical row again settles it.
    #[error("it is not known whether the row was written")]
    Unknown(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why the journal could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the journal can't be read")]
pub struct ReadError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where rows are kept. Every store passes one conformance suite.
pub trait Journal: Send {
    /// Makes `row` durable, if and only if the last row is its predecessor by number and hash.
    /// A row that is already there with the same hash counts as durable.
    ///
    /// # Errors
    /// [`AppendError::Fenced`] where it can never succeed; [`AppendError::Unknown`] for every other fault.
    fn append(&mut self, row: &Row) -> Result<(), AppendError>;

    /// Up to `count_max` durable rows after `after`, in order.
    ///
    /// # Errors
    /// [`ReadError`] where the store does not answer.
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError>;

    /// Number and hash of the last row; `None` for an empty journal.
    ///
    /// # Errors
    /// [`ReadError`] where the store does not answer.
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError>;
}

crate::message! {
    /// One piece of a snapshot: restating events that, folded from nothing with those of all pieces, give the state.
    pub struct SnapshotChunk {
        /// The restating events.
        1: events: Vec<Event>,
    }
}

crate::message! {
    /// What a snapshot stands for. Its chunks are kept beside it, numbered from 0.
    pub struct SnapshotHeader {
        /// The row up to which the state is folded.
        1: seq: Seq,
        /// That row's hash.
        2: row_hash: Digest,
        /// The epoch and ledger time of that row.
        3: epoch: Epoch,
        /// See `epoch`.
        4: time: LedgerTime,
        /// SHA-256 over the encoded chunks.
        5: state_hash: Digest,
        /// How many chunks.
        6: chunk_count: u32,
        /// The build that wrote it.
        7: build: String,
    }
}

/// The published schema of everything that journals, snapshots and intents hold, as proto3 text.
pub fn schema() -> String {
    let mut schema = Schema::default();
    <Batch as Value>::schema(&mut schema);
    <SnapshotChunk as Value>::schema(&mut schema);
    <SnapshotHeader as Value>::schema(&mut schema);
    <crate::custody::Intent as Value>::schema(&mut schema);
    schema.print("florin.journal.v1", SCHEMA_PREFACE)
}

const SCHEMA_PREFACE: &str = "\
// The payloads of journal rows (Batch), snapshots (SnapshotHeader, SnapshotChunk) and intents (Intent).
//
// Any Protocol Buffers reader can read them. They are written in exactly one way, and Florin reads nothing else: every
// field in order of its number, also where it holds zero; nothing unknown; numbers as minimal varints; exactly one member
// of each oneof. Tags and meanings are for ever; a new meaning gets a new tag.
//
// This file is made from the declarations in crates/core. Do not edit it: UPDATE_SCHEMA=1 cargo test -p florin-core schema
";

/// Hashes an encoded snapshot, chunk by chunk.
pub fn state_hash<'a>(chunks: impl Iterator<Item = &'a Bytes>) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"florin/state/1");
    for chunk in chunks {
        hash.update((chunk.0.len() as u64).to_be_bytes());
        hash.update(&chunk.0);
    }
    Digest(hash.finalize().into())
}
