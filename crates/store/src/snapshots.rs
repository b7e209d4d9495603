//! Snapshots of the state in a SQLite file of their own, on each node's own disk whatever holds the journal: they are written by a
//! reader, and can be made again. It never hands out one whose chunks do not match its hash.

use crate::database::{Database, Schema, is_conflict};
use crate::fault::StoreFault;
use crate::record::{Cell, NUMBER_MAX};
use crate::sqlite::{self, Durability};
use florin_core::id::Seq;
use florin_core::journal::{SnapshotHeader, state_hash};
use florin_core::wire::{Bytes, Message};
use std::path::Path;

/// The file's name within a platform's folder.
pub const FILE: &str = "snapshots.sqlite3";

const SCHEMA: Schema = Schema {
    component: "snapshots",
    steps: &["CREATE TABLE IF NOT EXISTS snapshot_chunk (
            seq NUMBER NOT NULL, position NUMBER NOT NULL, payload PAYLOAD NOT NULL, PRIMARY KEY (seq, position)
        ) TABLE_END;
        CREATE TABLE IF NOT EXISTS snapshot (seq NUMBER PRIMARY KEY, header PAYLOAD NOT NULL) TABLE_END"],
    page_bytes: 16_384,
};

/// Why a snapshot is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store failed.
    #[error("the snapshots can't be read or written")]
    Store(#[from] StoreFault),
    /// Chunks are missing or too many.
    #[error("snapshot {seq} has {found} chunks where its header says {expected}")]
    ChunkCount {
        /// Which.
        seq: Seq,
        /// By its header.
        expected: u32,
        /// In the table.
        found: usize,
    },
    /// The chunks are not those that the header was written for.
    #[error("the chunks of snapshot {seq} do not match its hash")]
    WrongHash {
        /// Which.
        seq: Seq,
    },
}

impl SnapshotError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            SnapshotError::Store(fault) => fault.code(),
            SnapshotError::ChunkCount { .. } => "snapshot_chunk_count",
            SnapshotError::WrongHash { .. } => "snapshot_wrong_hash",
        }
    }
}

/// A snapshot whose chunks match its header. Only this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSnapshot {
    header: SnapshotHeader,
    chunks: Vec<Bytes>,
}

impl VerifiedSnapshot {
    /// Checks chunks against a header.
    ///
    /// # Errors
    /// [`SnapshotError::ChunkCount`], then [`SnapshotError::WrongHash`].
    pub fn verify(header: SnapshotHeader, chunks: Vec<Bytes>) -> Result<VerifiedSnapshot, SnapshotError> {
        if u32::try_from(chunks.len()) != Ok(header.chunk_count) {
            let (seq, expected) = (header.seq, header.chunk_count);
            return Err(SnapshotError::ChunkCount { seq, expected, found: chunks.len() });
        }
        if state_hash(chunks.iter()) != header.state_hash {
            return Err(SnapshotError::WrongHash { seq: header.seq });
        }
        Ok(VerifiedSnapshot { header, chunks })
    }

    /// What it stands for.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Its encoded [`SnapshotChunk`](florin_core::journal::SnapshotChunk)s, in order.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }
}

/// The snapshots of one node.
#[derive(Debug)]
pub struct Snapshots {
    database: Database,
}

impl Snapshots {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// Where the file can't be opened.
    pub fn open(path: &Path) -> Result<Snapshots, StoreFault> {
        Ok(Snapshots { database: Database::Sqlite(sqlite::open_writer(path, &SCHEMA, Durability::Full)?) })
    }

    /// Opens an existing file for reading: file and log stay as they are.
    ///
    /// # Errors
    /// Where the file does not exist, was not made by this build, or can't be read.
    pub fn open_reader(path: &Path) -> Result<Snapshots, StoreFault> {
        Ok(Snapshots { database: Database::Sqlite(sqlite::open_reader(path, &SCHEMA)?) })
    }

    /// From now on this handle reads the snapshots as they are at one moment, whatever is kept and removed meanwhile; it can
    /// write no more.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn begin_view(&mut self) -> Result<(), StoreFault> {
        self.database.begin_view()
    }

    /// The rows for which there is anything at all, newest first: also chunks whose header is gone, which
    /// [`Snapshots::list`] never names.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn traces(&mut self) -> Result<Vec<Seq>, StoreFault> {
        let sql = "SELECT seq FROM snapshot UNION SELECT seq FROM snapshot_chunk ORDER BY seq DESC";
        let rows = self.database.query("snapshot", sql, Vec::new())?;
        rows.into_iter().map(|mut row| Ok(Seq(row.number("seq")?))).collect()
    }

    /// Keeps a snapshot, in place of an older one of the same row: all of it, header last, or nothing.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn write(&mut self, snapshot: &VerifiedSnapshot) -> Result<(), StoreFault> {
        let seq = snapshot.header.seq.0;
        if seq > NUMBER_MAX {
            return Err(StoreFault::OutOfRange { what: "a snapshot's row" });
        }
        self.database.atomically(
            |database| {
                remove(database, seq)?;
                for (position, chunk) in (0u64..).zip(&snapshot.chunks) {
                    database.execute(
                        "INSERT INTO snapshot_chunk (seq, position, payload) VALUES (?, ?, ?)",
                        vec![Cell::Number(seq), Cell::Number(position), Cell::bytes(&chunk.0)],
                    )?;
                }
                let header = Cell::Bytes(snapshot.header.encode());
                database
                    .execute("INSERT INTO snapshot (seq, header) VALUES (?, ?)", vec![Cell::Number(seq), header])?;
                Ok(())
            },
            is_conflict,
        )
    }

    /// The rows for which there are snapshots, newest first.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn list(&mut self) -> Result<Vec<Seq>, StoreFault> {
        let rows = self.database.query("snapshot", "SELECT seq FROM snapshot ORDER BY seq DESC", Vec::new())?;
        rows.into_iter().map(|mut row| Ok(Seq(row.number("seq")?))).collect()
    }

    /// The newest snapshot, verified.
    ///
    /// # Errors
    /// Where the store fails or the newest snapshot is damaged. An older one from [`Snapshots::list`] may then serve.
    pub fn newest(&mut self) -> Result<Option<VerifiedSnapshot>, SnapshotError> {
        match self.list()?.first() {
            None => Ok(None),
            Some(seq) => self.load(*seq),
        }
    }

    /// The snapshot of a row, verified; `None` where there is none.
    ///
    /// # Errors
    /// Where the store fails or the snapshot is damaged.
    pub fn load(&mut self, seq: Seq) -> Result<Option<VerifiedSnapshot>, SnapshotError> {
        let key = || vec![Cell::Number(seq.0)];
        let headers = self.database.query("snapshot", "SELECT header FROM snapshot WHERE seq = ?", key())?;
        let Some(mut row) = headers.into_iter().next() else { return Ok(None) };
        let header: SnapshotHeader = row.message("header")?;
        if header.seq != seq {
            return Err(StoreFault::Malformed { table: "snapshot", column: "seq" }.into());
        }
        let sql = "SELECT payload FROM snapshot_chunk WHERE seq = ? ORDER BY position";
        let chunks = self.database.query("snapshot_chunk", sql, key())?;
        let chunks = chunks.into_iter().map(|mut row| Ok(Bytes(row.bytes("payload")?)));
        VerifiedSnapshot::verify(header, chunks.collect::<Result<_, StoreFault>>()?).map(Some)
    }

    /// Keeps the newest `count` and removes the others.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn retain(&mut self, count: std::num::NonZeroUsize) -> Result<(), StoreFault> {
        for seq in self.list()?.into_iter().skip(count.get()) {
            self.database.atomically(|database| remove(database, seq.0), is_conflict)?;
        }
        Ok(())
    }
}

fn remove(database: &mut Database, seq: u64) -> Result<(), StoreFault> {
    database.execute("DELETE FROM snapshot WHERE seq = ?", vec![Cell::Number(seq)])?;
    database.execute("DELETE FROM snapshot_chunk WHERE seq = ?", vec![Cell::Number(seq)])?;
    Ok(())
}
