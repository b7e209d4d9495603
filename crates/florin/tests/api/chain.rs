//! A platform that follows a real chain: two nodes of the network in process, a miner who can fork them, a payer outside, and a signer in a process of its own.

use super::support::World;
use bitcoin::{BlockHash, ScriptBuf, Transaction};
use florin::config::Config;
use florin::platform::Parts;
use florin::signer;
use florin_devnet::fees::FeeRate;
use florin_devnet::http::{Credentials, Server, Settling};
use florin_devnet::miner::{Content, Mined, Miner};
use florin_devnet::network::{Network, NodeId};
use florin_devnet::outside::{AddressForm, OutsideWallet};
use florin_devnet::policy::RelayPolicy;
use florin_signer::approve::OperatorKey;
use florin_signer::client::Client;
use florin_signer::keystore::Purpose;
use florin_signer::protocol::{Hello, PROTOCOL, Request};
use florin_signer::sealed::Passphrase;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// How long anything may take that takes a second or two: a busy machine may need many.
const WAIT: Duration = Duration::from_secs(120);

/// The platform's id, as the configuration writes it.
const PLATFORM: &str = "07070707-0707-7707-8707-070707070707";

/// The passphrase of the signer's keys, and the password of the nodes: both are worth nothing.
const SECRET: &str = "correct horse battery staple";

const NODES: usize = 2;
const RATE: FeeRate = FeeRate::from_sat_per_kvb(5_000);

/// Waits until `look` finds something.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < WAIT, "waited {} s in vain for: {what}", WAIT.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The numbers of the operators whom the signer's policy names; two have to approve what is above its limits.
pub const OPERATORS: [u8; 3] = [9, 10, 11];

/// What the signer says, in the folder of the platform's files.
pub const SIGNER_LOG: &str = "signer.log";

/// Enters the operators into the signer's policy.
fn name_operators(policy: &Path) {
    let mut operators = "threshold = 2\n".to_owned();
    for number in OPERATORS {
        let key = OperatorKey::from_secret(&[number; 32]).public_text();
        writeln!(operators, "[[operator]]\nname = \"{number}\"\nkey = \"{key}\"").expect("text");
    }
    let text = std::fs::read_to_string(policy).expect("a policy");
    let named = text.replacen("# threshold = 2\n", &operators, 1);
    assert_ne!(named, text);
    std::fs::write(policy, named).expect("written");
}

/// The signer's process.
struct Signer(Child);

impl Signer {
    fn start(folder: &Path) -> Signer {
        let child = Command::new(env!("CARGO_BIN_EXE_florin"))
            .args(["signer", "serve", "--until-stdin-closes", "--dir"])
            .arg(folder.join("signer"))
            .arg("--passphrase-file")
            .arg(folder.join("passphrase"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join(SIGNER_LOG)).expect("a file"))
            .spawn()
            .expect("it starts");
        let signer = Signer(child);
        let client = Client::new(folder.join("signer").join(signer::SOCKET_FILE), Duration::from_secs(5));
        until("the signer answers", || client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).ok());
        signer
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The chain and who acts on it.
pub struct Chain {
    network: Arc<Mutex<Network>>,
    miner: Miner,
    outside: OutsideWallet,
    _nodes: Vec<Server>,
    signer: Option<Signer>,
    /// Where the platform's files are.
    pub folder: TempDir,
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("set");
}

fn configuration(nodes: &[Server]) -> String {
    let mut text = format!(
        "[platform]\nid = \"{PLATFORM}\"\nnode = \"test\"\ndata = \"data\"\n[store]\nkind = \"sqlite\"\n[api]\nlisten = \"127.0.0.1:0\"\n\
         token_file = \"token\"\n[signer]\nsocket = \"signer/signer.sock\"\n[bitcoin]\nnetwork = \"regtest\"\nquorum = 2\n\
         trust = \"quorum\"\nstart_height = 0\nfee_floor_sat_kvb = 1000\nfee_cap_sat_kvb = 500000\nstale_s = 0\n"
    );
    for (index, node) in nodes.iter().enumerate() {
        let url = node.address();
        write!(
            text,
            "[[bitcoin.node]]\nname = \"{index}\"\nurl = \"http://{url}\"\nauth_file = \"node.auth\"\ngroup = \"{index}\"\n"
        )
        .expect("text");
    }
    text
}

impl Chain {
    /// A platform with a wallet, on a chain with some coins outside it.
    pub fn start() -> (Chain, World) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let network = Arc::new(Mutex::new(Network::new(NODES, &RelayPolicy::default(), now)));
        let credentials = Credentials { user: "test".into(), password: SECRET.into() };
        write_private(&path.join("node.auth"), &format!("test:{SECRET}"));
        let serve = |index| Server::start(network.clone(), NodeId(index), 0, &credentials, Settling::AfterEachCall);
        let nodes: Vec<Server> = (0..NODES).map(|index| serve(index).expect("a port is free")).collect();
        std::fs::write(path.join("florin.toml"), configuration(&nodes)).expect("written");
        let config = Config::read(&path.join("florin.toml")).expect("a configuration");
        let passphrase = Passphrase::new(SECRET.to_owned()).expect("a passphrase");
        let network_name = florin_chain::bitcoin::network::Network::Regtest;
        let fresh = signer::init(&path.join("signer"), config.platform_id(), network_name, &passphrase, Purpose::Demo);
        let fresh = fresh.expect("a signer's folder");
        write_private(&path.join("passphrase"), SECRET);
        name_operators(&path.join("signer").join(signer::POLICY_FILE));
        let outside = OutsideWallet::new([5; 32]);
        let miner = Miner::new(outside.script(AddressForm::Segwit), 1);
        let signer = Signer::start(path);
        let mut chain = Chain { network, miner, outside, _nodes: nodes, signer: Some(signer), folder };
        chain.mine(110);
        let mut parts = Parts::of(&config).expect("nothing is missing");
        parts.chain.as_mut().expect("a chain").cadence_ms = 50;
        let world = World::of(parts);
        let wallet = json!({
            "id": 1, "chain": 1, "tier": "hot",
            "descriptor_external": fresh.external, "descriptor_internal": fresh.internal,
        });
        world.made("/api/v1/wallets", &wallet);
        (chain, world)
    }

    /// Ends the signer's process, does something to its folder, and starts it again.
    pub fn without_signer(&mut self, work: impl FnOnce(&Path)) {
        drop(self.signer.take());
        work(&self.folder.path().join("signer"));
        self.signer = Some(Signer::start(self.folder.path()));
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.network.lock().expect("nobody panics with it")
    }

    pub fn height(&self) -> u32 {
        self.lock().node(NodeId(0)).height()
    }

    /// The hash of the active chain's block at a height.
    pub fn hash(&self, height: u32) -> BlockHash {
        self.lock().node(NodeId(0)).tree().at(height).expect("a block")
    }

    /// Pays an address of the platform, which waits in mempools then.
    pub fn pay(&self, address: &Value, amount_sat: u64) -> Transaction {
        let script = ScriptBuf::from_hex(address["script"].as_str().expect("a script")).expect("hexadecimal");
        let mut network = self.lock();
        let payment = self.outside.pay(network.node(NodeId(0)), &[(script, amount_sat)], RATE).expect("coins");
        network.send(NodeId(0), payment.clone()).expect("it is relayed");
        network.settle();
        payment
    }

    /// An address of nobody's the platform knows, to withdraw to.
    pub fn address(&self) -> String {
        self.outside.address(AddressForm::Taproot).to_string()
    }

    /// Mines blocks of what waits.
    pub fn mine(&mut self, count: u32) {
        let mut network = self.network.lock().expect("nobody panics with it");
        network.settle();
        network.mine(NodeId(0), &mut self.miner, count).expect("mined");
        network.settle();
    }

    /// Takes back all blocks above a height: a longer branch begins there, whose first block spends what these payments spent.
    pub fn fork(&mut self, height: u32, payments: &[&Transaction]) -> Vec<Mined> {
        let mut network = self.network.lock().expect("nobody panics with it");
        let node = network.node(NodeId(0));
        let taken = |payment: &&Transaction| self.outside.double_spend(node, payment, RATE).expect("coins of ours");
        let content = Content::Transactions(payments.iter().map(taken).collect());
        let (parent, count) = (node.tree().at(height).expect("a block"), node.height() - height + 1);
        let mined = network.mine_on(NodeId(0), &mut self.miner, parent, count, content).expect("mined");
        network.settle();
        mined
    }

    /// Waits until the platform has followed the nodes.
    pub fn follow(&self, world: &World) {
        let tip = self.hash(self.height()).to_string();
        until("the platform follows", || {
            let blocks = world.shown("/api/v1/chains/1/blocks?limit=1");
            (blocks["items"][0]["hash"] == json!(tip)).then_some(())
        });
    }
}
