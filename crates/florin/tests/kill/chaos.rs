//! Engine, signer, database and the line to it are killed at random moments under load, again and again.

use crate::check::{ask_again, check_interface, check_logs, check_snapshots, check_stores, drain};
use crate::load::{Kind, Load, NO_ANSWER, Record};
use crate::process::{Process, Random, until};
use crate::projection::{Depth, Twin};
use crate::proxy::Cut;
use crate::site::{Books, Serve, Site};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients that ask at once.
const CLIENTS: usize = 4;

/// How often each is killed at least, on SQLite, where a start takes a third of a second.
const ENGINE_KILLS: u32 = 100;
const SIGNER_KILLS: u32 = 100;

/// How often on MariaDB, where a node leads only when the journal was quiet for seconds.
const ENGINE_KILLS_MARIADB: u32 = 10;
const SERVER_KILLS: u32 = 4;

/// The signer, killed at random moments for as long as this exists.
struct SignerKiller {
    is_ending: Arc<AtomicBool>,
    kills: Arc<AtomicU32>,
    thread: JoinHandle<Process>,
}

impl SignerKiller {
    fn start(site: &Arc<Site>, mut random: Random) -> SignerKiller {
        let (is_ending, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (site, ending, count) = (Arc::clone(site), Arc::clone(&is_ending), Arc::clone(&kills));
        let thread = std::thread::spawn(move || {
            let mut signer = site.signer();
            while !ending.load(Ordering::SeqCst) {
                // Sometimes it does not even come up.
                if !random.once_in(4) {
                    until("the signer answers", || {
                        (site.signer_answers() || ending.load(Ordering::SeqCst)).then_some(())
                    });
                    random.pause(50, 1_000);
                }
                random.pause(1, 300);
                signer.kill();
                count.fetch_add(1, Ordering::SeqCst);
                signer = site.signer();
            }
            signer
        });
        SignerKiller { is_ending, kills, thread }
    }

    fn kills(&self) -> u32 {
        self.kills.load(Ordering::SeqCst)
    }

    /// Ends it; the signer that was started last goes on.
    fn finish(self, site: &Site) -> Process {
        self.is_ending.store(true, Ordering::SeqCst);
        let signer = self.thread.join().expect("it does not panic");
        until("the signer answers", || site.signer_answers().then_some(()));
        signer
    }
}

/// Kills a serving engine at a random moment and starts the next one.
pub fn kill_engine(site: &Site, engine: &mut Serve, load: &Load, twin: &mut Twin, random: &mut Random) {
    if random.once_in(5) {
        // While it starts: it may be anywhere between its first instruction and its first answers.
        random.pause(1, 250);
    } else {
        assert!(engine.wait_up(), "the engine starts on what a killed one left");
        load.wait_for_more(1);
        random.pause(1, 400);
    }
    engine.kill();
    twin.compare(site, Depth::Standing);
    *engine = site.serve("one");
}

/// Among many kills some come before an answer; among a few, none may.
pub fn some_had_no_answer(record: &Record) {
    assert!(record.put_off.get(NO_ANSWER).is_some_and(|count| *count > 0), "{:?}", record.put_off);
}

/// Ends the load, lets everything settle, and holds every account of it against every other.
pub fn judge(site: &Site, load: Load, mut engine: Serve, mut signer: Process, mut twin: Twin) -> Record {
    assert!(engine.wait_up(), "the engine starts on what a killed one left");
    check_snapshots(site);
    let record = load.finish();
    eprintln!("put off: {:?}; refused: {:?}", record.put_off, record.refused);
    use Kind::*;
    for kind in [Customer, Receipt, Correction, Address, Quote, Exchange, Withdrawal] {
        eprintln!("{kind:?}: {}", record.count(kind));
        assert!(record.count(kind) > 0, "there was load of every kind");
    }
    assert!(!record.paid.is_empty(), "there were payments");
    drain(site, &record);
    check_interface(site, &record);
    ask_again(site, &record);
    engine.kill();
    signer.kill();
    let past = check_stores(site, &record);
    twin.compare(site, Depth::Everything);
    eprintln!(
        "{} rows, {} leaderships, {} comparisons of the tables",
        past.rows.len(),
        past.leaders().len(),
        twin.compared
    );
    check_logs(site);
    record
}

#[test]
fn killed_again_and_again_on_sqlite_it_loses_nothing_and_does_nothing_twice() {
    let mut random = Random::of_test("killed on SQLite");
    let site = Arc::new(Site::new(Books::Sqlite));
    let killer = SignerKiller::start(&site, random.split());
    let mut engine = site.serve("one");
    assert!(engine.wait_up(), "the engine starts");
    site.found();
    let load = Load::start(&site, &mut random, CLIENTS);
    let mut twin = Twin::new();
    let start = Instant::now();
    let mut kills = 0;
    while kills < ENGINE_KILLS || killer.kills() < SIGNER_KILLS {
        kill_engine(&site, &mut engine, &load, &mut twin, &mut random);
        kills += 1;
        assert!(start.elapsed() < Duration::from_secs(400), "{kills} kills took too long");
    }
    eprintln!("engine killed {kills} times, signer {} times, in {:?}", killer.kills(), start.elapsed());
    let signer = killer.finish(&site);
    some_had_no_answer(&judge(&site, load, engine, signer, twin));
}

#[test]
fn killed_on_mariadb_with_its_server_it_loses_nothing_and_does_nothing_twice() {
    let mut random = Random::of_test("killed on MariaDB");
    let site = Arc::new(Site::new(Books::maria()));
    let killer = SignerKiller::start(&site, random.split());
    let mut engine = site.serve("one");
    assert!(engine.wait_up(), "the engine starts");
    site.found();
    let load = Load::start(&site, &mut random, CLIENTS);
    let mut twin = Twin::new();
    let start = Instant::now();
    force_unknown_fates(&site, &load);
    for _ in 0..SERVER_KILLS {
        random.pause(50, 500);
        site.books.server().kill_and_restart();
        load.wait_for_more(5);
    }
    eprintln!("lines cut and servers killed after {:?}", start.elapsed());
    let mut kills = 0;
    while kills < ENGINE_KILLS_MARIADB {
        kill_engine(&site, &mut engine, &load, &mut twin, &mut random);
        kills += 1;
    }
    eprintln!("engine killed {kills} times, signer {} times, in {:?}", killer.kills(), start.elapsed());
    let signer = killer.finish(&site);
    some_had_no_answer(&judge(&site, load, engine, signer, twin));
}

/// Cuts the line around an append in every way, several times each, while the load goes on.
fn force_unknown_fates(site: &Site, load: &Load) {
    let proxy = site.books.proxy();
    for round in 1..=4 {
        for cut in Cut::ALL {
            proxy.cut_next(cut);
            until("the line is cut", || (proxy.cuts().get(&cut) == Some(&round)).then_some(()));
            load.wait_for_more(2);
        }
    }
    eprintln!("lines cut: {:?}", proxy.cuts());
}
