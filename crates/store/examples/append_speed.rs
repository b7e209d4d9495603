//! Measures appends: rows and megabytes a second for several sizes of payload, on SQLite and, if `FLORIN_TEST_MARIADB` names a
//! server, on MariaDB. Beside it runs the same amount of plain writes with a sync each, which no durable store can beat.
//!
//! ```sh
//! cargo run --release -p florin-store --example append_speed -- [FOLDER]
//! ```
//!
//! The folder's disk is the one that is measured; without one, the system's folder for temporary files.
#![allow(clippy::print_stdout, clippy::float_arithmetic)]

use florin_core::journal::Journal;
use florin_store::conformance::{Random, row_after};
use florin_store::maria::MariaServer;
use florin_store::maria::journal::MariaJournal;
use florin_store::sqlite::journal::{FILE, SqliteJournal};
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

/// Payload sizes: one command, a small batch, a thousand transfers, many thousands, the largest.
const SIZES: [usize; 5] = [200, 4_000, 40_000, 250_000, 1 << 20];

/// Each measurement lasts this long.
const SPAN: Duration = Duration::from_secs(2);

/// Calls `write` for a while and prints how fast it went, with the slowest of a hundred calls.
fn measure(what: &str, size: usize, mut write: impl FnMut(&[u8])) {
    let payload = Random::new(1).bytes(size);
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < SPAN {
        let one = Instant::now();
        write(&payload);
        times.push(one.elapsed());
    }
    let seconds = start.elapsed().as_secs_f64();
    times.sort_unstable();
    let slow = times[times.len() * 99 / 100].as_secs_f64() * 1e3;
    let (rows, megabytes) = (times.len() as f64 / seconds, (times.len() * size) as f64 / seconds / 1e6);
    println!("{what:<12} {size:>9} B {rows:>9.0} rows/s {megabytes:>8.1} MB/s   p99 {slow:>7.2} ms");
}

fn appends(what: &str, size: usize, journal: &mut dyn Journal) {
    let mut head = journal.head().expect("the journal answers");
    measure(what, size, |payload| {
        let row = row_after(head, 1, payload.to_vec());
        journal.append(&row).expect("a row after the head is appended");
        head = Some((row.seq, row.hash));
    });
}

fn main() {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::TempDir::new_in(base).expect("a folder can be made");
    for size in SIZES {
        let mut file = File::create(folder.path().join("plain")).expect("a file can be made");
        measure("plain file", size, |payload| {
            file.write_all(payload).expect("the file is written");
            file.sync_data().expect("the file is synced");
        });
    }
    for size in SIZES {
        let folder = tempfile::TempDir::new_in(folder.path()).expect("a folder can be made");
        let mut journal = SqliteJournal::open(&folder.path().join(FILE)).expect("the journal opens");
        appends("SQLite", size, &mut journal);
    }
    let Ok(url) = std::env::var("FLORIN_TEST_MARIADB") else {
        println!("MariaDB: not measured, FLORIN_TEST_MARIADB is not set (scripts/mariadb run …)");
        return;
    };
    let server = MariaServer::new(&url, &format!("florin_speed{}", std::process::id())).expect("the address is one");
    for size in SIZES {
        appends("MariaDB", size, &mut MariaJournal::open(&server).expect("the journal opens"));
    }
}
