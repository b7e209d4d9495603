//! The world outside the platform: a network of nodes in process, a miner, somebody else's wallet, and, where asked for, a real bitcoind
//! that sees the same blocks and transactions. It knows nothing of the platform; they meet on the chain alone.

use crate::failure::Failure;
use crate::node::rpc::{Caller, Rpc, RpcFault};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{BlockHash, ScriptBuf, Transaction, Txid};
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::{Content, MineError, Mined, Miner};
use florin_devnet::network::{Network, NodeId};
use florin_devnet::outside::{AddressForm, OutsideWallet, WalletError};
use florin_devnet::params::COINBASE_MATURITY;
use florin_devnet::policy::RelayPolicy;
use florin_devnet::reject::Verdict;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many nodes the network has: enough for a quorum of two with one that may fail.
pub const NODES: usize = 3;

/// The seed of the outside wallet. Its coins are worth nothing: they exist on this network only.
const OUTSIDE_SEED: [u8; 32] = [0x0f; 32];

/// What the outside wallet pays for its transactions.
const OUTSIDE_RATE: FeeRate = FeeRate::from_sat_per_kvb(5_000);

/// A block that was mined, with what each node said of it.
#[derive(Debug)]
pub struct MinedBlock {
    /// The block and what it pays.
    pub mined: Mined,
    /// Each node's own verdict, in words.
    pub verdicts: Vec<(String, String)>,
}

/// The world.
#[derive(Clone)]
pub struct World {
    network: Arc<Mutex<Network>>,
    miner: Arc<Mutex<Miner>>,
    outside: OutsideWallet,
    mirror: Option<Mirror>,
}

/// A bitcoind that is told of every block, and asked for transactions that it alone was given.
#[derive(Clone)]
struct Mirror {
    rpc: Rpc,
    told: Arc<Mutex<BTreeSet<BlockHash>>>,
}

impl World {
    /// A network whose miner has mined enough for the outside wallet to have something to spend.
    ///
    /// # Errors
    /// `demo_world` where the network refuses its own miner's blocks.
    pub fn start() -> Result<World, Failure> {
        let network = Network::new(NODES, &RelayPolicy::default(), now_s());
        let outside = OutsideWallet::new(OUTSIDE_SEED);
        let miner = Miner::new(outside.script(AddressForm::Segwit), 1);
        let world =
            World { network: Arc::new(Mutex::new(network)), miner: Arc::new(Mutex::new(miner)), outside, mirror: None };
        world.mine(COINBASE_MATURITY + 1)?;
        Ok(world)
    }

    /// Shows a bitcoind everything that happens from now on, and everything so far.
    ///
    /// # Errors
    /// `demo_mirror` where it refuses a block.
    pub fn with_mirror(mut self, rpc: Rpc) -> Result<World, Failure> {
        self.mirror = Some(Mirror { rpc, told: Arc::default() });
        self.exchange()?;
        Ok(self)
    }

    /// The network, for the servers that speak for its nodes.
    pub fn network(&self) -> Arc<Mutex<Network>> {
        self.network.clone()
    }

    /// Lets the nodes talk until they have nothing more to say, and the mirror hear of it.
    ///
    /// # Errors
    /// `demo_mirror`.
    pub fn exchange(&self) -> Result<(), Failure> {
        let mut network = self.lock();
        network.set_clock(now_s());
        if let Some(mirror) = &self.mirror {
            mirror.fetch(&mut network)?;
        }
        network.settle();
        if let Some(mirror) = &self.mirror {
            mirror.tell(&network)?;
        }
        Ok(())
    }

    /// Mines blocks from the first node's mempool.
    ///
    /// # Errors
    /// `demo_world`, `demo_mirror`.
    pub fn mine(&self, count: u32) -> Result<Vec<MinedBlock>, Failure> {
        self.exchange()?;
        let mined = self.lock().mine(NodeId(0), &mut self.miner(), count).map_err(|fault| refused(&fault))?;
        self.exchange()?;
        Ok(self.judged(mined))
    }

    /// Mines `depth + 1` empty blocks beside the last `depth`, so that every node goes over to them. What was in the blocks that are gone waits again.
    ///
    /// # Errors
    /// `demo_world`, `demo_mirror`.
    pub fn fork(&self, depth: u32) -> Result<Vec<MinedBlock>, Failure> {
        self.exchange()?;
        let mined = {
            let mut network = self.lock();
            let mut miner = self.miner();
            let height = network.node(NodeId(0)).height().saturating_sub(depth);
            let parent = network.node(NodeId(0)).tree().at(height);
            let parent = parent.ok_or_else(|| Failure::new("demo_world", format!("there is no block {height}")))?;
            network
                .mine_on(NodeId(0), &mut miner, parent, depth + 1, Content::Empty)
                .map_err(|fault| refused(&fault))?
        };
        self.exchange()?;
        Ok(self.judged(mined))
    }

    /// Pays a script from the outside wallet.
    ///
    /// # Errors
    /// `demo_world` where its coins do not suffice or the network refuses.
    pub fn pay(&self, script: &[u8], amount_sat: u64) -> Result<Txid, Failure> {
        self.exchange()?;
        let txid = {
            let mut network = self.lock();
            let payments = [(ScriptBuf::from_bytes(script.to_vec()), amount_sat)];
            let tx =
                self.outside.pay(network.node(NodeId(0)), &payments, OUTSIDE_RATE).map_err(|fault| poor(&fault))?;
            let refused = |fault| Failure::new("demo_world", format!("the network refuses a payment: {fault:?}"));
            network.send(NodeId(0), tx).map_err(refused)?
        };
        self.exchange()?;
        Ok(txid)
    }

    /// An address of the outside wallet, to withdraw to.
    pub fn outside_address(&self) -> String {
        self.outside.address(AddressForm::Taproot).to_string()
    }

    /// What the first node holds for the outside wallet's withdrawal address, in satoshi.
    pub fn outside_received_sat(&self) -> u64 {
        let scripts = BTreeSet::from([self.outside.script(AddressForm::Taproot)]);
        self.lock()
            .node(NodeId(0))
            .coins()
            .of_scripts(&scripts)
            .iter()
            .map(|(_, coin)| coin.output.value.to_sat())
            .sum()
    }

    /// What the first node holds for these scripts, in satoshi: the chain's own answer, beside the books.
    pub fn held_sat(&self, scripts: &BTreeSet<ScriptBuf>) -> u64 {
        self.lock().node(NodeId(0)).coins().of_scripts(scripts).iter().map(|(_, coin)| coin.output.value.to_sat()).sum()
    }

    fn judged(&self, mined: Vec<Mined>) -> Vec<MinedBlock> {
        let network = self.lock();
        let judge = |mined: Mined| {
            let verdicts = network.verdicts(&mined.hash).into_iter().map(|(id, verdict)| {
                let word = match verdict {
                    Some(Ok(Verdict::Connected { disconnected: 0, .. })) => "valid, new tip".to_owned(),
                    Some(Ok(Verdict::Connected { disconnected, .. })) => {
                        format!("valid, new tip, {disconnected} blocks taken back")
                    }
                    Some(Ok(Verdict::Stored | Verdict::Duplicate)) => "valid, a side branch".to_owned(),
                    Some(Err(reject)) => format!("refused: {reject}"),
                    None => "has not seen it".to_owned(),
                };
                (format!("node {}", id.0 + 1), word)
            });
            MinedBlock { verdicts: verdicts.collect(), mined }
        };
        mined.into_iter().map(judge).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.network.lock().expect("no thread panics while it holds the network")
    }

    fn miner(&self) -> MutexGuard<'_, Miner> {
        self.miner.lock().expect("no thread panics while it holds the miner")
    }
}

impl Mirror {
    /// Hands every block of the first node's active chain that the bitcoind does not know yet to it, oldest first, and every waiting transaction.
    fn tell(&self, network: &Network) -> Result<(), Failure> {
        let node = network.node(NodeId(0));
        let mut told = self.told.lock().expect("no thread panics while it holds the list");
        let mut missing = Vec::new();
        let mut height = node.height();
        while height > 0 {
            let hash = node.tree().at(height).expect("an active chain has a block at each height");
            if told.contains(&hash) {
                break;
            }
            missing.push(hash);
            height -= 1;
        }
        for hash in missing.into_iter().rev() {
            let block = node.block(&hash).expect("a node in process keeps its blocks");
            let answer = self.call("submitblock", json!([serialize_hex(&*block)]))?;
            if !matches!(answer.as_str(), None | Some("inconclusive" | "duplicate")) {
                return Err(Failure::new("demo_mirror", format!("bitcoind refuses block {hash}: {answer}")));
            }
            told.insert(hash);
        }
        for (_, entry) in node.mempool().iter() {
            // It may know the transaction, or the one that replaced it: both are fine.
            match self.rpc.call("sendrawtransaction", json!([serialize_hex(&*entry.tx), 0])) {
                Ok(_) | Err(RpcFault::Node { .. }) => {}
                Err(fault) => return Err(Failure::new("demo_mirror", "bitcoind does not answer").because(fault)),
            }
        }
        Ok(())
    }

    /// Takes over the transactions that wait in the bitcoind.
    fn fetch(&self, network: &mut Network) -> Result<(), Failure> {
        let waiting = self.call("getrawmempool", json!([]))?;
        for txid in waiting.as_array().into_iter().flatten() {
            let raw = self.call("getrawtransaction", json!([txid, false]))?;
            let tx: Transaction = deserialize_hex(raw.as_str().unwrap_or_default())
                .map_err(|fault| Failure::new("demo_mirror", "bitcoind's transaction can't be read").because(fault))?;
            // A parent may come after its child here; the next exchange tries again.
            let _ = network.send(NodeId(0), tx);
        }
        Ok(())
    }

    fn call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let failed = |fault| Failure::new("demo_mirror", format!("bitcoind refuses {method}")).because(fault);
        self.rpc.call(method, params).map_err(failed)
    }
}

fn refused(fault: &MineError) -> Failure {
    Failure::new("demo_world", format!("the network refuses a block of its own miner: {fault}"))
}

fn poor(fault: &WalletError) -> Failure {
    Failure::new("demo_world", format!("the outside wallet can't pay: {fault}"))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
