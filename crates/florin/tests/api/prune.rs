//! `florin ledger prune`: what leaves the journal is in the archive first, is read from there as before, and nothing goes that
//! somebody needs.

use super::support::World;
use super::verify::{Copy, Stopped};
use florin::cli::EXIT_FAILED;
use florin::signer::SOCKET_FILE;
use florin::signing::shown::ShownFile;
use florin_core::id::{Digest, LedgerTime, Seq};
use florin_core::journal::{Journal, Row, SnapshotHeader};
use florin_core::wire::Bytes;
use florin_engine::load::{Place, load};
use florin_engine::ports::{SnapshotFault, Snapshots};
use florin_store::archive::{self, Archive, ENDING};
use florin_store::folder_lock::FolderLock;
use florin_store::projection;
use florin_store::site::Site;
use florin_store::snapshots;
use florin_store::sqlite::journal::SqliteJournal;
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// A node without any.
#[derive(Debug)]
struct NoSnapshots;

impl Snapshots for NoSnapshots {
    fn newest(&mut self) -> Result<Option<(SnapshotHeader, Vec<Bytes>)>, SnapshotFault> {
        Ok(None)
    }
    fn put(&mut self, _: &SnapshotHeader, _: &[Bytes]) -> Result<(), SnapshotFault> {
        Ok(())
    }
}

/// What a run printed, or the failure that it ended with.
struct Pruned {
    code: u8,
    shown: Value,
    failure: Value,
}

fn prune(copy: &Copy, words: &[&str]) -> Pruned {
    let ran = copy.ledger(&[&["prune", "--json"], words].concat());
    let read = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    Pruned { code: ran.code, shown: read(&ran.out), failure: read(&ran.err) }
}

/// All but the last three rows.
const MOST: [&str; 4] = ["--keep-days", "0", "--keep-rows", "3"];

fn archive_of(copy: &Copy) -> PathBuf {
    copy.data("archive")
}

/// The rows that the journal itself has.
fn kept(copy: &Copy) -> Vec<Row> {
    let mut journal = SqliteJournal::open_reader(&copy.data("journal.sqlite3")).expect("it opens");
    journal.read(Seq::START, 10_000).expect("readable")
}

fn remove(copy: &Copy, file: &str) {
    for end in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(copy.data(&format!("{file}{end}"))));
    }
}

/// All events once the platform has begun anew, which is a row of its own.
fn events(data: &Path, head: u64) -> Value {
    let world = World::on(data);
    world.shown(&format!("/api/v1/events?after={head}&wait_ms=30000"));
    let events = world.shown("/api/v1/events?after=0&limit=500");
    world.stop();
    events
}

#[test]
fn what_is_pruned_is_read_from_the_archive_as_before() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    let before = copy.verify(&[]);
    let rows = kept(&copy);
    let done = prune(&copy, &MOST);
    assert_eq!(done.code, 0, "{}", done.failure);
    let first = stopped.head.0 - 2;
    assert_eq!(
        (&done.shown["deleted"], &done.shown["first_row"], &done.shown["files"], &done.shown["held_by"]),
        (&json!(first - 1), &json!(first), &json!(1), &json!("the rule of retention")),
        "{}",
        done.shown
    );
    assert_eq!(kept(&copy), rows[rows.len() - 3..]);
    let archived = Archive::at(archive_of(&copy)).read(Seq::START, 10_000).expect("readable");
    assert_eq!(archived, rows[..rows.len() - 3]);

    let after = copy.verify(&[]);
    assert_eq!((after.code, &after.report["state_hash"]), (0, &before.report["state_hash"]), "{}", after.report);
    assert_eq!(after.report["rows"], before.report["rows"]);
    assert!(after.agreeing().iter().any(|name| name.starts_with("segment journal-")), "{}", after.report);
    // Another one at the same time is told so; the lock is nothing of the archive.
    {
        let _lock = FolderLock::take(&archive_of(&copy), "other").expect("nobody has it");
        let refused = prune(&copy, &["--keep-days", "0", "--keep-rows", "1"]);
        assert_eq!((refused.code, &refused.failure["code"]), (EXIT_FAILED, &json!("archive_in_use")));
    }
    let again = prune(&copy, &MOST);
    assert_eq!((again.code, &again.shown["deleted"]), (0, &json!(0)));

    // Whatever is made from the journal is made again, from its first row on.
    for file in [projection::FILE, snapshots::FILE] {
        remove(&copy, file);
    }
    let data = copy.folder.path().join("data");
    let seen = events(&data, stopped.head.0);
    assert_eq!(seen["items"][0]["seq"], 1, "old events are still told");
    assert!(seen["next"].as_u64() > Some(stopped.head.0), "the journal went on: {}", seen["next"]);
    let made = copy.verify(&[]);
    assert_eq!((made.code, made.wrong()), (0, Vec::new()), "{}", made.report);
}

#[test]
fn without_its_archive_a_pruned_journal_starts_from_the_snapshot_alone() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    assert_eq!(prune(&copy, &MOST).code, 0);
    std::fs::remove_dir_all(archive_of(&copy)).expect("removed");
    let blind = copy.verify(&[]);
    assert_eq!((blind.code, &blind.failure["code"]), (EXIT_FAILED, &json!("journal_gap")), "{}", blind.report);
    assert_eq!(blind.report["wrong_row"], 1);
    let more = prune(&copy, &["--keep-days", "0", "--keep-rows", "1"]);
    assert_eq!(
        (more.code, &more.failure["code"]),
        (EXIT_FAILED, &json!("journal_gap")),
        "what is not judged is not deleted"
    );
    let data = copy.folder.path().join("data");
    World::on(&data).stop();
    let mut journal = Site::Folder(data).journal_reader().expect("it opens");
    let error = load(journal.as_mut(), &mut NoSnapshots).expect_err("without a snapshot it can't start");
    assert_eq!(error.code(), "journal_gap");
}

#[test]
fn nothing_goes_that_a_rule_or_a_reader_keeps() {
    let stopped = Stopped::new();
    let head = stopped.head.0;
    let rows = kept(&stopped.copy());
    type Change = fn(&Copy, &[Row]);
    let none: Change = |_, _| {};
    let cases: [(&str, Change, &[&str], u64, &str); 5] = [
        ("thirty days", none, &[], 0, "the rule of retention"),
        ("a day", none, &["--keep-days", "1", "--keep-rows", "1"], 0, "the rule of retention"),
        (
            "more rows than there are",
            none,
            &["--keep-days", "0", "--keep-rows", "999999999999"],
            0,
            "the rule of retention",
        ),
        (
            "search tables that are behind",
            |copy, rows| {
                let hash = rows[4].hash;
                copy.sql(projection::FILE, &format!("UPDATE reader SET seq = 5, hash = x'{hash}'"));
            },
            &MOST,
            5,
            "the search tables",
        ),
        (
            "what the signer was shown",
            |copy, rows| {
                let data = copy.folder.path().join("data");
                let place = Place { seq: Seq(7), hash: rows[6].hash };
                ShownFile::by_platform(&data).raise(place).expect("written");
            },
            &MOST,
            7,
            "the record of what the signer was shown",
        ),
    ];
    for (what, change, words, deleted, held_by) in cases {
        let copy = stopped.copy();
        change(&copy, &rows);
        let tried = prune(&copy, &[words, &["--dry-run"]].concat());
        assert_eq!((tried.code, &tried.shown["would_delete"]), (0, &json!(deleted)), "{what}: {}", tried.failure);
        assert_eq!(tried.shown["deleted"], 0);
        assert!(kept(&copy) == rows && !archive_of(&copy).exists(), "{what}: a trial changes nothing");
        let done = prune(&copy, words);
        assert_eq!((&done.shown["deleted"], &done.shown["held_by"]), (&json!(deleted), &json!(held_by)), "{what}");
        assert_eq!(kept(&copy), rows[usize::try_from(deleted).expect("few")..], "{what}");
    }
    let refusals: [(&str, Change, u64); 3] = [
        ("prefix_retention_floor", none, head - 2),
        ("prefix_snapshot_behind", none, u64::MAX),
        (
            "prefix_cursor_behind",
            |copy, rows| {
                let hash = rows[4].hash;
                copy.sql(projection::FILE, &format!("UPDATE reader SET seq = 5, hash = x'{hash}'"));
            },
            6,
        ),
    ];
    for (code, change, through) in refusals {
        let copy = stopped.copy();
        change(&copy, &rows);
        let refused = prune(&copy, &[&MOST[..], &["--through", &through.to_string()]].concat());
        assert_eq!((refused.code, &refused.failure["code"]), (EXIT_FAILED, &json!(code)), "{}", refused.shown);
        assert!(kept(&copy) == rows && !archive_of(&copy).exists(), "{code}: nothing is done");
    }
    let copy = stopped.copy();
    let some = prune(&copy, &[&MOST[..], &["--through", "4"]].concat());
    assert_eq!((&some.shown["deleted"], &some.shown["held_by"]), (&json!(4), &json!("--through")), "{}", some.failure);
    assert_eq!(kept(&copy), rows[4..]);
    let rest = prune(&copy, &MOST);
    assert_eq!((&rest.shown["deleted"], &rest.shown["files"]), (&json!(head - 7), &json!(1)), "{}", rest.failure);
    assert_eq!((kept(&copy).len(), copy.verify(&[]).code), (3, 0));
}

#[test]
fn nothing_goes_where_anything_is_wrong_or_unknown() {
    let stopped = Stopped::new();
    let head = stopped.head.0;
    type Damage = (&'static str, fn(&Copy));
    let damages: [Damage; 5] = [
        ("journal_wrong_hash", |copy| {
            copy.sql("journal.sqlite3", "UPDATE journal SET epoch = epoch + 1 WHERE seq = 3")
        }),
        ("ledger_disagrees", |copy| copy.sql(snapshots::FILE, "UPDATE snapshot_chunk SET payload = x'00'")),
        ("journal_forked", |copy| {
            let data = copy.folder.path().join("data");
            let place = Place { seq: Seq(2), hash: Digest([1; 32]) };
            ShownFile::by_checkpoint(&data).raise(place).expect("written");
        }),
        ("signer_shown_unreadable", |copy| {
            std::fs::write(copy.data("signer.shown"), b"nonsense").expect("written");
        }),
        ("store_malformed", |copy| copy.sql(projection::FILE, "DELETE FROM reader")),
    ];
    for (code, damage) in damages {
        let copy = stopped.copy();
        damage(&copy);
        let rows = copy.data("journal.sqlite3");
        let before = SqliteJournal::open_reader(&rows).expect("it opens").head().expect("readable");
        let refused = prune(&copy, &MOST);
        let is_witness = ["journal_forked", "signer_shown_unreadable"].contains(&code);
        let said = if is_witness { "ledger_disagrees" } else { code };
        assert_eq!((refused.code, &refused.failure["code"]), (EXIT_FAILED, &json!(said)), "{code}: {}", refused.shown);
        let mut journal = SqliteJournal::open_reader(&rows).expect("it opens");
        assert_eq!(journal.head().expect("readable"), before);
        assert_eq!(journal.read(Seq(0), 1).expect("readable")[0].seq, Seq(1), "{code}: nothing went");
        assert!(!archive_of(&copy).exists(), "{code}: {head}");
    }
}

#[test]
fn rows_stay_until_the_archive_has_them_word_for_word() {
    let stopped = Stopped::new();
    let whole = kept(&stopped.copy());
    let forged: Vec<Row> = whole[..6].iter().fold(Vec::new(), |mut forged: Vec<Row>, row| {
        let previous = forged.last().map_or(Digest::ZERO, |row| row.hash);
        forged.push(Row::seal(row.seq, row.epoch, LedgerTime(row.time.0 + 1), previous, row.payload.clone()));
        forged
    });
    let name = format!("journal-{:012}-{:012}{ENDING}", 1, 6);
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 4] = [
        ("segment_other_row", &|folder| drop(archive::write(folder, &forged).expect("written"))),
        ("segment_wrong_hash", &|folder| std::fs::write(folder.join(&name), b"cut").expect("written")),
        ("archive_unreadable", &|folder| std::fs::create_dir(folder.join(&name)).expect("made")),
        ("archive_misnamed", &|folder| {
            let path = archive::write(folder, &whole[..5]).expect("written");
            std::fs::rename(path, folder.join(&name)).expect("renamed");
        }),
    ];
    for (code, damage) in damages {
        let copy = stopped.copy();
        std::fs::create_dir(archive_of(&copy)).expect("made");
        damage(&archive_of(&copy));
        let refused = prune(&copy, &MOST);
        assert_eq!((refused.code, &refused.failure["code"]), (EXIT_FAILED, &json!(code)), "{}", refused.shown);
        assert_eq!(kept(&copy), whole, "{code}: nothing went");
        // The journal has all rows still, so the bad file is simply taken away.
        std::fs::remove_dir_all(archive_of(&copy)).expect("removed");
        let done = prune(&copy, &MOST);
        assert_eq!((done.code, copy.verify(&[]).code), (0, 0), "{}", done.failure);
    }
    // What an earlier run left there is gone on from.
    let copy = stopped.copy();
    std::fs::create_dir(archive_of(&copy)).expect("made");
    archive::write(&archive_of(&copy), &whole[..6]).expect("written");
    let done = prune(&copy, &MOST);
    assert_eq!((done.code, &done.shown["files"]), (0, &json!(1)), "{}", done.failure);
    let files = archive::list(&archive_of(&copy), ENDING).expect("readable");
    assert!(files.len() == 2 && files[1].to_string_lossy().contains("journal-000000000007-"), "{files:?}");
    assert_eq!(copy.verify(&[]).code, 0);
}

#[test]
fn rows_that_another_one_moves_before_the_lock_is_taken_are_left_alone() {
    let stopped = Stopped::new();
    for (through, left) in [(6, stopped.head.0 - 9), (stopped.head.0 - 3, 0)] {
        let copy = stopped.copy();
        let whole = kept(&copy);
        let socket = copy.folder.path().join("signer").join(SOCKET_FILE);
        std::fs::create_dir(socket.parent().expect("a folder")).expect("made");
        let listener = UnixListener::bind(&socket).expect("it listens");
        let moved = whole[..usize::try_from(through).expect("few")].to_vec();
        let (here, moved) = (&copy, &moved);
        let done = std::thread::scope(|scope| {
            // The signer is asked when the journal is judged, and again when all is known but for the lock.
            let another = scope.spawn(move || {
                drop(listener.accept().expect("the first question"));
                let (asked, _) = listener.accept().expect("the second question");
                std::fs::create_dir(archive_of(here)).expect("made");
                archive::write(&archive_of(here), moved).expect("written");
                here.sql("journal.sqlite3", &format!("DELETE FROM journal WHERE seq <= {through}"));
                drop(asked);
            });
            let done = prune(&copy, &MOST);
            another.join().expect("it moves its rows");
            done
        });
        assert_eq!(done.code, 0, "{}", done.failure);
        assert_eq!((&done.shown["deleted"], &done.shown["first_row"]), (&json!(left), &json!(stopped.head.0 - 2)));
        assert_eq!(kept(&copy), whole[whole.len() - 3..]);
        let archived = Archive::at(archive_of(&copy)).read(Seq::START, 10_000).expect("readable");
        assert_eq!(archived.first().map(|row| row.seq), Some(Seq(1)));
        assert_eq!(copy.verify(&[]).code, 0);
    }
}

/// The rows of which there are snapshots.
fn snapshot_rows(copy: &Copy) -> Vec<Seq> {
    let mut store = snapshots::Snapshots::open_reader(&copy.data(snapshots::FILE)).expect("it opens");
    store.list().expect("readable")
}

#[test]
fn where_no_snapshot_reaches_far_enough_one_is_made_before_anything_goes() {
    let stopped = Stopped::new();
    let head = stopped.head;
    type Change = (&'static str, fn(&Copy), usize);
    let changes: [Change; 2] = [
        ("none", |copy| remove(copy, snapshots::FILE), 1),
        (
            "an old one",
            |copy| {
                copy.sql(snapshots::FILE, "DELETE FROM snapshot WHERE seq = (SELECT max(seq) FROM snapshot); DELETE FROM snapshot_chunk WHERE seq NOT IN (SELECT seq FROM snapshot)")
            },
            2,
        ),
    ];
    for (what, change, count) in changes {
        let copy = stopped.copy();
        change(&copy);
        let before = copy.data(snapshots::FILE).exists().then(|| snapshot_rows(&copy));
        let tried = prune(&copy, &[&MOST[..], &["--dry-run"]].concat());
        assert_eq!((tried.code, &tried.shown["would_delete"]), (0, &json!(head.0 - 3)), "{what}: {}", tried.failure);
        assert_eq!(
            copy.data(snapshots::FILE).exists().then(|| snapshot_rows(&copy)),
            before,
            "{what}: a trial makes none"
        );
        let done = prune(&copy, &MOST);
        assert_eq!((done.code, &done.shown["deleted"]), (0, &json!(head.0 - 3)), "{what}: {}", done.failure);
        let rows = snapshot_rows(&copy);
        assert_eq!((rows[0], rows.len()), (head, count), "{what}");
        let verified = copy.verify(&[]);
        assert!(verified.code == 0 && verified.agreeing().contains(&format!("snapshot {head}").as_str()), "{what}");
    }
    // One that reaches is used.
    let copy = stopped.copy();
    let before = snapshot_rows(&copy);
    assert_eq!(prune(&copy, &[&MOST[..], &["--through", "2"]].concat()).code, 0);
    assert_eq!(snapshot_rows(&copy), before);
}
