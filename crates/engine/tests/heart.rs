//! Signs of life: who may say what customers have, and when a follower takes over. The store fails, hangs and lies as a test
//! wants it; only the journal decides who leads.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod common;

use common::*;
use florin_core::id::{Digest, Epoch, Seq};
use florin_engine::load::Place;
use florin_engine::ports::{Beat, BeatAnswer, Clock, Heartbeat, HeartbeatFault};
use florin_engine::runtime::{Engine, EngineConfig, EngineHandle, Fatal, HeartbeatPart, Parts};
use florin_engine::snapshotter::SnapshotterConfig;
use florin_engine::witness::{Witness, WitnessFault};
use florin_engine::writer::{Answer, Role};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything here takes; a test that waits so long fails.
const LONG: Duration = Duration::from_secs(60);
/// Longer than any test lasts, in milliseconds: whatever waits for it never happens.
const NEVER: u64 = 3_600_000;

struct StandingClock;

impl Clock for StandingClock {
    fn now_ms(&self) -> u64 {
        1_000
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Manner {
    #[default]
    Works,
    Fails,
    Hangs,
    /// The one that is to be replaced is alive after all, and beats before it is.
    Wakes,
}

#[derive(Default)]
struct Table {
    beat: Option<Beat>,
    /// Everything that was ever left, in order.
    log: Vec<Beat>,
    replacements: usize,
    manner: Manner,
}

/// Signs of life in memory. Clones are handles on the same ones.
#[derive(Clone, Default)]
struct Signs(Arc<(Mutex<Table>, Condvar)>);

impl Signs {
    fn set(&self, manner: Manner) {
        self.0.0.lock().unwrap().manner = manner;
        self.0.1.notify_all();
    }
    fn leave(&self, beat: Beat) {
        self.0.0.lock().unwrap().beat = Some(beat);
    }
    fn stands(&self) -> Option<Beat> {
        self.0.0.lock().unwrap().beat.clone()
    }
    fn log(&self) -> Vec<Beat> {
        self.0.0.lock().unwrap().log.clone()
    }
    fn replacements(&self) -> usize {
        self.0.0.lock().unwrap().replacements
    }

    fn with<T>(&self, work: impl FnOnce(&mut Table) -> T) -> Result<T, HeartbeatFault> {
        let table = self.0.0.lock().unwrap();
        let mut table = self.0.1.wait_while(table, |table| table.manner == Manner::Hangs).unwrap();
        if table.manner == Manner::Fails {
            return Err(HeartbeatFault { code: "store_tested", cause: "a test's fault".into() });
        }
        Ok(work(&mut table))
    }
}

impl Table {
    fn put(&mut self, beat: &Beat) -> BeatAnswer {
        self.log.push(beat.clone());
        self.beat = Some(beat.clone());
        BeatAnswer::Confirmed
    }
}

impl Heartbeat for Signs {
    fn beat(&mut self, beat: &Beat) -> Result<BeatAnswer, HeartbeatFault> {
        self.with(|table| match &table.beat {
            Some(newer) if newer.epoch > beat.epoch => BeatAnswer::Superseded(newer.clone()),
            Some(_) | None => table.put(beat),
        })
    }
    fn replace(&mut self, seen: Option<&Beat>, beat: &Beat) -> Result<BeatAnswer, HeartbeatFault> {
        self.with(|table| {
            table.replacements += 1;
            if let (Manner::Wakes, Some(stands)) = (table.manner, &mut table.beat) {
                stands.number += 1;
            }
            match &table.beat {
                Some(stands) if Some(stands) != seen => BeatAnswer::Superseded(stands.clone()),
                Some(_) | None => table.put(beat),
            }
        })
    }
    fn last(&mut self) -> Result<Option<Beat>, HeartbeatFault> {
        self.with(|table| table.beat.clone())
    }
}

/// How a process is started.
#[derive(Clone, Copy)]
struct Manners {
    is_first: bool,
    still_ms: u64,
    quiet_ms: u64,
    stop_ms: u64,
}

/// Leads at once, and never takes over.
const FIRST: Manners = Manners { is_first: true, still_ms: NEVER, quiet_ms: NEVER, stop_ms: 30_000 };
/// Takes over only from who says that it leaves.
const PATIENT: Manners = Manners { is_first: false, ..FIRST };
/// Takes over soon, by the signs of life alone.
const EAGER: Manners = Manners { is_first: false, still_ms: 50, ..FIRST };

fn start(rows: &Rows, signs: &Signs, node: &str, manners: Manners) -> EngineHandle {
    start_before((rows, signs), node, manners, Vec::new(), |fatal| panic!("{fatal}"))
}

fn start_before(
    (rows, signs): (&Rows, &Signs),
    node: &str,
    manners: Manners,
    witnesses: Vec<Box<dyn Witness>>,
    fatal: impl Fn(&Fatal) + Send + Sync + 'static,
) -> EngineHandle {
    let heartbeat = HeartbeatPart {
        store: Box::new(signs.clone()),
        url: Some(format!("http://{node}")),
        beat_ms: 5,
        still_ms: manners.still_ms,
        confirmed_ms: 500,
    };
    let parts = Parts {
        clock: Arc::new(StandingClock),
        journal: Box::new(rows.clone()),
        history: Box::new(rows.clone()),
        past: Box::new(rows.clone()),
        snapshots: Box::new(Kept::default()),
        witnesses,
        rules: Box::new(Toy),
        followers: Vec::new(),
        workers: Vec::new(),
        heartbeat: Some(heartbeat),
        is_storage_failure: Box::new(|_| false),
        fatal: Arc::new(fatal),
    };
    let config = EngineConfig {
        writer: config(node),
        snapshots: SnapshotterConfig { rows_max: u64::MAX, time_max_ms: u64::MAX, build: "test".to_owned() },
        is_first_to_lead: manners.is_first,
        lead_after_quiet_ms: Some(manners.quiet_ms),
        follow_ms: 1,
        retry_ms: 1,
        append_late_ms: 60_000,
        stop_ms: manners.stop_ms,
    };
    Engine::start(parts, config).expect("the journal can be read")
}

/// Waits until something holds; looks often, and gives up with a message.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what} does not come about");
        std::thread::yield_now();
    }
}

fn lead(engine: &EngineHandle) {
    eventually("leading", || engine.is_leading());
}

fn is_current(engine: &EngineHandle) -> bool {
    engine.certainty().is_current
}

fn done(engine: &EngineHandle, number: u64) {
    let told = engine.submit_wait(open(number, customer(number)), LONG).expect("it is answered");
    assert_eq!(told.answer.code(), None);
}

fn alarms(engine: &EngineHandle) -> Vec<&'static str> {
    engine.status().alarms.into_values().flatten().map(|alarm| alarm.code).collect()
}

fn ghost(epoch: u64) -> Beat {
    Beat { node: "ghost".to_owned(), url: None, epoch: Epoch(epoch), number: 7, is_last: false }
}

/// A journal whose leader died after its first row.
fn abandoned() -> Rows {
    let rows = Rows::default();
    let signs = Signs::default();
    let engine = start(&rows, &signs, "dead", FIRST);
    lead(&engine);
    assert!(engine.stop());
    rows
}

#[test]
fn a_leader_says_what_customers_have_only_while_its_signs_of_life_are_confirmed() {
    let (rows, signs) = (Rows::default(), Signs::default());
    let engine = start(&rows, &signs, "a", FIRST);
    lead(&engine);
    eventually("signs of life", || signs.stands().is_some_and(|beat| beat.number > 3));
    assert_eq!(signs.log()[0].epoch, Epoch(1), "nobody speaks of an epoch that has not begun");
    eventually("certainty", || is_current(&engine) && alarms(&engine).is_empty());
    signs.set(Manner::Fails);
    eventually("doubt", || !is_current(&engine));
    assert_eq!(alarms(&engine), ["heartbeat_failing", "reads_unconfirmed"]);
    assert!(engine.is_leading(), "only the journal fences");
    done(&engine, 1);
    assert!(!is_current(&engine), "a row of ours is no sign of life");
    signs.set(Manner::Works);
    eventually("certainty", || is_current(&engine) && alarms(&engine).is_empty());
    assert!(engine.stop());
    assert!(!is_current(&engine), "others may lead now");
    assert!(signs.stands().is_some_and(|beat| beat.is_last));
}

#[test]
fn a_store_that_hangs_costs_account_reads_and_nothing_else() {
    let (rows, signs) = (Rows::default(), Signs::default());
    let engine = start(&rows, &signs, "a", Manners { stop_ms: 300, ..FIRST });
    lead(&engine);
    signs.set(Manner::Hangs);
    eventually("doubt", || !is_current(&engine));
    for number in 1..=20 {
        done(&engine, number);
    }
    assert!(engine.stop(), "everything is durable, whatever the store does");
    signs.set(Manner::Works);
}

#[test]
fn a_leader_that_leaves_is_followed_at_once_and_one_that_lives_is_known() {
    let (rows, signs) = (Rows::default(), Signs::default());
    let first = start(&rows, &signs, "a", FIRST);
    lead(&first);
    done(&first, 1);
    let second = start(&rows, &signs, "b", PATIENT);
    let leader = |engine: &EngineHandle| engine.status().leader.map(|beat| (beat.node, beat.url.unwrap()));
    eventually("knowing", || leader(&second) == Some(("a".to_owned(), "http://a".to_owned())));
    assert!(second.is_following() && leader(&first).is_none());
    eventually("following", || is_current(&second) && second.read(|state| state.customers().len()) == 1);
    assert!(first.stop());
    lead(&second);
    done(&second, 2);
    assert!(second.stop());
}

#[test]
fn a_follower_claims_the_lead_of_a_dead_leader_before_it_takes_it() {
    let (rows, signs) = (abandoned(), Signs::default());
    signs.leave(ghost(1));
    let engine = start(&rows, &signs, "a", EAGER);
    lead(&engine);
    eventually("signs of life", || signs.log().len() > 1);
    let log: Vec<_> = signs.log().into_iter().map(|beat| (beat.epoch.0, beat.number)).collect();
    assert_eq!(log[..2], [(2, 0), (2, 1)]);
    assert!(is_current(&engine));
    assert!(engine.stop());
}

/// A witness that takes longer than others wait for a claim, and knows nothing.
struct Slow(Duration);

impl Witness for Slow {
    fn name(&self) -> &'static str {
        "a slow one"
    }
    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        std::thread::sleep(self.0);
        Ok(None)
    }
}

#[test]
fn a_claim_that_grew_old_while_witnesses_were_heard_is_made_anew() {
    let (rows, signs) = (abandoned(), Signs::default());
    signs.leave(ghost(1));
    let manners = Manners { still_ms: 200, ..EAGER };
    let slow = Slow(Duration::from_millis(manners.still_ms));
    let engine = start_before((&rows, &signs), "a", manners, vec![Box::new(slow)], |fatal| panic!("{fatal}"));
    lead(&engine);
    let claims = signs.log().iter().take_while(|beat| beat.number == 0).count();
    assert!(claims >= 2, "{:?}", signs.log());
    assert!(engine.stop());
}

/// A witness that knows nothing at the start, is silent for long when it is asked again, and then knows a later row. Nobody
/// can claim the lead from its silence on.
struct Reticent {
    signs: Signs,
    asked: usize,
    silence: Duration,
}

impl Witness for Reticent {
    fn name(&self) -> &'static str {
        "a reticent one"
    }
    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        self.asked += 1;
        match self.asked {
            1 => Ok(None),
            2 => {
                self.signs.set(Manner::Wakes);
                std::thread::sleep(self.silence);
                Err(WitnessFault::Silent { code: "witness_tested", cause: "a test's fault".into() })
            }
            _ => Ok(Some(Place { seq: Seq(1_000), hash: Digest([1; 32]) })),
        }
    }
}

#[test]
fn a_witness_that_was_silent_is_heard_again_before_a_later_attempt_to_lead() {
    let (rows, signs) = (abandoned(), Signs::default());
    signs.leave(ghost(1));
    let silence = Duration::from_millis(EAGER.still_ms);
    let witness = Reticent { signs: signs.clone(), asked: 0, silence };
    let ends: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let heard = Arc::clone(&ends);
    let fatal = move |fatal: &Fatal| heard.lock().unwrap().push(fatal.code());
    let engine = start_before((&rows, &signs), "a", EAGER, vec![Box::new(witness)], fatal);
    let is_silent = || signs.0.0.lock().unwrap().manner == Manner::Wakes;
    eventually("the silence", is_silent);
    let (start, replacements) = (Instant::now(), signs.replacements());
    let is_later = || start.elapsed() > silence * 6;
    eventually("a later attempt", || is_later() && signs.replacements() > replacements + 2);
    signs.set(Manner::Works);
    eventually("the end", || !ends.lock().unwrap().is_empty());
    assert_eq!((&**ends.lock().unwrap(), rows.all().len()), (&["journal_behind"][..], 1));
    engine.stop();
}

#[test]
fn an_empty_journal_is_led_at_once() {
    let (rows, signs) = (Rows::default(), Signs::default());
    let engine = start(&rows, &signs, "a", PATIENT);
    lead(&engine);
    assert!(engine.stop());
}

#[test]
fn nobody_leads_in_place_of_one_that_wakes_up_in_time() {
    let (rows, signs) = (abandoned(), Signs::default());
    signs.leave(ghost(1));
    signs.set(Manner::Wakes);
    let engine = start(&rows, &signs, "a", EAGER);
    eventually("claims", || signs.replacements() >= 3);
    assert_eq!((rows.all().len(), engine.status().role), (1, Role::Following));
    signs.set(Manner::Works);
    lead(&engine);
    assert!(engine.stop());
}

#[test]
fn without_the_signs_of_life_a_quiet_journal_is_reason_enough() {
    let (rows, signs) = (abandoned(), Signs::default());
    signs.set(Manner::Fails);
    let engine = start(&rows, &signs, "a", Manners { quiet_ms: 50, ..EAGER });
    lead(&engine);
    done(&engine, 1);
    eventually("doubt", || !is_current(&engine));
    assert!(engine.stop());
}

#[test]
fn a_leader_that_meets_a_newer_epochs_sign_of_life_follows_without_another_row() {
    let (rows, signs) = (Rows::default(), Signs::default());
    let first = start(&rows, &signs, "a", FIRST);
    lead(&first);
    eventually("signs of life", || signs.stands().is_some());
    let second = start(&rows, &signs, "b", FIRST);
    lead(&second);
    eventually("following", || first.is_following() && !first.is_leading());
    eventually("knowing", || first.leader().is_some_and(|beat| beat.node == "b"));
    assert_eq!(rows.all().len(), 2, "two epochs began, and nobody asked for anything");
    done(&second, 1);
    eventually("certainty", || is_current(&first) && first.read(|state| state.customers().len()) == 1);
    assert!(first.stop());
    assert!(signs.stands().is_some_and(|beat| beat.node == "b" && !beat.is_last), "a follower that ends says nothing");
    assert!(second.stop());
}

#[test]
fn a_sign_of_life_that_the_journal_knows_nothing_of_stops_reads_and_is_replaced_when_it_stands_still() {
    let (rows, signs) = (Rows::default(), Signs::default());
    signs.leave(ghost(9));
    let engine = start(&rows, &signs, "a", FIRST);
    eventually("doubt", || !is_current(&engine));
    lead(&engine);
    done(&engine, 1);
    assert_eq!(signs.stands(), Some(ghost(9)), "it may be somebody's claim");
    assert!(engine.stop());
    let engine = start(&rows, &signs, "a", Manners { still_ms: 50, ..FIRST });
    lead(&engine);
    eventually("replacing", || signs.stands().is_some_and(|beat| beat.node == "a" && beat.epoch == Epoch(2)));
    eventually("certainty", || is_current(&engine));
    done(&engine, 2);
    assert!(engine.stop());
}

#[test]
fn what_was_decided_when_a_newer_epoch_is_met_is_not_committed() {
    let (rows, signs) = (Rows::default(), Signs::default());
    let first = start(&rows, &signs, "a", FIRST);
    lead(&first);
    let second = start(&rows, &signs, "b", FIRST);
    lead(&second);
    // Whether the sign of life or the journal was first to tell, the answer is one of two, and nothing is in the journal.
    match first.submit_wait(open(1, customer(1)), LONG) {
        Ok(told) => assert_eq!(told.answer, Answer::NotCommitted),
        Err(error) => assert_eq!(error.code(), "not_leading"),
    }
    assert_eq!(rows.all().len(), 2);
    assert!(first.stop() && second.stop());
}
