//! Every route's happy path, in the order of a customer's life; and that no route of the document is left out.

use super::support::{World, approval_of, id, wallet_body};
use florin_signer::approve::OperatorKey;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A regtest address of nobody we know (BIP-173's example key).
const OUTSIDE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// Replaces what names one thing by what the document calls it.
fn template(path: &str) -> String {
    let path = path.split('?').next().expect("a path");
    let parts: Vec<&str> = path.split('/').collect();
    let known = |part: &str| part.chars().next().is_some_and(|first| first.is_ascii_digit());
    let name = |part: &&str| match *part {
        "BTC" => "{code}".to_owned(),
        part if known(part) => "{id}".to_owned(),
        part => part.to_owned(),
    };
    parts.iter().map(name).collect::<Vec<_>>().join("/")
}

struct Walk<'a> {
    world: &'a World,
    walked: BTreeSet<(String, String)>,
}

impl Walk<'_> {
    fn get(&mut self, path: &str) -> Value {
        self.walked.insert(("get".into(), template(path)));
        self.world.shown(path)
    }

    fn post(&mut self, path: &str, body: Value) -> Value {
        self.walked.insert(("post".into(), template(path)));
        self.world.made(path, &body)
    }
}

#[test]
fn every_route_does_what_it_says() {
    let (_folder, world) = World::start();
    let mut walk = Walk { world: &world, walked: BTreeSet::new() };
    let (customer, second) = people(&mut walk);
    deposits(&mut walk, &customer);
    broker(&mut walk, &customer);
    withdrawals(&mut walk, &customer, &second);
    plans(&mut walk);
    operations(&mut walk);
    let document = world.shown("/api/v1/openapi.json");
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            described.insert((method.clone(), path.clone()));
        }
    }
    walk.walked.insert(("get".into(), "/api/v1/openapi.json".into()));
    assert_eq!(walk.walked, described);
    world.stop();
}

fn people(walk: &mut Walk<'_>) -> (String, String) {
    let first = walk.post("/api/v1/customers", json!({ "name": "First" }));
    let second = id(&walk.post("/api/v1/customers", json!({})));
    let customer = id(&first);
    assert_eq!(first["name"], "First");
    assert_eq!(walk.get(&format!("/api/v1/customers/{customer}"))["name"], "First");
    let page = walk.get("/api/v1/customers?limit=1");
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    let next = page["next"].as_str().expect("there is another").to_owned();
    let rest = walk.get(&format!("/api/v1/customers?after={next}"));
    assert_eq!(rest["items"][0]["id"], json!(second));
    assert_eq!(rest["items"][0]["name"], Value::Null);
    let names = walk.world.platform.read(|state| format!("{state:?}"));
    assert!(!names.contains("First"), "names stay out of the state");
    let forgotten = walk.post(&format!("/api/v1/customers/{customer}/forget-name"), json!({}));
    assert_eq!(forgotten, walk.get(&format!("/api/v1/customers/{customer}")));
    assert_eq!(forgotten["name"], Value::Null);
    (customer, second)
}

fn deposits(walk: &mut Walk<'_>, customer: &str) {
    let wallet = walk.post("/api/v1/wallets", wallet_body(1));
    assert_eq!((&wallet["asset"], &wallet["next_external"]), (&json!("BTC"), &json!(0)));
    let address = walk.post(&format!("/api/v1/customers/{customer}/addresses"), json!({ "asset": "BTC" }));
    assert!(address["address"].as_str().is_some_and(|text| text.starts_with("bcrt1q")), "{address}");
    let listed = walk.get(&format!("/api/v1/customers/{customer}/addresses"));
    assert_eq!(listed["items"][0]["address"], address["address"]);
    walk.world.mine(Some((&address, 100_000_000)));
    let deposit = walk.get(&format!("/api/v1/customers/{customer}/deposits"))["items"][0].clone();
    assert_eq!((&deposit["status"], &deposit["amount"]), (&json!("pending"), &json!("1.00000000")));
    assert_eq!((&deposit["confirmations"], &deposit["confirmations_needed"]), (&json!(1), &json!(3)));
    assert_eq!(deposit["waits_for"], "2 more blocks");
    let balance = walk.get(&format!("/api/v1/customers/{customer}/balances"))["items"][0].clone();
    let parts = json!({ "asset": "BTC", "available": "0.00000000", "held": "0.00000000", "pending": "1.00000000", "frozen": "0.00000000" });
    assert_eq!(balance, parts);
    walk.world.mine(None);
    walk.world.mine(None);
    let credited = walk.get(&format!("/api/v1/deposits/{}", id(&deposit)));
    assert_eq!((&credited["id"], &credited["status"]), (&deposit["id"], &json!("credited")));
    let all = walk.get("/api/v1/deposits?limit=10");
    assert_eq!((&all["items"][0]["status"], &all["items"][0]["waits_for"]), (&json!("credited"), &Value::Null));
    let balance = walk.get(&format!("/api/v1/customers/{customer}/balances"))["items"][0].clone();
    assert_eq!((&balance["available"], &balance["pending"]), (&json!("1.00000000"), &json!("0.00000000")));
    let inventory = walk.post("/api/v1/wallets/1/addresses", json!({}));
    assert_eq!((&inventory["beneficiary"], &inventory["index"]), (&json!("inventory"), &json!(1)));
    walk.world.mine(Some((&inventory, 200_000_000)));
    walk.world.mine(None);
    walk.world.mine(None);
    let wallets = walk.get("/api/v1/wallets");
    assert_eq!(
        (&wallets["items"][0]["coins"], &wallets["items"][0]["coins_amount"]),
        (&json!(2), &json!("3.00000000"))
    );
    assert_eq!(walk.get("/api/v1/chains")["items"][0]["tip"]["height"], 6);
    let blocks = walk.get("/api/v1/chains/1/blocks?limit=2");
    assert_eq!((&blocks["items"][0]["height"], &blocks["next"]), (&json!(6), &json!("5")));
    assert_eq!(walk.get("/api/v1/chains/1/blocks?below=5&limit=1")["items"][0]["height"], 4);
    let transactions = walk.get("/api/v1/chains/1/transactions");
    assert_eq!(
        (&transactions["items"][0]["kind"], transactions["items"].as_array().map(Vec::len)),
        (&json!("deposit"), Some(2))
    );
}

fn broker(walk: &mut Walk<'_>, customer: &str) {
    let receipt = |reference: &str, amount: &str, beneficiary: &str| json!({ "reference": reference, "asset": "EUR", "amount": amount, "beneficiary": beneficiary });
    walk.post("/api/v1/bank-receipts", receipt("R-1", "100000.00", "inventory"));
    walk.post("/api/v1/bank-receipts", receipt("R-2", "1000", customer));
    let price = walk.post("/api/v1/prices", json!({ "base": "BTC", "quote": "EUR", "price": "60000.00" }));
    let ratio = |price: &Value| [&price["price"], &price["quote_amount"], &price["base_amount"]].map(Value::to_string);
    assert_eq!(ratio(&price), [r#""60000.00""#, r#""60000.00""#, r#""1.00000000""#]);
    let fine = walk.post("/api/v1/prices", json!({ "base": "BTC", "quote": "EUR", "price": "60000.125" }));
    assert_eq!(ratio(&fine), [r#""60000.125""#, r#""600001.25""#, r#""10.00000000""#]);
    assert_eq!(walk.get("/api/v1/prices")["items"].as_array().map(Vec::len), Some(1));
    let body = json!({ "customer": customer, "side": "buy", "base": "BTC", "quote": "EUR", "quote_amount": "600.00" });
    let quote = walk.post("/api/v1/quotes", body);
    let path = format!("/api/v1/quotes/{}", id(&quote));
    assert_eq!(walk.get(&path), quote);
    let accepted = walk.post(&format!("{path}/accept"), json!({ "customer": customer }));
    assert_eq!((&accepted["quote_amount"], &accepted["base_amount"]), (&json!("600.00"), &quote["base_amount"]));
    assert_eq!((&accepted["status"], walk.get(&path)), (&json!("accepted"), accepted.clone()));
    let quotes = walk.get(&format!("/api/v1/customers/{customer}/quotes"));
    assert_eq!(quotes["items"], json!([accepted]));
    let transfers = walk.get(&format!("/api/v1/customers/{customer}/transfers?asset=EUR"));
    // The margin is an entry of its own.
    let paid = ["spread", "exchange", "bank_receipt"].map(Value::from);
    assert_eq!([0, 1, 2].map(|place: usize| transfers["items"][place]["reason"].clone()), paid, "{transfers}");
    let correction =
        json!({ "reference": "C-1", "asset": "EUR", "amount": "0.30", "debit": customer, "credit": "inventory" });
    walk.post("/api/v1/corrections", correction.clone());
    let again = walk.world.post("/api/v1/corrections", &correction);
    assert_eq!((again.status, again.code()), (409, "correction_reference_used"), "{}", again.text);
    walk.post(
        "/api/v1/corrections",
        json!({ "reference": "C-2", "asset": "EUR", "amount": "0.30", "debit": "inventory", "credit": customer }),
    );
    let transfers = walk.get(&format!("/api/v1/customers/{customer}/transfers?asset=EUR"));
    assert_eq!(
        [0, 1].map(|place: usize| transfers["items"][place]["reason"].clone()),
        ["correction"; 2].map(Value::from)
    );
    let history = walk.get(&format!("/api/v1/history/{}", id(&quote)));
    assert_eq!(history["items"][0]["kind"], "quote_offered", "{history}");
    let balances = walk.get(&format!("/api/v1/customers/{customer}/balances"));
    let euro = balances["items"].as_array().expect("a list").iter().find(|balance| balance["asset"] == "EUR");
    assert_eq!(euro.expect("a euro account")["available"], "400.00");
}

fn withdrawals(walk: &mut Walk<'_>, customer: &str, second: &str) {
    let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.6", "address": OUTSIDE });
    let withdrawal = walk.post("/api/v1/withdrawals", body);
    let path = format!("/api/v1/withdrawals/{}", id(&withdrawal));
    assert_eq!((&withdrawal["status"], &withdrawal["amount"]), (&json!("awaiting_approval"), &json!("0.60000000")));
    assert_eq!(withdrawal["address"], OUTSIDE);
    let intent = florin_core::hex::decode(withdrawal["intent"].as_str().expect("an intent")).expect("hexadecimal");
    let intent: florin_core::custody::Intent = florin_core::wire::Message::decode(&intent).expect("an intent");
    assert_eq!(intent.digest().to_string(), withdrawal["intent_digest"]);
    let (public, signature) = approval_of(&withdrawal);
    let approvals = format!("{path}/approvals");
    // A signature by another key, over anything else, or none at all, is never kept with the withdrawal.
    let stranger = OperatorKey::from_secret(&[8; 32]).public_text();
    for (key, signature) in [(&stranger, &signature), (&public, &"22".repeat(64)), (&"ff".repeat(32), &signature)] {
        let wrong = json!({ "key": key, "signature": signature, "complete": true });
        let answer = walk.world.post(&approvals, &wrong);
        assert_eq!((answer.status, answer.code()), (422, "approval_signature_invalid"));
        assert_eq!(walk.get(&path)["status"], "awaiting_approval");
    }
    let approved = walk.post(&approvals, json!({ "key": public, "signature": signature, "complete": false }));
    assert_eq!((&approved["approved_by"][0], &approved["status"]), (&json!(public), &json!("awaiting_approval")));
    let balance = |walk: &mut Walk<'_>| walk.get(&format!("/api/v1/customers/{customer}/balances"))["items"][0].clone();
    assert_eq!(balance(walk)["held"], "0.60005000");
    let cancelled = walk.post(&format!("{path}/cancel"), json!({}));
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(balance(walk)["held"], "0.00000000");
    assert_eq!(walk.get(&path)["status"], "cancelled");
    assert_eq!(walk.get("/api/v1/withdrawals?limit=5")["items"][0]["id"], json!(id(&withdrawal)));
    // To an address of our own it settles in the ledger.
    let address = walk.post(&format!("/api/v1/customers/{second}/addresses"), json!({}));
    let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.1", "address": address["address"] });
    let internal = walk.post("/api/v1/withdrawals", body);
    assert_eq!(internal["status"], "final", "{internal}");
    let listed = walk.get(&format!("/api/v1/customers/{customer}/withdrawals"));
    assert_eq!([&listed["items"][0], &listed["items"][1]["id"]], [&internal, &cancelled["id"]]);
    let received = walk.get(&format!("/api/v1/customers/{second}/balances"));
    assert_eq!(received["items"][0]["available"], "0.10000000");
}

/// There are none without a signer; what they do where there is one is told elsewhere.
fn plans(walk: &mut Walk<'_>) {
    assert_eq!(walk.get("/api/v1/plans")["items"], json!([]));
    let nothing = "00".repeat(32);
    let word = json!({ "input": format!("{nothing}:0"), "txid": nothing, "block_height": 1, "block_hash": nothing });
    for (method, path) in [("get", "/api/v1/plans/1"), ("post", "/api/v1/plans/1/conflict")] {
        walk.walked.insert((method.into(), template(path)));
        let answer = if method == "get" { walk.world.get(path) } else { walk.world.post(path, &word) };
        assert_eq!((answer.status, answer.code()), (404, "plan_unknown"));
    }
}

fn operations(walk: &mut Walk<'_>) {
    let status = walk.get("/api/v1/status");
    assert_eq!((&status["leading"], &status["trust"]), (&json!(true), &json!("single")));
    assert_eq!(status["platform"], "07070707-0707-0707-0707-070707070707");
    assert_eq!(status["head_hash"].as_str().map(str::len), Some(64));
    assert_eq!(walk.get("/api/v1/health")["status"], "ok");
    let assets = walk.get("/api/v1/assets");
    assert_eq!(assets["items"][0]["code"], "BTC");
    assert_eq!(assets["items"][0]["policy"]["withdrawal_fee"], "0.00005000");
    assert_eq!(walk.get("/api/v1/assets/BTC"), assets["items"][0]);
    let finality = walk.post("/api/v1/assets/BTC/policy", json!({ "final_confirmations": 7 }));
    assert_eq!(finality["policy"]["final_confirmations"], 7);
    let books = walk.get("/api/v1/books");
    assert_eq!((&books["balanced"], &books["faults"]), (&json!(true), &json!([])), "{books}");
    assert_eq!(books["items"][0]["wallets"][0]["coins"], "3.00000000");
    let halt = walk.post("/api/v1/halts", json!({ "asset": "BTC", "action": "quote" }));
    assert_eq!(walk.get("/api/v1/halts")["items"], json!([halt]));
    walk.post("/api/v1/halts/resume", json!({ "asset": "BTC", "action": "quote" }));
    assert_eq!(walk.get("/api/v1/halts")["items"], json!([]));
    walk.post("/api/v1/wallets", wallet_body(2));
    assert_eq!(walk.post("/api/v1/wallets/2/retire", json!({}))["retired"], true);
    walk.walked.insert(("post".into(), "/api/v1/time/confirm".into()));
    assert_eq!(walk.world.post("/api/v1/time/confirm", &json!({})).code(), "time_not_jumped");
    let events = walk.get("/api/v1/events?after=0&limit=3");
    assert_eq!(events["items"][0]["kind"], "epoch_started");
    assert_eq!((&events["items"][0]["seq"], &events["next"]), (&json!(1), &json!(3)));
    walk.walked.insert(("get".into(), "/api/v1/metrics".into()));
    let metrics = walk.world.get("/api/v1/metrics");
    assert!(metrics.header("content-type").starts_with("text/plain"));
    for line in ["florin_leading 1", "florin_books_balanced{asset=\"BTC\"} 1", "florin_customers 2"] {
        assert!(metrics.text.lines().any(|found| found == line), "{line} is missing in\n{}", metrics.text);
    }
}

#[test]
fn nodes_are_named_with_their_state() {
    let (_folder, world) = World::start();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let status = world.shown("/api/v1/status");
        let node = &status["chains"][0]["nodes"][0];
        if node["state"] == "unreachable" {
            assert_eq!((&node["name"], &node["group"]), (&json!("silent"), &json!("test")));
            let why = (&json!("node_timeout"), &json!("the node did not answer in time"));
            assert_eq!((&node["code"], &node["reason"]), why);
            let labels =
                "chain=\"bitcoin-regtest\",node=\"silent\",group=\"test\",state=\"unreachable\",code=\"node_timeout\"";
            let metrics = world.get("/api/v1/metrics").text;
            assert!(metrics.contains(&format!("florin_node_state{{{labels}}} 1")), "{metrics}");
            let alarms = status["alarms"].as_array().cloned().unwrap_or_default();
            let said = alarms.iter().find(|alarm| alarm["code"] == "node_timeout").expect("an alarm");
            assert_eq!(&said["detail"], why.1);
            return world.stop();
        }
        assert!(std::time::Instant::now() < end, "{status}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
