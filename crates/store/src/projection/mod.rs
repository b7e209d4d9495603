//! The search tables, folded from the journal: for lists and history, never for decisions. Each row is taken in exactly once,
//! because its changes and the cursor are one transaction.

pub mod compare;
mod fold;
pub mod query;
mod schema;

use crate::database::{Database, is_conflict};
use crate::fault::StoreFault;
use crate::maria::MariaServer;
use crate::record::{Cell, NUMBER_MAX};
use crate::sqlite::{self, Durability};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{Batch, Row, SnapshotChunk};
use florin_core::wire::{Message, WireError};
use std::path::Path;

pub use query::{Extent, Subject};

/// The file's name within a platform's folder.
pub const FILE: &str = "projection.sqlite3";

/// How many things one row can say at most. Each takes at least two of its 2^20 bytes.
const POSITIONS_MAX: u64 = 1 << 20;

/// Where something stands in the journal: its row, and its position in it. Lists are paged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

impl Place {
    /// A position in a row; `None` beyond what a table's column holds.
    pub fn new(seq: Seq, position: u64) -> Option<Place> {
        let place = seq.0.checked_mul(POSITIONS_MAX)?.checked_add(position)?;
        (position < POSITIONS_MAX && place <= NUMBER_MAX).then_some(Place(place))
    }

    /// The row.
    pub fn seq(self) -> Seq {
        Seq(self.0 / POSITIONS_MAX)
    }

    /// The position in the row.
    pub fn position(self) -> u64 {
        self.0 % POSITIONS_MAX
    }

    /// As one number, for page cursors.
    pub fn to_number(self) -> u64 {
        self.0
    }

    /// From what [`Place::to_number`] gave; `None` for what it never gives.
    pub fn from_number(number: u64) -> Option<Place> {
        (number <= NUMBER_MAX).then_some(Place(number))
    }
}

/// Why a row could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The store failed. The row is taken in wholly or not at all; taking it in again settles which.
    #[error("the search tables can't be read or written")]
    Store(#[from] StoreFault),
    /// The row is not the next one.
    #[error("row {expected} was expected and row {found} came")]
    Gap {
        /// The row that has to come.
        expected: Seq,
        /// The row that came.
        found: Seq,
    },
    /// The row belongs to another journal than the tables do.
    #[error("row {0} is of another journal than the tables")]
    Foreign(Seq),
    /// An event changes a record that the tables do not hold.
    #[error("row {seq} changes a record that table {table} does not hold")]
    Missing {
        /// The row.
        seq: Seq,
        /// The table.
        table: &'static str,
    },
    /// Sums of an account overflow or fall below zero.
    #[error("row {0} takes an account out of bounds")]
    Sums(Seq),
    /// A snapshot's chunk can't be read.
    #[error("a chunk of the snapshot can't be read")]
    Chunk(#[source] WireError),
}

impl ProjectionError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            ProjectionError::Store(fault) => fault.code(),
            ProjectionError::Gap { .. } => "projection_gap",
            ProjectionError::Foreign(_) => "projection_foreign_row",
            ProjectionError::Missing { .. } => "projection_missing_record",
            ProjectionError::Sums(_) => "projection_sums",
            ProjectionError::Chunk(_) => "projection_chunk",
        }
    }

    fn is_conflict(&self) -> bool {
        matches!(self, ProjectionError::Store(fault) if is_conflict(fault))
    }
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyAnswer {
    /// It is taken in now.
    Applied,
    /// It was taken in before.
    Already,
}

/// The search tables, on either database.
#[derive(Debug)]
pub struct Projection {
    database: Database,
}

impl Projection {
    /// In a SQLite file. A power cut may take its last rows back, together with the cursor: they are taken in again.
    ///
    /// # Errors
    /// Where the file can't be opened.
    pub fn open_sqlite(path: &Path) -> Result<Projection, StoreFault> {
        let connection = sqlite::open_writer(path, &schema::SCHEMA, Durability::Lazy)?;
        Ok(Projection { database: Database::Sqlite(connection) })
    }

    /// In an existing SQLite file, for queries from outside of the projector's process: file and log stay as they are.
    ///
    /// # Errors
    /// Where the file does not exist, was not made by this build, or can't be read.
    pub fn open_sqlite_reader(path: &Path) -> Result<Projection, StoreFault> {
        Ok(Projection { database: Database::Sqlite(sqlite::open_reader(path, &schema::SCHEMA)?) })
    }

    /// As [`Projection::open_sqlite_reader`], beside the projector in its process: closed last, it settles the log.
    ///
    /// # Errors
    /// As [`Projection::open_sqlite_reader`].
    pub fn open_sqlite_own_reader(path: &Path) -> Result<Projection, StoreFault> {
        Ok(Projection { database: Database::Sqlite(sqlite::open_own_reader(path, &schema::SCHEMA)?) })
    }

    /// In a database of their own on a MariaDB server.
    ///
    /// # Errors
    /// Where the server can't be reached.
    pub fn open_maria(server: &MariaServer) -> Result<Projection, StoreFault> {
        Ok(Projection { database: Database::Maria(Box::new(server.connect("projection", &schema::SCHEMA)?)) })
    }

    /// In databases that exist on a MariaDB server, for queries: nothing is made or brought up to date.
    ///
    /// # Errors
    /// Where the server can't be reached, or does not have the tables as this build makes them.
    pub fn open_maria_reader(server: &MariaServer) -> Result<Projection, StoreFault> {
        Ok(Projection { database: Database::Maria(Box::new(server.connect_reader("projection", &schema::SCHEMA)?)) })
    }

    /// Tables that are gone with this handle: in memory, and in a nameless temporary file as far as they outgrow it.
    ///
    /// # Errors
    /// Where there is no room for them.
    pub fn temporary() -> Result<Projection, StoreFault> {
        Ok(Projection { database: Database::Sqlite(sqlite::open_temporary(&schema::SCHEMA)?) })
    }

    /// The last row taken in, and its hash; [`Seq::START`] before the first.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn cursor(&mut self) -> Result<(Seq, Digest), StoreFault> {
        cursor(&mut self.database, "")
    }

    /// Takes in a row, of which `batch` is the opened content: its changes and the cursor in one transaction.
    ///
    /// # Errors
    /// [`ProjectionError`]; the tables are then as they were, or, where the store did not answer the commit, as they shall be.
    pub fn apply(&mut self, row: &Row, batch: &Batch) -> Result<ApplyAnswer, ProjectionError> {
        let lock = match self.database {
            Database::Sqlite(_) => "",
            // Two projectors at once take turns at the cursor.
            Database::Maria(_) => " FOR UPDATE",
        };
        self.database.atomically(|database| apply(database, lock, row, batch), ProjectionError::is_conflict)
    }

    /// Empties all tables; the journal is to be applied again from its first row.
    ///
    /// # Errors
    /// Where the store fails; then nothing is changed.
    pub fn rebuild(&mut self) -> Result<(), ProjectionError> {
        self.database.atomically(
            |database| {
                clear(database)?;
                set_cursor(database, Seq::START, Digest::ZERO)
            },
            ProjectionError::is_conflict,
        )
    }

    /// Empties all tables and fills them with what a snapshot restates, for a journal whose beginning is archived. History and
    /// transfers before the snapshot are then missing.
    ///
    /// # Errors
    /// Where the snapshot can't be read or the store fails; then nothing is changed.
    pub fn rebuild_from(&mut self, snapshot: &crate::snapshots::VerifiedSnapshot) -> Result<(), ProjectionError> {
        let header = snapshot.header();
        self.database.atomically(
            |database| {
                clear(database)?;
                let mut fold = fold::Fold::new(database, header.seq, header.time);
                for chunk in snapshot.chunks() {
                    for event in SnapshotChunk::decode(&chunk.0).map_err(ProjectionError::Chunk)?.events {
                        fold.event(&event)?;
                    }
                }
                fold.finish()?;
                set_cursor(database, header.seq, header.row_hash)
            },
            ProjectionError::is_conflict,
        )
    }
}

fn cursor(database: &mut Database, lock: &str) -> Result<(Seq, Digest), StoreFault> {
    let sql = format!("SELECT seq, hash FROM reader WHERE id = {}{lock}", schema::READER);
    let rows = database.query("reader", &sql, Vec::new())?;
    let Some(mut row) = rows.into_iter().next() else {
        return Err(StoreFault::Malformed { table: "reader", column: "id" });
    };
    Ok((Seq(row.number("seq")?), Digest(row.fixed("hash")?)))
}

fn set_cursor(database: &mut Database, seq: Seq, hash: Digest) -> Result<(), ProjectionError> {
    let values = vec![Cell::Number(seq.0), Cell::bytes(&hash.0)];
    database.execute(&format!("UPDATE reader SET seq = ?, hash = ? WHERE id = {}", schema::READER), values)?;
    Ok(())
}

fn clear(database: &mut Database) -> Result<(), ProjectionError> {
    for table in schema::TABLES {
        database.execute(&format!("DELETE FROM {table}"), Vec::new())?;
    }
    Ok(())
}

fn apply(database: &mut Database, lock: &str, row: &Row, batch: &Batch) -> Result<ApplyAnswer, ProjectionError> {
    let (seq, hash) = cursor(database, lock)?;
    if row.seq == seq && row.hash != hash {
        return Err(ProjectionError::Foreign(row.seq));
    }
    if row.seq <= seq {
        return Ok(ApplyAnswer::Already);
    }
    if row.seq != seq.next() {
        return Err(ProjectionError::Gap { expected: seq.next(), found: row.seq });
    }
    if row.previous != hash {
        return Err(ProjectionError::Foreign(row.seq));
    }
    let mut fold = fold::Fold::new(database, row.seq, row.time);
    for entry in &batch.entries {
        for event in &entry.events {
            fold.log(event, entry.command)?;
            fold.event(event)?;
        }
    }
    fold.finish()?;
    set_cursor(database, row.seq, row.hash)?;
    Ok(ApplyAnswer::Applied)
}
