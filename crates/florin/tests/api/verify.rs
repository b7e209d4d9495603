//! `florin ledger verify` on a platform's files: whatever is changed in one of them is told by name, and the journal is always judged.

use super::cli::{Ran, florin};
use super::support::World;
use bitcoin::hashes::{Hash, sha256};
use florin::cli::{EXIT_FAILED, EXIT_USAGE};
use florin::signing::shown::{ShownFile, ShownRow};
use florin_core::event::Event;
use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{Batch, Journal, Row, SnapshotChunk, SnapshotHeader, state_hash};
use florin_core::snapshot;
use florin_core::state::State;
use florin_core::wire::{Bytes, Message};
use florin_engine::audit::judge_journal;
use florin_engine::load::Place;
use florin_store::projection::{self, Projection};
use florin_store::segment::{self, Segment, SegmentRow, export_segment};
use florin_store::snapshots;
use florin_store::sqlite::journal::{self, SqliteJournal};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Every search table, in the order in which they are compared.
const TABLES: [&str; 11] = [
    "events",
    "mentions",
    "accounts",
    "transfers",
    "holds",
    "deposits",
    "withdrawals",
    "plans",
    "blocks",
    "quotes",
    "addresses",
];

/// Whoever names a row from outside.
const WITNESSES: [&str; 3] = ["the signer's memory", "the record of what the signer was shown", "the last checkpoint"];

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of a test")
}

/// The folder of a platform that did a little of everything and was stopped.
pub(super) struct Stopped {
    _folder: TempDir,
    place: PathBuf,
    pub(super) head: Seq,
}

/// Rows on which there are snapshots.
fn snapshot_rows(head: Seq) -> [Seq; 2] {
    [Seq(head.0 - 4), head]
}

impl Stopped {
    pub(super) fn new() -> Stopped {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("platform");
        assert_eq!(florin(&["init", text(&place)]).code, 0);
        let world = World::on(&place.join("data"));
        world.register_wallet();
        let customer = world.customer();
        world.fund(&customer, 200_000_000);
        let receipt = json!({ "reference": "R", "asset": "EUR", "amount": "90000.00", "beneficiary": "inventory" });
        world.made("/api/v1/bank-receipts", &receipt);
        let price = json!({ "base": "BTC", "quote": "EUR", "price": "60000", "spread_bp": 0, "age_max_s": 600, "quote_s": 600 });
        world.made("/api/v1/prices", &price);
        let quote =
            json!({ "customer": customer, "side": "sell", "base": "BTC", "quote": "EUR", "base_amount": "0.1" });
        let quote = world.made("/api/v1/quotes", &quote);
        world.made(&format!("/api/v1/quotes/{}/accept", quote["id"].as_str().expect("an id")), &json!({}));
        let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
        let withdrawal = json!({ "customer": customer, "asset": "BTC", "amount": "0.9", "address": address });
        world.made("/api/v1/withdrawals", &withdrawal);
        world.stop();
        let mut stopped = Stopped { _folder: folder, place, head: Seq::START };
        stopped.complete();
        stopped
    }

    /// Takes the last rows into the tables, and puts two snapshots in the place of those that were made on the way.
    fn complete(&mut self) {
        let data = self.place.join("data");
        let mut journal = SqliteJournal::open(&data.join(journal::FILE)).expect("the journal opens");
        let mut tables = Projection::open_sqlite(&data.join(projection::FILE)).expect("the tables open");
        let (mut seq, mut hash) = tables.cursor().expect("a cursor");
        for row in journal.read(seq, 10_000).expect("rows") {
            let batch = row.open(seq, hash).expect("a row");
            tables.apply(&row, &batch).expect("it is taken in");
            (seq, hash) = (row.seq, row.hash);
        }
        self.head = seq;
        let path = data.join(snapshots::FILE);
        let mut store = snapshots::Snapshots::open(&path).expect("the snapshots open");
        let foreign = Connection::open(&path).expect("it opens");
        foreign.execute_batch("DELETE FROM snapshot; DELETE FROM snapshot_chunk").expect("SQL");
        let rows = snapshot_rows(self.head);
        let keep = |row: &Row, state: &State| {
            if rows.contains(&row.seq) {
                let (header, chunks) = snapshot::write(state, row.hash, "test");
                let snapshot = snapshots::VerifiedSnapshot::verify(header, chunks).expect("it is whole");
                store.write(&snapshot).expect("it is written");
            }
        };
        assert!(judge_journal(&mut journal, keep, |_| {}).wrong.is_none());
    }

    /// A copy to be damaged.
    pub(super) fn copy(&self) -> Copy {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        std::fs::copy(self.place.join("florin.toml"), folder.path().join("florin.toml")).expect("copied");
        for entry in std::fs::read_dir(self.place.join("data")).expect("a folder") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), data.join(entry.file_name())).expect("copied");
        }
        Copy { folder }
    }
}

pub(super) struct Copy {
    pub(super) folder: TempDir,
}

impl Copy {
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    pub(super) fn sql(&self, file: &str, sql: &str) {
        let foreign = Connection::open(self.data(file)).expect("it opens");
        foreign.execute_batch(sql).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
    }

    pub(super) fn ledger(&self, words: &[&str]) -> Ran {
        let config = self.folder.path().join("florin.toml");
        florin(&[&["ledger"], words, &["--config", text(&config)]].concat())
    }

    pub(super) fn verify(&self, words: &[&str]) -> Verified {
        let ran = self.ledger(&[&["verify", "--json"], words].concat());
        let report = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("no report: {}{}", ran.out, ran.err));
        let failure = serde_json::from_str(&ran.err).unwrap_or(Value::Null);
        Verified { code: ran.code, report, failure }
    }
}

pub(super) struct Verified {
    pub(super) code: u8,
    pub(super) report: Value,
    pub(super) failure: Value,
}

impl Verified {
    /// Everything that disagrees, with its code.
    pub(super) fn wrong(&self) -> Vec<(&str, &str)> {
        let compared = self.report["compared"].as_array().expect("a list").iter();
        let wrong = compared.filter(|one| one["agrees"] == false);
        wrong.map(|one| (one["with"].as_str().expect("a name"), one["code"].as_str().expect("a code"))).collect()
    }

    pub(super) fn agreeing(&self) -> Vec<&str> {
        let compared = self.report["compared"].as_array().expect("a list").iter();
        compared.filter(|one| one["agrees"] == true).map(|one| one["with"].as_str().expect("a name")).collect()
    }

    /// What could not be compared, in order.
    fn skipped(&self) -> Vec<&str> {
        let skipped = self.report["not_compared"].as_array().expect("a list").iter().filter_map(Value::as_str);
        skipped.filter_map(|text| text.split(':').next()).collect()
    }

    /// Why something could not be compared.
    #[track_caller]
    fn reason(&self, name: &str) -> &str {
        let mut skipped = self.report["not_compared"].as_array().expect("a list").iter().filter_map(Value::as_str);
        skipped.find(|text| text.starts_with(&format!("{name}: "))).unwrap_or_else(|| panic!("{}", self.report))
    }

    fn hint(&self) -> &str {
        self.failure["hint"].as_str().expect("a way out")
    }

    fn detail(&self, name: &str) -> &str {
        let found = self.report["compared"].as_array().expect("a list").iter().find(|one| one["with"] == name);
        found.and_then(|one| one["detail"].as_str()).expect("it was compared")
    }

    /// The journal is right, and exactly this disagrees.
    #[track_caller]
    fn tells(&self, wrong: &[(&str, &str)], what: &str) {
        assert_eq!(self.wrong(), wrong, "{what}: {}", self.report);
        assert_eq!((self.code, &self.failure["code"]), (EXIT_FAILED, &Value::from("ledger_disagrees")), "{what}");
        assert!(
            self.report["wrong_row"].is_null() && self.report["rows"].as_u64() > Some(10),
            "{what}: {}",
            self.report
        );
    }
}

#[test]
fn a_whole_platform_agrees_with_everything_that_is_compared() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    let verified = copy.verify(&[]);
    let snapshots = snapshot_rows(stopped.head).map(|seq| format!("snapshot {seq}"));
    let mut names = vec!["addresses".to_owned()];
    names.extend(snapshots);
    names.extend(TABLES.map(|table| format!("table {table}")));
    names.push("accounts of search tables and ledger".to_owned());
    assert_eq!(verified.agreeing(), names, "{}", verified.report);
    assert_eq!((verified.code, verified.wrong().len()), (0, 0));
    for table in TABLES {
        let is_empty = verified.detail(&format!("table {table}")).starts_with("0 records");
        assert_eq!(is_empty, table == "plans", "{table}");
    }
    // No node runs, and the signer was never asked: that is said, and a failure where nodes have to be compared.
    let mut skipped = WITNESSES.to_vec();
    skipped.push("node a");
    assert_eq!(verified.skipped(), skipped);
    assert!(verified.reason("node a").starts_with("node a: it can't be asked"));
    let required = copy.verify(&["--require-chain"]);
    assert_eq!((required.code, &required.failure["code"]), (EXIT_FAILED, &Value::from("chain_not_compared")));
    let said = copy.ledger(&["verify"]);
    assert!(
        said.code == 0 && said.out.contains("every row is right\n") && said.out.contains("table plans: agrees"),
        "{}",
        said.out
    );
    // A platform whose readers have not begun is behind, and not wrong.
    for file in [projection::FILE, snapshots::FILE] {
        for name in [file.to_owned(), format!("{file}-wal"), format!("{file}-shm")] {
            drop(std::fs::remove_file(copy.data(&name)));
        }
    }
    let bare = copy.verify(&[]);
    skipped.splice(3..3, ["snapshots", "search tables"]);
    assert_eq!((bare.code, bare.agreeing(), bare.skipped()), (0, vec!["addresses"], skipped));
}

#[test]
fn each_damaged_search_table_is_told_by_name() {
    let stopped = Stopped::new();
    let damages = [
        (
            "events",
            "UPDATE events SET at_ms = at_ms + 1 WHERE place = (SELECT max(place) FROM events)",
            "table_record_differs",
        ),
        ("events", "DELETE FROM events", "table_record_missing"),
        ("mentions", "DELETE FROM mentions", "table_record_missing"),
        ("accounts", "UPDATE accounts SET debits_posted = zeroblob(16)", "table_record_differs"),
        ("transfers", "DELETE FROM transfers", "table_record_missing"),
        ("holds", "DELETE FROM holds", "table_record_missing"),
        ("deposits", "UPDATE deposits SET amount = zeroblob(16)", "table_record_differs"),
        ("deposits", "DELETE FROM deposits", "table_record_missing"),
        ("withdrawals", "UPDATE withdrawals SET amount = zeroblob(16)", "table_record_differs"),
        ("withdrawals", "UPDATE withdrawals SET status = 1 + status % 3", "table_record_differs"),
        ("withdrawals", "UPDATE withdrawals SET script = x'0014'", "table_record_differs"),
        (
            "plans",
            "INSERT INTO plans (id, place, changed, wallet, status) VALUES (1, 1, 1, 1, 1)",
            "table_record_unexpected",
        ),
        ("blocks", "UPDATE blocks SET connected = 0", "table_record_differs"),
        ("blocks", "DELETE FROM blocks", "table_record_missing"),
        ("quotes", "UPDATE quotes SET status = 1", "table_record_differs"),
        ("quotes", "DELETE FROM quotes", "table_record_missing"),
        ("addresses", "DELETE FROM addresses", "table_record_missing"),
        ("deposits", "DROP TABLE deposits", "store_refused"),
    ];
    for (table, sql, code) in damages {
        let copy = stopped.copy();
        copy.sql(projection::FILE, sql);
        copy.verify(&[]).tells(&[(&format!("table {table}"), code)], sql);
    }
}

#[test]
fn a_cursor_that_is_none_of_the_journals_is_told() {
    let stopped = Stopped::new();
    let head = stopped.head.0;
    let zero = format!("UPDATE reader SET seq = 0, hash = x'{}'", "00".repeat(32));
    let copy = stopped.copy();
    copy.sql(projection::FILE, &zero);
    let verified = copy.verify(&[]);
    // The empty one agrees with nothing having been taken in.
    let wrong: Vec<String> = verified.wrong().iter().map(|(name, _)| (*name).to_owned()).collect();
    let all: Vec<String> =
        TABLES.iter().filter(|table| **table != "plans").map(|table| format!("table {table}")).collect();
    assert_eq!(wrong, all, "full tables at row 0");
    for (sql, code) in [
        (format!("UPDATE reader SET seq = {}", head + 1), "tables_past_end"),
        (format!("UPDATE reader SET hash = x'{}'", "ab".repeat(32)), "tables_other_row"),
        ("UPDATE reader SET hash = x'ab'".to_owned(), "store_malformed"),
        ("UPDATE reader SET seq = -1".to_owned(), "store_malformed"),
        ("DELETE FROM reader".to_owned(), "store_malformed"),
        ("DROP TABLE reader".to_owned(), "store_refused"),
        ("PRAGMA user_version = 7".to_owned(), "store_newer_schema"),
    ] {
        let copy = stopped.copy();
        copy.sql(projection::FILE, &sql);
        copy.verify(&[]).tells(&[("search tables", code)], &sql);
    }
    let copy = stopped.copy();
    std::fs::write(copy.data(projection::FILE), b"this is no database, whatever its name says").expect("written");
    drop(std::fs::remove_file(copy.data(&format!("{}-wal", projection::FILE))));
    copy.verify(&[]).tells(&[("search tables", "store_storage_failed")], "no database");
}

#[test]
fn the_journal_is_judged_whatever_else_is_damaged_and_its_first_wrong_row_is_named() {
    let stopped = Stopped::new();
    let kept = snapshot_rows(stopped.head)[0].0;
    let copy = stopped.copy();
    copy.sql(snapshots::FILE, "UPDATE snapshot SET header = x'ffff'");
    copy.sql(projection::FILE, "DROP TABLE reader");
    copy.sql(journal::FILE, &format!("UPDATE journal SET time_ms = time_ms + 1 WHERE seq = {}", kept + 1));
    let verified = copy.verify(&["--segments", "/nonexistent", "--checkpoints", "/nonexistent"]);
    assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &Value::from("journal_wrong_hash")));
    assert_eq!((&verified.report["wrong_row"], &verified.report["rows"]), (&json!(kept + 1), &json!(kept)));
    let names: Vec<&str> = verified.wrong().into_iter().map(|(name, _)| name).collect();
    let snapshots = snapshot_rows(stopped.head).map(|seq| format!("snapshot {seq}"));
    assert_eq!(names, [snapshots[0].as_str(), &snapshots[1], "search tables"]);
    assert!(["checkpoints", "segments"].iter().all(|name| verified.skipped().contains(name)), "{}", verified.report);
    // A row that can't even be read is named like one that is wrong; the snapshot before it is still compared.
    let copy = stopped.copy();
    copy.sql(journal::FILE, &format!("UPDATE journal SET hash = x'ab' WHERE seq = {}", kept + 1));
    let verified = copy.verify(&[]);
    assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &Value::from("journal_unreadable_now")));
    assert_eq!(&verified.report["wrong_row"], &json!(kept + 1));
    assert_eq!(verified.agreeing(), ["addresses", snapshots[0].as_str()]);
    let skipped = [&WITNESSES[..], &[snapshots[1].as_str(), "search tables", "chain"]].concat();
    assert_eq!(verified.skipped(), skipped);
    let said = copy.ledger(&["verify"]);
    assert!(said.out.contains(&format!("first wrong row: {}", kept + 1)), "{}", said.out);
}

#[test]
fn a_record_of_what_was_shown_is_held_against_the_journal_and_one_that_cant_be_read_is_told() {
    let stopped = Stopped::new();
    let data = |copy: &Copy| copy.folder.path().join("data");
    for (seq, code) in [(stopped.head.next(), "journal_behind"), (stopped.head, "journal_forked")] {
        for (name, file) in
            [(WITNESSES[1], ShownFile::by_platform as fn(&Path) -> ShownFile), (WITNESSES[2], ShownFile::by_checkpoint)]
        {
            let copy = stopped.copy();
            file(&data(&copy)).raise(Place { seq, hash: Digest([1; 32]) }).expect("written");
            let verified = copy.verify(&[]);
            verified.tells(&[(name, code)], name);
            assert!(
                verified.hint().contains("remove nothing") && verified.hint().contains("set back"),
                "{}",
                verified.hint()
            );
        }
    }
    let row = |seq| ShownRow { seq: Seq(seq), hash: Digest([1; 32]) }.encode();
    let damages = [b"nonsense".to_vec(), Vec::new(), row(7)[..20].to_vec(), row(0), row(1 << 63), row(u64::MAX)];
    for (file, name, code) in [
        ("signer.shown", WITNESSES[1], "signer_shown_unreadable"),
        ("checkpoint.shown", WITNESSES[2], "checkpoint_shown_unreadable"),
    ] {
        for damage in &damages {
            let copy = stopped.copy();
            std::fs::write(data(&copy).join(file), damage).expect("written");
            let verified = copy.verify(&[]);
            verified.tells(&[(name, code)], name);
            assert!(verified.hint().contains(&format!("put {file} back")), "{}", verified.hint());
        }
        let copy = stopped.copy();
        std::fs::write(data(&copy).join(file), row(Seq::MAX.0)).expect("written");
        copy.verify(&[]).tells(&[(name, "journal_behind")], "the last number that a row can have");
    }
}

#[test]
fn segments_with_numbers_that_no_row_can_have_are_told() {
    let stopped = Stopped::new();
    let (copy, folder, _) = archived(&stopped);
    for (first, file) in [(u64::MAX, "z-first"), (u64::MAX, "z-second"), (1 << 63, "z-third")] {
        let row = Row::seal(Seq(first), Epoch(1), LedgerTime(1), Digest::ZERO, Vec::new());
        let row = SegmentRow { epoch: row.epoch, time: row.time, payload: Bytes(row.payload), hash: row.hash };
        let mut bytes = Segment { format: 1, first: Seq(first), previous: Digest::ZERO, rows: vec![row] }.encode();
        let hash = sha256::Hash::hash(&[b"florin/segment/1", &bytes[..]].concat());
        bytes.extend(hash.to_byte_array());
        std::fs::write(folder.join(format!("{file}.segment")), bytes).expect("written");
    }
    let verified = copy.verify(&["--segments", text(&folder)]);
    assert_eq!(verified.code, EXIT_FAILED);
    let forged = ["segment z-first.segment", "segment z-second.segment", "segment z-third.segment"];
    assert_eq!(verified.wrong(), forged.map(|name| (name, "segment_out_of_range")), "{}", verified.report);
}

#[test]
fn what_an_older_build_made_is_not_compared_and_is_no_failure() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    for file in [projection::FILE, snapshots::FILE] {
        copy.sql(file, "PRAGMA user_version = 0");
    }
    let verified = copy.verify(&[]);
    assert_eq!((verified.code, verified.wrong().len()), (0, 0), "{}", verified.report);
    for name in ["search tables", "snapshots"] {
        assert!(verified.reason(name).contains("there are no tables of"), "{}", verified.report);
    }
}

#[test]
fn search_tables_that_somebody_locks_are_not_blamed_and_the_command_fails() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    let foreign = Connection::open(copy.data(projection::FILE)).expect("it opens");
    foreign.execute_batch("PRAGMA locking_mode = EXCLUSIVE; UPDATE reader SET seq = seq").expect("locked");
    let verified = copy.verify(&[]);
    assert_eq!(verified.wrong(), [], "{}", verified.report);
    assert!(verified.skipped().contains(&"search tables"), "{}", verified.report);
    assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &Value::from("ledger_not_compared")));
    // What disagrees comes first.
    on(&copy, stopped.head, "DELETE FROM snapshot WHERE seq = SEQ");
    copy.verify(&[]).tells(&[(&format!("snapshot {}", stopped.head), "snapshot_chunk_count")], "a lock and a damage");
}

#[test]
fn the_way_out_is_that_of_what_was_found() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    copy.sql(projection::FILE, "PRAGMA user_version = 7");
    assert_eq!(copy.verify(&[]).hint(), "remove nothing before it is known why: use that build");
    let (copy, folder, paths) = archived(&stopped);
    std::fs::write(&paths[1], b"").expect("written");
    let hint = copy.verify(&["--segments", text(&folder)]).hint().to_owned();
    assert!(hint.contains("take the file from another copy") && !hint.contains("is made again"), "{hint}");
}

#[test]
fn accounts_are_not_compared_where_tables_and_ledger_stand_on_different_rows() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    append_empty(&copy);
    let verified = copy.verify(&[]);
    assert_eq!((verified.code, verified.wrong().len()), (0, 0), "{}", verified.report);
    let reason = verified.reason("accounts of search tables and ledger");
    assert!(reason.contains(&format!("row {}", stopped.head)), "{reason}");
}

/// Appends a row without content.
fn append_empty(copy: &Copy) {
    let mut journal = SqliteJournal::open(&copy.data(journal::FILE)).expect("the journal opens");
    let (seq, _) = journal.head().expect("it answers").expect("it has rows");
    let last = journal.read(Seq(seq.0 - 1), 1).expect("rows").remove(0);
    let payload = Batch { entries: Vec::new() }.encode();
    journal.append(&Row::seal(last.seq.next(), last.epoch, last.time, last.hash, payload)).expect("it is appended");
}

/// A node that stands on a block of its own, and does something each time before it says so.
fn node_elsewhere(copy: &Copy, meanwhile: impl Fn() + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let config = copy.folder.path().join("florin.toml");
    let known = std::fs::read_to_string(&config).expect("text");
    let begin = known.find("\nurl = \"").expect("a node") + "\nurl = \"".len();
    let end = begin + known[begin..].find('"').expect("its end");
    std::fs::write(&config, format!("{}{url}{}", &known[..begin], &known[end..])).expect("written");
    let auth = copy.folder.path().join("bitcoind/regtest");
    std::fs::create_dir_all(&auth).expect("a folder");
    std::fs::write(auth.join(".cookie"), "user:password").expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(auth.join(".cookie"), private).expect("set");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a call");
            let mut asked = Vec::new();
            let mut bytes = [0; 1024];
            while !asked.ends_with(b"}") {
                let count = stream.read(&mut bytes).expect("a call");
                asked.extend_from_slice(&bytes[..count]);
            }
            meanwhile();
            let said = json!({ "result": "00", "error": null }).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", said.len());
            stream.write_all(format!("{head}{said}").as_bytes()).expect("answered");
        }
    });
}

#[test]
fn a_wrong_row_that_comes_while_nodes_are_asked_is_the_journals_failure() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    let (path, next) = (copy.data(journal::FILE), stopped.head.0 + 1);
    node_elsewhere(&copy, move || {
        let foreign = Connection::open(&path).expect("it opens");
        // The last row once more, under the next number: it links to nothing.
        let sql = format!(
            "CREATE TEMP TABLE forged AS SELECT * FROM journal WHERE seq = {next} - 1;
             UPDATE forged SET seq = {next}; INSERT OR IGNORE INTO journal SELECT * FROM forged"
        );
        foreign.execute_batch(&sql).expect("SQL");
    });
    let verified = copy.verify(&[]);
    assert_eq!(
        (verified.code, &verified.failure["code"]),
        (EXIT_FAILED, &Value::from("journal_broken_link")),
        "{}",
        verified.report
    );
    assert_eq!(&verified.report["wrong_row"], &json!(next));
    assert!(verified.reason("node a").contains("can't be folded"), "{}", verified.report);
}

/// Changes a snapshot's header, and writes it back as a header is written.
fn reheaded(copy: &Copy, seq: Seq, change: impl Fn(&mut SnapshotHeader)) {
    let foreign = Connection::open(copy.data(snapshots::FILE)).expect("it opens");
    let header: Vec<u8> = foreign
        .query_row("SELECT header FROM snapshot WHERE seq = ?1", [seq.0 as i64], |row| row.get(0))
        .expect("a header");
    let mut header = SnapshotHeader::decode(&header).expect("a header");
    change(&mut header);
    foreign.execute("UPDATE snapshot SET header = ?1 WHERE seq = ?2", (header.encode(), seq.0 as i64)).expect("SQL");
}

/// Changes what a snapshot says, and its hash with it: only the journal can tell.
fn retold(copy: &Copy, seq: Seq, change: impl Fn(&mut Vec<Event>)) {
    let foreign = Connection::open(copy.data(snapshots::FILE)).expect("it opens");
    let sql = "SELECT payload FROM snapshot_chunk WHERE seq = ?1";
    let payload: Vec<u8> = foreign.query_row(sql, [seq.0 as i64], |row| row.get(0)).expect("one chunk");
    let mut chunk = SnapshotChunk::decode(&payload).expect("a chunk");
    change(&mut chunk.events);
    let payload = Bytes(chunk.encode());
    foreign.execute("UPDATE snapshot_chunk SET payload = ?1 WHERE seq = ?2", (&payload.0, seq.0 as i64)).expect("SQL");
    drop(foreign);
    reheaded(copy, seq, |header| header.state_hash = state_hash(std::iter::once(&payload)));
}

/// What is done to the snapshot of a row.
type SnapshotDamage = fn(&Copy, Seq);

/// Runs SQL in which SEQ is the snapshot's row.
fn on(copy: &Copy, seq: Seq, sql: &str) {
    copy.sql(snapshots::FILE, &sql.replace("SEQ", &seq.to_string()));
}

/// Each damage is told, under the code beside it, and the other snapshot still agrees.
fn check_snapshots(damages: &[(&str, &str, SnapshotDamage)]) {
    let stopped = Stopped::new();
    let [old, new] = snapshot_rows(stopped.head);
    for (what, code, damage) in damages.iter().copied() {
        for (damaged, whole) in [(new, old), (old, new)] {
            let copy = stopped.copy();
            damage(&copy, damaged);
            let verified = copy.verify(&[]);
            let name = if what == "its row" { "snapshot 1000".to_owned() } else { format!("snapshot {damaged}") };
            verified.tells(&[(&name, code)], what);
            assert!(verified.agreeing().contains(&format!("snapshot {whole}").as_str()), "{what}: {}", verified.report);
        }
    }
}

#[test]
fn each_damaged_field_of_a_snapshot_is_told_and_the_other_snapshot_still_agrees() {
    check_snapshots(&[
        ("header", "store_malformed", |copy, seq| on(copy, seq, "UPDATE snapshot SET header = x'ff' WHERE seq = SEQ")),
        ("seq", "store_malformed", |copy, seq| reheaded(copy, seq, |header| header.seq = Seq(header.seq.0 + 1))),
        ("row_hash", "snapshot_differs", |copy, seq| reheaded(copy, seq, |header| header.row_hash = Digest([1; 32]))),
        ("epoch", "snapshot_differs", |copy, seq| reheaded(copy, seq, |header| header.epoch.0 += 1)),
        ("time", "snapshot_differs", |copy, seq| reheaded(copy, seq, |header| header.time.0 += 1)),
        ("state_hash", "snapshot_wrong_hash", |copy, seq| {
            reheaded(copy, seq, |header| header.state_hash = Digest([1; 32]));
        }),
        ("chunk_count", "snapshot_chunk_count", |copy, seq| reheaded(copy, seq, |header| header.chunk_count += 1)),
        ("chunk", "snapshot_wrong_hash", |copy, seq| {
            on(copy, seq, "UPDATE snapshot_chunk SET payload = x'ff' WHERE seq = SEQ");
        }),
        ("no chunk", "snapshot_chunk_count", |copy, seq| on(copy, seq, "DELETE FROM snapshot_chunk WHERE seq = SEQ")),
        ("a chunk more", "snapshot_chunk_count", |copy, seq| {
            on(
                copy,
                seq,
                "INSERT INTO snapshot_chunk SELECT seq, position + 1, payload FROM snapshot_chunk WHERE seq = SEQ",
            );
        }),
        ("no header", "snapshot_chunk_count", |copy, seq| on(copy, seq, "DELETE FROM snapshot WHERE seq = SEQ")),
    ]);
}

#[test]
fn a_snapshot_that_says_something_else_is_told_however_well_its_hash_fits() {
    check_snapshots(&[
        ("another balance", "snapshot_differs", |copy, seq| {
            retold(copy, seq, |events| {
                let account = events.iter_mut().rev().find_map(|event| match event {
                    Event::RestateAccount(account) if account.credits_posted > account.debits_posted => Some(account),
                    _ => None,
                });
                let account = account.expect("somebody has something");
                account.debits_posted = account.credits_posted;
            });
        }),
        ("an address less", "snapshot_differs", |copy, seq| {
            retold(copy, seq, |events| {
                let index = events.iter().rposition(|event| matches!(event, Event::RestateAddress(_)));
                events.remove(index.expect("there is an address"));
            });
        }),
        ("what contradicts itself", "snapshot_contradicts_itself", |copy, seq| {
            retold(copy, seq, |events| {
                let index = events.iter().position(|event| matches!(event, Event::AssetDefined(_)));
                let again = events[index.expect("there is an asset")].clone();
                events.push(again);
            });
        }),
        ("what this build does not know", "snapshot_unreadable", |copy, seq| {
            let payload = Bytes(vec![0x0a, 0x03, 0xff, 0xff, 0x7f]);
            on(copy, seq, "UPDATE snapshot_chunk SET payload = x'0a03ffff7f' WHERE seq = SEQ");
            reheaded(copy, seq, |header| header.state_hash = state_hash(std::iter::once(&payload)));
        }),
        ("its row", "snapshot_past_end", |copy, seq| {
            reheaded(copy, seq, |header| header.seq = Seq(1_000));
            on(
                copy,
                seq,
                "UPDATE snapshot SET seq = 1000 WHERE seq = SEQ; UPDATE snapshot_chunk SET seq = 1000 WHERE seq = SEQ",
            );
        }),
    ]);
}

#[test]
fn a_file_that_is_no_store_of_snapshots_is_told() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    std::fs::write(copy.data(snapshots::FILE), b"this is no database, whatever its name says").expect("written");
    drop(std::fs::remove_file(copy.data(&format!("{}-wal", snapshots::FILE))));
    copy.verify(&[]).tells(&[("snapshots", "store_storage_failed")], "no database");
}

/// The segments of a folder, in order.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    format!("segment {}", path.file_name().expect("a name").to_string_lossy())
}

/// A copy with segments of four rows each.
fn archived(stopped: &Stopped) -> (Copy, PathBuf, Vec<PathBuf>) {
    let copy = stopped.copy();
    let folder = copy.folder.path().join("segments");
    assert_eq!(copy.ledger(&["export", text(&folder), "--rows", "4"]).code, 0);
    let paths = segments(&folder);
    assert!(paths.len() >= 4, "{paths:?}");
    (copy, folder, paths)
}

fn rows_of(path: &Path) -> Vec<Row> {
    segment::read_segment(&std::fs::read(path).expect("a file")).expect("a segment")
}

fn write_rows(path: &Path, rows: &[Row]) {
    std::fs::write(path, export_segment(rows).expect("rows")).expect("written");
}

#[test]
fn exported_segments_agree_with_the_journal_and_a_folder_without_any_is_told() {
    let stopped = Stopped::new();
    let (copy, folder, paths) = archived(&stopped);
    let whole = copy.verify(&["--segments", text(&folder)]);
    assert_eq!(whole.code, 0, "{}", whole.report);
    for path in &paths {
        assert!(whole.agreeing().contains(&name(path).as_str()), "{}", whole.report);
    }
    let empty = copy.folder.path().join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    for folder in [text(&empty), "/nonexistent"] {
        for kind in ["segments", "checkpoints"] {
            let verified = copy.verify(&[&format!("--{kind}"), folder]);
            assert_eq!((verified.wrong(), verified.hint()), (Vec::new(), "name the right folder"), "{kind}");
            assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &json!("ledger_not_compared")));
            assert!(verified.reason(kind).contains(folder), "{}", verified.report);
        }
    }
    std::fs::create_dir(folder.join("journal-999.segment")).expect("a folder");
    let unreadable = [("segment journal-999.segment", "segment_unreadable")];
    copy.verify(&["--segments", text(&folder)]).tells(&unreadable, "a folder");
}

#[test]
fn each_damaged_segment_is_told_by_name() {
    /// What is done, the files that are told with their codes, and how it is done.
    type Damage = (&'static str, &'static [(usize, &'static str)], fn(&[PathBuf]));
    let damages: [Damage; 6] = [
        ("a changed byte", &[(1, "segment_wrong_hash")], |paths| {
            let mut bytes = std::fs::read(&paths[1]).expect("a file");
            bytes[40] ^= 1;
            std::fs::write(&paths[1], bytes).expect("written");
        }),
        ("a cut file", &[(1, "segment_wrong_hash")], |paths| {
            let bytes = std::fs::read(&paths[1]).expect("a file");
            std::fs::write(&paths[1], &bytes[..bytes.len() - 1]).expect("written");
        }),
        ("an empty file", &[(1, "segment_wrong_hash")], |paths| std::fs::write(&paths[1], b"").expect("written")),
        ("a missing file", &[(2, "segment_gap")], |paths| std::fs::remove_file(&paths[1]).expect("removed")),
        // What follows upon rows of another journal does not link to them.
        ("rows of another journal", &[(0, "segment_other_row"), (1, "segment_gap")], |paths| {
            let mut forged: Vec<Row> = Vec::new();
            for row in rows_of(&paths[0]) {
                let previous = forged.last().map_or(Digest::ZERO, |row| row.hash);
                forged.push(Row::seal(row.seq, row.epoch, LedgerTime(row.time.0 + 1), previous, row.payload));
            }
            write_rows(&paths[0], &forged);
        }),
        ("rows past the end", &[(3, "segment_past_end")], |paths| {
            let mut rows = rows_of(&paths[3]);
            let last = rows.last().expect("a row");
            rows.push(Row::seal(last.seq.next(), last.epoch, last.time, last.hash, last.payload.clone()));
            write_rows(&paths[3], &rows);
        }),
    ];
    let stopped = Stopped::new();
    assert!((13..=16).contains(&stopped.head.0), "four segments of four rows: {}", stopped.head);
    for (what, wrong, damage) in damages {
        let (copy, folder, paths) = archived(&stopped);
        damage(&paths);
        let wrong: Vec<(String, &str)> = wrong.iter().map(|(index, code)| (name(&paths[*index]), *code)).collect();
        let wrong: Vec<(&str, &str)> = wrong.iter().map(|(name, code)| (name.as_str(), *code)).collect();
        copy.verify(&["--segments", text(&folder)]).tells(&wrong, what);
    }
}

#[test]
fn archived_rows_that_differ_between_files_or_are_in_none_are_told() {
    let stopped = Stopped::new();
    let (copy, folder, paths) = archived(&stopped);
    copy.sql(journal::FILE, "DELETE FROM journal WHERE seq <= 6");
    // The journal itself begins too late, which is told as well; here only files matter.
    let whole = copy.verify(&["--segments", text(&folder)]);
    assert_eq!((&whole.failure["code"], whole.wrong()), (&Value::from("journal_gap"), Vec::new()), "{}", whole.report);
    let mut forged: Vec<Row> = Vec::new();
    for row in rows_of(&paths[0]).into_iter().take(3) {
        let previous = forged.last().map_or(Digest::ZERO, |row| row.hash);
        forged.push(Row::seal(row.seq, row.epoch, LedgerTime(row.time.0 + 1), previous, row.payload));
    }
    let other = folder.join("journal-000000000001-000000000005.segment");
    write_rows(&other, &forged);
    let overlapping = copy.verify(&["--segments", text(&folder)]);
    assert_eq!(overlapping.wrong(), [(name(&other).as_str(), "segment_other_row")], "{}", overlapping.report);
    for path in [&other, &paths[1], &paths[2], &paths[3]] {
        std::fs::remove_file(path).expect("removed");
    }
    let short = copy.verify(&["--segments", text(&folder)]);
    assert_eq!(short.wrong(), [("segments", "segment_gap")], "{}", short.report);
    assert!(short.detail("segments").contains("rows 5 to 6"), "{}", short.report);
}

#[test]
fn export_goes_on_behind_a_row_and_refuses_one_past_the_end() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    let folder = copy.folder.path().join("segments");
    let head = stopped.head.0;
    for after in [head + 1, u64::MAX] {
        let ran = copy.ledger(&["export", text(&folder), "--after", &after.to_string(), "--json"]);
        let failure: Value = serde_json::from_str(&ran.err).expect("JSON");
        assert_eq!((ran.code, &failure["code"]), (EXIT_FAILED, &Value::from("export_after_head")));
        assert!(!folder.exists(), "nothing is made");
    }
    let ran = copy.ledger(&["export", text(&folder), "--after", &head.to_string(), "--json"]);
    let shown: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&shown["files"], &shown["last_row"]), (&json!(0), &json!(head)));
    let ran = copy.ledger(&["export", text(&folder), "--after", &(head - 3).to_string(), "--json"]);
    let shown: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&shown["files"], &shown["last_row"]), (&json!(1), &json!(head)));
    // A part of the journal is compared as the part that it is.
    assert_eq!(copy.verify(&["--segments", text(&folder)]).code, 0);
}

#[test]
fn the_schema_is_text_for_people_and_json_for_machines() {
    let ran = florin(&["ledger", "schema", "--json"]);
    let shown: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, shown["schema"].as_str()), (0, Some(florin_core::journal::schema().as_str())));
    let stopped = Stopped::new();
    let wrong = stopped.copy().ledger(&["verify", "--signer-key", "ab"]);
    assert_eq!(wrong.code, EXIT_USAGE, "a key without checkpoints: {}", wrong.err);
}
