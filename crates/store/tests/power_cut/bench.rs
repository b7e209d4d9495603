//! Power cuts, failing syncs and kills of a process that writes numbered records to one SQLite file and says each once it is durable:
//! nothing that was said is lost. The disk is played by `shim.c`. Which file, what the process writes and how it is read back is for
//! the test that includes this; every process that dies is its own executable, started again.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// Set for a process that is to write, to the file's folder.
const FOLDER: &str = "FLORIN_POWER_CUT_FOLDER";
/// Records after which a process that nothing befell ends by itself.
pub const RECORDS_MAX: u64 = 400;
/// How a process ends whose storage failed.
pub const EXIT_STORAGE: i32 = 74;
const SIGKILL: i32 = 9;

/// Numbers from a seed, the same on every machine: SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A seed of the shim's, which reads signed numbers.
    fn seed(&mut self) -> u64 {
        self.next() >> 1
    }
}

/// What a record holds: it depends on its number alone, so that whoever reads it knows what it must be. One in four is large.
pub fn content(number: u64) -> Vec<u8> {
    let mut draws = Draws::new(number);
    let size = if draws.below(4) == 0 { draws.below(60_000) } else { draws.below(2_000) };
    (0..size).map(|_| draws.next() as u8).collect()
}

/// In a process that dies: the folder of its file.
pub fn told() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// In a process that dies: a record is durable.
pub fn say(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "durable {number}").expect("the test listens");
    out.flush().expect("the test listens");
}

/// What a test file is about.
pub struct Subject {
    /// The file's name.
    pub file: &'static str,
    /// More writes and syncs than opening it takes after a crash: its log is copied then.
    pub opening: u64,
    /// Makes the file where the process that dies does not.
    pub make: fn(&Path),
    /// Opens it after whatever happened, holds every record against what it must be, and says the last one's number.
    pub last: fn(&Path) -> u64,
}

struct Bench<'a> {
    subject: &'a Subject,
    test: &'a str,
    folder: TempDir,
    shim: Option<PathBuf>,
}

impl<'a> Bench<'a> {
    fn new(subject: &'a Subject, test: &'a str) -> Bench<'a> {
        Bench { subject, test, folder: TempDir::new().expect("a folder can be made"), shim: None }
    }

    fn with_shim(subject: &'a Subject, test: &'a str) -> Bench<'a> {
        let mut bench = Bench::new(subject, test);
        let shim = bench.folder.path().join("shim.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../store/tests/power_cut/shim.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([shim.as_os_str(), source.as_ref(), "-ldl".as_ref()])
            .status()
            .expect("a C compiler, `cc`, is installed");
        assert!(compiled.success(), "the shim compiles");
        bench.shim = Some(shim);
        bench
    }

    /// A folder of its own for one file.
    fn fresh(&self) -> TempDir {
        let folder = TempDir::new_in(self.folder.path()).expect("a folder can be made");
        (self.subject.make)(&folder.path().join(self.subject.file));
        folder
    }

    fn start(&self, folder: &Path, settings: &[(&str, u64)]) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("this executable is known"));
        command.args(["--exact", self.test, "--nocapture", "--test-threads=1"]);
        command.env(FOLDER, folder).stdout(Stdio::piped());
        if let Some(shim) = &self.shim {
            command.env("LD_PRELOAD", shim).env("SHIM_FILE", self.subject.file);
        }
        for (name, value) in settings {
            command.env(name, value.to_string());
        }
        command.spawn().expect("this executable starts")
    }

    /// Runs a process to its end; says how it ended and the last record that it called durable.
    fn run(&self, folder: &Path, settings: &[(&str, u64)]) -> (ExitStatus, Option<u64>) {
        let mut child = self.start(folder, settings);
        let out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let acknowledged = out.lines().map_while(Result::ok).filter_map(|line| durable(&line)).last();
        (child.wait().expect("the process ends"), acknowledged)
    }

    fn last(&self, folder: &Path) -> u64 {
        (self.subject.last)(&folder.join(self.subject.file))
    }

    /// All that was acknowledged is there, and at most one record more, whose writer never heard. Says the last one.
    fn assert_nothing_lost(&self, folder: &Path, acknowledged: u64, what: &str) -> u64 {
        let last = self.last(folder);
        assert!(last >= acknowledged, "{what}: {acknowledged} was acknowledged, {last} is the last");
        assert!(last <= acknowledged + 1, "{what}: {acknowledged} was acknowledged last, {last} is the last");
        last
    }
}

fn durable(line: &str) -> Option<u64> {
    // The test harness may have begun the line.
    line.split_once("durable ")?.1.parse().ok()
}

/// Cuts the power in the middle of writing, again and again under the same files.
pub fn power_cuts(subject: &Subject, test: &str) {
    const FILES: u64 = 25;
    const CUTS: u64 = 5;
    let bench = Bench::with_shim(subject, test);
    let (mut unacknowledged, mut early) = (0, 0);
    for seed in 0..FILES {
        let folder = bench.fresh();
        let mut acknowledged = 0;
        for cut in 0..CUTS {
            let mut draws = Draws::new(seed * CUTS + cut);
            let bound = if draws.below(4) == 0 { 40 } else { 1_500 };
            let at = 1 + draws.below(bound);
            let what = format!("seed {seed}, cut {cut} at {at}");
            let (status, last) = bench.run(folder.path(), &[("SHIM_SEED", draws.seed()), ("SHIM_CUT_AT", at)]);
            assert_eq!(status.signal(), Some(SIGKILL), "{what}: the cut came ({status})");
            early += u32::from(last.is_none());
            acknowledged = last.unwrap_or(acknowledged);
            let last = bench.assert_nothing_lost(folder.path(), acknowledged, &what);
            unacknowledged += u32::from(last > acknowledged);
            acknowledged = last;
        }
    }
    eprintln!("{early} cuts before the first record, {unacknowledged} records survived unacknowledged");
    assert!(early > 0, "no cut hit the opening of a file");
    assert!(early < 60, "too many cuts came before the first record");
}

/// Fails a sync, and has a second process go on before the power is cut.
pub fn failed_syncs(subject: &Subject, test: &str) {
    let bench = Bench::with_shim(subject, test);
    for seed in 0..40u64 {
        let folder = bench.fresh();
        let mut draws = Draws::new(seed);
        let fail_at = 1 + if seed < 10 { seed } else { draws.below(80) };
        let what = format!("seed {seed}, sync {fail_at} fails");
        let (status, last) = bench.run(folder.path(), &[("SHIM_SEED", draws.seed()), ("SHIM_FAIL_AT", fail_at)]);
        assert_eq!(status.code(), Some(EXIT_STORAGE), "{what}: {status}");
        let acknowledged = last.unwrap_or(0);

        // The system goes on and shows what it has lost. The next process may not build on that.
        let settings = [("SHIM_SEED", draws.seed()), ("SHIM_CUT_AT", subject.opening + draws.below(600))];
        let (status, last) = bench.run(folder.path(), &settings);
        assert_eq!(status.signal(), Some(SIGKILL), "{what}: the cut came ({status})");
        assert!(last.is_some_and(|last| last > acknowledged), "{what}: the second process went on: {last:?}");
        bench.assert_nothing_lost(folder.path(), last.unwrap_or(acknowledged), &what);
    }
}

/// Fails a sync, and cuts the power before another process has looked.
pub fn failed_syncs_before_cuts(subject: &Subject, test: &str) {
    let bench = Bench::with_shim(subject, test);
    for seed in 100..120u64 {
        let folder = bench.fresh();
        let mut draws = Draws::new(seed);
        let settings = [("SHIM_SEED", draws.seed()), ("SHIM_FAIL_AT", 10 + draws.below(70))];
        let (status, last) = bench.run(folder.path(), &settings);
        assert_eq!(status.code(), Some(EXIT_STORAGE), "seed {seed}: {status}");
        for file in [subject.file.to_owned(), format!("{}-wal", subject.file)] {
            let file = folder.path().join(file);
            let mut image = file.clone().into_os_string();
            image.push(".durable");
            std::fs::rename(image, file).expect("what is durable takes the file's place");
        }
        bench.assert_nothing_lost(folder.path(), last.unwrap_or(0), &format!("seed {seed}"));
    }
}

/// Kills the process, again and again over the same file.
pub fn kills(subject: &Subject, test: &str) {
    let bench = Bench::new(subject, test);
    let folder = bench.fresh();
    let folder = folder.path();
    let mut acknowledged = 0;
    for kill in 0..40u64 {
        let wait = Draws::new(kill).below(30);
        let mut child = bench.start(folder, &[]);
        let out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut lines = out.lines().map_while(Result::ok).filter_map(|line| durable(&line));
        for number in lines.by_ref().take(wait as usize) {
            acknowledged = number;
        }
        child.kill().expect("the process is killed");
        acknowledged = lines.last().unwrap_or(acknowledged);
        let status = child.wait().expect("the process ends");
        assert_eq!(status.signal(), Some(SIGKILL), "kill {kill}: {status}");
        acknowledged = bench.assert_nothing_lost(folder, acknowledged, &format!("kill {kill}"));
    }
    assert!(acknowledged >= 100, "the processes got somewhere: {acknowledged}");
}
