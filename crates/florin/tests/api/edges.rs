//! What holds between requests: one's own writes are read, feeds resume, restarts forget nothing, noise does no harm.

use super::support::{World, bearer, id, key};
use florin_core::id::Seq;
use florin_store::conformance::Random;
use florin_store::site::Site;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn one_reads_ones_own_writes() {
    let (_folder, world) = World::start();
    let made = world.post("/api/v1/customers", &json!({}));
    let seq: u64 = made.header("florin-seq").parse().expect("a row");
    let path = format!("/api/v1/customers/{}", id(&made.value));
    let answer = world.send("GET", &path, &[("Authorization", &bearer()), ("Florin-Seq", &seq.to_string())], b"");
    assert_eq!(answer.status, 200);
    assert!(answer.header("florin-seq").parse::<u64>().expect("a row") >= seq);
    // A row that is yet to come is waited for: ticks bring it within some seconds.
    let next = (seq + 1).to_string();
    let waited = world.send("GET", &path, &[("Authorization", &bearer()), ("Florin-Seq", &next)], b"");
    assert!(waited.header("florin-seq").parse::<u64>().expect("a row") > seq);
    for bad in ["", "-1", "+1", "1.0", "x", "99999999999999999999999"] {
        let answer = world.send("GET", &path, &[("Authorization", &bearer()), ("Florin-Seq", bad)], b"");
        assert_eq!((answer.status, answer.code()), (400, "seq_invalid"), "{bad}");
    }
    world.stop();
}

#[test]
fn events_resume_at_any_row_and_wait_for_more() {
    let (_folder, world) = World::start();
    for _ in 0..5 {
        world.customer();
    }
    let mut whole: Vec<(u64, u64)> = Vec::new();
    let mut after = 0;
    loop {
        let page = world.shown(&format!("/api/v1/events?after={after}&limit=2"));
        let items = page["items"].as_array().expect("a list").clone();
        let place = |item: &Value| (item["seq"].as_u64().expect("a row"), item["index"].as_u64().expect("a place"));
        whole.extend(items.iter().map(place));
        let next = page["next"].as_u64().expect("a row");
        if next == after {
            break;
        }
        assert!(next <= after + 2);
        after = next;
    }
    assert!(whole.is_sorted_by(|a, b| a < b), "in order, none twice");
    let rows: Vec<u64> = whole.iter().map(|(seq, _)| *seq).collect();
    assert!((1..=after).all(|seq| rows.contains(&seq)), "none is missed");
    let waited = world.shown(&format!("/api/v1/events?after={after}&wait_ms=30000"));
    assert!(!waited["items"].as_array().expect("a list").is_empty(), "a tick comes within a second or two");
    world.stop();
}

#[test]
fn a_reader_that_resumes_under_load_misses_nothing_and_sees_nothing_twice() {
    let (_folder, world) = World::start();
    let end = AtomicU64::new(u64::MAX);
    let (mut told, seen) = std::thread::scope(|scope| {
        let (world, end) = (&world, &end);
        let load = || scope.spawn(move || (0..60).map(|_| world.customer()).collect::<Vec<String>>());
        let load: Vec<_> = (0..6).map(|_| load()).collect();
        let reader = scope.spawn(move || {
            let (mut seen, mut after) = (Vec::new(), 0);
            while after < end.load(Ordering::SeqCst) {
                let page = world.shown(&format!("/api/v1/events?after={after}&limit=3&wait_ms=100"));
                seen.extend(page["items"].as_array().expect("a list").iter().cloned());
                after = page["next"].as_u64().expect("a row");
            }
            seen
        });
        let told: Vec<String> = load.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
        end.store(world.platform.at().0, Ordering::SeqCst);
        (told, reader.join().expect("it ends"))
    });
    let opened = seen.iter().filter(|item| item["kind"] == "customer_set");
    let mut opened: Vec<String> = opened.map(|item| id(&item["data"])).collect();
    told.sort();
    opened.sort();
    assert_eq!(opened, told, "what was answered, each once");
    // Whoever reads it later in one go reads the same.
    let (mut again, mut after) = (Vec::new(), 0);
    while again.len() < seen.len() {
        let page = world.shown(&format!("/api/v1/events?after={after}&limit=500"));
        again.extend(page["items"].as_array().expect("a list").iter().cloned());
        after = page["next"].as_u64().expect("a row");
    }
    again.truncate(seen.len());
    assert_eq!(seen, again);
    world.stop();
}

#[test]
fn a_reader_that_is_ahead_of_the_journal_is_told() {
    let (_folder, world) = World::start();
    let head = || world.shown("/api/v1/status")["seq"].as_u64().expect("a row");
    let at_end = world.get(&format!("/api/v1/events?after={}", head()));
    assert_eq!(at_end.status, 200, "the end itself is where readers wait: {}", at_end.text);
    // The next row may be on its way: it is waited for, and a tick brings it.
    let next = head() + 1;
    let waited = world.shown(&format!("/api/v1/events?after={next}"));
    assert!(waited["next"].as_u64().expect("a row") >= next && head() >= next, "{waited}");
    for after in [head() + 1_000, u64::MAX] {
        let beyond = world.get(&format!("/api/v1/events?after={after}&wait_ms=30000"));
        assert_eq!((beyond.status, beyond.code()), (409, "after_beyond_journal"), "{after}: {}", beyond.text);
    }
    world.stop();
}

#[test]
fn a_restart_forgets_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::on(folder.path());
    world.register_wallet();
    let customer = world.customer();
    let (first, path) = (key(), format!("/api/v1/customers/{customer}/addresses"));
    let before = world.post_as(&first, &path, &json!({}));
    assert_eq!(before.status, 201, "{}", before.text);
    world.stop();
    let world = World::on(folder.path());
    let after = world.post_as(&first, &path, &json!({}));
    assert_eq!((after.status, &after.value), (201, &before.value), "the same address, not another");
    assert_eq!(world.shown(&path)["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.shown("/api/v1/wallets")["items"][0]["next_external"], 1);
    assert_eq!(world.shown("/api/v1/status")["epoch"], 2);
    world.stop();
}

#[test]
fn an_acceptance_sent_again_finds_its_answer_though_the_quote_is_gone() {
    let (_folder, world) = World::start();
    world.register_wallet();
    let customer = world.customer();
    world.fund(&customer, 100_000_000);
    let receipt = json!({ "reference": "R", "asset": "EUR", "amount": "90000", "beneficiary": "inventory" });
    world.made("/api/v1/bank-receipts", &receipt);
    world.made("/api/v1/prices", &json!({ "base": "BTC", "quote": "EUR", "price": "60000" }));
    let wanted = json!({ "customer": customer, "side": "sell", "base": "BTC", "quote": "EUR", "base_amount": "0.1" });
    let quote = world.made("/api/v1/quotes", &wanted);
    let (key, path) = (key(), format!("/api/v1/quotes/{}/accept", id(&quote)));
    let first = world.post_as(&key, &path, &json!({}));
    assert_eq!(first.status, 200, "{}", first.text);
    let again = world.post_as(&key, &path, &json!({}));
    assert_eq!((again.status, again.value), (200, first.value), "the same answer, and no second exchange");
    let balances = world.shown(&format!("/api/v1/customers/{customer}/balances"));
    assert_eq!(balances["items"][0]["available"], "0.90000000", "{balances}");
    for body in [json!({}), json!({ "customer": customer })] {
        let other = world.post(&path, &body);
        assert_eq!((other.status, other.code()), (409, "quote_accepted"), "under another key: {}", other.text);
    }
    let stranger = world.post(&path, &json!({ "customer": world.customer() }));
    assert_eq!((stranger.status, stranger.code()), (404, "quote_unknown"), "nobody else hears of it");
    let replaced = world.made("/api/v1/quotes", &wanted);
    world.made("/api/v1/quotes", &wanted);
    let late = world.post(&format!("/api/v1/quotes/{}/accept", id(&replaced)), &json!({ "customer": customer }));
    assert_eq!((late.status, late.code()), (409, "quote_ended"), "{}", late.text);
    world.stop();
}

#[test]
fn a_journal_keeps_the_id_that_it_was_begun_with() {
    let folder = tempfile::tempdir().expect("a folder");
    World::on(folder.path()).stop();
    let rows = || {
        let journal = Site::Folder(folder.path().to_path_buf()).journal_reader();
        journal.expect("it is there").read(Seq::START, usize::MAX).expect("it answers")
    };
    let before = rows();
    let mut parts = super::support::parts(folder.path());
    parts.platform = [8; 16];
    let failure = florin::platform::Platform::start(parts).expect_err("another platform's journal");
    assert_eq!(failure.code(), "platform_id_changed");
    assert_eq!(rows(), before, "nothing is written into another platform's journal");
    World::on(folder.path()).stop();
}

#[test]
fn many_at_once_overdraw_nobody() {
    let (_folder, world) = World::start();
    world.register_wallet();
    let customer = world.customer();
    world.fund(&customer, 100_000_000);
    let world = Arc::new(world);
    let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.75", "address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080" });
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let (world, body) = (Arc::clone(&world), body.clone());
            std::thread::spawn(move || {
                let codes = (0..10).map(|_| {
                    let answer = world.post("/api/v1/withdrawals", &body);
                    (answer.status, answer.code().to_owned())
                });
                codes.collect::<Vec<_>>()
            })
        })
        .collect();
    let answers: Vec<(u16, String)> = threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1);
    assert_eq!(
        answers.iter().filter(|(status, code)| (*status, code.as_str()) == (422, "insufficient_funds")).count(),
        159
    );
    assert_eq!(world.shown("/api/v1/books")["balanced"], true);
}

#[test]
fn stopping_ends_waiting_requests_and_leaves_nothing_half_done() {
    let (_folder, world) = World::start();
    let url = world.url.clone();
    let after = world.platform.at().next();
    let waiting = std::thread::spawn(move || {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let agent: ureq::Agent = config.into();
        let request = agent.get(format!("{url}/api/v1/events?after={after}&wait_ms=30000"));
        request.header("Authorization", bearer()).call().map(|response| response.status().as_u16())
    });
    std::thread::sleep(Duration::from_millis(200));
    let start = std::time::Instant::now();
    world.stop();
    assert!(start.elapsed() < Duration::from_secs(25), "nobody waits out the half minute");
    // Answered or cut off; never left hanging.
    assert!(matches!(waiting.join().expect("it ends"), Ok(200 | 503) | Err(_)));
}

/// A seed, shown with every failure.
fn seed() -> u64 {
    std::env::var("FLORIN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed)
}

fn noise(random: &mut Random) -> Vec<u8> {
    let count = usize::try_from(random.below(200)).expect("small");
    match random.below(4) {
        0 => random.bytes(count),
        1 => {
            let words = [
                "{",
                "}",
                "[",
                "]",
                "\"",
                ":",
                ",",
                "null",
                "true",
                "1e999",
                "-0",
                "\"amount\"",
                "\"customer\"",
                "\\u0000",
                "\u{202e}",
                "\"asset\":\"BTC\"",
                "\"action\":\"quote\"",
            ];
            (0..count).map(|_| words[random.below(words.len() as u64) as usize]).collect::<String>().into_bytes()
        }
        2 => {
            let fields =
                ["customer", "asset", "amount", "address", "side", "base", "quote", "reference", "key", "id", "chain"];
            let values = [
                json!(null),
                json!(-1),
                json!("\u{0}"),
                json!([[]]),
                json!(1e300),
                json!("9".repeat(300)),
                json!(u64::MAX),
            ];
            let mut body = serde_json::Map::new();
            for _ in 0..random.below(8) {
                let field = fields[random.below(fields.len() as u64) as usize];
                body.insert(field.into(), values[random.below(values.len() as u64) as usize].clone());
            }
            Value::Object(body).to_string().into_bytes()
        }
        _ => Vec::new(),
    }
}

#[test]
fn noise_to_every_route_is_refused_and_never_a_fault() {
    let seed = seed();
    let mut random = Random::new(seed);
    let (_folder, world) = World::start();
    world.register_wallet();
    let customer = world.customer();
    let document = world.shown("/api/v1/openapi.json");
    let before = world.shown("/api/v1/books");
    let bearer = bearer();
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            for _ in 0..40 {
                let place = match random.below(4) {
                    0 => customer.clone(),
                    1 => "1".to_owned(),
                    2 => "%00%ff".to_owned(),
                    _ => random.bytes(12).iter().map(|byte| format!("%{byte:02x}")).collect(),
                };
                let query: String = random.bytes(6).iter().map(|byte| format!("%{byte:02x}")).collect();
                let query = if random.below(2) == 0 { String::new() } else { format!("?limit={query}&{query}") };
                let body = if method == "post" { noise(&mut random) } else { Vec::new() };
                let target = format!("{}{query}", path.replace("{id}", &place));
                let key = key();
                let headers = [
                    ("Authorization", bearer.as_str()),
                    ("Content-Type", "application/json"),
                    ("Idempotency-Key", key.as_str()),
                ];
                let answer = world.send(&method.to_uppercase(), &target, &headers, &body);
                assert!(
                    answer.status < 500,
                    "seed {seed}: {method} {target} {:?}: {}",
                    String::from_utf8_lossy(&body),
                    answer.text
                );
                count += 1;
            }
        }
    }
    assert!(count > 1_000, "only {count} requests");
    assert_eq!(world.shown("/api/v1/health")["status"], "ok");
    assert_eq!(world.shown("/api/v1/books"), before, "seed {seed}: noise moves no money");
    world.stop();
}
