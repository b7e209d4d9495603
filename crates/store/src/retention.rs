//! Whether a prefix of the journal may be deleted. Nothing else may decide it: a journal deletes only with a [`Permit`].

use crate::snapshots::VerifiedSnapshot;
use florin_core::id::{Digest, Seq};

/// A request to delete all rows up to one.
#[derive(Debug, Clone, Copy)]
pub struct PrefixRequest<'a> {
    /// The last row to be deleted.
    pub through: Seq,
    /// The snapshot that start-up will stand on.
    pub snapshot: Option<&'a VerifiedSnapshot>,
    /// Where each reader stands: its name, and the last row that it has taken in.
    pub cursors: &'a [(&'a str, Seq)],
    /// The first row that has to stay, by the operator's rule of retention; at most the last row.
    pub floor: Seq,
}

/// Why a prefix stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixRefusal {
    /// No verified snapshot.
    NoSnapshot,
    /// The snapshot stands on a row that would be deleted with others that it does not cover.
    SnapshotBehind {
        /// The snapshot's row.
        snapshot: Seq,
    },
    /// A reader still needs some of it.
    CursorBehind {
        /// The reader.
        reader: String,
        /// Where it stands.
        at: Seq,
    },
    /// The rule of retention keeps some of it.
    RetentionFloor {
        /// The first row that has to stay.
        floor: Seq,
    },
    /// The snapshot's row is not the journal's row of that number, or the journal would be empty afterwards.
    ForeignSnapshot,
}

impl PrefixRefusal {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            PrefixRefusal::NoSnapshot => "prefix_no_snapshot",
            PrefixRefusal::SnapshotBehind { .. } => "prefix_snapshot_behind",
            PrefixRefusal::CursorBehind { .. } => "prefix_cursor_behind",
            PrefixRefusal::RetentionFloor { .. } => "prefix_retention_floor",
            PrefixRefusal::ForeignSnapshot => "prefix_foreign_snapshot",
        }
    }
}

/// Leave to delete a prefix; only [`permit`] gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    pub(crate) through: Seq,
    pub(crate) snapshot: Seq,
    pub(crate) snapshot_hash: Digest,
}

/// Judges a request by all three conditions.
///
/// # Errors
/// In order of [`PrefixRefusal`]'s variants; the last of them only when the rows are deleted.
pub fn permit(request: &PrefixRequest<'_>) -> Result<Permit, PrefixRefusal> {
    let header = request.snapshot.ok_or(PrefixRefusal::NoSnapshot)?.header();
    if header.seq < request.through {
        return Err(PrefixRefusal::SnapshotBehind { snapshot: header.seq });
    }
    if let Some((reader, at)) = request.cursors.iter().find(|(_, at)| *at < request.through) {
        return Err(PrefixRefusal::CursorBehind { reader: (*reader).to_owned(), at: *at });
    }
    if request.floor <= request.through {
        return Err(PrefixRefusal::RetentionFloor { floor: request.floor });
    }
    Ok(Permit { through: request.through, snapshot: header.seq, snapshot_hash: header.row_hash })
}

/// Why a permitted prefix was not, or not wholly, deleted.
#[derive(Debug, thiserror::Error)]
pub enum PrefixError {
    /// The journal itself objects.
    #[error("the prefix stays: {}", .0.code())]
    Refused(PrefixRefusal),
    /// The store failed. What is left is still a journal without gaps; asking again goes on.
    #[error("the prefix could not be deleted")]
    Store(#[from] crate::fault::StoreFault),
}

/// Rows deleted in one transaction: few, because the writer waits meanwhile.
pub(crate) const DELETE_ROWS_MAX: u64 = 64;

/// What deleting asks of a journal's tables, on either database.
pub(crate) trait PrefixTables {
    fn hash_at(&mut self, seq: Seq) -> Result<Option<Digest>, crate::fault::StoreFault>;
    fn first(&mut self) -> Result<Option<Seq>, crate::fault::StoreFault>;
    fn last(&mut self) -> Result<Option<Seq>, crate::fault::StoreFault>;
    fn delete_through(&mut self, seq: Seq) -> Result<(), crate::fault::StoreFault>;
}

/// Deletes from the oldest row on, so that at any moment what is left has no gap. The last row always stays: the next one
/// has to find its predecessor.
pub(crate) fn delete(
    tables: &mut impl PrefixTables,
    permit: &Permit,
    progress: &mut dyn FnMut(Seq),
) -> Result<(), PrefixError> {
    let standing = tables.hash_at(permit.snapshot)? == Some(permit.snapshot_hash);
    if !standing || tables.last()?.is_none_or(|last| last <= permit.through) {
        return Err(PrefixError::Refused(PrefixRefusal::ForeignSnapshot));
    }
    while let Some(first) = tables.first()?.filter(|first| *first <= permit.through) {
        let end = first.0.saturating_add(DELETE_ROWS_MAX - 1).min(permit.through.0);
        tables.delete_through(Seq(end))?;
        progress(Seq(end));
    }
    Ok(())
}
