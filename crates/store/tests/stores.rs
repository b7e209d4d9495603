//! Snapshots, segments, the deletion of prefixes, signs of life and people.

mod common;

use common::Maria;
use florin_core::id::{CustomerId, Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{AppendError, Batch, Journal, Row, SnapshotHeader, state_hash};
use florin_core::wire::{Bytes, Message};
use florin_store::conformance::{Random, fill, row_after};
use florin_store::heartbeat::{Beat, BeatAnswer, SqlHeartbeat};
use florin_store::maria::journal::MariaJournal;
use florin_store::people::{EraseAnswer, InsertAnswer, People, Person};
use florin_store::retention::{Permit, PrefixError, PrefixRefusal, PrefixRequest, permit};
use florin_store::segment::{Segment, SegmentError, SegmentRow, export_segment, read_segment};
use florin_store::signer_record::{SignerRecord, SqlSignerRecord};
use florin_store::site::Site;
use florin_store::snapshots::{Snapshots, VerifiedSnapshot};
use florin_store::sqlite::journal::SqliteJournal;
use florin_store::{heartbeat, people, snapshots};
use sha2::{Digest as _, Sha256};
use std::num::NonZeroUsize;
use tempfile::TempDir;

fn folder() -> TempDir {
    TempDir::new().expect("a folder can be made")
}

fn snapshot(row: &Row, chunks: Vec<Bytes>) -> VerifiedSnapshot {
    let header = SnapshotHeader {
        seq: row.seq,
        row_hash: row.hash,
        epoch: row.epoch,
        time: row.time,
        state_hash: state_hash(chunks.iter()),
        chunk_count: chunks.len() as u32,
        build: "test".to_owned(),
    };
    VerifiedSnapshot::verify(header, chunks).expect("the chunks match")
}

fn rows(count: usize) -> Vec<Row> {
    fill(&mut florin_store::memory::MemoryJournal::new(), count)
}

#[test]
fn snapshots_come_back_verified_newest_first_and_only_the_last_are_kept() {
    let folder = folder();
    let path = folder.path().join(snapshots::FILE);
    let mut store = Snapshots::open(&path).expect("the file opens");
    assert_eq!(store.newest().expect("answers"), None);
    let rows = rows(4);
    let mut random = Random::new(5);
    let kept: Vec<VerifiedSnapshot> =
        rows.iter().map(|row| snapshot(row, (0..3).map(|_| Bytes(random.bytes(300_000))).collect())).collect();
    for index in [1, 0, 3, 2] {
        store.write(&kept[index]).expect("it is written");
        store.write(&kept[index]).expect("it is written in its own place");
    }
    drop(store);
    let mut store = Snapshots::open(&path).expect("the file opens again");
    assert_eq!(store.list().expect("answers"), [Seq(4), Seq(3), Seq(2), Seq(1)]);
    assert!(store.newest().expect("answers").as_ref() == Some(&kept[3]), "the newest comes back");
    assert!(store.load(Seq(2)).expect("answers").as_ref() == Some(&kept[1]), "an older one comes back");
    store.retain(NonZeroUsize::new(2).expect("not zero")).expect("answers");
    assert_eq!(store.list().expect("answers"), [Seq(4), Seq(3)]);
    assert_eq!(store.load(Seq(2)).expect("answers"), None);
    let chunks: i64 = rusqlite::Connection::open(&path)
        .and_then(|file| file.query_row("SELECT count(*) FROM snapshot_chunk", [], |row| row.get(0)))
        .expect("answers");
    assert_eq!(chunks, 6, "the chunks of removed snapshots are gone too");
}

#[test]
fn a_reader_of_snapshots_that_holds_a_moment_loads_whole_what_is_removed_meanwhile() {
    let folder = folder();
    let path = folder.path().join(snapshots::FILE);
    let mut store = Snapshots::open(&path).expect("the file opens");
    let kept: Vec<VerifiedSnapshot> = rows(3).iter().map(|row| snapshot(row, vec![Bytes(vec![7; 9])])).collect();
    kept[..2].iter().for_each(|one| store.write(one).expect("it is written"));
    let mut reader = Snapshots::open_reader(&path).expect("the file opens");
    reader.begin_view().expect("answers");
    assert_eq!(reader.traces().expect("answers"), [Seq(2), Seq(1)]);
    store.write(&kept[2]).expect("it is written");
    store.retain(NonZeroUsize::new(1).expect("not zero")).expect("answers");
    assert_eq!(store.list().expect("answers"), [Seq(3)]);
    for (seq, one) in [(Seq(2), Some(&kept[1])), (Seq(1), Some(&kept[0])), (Seq(3), None)] {
        assert!(reader.load(seq).expect("answers").as_ref() == one, "{seq}");
    }
}

#[test]
fn a_reader_of_snapshots_makes_nothing_and_finds_chunks_without_a_header() {
    let folder = folder();
    let path = folder.path().join(snapshots::FILE);
    assert!(Snapshots::open_reader(&path).is_err() && !path.exists(), "a reader makes no file");
    let rows = rows(2);
    let mut store = Snapshots::open(&path).expect("the file opens");
    for row in &rows {
        store.write(&snapshot(row, vec![Bytes(vec![1, 2, 3])])).expect("it is written");
    }
    rusqlite::Connection::open(&path)
        .expect("it opens")
        .execute("DELETE FROM snapshot WHERE seq = 1", [])
        .expect("SQL");
    let mut reader = Snapshots::open_reader(&path).expect("the file opens");
    assert_eq!(reader.list().expect("answers"), [Seq(2)]);
    assert_eq!(reader.traces().expect("answers"), [Seq(2), Seq(1)]);
    assert!(reader.load(Seq(1)).expect("answers").is_none());
    assert!(reader.write(&snapshot(&rows[0], Vec::new())).is_err(), "a reader writes nothing");
}

#[test]
fn a_damaged_snapshot_is_not_handed_out() {
    let damages = [
        ("UPDATE snapshot_chunk SET payload = x'00' WHERE position = 1", "snapshot_wrong_hash"),
        ("DELETE FROM snapshot_chunk WHERE position = 1", "snapshot_chunk_count"),
        ("UPDATE snapshot SET header = x'00'", "store_malformed"),
        ("UPDATE snapshot SET seq = 7; UPDATE snapshot_chunk SET seq = 7", "store_malformed"),
    ];
    for (damage, code) in damages {
        let folder = folder();
        let path = folder.path().join(snapshots::FILE);
        let mut store = Snapshots::open(&path).expect("the file opens");
        store.write(&snapshot(&rows(1)[0], vec![Bytes(vec![1]), Bytes(vec![2])])).expect("it is written");
        let foreign = rusqlite::Connection::open(&path).expect("the file opens");
        foreign.execute_batch(damage).expect("the damage is done");
        assert_eq!(store.newest().expect_err("damaged").code(), code, "{damage}");
    }
}

#[test]
fn segments_come_back_and_nothing_else_is_read_as_one() {
    let rows = rows(20);
    for stretch in [&rows[..], &rows[..1], &rows[7..12]] {
        let bytes = export_segment(stretch).expect("the rows link");
        assert_eq!(read_segment(&bytes).expect("the segment is whole"), stretch);
    }
    assert_eq!(export_segment(&[]), Err(SegmentError::Empty));
    let gap = [rows[1].clone(), rows[3].clone()];
    assert_eq!(export_segment(&gap), Err(SegmentError::BrokenLink(Seq(4))));
    let mut torn = rows[2..4].to_vec();
    torn[1].payload.push(1);
    assert_eq!(export_segment(&torn), Err(SegmentError::BrokenLink(Seq(4))));

    let bytes = export_segment(&rows[7..12]).expect("the rows link");
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 1;
        assert_eq!(read_segment(&damaged), Err(SegmentError::WrongHash), "byte {index}");
        assert_eq!(read_segment(&bytes[..index]), Err(SegmentError::WrongHash), "cut at {index}");
    }
}

/// A number as Protocol Buffers write it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A field of bytes, by its tag.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

#[test]
fn a_segment_is_made_of_the_bytes_that_docs_journal_format_says() {
    let rows = rows(12);
    let stretch = &rows[7..];
    let mut encoded = [&[0x08, 1, 0x10][..], &varint(8), &field(3, &rows[6].hash.0)].concat();
    for row in stretch {
        let (epoch, time) = (varint(row.epoch.0), varint(row.time.0));
        let one = [&[0x08][..], &epoch, &[0x10], &time, &field(3, &row.payload), &field(4, &row.hash.0)].concat();
        encoded.extend(field(4, &one));
    }
    let hash = Sha256::digest([&b"florin/segment/1"[..], &encoded].concat());
    assert!(export_segment(stretch).expect("the rows link") == [&encoded[..], &hash].concat());
}

/// A segment whose hashes all fit, whatever its numbers are.
fn forged(rows: &[Row]) -> Vec<u8> {
    let row = |row: &Row| SegmentRow {
        epoch: row.epoch,
        time: row.time,
        payload: Bytes(row.payload.clone()),
        hash: row.hash,
    };
    let (first, previous) = (rows[0].seq, rows[0].previous);
    let mut bytes = Segment { format: 1, first, previous, rows: rows.iter().map(row).collect() }.encode();
    let hash = Sha256::new().chain_update(b"florin/segment/1").chain_update(&bytes).finalize();
    bytes.extend(hash);
    bytes
}

#[test]
fn a_segment_with_numbers_that_no_row_can_have_is_refused() {
    let last = Seq::MAX.0;
    let row = |seq, epoch, time| Row::seal(Seq(seq), Epoch(epoch), LedgerTime(time), Digest::ZERO, vec![1]);
    let whole = [row(last, last, last)];
    assert_eq!(read_segment(&forged(&whole)).expect("the segment is whole"), whole);
    assert_eq!(forged(&whole), export_segment(&whole).expect("it is a segment"));
    for (seq, epoch, time) in
        [(0, 1, 1), (last + 1, 1, 1), (u64::MAX, 1, 1), (5, last + 1, 1), (5, u64::MAX, 1), (5, 1, u64::MAX)]
    {
        let bad = [row(seq, epoch, time)];
        assert_eq!(read_segment(&forged(&bad)), Err(SegmentError::OutOfRange(Seq(seq))), "{seq} {epoch} {time}");
        assert_eq!(export_segment(&bad), Err(SegmentError::OutOfRange(Seq(seq))), "{seq} {epoch} {time}");
    }
    let next = Row::seal(Seq(last + 1), Epoch(1), LedgerTime(1), whole[0].hash, vec![1]);
    let beyond = forged(&[whole[0].clone(), next]);
    assert_eq!(read_segment(&beyond), Err(SegmentError::OutOfRange(Seq(last + 1))), "counted past the last number");
    let next = Row::seal(Seq(0), Epoch(1), LedgerTime(1), Digest::ZERO, vec![1]);
    let wrapped = forged(&[row(u64::MAX, 1, 1), next]);
    assert_eq!(read_segment(&wrapped), Err(SegmentError::OutOfRange(Seq(u64::MAX))), "counted past all numbers");
}

fn prefix_request<'a>(
    through: u64,
    snapshot: &'a VerifiedSnapshot,
    cursors: &'a [(&'a str, Seq)],
) -> PrefixRequest<'a> {
    PrefixRequest { through: Seq(through), snapshot: Some(snapshot), cursors, floor: Seq(through + 1) }
}

#[test]
fn a_prefix_stays_unless_snapshot_cursors_and_floor_allow() {
    let rows = rows(10);
    let covering = snapshot(&rows[4], Vec::new());
    let cursors = [("projector", Seq(9)), ("webhooks", Seq(5))];
    let good = prefix_request(5, &covering, &cursors);
    permit(&good).expect("all three allow");
    let refusal = |request: PrefixRequest<'_>| permit(&request).expect_err("refused");
    assert_eq!(refusal(PrefixRequest { snapshot: None, ..good }), PrefixRefusal::NoSnapshot);
    let behind = PrefixRequest { through: Seq(6), ..good };
    assert_eq!(refusal(behind), PrefixRefusal::SnapshotBehind { snapshot: Seq(5) });
    let slow = [("projector", Seq(9)), ("webhooks", Seq(4))];
    let expected = PrefixRefusal::CursorBehind { reader: "webhooks".to_owned(), at: Seq(4) };
    assert_eq!(refusal(PrefixRequest { cursors: &slow, ..good }), expected);
    assert_eq!(refusal(PrefixRequest { floor: Seq(5), ..good }), PrefixRefusal::RetentionFloor { floor: Seq(5) });
}

type Delete<J> = fn(&mut J, &Permit, &mut dyn FnMut(Seq)) -> Result<(), PrefixError>;

fn check_deletion<J: Journal>(journal: &mut J, delete: Delete<J>) {
    let mut ends = Vec::new();
    let mut delete = |journal: &mut J, permit: &Permit| delete(journal, permit, &mut |end| ends.push(end));
    let mut rows = fill(journal, 200);
    let leave = |row: &Row, through: u64| {
        permit(&prefix_request(through, &snapshot(row, Vec::new()), &[])).expect("all three allow")
    };
    let refused = |done: Result<(), PrefixError>| match done {
        Err(PrefixError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let foreign = Row { hash: Digest([1; 32]), ..rows[150].clone() };
    assert_eq!(refused(delete(journal, &leave(&foreign, 150))), PrefixRefusal::ForeignSnapshot);
    assert_eq!(refused(delete(journal, &leave(&rows[199], 200))), PrefixRefusal::ForeignSnapshot);
    assert_eq!(journal.read(Seq::START, 1_000).expect("answers").len(), 200, "refusals delete nothing");

    delete(journal, &leave(&rows[180], 150)).expect("the prefix goes");
    delete(journal, &leave(&rows[180], 150)).expect("it is gone already");
    assert_eq!(ends, [Seq(64), Seq(128), Seq(150)], "the first time in steps, the second time nothing");
    assert_eq!(journal.read(Seq::START, 1_000).expect("answers"), rows[150..]);
    rows.extend(fill(journal, 1));
    journal.append(&rows[199]).expect("a row that is there is durable");
    assert!(matches!(journal.append(&rows[0]), Err(AppendError::Fenced)), "the journal does not begin again");
    assert!(matches!(journal.append(&rows[149]), Err(AppendError::Fenced)));
    assert!(matches!(journal.append(&row_after(None, 2, vec![1])), Err(AppendError::Fenced)));
    assert_eq!(journal.read(Seq::START, 1_000).expect("answers"), rows[150..]);
}

#[test]
fn a_released_prefix_is_deleted_and_the_journal_goes_on() {
    let folder = folder();
    let path = folder.path().join("journal.sqlite3");
    check_deletion(&mut SqliteJournal::open(&path).expect("the journal opens"), SqliteJournal::delete_prefix);
    let maria = Maria::fresh();
    check_deletion(&mut MariaJournal::open(&maria.server).expect("the journal opens"), MariaJournal::delete_prefix);
}

fn check_heartbeat(mut old: SqlHeartbeat, mut new: SqlHeartbeat) {
    let beat = |node: &str, epoch, number| Beat {
        node: node.to_owned(),
        url: format!("http://{node}"),
        epoch: Epoch(epoch),
        number,
        is_last: number == 99,
    };
    assert_eq!(old.last().expect("answers"), None);
    for number in [1, 2, 2] {
        assert_eq!(old.beat(&beat("north", 3, number)).expect("answers"), BeatAnswer::Confirmed);
    }
    assert_eq!(new.last().expect("answers"), Some(beat("north", 3, 2)));
    assert_eq!(new.beat(&beat("s\u{fc}d", 4, 1)).expect("answers"), BeatAnswer::Confirmed);
    assert_eq!(old.beat(&beat("north", 3, 3)).expect("answers"), BeatAnswer::Superseded(beat("s\u{fc}d", 4, 1)));
    assert_eq!(new.last().expect("answers"), Some(beat("s\u{fc}d", 4, 1)));
    // Only what was seen is replaced, by any epoch, and saying it twice is no fault.
    let seen = beat("s\u{fc}d", 4, 1);
    assert_eq!(new.beat(&beat("s\u{fc}d", 4, 2)).expect("answers"), BeatAnswer::Confirmed);
    let claim = beat("north", 2, 0);
    assert_eq!(old.replace(Some(&seen), &claim).expect("answers"), BeatAnswer::Superseded(beat("s\u{fc}d", 4, 2)));
    assert_eq!(old.replace(None, &claim).expect("answers"), BeatAnswer::Superseded(beat("s\u{fc}d", 4, 2)));
    let seen = beat("s\u{fc}d", 4, 2);
    for _ in 0..2 {
        assert_eq!(old.replace(Some(&seen), &claim).expect("answers"), BeatAnswer::Confirmed);
    }
    assert_eq!(new.last().expect("answers"), Some(claim));
    assert_eq!(new.beat(&beat("north", 5, 99)).expect("answers"), BeatAnswer::Confirmed);
    assert!(old.last().expect("answers").is_some_and(|beat| beat.is_last));
    old.beat(&beat(&"n".repeat(256), 5, 1)).expect_err("a name that does not fit");
    old.beat(&beat("north", u64::MAX, 1)).expect_err("a number that does not fit");
}

#[test]
fn a_newer_epochs_sign_of_life_stands() {
    let folder = folder();
    let path = folder.path().join(heartbeat::FILE);
    let open = || SqlHeartbeat::open_sqlite(&path).expect("the file opens");
    check_heartbeat(open(), open());
    let maria = Maria::fresh();
    let open = || SqlHeartbeat::open_maria(&maria.server).expect("the server answers");
    check_heartbeat(open(), open());
}

fn check_signer_record(mut one: SqlSignerRecord, mut other: SqlSignerRecord) {
    let known = |memory: u8, counter: u64, hash: u8| SignerRecord {
        platform: [1; 16],
        key: [2; 32],
        memory: [memory; 16],
        counter,
        hash: Digest([hash; 32]),
    };
    assert_eq!(one.last().expect("answers"), None);
    assert_eq!(one.keep(&known(3, 0, 0)).expect("answers"), known(3, 0, 0), "a memory without decisions is one");
    assert_eq!(other.last().expect("answers"), Some(known(3, 0, 0)));
    for _ in 0..2 {
        assert_eq!(other.keep(&known(3, 7, 7)).expect("answers"), known(3, 7, 7));
    }
    // Whatever is earlier, another, or another's stands back.
    let foreign = [
        SignerRecord { key: [9; 32], ..known(3, 8, 8) },
        SignerRecord { platform: [9; 16], ..known(3, 8, 8) },
        known(4, 8, 8),
        known(3, 6, 6),
        known(3, 7, 8),
    ];
    for record in foreign {
        assert_eq!(one.keep(&record).expect("answers"), known(3, 7, 7));
    }
    assert_eq!(one.keep(&known(3, 8, 8)).expect("answers"), known(3, 8, 8));
    one.keep(&known(3, u64::MAX, 9)).expect_err("a number that does not fit");
    other.replace(&known(4, 1, 1)).expect("answers");
    assert_eq!(one.last().expect("answers"), Some(known(4, 1, 1)), "a person may put another in its place");
}

#[test]
fn what_is_known_of_the_signer_only_rises() {
    let folder = folder();
    let maria = Maria::fresh();
    for site in [Site::Folder(folder.path().to_owned()), Site::Server(maria.server.clone())] {
        let open = || site.signer_record().expect("opens");
        check_signer_record(open(), open());
        assert_eq!(open().last().expect("answers").map(|record| record.counter), Some(1), "it lasts");
    }
}

#[test]
fn of_two_first_signers_one_is_known() {
    let folder = folder();
    let maria = Maria::fresh();
    for site in [Site::Folder(folder.path().to_owned()), Site::Server(maria.server.clone())] {
        let mut handles: Vec<SqlSignerRecord> = (0..4).map(|_| site.signer_record().expect("opens")).collect();
        let kept: Vec<SignerRecord> = std::thread::scope(|scope| {
            let keep = |(handle, number): (&mut SqlSignerRecord, u8)| {
                let own = SignerRecord {
                    platform: [1; 16],
                    key: [number; 32],
                    memory: [number; 16],
                    counter: 1,
                    hash: Digest([number; 32]),
                };
                handle.keep(&own).expect("answers")
            };
            let threads: Vec<_> = handles.iter_mut().zip(1..).map(|pair| scope.spawn(move || keep(pair))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
        });
        assert!(kept.iter().all(|record| *record == kept[0]), "{kept:?}");
    }
}

fn check_people(people: &mut People) {
    let person = |name: &str| Person {
        name: name.to_owned(),
        email: "a@example.org".to_owned(),
        created: LedgerTime(1_700_000_000_000),
    };
    let id = CustomerId([3; 16]);
    assert_eq!(people.get(id).expect("answers"), None);
    let name = "Z\u{f6}e O'Brien \u{1f600}; DROP TABLE customers";
    assert_eq!(people.insert(id, &person(name)).expect("answers"), InsertAnswer::Inserted);
    assert_eq!(people.insert(id, &person("another")).expect("answers"), InsertAnswer::Exists);
    assert_eq!(people.get(id).expect("answers"), Some(person(name)));
    people.insert(CustomerId([4; 16]), &person(&"x".repeat(256))).expect_err("a name that does not fit");
    assert!(!format!("{:?}", person(name)).contains("Brien"), "names have no place in logs");
    assert_eq!(people.erase(id).expect("answers"), EraseAnswer::Erased);
    assert_eq!(people.erase(id).expect("answers"), EraseAnswer::Absent);
    assert_eq!(people.get(id).expect("answers"), None);
}

#[test]
fn people_are_found_and_erased() {
    let folder = folder();
    let path = folder.path().join(people::FILE);
    check_people(&mut People::open_sqlite(&path).expect("the file opens"));
    let maria = Maria::fresh();
    check_people(&mut People::open_maria(&maria.server).expect("the server answers"));
}

#[test]
fn an_erased_name_is_in_no_file() {
    let folder = folder();
    let mut people = People::open_sqlite(&folder.path().join(people::FILE)).expect("the file opens");
    let person = Person { name: "Ermintrude".to_owned(), email: "e@example.org".to_owned(), created: LedgerTime(1) };
    let found = || {
        let files = std::fs::read_dir(folder.path()).expect("the folder is read");
        let contains = |bytes: Vec<u8>| bytes.windows(10).any(|window| window == b"Ermintrude");
        files.filter(|file| contains(std::fs::read(file.as_ref().expect("a file").path()).expect("is read"))).count()
    };
    people.insert(CustomerId([1; 16]), &person).expect("answers");
    assert!(found() > 0, "the name is written somewhere");
    people.erase(CustomerId([1; 16])).expect("answers");
    assert_eq!(found(), 0);
}

#[test]
fn a_site_opens_every_store_and_readers_beside_them() {
    let folder = folder();
    let maria = Maria::fresh();
    for site in [Site::Folder(folder.path().to_owned()), Site::Server(maria.server.clone())] {
        let mut journal = site.journal().expect("the journal opens");
        let mut reader = site.journal_reader().expect("the journal opens for reading");
        let rows = fill(&mut *journal, 2);
        assert_eq!(reader.read(Seq::START, 9).expect("answers"), rows);
        assert_eq!(site.heartbeat().expect("opens").last().expect("answers"), None);
        assert_eq!(site.people().expect("opens").get(CustomerId([1; 16])).expect("answers"), None);
        let mut tables = site.projection().expect("opens");
        let row = &rows[0];
        tables.apply(row, &Batch { entries: Vec::new() }).expect("an empty row fits");
        let mut reader = site.projection_reader().expect("opens for reading");
        assert_eq!(reader.cursor().expect("answers"), (row.seq, row.hash));
    }
}
