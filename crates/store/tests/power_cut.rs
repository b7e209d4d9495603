//! Power cuts, failing syncs and kills of a process that appends to a SQLite journal: nothing that was acknowledged is lost,
//! and the chain never breaks.

#[path = "power_cut/bench.rs"]
mod bench;

use bench::{EXIT_STORAGE, RECORDS_MAX, Subject, content};
use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{Journal, Row};
use florin_store::conformance::assert_linked;
use florin_store::fail_stop::{self, FailStop};
use florin_store::sqlite::journal::{FILE, SqliteJournal};
use std::path::Path;

/// Small, so that checkpoints happen in every run.
const CHECKPOINT_BYTES: u64 = 200_000;

const JOURNAL: Subject = Subject { file: FILE, opening: 60, make: |_| (), last };

/// In the process that dies: appends row after row and says each number once it is durable.
fn append_if_told() {
    let Some(folder) = bench::told() else { return };
    let journal = match SqliteJournal::open(&folder.join(FILE)) {
        Ok(journal) => journal.with_checkpoint_bytes(CHECKPOINT_BYTES),
        Err(fault) => {
            eprintln!("{fault}: {:?}", std::error::Error::source(&fault).map(ToString::to_string));
            std::process::exit(if fault.is_fatal() { EXIT_STORAGE } else { 3 });
        }
    };
    let mut journal = FailStop(journal);
    let mut head = journal.head().expect("the journal answers").unwrap_or((Seq::START, Digest::ZERO));
    for _ in 0..RECORDS_MAX {
        let seq = head.0.next();
        let row = Row::seal(seq, Epoch(1), LedgerTime(seq.0), head.1, content(seq.0));
        journal.append(&row).expect("a fault that does not end the process is none of these tests'");
        bench::say(seq.0);
        head = (row.seq, row.hash);
    }
    std::process::exit(0);
}

/// What stands in the journal, all of it checked.
fn last(path: &Path) -> u64 {
    let mut journal = SqliteJournal::open(path).expect("the journal opens after a crash");
    let rows = journal.read(Seq::START, usize::MAX).expect("the journal is whole after a crash");
    assert_linked(&rows);
    for row in &rows {
        assert!(row.payload == content(row.seq.0), "row {} holds something else", row.seq);
    }
    rows.last().map_or(0, |row| row.seq.0)
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    append_if_told();
    bench::power_cuts(&JOURNAL, "power_cuts_lose_nothing_acknowledged");
}

#[test]
fn a_failed_sync_ends_the_process_and_no_later_row_stands_on_lost_ones() {
    append_if_told();
    assert_eq!(EXIT_STORAGE, fail_stop::EXIT_STORAGE);
    bench::failed_syncs(&JOURNAL, "a_failed_sync_ends_the_process_and_no_later_row_stands_on_lost_ones");
}

#[test]
fn a_failed_sync_before_a_power_cut_loses_nothing_acknowledged() {
    append_if_told();
    bench::failed_syncs_before_cuts(&JOURNAL, "a_failed_sync_before_a_power_cut_loses_nothing_acknowledged");
}

#[test]
fn kills_lose_nothing_acknowledged() {
    append_if_told();
    bench::kills(&JOURNAL, "kills_lose_nothing_acknowledged");
}
