//! The disk is full: changes are refused in time, the status says why, whoever asks what customers have is told, nothing that
//! was acknowledged is lost, and everything goes on once there is room, whether the process lived to see it or not. The disk is
//! played by `full_disk.c`.

use crate::chaos::judge;
use crate::check::alarms;
use crate::load::{Caller, Load};
use crate::process::{Random, Start, until};
use crate::projection::Twin;
use crate::site::{Books, Serve, Site};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Clients that ask at once.
const CLIENTS: usize = 3;

/// A disk of which a test says when it is full.
struct Disk {
    flag: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Disk {
    fn of(site: &Site) -> Disk {
        let (flag, layer) = (site.path().join("full"), site.path().join("full_disk.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kill/full_disk.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&layer).arg(source).arg("-ldl").status();
        assert!(compiled.expect("a C compiler, `cc`, is installed").success(), "the layer compiles");
        let environment = vec![
            ("LD_PRELOAD", layer.into_os_string()),
            ("FULL_FLAG", flag.clone().into_os_string()),
            ("FULL_FOLDER", site.data("one").into_os_string()),
        ];
        Disk { flag, environment }
    }

    fn fill(&self) {
        fs::write(&self.flag, "").expect("the flag lies on another disk");
    }

    fn make_room(&self) {
        fs::remove_file(&self.flag).expect("the disk was full");
    }
}

fn health(caller: &Caller, engine: &Serve) -> (u16, Value) {
    let url = engine.url().expect("it runs");
    caller.get_once(&url, "/api/v1/health").expect("a platform on a full disk answers")
}

/// Fills the disk, and waits until the platform says so.
fn fill(disk: &Disk, caller: &mut Caller, engine: &Serve) {
    disk.fill();
    until("health says that the journal takes no rows", || {
        let (status, said) = health(caller, engine);
        (status == 503 && said["code"] == "journal_not_written").then_some(())
    });
    let (status, detail) = until("the alarm", || {
        let status = caller.get("/api/v1/status");
        let detail = alarms(&status, "journal_not_written").first()?["detail"].as_str()?.to_owned();
        Some((status, detail))
    });
    assert!(detail.contains("no space is left"), "{status}");
    assert!(status["appending"]["attempts"].as_u64() > Some(3), "{status}");
    let url = engine.url().expect("it runs");
    let (status, said) = caller.post_once(&url, "/api/v1/customers", &json!({})).expect("an answer in time");
    assert_eq!((status, said["code"].as_str()), (503, Some("answer_timeout")), "{said}");
}

/// What a customer has, once the node is sure enough to say it.
fn balances(caller: &Caller, url: &str, customer: &str) -> Value {
    until("what the customer has", || {
        let (status, said) = caller.get_once(url, &format!("/api/v1/customers/{customer}/balances"))?;
        assert!(status == 200 || said["code"] == "reads_unconfirmed", "{status} {said}");
        (status == 200).then_some(said)
    })
}

/// Account reads go on, though the disk has been full for longer than a sign of life holds: so signs are still confirmed. As
/// nothing is written, every answer is the same.
fn check_reads(caller: &mut Caller, engine: &Serve, customer: &str) {
    let url = engine.url().expect("it runs");
    let said = balances(caller, &url, customer);
    let euros = said["items"].as_array().and_then(|items| items.iter().find(|item| item["asset"] == "EUR"));
    assert!(euros.is_some_and(|euros| euros["available"].is_string()), "{said}");
    until("no doubt is left", || {
        let status = caller.get("/api/v1/status");
        let doubts = ["heartbeat_failing", "reads_unconfirmed"];
        doubts.iter().all(|code| alarms(&status, code).is_empty()).then_some(())
    });
    assert_eq!(balances(caller, &url, customer)["items"], said["items"]);
    assert_eq!(health(caller, engine).0, 503, "the disk is full all the while");
}

/// What lies in the data folder, but for the indexes of logs, which are made anew by whoever reads.
fn contents(site: &Site) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(site.data("one")).expect("the folder is read").map(|file| file.expect("a file").path());
    let files = files.filter(|path| path.is_file() && !path.to_string_lossy().ends_with("-shm"));
    files.map(|path| (path.clone(), fs::read(&path).expect("it is read"))).collect()
}

/// 'florin ledger verify' agrees with what a killed process left, and changes not a byte of it.
fn check_verified(site: &Site) {
    let before = contents(site);
    let log = before.iter().find(|(path, _)| path.ends_with("journal.sqlite3-wal")).expect("the journal has a log");
    assert!(!log.1.is_empty(), "rows are in the log alone");
    let mut run = site.ledger(&["verify"]);
    assert!(matches!(run.wait_up(), Start::Up(_)) && run.ends_well(), "{}", site.logged("ledger"));
    let after = contents(site);
    assert!(before.keys().eq(after.keys()), "{:?}, {:?}", before.keys(), after.keys());
    before.iter().for_each(|(path, bytes)| assert!(after[path] == *bytes, "{} has changed", path.display()));
}

#[test]
fn a_full_disk_loses_nothing_and_holds_up_only_changes() {
    let mut random = Random::of_test("a full disk");
    let site = Site::new(Books::Sqlite);
    let disk = Disk::of(&site);
    let mut engine = site.serve_with("one", &disk.environment);
    assert!(engine.wait_up(), "the engine starts");
    let signer = site.signer();
    until("the signer answers", || site.signer_answers().then_some(()));
    site.found();
    let mut caller = site.caller();
    let load = Load::start(&site, &mut random, CLIENTS);
    load.wait_for_more(60);
    let customer = load.customer();

    fill(&disk, &mut caller, &engine);
    check_reads(&mut caller, &engine, &customer);
    disk.make_room();
    until("health", || (health(&caller, &engine).0 == 200).then_some(()));
    load.wait_for_more(60);
    until("the alarm's end", || alarms(&caller.get("/api/v1/status"), "journal_not_written").is_empty().then_some(()));

    // A process that ends on a full disk has lost nothing either.
    fill(&disk, &mut caller, &engine);
    engine.kill();
    disk.make_room();
    check_verified(&site);
    engine = site.serve_with("one", &disk.environment);
    assert!(engine.wait_up(), "the engine starts on what a full disk has");
    load.wait_for_more(60);
    let record = judge(&site, load, engine, signer, Twin::new());
    assert!(record.put_off.get("answer_timeout").is_some_and(|count| *count > 0), "{:?}", record.put_off);
}
