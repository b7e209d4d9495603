//! The single writer: decides commands in order, gathers what was decided into rows, and says when anyone may be told.
//!
//! It performs no I/O: [`Writer::next_row`] hands out the row to append, [`Writer::appended`] takes what became of it,
//! [`Writer::take_replies`] gives the answers that are durable. One row is in flight while the next batch is decided.
//!
//! It must never answer before its reasons are durable (a refusal has reasons too), never send two different rows with
//! one number, never let a poisoned command into a row, and never go on after another writer has appended.

use crate::caught::caught;
use crate::lanes::{Ask, Lane, Lanes};
use crate::load::{Loaded, Place};
use crate::scripts::{ScriptFault, Scripts};
use florin_core::command::{Command, Origin, Outcome, Request};
use florin_core::decide::{Refusal, Verdict};
use florin_core::event::{EpochStarted, Event};
use florin_core::id::{CommandId, Digest, Epoch, LedgerTime, Seq, SessionId};
use florin_core::journal::{Batch, EVENTS_MAX, Entry, ROW_BYTES_MAX, Row};
use florin_core::state::State;
use florin_core::wire::Field;
use std::collections::VecDeque;
use std::sync::Arc;

/// Commands decided into one row, refused ones counted: enough to fill a disk's sync with work, few enough that one row's
/// replies and their encoding stay within a millisecond or two.
pub const BATCH_COMMANDS_MAX: usize = 4_096;

/// How long a batch may wait for the row before it and still take commands, in milliseconds. All commands of a row are
/// decided at its one ledger time; while a store hangs, judging an expiry by an old time would favour whoever waited.
pub const BATCH_AGE_MAX_MS: u64 = 1_000;

/// How many poisoned commands are kept in mind. Beyond it the oldest is forgotten: sent again, it costs one more reload.
pub const QUARANTINE_MAX: usize = 1_024;

/// The newest event format that this build writes.
pub const FORMAT: u32 = 1;

/// The caller's name for a command that waits: its answer comes back with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The rules that decide. Production has [`CoreRules`]; tests and simulations put faults before them.
pub trait Rules: Send {
    /// Decides a request and folds what it decides into the state.
    ///
    /// # Errors
    /// As [`State::decide`]: a refusal has changed nothing.
    fn decide(&mut self, state: &mut State, request: &Request, now: LedgerTime) -> Result<Verdict, Refusal>;

    /// Makes a whole request of what was asked, for the state it is about to be decided on.
    ///
    /// # Errors
    /// As [`Scripts::next`].
    fn complete(&mut self, scripts: &mut Scripts, state: &State, ask: Ask) -> Result<Request, ScriptFault> {
        complete(scripts, state, ask)
    }
}

/// The core's rules, and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoreRules;

impl Rules for CoreRules {
    fn decide(&mut self, state: &mut State, request: &Request, now: LedgerTime) -> Result<Verdict, Refusal> {
        state.decide(request, now)
    }
}

/// What an asker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Executed, and durable.
    Done(Outcome),
    /// Executed before; this was its answer then.
    Repeated(Outcome),
    /// Refused by the rules. Nothing changed.
    Refused(Refusal),
    /// The next address can't be derived. Nothing changed.
    NoScript(ScriptFault),
    /// This command made a rule panic. It had no effect, and as long as this process remembers it (until it ends, or
    /// [`QUARANTINE_MAX`] others came after it) its id is refused unread. Nothing of it is in the journal: under another id it
    /// is another command, and is judged anew.
    Quarantined,
    /// Another writer leads, and this command is not in the journal. It may be sent to that one.
    NotCommitted,
}

impl Answer {
    /// The stable code of an answer that is no success.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Answer::Done(_) | Answer::Repeated(_) => None,
            Answer::Refused(refusal) => Some(refusal.code()),
            Answer::NoScript(fault) => Some(fault.code()),
            Answer::Quarantined => Some("quarantined"),
            Answer::NotCommitted => Some("not_committed"),
        }
    }
}

/// An answer and the row that must be durable, and folded by the reader whom the asker will ask next, before it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whose.
    pub ticket: Ticket,
    /// The row.
    pub after: Seq,
    /// The answer.
    pub answer: Answer,
}

/// Why a command was not taken in. Nothing happened, and nothing will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitRefusal {
    /// This writer does not lead.
    #[error("this writer does not lead")]
    NotLeading,
    /// Too many commands wait in the lane.
    #[error("too many commands wait")]
    Full(Lane),
}

impl SubmitRefusal {
    /// The stable code of this refusal.
    pub fn code(self) -> &'static str {
        match self {
            SubmitRefusal::NotLeading => "not_leading",
            SubmitRefusal::Full(_) => "queue_full",
        }
    }
}

/// A sealed row with the batch that it encodes, so that a reader in the same process need not decode it.
#[derive(Debug)]
pub struct Sealed {
    /// The row.
    pub row: Row,
    /// What its payload says.
    pub batch: Arc<Batch>,
}

impl Sealed {
    /// The row's number and hash.
    pub fn place(&self) -> Place {
        Place { seq: self.row.seq, hash: self.row.hash }
    }
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The row is durable.
    Durable,
    /// The row is not in the journal and never will be.
    Fenced,
    /// Nobody knows; the same row goes out again.
    Unknown,
}

/// Where a writer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has no state and takes no commands.
    Following,
    /// It has appended its epoch and waits to know whether that is durable. Commands wait.
    Taking,
    /// It decides.
    Leading,
    /// A command panicked; its state is gone and has to be given back by [`Writer::recover`]. Commands wait.
    Poisoned,
}

/// Why a state is no use to a poisoned writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The writer is not poisoned.
    #[error("the writer has its state")]
    NotPoisoned,
    /// The state is folded up to a row before the last durable one.
    #[error("the state is older than the last durable row")]
    Behind,
    /// The state is folded up to a row that this writer did not write: another one leads.
    #[error("the state is of another writer's rows")]
    Diverged,
}

/// What is put into `EpochStarted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterConfig {
    /// This node's name.
    pub node: String,
    /// This build.
    pub build: String,
    /// SHA-256 of the configuration.
    pub config: Digest,
    /// The journal's id, where the journal is empty: 16 random bytes of the operating system.
    pub platform_if_new: [u8; 16],
}

/// A command that made a rule panic, or that outgrew what a command may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Which.
    pub command: Poison,
    /// When.
    pub at: LedgerTime,
    /// What the panic said.
    pub what: String,
}

/// How a poisoned command is recognised when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Poison {
    /// By its id.
    Id(CommandId),
    /// By its session and sequence.
    Sequence(SessionId, u64),
    /// By what it says.
    Internal(Box<Ask>),
}

impl Poison {
    fn of(origin: &Origin, ask: impl FnOnce() -> Ask) -> Poison {
        match origin {
            Origin::Request { id, .. } => Poison::Id(*id),
            Origin::Session { session, sequence } => Poison::Sequence(*session, *sequence),
            Origin::Internal => Poison::Internal(Box::new(ask())),
        }
    }

    fn of_request(request: &Request) -> Poison {
        Poison::of(&request.origin, || Ask::Request(request.clone()))
    }

    fn is(&self, ask: &Ask) -> bool {
        match (self, ask.origin()) {
            (Poison::Id(id), Origin::Request { id: other, .. }) => id == other,
            (Poison::Sequence(session, sequence), Origin::Session { session: other, sequence: number }) => {
                session == other && sequence == number
            }
            (Poison::Internal(asked), Origin::Internal) => **asked == *ask,
            _ => false,
        }
    }
}

/// A batch that still takes commands.
#[derive(Debug)]
struct Open {
    time: LedgerTime,
    /// What the clock showed when it was opened. Ledger time may stand still, and is no measure of age.
    opened_ms: u64,
    payload: Vec<u8>,
    entries: Vec<Entry>,
    replies: Vec<(Ticket, Answer)>,
}

/// A sealed row that is not known to be durable.
#[derive(Debug)]
struct Pending {
    sealed: Arc<Sealed>,
    replies: Vec<(Ticket, Answer)>,
    is_out: bool,
    attempts: u32,
}

/// The single writer. See the module.
pub struct Writer {
    config: WriterConfig,
    rules: Box<dyn Rules>,
    scripts: Scripts,
    lanes: Lanes<(Ticket, Ask)>,
    role: Role,
    state: Option<State>,
    epoch: Epoch,
    /// The last row known to be durable.
    durable: Place,
    /// The last row sealed.
    sealed: Place,
    flight: Option<Pending>,
    /// Sealed behind the row in flight; at most one.
    closed: Option<Pending>,
    open: Option<Open>,
    replies: Vec<Reply>,
    quarantine: VecDeque<Quarantined>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Writer").field("role", &self.role).field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer that follows.
    pub fn new(config: WriterConfig, rules: Box<dyn Rules>) -> Writer {
        Writer {
            config,
            rules,
            scripts: Scripts::default(),
            lanes: Lanes::default(),
            role: Role::Following,
            state: None,
            epoch: Epoch(0),
            durable: Place::START,
            sealed: Place::START,
            flight: None,
            closed: None,
            open: None,
            replies: Vec::new(),
            quarantine: VecDeque::new(),
        }
    }

    /// Where it stands.
    pub fn role(&self) -> Role {
        self.role
    }
    /// The epoch that it leads in, or led in last.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
    /// The last row known to be durable.
    pub fn durable(&self) -> Place {
        self.durable
    }
    /// How many commands wait in a lane.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.lanes.waiting(lane)
    }
    /// Whether nothing waits, nothing is undecided and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.flight.is_none() && self.closed.is_none() && self.open.is_none()
    }
    /// How often the row in flight was sent without its fate becoming known; 0 when none is.
    pub fn attempts(&self) -> u32 {
        self.flight.as_ref().map_or(0, |flight| flight.attempts)
    }
    /// The poisoned commands, oldest first.
    pub fn quarantined(&self) -> impl Iterator<Item = &Quarantined> {
        self.quarantine.iter()
    }

    /// Starts to lead from a state that is folded up to the journal's last row: seals the row that says so.
    ///
    /// Whether another writer appended meanwhile is found out by the append: then it is fenced.
    ///
    /// # Panics
    /// Where this writer does not follow.
    pub fn take_lead(&mut self, loaded: Loaded, clock_ms: u64) {
        assert_eq!(self.role, Role::Following, "only a writer that follows takes the lead");
        let Loaded { mut state, place } = loaded;
        let counters = state.counters();
        let time = state.epoch_time(LedgerTime(clock_ms));
        self.epoch = Epoch(counters.epoch.0 + 1);
        let started = EpochStarted {
            epoch: self.epoch,
            node: self.config.node.clone(),
            build: self.config.build.clone(),
            format: FORMAT,
            config: self.config.config,
            platform: if place.seq == Seq::START { self.config.platform_if_new } else { counters.platform },
        };
        let entry = Entry { command: None, request: None, events: vec![Event::EpochStarted(started)], outcome: None };
        state.begin_row(place.seq.next(), time);
        state.apply_entry(&entry);
        self.durable = place;
        self.sealed = place;
        self.state = Some(state);
        let mut open = Open::new(time, clock_ms);
        entry.put(1, &mut open.payload);
        open.entries.push(entry);
        self.flight = Some(self.seal(open));
        self.role = Role::Taking;
    }

    /// Takes a command in. Its answer comes with the ticket, once.
    ///
    /// # Errors
    /// [`SubmitRefusal`], in its order.
    pub fn submit(&mut self, ticket: Ticket, ask: Ask) -> Result<(), SubmitRefusal> {
        if self.role == Role::Following {
            return Err(SubmitRefusal::NotLeading);
        }
        let lane = ask.lane();
        self.lanes.push(lane, (ticket, ask)).map_err(|_| SubmitRefusal::Full(lane))
    }

    /// Decides waiting commands while there is room for them; says how many.
    pub fn decide_waiting(&mut self, clock_ms: u64) -> usize {
        let mut count = 0;
        loop {
            // Before each: a tick takes ledger time for the time, and the clock may be far from that.
            self.note_clock(clock_ms);
            if !self.has_room(clock_ms) {
                break;
            }
            let Some((ticket, ask)) = self.lanes.pop() else { break };
            if confirms_time(&ask)
                && let Some(open) = self.open.take()
            {
                self.closed = Some(self.seal(open));
            }
            self.decide(ticket, ask, clock_ms);
            count += 1;
        }
        count
    }

    /// The row to append now, if there is one that is not being appended already. After [`Appended::Unknown`] it is the
    /// same row again, byte for byte.
    pub fn next_row(&mut self) -> Option<Arc<Sealed>> {
        if self.flight.is_none() {
            self.flight = match self.closed.take() {
                Some(closed) => Some(closed),
                None => self.open.take().map(|open| self.seal(open)),
            };
        }
        let flight = self.flight.as_mut()?;
        if flight.is_out {
            return None;
        }
        flight.is_out = true;
        flight.attempts = flight.attempts.saturating_add(1);
        Some(Arc::clone(&flight.sealed))
    }

    /// Takes what became of the row in flight. A durable row is given back, for whoever folds it.
    ///
    /// # Panics
    /// Where no row is being appended.
    pub fn appended(&mut self, fate: Appended) -> Option<Arc<Sealed>> {
        let flight = self.flight.as_mut().filter(|flight| flight.is_out).expect("a row is being appended");
        match fate {
            Appended::Unknown => {
                flight.is_out = false;
                None
            }
            Appended::Fenced => {
                self.fence();
                None
            }
            Appended::Durable => {
                let flight = self.flight.take().expect("a row is being appended");
                self.durable = flight.sealed.place();
                let after = self.durable.seq;
                let replies = flight.replies.into_iter();
                self.replies.extend(replies.map(|(ticket, answer)| Reply { ticket, after, answer }));
                if self.role == Role::Taking {
                    self.role = Role::Leading;
                }
                Some(flight.sealed)
            }
        }
    }

    /// The answers whose rows are durable. Give each only when the reader has folded its row.
    pub fn take_replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    /// Gives a poisoned writer its state back: folds what is sealed and gathered, but not durable, on top of `loaded`.
    ///
    /// # Errors
    /// [`RecoverError`], in its order; the writer stays poisoned.
    ///
    /// # Panics
    /// Where what was decided does not fold: then this build is wrong, and must not go on.
    pub fn recover(&mut self, loaded: Loaded) -> Result<(), RecoverError> {
        if self.role != Role::Poisoned {
            return Err(RecoverError::NotPoisoned);
        }
        let Loaded { mut state, place } = loaded;
        if place.seq < self.durable.seq {
            return Err(RecoverError::Behind);
        }
        let pending = || self.flight.iter().chain(&self.closed);
        // The row in flight may be durable already, and in the loaded state, without our knowing.
        if place != self.durable && self.flight.as_ref().is_none_or(|flight| flight.sealed.place() != place) {
            return Err(RecoverError::Diverged);
        }
        for row in pending().filter(|row| row.sealed.row.seq > place.seq) {
            state.apply_row(&row.sealed.row, &row.sealed.batch);
        }
        if let Some(open) = &self.open {
            state.begin_row(self.sealed.seq.next(), open.time);
            open.entries.iter().for_each(|entry| state.apply_entry(entry));
        }
        self.state = Some(state);
        self.role = Role::Leading;
        Ok(())
    }

    /// Stops leading where a newer epoch was seen in the journal, without asking the journal once more. While a row's fate
    /// is not known, nothing happens: it may stand before that epoch. Says whether this writer follows now.
    pub fn step_down(&mut self) -> bool {
        if self.role != Role::Following && self.flight.is_none() {
            self.fence();
        }
        self.role == Role::Following
    }

    /// Stops leading: whatever is not durable is dropped, and those who wait for it are told so.
    fn fence(&mut self) {
        let after = self.durable.seq;
        let mut tickets: Vec<Ticket> = Vec::new();
        for pending in self.flight.take().into_iter().chain(self.closed.take()) {
            tickets.extend(pending.replies.iter().map(|(ticket, _)| *ticket));
        }
        tickets.extend(self.open.take().into_iter().flat_map(|open| open.replies).map(|(ticket, _)| ticket));
        tickets.extend(self.lanes.drain().into_iter().map(|(ticket, _)| ticket));
        let answers = tickets.into_iter().map(|ticket| Reply { ticket, after, answer: Answer::NotCommitted });
        self.replies.extend(answers);
        self.state = None;
        self.role = Role::Following;
        tracing::warn!(seq = after.0, "another writer leads; this one follows");
    }

    /// Whether the clock shows a time that ledger time does not follow, and no row says so yet.
    pub fn doubts_clock(&self, clock_ms: u64) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_clock_news(LedgerTime(clock_ms)))
    }

    /// Notes a jump of the clock before anything is decided under it: whoever waits would else be judged by a time that stands
    /// still. Where that panics it is tried again with the next state, and never quarantined.
    fn note_clock(&mut self, clock_ms: u64) {
        if !self.has_room(clock_ms) || !self.doubts_clock(clock_ms) {
            return;
        }
        let clock = LedgerTime(clock_ms);
        let state = self.state.as_mut().expect("a writer that leads has a state");
        let now = self.open.as_ref().map_or_else(|| state.row_time(clock), |open| open.time);
        let request = Request { origin: Origin::Internal, command: Command::SeeClock { clock } };
        let rules = &mut self.rules;
        match caught(|| rules.decide(state, &request, now)) {
            Ok(Ok(Verdict::Decided { events, outcome })) => {
                self.gather(Ticket(0), &request, (events, outcome), (now, clock_ms));
                // Nobody asked, so nobody is answered.
                self.open.iter_mut().for_each(|open| drop(open.replies.pop()));
            }
            Ok(Ok(Verdict::Repeated(_)) | Err(_)) => {}
            Err(what) => {
                tracing::error!(what, "noting the clock made a rule panic");
                self.state = None;
                self.role = Role::Poisoned;
            }
        }
    }

    fn has_room(&self, clock_ms: u64) -> bool {
        if self.role != Role::Leading || self.closed.is_some() {
            return false;
        }
        match (&self.open, &self.flight) {
            (Some(open), _) => {
                open.replies.len() < BATCH_COMMANDS_MAX && clock_ms.saturating_sub(open.opened_ms) <= BATCH_AGE_MAX_MS
            }
            // Refusals and repetitions may wait for the row in flight without opening a batch.
            (None, Some(flight)) => flight.replies.len() < 2 * BATCH_COMMANDS_MAX,
            (None, None) => true,
        }
    }

    fn decide(&mut self, ticket: Ticket, ask: Ask, clock_ms: u64) {
        let state = self.state.as_mut().expect("a writer that leads has a state");
        let now = match &self.open {
            Some(open) => open.time,
            // The operator's word is about the time that the clock shows, so this row is stamped with it.
            None if confirms_time(&ask) => state.counters().time.max(LedgerTime(clock_ms)),
            None => state.row_time(LedgerTime(clock_ms)),
        };
        if self.quarantine.iter().any(|known| known.command.is(&ask)) {
            return self.hold(ticket, Answer::Quarantined);
        }
        let (rules, scripts) = (&mut self.rules, &mut self.scripts);
        let request = match ask {
            Ask::Request(request) => request,
            next => {
                let command = Poison::of(next.origin(), || next.clone());
                match caught(|| rules.complete(scripts, state, next)) {
                    Ok(Ok(request)) => request,
                    Ok(Err(fault)) => return self.hold(ticket, Answer::NoScript(fault)),
                    Err(what) => {
                        // What was kept for deriving may be half changed.
                        self.scripts = Scripts::default();
                        return self.poison(ticket, command, now, what);
                    }
                }
            }
        };
        match caught(|| rules.decide(state, &request, now)) {
            Ok(Ok(Verdict::Decided { events, outcome })) => {
                self.gather(ticket, &request, (events, outcome), (now, clock_ms))
            }
            Ok(Ok(Verdict::Repeated(outcome))) => self.hold(ticket, Answer::Repeated(outcome)),
            Ok(Err(refusal)) => self.hold(ticket, Answer::Refused(refusal)),
            Err(what) => self.poison(ticket, Poison::of_request(&request), now, what),
        }
    }

    /// Adds a decided command, whose events are folded already, to the open batch.
    fn gather(
        &mut self,
        ticket: Ticket,
        request: &Request,
        (events, outcome): (Vec<Event>, Outcome),
        (now, clock_ms): (LedgerTime, u64),
    ) {
        if events.len() > EVENTS_MAX {
            return self.poison(
                ticket,
                Poison::of_request(request),
                now,
                format!("it emitted {} events", events.len()),
            );
        }
        let (command, hash) = match &request.origin {
            Origin::Request { id, request } => (Some(*id), Some(*request)),
            Origin::Session { .. } | Origin::Internal => (None, None),
        };
        if events.is_empty() && command.is_none() {
            // Nothing happened and nothing is to be remembered: that needs no row.
            return self.hold(ticket, Answer::Done(outcome));
        }
        let remembered = command.is_some().then(|| outcome.clone());
        let mut entry = Entry { command, request: hash, events, outcome: remembered };
        let start = self.open.as_ref().map_or(0, |open| open.payload.len());
        let mut encoded = self.open.as_mut().map_or_else(Vec::new, |open| std::mem::take(&mut open.payload));
        entry.put(1, &mut encoded);
        if encoded.len() - start > ROW_BYTES_MAX {
            encoded.truncate(start);
            self.restore_payload(encoded);
            return self.poison(ticket, Poison::of_request(request), now, "its events exceed a row".to_owned());
        }
        if encoded.len() > ROW_BYTES_MAX {
            // The batch is full: this command, decided after all of it, starts the next one.
            let rest = encoded.split_off(start);
            self.restore_payload(encoded);
            let full = self.open.take().expect("only a batch with commands can be full");
            self.closed = Some(self.seal(full));
            encoded = rest;
        }
        self.open_batch(now, clock_ms);
        let events = std::mem::take(&mut entry.events);
        // The events are folded; what is left to fold is that the command is remembered, at the time of its row.
        self.state.as_mut().expect("a writer that leads has a state").apply_entry(&entry);
        entry.events = events;
        let open = self.open.as_mut().expect("a batch was opened");
        open.payload = encoded;
        open.entries.push(entry);
        open.replies.push((ticket, Answer::Done(outcome)));
    }

    fn restore_payload(&mut self, payload: Vec<u8>) {
        if let Some(open) = &mut self.open {
            open.payload = payload;
        }
    }

    fn open_batch(&mut self, time: LedgerTime, clock_ms: u64) {
        if self.open.is_none() {
            let state = self.state.as_mut().expect("a writer that leads has a state");
            state.begin_row(self.sealed.seq.next(), time);
            self.open = Some(Open::new(time, clock_ms));
        }
    }

    /// Keeps an answer until the newest row that it may rest on is durable.
    fn hold(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(open) = &mut self.open {
            open.replies.push((ticket, answer));
        } else if let Some(pending) = self.closed.as_mut().or(self.flight.as_mut()) {
            pending.replies.push((ticket, answer));
        } else {
            self.replies.push(Reply { ticket, after: self.durable.seq, answer });
        }
    }

    /// Gives up the state that a command has left half changed, and remembers the command.
    fn poison(&mut self, ticket: Ticket, command: Poison, at: LedgerTime, what: String) {
        match &command {
            Poison::Id(id) => tracing::error!(%id, what, "a command made a rule panic; it is quarantined"),
            Poison::Sequence(session, sequence) => {
                tracing::error!(%session, sequence, what, "a command made a rule panic; it is quarantined");
            }
            Poison::Internal(command) => {
                tracing::error!(?command, what, "a command of ours made a rule panic; it is quarantined");
            }
        }
        if self.quarantine.len() >= QUARANTINE_MAX {
            self.quarantine.pop_front();
        }
        self.quarantine.push_back(Quarantined { command, at, what });
        self.state = None;
        self.role = Role::Poisoned;
        self.hold(ticket, Answer::Quarantined);
    }

    fn seal(&mut self, open: Open) -> Pending {
        let Open { time, payload, entries, replies, .. } = open;
        let row = Row::seal(self.sealed.seq.next(), self.epoch, time, self.sealed.hash, payload);
        self.sealed = Place { seq: row.seq, hash: row.hash };
        let sealed = Arc::new(Sealed { row, batch: Arc::new(Batch { entries }) });
        Pending { sealed, replies, is_out: false, attempts: 0 }
    }
}

impl Open {
    fn new(time: LedgerTime, opened_ms: u64) -> Open {
        Open { time, opened_ms, payload: Vec::new(), entries: Vec::new(), replies: Vec::new() }
    }
}

/// Whether an operator says here that the clock is right.
fn confirms_time(ask: &Ask) -> bool {
    matches!(ask, Ask::Request(request) if request.command == Command::ConfirmTime)
}

/// Makes a whole request of what was asked, for the state it is about to be decided on.
fn complete(scripts: &mut Scripts, state: &State, ask: Ask) -> Result<Request, ScriptFault> {
    match ask {
        Ask::Request(request) => Ok(request),
        Ask::NextAddress { origin, wallet, branch, beneficiary } => {
            // A wallet that does not exist is refused by the rules, with their code.
            let (index, script) = scripts.next(state, wallet, branch)?.unwrap_or_default();
            let command = Command::IssueAddress { wallet, branch, index, script, beneficiary };
            Ok(Request { origin, command })
        }
    }
}
