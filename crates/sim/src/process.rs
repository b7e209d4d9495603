//! One process of the platform: the real writer, read model, follower and workers, stepped one at a time. When it dies, all of this is gone; journal, snapshots, signer and nodes go on.

use crate::chaos::Chaos;
use crate::ports::{MemorySnapshots, ProcessJournal, SimClock};
use florin_core::command::{Origin, Request};
use florin_core::decide::{Refusal, Verdict};
use florin_core::id::{Epoch, LedgerTime};
use florin_core::journal::{AppendError, Journal};
use florin_core::state::State;
use florin_engine::lanes::Ask;
use florin_engine::load::{LoadError, load};
use florin_engine::read_model::{Gate, ReadModel};
use florin_engine::snapshotter::{Snapshotter, SnapshotterConfig};
use florin_engine::workers::Worker;
use florin_engine::writer::{
    Answer, Appended, Reply, Role, Rules, Sealed, SubmitRefusal, Ticket, Writer, WriterConfig,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

/// Rows between two snapshots.
const SNAPSHOT_ROWS: u64 = 4;

/// What a simulated panic says.
const PANIC: &str = "simulated: a rule panics";

/// After how many decisions a rule panics; 0 for never.
#[derive(Debug, Clone, Default)]
pub struct Fuse(Arc<AtomicU64>);

impl Fuse {
    /// The `decisions`-th decision from now panics, counted from 1.
    pub fn light(&self, decisions: u64) {
        self.0.store(decisions, Ordering::Relaxed);
    }

    fn burn(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        self.0.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 1
    }
}

/// The core's rules, watched by the clock, and now and then a panic that leaves the state half changed.
struct FusedRules {
    fuse: Fuse,
    clock: SimClock,
    chaos: Chaos,
}

impl Rules for FusedRules {
    fn decide(&mut self, state: &mut State, request: &Request, now: LedgerTime) -> Result<Verdict, Refusal> {
        if let Origin::Request { id, .. } = request.origin {
            self.clock.see_decision(id.0, now.0);
        }
        let verdict = state.decide(request, now);
        if self.fuse.burn() {
            self.chaos.strike("fault rule panics");
            panic!("{PANIC}");
        }
        verdict
    }
}

thread_local! {
    /// The last panic of this thread that nobody simulated.
    static STRAY: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The panic of this thread, if there was one, that nobody simulated: the writer catches those as well, and none may be missed.
pub fn stray_panic() -> Option<String> {
    STRAY.take()
}

/// Simulated panics are caught by the writer, and would only fill the screen.
fn silence_simulated_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| info.payload().downcast_ref::<&str>().copied());
            if text != Some(PANIC) {
                let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
                STRAY.set(Some(format!("{}{place}", text.unwrap_or("something"))));
                before(info);
            }
        }));
    });
}

/// A running process.
pub struct Process {
    /// Which one, counted from 1.
    pub number: u64,
    /// When its rules panic.
    pub fuse: Fuse,
    /// Its fate.
    pub chaos: Chaos,
    writer: Writer,
    model: ReadModel,
    gate: Gate,
    durable: VecDeque<Arc<Sealed>>,
    row: Option<Arc<Sealed>>,
    journal: ProcessJournal,
    snapshots: MemorySnapshots,
    snapshotter: Snapshotter,
    workers: Vec<Box<dyn Worker>>,
}

/// What the platform's own parts asked for counts as nobody's: they find their work again in the state.
pub const OWN_TICKET: Ticket = Ticket(u64::MAX);

impl Process {
    /// Starts: loads what is durable and takes the lead.
    ///
    /// # Errors
    /// Where no state can be loaded.
    pub fn start(
        number: u64,
        config: WriterConfig,
        mut journal: ProcessJournal,
        mut snapshots: MemorySnapshots,
        workers: Vec<Box<dyn Worker>>,
        clock: SimClock,
    ) -> Result<Process, LoadError> {
        let now_ms = clock.now_ms();
        let loaded = load(&mut journal, &mut snapshots)?;
        let snapshotter_config =
            SnapshotterConfig { rows_max: SNAPSHOT_ROWS, time_max_ms: u64::MAX, build: config.build.clone() };
        silence_simulated_panics();
        let fuse = Fuse::default();
        let chaos = journal.chaos.clone();
        let rules = FusedRules { fuse: fuse.clone(), clock, chaos: chaos.clone() };
        let mut writer = Writer::new(config, Box::new(rules));
        let model = ReadModel::new(loaded.clone());
        let snapshotter = Snapshotter::new(snapshotter_config, model.at(), now_ms);
        writer.take_lead(loaded, now_ms);
        let (gate, durable) = (Gate::default(), VecDeque::new());
        let row = None;
        Ok(Process { number, fuse, chaos, writer, model, gate, durable, row, journal, snapshots, snapshotter, workers })
    }

    /// What everyone but the writer sees.
    pub fn model(&self) -> &ReadModel {
        &self.model
    }

    /// The writer, to look at.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The workers, to look at.
    pub fn workers(&self) -> &[Box<dyn Worker>] {
        &self.workers
    }

    /// Takes a command in.
    ///
    /// # Errors
    /// As the writer.
    pub fn submit(&mut self, ticket: Ticket, ask: Ask) -> Result<(), SubmitRefusal> {
        self.writer.submit(ticket, ask)
    }

    /// Decides what waits.
    pub fn decide(&mut self, now_ms: u64) {
        self.writer.decide_waiting(now_ms);
    }

    /// Hands the next row to the journal; its fate is taken in by [`Process::settle`], so that commands can be decided meanwhile.
    pub fn send_row(&mut self) {
        if self.row.is_none() {
            self.row = self.writer.next_row();
        }
    }

    /// The row that is on its way to the journal, taken off its way.
    pub fn intercept_row(&mut self) -> Option<Arc<Sealed>> {
        self.row.take()
    }

    /// Appends the row that was sent, and takes its fate in; `None` where there was none.
    pub fn settle(&mut self) -> Option<Appended> {
        let row = self.row.take()?;
        let fate = match self.journal.append(&row.row) {
            Ok(()) => Appended::Durable,
            Err(AppendError::Fenced) => Appended::Fenced,
            Err(AppendError::Unknown(_)) => Appended::Unknown,
        };
        if !self.chaos.is_dead() {
            self.durable.extend(self.writer.appended(fate));
            self.gate.push(self.writer.take_replies());
        }
        Some(fate)
    }

    /// The epoch that its read model knows.
    pub fn epoch(&self) -> Epoch {
        self.model.state().counters().epoch
    }

    /// Asks something in a moment of rest: the answer, and whether anything came of it. Only where [`Process::is_idle`].
    pub fn probe(&mut self, ask: Ask, now_ms: u64) -> Option<(Answer, bool)> {
        self.writer.submit(OWN_TICKET, ask).ok()?;
        self.writer.decide_waiting(now_ms);
        let reply = self.writer.take_replies().pop();
        let is_unchanged = self.writer.is_idle();
        reply.map(|reply| (reply.answer, is_unchanged))
    }

    /// Gives a writer whose rules panicked its state back. Says whether there was one.
    ///
    /// # Errors
    /// A sentence where that is impossible.
    pub fn recover(&mut self) -> Result<bool, String> {
        if self.writer.role() != Role::Poisoned {
            return Ok(false);
        }
        self.writer
            .recover(self.model.loaded())
            .map_err(|fault| format!("a poisoned writer can't recover: {fault}"))?;
        Ok(true)
    }

    /// Folds durable rows into the read model, and gives the answers that may be given now.
    ///
    /// # Errors
    /// A sentence where a row that we wrote does not fold.
    pub fn fold(&mut self) -> Result<Vec<Reply>, String> {
        while let Some(sealed) = self.durable.pop_front() {
            self.model.fold(&sealed).map_err(|fault| format!("a row of ours does not fold: {fault}"))?;
        }
        if self.writer.role() == Role::Poisoned {
            self.writer.recover(self.model.loaded()).map_err(|fault| format!("no way back from a panic: {fault}"))?;
        }
        self.gate.push(self.writer.take_replies());
        Ok(self.gate.open(self.model.at()))
    }

    /// Follows after another writer was first, and takes the lead again.
    ///
    /// # Errors
    /// Where the journal does not fold, or can't be read now.
    ///
    /// # Panics
    /// Where it leads.
    pub fn lead_again(&mut self, now_ms: u64) -> Result<(), LoadError> {
        while self.model.follow(&mut self.journal)? > 0 {}
        self.writer.take_lead(self.model.loaded(), now_ms);
        Ok(())
    }

    /// Steps one worker; what it asks for waits in the writer. Says how much that was.
    pub fn step_worker(&mut self, index: usize, now_ms: u64) -> usize {
        let asks = self.workers[index].step(&self.model, now_ms);
        if self.chaos.is_dead() {
            return 0;
        }
        let count = asks.len();
        for ask in asks {
            // A full lane or a lost lead: the worker finds its work again.
            let _ = self.writer.submit(OWN_TICKET, ask);
        }
        count
    }

    /// What the worker at a place says against the journal itself, also where it only begins to doubt. Nothing here sets the
    /// journal back, so that nobody may ever say so; a real process would end by it.
    pub fn contradiction(&self, index: usize) -> Option<String> {
        if self.chaos.is_dead() {
            return None;
        }
        let worker = &self.workers[index];
        let is_doubt = |code: &str| matches!(code, "signer_ahead_of_journal" | "signer_of_other_journal");
        let doubts = worker.alarms().into_iter().filter(|alarm| is_doubt(alarm.code)).map(|alarm| alarm.detail);
        worker.contradiction().map(ToString::to_string).into_iter().chain(doubts).next()
    }

    /// Writes a snapshot where one is due.
    pub fn snapshot(&mut self, now_ms: u64) {
        if self.snapshotter.is_due(self.model.at(), now_ms) {
            // A fault costs time at the next start, and nothing else.
            let _ = self.snapshotter.write(&self.model.loaded(), &mut self.snapshots, now_ms);
        }
    }

    /// Whether nothing waits and nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.writer.is_idle() && self.durable.is_empty() && self.gate.waiting() == 0
    }
}
