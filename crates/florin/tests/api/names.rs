//! Names of customers: kept apart from the journal, and erased for good.

use super::cli::{florin, token_file};
use super::support::{World, bearer, id, key};
use florin::cli::EXIT_FAILED;
use florin_core::id::Digest;
use florin_core::journal::Journal;
use florin_store::people;
use florin_store::sqlite::journal::{self, SqliteJournal};
use serde_json::{Value, json};
use std::path::Path;

/// A name that stands nowhere by accident.
const NAME: &str = "Perdita Ausgedacht";

/// Where customers are opened.
const CUSTOMERS: &str = "/api/v1/customers";

/// The files of a folder that hold a text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let holds = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).expect("readable");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let files = entries.filter(|path| path.is_file()).filter(holds);
    let mut names: Vec<String> = files.map(|path| path.file_name().expect("a name").to_string_lossy().into()).collect();
    names.sort();
    names
}

fn forget(world: &World, customer: &str) -> Value {
    world.made(&format!("{CUSTOMERS}/{customer}/forget-name"), &json!({}))
}

#[test]
fn a_name_that_is_forgotten_is_gone_and_no_repetition_brings_it_back() {
    let (folder, world) = World::start();
    let (key, body) = (key(), json!({ "name": NAME }));
    let opened = world.post_as(&key, CUSTOMERS, &body);
    assert_eq!((opened.status, &opened.value["name"]), (201, &json!(NAME)), "{}", opened.text);
    let customer = id(&opened.value);
    let kept = files_with(folder.path(), NAME);
    assert!(!kept.is_empty() && kept.iter().all(|name| name.starts_with(people::FILE)), "{kept:?}");
    let rows = world.platform.at();
    let forgotten = forget(&world, &customer);
    assert_eq!((&forgotten["id"], &forgotten["name"]), (&json!(customer), &Value::Null));
    assert_eq!(world.platform.at(), rows, "the journal never knew");
    assert_eq!(files_with(folder.path(), NAME), Vec::<String>::new());
    // The opening is asked for again, as by somebody who did not hear its answer.
    let again = world.post_as(&key, CUSTOMERS, &body);
    assert_eq!((again.status, &again.value["id"], &again.value["name"]), (201, &json!(customer), &Value::Null));
    assert_eq!(files_with(folder.path(), NAME), Vec::<String>::new());
    let shown = world.shown(&format!("{CUSTOMERS}/{customer}"));
    assert_eq!((&shown["name"], &world.shown(CUSTOMERS)["items"][0]), (&Value::Null, &shown));
    // To forget twice is to forget once, and who has no name is forgotten as well.
    assert_eq!(forget(&world, &customer), shown);
    let nameless = world.customer();
    assert_eq!(forget(&world, &nameless)["name"], Value::Null);
    world.stop();
}

#[test]
fn forgetting_a_name_is_a_change_of_a_customer_that_there_is() {
    let (_folder, world) = World::start();
    let nobody = format!("{CUSTOMERS}/{}/forget-name", key());
    let answer = world.post(&nobody, &json!({}));
    assert_eq!((answer.status, answer.code()), (404, "customer_unknown"));
    let customer = world.customer();
    let path = format!("{CUSTOMERS}/{customer}/forget-name");
    let without = world.send("POST", &path, &[("Authorization", &bearer())], b"");
    assert_eq!((without.status, without.code()), (400, "idempotency_key_missing"));
    let more = world.post(&path, &json!({ "name": "x" }));
    assert_eq!((more.status, more.code()), (400, "body_invalid"));
    world.stop();
}

#[test]
fn a_name_is_not_gone_while_a_reader_holds_its_log_and_the_caller_is_told() {
    let (folder, world) = World::start();
    let customer = id(&world.made(CUSTOMERS, &json!({ "name": NAME })));
    let reader = rusqlite::Connection::open(folder.path().join(people::FILE)).expect("it opens");
    reader.execute_batch("BEGIN; SELECT count(*) FROM customers").expect("it reads");
    let (key, path) = (key(), format!("{CUSTOMERS}/{customer}/forget-name"));
    let answer = world.post_as(&key, &path, &json!({}));
    assert_eq!((answer.status, answer.code()), (503, "store_unavailable"), "{}", answer.text);
    reader.execute_batch("COMMIT").expect("it ends");
    assert_eq!(world.post_as(&key, &path, &json!({})).status, 200);
    drop(reader);
    assert_eq!(files_with(folder.path(), NAME), Vec::<String>::new());
    world.stop();
}

#[test]
fn the_journal_does_not_tell_which_name_an_opening_had() {
    let (folder, world) = World::start();
    let key = key();
    let answer = world.post_as(&key, CUSTOMERS, &json!({ "name": NAME }));
    assert_eq!(answer.status, 201, "{}", answer.text);
    world.made(CUSTOMERS, &json!({ "name": "Another" }));
    // All the same a key is for one request.
    for other in [json!({ "name": "Another" }), json!({})] {
        let refused = world.post_as(&key, CUSTOMERS, &other);
        assert_eq!((refused.status, refused.code()), (409, "idempotency_mismatch"), "{}", refused.text);
    }
    assert_eq!(world.shown(CUSTOMERS)["items"][0]["name"], NAME);
    world.stop();
    let mut journal = SqliteJournal::open(&folder.path().join(journal::FILE)).expect("it opens");
    let rows = journal.read(florin_core::id::Seq::START, 1_000).expect("rows");
    let mut hashes: Vec<Digest> = Vec::new();
    let mut previous = (florin_core::id::Seq::START, Digest::ZERO);
    for row in rows {
        let batch = row.open(previous.0, previous.1).expect("a row");
        hashes.extend(batch.entries.iter().filter_map(|entry| entry.request));
        previous = (row.seq, row.hash);
    }
    // Nobody who guesses a name can hold it against the hash: it is the same for every name.
    assert_eq!(hashes.len(), 2);
    assert_eq!(hashes[0], hashes[1]);
}

#[test]
fn the_command_line_forgets_a_name() {
    let (folder, world) = World::start();
    let token = token_file(folder.path());
    let token = token.to_str().expect("a path of a test");
    let customer = id(&world.made(CUSTOMERS, &json!({ "name": NAME })));
    let ask = |words: &[&str]| florin(&[words, &["--url", &world.url, "--token-file", token, "--json"]].concat());
    let ran = ask(&["customer", "forget-name", &customer]);
    let said: Value = serde_json::from_str(&ran.out).unwrap_or_else(|fault| panic!("{fault}: {}", ran.err));
    assert_eq!((&said["id"], &said["name"]), (&json!(customer), &Value::Null));
    assert!(said["idempotency_key"].is_string(), "{said}");
    assert_eq!(world.shown(&format!("{CUSTOMERS}/{customer}"))["name"], Value::Null);
    let ran = ask(&["customer", "forget-name", "nobody"]);
    assert!(ran.code == EXIT_FAILED && ran.err.contains("customer_unknown"), "{}", ran.err);
    world.stop();
}

#[test]
fn whoever_gives_a_reference_is_told_that_it_stays() {
    for command in ["bank-receipt", "correct"] {
        let help = florin(&[command, "--help"]).out;
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("No names of people: it stays in the journal"), "{command}: {help}");
    }
}
