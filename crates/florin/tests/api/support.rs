//! A platform with its interface on a free port, and a caller that can say anything to it.

use florin::api::token::Token;
use florin::api::{Limits, Server};
use florin::config::Trust;
use florin::platform::{CHAIN, ChainPart, NodePart, Parts, Platform, SNAPSHOT_ROWS, Stores, SystemClock};
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::{AccountSecrets, Branch, ScriptKind};
use florin_chain::bitcoin::network::Network;
use florin_core::amount::Amount;
use florin_core::command::{Command, ConnectBlock, Receipt};
use florin_core::custody::{self, Block, BlockRef, KeyPath};
use florin_core::id::{BlockHash, Digest, Height, TxId, WalletId};
use florin_engine::lanes::Ask;
use florin_engine::ports::{Node, NodeFault, NodeInfo, SendResult, TestAccept};
use florin_engine::writer::{Answer as EngineAnswer, CoreRules};
use florin_signer::approve::{OperatorKey, ShownIntent, approve};
use florin_signer::protocol::WalletDescriptors;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The operator's token of every test.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A node that never answers.
struct Silent;

impl Node for Silent {
    fn info(&mut self) -> Result<NodeInfo, NodeFault> {
        Err(NodeFault::Timeout)
    }
    fn block_hash(&mut self, _: Height) -> Result<Option<BlockHash>, NodeFault> {
        Err(NodeFault::Timeout)
    }
    fn header(&mut self, _: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        Err(NodeFault::Timeout)
    }
    fn block(&mut self, _: BlockHash) -> Result<Option<Vec<u8>>, NodeFault> {
        Err(NodeFault::Timeout)
    }
    fn mempool(&mut self) -> Result<Option<Vec<TxId>>, NodeFault> {
        Err(NodeFault::Timeout)
    }
    fn transaction(&mut self, _: TxId, _: Option<BlockHash>) -> Result<Option<Vec<u8>>, NodeFault> {
        Err(NodeFault::Timeout)
    }
    fn send(&mut self, _: &[u8]) -> Result<SendResult, NodeFault> {
        Err(NodeFault::Timeout)
    }
    fn test_accept(&mut self, _: &[u8]) -> Result<TestAccept, NodeFault> {
        Err(NodeFault::Timeout)
    }
    fn fee_estimate(&mut self, _: u16) -> Result<Option<u64>, NodeFault> {
        Err(NodeFault::Timeout)
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
    pub value: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.value["code"].as_str().unwrap_or("")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// A platform and its interface.
pub struct World {
    pub platform: Arc<Platform>,
    server: Option<Server>,
    pub url: String,
    pub agent: ureq::Agent,
    mined: AtomicU8,
}

/// What a platform on the files of a folder is put together from.
pub fn parts(folder: &Path) -> Parts {
    let node = NodePart { name: "silent".into(), group: "test".into(), connect: Arc::new(|| Box::new(Silent)) };
    let mut chain = ChainPart::from_genesis(Network::Regtest, 1, vec![node]);
    chain.cadence_ms = 50;
    Parts {
        node: "test".into(),
        platform: [7; 16],
        config: Digest::ZERO,
        trust: Trust::Single,
        clock: Arc::new(SystemClock),
        stores: Stores::open_sqlite(folder).expect("the files can be made"),
        chain: Some(chain),
        signer: None,
        wallets: Some(Arc::new(|| Ok((1..=3).map(wallet_of_signer).collect()))),
        rules: Box::new(CoreRules),
        leads_at_once: true,
        lead_after_quiet_ms: None,
        takeover_ms: 120_000,
        // A busy machine does not run a thread for a second now and then, and most tests are about something else.
        confirmed_ms: 60_000,
        snapshot_rows: SNAPSHOT_ROWS,
        url: None,
        fatal: Arc::new(|fatal| panic!("{fatal}")),
    }
}

impl World {
    pub fn start() -> (TempDir, World) {
        let folder = tempfile::tempdir().expect("a folder");
        let world = World::on(folder.path());
        (folder, world)
    }

    pub fn on(folder: &Path) -> World {
        World::of(parts(folder))
    }

    pub fn of(parts: Parts) -> World {
        World::within(Limits::default(), parts)
    }

    pub fn within(limits: Limits, parts: Parts) -> World {
        let platform = Arc::new(Platform::start(parts).expect("the platform starts"));
        let bound = Server::bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
        let server = bound.serve_within(limits, Arc::clone(&platform), Token::new(TOKEN)).expect("it serves");
        let url = format!("http://{}", server.address());
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        World { platform, server: Some(server), url, agent: config.into(), mined: AtomicU8::new(0) }
    }

    pub fn stop(mut self) {
        self.server.take().expect("it runs").stop();
        assert!(self.platform.stop(), "everything is durable");
    }

    /// Says anything.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).expect("a request");
        let agent = self.agent.configure_request(request).allow_non_standard_methods(true).build();
        let mut response = self.agent.run(agent).expect("the interface answers");
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: response.status().as_u16(), headers: response.headers().clone(), text, value }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("Authorization", &bearer())], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string())
    }

    pub fn post_text(&self, path: &str, body: &str) -> Answer {
        let headers =
            [("Authorization", bearer()), ("Content-Type", "application/json".into()), ("Idempotency-Key", key())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.send("POST", path, &headers, body.as_bytes())
    }

    pub fn post_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        let bearer = bearer();
        let headers =
            [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", key)];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// A POST that has to succeed.
    #[track_caller]
    pub fn made(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body);
        assert!((200..300).contains(&answer.status), "POST {path} {body}: {}", answer.text);
        answer.value
    }

    /// A GET that has to succeed.
    #[track_caller]
    pub fn shown(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text);
        answer.value
    }

    pub fn register_wallet(&self) {
        self.made("/api/v1/wallets", &wallet_body(1));
    }

    pub fn customer(&self) -> String {
        id(&self.made("/api/v1/customers", &json!({})))
    }

    /// A block that pays the script of an address `amount_sat`, or nobody.
    pub fn mine(&self, payment: Option<(&Value, u128)>) {
        let number = self.mined.fetch_add(1, Ordering::Relaxed) + 1;
        let tip = self.platform.read(|state| state.chains()[&CHAIN].tip().expect("a tip").at);
        let receipt = |(address, amount): (&Value, u128)| Receipt {
            txid: TxId([number; 32]),
            vout: 0,
            amount: Amount::new(amount),
            path: KeyPath {
                wallet: WalletId(1),
                branch: custody::Branch::External,
                index: u32::try_from(address["index"].as_u64().expect("an index")).expect("it is small"),
            },
            coinbase: false,
        };
        let at = BlockRef { height: Height(tip.height.0 + 1), hash: BlockHash([number; 32]) };
        let block = Block { chain: CHAIN, at, previous: tip.hash, time_s: 1_700_000_000 };
        let receipts = payment.map(receipt).into_iter().collect();
        let command = Command::ConnectBlock(ConnectBlock { block, receipts, spends: Vec::new(), more: false });
        let told = self.platform.engine().submit_wait(Ask::internal(command), Duration::from_secs(30));
        let told = told.expect("the engine answers");
        assert!(matches!(told.answer, EngineAnswer::Done(_)), "{:?}", told.answer);
    }

    /// Credits a customer with coins.
    pub fn fund(&self, customer: &str, amount_sat: u128) {
        let address = self.made(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
        self.mine(Some((&address, amount_sat)));
        self.mine(None);
        self.mine(None);
    }
}

pub fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

pub fn id(value: &Value) -> String {
    value["id"].as_str().expect("an id").to_owned()
}

/// A wallet's registration, from a seed that everybody knows.
pub fn wallet_body(number: u32) -> Value {
    let blinding = [0; 32];
    let seed = [3u8; 32];
    let account = AccountSecrets::derive(Network::Regtest, &seed, ScriptKind::Wpkh, number, &blinding);
    let account = account.expect("keys").public(&blinding);
    let descriptor = |branch| Descriptor::of_account(&account, branch).expect("a descriptor").to_string();
    json!({
        "id": number, "chain": 1, "tier": "hot",
        "descriptor_external": descriptor(Branch::External), "descriptor_internal": descriptor(Branch::Internal),
    })
}

/// What a signer with the keys of [`wallet_body`] says of a wallet.
pub fn wallet_of_signer(number: u32) -> WalletDescriptors {
    let body = wallet_body(number);
    let text = |name: &str| body[name].as_str().expect("a descriptor").to_owned();
    WalletDescriptors {
        wallet: WalletId(number),
        genesis: florin_engine::terms::core_hash(Network::Regtest.genesis_hash()),
        external: text("descriptor_external"),
        internal: text("descriptor_internal"),
    }
}

/// A fresh UUID of version 7.
pub fn key() -> String {
    florin::api::ask::new_command_id().to_string()
}

/// An operator's public key and signature over a withdrawal's intent, as the interface takes them.
pub fn approval_of(withdrawal: &Value) -> (String, String) {
    approval_by(9, withdrawal)
}

/// The same by the operator of this number.
pub fn approval_by(operator: u8, withdrawal: &Value) -> (String, String) {
    let intent = florin_core::hex::decode(withdrawal["intent"].as_str().expect("an intent")).expect("hexadecimal");
    let key = OperatorKey::from_secret(&[operator; 32]);
    let approval = approve(&ShownIntent::read(&intent).expect("it can be shown"), &key);
    (key.public_text(), florin_core::hex::encode(&approval.signature))
}

/// Whether the program ends well on a folder's configuration, and the last JSON that it says.
pub fn florin(folder: &Path, words: &[&str]) -> (bool, Value) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(words)
        .args(["--json", "--config"])
        .arg(folder.join("florin.toml"))
        .current_dir(folder)
        .output()
        .expect("it runs");
    let text = if done.status.success() { done.stdout } else { done.stderr };
    let text = String::from_utf8(text).expect("text");
    let said = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    (done.status.success(), said.unwrap_or_else(|| panic!("{words:?} says no JSON: {text}")))
}
