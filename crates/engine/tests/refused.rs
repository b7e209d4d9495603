//! Journals that an engine must not lead: another platform's, and one of which nobody can say whether it is the one that was known.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod common;

use common::*;
use florin_core::id::Epoch;
use florin_engine::load::{LoadError, Place};
use florin_engine::ports::Clock;
use florin_engine::runtime::{Engine, EngineConfig, EngineHandle, Fatal, Parts};
use florin_engine::snapshotter::SnapshotterConfig;
use florin_engine::witness::{Witness, WitnessFault};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything here takes; a test that waits so long fails.
const LONG: Duration = Duration::from_secs(60);

struct StandingClock;

impl Clock for StandingClock {
    fn now_ms(&self) -> u64 {
        1_000
    }
}

/// A witness that knows nothing, and can't be read after so many answers more.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Answers>>);

#[derive(Default)]
struct Answers {
    left: Option<u32>,
    torn: u32,
}

impl Record {
    fn tear_after(&self, answers: u32) {
        *self.0.lock().unwrap() = Answers { left: Some(answers), torn: 0 };
    }
    fn mend(&self) {
        self.0.lock().unwrap().left = None;
    }
    /// How often it was asked while it was torn.
    fn torn(&self) -> u32 {
        self.0.lock().unwrap().torn
    }
}

impl Witness for Record {
    fn name(&self) -> &'static str {
        "a record"
    }
    fn newest(&mut self) -> Result<Option<Place>, WitnessFault> {
        let mut answers = self.0.lock().unwrap();
        match answers.left.as_mut() {
            None => Ok(None),
            Some(0) => {
                answers.torn += 1;
                Err(WitnessFault::Unreadable { code: "record_torn", cause: "a test's".into() })
            }
            Some(left) => {
                *left -= 1;
                Ok(None)
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    AtOnce,
    /// As soon as the journal is quiet.
    Soon,
    Never,
}

/// A journal, a record beside it, and why engines on it ended.
#[derive(Clone, Default)]
struct World {
    rows: Rows,
    record: Record,
    ends: Arc<Mutex<Vec<&'static str>>>,
}

impl World {
    fn start(&self, platform: u8, lead: Lead) -> Result<EngineHandle, LoadError> {
        let ends = Arc::clone(&self.ends);
        let parts = Parts {
            clock: Arc::new(StandingClock),
            journal: Box::new(self.rows.clone()),
            history: Box::new(self.rows.clone()),
            past: Box::new(self.rows.clone()),
            snapshots: Box::new(Kept::default()),
            witnesses: vec![Box::new(self.record.clone())],
            rules: Box::new(Toy),
            followers: Vec::new(),
            workers: Vec::new(),
            heartbeat: None,
            is_storage_failure: Box::new(|_| false),
            fatal: Arc::new(move |fatal: &Fatal| ends.lock().unwrap().push(fatal.code())),
        };
        let mut writer = config("a");
        writer.platform_if_new = [platform; 16];
        let config = EngineConfig {
            writer,
            snapshots: SnapshotterConfig { rows_max: u64::MAX, time_max_ms: u64::MAX, build: "test".to_owned() },
            is_first_to_lead: lead == Lead::AtOnce,
            lead_after_quiet_ms: (lead == Lead::Soon).then_some(1),
            follow_ms: 1,
            retry_ms: 1,
            append_late_ms: 60_000,
            stop_ms: 30_000,
        };
        Engine::start(parts, config)
    }

    fn epochs(&self) -> Vec<Epoch> {
        self.rows.all().iter().map(|row| row.epoch).collect()
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

/// A journal that platform 1 began.
fn begun() -> World {
    let world = World::default();
    let engine = world.start(1, Lead::AtOnce).unwrap();
    eventually("leading", || engine.is_leading());
    assert!(engine.stop());
    world
}

#[test]
fn nothing_is_written_into_another_platforms_journal() {
    let world = begun();
    for lead in [Lead::AtOnce, Lead::Soon, Lead::Never] {
        let refused = world.start(2, lead).map(|engine| engine.stop());
        assert!(matches!(refused, Err(LoadError::OtherPlatform { found }) if found == [1; 16]), "{refused:?}");
        assert_eq!(world.epochs(), [Epoch(1)]);
    }
    let engine = world.start(1, Lead::AtOnce).unwrap();
    eventually("leading", || engine.is_leading());
    assert!(engine.stop());
    assert_eq!(world.epochs(), [Epoch(1), Epoch(2)]);
}

#[test]
fn a_node_of_another_platform_ends_once_the_journal_that_was_empty_has_begun() {
    let world = World::default();
    let other = world.start(2, Lead::Never).unwrap();
    let engine = world.start(1, Lead::AtOnce).unwrap();
    eventually("leading", || engine.is_leading());
    eventually("the end", || !world.ends.lock().unwrap().is_empty());
    assert_eq!(*world.ends.lock().unwrap(), ["platform_id_changed"]);
    assert!(engine.stop());
    other.stop();
    assert_eq!(world.epochs(), [Epoch(1)]);
}

#[test]
fn a_record_that_cant_be_read_stops_the_start_and_the_lead() {
    let world = begun();
    world.record.tear_after(0);
    let refused = world.start(1, Lead::AtOnce).map(|engine| engine.stop());
    assert_eq!(refused.map_err(|error| error.code()), Err("record_torn"));
    assert_eq!(world.epochs(), [Epoch(1)]);

    // It is whole when the process starts, and torn when that wants to lead.
    world.record.tear_after(1);
    let engine = world.start(1, Lead::Soon).unwrap();
    eventually("attempts to lead", || world.record.torn() >= 5);
    assert_eq!((engine.is_leading(), world.epochs().len()), (false, 1), "nobody leads before a person has looked");
    world.record.mend();
    eventually("leading", || engine.is_leading());
    assert!(engine.stop());
    assert!(world.ends.lock().unwrap().is_empty());
}
