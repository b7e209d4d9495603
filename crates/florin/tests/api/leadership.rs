//! What leaders tell while nobody confirms that they lead, and what followers answer.

use super::support::{Answer, World, bearer, id, parts};
use florin::platform::Stores;
use florin_engine::ports::{Beat, BeatAnswer, Heartbeat, HeartbeatFault};
use florin_store::folder_lock;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Waits until something holds; gives up after longer than a busy machine needs.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A store of signs of life that can be broken.
struct Breakable {
    store: Box<dyn Heartbeat>,
    is_broken: Arc<AtomicBool>,
}

impl Breakable {
    fn store(&mut self) -> Result<&mut dyn Heartbeat, HeartbeatFault> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(HeartbeatFault { code: "store_tested", cause: "a test's fault".into() });
        }
        Ok(self.store.as_mut())
    }
}

impl Heartbeat for Breakable {
    fn beat(&mut self, beat: &Beat) -> Result<BeatAnswer, HeartbeatFault> {
        self.store()?.beat(beat)
    }
    fn replace(&mut self, seen: Option<&Beat>, beat: &Beat) -> Result<BeatAnswer, HeartbeatFault> {
        self.store()?.replace(seen, beat)
    }
    fn last(&mut self) -> Result<Option<Beat>, HeartbeatFault> {
        self.store()?.last()
    }
}

/// The paths that are read, as the description lists them, without those that tell nobody's money.
fn account_reads(world: &World) -> Vec<String> {
    let others = ["health", "openapi.json", "status", "metrics", "events", "assets", "prices", "halts"];
    let document = world.shown("/api/v1/openapi.json");
    let paths = document["paths"].as_object().expect("paths").iter().filter(|(_, methods)| !methods["get"].is_null());
    let paths = paths.map(|(path, _)| path.replace("{id}", "1"));
    paths.filter(|path| !others.iter().any(|other| *path == format!("/api/v1/{other}"))).collect()
}

#[test]
fn a_leader_that_nobody_confirms_tells_nothing_of_money_and_does_what_it_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut parts = parts(folder.path());
    parts.confirmed_ms = 1_000;
    let is_broken = Arc::new(AtomicBool::new(false));
    parts.stores.heartbeat = Box::new(Breakable { store: parts.stores.heartbeat, is_broken: Arc::clone(&is_broken) });
    let world = World::of(parts);
    let customer = world.customer();
    let balances = format!("/api/v1/customers/{customer}/balances");
    until("certainty", || world.get(&balances).status == 200);
    let reads = account_reads(&world);
    assert!(reads.len() >= 12, "{reads:?}");
    for path in &reads {
        assert_ne!(world.get(path).code(), "reads_unconfirmed", "{path}");
    }

    is_broken.store(true, Ordering::SeqCst);
    until("doubt", || world.get(&balances).code() == "reads_unconfirmed");
    for path in &reads {
        let answer = world.get(path);
        assert_eq!((answer.status, answer.code()), (503, "reads_unconfirmed"), "{path}");
        assert_eq!(answer.header("retry-after"), "1", "{path}");
    }
    let told = id(&world.made("/api/v1/customers", &json!({})));
    let status = world.shown("/api/v1/status");
    assert_eq!((&status["leading"], &status["answers_account_reads"]), (&json!(true), &json!(false)));
    let codes = status["alarms"].as_array().expect("a list").iter().map(|alarm| alarm["code"].as_str().expect("text"));
    let codes: Vec<&str> = codes.filter(|code| code.contains("heartbeat") || code.contains("reads")).collect();
    assert_eq!(codes, ["heartbeat_failing", "reads_unconfirmed"]);
    assert!(world.get("/api/v1/metrics").text.contains("\nflorin_account_reads 0\n"));
    for path in ["assets", "prices", "halts", "events", "health"] {
        assert_eq!(world.get(&format!("/api/v1/{path}")).status, 200, "{path}");
    }

    is_broken.store(false, Ordering::SeqCst);
    until("certainty", || world.get(&balances).status == 200);
    assert_eq!(world.shown(&format!("/api/v1/customers/{told}"))["id"], told);
    assert!(world.get("/api/v1/metrics").text.contains("\nflorin_account_reads 1\n"));
    world.stop();
}

/// Another node on the same files, past their lock.
fn beside(folder: &Path) -> World {
    let mut stores = None;
    until("the files can be opened by a second node", || {
        std::fs::remove_file(folder.join(folder_lock::FILE)).expect("the lock is there");
        // While the first one writes, the files may be busy.
        stores = Stores::open_sqlite(folder).ok();
        stores.is_some()
    });
    let spare = tempfile::tempdir().expect("a folder");
    let mut parts = parts(spare.path());
    parts.stores = stores.expect("they are open");
    parts.node = "follower".into();
    parts.leads_at_once = false;
    parts.lead_after_quiet_ms = Some(3_600_000);
    parts.takeover_ms = 3_600_000;
    World::of(parts)
}

fn refused(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.code())
}

#[test]
fn a_follower_answers_reads_past_the_callers_row_and_sends_commands_to_the_leader() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = parts(folder.path());
    first.url = Some("https://first.example".into());
    let leader = World::of(first);
    let follower = beside(folder.path());
    for _ in 0..20 {
        let made = leader.post("/api/v1/customers", &json!({}));
        let path = format!("/api/v1/customers/{}", id(&made.value));
        let headers = [("Authorization", &*bearer()), ("Florin-Seq", made.header("florin-seq"))];
        assert_eq!(follower.send("GET", &path, &headers, b"").status, 200, "what its caller was told of is there");
    }
    until("knowing the leader", || follower.post("/api/v1/customers", &json!({})).value["leader"].is_object());
    // Also of what this node may not have seen yet, only the leader judges.
    for (path, body) in [("/api/v1/customers", json!({})), ("/api/v1/customers/1/addresses", json!({ "wallet": 7 }))] {
        let answer = follower.post(path, &body);
        assert_eq!(refused(&answer), (503, "not_leading"), "{path}");
        assert_eq!(answer.value["leader"], json!({ "node": "test", "url": "https://first.example" }));
        assert_eq!(answer.header("retry-after"), "1");
    }
    let health = follower.send("GET", "/api/v1/health", &[], b"");
    assert_eq!(
        (refused(&health), &health.value["leader"]),
        ((503, "not_leading"), &json!(null)),
        "nobody was asked who"
    );
    let status = follower.shown("/api/v1/status");
    assert_eq!((&status["leading"], &status["leader"]["node"]), (&json!(false), &json!("test")));
    // A leader that stops says so, and nobody waits for an hour.
    leader.stop();
    until("leading", || follower.get("/api/v1/health").status == 200);
    follower.customer();
    follower.stop();
}

#[test]
fn a_follower_waits_for_rows_that_it_does_not_have_and_never_calls_them_beyond_the_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let leader = World::on(folder.path());
    let follower = beside(folder.path());
    until("following", || !follower.shown("/api/v1/status")["seq"].is_null() && follower.platform.is_following());
    let told = leader.post("/api/v1/customers", &json!({})).header("florin-seq").to_owned();
    let answer = follower.get(&format!("/api/v1/events?after={told}"));
    assert_eq!(answer.status, 200, "the leader has it, and soon the follower: {}", answer.text);
    let answer = follower.get("/api/v1/events?after=1000000");
    assert_eq!(refused(&answer), (503, "not_caught_up"), "a follower can't know: {}", answer.text);
    assert_eq!(refused(&leader.get("/api/v1/events?after=1000000")), (409, "after_beyond_journal"));
    follower.stop();
    leader.stop();
}
