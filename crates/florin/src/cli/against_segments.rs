//! Exported segments held against the journal and each other: every file whole, every row linked to the one before it, and the
//! same as the journal's where the journal still has it.

use super::progress::Progress;
use super::verify::{Findings, Why, sentence};
use florin_core::id::Seq;
use florin_core::journal::{Journal, Row};
use florin_engine::load::{Place, READ_ROWS_MAX};
use florin_store::segment;
use std::path::{Path, PathBuf};

/// The ending of a segment's file.
pub(super) const ENDING: &str = ".segment";

type Fault = (Why, String);

/// Reads every segment of a folder, in the order of their names, and says of each what was found.
pub(super) fn compare(journal: &mut dyn Journal, folder: &Path, findings: &mut Findings, progress: &mut Progress) {
    let paths = match list(folder) {
        Ok(paths) if paths.is_empty() => {
            return findings.differs(
                "segments",
                Why::SegmentsMissing,
                format!("there is none in {}", folder.display()),
            );
        }
        Ok(paths) => paths,
        Err(fault) => {
            return findings.differs("segments", Why::SegmentsMissing, format!("{}: {fault}", folder.display()));
        }
    };
    let total = paths.len() as u64;
    let mut end = None;
    for (number, path) in (0u64..).zip(paths) {
        progress.part("segments: file", number, total);
        let name = format!("segment {}", path.file_name().unwrap_or_default().to_string_lossy());
        match judge(journal, &path, &mut end) {
            Ok(detail) => findings.agrees(name, detail),
            Err((why, detail)) => findings.differs(name, why, detail),
        }
    }
}

fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(ENDING) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// `end` is the last row of the segment before, and becomes this one's.
fn judge(journal: &mut dyn Journal, path: &Path, end: &mut Option<Place>) -> Result<String, Fault> {
    let before = end.take();
    let bytes = std::fs::read(path).map_err(|fault| (Why::SegmentUnreadable, format!("it can't be read: {fault}")))?;
    let rows = segment::read_segment(&bytes).map_err(|error| (Why::Fault(error.code()), sentence(&error)))?;
    drop(bytes);
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok("no rows".to_owned()) };
    *end = Some(Place { seq: last.seq, hash: last.hash });
    if let Some(before) = before {
        follows(before, first)?;
    }
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

fn follows(before: Place, first: &Row) -> Result<(), Fault> {
    if first.seq.0 > before.seq.next().0 {
        let (from, to) = (before.seq.next(), first.seq.0 - 1);
        return Err((Why::SegmentGap, format!("rows {from} to {to} are missing before it")));
    }
    if first.seq == before.seq.next() && first.previous != before.hash {
        return Err((Why::SegmentGap, format!("row {} does not link to the segment before it", first.seq)));
    }
    Ok(())
}

/// Holds rows against the journal's; says how many of them it has no more.
fn compare_rows(journal: &mut dyn Journal, rows: &[Row]) -> Result<usize, Fault> {
    let mut archived = 0;
    let mut left = rows;
    while let Some(next) = left.first() {
        let after = Seq(next.seq.0.saturating_sub(1));
        let found = journal.read(after, left.len().min(READ_ROWS_MAX));
        let found = found.map_err(|fault| (Why::Fault("journal_unreadable_now"), sentence(&fault)))?;
        let Some(start) = found.first() else {
            return Err((Why::SegmentPastEnd, format!("row {} is past the journal's end", next.seq)));
        };
        // The journal's beginning may be archived; a hole in its middle is told where the journal itself is judged.
        let gone = left.iter().take_while(|row| row.seq < start.seq).count();
        archived += gone;
        if let Some(end) = gone.checked_sub(1).and_then(|index| left.get(index))
            && end.seq.next() == start.seq
            && start.previous != end.hash
        {
            return Err((Why::SegmentOtherRow, format!("row {} of the journal does not link to it", start.seq)));
        }
        left = &left[gone..];
        let other = left.iter().zip(&found).find(|(row, found)| row != found);
        if let Some((row, _)) = other {
            return Err((Why::SegmentOtherRow, format!("row {} is another than the journal's", row.seq)));
        }
        left = &left[found.len().min(left.len())..];
    }
    Ok(archived)
}
