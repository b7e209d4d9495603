//! Snapshots: the state as a compacted journal, in chunks. Folding them from nothing gives the state byte for byte.

use crate::event::Event;
use crate::id::Digest;
use crate::journal::{SnapshotChunk, SnapshotHeader, state_hash};
use crate::state::State;
use crate::wire::{Bytes, Message, Value, WireError};

/// A chunk is closed when it reaches this many bytes; with one event more it stays under a row's megabyte.
const CHUNK_BYTES: usize = 256 * 1024;

/// Why a snapshot can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Chunks are missing or too many.
    #[error("the snapshot has {found} chunks and should have {expected}")]
    ChunkCount {
        /// As its header says.
        expected: u32,
        /// As found.
        found: usize,
    },
    /// The chunks are not those that were written.
    #[error("the snapshot's content does not match its hash")]
    WrongHash,
    /// A chunk is not a message of this build.
    #[error("a chunk of the snapshot can't be read")]
    Unreadable(#[source] WireError),
    /// It says less of a chain than this build's do: a build made it that did not know yet what left the state.
    #[error("the snapshot was written by an older build")]
    Older,
}

impl SnapshotError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            SnapshotError::ChunkCount { .. } => "snapshot_chunk_count",
            SnapshotError::WrongHash => "snapshot_wrong_hash",
            SnapshotError::Unreadable(_) => "snapshot_unreadable",
            SnapshotError::Older => "snapshot_older_build",
        }
    }
}

/// Encodes the state's restating events in chunks.
pub fn chunks(state: &State) -> Vec<Bytes> {
    chunks_of(state, |_| true)
}

/// The same of the events that are wanted, as a build would that knows no others.
pub fn chunks_of(state: &State, is_wanted: impl Fn(&Event) -> bool) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut events: Vec<Event> = Vec::new();
    let mut size = 0usize;
    let mut scratch = Vec::new();
    state.restate(|event| {
        if !is_wanted(&event) {
            return;
        }
        scratch.clear();
        event.write(&mut scratch);
        size += scratch.len() + 1;
        events.push(event);
        if size >= CHUNK_BYTES {
            chunks.push(Bytes(SnapshotChunk { events: std::mem::take(&mut events) }.encode()));
            size = 0;
        }
    });
    if !events.is_empty() {
        chunks.push(Bytes(SnapshotChunk { events }.encode()));
    }
    chunks
}

/// The hash of the state: of its chunks.
pub fn hash(state: &State) -> Digest {
    state_hash(chunks(state).iter())
}

/// Writes a snapshot of a state whose last row has `row_hash`.
pub fn write(state: &State, row_hash: Digest, build: &str) -> (SnapshotHeader, Vec<Bytes>) {
    let chunks = chunks(state);
    let counters = state.counters();
    let header = SnapshotHeader {
        seq: counters.seq,
        row_hash,
        epoch: counters.epoch,
        time: counters.time,
        state_hash: state_hash(chunks.iter()),
        chunk_count: chunks.len() as u32,
        build: build.to_owned(),
    };
    (header, chunks)
}

/// Folds a snapshot from nothing.
///
/// # Errors
/// In the order that [`SnapshotError`] declares.
pub fn read(header: &SnapshotHeader, chunks: &[Bytes]) -> Result<State, SnapshotError> {
    if chunks.len() != header.chunk_count as usize {
        return Err(SnapshotError::ChunkCount { expected: header.chunk_count, found: chunks.len() });
    }
    if state_hash(chunks.iter()) != header.state_hash {
        return Err(SnapshotError::WrongHash);
    }
    let mut state = State::default();
    let (mut chains, mut archived) = (0, 0);
    for chunk in chunks {
        let chunk = SnapshotChunk::decode(&chunk.0).map_err(SnapshotError::Unreadable)?;
        for event in &chunk.events {
            chains += usize::from(matches!(event, Event::ChainDefined(_)));
            archived += usize::from(matches!(event, Event::RestateArchived(_)));
            state.apply(event);
        }
    }
    if chains == archived { Ok(state) } else { Err(SnapshotError::Older) }
}
