//! The archive of a journal's oldest rows, and a journal that is read through it.

use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use florin_store::archive::{self, Archive, ArchiveError, ENDING, WithArchive};
use florin_store::conformance::{Fixture, fill};
use florin_store::memory::MemoryJournal;
use florin_store::retention::{PrefixRequest, permit};
use florin_store::segment::export_segment;
use florin_store::snapshots::VerifiedSnapshot;
use florin_store::sqlite::journal::SqliteJournal;
use std::path::Path;
use tempfile::TempDir;

fn folder() -> TempDir {
    TempDir::new().expect("a folder can be made")
}

fn rows(count: usize) -> Vec<Row> {
    fill(&mut MemoryJournal::new(), count)
}

/// The numbers of the rows that a read gives.
fn read(archive: &mut Archive, after: u64, count_max: usize) -> Vec<u64> {
    archive.read(Seq(after), count_max).expect("readable").iter().map(|row| row.seq.0).collect()
}

/// Removes rows 1 to `through` from the journal in `path`.
fn delete(path: &Path, rows: &[Row], through: u64) {
    let last = rows.last().expect("a row");
    let header = florin_core::journal::SnapshotHeader {
        seq: last.seq,
        row_hash: last.hash,
        epoch: last.epoch,
        time: last.time,
        state_hash: florin_core::journal::state_hash([].iter()),
        chunk_count: 0,
        build: "test".to_owned(),
    };
    let snapshot = VerifiedSnapshot::verify(header, Vec::new()).expect("no chunk is missing");
    let request =
        PrefixRequest { through: Seq(through), snapshot: Some(&snapshot), cursors: &[], floor: Seq(through + 1) };
    let permit = permit(&request).expect("allowed");
    let mut pruner = SqliteJournal::open_pruner(path).expect("opens beside the writer");
    pruner.delete_prefix(&permit, &mut |_| {}).expect("deleted");
}

struct Archived {
    journal: MemoryJournal,
    archive: TempDir,
}

impl Fixture for Archived {
    fn open(&self) -> Box<dyn Journal> {
        self.with(self.journal.clone())
    }
    fn open_reader(&self) -> Box<dyn Journal> {
        self.with(self.journal.reader())
    }
}

impl Archived {
    fn with(&self, journal: MemoryJournal) -> Box<dyn Journal> {
        Box::new(WithArchive::new(Box::new(journal), Archive::at(self.archive.path().to_owned())))
    }
}

// What is asked of every store holds with an archive beside it as well.
florin_store::journal_conformance!(|| Archived { journal: MemoryJournal::new(), archive: folder() });

#[test]
fn rows_are_read_from_whichever_file_has_them() {
    let folder = folder();
    let rows = rows(30);
    let mut archive = Archive::at(folder.path().join("later"));
    assert_eq!(read(&mut archive, 0, 9), [0u64; 0], "a folder that does not exist has no rows");
    std::fs::create_dir(archive.folder()).expect("made");
    for range in [0..10, 10..20, 5..15, 25..30] {
        archive::write(archive.folder(), &rows[range]).expect("written");
    }
    assert_eq!(read(&mut archive, 0, 3), [1, 2, 3]);
    assert_eq!(read(&mut archive, 8, 9), [9, 10], "to the file's end");
    assert_eq!(
        read(&mut archive, 10, 9),
        (11..=19).collect::<Vec<u64>>(),
        "of two files, the one that goes on further"
    );
    assert_eq!(read(&mut archive, 15, 99), (16..=20).collect::<Vec<u64>>());
    assert_eq!(read(&mut archive, 20, 9), [0u64; 0], "a hole");
    assert_eq!(read(&mut archive, 24, 2), [0u64; 0], "still in the hole");
    assert_eq!(read(&mut archive, 25, 2), [26, 27]);
    assert_eq!(archive.end(Seq(0)).expect("readable"), Seq(20));
    assert_eq!(archive.end(Seq(24)).expect("readable"), Seq(24));
    archive::write(archive.folder(), &rows[20..25]).expect("written");
    assert_eq!(archive.end(Seq(0)).expect("readable"), Seq(30), "what came since is seen");
    assert_eq!(archive.read(Seq(22), 1).expect("readable"), rows[22..23]);
}

#[test]
fn a_file_is_written_whole_or_not_at_all_and_never_over_another() {
    let folder = folder();
    let rows = rows(5);
    let path = archive::write(folder.path(), &rows[..4]).expect("written");
    let bytes = std::fs::read(&path).expect("readable");
    assert_eq!(archive::write(folder.path(), &rows[..4]).expect_err("there").code(), "export_exists");
    assert_eq!(archive::write(folder.path(), &[]).expect_err("nothing").code(), "segment_empty");
    assert_eq!(archive::write(&path, &rows).expect_err("no folder").code(), "export_unwritable");
    assert_eq!(std::fs::read(&path).expect("readable"), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1, "no draft is left");
}

#[test]
fn a_damaged_or_misnamed_file_is_told_and_its_rows_are_not_handed_out() {
    let rows = rows(8);
    let cases: [(&str, Vec<u8>); 4] = [
        ("segment_wrong_hash", export_segment(&rows).expect("links")[1..].to_vec()),
        ("segment_wrong_hash", Vec::new()),
        ("archive_misnamed", export_segment(&rows[1..]).expect("links")),
        ("archive_misnamed", export_segment(&rows[..7]).expect("links")),
    ];
    for (code, bytes) in cases {
        let folder = folder();
        std::fs::write(folder.path().join(format!("journal-000000000001-000000000008{ENDING}")), bytes)
            .expect("written");
        std::fs::write(folder.path().join(format!("other{ENDING}")), b"not looked at").expect("written");
        let error = Archive::at(folder.path().to_owned()).read(Seq(3), 1).expect_err("refused");
        assert_eq!(error.code(), code);
    }
    let folder = folder();
    std::fs::create_dir(folder.path().join(format!("journal-1-8{ENDING}"))).expect("made");
    let error = Archive::at(folder.path().to_owned()).read(Seq(3), 1).expect_err("refused");
    assert!(matches!(error, ArchiveError::Unreadable { .. }), "{error:?}");
}

#[test]
fn a_name_with_numbers_that_no_row_can_have_is_none_of_a_segment() {
    let folder = folder();
    archive::write(folder.path(), &rows(8)).expect("written");
    for (first, last) in [(0, 5), (9, 1 << 63), (9, u64::MAX), (u64::MAX, u64::MAX)] {
        std::fs::write(folder.path().join(format!("journal-{first}-{last}{ENDING}")), b"none").expect("written");
    }
    let mut archive = Archive::at(folder.path().to_owned());
    assert_eq!(archive.end(Seq(0)).expect("readable"), Seq(8), "and it comes to an end");
    assert_eq!(read(&mut archive, 0, 9), (1..=8).collect::<Vec<u64>>());
    for after in [8, Seq::MAX.0, u64::MAX - 1, u64::MAX] {
        assert_eq!(read(&mut archive, after, 9), [0u64; 0], "{after}");
    }
}

#[test]
fn a_journal_whose_beginning_is_archived_reads_as_it_did() {
    let folder = folder();
    let path = folder.path().join("journal.sqlite3");
    let mut writer = SqliteJournal::open(&path).expect("opens");
    let mut rows = fill(&mut writer, 100);
    let reader = || Box::new(SqliteJournal::open_reader(&path).expect("opens"));
    let mut journal = WithArchive::new(reader(), Archive::at(folder.path().join("archive")));
    let all = |journal: &mut WithArchive, step: usize| {
        let (mut found, mut at) = (Vec::new(), Seq::START);
        loop {
            let read = journal.read(at, step).expect("readable");
            let Some(last) = read.last() else { return found };
            at = last.seq;
            found.extend(read);
        }
    };
    std::fs::create_dir(folder.path().join("archive")).expect("made");
    archive::write(&folder.path().join("archive"), &rows[..40]).expect("written");
    archive::write(&folder.path().join("archive"), &rows[40..70]).expect("written");
    for through in [20, 55, 70] {
        delete(&path, &rows, through);
        for step in [1, 7, 1_000] {
            assert_eq!(all(&mut journal, step), rows, "through {through}, by {step}");
        }
        // Nobody can tell from how many rows come where they come from.
        assert_eq!(journal.read(Seq(3), 80).expect("readable"), rows[3..83]);
        assert_eq!(journal.read(Seq(3), 1_000).expect("readable"), rows[3..]);
        rows.extend(fill(&mut writer, 1));
    }
    assert_eq!(journal.head().expect("readable"), rows.last().map(|row| (row.seq, row.hash)));

    // Rows that are nowhere are missing, and what is left is shown as the journal has it.
    delete(&path, &rows, 72);
    assert_eq!(journal.read(Seq(70), 9).expect("readable"), rows[72..81]);
    assert_eq!(journal.read(Seq(69), 9).expect("readable"), rows[69..70]);
    std::fs::remove_dir_all(folder.path().join("archive")).expect("removed");
    let mut blind = WithArchive::new(reader(), Archive::at(folder.path().join("archive")));
    assert_eq!(blind.read(Seq::START, 9).expect("readable"), rows[72..81]);
}

#[test]
fn a_hole_in_the_middle_of_a_journal_is_not_filled_from_the_archive() {
    let folder = folder();
    let path = folder.path().join("journal.sqlite3");
    let rows = fill(&mut SqliteJournal::open(&path).expect("opens"), 10);
    archive::write(folder.path(), &rows).expect("written");
    let hand = rusqlite::Connection::open(&path).expect("opens");
    hand.execute("DELETE FROM journal WHERE seq = 5", []).expect("deleted");
    let reader = Box::new(SqliteJournal::open_reader(&path).expect("opens"));
    let mut journal = WithArchive::new(reader, Archive::at(folder.path().to_owned()));
    assert_eq!(journal.read(Seq(4), 1).expect("readable"), rows[5..6]);
}

#[test]
fn a_pruner_appends_nothing() {
    let folder = folder();
    let path = folder.path().join("journal.sqlite3");
    let rows = fill(&mut SqliteJournal::open(&path).expect("opens"), 3);
    let mut pruner = SqliteJournal::open_pruner(&path).expect("opens");
    let next = florin_store::conformance::row_after(rows.last().map(|row| (row.seq, row.hash)), 1, vec![1]);
    pruner.append(&next).expect_err("fenced");
    assert_eq!(pruner.head().expect("readable"), Some((Seq(3), rows[2].hash)));
    assert_ne!(rows[2].hash, Digest::ZERO);
}

#[test]
fn where_one_of_two_files_is_damaged_the_other_is_read() {
    let folder = folder();
    let rows = rows(10);
    archive::write(folder.path(), &rows).expect("written");
    let damaged = folder.path().join(format!("journal-000000000005-000000000010{ENDING}"));
    std::fs::write(&damaged, b"cut").expect("written");
    for after in 0..10 {
        let found = Archive::at(folder.path().to_owned()).read(Seq(after), 1).expect("readable");
        assert_eq!(found, rows[usize::try_from(after).expect("few")..][..1], "after {after}");
    }
}

#[test]
fn what_a_crash_left_under_a_drafts_name_is_not_written_through() {
    let folder = folder();
    let rows = rows(5);
    let path = archive::write(folder.path(), &rows[..4]).expect("written");
    let bytes = std::fs::read(&path).expect("readable");
    // As after a crash between the file's second name and the removal of its first.
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    std::fs::hard_link(&path, &draft).expect("linked");
    assert_eq!(archive::write(folder.path(), &rows[..4]).expect_err("there").code(), "export_exists");
    assert_eq!(std::fs::read(&path).expect("readable"), bytes);
    let mut archive = Archive::at(folder.path().to_owned());
    archive.sync(Seq(1), Seq(4)).expect("durable");
    std::fs::remove_dir_all(folder.path()).expect("removed");
    assert_eq!(archive.sync(Seq(1), Seq(4)).expect_err("gone").code(), "export_unwritable");
}

/// A journal whose oldest rows go to the archive between two reads.
struct Shrinking {
    rows: Vec<Row>,
    reads: usize,
}

impl Journal for Shrinking {
    fn append(&mut self, _: &Row) -> Result<(), AppendError> {
        Err(AppendError::Fenced)
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        self.reads += 1;
        let gone = Seq(if self.reads > 2 { 8 } else { 4 });
        let kept = self.rows.iter().filter(|row| row.seq > gone && row.seq > after);
        Ok(kept.take(count_max).cloned().collect())
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        Ok(self.rows.last().map(|row| (row.seq, row.hash)))
    }
}

#[test]
fn rows_that_are_pruned_while_somebody_reads_leave_no_gap_in_what_is_read() {
    let folder = folder();
    let rows = rows(12);
    archive::write(folder.path(), &rows[..4]).expect("written");
    archive::write(folder.path(), &rows[4..8]).expect("written");
    for first in 0..3 {
        let shrinking = Box::new(Shrinking { rows: rows.clone(), reads: first });
        let mut journal = WithArchive::new(shrinking, Archive::at(folder.path().to_owned()));
        let (mut found, mut at) = (Vec::new(), Seq(1));
        while at < Seq(12) {
            let read = journal.read(at, 100).expect("readable");
            assert_eq!(read[0].seq, at.next(), "begun at read {first}");
            at = read.last().expect("a row").seq;
            found.extend(read);
        }
        assert_eq!(found, rows[1..], "begun at read {first}");
    }
}
