//! Panics of the program as a process: what is answered as an error is told as an error, and nowhere as text of the runtime's own.

use super::verify::Stopped;
use florin::cli::EXIT_FAILED;
use florin_core::id::{Epoch, Seq};
use florin_core::journal::Row;
use florin_store::site::Site;
use florin_store::sqlite::journal;
use serde_json::Value;

#[test]
fn a_row_that_makes_a_rule_panic_is_told_in_json_and_nothing_else() {
    let stopped = Stopped::new();
    let copy = stopped.copy();
    let mut reader = Site::Folder(copy.folder.path().join("data")).journal_reader().expect("it opens");
    let last = reader.read(Seq(stopped.head.0 - 1), 1).expect("it answers").remove(0);
    drop(reader);
    // Whole, and of an epoch that never began.
    let sealed = Row::seal(last.seq, Epoch(last.epoch.0 + 1), last.time, last.previous, last.payload.clone());
    let hash = florin_core::hex::encode(&sealed.hash.0);
    let change =
        format!("UPDATE journal SET epoch = {}, hash = x'{hash}' WHERE seq = {}", sealed.epoch.0, sealed.seq.0);
    copy.sql(journal::FILE, &change);
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(["--json", "ledger", "verify", "--config"])
        .arg(copy.folder.path().join("florin.toml"))
        .output()
        .expect("it runs");
    let said = String::from_utf8(done.stderr).expect("text");
    let failure: Value = serde_json::from_str(&said).unwrap_or_else(|fault| panic!("{fault}: {said}"));
    assert_eq!((done.status.code(), &failure["code"]), (Some(EXIT_FAILED.into()), &"journal_contradiction".into()));
}
