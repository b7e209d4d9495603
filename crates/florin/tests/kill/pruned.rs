//! Old rows are moved into the archive under load, by a command that is killed at random moments, beside an engine that is
//! killed, too. The journal stays one without gaps, and all that was acknowledged is in it.

use crate::chaos::{judge, kill_engine};
use crate::load::Load;
use crate::process::{Process, Random, Start, until};
use crate::projection::Twin;
use crate::site::{Books, Site};
use florin_core::id::Seq;
use serde_json::Value;
use std::time::Instant;

/// Clients that ask at once.
const CLIENTS: usize = 3;

/// Runs that are killed, and after how many of them the engine is killed as well.
const KILLS: u32 = 24;
const ENGINE_EVERY: u32 = 6;

/// What is moved: all but the last rows.
const WORDS: [&str; 5] = ["prune", "--keep-days", "0", "--keep-rows", "40"];

/// The first row that the journal itself has.
fn first_kept(site: &Site) -> Seq {
    let mut journal = site.stores().journal_reader().expect("the journal opens");
    journal.read(Seq::START, 1).expect("the journal is read").first().expect("it has rows").seq
}

/// What a command printed that ended well.
fn whole(mut process: Process, what: &str) -> Value {
    match process.wait_up() {
        Start::Up(line) => {
            assert!(process.ends_well(), "{what} failed after {line}");
            serde_json::from_str(&line).expect("JSON")
        }
        Start::Ended => panic!("{what} failed"),
    }
}

fn prune_under_load(site: &Site, random: &mut Random) {
    let mut engine = site.serve("one");
    assert!(engine.wait_up(), "the engine starts");
    let signer = site.signer();
    until("the signer answers", || site.signer_answers().then_some(()));
    site.found();
    let load = Load::start(site, random, CLIENTS);
    let mut twin = Twin::new();
    load.wait_for_more(150);
    let began = Instant::now();
    let shown = whole(site.ledger(&WORDS), "the first run, which nobody disturbs,");
    assert!(shown["deleted"].as_u64() > Some(0), "{shown}");
    let mut took = began.elapsed();
    let (mut broken_off, mut deleted) = (0, 1);
    for kill in 1..=KILLS {
        load.wait_for_more(40);
        let before = first_kept(site);
        let mut run = site.ledger(&WORDS);
        // Most of the time goes into judging; what is to be broken off comes at the end.
        let longest = u64::try_from(took.as_millis()).expect("not for ever").max(20);
        random.pause(longest / 2, longest * 5 / 4);
        broken_off += u32::from(run.first_line().is_none());
        run.kill();
        deleted += u32::from(first_kept(site) > before);
        if kill % ENGINE_EVERY == 0 {
            kill_engine(site, &mut engine, &load, &mut twin, random);
            assert!(engine.wait_up(), "the engine starts on what is left");
            load.wait_for_more(100);
            let began = Instant::now();
            whole(site.ledger(&WORDS), "a run after killed ones");
            took = began.elapsed();
        }
    }
    eprintln!("{broken_off} of {KILLS} runs were broken off, {deleted} deleted rows; one takes {took:?}");
    assert!(broken_off > 0 && deleted > 1);
    judge(site, load, engine, signer, twin);
    assert!(first_kept(site) > Seq(1));
    let verified = whole(site.ledger(&["verify"]), "'florin ledger verify'");
    assert_eq!(verified["wrong_row"], Value::Null, "{verified}");
}

#[test]
fn pruned_by_killed_commands_on_sqlite_the_journal_has_no_gap() {
    let mut random = Random::of_test("pruned on SQLite");
    prune_under_load(&Site::new(Books::Sqlite), &mut random);
}

#[test]
fn pruned_by_killed_commands_on_mariadb_the_journal_has_no_gap() {
    let mut random = Random::of_test("pruned on MariaDB");
    prune_under_load(&Site::new(Books::maria()), &mut random);
}
