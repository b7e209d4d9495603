//! The projector: a thread that takes durable rows into the search tables, from where its cursor stands. It never holds
//! anybody up, and what it writes can be made again.

use crate::failure::Failure;
use florin_core::id::{Digest, Seq};
use florin_core::journal::{Journal, Row};
use florin_engine::alarm::Alarm;
use florin_engine::load::READ_ROWS_MAX;
use florin_store::projection::{Projection, ProjectionError};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long it rests when it has caught up.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it rests after a fault.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Shared {
    at: AtomicU64,
    is_stopping: AtomicBool,
    alarm: Mutex<Option<Alarm>>,
}

/// The running projector.
#[derive(Debug)]
pub(super) struct Projector {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Read(#[from] florin_core::journal::ReadError),
    #[error(transparent)]
    Row(#[from] florin_core::journal::RowError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
}

impl StepError {
    fn code(&self) -> &'static str {
        match self {
            StepError::Read(_) => "journal_unreadable_now",
            StepError::Row(error) => error.code(),
            StepError::Projection(error) => error.code(),
        }
    }
}

impl Projector {
    /// Starts the thread.
    ///
    /// # Errors
    /// The store's codes, `threads_failed`.
    pub(super) fn start(mut journal: Box<dyn Journal>, mut projection: Projection) -> Result<Projector, Failure> {
        let cursor = projection.cursor();
        let (seq, mut hash) =
            cursor.map_err(|fault| Failure::new(fault.code(), "the search tables can't be read").because(fault))?;
        let shared = Arc::new(Shared::default());
        shared.at.store(seq.0, Ordering::Relaxed);
        let thread_shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("projector".to_owned()).spawn(move || {
            let mut at = seq;
            while !thread_shared.is_stopping.load(Ordering::Acquire) {
                let pause = match step(journal.as_mut(), &mut projection, &mut at, &mut hash) {
                    Ok(count) => {
                        thread_shared.say(None);
                        if count == READ_ROWS_MAX { Duration::ZERO } else { PAUSE }
                    }
                    Err(error) => {
                        thread_shared.say(Some(&error));
                        FAULT_PAUSE
                    }
                };
                thread_shared.at.store(at.0, Ordering::Relaxed);
                std::thread::park_timeout(pause);
            }
        });
        let thread =
            thread.map_err(|fault| Failure::new("threads_failed", "no thread for the search tables").because(fault))?;
        Ok(Projector { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The last row taken in.
    pub(super) fn at(&self) -> Seq {
        Seq(self.shared.at.load(Ordering::Relaxed))
    }

    /// Ends its rest. Where it is at work it rests no more before it has looked again.
    pub(super) fn hasten(&self) {
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            thread.thread().unpark();
        }
    }

    /// What stands still, and why.
    pub(super) fn alarm(&self) -> Option<Alarm> {
        self.shared.alarm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the projector panicked");
            }
        }
    }
}

impl Shared {
    fn say(&self, error: Option<&StepError>) {
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error else {
            *alarm = None;
            return;
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_ms = alarm.as_ref().map_or(u64::try_from(since.as_millis()).unwrap_or(0), |alarm| alarm.since_ms);
        if alarm.is_none() {
            tracing::warn!(code = error.code(), %error, "the search tables stand still");
        }
        let subject = format!("row {}", self.at.load(Ordering::Relaxed) + 1);
        *alarm = Some(Alarm { code: error.code(), subject, detail: error.to_string(), since_ms });
    }
}

/// Takes in what there is, at most [`READ_ROWS_MAX`] rows; says how many there were.
fn step(
    journal: &mut dyn Journal,
    projection: &mut Projection,
    at: &mut Seq,
    hash: &mut Digest,
) -> Result<usize, StepError> {
    let rows = journal.read(*at, READ_ROWS_MAX)?;
    for row in &rows {
        take_in(projection, row, *at, *hash)?;
        (*at, *hash) = (row.seq, row.hash);
    }
    Ok(rows.len())
}

fn take_in(projection: &mut Projection, row: &Row, at: Seq, hash: Digest) -> Result<(), StepError> {
    let batch = row.open(at, hash)?;
    projection.apply(row, &batch)?;
    Ok(())
}
