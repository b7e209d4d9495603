//! The archive: a folder of segments that holds what a journal does not have any more. It never overwrites a file, and never hands
//! out a row of a file that does not prove itself.

use crate::segment::{SegmentError, export_segment, read_segment};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The ending of a segment's file.
pub const ENDING: &str = ".segment";

/// Why the archive can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The folder or a file can't be read.
    #[error("{} can't be read", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file is no segment, or a damaged one.
    #[error("{} is no whole segment", .path.display())]
    Segment {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        cause: SegmentError,
    },
    /// A file holds other rows than its name says.
    #[error("{} holds other rows than its name says", .path.display())]
    Misnamed {
        /// Which.
        path: PathBuf,
    },
    /// Rows that are to be written do not make a segment.
    #[error("these rows are no segment")]
    Rows(#[source] SegmentError),
    /// A file of that name exists, and is left as it is.
    #[error("{} exists and is left as it is", .path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// A file can't be written.
    #[error("{} can't be written", .path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

impl ArchiveError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            ArchiveError::Unreadable { .. } => "archive_unreadable",
            ArchiveError::Segment { cause, .. } | ArchiveError::Rows(cause) => cause.code(),
            ArchiveError::Misnamed { .. } => "archive_misnamed",
            ArchiveError::Exists { .. } => "export_exists",
            ArchiveError::Unwritable { .. } => "export_unwritable",
        }
    }
}

impl From<ArchiveError> for ReadError {
    fn from(error: ArchiveError) -> Self {
        ReadError(Box::new(error))
    }
}

/// Files of a folder whose names end so, in the order of their names.
///
/// # Errors
/// Where the folder can't be read.
pub fn list(folder: &Path, ending: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(ending) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Writes rows as a file into a folder, whole and durable or not at all, and names it for its first and last row.
///
/// # Errors
/// [`ArchiveError::Rows`], [`ArchiveError::Exists`], [`ArchiveError::Unwritable`].
pub fn write(folder: &Path, rows: &[Row]) -> Result<PathBuf, ArchiveError> {
    let bytes = export_segment(rows).map_err(ArchiveError::Rows)?;
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Err(ArchiveError::Rows(SegmentError::Empty));
    };
    let path = folder.join(format!("journal-{:012}-{:012}{ENDING}", first.seq.0, last.seq.0));
    let failed = |cause: std::io::Error| match cause.kind() {
        ErrorKind::AlreadyExists => ArchiveError::Exists { path: path.clone() },
        _ => ArchiveError::Unwritable { path: path.clone(), cause },
    };
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    // What a crash left may be the file itself, under its first name: nothing is written through that one.
    match std::fs::remove_file(&draft) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(failed(fault)),
        Ok(()) | Err(_) => {}
    }
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(&draft).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        // Unlike a renaming, a second name is refused where there is a file of that name.
        std::fs::hard_link(&draft, &path)
    });
    let removed = std::fs::remove_file(&draft);
    written.and(removed).map_err(failed)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(path)
}

/// A file, by its name.
#[derive(Debug, Clone)]
struct Entry {
    first: Seq,
    last: Seq,
    path: PathBuf,
}

fn entry(path: PathBuf) -> Option<Entry> {
    let name = path.file_name()?.to_str()?;
    let (first, last) = name.strip_prefix("journal-")?.strip_suffix(ENDING)?.split_once('-')?;
    let (first, last) = (Seq(first.parse().ok()?), Seq(last.parse().ok()?));
    // Every number of a row can be counted on from; a name that says another is none of ours.
    (first.is_of_row() && last.is_of_row()).then_some(Entry { first, last, path })
}

/// The segments of one folder, found by the rows that their names say.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    entries: Vec<Entry>,
    /// The rows of the file that was read last: whoever reads one row mostly wants the next.
    open: Vec<Row>,
}

impl Archive {
    /// The archive in a folder, which may not exist yet.
    pub fn at(folder: PathBuf) -> Archive {
        Archive { folder, entries: Vec::new(), open: Vec::new() }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Up to `count_max` rows after `after`, in order and without gaps; none where no file has the next one. They are
    /// linked to each other; whether they link to what the caller has, the caller sees.
    ///
    /// # Errors
    /// [`ArchiveError::Unreadable`], [`ArchiveError::Segment`], [`ArchiveError::Misnamed`] of the file that reaches furthest,
    /// where no file that has the row is whole.
    pub fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ArchiveError> {
        let next = after.next();
        let is_open =
            self.open.first().is_some_and(|row| row.seq <= next) && self.open.last().is_some_and(|row| row.seq >= next);
        if !is_open {
            self.open = self.load(next)?;
        }
        Ok(self.open.iter().filter(|row| row.seq > after).take(count_max).cloned().collect())
    }

    /// The last row that can be read on from `after` without a gap, by the names of the files.
    ///
    /// # Errors
    /// [`ArchiveError::Unreadable`].
    pub fn end(&mut self, after: Seq) -> Result<Seq, ArchiveError> {
        self.entries.clear();
        let mut at = after;
        while let Some(last) = self.with(at.next())?.first().map(|entry| entry.last) {
            at = last;
        }
        Ok(at)
    }

    /// Makes every file with a row from `first` to `last` durable, and the names of all: whoever wrote them may have been
    /// broken off before that.
    ///
    /// # Errors
    /// [`ArchiveError::Unwritable`].
    pub fn sync(&mut self, first: Seq, last: Seq) -> Result<(), ArchiveError> {
        self.look()?;
        let touched = self.entries.iter().filter(|entry| entry.first <= last && first <= entry.last);
        let parent = self.folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folders = [self.folder.as_path(), parent.unwrap_or(Path::new("."))];
        for path in touched.map(|entry| entry.path.as_path()).chain(folders) {
            let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
            synced.map_err(|cause| ArchiveError::Unwritable { path: path.to_path_buf(), cause })?;
        }
        Ok(())
    }

    /// The rows of a file that has this one; none where there is no such file. A file that is damaged is told only where no
    /// other one has the row.
    fn load(&mut self, seq: Seq) -> Result<Vec<Row>, ArchiveError> {
        let mut damaged = None;
        for entry in self.with(seq)? {
            match open(entry) {
                Ok(rows) => return Ok(rows),
                Err(error) => damaged = damaged.or(Some(error)),
            }
        }
        damaged.map_or(Ok(Vec::new()), Err)
    }

    /// The files that have a row, the one that reaches furthest first.
    fn with(&mut self, seq: Seq) -> Result<Vec<Entry>, ArchiveError> {
        let of = |entries: &[Entry]| {
            let mut found: Vec<Entry> =
                entries.iter().filter(|entry| entry.first <= seq && seq <= entry.last).cloned().collect();
            found.sort_by_key(|entry| std::cmp::Reverse(entry.last));
            found
        };
        let found = of(&self.entries);
        if !found.is_empty() {
            return Ok(found);
        }
        // It may have come since.
        self.look()?;
        Ok(of(&self.entries))
    }

    fn look(&mut self) -> Result<(), ArchiveError> {
        self.entries = match list(&self.folder, ENDING) {
            Ok(paths) => paths.into_iter().filter_map(entry).collect(),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Vec::new(),
            Err(cause) => return Err(ArchiveError::Unreadable { path: self.folder.clone(), cause }),
        };
        Ok(())
    }
}

fn open(entry: Entry) -> Result<Vec<Row>, ArchiveError> {
    let Entry { first, last, path } = entry;
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(cause) => return Err(ArchiveError::Unreadable { path, cause }),
    };
    let rows = match read_segment(&bytes) {
        Ok(rows) => rows,
        Err(cause) => return Err(ArchiveError::Segment { path, cause }),
    };
    let is_named = rows.first().is_some_and(|row| row.seq == first) && rows.last().is_some_and(|row| row.seq == last);
    if is_named { Ok(rows) } else { Err(ArchiveError::Misnamed { path }) }
}

/// A journal whose oldest rows may be in an archive: to its readers it is still one journal, from its first row on.
///
/// Where the archive does not have them either, it reads as the journal alone does: from the first row that is left.
pub struct WithArchive {
    journal: Box<dyn Journal>,
    archive: Archive,
}

impl WithArchive {
    /// A journal and the archive of its oldest rows.
    pub fn new(journal: Box<dyn Journal>, archive: Archive) -> WithArchive {
        WithArchive { journal, archive }
    }
}

impl std::fmt::Debug for WithArchive {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "WithArchive({:?})", self.archive.folder)
    }
}

impl Journal for WithArchive {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        self.journal.append(row)
    }

    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        let rows = self.journal.read(after, count_max)?;
        if rows.first().is_none_or(|first| first.seq == after.next()) {
            self.archive.open = Vec::new();
            return Ok(rows);
        }
        // A hole in the middle stays one: only what is older than all that the journal has may be elsewhere.
        let oldest = self.journal.read(Seq::START, 1)?.first().map_or(Seq::START, |first| first.seq);
        if oldest <= after.next() {
            return Ok(rows);
        }
        let mut found = Vec::new();
        let mut at = after;
        while at.next() < oldest && found.len() < count_max {
            let mut archived = self.archive.read(at, count_max - found.len())?;
            archived.retain(|row| row.seq < oldest);
            let Some(last) = archived.last() else { break };
            at = last.seq;
            found.append(&mut archived);
        }
        if found.is_empty() {
            return Ok(rows);
        }
        if found.len() < count_max {
            // The journal's oldest rows may have gone to the archive meanwhile; then the caller goes on from there.
            let rest = self.journal.read(at, count_max - found.len())?;
            if rest.first().is_some_and(|row| row.seq == at.next()) {
                found.extend(rest);
            }
        }
        Ok(found)
    }

    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.journal.head()
    }
}
