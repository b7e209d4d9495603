//! The engine as it runs, under load. An answer is counted when its row is durable and the read model has folded it.

use florin_core::amount::Amount;
use florin_core::asset::{Asset, AssetKind};
use florin_core::command::{Command, Origin, PlainTransfer, Request};
use florin_core::id::{AccountId, AssetId, CommandId, Digest, Seq, SessionId};
use florin_core::journal::{AppendError, Journal, ReadError, Row, SnapshotHeader};
use florin_core::ledger::{BalanceRule, Owner};
use florin_core::wire::Bytes;
use florin_engine::lanes::Ask;
use florin_engine::ports::{Clock, SnapshotFault, Snapshots};
use florin_engine::runtime::{Callback, Engine, EngineConfig, EngineHandle, Parts};
use florin_engine::snapshotter::SnapshotterConfig;
use florin_engine::writer::{Answer, CoreRules, WriterConfig};
use florin_store::site::Site;
use florin_store::snapshots::{self, VerifiedSnapshot};
use std::cell::Cell;
use std::fmt::{Display, Formatter};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Accounts that transfers go between.
pub const ACCOUNTS: u64 = 10_000;
/// Transfers of a bulk command.
const LINKED: usize = 1_000;
/// Different bulk commands, sent again and again.
const POOL: usize = 500;
/// What an account holds at first: more than it can ever send here.
const FUNDS: u128 = 1 << 60;
/// Sessions of the open loop.
const SESSIONS: u64 = 64;
/// The asset that is moved.
const POINTS: AssetId = AssetId(1);

/// How the open loop's transfers are named.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// By session and sequence, as bulk callers do.
    Session,
    /// By an id of their own, remembered for a day, as HTTP callers do.
    Request,
}

struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        now_ms()
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Snapshots on the disk, as the platform keeps them.
struct Kept(snapshots::Snapshots);

impl Snapshots for Kept {
    fn newest(&mut self) -> Result<Option<(SnapshotHeader, Vec<Bytes>)>, SnapshotFault> {
        let Some(seq) = self.0.list().map_err(|fault| SnapshotFault(fault.into()))?.first().copied() else {
            return Ok(None);
        };
        let found = self.0.load(seq).map_err(|fault| SnapshotFault(fault.into()))?;
        Ok(found.map(|found| (found.header().clone(), found.chunks().to_vec())))
    }
    fn put(&mut self, header: &SnapshotHeader, chunks: &[Bytes]) -> Result<(), SnapshotFault> {
        let snapshot = VerifiedSnapshot::verify(header.clone(), chunks.to_vec());
        let snapshot = snapshot.map_err(|fault| SnapshotFault(fault.into()))?;
        self.0.write(&snapshot).map_err(|fault| SnapshotFault(fault.into()))?;
        self.0.retain(NonZeroUsize::MIN).map_err(|fault| SnapshotFault(fault.into()))
    }
}

/// What the journal was given.
#[derive(Default)]
struct Appended {
    rows: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
}

struct Counted {
    journal: Box<dyn Journal>,
    appended: Arc<Appended>,
}

impl Journal for Counted {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        let start = Instant::now();
        let done = self.journal.append(row);
        self.appended.nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.appended.rows.fetch_add(1, Ordering::Relaxed);
        self.appended.bytes.fetch_add(row.payload.len() as u64, Ordering::Relaxed);
        done
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        self.journal.read(after, count_max)
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.journal.head()
    }
}

/// Answers awaited, and how long those took that came; [`NEVER`] for a transfer that was not made.
#[derive(Default)]
struct Flight {
    state: Mutex<(usize, Vec<Duration>)>,
    landed: Condvar,
}

/// The time of what was refused: whoever is told that the queue is full has waited in vain.
const NEVER: Duration = Duration::MAX;

impl Flight {
    fn enter(&self, under_way_max: usize) {
        let state = self.state.lock().expect("nobody panics with it");
        let full = |state: &mut (usize, Vec<Duration>)| state.0 >= under_way_max;
        self.landed.wait_while(state, full).expect("nobody panics with it").0 += 1;
    }

    fn leave(&self, took: Duration) {
        let mut state = self.state.lock().expect("nobody panics with it");
        state.0 -= 1;
        state.1.push(took);
        drop(state);
        self.landed.notify_one();
    }

    fn landed(&self) -> Vec<Duration> {
        let state = self.state.lock().expect("nobody panics with it");
        let mut state = self.landed.wait_while(state, |state| state.0 > 0).expect("nobody panics with it");
        std::mem::take(&mut state.1)
    }
}

/// A callback that ends a wait begun at `start`.
fn told(flight: &Arc<Flight>, start: Instant) -> Callback {
    let flight = Arc::clone(flight);
    Box::new(move |told| {
        let is_done = told.is_ok_and(|told| matches!(told.answer, Answer::Done(_)));
        flight.leave(if is_done { start.elapsed() } else { NEVER });
    })
}

/// One run.
pub struct Measured {
    transfers: u64,
    seconds: f64,
    rows: u64,
    bytes: u64,
    append_seconds: f64,
    /// In ascending order.
    times: Vec<Duration>,
}

impl Measured {
    pub fn per_s(&self) -> f64 {
        self.transfers as f64 / self.seconds
    }
    pub fn row_bytes(&self) -> f64 {
        self.bytes as f64 / self.rows as f64
    }
    pub fn transfers_per_row(&self) -> f64 {
        self.transfers as f64 / self.rows as f64
    }
    pub fn latency_ms(&self, share: f64) -> f64 {
        let index = (self.times.len() as f64 * share) as usize;
        let time = self.times[index.min(self.times.len() - 1)];
        if time == NEVER { f64::INFINITY } else { time.as_secs_f64() * 1e3 }
    }
    pub fn refused(&self) -> usize {
        self.times.iter().filter(|time| **time == NEVER).count()
    }
}

impl Display for Measured {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{:.0} transfers/s, {} refused, {:.0} rows/s of {:.0} transfers, {:.1} B a transfer, {:.0} % of the time appending, \
             p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
            self.per_s(),
            self.refused(),
            self.rows as f64 / self.seconds,
            self.transfers_per_row(),
            self.bytes as f64 / self.transfers as f64,
            100.0 * self.append_seconds / self.seconds,
            self.latency_ms(0.5),
            self.latency_ms(0.99),
            self.latency_ms(1.0)
        )
    }
}

/// An engine with funded accounts.
pub struct Platform {
    engine: EngineHandle,
    appended: Arc<Appended>,
    pool: Vec<Vec<PlainTransfer>>,
    /// Numbers sessions and ids, so that none comes twice.
    names: Cell<u64>,
}

impl Platform {
    /// Starts an engine on an empty journal; its snapshots, one after so many rows, lie in `folder`.
    pub fn start(site: &Site, folder: &Path, snapshot_rows: u64) -> Platform {
        let kept = snapshots::Snapshots::open(&folder.join(snapshots::FILE)).expect("the snapshots open");
        let appended = Arc::new(Appended::default());
        let journal = site.journal().expect("the journal opens");
        let parts = Parts {
            clock: Arc::new(SystemClock),
            journal: Box::new(Counted { journal, appended: Arc::clone(&appended) }),
            history: site.journal_reader().expect("the journal opens for reading"),
            past: site.journal_reader().expect("the journal opens for reading"),
            snapshots: Box::new(Kept(kept)),
            witnesses: Vec::new(),
            rules: Box::new(CoreRules),
            followers: Vec::new(),
            workers: Vec::new(),
            heartbeat: None,
            is_storage_failure: Box::new(|_| true),
            fatal: Arc::new(|fatal| panic!("the engine must end: {fatal}")),
        };
        let config = EngineConfig {
            writer: WriterConfig {
                node: "speed".to_owned(),
                build: "speed".to_owned(),
                config: Digest::ZERO,
                platform_if_new: [1; 16],
            },
            snapshots: SnapshotterConfig { rows_max: snapshot_rows, time_max_ms: u64::MAX, build: "speed".to_owned() },
            is_first_to_lead: true,
            lead_after_quiet_ms: None,
            follow_ms: 100,
            retry_ms: 10,
            append_late_ms: 5_000,
            stop_ms: 60_000,
        };
        let engine = Engine::start(parts, config).expect("an empty journal loads");
        while !engine.is_leading() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut random = Random(1);
        let pool = (0..POOL).map(|_| (0..LINKED).map(|_| random.transfer()).collect()).collect();
        let platform = Platform { engine, appended, pool, names: Cell::new(0) };
        platform.fund();
        platform
    }

    fn fund(&self) {
        let asset = Asset { id: POINTS, code: "POINTS".to_owned(), decimals: 0, kind: AssetKind::Plain, chain: None };
        let open = |number, rule| Command::OpenAccount { owner: Owner::Plain(number), asset: POINTS, rule };
        self.send(vec![Command::DefineAsset(asset)]);
        self.send(vec![open(0, BalanceRule::Free)]);
        self.send((1..=ACCOUNTS).map(|number| open(number, BalanceRule::CreditNormal)).collect());
        let fund =
            |number| PlainTransfer { debit: AccountId(0), credit: AccountId(number), amount: Amount::new(FUNDS) };
        let all: Vec<PlainTransfer> = (1..=ACCOUNTS).map(fund).collect();
        self.send(all.chunks(LINKED).map(|some| Command::PostTransfers(some.to_vec())).collect());
    }

    fn send(&self, commands: Vec<Command>) {
        let flight = Arc::new(Flight::default());
        for command in commands {
            flight.enter(usize::MAX);
            self.engine.submit(Ask::internal(command), told(&flight, Instant::now()));
        }
        assert!(!flight.landed().contains(&NEVER), "the platform is set up");
    }

    fn name(&self) -> u64 {
        self.names.set(self.names.get() + 1);
        self.names.get()
    }

    fn session(&self) -> SessionId {
        SessionId(*uuid::Uuid::now_v7().as_bytes())
    }

    /// Measures what `work` sends; it says how many transfers and who hears the answers.
    fn measure(&self, work: impl FnOnce(&Arc<Flight>) -> u64) -> Measured {
        let flight = Arc::new(Flight::default());
        let counts = || {
            [&self.appended.rows, &self.appended.bytes, &self.appended.nanos].map(|count| count.load(Ordering::Relaxed))
        };
        let before = counts();
        let start = Instant::now();
        let transfers = work(&flight);
        let mut times = flight.landed();
        let seconds = start.elapsed().as_secs_f64();
        times.sort_unstable();
        let [rows, bytes, nanos] = counts();
        let append_seconds = (nanos - before[2]) as f64 / 1e9;
        Measured { transfers, seconds, rows: rows - before[0], bytes: bytes - before[1], append_seconds, times }
    }

    /// Commands of a thousand linked transfers from one session, `window` of them under way at any time.
    pub fn bulk(&self, window: usize, span: Duration) -> Measured {
        let session = self.session();
        self.measure(|flight| {
            let start = Instant::now();
            let mut sequence = 0;
            while start.elapsed() < span {
                let transfers = self.pool[sequence as usize % POOL].clone();
                sequence += 1;
                flight.enter(window);
                let origin = Origin::Session { session, sequence };
                let request = Request { origin, command: Command::PostTransfers(transfers) };
                self.engine.submit(Ask::Request(request), told(flight, Instant::now()));
            }
            sequence * LINKED as u64
        })
    }

    /// Single transfers at times that are fixed beforehand. Each one's time counts from when it was due, so that a stall
    /// is charged to all whom it delayed.
    pub fn open_loop(&self, load: Load, per_s: u64, span: Duration) -> Measured {
        let sessions: Vec<SessionId> = (0..SESSIONS).map(|_| self.session()).collect();
        let count = per_s * span.as_secs();
        self.measure(|flight| {
            let start = Instant::now();
            for index in 0..count {
                let due = start + Duration::from_nanos(index * 1_000_000_000 / per_s);
                let early = due.saturating_duration_since(Instant::now());
                if !early.is_zero() {
                    std::thread::sleep(early);
                }
                let origin = match load {
                    Load::Session => Origin::Session {
                        session: sessions[(index % SESSIONS) as usize],
                        sequence: index / SESSIONS + 1,
                    },
                    Load::Request => self.request_origin(),
                };
                let transfer = self.pool[index as usize / LINKED % POOL][index as usize % LINKED];
                let command = Command::PostTransfers(vec![transfer]);
                flight.enter(usize::MAX);
                self.engine.submit(Ask::Request(Request { origin, command }), told(flight, due));
            }
            count
        })
    }

    /// An id of version 7 that is new, and a request's hash that is as good as any.
    fn request_origin(&self) -> Origin {
        let name = self.name();
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now_ms().to_be_bytes()[2..]);
        id[8..].copy_from_slice(&name.to_be_bytes());
        (id[6], id[8]) = (0x70, 0x80);
        let mut request = [0; 32];
        request[..8].copy_from_slice(&name.to_be_bytes());
        Origin::Request { id: CommandId(id), request: Digest(request) }
    }

    /// The row of the last snapshot.
    pub fn snapshot(&self) -> Seq {
        self.engine.status().snapshots.last
    }

    /// Ends the engine; says whether everything became durable.
    pub fn stop(&self) -> bool {
        self.engine.stop()
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    fn transfer(&mut self) -> PlainTransfer {
        let (debit, credit) = self.pair();
        let amount = Amount::new(u128::from(1 + self.below(1_000)));
        PlainTransfer { debit: AccountId(debit), credit: AccountId(credit), amount }
    }

    /// Two different accounts.
    pub fn pair(&mut self) -> (u64, u64) {
        let debit = 1 + self.below(ACCOUNTS);
        (debit, 1 + (debit + self.below(ACCOUNTS - 1)) % ACCOUNTS)
    }
}
