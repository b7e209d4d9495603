//! What everyone but the writer sees: durable rows, folded. It never shows what is not durable, and never decides.

use crate::load::{FoldError, LoadError, Loaded, Place, READ_ROWS_MAX, fold};
use crate::writer::{Reply, Sealed};
use florin_core::event::Event;
use florin_core::id::{LedgerTime, Seq};
use florin_core::journal::{Batch, Journal, Row};
use florin_core::state::State;
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows kept for those who read events as they come; whoever is further behind reads the journal.
pub const FEED_ROWS_MAX: usize = 4_096;
/// Encoded bytes of the rows kept; in memory they take two to four times as much.
pub const FEED_BYTES_MAX: usize = 32 << 20;
/// Encoded bytes after which an answer to whoever reads events ends with the row it is at: one event alone may fill a row, and hundreds
/// of such rows must not be in memory for one question.
pub const FEED_ANSWER_BYTES_MAX: usize = 4 << 20;

/// One row as its readers follow it.
#[derive(Debug, Clone)]
pub struct FeedRow {
    /// The row.
    pub seq: Seq,
    /// Its ledger time.
    pub time: LedgerTime,
    /// Its commands with their events, in order.
    pub batch: Arc<Batch>,
    /// Its size as it was encoded.
    bytes: usize,
}

impl FeedRow {
    fn new(row: &Row, batch: Arc<Batch>) -> FeedRow {
        FeedRow { seq: row.seq, time: row.time, batch, bytes: row.payload.len() }
    }

    /// Its events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.batch.entries.iter().flat_map(|entry| &entry.events)
    }
}

/// The fold of all durable rows, and the newest of them.
#[derive(Debug)]
pub struct ReadModel {
    state: State,
    place: Place,
    feed: VecDeque<FeedRow>,
    feed_bytes: usize,
}

impl ReadModel {
    /// Starts from a loaded state.
    pub fn new(loaded: Loaded) -> ReadModel {
        ReadModel { state: loaded.state, place: loaded.place, feed: VecDeque::new(), feed_bytes: 0 }
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }
    /// The last row folded.
    pub fn place(&self) -> Place {
        self.place
    }
    /// The last row's number.
    pub fn at(&self) -> Seq {
        self.place.seq
    }
    /// A copy, from which a writer may start or recover.
    pub fn loaded(&self) -> Loaded {
        Loaded { state: self.state.clone(), place: self.place }
    }

    /// Folds a durable row of the writer in this process.
    ///
    /// # Errors
    /// [`FoldError`]; then this process must end, because nothing that it shows can be believed.
    pub fn fold(&mut self, sealed: &Sealed) -> Result<(), FoldError> {
        if sealed.row.seq <= self.place.seq {
            // Read from the journal already, as a follower.
            return Ok(());
        }
        // The batch was encoded into this row by this process; its bytes need not be read again, only its place.
        if sealed.row.seq != self.place.seq.next() || sealed.row.previous != self.place.hash {
            sealed.row.open(self.place.seq, self.place.hash)?;
        }
        self.fold_checked(&sealed.row, Arc::clone(&sealed.batch))
    }

    /// Folds a row as it was read.
    ///
    /// # Errors
    /// As [`ReadModel::fold`].
    pub fn fold_row(&mut self, row: &Row) -> Result<(), FoldError> {
        let batch = row.open(self.place.seq, self.place.hash)?;
        self.fold_checked(row, Arc::new(batch))
    }

    /// Folds rows as they were read, leaving out those that are folded already; says how many were new.
    ///
    /// # Errors
    /// As [`ReadModel::fold`].
    pub fn fold_rows(&mut self, rows: &[Row]) -> Result<usize, FoldError> {
        let mut count = 0;
        for row in rows {
            if row.seq > self.place.seq {
                self.fold_row(row)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Folds rows that others appended, at most [`READ_ROWS_MAX`]; says how many there were.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn follow(&mut self, journal: &mut dyn Journal) -> Result<usize, LoadError> {
        let rows = journal.read(self.place.seq, READ_ROWS_MAX)?;
        Ok(self.fold_rows(&rows)?)
    }

    fn fold_checked(&mut self, row: &Row, batch: Arc<Batch>) -> Result<(), FoldError> {
        fold(&mut self.state, row, &batch)?;
        self.place = Place { seq: row.seq, hash: row.hash };
        let feed_row = FeedRow::new(row, batch);
        self.feed_bytes += feed_row.bytes;
        self.feed.push_back(feed_row);
        while self.feed.len() > FEED_ROWS_MAX || self.feed_bytes > FEED_BYTES_MAX {
            let Some(oldest) = self.feed.pop_front() else { break };
            self.feed_bytes -= oldest.bytes;
        }
        Ok(())
    }

    /// Up to `count_max` rows after `after`, fewer where they are large ([`FEED_ANSWER_BYTES_MAX`]); `None` where some of them are
    /// older than what is kept: then [`feed_from_journal`] has them.
    pub fn events_since(&self, after: Seq, count_max: usize) -> Option<Vec<FeedRow>> {
        if after >= self.place.seq {
            return Some(Vec::new());
        }
        let first = self.feed.front()?.seq;
        if after.next() < first {
            return None;
        }
        let skip = usize::try_from(after.next().0 - first.0).ok()?;
        let mut bytes = 0;
        let rows = self.feed.iter().skip(skip).take(count_max);
        let rows = rows.take_while(|row| {
            let has_room = bytes < FEED_ANSWER_BYTES_MAX;
            bytes += row.bytes;
            has_room
        });
        Some(rows.cloned().collect())
    }
}

/// Up to `count_max` rows after `after`, from the journal, fewer where they are large ([`FEED_ANSWER_BYTES_MAX`]). The journal's
/// links are checked from one row to the next; that the first follows `after` is known by its number alone.
///
/// # Errors
/// [`LoadError`].
pub fn feed_from_journal(journal: &mut dyn Journal, after: Seq, count_max: usize) -> Result<Vec<FeedRow>, LoadError> {
    let (mut seq, mut previous) = (after, None);
    let (mut feed, mut bytes) = (Vec::new(), 0);
    while feed.len() < count_max && bytes < FEED_ANSWER_BYTES_MAX {
        let rows = journal.read(seq, READ_ROWS_MAX.min(count_max - feed.len()))?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            if bytes >= FEED_ANSWER_BYTES_MAX {
                break;
            }
            let batch = row.open(seq, previous.unwrap_or(row.previous)).map_err(FoldError::Row)?;
            (seq, previous) = (row.seq, Some(row.hash));
            bytes += row.payload.len();
            feed.push(FeedRow::new(&row, Arc::new(batch)));
        }
    }
    Ok(feed)
}

/// Durable answers that wait until the read model has folded their rows, so that whoever is answered sees the effect.
#[derive(Debug, Default)]
pub struct Gate {
    // In order of their rows: the writer gives them so, and a reply's row is never below one that was given before, except
    // where a writer was fenced; those rest on a row that is folded already.
    waiting: VecDeque<Reply>,
}

impl Gate {
    /// Takes answers as [`crate::writer::Writer::take_replies`] gives them.
    pub fn push(&mut self, replies: impl IntoIterator<Item = Reply>) {
        self.waiting.extend(replies);
    }

    /// The answers that may be given once everything up to `at` is folded.
    pub fn open(&mut self, at: Seq) -> Vec<Reply> {
        let count = self.waiting.iter().take_while(|reply| reply.after <= at).count();
        self.waiting.drain(..count).collect()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
