//! Golden journals, one folder of `tests/golden` for each release: every later build must read them, and fold them to the
//! state that the release had, as far as the release said it. A folder is never changed once its release is out.
//!
//! `GOLDEN=0.2.0 cargo test -p florin-core golden_journals` writes the folder of a new release, and refuses if it is there. Before the
//! first release the newest folder may be removed and written anew where a record's shape changes. A new event alone changes no record: it
//! gets a folder beside the others, which shows that they are still read.

use crate::samples::Rng;
use crate::schema::Schema;
use crate::story;
use florin_core::event::Event;
use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{Row, state_hash};
use florin_core::snapshot;
use florin_core::state::State;
use florin_core::wire::Message;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const HOW: &str = "GOLDEN=<release> cargo test -p florin-core golden_journals";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn tag(event: &Event) -> u64 {
    florin_core::wire::Reader::new(&event.encode()).varint().expect("an event begins with its key") >> 3
}

/// The tags of events that journals hold, and of those that only snapshots hold.
fn tags() -> (BTreeSet<u64>, BTreeSet<u64>) {
    let schema = Schema::read(&florin_core::journal::schema());
    schema.messages["Event"].iter().map(|field| field.tag).partition(|&tag| tag < 1_000)
}

#[test]
fn every_event_of_a_journal_happens_in_the_story() {
    let world = story::tell();
    let mut told = BTreeSet::new();
    let (mut seq, mut hash) = (Seq::START, Digest::ZERO);
    for row in &world.rows {
        let batch = row.open(seq, hash).expect("the journal is whole");
        told.extend(batch.entries.iter().flat_map(|entry| &entry.events).map(tag));
        (seq, hash) = (row.seq, row.hash);
    }
    let restated: Vec<Event> = restated(&world.state);
    let restated: BTreeSet<u64> = restated.iter().map(tag).filter(|&tag| tag > 1_000).collect();
    let (journal, snapshots) = tags();
    assert_eq!(told, journal);
    assert_eq!(restated, snapshots, "the story ends with a record of every kind");
}

fn restated(state: &State) -> Vec<Event> {
    let mut events = Vec::new();
    state.restate(|event| events.push(event));
    events
}

/// Writes the folder of a release that has none.
fn write(release: &str) {
    let folder = folder().join(release);
    assert!(!folder.exists(), "{} is there; a golden journal is never written over", folder.display());
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let world = story::tell();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("the file can be written");
    put("journal.bin", &world.rows.iter().flat_map(row_bytes).collect::<Vec<u8>>());
    let schema = Schema::read(&florin_core::journal::schema());
    let mut events = Vec::new();
    let (journal, snapshots) = tags();
    for tag in journal.union(&snapshots) {
        for seed in 0..4 {
            let event = schema.sample("Event", Some(*tag), &mut Rng(seed));
            events.extend((event.len() as u32).to_be_bytes());
            events.extend(event);
        }
    }
    put("events.bin", &events);
    put("state_hash", format!("{}\n", snapshot::hash(&world.state)).as_bytes());
}

fn row_bytes(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [row.seq.0, row.epoch.0, row.time.0, row.payload.len() as u64] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(row.previous.0);
    bytes.extend(row.hash.0);
    bytes.extend(&row.payload);
    bytes
}

/// Takes `N` bytes from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (front, rest) = bytes.split_first_chunk::<N>().expect("the file is whole");
    *bytes = rest;
    *front
}

fn read_rows(mut bytes: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let [seq, epoch, time, length] = std::array::from_fn(|_| u64::from_be_bytes(take(&mut bytes)));
        let (previous, hash) = (Digest(take(&mut bytes)), Digest(take(&mut bytes)));
        let (payload, rest) = bytes.split_at(length as usize);
        bytes = rest;
        let (seq, epoch, time) = (Seq(seq), Epoch(epoch), LedgerTime(time));
        rows.push(Row { seq, epoch, time, previous, payload: payload.to_vec(), hash });
    }
    rows
}

fn releases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("there are golden journals");
    let mut releases: Vec<PathBuf> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    releases.sort();
    releases
}

fn read(release: &Path, name: &str) -> Vec<u8> {
    let path = release.join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tags of the events that a release knew; each is read and written back byte for byte.
fn known(release: &Path) -> BTreeSet<u64> {
    let bytes = read(release, "events.bin");
    let mut rest = &bytes[..];
    let mut known = BTreeSet::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(take(&mut rest)) as usize;
        let (encoded, after) = rest.split_at(length);
        rest = after;
        let event = Event::decode(encoded).unwrap_or_else(|error| panic!("{}: {error}", release.display()));
        assert_eq!(event.encode(), encoded, "{}: {event:?}", release.display());
        known.insert(tag(&event));
    }
    known
}

#[test]
fn golden_journals_fold_to_the_state_they_had() {
    if let Some(release) = std::env::var_os("GOLDEN") {
        write(release.to_str().expect("a release is named in plain letters"));
    }
    assert!(!releases().is_empty(), "no golden journal: {HOW}");
    for release in releases() {
        let name = release.display();
        let (mut state, mut seq, mut hash) = (State::default(), Seq::START, Digest::ZERO);
        for row in read_rows(&read(&release, "journal.bin")) {
            let batch = row.open(seq, hash).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(batch.encode(), row.payload, "{name}, row {}", row.seq);
            state.apply_row(&row, &batch);
            (seq, hash) = (row.seq, row.hash);
        }
        let expected = String::from_utf8(read(&release, "state_hash")).expect("a hash is text");
        // What later builds say beside it follows from the same rows; what the release said must still be said.
        let known = known(&release);
        let chunks = snapshot::chunks_of(&state, |event| known.contains(&tag(event)));
        assert_eq!(
            state_hash(chunks.iter()).to_string(),
            expected.trim(),
            "{name}: this build folds a published journal to another state; restore the old meaning, don't change the file"
        );
    }
}

#[test]
fn golden_events_are_read_and_written_back_byte_for_byte() {
    let known: Vec<BTreeSet<u64>> = releases().iter().map(|release| known(release)).collect();
    let newest = known.last().expect("there are golden journals");
    let (journal, snapshots) = tags();
    let all: BTreeSet<u64> = journal.union(&snapshots).copied().collect();
    assert!(*newest == all, "the newest golden journal lacks events of this build; for a new release: {HOW}");
}
