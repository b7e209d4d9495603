//! Processes that a test starts, stops and kills. Signals go to these alone, by their numbers, and none outlives its test.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take that takes a second or two: a busy machine may need many.
pub const WAIT: Duration = Duration::from_secs(120);

/// How often a thing is looked at that is waited for.
pub const LOOK: Duration = Duration::from_millis(20);

/// Waits until `look` finds something.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < WAIT, "waited {} s in vain for: {what}", WAIT.as_secs());
        std::thread::sleep(LOOK);
    }
}

/// A process of this program.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    first: Option<String>,
}

/// The program as it is now, under a name of this test's own: a build that goes on beside a test must not exchange the
/// program between two kills.
pub struct Program {
    _folder: TempDir,
    pub path: PathBuf,
}

impl Program {
    pub fn new() -> Program {
        // On the same disk as the program, so that it need not be copied.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let path = folder.path().join("florin");
        std::fs::hard_link(env!("CARGO_BIN_EXE_florin"), &path).expect("it is linked");
        Program { _folder: folder, path }
    }
}

/// What became of a start.
#[derive(Debug)]
pub enum Start {
    /// It said its first line.
    Up(String),
    /// It ended.
    Ended,
}

impl Process {
    /// Starts `florin` with these arguments; what it logs is appended to a file.
    pub fn spawn(program: &Path, arguments: &[&str], log: &Path) -> Process {
        Process::spawn_with(program, arguments, log, &[])
    }

    /// As [`Process::spawn`], with more in its environment.
    pub fn spawn_with(program: &Path, arguments: &[&str], log: &Path, more: &[(&str, OsString)]) -> Process {
        let log = File::options().append(true).create(true).open(log).expect("the log can be written");
        let mut child = Command::new(program)
            .args(arguments)
            .env("FLORIN_LOG", "warn")
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program runs");
        let stdout = child.stdout.take().expect("it is piped");
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Process { child, lines, first: None }
    }

    /// The first line on its standard output, once it is there.
    pub fn first_line(&mut self) -> Option<String> {
        if self.first.is_none() {
            self.first = self.lines.try_recv().ok();
        }
        self.first.clone()
    }

    /// Waits until it says its first line, or ends.
    #[track_caller]
    pub fn wait_up(&mut self) -> Start {
        if let Some(line) = self.first_line() {
            return Start::Up(line);
        }
        match self.lines.recv_timeout(WAIT) {
            Ok(line) => {
                self.first = Some(line.clone());
                Start::Up(line)
            }
            Err(RecvTimeoutError::Timeout) => panic!("process {} says nothing", self.child.id()),
            Err(RecvTimeoutError::Disconnected) => {
                self.child.wait().expect("it is ours");
                Start::Ended
            }
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; whether that was a good one.
    pub fn ends_well(&mut self) -> bool {
        self.child.wait().expect("it is ours").success()
    }

    /// SIGKILL, and waits until nothing of it is left.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// SIGSTOP: it does nothing more, and keeps everything open.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()), "process {} takes signals", self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already can't be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers from a seed (SplitMix64, by Steele, Lea and Flood).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The seed that `FLORIN_SEED` names, or another one each time; printed either way.
    pub fn of_test(name: &str) -> Random {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let named = std::env::var("FLORIN_SEED").ok().map(|text| text.parse().expect("FLORIN_SEED is a number"));
        let seed = named.unwrap_or(since.as_secs() ^ u64::from(since.subsec_nanos()));
        eprintln!("{name}: FLORIN_SEED={seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` up to, and without, `high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// True once in `count` times.
    pub fn once_in(&mut self, count: u64) -> bool {
        self.within(0, count) == 0
    }

    pub fn split(&mut self) -> Random {
        Random(self.next())
    }

    pub fn pause(&mut self, low_ms: u64, high_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.within(low_ms, high_ms)));
    }
}
