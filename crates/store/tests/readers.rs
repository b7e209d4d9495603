//! Readers from outside leave what they read as it is: byte for byte on a disk, table for table on a server. They make nothing,
//! bring nothing up to date, and say what they miss.

mod common;

use common::{Maria, maria_url};
use florin_core::id::Seq;
use florin_core::journal::{Batch, Journal, Row, SnapshotHeader, state_hash};
use florin_core::wire::Bytes;
use florin_store::conformance::{fill, row_after};
use florin_store::fault::StoreFault;
use florin_store::maria::journal::MariaJournal;
use florin_store::projection::{self, Projection};
use florin_store::site::Site;
use florin_store::snapshots::{self, Snapshots, VerifiedSnapshot};
use florin_store::sqlite::journal::{self, SqliteJournal};
use mysql::prelude::Queryable;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Rows of the files that are read.
const ROWS: usize = 3;

/// The logs' indexes, which are made anew and hold nothing of their own.
const INDEX: &str = "-shm";

fn folder() -> TempDir {
    TempDir::new().expect("a folder can be made")
}

/// What lies in a folder, by name, but for the logs' indexes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).expect("the folder is read").map(|file| file.expect("a file").path());
    let name = |path: &Path| path.file_name().expect("it has one").to_string_lossy().into_owned();
    let files = files.map(|path| (name(&path), fs::read(&path).expect("it is read")));
    files.filter(|(name, _)| !name.ends_with(INDEX)).collect()
}

fn snapshot(row: &Row) -> VerifiedSnapshot {
    let chunks = vec![Bytes(vec![7; 9])];
    let header = SnapshotHeader {
        seq: row.seq,
        row_hash: row.hash,
        epoch: row.epoch,
        time: row.time,
        state_hash: state_hash(chunks.iter()),
        chunk_count: 1,
        build: "test".to_owned(),
    };
    VerifiedSnapshot::verify(header, chunks).expect("the chunks match")
}

/// Writers of every file that has readers from outside, and what they have written.
struct Writers {
    _journal: SqliteJournal,
    _snapshots: Snapshots,
    _projection: Projection,
}

fn write(folder: &Path) -> Writers {
    let mut journal = SqliteJournal::open(&folder.join(journal::FILE)).expect("it opens");
    let mut snapshots = Snapshots::open(&folder.join(snapshots::FILE)).expect("it opens");
    let mut projection = Projection::open_sqlite(&folder.join(projection::FILE)).expect("it opens");
    let rows = fill(&mut journal, ROWS);
    for row in &rows {
        snapshots.write(&snapshot(row)).expect("it is written");
        projection.apply(row, &Batch { entries: Vec::new() }).expect("an empty row fits");
    }
    Writers { _journal: journal, _snapshots: snapshots, _projection: projection }
}

/// What a process that is killed leaves of its files: all that the system has of them.
fn killed(folder: &Path) -> TempDir {
    let left = self::folder();
    for file in fs::read_dir(folder).expect("the folder is read") {
        let file = file.expect("a file");
        fs::copy(file.path(), left.path().join(file.file_name())).expect("it is copied");
    }
    left
}

/// Reads all there is, as every command does that only reads.
fn read(folder: &Path) {
    let mut journal = SqliteJournal::open_reader(&folder.join(journal::FILE)).expect("the journal opens");
    assert_eq!(journal.read(Seq::START, 99).expect("it answers").len(), ROWS);
    let mut snapshots = Snapshots::open_reader(&folder.join(snapshots::FILE)).expect("the snapshots open");
    assert_eq!(snapshots.list().expect("it answers").len(), ROWS);
    let mut tables = Projection::open_sqlite_reader(&folder.join(projection::FILE)).expect("the tables open");
    assert_eq!(tables.cursor().expect("it answers").0, Seq(ROWS as u64));
}

#[test]
fn readers_leave_every_byte_of_what_a_killed_writer_left() {
    let folder = folder();
    let writers = write(folder.path());
    let left = killed(folder.path());
    let before = contents(left.path());
    for file in [journal::FILE, snapshots::FILE, projection::FILE] {
        assert!(before[&format!("{file}-wal")].len() > 32, "{file}: there are rows in the log alone");
    }
    for round in 0..3 {
        read(left.path());
        assert!(contents(left.path()) == before, "round {round}: {:?}", contents(left.path()).keys());
    }
    // The next writer still finds and settles all of it.
    let mut journal = SqliteJournal::open(&left.path().join(journal::FILE)).expect("the journal opens");
    assert_eq!(journal.read(Seq::START, 99).expect("it answers").len(), ROWS);
    drop(writers);
}

#[test]
fn readers_leave_nothing_behind_where_a_writer_ended_in_good_order() {
    let folder = folder();
    drop(write(folder.path()));
    let before = contents(folder.path());
    assert_eq!(before.len(), 3, "the logs are settled: {:?}", before.keys());
    read(folder.path());
    assert!(contents(folder.path()) == before, "{:?}", contents(folder.path()).keys());
    let indexes = fs::read_dir(folder.path()).expect("it is read").count();
    assert_eq!(indexes, 3, "not even an index");
}

#[test]
fn readers_leave_an_empty_log_that_they_found() {
    let folder = folder();
    let path = folder.path().join(snapshots::FILE);
    let store = Snapshots::open(&path).expect("it opens");
    let left = killed(folder.path());
    let before = contents(left.path());
    assert!(before[&format!("{}-wal", snapshots::FILE)].is_empty(), "{:?}", before.keys());
    drop(Snapshots::open_reader(&left.path().join(snapshots::FILE)).expect("it opens"));
    assert!(contents(left.path()) == before, "{:?}", contents(left.path()).keys());
    drop(store);
}

#[test]
fn a_reader_that_is_closed_after_a_writer_came_and_was_killed_leaves_its_rows() {
    let folder = folder();
    let path = folder.path().join(journal::FILE);
    fill(&mut SqliteJournal::open(&path).expect("it opens"), 1);
    let mut reader = SqliteJournal::open_reader(&path).expect("it opens");
    let mut journal = SqliteJournal::open(&path).expect("it opens");
    fill(&mut journal, 1);
    // Closed before the reader, it is not the last, and leaves the log as a killed one does.
    drop(journal);
    let before = contents(folder.path());
    assert!(!before[&format!("{}-wal", journal::FILE)].is_empty(), "{:?}", before.keys());
    assert_eq!(reader.read(Seq::START, 99).expect("it answers").len(), 2);
    drop(reader);
    assert!(contents(folder.path()) == before, "{:?}", contents(folder.path()).keys());
}

#[test]
fn a_platforms_own_readers_settle_the_log_where_they_are_closed_last() {
    let folder = folder();
    let site = Site::Folder(folder.path().to_owned());
    let (mut journal, tables) = (site.journal().expect("it opens"), site.projection().expect("it opens"));
    let readers = (site.journal_reader().expect("it opens"), site.projection_reader().expect("it opens"));
    let rows = fill(&mut *journal, 2);
    drop((journal, tables));
    drop(readers);
    let left: Vec<String> = contents(folder.path()).into_keys().collect();
    assert_eq!(left, [journal::FILE, projection::FILE]);
    let mut reader = SqliteJournal::open_reader(&folder.path().join(journal::FILE)).expect("it opens");
    assert_eq!(reader.read(Seq::START, 9).expect("it answers"), rows);
}

#[test]
fn files_of_another_build_are_refused_by_readers_and_left_as_they_are() {
    let folder = folder();
    drop(write(folder.path()));
    let at = |file: &str| folder.path().join(file);
    fs::write(at("empty"), "").expect("it is written");
    for (file, version) in [(journal::FILE, 9), (snapshots::FILE, 9), (projection::FILE, 1)] {
        let hand = rusqlite::Connection::open(at(file)).expect("it opens");
        hand.pragma_update(None, "user_version", version).expect("another build's");
    }
    let before = contents(folder.path());
    let faults = [
        SqliteJournal::open_reader(&at("empty")).expect_err("there is nothing"),
        SqliteJournal::open_reader(&at(journal::FILE)).expect_err("newer"),
        SqliteJournal::open_pruner(&at(journal::FILE)).expect_err("newer"),
        Snapshots::open_reader(&at(snapshots::FILE)).expect_err("newer"),
        Projection::open_sqlite_reader(&at(projection::FILE)).expect_err("older"),
        Projection::open_sqlite_own_reader(&at(projection::FILE)).expect_err("older"),
    ];
    let newer = "store_newer_schema";
    let older = "store_older_schema";
    assert_eq!(faults.map(|fault| fault.code()), ["store_absent", newer, newer, newer, older, older]);
    assert!(contents(folder.path()) == before, "{:?}", contents(folder.path()).keys());
}

/// What a server has under a prefix: every table of every database, with its number of rows.
fn tables(hand: &mut mysql::Conn, prefix: &str) -> BTreeMap<String, u64> {
    let databases: Vec<String> = hand.query(format!("SHOW DATABASES LIKE '{prefix}\\_%'")).expect("it answers");
    let mut found = BTreeMap::new();
    for database in databases {
        found.insert(database.clone(), 0);
        let names: Vec<String> = hand.query(format!("SHOW TABLES FROM {database}")).expect("it answers");
        for name in names {
            let count = hand.query_first(format!("SELECT COUNT(*) FROM {database}.{name}")).expect("it answers");
            found.insert(format!("{database}.{name}"), count.expect("a number"));
        }
    }
    found
}

/// What each reader of a server says that does not get at its tables.
fn refusals(store: &Maria) -> [StoreFault; 4] {
    let site = Site::Server(store.server.clone());
    [
        MariaJournal::open_reader(&store.server).expect_err("a reader of the journal"),
        site.pruner().expect_err("whoever deletes old rows"),
        Projection::open_maria_reader(&store.server).expect_err("a reader of the tables"),
        site.projection_reader().expect_err("another reader of the tables"),
    ]
}

#[test]
fn readers_on_a_server_make_no_database_and_no_table() {
    let store = Maria::fresh();
    let opts = mysql::Opts::from_url(&maria_url()).expect("the address is one");
    let mut hand = mysql::Conn::new(opts).expect("the server answers");
    assert_eq!(refusals(&store).map(|fault| fault.code()), ["store_absent"; 4]);
    assert_eq!(tables(&mut hand, &store.prefix), BTreeMap::new(), "no database is made");
    for area in ["journal", "projection"] {
        hand.query_drop(format!("CREATE DATABASE {}_{area}", store.prefix)).expect("it is made");
    }
    let before = tables(&mut hand, &store.prefix);
    assert_eq!(before.len(), 2);
    assert_eq!(refusals(&store).map(|fault| fault.code()), ["store_absent"; 4]);
    // Signs of life are there, and the journal is not.
    drop(Site::Server(store.server.clone()).heartbeat().expect("it opens"));
    assert_eq!(MariaJournal::open_reader(&store.server).expect_err("no journal").code(), "store_absent");
    let journal_tables: Vec<String> = tables(&mut hand, &store.prefix).into_keys().collect();
    assert!(!journal_tables.iter().any(|name| name.ends_with(".journal")), "{journal_tables:?}");
}

#[test]
fn readers_on_a_server_bring_no_table_up_to_date() {
    let store = Maria::fresh();
    let site = Site::Server(store.server.clone());
    let rows = fill(&mut *site.journal().expect("it opens"), 2);
    drop(site.projection().expect("it opens"));
    let opts = mysql::Opts::from_url(&maria_url()).expect("the address is one");
    let mut hand = mysql::Conn::new(opts).expect("the server answers");
    let mut version = |number: &str| {
        for area in ["journal", "projection"] {
            let sql = format!("UPDATE {}_{area}.florin_schema SET version = {number}", store.prefix);
            hand.query_drop(sql).expect("it is another build's");
        }
        tables(&mut hand, &store.prefix)
    };
    for (number, code) in [("1", "store_older_schema"), ("99", "store_newer_schema"), ("0", "store_absent")] {
        let before = version(number);
        assert_eq!(refusals(&store).map(|fault| fault.code()), [code; 4]);
        assert_eq!(version(number), before, "{number}");
    }
    // The journal's second step is one that the reader would see itself.
    version("1");
    hand.query_drop(format!("DROP TABLE {}_journal.journal_flush", store.prefix)).expect("it is there");
    assert_eq!(MariaJournal::open_reader(&store.server).expect_err("an older build's").code(), "store_older_schema");
    assert!(!tables(&mut hand, &store.prefix).contains_key(&format!("{}_journal.journal_flush", store.prefix)));
    // A writer of this build brings it up to date, and then it is read.
    let mut journal = site.journal().expect("it opens");
    let row = row_after(Some((rows[1].seq, rows[1].hash)), 1, vec![3]);
    journal.append(&row).expect("a row after the head is appended");
    let mut reader = MariaJournal::open_reader(&store.server).expect("it opens");
    assert_eq!(reader.head().expect("it answers"), Some((row.seq, row.hash)));
}
