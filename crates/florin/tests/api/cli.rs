//! The command line: what it writes, what it prints, how it ends.

use super::support::{TOKEN, World, approval_of};
use florin::cli::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PIPE, EXIT_USAGE, run};
use florin_core::asset::{HaltAction, HaltReason};
use serde_json::Value;
use std::ffi::OsString;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What a command line came to.
pub struct Ran {
    pub code: u8,
    pub out: String,
    pub err: String,
}

pub fn florin(words: &[&str]) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("florin").chain(words.iter().copied()).map(OsString::from);
    let code = run(arguments, &mut out, &mut err);
    Ran { code, out: String::from_utf8(out).expect("text"), err: String::from_utf8(err).expect("text") }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of a test")
}

#[test]
fn init_writes_what_is_needed_and_overwrites_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("platform");
    let ran = florin(&["init", path(&place), "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let shown: Value = serde_json::from_str(&ran.out).expect("JSON");
    let mode = |name: &str| std::fs::metadata(place.join(name)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode("operator.token"), mode("data")), (0o600, 0o700));
    let text = std::fs::read_to_string(place.join("florin.toml")).expect("text");
    assert!(text.contains(shown["platform"].as_str().expect("an id")));
    let token = std::fs::read_to_string(place.join("operator.token")).expect("text");
    assert!(!ran.out.contains(token.trim()) && !text.contains(token.trim()), "the token is in its file alone");
    let again = florin(&["init", path(&place)]);
    assert_eq!(again.code, EXIT_FAILED);
    assert!(again.err.starts_with("error[config_exists]"), "{}", again.err);
    assert_eq!(std::fs::read_to_string(place.join("florin.toml")).expect("text"), text);
    std::fs::remove_file(place.join("florin.toml")).expect("it is ours");
    assert_eq!(florin(&["init", path(&place)]).code, 0);
    assert_eq!(std::fs::read_to_string(place.join("operator.token")).expect("text"), token, "the token stays");
}

#[test]
fn what_is_said_wrongly_ends_with_2_and_what_fails_with_1() {
    for words in [
        &["nonsense"][..],
        &[],
        &["customer"],
        &["quote", "buy", "--customer", "x"],
        &["serve", "--port", "1"],
        &["quote", "hold"],
    ] {
        let ran = florin(words);
        assert_eq!(ran.code, EXIT_USAGE, "{words:?}: {}", ran.err);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{words:?}");
    }
    let usage = florin(&["nonsense", "--json"]);
    let said: Value = serde_json::from_str(&usage.err).expect("JSON");
    assert_eq!((usage.code, &said["code"]), (EXIT_USAGE, &Value::from("usage")));
    let incomplete = florin(&["withdraw", "--json"]);
    let said: Value = serde_json::from_str(&incomplete.err).expect("JSON");
    let names = ["<CUSTOMER>", "<AMOUNT>", "<ADDRESS>"];
    let message = said["message"].as_str().expect("a message");
    assert!(names.iter().all(|name| message.contains(name)), "{message}");
    let missing = florin(&["status", "--config", "/nonexistent/florin.toml", "--json"]);
    let said: Value = serde_json::from_str(&missing.err).expect("JSON");
    assert_eq!((missing.code, &said["code"]), (EXIT_FAILED, &Value::from("config_missing")));
    assert!(said["hint"].as_str().is_some_and(|hint| hint.contains("florin init")));
}

#[test]
fn every_command_explains_itself() {
    let help = florin(&["--help"]);
    assert_eq!(help.code, 0);
    let mut lines = help.out.lines().skip_while(|line| *line != "Commands:").skip(1);
    let mut count = 0;
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let (name, about) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        assert!(!about.trim().is_empty(), "{name} says nothing of itself");
        if name != "help" {
            let ran = florin(&[name, "--help"]);
            assert!(ran.code == 0 && ran.out.contains("Usage:"), "{name}: {}", ran.err);
        }
        count += 1;
    }
    assert!(count >= 18, "{}", help.out);
    assert!(florin(&["--version"]).out.starts_with("florin "));
    assert_eq!(florin(&["ledger", "schema"]).out.trim_end(), florin_core::journal::schema().trim_end());
}

#[test]
fn the_help_of_halts_says_what_each_stops_and_when_it_is_lifted() {
    let explains = |help: &str, name: &str| {
        help.lines().any(|line| line.starts_with(&format!("  {name} ")) && line.len() > name.len() + 30)
    };
    let (halt, resume) = (florin(&["halt", "--help"]).out, florin(&["resume", "--help"]).out);
    for action in HaltAction::ALL {
        assert!(explains(&halt, &action.name()), "{action:?}: {halt}");
    }
    assert!(halt.contains("lasts until 'florin resume ACTION'"), "{halt}");
    // Nothing in this build halts for that one.
    for reason in HaltReason::ALL.iter().filter(|reason| **reason != HaltReason::BooksDisagree) {
        assert!(explains(&resume, &reason.name()), "{reason:?}: {resume}");
    }
}

#[test]
fn the_command_line_speaks_the_interface() {
    let (folder, world) = World::start();
    world.register_wallet();
    let token_file = token_file(folder.path());
    let ask = |words: &[&str]| {
        let common = ["--url", &world.url, "--token-file", path(&token_file), "--json"];
        let ran = florin(&[words, &common].concat());
        let text = if ran.code == 0 { &ran.out } else { &ran.err };
        (ran.code, serde_json::from_str::<Value>(text).unwrap_or_else(|fault| panic!("{words:?}: {fault}: {text}")))
    };
    let (code, customer) = ask(&["customer", "new", "--name", "First"]);
    let customer = customer["id"].as_str().expect("an id").to_owned();
    assert_eq!(code, 0);
    assert_eq!(ask(&["customer", "list"]).1["items"][0]["name"], "First");
    let (_, address) = ask(&["customer", "address", &customer]);
    world.mine(Some((&address, 100_000_000)));
    world.mine(None);
    world.mine(None);
    assert_eq!(ask(&["deposit", "list", "--customer", &customer]).1["items"][0]["status"], "credited");
    assert_eq!(ask(&["customer", "balances", &customer]).1["items"][0]["available"], "1.00000000");
    assert_eq!(ask(&["bank-receipt", "--reference", "R-1", "--amount", "100000", "--for", "inventory"]).0, 0);
    let correct =
        ["correct", "--reference", "C-1", "--asset", "EUR", "--amount", "0.40", "--debit", "inventory", "--credit"];
    let correct = [&correct[..], &[&customer]].concat();
    assert!(florin(&["correct", "--help"]).out.contains("--debit WRONG --credit RIGHT"), "the help explains it");
    let (code, corrected) = ask(&correct);
    assert_eq!((code, &corrected["done"]), (0, &Value::from(true)));
    let euro = &ask(&["customer", "balances", &customer]).1["items"][1];
    assert_eq!((&euro["asset"], &euro["available"]), (&Value::from("EUR"), &Value::from("0.40")));
    assert_eq!(ask(&["price", "set", "BTC", "EUR", "60000"]).0, 0);
    let (_, quote) = ask(&["quote", "sell", "--customer", &customer, "--amount", "0.1"]);
    let (code, accepted) = ask(&["accept", quote["id"].as_str().expect("an id"), "--customer", &customer]);
    assert_eq!((code, &accepted["base_amount"]), (0, &Value::from("0.10000000")));
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let (_, withdrawal) = ask(&["withdraw", "--customer", &customer, "--amount", "0.6", "--address", address]);
    let id = withdrawal["id"].as_str().expect("an id");
    let (key, signature) = approval_of(&withdrawal);
    let approved = ask(&["withdrawal", "approve", id, "--operator", &key, "--signature", &signature]).1;
    assert_eq!(approved["approved_by"][0], Value::from(key.as_str()));
    assert_eq!(ask(&["withdrawal", "cancel", id]).1["status"], "cancelled");
    assert_eq!(ask(&["wallet", "list"]).1["items"][0]["coins"], 1);
    assert_eq!(ask(&["wallet", "address"]).1["beneficiary"], "inventory");
    let body = super::support::wallet_body(2);
    let text = |name: &str| body[name].as_str().expect("a descriptor").to_owned();
    let (external, internal) = (text("descriptor_external"), text("descriptor_internal"));
    let cold = ["wallet", "register", "--id", "2", "--tier", "cold", "--external", &external, "--internal", &internal];
    assert_eq!(ask(&cold).1["tier"], "cold");
    assert_eq!(ask(&["wallet", "retire", "2"]).1["retired"], true);
    let (code, refused) = ask(&["wallet", "retire", "1"]);
    assert_eq!((code, &refused["code"]), (EXIT_FAILED, &Value::from("wallet_holds_coins")));
    assert_eq!(ask(&["withdrawal", "show", id]).1["status"], "cancelled");
    assert_eq!(ask(&["withdrawal", "list"]).1["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(ask(&["block", "list", "--limit", "1"]).1["items"][0]["height"], 3);
    assert_eq!(ask(&["books"]).1["balanced"], true);
    assert_eq!(ask(&["halt", "quote"]).0, 0);
    assert_eq!(ask(&["resume", "quote"]).0, 0);
    assert_eq!(ask(&["status"]).1["leading"], true);
    let (code, refused) = ask(&["withdraw", "--customer", &customer, "--amount", "1e3", "--address", address]);
    assert_eq!((code, &refused["code"]), (EXIT_FAILED, &Value::from("amount_invalid")));
    let (code, refused) = ask(&["customer", "show", "../status"]);
    assert_eq!((code, &refused["code"]), (EXIT_FAILED, &Value::from("customer_unknown")));
    for words in [
        &["status"][..],
        &["customer", "list"],
        &["withdrawal", "list"],
        &["books"],
        &["event", "tail", "--after", "0", "--once"],
    ] {
        let ran = florin(&[words, &["--url", &world.url, "--token-file", path(&token_file)]].concat());
        assert!(ran.code == 0 && ran.out.lines().count() > 1, "{words:?}: {}{}", ran.out, ran.err);
    }
    world.stop();
    let gone = florin(&["status", "--url", "http://127.0.0.1:9", "--token-file", path(&token_file)]);
    assert!(gone.code == EXIT_FAILED && gone.err.starts_with("error[platform_unreachable]"), "{}", gone.err);
}

/// A file with the operator's token, as its owner keeps it.
pub(super) fn token_file(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("token");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).expect("a file");
    std::io::Write::write_all(&mut file, TOKEN.as_bytes()).expect("it is written");
    path
}

#[test]
fn a_change_asked_for_again_with_its_key_is_done_once() {
    let (folder, world) = World::start();
    world.register_wallet();
    let customer = world.customer();
    world.fund(&customer, 100_000_000);
    let token = token_file(folder.path());
    let common = ["--url", &world.url, "--token-file", path(&token)];
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let key = super::support::key();
    let words = ["withdraw", "--customer", &customer, "--amount", "0.00777", "--address", address];
    let ask = |more: &[&str]| florin(&[&words, &common[..], more].concat());
    for _ in 0..2 {
        let ran = ask(&["--json", "--key", &key]);
        let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|fault| panic!("{fault}: {}", ran.err));
        assert_eq!((&said["id"], &said["idempotency_key"]), (&Value::from(key.as_str()), &Value::from(key.as_str())));
    }
    assert_eq!(world.shown("/api/v1/withdrawals")["items"].as_array().map(Vec::len), Some(1), "once");
    let fresh: Value = serde_json::from_str(&ask(&["--json"]).out).expect("JSON");
    assert_eq!(fresh["idempotency_key"], fresh["id"], "without one it makes one, and says it");
    assert_eq!(world.shown("/api/v1/withdrawals")["items"].as_array().map(Vec::len), Some(2));
    // Another request with that key can never be done: it is not offered for asking again, but for looking what it did.
    let other = ["withdraw", "--customer", &customer, "--amount", "0.00778", "--address", address, "--key", &key];
    let refused = florin(&[&other[..], &common].concat());
    assert!(refused.err.starts_with("error[idempotency_mismatch]"), "{}", refused.err);
    assert!(!refused.err.contains(&format!("--key {key}")) && refused.err.contains("without --key"), "{}", refused.err);
    let look = ["event", "history", &key];
    assert!(refused.err.contains(&format!("florin {}", look.join(" "))), "{}", refused.err);
    let history = florin(&[&look[..], &common].concat());
    assert!(history.out.contains("withdrawal_requested"), "{}{}", history.out, history.err);
    for bad in ["", "x", "9f0b1f0a-3b52-4c7e-9d67-0f4f2b7a1c11"] {
        let ran = ask(&["--key", bad]);
        assert!(ran.code == EXIT_USAGE && ran.err.contains("UUID of version 7"), "{bad}: {}", ran.err);
    }
    world.stop();
}

#[test]
fn every_failure_of_a_change_names_its_key() {
    let (folder, world) = World::start();
    let token = token_file(folder.path());
    let common = ["--url", &world.url, "--token-file", path(&token)];
    let (nobody, key) = ("00000000-0000-7000-8000-000000000000", super::support::key());
    let hex = "11".repeat(32);
    for words in [
        &["customer", "new", "--name", ""][..],
        &["customer", "address", nobody],
        &["quote", "buy", "--customer", nobody, "--amount", "1"],
        &["quote", "sell", "--customer", nobody, "--amount", "1"],
        &["accept", nobody, "--customer", nobody],
        &["withdraw", "--customer", nobody, "--amount", "1", "--address", "x"],
        &["withdrawal", "cancel", nobody],
        &["withdrawal", "approve", nobody, "--operator", "x", "--signature", "x"],
        &["plan", "conflict", "1", "--input", "x", "--txid", &hex, "--height", "1", "--block", &hex],
        &["price", "set", "BTC", "EUR", "x"],
        &["bank-receipt", "--reference", "R", "--amount", "x", "--for", "inventory"],
        &["correct", "--reference", "C", "--asset", "EUR", "--amount", "x", "--debit", "fees", "--credit", "spread"],
        &["halt", "x"],
        &["resume", "x"],
        &["confirm-time"],
        &["wallet", "register", "--external", "x", "--internal", "x"],
        &["wallet", "address", "9"],
        &["wallet", "retire", "9"],
        &["asset", "policy", "BTC", "--deposit-min", "x"],
    ] {
        let ran = florin(&[words, &common, &["--key", &key]].concat());
        let way_out = format!("\n  to ask for the same change again: --key {key}\n");
        assert!(ran.code == EXIT_FAILED && ran.err.ends_with(&way_out), "{words:?}: {}", ran.err);
        let ran = florin(&[words, &common, &["--json", "--key", &key]].concat());
        let said: Value = serde_json::from_str(&ran.err).unwrap_or_else(|fault| panic!("{words:?}: {fault}"));
        assert_eq!(said["idempotency_key"], key.as_str(), "{words:?}");
    }
    let read = florin(&[&["customer", "show", "x"][..], &common, &["--json"]].concat());
    assert!(!read.err.contains("idempotency_key"), "a read has none: {}", read.err);
    world.stop();
}

/// A pipe whose reader has gone.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure_but_for_a_change_that_nobody_read_of() {
    let (folder, world) = World::start();
    let token = token_file(folder.path());
    let common = ["--url", &world.url, "--token-file", path(&token)];
    let unread = |words: &[&str]| {
        let words = std::iter::once("florin").chain(words.iter().copied()).chain(common);
        let mut err = Vec::new();
        let code = run(words.map(OsString::from), &mut Closed, &mut err);
        (code, String::from_utf8(err).expect("text"))
    };
    for words in
        [&["status"][..], &["event", "tail", "--after", "0", "--once"], &["ledger", "schema"], &["status", "--help"]]
    {
        assert_eq!(unread(words), (EXIT_PIPE, String::new()), "{words:?}");
    }
    let key = super::support::key();
    let (code, said) = unread(&["halt", "quote", "--key", &key]);
    assert!(code == EXIT_FAILED && said.contains("output_failed") && said.contains(&key), "{said}");
    assert_eq!(world.shown("/api/v1/halts")["items"].as_array().map(Vec::len), Some(1), "it is done all the same");
    world.stop();
}

#[test]
fn a_change_that_is_interrupted_names_the_key_that_it_went_out_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = token_file(folder.path());
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", mute.local_addr().expect("an address"));
    for (json, signal) in [(false, "-INT"), (true, "-TERM")] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_florin"));
        command.args(["halt", "quote", "--url", &url, "--token-file", path(&token)]);
        let command = if json { command.arg("--json") } else { &mut command };
        let child = command.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
        let (stream, _) = mute.accept().expect("it asks");
        let lines = std::io::BufRead::lines(std::io::BufReader::new(&stream)).map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let sent = head.iter().find_map(|line| line.strip_prefix("idempotency-key: ")).expect("a key").to_owned();
        let process = child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &process]).status().expect("kill is there").success());
        let ended = child.wait_with_output().expect("it ends");
        let said = String::from_utf8(ended.stderr).expect("text");
        assert_eq!(ended.status.code(), Some(i32::from(EXIT_INTERRUPTED)), "{said}");
        if json {
            let said: Value = serde_json::from_str(&said).expect("JSON");
            assert_eq!((&said["code"], &said["idempotency_key"]), (&"interrupted".into(), &sent.into()));
        } else {
            assert!(said.starts_with("error[interrupted]") && said.contains(&format!("--key {sent}")), "{said}");
        }
    }
}

/// A platform's files as `florin init` lays them out, with some history.
fn history(place: &Path) -> Vec<String> {
    assert_eq!(florin(&["init", path(place)]).code, 0);
    let world = World::on(&place.join("data"));
    world.register_wallet();
    let customer = world.customer();
    world.fund(&customer, 100_000_000);
    let receipt =
        serde_json::json!({ "reference": "TAMPER-WITH-ME", "asset": "EUR", "amount": "77", "beneficiary": customer });
    let booked = world.post("/api/v1/bank-receipts", &receipt);
    assert_eq!(booked.status, 201, "{}", booked.text);
    let row = booked.header("florin-seq").to_owned();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while world.platform.projected() < world.platform.at() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    world.stop();
    vec![row]
}

#[test]
fn verify_accepts_a_right_journal_and_names_the_first_wrong_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("platform");
    let row = history(&place).remove(0);
    let config = place.join("florin.toml");
    let ledger = |words: &[&str]| florin(&[&["ledger"], words, &["--config", path(&config), "--json"]].concat());
    let right = ledger(&["verify"]);
    assert_eq!(right.code, 0, "{}{}", right.out, right.err);
    let report: Value = serde_json::from_str(&right.out).expect("JSON");
    assert_eq!((&report["wrong_row"], &report["book_faults"]), (&Value::Null, &serde_json::json!([])));
    let with = [0, 1].map(|index| report["compared"][index]["with"].as_str());
    assert_eq!(with, [Some("addresses"), Some("table events")], "{report}");
    let head: Value = serde_json::from_str(&ledger(&["head"]).out).expect("JSON");
    assert_eq!((&head["seq"], &head["hash"]), (&report["head"]["seq"], &report["head"]["hash"]));
    let archive = place.join("archive");
    let exported = ledger(&["export", path(&archive), "--rows", "4"]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    let mut files: Vec<_> =
        std::fs::read_dir(&archive).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let mut previous = florin_core::id::Digest::ZERO;
    for file in &files {
        let rows = florin_store::segment::read_segment(&std::fs::read(file).expect("a file")).expect("a segment");
        assert_eq!(rows[0].previous, previous, "segments are linked");
        previous = rows.last().expect("a row").hash;
    }
    assert_eq!(previous.to_string(), head["hash"]);
    assert!(ledger(&["export", path(&archive), "--rows", "4"]).err.contains("export_exists"));
    tamper(&place.join("data"));
    let wrong = ledger(&["verify"]);
    let report: Value = serde_json::from_str(&wrong.out).expect("JSON");
    assert_eq!(wrong.code, EXIT_FAILED);
    assert_eq!(report["wrong_row"].to_string(), row, "{report}");
    assert!(wrong.err.contains("journal_wrong_hash"), "{}", wrong.err);
}

/// Changes one byte of a stored row, as somebody with the file at hand may.
fn tamper(data: &Path) {
    let mut changed = 0;
    for name in ["journal.sqlite3", "journal.sqlite3-wal"] {
        let Ok(mut bytes) = std::fs::read(data.join(name)) else { continue };
        let text = b"TAMPER-WITH-ME";
        let found: Vec<usize> =
            bytes.windows(text.len()).enumerate().filter(|(_, part)| part == text).map(|(at, _)| at).collect();
        for at in &found {
            bytes[*at] = b'X';
        }
        if !found.is_empty() {
            changed += found.len();
            std::fs::write(data.join(name), bytes).expect("it is ours");
        }
    }
    assert!(changed > 0, "the row was found");
}

#[test]
fn a_main_network_needs_a_signer_with_real_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(florin(&["init", path(folder.path())]).code, 0);
    let config = folder.path().join("florin.toml");
    let text = std::fs::read_to_string(&config).expect("text");
    let text = text.replace("network = \"regtest\"", "network = \"main\"").replace("stale_s = 0", "stale_s = 7200");
    let text = text.replace("127.0.0.1:7700", "127.0.0.1:0");
    std::fs::write(&config, text).expect("it is ours");
    let ran = florin(&["serve", "--config", path(&config)]);
    assert_eq!(ran.code, EXIT_FAILED);
    assert!(ran.err.contains("error[signer_unready]") && ran.err.contains("florin signer serve"), "{}", ran.err);
    assert!(!folder.path().join("data/journal.sqlite3").exists(), "nothing was begun");
}

/// A platform as a process of its own, until it is told to stop.
struct Served {
    child: std::process::Child,
    url: String,
}

impl Drop for Served {
    /// Nothing of a test that failed goes on running.
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Which of the signals that interrupt and terminate a process catches, by number.
#[cfg(target_os = "linux")]
fn caught(process: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
    let mask = u64::from_str_radix(mask.trim(), 16).expect("a number");
    [2, 15].into_iter().filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
}

fn serve(config: &Path) -> Served {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(["serve", "--json", "--config", path(config)])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("it says where it listens");
    #[cfg(target_os = "linux")]
    assert_eq!(caught(child.id()), [2, 15], "whoever knows that it serves may tell it to end");
    let said: Value = serde_json::from_str(&line).expect("JSON");
    Served { child, url: said["listening"].as_str().expect("an address").to_owned() }
}

#[test]
fn what_was_answered_outlives_a_kill_and_a_signal_ends_in_peace() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(florin(&["init", path(folder.path())]).code, 0);
    let config = folder.path().join("florin.toml");
    let text = std::fs::read_to_string(&config).expect("text").replace("127.0.0.1:7700", "127.0.0.1:0");
    std::fs::write(&config, text).expect("it is ours");
    let ask = |url: &str, words: &[&str]| {
        let ran = florin(&[words, &["--url", url, "--config", path(&config), "--json"]].concat());
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        serde_json::from_str::<Value>(&ran.out).expect("JSON")
    };
    let mut first = serve(&config);
    let customer = ask(&first.url, &["customer", "new", "--name", "First"]);
    first.child.kill().expect("it runs");
    first.child.wait().expect("it ended");
    let mut second = serve(&config);
    let mut shown = ask(&second.url, &["customer", "show", customer["id"].as_str().expect("an id")]);
    // Whoever asked for a change is told its key, which what it made bears.
    shown["idempotency_key"] = shown["id"].clone();
    assert_eq!(shown, customer);
    assert_eq!(ask(&second.url, &["status"])["epoch"], 2);
    // Started again by mistake it fails before it takes the lead from the one that runs.
    let third = florin(&["serve", "--config", path(&config)]);
    assert!(third.code == EXIT_FAILED && third.err.contains("error[data_folder_in_use]"), "{}", third.err);
    let text = std::fs::read_to_string(&config).expect("text");
    let taken = folder.path().join("taken.toml");
    let text = text.replace("127.0.0.1:0", second.url.trim_start_matches("http://"));
    std::fs::write(&taken, text.replace("data = \"data\"", "data = \"other\"")).expect("it is ours");
    let fourth = florin(&["serve", "--config", path(&taken)]);
    assert!(fourth.code == EXIT_FAILED && fourth.err.contains("error[listen_failed]"), "{}", fourth.err);
    assert_eq!(ask(&second.url, &["status"])["leading"], true);
    let process = second.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &process]).status().expect("kill is there").success());
    assert_eq!(second.child.wait().expect("it ended").code(), Some(0));
    let verified = florin(&["ledger", "verify", "--config", path(&config), "--json"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    let report: Value = serde_json::from_str(&verified.out).expect("JSON");
    let mut skipped = report["not_compared"].as_array().expect("a list").iter().filter_map(Value::as_str);
    assert!(skipped.any(|text| text.starts_with("node a: it can't be asked")), "{report}");
}

#[test]
fn a_data_folder_that_everybody_may_enter_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(florin(&["init", path(folder.path())]).code, 0);
    let (config, data) = (folder.path().join("florin.toml"), folder.path().join("data"));
    for mode in [0o755, 0o701, 0o777] {
        std::fs::set_permissions(&data, PermissionsExt::from_mode(mode)).expect("set");
        let ran = florin(&["serve", "--config", path(&config)]);
        assert_eq!(ran.code, EXIT_FAILED);
        assert!(ran.err.contains("error[data_folder_exposed]") && ran.err.contains("chmod 700"), "{}", ran.err);
        assert_eq!(std::fs::read_dir(&data).expect("a folder").count(), 0, "nothing was begun");
    }
}
