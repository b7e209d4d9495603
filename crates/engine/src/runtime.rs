//! Puts the engine's parts on threads: one decides, one appends, one folds and answers, and each watcher and worker has its
//! own. It adds no rule to those of the parts, and knows no async runtime.
//!
//! ```text
//! submit ─► writer ─► appender (the journal) ─► writer ─► reader: folds, then answers
//!                                                          │
//!              watchers and workers ◄── look ──────────────┘
//! ```

mod heart;
mod threads;

pub use heart::{Certainty, HeartbeatPart};

use crate::alarm::Alarm;
use crate::follower::{Follower, FollowerStatus};
use crate::lanes::{Ask, Lane, Lanes};
use crate::leadership::Moment;
use crate::load::{FoldError, LoadError, foreign, load_counted};
use crate::ports::{Beat, Clock, Snapshots};
use crate::read_model::{FeedRow, ReadModel, feed_from_journal};
use crate::snapshotter::SnapshotterConfig;
use crate::witness::{self, Contradiction, Witness};
use crate::workers::{View, Worker};
use crate::writer::{Answer, Quarantined, Role, Rules, SubmitRefusal, Writer, WriterConfig};
use florin_core::id::Seq;
use florin_core::journal::{AppendError, Journal};
use florin_core::state::State;
use heart::{Beating, End, Heart};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After which the process must end: nothing that it would say can be relied on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A durable row can't be folded.
    #[error("a durable row can't be folded")]
    Fold(#[source] FoldError),
    /// The journal was begun by another platform.
    #[error("the journal is another platform's")]
    OtherPlatform,
    /// The journal lacks a row that was durable once, or has another one in its place.
    #[error("this node does not lead this journal")]
    Contradicted(#[source] Contradiction),
    /// The journal's storage failed in a way after which nobody knows what it holds.
    #[error("the journal's storage failed")]
    Storage(#[source] AppendError),
    /// A thread of the engine panicked outside of a command.
    #[error("the engine's thread {thread} panicked: {what}")]
    Panicked {
        /// Which.
        thread: String,
        /// What it said.
        what: String,
    },
}

impl Fatal {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Fatal::Fold(error) => error.code(),
            Fatal::OtherPlatform => "platform_id_changed",
            Fatal::Contradicted(found) => found.code(),
            Fatal::Storage(_) => "journal_storage_failed",
            Fatal::Panicked { .. } => "engine_panicked",
        }
    }
}

/// When and how often things happen.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What is put into `EpochStarted`.
    pub writer: WriterConfig,
    /// How often snapshots are written.
    pub snapshots: SnapshotterConfig,
    /// Whether this process leads as soon as it has started, without waiting for the journal to be quiet.
    pub is_first_to_lead: bool,
    /// How long the journal must not have grown before this process takes the lead over, in milliseconds; `None`: never.
    /// A leader ticks every second, so a journal that is quiet for several has none. Where signs of life can be seen, they
    /// decide, and sooner: [`HeartbeatPart`].
    pub lead_after_quiet_ms: Option<u64>,
    /// How often a follower reads the journal, in milliseconds.
    pub follow_ms: u64,
    /// How long an append of unknown fate waits before it is sent again, in milliseconds; doubled up to [`RETRY_MAX_MS`].
    pub retry_ms: u64,
    /// After how long an append that has not come to its end is an alarm, in milliseconds.
    pub append_late_ms: u64,
    /// How long [`EngineHandle::stop`] waits for what is in flight, in milliseconds.
    pub stop_ms: u64,
}

/// The longest pause between two attempts to append the same row, in milliseconds.
pub const RETRY_MAX_MS: u64 = 2_000;

/// A watcher or worker, and how often it steps.
pub struct Seated {
    /// The worker.
    pub worker: Box<dyn Worker>,
    /// The pause between two steps, in milliseconds.
    pub cadence_ms: u64,
}

/// Everything that the engine is put together from.
pub struct Parts {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The journal for appending.
    pub journal: Box<dyn Journal>,
    /// Another handle on the same journal, for reading.
    pub history: Box<dyn Journal>,
    /// The journal, for readers of old events: they may wait for an archive, and nobody waits for them.
    pub past: Box<dyn Journal>,
    /// Snapshots.
    pub snapshots: Box<dyn Snapshots>,
    /// What names rows of the journal from outside of it. They are heard at the start, and before each attempt to lead.
    pub witnesses: Vec<Box<dyn Witness>>,
    /// The rules.
    pub rules: Box<dyn Rules>,
    /// Chain watchers, and how often each steps, in milliseconds.
    pub followers: Vec<(Follower, u64)>,
    /// Workers.
    pub workers: Vec<Seated>,
    /// The leader's signs of life. Without them this process always takes what it knows for current.
    pub heartbeat: Option<HeartbeatPart>,
    /// Whether a failed append means that the storage can't be trusted any more.
    pub is_storage_failure: Box<dyn Fn(&AppendError) -> bool + Send>,
    /// Hears why the process must end. It should not return; where it does, the engine stands still.
    pub fatal: Arc<dyn Fn(&Fatal) + Send + Sync>,
}

/// An answer, and the row after which everyone sees its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The answer.
    pub answer: Answer,
    /// The row.
    pub at: Seq,
}

/// Who hears an answer. Called on the reader's thread, so it must be short and must not submit and wait.
pub type Callback = Box<dyn FnOnce(Result<Told, SubmitRefusal>) + Send>;

/// Why [`EngineHandle::submit_wait`] has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The command was not taken in.
    #[error(transparent)]
    Refused(#[from] SubmitRefusal),
    /// Time is up. The command may still be executed: its id tells, when it is sent again.
    #[error("no answer in time; the command may still be executed")]
    Timeout,
}

impl WaitError {
    /// The stable code of this error.
    pub fn code(self) -> &'static str {
        match self {
            WaitError::Refused(refusal) => refusal.code(),
            WaitError::Timeout => "answer_timeout",
        }
    }
}

/// How the engine stands.
#[derive(Debug, Clone)]
pub struct EngineStatus {
    /// The writer's role.
    pub role: Role,
    /// The last row known to be durable here.
    pub durable: Seq,
    /// The last row folded by the read model.
    pub at: Seq,
    /// Commands that wait, by lane.
    pub waiting: Vec<(Lane, usize)>,
    /// The row that is being appended, if there is one.
    pub appending: Option<Appending>,
    /// What is known of snapshots.
    pub snapshots: SnapshotStatus,
    /// Poisoned commands.
    pub quarantined: Vec<Quarantined>,
    /// What stands still or contradicts itself, by watcher or worker.
    pub alarms: BTreeMap<String, Vec<Alarm>>,
    /// Each chain watcher.
    pub followers: Vec<FollowerStatus>,
    /// How sure it is that it knows the newest rows.
    pub certainty: Certainty,
    /// The sign of life of another node that leads, where one is known to live.
    pub leader: Option<Beat>,
}

/// A row on its way into the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appending {
    /// Its number.
    pub seq: Seq,
    /// How often it was sent.
    pub attempts: u32,
    /// How long ago it was sent first.
    pub age: Duration,
    /// Whether that is so long that the journal can't be said to take rows.
    pub is_late: bool,
}

/// What is known of snapshots; [`Seq::START`] stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// The row of the one that this process started from.
    pub started_from: Seq,
    /// The row of the last one that it wrote; the one that it started from before that.
    pub last: Seq,
}

/// What waits for the writer's thread.
#[derive(Default)]
struct Inbox {
    asks: Lanes<(Ask, Callback)>,
    fate: Option<threads::Fate>,
    is_stopping: bool,
}

/// What the writer's thread says of itself.
#[derive(Debug, Clone)]
struct WriterStatus {
    role: Role,
    /// The row of the epoch in which it leads.
    led_from: Seq,
    durable: Seq,
    waiting: Vec<(Lane, usize)>,
    quarantined: Vec<Quarantined>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    /// The beginning of this process's steady clock.
    started: Instant,
    heart: Mutex<Heart>,
    heart_bell: Condvar,
    inbox: Mutex<Inbox>,
    news: Condvar,
    model: RwLock<ReadModel>,
    /// The last row folded, with a bell for those who wait for one.
    at: Mutex<Seq>,
    folded: Condvar,
    history: Mutex<Box<dyn Journal>>,
    past: Mutex<Box<dyn Journal>>,
    writer: Mutex<WriterStatus>,
    append: Mutex<Option<threads::Attempts>>,
    append_late: Duration,
    snapshots: Mutex<SnapshotStatus>,
    alarms: Mutex<BTreeMap<String, Vec<Alarm>>>,
    followers: Mutex<Vec<FollowerStatus>>,
    /// Set with the bell `workers_bell`: watchers and workers end.
    workers_stop: Mutex<bool>,
    workers_bell: Condvar,
    is_dead: AtomicBool,
    fatal: Arc<dyn Fn(&Fatal) + Send + Sync>,
}

/// A lock whose holder panicked: the engine is dying by its own fault handler, and readers may still look.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn is_leading(&self) -> bool {
        let writer = lock(&self.writer);
        let (is_leading, led_from) = (writer.role == Role::Leading, writer.led_from);
        drop(writer);
        let is_leading = is_leading && !lock(&self.heart).is_superseded();
        // Whoever acts for the leader must see its epoch.
        is_leading && *lock(&self.at) >= led_from && !self.is_dead.load(Ordering::Acquire)
    }

    /// Now, on both clocks of this machine.
    fn moment(&self) -> Moment {
        Moment { steady: self.started.elapsed(), wall_ms: self.clock.now_ms() }
    }

    fn die(&self, fatal: &Fatal) {
        self.is_dead.store(true, Ordering::Release);
        let cause = std::error::Error::source(fatal).map(ToString::to_string);
        tracing::error!(code = fatal.code(), %fatal, cause, "the engine stops");
        (self.fatal)(fatal);
    }

    /// The row that is being appended.
    fn appending(&self) -> Option<Appending> {
        let attempts = lock(&self.append);
        attempts.as_ref().map(|attempts| attempts.seen(self.append_late))
    }

    fn ring(&self, seq: Seq) {
        let mut at = lock(&self.at);
        *at = seq.max(*at);
        self.folded.notify_all();
    }
}

impl View for Shared {
    fn with(&self, look: &mut dyn FnMut(&ReadModel)) {
        look(&self.model.read().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The running engine. Clones are handles on the same one.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
    threads: Arc<Mutex<Running>>,
    stop_ms: u64,
}

#[derive(Default)]
struct Running {
    workers: Vec<JoinHandle<()>>,
    engine: Vec<JoinHandle<()>>,
    heart: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for EngineHandle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "EngineHandle(at {})", self.at())
    }
}

/// The engine, to be started.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Loads the state and starts all threads.
    ///
    /// # Errors
    /// Where no state can be loaded, the journal is another platform's, or not the one that a witness knows. Then nothing was
    /// written.
    pub fn start(parts: Parts, config: EngineConfig) -> Result<EngineHandle, LoadError> {
        let Parts { clock, journal, mut history, past, mut snapshots, rules, followers, workers, .. } = parts;
        let Parts { heartbeat, is_storage_failure, fatal, mut witnesses, .. } = parts;
        let started = Instant::now();
        let began = Moment { steady: Duration::ZERO, wall_ms: clock.now_ms() };
        let (loaded, snapshot_at) = load_counted(history.as_mut(), snapshots.as_mut())?;
        if let Some(found) = foreign(&loaded.state, config.writer.platform_if_new) {
            return Err(LoadError::OtherPlatform { found });
        }
        if let Some(found) = witness::hear(&mut witnesses).contradiction(history.as_mut())? {
            return Err(LoadError::Contradicted(found));
        }
        let durable = loaded.place.seq;
        let role = Role::Following;
        let (waiting, quarantined) = (Vec::new(), Vec::new());
        let writer_status = WriterStatus { role, led_from: durable, durable, waiting, quarantined };
        let shared = Arc::new(Shared {
            clock,
            started,
            heart: Mutex::new(Heart::new(heartbeat.as_ref(), config.lead_after_quiet_ms, began)),
            heart_bell: Condvar::new(),
            inbox: Mutex::default(),
            news: Condvar::new(),
            model: RwLock::new(ReadModel::new(loaded)),
            at: Mutex::new(durable),
            folded: Condvar::new(),
            history: Mutex::new(history),
            past: Mutex::new(past),
            writer: Mutex::new(writer_status),
            append: Mutex::default(),
            append_late: Duration::from_millis(config.append_late_ms),
            snapshots: Mutex::new(SnapshotStatus { started_from: snapshot_at, last: snapshot_at }),
            alarms: Mutex::default(),
            followers: Mutex::new(followers.iter().map(|(follower, _)| follower.status().clone()).collect()),
            workers_stop: Mutex::new(false),
            workers_bell: Condvar::new(),
            is_dead: AtomicBool::new(false),
            fatal,
        });
        let mut running = Running::default();
        let (to_journal, rows) = mpsc::channel();
        let (to_reader, durable_rows) = mpsc::channel();
        let writer = Writer::new(config.writer.clone(), rules);
        let beating = heartbeat.map(|part| Beating::new(part, config.writer.node.clone()));
        let stop_ms = config.stop_ms;
        let snapshotter = config.snapshots.clone();
        let appender = threads::Appender { journal, is_storage_failure, retry_ms: config.retry_ms };
        let spawn = |name: &str, body: threads::Body| threads::spawn(&shared, name, body);
        running.engine.push(spawn("appender", Box::new(move |shared| appender.run(shared, &rows))));
        running.engine.push(spawn("reader", Box::new(move |shared| threads::read(shared, &durable_rows))));
        running.engine.push(spawn(
            "writer",
            Box::new(move |shared| {
                threads::WriterThread::new(writer, config, witnesses, to_journal, to_reader).run(shared)
            }),
        ));
        running.heart = beating.map(|beating| spawn("heart", Box::new(move |shared| beating.run(shared))));
        let write_snapshots =
            move |shared: &Arc<Shared>| threads::snapshots(shared, snapshotter, snapshot_at, snapshots.as_mut());
        running.workers.push(spawn("snapshotter", Box::new(write_snapshots)));
        for (index, (follower, cadence_ms)) in followers.into_iter().enumerate() {
            let name = format!("follower {index}");
            let body = move |shared: &Arc<Shared>| threads::follow(shared, index, follower, cadence_ms);
            running.workers.push(spawn(&name, Box::new(body)));
        }
        for seated in workers {
            let name = seated.worker.name();
            running.workers.push(spawn(name, Box::new(move |shared| threads::work(shared, name, seated))));
        }
        Ok(EngineHandle { shared, threads: Arc::new(Mutex::new(running)), stop_ms })
    }
}

impl EngineHandle {
    /// Asks; `callback` hears the answer once: when it is durable and can be read, or at once where nothing was taken in.
    pub fn submit(&self, ask: Ask, callback: Callback) {
        threads::submit(&self.shared, ask, callback);
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn submit_wait(&self, ask: Ask, timeout: Duration) -> Result<Told, WaitError> {
        threads::submit_wait(&self.shared, ask, timeout)
    }

    /// Looks at the durable state. Others wait meanwhile: look briefly.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(self.shared.model.read().unwrap_or_else(PoisonError::into_inner).state())
    }

    /// Looks at the durable state once everything up to `seq` is in it; `None` where that takes longer than `timeout`.
    pub fn read_at<T>(&self, seq: Seq, timeout: Duration, look: impl FnOnce(&State) -> T) -> Option<T> {
        (self.wait_until(seq, timeout) >= seq).then(|| self.read(look))
    }

    /// Waits until row `seq` is folded, or time is up; says the last row folded.
    pub fn wait_until(&self, seq: Seq, timeout: Duration) -> Seq {
        let deadline = Instant::now() + timeout;
        let mut at = lock(&self.shared.at);
        while *at < seq {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            at = self.shared.folded.wait_timeout(at, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *at
    }

    /// The last row folded.
    pub fn at(&self) -> Seq {
        *lock(&self.shared.at)
    }

    /// Up to `count_max` rows after `after`, from memory or from the journal. None, where `after` is the last.
    ///
    /// # Errors
    /// Where the journal is needed and can't be read.
    pub fn events_since(&self, after: Seq, count_max: usize) -> Result<Vec<FeedRow>, LoadError> {
        let model = self.shared.model.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = model.events_since(after, count_max) {
            return Ok(rows);
        }
        // Rows that are durable and not folded yet are nobody's business.
        let at = model.at();
        drop(model);
        let mut rows = feed_from_journal(lock(&self.shared.past).as_mut(), after, count_max)?;
        rows.retain(|row| row.seq <= at);
        Ok(rows)
    }

    /// Whether this process leads, as far as it knows.
    pub fn is_leading(&self) -> bool {
        self.shared.is_leading()
    }

    /// Whether this process follows another one, or waits for the lead: then it takes no commands.
    pub fn is_following(&self) -> bool {
        lock(&self.shared.writer).role == Role::Following
    }

    /// How sure this process is that it knows the newest rows: only then may it say what customers have.
    pub fn certainty(&self) -> Certainty {
        let now = self.shared.moment();
        lock(&self.shared.heart).certainty(now)
    }

    /// The sign of life of another node that leads, where one is known to live.
    pub fn leader(&self) -> Option<Beat> {
        lock(&self.shared.heart).leader()
    }

    /// The row that is being appended, if there is one.
    pub fn appending(&self) -> Option<Appending> {
        self.shared.appending()
    }

    /// How the engine stands.
    pub fn status(&self) -> EngineStatus {
        let writer = lock(&self.shared.writer).clone();
        let now = self.shared.moment();
        let mut alarms = lock(&self.shared.alarms).clone();
        let heart = lock(&self.shared.heart);
        alarms.insert("heart".to_owned(), heart.alarms(now));
        let (certainty, leader) = (heart.certainty(now), heart.leader());
        drop(heart);
        EngineStatus {
            role: writer.role,
            durable: writer.durable,
            at: self.at(),
            waiting: writer.waiting,
            appending: self.appending(),
            snapshots: *lock(&self.shared.snapshots),
            quarantined: writer.quarantined,
            alarms,
            followers: lock(&self.shared.followers).clone(),
            certainty,
            leader,
        }
    }

    /// Stops: first watchers and workers, then the writer, which takes nothing more in and finishes what it has. Says
    /// whether all of it became durable in time; what did not is never answered.
    pub fn stop(&self) -> bool {
        let running = std::mem::take(&mut *lock(&self.threads));
        *lock(&self.shared.workers_stop) = true;
        self.shared.workers_bell.notify_all();
        running.workers.into_iter().for_each(|thread| drop(thread.join()));
        lock(&self.shared.inbox).is_stopping = true;
        self.shared.news.notify_all();
        let deadline = Instant::now() + Duration::from_millis(self.stop_ms);
        let is_done = running.engine.into_iter().all(|thread| join_until(thread, deadline));
        let is_done = is_done && !self.shared.is_dead.load(Ordering::Acquire);
        // Only a writer whose rows are all settled lets others take over at once.
        lock(&self.shared.heart).end(if is_done { End::Release } else { End::Leave });
        self.shared.heart_bell.notify_all();
        // A store that hangs keeps nobody from ending.
        let _ = running.heart.is_none_or(|thread| join_until(thread, deadline));
        is_done
    }
}

/// Waits for a thread until `deadline`; says whether it has ended.
fn join_until(thread: JoinHandle<()>, deadline: Instant) -> bool {
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(2));
    }
    thread.is_finished() && thread.join().is_ok()
}
