//! Segments: a stretch of the journal as one file that proves itself, for archives. It never reads one that does not link.

use crate::record::NUMBER_MAX;
use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{ROW_BYTES_MAX, Row};
use florin_core::wire::{Bytes, Message, WireError};
use sha2::{Digest as _, Sha256};

/// The format that this build writes, and the only one it reads.
const FORMAT: u32 = 1;

/// The bytes of the hash at the end.
const HASH_BYTES: usize = 32;

florin_core::message! {
    /// A journal row without what follows from its place.
    pub struct SegmentRow {
        /// The leadership that wrote it.
        1: epoch: Epoch,
        /// Its ledger time.
        2: time: LedgerTime,
        /// Its batch, encoded.
        3: payload: Bytes,
        /// Its hash.
        4: hash: Digest,
    }
}

florin_core::message! {
    /// A stretch of the journal. In a file it is followed by the SHA-256 of `florin/segment/1` and its encoding.
    pub struct Segment {
        /// The format's number.
        1: format: u32,
        /// The first row's number.
        2: first: Seq,
        /// The hash of the row before the first.
        3: previous: Digest,
        /// The rows, without gaps.
        4: rows: Vec<SegmentRow>,
    }
}

/// Why rows are no segment, or bytes none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// There is no row.
    #[error("a segment has at least one row")]
    Empty,
    /// The bytes were damaged, cut or continued.
    #[error("the segment does not match its hash")]
    WrongHash,
    /// The bytes are not the one encoding of a segment.
    #[error("the segment can't be read")]
    Encoding(#[source] WireError),
    /// Another format.
    #[error("the segment has format {0}, this build reads {FORMAT}")]
    Format(u32),
    /// A number is none that a journal's row can have, however well its hash fits.
    #[error("row {0}, its epoch or its time is beyond what a row can have")]
    OutOfRange(Seq),
    /// A row does not follow upon the one before it, or is not what its hash says.
    #[error("row {0} does not link to the row before it")]
    BrokenLink(Seq),
    /// A row is larger than a row may be.
    #[error("row {0} is larger than a row may be")]
    TooLarge(Seq),
}

impl SegmentError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            SegmentError::Empty => "segment_empty",
            SegmentError::WrongHash => "segment_wrong_hash",
            SegmentError::Encoding(_) => "segment_encoding",
            SegmentError::Format(_) => "segment_format",
            SegmentError::OutOfRange(_) => "segment_out_of_range",
            SegmentError::BrokenLink(_) => "segment_broken_link",
            SegmentError::TooLarge(_) => "segment_row_too_large",
        }
    }
}

fn own_hash(encoded: &[u8]) -> [u8; HASH_BYTES] {
    let mut hash = Sha256::new();
    hash.update(b"florin/segment/1");
    hash.update(encoded);
    hash.finalize().into()
}

fn check(rows: &[Row]) -> Result<(), SegmentError> {
    let first = rows.first().ok_or(SegmentError::Empty)?;
    let mut previous = first.previous;
    for (offset, row) in (0u64..).zip(rows) {
        if !row.seq.is_of_row() || row.epoch.0 > NUMBER_MAX || row.time.0 > NUMBER_MAX {
            return Err(SegmentError::OutOfRange(row.seq));
        }
        if row.seq.0.checked_sub(offset) != Some(first.seq.0)
            || row.previous != previous
            || row.hash != row.computed_hash()
        {
            return Err(SegmentError::BrokenLink(row.seq));
        }
        if row.payload.len() > ROW_BYTES_MAX {
            return Err(SegmentError::TooLarge(row.seq));
        }
        previous = row.hash;
    }
    Ok(())
}

/// The file that holds these rows.
///
/// # Errors
/// [`SegmentError::Empty`], [`SegmentError::OutOfRange`], [`SegmentError::BrokenLink`], [`SegmentError::TooLarge`].
pub fn export_segment(rows: &[Row]) -> Result<Vec<u8>, SegmentError> {
    check(rows)?;
    let first = rows.first().ok_or(SegmentError::Empty)?;
    let row = |row: &Row| SegmentRow {
        epoch: row.epoch,
        time: row.time,
        payload: Bytes(row.payload.clone()),
        hash: row.hash,
    };
    let segment =
        Segment { format: FORMAT, first: first.seq, previous: first.previous, rows: rows.iter().map(row).collect() };
    let mut bytes = segment.encode();
    let hash = own_hash(&bytes);
    bytes.extend(hash);
    Ok(bytes)
}

/// The rows of such a file, linked to each other. Whether the first links to what the caller has is for the caller to see.
///
/// # Errors
/// In order: [`SegmentError::WrongHash`], [`SegmentError::Encoding`], [`SegmentError::Format`], [`SegmentError::Empty`],
/// [`SegmentError::OutOfRange`], [`SegmentError::BrokenLink`], [`SegmentError::TooLarge`].
pub fn read_segment(bytes: &[u8]) -> Result<Vec<Row>, SegmentError> {
    let (encoded, hash) =
        bytes.len().checked_sub(HASH_BYTES).map(|end| bytes.split_at(end)).ok_or(SegmentError::WrongHash)?;
    if own_hash(encoded) != hash {
        return Err(SegmentError::WrongHash);
    }
    let segment = Segment::decode(encoded).map_err(SegmentError::Encoding)?;
    if segment.format != FORMAT {
        return Err(SegmentError::Format(segment.format));
    }
    let mut previous = segment.previous;
    let mut rows = Vec::with_capacity(segment.rows.len());
    for (offset, row) in (0u64..).zip(segment.rows) {
        let seq = segment.first.0.checked_add(offset).ok_or(SegmentError::OutOfRange(segment.first))?;
        let SegmentRow { epoch, time, payload: Bytes(payload), hash } = row;
        rows.push(Row { seq: Seq(seq), epoch, time, previous, payload, hash });
        previous = hash;
    }
    check(&rows)?;
    Ok(rows)
}
