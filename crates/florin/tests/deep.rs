//! A reorganisation far below the blocks that the state keeps, on a real bitcoind and with a database server: all that a whole story
//! booked on the chain is taken back and mined anew, and the books agree with the chain before, between and after.

use florin::cli::run;
use florin::config::{Config, FILE_NAME};
use florin::demo::stage::Stage;
use florin::demo::world::World;
use florin::demo::{Demo, Site};
use florin::node::rpc::Rpc;
use florin_core::id::ChainId;
use florin_core::journal::Journal;
use florin_core::state::State;
use florin_devnet::bitcoind::Bitcoind;
use florin_engine::audit::judge_rows;
use florin_store::archive::{Archive, WithArchive};
use florin_store::maria::MariaServer;
use florin_store::maria::journal::MariaJournal;
use florin_store::sqlite::journal::{self, SqliteJournal};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long anything may take that takes a second or two: a busy machine may need many.
const WAIT: Duration = Duration::from_secs(120);

/// Blocks that the state keeps: as few as a policy of more than six confirmations allows, and some.
const KEPT: u32 = 10;

/// Blocks of the world before the story.
const BEFORE: u32 = 101;

struct Running<'a> {
    folder: &'a Path,
    world: &'a World,
    /// A reader of its journal.
    journal: &'a dyn Fn() -> Box<dyn Journal>,
}

impl Running<'_> {
    /// What a command says, which has to succeed.
    #[track_caller]
    fn said(&self, words: &[&str]) -> Value {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let config = self.folder.join(FILE_NAME);
        let common = ["florin", "--json", "--config", config.to_str().expect("text")];
        let code = run(common.iter().chain(words).map(OsString::from), &mut out, &mut err);
        let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{words:?}: {fault}: {out}"))
    }

    /// Waits until the platform's last block is this one.
    fn follows(&self, tip: &str) {
        self.until("the platform follows", || {
            (self.said(&["block", "list", "--limit", "1"])["items"][0]["hash"] == json!(tip)).then_some(())
        });
    }

    #[track_caller]
    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            self.world.exchange().expect("the node takes what is mined");
            if let Some(found) = look() {
                return found;
            }
            assert!(start.elapsed() < WAIT, "waited in vain for: {what}: {}", self.said(&["status"]));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Journal, tables and the node agree, and every row's books are right. Gives the state that the journal folds to.
    fn agrees(&self) -> State {
        let verified = self.until("the node is where the journal is", || {
            let verified = self.said(&["ledger", "verify"]);
            let compared = verified["compared"].as_array().expect("a list");
            compared.iter().any(|one| one["with"] == json!("node node 1")).then_some(verified)
        });
        let compared = verified["compared"].as_array().expect("a list");
        assert!(compared.iter().all(|one| one["agrees"] == json!(true)) && compared.len() > 11, "{verified}");
        let mut faults = Vec::new();
        let report = judge_rows((self.journal)().as_mut(), |seen| faults.extend(seen.check_books()), |_| ());
        assert!(report.wrong.is_none() && faults.is_empty(), "{:?} {faults:?}", report.wrong);
        assert_eq!(self.said(&["books"])["balanced"], json!(true));
        report.state.expect("every row is right")
    }

    /// What everyone has, and what became of everything.
    fn had(&self) -> Vec<Value> {
        let customers = self.said(&["customer", "list"])["items"].clone();
        let customers = customers.as_array().expect("a list").iter().map(|customer| customer["id"].clone());
        let mut had: Vec<Value> = customers
            .map(|id| self.said(&["customer", "balances", id.as_str().expect("an id")])["items"].clone())
            .collect();
        had.push(self.said(&["books"])["items"].clone());
        assert!(
            had.len() > 2 && had.iter().all(|one| one.as_array().is_some_and(|items| !items.is_empty())),
            "{had:?}"
        );
        had
    }

    fn statuses(&self, of: &str) -> Vec<String> {
        let items = self.said(&[of, "list"])["items"].clone();
        let status = |item: &Value| item["status"].as_str().expect("a status").to_owned();
        items.as_array().expect("a list").iter().map(status).collect()
    }

    /// The reasons of the halts, by action.
    fn halts(&self) -> Vec<(String, String)> {
        let halts = self.said(&["status"])["halts"].clone();
        let text = |halt: &Value, name: &str| halt[name].as_str().expect("text").to_owned();
        let mut halts: Vec<_> =
            halts.as_array().expect("a list").iter().map(|halt| (text(halt, "action"), text(halt, "reason"))).collect();
        halts.sort();
        halts
    }
}

/// The chain leaves what the story booked, and comes back to it.
fn the_chain_leaves_the_story(running: &Running<'_>) {
    let world = running.world;
    let kept = KEPT.to_string();
    running.said(&["asset", "policy", "BTC", "--kept-blocks", &kept]);
    let last = world.mine(45).expect("blocks").pop().expect("45").mined;
    running.follows(&last.hash.to_string());
    let (had, deposits, withdrawals) = (running.had(), running.statuses("deposit"), running.statuses("withdrawal"));
    assert!(deposits.iter().filter(|status| *status == "credited").count() > 1, "{deposits:?}");
    assert!(withdrawals.contains(&"final".to_owned()), "{withdrawals:?}");
    let state = running.agrees();
    assert_eq!(state.chains()[&ChainId(1)].blocks.len(), KEPT as usize + 1);
    assert!(state.plans().is_empty(), "what paid it has left the state");

    // The oldest rows are not even in the journal any more.
    let pruned = running.said(&["ledger", "prune", "--keep-days", "0", "--keep-rows", "3"]);
    assert!(pruned["deleted"].as_u64().is_some_and(|rows| rows > 50), "{pruned}");

    // A longer branch leaves before the story began; whatever was in its blocks waits again.
    let branch = world.fork(last.height - BEFORE).expect("a branch");
    assert!(branch.len() > 45, "{} blocks", branch.len());
    running.follows(&branch.last().expect("blocks").mined.hash.to_string());
    let halt = |action: &str| (action.to_owned(), "deep_reorganisation".to_owned());
    let halted = ["credit", "quote", "sign", "withdraw"].map(halt);
    assert_eq!(running.halts(), halted);
    assert!(running.statuses("deposit").iter().all(|status| status != "credited"));
    assert!(running.statuses("withdrawal").iter().all(|status| status != "final" && status != "confirmed"));
    let state = running.agrees();
    assert!(state.coins().is_empty() && !state.plans().is_empty(), "nothing is on the chain, and all is known again");

    // Everything is mined once more, and is what it was: credited once, paid once.
    let last = world.mine(KEPT + 5).expect("blocks").pop().expect("blocks").mined;
    running.follows(&last.hash.to_string());
    running.agrees();
    assert_eq!((running.statuses("deposit"), running.statuses("withdrawal")), (deposits, withdrawals));
    assert_eq!(running.had(), had);
    assert_eq!(running.halts(), halted, "people have to look");
    for (action, reason) in &halted {
        running.said(&["resume", action, "--asset", "BTC", "--reason", reason]);
    }
    assert_eq!(running.halts(), []);
}

fn site(folder: &Path, mariadb: Option<PathBuf>) -> Site {
    Site { folder: folder.to_owned(), port: 0, mariadb, program: PathBuf::from(env!("CARGO_BIN_EXE_florin")) }
}

fn with_archive(folder: &Path, journal: Box<dyn Journal>) -> Box<dyn Journal> {
    let config = Config::read(&folder.join(FILE_NAME)).expect("a configuration");
    Box::new(WithArchive::new(journal, Archive::at(config.archive())))
}

fn private(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
    file
}

#[test]
fn a_reorganisation_below_the_kept_blocks_is_followed_on_bitcoind() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let data = folder.join("bitcoind");
    std::fs::create_dir(&data).expect("made");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let node = Bitcoind::start(&root, &data, &[]).expect("bitcoind runs");
    let auth = format!("{}:{}", node.credentials().user, node.credentials().password);
    let url = format!("http://127.0.0.1:{}", node.port());
    let mirror = Rpc::new(url.clone(), private(folder, "miner.auth", &auth));
    let world = World::start().and_then(|world| world.with_mirror(mirror)).expect("a world");
    let demo = Demo::start_on_bitcoind(&site(folder, None), world.clone(), &url, &auth).expect("a demo");
    demo.tell(Stage::new()).expect("the story holds");
    let path = folder.join("data").join(journal::FILE);
    let journal = || with_archive(folder, Box::new(SqliteJournal::open_reader(&path).expect("it opens")));
    the_chain_leaves_the_story(&Running { folder, world: &world, journal: &journal });
    drop(demo);
}

#[test]
fn a_reorganisation_below_the_kept_blocks_is_followed_with_mariadb() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let url = std::env::var("FLORIN_TEST_MARIADB").expect("run the tests by 'scripts/mariadb run COMMAND'");
    let file = private(folder, "mariadb.url", &url);
    let world = World::start().expect("a world");
    let demo = Demo::start(&site(folder, Some(file)), world.clone()).expect("a demo");
    demo.tell(Stage::new()).expect("the story holds");
    let text = std::fs::read_to_string(folder.join(FILE_NAME)).expect("text");
    let prefix = text.lines().find_map(|line| line.strip_prefix("prefix = \"")?.strip_suffix('"')).expect("a prefix");
    let server = MariaServer::new(&url, prefix).expect("an address");
    let journal = || with_archive(folder, Box::new(MariaJournal::open_reader(&server).expect("it opens")));
    the_chain_leaves_the_story(&Running { folder, world: &world, journal: &journal });
    drop(demo);
}
