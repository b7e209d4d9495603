//! The journal as the truth: replaying rows, and refusing rows that are not what was written.

use crate::world::*;
use florin_core::command::{Command, Origin, Request};
use florin_core::event::Event;
use florin_core::id::{Digest, Seq};
use florin_core::journal::{Batch, Entry, ROW_BYTES_MAX, Row, RowError};
use florin_core::snapshot::{self, SnapshotError};
use florin_core::state::State;
use florin_core::wire::{Bytes, Message, WireError};

fn lived() -> World {
    let mut world = World::new();
    let quote = crate::broker::offer(&mut world);
    world.done(Command::AcceptQuote { customer: ANN, quote: quote.id });
    crate::broker::offer(&mut world);
    world.send(&Request { origin: Origin::Internal, command: Command::Tick }).expect("time passes");
    world
}

#[test]
fn replaying_the_rows_gives_the_state_byte_for_byte() {
    let world = lived();
    let (mut state, mut seq, mut hash) = (State::default(), Seq::START, Digest::ZERO);
    for row in &world.rows {
        let batch = row.open(seq, hash).expect("the journal is whole");
        state.apply_row(row, &batch);
        (seq, hash) = (row.seq, row.hash);
    }
    assert_eq!(snapshot::chunks(&state), snapshot::chunks(&world.state));
}

#[test]
fn snapshot_and_tail_give_the_same_state_as_the_whole_journal() {
    let world = lived();
    for cut in [1, 7, world.rows.len() - 1] {
        let mut state = State::default();
        let fold = |state: &mut State, rows: &[Row], mut seq, mut hash| {
            for row in rows {
                let batch: Batch = row.open(seq, hash).expect("the journal is whole");
                state.apply_row(row, &batch);
                (seq, hash) = (row.seq, row.hash);
            }
        };
        fold(&mut state, &world.rows[..cut], Seq::START, Digest::ZERO);
        let last = &world.rows[cut - 1];
        let (header, chunks) = snapshot::write(&state, last.hash, "test");
        let mut restored = snapshot::read(&header, &chunks).expect("what was written is read");
        assert_eq!((header.seq, header.epoch, header.time), (last.seq, last.epoch, last.time));
        fold(&mut restored, &world.rows[cut..], header.seq, header.row_hash);
        assert_eq!(snapshot::hash(&restored), snapshot::hash(&world.state));
    }
}

#[test]
fn row_is_refused_for_the_first_thing_wrong_with_it() {
    let world = lived();
    let [.., before, row] = &world.rows[..] else { panic!("there are rows") };
    let open = |row: &Row| row.open(before.seq, before.hash).expect_err("it is wrong");
    let mut wrong = row.clone();
    wrong.payload = vec![0; ROW_BYTES_MAX + 1];
    wrong.previous = Digest([9; 32]);
    wrong.seq = Seq(row.seq.0 + 1);
    assert_eq!(open(&wrong), RowError::Gap { expected: row.seq, found: wrong.seq });
    wrong.seq = row.seq;
    assert_eq!(open(&wrong), RowError::BrokenLink { seq: row.seq });
    wrong.previous = before.hash;
    assert_eq!(open(&wrong), RowError::WrongHash { seq: row.seq });
    wrong.hash = wrong.computed_hash();
    assert_eq!(open(&wrong), RowError::TooLarge { seq: row.seq });
    wrong.payload = vec![0x10];
    wrong.hash = wrong.computed_hash();
    let source = WireError::UnexpectedField { message: "Batch", expected: 0, found: 0x10 };
    assert_eq!(open(&wrong), RowError::Payload { seq: row.seq, source });
    let codes =
        ["journal_gap", "journal_broken_link", "journal_wrong_hash", "journal_row_too_large", "journal_unreadable"];
    assert_eq!(open(&wrong).code(), codes[4]);
    for seed in 0..4 {
        for tag in 1_001..=1_009 {
            let event = schema_sample(tag, seed);
            let entry = Entry { command: None, request: None, events: vec![event], outcome: None };
            wrong.payload = Batch { entries: vec![entry] }.encode();
            wrong.hash = wrong.computed_hash();
            assert_eq!(open(&wrong), RowError::Restates { seq: row.seq }, "event {tag}");
        }
    }
    assert_eq!(open(&wrong).code(), codes[4]);
}

fn schema_sample(tag: u64, seed: u64) -> Event {
    let schema = crate::schema::Schema::read(&florin_core::journal::schema());
    Event::decode(&schema.sample("Event", Some(tag), &mut crate::samples::Rng(seed)))
        .expect("a sample is of the schema")
}

#[test]
fn events_above_a_thousand_are_those_that_restate() {
    let schema = crate::schema::Schema::read(&florin_core::journal::schema());
    for tag in schema.messages["Event"].iter().map(|field| field.tag) {
        assert_eq!(schema_sample(tag, 1).is_restating(), tag > 1_000, "event {tag}");
    }
}

#[test]
fn every_header_field_is_under_the_rows_hash() {
    let world = lived();
    let row = world.rows.last().expect("there are rows");
    let changes: [fn(&mut Row); 5] = [
        |row| row.seq.0 += 1,
        |row| row.epoch.0 += 1,
        |row| row.time.0 += 1,
        |row| row.previous.0[31] ^= 1,
        |row| row.payload[0] ^= 1,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut changed = row.clone();
        change(&mut changed);
        assert_ne!(changed.computed_hash(), row.hash, "change {index}");
    }
}

#[test]
fn snapshot_is_refused_for_the_first_thing_wrong_with_it() {
    let world = lived();
    let (mut header, mut chunks) = snapshot::write(&world.state, Digest([3; 32]), "test");
    chunks.push(Bytes(vec![0x10]));
    let read = |header: &_, chunks: &[Bytes]| snapshot::read(header, chunks).expect_err("it is wrong");
    let count = chunks.len();
    assert_eq!(read(&header, &chunks), SnapshotError::ChunkCount { expected: header.chunk_count, found: count });
    header.chunk_count = count as u32;
    assert_eq!(read(&header, &chunks), SnapshotError::WrongHash);
    header.state_hash = florin_core::journal::state_hash(chunks.iter());
    let error = read(&header, &chunks);
    assert!(matches!(error, SnapshotError::Unreadable(_)));
    assert_eq!(error.code(), "snapshot_unreadable");

    // As a build wrote it that kept nothing of what left.
    let chunks = snapshot::chunks_of(&world.state, |event| !matches!(event, Event::RestateArchived(_)));
    header.chunk_count = chunks.len() as u32;
    header.state_hash = florin_core::journal::state_hash(chunks.iter());
    assert_eq!(read(&header, &chunks), SnapshotError::Older);
}

#[test]
fn large_state_is_cut_into_chunks_below_a_row() {
    let mut state = State::default();
    for number in 0u64..20_000 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let command = Command::OpenCustomer(florin_core::id::CustomerId(id));
        state.decide(&Request { origin: Origin::Internal, command }, world_now()).expect("it is new");
    }
    let chunks = snapshot::chunks(&state);
    assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.0.len() < ROW_BYTES_MAX / 2));
    check_snapshot(&state);
}

fn world_now() -> florin_core::id::LedgerTime {
    florin_core::id::LedgerTime(START_MS)
}
