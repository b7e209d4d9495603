//! A signer that has forgotten: an older copy of its memory put back and written on, a memory that is new; and a platform that has
//! forgotten its signer. Neither the platform nor the command line has such a one sign anything before a person says so.

use super::chain::{Chain, until};
use super::support::{World, florin, id, wallet_body};
use florin::config::Config;
use florin::platform::Parts;
use florin::signer::{MEMORY_FILE, SOCKET_FILE};
use florin_core::id::{Digest, LedgerTime};
use florin_signer::client::Client;
use florin_signer::memory::Memory;
use florin_signer::protocol::{CheckpointHead, Fence, Hello, KnownRow, Outcome, PROTOCOL, Request, Welcome};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a checkpoint ends with: nothing where it is signed.
fn checkpoint(folder: &Path) -> Option<String> {
    let (is_signed, said) = florin(folder, &["ledger", "checkpoint"]);
    (!is_signed).then(|| said["code"].as_str().expect("a code").to_owned())
}

/// The files of a memory, as they are.
fn files(signer: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let all = std::fs::read_dir(signer).expect("a folder").map(|entry| entry.expect("an entry").path());
    let of_memory = all.filter(|path| path.to_string_lossy().contains(MEMORY_FILE));
    of_memory.map(|path| (path.clone(), std::fs::read(&path).expect("it is read"))).collect()
}

fn put_back(signer: &Path, kept: &[(PathBuf, Vec<u8>)]) {
    files(signer).iter().for_each(|(path, _)| std::fs::remove_file(path).expect("removed"));
    kept.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("written"));
}

/// Has the signer decide something for somebody who does not know what it decided before; says how many decisions it has then.
fn decide(client: &Client) -> u64 {
    let hello = client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).expect("it answers");
    let Outcome::Welcome(Welcome { highest: Some(highest), .. }) = hello.outcome else { panic!("{hello:?}") };
    let fence = Fence { seq: highest.seq.next(), head: Digest([8; 32]), time: LedgerTime(0), ..highest };
    let known = Some(KnownRow { seq: highest.seq, hash: highest.head });
    let reply = client.ask(&Request::CheckpointHead(CheckpointHead { fence, known, memory: None }));
    let reply = reply.expect("it answers");
    assert!(matches!(reply.outcome, Outcome::Checkpoint(_)), "{reply:?}");
    reply.head.counter
}

fn has_alarm(world: &World, code: &str) -> bool {
    world.platform.status().alarms.iter().any(|alarm| alarm.code == code)
}

#[test]
fn an_old_memory_of_the_signer_signs_nothing_however_much_is_written_on_it() {
    let (mut chain, world) = Chain::start();
    let folder = chain.folder.path().to_path_buf();
    let client = Client::new(folder.join("signer").join(SOCKET_FILE), Duration::from_secs(5));
    let decisions = || client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).expect("it answers").head.counter;
    // The platform shows it the head by itself, then not for minutes: nothing comes between the questions of a checkpoint.
    until("the platform has met the signer", || (decisions() > 0).then_some(()));
    assert_eq!(checkpoint(&folder), None);
    let mut old = Vec::new();
    chain.without_signer(|signer| old = files(signer));
    // What the signer was shown before is no decision: the journal has to go on.
    for _ in 0..2 {
        world.customer();
        assert_eq!(checkpoint(&folder), None);
    }
    let known = decisions();
    let mut whole = Vec::new();
    chain.without_signer(|signer| {
        whole = files(signer);
        put_back(signer, &old);
    });
    assert_eq!(checkpoint(&folder).as_deref(), Some("signer_memory_behind"));
    until("the platform does not believe it", || has_alarm(&world, "signer_memory_behind").then_some(()));
    while decide(&client) < known + 10 {}
    for _ in 0..6 {
        assert_eq!(checkpoint(&folder).as_deref(), Some("signer_memory_conflict"));
    }
    until("the platform does not believe it", || has_alarm(&world, "signer_memory_conflict").then_some(()));
    assert_eq!(decide(&client), known + 11, "nobody who knows more had it decide anything");
    // A memory that is new.
    let platform = {
        let hello = client.ask(&Request::Hello(Hello { protocol: PROTOCOL })).expect("it answers");
        let Outcome::Welcome(welcome) = hello.outcome else { panic!("{hello:?}") };
        welcome.platform
    };
    chain.without_signer(|signer| {
        put_back(signer, &[]);
        drop(Memory::create(&signer.join(MEMORY_FILE), platform).expect("made"));
    });
    assert_eq!(checkpoint(&folder).as_deref(), Some("signer_memory_replaced"));
    until("the platform does not believe it", || has_alarm(&world, "signer_memory_replaced").then_some(()));
    // The whole one, and everything goes on.
    chain.without_signer(|signer| put_back(signer, &whole));
    assert_eq!(checkpoint(&folder), None);
    until("the platform believes it again", || {
        let alarms = world.platform.status().alarms;
        (!alarms.iter().any(|alarm| alarm.code.starts_with("signer_memory"))).then_some(())
    });
    // Another one is taken where a person says so, and names the key; an older memory and a new one where they say that, too.
    let key = key(&folder);
    assert_eq!(accept(&folder, &[&key]), Err("data_folder_in_use".into()), "the platform runs");
    world.stop();
    assert_eq!(accept(&folder, &[&"ab".repeat(32)]), Err("signer_key_differs".into()));
    chain.without_signer(|signer| {
        whole = files(signer);
        put_back(signer, &old);
    });
    let known = (accept(&folder, &[&key]), checkpoint(&folder));
    assert_eq!(known, (Err("signer_memory_behind".into()), Some("signer_memory_behind".into())));
    while decide(&client) < 100 {}
    let known = (accept(&folder, &[&key]), checkpoint(&folder));
    assert_eq!(known, (Err("signer_memory_conflict".into()), Some("signer_memory_conflict".into())));
    chain.without_signer(|signer| put_back(signer, &whole));
    let said = accept(&folder, &[&key]).expect("it has all that is known");
    assert_eq!((&said["same_memory"], &said["decisions"]), (&true.into(), &said["decisions_before"]), "{said}");
    chain.without_signer(|signer| {
        put_back(signer, &[]);
        drop(Memory::create(&signer.join(MEMORY_FILE), platform).expect("made"));
    });
    let known = (accept(&folder, &[&key]), checkpoint(&folder));
    assert_eq!(known, (Err("signer_memory_replaced".into()), Some("signer_memory_replaced".into())));
    let said = accept(&folder, &[&key, "--memory-is-lost"]).expect("a person says so");
    assert!(said["same_memory"] == false && said["key"] == said["key_before"], "{said}");
    assert_eq!(checkpoint(&folder), None);
}

/// The signer's key, as its own machine shows it.
fn key(folder: &Path) -> String {
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_florin"))
        .args(["signer", "status", "--json", "--dir"])
        .arg(folder.join("signer"))
        .output()
        .expect("it runs");
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    status["key"].as_str().expect("a key").to_owned()
}

/// Takes the signer that answers for the platform's; the code where it is not taken.
fn accept(folder: &Path, words: &[&str]) -> Result<Value, String> {
    let (is_taken, said) = florin(folder, &[&["signer", "accept", "--key"][..], words].concat());
    if is_taken { Ok(said) } else { Err(said["code"].as_str().expect("a code").to_owned()) }
}

/// A platform that starts again where another one ended.
fn again(folder: &Path) -> World {
    World::of(Parts::of(&Config::read(&folder.join("florin.toml")).expect("a configuration")).expect("all is there"))
}

fn lose(data: &Path, names: &[&str]) {
    let files = std::fs::read_dir(data).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_lost = |path: &PathBuf| names.iter().any(|name| path.file_name().is_some_and(|file| file == *name));
    let lost: Vec<PathBuf> = files.filter(is_lost).collect();
    assert!(!lost.is_empty(), "{names:?}");
    lost.iter().for_each(|path| std::fs::remove_file(path).expect("removed"));
}

#[test]
fn where_the_record_of_the_signer_is_lost_no_signer_is_believed_before_a_person_names_it() {
    const RECORD: [&str; 3] = ["signer.sqlite3", "signer.sqlite3-wal", "signer.sqlite3-shm"];
    let (mut chain, world) = Chain::start();
    let folder = chain.folder.path().to_path_buf();
    let data = folder.join("data");
    let is_lost = || (checkpoint(&folder).as_deref() == Some("signer_record_lost")).then_some(());
    until("the platform has shown the signer a row", || data.join("signer.shown").exists().then_some(()));
    // What was shown is enough, on its own.
    world.stop();
    lose(&data, &RECORD);
    is_lost().expect("it was shown a row by the platform");
    let world = again(&folder);
    until("the platform does not believe it", || has_alarm(&world, "signer_record_lost").then_some(()));
    let asked = world.post("/api/v1/wallets", &wallet_body(2));
    assert_eq!(asked.code(), "wallet_keys_unknown", "{}", asked.text);
    assert!(asked.text.contains("signer_record_lost"), "{}", asked.text);
    world.stop();
    accept(&folder, &[&key(&folder)]).expect("a person says so");
    assert_eq!(checkpoint(&folder), None);
    // Nor is it believed where the journal alone has a plan.
    let world = again(&folder);
    let customer = world.customer();
    let address = world.made(&format!("/api/v1/customers/{customer}/addresses"), &json!({}));
    chain.pay(&address, 25_000_000);
    chain.mine(6);
    chain.follow(&world);
    let body = json!({ "customer": customer, "asset": "BTC", "amount": "0.1", "address": chain.address() });
    let withdrawal = world.made("/api/v1/withdrawals", &body);
    let path = format!("/api/v1/withdrawals/{}", id(&withdrawal));
    until("it is signed", || (world.shown(&path)["status"] == "broadcast").then_some(()));
    world.stop();
    lose(&data, &[&RECORD[..], &["signer.shown", "checkpoint.shown"]].concat());
    is_lost().expect("the journal has a plan");
    let world = again(&folder);
    until("the platform does not believe it", || has_alarm(&world, "signer_record_lost").then_some(()));
    assert!(!data.join("signer.shown").exists(), "it is asked for nothing");
    world.stop();
    accept(&folder, &[&key(&folder)]).expect("a person says so");
    assert_eq!(checkpoint(&folder), None);
}

#[test]
fn a_journal_without_plans_whose_signer_was_shown_nothing_meets_its_first_one() {
    let (chain, world) = Chain::start();
    let folder = chain.folder.path().to_path_buf();
    let data = folder.join("data");
    until("the platform has shown the signer a row", || data.join("signer.shown").exists().then_some(()));
    world.stop();
    lose(&data, &["signer.sqlite3", "signer.sqlite3-wal", "signer.sqlite3-shm", "signer.shown"]);
    assert_eq!(checkpoint(&folder), None);
}
