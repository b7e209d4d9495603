//! The conformance suite on SQLite, and what is SQLite's alone: foreign files, damaged tables, locks.

use florin_core::id::Seq;
use florin_core::journal::{AppendError, Journal};
use florin_store::conformance::{Fixture, fill, row_after};
use florin_store::fault::StoreFault;
use florin_store::sqlite::journal::{FILE, SqliteJournal};
use std::path::PathBuf;
use tempfile::TempDir;

struct Sqlite {
    folder: TempDir,
}

impl Sqlite {
    fn fresh() -> Sqlite {
        Sqlite { folder: TempDir::new().expect("a folder can be made") }
    }
    fn path(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }
    fn foreign(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).expect("the file opens")
    }
}

impl Fixture for Sqlite {
    fn open(&self) -> Box<dyn Journal> {
        Box::new(SqliteJournal::open(&self.path()).expect("the journal opens"))
    }
    fn open_reader(&self) -> Box<dyn Journal> {
        Box::new(SqliteJournal::open_reader(&self.path()).expect("the journal opens for reading"))
    }
}

florin_store::journal_conformance!(Sqlite::fresh);

#[test]
fn a_damaged_table_gives_a_typed_error() {
    let damages = [
        ("UPDATE journal SET hash = x'00' WHERE seq = 2", "hash"),
        ("UPDATE journal SET previous = zeroblob(33) WHERE seq = 2", "previous"),
        ("UPDATE journal SET epoch = -1 WHERE seq = 2", "epoch"),
        ("UPDATE journal SET time_ms = -1 WHERE seq = 2", "time_ms"),
        ("UPDATE journal SET payload = zeroblob(1048577) WHERE seq = 2", "payload"),
    ];
    for (damage, column) in damages {
        let store = Sqlite::fresh();
        let mut journal = SqliteJournal::open(&store.path()).expect("the journal opens");
        let rows = fill(&mut journal, 2);
        store.foreign().execute_batch(damage).expect("the damage is done");
        let error = journal.read(Seq(0), 10).expect_err("a damaged row is not handed out");
        match StoreFault::of_read(&error) {
            Some(StoreFault::Malformed { table: "journal", column: named }) => assert_eq!(*named, column),
            other => panic!("{damage}: {other:?}"),
        }
        assert_eq!(journal.read(Seq(0), 1).expect("the row before is whole"), rows[..1]);
        if column == "hash" {
            let head = journal.head().expect_err("the head is damaged");
            assert_eq!(StoreFault::of_read(&head).map(StoreFault::code), Some("store_malformed"));
            assert!(matches!(journal.append(&rows[1]), Err(AppendError::Unknown(_))), "what stands there is not known");
        }
    }
}

#[test]
fn a_foreign_or_newer_file_is_refused() {
    let store = Sqlite::fresh();
    store.foreign().execute_batch("CREATE TABLE notes (text TEXT)").expect("another program's file");
    let fault = SqliteJournal::open(&store.path()).expect_err("another program's file");
    assert_eq!(fault.code(), "store_configuration");

    let store = Sqlite::fresh();
    drop(SqliteJournal::open(&store.path()).expect("the journal opens"));
    store.foreign().execute_batch("PRAGMA user_version = 9").expect("a newer build's file");
    let fault = SqliteJournal::open(&store.path()).expect_err("a newer build's file");
    assert!(matches!(fault, StoreFault::Newer { component: "journal", found: 9, known: 1 }), "{fault:?}");

    let store = Sqlite::fresh();
    std::fs::write(store.path(), vec![b'x'; 8192]).expect("the file is written");
    let fault = SqliteJournal::open(&store.path()).expect_err("no database at all");
    assert!(fault.is_fatal(), "{fault:?}");
}

#[test]
fn a_reader_needs_a_journal_that_exists() {
    let store = Sqlite::fresh();
    SqliteJournal::open_reader(&store.path()).expect_err("nothing is there");
    assert!(!store.path().exists(), "a reader makes no file");
}

#[test]
fn a_lock_held_elsewhere_leaves_the_fate_unknown_and_a_repetition_settles_it() {
    let store = Sqlite::fresh();
    let mut journal = SqliteJournal::open(&store.path()).expect("the journal opens");
    let row = row_after(None, 1, vec![1]);
    let foreign = store.foreign();
    foreign.execute_batch("BEGIN IMMEDIATE").expect("the lock is taken");
    let error = journal.append(&row).expect_err("the lock is taken");
    let fault = StoreFault::of_append(&error);
    assert!(matches!(fault, Some(fault @ StoreFault::Busy(_)) if !fault.is_fatal()), "{fault:?}");
    foreign.execute_batch("ROLLBACK").expect("the lock is given back");
    journal.append(&row).expect("a repetition settles it");
    assert_eq!(journal.read(Seq(0), 9).expect("the journal answers"), [row]);
}

#[test]
fn the_log_is_copied_into_the_file_and_does_not_grow_for_ever() {
    let store = Sqlite::fresh();
    let mut journal = SqliteJournal::open(&store.path()).expect("the journal opens");
    for round in 0..64u8 {
        let head = journal.head().expect("the journal answers");
        journal.append(&row_after(head, 1, vec![round; 1 << 20])).expect("a row after the head is appended");
    }
    let log = store.folder.path().join("journal.sqlite3-wal");
    let bytes = std::fs::metadata(&log).expect("the log exists").len();
    assert!(bytes < 20 << 20, "the log has {bytes} bytes after 64 MiB of rows");
}
