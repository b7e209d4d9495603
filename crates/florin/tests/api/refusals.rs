//! What the interface refuses, with which status and code; and that a refusal changes nothing.

use super::support::{TOKEN, World, bearer, id, key, wallet_body};
use serde_json::{Value, json};

const OUTSIDE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

/// Texts that are no amount, whatever somebody may read into them.
const NO_AMOUNTS: &[&str] = &[
    "",
    "-1",
    "-0",
    "-0.00000001",
    "+1",
    "1.",
    ".1",
    "01",
    "00",
    "1e2",
    "1E8",
    "1e-8",
    "0x10",
    "1_000",
    "1,000.00",
    "1.000,00",
    " 1",
    "1 ",
    "1\u{a0}",
    "\u{ff10}\u{ff11}",
    "\u{661}\u{662}",
    "\u{967}",
    "\u{200f}1",
    "NaN",
    "Infinity",
    "1.2.3",
    "null",
    "1\n",
    "1\u{0}",
];

/// JSON that is no text, and so no amount.
const NO_TEXTS: &[&str] = &[
    "1",
    "0.1",
    "0.07",
    "1e-8",
    "1E8",
    "1e400",
    "-1",
    "20999999.9769",
    "123456789.123456789",
    "null",
    "true",
    "[]",
    "{}",
    "[\"1\"]",
];

/// A platform with a customer who has 1 BTC, an inventory, and a price.
fn ready() -> (tempfile::TempDir, World, String) {
    let (folder, world) = World::start();
    world.register_wallet();
    let customer = world.customer();
    world.fund(&customer, 100_000_000);
    let receipt = json!({ "reference": "R-1", "asset": "EUR", "amount": "1000000", "beneficiary": "inventory" });
    world.made("/api/v1/bank-receipts", &receipt);
    world.made("/api/v1/prices", &json!({ "base": "BTC", "quote": "EUR", "price": "60000" }));
    (folder, world, customer)
}

/// Every field that takes an amount, with a request that is right but for it.
fn money_fields(customer: &str) -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("/api/v1/bank-receipts", "amount", json!({ "reference": "R-9", "asset": "EUR", "beneficiary": customer })),
        (
            "/api/v1/corrections",
            "amount",
            json!({ "reference": "C-9", "asset": "EUR", "debit": "inventory", "credit": customer }),
        ),
        ("/api/v1/prices", "price", json!({ "base": "BTC", "quote": "EUR" })),
        (
            "/api/v1/quotes",
            "base_amount",
            json!({ "customer": customer, "side": "sell", "base": "BTC", "quote": "EUR" }),
        ),
        (
            "/api/v1/quotes",
            "quote_amount",
            json!({ "customer": customer, "side": "sell", "base": "BTC", "quote": "EUR" }),
        ),
        ("/api/v1/withdrawals", "amount", json!({ "customer": customer, "asset": "BTC", "address": OUTSIDE })),
    ]
}

#[test]
fn amounts_have_one_grammar_in_every_field() {
    let (_folder, world, customer) = ready();
    let before = world.shown("/api/v1/books");
    for (path, field, request) in money_fields(&customer) {
        for text in NO_AMOUNTS {
            let mut body = request.clone();
            body[field] = json!(text);
            let answer = world.post(path, &body);
            assert_eq!(
                (answer.status, answer.code()),
                (400, "amount_invalid"),
                "{path} {field} {text:?}: {}",
                answer.text
            );
        }
        for number in NO_TEXTS.iter().filter(|text| **text != "null" || !path.ends_with("quotes")) {
            let mut text = request.to_string();
            text.truncate(text.len() - 1);
            let answer = world.post_text(path, &format!("{text},\"{field}\":{number}}}"));
            assert_eq!(
                (answer.status, answer.code()),
                (400, "amount_invalid"),
                "{path} {field} {number}: {}",
                answer.text
            );
        }
        for (text, codes) in [
            ("0.0000000000000000001", &["amount_precision"][..]),
            ("340282366920938463463374607431768211456", &["amount_too_large"]),
            ("115792089237316195423570985008687907853269984665640564039457584007913129639935", &["amount_too_large"]),
            ("0", &["amount_zero", "price_zero", "withdrawal_too_small"]),
        ] {
            let mut body = request.clone();
            body[field] = json!(text);
            let answer = world.post(path, &body);
            assert!(codes.contains(&answer.code()), "{path} {field} {text}: {}", answer.text);
            assert!((400..500).contains(&answer.status), "{path} {field} {text}: {}", answer.text);
        }
    }
    assert_eq!(world.shown("/api/v1/books"), before, "nothing was booked");
    assert_eq!(world.shown("/api/v1/withdrawals")["items"], json!([]));
    world.stop();
}

/// Method, path, body, status, code.
type Case<'a> = (&'a str, String, Value, u16, &'a str);

fn customer_cases(customer: &str) -> Vec<Case<'static>> {
    let of = |id: &str, rest: &str| format!("/api/v1/customers/{id}{rest}");
    vec![
        ("POST", "/api/v1/customers".into(), json!({ "name": "" }), 400, "name_invalid"),
        ("POST", "/api/v1/customers".into(), json!({ "name": "a\u{7}" }), 400, "name_invalid"),
        ("POST", "/api/v1/customers".into(), json!({ "name": "x".repeat(201) }), 400, "name_invalid"),
        ("POST", "/api/v1/customers".into(), json!({ "nmae": "x" }), 400, "body_invalid"),
        ("GET", "/api/v1/customers?limit=0".into(), Value::Null, 400, "query_invalid"),
        ("GET", "/api/v1/customers?limit=501".into(), Value::Null, 400, "query_invalid"),
        ("GET", "/api/v1/customers?limit=1e1".into(), Value::Null, 400, "query_invalid"),
        ("GET", "/api/v1/customers?limt=1".into(), Value::Null, 400, "query_invalid"),
        ("GET", "/api/v1/customers?after=x".into(), Value::Null, 400, "query_invalid"),
        ("GET", of(NOBODY, ""), Value::Null, 404, "customer_unknown"),
        ("GET", of("x", ""), Value::Null, 404, "customer_unknown"),
        ("GET", of("%ff", ""), Value::Null, 400, "path_invalid"),
        ("GET", of(NOBODY, "/balances"), Value::Null, 404, "customer_unknown"),
        ("GET", of(NOBODY, "/addresses"), Value::Null, 404, "customer_unknown"),
        ("GET", of(NOBODY, "/deposits"), Value::Null, 404, "customer_unknown"),
        ("POST", of(NOBODY, "/addresses"), json!({}), 404, "customer_unknown"),
        ("POST", of(customer, "/addresses"), json!({ "asset": "XXX" }), 404, "asset_unknown"),
        ("POST", of(customer, "/addresses"), json!({ "asset": "EUR" }), 422, "asset_not_on_chain"),
        ("POST", of(customer, "/addresses"), json!({ "wallet": 9 }), 404, "wallet_unknown"),
        ("GET", "/api/v1/deposits?after=1:zz:0".into(), Value::Null, 400, "query_invalid"),
    ]
}

fn money_cases(customer: &str) -> Vec<Case<'static>> {
    let receipt = |reference: &str, asset: &str, beneficiary: &str| json!({ "reference": reference, "asset": asset, "amount": "1", "beneficiary": beneficiary });
    let correction = |reference: &str, asset: &str, debit: &str, credit: &str| json!({ "reference": reference, "asset": asset, "amount": "1", "debit": debit, "credit": credit });
    let quote = |change: Value| {
        let mut body =
            json!({ "customer": customer, "side": "sell", "base": "BTC", "quote": "EUR", "base_amount": "0.1" });
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        body
    };
    let quotes = "/api/v1/quotes".to_owned();
    vec![
        ("POST", "/api/v1/bank-receipts".into(), receipt("R-1", "EUR", "inventory"), 409, "bank_reference_used"),
        ("POST", "/api/v1/bank-receipts".into(), receipt("", "EUR", "inventory"), 400, "bank_reference_invalid"),
        ("POST", "/api/v1/bank-receipts".into(), receipt("R-2", "BTC", "inventory"), 422, "asset_not_fiat"),
        ("POST", "/api/v1/bank-receipts".into(), receipt("R-2", "EUR", NOBODY), 404, "customer_unknown"),
        ("POST", "/api/v1/bank-receipts".into(), receipt("R-2", "EUR", "house"), 404, "customer_unknown"),
        (
            "POST",
            "/api/v1/corrections".into(),
            correction("C 1", "EUR", "fees", customer),
            400,
            "correction_reference_invalid",
        ),
        ("POST", "/api/v1/corrections".into(), correction("C-1", "XXX", "fees", customer), 404, "asset_unknown"),
        (
            "POST",
            "/api/v1/corrections".into(),
            correction("C-1", "EUR", "bank", customer),
            422,
            "debit_not_correctable",
        ),
        (
            "POST",
            "/api/v1/corrections".into(),
            correction("C-1", "BTC", "suspense", customer),
            422,
            "debit_not_correctable",
        ),
        (
            "POST",
            "/api/v1/corrections".into(),
            correction("C-1", "BTC", customer, "bank"),
            422,
            "credit_not_correctable",
        ),
        ("POST", "/api/v1/corrections".into(), correction("C-1", "EUR", customer, customer), 422, "transfer_to_itself"),
        ("POST", "/api/v1/corrections".into(), correction("C-1", "EUR", "house", customer), 404, "customer_unknown"),
        ("POST", "/api/v1/corrections".into(), correction("C-1", "EUR", "inventory", NOBODY), 404, "customer_unknown"),
        ("POST", "/api/v1/corrections".into(), correction("C-1", "EUR", "fees", customer), 422, "insufficient_funds"),
        ("POST", "/api/v1/prices".into(), json!({ "base": "BTC", "quote": "BTC", "price": "1" }), 400, "pair_invalid"),
        ("POST", "/api/v1/prices".into(), json!({ "base": "BTC", "quote": "XXX", "price": "1" }), 404, "asset_unknown"),
        (
            "POST",
            "/api/v1/prices".into(),
            json!({ "base": "BTC", "quote": "EUR", "price": "1" }),
            422,
            "price_out_of_band",
        ),
        ("POST", quotes.clone(), quote(json!({ "side": "hold" })), 400, "choice_invalid"),
        ("POST", quotes.clone(), quote(json!({ "customer": NOBODY })), 404, "customer_unknown"),
        ("POST", quotes.clone(), quote(json!({ "quote_amount": "1" })), 400, "quote_amounts_invalid"),
        ("POST", quotes.clone(), quote(json!({ "base_amount": "2" })), 422, "insufficient_funds"),
        ("POST", quotes.clone(), quote(json!({ "base": "EUR", "quote": "BTC" })), 422, "price_unknown"),
        ("POST", quotes, quote(json!({ "side": "buy", "base_amount": "0.1" })), 422, "insufficient_funds"),
        ("POST", format!("/api/v1/quotes/{NOBODY}/accept"), json!({ "customer": customer }), 404, "quote_unknown"),
        ("POST", format!("/api/v1/quotes/{NOBODY}/accept"), json!({}), 404, "quote_unknown"),
        ("GET", "/api/v1/quotes/x".into(), Value::Null, 404, "quote_unknown"),
    ]
}

fn withdrawal_cases(customer: &str) -> Vec<Case<'static>> {
    let withdraw = |amount: &str, address: &str| json!({ "customer": customer, "asset": "BTC", "amount": amount, "address": address });
    let withdrawals = "/api/v1/withdrawals".to_owned();
    vec![
        (
            "POST",
            withdrawals.clone(),
            withdraw("0.1", "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"),
            400,
            "network_mismatch",
        ),
        (
            "POST",
            withdrawals.clone(),
            withdraw("0.1", "0x52908400098527886E0F7030069857D2E4169EE7"),
            400,
            "network_mismatch",
        ),
        (
            "POST",
            withdrawals.clone(),
            withdraw("0.1", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081"),
            400,
            "address_invalid",
        ),
        ("POST", withdrawals.clone(), withdraw("0.1", &"1".repeat(10_000)), 400, "address_invalid"),
        ("POST", withdrawals.clone(), withdraw("0.00001", OUTSIDE), 422, "withdrawal_too_small"),
        ("POST", withdrawals.clone(), withdraw("1", OUTSIDE), 422, "insufficient_funds"),
        (
            "POST",
            withdrawals,
            json!({ "customer": customer, "asset": "EUR", "amount": "1", "address": OUTSIDE }),
            422,
            "asset_not_on_chain",
        ),
        ("GET", format!("/api/v1/withdrawals/{NOBODY}"), Value::Null, 404, "withdrawal_unknown"),
        ("POST", format!("/api/v1/withdrawals/{NOBODY}/cancel"), json!({}), 404, "withdrawal_unknown"),
        (
            "POST",
            format!("/api/v1/withdrawals/{NOBODY}/approvals"),
            json!({ "key": "11", "signature": "22", "complete": true }),
            400,
            "hex_invalid",
        ),
        (
            "POST",
            format!("/api/v1/withdrawals/{NOBODY}/approvals"),
            json!({ "key": "11".repeat(32), "signature": "22".repeat(64), "complete": true }),
            404,
            "withdrawal_unknown",
        ),
    ]
}

fn operator_cases() -> Vec<Case<'static>> {
    let wallet = |change: Value| {
        let mut body = wallet_body(2);
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        body
    };
    let external = wallet_body(2)["descriptor_external"].clone();
    let foreign = wallet_body(3)["descriptor_internal"].clone();
    vec![
        ("POST", "/api/v1/wallets".into(), wallet_body(1), 409, "wallet_exists"),
        ("POST", "/api/v1/wallets".into(), wallet(json!({ "chain": 9 })), 404, "chain_unknown"),
        ("POST", "/api/v1/wallets".into(), wallet(json!({ "tier": "warmish" })), 400, "choice_invalid"),
        (
            "POST",
            "/api/v1/wallets".into(),
            wallet(json!({ "descriptor_internal": external })),
            400,
            "descriptor_not_ranged_pair",
        ),
        (
            "POST",
            "/api/v1/wallets".into(),
            wallet(json!({ "descriptor_internal": foreign })),
            400,
            "descriptor_not_ranged_pair",
        ),
        ("POST", "/api/v1/wallets/9/addresses".into(), json!({}), 404, "wallet_unknown"),
        ("POST", "/api/v1/wallets/x/addresses".into(), json!({}), 400, "path_invalid"),
        ("GET", "/api/v1/chains/9/blocks".into(), Value::Null, 404, "chain_unknown"),
        ("GET", "/api/v1/chains/1/blocks?limit=0".into(), Value::Null, 400, "query_invalid"),
        ("GET", "/api/v1/chains/9/transactions".into(), Value::Null, 404, "chain_unknown"),
        ("GET", "/api/v1/events?limit=0".into(), Value::Null, 400, "query_invalid"),
        ("GET", "/api/v1/events?after=-1".into(), Value::Null, 400, "query_invalid"),
        ("GET", "/api/v1/events?wait_ms=30001".into(), Value::Null, 400, "query_invalid"),
        ("POST", "/api/v1/halts".into(), json!({ "action": "everything" }), 400, "choice_invalid"),
        ("POST", "/api/v1/halts".into(), json!({ "action": "quote", "asset": "XXX" }), 404, "asset_unknown"),
        ("POST", "/api/v1/halts/resume".into(), json!({ "action": "quote" }), 404, "halt_unknown"),
        (
            "POST",
            "/api/v1/halts/resume".into(),
            json!({ "action": "quote", "reason": "boredom" }),
            400,
            "choice_invalid",
        ),
        ("POST", "/api/v1/time/confirm".into(), json!({}), 422, "time_not_jumped"),
        ("GET", "/api/v1/nothing".into(), Value::Null, 404, "not_found"),
        ("GET", "/".into(), Value::Null, 404, "not_found"),
        ("DELETE", "/api/v1/customers".into(), Value::Null, 405, "method_not_allowed"),
        ("POST", "/api/v1/status".into(), json!({}), 405, "method_not_allowed"),
    ]
}

#[test]
fn every_refusal_has_its_status_and_code() {
    let (_folder, world, customer) = ready();
    let mut cases = customer_cases(&customer);
    cases.extend(money_cases(&customer));
    cases.extend(withdrawal_cases(&customer));
    cases.extend(operator_cases());
    for (method, path, body, status, code) in cases {
        let answer = match method {
            "POST" => world.post(&path, &body),
            method => world.send(method, &path, &[("Authorization", &bearer())], b""),
        };
        let status = if code == "time_not_jumped" { 409 } else { status };
        assert_eq!((answer.status, answer.code()), (status, code), "{method} {path} {body}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        assert_eq!(answer.value["type"], format!("urn:florin:error:{code}"));
        assert_eq!(answer.value["status"], answer.status);
        assert!(answer.value["title"].as_str().is_some_and(|title| !title.is_empty()));
    }
    world.stop();
}

#[test]
fn what_is_halted_answers_503_and_nothing_else_stops() {
    let (_folder, world, customer) = ready();
    for (action, path, body, code) in [
        (
            "quote",
            "/api/v1/quotes",
            json!({ "customer": customer, "side": "sell", "base": "BTC", "quote": "EUR", "base_amount": "0.1" }),
            "quote_halted",
        ),
        (
            "withdraw",
            "/api/v1/withdrawals",
            json!({ "customer": customer, "asset": "BTC", "amount": "0.1", "address": OUTSIDE }),
            "withdrawal_halted",
        ),
        (
            "credit",
            "/api/v1/bank-receipts",
            json!({ "reference": "R-7", "asset": "EUR", "amount": "1", "beneficiary": "inventory" }),
            "credit_halted",
        ),
    ] {
        world.made("/api/v1/halts", &json!({ "action": action }));
        let answer = world.post(path, &body);
        assert_eq!((answer.status, answer.code(), answer.header("retry-after")), (503, code, "1"), "{}", answer.text);
        assert_eq!(world.post("/api/v1/halts", &json!({ "action": action })).code(), "halt_exists");
        world.made("/api/v1/halts/resume", &json!({ "action": action }));
    }
    world.stop();
}

#[test]
fn only_the_token_opens_and_nothing_is_told_before() {
    let (_folder, world) = World::start();
    for authorization in ["", "Bearer", "Bearer x", "Basic dXNlcjpwYXNz", &format!("Bearer {TOKEN}x"), TOKEN] {
        for path in ["/api/v1/status", "/api/v1/customers", "/api/v1/metrics", "/api/v1/nothing", "/"] {
            let answer = world.send("GET", path, &[("Authorization", authorization)], b"");
            assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{authorization} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            assert_eq!(answer.header("florin-seq"), "", "not even how long the journal is");
        }
    }
    assert_eq!(world.send("GET", "/api/v1/health", &[], b"").status, 200);
    assert_eq!(world.send("GET", "/api/v1/openapi.json", &[], b"").status, 200);
    world.stop();
}

#[test]
fn bodies_are_bounded_json_and_nothing_else() {
    let (_folder, world) = World::start();
    let path = "/api/v1/customers";
    let bearer = bearer();
    let key = key();
    let json_type =
        [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
    let deep = format!("{{\"name\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    for (body, status, code) in [
        (format!("{{\"name\":\"{}\"}}", "x".repeat(70_000)), 413, "too_large"),
        (deep, 400, "body_invalid"),
        ("{".to_owned(), 400, "body_invalid"),
        ("[]".to_owned(), 400, "body_invalid"),
        ("{\"name\":\"a\",\"name\":\"b\"}".to_owned(), 400, "body_invalid"),
        ("{\"name\":\"a\"} x".to_owned(), 400, "body_invalid"),
        ("{\"name\":\"\\ud800\"}".to_owned(), 400, "body_invalid"),
    ] {
        let answer = world.send("POST", path, &json_type, body.as_bytes());
        assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.text);
    }
    for body in ["null", "true", "1", "\"x\"", "[\"a\"]", "[[]]", " [null]", "\u{feff}{}", " "] {
        let answer = world.send("POST", path, &json_type, body.as_bytes());
        assert_eq!((answer.status, answer.code()), (400, "body_invalid"), "{body}: {}", answer.text);
    }
    let answer = world.send("POST", path, &json_type, b"{\"name\":\"\xff\"}");
    assert_eq!((answer.status, answer.code()), (400, "body_invalid"));
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind), ("Idempotency-Key", key.as_str())];
        let answer = world.send("POST", path, &headers, b"{}");
        assert_eq!((answer.status, answer.code()), (415, "content_type_unsupported"), "{kind}");
    }
    assert_eq!(world.shown(path)["items"], json!([]));
    world.stop();
}

#[test]
fn values_in_the_order_of_the_fields_are_no_body() {
    let (_folder, world, customer) = ready();
    for (path, body) in [
        ("/api/v1/withdrawals", json!([customer, "BTC", "0.01", OUTSIDE, null])),
        ("/api/v1/customers", json!(["Name"])),
        ("/api/v1/halts", json!(["quote", null])),
        ("/api/v1/time/confirm", json!([])),
        ("/api/v1/assets/BTC/policy", json!({ "depths": [["0", 2]] })),
    ] {
        let answer = world.post(path, &body);
        assert_eq!((answer.status, answer.code()), (400, "body_invalid"), "{path}: {}", answer.text);
        assert!(
            answer.value["detail"].as_str().is_some_and(|said| said.contains("expected an object")),
            "{}",
            answer.text
        );
    }
    assert_eq!(world.shown("/api/v1/withdrawals")["items"], json!([]));
    world.stop();
}

#[test]
fn what_is_wrong_with_a_body_is_said_in_no_programming_language() {
    let (_folder, world, customer) = ready();
    let withdrawal = |wallet: Value| json!({ "customer": customer, "asset": "BTC", "amount": "0.01", "address": OUTSIDE, "wallet": wallet });
    let price = |age: Value| json!({ "base": "BTC", "quote": "EUR", "price": "60000", "age_max_s": age });
    let mut bodies: Vec<(&str, Value)> =
        [json!("1"), json!(-1), json!(1.5), json!(1u64 << 32), json!([]), json!({}), json!(true)]
            .into_iter()
            .flat_map(|value| [("/api/v1/withdrawals", withdrawal(value.clone())), ("/api/v1/prices", price(value))])
            .filter(|(path, body)| *path != "/api/v1/prices" || !body["age_max_s"].is_u64())
            .collect();
    bodies.push(("/api/v1/customers", json!({ "name": 1 })));
    bodies.push(("/api/v1/customers", json!({ "name": ["a"] })));
    bodies.push(("/api/v1/halts", json!({ "asset": "BTC" })));
    bodies.push(("/api/v1/wallets/1/retire", json!({ "with_coins": "yes" })));
    for (path, body) in bodies {
        let answer = world.post(path, &body);
        let said = answer.value["detail"].as_str().unwrap_or_default();
        assert_eq!((answer.status, answer.code()), (400, "body_invalid"), "{path} {body}: {}", answer.text);
        let foreign = ["struct", "u32", "u64", "usize", "Option", "sequence", " map", "visitor", "NewW"];
        assert!(!said.is_empty() && !foreign.iter().any(|word| said.contains(word)), "{path} {body}: {said}");
    }
    world.stop();
}

#[test]
fn a_query_that_cant_be_read_names_its_parameter() {
    let (_folder, world) = World::start();
    for (query, named) in [
        ("customers?limit=abc", "limit"),
        ("customers?limit=", "limit"),
        ("customers?limit=-1", "limit"),
        ("customers?limit=99999999999999999999999", "limit"),
        ("customers?limit=0", "limit"),
        ("customers?after=x", "after"),
        ("customers?limt=1", "limt"),
        ("customers?limit=1&limit=2", "limit"),
        ("events?after=x", "after"),
        ("events?wait_ms=-1", "wait_ms"),
        ("events?wait_ms=30001", "wait_ms"),
        ("chains/1/blocks?below=x", "below"),
        ("plans?status=x", "status"),
    ] {
        let answer = world.get(&format!("/api/v1/{query}"));
        let said = answer.value["detail"].as_str().unwrap_or_default();
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        assert!(said.contains(named) && !said.contains("deserialize"), "{query}: {said}");
    }
    world.stop();
}

#[test]
fn a_key_is_executed_once_and_never_for_another_request() {
    let (_folder, world, customer) = ready();
    let (first, path) = (key(), "/api/v1/withdrawals");
    let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.3", "address": OUTSIDE });
    let once = world.post_as(&first, path, &body);
    assert_eq!((once.status, once.header("idempotency-key")), (201, first.as_str()), "{}", once.text);
    assert_eq!(id(&once.value), first, "what a command creates bears its id");
    let again = world.post_as(&first, path, &body);
    assert_eq!((again.status, id(&again.value)), (201, first.clone()));
    let listed = world.shown(path);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "once");
    let mut other = body.clone();
    other["amount"] = json!("0.30");
    for answer in [world.post_as(&first, path, &other), world.post_as(&first, "/api/v1/customers", &json!({}))] {
        assert_eq!((answer.status, answer.code()), (409, "idempotency_mismatch"), "{}", answer.text);
    }
    for bad in ["", "x", "9f0b1f0a-3b52-4c7e-9d67-0f4f2b7a1c11", "019A0000-0000-7000-8000-000000000001"] {
        let answer = world.post_as(bad, "/api/v1/customers", &json!({}));
        assert_eq!((answer.status, answer.code()), (400, "idempotency_key_invalid"), "{bad}");
    }
    let ahead = world.post_as("ffffffff-ffff-7000-8000-000000000001", "/api/v1/customers", &json!({}));
    assert_eq!((ahead.status, ahead.code()), (409, "id_ahead"));
    world.stop();
}

#[test]
fn no_change_is_taken_without_a_key() {
    let (_folder, world, customer) = ready();
    let bearer = bearer();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let document = world.shown("/api/v1/openapi.json");
    let (events, mut count) = (world.shown("/api/v1/status")["seq"].as_u64().expect("a row"), 0);
    let withdrawal = json!({ "customer": customer, "asset": "BTC", "amount": "0.3", "address": OUTSIDE });
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if !methods.as_object().expect("methods").contains_key("post") {
            continue;
        }
        let body = if path.ends_with("/withdrawals") { withdrawal.clone() } else { json!({}) };
        let answer = world.send("POST", &path.replace("{id}", "1"), &headers, body.to_string().as_bytes());
        assert_eq!((answer.status, answer.code()), (400, "idempotency_key_missing"), "{path}: {}", answer.text);
        assert!(answer.value["hint"].as_str().is_some_and(|hint| hint.contains("UUID")), "{}", answer.text);
        assert_eq!(answer.header("idempotency-key"), "", "none is made up");
        count += 1;
    }
    assert!(count >= 15, "only {count} changes");
    assert_eq!(world.shown("/api/v1/withdrawals")["items"], json!([]));
    let rows = world.shown(&format!("/api/v1/events?after={events}&limit=500"));
    let kinds: Vec<&str> =
        rows["items"].as_array().expect("a list").iter().filter_map(|row| row["kind"].as_str()).collect();
    assert!(kinds.iter().all(|kind| *kind == "ticked"), "nothing but time went on: {kinds:?}");
    world.stop();
}
