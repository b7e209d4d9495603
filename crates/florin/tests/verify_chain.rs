//! `florin ledger verify` beside nodes and beside a database server: while the platform runs, everything agrees; afterwards the
//! journal or the tables are changed, and what differs is told by name, on the network in process and on a real bitcoind.

use florin::cli::{EXIT_FAILED, run};
use florin::config::FILE_NAME;
use florin::demo::stage::Stage;
use florin::demo::world::{NODES, World};
use florin::demo::{Demo, Site};
use florin::node::rpc::{Caller, Rpc};
use florin_core::amount::Amount;
use florin_core::custody::{Address, Beneficiary, Branch, Coin, KeyPath, OutPoint};
use florin_core::event::Event;
use florin_core::id::{ChainId, LedgerTime, Seq, TxId, WalletId};
use florin_core::journal::{Batch, Entry, Journal, Row};
use florin_core::state::State;
use florin_core::wire::{Bytes, Message};
use florin_devnet::bitcoind::Bitcoind;
use florin_devnet::http::{Credentials, Server as NodeServer, Settling};
use florin_devnet::network::NodeId;
use florin_devnet::outside::{AddressForm, OutsideWallet};
use florin_engine::audit::judge_journal;
use florin_store::sqlite::journal::{self, SqliteJournal};
use mysql::prelude::Queryable;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The seed of the wallet outside, whose scripts hold coins that are none of the platform's.
const OUTSIDE_SEED: [u8; 32] = [0x0f; 32];

fn site(folder: &Path, mariadb: Option<PathBuf>) -> Site {
    Site { folder: folder.to_owned(), port: 0, mariadb, program: PathBuf::from(env!("CARGO_BIN_EXE_florin")) }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

struct Verified {
    code: u8,
    report: Value,
    failure: Value,
}

fn verify(folder: &Path, words: &[&str]) -> Verified {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let config = folder.join(FILE_NAME);
    let common = ["florin", "ledger", "verify", "--json", "--config", config.to_str().expect("text")];
    let code = run(common.iter().chain(words).map(OsString::from), &mut out, &mut err);
    let failure = serde_json::from_slice(&err).unwrap_or(Value::Null);
    let report = serde_json::from_slice(&out).unwrap_or_else(|_| panic!("no report: {failure}"));
    Verified { code, report, failure }
}

impl Verified {
    fn list(&self, agrees: bool) -> Vec<(&str, &str)> {
        let compared = self.report["compared"].as_array().expect("a list").iter();
        let found = compared.filter(|one| one["agrees"] == agrees);
        found.map(|one| (one["with"].as_str().expect("a name"), one["code"].as_str().unwrap_or(""))).collect()
    }

    /// The nodes in one of the two lists.
    fn nodes(&self, agrees: bool) -> Vec<(&str, &str)> {
        self.list(agrees).into_iter().filter(|(name, _)| name.starts_with("node ")).collect()
    }
}

/// A running platform agrees with everything: its eleven tables, and as many nodes as it has.
fn check_running(folder: &Path, nodes: usize) {
    let verified = verify(folder, &["--require-chain"]);
    assert_eq!(verified.code, 0, "{}{}", verified.report, verified.failure);
    assert_eq!(verified.list(false), []);
    assert_eq!(verified.nodes(true).len(), nodes, "{}", verified.report);
    let tables = verified.list(true).into_iter().filter(|(name, _)| name.starts_with("table ")).count();
    assert_eq!(tables, 11, "{}", verified.report);
    let said = verified.report["compared"].as_array().expect("a list").iter().find(|one| one["with"] == "node node 1");
    let said = said.and_then(|one| one["detail"].as_str()).expect("the first node was compared");
    let coins: u32 = said.split(' ').next().and_then(|count| count.parse().ok()).expect("a count of coins");
    assert!(coins >= 3, "{said}");
}

/// Search tables that this build has not made yet are not compared, and nothing disagrees.
fn check_no_tables(folder: &Path) {
    let verified = verify(folder, &[]);
    assert_eq!((verified.code, verified.list(false)), (0, Vec::new()), "{}", verified.report);
    let mut skipped = verified.report["not_compared"].as_array().expect("a list").iter().filter_map(Value::as_str);
    assert!(
        skipped.any(|reason| reason.starts_with("search tables: not as this build makes them")),
        "{}",
        verified.report
    );
}

/// What a command that only reads says where it fails, on a configuration of its own.
fn refused(config: &Path, words: &[&str]) -> Value {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let common = ["florin", "--json", "--config", config.to_str().expect("text"), "ledger"];
    let code = run(common.iter().chain(words).map(OsString::from), &mut out, &mut err);
    assert_eq!((code, out.len()), (EXIT_FAILED, 0), "{words:?}");
    serde_json::from_slice(&err).expect("JSON")
}

/// Every command that only reads the journal, with folders that it would write into.
fn check_readers_refused(folder: &Path, config: &Path, expected: &str) {
    let [files, signatures] = ["files", "signatures"].map(|name| folder.join(name));
    let [to, into] = [&files, &signatures].map(|path| path.to_str().expect("text"));
    for words in
        [&["verify"][..], &["head"], &["export", to], &["prune", "--dry-run"], &["prune"], &["checkpoint", into]]
    {
        let failure = refused(config, words);
        assert_eq!(failure["code"], expected, "{words:?}: {failure}");
    }
    assert!(!files.exists() && !signatures.exists());
}

/// Where the prefix is mistyped or the tables are another build's, readers say so and change nothing on the server.
fn check_readers_change_nothing(folder: &Path, prefix: &str, conn: &mut mysql::Conn) {
    let config = folder.join("mistyped.toml");
    let text = fs::read_to_string(folder.join(FILE_NAME)).expect("text");
    // Of those that the server's user may make.
    let mistyped = "florin_mistyped";
    fs::write(&config, text.replace(&format!("prefix = \"{prefix}\""), &format!("prefix = \"{mistyped}\"")))
        .expect("written");
    check_readers_refused(folder, &config, "journal_missing");
    let made: Vec<String> = conn.query(format!("SHOW DATABASES LIKE '{mistyped}%'")).expect("it answers");
    assert_eq!(made, Vec::<String>::new(), "nothing is made");

    let config = folder.join(FILE_NAME);
    let version = format!("{prefix}_journal.florin_schema");
    let sql = format!("SELECT version FROM {version} WHERE component = 'journal'");
    let own: u32 = conn.query_first(&sql).expect("it answers").expect("a number");
    for (other, code) in [(own - 1, "store_older_schema"), (own + 1, "store_newer_schema")] {
        conn.query_drop(format!("UPDATE {version} SET version = {other} WHERE component = 'journal'")).expect("SQL");
        check_readers_refused(folder, &config, code);
        let stands: Option<u32> = conn.query_first(&sql).expect("it answers");
        assert_eq!(stands, Some(other), "it is nobody's to bring up to date");
    }
    conn.query_drop(format!("UPDATE {version} SET version = {own} WHERE component = 'journal'")).expect("SQL");
    let verified = verify(folder, &[]);
    assert_eq!((verified.code, verified.list(false)), (0, Vec::new()), "{}{}", verified.report, verified.failure);
}

/// The platform's folder, copied while nothing runs on it.
fn copy(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    fs::create_dir(copy.path().join("data")).expect("a folder");
    for name in [FILE_NAME, "node.auth"] {
        fs::copy(folder.join(name), copy.path().join(name)).expect("copied");
    }
    for entry in fs::read_dir(folder.join("data")).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), copy.path().join("data").join(entry.file_name())).expect("copied");
    }
    copy
}

/// Appends a row that fits in every way and that no engine decided on.
fn forge(folder: &Path, event: impl Fn(&State) -> Event) {
    let mut journal = SqliteJournal::open(&folder.join("data").join(journal::FILE)).expect("the journal opens");
    let report = judge_journal(&mut journal, |_, _| {}, |_| {});
    let state = report.state.expect("the journal is right");
    let last = journal.read(Seq(report.head.seq.0 - 1), 1).expect("rows").remove(0);
    let entry = Entry { command: None, request: None, events: vec![event(&state)], outcome: None };
    let payload = Batch { entries: vec![entry] }.encode();
    journal.append(&Row::seal(last.seq.next(), last.epoch, last.time, last.hash, payload)).expect("it is appended");
}

/// An address of ours whose script holds other people's coins.
fn foreign_address(state: &State) -> Event {
    let script = OutsideWallet::new(OUTSIDE_SEED).script(AddressForm::Segwit);
    let index = state.wallets()[&WalletId(1)].next_external;
    Event::AddressIssued(Address {
        path: KeyPath { wallet: WalletId(1), branch: Branch::External, index },
        script: Bytes(script.into_bytes()),
        beneficiary: Beneficiary::INVENTORY,
        issued: LedgerTime(0),
        used: false,
    })
}

/// A coin that was never paid.
fn invented_coin(state: &State) -> Event {
    let real = state.coins().values().find(|coin| coin.spent.is_none()).expect("there are coins");
    let outpoint = OutPoint { chain: ChainId(1), txid: TxId([0xab; 32]), vout: 7 };
    Event::CoinReceived(Coin { outpoint, amount: Amount::new(5), reserved: None, ..real.clone() })
}

/// A platform that has stopped beside nodes that still run: what is forged in its journal is told by each of them.
fn check_forged(folder: &Path, nodes: usize, mine: impl Fn()) {
    let clean = verify(folder, &["--require-chain"]);
    assert_eq!((clean.code, clean.nodes(true).len()), (0, nodes), "{}{}", clean.report, clean.failure);

    let forged = copy(folder);
    forge(forged.path(), foreign_address);
    let verified = verify(forged.path(), &[]);
    let unknown: Vec<&str> = verified.nodes(false).into_iter().map(|(_, code)| code).collect();
    assert_eq!(unknown, vec!["chain_coin_unknown"; nodes], "{}", verified.report);
    assert_eq!(verified.list(false).len(), nodes, "nothing else disagrees: {}", verified.report);
    assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &json!("address_not_derived")));

    let forged = copy(folder);
    forge(forged.path(), invented_coin);
    let verified = verify(forged.path(), &[]);
    let missing: Vec<&str> = verified.nodes(false).into_iter().map(|(_, code)| code).collect();
    assert_eq!(missing, vec!["chain_coin_missing"; nodes], "{}", verified.report);
    assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &json!("books_custody")));

    // Nodes that have gone on can't be compared, which is said, and fails where it is not accepted.
    mine();
    let ahead = verify(folder, &[]);
    let skipped = ahead.report["not_compared"].as_array().expect("a list").iter();
    let skipped = skipped.filter(|reason| reason.as_str().is_some_and(|text| text.contains("another block"))).count();
    assert_eq!((ahead.code, skipped, ahead.nodes(true).len()), (0, nodes, 0), "{}", ahead.report);
    let required = verify(folder, &["--require-chain"]);
    assert_eq!((required.code, &required.failure["code"]), (EXIT_FAILED, &json!("chain_not_compared")));
}

/// Nodes for the same network under new addresses, as the configuration then names them.
fn restarted_nodes(folder: &Path, world: &World) -> Vec<NodeServer> {
    let auth = fs::read_to_string(folder.join("node.auth")).expect("text");
    let (user, password) = auth.trim_end().split_once(':').expect("user and password");
    let credentials = Credentials { user: user.to_owned(), password: password.to_owned() };
    let start = |index| NodeServer::start(world.network(), NodeId(index), 0, &credentials, Settling::AfterEachCall);
    let nodes: Vec<NodeServer> = (0..NODES).map(|index| start(index).expect("a port is free")).collect();
    let text = fs::read_to_string(folder.join(FILE_NAME)).expect("text");
    let mut urls = nodes.iter().map(|node| format!("url = \"http://{}\"", node.address()));
    let mut is_node = false;
    let line = |line: &str| {
        is_node |= line == "[[bitcoin.node]]";
        let is_url = is_node && line.starts_with("url = ");
        if is_url { urls.next().expect("as many nodes as there were") } else { line.to_owned() }
    };
    let text: Vec<String> = text.lines().map(line).collect();
    assert!(urls.next().is_none(), "every node has its new address");
    fs::write(folder.join(FILE_NAME), text.join("\n")).expect("written");
    nodes
}

#[test]
fn the_network_in_process_is_compared_both_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::start().expect("a world");
    let demo = Demo::start(&site(folder.path(), None), world.clone()).expect("a demo");
    demo.tell(Stage::new()).expect("the story holds");
    check_running(folder.path(), NODES);
    drop(demo);
    let nodes = restarted_nodes(folder.path(), &world);
    check_forged(folder.path(), nodes.len(), || drop(world.mine(1).expect("a block")));
}

#[test]
fn bitcoind_is_compared_both_ways() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("bitcoind");
    fs::create_dir(&data).expect("made");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let node = Bitcoind::start(&root, &data, &[]).expect("bitcoind runs");
    let auth = format!("{}:{}", node.credentials().user, node.credentials().password);
    let url = format!("http://127.0.0.1:{}", node.port());
    let world = World::start().expect("a world");
    let demo = Demo::start_on_bitcoind(&site(folder.path(), None), world, &url, &auth).expect("a demo");
    demo.tell(Stage::new()).expect("the story holds");
    check_running(folder.path(), 1);
    drop(demo);
    let rpc = Rpc::new(url, folder.path().join("node.auth"));
    check_forged(folder.path(), 1, || {
        let address = OutsideWallet::new(OUTSIDE_SEED).address(AddressForm::Segwit).to_string();
        rpc.call("generatetoaddress", json!([1, address])).expect("a block");
    });
}

#[test]
fn tables_on_mariadb_are_compared_and_each_damaged_one_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = std::env::var("FLORIN_TEST_MARIADB").expect("run the tests by 'scripts/mariadb run COMMAND'");
    let file = folder.path().join("mariadb.url");
    write_private(&file, &url);
    let demo = Demo::start(&site(folder.path(), Some(file)), World::start().expect("a world")).expect("a demo");
    demo.tell(Stage::new()).expect("the story holds");
    check_running(folder.path(), NODES);
    drop(demo);
    let text = fs::read_to_string(folder.path().join(FILE_NAME)).expect("text");
    let prefix = text.lines().find_map(|line| line.strip_prefix("prefix = \"")?.strip_suffix('"')).expect("a prefix");
    let mut conn = mysql::Conn::new(mysql::Opts::from_url(&url).expect("an address")).expect("it answers");
    check_readers_change_nothing(folder.path(), prefix, &mut conn);
    conn.query_drop(format!("USE {prefix}_projection")).expect("it is there");
    let damages = [
        ("events", "UPDATE events SET at_ms = at_ms + 1", "table_record_differs"),
        ("mentions", "DELETE FROM mentions", "table_record_missing"),
        ("accounts", "UPDATE accounts SET credits_posted = debits_posted", "table_record_differs"),
        ("transfers", "DELETE FROM transfers", "table_record_missing"),
        ("holds", "INSERT INTO holds VALUES (999, 1, 2, UNHEX(REPEAT('00', 16)), 1)", "table_record_unexpected"),
        ("deposits", "UPDATE deposits SET amount = UNHEX(REPEAT('00', 16))", "table_record_differs"),
        ("withdrawals", "UPDATE withdrawals SET script = 'x'", "table_record_differs"),
        ("plans", "DELETE FROM plans", "table_record_missing"),
        ("blocks", "UPDATE blocks SET connected = 1 - connected", "table_record_differs"),
        ("quotes", "DROP TABLE quotes", "store_refused"),
    ];
    let mut expected: Vec<(String, &str)> = Vec::new();
    for (table, sql, code) in damages {
        conn.query_drop(sql).unwrap_or_else(|fault| panic!("{sql}: {fault}"));
        expected.push((format!("table {table}"), code));
        let verified = verify(folder.path(), &[]);
        let wrong: Vec<(String, &str)> =
            verified.list(false).into_iter().map(|(name, code)| (name.to_owned(), code)).collect();
        assert_eq!(wrong, expected, "{sql}: {}", verified.report);
        assert_eq!((verified.code, &verified.failure["code"]), (EXIT_FAILED, &json!("ledger_disagrees")));
        assert!(verified.report["wrong_row"].is_null());
    }
    conn.query_drop("UPDATE reader SET seq = seq + 1000").expect("SQL");
    assert_eq!(verify(folder.path(), &[]).list(false), [("search tables", "tables_past_end")]);
    // Newer tables are told; older ones, or none, are for the next start to make.
    let version = |conn: &mut mysql::Conn, version: u32| {
        let sql = format!("UPDATE florin_schema SET version = {version} WHERE component = 'projection'");
        conn.query_drop(sql).expect("SQL");
    };
    version(&mut conn, 1_000);
    assert_eq!(verify(folder.path(), &[]).list(false), [("search tables", "store_newer_schema")]);
    version(&mut conn, 0);
    check_no_tables(folder.path());
    conn.query_drop(format!("DROP DATABASE {prefix}_projection")).expect("SQL");
    check_no_tables(folder.path());
}
