//! One suite for the engine's port to a node, on the network in process and on a real bitcoind: what the engine is told must be the same.

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use florin::node::bitcoind::Bitcoind;
use florin::node::rpc::Rpc;
use florin_core::id::{BlockHash, Height, TxId};
use florin_devnet::bitcoind::Bitcoind as RealNode;
use florin_devnet::fees::FeeRate;
use florin_devnet::http::{Credentials, Server, Settling};
use florin_devnet::miner::{Content, Miner};
use florin_devnet::network::{Network, NodeId};
use florin_devnet::outside::{AddressForm, OutsideWallet};
use florin_devnet::policy::RelayPolicy;
use florin_engine::ports::{Node, NodeFault, SendResult, TestAccept};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

const SUBJECT: NodeId = NodeId(0);
const RATE: FeeRate = FeeRate::from_sat_per_kvb(5_000);

/// The world in which the subject is asked: the network in process makes blocks and payments; a real node is told of the blocks.
struct World {
    network: Arc<Mutex<Network>>,
    miner: Miner,
    outside: OutsideWallet,
    real: Option<RealNode>,
}

impl World {
    fn new(real: Option<RealNode>) -> World {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let outside = OutsideWallet::new([5; 32]);
        let mut world = World {
            network: Arc::new(Mutex::new(Network::new(1, &RelayPolicy::default(), now))),
            miner: Miner::new(outside.script(AddressForm::Segwit), 1),
            outside,
            real,
        };
        world.mine(105);
        world
    }

    fn tell(&self, block: &bitcoin::Block) {
        if let Some(real) = &self.real {
            let text = bitcoin::consensus::encode::serialize_hex(block);
            let answer =
                real.call("submitblock", serde_json::json!([text])).expect("bitcoind runs").expect("an answer");
            assert!(answer.is_null() || answer == "inconclusive", "bitcoind takes the block: {answer}");
        }
    }

    fn mine(&mut self, count: u32) {
        for _ in 0..count {
            let mined = self
                .network
                .lock()
                .expect("nobody panics with it")
                .mine(SUBJECT, &mut self.miner, 1)
                .expect("mined")
                .remove(0);
            self.tell(&mined.block);
        }
    }

    fn fork(&mut self, depth: u32) {
        let mined = {
            let mut network = self.network.lock().expect("nobody panics with it");
            let height = network.node(SUBJECT).height() - depth;
            let parent = network.node(SUBJECT).tree().at(height).expect("a block");
            let miner = &mut self.miner;
            network.with_node(SUBJECT, |node| miner.mine_on(node, parent, depth + 1, Content::Empty)).expect("forked")
        };
        mined.iter().for_each(|mined| self.tell(&mined.block));
    }
}

fn check(world: &mut World, node: &mut dyn Node) {
    let here = |world: &World| {
        let network = world.network.lock().expect("nobody panics with it");
        let subject = network.node(SUBJECT);
        (Height(subject.height()), BlockHash(subject.tip().to_byte_array()))
    };

    let info = node.info().expect("info");
    assert_eq!((info.height, info.tip), here(world));
    assert_eq!(info.network, "regtest");
    assert_eq!(info.genesis.to_string(), "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206");
    assert_eq!((info.pruned_below, info.is_syncing), (None, false));

    let (height, tip) = here(world);
    assert_eq!(node.block_hash(height).expect("hash"), Some(tip));
    assert_eq!(node.block_hash(Height(height.0 + 1)).expect("no hash"), None);
    let unknown = BlockHash([0x11; 32]);
    assert_eq!(node.header(unknown).expect("no header"), None);
    assert_eq!(node.block(unknown).expect("no block"), None);
    let block = node.block(tip).expect("block").expect("is there");
    assert_eq!(node.header(tip).expect("header").expect("is there"), block[..80]);

    let payment = {
        let network = world.network.lock().expect("nobody panics with it");
        let script = world.outside.script(AddressForm::Taproot);
        world.outside.pay(network.node(SUBJECT), &[(script, 70_000)], RATE).expect("coins")
    };
    let (txid, bytes) = (TxId(payment.compute_txid().to_byte_array()), serialize(&payment));
    assert_eq!(node.transaction(txid, None).expect("unknown"), None);
    assert_eq!(node.test_accept(&bytes).expect("tested"), TestAccept::Accepted);
    assert_eq!(node.send(&bytes).expect("sent"), SendResult::Sent);
    assert!(matches!(node.send(&bytes).expect("sent twice"), SendResult::Sent | SendResult::AlreadyKnown));
    assert_eq!(node.mempool().expect("mempool"), Some(vec![txid]));
    assert_eq!(node.transaction(txid, None).expect("waits"), Some(bytes.clone()));

    // The miner works from the model's mempool, which a real subject does not share.
    let _ = world.network.lock().expect("nobody panics with it").send(SUBJECT, payment);
    world.mine(1);
    let (height, tip) = here(world);
    assert_eq!(node.mempool().expect("mempool"), Some(vec![]));
    assert_eq!(node.transaction(txid, Some(tip)).expect("in its block"), Some(bytes.clone()));
    assert_eq!(node.send(&bytes).expect("sent again"), SendResult::AlreadyKnown);

    let mut broken = bytes.clone();
    let last = broken.len() - 10;
    broken[last] ^= 1;
    assert!(matches!(node.test_accept(&broken), Ok(TestAccept::Rejected { .. }) | Err(NodeFault::Refused { .. })));
    assert!(matches!(node.send(&[1, 2, 3]), Err(NodeFault::Refused { code: -22, .. })));
    assert_eq!(node.fee_estimate(3).expect("no estimate on a young chain"), None);

    world.fork(2);
    let info = node.info().expect("info");
    assert_eq!((info.height, info.tip), here(world));
    assert_eq!(node.block_hash(height).expect("hash").map(|hash| hash == tip), Some(false));
    assert_eq!(node.block(tip).expect("block").map(|bytes| bytes.len() > 80), Some(true));
}

/// A password that others may read is not used.
fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
}

#[test]
fn the_network_in_process_answers_the_port() {
    let mut world = World::new(None);
    let folder = tempfile::tempdir().expect("a folder");
    let auth = folder.path().join("auth");
    write_private(&auth, "user:password\n");
    let credentials = Credentials { user: "user".into(), password: "password".into() };
    let server =
        Server::start(world.network.clone(), SUBJECT, 0, &credentials, Settling::AfterEachCall).expect("a server");
    let mut node = Bitcoind::new(Rpc::new(format!("http://{}", server.address()), auth.clone()));
    check(&mut world, &mut node);

    std::fs::write(&auth, "user:wrong").expect("written");
    assert!(matches!(node.info(), Err(NodeFault::Forbidden)));
    std::fs::set_permissions(&auth, std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("set");
    assert!(matches!(node.info(), Err(NodeFault::Credentials(_))));
    std::fs::remove_file(&auth).expect("removed");
    let Err(NodeFault::Credentials(cause)) = node.info() else { panic!("there is no file any more") };
    assert_eq!(cause.to_string(), auth.display().to_string(), "the file is named");
    drop(server);
    write_private(&auth, "user:password\n");
    assert!(matches!(node.info(), Err(NodeFault::Transport(_))));
}

#[test]
fn a_real_bitcoind_answers_the_port() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let real = RealNode::start(&root, &data, &[]).expect("bitcoind runs");
    let auth = folder.path().join("auth");
    write_private(&auth, &format!("{}:{}", real.credentials().user, real.credentials().password));
    let mut node = Bitcoind::new(Rpc::new(format!("http://127.0.0.1:{}", real.port()), auth));
    let mut world = World::new(Some(real));
    check(&mut world, &mut node);
}

#[test]
fn a_real_bitcoind_that_prunes_says_from_where_on_it_has_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    // Files of blocks so small that some can go: it keeps the last 288 blocks in any case.
    let real = RealNode::start(&root, &data, &["-prune=1", "-fastprune"]).expect("bitcoind runs");
    let ask = |method: &str, params| real.call(method, params).expect("bitcoind runs").expect("an answer");
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    for _ in 0..10 {
        ask("generatetoaddress", serde_json::json!([100, address]));
    }
    let auth = folder.path().join("auth");
    write_private(&auth, &format!("{}:{}", real.credentials().user, real.credentials().password));
    let mut node = Bitcoind::new(Rpc::new(format!("http://127.0.0.1:{}", real.port()), auth));
    let first = node.block_hash(Height(1)).expect("hash").expect("is there");
    assert!(node.block(first).expect("block").is_some(), "nothing is pruned yet");
    assert_eq!(node.info().expect("info").pruned_below.filter(|below| below.0 > 1), None);

    ask("pruneblockchain", serde_json::json!([700]));
    let info = node.info().expect("info");
    let below = info.pruned_below.expect("it says so");
    assert!((2..=701).contains(&below.0) && info.height == Height(1_000), "{info:?}");
    assert_eq!(node.block(first).expect("no fault"), None, "what is gone is not there, and no lie");
    assert!(node.header(first).expect("header").is_some(), "headers stay");
    let kept = node.block_hash(below).expect("hash").expect("is there");
    assert!(node.block(kept).expect("block").is_some(), "the first that it says to have is there");
}
