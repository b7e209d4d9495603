//! Measures the journalled ledger: the engine as it runs, on a real store, beside the same transfers by hand in SQL and beside
//! the bare disk. It never counts a transfer whose row is not durable and folded.
//!
//! ```sh
//! cargo run --release -p florin --example journal_speed -- [FOLDER] [SECONDS] [SNAPSHOT_ROWS]
//! ```
//!
//! SQLite lies in a fresh folder within FOLDER, without one beside this program; MariaDB is measured where
//! `FLORIN_TEST_MARIADB` names a server. Each side runs for SECONDS (3) at a time, in turns, and the median of the rounds
//! counts. A snapshot is written after each SNAPSHOT_ROWS rows (100,000, as the platform does). A line that begins with `result` is for programs: work, ours, peer, ratio, goal, unit, what the peer is.
#![allow(clippy::print_stdout, clippy::float_arithmetic)]

mod ours;
mod peers;

use florin::platform::SNAPSHOT_ROWS;
use florin_store::maria::MariaServer;
use florin_store::site::Site;
use ours::{Load, Measured, Platform};
use peers::{Device, HandMade, HandMadeMaria, HandMadeSqlite};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Rounds of each side; odd, so that there is a middle one.
const ROUNDS: usize = 3;

/// Commands of a thousand transfers that are under way at once: what is decided while a row is written has to fill the next.
const WINDOW: usize = 64;

/// Rounds of the open loop, which one stall of a busy disk spoils: more of them, so that the middle one is a usual one.
const LATENCY_ROUNDS: usize = 5;

/// What the open loop offers.
const OFFERED_PER_S: u64 = 20_000;

/// One store's goal, in transfers a second.
struct Goal {
    name: &'static str,
    transfers_per_s: f64,
    /// The longest that one transfer of a hundred may take at the offered load, where there is such a goal.
    p99_ms: Option<f64>,
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let here = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_path_buf));
    let base: PathBuf =
        arguments.next().map(PathBuf::from).or(here).expect("a folder is given, or this program has one");
    let seconds = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(3);
    let span = Duration::from_secs(seconds);
    let snapshot_rows = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(SNAPSHOT_ROWS);
    let folder = tempfile::TempDir::new_in(&base).expect("a folder can be made");
    println!("folder {} ({})", base.display(), file_system(&base));
    memory(span);
    let site = Site::Folder(folder.path().to_path_buf());
    let goal = Goal { name: "SQLite", transfers_per_s: 400_000.0, p99_ms: Some(10.0) };
    let mut by_hand = HandMadeSqlite::open(&folder.path().join("by_hand.sqlite3"));
    measure(&site, &goal, &mut by_hand, (folder.path(), snapshot_rows), span);
    let Ok(url) = std::env::var("FLORIN_TEST_MARIADB") else {
        println!("MariaDB: not measured, FLORIN_TEST_MARIADB is not set (scripts/mariadb run …)");
        return;
    };
    let prefix = format!("florin_speed{}", std::process::id());
    let site = Site::Server(MariaServer::new(&url, &prefix).expect("the address is one"));
    let goal = Goal { name: "MariaDB", transfers_per_s: 100_000.0, p99_ms: None };
    let mut by_hand = HandMadeMaria::open(&url, &format!("{prefix}_by_hand"));
    let folder = tempfile::TempDir::new_in(&base).expect("a folder can be made");
    measure(&site, &goal, &mut by_hand, (folder.path(), snapshot_rows), span);
}

/// The peer of the ledger in memory, which `ledger_speed` of the crate `florin-core` measures.
fn memory(span: Duration) {
    let mut by_hand = HandMadeSqlite::in_memory();
    let mut rates: Vec<f64> = (0..ROUNDS).map(|_| by_hand.run(1_000, span)).collect();
    println!("SQLite in memory, by hand, a thousand a transaction: {:.0} transfers/s", median(&mut rates));
    println!("peer\tmemory\t{:.0}", median(&mut rates));
}

/// Everything about one store: in turns ours, by hand, and the disk.
fn measure(site: &Site, goal: &Goal, by_hand: &mut dyn HandMade, (folder, rows): (&Path, u64), span: Duration) {
    let platform = Platform::start(site, folder, rows);
    // Before the bulk runs, whose pages the system goes on writing for a while.
    open_loop(&platform, goal, folder, span);
    let mut bulk = Vec::new();
    let (mut single, mut thousand, mut device) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let measured = platform.bulk(WINDOW, span);
        assert_eq!(measured.refused(), 0, "a session that waits for room is never refused");
        println!("{}: {WINDOW} commands of 1,000 under way: {measured}", goal.name);
        single.push(by_hand.run(1, span));
        thousand.push(by_hand.run(1_000, span));
        let size = measured.row_bytes() as usize;
        let syncs = Device::open(folder).run(size, span);
        println!("  the disk alone: {syncs}, {size} B each");
        device.push(syncs.per_s * measured.transfers_per_row());
        bulk.push(measured);
    }
    let mut rates: Vec<f64> = bulk.iter().map(Measured::per_s).collect();
    let ours = median(&mut rates);
    let bulk_name = format!("{}, 1,000 a command", goal.name);
    result(&bulk_name, ours, median(&mut single), goal.transfers_per_s, "transfers/s", "by hand, 1 a transaction");
    result(&bulk_name, ours, median(&mut thousand), 0.0, "transfers/s", "by hand, 1,000 a transaction");
    result(&bulk_name, ours, median(&mut device), 0.0, "transfers/s", "equal rows to a file, synced");
    // Few under way, so that the time is that of the work and not of the queue.
    let measured = platform.bulk(1, span);
    println!("{}: one command of 1,000 under way: {measured}", goal.name);
    println!("{}: the last snapshot, of one in {rows} rows, is of row {}", goal.name, platform.snapshot());
    assert!(platform.stop(), "what was asked became durable in time");
}

/// Single transfers, offered at a rate that does not wait for answers.
fn open_loop(platform: &Platform, goal: &Goal, folder: &Path, span: Duration) {
    let (mut ours, mut device) = (Vec::new(), Vec::new());
    for load in [Load::Session, Load::Request] {
        ours.clear();
        device.clear();
        for _ in 0..LATENCY_ROUNDS {
            let measured = platform.open_loop(load, OFFERED_PER_S, span);
            println!("{}: {OFFERED_PER_S} single transfers offered a second, {load:?}: {measured}", goal.name);
            println!("  the last snapshot is of row {}", platform.snapshot());
            ours.push(measured.latency_ms(0.99));
            let size = measured.row_bytes() as usize;
            let syncs = Device::open(folder).run(size, span / 3);
            println!("  the disk alone: {syncs}, {size} B each");
            device.push(syncs.p99_ms);
        }
        let name = format!("{}, {OFFERED_PER_S} single/s, {load:?}, p99", goal.name);
        let goal_ms = goal.p99_ms.unwrap_or(0.0);
        result(&name, median(&mut ours), median(&mut device), goal_ms, "ms", "equal rows to a file, synced");
    }
}

/// One line for people and one for programs. A goal of 0 is none.
fn result(work: &str, ours: f64, peer: f64, goal: f64, unit: &str, what: &str) {
    println!("{work}: {ours:.2} {unit}; {what}: {peer:.2} {unit}");
    println!("result\t{work}\t{ours:.2}\t{peer:.2}\t{:.2}\t{goal}\t{unit}\t{what}", ours / peer);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The kind of file system that a folder lies on: a figure from memory would say nothing about a disk.
fn file_system(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?.to_owned(), words.next()?.to_owned());
        folder.starts_with(&point).then_some((point.len(), kind))
    };
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map_or("unknown".to_owned(), |(_, kind)| kind)
}
