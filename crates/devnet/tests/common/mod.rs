//! Owns what the conformance tests share: the model and a real bitcoind side by side, asked the same. Must never soften a difference.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::path::Path;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, ScriptBuf, Transaction};
use florin_devnet::bitcoind::Bitcoind;
use florin_devnet::fees::FeeRate;
use florin_devnet::miner::Miner;
use florin_devnet::node::Node;
use florin_devnet::outside::{ADDRESS_FORMS, AddressForm, OutsideWallet};
use florin_devnet::policy::RelayPolicy;
use florin_devnet::rpc::{RpcError, handle};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The clock of both at the start.
pub const CLOCK: u64 = 1_700_000_000;

/// A usual fee rate.
pub const RATE: FeeRate = FeeRate::from_sat_per_kvb(2_000);

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).expect("the crate is two below the root")
}

/// A bitcoind with a data folder that goes away with it.
pub fn real(extra: &[&str]) -> (Bitcoind, TempDir) {
    let data = tempfile::tempdir().expect("a folder for temporary files");
    let node = Bitcoind::start(root(), data.path(), extra).unwrap_or_else(|error| panic!("{error}"));
    (node, data)
}

/// The model and the real node, and a wallet and miner for both.
pub struct Pair {
    pub model: Node,
    pub real: Bitcoind,
    pub wallet: OutsideWallet,
    pub miner: Miner,
    pub clock: u64,
    _data: TempDir,
}

impl Pair {
    /// Both with the genesis block and the same clock.
    pub fn new() -> Self {
        let (real, data) = real(&[]);
        let wallet = OutsideWallet::new([9; 32]);
        let miner = Miner::new(wallet.script(AddressForm::Segwit), 1);
        let mut pair =
            Self { model: Node::new(RelayPolicy::default(), CLOCK), real, wallet, miner, clock: CLOCK, _data: data };
        pair.set_clock(CLOCK);
        pair
    }

    /// Both with blocks whose first rewards the wallet can spend.
    pub fn funded(blocks: u32) -> Self {
        let mut pair = Self::new();
        pair.mine(blocks);
        pair
    }

    pub fn set_clock(&mut self, clock: u64) {
        self.clock = clock;
        self.model.set_clock(clock);
        self.ask_real("setmocktime", json!([clock])).expect("regtest has a mock clock");
    }

    pub fn ask_real(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.real.call(method, params).expect("bitcoind answers")
    }

    pub fn ask_model(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        handle(&mut self.model, method, params)
    }

    /// Asks both; they must answer the same, error codes and words included.
    #[track_caller]
    pub fn same(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        let real = self.ask_real(method, params.clone());
        let model = self.ask_model(method, params.clone());
        assert_eq!(model, real, "left the model, right bitcoind: {method} {params}");
        real
    }

    /// Hands a block to both; they must say the same. Returns what they say.
    #[track_caller]
    pub fn submit(&mut self, block: &Block) -> Value {
        self.same("submitblock", json!([serialize_hex(block)])).expect("submitblock answers with a word")
    }

    /// Mines by the model from its mempool, and hands each block to both.
    #[track_caller]
    pub fn mine(&mut self, count: u32) {
        for _ in 0..count {
            let mined = self.miner.mine(&self.model);
            assert_eq!(self.submit(&mined.block), Value::Null);
        }
        self.same_tip();
    }

    /// Mines by bitcoind from its mempool, and hands each block to the model.
    #[track_caller]
    pub fn mine_real(&mut self, count: u32, form: AddressForm) {
        let address = self.wallet.address(form).to_string();
        let hashes = self.ask_real("generatetoaddress", json!([count, address])).expect("it mines");
        for hash in hashes.as_array().expect("a list") {
            self.take_from_real(hash);
        }
        self.same_tip();
    }

    /// Hands one of bitcoind's blocks to the model.
    #[track_caller]
    pub fn take_from_real(&mut self, hash: &Value) {
        let hex = self.ask_real("getblock", json!([hash, 0])).expect("it has the block");
        assert_eq!(self.ask_model("submitblock", json!([hex])), Ok(Value::Null), "the model takes bitcoind's block");
    }

    #[track_caller]
    pub fn same_tip(&mut self) {
        self.same("getbestblockhash", json!([])).expect("a tip");
    }

    /// Sends a transaction to both; they must say the same.
    #[track_caller]
    pub fn send(&mut self, tx: &Transaction) -> Result<Value, RpcError> {
        self.same("sendrawtransaction", json!([serialize_hex(tx), 0]))
    }

    /// All coins of the wallet and their sum must be the same.
    #[track_caller]
    pub fn same_coins(&mut self) -> Value {
        let raw = |form| json!(format!("raw({:x})", self.wallet.script(form)));
        let objects: Vec<Value> = ADDRESS_FORMS.into_iter().map(raw).collect();
        let sorted = |answer: Result<Value, RpcError>| {
            let mut answer = answer.expect("a scan");
            let unspents = answer["unspents"].as_array_mut().expect("a list");
            unspents.sort_by_key(|unspent| (unspent["txid"].to_string(), unspent["vout"].as_u64()));
            answer
        };
        let real = sorted(self.ask_real("scantxoutset", json!(["start", objects])));
        let model = sorted(self.ask_model("scantxoutset", json!(["start", objects])));
        assert_eq!(model, real, "left the model, right bitcoind");
        real
    }

    pub fn script(&self, form: AddressForm) -> ScriptBuf {
        self.wallet.script(form)
    }

    pub fn block_at(&self, height: u32) -> Block {
        let hash = self.model.tree().at(height).expect("active");
        (*self.model.block(&hash).expect("bytes")).clone()
    }
}

/// A block from hexadecimal.
pub fn block_from(hex: &Value) -> Block {
    deserialize_hex(hex.as_str().expect("text")).expect("a block")
}
