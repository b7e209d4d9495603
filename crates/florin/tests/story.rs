//! The demo's story as a test: on the network in process and on a real bitcoind, with the books in SQLite and in MariaDB. The story checks every sentence that it says.

use florin::config::{Config, FILE_NAME};
use florin::demo::stage::Stage;
use florin::demo::world::World;
use florin::demo::{Demo, Site};
use florin::platform::Stores;
use florin_core::id::Seq;
use florin_devnet::bitcoind::Bitcoind;
use florin_engine::load::load_counted;
use std::path::{Path, PathBuf};

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
    let demo = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
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
