//! Where a process starts: the newest snapshot and the rows after it, folded. It never repairs: a row that does not fit stops it.

use crate::caught::caught;
use crate::ports::Snapshots;
use crate::witness::{Contradiction, Unreadable, compare};
use florin_core::id::{Digest, Epoch, Seq};
use florin_core::journal::{Batch, Journal, ReadError, Row, RowError};
use florin_core::snapshot;
use florin_core::state::State;

/// Rows read at once. At most a megabyte each, most of them far smaller: a bound on memory that still hides the store's latency.
pub const READ_ROWS_MAX: usize = 64;

/// What the snapshot is called where it contradicts the journal.
const SNAPSHOT: &str = "the snapshot";

/// A row's number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number.
    pub seq: Seq,
    /// The hash.
    pub hash: Digest,
}

impl Place {
    /// The place before the first row.
    pub const START: Place = Place { seq: Seq::START, hash: Digest::ZERO };
}

/// A state and the durable row up to which it is folded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The state.
    pub state: State,
    /// The row.
    pub place: Place,
}

impl Loaded {
    /// The state of an empty journal.
    pub fn empty() -> Loaded {
        Loaded { state: State::default(), place: Place::START }
    }
}

/// Why rows can't be folded. Whatever it is, whoever meets it stops.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The row is damaged, or not the next one.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The row is sound and says something that can't follow from what came before.
    #[error("row {seq} contradicts what came before it: {what}")]
    Contradiction {
        /// The row.
        seq: Seq,
        /// The assertion that failed.
        what: String,
    },
}

impl FoldError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            FoldError::Row(error) => error.code(),
            FoldError::Contradiction { .. } => "journal_contradiction",
        }
    }

    /// The row that is wrong.
    pub fn seq(&self) -> Seq {
        match self {
            FoldError::Row(RowError::Gap { expected, .. }) => *expected,
            FoldError::Row(
                RowError::BrokenLink { seq }
                | RowError::WrongHash { seq }
                | RowError::TooLarge { seq }
                | RowError::Payload { seq, .. }
                | RowError::Restates { seq },
            )
            | FoldError::Contradiction { seq, .. } => *seq,
        }
    }
}

/// Why no state could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The journal does not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal holds a row that is wrong.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The journal lacks a row that is known from elsewhere, or has another one in its place.
    #[error(transparent)]
    Contradicted(Contradiction),
    /// Whether it is the journal that is known elsewhere can't be said.
    #[error(transparent)]
    Unreadable(Unreadable),
    /// The journal was begun by another platform.
    #[error("the journal is another platform's")]
    OtherPlatform {
        /// Its id.
        found: [u8; 16],
    },
}

impl LoadError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            LoadError::Read(_) => "journal_unreadable_now",
            LoadError::Fold(error) => error.code(),
            LoadError::Contradicted(found) => found.code(),
            LoadError::Unreadable(unreadable) => unreadable.code(),
            LoadError::OtherPlatform { .. } => "platform_id_changed",
        }
    }
}

/// Says what a caught panic said.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

/// The platform that began the journal which a state was folded from, where that is another one than `platform`.
pub(crate) fn foreign(state: &State, platform: [u8; 16]) -> Option<[u8; 16]> {
    let counters = state.counters();
    (counters.epoch > Epoch(0) && counters.platform != platform).then_some(counters.platform)
}

/// Folds a row whose place and hash were checked. After an error the state is good for nothing.
pub(crate) fn fold(state: &mut State, row: &Row, batch: &Batch) -> Result<(), FoldError> {
    caught(|| state.apply_row(row, batch)).map_err(|what| FoldError::Contradiction { seq: row.seq, what })
}

/// Loads the newest snapshot that can be used and folds all rows after it.
///
/// A snapshot only saves time, so one that is damaged is left aside with a warning. One that is whole and names a row that
/// the journal does not have was made from a newer journal, or from another one: then this one is not to be used.
///
/// # Errors
/// [`LoadError`].
pub fn load(journal: &mut dyn Journal, snapshots: &mut dyn Snapshots) -> Result<Loaded, LoadError> {
    load_counted(journal, snapshots).map(|(loaded, _)| loaded)
}

/// As [`load`], and says the row of the snapshot that was used: [`Seq::START`] where none was.
///
/// # Errors
/// [`LoadError`].
pub fn load_counted(journal: &mut dyn Journal, snapshots: &mut dyn Snapshots) -> Result<(Loaded, Seq), LoadError> {
    let start = newest_snapshot(journal, snapshots)?.unwrap_or_else(Loaded::empty);
    let from = start.place.seq;
    Ok((catch_up(journal, start)?, from))
}

/// As [`load`], but no row after `to` is folded: a journal that grows faster than it is folded has no end. Where the newest
/// snapshot is of a later row, its state is given.
///
/// # Errors
/// [`LoadError`].
pub fn load_to(journal: &mut dyn Journal, snapshots: &mut dyn Snapshots, to: Seq) -> Result<Loaded, LoadError> {
    let start = newest_snapshot(journal, snapshots)?.unwrap_or_else(Loaded::empty);
    catch_up_to(journal, start, to)
}

/// Folds all rows after a loaded state.
///
/// # Errors
/// [`LoadError`].
pub fn catch_up(journal: &mut dyn Journal, loaded: Loaded) -> Result<Loaded, LoadError> {
    catch_up_to(journal, loaded, Seq(u64::MAX))
}

fn catch_up_to(journal: &mut dyn Journal, mut loaded: Loaded, to: Seq) -> Result<Loaded, LoadError> {
    loop {
        let count_max = usize::try_from(to.0.saturating_sub(loaded.place.seq.0)).unwrap_or(usize::MAX);
        if count_max == 0 {
            return Ok(loaded);
        }
        let rows = journal.read(loaded.place.seq, count_max.min(READ_ROWS_MAX))?;
        if rows.is_empty() {
            return Ok(loaded);
        }
        for row in &rows {
            let batch = row.open(loaded.place.seq, loaded.place.hash).map_err(FoldError::Row)?;
            fold(&mut loaded.state, row, &batch)?;
            loaded.place = Place { seq: row.seq, hash: row.hash };
        }
    }
}

fn newest_snapshot(journal: &mut dyn Journal, snapshots: &mut dyn Snapshots) -> Result<Option<Loaded>, LoadError> {
    let (header, chunks) = match snapshots.newest() {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(fault) => {
            tracing::warn!(%fault, "no snapshot could be read; the journal is folded from its start");
            return Ok(None);
        }
    };
    let place = Place { seq: header.seq, hash: header.row_hash };
    if let Some(found) = compare(journal, SNAPSHOT, place)? {
        return Err(LoadError::Contradicted(found));
    }
    let read = caught(|| snapshot::read(&header, &chunks));
    match read {
        Ok(Ok(state)) if state.counters().seq == header.seq => Ok(Some(Loaded { state, place })),
        Ok(Ok(_)) => {
            tracing::warn!(seq = header.seq.0, "the snapshot contradicts itself; it is left aside");
            Ok(None)
        }
        Err(what) => {
            tracing::warn!(seq = header.seq.0, what, "the snapshot contradicts itself; it is left aside");
            Ok(None)
        }
        Ok(Err(error)) => {
            tracing::warn!(seq = header.seq.0, code = error.code(), %error, "the snapshot can't be used; it is left aside");
            Ok(None)
        }
    }
}
