//! The engine on its threads: what is answered is durable and can be read, whatever the journal does meanwhile.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod common;

use common::*;
use florin_core::amount::Amount;
use florin_core::broker::{Pair, Price};
use florin_core::command::Command;
use florin_core::event::Event;
use florin_core::id::{AssetId, ChainId, Digest, Epoch, LedgerTime, PlanId, Seq};
use florin_core::journal::{AppendError, Batch, Entry, Journal, ROW_BYTES_MAX, ReadError, Row};
use florin_core::snapshot;
use florin_core::wire::Message;
use florin_engine::lanes::Ask;
use florin_engine::load::{LoadError, Loaded, Place, load};
use florin_engine::ports::{Clock, Fence, SignRequest, Signer, SignerAnswer, SignerFault, SignerRefusal, SignerStatus};
use florin_engine::read_model::{FEED_ANSWER_BYTES_MAX, FeedRow, ReadModel, feed_from_journal};
use florin_engine::runtime::{Engine, EngineConfig, EngineHandle, Fatal, Parts, Seated, Told, WaitError};
use florin_engine::snapshotter::SnapshotterConfig;
use florin_engine::witness::{Witness, WitnessFault};
use florin_engine::workers::signing::{BEHIND_LOOKS, BEHIND_MS, Signing, SigningConfig};
use florin_engine::writer::{Answer, CoreRules, Role, Rules, SubmitRefusal};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Longer than anything here takes; a test that waits so long fails.
const LONG: Duration = Duration::from_secs(60);

#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What an append does before the journal sees it.
type Trouble = Arc<Mutex<dyn FnMut(&Row) -> Trick + Send>>;

enum Trick {
    Pass,
    Lose,
    WriteAndLose,
    /// Until it is closed, nothing comes back.
    Hang(Arc<Door>),
}

/// Whoever comes to it waits until it is opened.
#[derive(Default)]
struct Door {
    waiting: AtomicU64,
    is_open: Mutex<bool>,
    bell: Condvar,
}

impl Door {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let is_open = self.bell.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open);
        drop(is_open.unwrap());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.bell.notify_all();
    }

    fn is_waited_at(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

struct Troubled {
    rows: Rows,
    trouble: Trouble,
}

impl Journal for Troubled {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        let unknown = || AppendError::Unknown("a test's fault".into());
        let trick = (self.trouble.lock().unwrap())(row);
        match trick {
            Trick::Pass => self.rows.append(row),
            Trick::Lose => Err(unknown()),
            Trick::WriteAndLose => self.rows.append(row).and_then(|()| Err(unknown())),
            Trick::Hang(door) => {
                door.pass();
                self.rows.append(row)
            }
        }
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        self.rows.read(after, count_max)
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.rows.head()
    }
}

/// The journal for whoever follows it. While it shakes, every second read fails.
#[derive(Clone, Default)]
struct Shaky {
    rows: Rows,
    shakes: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    /// Where the snapshotter waits before each read, if there is one.
    door: Option<Arc<Door>>,
}

impl Journal for Shaky {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        self.rows.append(row)
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        let reads = self.reads.fetch_add(1, Ordering::SeqCst);
        if let Some(door) = &self.door
            && std::thread::current().name() == Some("snapshotter")
        {
            door.pass();
        }
        if self.shakes.load(Ordering::SeqCst) && reads.is_multiple_of(2) {
            return Err(ReadError("a test's fault".into()));
        }
        self.rows.read(after, count_max)
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.rows.head()
    }
}

struct World {
    rows: Rows,
    shaky: Shaky,
    /// The memory of the signer that is asked at every step of the signing worker, if there is one.
    signer: Option<Memory>,
    kept: Kept,
    clock: Arc<TestClock>,
    fatal: Arc<Mutex<Vec<&'static str>>>,
    /// The rows that a witness names.
    named: Arc<Mutex<Vec<Place>>>,
    append_late_ms: u64,
}

impl World {
    fn new() -> World {
        let clock = Arc::new(TestClock(AtomicU64::new(1_000)));
        let rows = Rows::default();
        let shaky = Shaky { rows: rows.clone(), ..Shaky::default() };
        let (kept, fatal, named) = (Kept::default(), Arc::default(), Arc::default());
        World { rows, shaky, signer: None, kept, clock, fatal, named, append_late_ms: 60_000 }
    }

    fn start(&self, is_first_to_lead: bool) -> EngineHandle {
        self.start_with(is_first_to_lead.then_some(0), Arc::new(Mutex::new(|_: &Row| Trick::Pass)), false)
    }

    /// Leads at once where `quiet_ms` is 0, after that long where it is more.
    fn start_with(&self, quiet_ms: Option<u64>, trouble: Trouble, is_fatal: bool) -> EngineHandle {
        self.try_start(quiet_ms, trouble, is_fatal).expect("the journal can be read")
    }

    fn try_start(&self, quiet_ms: Option<u64>, trouble: Trouble, is_fatal: bool) -> Result<EngineHandle, LoadError> {
        let heard = Arc::clone(&self.fatal);
        let signing = self.signer.clone().map(|signer| {
            let config = SigningConfig { chain: ChainId(1), retry_ms: 10_000 };
            let signing = Signing::new(config, Box::new(signer), Box::new(self.rows.clone()), Vec::new());
            Seated { worker: Box::new(signing), cadence_ms: 1 }
        });
        let rules: Box<dyn Rules> = if signing.is_some() { Box::new(CoreRules) } else { Box::new(Toy) };
        let parts = Parts {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            journal: Box::new(Troubled { rows: self.rows.clone(), trouble }),
            history: Box::new(self.shaky.clone()),
            past: Box::new(self.shaky.clone()),
            snapshots: Box::new(self.kept.clone()),
            witnesses: vec![Box::new(Named(Arc::clone(&self.named)))],
            rules,
            followers: Vec::new(),
            workers: signing.into_iter().collect(),
            heartbeat: None,
            is_storage_failure: Box::new(move |_| is_fatal),
            fatal: Arc::new(move |fatal: &Fatal| heard.lock().unwrap().push(fatal.code())),
        };
        let config = EngineConfig {
            writer: config("a"),
            snapshots: SnapshotterConfig { rows_max: 5, time_max_ms: u64::MAX, build: "test".to_owned() },
            is_first_to_lead: quiet_ms == Some(0),
            lead_after_quiet_ms: quiet_ms.filter(|ms| *ms > 0),
            follow_ms: 1,
            retry_ms: 1,
            append_late_ms: self.append_late_ms,
            stop_ms: 30_000,
        };
        Engine::start(parts, config)
    }
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

fn ask(engine: &EngineHandle, number: u64) -> Result<Told, WaitError> {
    engine.submit_wait(open(number, customer(number)), LONG)
}

fn is_open(engine: &EngineHandle, number: u64) -> bool {
    engine.read(|state| state.customers().contains_key(&customer(number)))
}

#[test]
fn whoever_is_answered_reads_its_own_write() {
    let world = World::new();
    let engine = world.start(true);
    lead(&engine);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let engine = engine.clone();
            scope.spawn(move || {
                for number in (1..=50).map(|number| thread * 100 + number) {
                    let told = ask(&engine, number).expect("it is answered");
                    assert_eq!(told.answer.code(), None);
                    assert!(is_open(&engine, number), "{number}");
                    assert!(engine.at() >= told.at);
                    assert_eq!(engine.read_at(told.at, Duration::ZERO, |_| ()), Some(()));
                }
            });
        }
    });
    assert!(engine.stop());
    let loaded = load(&mut world.rows.clone(), &mut Kept::default()).unwrap();
    assert_eq!(loaded.state.customers().len(), 400);
    assert!(world.rows.all().len() < 400, "commands that came together share rows");
}

#[test]
fn a_journal_that_forgets_to_answer_costs_time_and_nothing_else() {
    let world = World::new();
    let mut random = Random::new(3);
    let trouble = move |_: &Row| match random.below(3) {
        0 => Trick::Pass,
        1 => Trick::Lose,
        _ => Trick::WriteAndLose,
    };
    let engine = world.start_with(Some(0), Arc::new(Mutex::new(trouble)), false);
    lead(&engine);
    for number in 1..=40 {
        assert_eq!(ask(&engine, number).map(|told| told.answer.code()), Ok(None));
        assert!(is_open(&engine, number));
    }
    assert!(engine.stop());
    assert_eq!(load(&mut world.rows.clone(), &mut Kept::default()).unwrap().state.customers().len(), 40);
}

#[test]
fn a_poisoned_command_is_quarantined_while_others_go_on() {
    let world = World::new();
    let engine = world.start(true);
    lead(&engine);
    ask(&engine, 1).unwrap();
    let poisoned = || engine.submit_wait(open(7, POISONED), LONG).unwrap().answer;
    assert_eq!(poisoned(), Answer::Quarantined);
    assert_eq!(ask(&engine, 2).unwrap().answer.code(), None);
    assert_eq!(poisoned(), Answer::Quarantined);
    eventually("the list", || engine.status().quarantined.len() == 1);
    eventually("the alarm", || is_alarmed(&engine, "command_quarantined"));
    assert!(engine.stop());
}

fn is_alarmed(engine: &EngineHandle, code: &str) -> bool {
    engine.status().alarms.values().flatten().any(|alarm| alarm.code == code)
}

#[test]
fn a_journal_that_takes_no_row_is_an_alarm_for_as_long_as_that_lasts() {
    let mut world = World::new();
    world.append_late_ms = 30;
    let (is_full, door) = (Arc::new(AtomicBool::new(false)), Arc::new(Door::default()));
    let (full, hang) = (Arc::clone(&is_full), Arc::clone(&door));
    let trouble = move |row: &Row| match row.seq {
        // The fourth row hangs, whatever else there is.
        Seq(4) => Trick::Hang(Arc::clone(&hang)),
        _ if full.load(Ordering::SeqCst) => Trick::Lose,
        _ => Trick::Pass,
    };
    let engine = world.start_with(Some(0), Arc::new(Mutex::new(trouble)), false);
    lead(&engine);
    ask(&engine, 1).unwrap();
    let calm = || engine.appending().is_none() && !is_alarmed(&engine, "journal_not_written");
    eventually("an answered row's end", calm);

    is_full.store(true, Ordering::SeqCst);
    let (tell, told) = mpsc::channel();
    engine.submit(open(2, customer(2)), Box::new(move |answer| tell.send(answer).unwrap()));
    let late = |at_least: u32| {
        let seen = engine.status().appending;
        seen.is_some_and(|seen| seen.is_late && seen.seq == Seq(3) && seen.attempts >= at_least)
    };
    eventually("attempts", || late(3) && is_alarmed(&engine, "journal_not_written"));
    assert!(told.try_recv().is_err(), "nobody is told what is not durable");
    is_full.store(false, Ordering::SeqCst);
    assert_eq!(told.recv_timeout(LONG).unwrap().unwrap().answer.code(), None);
    eventually("the alarm's end", calm);

    let (tell, told) = mpsc::channel();
    engine.submit(open(3, customer(3)), Box::new(move |answer| tell.send(answer).unwrap()));
    eventually("the alarm of one attempt that hangs", || {
        let seen = engine.appending();
        seen.is_some_and(|seen| seen.is_late && seen.attempts == 1) && is_alarmed(&engine, "journal_not_written")
    });
    door.open();
    assert_eq!(told.recv_timeout(LONG).unwrap().unwrap().answer.code(), None);
    eventually("the alarm's end", calm);
    assert!(engine.stop());
}

#[test]
fn a_snapshot_that_takes_long_holds_up_nobody() {
    let mut world = World::new();
    let door = Arc::new(Door::default());
    world.shaky.door = Some(Arc::clone(&door));
    let engine = world.start(true);
    lead(&engine);
    let mut number = 0;
    eventually("a snapshot that folds the journal itself", || {
        number += 1;
        ask(&engine, number).unwrap();
        door.is_waited_at()
    });
    for number in number + 1..number + 50 {
        ask(&engine, number).unwrap();
        assert!(is_open(&engine, number));
    }
    assert!(world.kept.0.lock().unwrap().is_none() && door.is_waited_at(), "it is still under way");
    door.open();
    eventually("the snapshot", || engine.status().snapshots.last > Seq::START);
    let written = engine.status().snapshots;
    assert_eq!(written.started_from, Seq::START);
    assert!(engine.stop());
    let last = world.kept.0.lock().unwrap().as_ref().unwrap().0.seq;
    assert!(last >= written.last);
    let again = world.start(true);
    assert_eq!(again.status().snapshots.started_from, last);
    assert!(again.stop());
}

#[test]
fn stopping_finishes_what_was_taken_in_and_takes_in_no_more() {
    let world = World::new();
    let engine = world.start(true);
    lead(&engine);
    let (tell, told) = mpsc::channel();
    for number in 1..=200 {
        let tell = tell.clone();
        engine.submit(open(number, customer(number)), Box::new(move |answer| tell.send(answer).unwrap()));
    }
    assert!(engine.stop());
    let answers: Vec<_> = told.try_iter().collect();
    assert_eq!(answers.len(), 200);
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|told| told.answer.code().is_none())));
    assert_eq!(ask(&engine, 999), Err(WaitError::Refused(SubmitRefusal::NotLeading)));
    assert!(engine.stop(), "stopping twice is no fault");
}

#[test]
fn another_process_takes_over_when_the_journal_is_quiet() {
    let world = World::new();
    let first = world.start(true);
    lead(&first);
    ask(&first, 1).unwrap();
    let follower = world.start(false);
    eventually("following", || is_open(&follower, 1));
    assert_eq!(ask(&follower, 2), Err(WaitError::Refused(SubmitRefusal::NotLeading)));
    assert!(first.stop() && follower.stop());
    let second = world.start_with(Some(50), Arc::new(Mutex::new(|_: &Row| Trick::Pass)), false);
    lead(&second);
    assert_eq!(ask(&second, 3).unwrap().answer.code(), None);
    assert!(second.stop());
}

#[test]
fn a_leader_that_is_fenced_says_not_committed_and_follows() {
    let world = World::new();
    let first = world.start(true);
    lead(&first);
    ask(&first, 1).unwrap();
    let second = world.start(true);
    lead(&second);
    ask(&second, 2).unwrap();
    assert_eq!(ask(&first, 3).map(|told| told.answer), Ok(Answer::NotCommitted));
    eventually("following", || first.status().role == Role::Following && is_open(&first, 2));
    assert!(!is_open(&first, 3));
    assert_eq!(ask(&second, 4).unwrap().answer.code(), None);
    eventually("following", || is_open(&first, 4));
    assert!(first.stop() && second.stop());
}

#[test]
fn a_node_that_no_longer_leads_has_no_alarms_of_workers_that_stand_still() {
    let (world, _, first) = leading_without_its_signer();
    let code = SignerFault::Timeout.code();
    eventually("the alarm", || is_alarmed(&first, code));
    let second = world.start(true);
    lead(&second);
    let late = first.submit_wait(Ask::internal(Command::OpenCustomer(customer(9))), LONG);
    assert_eq!(late.map(|told| told.answer), Ok(Answer::NotCommitted));
    eventually("the alarm's end", || first.status().role == Role::Following && !is_alarmed(&first, code));
    eventually("the alarm where it is led", || is_alarmed(&second, code));
    assert!(first.stop() && second.stop());
}

#[test]
fn a_failed_storage_ends_the_engine_without_an_answer() {
    let world = World::new();
    let trouble = |row: &Row| if row.seq == Seq(3) { Trick::WriteAndLose } else { Trick::Pass };
    let engine = world.start_with(Some(0), Arc::new(Mutex::new(trouble)), true);
    lead(&engine);
    ask(&engine, 1).unwrap();
    assert_eq!(ask(&engine, 2), Err(WaitError::Timeout), "nobody knows, so nobody is told");
    assert_eq!(*world.fatal.lock().unwrap(), ["journal_storage_failed"]);
    assert!(!engine.is_leading());
    assert!(!engine.stop());
}

#[test]
fn a_row_that_contradicts_the_state_ends_the_engine() {
    let world = World::new();
    let first = world.start(true);
    lead(&first);
    ask(&first, 1).unwrap();
    let follower = world.start(false);
    eventually("following", || is_open(&follower, 1));
    assert!(first.stop());
    // A foreign hand appends a row whose epoch was never started.
    let last = world.rows.all().last().unwrap().clone();
    let epoch = Epoch(last.epoch.0 + 5);
    let row = Row::seal(last.seq.next(), epoch, last.time, last.hash, Vec::new());
    world.rows.clone().append(&row).unwrap();
    eventually("the end", || !world.fatal.lock().unwrap().is_empty());
    assert_eq!(*world.fatal.lock().unwrap(), ["journal_contradiction"]);
    follower.stop();
}

#[test]
fn events_are_resumed_at_any_row_from_memory_or_from_the_journal() {
    let world = World::new();
    let engine = world.start(true);
    lead(&engine);
    for number in 1..=20 {
        ask(&engine, number).unwrap();
    }
    assert!(engine.stop());
    let again = world.start(true);
    lead(&again);
    ask(&again, 21).unwrap();
    let at = again.at();
    let mut seen = Vec::new();
    let mut cursor = Seq::START;
    while cursor < at {
        let rows = again.events_since(cursor, 3).unwrap();
        assert!(!rows.is_empty() && rows.len() <= 3);
        for row in rows {
            assert_eq!(row.seq, cursor.next(), "no row is left out and none comes twice");
            cursor = row.seq;
            seen.extend(row.events().cloned());
        }
    }
    assert_eq!(seen.len(), 21 + 2, "21 customers and two epochs");
    assert_eq!(again.events_since(at, 3).unwrap().len(), 0);
    assert!(again.stop());
}

#[test]
fn an_answer_of_events_ends_early_where_rows_are_as_large_as_they_may_be() {
    let (mut rows, mut model) = (Rows::default(), ReadModel::new(Loaded::empty()));
    for number in 1..=12 {
        // As many prices as fill a row.
        let price = Event::PriceSet(Price {
            pair: Pair { base: AssetId(1), quote: AssetId(2) },
            quote_units: Amount::new(1 << 100),
            base_units: Amount::new(1 << 99),
            as_of: LedgerTime(number),
            age_max_ms: 1,
            spread_bp: 1,
            quote_ms: 1,
        });
        let events = vec![price.clone(); (ROW_BYTES_MAX - 100) / (price.encode().len() + 8)];
        let entry = Entry { command: None, request: None, events, outcome: None };
        let payload = Batch { entries: vec![entry] }.encode();
        let place = model.place();
        let row = Row::seal(place.seq.next(), Epoch(0), LedgerTime(number), place.hash, payload);
        model.fold_row(&row).unwrap();
        rows.append(&row).unwrap();
    }
    let largest = rows.all().iter().map(|row| row.payload.len()).max().unwrap();
    assert!((ROW_BYTES_MAX / 2..=ROW_BYTES_MAX).contains(&largest));
    let mut from_memory = |after| model.events_since(after, 500).unwrap();
    let mut from_journal = |after| feed_from_journal(&mut rows.clone(), after, 500).unwrap();
    for feed in [&mut from_memory as &mut dyn FnMut(Seq) -> Vec<FeedRow>, &mut from_journal] {
        let (mut cursor, mut answers) = (Seq::START, 0);
        while cursor < Seq(12) {
            let found = feed(cursor);
            assert!(!found.is_empty(), "every answer comes nearer");
            let bytes: usize = found.iter().map(|row| row.batch.encode().len()).sum();
            assert!(bytes < FEED_ANSWER_BYTES_MAX + ROW_BYTES_MAX, "{bytes}");
            for row in found {
                assert_eq!(row.seq, cursor.next(), "no row is left out and none comes twice");
                cursor = row.seq;
            }
            answers += 1;
        }
        assert!(answers > 1);
    }
}

#[test]
fn snapshots_come_from_durable_rows_and_start_the_next_process() {
    let world = World::new();
    let engine = world.start(true);
    lead(&engine);
    for number in 1..=12 {
        ask(&engine, number).unwrap();
    }
    eventually("a snapshot", || world.kept.0.lock().unwrap().is_some());
    assert!(engine.stop());
    let (header, chunks) = world.kept.0.lock().unwrap().clone().unwrap();
    let rows = world.rows.all();
    let row = &rows[header.seq.0 as usize - 1];
    assert_eq!((row.seq, row.hash), (header.seq, header.row_hash));
    assert_eq!(snapshot::hash(&snapshot::read(&header, &chunks).unwrap()), header.state_hash);

    let whole = load(&mut world.rows.clone(), &mut Kept::default()).unwrap();
    let from_snapshot = load(&mut world.rows.clone(), &mut world.kept.clone()).unwrap();
    assert_eq!(snapshot::hash(&from_snapshot.state), snapshot::hash(&whole.state));
    assert_eq!(from_snapshot.place, whole.place);

    // A damaged snapshot only costs time; one of another journal says that this is not the one that was known.
    world.kept.0.lock().unwrap().as_mut().unwrap().0.state_hash = Digest([0; 32]);
    assert_eq!(load(&mut world.rows.clone(), &mut world.kept.clone()).unwrap().place, whole.place);
    world.kept.0.lock().unwrap().as_mut().unwrap().0.row_hash = Digest([1; 32]);
    let refused = load(&mut world.rows.clone(), &mut world.kept.clone()).map(|_| ());
    assert_eq!(refused.map_err(|error| error.code()), Err("journal_forked"));
    world.rows.0.lock().unwrap().truncate(header.seq.0 as usize - 1);
    let refused = load(&mut world.rows.clone(), &mut world.kept.clone()).map(|_| ());
    assert_eq!(refused.map_err(|error| error.code()), Err("journal_behind"));
}

/// Somebody who names a row of the journal: one after the other, and the last one from then on.
struct Named(Arc<Mutex<Vec<Place>>>);

impl Witness for Named {
    fn name(&self) -> &'static str {
        "somebody"
    }
    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        let mut named = self.0.lock().unwrap();
        let first = named.first().copied();
        if named.len() > 1 {
            named.remove(0);
        }
        Ok(first)
    }
}

/// The place of the last row.
fn last(rows: &Rows) -> Option<Place> {
    rows.all().last().map(|row| Place { seq: row.seq, hash: row.hash })
}

/// Appends an empty row that nobody else knows.
fn write_on(rows: &Rows) {
    let (seq, hash) = last(rows).map_or((Seq::START, Digest::ZERO), |last| (last.seq, last.hash));
    let payload = Message::encode(&Batch { entries: Vec::new() });
    let row = Row::seal(seq.next(), Epoch(1), LedgerTime(1_000), hash, payload);
    rows.clone().append(&row).unwrap();
}

/// A journal that has seven rows, or so.
fn written() -> World {
    let world = World::new();
    let engine = world.start(true);
    lead(&engine);
    for number in 1..=6 {
        ask(&engine, number).unwrap();
    }
    assert!(engine.stop());
    world.kept.0.lock().unwrap().take();
    world
}

#[test]
fn a_journal_that_lacks_a_row_that_somebody_names_is_not_even_followed() {
    let world = written();
    world.named.lock().unwrap().extend(last(&world.rows));
    let start = || world.try_start(None, Arc::new(Mutex::new(|_: &Row| Trick::Pass)), false);
    assert!(start().expect("the row is there").stop());
    let whole = world.rows.all();
    world.rows.0.lock().unwrap().truncate(whole.len() - 2);
    assert_eq!(start().err().map(|error| error.code()), Some("journal_behind"));
    write_on(&world.rows);
    assert_eq!(start().err().map(|error| error.code()), Some("journal_behind"), "not far enough to be told apart");
    write_on(&world.rows);
    assert_eq!(start().err().map(|error| error.code()), Some("journal_forked"));
    write_on(&world.rows);
    assert_eq!(start().err().map(|error| error.code()), Some("journal_forked"));
    assert_eq!(world.rows.all().len(), whole.len() + 1, "nothing was written");
    *world.rows.0.lock().unwrap() = whole;
    assert!(start().expect("the newer journal is back").stop());
}

#[test]
fn a_follower_does_not_take_the_lead_of_a_journal_that_was_set_back_under_it() {
    for forks in [false, true] {
        let world = written();
        let engine = world.start_with(Some(1_000), Arc::new(Mutex::new(|_: &Row| Trick::Pass)), false);
        let at = engine.at();
        assert_eq!(Some(at), last(&world.rows).map(|last| last.seq));
        world.rows.0.lock().unwrap().truncate(at.0 as usize - 2);
        (0..if forks { 3 } else { 0 }).for_each(|_| write_on(&world.rows));
        let rows = world.rows.all().len();
        eventually("the end", || !world.fatal.lock().unwrap().is_empty());
        let expected = if forks { "journal_forked" } else { "journal_behind" };
        assert_eq!((&**world.fatal.lock().unwrap(), world.rows.all().len()), (&[expected][..], rows));
        engine.stop();
    }
}

#[test]
fn a_witness_that_learns_of_a_later_row_is_heard_before_the_lead_is_taken() {
    let world = written();
    *world.named.lock().unwrap() = vec![Place::START, Place { seq: Seq(1_000), hash: Digest([1; 32]) }];
    let engine = world.start_with(Some(10), Arc::new(Mutex::new(|_: &Row| Trick::Pass)), false);
    eventually("the end", || !world.fatal.lock().unwrap().is_empty());
    assert_eq!(**world.fatal.lock().unwrap(), ["journal_behind"]);
    engine.stop();
}

#[test]
fn a_journal_that_can_not_be_read_now_and_then_is_not_taken_for_quiet() {
    let world = written();
    let quiet_ms = 1_000;
    let rows = world.rows.all().len();
    let engine = world.start_with(Some(quiet_ms), Arc::new(Mutex::new(|_: &Row| Trick::Pass)), false);
    // From here on no two reads in a row succeed.
    world.shaky.shakes.store(true, Ordering::SeqCst);
    let (start, reads) = (Instant::now(), world.shaky.reads.load(Ordering::SeqCst));
    let is_long = || start.elapsed() > Duration::from_millis(2 * quiet_ms);
    eventually("reading", || is_long() && world.shaky.reads.load(Ordering::SeqCst) > reads + 100);
    assert_eq!((engine.status().role, world.rows.all().len()), (Role::Following, rows));
    world.shaky.shakes.store(false, Ordering::SeqCst);
    lead(&engine);
    assert!(engine.stop());
}

/// A signer that signs nothing. It says which row it was shown last, or nothing at all, and counts how often it was asked.
#[derive(Clone, Default)]
struct Memory {
    shown: Arc<Mutex<Option<Place>>>,
    asked: Arc<AtomicU64>,
}

impl Memory {
    fn says(&self, place: Option<Place>) {
        *self.shown.lock().unwrap() = place;
    }

    /// Waits until the worker has ended so many steps with what is said now.
    fn answers(&self, steps: u32) {
        let enough = self.asked.load(Ordering::SeqCst) + u64::from(steps) + 2;
        eventually("asking", || self.asked.load(Ordering::SeqCst) >= enough);
    }
}

impl Signer for Memory {
    fn sign_plan(&mut self, _: &SignRequest) -> Result<SignerAnswer, SignerFault> {
        Err(SignerFault::Timeout)
    }
    fn void_plan(&mut self, _: &Fence, _: PlanId) -> Result<SignerAnswer, SignerFault> {
        Err(SignerFault::Timeout)
    }
    fn show(&mut self, _: &Fence) -> Result<Option<SignerRefusal>, SignerFault> {
        Ok(None)
    }
    fn status(&mut self) -> Result<SignerStatus, SignerFault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let Place { seq, hash } = self.shown.lock().unwrap().ok_or(SignerFault::Timeout)?;
        Ok(SignerStatus { epoch: Epoch(1), seq, head: hash, is_unlocked: true })
    }
}

/// A node that leads while its signer does not answer yet.
fn leading_without_its_signer() -> (World, Memory, EngineHandle) {
    let memory = Memory::default();
    let world = World { signer: Some(memory.clone()), ..World::new() };
    let engine = world.start(true);
    lead(&engine);
    for number in 1..=3 {
        let open = Ask::internal(Command::OpenCustomer(customer(number)));
        assert_eq!(engine.submit_wait(open, LONG).unwrap().answer.code(), None);
    }
    memory.answers(BEHIND_LOOKS);
    assert!(engine.is_leading() && world.fatal.lock().unwrap().is_empty());
    (world, memory, engine)
}

#[test]
fn a_leader_ends_when_the_signer_comes_and_knows_another_row() {
    let (world, memory, engine) = leading_without_its_signer();
    memory.says(Some(Place { seq: Seq(2), hash: Digest([1; 32]) }));
    eventually("the end", || !world.fatal.lock().unwrap().is_empty());
    assert_eq!(**world.fatal.lock().unwrap(), ["journal_forked"]);
    assert!(!engine.is_leading());
    let late = engine.submit_wait(Ask::internal(Command::OpenCustomer(customer(9))), LONG);
    assert_eq!(late, Err(WaitError::Refused(SubmitRefusal::NotLeading)), "an old copy takes nothing in");
    let halts = load(&mut world.rows.clone(), &mut Kept::default()).unwrap().state.halts().len();
    assert_eq!(halts, 1, "the copy itself says that it signs nothing");
    assert!(!engine.stop());
}

#[test]
fn a_leader_ends_when_the_signer_knows_later_rows_and_it_is_no_lag() {
    let (world, memory, engine) = leading_without_its_signer();
    let later = Some(Place { seq: Seq(1_000), hash: Digest([1; 32]) });
    let is_well = || engine.is_leading() && world.fatal.lock().unwrap().is_empty();
    let pass = |ms| world.clock.0.store(world.clock.now_ms() + ms, Ordering::SeqCst);
    memory.says(later);
    memory.answers(BEHIND_LOOKS);
    assert!(is_well(), "it may be a lag");
    // The row came.
    memory.says(last(&world.rows));
    memory.answers(1);
    pass(BEHIND_MS);
    memory.says(later);
    memory.answers(BEHIND_LOOKS);
    assert!(is_well(), "it may be another one");
    pass(BEHIND_MS - 1);
    memory.answers(BEHIND_LOOKS);
    assert!(is_well());
    pass(1);
    eventually("the end", || !world.fatal.lock().unwrap().is_empty());
    assert_eq!(**world.fatal.lock().unwrap(), ["journal_behind"]);
    assert!(!engine.is_leading() && !engine.stop());
}

#[test]
fn a_reader_waits_for_a_row_only_so_long() {
    let world = World::new();
    let engine = world.start(true);
    lead(&engine);
    let at = engine.at();
    assert_eq!(engine.read_at(at.next(), Duration::from_millis(5), |_| ()), None);
    let waiting = {
        let engine = engine.clone();
        std::thread::spawn(move || engine.wait_until(at.next(), LONG))
    };
    ask(&engine, 1).unwrap();
    assert!(waiting.join().unwrap() >= at.next());
    assert_eq!(engine.submit_wait(Ask::internal(Command::Tick), LONG).unwrap().at, engine.at());
    assert!(engine.stop());
}
