//! One platform to be killed: its folder, its world with nodes and a miner, its configuration, and the processes that run on
//! it. The processes never share memory with the test.

use crate::load::Caller;
use crate::maria::Maria;
use crate::process::{Process, Program, Start, WAIT, until};
use crate::proxy::Proxy;
use florin::api::token;
use florin::config::ARCHIVE;
use florin::demo::world::{NODES, World};
use florin::signer;
use florin_chain::bitcoin::network::Network;
use florin_core::id::CommandId;
use florin_core::journal::Journal;
use florin_devnet::http::{Credentials, Server as NodeServer, Settling};
use florin_devnet::network::NodeId;
use florin_signer::client::Client as SignerClient;
use florin_signer::keystore::Purpose;
use florin_signer::protocol::{Hello, PROTOCOL, Request};
use florin_signer::sealed::Passphrase;
use florin_store::archive::{Archive, WithArchive};
use florin_store::folder_lock;
use florin_store::site::Site as StoreSite;
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Coins that the house has to sell: enough of them that several plans can be under way.
const INVENTORY_COINS: u32 = 12;
const INVENTORY_COIN_SAT: u64 = 50_000_000;

/// So often that every run starts from snapshots.
const SNAPSHOT_ROWS: u64 = 50;

/// Where the running processes listen, by name.
pub type Endpoints = Arc<Mutex<BTreeMap<String, String>>>;

/// Where the books are.
pub enum Books {
    Sqlite,
    /// On a server of this test, behind a line that can be cut.
    Maria {
        server: Maria,
        proxy: Proxy,
    },
}

impl Books {
    pub fn maria() -> Books {
        let server = Maria::start();
        let proxy = Proxy::start(server.address());
        Books::Maria { server, proxy }
    }

    pub fn server(&self) -> &Maria {
        match self {
            Books::Sqlite => panic!("there is no server"),
            Books::Maria { server, .. } => server,
        }
    }

    pub fn proxy(&self) -> &Proxy {
        match self {
            Books::Sqlite => panic!("there is no line"),
            Books::Maria { proxy, .. } => proxy,
        }
    }
}

/// The platform.
pub struct Site {
    folder: TempDir,
    program: Program,
    pub world: World,
    pub books: Books,
    pub platform: [u8; 16],
    pub endpoints: Endpoints,
    pub token: String,
    descriptors: (String, String),
    _nodes: Vec<NodeServer>,
}

/// What the databases' names begin with.
pub const PREFIX: &str = "florin_kill";

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

impl Site {
    /// Everything but the processes.
    pub fn new(books: Books) -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let world = World::start().expect("a world");
        world.mine(30).expect("blocks");
        let credentials = Credentials { user: "kill".into(), password: CommandId([7; 16]).to_string() };
        write_private(&path.join("node.auth"), &format!("{}:{}", credentials.user, credentials.password));
        let node = |index| NodeServer::start(world.network(), NodeId(index), 0, &credentials, Settling::AfterEachCall);
        let nodes: Vec<NodeServer> = (0..NODES).map(|index| node(index).expect("a port is free")).collect();
        token::create(&path.join("operator.token")).expect("a token");
        let token = token::read_text(&path.join("operator.token")).expect("it is read").to_string();
        let platform = *uuid::Uuid::now_v7().as_bytes();
        let text = CommandId(platform).to_string();
        let passphrase = Passphrase::new(text.clone()).expect("a passphrase");
        let fresh = signer::init(&path.join("signer"), platform, Network::Regtest, &passphrase, Purpose::Demo);
        let fresh = fresh.expect("a signer's folder");
        allow_more(&path.join("signer").join(signer::POLICY_FILE));
        write_private(&path.join("passphrase"), &text);
        if let Books::Maria { proxy, .. } = &books {
            write_private(&path.join("mariadb.url"), &format!("mysql://florin:florin@{}", proxy.address));
        }
        let descriptors = (fresh.external, fresh.internal);
        let endpoints = Endpoints::default();
        let site = Site {
            folder,
            program: Program::new(),
            world,
            books,
            platform,
            endpoints,
            token,
            descriptors,
            _nodes: nodes,
        };
        site.configure("one");
        site.configure("two");
        site
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where a node keeps files: one folder for both on SQLite, where the journal is a file in it.
    pub fn data(&self, name: &str) -> PathBuf {
        match self.books {
            Books::Sqlite => self.path().join("data"),
            Books::Maria { .. } => self.path().join(format!("data-{name}")),
        }
    }

    fn configure(&self, name: &str) {
        let store = match self.books {
            Books::Sqlite => "kind = \"sqlite\"".to_owned(),
            Books::Maria { .. } => {
                // Longer than the disk of a busy machine makes everybody wait.
                format!("kind = \"mariadb\"\nurl_file = \"mariadb.url\"\nprefix = \"{PREFIX}\"\ntakeover_ms = 4000")
            }
        };
        let mut text = format!(
            "[platform]\nid = \"{}\"\nnode = \"{name}\"\ndata = \"{}\"\nsnapshot_rows = {SNAPSHOT_ROWS}\n[store]\n{store}\n[api]\nlisten = \"127.0.0.1:0\"\n\
             url = \"http://{name}.example\"\n\
             token_file = \"operator.token\"\n[signer]\nsocket = \"signer/signer.sock\"\n[bitcoin]\nnetwork = \"regtest\"\n\
             quorum = 2\ntrust = \"quorum\"\nstart_height = 0\nfee_floor_sat_kvb = 1000\nfee_cap_sat_kvb = 500000\nstale_s = 0\n",
            CommandId(self.platform),
            self.data(name).display(),
        );
        for (index, node) in self._nodes.iter().enumerate() {
            let url = node.address();
            let _ = write!(
                text,
                "[[bitcoin.node]]\nname = \"{index}\"\nurl = \"http://{url}\"\nauth_file = \"node.auth\"\ngroup = \"{index}\"\n"
            );
        }
        fs::write(self.path().join(format!("{name}.toml")), text).expect("written");
    }

    /// The stores, as nobody but this test sees them: past the line that is cut.
    pub fn stores(&self) -> StoreSite {
        match &self.books {
            Books::Sqlite => StoreSite::Folder(self.data("one")),
            Books::Maria { server, .. } => StoreSite::Server(server.server(PREFIX)),
        }
    }

    /// The journal as its readers see it, whatever of it was pruned.
    pub fn journal(&self) -> Box<dyn Journal> {
        let journal = self.stores().journal_reader().expect("the journal opens");
        Box::new(WithArchive::new(journal, self.archive()))
    }

    /// The rows that were pruned.
    pub fn archive(&self) -> Archive {
        Archive::at(self.data("one").join(ARCHIVE))
    }

    /// Starts 'florin ledger' with these words.
    pub fn ledger(&self, words: &[&str]) -> Process {
        let config = self.path().join("one.toml");
        let config = config.to_str().expect("it is text");
        let arguments = [&["--json", "--config", config, "ledger"], words].concat();
        Process::spawn(&self.program.path, &arguments, &self.log("ledger"))
    }

    /// Removes the lock of the files, so that another process gets at them however much they are in use.
    pub fn force_lock(&self, name: &str) {
        fs::remove_file(self.data(name).join(folder_lock::FILE)).expect("the lock is there");
    }

    /// Starts a node's process.
    pub fn serve(&self, name: &str) -> Serve {
        self.serve_with(name, &[])
    }

    /// As [`Site::serve`], with more in its environment.
    pub fn serve_with(&self, name: &str, more: &[(&str, OsString)]) -> Serve {
        let config = self.path().join(format!("{name}.toml"));
        let config = config.to_str().expect("it is text");
        let process =
            Process::spawn_with(&self.program.path, &["--json", "--config", config, "serve"], &self.log(name), more);
        Serve { process, name: name.to_owned(), endpoints: Arc::clone(&self.endpoints) }
    }

    /// Starts the signer's process.
    pub fn signer(&self) -> Process {
        let path = |name: &str| self.path().join(name).to_str().expect("it is text").to_owned();
        let (dir, passphrase) = (path("signer"), path("passphrase"));
        let arguments = ["signer", "serve", "--dir", &dir, "--passphrase-file", &passphrase];
        Process::spawn(&self.program.path, &arguments, &self.log("signer"))
    }

    /// Whether the signer answers.
    pub fn signer_answers(&self) -> bool {
        let client = SignerClient::new(self.path().join("signer").join(signer::SOCKET_FILE), Duration::from_secs(5));
        client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).is_ok()
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.log"))
    }

    pub fn caller(&self) -> Caller {
        Caller::new(Arc::clone(&self.endpoints), &self.token)
    }

    /// Wallet, price, and coins of the house.
    pub fn found(&self) {
        let mut caller = self.caller();
        let (external, internal) = &self.descriptors;
        let wallet = json!({ "id": 1, "chain": 1, "tier": "hot", "descriptor_external": external, "descriptor_internal": internal });
        caller.must("/api/v1/wallets", &wallet);
        let price = json!({ "base": "BTC", "quote": "EUR", "price": "60000.00", "spread_bp": 50, "age_max_s": 86400, "quote_s": 600 });
        caller.must("/api/v1/prices", &price);
        for _ in 0..INVENTORY_COINS {
            let address = caller.must("/api/v1/wallets/1/addresses", &json!({}));
            let script = florin_core::hex::decode(address["script"].as_str().expect("a script")).expect("hexadecimal");
            self.world.pay(&script, INVENTORY_COIN_SAT).expect("paid");
        }
        self.world.mine(7).expect("blocks");
        let all = bitcoins(INVENTORY_COIN_SAT * u64::from(INVENTORY_COINS));
        until("the inventory is credited", || {
            let books = caller.get("/api/v1/books");
            let items = books["items"].as_array().cloned().unwrap_or_default();
            let lines = items.iter().flat_map(|item| item["lines"].as_array().cloned().unwrap_or_default());
            lines
                .into_iter()
                .any(|line| line["account"] == "inventory" && line["amount"].as_str() == Some(&all))
                .then_some(())
        });
    }

    /// What the processes have logged.
    pub fn logged(&self, name: &str) -> String {
        fs::read_to_string(self.log(name)).unwrap_or_default()
    }
}

fn bitcoins(satoshi: u64) -> String {
    florin_core::amount::Amount::new(u128::from(satoshi)).format(8)
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for name in ["one", "two", "signer"] {
            let text = self.logged(name);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- the end of what {name} logged");
            lines[lines.len().saturating_sub(25)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// A node's process.
pub struct Serve {
    process: Process,
    name: String,
    endpoints: Endpoints,
}

impl Serve {
    /// Waits until it listens, and tells the callers; `false` where it ended instead.
    pub fn wait_up(&mut self) -> bool {
        match self.process.wait_up() {
            Start::Up(line) => {
                let said: serde_json::Value = serde_json::from_str(&line).expect("it says JSON");
                let url = said["listening"].as_str().expect("it says where").to_owned();
                self.endpoints.lock().expect("nobody panics").insert(self.name.clone(), url);
                true
            }
            Start::Ended => false,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn url(&self) -> Option<String> {
        self.endpoints.lock().expect("nobody panics").get(&self.name).cloned()
    }

    pub fn kill(&mut self) {
        self.endpoints.lock().expect("nobody panics").remove(&self.name);
        self.process.kill();
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Whether it leads, as it says itself.
    pub fn is_leading(&self, caller: &mut Caller) -> bool {
        let Some(url) = self.url() else { return false };
        caller.get_at(&url, "/api/v1/status").is_some_and(|status| status["leading"] == true)
    }

    /// Waits until it leads.
    pub fn wait_leading(&self, caller: &mut Caller) -> Duration {
        let start = Instant::now();
        until(&format!("{} leads", self.name), || self.is_leading(caller).then_some(()));
        assert!(start.elapsed() <= WAIT + Duration::from_secs(60));
        start.elapsed()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Ok(mut endpoints) = self.endpoints.lock() {
            endpoints.remove(&self.name);
        }
    }
}

/// Lets the signer pay without approvals what a load of minutes asks for: a fast machine asks for more than an hour's limit.
fn allow_more(policy: &Path) {
    let mut text = fs::read_to_string(policy).expect("a policy");
    for key in ["hour_sat", "day_sat", "destination_day_sat"] {
        let start = text.find(&format!("\n{key} = ")).expect("a limit") + 1;
        let end = start + text[start..].find('\n').unwrap_or(text.len() - start);
        text.replace_range(start..end, &format!("{key} = \"100000000000\""));
    }
    fs::write(policy, text).expect("a policy");
}
