//! The journal in a SQLite file of its own: one writer, any number of readers. It never acknowledges a row that the disk has
//! not confirmed, and never touches the file again after the disk has failed once.

use super::{Durability, SqliteFile, cells};
use crate::database::Schema;
use crate::fault::StoreFault;
use crate::record::{Cells, is_sound};
use crate::retention::{self, Permit, PrefixError, PrefixTables};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use rusqlite::params;
use std::path::Path;

/// The file's name within a platform's folder.
pub const FILE: &str = "journal.sqlite3";

/// Bytes of write-ahead log after which it is copied into the file, ahead of the next append. Copying costs the writer
/// time, and a long log costs a restart time: 16 MiB take some tens of milliseconds of either. It is the log that is
/// counted and not the payloads, of which small ones are a tenth of it: a log that starts again from its beginning before
/// it grows is overwritten in place, and then a sync has no file system's journal to wait for.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// A page of the file. A row that changes little still puts a whole page into the log: with pages of 16 KiB single
/// commands would write four times as many bytes, and long rows are no faster.
const PAGE_BYTES: u32 = 4_096;

/// The log file is cut back to this size when it starts again from its beginning.
const LOG_BYTES_KEPT: i64 = 64 << 20;

// `hash` stands before `payload`, because what comes after a large value is found only by walking over it.
const SCHEMA: Schema = Schema {
    component: "journal",
    steps: &["CREATE TABLE journal (
        seq NUMBER PRIMARY KEY CHECK (seq > 0),
        epoch NUMBER NOT NULL,
        time_ms NUMBER NOT NULL,
        previous BYTES32 NOT NULL,
        hash BYTES32 NOT NULL,
        payload PAYLOAD NOT NULL
    ) TABLE_END"],
    page_bytes: PAGE_BYTES,
};

// One statement is one transaction, which takes the write lock before it looks.
const INSERT: &str = "INSERT INTO journal (seq, epoch, time_ms, previous, hash, payload)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6
    WHERE CASE WHEN ?1 = 1 THEN NOT EXISTS (SELECT 1 FROM journal)
        ELSE EXISTS (SELECT 1 FROM journal WHERE seq = ?1 - 1 AND hash = ?4)
            AND NOT EXISTS (SELECT 1 FROM journal WHERE seq = ?1) END";
const STANDING: &str = "SELECT hash FROM journal WHERE seq = ?1";
const READ: &str =
    "SELECT seq, epoch, time_ms, previous, hash, payload FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const HEAD: &str = "SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
}

/// A handle on a journal in a SQLite file.
#[derive(Debug)]
pub struct SqliteJournal {
    connection: SqliteFile,
    role: Role,
    /// Set by the first failure of the storage, and never cleared: see [`StoreFault::Storage`].
    failed: bool,
    /// About how long the log is: what was appended since it was last copied into the file, and a page that each row shares
    /// with others.
    logged: u64,
    checkpoint_bytes: u64,
}

impl SqliteJournal {
    /// Opens or creates the journal at `path` for appending and reading.
    ///
    /// Rows that a crashed process left in the log, perhaps unsynced, are written into the file and synced here, and the
    /// log begins anew. So every row that this handle shows is durable, and no row of ours follows upon a damaged one.
    ///
    /// # Errors
    /// [`StoreFault::Busy`] while a reader of another process keeps the log in use; any other fault of the file.
    pub fn open(path: &Path) -> Result<SqliteJournal, StoreFault> {
        let connection = super::open_writer(path, &SCHEMA, Durability::Full)?;
        // Checkpoints are ours: one made by a commit's hook hides its own failure.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
        Ok(SqliteJournal {
            connection,
            role: Role::Writer,
            failed: false,
            logged: 0,
            checkpoint_bytes: CHECKPOINT_BYTES,
        })
    }

    /// Opens an existing journal for reading, on a connection of its own: it neither waits for the writer nor keeps it
    /// waiting, and leaves file and log as they are, also where a crash left rows in the log. Appending through it is always
    /// refused as fenced.
    ///
    /// # Errors
    /// [`StoreFault::Absent`], [`StoreFault::Older`] and [`StoreFault::Newer`] where no writer of this build has made the tables;
    /// any other fault of the file, which is not made where it does not exist.
    pub fn open_reader(path: &Path) -> Result<SqliteJournal, StoreFault> {
        Ok(SqliteJournal::reading(super::open_reader(path, &SCHEMA)?))
    }

    /// As [`SqliteJournal::open_reader`], in the process that has the writer: closed last, it settles the log as that one would.
    ///
    /// # Errors
    /// As [`SqliteJournal::open_reader`].
    pub fn open_own_reader(path: &Path) -> Result<SqliteJournal, StoreFault> {
        Ok(SqliteJournal::reading(super::open_own_reader(path, &SCHEMA)?))
    }

    fn reading(connection: SqliteFile) -> SqliteJournal {
        SqliteJournal { connection, role: Role::Reader, failed: false, logged: 0, checkpoint_bytes: CHECKPOINT_BYTES }
    }

    /// Opens an existing journal for [`SqliteJournal::delete_prefix`], beside a writer that goes on. Appending through it is
    /// always refused as fenced.
    ///
    /// # Errors
    /// As [`SqliteJournal::open_reader`].
    pub fn open_pruner(path: &Path) -> Result<SqliteJournal, StoreFault> {
        let journal = SqliteJournal::open_own_reader(path)?;
        journal.connection.pragma_update(None, "query_only", false)?;
        journal.connection.pragma_update(None, "synchronous", 2)?;
        journal.connection.pragma_update(None, "fullfsync", true)?;
        journal.connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        journal.connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(journal)
    }

    /// Copies the log into the file after so many bytes of it instead of 16 MiB: less means shorter waits, more often.
    #[must_use]
    pub fn with_checkpoint_bytes(mut self, bytes: u64) -> SqliteJournal {
        self.checkpoint_bytes = bytes;
        self
    }

    /// Deletes a prefix that [`permit`](crate::retention::permit) has released, while the journal goes on. `progress` is
    /// called after each transaction with the last row that is gone.
    ///
    /// The file keeps its size: what is freed is used again by later rows.
    ///
    /// # Errors
    /// [`PrefixError`].
    pub fn delete_prefix(&mut self, permit: &Permit, progress: &mut dyn FnMut(Seq)) -> Result<(), PrefixError> {
        retention::delete(self, permit, progress)?;
        // Nobody may be appending, and then nobody else copies the log.
        Ok(self.guarded(|journal| super::copy_log(&journal.connection))?)
    }

    fn try_append(&mut self, row: &Row) -> Result<Standing, StoreFault> {
        if self.logged >= self.checkpoint_bytes {
            // Readers may hold a part back; what is left is copied next time.
            super::copy_log(&self.connection)?;
            self.logged = 0;
        }
        let inserted = self.connection.execute(
            INSERT,
            params![
                row.seq.0 as i64,
                row.epoch.0 as i64,
                row.time.0 as i64,
                row.previous.0.as_slice(),
                row.hash.0.as_slice(),
                row.payload.as_slice()
            ],
        )?;
        if inserted == 1 {
            self.logged += row.payload.len() as u64 + u64::from(PAGE_BYTES);
            return Ok(Standing::Ours);
        }
        Ok(if self.standing(row.seq)? == Some(row.hash) { Standing::Ours } else { Standing::NotOurs })
    }

    /// The hash of the row at a number.
    fn standing(&mut self, seq: Seq) -> Result<Option<Digest>, StoreFault> {
        let mut statement = self.connection.prepare(STANDING)?;
        let mut found = statement.query([seq.0 as i64])?;
        let Some(row) = found.next()? else { return Ok(None) };
        Ok(Some(Digest(Cells::new("journal", cells(row, 1)?).fixed("hash")?)))
    }

    fn end(&mut self, sql: &str) -> Result<Option<Seq>, StoreFault> {
        let mut statement = self.connection.prepare(sql)?;
        let mut found = statement.query([])?;
        let Some(row) = found.next()? else { return Ok(None) };
        Ok(Some(Seq(Cells::new("journal", cells(row, 1)?).number("seq")?)))
    }

    fn try_read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, StoreFault> {
        let Ok(after) = i64::try_from(after.0) else { return Ok(Vec::new()) };
        let mut statement = self.connection.prepare(READ)?;
        let mut found = statement.query(params![after, i64::try_from(count_max).unwrap_or(i64::MAX)])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(Cells::new("journal", cells(row, 6)?).row()?);
        }
        Ok(rows)
    }

    fn try_head(&mut self) -> Result<Option<(Seq, Digest)>, StoreFault> {
        let mut statement = self.connection.prepare(HEAD)?;
        let mut found = statement.query([])?;
        let Some(row) = found.next()? else { return Ok(None) };
        let mut cells = Cells::new("journal", cells(row, 2)?);
        Ok(Some((Seq(cells.number("seq")?), Digest(cells.fixed("hash")?))))
    }

    /// Does `work` unless the storage has failed before, and remembers whether it fails now.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        if self.failed {
            return Err(StoreFault::Storage("the storage failed before; only a new process may use it again".into()));
        }
        work(self).inspect_err(|fault| self.failed = fault.is_fatal())
    }
}

/// What stands at a row's number after an attempt to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ours,
    NotOurs,
}

impl PrefixTables for SqliteJournal {
    fn hash_at(&mut self, seq: Seq) -> Result<Option<Digest>, StoreFault> {
        self.guarded(|journal| journal.standing(seq))
    }

    fn first(&mut self) -> Result<Option<Seq>, StoreFault> {
        self.guarded(|journal| journal.end("SELECT seq FROM journal ORDER BY seq LIMIT 1"))
    }

    fn last(&mut self) -> Result<Option<Seq>, StoreFault> {
        self.guarded(|journal| journal.end("SELECT seq FROM journal ORDER BY seq DESC LIMIT 1"))
    }

    fn delete_through(&mut self, seq: Seq) -> Result<(), StoreFault> {
        self.guarded(|journal| {
            journal.connection.execute("DELETE FROM journal WHERE seq <= ?1", [seq.0 as i64])?;
            Ok(())
        })
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        if self.role == Role::Reader || !is_sound(row) {
            tracing::error!(seq = row.seq.0, role = ?self.role, "a row that can never be appended was to be");
            return Err(AppendError::Fenced);
        }
        match self.guarded(|journal| journal.try_append(row))? {
            Standing::Ours => Ok(()),
            Standing::NotOurs => Err(AppendError::Fenced),
        }
    }

    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        Ok(self.guarded(|journal| journal.try_read(after, count_max))?)
    }

    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        Ok(self.guarded(|journal| journal.try_head())?)
    }
}
