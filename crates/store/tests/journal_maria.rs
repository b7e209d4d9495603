//! The conformance suite on MariaDB, and what is MariaDB's alone: lost connections, locks, settings, damaged tables.

mod common;

use common::{Maria, maria_url};
use florin_core::id::Seq;
use florin_core::journal::{AppendError, Journal};
use florin_store::conformance::{Fixture, fill, row_after};
use florin_store::fault::StoreFault;
use florin_store::maria::MariaServer;
use florin_store::maria::journal::MariaJournal;
use mysql::prelude::Queryable;

impl Fixture for Maria {
    fn open(&self) -> Box<dyn Journal> {
        Box::new(MariaJournal::open(&self.server).expect("the journal opens"))
    }
    fn open_reader(&self) -> Box<dyn Journal> {
        Box::new(MariaJournal::open_reader(&self.server).expect("the journal opens for reading"))
    }
}

florin_store::journal_conformance!(Maria::fresh);

/// A connection past our own code, as a foreign hand has it.
fn foreign(store: &Maria) -> mysql::Conn {
    let opts = mysql::Opts::from_url(&maria_url()).expect("the address is one");
    let mut conn = mysql::Conn::new(opts).expect("the server answers");
    conn.query_drop(format!("USE {}_journal", store.prefix)).expect("the database exists");
    conn
}

/// The server's ids of all connections that use a journal's database.
fn connections(hand: &mut mysql::Conn, prefix: &str) -> Vec<u64> {
    let own = u64::from(hand.connection_id());
    let sql = format!("SELECT id FROM information_schema.processlist WHERE db = '{prefix}_journal' AND id <> {own}");
    hand.query(sql).expect("the server answers")
}

/// How often a commit was made for the sake of its flush.
fn flushes(hand: &mut mysql::Conn) -> u64 {
    hand.query_first("SELECT COALESCE(SUM(raised), 0) FROM journal_flush").expect("the server answers").expect("a sum")
}

/// Up to where the redo log was written, and up to where it is on the disk.
fn log(hand: &mut mysql::Conn) -> (u64, u64) {
    let mut number = |name: &str| {
        let found = hand.query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'")).expect("the server answers");
        let (_, value): (String, u64) = found.expect("the server counts it");
        value
    };
    (number("Innodb_lsn_current"), number("Innodb_lsn_flushed"))
}

#[test]
fn a_row_that_is_there_already_is_flushed_before_it_counts() {
    let store = Maria::fresh();
    let mut journal = MariaJournal::open(&store.server).expect("the journal opens");
    let mut hand = foreign(&store);
    let mut rows = fill(&mut journal, 2);
    let before = flushes(&mut hand);
    // What an append leaves whose connection is lost before its answer.
    let row = row_after(Some((rows[1].seq, rows[1].hash)), 1, vec![1]);
    let insert = "INSERT INTO journal (seq, epoch, time_ms, previous, hash, payload) VALUES (?, ?, ?, ?, ?, ?)";
    let values = (3, 1, row.time.0, row.previous.0.to_vec(), row.hash.0.to_vec(), row.payload.clone());
    hand.exec_drop(insert, values).expect("the row is inserted");
    let (seen, _) = log(&mut hand);
    for count in 1..=3 {
        journal.append(&row).expect("the row is there");
        assert_eq!(flushes(&mut hand), before + count);
    }
    assert!(log(&mut hand).1 >= seen, "the log is on the disk beyond what was seen");
    rows.push(row);

    let other = row_after(Some((rows[1].seq, rows[1].hash)), 2, vec![2]);
    assert!(matches!(journal.append(&other), Err(AppendError::Fenced)), "another row is no reason to flush");
    let next = row_after(Some((rows[2].seq, rows[2].hash)), 1, vec![3]);
    journal.append(&next).expect("a row after the head is appended");
    assert_eq!(flushes(&mut hand), before + 3, "a commit of its own flushes by itself");
    rows.push(next);
    assert_eq!(journal.read(Seq(0), 9).expect("the journal answers"), rows);
}

#[test]
fn a_row_that_is_there_and_can_not_be_flushed_has_an_unknown_fate() {
    let store = Maria::fresh();
    let mut journal = MariaJournal::open(&store.server).expect("the journal opens");
    let rows = fill(&mut journal, 2);
    let mut hand = foreign(&store);
    hand.query_drop("RENAME TABLE journal_flush TO elsewhere").expect("the table is taken away");
    for row in &rows {
        let error = journal.append(row).expect_err("nothing can be flushed");
        assert!(matches!(error, AppendError::Unknown(_)), "{error:?}");
    }
    journal.head().expect_err("a head that may be lost is not told");
    hand.query_drop("RENAME TABLE elsewhere TO journal_flush").expect("the table is put back");
    // Another transaction has the counter: the wait for it ends, and the fate stays unknown.
    hand.query_drop("START TRANSACTION").expect("the server answers");
    hand.query_drop("UPDATE journal_flush SET raised = raised + 1").expect("the counter is locked");
    let error = journal.append(&rows[1]).expect_err("the counter is locked");
    assert_eq!(StoreFault::of_append(&error).map(StoreFault::code), Some("store_conflict"));
    hand.query_drop("ROLLBACK").expect("the lock is given back");
    journal.append(&rows[1]).expect("a repetition settles it");
    assert_eq!(journal.read(Seq(0), 9).expect("the journal answers"), rows);
}

#[test]
fn a_head_is_flushed_before_it_is_told() {
    let store = Maria::fresh();
    let mut journal = MariaJournal::open(&store.server).expect("the journal opens");
    let mut reader = MariaJournal::open_reader(&store.server).expect("the journal opens for reading");
    let mut hand = foreign(&store);
    assert_eq!(reader.head().expect("the journal answers"), None);
    assert_eq!(flushes(&mut hand), 0, "nothing was seen");
    let row = row_after(None, 1, vec![1]);
    journal.append(&row).expect("the first row is appended");
    for count in 1..=2 {
        assert_eq!(reader.head().expect("the journal answers"), Some((row.seq, row.hash)));
        assert_eq!(flushes(&mut hand), count);
    }
    assert_eq!(reader.read(Seq(0), 9).expect("the journal answers"), [row]);
    assert_eq!(flushes(&mut hand), 2, "pages are read without a commit");
}

#[test]
fn a_connection_killed_between_appends_is_made_again() {
    let store = Maria::fresh();
    let mut journal = MariaJournal::open(&store.server).expect("the journal opens");
    let mut rows = fill(&mut journal, 2);
    let mut hand = foreign(&store);
    for id in connections(&mut hand, &store.prefix) {
        hand.query_drop(format!("KILL {id}")).expect("the connection is killed");
    }
    let row = row_after(Some((rows[1].seq, rows[1].hash)), 1, vec![1]);
    let error = journal.append(&row).expect_err("the connection is gone");
    let fault = StoreFault::of_append(&error);
    assert!(matches!(fault, Some(fault @ StoreFault::Connection(_)) if !fault.is_fatal()), "{fault:?}");
    journal.append(&row).expect("a repetition settles it");
    rows.push(row);
    assert_eq!(journal.read(Seq(0), 9).expect("the journal answers"), rows);
}

#[test]
fn a_connection_killed_while_it_waits_leaves_the_fate_unknown_until_a_repetition() {
    let store = Maria::fresh();
    let mut journal = MariaJournal::open(&store.server).expect("the journal opens");
    let rows = fill(&mut journal, 1);
    let row = row_after(Some((rows[0].seq, rows[0].hash)), 1, vec![1]);
    let mut hand = foreign(&store);
    // The table's lock makes the append wait at the server.
    hand.query_drop("LOCK TABLES journal WRITE").expect("the lock is taken");
    std::thread::scope(|scope| {
        let append = scope.spawn(|| journal.append(&row));
        let mut killer = foreign(&store);
        let waiting = format!(
            "SELECT id FROM information_schema.processlist WHERE db = '{}_journal' AND state LIKE 'Waiting for%'",
            store.prefix
        );
        let id: u64 = loop {
            if let Some(id) = killer.query_first(&waiting).expect("the server answers") {
                break id;
            }
            std::thread::yield_now();
        };
        killer.query_drop(format!("KILL {id}")).expect("the connection is killed");
        let error = append.join().expect("the append ends").expect_err("the connection is gone");
        assert_eq!(StoreFault::of_append(&error).map(StoreFault::code), Some("store_connection_lost"));
    });
    hand.query_drop("UNLOCK TABLES").expect("the lock is given back");
    journal.append(&row).expect("a repetition settles it");
    assert_eq!(journal.read(Seq(1), 9).expect("the journal answers"), [row]);
}

#[test]
fn a_row_that_another_transaction_is_writing_is_waited_for() {
    let store = Maria::fresh();
    let mut journal = MariaJournal::open(&store.server).expect("the journal opens");
    let row = row_after(None, 1, vec![1]);
    let other = row_after(None, 2, vec![2]);
    let mut hand = foreign(&store);
    let insert = "INSERT INTO journal (seq, epoch, time_ms, previous, hash, payload) VALUES (?, ?, ?, ?, ?, ?)";
    let values = (1, 2, other.time.0, other.previous.0.to_vec(), other.hash.0.to_vec(), other.payload.clone());
    hand.query_drop("START TRANSACTION").expect("the server answers");
    hand.exec_drop(insert, values).expect("the other row is inserted");
    std::thread::scope(|scope| {
        let append = scope.spawn(|| journal.append(&row));
        hand.query_drop("COMMIT").expect("the other row is committed");
        assert!(matches!(append.join().expect("the append ends"), Err(AppendError::Fenced)));
    });
    assert_eq!(journal.read(Seq(0), 9).expect("the journal answers"), [other]);
}

#[test]
fn a_lock_held_for_too_long_leaves_the_fate_unknown() {
    let store = Maria::fresh();
    let mut journal = MariaJournal::open(&store.server).expect("the journal opens");
    let row = row_after(None, 1, vec![1]);
    let mut hand = foreign(&store);
    hand.query_drop("START TRANSACTION").expect("the server answers");
    hand.query_drop(format!("INSERT INTO journal VALUES (1, 1, 1, '{0}', '{0}', '')", "0".repeat(32)))
        .expect("another row is inserted");
    let error = journal.append(&row).expect_err("the number is locked");
    assert_eq!(StoreFault::of_append(&error).map(StoreFault::code), Some("store_conflict"));
    hand.query_drop("ROLLBACK").expect("the other row is taken back");
    journal.append(&row).expect("a repetition settles it");
}

#[test]
fn a_damaged_table_gives_a_typed_error() {
    let damages = [
        (
            "ALTER TABLE journal MODIFY hash VARBINARY(64) NOT NULL",
            "UPDATE journal SET hash = 'x' WHERE seq = 2",
            "hash",
        ),
        ("ALTER TABLE journal MODIFY epoch BIGINT NOT NULL", "UPDATE journal SET epoch = -1 WHERE seq = 2", "epoch"),
        ("SET @x = 1", "UPDATE journal SET time_ms = 9223372036854775808 WHERE seq = 2", "time_ms"),
        ("SET @x = 1", "UPDATE journal SET payload = REPEAT('x', 1048577) WHERE seq = 2", "payload"),
        (
            "ALTER TABLE journal MODIFY previous VARBINARY(64) NULL",
            "UPDATE journal SET previous = NULL WHERE seq = 2",
            "previous",
        ),
    ];
    for (preparation, damage, column) in damages {
        let store = Maria::fresh();
        let mut journal = MariaJournal::open(&store.server).expect("the journal opens");
        let rows = fill(&mut journal, 2);
        let mut hand = foreign(&store);
        hand.query_drop(preparation).expect("the damage is prepared");
        hand.query_drop(damage).expect("the damage is done");
        let error = journal.read(Seq(0), 10).expect_err("a damaged row is not handed out");
        match StoreFault::of_read(&error) {
            Some(StoreFault::Malformed { table: "journal", column: named }) => assert_eq!(*named, column),
            other => panic!("{damage}: {other:?}"),
        }
        assert_eq!(journal.read(Seq(0), 1).expect("the row before is whole"), rows[..1]);
    }
}

#[test]
fn newer_tables_and_bad_names_are_refused() {
    let store = Maria::fresh();
    drop(MariaJournal::open(&store.server).expect("the journal opens"));
    foreign(&store).query_drop("UPDATE florin_schema SET version = 9").expect("a newer build's tables");
    let fault = MariaJournal::open(&store.server).expect_err("a newer build's tables");
    assert!(matches!(fault, StoreFault::Newer { component: "journal", found: 9, known: 2 }), "{fault:?}");

    for prefix in ["", "Florin", "a-b", "a`b", "a b", &"a".repeat(33)] {
        let fault = MariaServer::new("mysql://127.0.0.1", prefix).expect_err("a bad prefix");
        assert_eq!(fault.code(), "store_configuration", "{prefix}");
    }
    let fault = MariaServer::new("postgres://florin:secret@127.0.0.1", "florin").expect_err("another database");
    assert!(!format!("{fault:?} {fault}").contains("secret"), "{fault:?}");
    assert!(!format!("{:?}", MariaJournal::open(&Maria::fresh().server).expect("the journal opens")).contains("pass"));
}

#[test]
fn a_server_that_is_not_there_is_a_lost_connection() {
    let server = MariaServer::new("mysql://florin:florin@127.0.0.1:1", "florin_none").expect("the address is one");
    let fault = MariaJournal::open(&server).expect_err("nobody listens there");
    assert_eq!(fault.code(), "store_connection_lost");
}
