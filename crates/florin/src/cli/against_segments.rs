//! Exported segments held against the journal and each other: every file whole, every row linked to the one before it, and the
//! same as the journal's where the journal still has it.

use super::progress::Progress;
use super::verify::{Findings, Missing, Why, sentence};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{Journal, ReadError, Row};
use florin_engine::load::{Place, READ_ROWS_MAX};
use florin_store::archive::{ENDING, list};
use florin_store::segment;
use std::path::Path;

/// Why a file does not agree, or could not be compared.
enum Fault {
    Differs(Why, String),
    Unread(ReadError),
}

impl From<(Why, String)> for Fault {
    fn from((why, detail): (Why, String)) -> Self {
        Fault::Differs(why, detail)
    }
}

impl From<ReadError> for Fault {
    fn from(fault: ReadError) -> Self {
        Fault::Unread(fault)
    }
}

/// The file before, of those that reach furthest: a hash for each row, which is far less than the rows are.
struct Before {
    first: Seq,
    last: Place,
    hashes: Vec<Digest>,
}

impl Before {
    /// The hash that it has for a row.
    fn hash(&self, seq: Seq) -> Option<Digest> {
        let index = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        self.hashes.get(index).copied()
    }
}

/// Reads every segment of a folder, in the order of their names, and says of each what was found.
pub(super) fn compare(journal: &mut dyn Journal, folder: &Path, findings: &mut Findings, progress: &mut Progress) {
    let paths = match list(folder, ENDING) {
        Ok(paths) if paths.is_empty() => {
            return findings.misses(Missing::Segments, format!("there is none in {}", folder.display()));
        }
        Ok(paths) => paths,
        Err(fault) => return findings.misses(Missing::Segments, format!("{}: {fault}", folder.display())),
    };
    let total = paths.len() as u64;
    let mut before = None;
    for (number, path) in (0u64..).zip(paths) {
        progress.part("segments: file", number, total);
        let name = format!("segment {}", path.file_name().unwrap_or_default().to_string_lossy());
        match judge(journal, &path, &mut before) {
            Ok(detail) => findings.agrees(name, detail),
            Err(Fault::Differs(why, detail)) => findings.differs(name, why, detail),
            Err(Fault::Unread(fault)) => findings.hinders(&name, "journal_unreadable_now", sentence(&fault)),
        }
    }
    if let Some(before) = before {
        compare_end(journal, before.last, findings);
    }
}

/// Rows that the journal has no more have to be in some file.
fn compare_end(journal: &mut dyn Journal, end: Place, findings: &mut Findings) {
    match journal.read(Seq::START, 1) {
        Err(fault) => findings.hinders("segments", "journal_unreadable_now", sentence(&fault)),
        Ok(rows) => {
            if let Some(first) = rows.first().filter(|first| first.seq > end.seq.next()) {
                let (from, to) = (end.seq.next(), first.seq.0 - 1);
                let detail =
                    format!("rows {from} to {to} are in no file, and the journal begins with row {}", first.seq);
                findings.differs("segments", Why::SegmentGap, detail);
            }
        }
    }
}

/// `before` is the file before, and becomes this one if it reaches further.
fn judge(journal: &mut dyn Journal, path: &Path, before: &mut Option<Before>) -> Result<String, Fault> {
    let earlier = before.take();
    let bytes = std::fs::read(path).map_err(|fault| (Why::SegmentUnreadable, format!("it can't be read: {fault}")))?;
    let rows = segment::read_segment(&bytes).map_err(|error| (Why::Fault(error.code()), sentence(&error)))?;
    drop(bytes);
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok("no rows".to_owned()) };
    let judged = earlier.as_ref().map_or(Ok(()), |earlier| follows(earlier, first, &rows));
    let this = || Before {
        first: first.seq,
        last: Place { seq: last.seq, hash: last.hash },
        hashes: rows.iter().map(|row| row.hash).collect(),
    };
    *before = earlier.filter(|earlier| earlier.last.seq > last.seq).or_else(|| Some(this()));
    judged?;
    let mut at = Place { seq: Seq(first.seq.0.saturating_sub(1)), hash: first.previous };
    for row in &rows {
        row.open(at.seq, at.hash).map_err(|error| (Why::Fault(error.code()), sentence(&error)))?;
        at = Place { seq: row.seq, hash: row.hash };
    }
    let archived = compare_rows(journal, &rows)?;
    let (first, last) = (first.seq, last.seq);
    Ok(match archived {
        0 => format!("rows {first} to {last}"),
        _ => format!("rows {first} to {last}, the first {archived} of them no more in the journal"),
    })
}

fn follows(before: &Before, first: &Row, rows: &[Row]) -> Result<(), (Why, String)> {
    let end = before.last;
    if first.seq > end.seq.next() {
        let (from, to) = (end.seq.next(), first.seq.0 - 1);
        return Err((Why::SegmentGap, format!("rows {from} to {to} are missing before it")));
    }
    if first.seq == end.seq.next() && first.previous != end.hash {
        return Err((Why::SegmentGap, format!("row {} does not link to the segment before it", first.seq)));
    }
    // The journal may have neither file's rows any more.
    match rows.iter().find(|row| before.hash(row.seq).is_some_and(|hash| hash != row.hash)) {
        Some(row) => Err((Why::SegmentOtherRow, format!("row {} is another than in the file before it", row.seq))),
        None => Ok(()),
    }
}

/// Holds rows against the journal's; says how many of them it has no more.
fn compare_rows(journal: &mut dyn Journal, rows: &[Row]) -> Result<usize, Fault> {
    let mut archived = 0;
    let mut left = rows;
    while let Some(next) = left.first() {
        let after = Seq(next.seq.0.saturating_sub(1));
        let found = journal.read(after, left.len().min(READ_ROWS_MAX))?;
        let Some(start) = found.first() else {
            return Err(Fault::Differs(Why::SegmentPastEnd, format!("row {} is past the journal's end", next.seq)));
        };
        // The journal's beginning may be archived; a hole in its middle is told where the journal itself is judged.
        let gone = left.iter().take_while(|row| row.seq < start.seq).count();
        archived += gone;
        if let Some(end) = gone.checked_sub(1).and_then(|index| left.get(index))
            && end.seq.next() == start.seq
            && start.previous != end.hash
        {
            let detail = format!("row {} of the journal does not link to it", start.seq);
            return Err(Fault::Differs(Why::SegmentOtherRow, detail));
        }
        left = &left[gone..];
        let other = left.iter().zip(&found).find(|(row, found)| row != found);
        if let Some((row, _)) = other {
            return Err(Fault::Differs(Why::SegmentOtherRow, format!("row {} is another than the journal's", row.seq)));
        }
        left = &left[found.len().min(left.len())..];
    }
    Ok(archived)
}
