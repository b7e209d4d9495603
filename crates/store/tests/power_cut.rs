//! Power cuts, failing syncs and kills of a process that appends to a SQLite journal: nothing that was acknowledged is lost,
//! and the chain never breaks. The disk is played by `power_cut/shim.c`.
//!
//! Each test starts its own executable again as the process that dies.

use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{Journal, Row};
use florin_store::conformance::{Random, assert_linked};
use florin_store::fail_stop::{EXIT_STORAGE, FailStop};
use florin_store::sqlite::journal::{FILE, SqliteJournal};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// Set for a process that is to append, to the journal's folder.
const FOLDER: &str = "FLORIN_POWER_CUT_FOLDER";
/// Small, so that checkpoints happen in every run.
const CHECKPOINT_BYTES: u64 = 200_000;
/// Rows after which a process that nothing befell ends by itself.
const ROWS_MAX: u64 = 400;
const SIGKILL: i32 = 9;

/// Row contents depend on their number alone, so that whoever reads them knows what they must be.
fn payload(seq: Seq) -> Vec<u8> {
    let mut random = Random::new(seq.0);
    let size = if random.below(4) == 0 { random.below(60_000) } else { random.below(2_000) };
    random.bytes(size as usize)
}

/// In the process that dies: appends row after row and says each number once it is durable.
fn append_if_told() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let journal = match SqliteJournal::open(&Path::new(&folder).join(FILE)) {
        Ok(journal) => journal.with_checkpoint_bytes(CHECKPOINT_BYTES),
        Err(fault) => {
            eprintln!("{fault}: {:?}", std::error::Error::source(&fault).map(ToString::to_string));
            std::process::exit(if fault.is_fatal() { EXIT_STORAGE } else { 3 });
        }
    };
    let mut journal = FailStop(journal);
    let mut head = journal.head().expect("the journal answers").unwrap_or((Seq::START, Digest::ZERO));
    let mut out = std::io::stdout().lock();
    for _ in 0..ROWS_MAX {
        let seq = head.0.next();
        let row = Row::seal(seq, Epoch(1), LedgerTime(seq.0), head.1, payload(seq));
        journal.append(&row).expect("a fault that does not end the process is none of these tests'");
        writeln!(out, "durable {seq}").expect("the test listens");
        out.flush().expect("the test listens");
        head = (row.seq, row.hash);
    }
    std::process::exit(0);
}

struct Bench {
    folder: TempDir,
    test: &'static str,
    shim: Option<PathBuf>,
}

impl Bench {
    fn new(test: &'static str) -> Bench {
        Bench { folder: TempDir::new().expect("a folder can be made"), test, shim: None }
    }

    fn with_shim(test: &'static str) -> Bench {
        let mut bench = Bench::new(test);
        let shim = bench.folder.path().join("shim.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/power_cut/shim.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([shim.as_os_str(), source.as_ref(), "-ldl".as_ref()])
            .status()
            .expect("a C compiler, `cc`, is installed");
        assert!(compiled.success(), "the shim compiles");
        bench.shim = Some(shim);
        bench
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    fn start(&self, folder: &Path, settings: &[(&str, u64)]) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("this executable is known"));
        command.args(["--exact", self.test, "--nocapture", "--test-threads=1"]);
        command.env(FOLDER, folder).stdout(Stdio::piped());
        if let Some(shim) = &self.shim {
            command.env("LD_PRELOAD", shim);
        }
        for (name, value) in settings {
            command.env(name, value.to_string());
        }
        command.spawn().expect("this executable starts")
    }

    /// Runs a process to its end; says how it ended and the last row that it called durable.
    fn run(&self, folder: &Path, settings: &[(&str, u64)]) -> (ExitStatus, Option<Seq>) {
        let mut child = self.start(folder, settings);
        let out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let acknowledged = out.lines().map_while(Result::ok).filter_map(|line| durable(&line)).last();
        (child.wait().expect("the process ends"), acknowledged)
    }

    /// What stands in the journal, all of it checked.
    fn rows(&self, folder: &Path) -> Vec<Row> {
        let mut journal = SqliteJournal::open(&self.path(folder)).expect("the journal opens after a crash");
        let rows = journal.read(Seq::START, usize::MAX).expect("the journal is whole after a crash");
        assert_linked(&rows);
        for row in &rows {
            assert!(row.payload == payload(row.seq), "row {} holds something else", row.seq);
        }
        rows
    }
}

fn durable(line: &str) -> Option<Seq> {
    // The test harness may have begun the line.
    Some(Seq(line.split_once("durable ")?.1.parse().ok()?))
}

/// All that was acknowledged is there, and at most one row more, whose writer never heard.
fn assert_nothing_lost(rows: &[Row], acknowledged: Seq, what: &str) {
    let last = rows.last().map_or(Seq::START, |row| row.seq);
    assert!(last >= acknowledged, "{what}: row {acknowledged} was acknowledged, {last} is the last");
    assert!(last.0 <= acknowledged.0 + 1, "{what}: row {acknowledged} was acknowledged last, {last} is the last");
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    append_if_told();
    const JOURNALS: u64 = 25;
    const CUTS: u64 = 5;
    let bench = Bench::with_shim("power_cuts_lose_nothing_acknowledged");
    let (mut unacknowledged, mut early) = (0, 0);
    for seed in 0..JOURNALS {
        let folder = TempDir::new_in(bench.folder.path()).expect("a folder can be made");
        let mut acknowledged = Seq::START;
        for cut in 0..CUTS {
            let mut random = Random::new(seed * CUTS + cut);
            let bound = if random.below(4) == 0 { 40 } else { 1_500 };
            let at = 1 + random.below(bound);
            let what = format!("seed {seed}, cut {cut} at {at}");
            let (status, last) =
                bench.run(folder.path(), &[("SHIM_SEED", random.next_u64() >> 1), ("SHIM_CUT_AT", at)]);
            assert_eq!(status.signal(), Some(SIGKILL), "{what}: the cut came ({status})");
            early += u32::from(last.is_none());
            acknowledged = last.unwrap_or(acknowledged);
            let rows = bench.rows(folder.path());
            assert_nothing_lost(&rows, acknowledged, &what);
            let last = rows.last().map_or(Seq::START, |row| row.seq);
            unacknowledged += u32::from(last > acknowledged);
            acknowledged = last;
        }
    }
    eprintln!("{early} cuts before the first row, {unacknowledged} rows survived unacknowledged");
    assert!(early > 0, "no cut hit the opening of a journal");
    assert!(early < 60, "too many cuts came before the first row");
}

#[test]
fn a_failed_sync_ends_the_process_and_no_later_row_stands_on_lost_ones() {
    append_if_told();
    let bench = Bench::with_shim("a_failed_sync_ends_the_process_and_no_later_row_stands_on_lost_ones");
    for seed in 0..40u64 {
        let folder = TempDir::new_in(bench.folder.path()).expect("a folder can be made");
        let mut random = Random::new(seed);
        let fail_at = 1 + if seed < 10 { seed } else { random.below(80) };
        let what = format!("seed {seed}, sync {fail_at} fails");
        let settings = [("SHIM_SEED", random.next_u64() >> 1), ("SHIM_FAIL_AT", fail_at)];
        let (status, last) = bench.run(folder.path(), &settings);
        assert_eq!(status.code(), Some(EXIT_STORAGE), "{what}: {status}");
        let acknowledged = last.unwrap_or(Seq::START);

        // The system goes on and shows what it has lost. The next process may not build on that.
        let settings = [("SHIM_SEED", random.next_u64() >> 1), ("SHIM_CUT_AT", 60 + random.below(600))];
        let (status, last) = bench.run(folder.path(), &settings);
        assert_eq!(status.signal(), Some(SIGKILL), "{what}: the cut came ({status})");
        assert!(last.is_some_and(|last| last > acknowledged), "{what}: the second process went on: {last:?}");
        assert_nothing_lost(&bench.rows(folder.path()), last.unwrap_or(acknowledged), &what);
    }
}

#[test]
fn a_failed_sync_before_a_power_cut_loses_nothing_acknowledged() {
    append_if_told();
    let bench = Bench::with_shim("a_failed_sync_before_a_power_cut_loses_nothing_acknowledged");
    for seed in 100..120u64 {
        let folder = TempDir::new_in(bench.folder.path()).expect("a folder can be made");
        let mut random = Random::new(seed);
        let settings = [("SHIM_SEED", random.next_u64() >> 1), ("SHIM_FAIL_AT", 10 + random.below(70))];
        let (status, last) = bench.run(folder.path(), &settings);
        assert_eq!(status.code(), Some(EXIT_STORAGE), "seed {seed}: {status}");
        // The machine goes down before another process has looked.
        for file in [FILE.to_owned(), format!("{FILE}-wal")] {
            let file = folder.path().join(file);
            let mut image = file.clone().into_os_string();
            image.push(".durable");
            std::fs::rename(image, file).expect("what is durable takes the file's place");
        }
        assert_nothing_lost(&bench.rows(folder.path()), last.unwrap_or(Seq::START), &format!("seed {seed}"));
    }
}

#[test]
fn kills_lose_nothing_acknowledged() {
    append_if_told();
    let bench = Bench::new("kills_lose_nothing_acknowledged");
    let folder = bench.folder.path();
    let mut acknowledged = Seq::START;
    for kill in 0..40u64 {
        let wait = Random::new(kill).below(30);
        let mut child = bench.start(folder, &[]);
        let out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut lines = out.lines().map_while(Result::ok).filter_map(|line| durable(&line));
        for seq in lines.by_ref().take(wait as usize) {
            acknowledged = seq;
        }
        child.kill().expect("the process is killed");
        acknowledged = lines.last().unwrap_or(acknowledged);
        let status = child.wait().expect("the process ends");
        assert_eq!(status.signal(), Some(SIGKILL), "kill {kill}: {status}");
        let rows = bench.rows(folder);
        assert_nothing_lost(&rows, acknowledged, &format!("kill {kill}"));
        acknowledged = rows.last().map_or(Seq::START, |row| row.seq);
    }
    assert!(acknowledged.0 >= 100, "the processes got somewhere: {acknowledged}");
}
