//! The journal on a MariaDB server. It never acknowledges a row without the server's word, and reads back whatever is unclear.

use super::{MariaConnection, MariaServer, number_if_kept};
use crate::database::{Schema, is_conflict};
use crate::fault::StoreFault;
use crate::record::{Cell, NUMBER_MAX, is_sound};
use crate::retention::{self, Permit, PrefixError, PrefixTables};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use std::time::Duration;

/// Appends that lost against another transaction are tried again this often; a deadlock resolves at the first repetition.
const RETRIES_MAX: u32 = 3;

/// The pause before the first repetition; it doubles each time, 7 ms in all.
const RETRY_PAUSE_MS: u64 = 1;

pub(crate) const SCHEMA: Schema = Schema {
    component: "journal",
    steps: &[
        "CREATE TABLE IF NOT EXISTS journal (
        seq NUMBER NOT NULL PRIMARY KEY,
        epoch NUMBER NOT NULL,
        time_ms NUMBER NOT NULL,
        previous BYTES32 NOT NULL,
        hash BYTES32 NOT NULL,
        payload PAYLOAD NOT NULL
    ) TABLE_END",
        "CREATE TABLE IF NOT EXISTS journal_flush (
        id NUMBER NOT NULL PRIMARY KEY,
        raised NUMBER NOT NULL
    ) TABLE_END",
    ],
    page_bytes: 0,
};

// One statement is one transaction and one round trip. Of two writers that both see the predecessor, the primary key lets
// one in.
const INSERT_AFTER: &str = concat!(
    "INSERT INTO journal (seq, epoch, time_ms, previous, hash, payload) SELECT ",
    number_if_kept!("?"),
    ", ?, ?, ?, ?, ? FROM DUAL WHERE EXISTS (SELECT 1 FROM journal WHERE seq = ? AND hash = ?)"
);
const INSERT_FIRST: &str = concat!(
    "INSERT INTO journal (seq, epoch, time_ms, previous, hash, payload) SELECT ",
    number_if_kept!("?"),
    ", ?, ?, ?, ?, ? FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM journal)"
);
const STANDING: &str = "SELECT hash FROM journal WHERE seq = ?";
const READ: &str =
    "SELECT seq, epoch, time_ms, previous, hash, payload FROM journal WHERE seq > ? ORDER BY seq LIMIT ?";
// A change in any case: a transaction that leaves every value as it was writes no redo log, and its commit flushes none.
const RAISE: &str = concat!(
    "INSERT INTO journal_flush (id, raised) SELECT ",
    number_if_kept!("1"),
    ", 1 FROM DUAL ON DUPLICATE KEY UPDATE raised = raised + 1"
);
const HEAD: &str = "SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
}

/// A handle on a journal on a MariaDB server, with a connection of its own.
#[derive(Debug)]
pub struct MariaJournal {
    connection: MariaConnection,
    role: Role,
}

impl MariaJournal {
    /// Connects for appending and reading; makes database and table where they are missing.
    ///
    /// # Errors
    /// Where the server can't be reached, is set up so that it could lose what it acknowledged, or holds newer tables.
    pub fn open(server: &MariaServer) -> Result<MariaJournal, StoreFault> {
        Ok(MariaJournal { connection: server.connect("journal", &SCHEMA)?, role: Role::Writer })
    }

    /// Connects for reading: makes nothing, and brings nothing up to date. All that it ever writes is the counter by which a head
    /// that is told is flushed. Appending through it is always refused as fenced.
    ///
    /// # Errors
    /// [`StoreFault::Absent`], [`StoreFault::Older`] and [`StoreFault::Newer`] where no writer of this build has made the tables;
    /// where the server can't be reached, or is set up so that it could lose what it acknowledged.
    pub fn open_reader(server: &MariaServer) -> Result<MariaJournal, StoreFault> {
        Ok(MariaJournal { connection: server.connect_existing("journal", &SCHEMA)?, role: Role::Reader })
    }

    /// Connects to tables that exist for [`MariaJournal::delete_prefix`], beside a writer that goes on. Appending through it is
    /// always refused as fenced.
    ///
    /// # Errors
    /// As [`MariaJournal::open_reader`].
    pub fn open_pruner(server: &MariaServer) -> Result<MariaJournal, StoreFault> {
        MariaJournal::open_reader(server)
    }

    /// Deletes a prefix that [`permit`](crate::retention::permit) has released, while the journal goes on. `progress` is
    /// called after each transaction with the last row that is gone.
    ///
    /// # Errors
    /// [`PrefixError`].
    pub fn delete_prefix(&mut self, permit: &Permit, progress: &mut dyn FnMut(Seq)) -> Result<(), PrefixError> {
        retention::delete(self, permit, progress)
    }

    fn insert(&mut self, row: &Row) -> Result<bool, StoreFault> {
        let mut values = vec![
            Cell::Number(row.seq.0),
            Cell::Number(row.epoch.0),
            Cell::Number(row.time.0),
            Cell::Bytes(row.previous.0.to_vec()),
            Cell::Bytes(row.hash.0.to_vec()),
            Cell::Bytes(row.payload.clone()),
        ];
        let sql = if row.seq == Seq(1) {
            INSERT_FIRST
        } else {
            values.extend([Cell::Number(row.seq.0 - 1), Cell::Bytes(row.previous.0.to_vec())]);
            INSERT_AFTER
        };
        Ok(self.connection.insert_kept(sql, values)? == Some(1))
    }

    /// Whether this row stands at its number, once it is clear.
    fn try_append(&mut self, row: &Row) -> Result<bool, StoreFault> {
        let mut retries = 0;
        loop {
            match self.insert(row) {
                Ok(true) => return Ok(true),
                Ok(false) => break,
                Err(fault) if is_conflict(&fault) && retries < RETRIES_MAX => {
                    std::thread::sleep(Duration::from_millis(RETRY_PAUSE_MS << retries));
                    retries += 1;
                }
                Err(fault) => return Err(fault),
            }
        }
        if self.hash_at(row.seq)? != Some(row.hash) {
            return Ok(false);
        }
        // Whoever inserted it, perhaps ourselves on a connection that was lost, may still wait for the disk.
        self.flush()?;
        Ok(true)
    }

    /// Makes durable whatever could be seen before it began.
    ///
    /// A row can be seen before it is durable: without a binary log, InnoDB's `trx_commit_in_memory`
    /// (storage/innobase/trx/trx0trx.cc) takes the transaction off the list of active ones, gives its locks back, and only
    /// then flushes the redo log, for which the committing connection alone waits. A power cut meanwhile takes the row
    /// away from those who saw it. But a transaction that has seen another's changes has the larger log sequence number,
    /// as `trx_commit_low` there says, and with `innodb_flush_log_at_trx_commit` = 1 `log_write_up_to` flushes everything up
    /// to that number. So a change of ours, committed and answered, covers every row seen before. With a binary log, which
    /// then has to have `sync_binlog` = 1, a row is synced there before it is seen. Where these settings are others, nothing
    /// is changed and the fault names them.
    fn flush(&mut self) -> Result<(), StoreFault> {
        match self.connection.insert_kept(RAISE, Vec::new())?.unwrap_or(0) {
            0 => Err(StoreFault::Malformed { table: "journal_flush", column: "raised" }),
            _ => Ok(()),
        }
    }

    fn end(&mut self, sql: &str) -> Result<Option<Seq>, StoreFault> {
        let row = self.connection.query("journal", sql, Vec::new())?.into_iter().next();
        row.map(|mut row| Ok(Seq(row.number("seq")?))).transpose()
    }

    // A page is not flushed first: that would be a commit for each look of each follower. Its last rows may be those that are
    // being flushed: the one that the leader appends, and what a leader before it left.
    fn try_read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, StoreFault> {
        if after.0 > NUMBER_MAX {
            return Ok(Vec::new());
        }
        let limit = u64::try_from(count_max).unwrap_or(NUMBER_MAX).min(NUMBER_MAX);
        let rows = self.connection.query("journal", READ, vec![Cell::Number(after.0), Cell::Number(limit)])?;
        rows.into_iter().map(|cells| cells.row()).collect()
    }

    /// The last row, which is durable once this answers: it is signed, and held against what others remember.
    fn try_head(&mut self) -> Result<Option<(Seq, Digest)>, StoreFault> {
        let Some(mut cells) = self.connection.query("journal", HEAD, Vec::new())?.into_iter().next() else {
            return Ok(None);
        };
        let head = (Seq(cells.number("seq")?), Digest(cells.fixed("hash")?));
        self.flush()?;
        Ok(Some(head))
    }
}

impl PrefixTables for MariaJournal {
    fn hash_at(&mut self, seq: Seq) -> Result<Option<Digest>, StoreFault> {
        let row = self.connection.query("journal", STANDING, vec![Cell::Number(seq.0)])?.into_iter().next();
        row.map(|mut row| Ok(Digest(row.fixed("hash")?))).transpose()
    }

    fn first(&mut self) -> Result<Option<Seq>, StoreFault> {
        self.end("SELECT seq FROM journal ORDER BY seq LIMIT 1")
    }

    fn last(&mut self) -> Result<Option<Seq>, StoreFault> {
        self.end("SELECT seq FROM journal ORDER BY seq DESC LIMIT 1")
    }

    fn delete_through(&mut self, seq: Seq) -> Result<(), StoreFault> {
        self.connection.execute("DELETE FROM journal WHERE seq <= ?", vec![Cell::Number(seq.0)])?;
        Ok(())
    }
}

impl Journal for MariaJournal {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        if self.role == Role::Reader || !is_sound(row) {
            tracing::error!(seq = row.seq.0, role = ?self.role, "a row that can never be appended was to be");
            return Err(AppendError::Fenced);
        }
        if self.try_append(row)? { Ok(()) } else { Err(AppendError::Fenced) }
    }

    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        Ok(self.try_read(after, count_max)?)
    }

    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        Ok(self.try_head()?)
    }
}
