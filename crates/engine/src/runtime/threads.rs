//! What each thread of the engine does. A thread owns its part; what threads share is locked for moments, never while one of
//! them waits for the world.

use super::{Appending, Callback, EngineConfig, Fatal, RETRY_MAX_MS, Seated, Shared, Told, WaitError, lock};
use crate::alarm::{Alarm, Alarms};
use crate::follower::Follower;
use crate::lanes::{Ask, Lane};
use crate::leadership::{JournalSight, Moment, Quiet};
use crate::load::{LoadError, READ_ROWS_MAX, foreign, load_to, panic_text};
use crate::ports::Snapshots;
use crate::read_model::Gate;
use crate::snapshotter::{Snapshotter, SnapshotterConfig};
use crate::witness::{self, Contradiction, Witness};
use crate::workers::Worker;
use crate::writer::{Appended, Reply, Role, Sealed, SubmitRefusal, Ticket, Writer};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the writer's thread sleeps where nothing wakes it.
const IDLE: Duration = Duration::from_millis(100);
/// How long a watcher or worker waits for the answer to what it asked for, before it looks again.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the snapshotter looks whether one is due.
const SNAPSHOT_CADENCE_MS: u64 = 1_000;

/// What became of an append.
pub(super) type Fate = Appended;

/// A durable row, if there is one, and answers to be given once it is folded.
pub(super) struct Durable {
    row: Option<Arc<Sealed>>,
    replies: Vec<(Reply, Callback)>,
}

/// What a thread does.
pub(super) type Body = Box<dyn FnOnce(&Arc<Shared>) + Send>;

/// Runs a thread's body; its panic ends the engine.
pub(super) fn spawn(shared: &Arc<Shared>, name: &str, body: Body) -> JoinHandle<()> {
    let (shared, thread) = (Arc::clone(shared), name.to_owned());
    let run = move || {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(&shared))) {
            shared.die(&Fatal::Panicked { thread, what: panic_text(&*payload) });
        }
    };
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(run).expect("the operating system has room for a thread when the process starts")
}

/// Puts a command into the writer's inbox.
pub(super) fn submit(shared: &Shared, ask: Ask, callback: Callback) {
    let lane = ask.lane();
    let refused = {
        let mut inbox = lock(&shared.inbox);
        if inbox.is_stopping || shared.is_dead.load(Ordering::Acquire) {
            Some((SubmitRefusal::NotLeading, callback))
        } else {
            inbox.asks.push(lane, (ask, callback)).err().map(|(_, callback)| (SubmitRefusal::Full(lane), callback))
        }
    };
    match refused {
        Some((refusal, callback)) => callback(Err(refusal)),
        None => shared.news.notify_all(),
    }
}

/// Puts a command into the writer's inbox and waits for its answer.
pub(super) fn submit_wait(shared: &Shared, ask: Ask, timeout: Duration) -> Result<Told, WaitError> {
    let (tell, told) = mpsc::channel();
    // A receiver that has given up is no fault.
    submit(shared, ask, Box::new(move |answer| drop(tell.send(answer))));
    Ok(told.recv_timeout(timeout).map_err(|_| WaitError::Timeout)??)
}

/// The writer, its role in the world, and who waits for which ticket.
pub(super) struct WriterThread {
    writer: Writer,
    config: EngineConfig,
    witnesses: Vec<Box<dyn Witness>>,
    /// The journal's last row when no witness contradicted it, in an attempt to lead that came to nothing since, and when
    /// they were heard.
    vouched: Option<(Seq, Moment)>,
    to_journal: Sender<Arc<Sealed>>,
    to_reader: Sender<Durable>,
    callbacks: BTreeMap<Ticket, Callback>,
    next_ticket: u64,
    /// For how long the journal stands still, as a follower saw it.
    quiet: Quiet,
    has_led: bool,
    /// When the journal was last read to its end.
    followed: Option<Instant>,
    /// When it last tried to lead.
    took: Option<Moment>,
    alarms: Alarms,
    is_alarmed: bool,
}

impl WriterThread {
    pub(super) fn new(
        writer: Writer,
        config: EngineConfig,
        witnesses: Vec<Box<dyn Witness>>,
        to_journal: Sender<Arc<Sealed>>,
        to_reader: Sender<Durable>,
    ) -> WriterThread {
        WriterThread {
            writer,
            config,
            witnesses,
            vouched: None,
            to_journal,
            to_reader,
            callbacks: BTreeMap::new(),
            next_ticket: 0,
            quiet: Quiet::default(),
            has_led: false,
            followed: None,
            took: None,
            alarms: Alarms::default(),
            is_alarmed: false,
        }
    }

    pub(super) fn run(mut self, shared: &Arc<Shared>) {
        let mut wait = Duration::ZERO;
        while !shared.is_dead.load(Ordering::Acquire) {
            let (asks, fate, is_stopping) = take(shared, wait);
            let is_busy = !asks.is_empty() || fate.is_some();
            let now_ms = shared.clock.now_ms();
            let row = fate.and_then(|fate| self.writer.appended(fate));
            asks.into_iter().for_each(|(ask, callback)| self.take_in(ask, callback));
            match self.writer.role() {
                Role::Following if !is_stopping => self.follow(shared, now_ms),
                Role::Poisoned => self.recover(shared),
                Role::Following | Role::Taking | Role::Leading => {}
            }
            // What is decided behind another's epoch never becomes durable.
            let is_superseded = lock(&shared.heart).is_superseded() && !self.writer.step_down();
            let decided = if is_superseded { 0 } else { self.writer.decide_waiting(now_ms) };
            if let Some(sealed) = self.writer.next_row()
                && self.to_journal.send(sealed).is_err()
            {
                return;
            }
            if !self.hand_over(row) {
                return;
            }
            self.report(shared);
            self.alarm(shared, now_ms);
            if is_stopping && (self.writer.is_idle() || self.writer.role() == Role::Following) {
                return;
            }
            let follow_every = Duration::from_millis(self.config.follow_ms);
            wait = match self.writer.role() {
                _ if is_busy || decided > 0 => Duration::ZERO,
                Role::Following if self.followed.is_none() => Duration::ZERO,
                Role::Following => IDLE.min(follow_every),
                Role::Poisoned => Duration::from_millis(1),
                Role::Taking | Role::Leading => IDLE,
            };
        }
    }

    fn take_in(&mut self, ask: Ask, callback: Callback) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        match self.writer.submit(ticket, ask) {
            Ok(()) => drop(self.callbacks.insert(ticket, callback)),
            Err(refusal) => callback(Err(refusal)),
        }
    }

    /// Hands a durable row and the answers that rest on it to the reader; false where that is gone.
    fn hand_over(&mut self, row: Option<Arc<Sealed>>) -> bool {
        let replies = self.writer.take_replies().into_iter();
        let replies =
            replies.filter_map(|reply| self.callbacks.remove(&reply.ticket).map(|callback| (reply, callback)));
        let durable = Durable { row, replies: replies.collect() };
        if durable.row.is_none() && durable.replies.is_empty() {
            return true;
        }
        self.to_reader.send(durable).is_ok()
    }

    /// Reads what others append, and takes the lead when nobody has for long enough.
    fn follow(&mut self, shared: &Shared, now_ms: u64) {
        let is_first = self.config.is_first_to_lead && !self.has_led;
        let now = Instant::now();
        let follow_every = Duration::from_millis(self.config.follow_ms);
        if !is_first && self.followed.is_some_and(|last| now.duration_since(last) < follow_every) {
            return;
        }
        self.followed = Some(now);
        let began = shared.moment();
        // The store is read without holding up those who look at the state.
        let from = shared.model.read().unwrap_or_else(PoisonError::into_inner).at();
        let rows = lock(&shared.history).read(from, READ_ROWS_MAX);
        let ended = shared.moment();
        let is_end = rows.as_ref().is_ok_and(|rows| rows.len() < READ_ROWS_MAX);
        let mut model = shared.model.write().unwrap_or_else(PoisonError::into_inner);
        let followed = rows.map_err(LoadError::from).and_then(|rows| Ok(model.fold_rows(&rows)?));
        let (at, epoch) = (model.at(), model.state().counters().epoch);
        let is_foreign = foreign(model.state(), self.config.writer.platform_if_new).is_some();
        drop(model);
        if is_foreign {
            // It was empty when this process started.
            return shared.die(&Fatal::OtherPlatform);
        }
        if is_end && followed.is_ok() {
            lock(&shared.heart).has_followed(began);
        }
        match followed {
            Ok(0) => {}
            Ok(_) => {
                // There may be more: look again at once.
                self.followed = None;
                shared.ring(at);
                return;
            }
            // Rows that do not go on from ours: damage, or another journal in the place of the one that was followed.
            Err(LoadError::Fold(error)) => match own_row(shared) {
                Ok(Some(found)) => return shared.die(&Fatal::Contradicted(found)),
                Ok(None) | Err(_) => return shared.die(&Fatal::Fold(error)),
            },
            Err(error) => {
                self.quiet.failed();
                return tracing::warn!(%error, "the journal can't be followed now");
            }
        }
        let journal = JournalSight { epoch, quiet: self.quiet.saw(at, began.steady, ended.steady) };
        let may_lead = is_first || lock(&shared.heart).may_lead(journal, began);
        shared.heart_bell.notify_all();
        if may_lead {
            match self.contradiction(shared, at) {
                Ok(None) => {}
                Ok(Some(found)) => return shared.die(&Fatal::Contradicted(found)),
                Err(error) => return tracing::warn!(%error, "the journal can't be led now"),
            }
            if !is_first && lock(&shared.heart).is_late(began, shared.moment()) {
                // What was claimed may be another's by now. The next attempt need not wait for the witnesses.
                return tracing::info!("the witnesses took long; this node claims the lead anew");
            }
            self.has_led = true;
            self.vouched = None;
            self.quiet = Quiet::default();
            self.took = Some(shared.moment());
            let loaded = shared.model.read().unwrap_or_else(PoisonError::into_inner).loaded();
            self.writer.take_lead(loaded, now_ms);
        }
    }

    /// Whether somebody knows another journal than this one, this process included: it may have been set back under a process
    /// that runs.
    fn contradiction(&mut self, shared: &Shared, at: Seq) -> Result<Option<Contradiction>, LoadError> {
        let found = own_row(shared)?;
        let now = shared.moment();
        let vouched_for = lock(&shared.heart).vouched_for();
        let is_vouched = self.vouched.is_some_and(|(seq, heard)| seq == at && heard.age(now) < vouched_for);
        if found.is_some() || is_vouched {
            return Ok(found);
        }
        // They may take long, and others read the journal meanwhile.
        let heard = witness::hear(&mut self.witnesses);
        let found = heard.contradiction(lock(&shared.history).as_mut())?;
        self.vouched = found.is_none().then(|| (at, shared.moment()));
        Ok(found)
    }

    /// Gives the writer the durable state back, as soon as the reader has all of it.
    fn recover(&mut self, shared: &Shared) {
        let model = shared.model.read().unwrap_or_else(PoisonError::into_inner);
        if model.at() < self.writer.durable().seq {
            return;
        }
        let loaded = model.loaded();
        drop(model);
        if let Err(error) = self.writer.recover(loaded) {
            tracing::warn!(%error, "the writer waits for its state");
        }
    }

    /// Says what of the writer needs somebody's eyes: a journal that takes no row, and commands that are quarantined.
    fn alarm(&mut self, shared: &Shared, now_ms: u64) {
        let attempts = lock(&shared.append);
        if let Some(attempts) = attempts.as_ref()
            && let Appending { seq, attempts: count, is_late: true, .. } = attempts.seen(shared.append_late)
        {
            let cause = attempts.cause.as_deref().unwrap_or("the store does not answer");
            let detail = format!("row {seq} was sent {count} times and is not known to be written: {cause}");
            self.alarms.say(attempts.since_ms, "journal_not_written", "journal", detail);
            self.is_alarmed = true;
        }
        drop(attempts);
        if let Some(last) = self.writer.quarantined().last() {
            let (count, what) = (self.writer.quarantined().count(), &last.what);
            let detail = format!("{count} made a rule fail since this process started; the last: {what}");
            self.alarms.say(now_ms, "command_quarantined", "commands", detail);
            self.is_alarmed = true;
        }
        if self.is_alarmed {
            self.alarms.settle();
            let all = self.alarms.all();
            self.is_alarmed = !all.is_empty();
            lock(&shared.alarms).insert("writer".to_owned(), all);
        }
    }

    fn report(&self, shared: &Shared) {
        let mut status = lock(&shared.writer);
        if self.writer.role() == Role::Leading && !matches!(status.role, Role::Leading | Role::Poisoned) {
            status.led_from = self.writer.durable().seq;
            lock(&shared.heart).leads(self.writer.epoch(), self.took);
            shared.heart_bell.notify_all();
        }
        if self.writer.role() == Role::Following && status.role != Role::Following {
            lock(&shared.heart).follows();
        }
        status.role = self.writer.role();
        status.durable = self.writer.durable().seq;
        status.waiting.clear();
        status.waiting.extend(Lane::ALL.map(|lane| (lane, self.writer.waiting(lane))));
        if status.quarantined.len() != self.writer.quarantined().count() {
            status.quarantined = self.writer.quarantined().cloned().collect();
        }
    }
}

/// The attempts to append one row.
pub(super) struct Attempts {
    seq: Seq,
    since: Instant,
    since_ms: u64,
    count: u32,
    /// Why the last one that came to its end was in vain.
    cause: Option<String>,
}

impl Attempts {
    pub(super) fn seen(&self, late: Duration) -> Appending {
        let age = self.since.elapsed();
        Appending { seq: self.seq, attempts: self.count, age, is_late: age >= late }
    }

    /// Counts one more attempt to append a row.
    fn begin(shared: &Shared, seq: Seq) {
        let mut attempts = lock(&shared.append);
        match attempts.as_mut().filter(|attempts| attempts.seq == seq) {
            Some(attempts) => attempts.count = attempts.count.saturating_add(1),
            None => {
                let (since, since_ms) = (Instant::now(), shared.clock.now_ms());
                *attempts = Some(Attempts { seq, since, since_ms, count: 1, cause: None });
            }
        }
    }

    /// The last attempt came to its end, in vain for this cause, or for good.
    fn end(shared: &Shared, cause: Option<String>) {
        let mut attempts = lock(&shared.append);
        match cause {
            None => *attempts = None,
            cause => attempts.iter_mut().for_each(|attempts| attempts.cause.clone_from(&cause)),
        }
    }
}

/// Holds the journal against the last row that this process has folded.
fn own_row(shared: &Shared) -> Result<Option<Contradiction>, ReadError> {
    let place = shared.model.read().unwrap_or_else(PoisonError::into_inner).place();
    witness::compare(lock(&shared.history).as_mut(), "this process", place)
}

/// Takes what came for the writer, waiting for it at most `wait`.
fn take(shared: &Shared, wait: Duration) -> (Vec<(Ask, Callback)>, Option<Fate>, bool) {
    let mut inbox = lock(&shared.inbox);
    if inbox.asks.is_empty() && inbox.fate.is_none() && !wait.is_zero() {
        inbox = shared.news.wait_timeout(inbox, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
    (inbox.asks.drain(), inbox.fate.take(), inbox.is_stopping)
}

/// The thread that appends.
pub(super) struct Appender {
    pub(super) journal: Box<dyn Journal>,
    pub(super) is_storage_failure: Box<dyn Fn(&AppendError) -> bool + Send>,
    pub(super) retry_ms: u64,
}

impl Appender {
    pub(super) fn run(mut self, shared: &Shared, rows: &Receiver<Arc<Sealed>>) {
        let mut pause_ms = self.retry_ms;
        while let Ok(sealed) = rows.recv() {
            Attempts::begin(shared, sealed.row.seq);
            let fate = match self.journal.append(&sealed.row) {
                Ok(()) => Appended::Durable,
                Err(AppendError::Fenced) => Appended::Fenced,
                Err(error) if (self.is_storage_failure)(&error) => return shared.die(&Fatal::Storage(error)),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(seq = sealed.row.seq.0, %error, cause, pause_ms, "the row is sent again");
                    Attempts::end(shared, Some(cause.unwrap_or_else(|| error.to_string())));
                    std::thread::sleep(Duration::from_millis(pause_ms));
                    pause_ms = (2 * pause_ms).clamp(1, RETRY_MAX_MS);
                    Appended::Unknown
                }
            };
            if fate != Appended::Unknown {
                pause_ms = self.retry_ms;
                Attempts::end(shared, None);
            }
            lock(&shared.inbox).fate = Some(fate);
            shared.news.notify_all();
        }
    }
}

/// The thread that folds durable rows and then gives the answers that rest on them.
pub(super) fn read(shared: &Shared, durable_rows: &Receiver<Durable>) {
    let mut gate = Gate::default();
    let mut callbacks: BTreeMap<Ticket, Callback> = BTreeMap::new();
    while let Ok(Durable { row, replies }) = durable_rows.recv() {
        let mut model = shared.model.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = row.map(|row| model.fold(&row)) {
            drop(model);
            return shared.die(&Fatal::Fold(error));
        }
        let at = model.at();
        drop(model);
        shared.ring(at);
        for (reply, callback) in replies {
            callbacks.insert(reply.ticket, callback);
            gate.push([reply]);
        }
        for reply in gate.open(at) {
            let Some(callback) = callbacks.remove(&reply.ticket) else { continue };
            let told = Told { answer: reply.answer, at: reply.after };
            // A fault of one asker is not everyone's.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| callback(Ok(told)))) {
                tracing::error!(what = panic_text(&*payload), "whoever asked panicked on the answer");
            }
        }
    }
}

/// Sleeps for a cadence; true where workers are to end.
fn pause(shared: &Shared, cadence_ms: u64) -> bool {
    let stop = lock(&shared.workers_stop);
    if *stop {
        return true;
    }
    let wait = shared.workers_bell.wait_timeout_while(stop, Duration::from_millis(cadence_ms), |stop| !*stop);
    *wait.unwrap_or_else(PoisonError::into_inner).0
}

/// Asks for everything a step said, and waits for the last answer, so that the next step sees its effect. Says whether there
/// was anything.
fn ask_all(shared: &Shared, name: &str, asks: Vec<Ask>) -> bool {
    let mut waiting = Vec::new();
    for ask in asks {
        let (tell, told) = mpsc::channel();
        submit(shared, ask, Box::new(move |answer| drop(tell.send(answer))));
        waiting.push(told);
    }
    let mut is_done = false;
    for told in &waiting {
        match told.recv_timeout(ASK_TIMEOUT) {
            Ok(Ok(told)) => match told.answer.code() {
                None => is_done = true,
                // Usual: the state has moved on. The next step starts from what it is then.
                Some(code) => tracing::debug!(name, code, "a command of ours was not executed"),
            },
            Ok(Err(refusal)) => tracing::debug!(name, code = refusal.code(), "a command of ours was not taken in"),
            Err(_) => tracing::warn!(name, "a command of ours has no answer yet"),
        }
    }
    is_done
}

/// One step of a watcher or worker. Its panic costs the step: it finds its work in the durable state, so the next one starts
/// anew, and one chain's trouble does not stop the platform.
fn step(shared: &Shared, name: &str, worker: &mut dyn Worker) -> Vec<Ask> {
    let now_ms = shared.clock.now_ms();
    let stepped = catch_unwind(AssertUnwindSafe(|| worker.step(shared, now_ms)));
    let mut alarms = worker.alarms();
    let asks = stepped.unwrap_or_else(|payload| {
        let detail = panic_text(&*payload);
        tracing::error!(name, what = detail, "a watcher or worker panicked; it steps again");
        alarms.push(Alarm { code: "worker_panicked", subject: name.to_owned(), detail, since_ms: now_ms });
        Vec::new()
    });
    lock(&shared.alarms).insert(name.to_owned(), alarms);
    asks
}

/// Takes back what a watcher or worker said: while it does not step, nobody sees when that is over.
fn rest(shared: &Shared, name: &str) {
    lock(&shared.alarms).remove(name);
}

/// A worker's thread: it steps while this process leads.
pub(super) fn work(shared: &Shared, name: &'static str, mut seated: Seated) {
    loop {
        if shared.is_leading() {
            let asks = step(shared, name, seated.worker.as_mut());
            ask_all(shared, name, asks);
            if let Some(found) = seated.worker.contradiction() {
                return shared.die(&Fatal::Contradicted(found.clone()));
            }
        } else {
            rest(shared, name);
        }
        if pause(shared, seated.cadence_ms) {
            return;
        }
    }
}

/// A chain watcher's thread.
pub(super) fn follow(shared: &Shared, index: usize, mut follower: Follower, cadence_ms: u64) {
    let name = format!("follower {index}");
    loop {
        let mut is_busy = false;
        if shared.is_leading() {
            let asks = step(shared, &name, &mut follower);
            // A chain of a thousand blocks does not wait a cadence for each of them.
            let is_moving = asks.iter().any(Ask::moves_chain);
            is_busy = ask_all(shared, &name, asks) && is_moving || follower.is_reading();
            lock(&shared.followers)[index] = follower.status().clone();
        } else {
            rest(shared, &name);
            follower.rest();
        }
        if pause(shared, if is_busy { 0 } else { cadence_ms }) {
            return;
        }
    }
}

/// The journal as the snapshotter reads it: locked for each page alone, so that others get their turn between two.
struct History<'a>(&'a Shared);

impl Journal for History<'_> {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        lock(&self.0.history).append(row)
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        if *lock(&self.0.workers_stop) {
            // A snapshot only saves time; whoever stops the engine must not wait for the fold of a long journal.
            return Err(ReadError("the engine stops".into()));
        }
        lock(&self.0.history).read(after, count_max)
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        lock(&self.0.history).head()
    }
}

/// The snapshotter's thread, in a process whose start folded everything after row `from`. It folds a state of its own, from
/// the last snapshot and the journal: to copy the read model's would hold up everybody's answers for as long as that takes.
pub(super) fn snapshots(shared: &Shared, config: SnapshotterConfig, from: Seq, snapshots: &mut dyn Snapshots) {
    let mut snapshotter = Snapshotter::new(config, from, shared.clock.now_ms());
    loop {
        let (at, now_ms) = (*lock(&shared.at), shared.clock.now_ms());
        if snapshotter.is_due(at, now_ms) {
            match snapshot(shared, &mut snapshotter, snapshots, (at, now_ms)) {
                Ok(()) => lock(&shared.snapshots).last = snapshotter.last(),
                Err(fault) => {
                    let cause = std::error::Error::source(&*fault).map(ToString::to_string);
                    tracing::warn!(%fault, cause, "no snapshot was written");
                }
            }
        }
        if pause(shared, SNAPSHOT_CADENCE_MS) {
            return;
        }
    }
}

/// Folds the state of row `at` and writes it.
fn snapshot(
    shared: &Shared,
    snapshotter: &mut Snapshotter,
    snapshots: &mut dyn Snapshots,
    (at, now_ms): (Seq, u64),
) -> Result<(), Box<dyn std::error::Error>> {
    snapshotter.begin(at, now_ms);
    let loaded = load_to(&mut History(shared), snapshots, at)?;
    // A row that can be seen may not be durable yet; asking for the head settles all that could be seen before.
    History(shared).head()?;
    snapshotter.write(&loaded, snapshots, now_ms)?;
    Ok(())
}
