//! The load: clients that ask over HTTP with idempotency keys, ask again with the same key until they are answered, and note
//! what was acknowledged; and a miner that pays them, mines and forks. They know nothing of who is killed when.

use crate::process::{Random, WAIT};
use crate::site::{Endpoints, Site};
use bitcoin::hashes::Hash;
use bitcoin::{Address, ScriptBuf, WPubkeyHash};
use florin::api::ask::{KEY_HEADER, SEQ_HEADER, new_command_id};
use florin::demo::world::World;
use florin_core::amount::Amount;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one answer may take before it is asked for again.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// The pause before something is asked for again.
const AGAIN: Duration = Duration::from_millis(15);

/// Stands for the code where a change got no answer: whether it was done is not known until it is asked for again.
pub const NO_ANSWER: &str = "no_answer";

/// The fee of a withdrawal, as new platforms on a network of play have it.
pub const WITHDRAWAL_FEE_SAT: i128 = 5_000;

/// One who asks.
pub struct Caller {
    agent: ureq::Agent,
    token: String,
    endpoints: Endpoints,
    turn: usize,
    seen: u64,
    /// How often a change had to be asked for again, by the code of the answer.
    pub put_off: BTreeMap<String, u64>,
}

enum Said {
    Done(Value),
    Refused(String),
    Again,
}

impl Caller {
    pub fn new(endpoints: Endpoints, token: &str) -> Caller {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER_MAX)).build();
        let (agent, token) = (config.into(), format!("Bearer {token}"));
        Caller { agent, token, endpoints, turn: 0, seen: 0, put_off: BTreeMap::new() }
    }

    fn endpoint(&self) -> Option<String> {
        let endpoints = self.endpoints.lock().expect("nobody panics");
        endpoints.values().nth(self.turn % endpoints.len().max(1)).cloned()
    }

    /// Asks for a change until it is done or refused, always with the same key.
    pub fn post(&mut self, key: &str, path: &str, body: &Value) -> Result<Value, String> {
        let start = Instant::now();
        loop {
            if let Some(url) = self.endpoint() {
                match self.post_at(&url, key, path, body) {
                    Said::Done(value) => return Ok(value),
                    Said::Refused(code) => return Err(code),
                    Said::Again => {}
                }
            }
            assert!(start.elapsed() < WAIT, "no answer to POST {path} {body} with {key}");
            // The next one may lead.
            self.turn = self.turn.wrapping_add(1);
            std::thread::sleep(AGAIN);
        }
    }

    fn post_at(&mut self, url: &str, key: &str, path: &str, body: &Value) -> Said {
        let request = self
            .agent
            .post(format!("{url}{path}"))
            .header("Authorization", &self.token)
            .header("Content-Type", "application/json")
            .header(KEY_HEADER, key);
        let Ok(response) = request.send(body.to_string()) else {
            *self.put_off.entry(NO_ANSWER.to_owned()).or_default() += 1;
            return Said::Again;
        };
        self.read(response, path)
    }

    /// Asks one node once; the status and what it says, `None` where nothing came back.
    pub fn post_once(&self, url: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.agent.post(format!("{url}{path}")).header("Authorization", &self.token);
        let request = request.header(KEY_HEADER, new_command_id().to_string());
        whole(request.header("Content-Type", "application/json").send(body.to_string()).ok()?)
    }

    /// Reads from one node once; the status and what it says, `None` where nothing came back.
    pub fn get_once(&self, url: &str, path: &str) -> Option<(u16, Value)> {
        whole(self.agent.get(format!("{url}{path}")).header("Authorization", &self.token).call().ok()?)
    }

    fn read(&mut self, mut response: ureq::http::Response<ureq::Body>, path: &str) -> Said {
        let seq = response.headers().get(SEQ_HEADER).and_then(|seq| seq.to_str().ok()?.parse().ok());
        let status = response.status().as_u16();
        // Half an answer is none.
        let Ok(text) = response.body_mut().read_to_string() else { return Said::Again };
        let Ok(value) = serde_json::from_str::<Value>(&text) else { return Said::Again };
        let code = value["code"].as_str().unwrap_or_default().to_owned();
        match status {
            200..300 => {
                self.seen = self.seen.max(seq.unwrap_or(0));
                Said::Done(value)
            }
            // Somebody else got the port of a process that was killed.
            401 => Said::Again,
            503 => {
                *self.put_off.entry(code).or_default() += 1;
                Said::Again
            }
            400..500 => Said::Refused(code),
            _ => panic!("{path}: {status} {text}"),
        }
    }

    /// A change that must be done.
    #[track_caller]
    pub fn must(&mut self, path: &str, body: &Value) -> Value {
        let key = new_command_id().to_string();
        self.post(&key, path, body).unwrap_or_else(|code| panic!("POST {path} {body}: {code}"))
    }

    /// Reads until it is answered. What this caller was told of must be in it.
    pub fn get(&mut self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|code| panic!("GET {path}: {code}"))
    }

    pub fn try_get(&mut self, path: &str) -> Result<Value, String> {
        let start = Instant::now();
        loop {
            if let Some(url) = self.endpoint() {
                let request = self.agent.get(format!("{url}{path}")).header("Authorization", &self.token);
                if let Ok(response) = request.header(SEQ_HEADER, self.seen.to_string()).call() {
                    match self.read(response, path) {
                        Said::Done(value) => return Ok(value),
                        Said::Refused(code) => return Err(code),
                        Said::Again => {}
                    }
                }
            }
            assert!(start.elapsed() < WAIT, "no answer to GET {path} at row {}", self.seen);
            self.turn = self.turn.wrapping_add(1);
            std::thread::sleep(AGAIN);
        }
    }

    /// Reads from one node, once.
    pub fn get_at(&mut self, url: &str, path: &str) -> Option<Value> {
        let request = self.agent.get(format!("{url}{path}")).header("Authorization", &self.token);
        match self.read(request.call().ok()?, path) {
            Said::Done(value) => Some(value),
            Said::Refused(_) | Said::Again => None,
        }
    }
}

/// The status and the body of an answer; a refusal for now says when to try again.
fn whole(mut response: ureq::http::Response<ureq::Body>) -> Option<(u16, Value)> {
    let status = response.status().as_u16();
    assert!(status != 503 || response.headers().contains_key("retry-after"), "{response:?}");
    Some((status, serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()?))
}

/// What kind of thing was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Customer,
    Receipt,
    /// Goodwill from the inventory, or back to it.
    Correction,
    Address,
    Quote,
    Exchange,
    Withdrawal,
}

/// Something that a client was told is done.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub kind: Kind,
    pub key: String,
    pub path: String,
    pub customer: String,
    pub body: Value,
    pub answer: Value,
}

/// A payment from outside to a customer's address.
#[derive(Debug, Clone)]
pub struct Paid {
    pub customer: String,
    pub txid: String,
    pub satoshi: i128,
}

/// All that is known from outside.
#[derive(Debug, Default)]
pub struct Record {
    pub acknowledged: Vec<Acknowledged>,
    pub paid: Vec<Paid>,
    pub refused: BTreeMap<String, u64>,
    pub put_off: BTreeMap<String, u64>,
}

impl Record {
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Acknowledged> {
        self.acknowledged.iter().filter(move |told| told.kind == kind)
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.of(kind).count()
    }
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("'{name}' is missing: {value}"))
}

/// An amount's text in smallest units.
pub fn units(text: &str, decimals: u8) -> i128 {
    let amount = Amount::parse(text, decimals).unwrap_or_else(|fault| panic!("'{text}': {fault}"));
    i128::try_from(amount.units()).expect("it is small")
}

fn shown(units: i128, decimals: u8) -> String {
    Amount::new(u128::try_from(units).expect("it is not negative")).format(decimals)
}

/// What clients, miner and test share.
#[derive(Default)]
struct Shared {
    is_ending: AtomicBool,
    done: AtomicU64,
    addresses: Mutex<Vec<(String, Vec<u8>)>>,
}

/// The running load.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Record>>,
    miner: JoinHandle<Vec<Paid>>,
}

impl Load {
    pub fn start(site: &Site, random: &mut Random, clients: usize) -> Load {
        let shared = Arc::new(Shared::default());
        let client = |index: usize| {
            let (caller, shared, random) = (site.caller(), Arc::clone(&shared), random.split());
            let client = Client { index, caller, random, shared, record: Record::default(), owned: Vec::new() };
            std::thread::spawn(move || client.run())
        };
        let clients = (0..clients).map(client).collect();
        let (world, mining, chance) = (site.world.clone(), Arc::clone(&shared), random.split());
        let miner = std::thread::spawn(move || mine(&world, &mining, chance));
        Load { shared, clients, miner }
    }

    /// How many changes were acknowledged so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::SeqCst)
    }

    /// Waits until more was acknowledged: whoever serves now does serve.
    #[track_caller]
    pub fn wait_for_more(&self, count: u64) {
        let before = self.done();
        let start = Instant::now();
        while self.done() < before + count {
            assert!(start.elapsed() < WAIT, "nothing was acknowledged for {} s", WAIT.as_secs());
            assert!(!self.clients.iter().any(JoinHandle::is_finished), "a client has given up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A customer who has had a receipt.
    pub fn customer(&self) -> String {
        let addresses = self.shared.addresses.lock().expect("nobody panics");
        addresses.first().expect("the load has begun").0.clone()
    }

    /// Ends it: what was begun is asked for until it is answered.
    pub fn finish(self) -> Record {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        let mut all = Record::default();
        for client in self.clients {
            let record = client.join().expect("no client panics");
            all.acknowledged.extend(record.acknowledged);
            for (code, count) in record.refused {
                *all.refused.entry(code).or_default() += count;
            }
            for (code, count) in record.put_off {
                *all.put_off.entry(code).or_default() += count;
            }
        }
        all.paid = self.miner.join().expect("the miner does not panic");
        all
    }
}

/// Something of a client's own: nobody else changes it, so that it knows the balance by itself.
struct Owned {
    id: String,
    cents: i128,
    satoshi: i128,
}

struct Client {
    index: usize,
    caller: Caller,
    random: Random,
    shared: Arc<Shared>,
    record: Record,
    owned: Vec<Owned>,
}

impl Client {
    fn run(mut self) -> Record {
        for _ in 0..2 {
            self.open();
        }
        while !self.shared.is_ending.load(Ordering::SeqCst) {
            let which = usize::try_from(self.random.within(0, self.owned.len() as u64)).expect("it is small");
            match self.random.within(0, 13) {
                0 if self.owned.len() < 5 => self.open(),
                0..3 => self.receipt(which),
                3 => self.address(which),
                4..8 => self.exchange(which),
                8..11 => self.withdraw(which),
                11 => self.correct(which),
                _ => self.look(which),
            }
            self.random.pause(1, 30);
        }
        self.record.put_off = self.caller.put_off;
        self.record
    }

    fn ask(&mut self, kind: Kind, customer: &str, path: &str, body: Value) -> Option<Value> {
        let key = new_command_id().to_string();
        match self.caller.post(&key, path, &body) {
            Ok(answer) => {
                let (path, customer, answer_too) = (path.to_owned(), customer.to_owned(), answer.clone());
                self.record.acknowledged.push(Acknowledged { kind, key, path, customer, body, answer });
                self.shared.done.fetch_add(1, Ordering::SeqCst);
                Some(answer_too)
            }
            Err(code) => {
                *self.record.refused.entry(code).or_default() += 1;
                None
            }
        }
    }

    fn open(&mut self) {
        let name = format!("Customer {} of client {}", self.owned.len(), self.index);
        let answer = self.ask(Kind::Customer, "", "/api/v1/customers", json!({ "name": name }));
        let id = text(&answer.expect("customers are always opened"), "id").to_owned();
        self.owned.push(Owned { id, cents: 0, satoshi: 0 });
        let which = self.owned.len() - 1;
        self.receipt(which);
        self.address(which);
    }

    fn receipt(&mut self, which: usize) {
        let id = self.owned[which].id.clone();
        let cents = i128::from(self.random.within(20_000, 200_000));
        let reference = format!("{}-{}", self.index, self.record.acknowledged.len());
        let body = json!({ "reference": reference, "asset": "EUR", "amount": shown(cents, 2), "beneficiary": id });
        self.ask(Kind::Receipt, &id, "/api/v1/bank-receipts", body).expect("receipts are always booked");
        self.owned[which].cents += cents;
    }

    /// The operator corrects the customer's euros by a little, either way.
    fn correct(&mut self, which: usize) {
        let Owned { id, cents, .. } = &self.owned[which];
        let (id, cents) = (id.clone(), *cents);
        let moved = i128::from(self.random.within(1, 900));
        let takes = self.random.once_in(2) && cents > 10_000;
        let (debit, credit) = if takes { (id.as_str(), "inventory") } else { ("inventory", id.as_str()) };
        let reference = format!("{}-{}", self.index, self.record.acknowledged.len());
        let body = json!({
            "reference": reference, "asset": "EUR", "amount": shown(moved, 2), "debit": debit, "credit": credit,
        });
        if self.ask(Kind::Correction, &id, "/api/v1/corrections", body).is_some() {
            self.owned[which].cents += if takes { -moved } else { moved };
        }
    }

    fn address(&mut self, which: usize) {
        let id = self.owned[which].id.clone();
        let path = format!("/api/v1/customers/{id}/addresses");
        let issued = self.ask(Kind::Address, &id, &path, json!({})).expect("addresses are always issued");
        let script = florin_core::hex::decode(text(&issued, "script")).expect("hexadecimal");
        self.shared.addresses.lock().expect("nobody panics").push((id, script));
    }

    fn exchange(&mut self, which: usize) {
        let Owned { id, cents, satoshi } = &self.owned[which];
        let (id, cents, satoshi) = (id.clone(), *cents, *satoshi);
        let mut body = json!({ "customer": id, "base": "BTC", "quote": "EUR" });
        let sells = self.random.once_in(5) && satoshi > 50_000;
        let fields = body.as_object_mut().expect("it is one");
        if sells {
            fields.insert("side".into(), json!("sell"));
            fields.insert("base_amount".into(), json!(shown(10_000, 8)));
        } else if cents > 10_000 {
            fields.insert("side".into(), json!("buy"));
            fields.insert("quote_amount".into(), json!(shown(i128::from(self.random.within(3_000, 9_000)), 2)));
        } else {
            return self.receipt(which);
        }
        let Some(quote) = self.ask(Kind::Quote, &id, "/api/v1/quotes", body) else { return };
        let path = format!("/api/v1/quotes/{}/accept", text(&quote, "id"));
        let body = if self.random.once_in(2) { json!({ "customer": id }) } else { json!({}) };
        let Some(done) = self.ask(Kind::Exchange, &id, &path, body) else { return };
        let (base, paid) = (units(text(&done, "base_amount"), 8), units(text(&done, "quote_amount"), 2));
        let sign = if sells { -1 } else { 1 };
        self.owned[which].satoshi += sign * base;
        self.owned[which].cents -= sign * paid;
    }

    fn withdraw(&mut self, which: usize) {
        let (id, satoshi) = (self.owned[which].id.clone(), self.owned[which].satoshi);
        let amount = i128::from(self.random.within(20_000, 90_000));
        if satoshi < amount + WITHDRAWAL_FEE_SAT {
            return self.exchange(which);
        }
        // Nobody's key: what is paid there stays there, and each is paid once if at all.
        let words = [self.random.next(), self.random.next(), self.random.next()].map(u64::to_be_bytes).concat();
        let hash = WPubkeyHash::from_slice(&words[..20]).expect("20 bytes");
        let script = ScriptBuf::new_p2wpkh(&hash);
        let address = Address::from_script(&script, bitcoin::Network::Regtest).expect("it has an address").to_string();
        let body = json!({ "customer": id, "asset": "BTC", "amount": shown(amount, 8), "address": address });
        if self.ask(Kind::Withdrawal, &id, "/api/v1/withdrawals", body).is_some() {
            self.owned[which].satoshi -= amount + WITHDRAWAL_FEE_SAT;
        }
    }

    /// What was acknowledged is seen, by whomever is asked, and nothing else.
    fn look(&mut self, which: usize) {
        let Owned { id, cents, .. } = &self.owned[which];
        let balances = self.caller.get(&format!("/api/v1/customers/{id}/balances"));
        let items = balances["items"].as_array().expect("a list");
        let euro = items.iter().find(|balance| balance["asset"] == "EUR").expect("there was a receipt");
        assert_eq!(units(text(euro, "available"), 2), *cents, "the euros of {id}: {balances}");
    }
}

/// Pays customers, mines, and takes blocks back, until the clients end.
fn mine(world: &World, shared: &Shared, mut random: Random) -> Vec<Paid> {
    let mut paid = Vec::new();
    while !shared.is_ending.load(Ordering::SeqCst) {
        let addresses = shared.addresses.lock().expect("nobody panics").clone();
        if !addresses.is_empty() && random.once_in(2) {
            let which = usize::try_from(random.within(0, addresses.len() as u64)).expect("it is small");
            let (customer, script) = addresses[which].clone();
            let satoshi = random.within(20_000, 200_000);
            let txid = world.pay(&script, satoshi).expect("the outside wallet is rich").to_string();
            paid.push(Paid { customer, txid, satoshi: i128::from(satoshi) });
        }
        if random.once_in(12) {
            let depth = if random.once_in(4) { 3 } else { 1 + u32::from(random.once_in(2)) };
            world.fork(depth).expect("a branch");
        } else {
            world.mine(1).expect("a block");
        }
        random.pause(200, 600);
    }
    paid
}
