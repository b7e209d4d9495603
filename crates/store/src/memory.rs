//! A journal in memory: the model that the SQL stores are compared with, and the store of tests and simulations.
//! It never outlives its process.

use crate::fault::StoreFault;
use crate::record::is_sound;
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the next append of a [`MemoryJournal`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    /// The row is written as usual, but its writer is told that nobody knows.
    UnknownWritten,
    /// The row is not written, and its writer is told that nobody knows.
    UnknownNotWritten,
    /// The row is not written, and its writer is told that another one leads.
    Fenced,
    /// The storage fails: unknown, not written, and fatal to a process that runs under
    /// [`FailStop`](crate::fail_stop::FailStop).
    Storage,
}

#[derive(Debug, Default)]
struct Shared {
    rows: Vec<Row>,
    append_faults: VecDeque<Option<AppendFault>>,
    reads_fail: bool,
}

/// A handle on a journal in memory. Clones are further handles on the same rows, as several connections to one database are.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    shared: Arc<Mutex<Shared>>,
    reads_only: bool,
}

/// What a simulated fault says of itself.
#[derive(Debug, thiserror::Error)]
#[error("a simulated fault")]
struct Simulated;

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle on the same rows that appends nothing.
    #[must_use]
    pub fn reader(&self) -> Self {
        MemoryJournal { shared: Arc::clone(&self.shared), reads_only: true }
    }

    /// Queues what befalls the next appends, of any handle, one each; `None` lets one through.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<AppendFault>>) {
        self.lock().append_faults.extend(faults);
    }

    /// From now on every read and every question for the head fails.
    pub fn fail_reads(&self) {
        self.lock().reads_fail = true;
    }

    /// Ends what [`MemoryJournal::fail_reads`] began.
    pub fn heal_reads(&self) {
        self.lock().reads_fail = false;
    }

    /// All rows, whatever faults are set: what an outside auditor sees.
    pub fn rows(&self) -> Vec<Row> {
        self.lock().rows.clone()
    }

    /// Puts a row at the end without any check, as a foreign hand would: for tests of readers.
    pub fn push_unchecked(&self, row: Row) {
        self.lock().rows.push(row);
    }

    // A panic elsewhere leaves whole rows: a row is pushed or not.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(rows: &mut Vec<Row>, row: &Row) -> Result<(), AppendError> {
    if !is_sound(row) {
        return Err(AppendError::Fenced);
    }
    if let Ok(index) = rows.binary_search_by_key(&row.seq, |stored| stored.seq) {
        return if rows[index].hash == row.hash { Ok(()) } else { Err(AppendError::Fenced) };
    }
    let fits = match rows.last() {
        None => row.seq == Seq(1),
        Some(last) => last.seq.next() == row.seq && last.hash == row.previous,
    };
    if !fits {
        return Err(AppendError::Fenced);
    }
    rows.push(row.clone());
    Ok(())
}

impl Journal for MemoryJournal {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        if self.reads_only {
            return Err(AppendError::Fenced);
        }
        let mut shared = self.lock();
        let unknown = || AppendError::from(StoreFault::Connection(Box::new(Simulated)));
        match shared.append_faults.pop_front().flatten() {
            None => insert(&mut shared.rows, row),
            Some(AppendFault::UnknownWritten) => insert(&mut shared.rows, row).and_then(|()| Err(unknown())),
            Some(AppendFault::UnknownNotWritten) => Err(unknown()),
            Some(AppendFault::Fenced) => Err(AppendError::Fenced),
            Some(AppendFault::Storage) => Err(StoreFault::Storage(Box::new(Simulated)).into()),
        }
    }

    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        let shared = self.lock();
        if shared.reads_fail {
            return Err(StoreFault::Connection(Box::new(Simulated)).into());
        }
        let start = shared.rows.partition_point(|row| row.seq <= after);
        Ok(shared.rows[start..].iter().take(count_max).cloned().collect())
    }

    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        let shared = self.lock();
        if shared.reads_fail {
            return Err(StoreFault::Connection(Box::new(Simulated)).into());
        }
        Ok(shared.rows.last().map(|row| (row.seq, row.hash)))
    }
}
