//! The demo's story as a test: on the network in process and on a real bitcoind, with the books in SQLite and in MariaDB. The story checks every sentence that it says.

use florin::config::{Config, FILE_NAME};
use florin::demo::stage::Stage;
use florin::demo::world::World;
use florin::demo::{Demo, Site};
use florin::platform::Stores;
use florin_core::id::Seq;
use florin_devnet::bitcoind::Bitcoind;
use florin_engine::load::load_counted;
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// Where the books are kept.
enum Books {
    Sqlite,
    Mariadb,
}

fn site(folder: &Path, books: &Books) -> Site {
    let mariadb = match books {
        Books::Sqlite => None,
        Books::Mariadb => {
            let url = std::env::var("FLORIN_TEST_MARIADB").expect("run the tests by 'scripts/mariadb run COMMAND'");
            let file = folder.join("mariadb.url");
            std::fs::write(&file, url).expect("written");
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
            Some(file)
        }
    };
    Site { folder: folder.to_owned(), port: 0, mariadb, program: PathBuf::from(env!("CARGO_BIN_EXE_florin")) }
}

fn on_devnet(books: &Books) {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::start().expect("a world");
    let demo = Demo::start(&site(folder.path(), books), world).expect("a demo");
    demo.tell(Stage::new()).expect("the story holds");
    drop(demo);
    starts_from_a_snapshot(folder.path());
}

/// The story left a snapshot, and the next start folds only what came after it.
fn starts_from_a_snapshot(folder: &Path) {
    let config = Config::read(&folder.join(FILE_NAME)).expect("a configuration");
    let mut stores = Stores::open(&config).expect("nobody uses them any more");
    let (loaded, from) = load_counted(stores.history.as_mut(), stores.snapshots.as_mut()).expect("a state");
    assert!(from > Seq::START && from <= loaded.place.seq, "from row {from} to {:?}", loaded.place);
    assert_eq!(loaded.state.counters().seq, loaded.place.seq);
}

fn on_bitcoind(books: &Books) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("bitcoind");
    std::fs::create_dir(&data).expect("made");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let node = Bitcoind::start(&root, &data, &[]).expect("bitcoind runs");
    let auth = format!("{}:{}", node.credentials().user, node.credentials().password);
    let url = format!("http://127.0.0.1:{}", node.port());
    let world = World::start().expect("a world");
    let demo = Demo::start_on_bitcoind(&site(folder.path(), books), world, &url, &auth).expect("a demo");
    demo.tell(Stage::new()).expect("the story holds");
}

#[test]
fn the_story_holds_on_the_network_in_process_with_sqlite() {
    on_devnet(&Books::Sqlite);
}

#[test]
fn the_story_holds_on_the_network_in_process_with_mariadb() {
    on_devnet(&Books::Mariadb);
}

#[test]
fn the_story_holds_on_bitcoind_with_sqlite() {
    on_bitcoind(&Books::Sqlite);
}

#[test]
fn the_story_holds_on_bitcoind_with_mariadb() {
    on_bitcoind(&Books::Mariadb);
}

#[test]
fn a_port_in_use_is_named_before_anything_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("an address").port().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("demo");
    let demo = Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(["demo", "--once", "--port", &port, "--dir"])
        .arg(&place)
        .output()
        .expect("it starts");
    let said = String::from_utf8(demo.stderr).expect("text");
    assert_eq!(demo.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error[listen_failed]") && said.contains(&format!("port {port} ")), "{said}");
    assert!(said.contains("--port 0") && !said.contains("florin.toml"), "{said}");
    assert!(!place.exists(), "the same folder can be named again");
}

/// A demo as a process of its own, which ends with its test.
struct Running {
    demo: Child,
    lines: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
}

impl Running {
    fn start(words: &[&str]) -> Running {
        Running::with(&[&["--dir", "a demo"], words].concat())
    }

    /// One that makes a folder for itself, among the temporary ones.
    fn in_temporary() -> Running {
        Running::with(&[])
    }

    /// Where that one is.
    fn temporary(&self) -> PathBuf {
        self.folder.path().join(format!("florin-demo-{}", self.demo.id()))
    }

    fn with(words: &[&str]) -> Running {
        let folder = tempfile::tempdir().expect("a folder");
        let mut demo = Command::new(env!("CARGO_BIN_EXE_florin"))
            .args(["demo", "--port", "0"])
            .args(words)
            .current_dir(folder.path())
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines();
        Running { demo, lines, folder }
    }

    /// Reads on until a line is of interest.
    fn until(&mut self, is_it: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            let line = line.expect("text");
            if is_it(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("it ended: {}", seen.join("\n"));
    }

    /// The signer's process: the one that the demo started.
    fn signer(&self) -> u32 {
        let demo = self.demo.id().to_string();
        let processes = std::fs::read_dir("/proc").expect("processes").filter_map(|entry| {
            let number: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(format!("/proc/{number}/status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned();
            (parent == demo).then_some(number)
        });
        let started: Vec<u32> = processes.collect();
        assert_eq!(started.len(), 1, "a demo starts one process: {started:?}");
        started[0]
    }

    /// Its exit code, what it still said, and what it said of faults.
    fn end(mut self) -> (Option<i32>, String, String) {
        let rest: Vec<String> = self.lines.by_ref().map(|line| line.expect("text")).collect();
        let mut faults = String::new();
        self.demo.stderr.take().expect("a pipe").read_to_string(&mut faults).expect("text");
        (self.demo.wait().expect("it ends").code(), rest.join("\n"), faults)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already can't be killed.
        let _ = self.demo.kill();
        let _ = self.demo.wait();
    }
}

#[test]
fn a_demo_whose_signer_is_killed_does_not_hold() {
    let mut running = Running::start(&["--once"]);
    let command = running.until(|line| line.ends_with(" status"));
    // What it prints can be typed as it stands, in whatever folder.
    let asked = Command::new("sh").args(["-c", command.trim()]).current_dir("/").output().expect("a shell");
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(asked.status.success() && said.contains("leading"), "{command}: {said} {asked:?}");
    running.until(|line| line.starts_with("2. "));
    let signer = running.signer().to_string();
    assert!(Command::new("kill").args(["-KILL", &signer]).status().expect("kill is there").success());
    let (code, said, faults) = running.end();
    assert_eq!(code, Some(1), "{said}\n{faults}");
    assert!(faults.starts_with("error[signer_ended]"), "{faults}");
    assert!(!said.contains("everything held"), "{said}");
}

#[test]
fn a_demo_of_which_one_sentence_does_not_hold_ends_with_1_and_names_it() {
    let mut running = Running::start(&["--once"]);
    let command = running.until(|line| line.ends_with(" status"));
    let command = command.trim().strip_suffix(" status").expect("as it was looked for").to_owned();
    let second = running.until(|line| line.contains("Second customer: "));
    let second = second.trim().strip_prefix("Second customer: ").expect("as it was looked for").to_owned();
    // The house has coins from here on. Somebody gives the customer one of whom the story says that she has nothing.
    running.until(|line| line.starts_with("4. "));
    let gift =
        format!("{command} correct --reference gift --asset BTC --amount 0.01 --debit inventory --credit {second}");
    let given = Command::new("sh").args(["-c", &gift]).output().expect("a shell");
    assert!(given.status.success(), "{given:?}");
    let (code, said, faults) = running.end();
    assert_eq!(code, Some(1), "{said}\n{faults}");
    assert!(faults.starts_with("error[story_broken]: this does not hold: the deposit is back to seen"), "{faults}");
    assert!(!said.contains("everything held"), "{said}");
}

#[test]
fn a_demo_that_is_told_to_end_leaves_no_signer_behind() {
    // A folder of its own stays; a temporary one goes, and the signer before it.
    for (signal, is_temporary) in [("-INT", true), ("-TERM", true), ("-TERM", false)] {
        let mut running = if is_temporary { Running::in_temporary() } else { Running::start(&[]) };
        running.until(|line| line.ends_with(" status"));
        let signer = PathBuf::from(format!("/proc/{}", running.signer()));
        let place = if is_temporary { running.temporary() } else { running.folder.path().join("a demo") };
        assert!(place.join("signer/memory.sqlite3").exists() && signer.exists());
        let demo = running.demo.id().to_string();
        assert!(Command::new("kill").args([signal, &demo]).status().expect("kill is there").success());
        assert_eq!(running.demo.wait().expect("it ends").code(), Some(130), "{signal}");
        assert!(!signer.exists(), "the signer ends first");
        assert_eq!(place.exists(), !is_temporary, "{signal}");
        if !is_temporary {
            let log = place.join("signer/memory.sqlite3-wal");
            assert!(log.metadata().map_or(0, |log| log.len()) == 0, "its memory is settled");
        }
        let (_, _, faults) = running.end();
        assert_eq!(faults, "", "{signal}: nobody has anything to say of it");
    }
}

#[test]
fn a_demo_under_which_the_journal_is_set_back_ends_with_70_and_says_why() {
    let mut running = Running::start(&[]);
    running.until(|line| line.starts_with("It stays up"));
    let journal =
        rusqlite::Connection::open(running.folder.path().join("a demo/data/journal.sqlite3")).expect("it opens");
    journal.execute("DELETE FROM journal WHERE seq > (SELECT max(seq) FROM journal) - 2", []).expect("deleted");
    drop(journal);
    let (code, _, faults) = running.end();
    assert_eq!(code, Some(florin::platform::EXIT_ENGINE), "{faults}");
    assert!(faults.contains("the engine stops") && faults.contains("code=\"journal_"), "{faults}");
}
