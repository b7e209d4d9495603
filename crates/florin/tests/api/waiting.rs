//! A journal that hangs: whoever waits is told so in time, those who look and decide still get in, and what was asked for is
//! done once.

use super::support::{World, bearer, id, key, parts};
use florin::api::Limits;
use florin::platform::Parts;
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use florin_engine::lanes::Lane;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take that is awaited.
const LONG: Duration = Duration::from_secs(60);

/// Requests of the rest at once, in these tests: enough of them to be a crowd, few enough for the files a test may open.
const CROWD: usize = 100;

/// Whether appends pass.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    bell: Condvar,
}

impl Gate {
    fn shut(&self) {
        *self.is_shut.lock().expect("nobody panics") = true;
    }

    fn open(&self) {
        *self.is_shut.lock().expect("nobody panics") = false;
        self.bell.notify_all();
    }
}

struct Gated {
    journal: Box<dyn Journal>,
    gate: Arc<Gate>,
}

impl Journal for Gated {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        let is_shut = self.gate.is_shut.lock().expect("nobody panics");
        drop(self.gate.bell.wait_while(is_shut, |is_shut| *is_shut).expect("nobody panics"));
        self.journal.append(row)
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        self.journal.read(after, count_max)
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.journal.head()
    }
}

fn gated(folder: &Path) -> (Parts, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let mut parts = parts(folder);
    parts.stores.journal = Box::new(Gated { journal: parts.stores.journal, gate: Arc::clone(&gate) });
    (parts, gate)
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alarmed(world: &World, code: &str) -> bool {
    let status = world.shown("/api/v1/status");
    status["alarms"].as_array().expect("a list").iter().any(|alarm| alarm["code"] == code)
}

fn metric(world: &World, name: &str) -> u64 {
    let text = world.get("/api/v1/metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_journal_that_hangs_is_told_to_callers_monitors_and_operators() {
    let folder = tempfile::tempdir().expect("a folder");
    let (parts, gate) = gated(folder.path());
    let limits = Limits { answer: Duration::from_millis(300), ..Limits::default() };
    let world = World::within(limits, parts);
    let healthy = |world: &World| world.send("GET", "/api/v1/health", &[], b"");
    assert_eq!(healthy(&world).status, 200);
    gate.shut();
    let (key, path, body) = (key(), "/api/v1/customers", json!({ "name": "one" }));
    let waited = world.post_as(&key, path, &body);
    assert_eq!((waited.status, waited.code()), (503, "answer_timeout"), "{}", waited.text);
    assert!(waited.value["title"].as_str().is_some_and(|title| title.contains("may still be executed")));
    assert!(waited.value["hint"].as_str().is_some_and(|hint| hint.contains("same Idempotency-Key")));
    assert_eq!((waited.header("retry-after"), waited.header("idempotency-key")), ("1", key.as_str()));
    assert_eq!(world.shown(path)["items"], json!([]), "nobody sees what is not durable");

    eventually("the alarm", || is_alarmed(&world, "journal_not_written"));
    let health = healthy(&world);
    assert_eq!((health.status, health.code()), (503, "journal_not_written"), "{}", health.text);
    assert_eq!(metric(&world, "florin_append_attempts"), 1);
    assert!(metric(&world, "florin_append_age_ms") > 1_000);
    let appending = world.shown("/api/v1/status")["appending"].clone();
    assert_eq!(appending["seq"].as_u64(), Some(world.platform.at().0 + 1), "{appending}");

    gate.open();
    eventually("health", || healthy(&world).status == 200);
    let done = world.post_as(&key, path, &body);
    assert_eq!(done.status, 201, "{}", done.text);
    assert_eq!(id(&done.value), key);
    assert_eq!(world.shown(path)["items"].as_array().map(Vec::len), Some(1), "it is done once");
    eventually("the alarm's end", || !is_alarmed(&world, "journal_not_written"));
    world.stop();
}

/// Sends a request and does not wait for its answer.
fn begin(world: &World, path: &str, body: &Value) -> TcpStream {
    let mut line = TcpStream::connect(world.url.trim_start_matches("http://")).expect("it listens");
    line.set_read_timeout(Some(LONG)).expect("set");
    let (authorization, key, body) = (bearer(), key(), body.to_string());
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: florin\r\nConnection: close\r\nAuthorization: {authorization}\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    line.write_all(request.as_bytes()).expect("it is taken");
    line
}

/// The status of the answer, once it is there.
fn end(mut line: TcpStream) -> u16 {
    let mut text = String::new();
    line.read_to_string(&mut text).expect("an answer");
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {text:?}"))
}

#[test]
fn a_crowd_that_waits_for_the_journal_keeps_no_operator_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let (parts, gate) = gated(folder.path());
    let limits = Limits { answer: LONG, requests: CROWD, ..Limits::default() };
    let world = World::within(limits, parts);
    world.register_wallet();
    let customer = world.customer();
    world.fund(&customer, 100_000_000);
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let wanted = json!({ "customer": customer, "asset": "BTC", "amount": "0.1", "address": address });
    // Nothing is planned meanwhile, so that it can be cancelled later.
    world.made("/api/v1/halts", &json!({ "action": "sign" }));
    let withdrawal = id(&world.made("/api/v1/withdrawals", &wanted));
    gate.shut();
    let customers = "/api/v1/customers";
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| begin(&world, customers, &json!({}))).collect();
    eventually("a full house", || {
        let is_full = world.get(customers).code() == "overloaded";
        // Whoever looks takes a place while he looks, and one of the crowd may have been turned away for it.
        if !is_full {
            crowd.push(begin(&world, customers, &json!({})));
        }
        is_full
    });
    for path in ["/api/v1/health", "/api/v1/status", "/api/v1/metrics", "/api/v1/halts"] {
        assert_ne!(world.get(path).code(), "overloaded", "{path}");
    }
    assert_eq!(world.post(customers, &json!({})).code(), "overloaded");
    // By then the writer has decided what one row takes, and whatever comes waits in its lane.
    eventually("the alarm", || is_alarmed(&world, "journal_not_written"));
    let waiting = |lane: Lane| {
        let lanes = world.platform.engine().status().waiting;
        lanes.into_iter().find(|(other, _)| *other == lane).map_or(0, |(_, count)| count)
    };
    let ticks = waiting(Lane::Operator);
    let decided = [
        begin(&world, "/api/v1/halts", &json!({ "action": "withdraw" })),
        begin(&world, "/api/v1/halts/resume", &json!({ "action": "sign" })),
        begin(&world, &format!("/api/v1/withdrawals/{withdrawal}/cancel"), &json!({})),
    ];
    eventually("their places in the lanes", || waiting(Lane::Operator) >= ticks + 2 && waiting(Lane::Cancel) == 1);
    gate.open();
    let decided: Vec<u16> = decided.into_iter().map(end).collect();
    assert_eq!(decided, [201, 200, 200]);
    let crowd: Vec<u16> = crowd.into_iter().map(end).collect();
    assert!(crowd.iter().all(|status| [201, 503].contains(status)), "{crowd:?}");
    assert!(crowd.iter().filter(|status| **status == 201).count() > CROWD / 2, "{crowd:?}");
    world.stop();
}
