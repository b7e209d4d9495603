//! Journals that were set back to an older copy: nobody leads one, whoever remembers that there was more.

use super::chain::{Chain, until};
use super::support::{self, World, florin, id};
use florin::config::Config;
use florin::platform::{Parts, Platform};
use florin::signer;
use florin_core::id::{Digest, Seq};
use florin_core::journal::{Batch, Row};
use florin_core::snapshot;
use florin_core::wire::Message;
use florin_signer::client::Client;
use florin_signer::protocol::{Hello, Outcome, PROTOCOL, Request};
use florin_store::site::Site;
use florin_store::snapshots::{self, Snapshots, VerifiedSnapshot};
use florin_store::sqlite::journal;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Number and hash of the journal's last row.
fn head(data: &Path) -> (Seq, Digest) {
    let journal = Site::Folder(data.to_path_buf()).journal_reader();
    journal.expect("it is there").head().expect("it answers").expect("it has rows")
}

/// Sets the journal back to an older state, without its last rows.
fn set_back(data: &Path, rows: u64) {
    // The writer settles what is in the log, and puts everything into the one file.
    drop(Site::Folder(data.to_path_buf()).journal().expect("it opens"));
    let connection = rusqlite::Connection::open(data.join(journal::FILE)).expect("it opens");
    let last: i64 = connection.query_row("SELECT max(seq) FROM journal", [], |row| row.get(0)).expect("it has rows");
    let bound = last - i64::try_from(rows).expect("few");
    connection.execute("DELETE FROM journal WHERE seq > ?1", [bound]).expect("deleted");
}

/// Appends empty rows that nobody else knows.
fn write_on(data: &Path, rows: u64) {
    let mut journal = Site::Folder(data.to_path_buf()).journal().expect("it opens");
    for _ in 0..rows {
        let (seq, _) = journal.head().expect("it answers").expect("it has rows");
        let last = journal.read(Seq(seq.0 - 1), 1).expect("it answers").remove(0);
        let payload = Batch { entries: Vec::new() }.encode();
        journal.append(&Row::seal(seq.next(), last.epoch, last.time, last.hash, payload)).expect("appended");
    }
}

/// Takes away what a crash or a person may take away, and what is made again.
fn lose(data: &Path, names: &[&str]) {
    let files = std::fs::read_dir(data).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_named = |file: &PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).expect("text");
        names.iter().any(|lost| name.starts_with(lost))
    };
    files.filter(is_named).for_each(|file| std::fs::remove_file(file).expect("removed"));
}

/// How `ledger verify` ends, and what it says of a witness: a code where the journal is not the one that it knows, and nothing
/// where it agrees.
fn verified(folder: &Path, witness: &str) -> (Option<i32>, Option<String>) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(["ledger", "verify", "--json", "--config"])
        .arg(folder.join("florin.toml"))
        .output()
        .expect("it runs");
    let report: Value = serde_json::from_slice(&done.stdout).expect("a report");
    let compared = report["compared"].as_array().expect("a list");
    let found = compared.iter().find(|one| one["with"] == witness);
    let found = found.unwrap_or_else(|| panic!("{witness} was not compared: {report}"));
    (done.status.code(), found["code"].as_str().map(str::to_owned))
}

/// What `ledger verify` says of the one checkpoint of a folder, and whether it agrees.
fn checkpointed(folder: &Path, words: &[&str]) -> (Value, String) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(["ledger", "verify", "--json", "--config"])
        .arg(folder.join("florin.toml"))
        .arg("--checkpoints")
        .arg(folder.join("checkpoints"))
        .args(words)
        .output()
        .expect("it runs");
    let report: Value = serde_json::from_slice(&done.stdout).expect("a report");
    let compared = report["compared"].as_array().expect("a list").iter();
    let found: Vec<&Value> =
        compared.filter(|one| one["with"].as_str().is_some_and(|name| name.starts_with("checkpoint "))).collect();
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!(
        done.status.success(),
        report["compared"].as_array().expect("a list").iter().all(|one| one["agrees"] == true)
    );
    (found[0]["code"].clone(), found[0]["detail"].as_str().expect("text").to_owned())
}

/// How a start ends: its code and its sentence.
fn refused(parts: Parts) -> (&'static str, String) {
    match Platform::start(parts) {
        Ok(platform) => {
            platform.stop();
            ("led", String::new())
        }
        Err(failure) => (failure.code(), failure.to_string()),
    }
}

/// The last row that the signer was shown.
fn highest(folder: &Path) -> u64 {
    let client = Client::new(folder.join("signer").join(signer::SOCKET_FILE), Duration::from_secs(5));
    let reply = client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).expect("it answers");
    let Outcome::Welcome(welcome) = reply.outcome else { panic!("{:?}", reply.outcome) };
    welcome.highest.expect("it was shown one").seq.0
}

fn address(world: &World, customer: &str) -> String {
    let address = world.made(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
    address["address"].as_str().expect("an address").to_owned()
}

#[test]
fn a_journal_that_was_set_back_is_not_led_and_gives_no_address_twice() {
    let (chain, world) = Chain::start();
    let folder = chain.folder.path().to_path_buf();
    let data = folder.join("data");
    let parts =
        || Parts::of(&Config::read(&folder.join("florin.toml")).expect("a configuration")).expect("all is there");
    let customer = world.customer();
    let given = address(&world, &customer);
    let (is_signed, checkpoint) = florin(&folder, &["ledger", "checkpoint"]);
    assert!(is_signed, "{checkpoint}");
    let signed = checkpoint["seq"].as_u64().expect("a row");
    until("the search tables have it", || (world.platform.projected().0 >= signed).then_some(()));
    world.stop();
    // It was shown the head before as well, at a moment of the platform's own.
    let shown = highest(&folder);
    assert!(shown >= signed);
    let whole = std::fs::read_dir(&data).expect("a folder").map(|entry| entry.expect("an entry").path());
    let journal = data.join(journal::FILE);
    drop(Site::Folder(data.clone()).journal().expect("it opens"));
    let kept: Vec<(PathBuf, Vec<u8>)> = whole
        .filter(|file| file.to_string_lossy().contains(journal::FILE))
        .map(|file| (file.clone(), std::fs::read(file).expect("it is read")))
        .collect();
    assert!(kept.iter().any(|(file, _)| *file == journal));
    let before = head(&data);
    let witnesses = ["the signer's memory", "the record of what the signer was shown", "the last checkpoint"];
    for witness in witnesses {
        assert_eq!(verified(&folder, witness), (Some(0), None), "{witness}");
    }
    let names: Vec<_> = std::fs::read_dir(folder.join("checkpoints")).expect("a folder").collect();
    assert_eq!(names.len(), 1, "no draft is left: {names:?}");
    let key = checkpoint["signer_key"].as_str().expect("a key");
    let said = format!("row {signed} is the one that was signed");
    assert_eq!(checkpointed(&folder, &["--signer-key", key]), (Value::Null, said.clone()));
    let unvouched = format!("{said}, by the key {key}, for which nobody vouched: see --signer-key");
    assert_eq!(checkpointed(&folder, &[]), (Value::Null, unvouched));
    let (code, sentence) = checkpointed(&folder, &["--signer-key", &"ab".repeat(32)]);
    assert_eq!(
        (code.as_str(), sentence.as_str()),
        (Some("checkpoint_differs"), "it is not signed by the signer's key")
    );

    set_back(&data, before.0.0 - shown + 2);
    let old = head(&data);
    assert_eq!(old.0.0, shown - 2);
    for (lost, who) in
        [(&[][..], "the cursor of the search tables"), (&["projection", "snapshots"][..], "the signer's memory")]
    {
        lose(&data, lost);
        let (code, sentence) = refused(parts());
        assert_eq!(code, "journal_behind", "{sentence}");
        assert!(sentence.contains(who), "{who}: {sentence}");
        assert!(sentence.contains("put the newer journal back"), "{sentence}");
        assert_eq!(head(&data), old, "nothing was written");
        let judged = verified(&folder, witnesses[0]);
        assert_eq!(
            judged,
            (Some(1), Some("journal_behind".to_owned())),
            "nothing but who asks for it is left: {lost:?}"
        );
    }
    let (is_signed, said) = florin(&folder, &["ledger", "checkpoint"]);
    assert_eq!((is_signed, said["code"].as_str()), (false, Some("fence_behind")), "{said}");

    // Rows were appended after the copy was put back: it is as long as before, and longer.
    write_on(&data, 2);
    let (code, sentence) = refused(parts());
    assert_eq!(code, "journal_forked", "{sentence}");
    assert_eq!(verified(&folder, witnesses[0]), (Some(1), Some("journal_forked".to_owned())));
    write_on(&data, 5);
    let forked = head(&data);
    assert_eq!(forked.0.0, shown + 5);
    let (code, sentence) = refused(parts());
    assert_eq!((code, head(&data)), ("journal_forked", forked), "{sentence}");
    assert!(sentence.contains("the signer's memory"), "{sentence}");
    let (is_signed, said) = florin(&folder, &["ledger", "checkpoint"]);
    assert_eq!((is_signed, said["code"].as_str()), (false, Some("fence_conflict")), "{said}");

    // The signer is away: what it was shown is on this machine as well.
    let mut away = parts();
    away.stores.witnesses.remove(1);
    let (code, sentence) = refused(away);
    assert_eq!(code, "journal_forked", "{sentence}");
    let is_known =
        ["the last checkpoint", "the record of what the signer was shown"].iter().any(|who| sentence.contains(who));
    assert!(is_known, "{sentence}");

    // The newer journal is back, and everything goes on where it was.
    lose(&data, &[journal::FILE]);
    kept.iter().for_each(|(file, bytes)| std::fs::write(file, bytes).expect("written"));
    let world = World::of(parts());
    let other = world.customer();
    assert_ne!(address(&world, &other), given, "an address is given once");
    world.stop();
}

#[test]
fn a_record_that_is_torn_is_not_taken_for_none() {
    let (chain, world) = Chain::start();
    let folder = chain.folder.path().to_path_buf();
    let data = folder.join("data");
    let parts =
        || Parts::of(&Config::read(&folder.join("florin.toml")).expect("a configuration")).expect("all is there");
    let (is_signed, checkpoint) = florin(&folder, &["ledger", "checkpoint"]);
    assert!(is_signed, "{checkpoint}");
    until("it was shown a row by the platform", || data.join("signer.shown").exists().then_some(()));
    world.stop();
    let whole = head(&data);
    for (file, code, name) in [
        ("signer.shown", "signer_shown_unreadable", "the record of what the signer was shown"),
        ("checkpoint.shown", "checkpoint_shown_unreadable", "the last checkpoint"),
    ] {
        let path = data.join(file);
        let kept = std::fs::read(&path).expect("it is there");
        for torn in [&kept[..20], &[]] {
            std::fs::write(&path, torn).expect("written");
            let (refused, sentence) = refused(parts());
            assert_eq!((refused, head(&data)), (code, whole), "{sentence}");
            assert!(sentence.contains(name) && sentence.contains("remove it by its name"), "{sentence}");
            assert_eq!(verified(&folder, name), (Some(1), Some(code.to_owned())));
        }
        let (is_signed, said) = florin(&folder, &["ledger", "checkpoint"]);
        assert_eq!(is_signed, file == "signer.shown", "{said}");
        if !is_signed {
            assert_eq!(said["code"], code, "{said}");
        }
        assert!(std::fs::read(&path).expect("it is there").is_empty(), "nobody but a person replaces it");
        std::fs::write(&path, kept).expect("written");
    }
    // Without a record, as a person may leave it, and with a whole one it leads.
    std::fs::remove_file(data.join("signer.shown")).expect("removed");
    World::of(parts()).stop();
    assert!(head(&data).0 > whole.0);
}

/// Rows that are lost with an older copy: more than a platform appends by itself until its signer has compared.
const LOST: u64 = 200;

#[test]
fn an_older_copy_that_was_led_without_the_signer_ends_once_the_signer_answers() {
    let (chain, world) = Chain::start();
    let folder = chain.folder.path().to_path_buf();
    let data = folder.join("data");
    let customer = world.customer();
    for _ in 0..LOST {
        address(&world, &customer);
    }
    let given = address(&world, &customer);
    let (is_signed, checkpoint) = florin(&folder, &["ledger", "checkpoint"]);
    assert!(is_signed, "{checkpoint}");
    world.stop();
    let shown = highest(&folder);
    // All that lies in the data folder is as old as the copy, and the signer's keys are locked yet.
    set_back(&data, head(&data).0.0 - shown + LOST);
    lose(&data, &["projection", "snapshots", "signer.shown", "checkpoint.shown"]);
    let socket = folder.join("signer").join(signer::SOCKET_FILE);
    let away = socket.with_extension("away");
    std::fs::rename(&socket, &away).expect("moved");
    let config = Config::read(&folder.join("florin.toml")).expect("a configuration");
    let mut parts = Parts::of(&config).expect("all is there");
    let ends: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let heard = Arc::clone(&ends);
    parts.fatal = Arc::new(move |fatal| heard.lock().expect("a list").push(fatal.code()));
    let world = World::of(parts);
    assert!(world.platform.status().leading, "nobody who knows better can be asked");
    until("the signer is missed", || {
        let alarms = world.platform.status().alarms;
        alarms.iter().any(|alarm| alarm.code == "signer_unreachable").then_some(())
    });
    assert!(ends.lock().expect("a list").is_empty());
    std::fs::rename(&away, &socket).expect("moved back");
    until("the end", || ends.lock().expect("a list").first().copied());
    assert_eq!(*ends.lock().expect("a list"), ["journal_behind"]);
    assert!(!world.platform.status().leading);
    let answer = world.post(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
    assert!(!(200..300).contains(&answer.status), "{given} would be given again: {}", answer.text);
}

/// A platform without a signer that has stopped, in a folder of its own.
fn stopped() -> (tempfile::TempDir, Seq) {
    let (folder, world) = World::start();
    let customer = id(&world.made("/api/v1/customers", &json!({})));
    let at = world.platform.at();
    until("the search tables have it", || (world.platform.projected() >= at).then_some(()));
    assert!(!customer.is_empty());
    world.stop();
    (folder, at)
}

#[test]
fn search_tables_that_are_ahead_of_the_journal_stop_a_start_and_tables_that_lag_do_not() {
    let (folder, at) = stopped();
    let data = folder.path();
    let rows = head(data).0.0;
    // Behind, gone, and at their beginning: usual.
    lose(data, &["projection"]);
    World::on(data).stop();
    let (last, _) = head(data);
    assert!(last.0 >= rows && rows >= at.0);
    let world = World::on(data);
    let at = world.platform.at();
    until("the search tables have it", || (world.platform.projected() >= at).then_some(()));
    world.stop();
    set_back(data, head(data).0.0 - at.0 + 1);
    let (code, sentence) = refused(support::parts(data));
    assert_eq!(code, "journal_behind", "{sentence}");
    assert!(sentence.contains("the cursor of the search tables"), "{sentence}");
    write_on(data, 20);
    let (code, sentence) = refused(support::parts(data));
    assert_eq!(code, "journal_forked", "{sentence}");
    assert_eq!(head(data).0.0, at.0 + 19, "nothing was written");
}

#[test]
fn a_snapshot_that_is_ahead_of_the_journal_stops_a_start_and_one_that_is_behind_does_not() {
    let (folder, world) = World::start();
    let data = folder.path();
    let (header, chunks) = world.platform.read(|state| snapshot::write(state, Digest::ZERO, "test"));
    let row_hash = world.platform.row_hash(header.seq).expect("the journal has it");
    world.stop();
    let keep = |seq: Seq, row_hash: Digest| {
        // What it holds is that of an earlier row; a snapshot that names a wrong row is not read that far.
        let header = florin_core::journal::SnapshotHeader { seq, row_hash, ..header.clone() };
        let snapshot = VerifiedSnapshot::verify(header, chunks.clone()).expect("it is whole");
        Snapshots::open(&data.join(snapshots::FILE)).and_then(|mut kept| kept.write(&snapshot)).expect("kept");
    };
    keep(header.seq, row_hash);
    World::on(data).stop();
    let (last, _) = head(data);
    keep(last, Digest([1; 32]));
    let (code, sentence) = refused(support::parts(data));
    assert_eq!(code, "journal_forked", "{sentence}");
    assert!(sentence.contains("the snapshot"), "{sentence}");
    lose(data, &["snapshots"]);
    keep(Seq(last.0 + 1), Digest([1; 32]));
    let (code, sentence) = refused(support::parts(data));
    assert_eq!((code, head(data).0), ("journal_behind", last), "{sentence}");
}
